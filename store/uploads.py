"""Files on their way in: how far each has come, and who writes to it just now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import asyncpg

from store.database import Connection, Executor
from store.errors import translated

Family = Literal["video", "audio", "image", "document"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """A file on its way. `offset` bytes of `length` (None: nobody knows yet) lie safe: in `head`, while these are too
    few to tell the type by, then in the object store, where `state` goes on. `mime_wanted` and `families` narrow what
    may come; `watchers` are told of its progress beside its owner.
    """

    file_id: UUID
    length: int | None
    offset: int
    head: bytes
    state: str | None
    metadata: str
    mime_wanted: str | None
    families: Sequence[Family] | None
    watchers: Sequence[str]
    resumable: bool
    expires_at: datetime

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Upload:
        return cls(**{name: row[name] for name in cls.__slots__})


_COLUMNS: Final = ", ".join(f'"{name}"' for name in Upload.__slots__)


async def find(executor: Executor, file_id: UUID) -> Upload | None:
    with translated():
        row = await executor.fetchrow(f"SELECT {_COLUMNS} FROM uploads WHERE file_id = $1", file_id)
    return Upload.from_row(row) if row else None


async def insert(
    connection: Connection,
    *,
    file_id: UUID,
    length: int | None,
    metadata: str,
    mime_wanted: str | None,
    families: Sequence[Family] | None,
    watchers: Sequence[str],
    resumable: bool,
    expires_at: datetime,
) -> None:
    await connection.execute(
        """
        INSERT INTO uploads (file_id, length, metadata, mime_wanted, families, watchers, resumable, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        file_id,
        length,
        metadata,
        mime_wanted,
        families,
        watchers,
        resumable,
        expires_at,
    )


async def others_film(
    connection: Connection,
    file_id: UUID,
    *,
    session_id: UUID | None,
    recording_id: str,
    page: str,
    expires_after: datetime,
) -> bool:
    """Whether another page's film of the recording is on its way, which has not rested for long."""
    found: bool = await connection.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM files JOIN uploads ON uploads.file_id = files.id
            WHERE files.session_id = $2 AND files.state = 'uploading' AND files.id <> $1
                AND files.details ->> 'film' = 'true' AND files.details ->> 'recording_id' = $3
                AND coalesce(files.details ->> 'page', '') IS DISTINCT FROM nullif($4, '')
                AND uploads.length IS NULL AND uploads.expires_at > $5
        )
        """,
        file_id,
        session_id,
        recording_id,
        page,
        expires_after,
    )
    return found


# The lease: one writer at a time

_TAKE: Final = f"""
    UPDATE uploads SET lease_holder = $2, lease_until = now() + make_interval(secs => $3), lease_wanted = false
    WHERE file_id = $1 AND (lease_holder IS NULL OR lease_until < now())
    RETURNING {_COLUMNS}
