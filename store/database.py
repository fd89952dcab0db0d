"""The connection pool to Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    _Pool = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.Connection
    _Pool = asyncpg.Pool


class Pool(_Pool):
    """asyncpg's pool, with the questions that are asked of it together (:mod:`store.loader`), by what answers them."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.loaders: dict[Any, Any] = {}


if TYPE_CHECKING:
    #: A pool runs one statement on any connection; a connection runs it inside its transaction.
    Executor = Pool | Connection
else:
    Executor = Any

#: Seconds until one statement is given up: longer than any honest one, shorter than a client waits.
STATEMENT_SECONDS: Final = 10.0
#: Every statement here reads a few rows by key. Its plan is made once per connection, and one made while a table was
#: small would go on reading all of it as it grows, foreign keys' own look-ups included, until the next ANALYZE. It is
#: kept: left to choose, Postgres plans anew for every lone message (0.16 ms) because few rows look cheaper. Statements
#: that read many rows, as reports do, need `SET LOCAL` in a transaction of their own.
PLANS: Final = (
    "SET plan_cache_mode = force_generic_plan; SET jit = off; "
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"
)
#: Seconds to wait for a first connection.
CONNECT_SECONDS: Final = 5.0


async def connect(dsn: str, *, size: int) -> Pool:
    """A pool of at most `size` connections. JSON columns are read and written as Python values."""
    pool = Pool(
        dsn,
        connection_class=asyncpg.Connection,
        record_class=asyncpg.Record,
        min_size=1,
        max_size=size,
        max_queries=50_000,
        max_inactive_connection_lifetime=300,
        setup=None,
        init=_prepare,
        reset=_keep,
        loop=None,
        command_timeout=STATEMENT_SECONDS,
        timeout=CONNECT_SECONDS,
        server_settings={
            "application_name": "encounters",
            "timezone": "UTC",
            # Under a stricter level, what is read after the wait for a lock would be from before it.
            "default_transaction_isolation": "read committed",
        },
    )
    await pool
    return pool


async def fingerprint(pool: Pool) -> str:
    """A name for this very database: the same on every worker, another one for each database."""
    name: str = await pool.fetchval(
        """
        SELECT (SELECT system_identifier FROM pg_control_system()) || '-' || oid
        FROM pg_database WHERE datname = current_database()
        """
    )
    return name


async def _keep(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Nothing is asked of the server when a connection comes back: an open transaction was rolled back already, and
    nobody here leaves anything else behind (no LISTEN, no SET but LOCAL, advisory locks of transactions only).
    asyncpg's own reset would be a second transaction behind every statement."""


async def _prepare(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await connection.execute(PLANS)
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="text",
        encoder=lambda value: msgspec.json.encode(value).decode(),
        decoder=msgspec.json.decode,
    )
