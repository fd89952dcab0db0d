"""Live classes over HTTP, as S2 and S4 have them; and what a host sets in any session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from store import live_sessions as store_of_classes
from store import participants
from store.errors import Away
from tests.standins.daily import API_KEY, DailyStandin
from tests.standins.faults import Fault
from tests.support.apps import Answer, App, contents, running_app
from tests.support.lessons import live_session, make_course
from tests.support.waiting import until

STARTS_AT = "2025-12-26T15:00:00.000Z"
SETTINGS = {
    "locked": False,
    "waitingRoom": False,
    "chatMuted": False,
    "slowModeSeconds": 0,
    "whiteboardLocked": False,
    "recordingConsent": False,
    "maxParticipants": None,
    "pinnedMessageId": None,
}


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


@asynccontextmanager
async def with_daily(dsn: str) -> AsyncIterator[tuple[App, DailyStandin, UUID]]:
    """And a course, whose instructor is `teach`."""
    standin = DailyStandin()
    async with (
        standin.running(),
        running_app(dsn, meeting_provider="daily", daily_api_key=API_KEY, daily_api_url=standin.url) as app,
    ):
        yield app, standin, await make_course(app.pool, students=("kid", "kid2"))


@pytest.fixture
async def course_id(app: App) -> UUID:
    return await make_course(app.pool, students=("kid", "kid2"))


async def schedule(app: App, course_id: UUID | str, who: str = "teach", **body: Any) -> Answer:
    return await app.call(who, "POST", "/sessions", {"courseId": str(course_id), "startsAt": STARTS_AT} | body)


async def scheduled(app: App, course_id: UUID, who: str = "teach", **body: Any) -> dict[str, Any]:
    answer = await schedule(app, course_id, who, **body)
    assert answer.status == 201, answer
    document: dict[str, Any] = answer.body
    return document


async def notified(app: App, who: str) -> list[tuple[str, str]]:
    answer = await app.call(who, "GET", "/notifications")
    assert answer.status == 200
    return [(one["kind"], one["data"]["session_id"]) for one in answer.body]


async def test_a_class_is_scheduled_and_the_enrolled_are_told(app: App, course_id: UUID) -> None:
    answer = await schedule(app, course_id, recordingEnabled=True, maxParticipants=50, title=" Vectors ")
    made = answer.body
    assert (answer.status, answer.headers["Location"]) == (201, f"/sessions/{made['_id']}")
    assert made == {
        "_id": made["_id"],
        "courseId": str(course_id),
        "roomName": made["roomName"],
        "title": "Vectors",
        "status": "scheduled",
        "startsAt": "2025-12-26T15:00:00Z",
        "endsAt": None,
        "createdBy": "teach",
        "recordingEnabled": True,
        "maxParticipants": 50,
        "createdAt": made["createdAt"],
        "updatedAt": made["createdAt"],
    }
    for who in ("kid", "kid2"):
        assert await notified(app, who) == [("session_scheduled", made["_id"])]
    for who in ("teach", "mum"):
        assert await notified(app, who) == []


@pytest.mark.parametrize("path", ["/sessions", "/live-sessions"])
async def test_both_doors_and_both_spellings_make_the_same(app: App, course_id: UUID, path: str) -> None:
    for body in (
        {"courseId": str(course_id), "startsAt": STARTS_AT},
        {"course_id": str(course_id), "starts_at": STARTS_AT, "recording_enabled": False},
    ):
        answer = await app.call("boss", "POST", path, body)
        assert (answer.status, answer.body["createdBy"], answer.body["recordingEnabled"]) == (201, "boss", False)
        assert answer.body["maxParticipants"] is None


@pytest.mark.parametrize("path", ["/sessions", "/live-sessions"])
@pytest.mark.parametrize(
    ("missing", "fields"),
    [
        (("courseId", "startsAt"), ["course_id", "starts_at"]),
        (("courseId",), ["course_id"]),
        (("startsAt",), ["starts_at"]),
    ],
)
async def test_without_a_course_or_a_start_it_is_400_in_s2s_words(
    app: App, course_id: UUID, path: str, missing: tuple[str, ...], fields: list[str]
) -> None:
    whole = {"courseId": str(course_id), "startsAt": STARTS_AT}
    for nothing in (None, ""):
        body = {name: value for name, value in whole.items() if name not in missing}
        if nothing == "" and "courseId" in missing:
            body["courseId"] = ""
        answer = await app.call("teach", "POST", path, body)
        assert (answer.status, answer.body["message"]) == (400, "courseId and startsAt are required")
        assert list(answer.body["fields"]) == fields
    assert await app.pool.fetchval("SELECT count(*) FROM sessions") == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"startsAt": "tomorrow"}, "starts_at"),
        ({"startsAt": "2025-12-26T15:00:00"}, "starts_at"),
        ({"courseId": 7}, "course_id"),
        ({"maxParticipants": 0}, "max_participants"),
        ({"maxParticipants": 10_001}, "max_participants"),
        ({"maxParticipants": "50"}, "max_participants"),
        ({"maxParticipants": 1.5}, "max_participants"),
        ({"recordingEnabled": "yes"}, "recording_enabled"),
        ({"title": "x" * 201}, "title"),
        ({"title": "two\nlines"}, "title"),
    ],
    ids=str,
)
async def test_what_cannot_be_is_named(app: App, course_id: UUID, body: dict[str, Any], field: str) -> None:
    before = await contents(app.pool)
    answer = await schedule(app, course_id, **body)
    assert (answer.status, list(answer.body["fields"])) == (400, [field])
    assert await contents(app.pool) == before


async def test_a_session_is_of_a_booking_or_of_a_course(app: App, course_id: UUID) -> None:
    booking_id = await app.book()
    answer = await schedule(app, course_id, booking_id=str(booking_id))
    assert (answer.status, list(answer.body["fields"])) == (400, ["course_id"])
    class_id = (await scheduled(app, course_id))["_id"]
    answer = await app.call("teach", "POST", "/sessions", {"booking_id": class_id})
    assert (answer.status, answer.error) == (404, "booking_not_found")


@pytest.mark.parametrize("unknown", ["5d0f7f0e-3f4b-4c53-9d38-6a0c1f2e7b94", "course-uuid-123"])
async def test_a_course_that_is_not_there_has_no_classes(app: App, unknown: str) -> None:
    answer = await schedule(app, unknown)
    assert (answer.status, answer.error) == (404, "course_not_found")


@pytest.mark.parametrize("who", ["kid", "mum", "teach2"])
async def test_only_the_courses_teacher_schedules(app: App, course_id: UUID, who: str) -> None:
    answer = await schedule(app, course_id, who)
    assert (answer.status, answer.error) == (403, "not_instructor")
    assert await app.pool.fetchval("SELECT count(*) FROM sessions") == 0


async def test_everybody_sees_the_card_of_a_class(app: App, course_id: UUID) -> None:
    made = await scheduled(app, course_id)
    for who in (None, "kid", "teach2", "boss"):
        for ref in (made["_id"], made["roomName"]):
            answer = await app.call(who, "GET", f"/sessions/{ref}")
            assert (answer.status, answer.body) == (200, made)
    answer = await app.call(None, "GET", f"/sessions/{made['_id']}", headers={"Authorization": "Bearer x.y.z"})
    assert answer.status == 200, "nobody is asked who they are"
    assert (await app.call(None, "HEAD", f"/sessions/{made['_id']}")).status == 200


async def test_a_bookings_session_has_no_card(app: App) -> None:
    session_id = await app.book()
    room_name = await app.pool.fetchval("SELECT room_name FROM sessions")
    for ref in (session_id, room_name):
        answer = await app.call(None, "GET", f"/sessions/{ref}")
        assert (answer.status, answer.error, answer.headers["WWW-Authenticate"]) == (401, "token_missing", "Bearer")
        answer = await app.call("teach2", "GET", f"/sessions/{ref}")
        assert (answer.status, answer.body["message"]) == (403, "Access denied to this session")
        assert (await app.call("kid", "GET", f"/sessions/{ref}")).body["booking_id"] == str(session_id)


@pytest.mark.parametrize(
    "ref", ["5d0f7f0e-3f4b-4c53-9d38-6a0c1f2e7b94", "unique-room-name", "instructor", "%00", "x" * 300]
)
async def test_what_names_no_session_is_404_for_everybody(app: App, ref: str) -> None:
    for who in (None, "kid"):
        answer = await app.call(who, "GET", f"/sessions/{ref}")
        assert (answer.status, answer.error, answer.body["message"]) == (404, "session_not_found", "Session not found")


async def pages(app: App, who: str | None, path: str) -> list[Any]:
    found: list[Any] = []
    while True:
        answer = await app.call(who, "GET", path)
        assert answer.status == 200, answer
        found.append(answer.body)
        if "Link" not in answer.headers:
            return found
        path = answer.headers["Link"].partition("; ")[0].strip("<>")


async def test_an_instructors_classes_are_listed_for_everybody_newest_first(app: App, course_id: UUID) -> None:
    made = [await scheduled(app, course_id, startsAt=f"2026-01-0{day}T09:00:00Z") for day in (2, 1, 3)]
    await app.book()  # what they do with one student is nobody else's business
    await live_session(app.pool, host="teach2")
    for who in (None, "kid2"):
        listed = await pages(app, who, "/sessions/instructor/teach?limit=2")
        assert [len(page) for page in listed] == [2, 1]
        assert [one for page in listed for one in page] == [made[2], made[0], made[1]]
    assert (await app.call(None, "GET", "/sessions/instructor/boss")).body == []
    for nobody in ("nobody", "kid", "%00", "x" * 300):
        answer = await app.call(None, "GET", f"/sessions/instructor/{nobody}")
        assert (answer.status, answer.error) == (404, "instructor_not_found")


async def test_a_courses_classes_are_for_those_who_take_part(app: App, course_id: UUID) -> None:
    first = await scheduled(app, course_id, startsAt="2026-01-01T09:00:00Z")
    second = await scheduled(app, course_id, startsAt="2026-01-02T09:00:00Z")
    await app.pool.execute(
        "INSERT INTO session_participants (session_id, user_id, joined_at) VALUES ($1, 'kid', now())", first["_id"]
    )
    for who in ("teach", "kid", "boss"):
        answer = await app.call(who, "GET", f"/courses/{course_id}/sessions")
        assert answer.body == [second | {"participantCount": 0}, first | {"participantCount": 1}]
        assert len(await pages(app, who, f"/courses/{course_id}/sessions?limit=1")) == 2
    for who in ("mum", "teach2"):
        answer = await app.call(who, "GET", f"/courses/{course_id}/sessions")
        assert (answer.status, answer.error) == (403, "not_enrolled")


async def test_a_class_starts_and_ends_and_does_not_go_back(app: App, course_id: UUID) -> None:
    made = await scheduled(app, course_id)
    path = f"/live-sessions/{made['roomName']}"
    for _ in range(2):
        started = await app.call("teach", "PATCH", f"{path}/start")
        assert (started.status, started.body["status"], started.body["endsAt"]) == (200, "live", None)
    for who in ("kid", "kid2"):
        assert [kind for kind, _ in await notified(app, who)] == ["session_started", "session_scheduled"]
    ended = await app.call("teach", "PATCH", f"{path}/end")
    assert (ended.status, ended.body["status"]) == (200, "ended")
    assert ended.body["endsAt"] is not None
    assert ended.body | {"status": "scheduled", "endsAt": None, "updatedAt": made["updatedAt"]} == made
    for who, method, again in (
        ("teach", "PATCH", f"{path}/end"),
        ("boss", "DELETE", f"/sessions/{made['_id']}"),
    ):
        answer = await app.call(who, method, again)
        assert (answer.status, answer.body) == (200, ended.body), "as it was"
    refused = await app.call("teach", "PATCH", f"{path}/start")
    assert (refused.status, refused.error) == (409, "invalid_transition")
    assert (await app.call("kid", "POST", f"/sessions/{made['_id']}/messages", {"text": "one more"})).status == 201


async def test_a_class_that_never_began_ends_too(app: App, course_id: UUID) -> None:
    for method, path in (("PATCH", "/live-sessions/{}/end"), ("DELETE", "/sessions/{}")):
        made = await scheduled(app, course_id)
        answer = await app.call("teach", method, path.format(made["_id"]))
        assert (answer.status, answer.body["status"]) == (200, "ended")


@pytest.mark.parametrize("who", ["kid", "mum", "teach2"])
async def test_only_the_host_moves_it(app: App, course_id: UUID, who: str) -> None:
    made = await scheduled(app, course_id)
    before = await contents(app.pool)
    for act in ("start", "end"):
        answer = await app.call(who, "PATCH", f"/live-sessions/{made['_id']}/{act}")
        assert answer.status == 403
        wanted = "Only the host may do this." if who == "kid" else "Access denied to this session"
        assert answer.body["message"] == wanted
    for ref in (made["_id"], made["roomName"]):
        answer = await app.call(who, "DELETE", f"/sessions/{ref}")
        assert (answer.status, answer.body["message"]) == (403, f"Not authorized to delete session:{ref}")
    assert await contents(app.pool) == before


async def test_a_bookings_session_starts_and_ends_there_too(app: App) -> None:
    session_id = await app.book(status="confirmed")
    answer = await app.call("teach", "PATCH", f"/live-sessions/{session_id}/start")
    assert (answer.status, answer.body["status"]) == (200, "active")
    answer = await app.call("teach", "DELETE", f"/sessions/{session_id}")
    assert (answer.status, answer.body["status"]) == (200, "completed")
    assert await app.pool.fetchval("SELECT status FROM bookings") == "completed"


async def test_of_many_who_start_and_end_at_once_each_happens_once(app: App, course_id: UUID) -> None:
    made = await scheduled(app, course_id)
    path = f"/live-sessions/{made['_id']}"
    await asyncio.gather(*(app.call("teach", "PATCH", f"{path}/start") for _ in range(5)))
    await asyncio.gather(*(app.call("teach", "PATCH", f"{path}/end") for _ in range(5)))
    events = await app.pool.fetch("SELECT seq, data FROM session_events ORDER BY seq")
    assert [(row["seq"], row["data"]["status"]) for row in events] == [(1, "live"), (2, "ended")]
    assert len(await notified(app, "kid")) == 2


async def test_put_moves_a_class_for_its_host_alone(app: App, course_id: UUID) -> None:
    made = await scheduled(app, course_id)
    path = f"/sessions/{made['_id']}"
    note = {"text": "x", "timestamp": "2030-01-01T00:00:00Z"}
    for body in ({"notes": [note]}, {"status": "active"}):
        answer = await app.call("kid", "PUT", path, body)
        assert (answer.status, answer.error) == (403, "not_host")
        answer = await app.call("teach", "PUT", path, body)
        assert (answer.status, answer.body) == (200, {"message": "Session updated successfully"})
    assert (await app.call(None, "GET", path)).body["status"] == "live"
    assert [kind for kind, _ in await notified(app, "kid")] == ["session_started", "session_scheduled"]


async def test_a_host_sets_everything_at_once(app: App, course_id: UUID) -> None:
    made = await scheduled(app, course_id)
    path = f"/sessions/{made['roomName']}"
    change = {
        "title": " Vectors ",
        "startsAt": "2031-01-01T09:00:00+01:00",
        "maxParticipants": 30,
        "recordingEnabled": True,
        "locked": True,
        "waitingRoom": True,
        "chatMuted": True,
        "slowModeSeconds": 3600,
        "whiteboardLocked": True,
        "recordingConsent": True,
    }
    answer = await app.call("teach", "PATCH", path, change)
    assert answer.status == 200
    expected = made | SETTINGS | change | {"title": "Vectors", "startsAt": "2031-01-01T08:00:00Z"}
    assert answer.body == expected | {"updatedAt": answer.body["updatedAt"]}
    answer = await app.call("boss", "PATCH", path, {"max_participants": None, "slow_mode_seconds": 0})
    assert (answer.body["maxParticipants"], answer.body["slowModeSeconds"], answer.body["locked"]) == (None, 0, True)
    events = await app.pool.fetch("SELECT seq, kind, user_id, data FROM session_events ORDER BY seq")
    assert [(row["seq"], row["kind"], row["user_id"]) for row in events] == [
        (1, "session_settings", "teach"),
        (2, "session_settings", "boss"),
    ]
    assert events[1]["data"] == {
        "locked": True,
        "waitingRoom": True,
        "chatMuted": True,
        "slowModeSeconds": 0,
        "whiteboardLocked": True,
        "recordingConsent": True,
    }
    timeline = (await app.call("kid", "GET", f"{path}/timeline")).body
    assert [(entry["kind"], entry["data"]["slowModeSeconds"]) for entry in timeline] == [
        ("session_settings", 3600),
        ("session_settings", 0),
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "nothing_to_change"),
        ({"slowModeSeconds": 3601}, "slow_mode_seconds"),
        ({"slowModeSeconds": -1}, "slow_mode_seconds"),
        ({"slowModeSeconds": True}, "slow_mode_seconds"),
        ({"locked": 1}, "locked"),
        ({"maxParticipants": 0}, "max_participants"),
        ({"title": "x" * 201}, "title"),
        ({"startsAt": "soon"}, "starts_at"),
    ],
    ids=str,
)
async def test_what_cannot_be_set_is_named(app: App, course_id: UUID, body: dict[str, Any], said: str) -> None:
    made = await scheduled(app, course_id)
    before = await contents(app.pool)
    beside = {"chatMuted": True} if body else {}
    answer = await app.call("teach", "PATCH", f"/sessions/{made['_id']}", body | beside)
    assert answer.status == 400
    assert said in (answer.error, *answer.body.get("fields", {}))
    assert await contents(app.pool) == before


async def test_only_the_host_sets(app: App, course_id: UUID) -> None:
    made = await scheduled(app, course_id)
    for who, code in (("kid", "not_host"), ("mum", "forbidden"), ("teach2", "forbidden")):
        answer = await app.call(who, "PATCH", f"/sessions/{made['_id']}", {"locked": True})
        assert (answer.status, answer.error) == (403, code)
    session_id = await app.book()
    assert (await app.call("kid", "PATCH", f"/sessions/{session_id}", {"locked": True})).status == 403
    answer = await app.call("teach", "PATCH", f"/sessions/{session_id}", {"locked": True, "title": "Algebra"})
    assert (answer.status, answer.body["locked"], answer.body["title"]) == (200, True, "Algebra")
    answer = await app.call("teach", "PATCH", f"/sessions/{session_id}", {"maxParticipants": 5})
    assert (answer.status, list(answer.body["fields"])) == (400, ["max_participants"])


async def test_a_class_is_not_moved_once_it_has_begun(app: App, course_id: UUID) -> None:
    made = await scheduled(app, course_id)
    await app.call("teach", "PATCH", f"/live-sessions/{made['_id']}/start")
    body = {"startsAt": "2031-01-01T09:00:00Z", "locked": True}
    answer = await app.call("teach", "PATCH", f"/sessions/{made['_id']}", body)
    assert (answer.status, answer.error) == (409, "session_started")
    assert await app.pool.fetchval("SELECT locked FROM sessions") is False


async def test_who_was_kicked_out_of_a_class_still_sees_its_card_and_nothing_else(app: App, course_id: UUID) -> None:
    made = await scheduled(app, course_id)
    path = f"/sessions/{made['_id']}"
    async with app.pool.acquire() as connection:
        await participants.change(connection, UUID(made["_id"]), "kid", was_kicked=True)
    assert (await app.call("kid", "GET", path)).body == made
    for method, inner, body in (
        ("GET", "/messages", None),
        ("GET", "/timeline", None),
        ("PATCH", "", {"locked": True}),
        ("PUT", "", {"notes": []}),
        ("DELETE", "", None),
    ):
        answer = await app.call("kid", method, f"{path}{inner}", body)
        assert (answer.status, answer.error) == (403, "kicked"), (method, inner)


async def test_a_class_gets_its_room_with_it(database: str) -> None:
    async with with_daily(database) as (app, daily, course_id):
        starts_at = datetime.now(UTC) + timedelta(days=3)
        made = await scheduled(app, course_id, startsAt=starts_at.isoformat(), recordingEnabled=True)

        (room,) = daily.rooms.values()
        assert room.privacy == "private"
        assert room.properties.enable_recording == "cloud"
        assert room.properties.exp == pytest.approx((starts_at + timedelta(hours=24)).timestamp(), abs=2)
        shown = await app.call("kid", "GET", f"/meetings/{made['_id']}")
        assert shown.body["meeting_data"]["roomName"] == room.name
        given = (await app.call("kid", "POST", f"/sessions/{made['_id']}/token")).body
        assert daily.join(room.name, given["token"])
        assert (await app.call("teach", "DELETE", f"/sessions/{made['_id']}")).status == 200
        await until(lambda: daily.rooms == {})


@pytest.mark.parametrize(
    "fault",
    [Fault(status=400, body='{"error": "x", "info": "secret words"}'), Fault(status=200, body="{}", done=True)],
    ids=["refused", "half made"],
)
async def test_where_the_room_cannot_be_made_there_is_no_class(database: str, fault: Fault) -> None:
    async with with_daily(database) as (app, daily, course_id):
        before = await contents(app.pool)
        daily.faults.next(replace(fault, at="POST /v1/rooms"), 5)

        failed = await schedule(app, course_id)

        assert (failed.status, failed.error) == (502, "provider_failed")
        assert failed.body["message"] == "Failed to create session room"
        assert await contents(app.pool) == before
        assert await notified(app, "kid") == []
        assert daily.rooms == {}
        daily.faults.clear()
        assert (await schedule(app, course_id)).status == 201


async def test_where_the_class_cannot_be_kept_its_room_is_not(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with with_daily(database) as (app, daily, course_id):

        async def away(*_: Any, **__: Any) -> None:
            assert len(daily.rooms) == 1
            raise Away("it went")

        with monkeypatch.context() as broken:
            broken.setattr(store_of_classes, "insert", away)
            failed = await schedule(app, course_id)

        assert failed.status == 503
        await until(lambda: daily.rooms == {})
        assert await notified(app, "kid") == []


async def test_a_provider_is_asked_for_nothing_by_those_who_may_not(database: str) -> None:
    async with with_daily(database) as (app, daily, course_id):
        for who, of in (("kid", course_id), ("teach2", course_id), ("teach", UUID(int=1))):
            assert (await schedule(app, of, who)).status in (403, 404)

        assert daily.faults.requests == []


async def test_where_rooms_are_made_when_somebody_comes_a_class_needs_none(app: App, course_id: UUID) -> None:
    made = await scheduled(app, course_id)

    assert (await app.call("kid", "GET", f"/meetings/{made['_id']}")).error == "meeting_not_found"
