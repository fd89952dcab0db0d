"""`/sessions` of bookings, as the contract has them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from store import participants
from tests.support.apps import App, contents, running_app
from tests.support.lessons import MEMBERS, STRANGERS

NOTE = {"text": "Chapter 3", "timestamp": "2030-01-02T03:04:05Z"}
FILE = {"name": "a.pdf", "url": "https://files.example/a.pdf", "timestamp": "2030-01-02T03:04:05Z"}


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


async def shown(app: App, session_id: UUID, who: str = "kid") -> dict[str, Any]:
    answer = await app.call(who, "GET", f"/sessions/{session_id}")
    assert answer.status == 200, answer
    document: dict[str, Any] = answer.body
    return document


async def booking_status(app: App, session_id: UUID) -> str:
    status: str = await app.pool.fetchval("SELECT status FROM bookings WHERE id = $1", session_id)
    return status


async def put(app: App, who: str, session_id: UUID, **body: Any) -> int:
    answer = await app.call(who, "PUT", f"/sessions/{session_id}", body)
    if answer.status == 200:
        assert answer.body == {"message": "Session updated successfully"}
    return answer.status


@pytest.mark.parametrize("spelling", ["booking_id", "bookingId"])
async def test_a_bookings_session_is_created_once_and_is_the_bookings_id(app: App, spelling: str) -> None:
    booking_id = await app.book()
    for who, status in (("kid", 201), ("kid", 200), ("teach", 200)):
        answer = await app.call(who, "POST", "/sessions", {spelling: str(booking_id)})
        assert (answer.status, answer.body) == (
            status,
            {"session_id": str(booking_id), "message": "Session created successfully"},
        )


async def test_of_many_who_create_at_once_one_is_told_201(app: App) -> None:
    booking_id = await app.book()
    answers = await asyncio.gather(
        *(app.call(who, "POST", "/sessions", {"booking_id": str(booking_id)}) for who in MEMBERS * 4)
    )
    assert sorted(answer.status for answer in answers) == [200] * 19 + [201]


@pytest.mark.parametrize("unknown", ["5d0f7f0e-3f4b-4c53-9d38-6a0c1f2e7b94", "x", "", "some-room"])
async def test_without_its_booking_there_is_no_session(app: App, unknown: str) -> None:
    answer = await app.call("kid", "POST", "/sessions", {"booking_id": unknown})
    assert (answer.status, answer.error) == (404, "booking_not_found")


async def test_a_session_is_not_created_by_its_room_name_or_by_strangers(app: App) -> None:
    booking_id = await app.book()
    for who in STRANGERS:
        answer = await app.call(who, "POST", "/sessions", {"booking_id": str(booking_id)})
        assert (answer.status, answer.body["message"]) == (403, "Access denied to this session")
    assert await app.pool.fetchval("SELECT requested_at FROM sessions") is None


async def test_neither_a_booking_nor_a_course_is_400(app: App) -> None:
    answer = await app.call("teach", "POST", "/sessions", {})
    assert (answer.status, answer.error) == (400, "validation_failed")
    assert answer.body["message"] == "courseId and startsAt are required"


async def test_the_document_is_s3s(app: App) -> None:
    booking_id = await app.book()
    booking = (await app.call("kid", "GET", f"/bookings/{booking_id}")).body
    assert await shown(app, booking_id) == {
        "session_id": str(booking_id),
        "booking_id": str(booking_id),
        "student_id": "kid",
        "teacher_id": "teach",
        "start_time": booking["start_time"],
        "end_time": booking["end_time"],
        "status": "pending",
        "meeting_data": {},
        "notes": [],
        "files": [],
    }
    assert booking["start_time"].endswith("Z")


@pytest.mark.parametrize("who", MEMBERS)
async def test_members_see_a_session_by_id_and_by_room_name(app: App, who: str) -> None:
    session_id = await app.book()
    room_name = await app.pool.fetchval("SELECT room_name FROM sessions")
    assert await shown(app, session_id, who) == (await app.call(who, "GET", f"/sessions/{room_name}")).body


@pytest.mark.parametrize("who", STRANGERS)
async def test_strangers_are_denied_by_the_contracts_sentence(app: App, who: str) -> None:
    session_id = await app.book()
    room_name = await app.pool.fetchval("SELECT room_name FROM sessions")
    before = await contents(app.pool)
    for ref in (session_id, room_name):
        for method, body in (("GET", None), ("PUT", {"notes": []}), ("PUT", {"status": "completed"})):
            answer = await app.call(who, method, f"/sessions/{ref}", body)
            assert (answer.status, answer.body) == (
                403,
                {"error": "forbidden", "message": "Access denied to this session", "status_code": 403},
            )
    assert await contents(app.pool) == before


async def test_a_token_that_no_longer_says_teacher_leads_nothing(app: App) -> None:
    session_id = await app.book()
    await app.pool.execute("UPDATE bookings SET teacher_id = 'mum2' WHERE id = $1", session_id)
    await app.pool.execute("UPDATE sessions SET host_id = 'mum2' WHERE id = $1", session_id)
    assert (await shown(app, session_id, "mum2"))["teacher_id"] == "mum2"
    assert await put(app, "mum2", session_id, status="active") == 403


async def test_who_was_kicked_sees_nothing_until_let_back_in(app: App) -> None:
    session_id = await app.book()
    async with app.pool.acquire() as connection:
        await participants.change(connection, session_id, "kid", was_kicked=True)
    for method, path, body in (
        ("GET", f"/sessions/{session_id}", None),
        ("PUT", f"/sessions/{session_id}", {"notes": []}),
        ("POST", "/sessions", {"booking_id": str(session_id)}),
        ("GET", f"/bookings/{session_id}/session", None),
    ):
        answer = await app.call("kid", method, path, body)
        assert (answer.status, answer.error) == (403, "kicked"), path


@pytest.mark.parametrize(
    "ref",
    [
        "5d0f7f0e-3f4b-4c53-9d38-6a0c1f2e7b94",
        "nothing",
        "0",
        "%00",
        "%20",
        "x" * 201,
        "x" * 4000,
        "%ED%A0%80",
        "%FF",
        "..%2F..",
        "👋",
    ],
)
async def test_what_names_no_session_is_404(app: App, ref: str) -> None:
    await app.book()
    for suffix in ("", "/messages", "/timeline", "/participants"):
        answer = await app.call("boss", "GET", f"/sessions/{ref}{suffix}")
        assert (answer.status, answer.error) == (404, "session_not_found")


async def test_notes_and_files_are_replaced_as_given(app: App) -> None:
    session_id = await app.book()
    for who in MEMBERS:
        assert await put(app, who, session_id, notes=[NOTE | {"text": who}]) == 200
        document = await shown(app, session_id)
        assert (document["notes"], document["files"]) == ([NOTE | {"text": who}], [])
    assert await put(app, "kid", session_id, files=[FILE, FILE], notes=None) == 200
    document = await shown(app, session_id)
    assert (document["notes"], document["files"]) == ([NOTE | {"text": "boss"}], [FILE, FILE])
    assert await put(app, "kid", session_id, files=[]) == 200
    assert (await shown(app, session_id))["files"] == []


async def test_a_time_in_another_zone_is_kept_in_utc(app: App) -> None:
    session_id = await app.book()
    assert await put(app, "kid", session_id, notes=[NOTE | {"timestamp": "2030-01-02T05:04:05+02:00"}]) == 200
    assert (await shown(app, session_id))["notes"] == [NOTE]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"status": "live"}, "status"),
        ({"status": 1}, "status"),
        ({"notes": "x"}, "notes"),
        ({"notes": [{"text": "x"}]}, "notes[0]"),
        ({"notes": [NOTE | {"text": "x" * 10_001}]}, "notes[0].text"),
        ({"notes": [NOTE | {"text": "a\x00"}]}, "notes[0].text"),
        ({"notes": [NOTE | {"timestamp": "yesterday"}]}, "notes[0].timestamp"),
        ({"notes": [NOTE | {"timestamp": "2030-01-02T03:04:05"}]}, "notes[0].timestamp"),
        ({"notes": [NOTE] * 501}, "notes"),
        ({"files": [FILE | {"url": "javascript:alert(1)"}]}, "files[0].url"),
        ({"files": [FILE | {"url": "x\nhttps://a"}]}, "files[0].url"),
        ({"files": [FILE | {"url": "https://" + "a" * 2000}]}, "files[0].url"),
        ({"files": [FILE | {"name": ""}]}, "files[0].name"),
        ({"files": [FILE | {"name": "n" * 256}]}, "files[0].name"),
        ({"recording_enabled": "yes"}, "recording_enabled"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_what_cannot_stand_in_a_session_is_400_and_named(app: App, body: dict[str, Any], field: str) -> None:
    session_id = await app.book()
    before = await contents(app.pool)
    answer = await app.call("teach", "PUT", f"/sessions/{session_id}", body)
    assert (answer.status, answer.error, list(answer.body["fields"])) == (400, "validation_failed", [field])
    assert await contents(app.pool) == before


@pytest.mark.parametrize("who", ["kid", "mum", "gran"])
async def test_only_the_host_moves_the_status_and_the_recording(app: App, who: str) -> None:
    session_id = await app.book()
    before = await contents(app.pool)
    for body in ({"status": "completed"}, {"recording_enabled": False}, {"status": "active", "notes": [NOTE]}):
        assert await put(app, who, session_id, **body) == 403
    assert await contents(app.pool) == before, "not even the notes beside it"


async def test_a_host_starts_and_ends_a_session_and_the_booking_is_completed(app: App) -> None:
    session_id = await app.book(status="confirmed")
    for _ in range(2):
        assert await put(app, "teach", session_id, status="active", notes=[NOTE]) == 200
    assert ((await shown(app, session_id))["status"], await booking_status(app, session_id)) == ("active", "confirmed")
    for _ in range(2):
        assert await put(app, "boss", session_id, status="completed") == 200
    document = await shown(app, session_id)
    assert (document["status"], document["notes"]) == ("completed", [NOTE])
    assert await booking_status(app, session_id) == "completed"
    events = await app.pool.fetch("SELECT seq, kind, user_id, data FROM session_events ORDER BY seq")
    assert [(row["seq"], row["user_id"], row["data"]["status"]) for row in events] == [
        (1, "teach", "live"),
        (2, "boss", "ended"),
    ]


@pytest.mark.parametrize("status", ["pending", "active"])
async def test_a_session_that_ended_does_not_go_back(app: App, status: str) -> None:
    session_id = await app.book()
    assert await put(app, "teach", session_id, status="completed") == 200
    answer = await app.call("teach", "PUT", f"/sessions/{session_id}", {"status": status, "notes": [NOTE]})
    assert (answer.status, answer.error) == (409, "invalid_transition")
    assert (await shown(app, session_id))["notes"] == [], "all or nothing"


async def test_chat_goes_on_after_the_end_of_a_completed_lesson(app: App) -> None:
    session_id = await app.book()
    await put(app, "teach", session_id, status="completed")
    assert (await app.call("kid", "POST", f"/sessions/{session_id}/messages", {"text": "one more"})).status == 201


@pytest.mark.parametrize(("status", "chat"), [("completed", 201), ("cancelled", 409)])
async def test_a_booking_that_is_over_ends_its_session(app: App, status: str, chat: int) -> None:
    session_id = await app.book(status="confirmed")
    assert (await app.call("teach", "PATCH", f"/bookings/{session_id}", {"status": status})).status == 200
    assert (await shown(app, session_id))["status"] == "completed"
    assert (await app.call("kid", "POST", f"/sessions/{session_id}/messages", {"text": "x"})).status == chat
    assert await put(app, "teach", session_id, status="completed") == 200, "it has ended already"
    assert await booking_status(app, session_id) == status


async def test_both_sides_end_it_at_once_and_it_ends_once(app: App) -> None:
    for _ in range(5):
        session_id = await app.book(status="confirmed")
        by_session, by_booking = await asyncio.gather(
            app.call("teach", "PUT", f"/sessions/{session_id}", {"status": "completed"}),
            app.call("teach", "PATCH", f"/bookings/{session_id}", {"status": "completed"}),
        )
        assert (by_session.status, by_booking.status) == (200, 200)
        assert await booking_status(app, session_id) == "completed"
        assert await app.pool.fetchval("SELECT count(*) FROM session_events WHERE session_id = $1", session_id) == 1
