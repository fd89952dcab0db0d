"""Attendance: what a person's visits add up to, over reconnects and workers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import attendance, visits
from store.database import Pool
from tests.support.lessons import book, database_pool

A, B = UUID(int=1), UUID(int=2)
NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)
PEOPLE = ("kid", "mum")


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        for worker_id in (A, B):
            await visits.renew_lease(pool, worker_id)
        yield pool


async def was_there(pool: Pool, session_id: UUID, stays: Sequence[tuple[str, UUID, int, int | None]]) -> None:
    """Visits: who, through which worker, from which second on and for how many; None: they are there still."""
    people = sorted({user_id for user_id, *_ in stays})
    await pool.executemany(
        "INSERT INTO session_participants (session_id, user_id, joined_at) VALUES ($1, $2, now())",
        [(session_id, user_id) for user_id in people],
    )
    await pool.executemany(
        """
        INSERT INTO session_visits (session_id, user_id, worker_id, joined_at, left_at) VALUES ($1, $2, $3, $4, $5)
        """,
        [
            (
                *(session_id, user_id, worker_id, NINE + timedelta(seconds=start)),
                None if seconds is None else NINE + timedelta(seconds=start + seconds),
            )
            for user_id, worker_id, start, seconds in stays
        ],
    )


async def test_visits_add_up_and_what_overlaps_counts_once(pool: Pool) -> None:
    session_id, other = await book(pool), await book(pool)
    await was_there(
        pool,
        session_id,
        [("kid", A, 0, 60), ("kid", A, 90, 30), ("kid", B, 100, 80), ("mum", A, 0, 10), ("mum", B, 10, 10)],
    )
    await was_there(pool, other, [("kid", A, 0, 1000)])
    found = await attendance.seconds(pool, session_id, ["kid", "mum", "gran", "nobody"])
    assert found == {"kid": 150, "mum": 20, "gran": 0, "nobody": 0}
    assert await attendance.seconds(pool, session_id, []) == {}


async def test_who_is_there_still_counts_up_to_now(pool: Pool) -> None:
    session_id = await book(pool)
    await visits.record(pool, A, [visits.Change(session_id=session_id, user_id="kid", present=True)])
    await pool.execute("UPDATE session_visits SET joined_at = now() - interval '10 minutes'")
    assert 600 <= (await attendance.seconds(pool, session_id, ["kid"]))["kid"] < 660


async def test_whose_worker_died_counts_up_to_the_end_of_its_lease(pool: Pool) -> None:
    session_id = await book(pool)
    await visits.record(pool, A, [visits.Change(session_id=session_id, user_id="kid", present=True)])
    await pool.execute("UPDATE session_visits SET joined_at = now() - interval '10 minutes'")
    await pool.execute("UPDATE workers SET lease_until = now() - interval '4 minutes' WHERE id = $1", A)
    before = (await attendance.seconds(pool, session_id, ["kid"]))["kid"]
    assert 355 <= before <= 361
    await visits.close_expired(pool)
    after = (await attendance.seconds(pool, session_id, ["kid"]))["kid"]
    assert after == pytest.approx(before, abs=1), "and it stays so when the visit is closed"


STAYS = st.lists(
    st.tuples(st.sampled_from(PEOPLE), st.sampled_from((A, B)), st.integers(0, 200), st.integers(0, 60)), max_size=12
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(STAYS)
async def test_attendance_is_every_second_in_which_somebody_was_there(
    pool: Pool, stays: list[tuple[str, UUID, int, int]]
) -> None:
    session_id = await book(pool)
    await was_there(pool, session_id, stays)
    found = await attendance.seconds(pool, session_id, PEOPLE)
    for user_id in PEOPLE:
        there = {second for who, _, start, length in stays if who == user_id for second in range(start, start + length)}
        assert found[user_id] == len(there)
