"""Whom providers are to be told of: each person one worker's, until it is done."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from store import tellings
from store.database import Pool
from tests.support.lessons import book, database_pool, live_session, make_course
from tests.support.meetings import meet


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def test_a_person_is_told_of_by_one_worker_and_once(pool: Pool) -> None:
    session_id = await book(pool)
    await meet(pool, session_id)
    await tellings.add(pool, session_id, "kid")

    held = await tellings.claim(pool)

    assert held is not None
    assert (held.session_id, held.user_id) == (session_id, "kid")
    await tellings.add(pool, session_id, "kid")
    assert await tellings.claim(pool) is None
    await tellings.done(pool, held)
    again = await tellings.claim(pool)  # it has changed meanwhile
    assert again is not None
    await tellings.done(pool, again)
    assert await pool.fetchval("SELECT count(*) FROM meeting_tellings") == 0


async def test_a_provider_that_cannot_be_told_is_told_ever_less_often(pool: Pool) -> None:
    session_id = await book(pool)
    await meet(pool, session_id)
    await tellings.add(pool, session_id, "kid")
    pauses = []
    for _ in range(7):
        held = await tellings.claim(pool)
        assert held is not None
        await tellings.release(pool, held)
        pauses.append(await pool.fetchval("SELECT extract(epoch FROM retry_at - now())::float8 FROM meeting_tellings"))
        assert await tellings.claim(pool) is None
        await pool.execute("UPDATE meeting_tellings SET retry_at = now()")

    assert pauses == [pytest.approx(seconds, abs=1) for seconds in (2, 4, 8, 16, 32, 60, 60)]


async def test_nothing_is_to_be_told_where_there_is_no_meeting(pool: Pool) -> None:
    course_id = await make_course(pool, students=["kid"])
    session_ids = [await live_session(pool, course_id=course_id) for _ in range(3)]
    await meet(pool, session_ids[1])

    await tellings.add(pool, session_ids[0], "kid")
    async with pool.acquire() as connection:
        await tellings.add_of_course(connection, course_id, "kid")

    held = await tellings.claim(pool)
    assert held is not None
    assert held.session_id == session_ids[1]
    assert await tellings.claim(pool) is None
