"""Lessons for people's own calendars: as a file, and as a feed behind a link."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from yarl import URL

from domain import calendars
from tests.support.apps import Answer, App, running_app
from tests.support.calendars import Calendar, Entry, read
from tests.support.lessons import STRANGERS
from tests.support.tokens import mint


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


def calendar(answer: Answer) -> Calendar:
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == "text/calendar; charset=utf-8"
    return read(answer.body)


def events(answer: Answer) -> dict[str, Entry]:
    return calendar(answer).by_uid


async def lesson(app: App, booking_id: UUID, who: str = "kid") -> Entry:
    [event] = events(await app.call(who, "GET", f"/bookings/{booking_id}.ics")).values()
    return event


async def link(app: App, who: str) -> str:
    """The path and query of the person's link."""
    answer = await app.call(who, "GET", "/calendar")
    assert answer.status == 200
    return str(URL(answer.body["url"]).relative())


@pytest.mark.parametrize("who", ["kid", "mum", "gran", "teach", "boss"])
async def test_those_whom_a_lesson_concerns_take_it_into_their_calendar(app: App, who: str) -> None:
    booking_id = await app.book(status="confirmed")
    answer = await app.call(who, "GET", f"/bookings/{booking_id}.ics")
    assert calendar(answer)["METHOD"] == "PUBLISH"
    [(uid, event)] = events(answer).items()
    row = await app.pool.fetchrow("SELECT start_time, end_time FROM bookings WHERE id = $1", booking_id)
    assert row is not None
    assert uid == str(booking_id)
    assert (event.start.at, event.end.at) == tuple(moment.replace(microsecond=0) for moment in row)
    assert (event["SUMMARY"], event["STATUS"]) == ("Lesson – Kid with Teach", "CONFIRMED")
    assert event["URL"] == str(app.client.make_url(f"/?session={booking_id}"))
    assert answer.headers["Content-Disposition"] == 'attachment; filename="lesson.ics"'


async def test_nobody_else_does(app: App) -> None:
    booking_id = await app.book()
    for who in STRANGERS:
        answer = await app.call(who, "GET", f"/bookings/{booking_id}.ics")
        assert (answer.status, answer.error) == (403, "forbidden")
    for ref in (uuid4(), "x", f"{booking_id}.ics"):
        answer = await app.call("kid", "GET", f"/bookings/{ref}.ics")
        assert (answer.status, answer.error) == (404, "booking_not_found")


async def test_the_sequence_rises_with_every_change_and_a_cancellation_is_said(app: App) -> None:
    booking_id = await app.book()
    path = f"/bookings/{booking_id}"
    event = await lesson(app, booking_id)
    assert (event.sequence, event["STATUS"]) == (0, "TENTATIVE")
    booking = (await app.call("kid", "GET", path)).body
    assert (await app.call("teach", "PATCH", path, {"status": "confirmed"})).status == 200
    assert (await app.call("teach", "PATCH", path, {"status": "confirmed"})).status == 200
    event = await lesson(app, booking_id)
    assert (event.sequence, event["STATUS"]) == (1, "CONFIRMED")
    start = event.start.at + timedelta(days=365)
    moved = {"start_time": start.isoformat(), "end_time": (start + timedelta(hours=1)).isoformat()}
    assert (await app.call("kid", "PATCH", path, moved)).status == 200
    event = await lesson(app, booking_id)
    assert (event.sequence, event["STATUS"], event.start.at) == (2, "TENTATIVE", start)
    assert (await app.call("mum", "PATCH", path, {"status": "cancelled"})).status == 200
    answer = await app.call("kid", "GET", f"{path}.ics")
    [(uid, event)] = events(answer).items()
    assert (calendar(answer)["METHOD"], uid) == ("CANCEL", booking["booking_id"])
    assert (event.sequence, event["STATUS"]) == (3, "CANCELLED")


async def test_times_stand_in_the_teachers_zone(app: App) -> None:
    booking_id = await app.book()
    feed = await link(app, "kid")
    assert (await lesson(app, booking_id)).start.zone is None
    before = await app.call(None, "GET", feed)
    profile = {"user_id": "teach", "role": "teacher", "profile_data": {"name": "Teach", "timezone": "Asia/Tokyo"}}
    assert (await app.call("teach", "POST", "/profiles", profile)).status == 201
    moved_clock = await app.call(None, "GET", feed, headers={"If-None-Match": before.headers["ETag"]})
    for event in (await lesson(app, booking_id), events(moved_clock)[str(booking_id)]):
        assert event.start.zone == "Asia/Tokyo"
        assert event.start.at == events(before)[str(booking_id)].start.at
        assert event.sequence == 0


async def test_the_organizers_address_is_shown_to_their_own_people_alone(app: App) -> None:
    """Who reads a lesson shares a booking with its teacher, who then sees the address in the profile as well."""
    booking_id = await app.book()
    assert (await lesson(app, booking_id))["ORGANIZER"] == "invalid:nomail"
    await app.pool.execute("UPDATE users SET email = 'teach+x@example.org' WHERE id = 'teach'")
    for who in ("kid", "mum", "gran", "teach"):
        profile = await app.call(who, "GET", "/profiles?user_id=teach")
        assert profile.body["profile"]["email"] == "teach+x@example.org"
        for answer in (
            await app.call(who, "GET", f"/bookings/{booking_id}.ics"),
            await app.call(None, "GET", await link(app, who)),
        ):
            event = events(answer)[str(booking_id)]
            assert (event["ORGANIZER"], event.organizer_name) == ("mailto:teach%2Bx@example.org", "Teach")
    for who in STRANGERS:
        assert "example.org" not in (await app.call(None, "GET", await link(app, who))).body


