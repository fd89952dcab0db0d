"""Recordings: started, stopped, and laid beside the timeline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from domain import bookings, recordings, sessions
from domain.booking_rules import BookingChange
from domain.errors import BadRequest, Conflict, EncountersError, Forbidden
from domain.live import Live
from domain.recordings import offset_in
from store import recordings as store
from store import sessions as session_store
from store.database import Pool
from store.recordings import Span
from tests.support.lessons import book, database_pool, identity, live_session, member
from tests.support.rooms import join, told, workers

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture
async def live(pool: Pool) -> AsyncIterator[Live]:
    async with workers(pool, 1) as (live,):
        yield live


async def status(pool: Pool, session_id: UUID) -> str:
    session = await session_store.find(pool, session_id)
    assert session is not None
    return session.status


def span(start: float, stop: float | None, number: int = 1) -> Span:
    stopped_at = None if stop is None else NOON + timedelta(seconds=stop)
    return Span(id=UUID(int=number), started_at=NOON + timedelta(seconds=start), stopped_at=stopped_at)


@pytest.mark.parametrize(
    ("at", "found"),
    [(-1, None), (0, (1, 0.0)), (59.5, (1, 59.5)), (60, (1, 60.0)), (61, None), (100, (2, 0.0)), (5000, (2, 4900.0))],
)
def test_a_moment_is_found_in_the_recording_that_ran_then(at: float, found: tuple[int, float] | None) -> None:
    place = offset_in([span(100, None, 2), span(0, 60, 1)], NOON + timedelta(seconds=at))
    assert (None if place is None else (place[0].id.int, place[1])) == found


def test_without_a_recording_no_moment_is_in_one() -> None:
    assert offset_in([], NOON) is None


async def test_a_recording_is_started_and_stopped_and_everybody_is_told_in_order(live: Live) -> None:
    session_id = await book(live.pool)
    watching = await join(live, session_id, "kid")
    begun = await recordings.start(live, member(session_id, "teach"), "some-room")
    assert (begun.status, begun.uploaded_by, begun.stopped_at) == ("recording", "teach", None)
    assert await status(live.pool, session_id) == "live"
    ended = await recordings.stop(live, member(session_id, "teach"), "some-room")
    assert (ended.id, ended.status, ended.duration_seconds) == (begun.id, "processing", 0)
    assert await status(live.pool, session_id) == "ended"
    news = [one for one in watching.events.all if one.event in ("recordingState", "sessionStatus")]
    assert [(one.event, one.data.get("state", one.data.get("status")), one.data["seq"]) for one in news] == [
        ("sessionStatus", "live", 1),
        ("recordingState", "recording", 2),
        ("recordingState", "processing", 3),
        ("sessionStatus", "ended", 4),
    ]
    assert [one["recording_id"] for one in told(watching, "recordingState")] == [str(begun.id)] * 2


async def test_the_session_goes_on_where_only_the_recording_ends(live: Live) -> None:
    session_id = await book(live.pool)
    await recordings.start(live, member(session_id, "teach"), "x")
    await recordings.stop(live, member(session_id, "boss"), "x", end=False)
    assert await status(live.pool, session_id) == "live"
    again = await recordings.start(live, member(session_id, "teach"), "x")
    found = await store.of_session(live.pool, session_id, limit=10)
    assert found[0].id == again.id
    assert [one.status for one in found] == ["recording", "processing"]


async def test_of_many_who_start_at_once_one_does(live: Live) -> None:
    session_id = await book(live.pool)
    starts = [recordings.start(live, member(session_id, "teach"), "x") for _ in range(5)]
    outcomes = await asyncio.gather(*starts, return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, BaseException)]
    assert len(refused) == 4
    assert {one.code for one in refused if isinstance(one, Conflict)} == {"already_recording"}
    assert await live.pool.fetchval("SELECT count(*) FROM recordings") == 1


@pytest.mark.parametrize("who", ["kid", "mum"])
async def test_only_the_host_records(live: Live, who: str) -> None:
    session_id = await book(live.pool)
    with pytest.raises(Forbidden, match=r"^Not authorized to record session:the-room$"):
        await recordings.start(live, member(session_id, who), "the-room")
    with pytest.raises(Forbidden, match=r"^Not authorized to stop recording session:the-room$"):
        await recordings.stop(live, member(session_id, who), "the-room")
    assert await live.pool.fetchval("SELECT count(*) FROM recordings") == 0


async def test_what_may_not_be_recorded_stays_as_it_is(live: Live) -> None:
    session_id = await live_session(live.pool)  # made without recording
    with pytest.raises(BadRequest, match=r"^Recording is not enabled for this session$"):
        await recordings.start(live, member(session_id, "teach"), "x")
    assert await status(live.pool, session_id) == "scheduled"
    with pytest.raises(Conflict) as refusal:
        await recordings.stop(live, member(session_id, "teach"), "x")
    assert refusal.value.code == "not_recording"


async def test_a_session_that_has_ended_is_not_recorded_again(live: Live) -> None:
    session_id = await book(live.pool)
    await sessions.move(live, member(session_id, "teach"), "ended")
    with pytest.raises(EncountersError) as refusal:
        await recordings.start(live, member(session_id, "teach"), "x")
    assert refusal.value.code == "invalid_transition"


async def test_the_end_of_a_session_is_the_end_of_its_recording(live: Live) -> None:
    session_id = await book(live.pool)
    watching = await join(live, session_id, "kid")
    await recordings.start(live, member(session_id, "teach"), "x")
    await sessions.move(live, member(session_id, "teach"), "ended")
    assert [one["state"] for one in told(watching, "recordingState")] == ["recording", "processing"]
    assert await store.running(live.pool, session_id) is None


async def test_a_cancelled_booking_ends_its_recording(live: Live) -> None:
    session_id = await book(live.pool, status="confirmed")
    await recordings.start(live, member(session_id, "teach"), "x")
    await bookings.change(live, identity("teach"), session_id, BookingChange(status="cancelled"))
    assert await store.running(live.pool, session_id) is None


async def test_a_recording_that_runs_is_not_deleted(live: Live) -> None:
    session_id = await book(live.pool)
    begun = await recordings.start(live, member(session_id, "teach"), "x")
    with pytest.raises(Conflict) as refusal:
        await recordings.delete(live, member(session_id, "teach"), begun.id)
    assert refusal.value.code == "recording_running"
    await recordings.stop(live, member(session_id, "teach"), "x")
    with pytest.raises(Forbidden):
        await recordings.delete(live, member(session_id, "kid"), begun.id)
    await recordings.delete(live, member(session_id, "teach"), begun.id)
    assert await store.of_session(live.pool, session_id, limit=1) == []
    noted = await live.pool.fetch("SELECT actor_id, action, subject FROM audit_log WHERE action ~ '^recording'")
    assert [tuple(row) for row in noted] == [("teach", "recording_deleted", "teach")]
