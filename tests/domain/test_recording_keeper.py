"""What time does to recordings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from domain import recordings
from domain.live import Live
from domain.recording_keeper import LONGEST, NO_FILE, WAITS_FOR_FILE, RecordingKeeper
from store import files
from store import recordings as store
from store.database import Pool
from store.ids import new_id
from tests.support.lessons import book, database_pool, member
from tests.support.rooms import Seat, join, told, workers


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture
async def live(pool: Pool) -> AsyncIterator[Live]:
    async with workers(pool, 1) as (live,):
        yield live


def keeper(live: Live, later: timedelta = timedelta(), retention: timedelta | None = None) -> RecordingKeeper:
    """One whose clock is so much ahead."""
    return RecordingKeeper(live, retention, clock=lambda: datetime.now(UTC) + later)


async def recorded(live: Live, *, stopped: bool) -> tuple[UUID, UUID, Seat]:
    """A session, its recording, and somebody who watches."""
    session_id = await book(live.pool)
    watching = await join(live, session_id, "kid")
    recording = await recordings.start(live, member(session_id, "teach"), "x")
    if stopped:
        await recordings.stop(live, member(session_id, "teach"), "x", end=False)
    return session_id, recording.id, watching


async def with_file(pool: Pool, session_id: UUID) -> UUID:
    """A film that was sent for the session and can be watched: its recording's id."""
    recording_id, file_id = new_id(), uuid4()
    async with pool.acquire() as connection, connection.transaction():
        await files.insert(
            connection,
            file_id=file_id,
            key=f"recording/{file_id}",
            owner_id="teach",
            purpose="recording",
            name="lesson.webm",
            size=100,
            session_id=session_id,
            details={},
        )
        await store.insert_with_file(
            connection, session_id, recording_id=recording_id, file_id=file_id, uploaded_by="teach"
        )
        await store.finish(connection, recording_id, "completed", seconds=60.0)
    return recording_id


async def test_a_recording_that_nobody_stops_is_stopped_and_the_session_goes_on(live: Live) -> None:
    session_id, recording_id, watching = await recorded(live, stopped=False)
    assert await keeper(live, LONGEST - timedelta(minutes=1)).stop_forgotten() == 0
    assert await keeper(live, LONGEST + timedelta(minutes=1)).stop_forgotten() == 1
    assert await keeper(live, LONGEST + timedelta(minutes=1)).stop_forgotten() == 0
    found = await store.find(live.pool, recording_id)
    assert found is not None
    assert found.status == "processing"
    assert [one["state"] for one in told(watching, "recordingState")] == ["recording", "processing"]
    assert await live.pool.fetchval("SELECT status FROM sessions WHERE id = $1", session_id) == "live"


async def test_a_recording_whose_file_never_comes_has_failed(live: Live) -> None:
    _, recording_id, watching = await recorded(live, stopped=True)
    assert await keeper(live, WAITS_FOR_FILE - timedelta(minutes=1)).fail_without_file() == 0
    for number in (1, 0):
        assert await keeper(live, WAITS_FOR_FILE + timedelta(minutes=1)).fail_without_file() == number
    found = await store.find(live.pool, recording_id)
    assert found is not None
    assert (found.status, found.failure) == ("failed", NO_FILE)
    assert [one["state"] for one in told(watching, "recordingState")] == ["recording", "processing", "failed"]


async def test_one_that_runs_and_one_that_has_its_file_are_left_alone(live: Live) -> None:
    session_id, running, _ = await recorded(live, stopped=False)
    complete = await with_file(live.pool, session_id)
    assert await keeper(live, WAITS_FOR_FILE * 2).fail_without_file() == 0
    found = await store.of_session(live.pool, session_id, limit=10)
    assert {one.id: one.status for one in found} == {running: "recording", complete: "completed"}


async def test_old_recordings_go_with_their_files_and_are_noted(live: Live) -> None:
    session_id = await book(live.pool)
    old = [await with_file(live.pool, session_id) for _ in range(3)]
    week = timedelta(days=7)
    assert await keeper(live, week * 2).forget() == 0, "without a bound they stay"
    assert await keeper(live, week - timedelta(hours=1), week).forget() == 0
    assert await keeper(live, week + timedelta(hours=1), week).forget() == 3
    assert await live.pool.fetchval("SELECT count(*) FROM recordings") == 0
    assert await live.pool.fetchval("SELECT count(*) FROM files") == 0
    assert await live.pool.fetchval("SELECT count(*) FROM objects_to_delete") == 3
    noted = await live.pool.fetch("SELECT actor_id, action, subject, details FROM audit_log ORDER BY id")
    assert [(row["actor_id"], row["action"], row["subject"]) for row in noted] == [
        ("retention", "recording_expired", "teach")
    ] * 3
    assert {row["details"]["recording_id"] for row in noted} == {str(one) for one in old}


async def test_what_two_workers_forget_at_once_is_noted_once(live: Live) -> None:
    session_id, other_id = await book(live.pool), await book(live.pool)
    for one in (session_id, other_id, session_id, other_id):
        await with_file(live.pool, one)
    later = timedelta(days=8)
    forgotten = await asyncio.gather(*(keeper(live, later, timedelta(days=7)).forget() for _ in range(3)))
    assert sum(forgotten) == 4
    assert await live.pool.fetchval("SELECT count(*) FROM audit_log") == 4


async def test_one_that_still_runs_is_not_forgotten(live: Live) -> None:
    await recorded(live, stopped=False)
    await recorded(live, stopped=True)
    assert await keeper(live, timedelta(days=30), timedelta(days=1)).forget() == 0