async def test_what_has_not_changed_is_not_sent_again(app: App) -> None:
    booking_id = await app.book()
    for path in (f"/bookings/{booking_id}.ics", await link(app, "kid")):
        first = await app.call("kid", "GET", path)
        again = await app.call("kid", "GET", path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status, again.body, again.headers["ETag"]) == (304, "", first.headers["ETag"])
    await app.call("teach", "PATCH", f"/bookings/{booking_id}", {"status": "confirmed"})
    changed = await app.call("kid", "GET", path, headers={"If-None-Match": first.headers["ETag"]})
    assert changed.status == 200


async def test_a_link_shows_ones_own_lessons_without_a_token_of_ours(app: App) -> None:
    mine = [str(await app.book(parent="gran")), str(await app.book(teacher="teach2", parent=None, status="cancelled"))]
    theirs = str(await app.book(student="kid2", teacher="teach2", parent=None))
    for who, expected in (
        ("kid", mine),
        ("mum", mine),  # her child's
        ("gran", mine[:1]),  # the bookings that are hers
        ("teach", mine[:1]),
        ("teach2", [mine[1], theirs]),
        ("mum2", [theirs]),
        ("boss", []),
    ):
        answer = await app.call(None, "GET", await link(app, who))
        assert sorted(events(answer)) == sorted(expected), who
        assert calendar(answer)["METHOD"] == "PUBLISH"
    answer = await app.call(None, "GET", await link(app, "kid"))
    statuses = {uid: event["STATUS"] for uid, event in events(answer).items()}
    assert statuses == {mine[0]: "TENTATIVE", mine[1]: "CANCELLED"}


async def test_a_feed_goes_back_so_far_and_no_further(app: App) -> None:
    old, recent = await app.book(), await app.book()
    for booking_id, ago in ((old, calendars.FEED_PAST + timedelta(days=1)), (recent, timedelta(days=100))):
        await app.pool.execute(
            "UPDATE bookings SET start_time = now() - $2::interval, end_time = now() - $2 + interval '1 hour'"
            " WHERE id = $1",
            booking_id,
            ago,
        )
    assert list(events(await app.call(None, "GET", await link(app, "kid")))) == [str(recent)]


async def test_a_link_that_is_not_the_persons_opens_nothing(app: App) -> None:
    await app.book()
    path, token = (await link(app, "kid")).split("?token=")
    other = (await link(app, "teach")).split("?token=")[1]
    wrong = ("", other, token[:-1], f"{token}x", "%00", "%ed%a0%80", "ü")
    for query in ("", f"?x={token}", *(f"?token={one}" for one in wrong)):
        answer = await app.call(None, "GET", f"{path}{query}")
        assert (answer.status, answer.error) == (403, "link_not_valid"), query
    for nobody in ("nobody", "%00", "%ff", "x" * 300):
        answer = await app.call(None, "GET", f"/calendar/{nobody}.ics?token={token}")
        assert (answer.status, answer.error) == (403, "link_not_valid"), nobody
    # Not with the best of tokens either: the link's is the only one that counts.
    assert (await app.call("kid", "GET", path)).status == 403


async def test_a_link_stays_until_it_is_taken_back(app: App) -> None:
    first = await link(app, "kid")
    assert await link(app, "kid") == first
    others = await link(app, "teach")
    links = [first]
    for _ in range(2):
        answer = await app.call("kid", "POST", "/calendar/rotate")
        assert answer.status == 200
        links.append(str(URL(answer.body["url"]).relative()))
    assert len(set(links)) == 3
    assert await link(app, "kid") == links[-1]
    assert [(await app.call(None, "GET", one)).status for one in links] == [403, 403, 200]
    assert (await app.call(None, "GET", others)).status == 200


async def test_an_administrator_takes_back_somebodys_links_and_it_is_noted(app: App) -> None:
    first = await link(app, "kid")
    answer = await app.call("boss", "POST", "/calendar/rotate", {"user_id": "kid"})
    assert (answer.status, str(URL(answer.body["url"]).relative())) == (200, await link(app, "kid"))
    assert (await app.call(None, "GET", first)).status == 403
    [entry] = (await app.call("boss", "GET", "/admin/audit?q=calendar_link_rotated")).body
    assert (entry["actor_id"], entry["subject"]) == ("boss", "kid")
    unknown = await app.call("boss", "POST", "/calendar/rotate", {"user_id": "nobody"})
    assert (unknown.status, list(unknown.body["fields"])) == (400, ["user_id"])
    assert (await app.call("teach", "POST", "/calendar/rotate", {"user_id": "kid"})).error == "forbidden"
    assert (await app.call("kid", "POST", "/calendar/rotate", {"user_id": "kid"})).status == 200
    assert len((await app.call("boss", "GET", "/admin/audit")).body) == 1


async def test_a_persons_id_may_hold_anything(app: App) -> None:
    user_id = "a/b?c#d ü{x}.ics"
    headers = {"Authorization": f"Bearer {mint(user_id)}"}
    answer = await app.call(None, "GET", "/calendar", headers=headers)
    url = URL(answer.body["url"])
    assert url.raw_path == "/calendar/a%2Fb%3Fc%23d%20%C3%BC%7Bx%7D.ics.ics"
    assert (await app.call(None, "GET", str(url.relative()))).status == 200


async def test_links_lead_where_the_client_sees_the_server(app: App) -> None:
    forwarded = {"Host": "lessons.example", "X-Forwarded-Proto": "https"}
    answer = await app.call("kid", "GET", "/calendar", headers=forwarded)
    assert answer.body["url"].startswith("https://lessons.example/calendar/kid.ics?token=")
