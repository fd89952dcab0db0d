"""What the driver raises, in the store's words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from store import database
from store.errors import Away, Refused, translated
from tests.support.lessons import book, database_pool
from tests.support.postgres import Cluster


def all_of(error: type[Any]) -> Iterator[type[Any]]:
    yield error
    for narrower in error.__subclasses__():
        yield from all_of(narrower)


#: Everything that Postgres can answer, as asyncpg names it.
ERRORS = sorted({e for e in all_of(asyncpg.PostgresError) if e.sqlstate}, key=lambda e: (e.sqlstate, e.__name__))
INTEGRITY = "23"
#: Where the same request may succeed later: connection, rollback, resources, operator, system, standby.
PASSING = ("08", "25006", "40", "53", "57", "58")


def raised(error: BaseException) -> BaseException:
    """What comes out of the store when this comes in."""
    with pytest.raises(BaseException) as caught, translated():  # noqa: PT011 - any
        raise error
    return caught.value


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: f"{e.sqlstate}-{e.__name__}")
def test_every_error_of_postgres_has_its_meaning(error: type[Any]) -> None:
    came = error("said so")
    out = raised(came)
    if error.sqlstate.startswith(INTEGRITY):
        assert isinstance(out, Refused)
    elif error.sqlstate.startswith(PASSING) or error is asyncpg.InvalidCachedStatementError:
        assert isinstance(out, Away)
        assert str(out) == "said so"
    else:
        assert out is came, "a mistake of ours is not hidden"


def test_there_are_errors_of_every_kind() -> None:
    assert {e.sqlstate[:2] for e in ERRORS} >= {"08", "22", "23", "40", "42", "53", "57", "58"}


@pytest.mark.parametrize(
    "error",
    [
        OSError("no route to host"),
        ConnectionRefusedError(111, "Connect call failed"),
        ConnectionResetError(),
        TimeoutError(),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InterfaceError("pool is closing"),
        asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress"),
        asyncpg.InterfaceError("cannot call Connection.fetch(): connection has been released back to the pool"),
    ],
    ids=repr,
)
def test_a_lost_connection_means_that_the_database_is_away(error: Exception) -> None:
    out = raised(error)
    assert isinstance(out, Away)
    assert str(out), "it says something"
    assert out.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InterfaceError("cannot perform operation: another operation is in progress"),
        ValueError("closed"),
        LookupError("no session"),
        asyncio.CancelledError(),
    ],
    ids=repr,
)
def test_everything_else_passes_as_it_is(error: BaseException) -> None:
    assert raised(error) is error


async def test_an_argument_that_cannot_be_sent_is_a_mistake_whatever_it_says(database: str) -> None:
    async with database_pool(database, size=1) as pool:
        for text in ("the shop is closed \ud800", "closing \ud800"):
            with pytest.raises(asyncpg.DataError, match="invalid input"), translated():
                await pool.fetchval("SELECT $1::text", text)


async def test_a_refusal_names_its_constraint(database: str) -> None:
    async with database_pool(database, size=1) as pool:
        with pytest.raises(Refused) as refusal, translated():
            await pool.execute("INSERT INTO users (id, role) VALUES ('x', 'king')")
        assert refusal.value.constraint == "users_role_known"
        assert isinstance(refusal.value.__cause__, asyncpg.CheckViolationError)
        with pytest.raises(Refused) as refusal, translated():
            await pool.execute("INSERT INTO users (id) VALUES ('x')")
        assert refusal.value.constraint == "", "NOT NULL has no name"


async def test_a_deadlock_and_a_cancelled_statement_may_be_tried_again(database: str) -> None:
    async with database_pool(database, size=2) as pool:
        one, other = await book(pool), await book(pool)

        async def lock(first: object, second: object, turn: asyncio.Barrier) -> None:
            with translated():
                async with pool.acquire() as connection, connection.transaction():
                    await connection.execute("UPDATE sessions SET title = 'x' WHERE id = $1", first)
                    await turn.wait()
                    await connection.execute("UPDATE sessions SET title = 'x' WHERE id = $1", second)

        turn = asyncio.Barrier(2)
        outcomes = await asyncio.gather(lock(one, other, turn), lock(other, one, turn), return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Deadlocked", "NoneType"]
        async with pool.acquire() as connection:
            await connection.execute("SET statement_timeout = 1")
            with pytest.raises(Away), translated():
                await connection.execute("SELECT pg_sleep(10)")


async def test_a_migration_under_way_is_no_bug_of_the_request(database: str) -> None:
    """A table grows a column while an older worker serves: its prepared `SELECT *` fails once in a transaction."""
    async with database_pool(database, size=1) as pool:

        async def read() -> None:
            with translated():
                async with pool.acquire() as connection, connection.transaction():
                    await connection.fetch("SELECT * FROM users")

        await read()
        await pool.execute("ALTER TABLE users ADD COLUMN shoe_size int")
        with pytest.raises(Away):
            await read()
        await read()


async def test_whatever_dies_under_a_statement_the_database_is_away_and_comes_back(private_cluster: Cluster) -> None:
    pool = await database.connect(private_cluster.dsn(), size=4)
    try:
        raised: asyncio.Queue[Exception] = asyncio.Queue()

        async def ask_for_ever() -> None:
            while True:
                try:
                    with translated():
                        async with pool.acquire() as connection, connection.transaction():
                            await connection.fetchval("SELECT sum(n) FROM generate_series(1, 20000) AS n")
                except Exception as error:  # noqa: BLE001 - to be looked at
                    raised.put_nowait(error)
                    await asyncio.sleep(0.001)

        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(ask_for_ever()) for _ in range(8)]
            for end in (private_cluster.kill, private_cluster.stop, private_cluster.stop):
                await asyncio.to_thread(end)
                for _ in range(20):
                    error = await raised.get()
                    assert isinstance(error, Away), error
                await asyncio.to_thread(private_cluster.start)
            for task in asking:
                task.cancel()
        while not raised.empty():
            assert isinstance(raised.get_nowait(), Away)
        assert await pool.fetchval("SELECT 1") == 1
    finally:
        pool.terminate()
