"""What is counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from store import stats
from store.database import Connection, Pool
from store.stats import Stats
from tests.support.lessons import book, database_pool
from tests.support.plans import indexes_in, plan_of


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def say(connection: Connection, session_id: UUID, seq: int, at: datetime) -> None:
    await connection.execute(
        "INSERT INTO session_messages (id, session_id, seq, user_id, sender_name, text, created_at)"
        " VALUES (gen_random_uuid(), $1, $2, 'kid', 'Kid', 'hello', $3)",
        *(session_id, seq, at),
    )


async def test_everything_is_counted(pool: Pool) -> None:
    upcoming, live, past, ended = [await book(pool) for _ in range(4)]
    await pool.execute("UPDATE sessions SET status = 'live' WHERE id = $1", live)
    await pool.execute("UPDATE sessions SET starts_at = now() - interval '1 hour' WHERE id = $1", past)
    await pool.execute("UPDATE sessions SET status = 'ended' WHERE id = $1", ended)
    worker, gone = uuid4(), uuid4()
    await pool.execute("INSERT INTO workers (id, lease_until) VALUES ($1, now() + interval '1 minute')", worker)
    for session_id, user_id, on, left in (
        (live, "kid", worker, None),
        (upcoming, "kid", worker, None),
        (live, "teach", worker, None),
        (live, "mum", worker, datetime.now(UTC) + timedelta(seconds=1)),
        (live, "gran", gone, None),
    ):
        await pool.execute(
            "INSERT INTO session_participants (session_id, user_id) VALUES ($1, $2)", session_id, user_id
        )
        await pool.execute(
            "INSERT INTO session_visits (session_id, user_id, worker_id, joined_at, left_at)"
            " VALUES ($1, $2, $3, now(), $4)",
            *(session_id, user_id, on, left),
        )
    # In one transaction it is one moment: no midnight comes between what is said and the count.
    async with pool.acquire() as connection, connection.transaction():
        today = await connection.fetchval("SELECT date_trunc('day', now(), 'UTC')")
        for seq, at in enumerate((today - timedelta(seconds=1), today, today, today - timedelta(days=3)), 1):
            await say(connection, upcoming, seq, at)
        assert await stats.now(connection) == Stats(
            students=2,
            parents=3,
            tutors=2,
            upcoming_sessions=1,
            live_sessions=1,
            participants_online=2,
            messages_today=2,
            recordings_bytes=0,
        )


async def test_an_empty_school_counts_nothing(pool: Pool) -> None:
    await pool.execute("DELETE FROM users")
    counted = await stats.now(pool)
    assert (counted.students, counted.upcoming_sessions, counted.messages_today) == (0, 0, 0)


async def test_nothing_is_counted_by_reading_a_whole_table(pool: Pool) -> None:
    session_id = await book(pool)
    async with pool.acquire() as connection:
        for count in (0, 20_000):
            await connection.execute(
                "INSERT INTO session_messages (id, session_id, seq, user_id, sender_name, text, created_at)"
                f" SELECT gen_random_uuid(), $1, n, 'kid', 'Kid', 'hello', now() - make_interval(mins => {count} - n)"
                f" FROM generate_series(1, {count}) AS n",
                session_id,
            )
            if count:
                await connection.execute("ANALYZE session_messages")
            plan = await plan_of(connection, stats._COUNTED, 0)
            assert {
                "directory_in_order",
                "sessions_upcoming",
                "sessions_live",
                "session_visits_open_by_worker",
                "session_messages_by_day",
                "files_of_recordings",
            } <= indexes_in(plan), plan
