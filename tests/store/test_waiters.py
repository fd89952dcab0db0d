"""Who waits to be let in: noted by worker, gone with it, ended once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import cast
from uuid import UUID

import pytest

from store import participants, visits, waiters
from store.database import Pool
from tests.support.lessons import MEMBERS, book, database_pool
from tests.support.plans import walk_of

A, B = UUID(int=1), UUID(int=2)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        for worker_id in (A, B):
            await visits.renew_lease(pool, worker_id)
        yield pool


async def wait(pool: Pool, session_id: UUID, *user_ids: str, worker_id: UUID = A) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await waiters.add(connection, worker_id, [(session_id, user_id) for user_id in user_ids])


async def waiting(pool: Pool, session_id: UUID, *, limit: int = 100) -> list[str]:
    return [waiter.user_id for waiter in await waiters.of_session(pool, session_id, limit=limit)]


async def settle(pool: Pool, session_id: UUID, *user_ids: str) -> list[str]:
    async with pool.acquire() as connection, connection.transaction():
        return [waiter.user_id for waiter in await waiters.settle(connection, session_id, user_ids)]


async def test_whoever_has_waited_longest_stands_first_with_their_name_and_role(pool: Pool) -> None:
    session_id = await book(pool)
    for user_id in ("mum", "kid", "gran"):
        await wait(pool, session_id, user_id)
    await wait(pool, session_id, "mum", worker_id=B)
    found = await waiters.of_session(pool, session_id, limit=10)
    assert [(w.user_id, w.name, w.role) for w in found] == [
        ("mum", "Mum", "parent"),
        ("kid", "Kid", "student"),
        ("gran", "Gran", "parent"),
    ]
    assert found == sorted(found, key=lambda waiter: waiter.since)
    assert await waiting(pool, session_id, limit=1) == ["mum"]
    assert await waiting(pool, await book(pool)) == []


async def test_who_has_no_name_is_called_by_their_id(pool: Pool) -> None:
    session_id = await book(pool)
    await pool.execute("UPDATE users SET first_name = '' WHERE id = 'kid'")
    await wait(pool, session_id, "kid")
    assert (await waiters.of_session(pool, session_id, limit=1))[0].name == "kid"


async def test_waiting_ends_with_the_last_worker_that_has_the_person(pool: Pool) -> None:
    session_id = await book(pool)
    await wait(pool, session_id, "kid", "mum")
    await wait(pool, session_id, "kid", worker_id=B)
    asked = [(session_id, "kid"), (session_id, "mum"), (session_id, "gran")]
    assert await waiters.end(pool, A, asked) == [False, True, False]
    assert await waiting(pool, session_id) == ["kid"]
    assert await waiters.end(pool, A, asked) == [False, False, False]
    assert await waiters.end(pool, B, [(session_id, "kid")]) == [True]
    assert await waiters.end(pool, B, []) == []


async def test_what_a_lost_try_ended_is_ended(pool: Pool) -> None:
    session_id = await book(pool)
    assert await waiters.end(pool, A, [(session_id, "kid")], again=True) == [True]


async def test_settling_ends_it_everywhere_and_says_who_waited(pool: Pool) -> None:
    session_id, other = await book(pool), await book(pool)
    for user_id in ("mum", "kid", "gran"):
        await wait(pool, session_id, user_id)
    await wait(pool, session_id, "kid", worker_id=B)
    await wait(pool, other, "kid")
    assert await settle(pool, session_id, "kid", "mum", "teach", "nobody") == ["mum", "kid"]
    assert await waiting(pool, session_id) == ["gran"]
    assert await waiting(pool, other) == ["kid"]
    assert await settle(pool, session_id, "kid") == []


async def test_a_dead_workers_people_do_not_wait(pool: Pool) -> None:
    session_id = await book(pool)
    await wait(pool, session_id, "kid")
    await wait(pool, session_id, "mum", worker_id=B)
    await pool.execute("UPDATE workers SET lease_until = now() - interval '1 hour' WHERE id = $1", A)
    assert await visits.close_expired(pool) == []
    assert await waiting(pool, session_id) == ["mum"]
    assert await pool.fetchval("SELECT count(*) FROM session_waiters") == 1


async def test_those_who_wait_are_noted_again_unless_they_were_admitted(pool: Pool) -> None:
    session_id = await book(pool)
    await wait(pool, session_id, "kid")
    async with pool.acquire() as connection:
        await participants.admit(connection, session_id, ["mum"])
    await waiters.keep(pool, A, [(session_id, "kid"), (session_id, "mum"), (session_id, "gran")])
    assert await waiting(pool, session_id) == ["kid", "gran"]
    await waiters.keep(pool, A, [])


async def test_each_session_has_a_list_of_its_own(pool: Pool) -> None:
    one, other, empty = [await book(pool) for _ in range(3)]
    for user_id in ("mum", "kid", "gran"):
        await wait(pool, one, user_id)
    await wait(pool, other, "kid", worker_id=B)
    found = await waiters.of_sessions(pool, [one, other, empty], limit=2)
    assert {session_id: [w.user_id for w in found[session_id]] for session_id in found} == {
        one: ["mum", "kid"],
        other: ["kid"],
        empty: [],
    }
    assert await waiters.of_sessions(pool, [], limit=2) == {}


async def test_on_whom_was_decided_is_found_by_their_rows(pool: Pool) -> None:
    session_id = await book(pool)
    people = ["kid", "mum", "gran", "boss"]
    keys = [(session_id, user_id) for user_id in people]
    await wait(pool, session_id, *people)
    await wait(pool, session_id, *people, worker_id=B)
    assert await waiters.settled(pool, A, keys) == []
    await settle(pool, session_id, "mum", "gran", "boss")
    await wait(pool, session_id, "gran", worker_id=B)
    async with pool.acquire() as connection:
        await participants.admit(connection, session_id, ["mum"])
        await participants.change(connection, session_id, "boss", was_kicked=True)
    assert sorted(await waiters.settled(pool, A, keys)) == [
        (session_id, "gran", "refused"),
        (session_id, "mum", "admitted"),
    ], "the kick is in the log"
    assert await waiters.settled(pool, B, keys) == [(session_id, "mum", "admitted")]
    assert await waiters.settled(pool, A, []) == []


async def test_whose_row_went_with_the_lease_was_not_turned_away(pool: Pool) -> None:
    session_id = await book(pool)
    await wait(pool, session_id, "kid")
    await pool.execute("UPDATE workers SET lease_until = now() - interval '1 hour' WHERE id = $1", A)
    await visits.close_expired(pool)
    assert await waiting(pool, session_id) == []
    assert await waiters.settled(pool, A, [(session_id, "kid")]) == []


async def test_the_comparisons_walk_keys(pool: Pool) -> None:
    session_id = await book(pool)
    await pool.execute("INSERT INTO users (id, role) SELECT 'w' || n, 'student' FROM generate_series(1, 3000) n")
    await pool.execute(
        """
        INSERT INTO session_waiters (session_id, user_id, worker_id)
        SELECT $1, id, $2 FROM users WHERE id LIKE 'w%'
        """,
        session_id,
        A,
    )
    other = await book(pool)
    await wait(pool, other, "kid")
    async with pool.acquire() as connection:
        asked: list[tuple[str, tuple[object, ...]]] = []

        class Asked:
            async def fetch(self, statement: str, *values: object) -> list[object]:
                asked.append((statement, values))
                return []

        await waiters.of_sessions(cast(Pool, Asked()), [other], limit=10)
        await waiters.settled(cast(Pool, Asked()), A, [(other, "kid"), (session_id, "w7")])
        for statement, values in asked:
            walk = await walk_of(connection, statement, *values)
            assert walk.rows <= 12, walk.plan


async def test_who_is_kicked_is_no_longer_admitted(pool: Pool) -> None:
    session_id = await book(pool)
    async with pool.acquire() as connection:
        await participants.admit(connection, session_id, ["mum", "kid"])
        await participants.change(connection, session_id, "kid", mic_allowed=False)
        assert await participants.admitted(connection, session_id, ["kid", "mum", "gran"]) == ["kid", "mum"]
        await participants.change(connection, session_id, "kid", was_kicked=True)
        assert await participants.admitted(connection, session_id, ["kid", "mum"]) == ["mum"]
        await participants.admit(connection, session_id, ["kid"])
        assert await participants.admitted(connection, session_id, ["kid"]) == [], "a kicked person is not let in"
        await participants.change(connection, session_id, "kid", was_kicked=False)
        assert await participants.admitted(connection, session_id, ["kid"]) == []


async def test_those_who_are_here_as_the_waiting_room_opens_are_admitted(pool: Pool) -> None:
    session_id = await book(pool)
    people = [visits.Change(session_id=session_id, user_id=user_id, present=True) for user_id in ("kid", "mum")]
    await visits.record(pool, A, people)
    await visits.record(pool, A, [visits.Change(session_id=session_id, user_id="mum", present=False)])
    async with pool.acquire() as connection:
        await participants.change(connection, session_id, "gran", mic_allowed=False)
        await participants.admit_those_here(connection, session_id)
    assert await participants.admitted(pool, session_id, MEMBERS) == ["kid"]


async def test_many_who_wait_give_up_and_are_admitted_at_once_never_deadlock(pool: Pool) -> None:
    session_ids = [await book(pool) for _ in range(3)]

    async def come_and_go(worker_id: UUID) -> None:
        for _ in range(15):
            keys = [(random.choice(session_ids), user_id) for user_id in random.sample(MEMBERS, 4)]
            async with pool.acquire() as connection, connection.transaction():
                await waiters.add(connection, worker_id, keys)
            await waiters.end(pool, worker_id, random.sample(keys, 3))

    async def admit() -> None:
        for _ in range(20):
            await settle(pool, random.choice(session_ids), *random.sample(MEMBERS, 4))

    await asyncio.gather(come_and_go(A), come_and_go(B), admit(), admit())
    for session_id in session_ids:
        await settle(pool, session_id, *MEMBERS)
        assert await waiting(pool, session_id) == []
