"""Bringing the database's schema up to the code's.

A revision is a file in `migrations/versions`, and applied in a transaction of its own (`migrations.online` says what
stands outside of it). All that are missing are applied by whoever holds an advisory lock: workers that start at once
wait for the first, and find nothing left.

Others use the tables meanwhile. A revision waits for a lock for a moment only, because all who come later wait behind
it; it is given up then, and tried anew a little later.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

#: The rooms stand side by side, in a checkout and where a wheel is installed.
MIGRATIONS: Final = Path(__file__).parents[1] / "migrations"

#: Held while migrating. An arbitrary number, which must never change: two releases meet in one database.
LOCK_KEY: Final = 0x656E636F756E74  # "encount"
#: Seconds for another worker's migration to end, and for a revision to find a moment in which its tables are free.
LOCK_SECONDS: Final = 300.0
#: Seconds between two looks whether the other worker has ended. Nobody waits inside of a statement: an index that is
#: made beside transactions waits for the end of all older ones.
TURN_SECONDS: Final = 0.2
#: How long a revision waits for one lock. Less than Postgres' deadlock_timeout (1 s): of a migration and a request
#: that wait for each other, the migration gives way.
LOCK_MILLISECONDS: Final = 400
#: Seconds until it is tried anew, about: those who have waited behind it get their turn.
RETRY_SECONDS: Final = 0.5
#: SQLSTATEs after which it is: a lock was not had in time, a deadlock, a change by somebody else.
_IN_USE: Final = ("55P03", "40P01", "40001")
CONNECT_SECONDS: Final = 10.0

_REVISION: Final = re.compile(r"""^revision(?:\s*:\s*str)?\s*=\s*["']([^"']+)["']""", re.MULTILINE)
_DOWN_REVISION: Final = re.compile(r"""^down_revision(?:\s*:[^=]+)?\s*=\s*["']([^"']+)["']""", re.MULTILINE)


logger = structlog.get_logger(__name__)


class MigrationFailed(Exception):
    """A revision that could not be applied; those before it were. The sentence is the database's."""


async def migrate(dsn: str, *, migrations: Path = MIGRATIONS) -> list[str]:
    """Apply what is missing; the revisions applied, oldest first.

    Raises MigrationFailed, and asyncpg's errors and OSError where the database cannot be reached.
    """
    if not await pending(dsn, migrations=migrations):
        return []
    # Only now: alembic and SQLAlchemy take longer to import than most starts take altogether.
    from alembic import command

    return await _change(dsn, migrations, lambda config: command.upgrade(config, "head"))


async def pending(dsn: str, *, migrations: Path = MIGRATIONS) -> bool:
    """Whether the database lacks a revision that this code has.

    One whose revision is unknown here was migrated by a newer release: during a deploy both serve it.
    """
    known, head = await asyncio.to_thread(_revisions, migrations)
    connection = await asyncpg.connect(dsn, timeout=CONNECT_SECONDS)
    try:
        present = await connection.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        present = None
    finally:
        await connection.close()
    return present is None or (present != head and present in known)


def _revisions(migrations: Path) -> tuple[frozenset[str], str]:
    """All revisions, and the newest: the one that no other follows."""
    known, followed = set(), set()
    for file in (migrations / "versions").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        if revision := _REVISION.search(text):
            known.add(revision[1])
            if down := _DOWN_REVISION.search(text):
                followed.add(down[1])
    heads = known - followed
    if len(heads) != 1:
        raise ValueError(f"{migrations}/versions should have one newest revision, but has {sorted(heads)}")
    return frozenset(known), heads.pop()


async def _change(dsn: str, migrations: Path, change: Callable[[Config], None]) -> list[str]:
    """Have alembic do `change`, alone; the revisions that it went through, in their order."""
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    known, _ = await asyncio.to_thread(_revisions, migrations)
    gone_through: list[str] = []

    def note(*, step: Any, **_: Any) -> None:
        gone_through.append(step.up_revision_id)

    def run(connection: Connection) -> None:
        connection.execute(text("RESET lock_timeout"))  # as an attempt before this one may have left it
        present = MigrationContext.configure(connection).get_current_revision()
        connection.commit()
        if present is not None and present not in known:
            return  # a newer release was quicker
        config = Config()
        config.set_main_option("script_location", str(migrations).replace("%", "%%"))
        config.attributes["connection"] = connection
        config.attributes["on_version_apply"] = note
        change(config)

    # Connections are made by asyncpg itself, so that a DSN means here what it means everywhere else.
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(
            dsn, timeout=CONNECT_SECONDS, server_settings={"lock_timeout": f"{LOCK_MILLISECONDS}ms"}
        ),
        # Under a stricter level, what is read after the wait for a lock would be from before it.
        isolation_level="READ COMMITTED",
        poolclass=NullPool,
    )
    try:
        async with engine.connect() as connection:
            # Ends with the connection.
            await _take_turn(connection)
            await _until_done(connection, run, gone_through)
    except DBAPIError as error:
        raise MigrationFailed(str(error.orig)) from error
    finally:
        await engine.dispose()
    return gone_through


async def _take_turn(connection: AsyncConnection) -> None:
    from sqlalchemy import text

    until = time.monotonic() + LOCK_SECONDS
    while not await connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK_KEY}):
        await connection.rollback()
        if time.monotonic() > until:
            raise MigrationFailed(f"another migration has not ended within {LOCK_SECONDS:.0f} seconds")
        await asyncio.sleep(TURN_SECONDS)
    await connection.commit()


async def _until_done(connection: AsyncConnection, run: Callable[[Connection], None], gone_through: list[str]) -> None:
    """Run it again, from the revision on that its tables were in use for; each revision has LOCK_SECONDS."""
    from sqlalchemy.exc import DBAPIError

    until, done = time.monotonic() + LOCK_SECONDS, 0
    while True:
        try:
            await connection.run_sync(run)
        except DBAPIError as error:
            await connection.rollback()
            if done < len(gone_through):
                until, done = time.monotonic() + LOCK_SECONDS, len(gone_through)
            if getattr(error.orig, "sqlstate", None) not in _IN_USE or time.monotonic() > until:
                raise
            logger.info("migration.tries_again", after=gone_through[-1:], reason=str(error.orig))
        else:
            return
        await asyncio.sleep(RETRY_SECONDS * random.uniform(0.5, 1.5))
