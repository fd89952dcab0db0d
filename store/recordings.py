"""Recordings of sessions: when each ran, and the file that came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg

from store.database import Connection, Executor
from store.errors import translated
from store.events import LogEntry
from store.events import append as append_event
from store.ids import NO_END

Status = Literal["recording", "processing", "completed", "failed"]

#: The constraint that a second running recording of a session offends.
ONE_RUNNING: Final = "recordings_one_running"

#: How clients are told of each status in `recordingState`.
STATES: Final = {"recording": "recording", "processing": "processing", "completed": "ready", "failed": "failed"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """A recording, with what is known of its file: None while there is none.

    `started_at` is None for a film that was made elsewhere and sent afterwards. `uploaded_by` started it, or, once
    there is a file, sent that. `failure` says to people why there is nothing to see.
    `provider` records it itself, and keeps the film. `arriving`: it has no file yet, and a page sends a film of it;
    told by :func:`of_session` alone.
    """

    id: UUID
    session_id: UUID
    uploaded_by: str
    status: Status
    started_at: datetime | None
    stopped_at: datetime | None
    file_id: UUID | None
    duration_seconds: int | None
    failure: str | None
    created_at: datetime
    updated_at: datetime
    provider: str | None = None
    file_name: str | None = None
    file_size_bytes: int | None = None
    mime_type: str | None = None
    arriving: bool = False

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Recording:
        return cls(**{name: row[name] for name in cls.__slots__})


_COLUMNS: Final = """
    r.id, r.session_id, r.uploaded_by, r.status, r.started_at, r.stopped_at, r.file_id, r.duration_seconds,
    r.failure, r.created_at, r.updated_at, r.provider,
    f.name AS file_name, f.size AS file_size_bytes, f.mime AS mime_type
"""
_SELECT: Final = f"""
    SELECT {_COLUMNS}, false AS arriving
    FROM recordings r LEFT JOIN files f ON f.id = r.file_id
"""


async def start(connection: Connection, session_id: UUID, *, recording_id: UUID, started_by: str) -> LogEntry:
    """Begin a recording, and log it. Inside a transaction; the database refuses a second one: ONE_RUNNING."""
    started_at: datetime = await connection.fetchval(
        """
        INSERT INTO recordings (id, session_id, uploaded_by, status, started_at)
        VALUES ($1, $2, $3, 'recording', clock_timestamp()) RETURNING started_at
        """,
        recording_id,
        session_id,
        started_by,
    )
    return await log_state(connection, session_id, recording_id, "recording", at=started_at, user_id=started_by)


async def stop_running(
    connection: Connection, session_id: UUID, *, stopped_by: str | None, before: datetime | None = None
) -> LogEntry | None:
    """End the recording that runs in a session, if one does, and log it: its file is waited for from now on.

    Inside a transaction that holds the session's row. `before`: only one that began before. `stopped_by` None: time
    did it.
    """
    row = await connection.fetchrow(
        """
        UPDATE recordings SET status = 'processing', stopped_at = clock_timestamp(), updated_at = now(),
            duration_seconds = floor(extract(epoch FROM clock_timestamp() - started_at))
        WHERE session_id = $1 AND status = 'recording' AND started_at < coalesce($2::timestamptz, 'infinity')
        RETURNING id, stopped_at
        """,
        session_id,
        before,
    )
    if row is None:
        return None
    return await log_state(connection, session_id, row["id"], "processing", at=row["stopped_at"], user_id=stopped_by)


async def log_state(
    connection: Connection,
    session_id: UUID,
    recording_id: UUID,
    status: Status,
    *,
    at: datetime,
    user_id: str | None,
) -> LogEntry:
    """Write a recording's new state into the session's log."""
    data: dict[str, Any] = {"state": STATES[status], "recording_id": recording_id, "at": at}
    return await append_event(connection, session_id, kind="recording_state", user_id=user_id, data=data)


async def add_file(
    connection: Connection, recording_id: UUID, file_id: UUID, *, uploaded_by: str, began_at: datetime | None = None
) -> bool:
    """Give a file to a recording that waits for one, or runs still. False: it has one, or it is gone or has failed.

    `began_at`: when the file begins, where that is known better than when the recording was started.
    """
    row = await connection.fetchrow(
        """
        UPDATE recordings SET file_id = $2, uploaded_by = $3, status = 'processing', updated_at = now(),
            started_at = CASE WHEN started_at IS NOT NULL THEN least(greatest(started_at, $4), stopped_at) END,
            stopped_at = CASE WHEN started_at IS NOT NULL THEN coalesce(stopped_at, clock_timestamp()) END
        WHERE id = $1 AND file_id IS NULL AND status IN ('recording', 'processing') RETURNING id
        """,
        recording_id,
        file_id,
        uploaded_by,
        began_at,
    )
    return row is not None


async def insert_with_file(
    connection: Connection,
    session_id: UUID,
    *,
    recording_id: UUID,
    file_id: UUID,
    uploaded_by: str,
    began_at: datetime | None = None,
) -> None:
    """A recording that was made elsewhere, or a part of one that ran here (`began_at`): it begins with its file."""
    await connection.execute(
        """
        INSERT INTO recordings (id, session_id, uploaded_by, status, file_id, started_at, stopped_at)
        VALUES ($1, $2, $3, 'processing', $4, $5, CASE WHEN $5::timestamptz IS NOT NULL THEN clock_timestamp() END)
        """,
        recording_id,
        session_id,
        uploaded_by,
        file_id,
        began_at,
    )


async def finish(
    connection: Connection,
    recording_id: UUID,
    status: Status,
    *,
    seconds: float | None = None,
    failure: str | None = None,
) -> bool:
    """Say what became of a recording that was not finished: `completed`, with how long its file plays, or `failed`.

    False: it is finished already, or gone.
    """
    row = await connection.fetchrow(
        """
        UPDATE recordings SET status = $2, duration_seconds = coalesce(round($3::float8)::integer, duration_seconds),
            failure = $4, updated_at = now(),
            stopped_at = CASE WHEN started_at IS NOT NULL THEN coalesce(stopped_at, clock_timestamp()) END
        WHERE id = $1 AND status IN ('recording', 'processing') RETURNING id
        """,
        recording_id,
        status,
        seconds,
        failure,
    )
    return row is not None


async def drop_file(connection: Connection, recording_id: UUID) -> None:
    """Let go of a file that failed, so that it can be swept."""
    await connection.execute("UPDATE recordings SET file_id = NULL, updated_at = now() WHERE id = $1", recording_id)


async def find(executor: Executor, recording_id: UUID) -> Recording | None:
    with translated():
        row = await executor.fetchrow(f"{_SELECT} WHERE r.id = $1", recording_id)
    return Recording.from_row(row) if row else None


async def of_file(executor: Executor, file_id: UUID) -> Recording | None:
    """The recording whose file this is."""
    with translated():
        row = await executor.fetchrow(f"{_SELECT} WHERE r.file_id = $1", file_id)
    return Recording.from_row(row) if row else None


async def running(executor: Executor, session_id: UUID) -> Recording | None:
    with translated():
        row = await executor.fetchrow(f"{_SELECT} WHERE r.session_id = $1 AND r.status = 'recording'", session_id)
    return Recording.from_row(row) if row else None


async def of_session(
    executor: Executor, session_id: UUID, *, before: UUID | None = None, limit: int
) -> Sequence[Recording]:
    """The newest `limit` recordings of a session, older than the id `before`, newest first."""
    with translated():
        rows = await executor.fetch(
            f"""
            SELECT {_COLUMNS}, r.file_id IS NULL AND EXISTS (
                SELECT FROM files film WHERE film.session_id = r.session_id AND film.state = 'uploading'
                    AND film.details ->> 'film' = 'true' AND film.details ->> 'recording_id' = r.id::text
            ) AS arriving
            FROM recordings r LEFT JOIN files f ON f.id = r.file_id
            WHERE r.session_id = $1 AND r.id < $2 ORDER BY r.session_id DESC, r.id DESC LIMIT $3
            """,
            session_id,
            NO_END if before is None else before,
            limit,
        )
    return [Recording.from_row(row) for row in rows]


async def delete(connection: Connection, recording_id: UUID) -> bool:
    """Take a recording out; its file goes with it. Inside a transaction that holds the session's row."""
    row = await connection.fetchrow("DELETE FROM recordings WHERE id = $1 RETURNING id", recording_id)
    return row is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """When a recording ran; it may run still."""

    id: UUID
    started_at: datetime
    stopped_at: datetime | None


