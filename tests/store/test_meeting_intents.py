"""Rooms that were asked for: one at a time for a session and a provider, and none forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from store import meeting_intents
from store.database import Pool
from store.meeting_intents import INTENT_SECONDS, Intent
from store.meetings import MAX_ATTEMPTS
from tests.support.lessons import database_pool


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def fulfilled(pool: Pool, intent: Intent) -> bool:
    async with pool.acquire() as connection, connection.transaction():
        return await meeting_intents.fulfil(connection, intent)


async def due(pool: Pool) -> list[Intent]:
    return await meeting_intents.claim_due(pool, "daily", limit=10)


async def test_who_asks_again_means_the_same_room_until_it_is_made(pool: Pool) -> None:
    session_id = uuid4()
    first = await meeting_intents.declare(pool, session_id, "daily", room_name="one")

    assert await meeting_intents.declare(pool, session_id, "daily", room_name="two") == first
    assert (await meeting_intents.declare(pool, session_id, "jitsi", room_name="three")).room_name == "three"
    assert (await meeting_intents.declare(pool, uuid4(), "daily", room_name="four")).room_name == "four"

    assert await fulfilled(pool, first)
    assert not await fulfilled(pool, first)
    assert (await meeting_intents.declare(pool, session_id, "daily", room_name="five")).room_name == "five"


async def test_what_is_asked_for_now_is_not_due_and_what_is_given_up_is(pool: Pool) -> None:
    left = await meeting_intents.declare(pool, uuid4(), "daily", room_name="left")
    given_up = await meeting_intents.declare(pool, uuid4(), "daily", room_name="given-up")
    kept = await meeting_intents.declare(pool, uuid4(), "daily", room_name="kept")
    assert await fulfilled(pool, kept)
    for intent in (given_up, kept):
        await meeting_intents.give_up(pool, intent)

    assert await due(pool) == [given_up]
    seconds = await pool.fetchval(
        "SELECT extract(epoch FROM due_at - now())::float8 FROM meeting_intents WHERE room_name = $1", left.room_name
    )
    assert seconds == pytest.approx(INTENT_SECONDS, abs=5)


async def test_asking_again_gives_as_much_time_again(pool: Pool) -> None:
    intent = await meeting_intents.declare(pool, uuid4(), "daily", room_name="one")
    await pool.execute("UPDATE meeting_intents SET due_at = now()")

    await meeting_intents.declare(pool, intent.session_id, "daily", room_name="two")

    assert await due(pool) == []


async def test_a_room_that_is_being_deleted_becomes_no_meeting_and_nobody_gets_its_name(pool: Pool) -> None:
    intent = await meeting_intents.declare(pool, uuid4(), "daily", room_name="one")
    await pool.execute("UPDATE meeting_intents SET due_at = now()")
    assert await due(pool) == [intent]

    assert not await fulfilled(pool, intent)
    again = await meeting_intents.declare(pool, intent.session_id, "daily", room_name="two")
    assert again.room_name == "two"
    await meeting_intents.forget(pool, intent)
    assert await fulfilled(pool, again)
    assert await pool.fetchval("SELECT count(*) FROM meeting_intents") == 0


async def test_each_is_one_workers_to_delete_and_is_tried_ever_less_often(pool: Pool) -> None:
    for n in range(20):
        await meeting_intents.give_up(pool, await meeting_intents.declare(pool, uuid4(), "daily", room_name=f"r-{n}"))

    found = await asyncio.gather(*(meeting_intents.claim_due(pool, "daily", limit=5) for _ in range(6)))
    found.append(await meeting_intents.claim_due(pool, "daily", limit=100))

    assert sorted(one.room_name for some in found for one in some) == sorted(f"r-{n}" for n in range(20))
    await pool.execute("DELETE FROM meeting_intents WHERE room_name <> 'r-0'")
    pauses = []
    for _ in range(4):
        pauses.append(await pool.fetchval("SELECT extract(epoch FROM due_at - now())::float8 FROM meeting_intents"))
        await pool.execute("UPDATE meeting_intents SET due_at = now()")
        assert len(await due(pool)) == 1
    assert [round(pause, -1) for pause in pauses] == [30, 60, 120, 240]
    await pool.execute("UPDATE meeting_intents SET due_at = now(), attempts = $1", MAX_ATTEMPTS - 1)
    assert len(await due(pool)) == 1
    assert await pool.fetchval("SELECT due_at = 'infinity' FROM meeting_intents"), "nobody will delete it"
