"""A session's status, and the acts that change it: one act with its booking, from either side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import get_args
from uuid import UUID

import pytest

from domain import bookings, sessions
from domain.booking_rules import BookingChange
from domain.errors import Conflict, Forbidden
from domain.live import Live
from store import bookings as booking_store
from store import sessions as session_store
from store.bookings import Status as BookingStatus
from store.database import Pool
from store.sessions import Session, Status
from tests.support.lessons import book, database_pool, identity, live_session, member
from tests.support.rooms import join, told, workers

STATUSES = get_args(Status)
FORWARD = {("scheduled", "live"), ("scheduled", "ended"), ("live", "ended")}


@pytest.mark.parametrize("now", STATUSES)
@pytest.mark.parametrize("wanted", STATUSES)
def test_a_status_only_moves_forward(now: Status, wanted: Status) -> None:
    if now == wanted or (now, wanted) in FORWARD:
        sessions.check_transition(now, wanted)
    else:
        with pytest.raises(Conflict) as refusal:
            sessions.check_transition(now, wanted)
        assert refusal.value.code == "invalid_transition"


def test_both_vocabularies_say_the_same() -> None:
    assert dict(sessions.S3_STATUS) == {"scheduled": "pending", "live": "active", "ended": "completed"}
    assert {sessions.STATUS_OF_S3[word]: word for word in sessions.STATUS_OF_S3} == dict(sessions.S3_STATUS)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture
async def live(pool: Pool) -> AsyncIterator[Live]:
    async with workers(pool, 1) as (live,):
        yield live


async def states(pool: Pool, session_id: UUID) -> tuple[Status, BookingStatus, bool]:
    session = await session_store.find(pool, session_id)
    booking = await booking_store.find(pool, session_id)
    assert session is not None
    assert booking is not None
    assert (session.ends_at is not None) == (session.status == "ended")
    return session.status, booking.status, session.chat_open


@pytest.mark.parametrize("before", ["pending", "confirmed"])
@pytest.mark.parametrize("started", [False, True])
async def test_ending_a_session_completes_its_booking(live: Live, before: BookingStatus, started: bool) -> None:
    session_id = await book(live.pool, status=before)
    watching = await join(live, session_id, "kid")
    if started:
        await sessions.move(live, member(session_id, "teach"), "live")
        assert await states(live.pool, session_id) == ("live", before, True)
    for _ in range(2):
        ended = await sessions.move(live, member(session_id, "teach"), "ended")
        assert (ended.status, ended.booking_status) == ("ended", "completed")
    assert await states(live.pool, session_id) == ("ended", "completed", True)
    assert [data["status"] for data in told(watching, "sessionStatus")] == ["live"] * started + ["ended"]
    assert watching.seqs == list(range(1, len(watching.seqs) + 1))


@pytest.mark.parametrize(("wanted", "chat_open"), [("completed", True), ("cancelled", False)])
@pytest.mark.parametrize("started", [False, True])
async def test_a_booking_that_is_over_ends_its_session(
    live: Live, wanted: BookingStatus, chat_open: bool, started: bool
) -> None:
    session_id = await book(live.pool, status="confirmed")
    watching = await join(live, session_id, "kid")
    if started:
        await sessions.move(live, member(session_id, "teach"), "live")
    for _ in range(2):
        await bookings.change(live, identity("teach"), session_id, BookingChange(status=wanted))
    assert await states(live.pool, session_id) == ("ended", wanted, chat_open)
    assert [data["status"] for data in told(watching, "sessionStatus")] == ["live"] * started + ["ended"]


async def test_after_the_end_neither_side_goes_back(live: Live) -> None:
    session_id = await book(live.pool, status="confirmed")
    await sessions.move(live, member(session_id, "teach"), "ended")
    earlier: list[Status] = ["live", "scheduled"]
    for status in earlier:
        with pytest.raises(Conflict):
            await sessions.move(live, member(session_id, "boss"), status)
    with pytest.raises(Conflict):
        await bookings.change(live, identity("teach"), session_id, BookingChange(status="cancelled"))
    assert await states(live.pool, session_id) == ("ended", "completed", True)


@pytest.mark.parametrize("who", ["kid", "mum", "gran"])
async def test_only_the_host_moves_it(live: Live, who: str) -> None:
    session_id = await book(live.pool)
    with pytest.raises(Forbidden):
        await sessions.move(live, member(session_id, who), "ended")
    wanted: list[tuple[Status | None, bool | None]] = [("ended", None), (None, False)]
    for status, recording in wanted:
        with pytest.raises(Forbidden):
            await sessions.update(
                live, member(session_id, who), status=status, notes=None, files=None, recording_enabled=recording
            )
    assert await states(live.pool, session_id) == ("scheduled", "pending", True)


async def test_an_update_is_all_or_nothing(live: Live) -> None:
    session_id = await book(live.pool)
    await sessions.move(live, member(session_id, "teach"), "ended")

    async def update(status: Status | None) -> Session:
        return await sessions.update(
            live,
            member(session_id, "teach"),
            status=status,
            notes=[{"text": "x"}],
            files=[],
            recording_enabled=False,
        )

    with pytest.raises(Conflict):
        await update("live")
    session = await session_store.find(live.pool, session_id)
    assert session is not None
    assert (session.notes, session.recording_enabled) == ([], True)
    updated = await update(None)
    assert (updated.notes, updated.recording_enabled, updated.status) == ([{"text": "x"}], False, "ended")


async def test_the_ack_speaks_s2s_words(live: Live) -> None:
    session = await session_store.find(live.pool, await book(live.pool))
    assert session is not None
    rest = sessions.document(session)
    ack = sessions.realtime_document(session, status="live", settings=session.settings, pinned_message_id=None)
    assert (rest["status"], ack["status"]) == ("pending", "live")
    assert ack == rest | {
        "room_name": session.room_name,
        "kind": "booking",
        "title": "",
        "status": "live",
        "locked": False,
        "waitingRoom": False,
        "chatMuted": False,
        "slowModeSeconds": 0,
        "whiteboardLocked": False,
        "recordingConsent": False,
        "maxParticipants": None,
        "pinnedMessageId": None,
        "recordingId": None,
    }


async def test_a_class_starts_and_ends_over_its_own_machine(live: Live) -> None:
    session_id = await live_session(live.pool)
    watching = await join(live, session_id, "kid")
    for status in ("live", "live", "ended", "ended"):
        assert (await sessions.move(live, member(session_id, "teach"), status)).status == status
    with pytest.raises(Conflict):
        await sessions.move(live, member(session_id, "teach"), "live")
    assert [data["status"] for data in told(watching, "sessionStatus")] == ["live", "ended"]


async def test_the_enrolled_are_told_of_a_start_once_and_not_of_an_end(live: Live) -> None:
    session_id = await live_session(live.pool, students=("kid", "kid2"), title="Vectors")
    for status in ("live", "live", "ended"):
        await sessions.move(live, member(session_id, "teach"), status)
    rows = await live.pool.fetch(
        "SELECT n.kind, n.title, n.body, n.data, r.user_id FROM notifications n"
        " JOIN notification_recipients r ON r.notification_id = n.id ORDER BY r.user_id"
    )
    assert [row["user_id"] for row in rows] == ["kid", "kid2"]
    session = await session_store.find(live.pool, session_id)
    assert session is not None
    for row in rows:
        assert (row["kind"], row["title"], row["body"]) == (
            "session_started",
            "Vectors has begun",
            "In the course Algebra",
        )
        assert row["data"] == {
            "session_id": str(session_id),
            "course_id": str(session.course_id),
            "room_name": session.room_name,
            "starts_at": session.starts_at.isoformat().replace("+00:00", "Z"),
        }


async def test_in_a_class_the_host_alone_writes_notes_and_files(live: Live) -> None:
    session_id = await live_session(live.pool)

    async def write(who: str) -> Session:
        return await sessions.update(
            live, member(session_id, who), status=None, notes=[{"text": "x"}], files=None, recording_enabled=None
        )

    with pytest.raises(Forbidden) as refusal:
        await write("kid")
    assert refusal.value.code == "not_host"
    assert (await write("teach")).notes == [{"text": "x"}]