async def spans(executor: Executor, session_id: UUID, *, limit: int) -> Sequence[Span]:
    """When the newest `limit` recordings of a session ran, newest first, without those that were made elsewhere."""
    with translated():
        rows = await executor.fetch(
            """
            SELECT id, started_at, stopped_at FROM recordings
            WHERE session_id = $1 AND started_at IS NOT NULL ORDER BY session_id DESC, id DESC LIMIT $2
            """,
            session_id,
            limit,
        )
    return [Span(id=row["id"], started_at=row["started_at"], stopped_at=row["stopped_at"]) for row in rows]


# For those who look after them


async def left_running(executor: Executor, *, before: datetime, limit: int) -> Sequence[UUID]:
    """Sessions in which a recording runs that began before that time."""
    with translated():
        rows = await executor.fetch(
            """
            SELECT session_id FROM recordings
            WHERE status IN ('recording', 'processing') AND updated_at < $1
              AND status = 'recording' AND started_at < $1
            ORDER BY updated_at LIMIT $2
            """,
            before,
            limit,
        )
    return [row["session_id"] for row in rows]


async def without_a_file(executor: Executor, *, before: datetime, limit: int) -> Sequence[Recording]:
    """Recordings that were stopped before that time and whose file never came."""
    with translated():
        rows = await executor.fetch(
            f"""
            {_SELECT} WHERE r.status IN ('recording', 'processing') AND r.updated_at < $1
              AND r.status = 'processing' AND r.file_id IS NULL
            ORDER BY r.updated_at LIMIT $2
            """,
            before,
            limit,
        )
    return [Recording.from_row(row) for row in rows]


async def older_than(executor: Executor, first_kept: UUID, *, limit: int) -> Sequence[Recording]:
    """The oldest recordings with ids below `first_kept`.

    Those that run still, or whose file is on its way through, are left out.
    """
    with translated():
        rows = await executor.fetch(
            f"{_SELECT} WHERE r.id < $1 AND r.status IN ('completed', 'failed') ORDER BY r.id LIMIT $2",
            first_kept,
            limit,
        )
    return [Recording.from_row(row) for row in rows]
