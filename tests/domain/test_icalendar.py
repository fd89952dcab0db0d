"""iCalendar as it is written, read back by another's hand (`icalendar`)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import icalendar as reader
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import icalendar
from domain.icalendar import MAX_LINE_OCTETS, Event

START = datetime(2026, 11, 23, 16, 0, tzinfo=timezone(timedelta(hours=1)))
EVENT = Event(
    uid="fa429048-58f1-499a-858f-c838a3569878",
    sequence=3,
    created_at=START - timedelta(days=3),
    changed_at=START - timedelta(days=1),
    start=START,
    end=START + timedelta(minutes=50),
    status="CONFIRMED",
    summary="Algebra – Leo Brandt with Maya Okafor",
    description="Room: https://example.org/?session=1",
    url="https://example.org/?session=1",
    organizer="mailto:maya@example.org",
    organizer_name="Maya Okafor",
)


def read(written: bytes) -> Any:
    return reader.Calendar.from_ical(written)


def event_in(written: bytes) -> Any:
    [event] = read(written).walk("VEVENT")
    return event


def test_another_library_reads_what_was_meant() -> None:
    written = icalendar.written([EVENT], method="PUBLISH")
    calendar = read(written)
    assert (calendar["VERSION"], calendar["METHOD"], calendar["PRODID"]) == ("2.0", "PUBLISH", icalendar.PRODUCT)
    event = event_in(written)
    assert {name: str(event[name]) for name in ("UID", "STATUS", "TRANSP", "SUMMARY", "DESCRIPTION", "URL")} == {
        "UID": EVENT.uid,
        "STATUS": "CONFIRMED",
        "TRANSP": "OPAQUE",
        "SUMMARY": EVENT.summary,
        "DESCRIPTION": EVENT.description,
        "URL": EVENT.url,
    }
    assert event["SEQUENCE"] == 3
    assert {name: event.decoded(name) for name in ("DTSTART", "DTEND", "DTSTAMP", "CREATED", "LAST-MODIFIED")} == {
        "DTSTART": EVENT.start,
        "DTEND": EVENT.end,
        "DTSTAMP": EVENT.changed_at,
        "CREATED": EVENT.created_at,
        "LAST-MODIFIED": EVENT.changed_at,
    }
    assert (str(event["ORGANIZER"]), event["ORGANIZER"].params["CN"]) == (EVENT.organizer, "Maya Okafor")


def test_times_are_written_in_utc() -> None:
    lines = icalendar.written([EVENT], method="PUBLISH").split(b"\r\n")
    assert b"DTSTART:20261123T150000Z" in lines
    assert b"DTEND:20261123T155000Z" in lines


def test_a_cancelled_event_leaves_its_time_free() -> None:
    written = icalendar.written([replace(EVENT, status="CANCELLED")], method="CANCEL")
    assert read(written)["METHOD"] == "CANCEL"
    assert (event_in(written)["STATUS"], event_in(written)["TRANSP"]) == ("CANCELLED", "TRANSPARENT")


def test_a_feed_has_a_name_and_says_when_to_look_again() -> None:
    calendar = read(icalendar.written([], method="PUBLISH", name="Lessons", refresh=timedelta(minutes=15)))
    assert str(calendar["X-WR-CALNAME"]) == str(calendar["NAME"]) == "Lessons"
    assert calendar.decoded("REFRESH-INTERVAL") == timedelta(minutes=15)


def test_every_line_ends_as_the_standard_says_and_is_short_enough() -> None:
    long = replace(EVENT, summary="ü😀" * 200, organizer_name="ñ" * 200)
    written = icalendar.written([long], method="PUBLISH")
    assert written.endswith(b"\r\n")
    lines = written.removesuffix(b"\r\n").split(b"\r\n")
    assert max(map(len, lines)) == MAX_LINE_OCTETS
    assert all(b"\n" not in line and b"\r" not in line for line in lines)
    for line in lines:
        line.decode()  # no character was cut
    assert str(event_in(written)["SUMMARY"]) == long.summary


@given(st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t"), min_size=1))
def test_whatever_a_text_holds_it_is_read_back_as_it_was(text: str) -> None:
    written = icalendar.written([replace(EVENT, description=f".{text}.")], method="PUBLISH")
    assert str(event_in(written)["DESCRIPTION"]) == f".{text}."


@pytest.mark.parametrize("name", ['Ann "The Brain" Lee', "Ann\r\nATTENDEE:mailto:x@y", "Ann\x00\x07", "a;b:c,d", ""])
def test_nobodys_name_makes_lines_of_its_own(name: str) -> None:
    written = icalendar.written([replace(EVENT, organizer_name=name, summary=name)], method="PUBLISH")
    event = event_in(written)
    assert "ATTENDEE" not in event
    assert str(event["ORGANIZER"]) == EVENT.organizer
    assert b"\x00" not in written


def test_a_part_of_a_second_is_left_out() -> None:
    start = datetime(2030, 6, 1, 12, 0, 0, 999_999, tzinfo=UTC)
    event = event_in(icalendar.written([replace(EVENT, start=start)], method="PUBLISH"))
    assert event.decoded("DTSTART") == start.replace(microsecond=0)
