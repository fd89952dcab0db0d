"""The connection pool to Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    #: A pool runs one statement on any connection; a connection runs it inside its transaction.
    Executor = Pool | Connection
else:
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection
    Executor = Any

#: Seconds until one statement is given up: longer than any honest one, shorter than a client waits.
STATEMENT_SECONDS: Final = 10.0
#: Seconds to wait for a first connection.
CONNECT_SECONDS: Final = 5.0


async def connect(dsn: str, *, size: int) -> Pool:
    """A pool of at most `size` connections. JSON columns are read and written as Python values."""
    return await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=size,
        command_timeout=STATEMENT_SECONDS,
        timeout=CONNECT_SECONDS,
        max_inactive_connection_lifetime=300,
        init=_prepare,
        server_settings={"application_name": "encounters", "timezone": "UTC"},
    )


async def fingerprint(pool: Pool) -> str:
    """A name for this very database: the same on every worker, another one for each database."""
    name: str = await pool.fetchval(
        """
        SELECT (SELECT system_identifier FROM pg_control_system()) || '-' || oid
        FROM pg_database WHERE datname = current_database()
        """
    )
    return name


async def _prepare(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="text",
        encoder=lambda value: msgspec.json.encode(value).decode(),
        decoder=msgspec.json.decode,
    )
