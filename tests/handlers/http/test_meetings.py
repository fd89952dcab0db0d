"""Meetings over plain HTTP: one for each session, passes to it, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from domain import meetings
from domain.errors import Conflict
from handlers.http.keys import MEETINGS
from meetings.external_ids import external_id
from meetings.ice import parse
from store import sessions
from tests.standins.coturn import accepts
from tests.standins.daily import API_KEY, DailyStandin
from tests.standins.faults import Fault
from tests.support.apps import App, running_app
from tests.support.lessons import MEMBERS, STRANGERS, live_session, make_class, member
from tests.support.recorder import WAIT_SECONDS
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def nobody_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """But when there is something to delete, and when tests say so."""
    monkeypatch.setattr(meetings, "SWEEP_SECONDS", 3_600.0)


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


@asynccontextmanager
async def with_daily(dsn: str) -> AsyncIterator[tuple[App, DailyStandin]]:
    standin = DailyStandin()
    async with (
        standin.running(),
        running_app(dsn, meeting_provider="daily", daily_api_key=API_KEY, daily_api_url=standin.url) as app,
    ):
        yield app, standin


async def met(app: App, lesson_id: UUID) -> str:
    answer = await app.call("teach", "POST", "/meetings", {"session_id": str(lesson_id)})
    assert answer.status in (200, 201), answer
    meeting_id: str = answer.body["meeting_id"]
    return meeting_id


async def test_the_first_to_ask_makes_the_meeting_and_all_others_find_it(app: App) -> None:
    lesson_id = await app.book()
    wanted = {"session_id": str(lesson_id)}

    first = await app.call("teach", "POST", "/meetings", wanted)
    again = await app.call("boss", "POST", "/meetings", wanted)

    assert (first.status, again.status) == (201, 200)
    assert first.body == again.body
    assert set(first.body) == {"meeting_id", "meeting_data"}
    for who in MEMBERS:
        shown = await app.call(who, "GET", f"/meetings/{lesson_id}")
        assert (shown.status, shown.body) == (200, first.body)
        for path in (f"/sessions/{lesson_id}", f"/bookings/{lesson_id}/session"):
            assert (await app.call(who, "GET", path)).body["meeting_data"] == first.body["meeting_data"]
    for who in STRANGERS:
        assert (await app.call(who, "GET", f"/meetings/{lesson_id}")).status == 403


async def test_only_the_host_makes_and_ends_one(app: App) -> None:
    lesson_id = await app.book()
    refused = await app.call("kid", "POST", "/meetings", {"session_id": str(lesson_id)})
    assert (refused.status, refused.error) == (403, "not_host")
    assert (await app.call("kid", "GET", f"/meetings/{lesson_id}")).error == "meeting_not_found"
    meeting_id = await met(app, lesson_id)

    refused = await app.call("kid", "DELETE", "/meetings", {"meeting_id": meeting_id})
    ended = await app.call("teach", "DELETE", "/meetings", {"meeting_id": meeting_id})
    again = await app.call("teach", "DELETE", "/meetings", {"meeting_id": meeting_id})

    assert (refused.status, refused.error) == (403, "not_host")
    assert (ended.status, again.status) == (200, 200)
    assert ended.body == {"message": "Meeting ended successfully"}
    assert (await app.call("kid", "GET", f"/meetings/{lesson_id}")).status == 404
    assert await met(app, lesson_id) != meeting_id


@pytest.mark.parametrize("meeting_id", ["", "x", "333a0e9b-62cf-4725-9d09-b95150f7195a", "0" * 10_000])
async def test_a_meeting_that_is_none_is_not_found(app: App, meeting_id: str) -> None:
    for method, path, more in (("DELETE", "/meetings", {}), ("POST", "/attendees", {"user_id": "kid", "name": "Kid"})):
        answer = await app.call("teach", method, path, {"meeting_id": meeting_id, **more})
        assert answer.status in (400, 404)
        assert answer.error in ("meeting_not_found", "validation_failed")


async def test_a_member_gets_a_pass_and_the_meeting_is_made_for_it(database: str) -> None:
    servers = '[{"urls": "turn:turn.example", "secret": "what we share"}]'

    async with running_app(database, ice_servers=parse(servers)) as app:
        lesson_id = await app.book()
        answer = await app.call("kid", "POST", f"/sessions/{lesson_id}/token")

        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.body["provider"] == "peer"
        assert answer.body["token"] is answer.body["url"] is None
        assert answer.body["person_id"] == external_id("kid")
        (relay,) = answer.body["data"]["iceServers"]
        assert accepts("what we share", relay["username"], relay["credential"])
        shown = await app.call("teach", "GET", f"/meetings/{lesson_id}")
        assert shown.body["meeting_id"] == answer.body["meeting_id"]
        assert "credential" not in str(shown.body)


async def test_an_ended_session_has_no_meeting_any_more(app: App) -> None:
    lesson_id = await app.book()
    await met(app, lesson_id)
    assert (await app.call("teach", "DELETE", f"/sessions/{lesson_id}")).status == 200

    await until_deleted(app)
    assert (await app.call("kid", "GET", f"/meetings/{lesson_id}")).status == 404
    for answer in (
        await app.call("kid", "POST", f"/sessions/{lesson_id}/token"),
        await app.call("teach", "POST", "/meetings", {"session_id": str(lesson_id)}),
    ):
        assert (answer.status, answer.error) == (409, "session_ended")


async def test_an_ended_session_gives_no_pass_while_its_room_cannot_be_deleted(database: str) -> None:
    async with with_daily(database) as (app, daily):
        lesson_id = await app.book()
        await met(app, lesson_id)
        daily.faults.next(Fault(status=403, body='{"error": "forbidden-error"}', at="DELETE"), 50)

        assert (await app.call("teach", "DELETE", f"/sessions/{lesson_id}")).status == 200
        refused = await app.call("kid", "POST", f"/sessions/{lesson_id}/token")

        assert (refused.status, refused.error) == (409, "session_ended")
        assert len(daily.rooms) == 1


async def until_deleted(app: App) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while await app.pool.fetchval("SELECT 1 FROM meetings WHERE deleted_at IS NULL LIMIT 1"):
            pass


async def test_a_class_that_comes_at_once_meets_in_one_room(database: str) -> None:
    async with with_daily(database) as (app, daily):
        class_id = await live_session(app.pool, students=("kid", "kid2"))
        people = ("teach", "kid", "kid2", "boss") * 4

        answers = await asyncio.gather(*(app.call(who, "POST", f"/sessions/{class_id}/token") for who in people))

        assert {answer.status for answer in answers} == {200}
        assert len({answer.body["meeting_id"] for answer in answers}) == 1
        (room,) = daily.rooms.values()
        for who, answer in zip(people, answers, strict=True):
            joined = daily.join(room.name, answer.body["token"])
            assert joined is not None
            assert joined.is_owner == (who in ("teach", "boss"))
            assert joined.user_id == answer.body["person_id"]


async def test_a_provider_that_is_away_is_502_and_nothing_is_kept(database: str) -> None:
    async with with_daily(database) as (app, daily):
        lesson_id = await app.book()
        daily.faults.next(Fault(status=400, body='{"error": "invalid-request-error", "info": "secret words"}'), 2)

        failed = await app.call("kid", "POST", f"/sessions/{lesson_id}/token")

        assert (failed.status, failed.error) == (502, "provider_failed")
        assert "secret words" not in failed.body["message"]
        assert await app.pool.fetchval("SELECT count(*) FROM meetings") == 0
        assert daily.rooms == {}
        assert (await app.call("kid", "POST", f"/sessions/{lesson_id}/token")).status == 200


async def test_a_room_that_could_not_be_deleted_is_deleted_later(database: str) -> None:
    async with with_daily(database) as (app, daily):
        lesson_id = await app.book()
        meeting_id = await met(app, lesson_id)
        daily.faults.next(Fault(status=403, body='{"error": "forbidden-error"}', at="DELETE"), 2)

        assert (await app.call("teach", "DELETE", "/meetings", {"meeting_id": meeting_id})).status == 200
        assert (await app.call("kid", "GET", f"/meetings/{lesson_id}")).status == 404
        await until(lambda: daily.faults.asked("DELETE") >= 1)
        await app.pool.execute("UPDATE meetings SET retry_at = now()")
        await app.client.app[MEETINGS].sweep()
        assert daily.faults.asked("DELETE") == 2
        assert len(daily.rooms) == 1

        await app.pool.execute("UPDATE meetings SET retry_at = now()")
        await app.client.app[MEETINGS].sweep()

        assert daily.rooms == {}
        assert await app.client.app[MEETINGS].sweep() == 0


async def test_a_kicked_student_is_out_of_the_video_and_gets_no_new_pass(database: str) -> None:
    async with with_daily(database) as (app, daily):
        lesson_id = await app.book()
        given = (await app.call("kid", "POST", f"/sessions/{lesson_id}/token")).body
        (room,) = daily.rooms.values()
        assert daily.join(room.name, given["token"])

        await app.call("teach", "PATCH", f"/sessions/{lesson_id}/participants/kid", {"wasKicked": True})

        await until(lambda: room.present == [])
        assert daily.join(room.name, given["token"]) is None
        refused = await app.call("kid", "POST", f"/sessions/{lesson_id}/token")
        assert (refused.status, refused.error) == (403, "kicked")


async def test_a_muted_student_is_muted_in_the_video_now_and_when_they_come_again(database: str) -> None:
    async with with_daily(database) as (app, daily):
        lesson_id = await app.book()
        given = (await app.call("kid", "POST", f"/sessions/{lesson_id}/token")).body
        (room,) = daily.rooms.values()
        there = daily.join(room.name, given["token"])
        assert there is not None
        assert there.may_send("audio")

        await app.call("teach", "PATCH", f"/sessions/{lesson_id}/participants/kid", {"micAllowed": False})

        await until(lambda: not there.may_send("audio"))
        assert there.may_send("video")
        assert daily.join(room.name, given["token"], after=5 * 60) is None  # it was made when they might speak
        given = (await app.call("kid", "POST", f"/sessions/{lesson_id}/token")).body
        again = daily.join(room.name, given["token"])
        assert again is not None
        assert not again.may_send("audio")


async def test_a_meeting_is_moved_and_the_old_room_is_gone(database: str) -> None:
    async with with_daily(database) as (app, daily):
        lesson_id = await app.book()
        path = f"/sessions/{lesson_id}/meeting/move"
        none = await app.call("teach", "POST", path)
        assert (none.status, none.error) == (404, "meeting_not_found")
        meeting_id = await met(app, lesson_id)
        (old,) = daily.rooms
        refused = await app.call("kid", "POST", path)
        assert (refused.status, refused.error) == (403, "not_host")

        moved = await app.call("teach", "POST", path)

        assert moved.status == 201
        assert moved.body["meeting_id"] != meeting_id
        again = await app.call("teach", "POST", f"{path}?from={meeting_id}")
        assert (again.status, again.body) == (200, moved.body)
        assert (await app.call("teach", "POST", f"{path}?from=x")).error == "meeting_not_found"
        await until(lambda: old not in daily.rooms)
        (new,) = daily.rooms
        given = (await app.call("kid", "POST", f"/sessions/{lesson_id}/token")).body
        assert daily.join(new, given["token"])


async def test_a_meeting_stays_with_its_provider_until_it_is_moved(database: str) -> None:
    async with running_app(database) as app:
        lesson_id = await app.book()
        await met(app, lesson_id)
    async with with_daily(database) as (app, daily):
        assert (await app.call("kid", "POST", f"/sessions/{lesson_id}/token")).body["provider"] == "peer"
        assert (await app.call("teach", "POST", f"/sessions/{lesson_id}/meeting/move")).status == 201
        assert (await app.call("kid", "POST", f"/sessions/{lesson_id}/token")).body["provider"] == "daily"
        assert len(daily.rooms) == 1
    async with running_app(database) as app:
        answer = await app.call("kid", "POST", f"/sessions/{lesson_id}/token")
        assert (answer.status, answer.error) == (502, "provider_failed")


async def test_a_meeting_is_moved_to_any_provider_that_is_set_up(database: str) -> None:
    async with with_daily(database) as (app, daily):
        lesson_id = await app.book()
        path = f"/sessions/{lesson_id}/meeting/move"
        await met(app, lesson_id)
        assert len(daily.rooms) == 1
        daily.faults.next(Fault(cut=True), 1_000)  # it is not asked

        moved = await app.call("teach", "POST", path, {"provider": "peer"})
        assert (moved.status, moved.body["meeting_data"]["provider"]) == (201, "peer")
        assert (await app.call("kid", "POST", f"/sessions/{lesson_id}/token")).body["provider"] == "peer"
        daily.faults.clear()
        await app.pool.execute("UPDATE meetings SET created_at = created_at - interval '5 seconds'")
        back = await app.call("teach", "POST", f"{path}?provider=daily&from={moved.body['meeting_id']}")
        assert (back.status, back.body["meeting_data"]["provider"]) == (201, "daily")

        for unknown in ("chime", "jitsi", "zoom", "", "p" * 101):
            refused = await app.call("teach", "POST", path, {"provider": unknown})
            assert (refused.status, refused.error) == (400, "validation_failed")
            if len(unknown) < 100:
                assert "peer, daily" in refused.body["message"]
        assert (await app.call("kid", "POST", path, {"provider": "zoom"})).error == "not_host"


async def test_a_meeting_among_browsers_has_six_places_and_one_is_the_hosts(app: App) -> None:
    students = [f"student-{n:04}" for n in range(6)]
    class_id, _ = await make_class(app.pool, len(students))
    session = await sessions.find(app.pool, class_id)
    assert session is not None

    def ask(who: str) -> Any:
        return app.client.app[MEETINGS].admit(session, replace(member(class_id, "kid"), user_id=who))

    for student in students[:5]:
        await ask(student)
    with pytest.raises(Conflict) as full:
        await ask(students[5])
    assert full.value.code == "meeting_full"
    for who in ("teach", "boss"):
        answer = await app.call(who, "POST", f"/sessions/{class_id}/token")
        assert (answer.status, answer.body.get("error")) == ((200, None) if who == "teach" else (409, "meeting_full"))
    await ask(students[0])  # who has one keeps it


async def test_of_many_who_come_at_once_as_many_get_a_place_as_there_are(app: App) -> None:
    class_id, students = await make_class(app.pool, 12)
    session = await sessions.find(app.pool, class_id)
    assert session is not None
    meetings = app.client.app[MEETINGS]
    people = [replace(member(class_id, "kid"), user_id=student) for student in students]

    outcomes = await asyncio.gather(
        *(meetings.admit(session, person) for person in [*people, member(class_id, "teach")]), return_exceptions=True
    )

    assert sum(not isinstance(outcome, Conflict) for outcome in outcomes) == 6
    assert not isinstance(outcomes[-1], Conflict)


async def test_whoever_gives_the_pass_back_leaves_their_place_to_another(app: App) -> None:
    lesson_id = await app.book()
    given = await app.call("kid", "POST", f"/sessions/{lesson_id}/token")
    assert given.status == 200

    for who in ("kid", "kid", "mum"):
        assert (await app.call(who, "DELETE", f"/sessions/{lesson_id}/token")).status == 204

    assert await app.pool.fetchval("SELECT count(*) FROM meeting_people WHERE came_at IS NOT NULL") == 0
    assert (await app.call("kid2", "DELETE", f"/sessions/{lesson_id}/token")).status == 403


async def test_a_pass_names_who_else_has_one_and_each_tab_gives_back_its_own(app: App) -> None:
    lesson_id = await app.book()

    async def come(who: str, tab: str) -> list[str]:
        answer = await app.call(who, "POST", f"/sessions/{lesson_id}/token?tab={tab}")
        assert answer.status == 200, answer
        people: list[str] = answer.body["people"]
        return people

    assert await come("kid", "laptop") == []
    assert await come("mum", "phone") == ["kid"]
    assert await come("kid", "tablet") == ["mum"]
    assert (await app.call("kid", "DELETE", f"/sessions/{lesson_id}/token?tab=laptop")).status == 204
    assert await come("teach", "desk") == ["kid", "mum"]
    assert (await app.call("kid", "DELETE", f"/sessions/{lesson_id}/token?tab=tablet")).status == 204
    assert await come("teach", "desk") == ["mum"]
    too_long = await app.call("kid", "POST", f"/sessions/{lesson_id}/token?tab={'x' * 65}")
    assert (too_long.status, too_long.error) == (400, "validation_failed")


async def test_one_registers_oneself_and_the_host_everybody(app: App) -> None:
    lesson_id = await app.book()
    meeting_id = await met(app, lesson_id)

    def attend(who: str, user_id: Any) -> Any:
        body = {"meeting_id": meeting_id, "user_id": user_id, "name": "Somebody"}
        return app.call(who, "POST", "/attendees", body)

    for who, user_id, status, error in (
        ("kid", "kid", 201, None),
        ("teach", "kid", 201, None),
        ("teach", "gran", 201, None),
        ("kid", "mum", 403, "not_host"),
        ("teach", "kid2", 404, "participant_not_found"),
        ("teach", "nobody", 404, "participant_not_found"),
        ("teach", "", 400, "validation_failed"),
        ("kid2", "kid2", 403, "forbidden"),
    ):
        answer = await attend(who, user_id)
        assert answer.status == status, (who, user_id, answer)
        if error is None:
            assert set(answer.body) == {"attendee_id", "attendee_data"}
            assert answer.body["attendee_id"] == external_id(user_id)
        else:
            assert answer.error == error
    await app.call("teach", "DELETE", "/meetings", {"meeting_id": meeting_id})
    assert (await attend("kid", "kid")).error == "meeting_not_found"


@pytest.mark.parametrize("change", [{"locked": True}, {"waitingRoom": True}, {"maxParticipants": 1}])
async def test_where_the_host_says_who_comes_in_only_who_is_in_gets_a_pass(app: App, change: Any) -> None:
    class_id = await live_session(app.pool)
    assert (await app.call("teach", "PATCH", f"/sessions/{class_id}", change)).status == 200

    refused = await app.call("kid", "POST", f"/sessions/{class_id}/token")
    host = await app.call("teach", "POST", f"/sessions/{class_id}/token")

    assert (refused.status, refused.error) == (403, "not_joined")
    assert host.status == 200
