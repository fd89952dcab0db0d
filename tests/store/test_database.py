"""The pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import pytest

from store.database import Pool, connect, fingerprint
from store.errors import Away, translated
from tests.support.postgres import Cluster, cloned_database


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    pool = await connect(database, size=3)
    yield pool
    await pool.close()


@pytest.mark.parametrize(
    "value",
    [{}, [], {"a": [1, 2.5, None, True, {"ü": "👋 ' \""}]}, "text", 7, None, [{"at": "2030-01-01T00:00:00Z"}]],
    ids=repr,
)
async def test_json_comes_back_as_it_was_written(pool: Pool, value: object) -> None:
    kept = await pool.fetchval("SELECT $1::jsonb", value)
    assert kept == value
    assert type(kept) is type(value)


async def test_ids_and_times_in_json_are_written_as_clients_see_them(pool: Pool) -> None:
    value = {"id": UUID(int=7), "at": datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)}
    assert await pool.fetchval("SELECT $1::jsonb", value) == {
        "id": "00000000-0000-0000-0000-000000000007",
        "at": "2030-01-02T03:04:05Z",
    }


async def test_times_are_in_utc(pool: Pool) -> None:
    assert await pool.fetchval("SHOW timezone") == "UTC"
    assert await pool.fetchval("SELECT current_setting('application_name')") == "encounters"


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_a_strict_isolation_level_of_the_database_changes_nothing(database: str, level: str) -> None:
    """What is read after the wait for a lock has to be what stands then."""
    one = await connect(database, size=1)
    try:
        name = await one.fetchval("SELECT current_database()")
        await one.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = '{level}'")
        other = await connect(database, size=1)
        try:
            async with other.acquire() as connection, connection.transaction():
                assert await connection.fetchval("SHOW transaction_isolation") == "read committed"
        finally:
            await other.close()
    finally:
        await one.close()


async def test_at_most_so_many_connections_are_opened(pool: Pool) -> None:
    async def ask() -> int:
        async with pool.acquire() as connection:
            open_: int = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'encounters'"
            )
            return open_

    assert max(await asyncio.gather(*(ask() for _ in range(30)))) <= 3


async def test_a_connection_that_comes_back_is_fit_for_the_next(database: str) -> None:
    pool = await connect(database, size=1)
    try:
        async with pool.acquire() as connection:
            await connection.execute("BEGIN")
            await connection.execute("CREATE TABLE given_up (id int)")
        async with pool.acquire() as connection:
            assert not connection.is_in_transaction()
            assert await connection.fetchval("SELECT to_regclass('given_up')") is None
    finally:
        await pool.close()


async def test_a_statement_is_one_transaction(database: str) -> None:
    """None behind it that only resets the connection."""
    pool = await connect(database, size=1)
    try:
        before = await pool.fetchval("SELECT pg_current_xact_id()::text::bigint")
        after = await pool.fetchval("SELECT pg_current_xact_id()::text::bigint")
        assert after == before + 1
        assert await pool.fetchval("SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()") is not None
        async with pool.acquire() as connection:
            await connection.execute("SET application_name = 'kept'")
        assert await pool.fetchval("SHOW application_name") == "kept"
    finally:
        await pool.close()


async def test_plans_look_rows_up_by_their_keys_however_small_the_tables(pool: Pool) -> None:
    plan = await pool.fetch("EXPLAIN SELECT FROM session_participants p JOIN users u ON u.id = p.user_id")
    assert not any("Hash" in row[0] for row in plan)
    plan = await pool.fetch("EXPLAIN SELECT FROM users WHERE id = 'kid'")
    assert any("users_pkey" in row[0] for row in plan)


async def test_a_statement_that_takes_too_long_is_given_up(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.database.STATEMENT_SECONDS", 1.0)
    pool = await connect(database, size=1)
    try:
        with pytest.raises(Away), translated():
            await pool.fetchval("SELECT pg_sleep(600)")
        assert await pool.fetchval("SELECT 1") == 1, "the connection is fit for the next"
    finally:
        await pool.close()


async def test_a_fingerprint_tells_databases_apart(cluster: Cluster, template: str) -> None:
    names = []
    async with cloned_database(cluster, template) as one, cloned_database(cluster, template) as other:
        for dsn in (one, one, other):
            pool = await connect(dsn, size=1)
            names.append(await fingerprint(pool))
            await pool.close()
    assert names[0] == names[1] != names[2]
    assert all(name.replace("-", "").isdigit() for name in names), "it stands in the names of Redis channels"
