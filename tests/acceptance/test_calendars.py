"""Lessons in people's own calendars: taken as a file and subscribed to, and read as Thunderbird reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.acceptance.lessons import Answer, Person, rest
from tests.acceptance.offices import HOUR, Office, later, span
from tests.support.calendars import Calendar, Entry, read
from tests.support.servers import Server

ZONE = ZoneInfo("America/New_York")


@pytest.fixture
async def office(server: Server) -> Office:
    office = await Office.open(server.url)
    await office.save(office.teacher, timezone=ZONE.key)
    return office


def calendar(answer: Answer) -> Calendar:
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == "text/calendar; charset=utf-8"
    return read(answer.body)


async def link(office: Office, who: Person) -> str:
    """Of the person's feed, path and query."""
    answer = await office.call(who, "GET", "/calendar")
    url: str = answer.body["url"]
    assert url.startswith(f"{office.url}/calendar/{who.id}.ics?token=")
    return url.removeprefix(office.url)


async def feed(office: Office, who: Person) -> Calendar:
    return calendar(await office.call(None, "GET", await link(office, who)))


async def file(office: Office, booking_id: str) -> tuple[str, Entry]:
    """The method and the entry of a lesson's own file."""
    found = calendar(await office.call(office.student, "GET", f"/bookings/{booking_id}.ics"))
    [entry] = found.entries
    return found["METHOD"], entry


async def test_every_change_of_a_lesson_is_a_higher_sequence_in_the_file_and_in_the_feed(office: Office) -> None:
    start, moved = later(), later()
    booking_id = await office.booked(start=start)
    steps: tuple[tuple[dict[str, Any], str, str, datetime], ...] = (
        ({}, "PUBLISH", "TENTATIVE", start),
        ({"status": "confirmed"}, "PUBLISH", "CONFIRMED", start),
        (span(moved), "PUBLISH", "TENTATIVE", moved),
        ({"status": "confirmed"}, "PUBLISH", "CONFIRMED", moved),
        ({"status": "cancelled"}, "CANCEL", "CANCELLED", moved),
    )
    for sequence, (change, method, status, at) in enumerate(steps):
        for _ in range(2 if change else 0):  # the same again changes nothing
            assert (await office.change(office.teacher, booking_id, **change)).status == 200
        said, entry = await file(office, booking_id)
        subscribed = await feed(office, office.student)
        assert (said, subscribed["METHOD"]) == (method, "PUBLISH")
        for one in (entry, subscribed.by_uid[booking_id]):
            assert (one["UID"], one.sequence, one["STATUS"], one.start.at) == (booking_id, sequence, status, at)
            assert one["TRANSP"] == ("TRANSPARENT" if status == "CANCELLED" else "OPAQUE")
            assert one.properties == entry.properties


async def test_lessons_are_at_their_hour_in_both_halves_of_the_year(office: Office) -> None:
    start = later()
    made = await office.book(start, repeat={"weeks": 40, "timezone": ZONE.key})
    for who in (office.student, office.parent, office.teacher):
        subscribed = await feed(office, who)
        assert subscribed.zones == [ZONE.key]
        entries = [subscribed.by_uid[booking_id] for booking_id in made.body["booking_ids"]]
        assert {entry.start.zone for entry in entries} == {ZONE.key}
        assert {entry.start.shown[11:] for entry in entries} == {f"{start.astimezone(ZONE):%H:%M:%S}"}
        assert len({entry.start.at.hour for entry in entries}) == 2, "in UTC it is another hour after the change"
    listed = await office.call(office.student, "GET", f"/bookings?student_id={office.student.id}")
    assert [entry.start.at for entry in entries] == [datetime.fromisoformat(one["start_time"]) for one in listed.body]


async def test_a_night_on_which_the_clock_goes_back_has_every_lesson_at_its_time(office: Office) -> None:
    noon = datetime.now(ZONE).replace(hour=12, minute=0, second=0, microsecond=0)
    change = next(
        day
        for day in (noon + timedelta(days=number) for number in range(2, 400))
        if (day + timedelta(days=1)).utcoffset() < day.utcoffset()  # type: ignore[operator]
    ).astimezone(UTC)
    starts = [change + hour * HOUR for hour in range(9, 20)]
    ids = [await office.booked(start=start) for start in starts]
    subscribed = await feed(office, office.student)
    assert [subscribed.by_uid[booking_id].start.at for booking_id in ids] == starts
    assert [subscribed.by_uid[booking_id].end.at for booking_id in ids] == [start + HOUR for start in starts]


