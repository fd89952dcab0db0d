"""iCalendar as it is written, read back by another's hand (ical.js)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain import icalendar
from domain.icalendar import LAST_ZONED_YEAR, Event
from tests.support.calendars import Calendar, Entry, check_lines, read

START = datetime(2026, 11, 23, 16, 0, tzinfo=timezone(timedelta(hours=1)))
EVENT = Event(
    uid="fa429048-58f1-499a-858f-c838a3569878",
    sequence=3,
    created_at=START - timedelta(days=3),
    changed_at=START - timedelta(days=1),
    start=START,
    end=START + timedelta(minutes=50),
    timezone="Europe/Berlin",
    status="CONFIRMED",
    summary="Algebra – Leo Brandt with Maya Okafor",
    description="Room: https://example.org/?session=1",
    url="https://example.org/?session=1",
    organizer="mailto:maya@example.org",
    organizer_name="Maya Okafor",
)
HOUR = timedelta(hours=1)


def written(*events: Event, method: icalendar.Method = "PUBLISH") -> bytes:
    calendar = icalendar.Calendar(method=method)
    for event in events:
        calendar.add(event)
    return calendar.written()


def at(*starts: datetime, timezone: str) -> Calendar:
    """A calendar of lessons of an hour that begin at these moments."""
    events = [
        replace(EVENT, uid=f"{number}", start=start, end=start + HOUR, timezone=timezone)
        for number, start in enumerate(starts)
    ]
    return read(written(*events))


def only(raw: bytes) -> Entry:
    [entry] = read(raw).entries
    return entry


def lines_of(raw: bytes) -> list[bytes]:
    """Without their folds."""
    return raw.replace(b"\r\n ", b"").split(b"\r\n")


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


def test_another_library_reads_what_was_meant() -> None:
    calendar = read(written(EVENT))
    assert (calendar["METHOD"], calendar["PRODID"]) == ("PUBLISH", icalendar.PRODUCT)
    [entry] = calendar.entries
    assert {name: entry[name] for name in ("UID", "SEQUENCE", "STATUS", "TRANSP", "SUMMARY", "DESCRIPTION", "URL")} == {
        "UID": EVENT.uid,
        "SEQUENCE": "3",
        "STATUS": "CONFIRMED",
        "TRANSP": "OPAQUE",
        "SUMMARY": EVENT.summary,
        "DESCRIPTION": EVENT.description,
        "URL": EVENT.url,
    }
    assert (entry["CREATED"], entry["DTSTAMP"]) == ("2026-11-20T15:00:00Z", "2026-11-22T15:00:00Z")
    assert entry["LAST-MODIFIED"] == entry["DTSTAMP"]
    assert (entry.start.at, entry.end.at) == (EVENT.start, EVENT.end)
    assert (entry["ORGANIZER"], entry.organizer_name) == (EVENT.organizer, "Maya Okafor")


def test_times_stand_in_the_events_zone_in_both_halves_of_the_year() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    starts = [datetime(2026, month, 15, 16, 0, tzinfo=berlin) for month in range(1, 13)]
    calendar = at(*starts, timezone="Europe/Berlin")
    assert calendar.zones == ["Europe/Berlin"]
    assert {entry.start.shown[10:] for entry in calendar.entries} == {"T16:00:00"}
    assert {entry.end.shown[10:] for entry in calendar.entries} == {"T17:00:00"}
    assert [entry.start.at for entry in calendar.entries] == starts


@pytest.mark.parametrize(
    "zone",
    [
        *("Europe/Berlin", "Europe/Dublin", "America/New_York", "America/Santiago", "Australia/Lord_Howe"),
        *("Africa/Casablanca", "Africa/Nairobi", "Asia/Kathmandu", "Pacific/Chatham", "Pacific/Kiritimati"),
        *("Antarctica/Troll", "America/St_Johns", "Asia/Gaza", "Etc/UTC", "Etc/GMT+12"),
    ],
)
def test_a_calendars_own_definition_of_its_zone_holds_to_the_minute(zone: str) -> None:
    """For two years, and every quarter of an hour of the days on which the clock changes."""
    days = [utc(2026, 1, 1) + day * timedelta(days=1, minutes=7) for day in range(720)]
    starts, info = days[::6], ZoneInfo(zone)
    for day in days:
        if day.astimezone(info).utcoffset() != (day + timedelta(days=1)).astimezone(info).utcoffset():
            starts += [day + quarter * timedelta(minutes=15) for quarter in range(-8, 4 * 26)]
    calendar = at(*starts, timezone=zone)
    assert [entry.start.at for entry in calendar.entries] == starts
    assert [entry.end.at for entry in calendar.entries] == [start + HOUR for start in starts]
    in_utc = sum(entry.start.zone is None for entry in calendar.entries)
    assert in_utc < len(starts) / 10


def test_a_time_that_the_clock_shows_twice_stands_in_utc() -> None:
    # 25 October 2026, 03:00 CEST is 02:00 CET again.
    starts = [utc(2026, 10, 24, 22, 0) + hour * HOUR for hour in range(5)]
    calendar = at(*starts, timezone="Europe/Berlin")
    assert [(entry.start.shown, entry.start.zone) for entry in calendar.entries] == [
        ("2026-10-25T00:00:00", "Europe/Berlin"),
        ("2026-10-24T23:00:00Z", None),  # ends at 02:00, the first of two
        ("2026-10-25T00:00:00Z", None),
        ("2026-10-25T01:00:00Z", None),
        ("2026-10-25T03:00:00", "Europe/Berlin"),
    ]
    assert [entry.start.at for entry in calendar.entries] == starts


@pytest.mark.parametrize("zone", ["UTC", "Mars/Olympus_Mons", "../../etc/passwd", ""])
def test_utc_and_what_is_no_zone_here_needs_no_definition(zone: str) -> None:
    calendar = at(START, timezone=zone)
    assert calendar.zones == []
    assert calendar.entries[0].start.shown == "2026-11-23T15:00:00Z"


def test_nobody_knows_the_clocks_of_a_later_century() -> None:
    starts = [utc(2026, 7, 1), utc(LAST_ZONED_YEAR, 7, 1), utc(LAST_ZONED_YEAR + 1, 7, 1), utc(9998, 12, 31, 23)]
    calendar = at(*starts, timezone="Europe/Berlin")
    assert [entry.start.zone for entry in calendar.entries] == ["Europe/Berlin", "Europe/Berlin", None, None]
    assert [entry.start.at for entry in calendar.entries] == starts


def test_a_zone_is_defined_for_the_years_that_the_events_have() -> None:
    lines = written(EVENT, replace(EVENT, uid="2", start=utc(2030, 6, 1), end=utc(2030, 6, 1, 1))).split(b"\r\n")
    begins = lines.index(b"BEGIN:VTIMEZONE")
    onsets = [line for line in lines[begins : lines.index(b"END:VTIMEZONE")] if line.startswith(b"DTSTART:")]
    assert onsets == [
        b"DTSTART:20260101T010000",
        b"DTSTART:20260329T020000",
        b"DTSTART:20261025T030000",
        b"DTSTART:20300101T010000",
        b"DTSTART:20300331T020000",
        b"DTSTART:20301027T030000",
    ]


def test_lessons_in_several_zones_have_each_of_them_defined_once() -> None:
    zones = ["Asia/Tokyo", "UTC", "Europe/Berlin", "Asia/Tokyo", "America/New_York", "UTC"]
    events = [replace(EVENT, uid=f"{number}", timezone=zone) for number, zone in enumerate(zones)]
    calendar = read(written(*events))
    assert calendar.zones == ["Asia/Tokyo", "Europe/Berlin", "America/New_York"]
    assert {entry.start.at for entry in calendar.entries} == {START}


def test_a_cancelled_event_leaves_its_time_free() -> None:
    raw = written(replace(EVENT, status="CANCELLED"), method="CANCEL")
    assert read(raw)["METHOD"] == "CANCEL"
    assert (only(raw)["STATUS"], only(raw)["TRANSP"]) == ("CANCELLED", "TRANSPARENT")


def test_a_feed_has_a_name_and_says_when_to_look_again() -> None:
    raw = icalendar.Calendar(method="PUBLISH", name="Lessons", refresh=timedelta(minutes=15)).written()
    calendar = read(raw)
    assert (calendar["X-WR-CALNAME"], calendar["NAME"]) == ("Lessons", "Lessons")
    assert (calendar["REFRESH-INTERVAL"], calendar["X-PUBLISHED-TTL"]) == ("PT15M", "PT15M")
    assert b"REFRESH-INTERVAL;VALUE=DURATION:PT15M\r\n" in raw


def test_long_texts_are_folded_and_lose_no_character() -> None:
    long = replace(EVENT, summary="ü😀" * 200, organizer_name="ñ" * 200)
    entry = only(written(long))
    assert (entry["SUMMARY"], entry.organizer_name) == (long.summary, long.organizer_name)


# Of a backslash before an N icalendar makes a line break.
_TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t"), min_size=1).filter(
    lambda text: "\\N" not in text
)


@settings(max_examples=25)
@given(st.lists(_TEXTS, min_size=1, max_size=40))
def test_whatever_a_text_holds_it_is_read_back_as_it_was(texts: list[str]) -> None:
    described = [f".{text}." for text in texts]
    calendar = read(written(*(replace(EVENT, uid=f"{n}", description=text) for n, text in enumerate(described))))
    assert [entry["DESCRIPTION"] for entry in calendar.entries] == described


@given(st.text(), st.text())
def test_nothing_that_somebody_writes_breaks_a_line(text: str, name: str) -> None:
    text, name = (part.encode("utf-8", "replace").decode() for part in (text, name))
    raw = written(replace(EVENT, summary=text, description=f".{text}", organizer_name=name))
    check_lines(raw)
    assert len(lines_of(raw)) == len(lines_of(written(EVENT)))


@pytest.mark.parametrize("name", ['Ann "The Brain" Lee', "Ann\r\nATTENDEE:mailto:x@y", "Ann\x00\x07", "a;b:c,d", ""])
def test_nobodys_name_makes_lines_of_its_own(name: str) -> None:
    entry = only(written(replace(EVENT, organizer_name=name, summary=name)))
    assert "ATTENDEE" not in entry.properties
    assert entry["ORGANIZER"] == EVENT.organizer
    assert "\n" not in entry.organizer_name


def test_a_part_of_a_second_is_left_out() -> None:
    start = datetime(2030, 6, 1, 12, 0, 0, 999_999, tzinfo=UTC)
    assert only(written(replace(EVENT, start=start, end=start + HOUR))).start.at == start.replace(microsecond=0)


def test_an_event_that_changed_is_written_anew() -> None:
    """What was written is kept: by everything that stands in it."""
    first = only(written(EVENT))
    later = only(written(replace(EVENT, sequence=4, timezone="Asia/Tokyo", summary="Moved")))
    assert (first["SUMMARY"], first.sequence, first.start.zone) == (EVENT.summary, 3, "Europe/Berlin")
    assert (later["SUMMARY"], later.sequence, later.start.zone) == ("Moved", 4, "Asia/Tokyo")
    assert later.start.shown == "2026-11-24T00:00:00"
