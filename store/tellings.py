"""What providers of meetings are still to be told of people: who was removed, whose permissions changed.

A row says of whom, and not what: that is read when the provider is told, so that the last change is what stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg

from store.database import Connection, Executor
from store.errors import translated

#: Seconds that one worker has for one person; then another may tell of them.
HOLD_SECONDS: Final = 30
#: Seconds until a provider that could not be told is told again: doubled each time, and at most a minute.
FIRST_RETRY_SECONDS: Final = 2
MAX_RETRY_SECONDS: Final = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Telling:
    """A person of a session. `changes` counts what happened to them since the provider last knew; `age_seconds` is how
    long ago the last of it was."""

    session_id: UUID
    user_id: str
    changes: int
    age_seconds: float

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Telling:
        return cls(**{name: row[name] for name in cls.__slots__})


_AGAIN: Final = """
    ON CONFLICT (session_id, user_id)
    DO UPDATE SET changes = meeting_tellings.changes + 1, changed_at = now(), attempts = 0, retry_at = now()
"""


async def add(executor: Executor, session_id: UUID, user_id: str) -> None:
    """Something about this person has changed; nothing is noted where the session has no meeting."""
    with translated():
        await executor.execute(
            "INSERT INTO meeting_tellings (session_id, user_id)"
            f" SELECT m.session_id, $2 FROM meetings m WHERE m.session_id = $1 AND m.ended_at IS NULL {_AGAIN}",
            session_id,
            user_id,
        )


async def add_of_course(connection: Connection, course_id: UUID, user_id: str) -> None:
    """The same in every session of a course that has a meeting."""
    await connection.execute(
        "INSERT INTO meeting_tellings (session_id, user_id)"
        " SELECT m.session_id, $2 FROM meetings m JOIN sessions s ON s.id = m.session_id"
        f" WHERE s.course_id = $1 AND m.ended_at IS NULL ORDER BY m.session_id {_AGAIN}",
        course_id,
        user_id,
    )


async def claim(executor: Executor) -> Telling | None:
    """Somebody of whom a provider is to be told, for this worker and HOLD_SECONDS: nobody else tells of them meanwhile.

    Who is not :func:`done` comes again later.
    """
    with translated():
        row = await executor.fetchrow(
            """
            UPDATE meeting_tellings t
            SET attempts = t.attempts + 1,
                held_until = now() + make_interval(secs => $1),
                retry_at = now() + make_interval(secs => least($2 * 2.0 ^ least(t.attempts, 20), $3))
            WHERE (t.session_id, t.user_id) = (
                SELECT o.session_id, o.user_id FROM meeting_tellings o
                WHERE o.retry_at <= now() AND o.held_until <= now()
                ORDER BY o.retry_at LIMIT 1
                FOR UPDATE SKIP LOCKED
            )
            RETURNING t.session_id, t.user_id, t.changes,
                extract(epoch FROM now() - t.changed_at)::float8 AS age_seconds
            """,
            HOLD_SECONDS,
            FIRST_RETRY_SECONDS,
            MAX_RETRY_SECONDS,
        )
    return Telling.from_row(row) if row else None


async def done(executor: Executor, told: Telling) -> None:
    """The provider knows. What has changed meanwhile is to be told at once."""
    with translated():
        deleted = await executor.fetchval(
            "DELETE FROM meeting_tellings WHERE session_id = $1 AND user_id = $2 AND changes = $3 RETURNING true",
            told.session_id,
            told.user_id,
            told.changes,
        )
    if not deleted:
        await release(executor, told)


async def tell_again(executor: Executor, told: Telling, *, at_age: float) -> None:
    """The provider knows, and is to be told again so many seconds after the change. What has changed meanwhile is to be
    told at once."""
    with translated():
        await executor.execute(
            """
            UPDATE meeting_tellings SET attempts = 0, held_until = now(),
                retry_at = CASE WHEN changes = $3 THEN changed_at + make_interval(secs => $4) ELSE now() END
            WHERE session_id = $1 AND user_id = $2
            """,
            told.session_id,
            told.user_id,
            told.changes,
            at_age,
        )


async def release(executor: Executor, held: Telling) -> None:
    """Whoever's turn it is may tell of them, when it is time."""
    with translated():
        await executor.execute(
            "UPDATE meeting_tellings SET held_until = now() WHERE session_id = $1 AND user_id = $2",
            held.session_id,
            held.user_id,
        )
