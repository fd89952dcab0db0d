"""Meetings in the database: one at a time, and rooms that are to be deleted, each for one worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest

from store import meeting_intents, meetings
from store.database import Pool
from store.meeting_intents import Intent
from store.meetings import MAX_ATTEMPTS
from tests.support.lessons import book, database_pool
from tests.support.meetings import meet


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def claimed(pool: Pool, limit: int = 10) -> set[UUID]:
    return {meeting.id for meeting in await meetings.claim_over(pool, "peer", limit=limit)}


async def test_a_meeting_comes_back_as_it_was_stored(pool: Pool) -> None:
    session_id = await book(pool)
    assert await meetings.current(pool, session_id) is None

    made = await meet(pool, session_id)

    assert await meetings.current(pool, session_id) == await meetings.find(pool, made.id) == made
    assert (made.generation, made.data, made.url) == (1, {"a": [1, None]}, None)
    assert await meetings.find(pool, uuid4()) is None


async def test_the_next_one_ends_the_one_before(pool: Pool) -> None:
    session_id = await book(pool)
    first = await meet(pool, session_id)
    second = await meet(pool, session_id)

    assert await meetings.current(pool, session_id) == second
    assert (first.generation, second.generation) == (1, 2)
    assert await claimed(pool) == {first.id}


async def test_a_session_has_one_meeting_at_a_time_whoever_writes(pool: Pool) -> None:
    session_id = await book(pool)
    await meet(pool, session_id)
    with pytest.raises(asyncpg.UniqueViolationError, match="meetings_one_at_a_time"):
        await pool.execute(
            "INSERT INTO meetings (id, session_id, generation, provider, room_id, room_name, closes_at, retry_at)"
            " VALUES (gen_random_uuid(), $1, 2, 'peer', 'r', 'r', now(), now())",
            session_id,
        )


async def test_a_meeting_that_has_closed_is_none(pool: Pool) -> None:
    session_id = await book(pool)
    closed = await meet(pool, session_id, hours=-1)

    assert await meetings.current(pool, session_id) is None
    assert await claimed(pool) == {closed.id}


async def test_the_rooms_of_ended_sessions_are_to_be_deleted_and_no_others(pool: Pool) -> None:
    going_on, over = await book(pool), await book(pool)
    await meet(pool, going_on)
    ended = await meet(pool, over)
    await pool.execute("UPDATE sessions SET status = 'ended' WHERE id = $1", over)

    assert await claimed(pool) == {ended.id}
    assert await claimed(pool) == set()  # not before its time


async def test_a_room_is_looked_at_when_its_time_has_come_and_not_before(pool: Pool) -> None:
    """However many lessons are planned: those that look for what is over read nothing of them."""

    async def looked_at() -> dict[UUID, bool]:
        rows = await pool.fetch("SELECT id, retry_at = closes_at AS last, retry_at <= now() AS due FROM meetings")
        assert all(row["last"] != row["due"] for row in rows)
        return {row["id"]: row["due"] for row in rows}

    session_ids = [await book(pool) for _ in range(4)]
    left, ended, replaced, over = [(await meet(pool, session_id)).id for session_id in session_ids]
    assert not any((await looked_at()).values())

    await meetings.end(pool, ended)
    successor = (await meet(pool, session_ids[2])).id
    await pool.execute("UPDATE sessions SET status = 'ended' WHERE id = $1", session_ids[3])

    assert await looked_at() == {left: False, ended: True, replaced: True, over: True, successor: False}
    assert await claimed(pool) == {ended, replaced, over}


async def test_a_provider_deletes_its_own_rooms(pool: Pool) -> None:
    mine = await meet(pool, await book(pool), hours=-1)
    theirs = await meet(pool, await book(pool), hours=-1, provider="daily")

    assert await claimed(pool) == {mine.id}
    assert [meeting.id for meeting in await meetings.claim_over(pool, "daily", limit=10)] == [theirs.id]


async def test_the_room_of_a_session_that_is_gone_is_still_to_be_deleted(pool: Pool) -> None:
    session_id, other = await book(pool), await book(pool)
    left = await meet(pool, session_id, provider="daily")
    await meetings.set_deleted(pool, (await meet(pool, other, provider="jitsi")).id)

    await pool.execute("DELETE FROM sessions WHERE id = ANY ($1::uuid[])", [session_id, other])

    assert await pool.fetchval("SELECT count(*) FROM meetings") == 0
    assert await meeting_intents.claim_due(pool, "daily", limit=10) == [
        Intent(room_name=left.room_name, session_id=session_id, provider="daily")
    ]
    assert await meeting_intents.claim_due(pool, "jitsi", limit=10) == []


async def test_a_room_that_was_deleted_is_not_deleted_again(pool: Pool) -> None:
    session_id = await book(pool)
    made = await meet(pool, session_id)

    await meetings.set_deleted(pool, made.id)
    await meetings.set_deleted(pool, made.id)

    assert await meetings.current(pool, session_id) is None
    assert await claimed(pool) == set()


async def test_a_room_that_cannot_be_deleted_is_tried_ever_less_often(pool: Pool) -> None:
    await meet(pool, await book(pool), hours=-1)
    pauses = []
    for _ in range(9):
        assert len(await claimed(pool)) == 1
        pauses.append(await pool.fetchval("SELECT extract(epoch FROM retry_at - now())::float8 FROM meetings"))
        await pool.execute("UPDATE meetings SET retry_at = now()")

    assert [round(pause, -1) for pause in pauses] == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    await pool.execute("UPDATE meetings SET attempts = $1", MAX_ATTEMPTS - 1)
    assert len(await claimed(pool)) == 1
    assert await pool.fetchval("SELECT retry_at = 'infinity' FROM meetings"), "nobody will delete it"


async def test_each_room_is_one_workers_to_delete(pool: Pool) -> None:
    ids = {(await meet(pool, await book(pool), hours=-1)).id for _ in range(20)}

    found = await asyncio.gather(*(claimed(pool, limit=5) for _ in range(6)))

    assert sum(len(one) for one in found) <= len(ids)
    rest = await claimed(pool, limit=100)
    assert set().union(rest, *found) == ids
    assert sum(len(one) for one in found) + len(rest) == len(ids)
