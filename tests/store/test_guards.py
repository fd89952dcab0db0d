"""What limits who comes in is read under lock, and counted exactly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest

from store import guards, participants, visits, waiters
from store.database import Pool
from store.guards import Asking, Guard, Rule, TurnedAway, Verdict
from store.visits import Change, Outcome
from tests.support.lessons import database_pool, live_session, make_class, until_somebody_waits
from tests.support.plans import indexes_in, plan_of

A, B = UUID(int=1), UUID(int=2)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        for worker_id in (A, B):
            await visits.renew_lease(pool, worker_id)
        yield pool


def in_order(guard: Guard, asking: Sequence[Asking]) -> list[Verdict]:
    """Places alone, first come, first served."""
    places = 10_000 if guard.max_participants is None else guard.max_participants - guard.people
    found: list[Verdict] = []
    for one in asking:
        found.append("in" if one.is_here or places > 0 else "full")
        places -= not one.is_here and found[-1] == "in"
    return found


def waits(_guard: Guard, asking: Sequence[Asking]) -> list[Verdict]:
    return ["waiting"] * len(asking)


async def come(
    pool: Pool, session_id: UUID, *user_ids: str, worker_id: UUID = A, rule: Rule = in_order, limited: bool = True
) -> list[str]:
    """What became of each who came."""
    changes = [Change(session_id=session_id, user_id=user_id, present=True, limited=limited) for user_id in user_ids]
    outcomes = await visits.record(pool, worker_id, changes, rule)
    assert not [one for one in outcomes if isinstance(one, Exception)]
    return [one.verdict if isinstance(one, TurnedAway) else "in" for one in outcomes]


async def go(pool: Pool, session_id: UUID, *user_ids: str, worker_id: UUID = A) -> None:
    await visits.record(
        pool, worker_id, [Change(session_id=session_id, user_id=user_id, present=False) for user_id in user_ids]
    )


async def guard_of(pool: Pool, session_id: UUID) -> Guard:
    """What the rule is shown."""
    seen: list[Guard] = []

    def look(guard: Guard, asking: Sequence[Asking]) -> list[Verdict]:
        seen.append(guard)
        return ["full"] * len(asking)

    await come(pool, session_id, "boss", rule=look)
    [guard] = seen
    return guard


async def test_without_limits_nobody_is_judged(pool: Pool) -> None:
    session_id, students = await make_class(pool, 5)

    def never(*_: Any) -> Any:
        raise AssertionError("nothing limits who comes in")

    assert await come(pool, session_id, *students, rule=never) == ["in"] * 5
    await go(pool, session_id, *students)
    assert await come(pool, session_id, *students, rule=never) == ["in"] * 5


@pytest.mark.parametrize("setting", ["locked = true", "waiting_room = true", "max_participants = 1"])
async def test_each_limit_has_those_judged_whom_it_holds_for(pool: Pool, setting: str) -> None:
    session_id, students = await make_class(pool, 2)
    await pool.execute(f"UPDATE sessions SET {setting} WHERE id = $1", session_id)

    def nobody(_guard: Guard, asking: Sequence[Asking]) -> list[Verdict]:
        return ["locked"] * len(asking)

    assert await come(pool, session_id, *students, rule=nobody) == ["locked"] * 2
    assert await participants.of_session(pool, session_id, limit=10) == [], "who is turned away leaves no trace"
    assert await come(pool, session_id, "teach", rule=nobody, limited=False) == ["in"]


async def test_people_are_counted_and_the_host_admins_and_the_kicked_are_not(pool: Pool) -> None:
    session_id, students = await make_class(pool, 4, max_participants=100)
    await come(pool, session_id, *students)
    await come(pool, session_id, students[0], worker_id=B)  # another tab
    await come(pool, session_id, "teach", limited=False)
    assert (await guard_of(pool, session_id)).people == 4
    await come(pool, session_id, "boss", limited=False)
    async with pool.acquire() as connection:
        await participants.change(connection, session_id, students[1], was_kicked=True)
    assert (await guard_of(pool, session_id)).people == 3
    await go(pool, session_id, students[0], students[2])
    assert (await guard_of(pool, session_id)).people == 2, "one of the two is with the other worker still"
    await pool.execute("UPDATE workers SET lease_until = now() - interval '1 hour' WHERE id = $1", B)
    await visits.close_expired(pool)
    assert (await guard_of(pool, session_id)).people == 1


async def test_what_is_known_of_somebody_is_shown(pool: Pool) -> None:
    session_id, students = await make_class(pool, 5)
    await pool.execute("UPDATE sessions SET waiting_room = true WHERE id = $1", session_id)
    new, here, gone, admitted, waiting = students
    let_in = guards.everybody_in
    await come(pool, session_id, here, gone, worker_id=B, rule=let_in)
    await go(pool, session_id, gone, worker_id=B)
    async with pool.acquire() as connection:
        await participants.admit(connection, session_id, [admitted])
    assert await come(pool, session_id, waiting, worker_id=B, rule=waits) == ["waiting"]
    seen: dict[str, Asking] = {}

    def look(_guard: Guard, asking: Sequence[Asking]) -> list[Verdict]:
        seen.update({one.user_id: one for one in asking})
        return ["locked"] * len(asking)

    await come(pool, session_id, *reversed(students), rule=look)
    assert list(seen) == list(reversed(students)), "whoever asks first is first"

    def shown(one: Asking) -> set[str]:
        names = ("is_here", "has_been_in", "was_kicked", "is_admitted", "is_waiting")
        return {name for name in names if getattr(one, name)}

    assert {user_id: shown(one) for user_id, one in seen.items()} == {
        new: set(),
        here: {"is_here", "has_been_in"},
        gone: {"has_been_in"},
        admitted: {"is_admitted"},
        waiting: {"is_waiting"},
    }


async def test_of_those_who_race_for_the_places_as_many_get_in_as_there_are(pool: Pool) -> None:
    session_id, students = await make_class(pool, 60, max_participants=7)
    workers = [uuid4() for _ in range(6)]
    for worker_id in workers:
        await visits.renew_lease(pool, worker_id)
    answers = await asyncio.gather(
        *(come(pool, session_id, *students[n::6], worker_id=worker_id) for n, worker_id in enumerate(workers))
    )
    assert sorted(verdict for found in answers for verdict in found) == ["full"] * 53 + ["in"] * 7
    online = [p for p in await participants.of_session(pool, session_id, limit=100) if p.online]
    assert len(online) == 7
    assert await pool.fetchval("SELECT count(*) FROM session_participants") == 7


async def test_who_leaves_in_the_same_batch_makes_place(pool: Pool) -> None:
    session_id, (first, second) = await make_class(pool, 2, max_participants=1)
    assert await come(pool, session_id, first) == ["in"]
    changes = [
        Change(session_id=session_id, user_id=second, present=True, limited=True),
        Change(session_id=session_id, user_id=first, present=False),
    ]
    outcomes = await visits.record(pool, A, changes, in_order)
    assert [isinstance(one, Outcome) and one.turned for one in outcomes] == [True, True]


async def test_a_change_of_the_host_comes_before_an_arrival_or_after_it(pool: Pool) -> None:
    """The row is held: whoever arrives meanwhile is judged by what was committed."""
    session_id, (student,) = await make_class(pool, 1, max_participants=1)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM sessions WHERE id = $1 FOR NO KEY UPDATE", session_id)
        arriving = asyncio.create_task(
            come(pool, session_id, student, rule=lambda g, a: ["locked" if g.locked else "in"])
        )
        await until_somebody_waits(pool)
        await connection.execute("UPDATE sessions SET locked = true WHERE id = $1", session_id)
    assert await arriving == ["locked"]


async def test_somebody_unknown_is_refused_and_the_others_are_judged(pool: Pool) -> None:
    session_id, students = await make_class(pool, 2, max_participants=2)
    people = [students[0], "nobody", students[1]]
    changes = [Change(session_id=session_id, user_id=user_id, present=True, limited=True) for user_id in people]
    first, refused, second = await visits.record(pool, A, changes, in_order)
    assert isinstance(refused, Exception)
    assert [isinstance(one, Outcome) and one.turned for one in (first, second)] == [True, True]


async def test_arrivals_at_several_sessions_share_a_batch(pool: Pool) -> None:
    students = ("kid", "kid2")
    sessions = [await live_session(pool, students=students, max_participants=most) for most in (1, 2, None)]
    changes = [
        Change(session_id=session_id, user_id=user_id, present=True, limited=True)
        for session_id in sessions
        for user_id in students
    ]
    outcomes = await visits.record(pool, A, changes, in_order)
    assert [isinstance(one, Outcome) for one in outcomes] == [True, False, True, True, True, True]


async def test_those_told_to_wait_are_noted_with_their_worker_once(pool: Pool) -> None:
    session_id, students = await make_class(pool, 2)
    await pool.execute("UPDATE sessions SET waiting_room = true WHERE id = $1", session_id)
    changes = [Change(session_id=session_id, user_id=user_id, present=True, limited=True) for user_id in students]
    news = []
    for worker_id in (A, B, A):
        outcomes = await visits.record(pool, worker_id, changes, waits)
        news.append([isinstance(one, TurnedAway) and one.is_new for one in outcomes])
    assert news == [[True, True], [False, False], [False, False]]
    assert [waiter.user_id for waiter in await waiters.of_session(pool, session_id, limit=10)] == students
    assert await pool.fetchval("SELECT count(*) FROM session_waiters") == 4


async def test_nothing_is_read_in_full(pool: Pool) -> None:
    async with pool.acquire() as connection:
        plan = await plan_of(connection, guards._GUARDS, 1)
        assert "Seq Scan" not in plan
        assert indexes_in(plan) == {
            "sessions_pkey", "session_visits_one_open", "workers_pkey", "users_who_are_admins",
            "session_participants_pkey", "recordings_one_running",
        }  # fmt: skip
        plan = await plan_of(connection, guards._ASKING, 2)
        assert "Seq Scan" not in plan
        assert "session_visits_open_by_worker" not in plan
        plan = await plan_of(connection, visits._FIRST_ARRIVALS, 4)
        assert indexes_in(plan) == {"sessions_pkey"}