async def test_a_teacher_who_names_no_zone_has_their_lessons_in_utc(office: Office) -> None:
    teacher = await office.newcomer("teacher", "Uni Versal")
    start = later()
    made = await office.book(start, teacher_id=teacher.id)
    _, entry = await file(office, made.body["booking_id"])
    assert (entry.start.shown, entry.start.zone) == (f"{start:%Y-%m-%dT%H:%M:%SZ}", None)


async def test_a_feed_says_what_it_is_and_when_to_look_again(office: Office) -> None:
    await office.booked()
    subscribed = await feed(office, office.student)
    assert {name: subscribed[name] for name in ("NAME", "X-WR-CALNAME", "REFRESH-INTERVAL", "X-PUBLISHED-TTL")} == {
        "NAME": "Lessons",
        "X-WR-CALNAME": "Lessons",
        "REFRESH-INTERVAL": "PT15M",
        "X-PUBLISHED-TTL": "PT15M",
    }


async def test_a_feed_holds_ones_own_lessons_and_a_parents_their_childs(office: Office) -> None:
    booking_id = await office.booked()
    for who in (office.student, office.parent, office.teacher):
        assert list((await feed(office, who)).by_uid) == [booking_id]
    for who in (office.stranger, office.admin):
        assert (await feed(office, who)).entries == []


async def test_a_link_opens_one_calendar_until_it_is_taken_back(office: Office) -> None:
    mine, others = await link(office, office.student), await link(office, office.teacher)
    assert await link(office, office.student) == mine
    token = mine.partition("?token=")[2]
    for path in (
        mine.partition("?")[0],
        mine[:-1],
        others.partition("?token=")[0] + f"?token={token}",
        f"/calendar/nobody.ics?token={token}",
    ):
        answer = await office.call(None, "GET", path)
        assert (answer.status, answer.body["error"]) == (403, "link_not_valid"), path
    # It is no token for anything else.
    assert (await rest(office.url, "GET", "/calendar", token=token)).status == 401
    rotated = await office.call(office.student, "POST", "/calendar/rotate")
    assert rotated.status == 200
    assert rotated.body["url"] == office.url + await link(office, office.student) != office.url + mine
    assert (await office.call(None, "GET", mine)).status == 403
    assert (await office.call(None, "GET", await link(office, office.student))).status == 200
    assert (await office.call(None, "GET", others)).status == 200


async def test_an_admin_takes_anybodys_link_back_and_nobody_else_does(office: Office) -> None:
    mine = await link(office, office.student)
    whose = {"user_id": office.student.id}
    for who in (office.parent, office.teacher, office.stranger):
        answer = await office.call(who, "POST", "/calendar/rotate", whose)
        assert (answer.status, answer.body["error"]) == (403, "forbidden")
    assert (await office.call(None, "GET", mine)).status == 200
    assert (await office.call(office.admin, "POST", "/calendar/rotate", whose)).status == 200
    assert (await office.call(None, "GET", mine)).status == 403
    audit = await office.call(office.admin, "GET", f"/admin/audit?q={office.student.id}")
    assert ("calendar_link_rotated", office.admin.id) in [(one["action"], one["actor_id"]) for one in audit.body]


async def test_names_and_addresses_stand_as_they_are_and_make_no_lines(office: Office) -> None:
    name = 'Ann "The Brain"; Lee,\r\nATTENDEE:mailto:x@example.org Ünal'
    await office.save(office.teacher, name=name, email="teach@example.org", timezone=ZONE.key)
    _, entry = await file(office, await office.booked())
    assert "ATTENDEE" not in entry.properties
    assert "\n" not in entry.organizer_name
    assert entry["ORGANIZER"] == "mailto:teach@example.org"
    assert "Ünal" in entry["SUMMARY"]
    assert "ATTENDEE" in entry["SUMMARY"]
