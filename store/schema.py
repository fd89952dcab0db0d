"""Bringing the database's schema up to the code's.

A revision is a file in `migrations/versions`. What is missing is applied in one transaction, all or nothing,
by whoever holds an advisory lock: workers that start at once wait for the first, and find nothing left.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

#: The rooms stand side by side, in a checkout and where a wheel is installed.
MIGRATIONS: Final = Path(__file__).parents[1] / "migrations"

#: Held while migrating. An arbitrary number, which must never change: two releases meet in one database.
LOCK_KEY: Final = 0x656E636F756E74  # "encount"
#: Waiting for another worker's migration, or inside one for a table that is in use.
LOCK_SECONDS: Final = 300
CONNECT_SECONDS: Final = 10.0

_REVISION: Final = re.compile(r"""^revision(?:\s*:\s*str)?\s*=\s*["']([^"']+)["']""", re.MULTILINE)
_DOWN_REVISION: Final = re.compile(r"""^down_revision(?:\s*:[^=]+)?\s*=\s*["']([^"']+)["']""", re.MULTILINE)


class MigrationFailed(Exception):
    """A revision that could not be applied; nothing of it was. The sentence is the database's."""


async def migrate(dsn: str, *, migrations: Path = MIGRATIONS) -> list[str]:
    """Apply what is missing; the revisions applied, oldest first.

    Raises MigrationFailed, and asyncpg's errors and OSError where the database cannot be reached.
    """
    if not await pending(dsn, migrations=migrations):
        return []
    # Only now: alembic and SQLAlchemy take longer to import than most starts take altogether.
    return await _upgrade(dsn, migrations)


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


async def _upgrade(dsn: str, migrations: Path) -> list[str]:
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    known, _ = await asyncio.to_thread(_revisions, migrations)
    applied: list[str] = []

    def note(*, step: Any, **_: Any) -> None:
        applied.append(step.up_revision_id)

    def run(connection: Connection) -> None:
        present = MigrationContext.configure(connection).get_current_revision()
        if present is not None and present not in known:
            return  # a newer release was quicker
        config = Config()
        config.set_main_option("script_location", str(migrations).replace("%", "%%"))
        config.attributes["connection"] = connection
        config.attributes["on_version_apply"] = note
        command.upgrade(config, "head")

    # Connections are made by asyncpg itself, so that a DSN means here what it means everywhere else.
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(dsn, timeout=CONNECT_SECONDS),
        # Under a stricter level, what is read after the wait for the lock would be from before it.
        isolation_level="READ COMMITTED",
        poolclass=NullPool,
    )
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
            # Released with the transaction, after it is committed: the next in line sees what was done.
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
            await connection.run_sync(run)
    except DBAPIError as error:
        raise MigrationFailed(str(error.orig)) from error
    finally:
        await engine.dispose()
    return applied