"""


async def take(executor: Executor, file_id: UUID, holder: UUID, *, seconds: float) -> Upload | None:
    """Become the one who writes, for so many seconds. None: somebody else does, or there is no such upload."""
    with translated():
        row = await executor.fetchrow(_TAKE, file_id, holder, seconds)
    return Upload.from_row(row) if row else None


async def want(executor: Executor, file_id: UUID) -> bool:
    """Ask whoever writes to let go. False: nobody writes, or there is no such upload."""
    with translated():
        row = await executor.fetchrow(
            """
            UPDATE uploads SET lease_wanted = true
            WHERE file_id = $1 AND lease_holder IS NOT NULL AND lease_until >= now() RETURNING file_id
            """,
            file_id,
        )
    return row is not None


async def hold_on(executor: Executor, file_id: UUID, holder: UUID, *, seconds: float) -> bool:
    """Go on writing for so many seconds. False: somebody else wants to, or does already, or the upload is gone."""
    with translated():
        row = await executor.fetchrow(
            """
            UPDATE uploads SET lease_until = now() + make_interval(secs => $3)
            WHERE file_id = $1 AND lease_holder = $2 AND NOT lease_wanted RETURNING file_id
            """,
            file_id,
            holder,
            seconds,
        )
    return row is not None


async def let_go(executor: Executor, file_id: UUID, holder: UUID) -> None:
    with translated():
        await executor.execute(
            """
            UPDATE uploads SET lease_holder = NULL, lease_until = '-infinity', lease_wanted = false
            WHERE file_id = $1 AND lease_holder = $2
            """,
            file_id,
            holder,
        )


async def save(
    executor: Executor,
    file_id: UUID,
    holder: UUID,
    *,
    offset: int,
    head: bytes,
    state: str | None,
    expires_at: datetime | None = None,
) -> bool:
    """Write down how far it has come. False: the lease was lost, and nothing was written."""
    with translated():
        row = await executor.fetchrow(
            """
            UPDATE uploads SET "offset" = $3, head = $4, state = $5, expires_at = coalesce($6, expires_at)
            WHERE file_id = $1 AND lease_holder = $2 RETURNING file_id
            """,
            file_id,
            holder,
            offset,
            head,
            state,
            expires_at,
        )
    return row is not None


async def save_length(executor: Executor, file_id: UUID, holder: UUID, length: int) -> bool:
    """Write down how long it is, where nobody knew. False: the lease was lost, and nothing was written."""
    with translated():
        row = await executor.fetchrow(
            "UPDATE uploads SET length = $3 WHERE file_id = $1 AND lease_holder = $2 RETURNING file_id",
            file_id,
            holder,
            length,
        )
    return row is not None


async def delete(connection: Connection, file_id: UUID, holder: UUID) -> bool:
    """The upload is over. False: the lease was lost, and nothing was changed."""
    row = await connection.fetchrow(
        "DELETE FROM uploads WHERE file_id = $1 AND lease_holder = $2 RETURNING file_id", file_id, holder
    )
    return row is not None


_TAKE_EXPIRED: Final = f"""
    UPDATE uploads SET lease_holder = $1, lease_until = now() + make_interval(secs => $2), lease_wanted = false
    WHERE file_id = ANY (ARRAY(
        SELECT file_id FROM uploads WHERE expires_at < now() AND lease_until < now()
        ORDER BY expires_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
    )) RETURNING {_COLUMNS}
"""


async def take_expired(executor: Executor, holder: UUID, *, seconds: float, limit: int) -> Sequence[Upload]:
    """Uploads whose time is up and to which nobody writes; they are the holder's now."""
    with translated():
        rows = await executor.fetch(_TAKE_EXPIRED, holder, seconds, limit)
    return [Upload.from_row(row) for row in rows]


async def put_off(executor: Executor, file_id: UUID, holder: UUID, *, seconds: float) -> None:
    """Have an upload whose time is up ended by somebody after so many seconds, unless somebody goes on with it."""
    with translated():
        await executor.execute(
            """
            UPDATE uploads SET lease_holder = NULL, lease_until = '-infinity', lease_wanted = false,
                expires_at = now() + make_interval(secs => $3)
            WHERE file_id = $1 AND (lease_holder = $2 OR lease_holder IS NULL)
            """,
            file_id,
            holder,
            seconds,
        )


# What uploads that are over have written


async def give_up_later(executor: Executor, key: str, state: str, *, seconds: float = 0.0) -> None:
    """Have what an upload has written removed after so many seconds, unless :func:`given_up` is called before."""
    with translated():
        await executor.execute(
            """
            INSERT INTO uploads_to_give_up (key, state, due_at) VALUES ($1, $2, now() + make_interval(secs => $3))
            ON CONFLICT (key, state) DO UPDATE SET due_at = excluded.due_at
            """,
            key,
            state,
            seconds,
        )


async def to_give_up(executor: Executor, *, limit: int) -> Sequence[tuple[str, str]]:
    """Keys and states whose time has come, the longest due first."""
    with translated():
        rows = await executor.fetch(
            "SELECT key, state FROM uploads_to_give_up WHERE due_at <= now() ORDER BY due_at LIMIT $1", limit
        )
    return [(row["key"], row["state"]) for row in rows]


async def given_up(executor: Executor, key: str, state: str) -> None:
    """Nothing is left of it that is to be removed."""
    with translated():
        await executor.execute("DELETE FROM uploads_to_give_up WHERE key = $1 AND state = $2", key, state)
