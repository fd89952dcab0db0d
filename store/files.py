"""Files that people upload: what is known of each, what their owners' files take, and objects that are to go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg

from store.database import Connection, Executor
from store.errors import translated

Purpose = Literal["recording", "content", "document", "thumbnail"]
State = Literal["uploading", "processing", "ready", "failed"]

#: The key of `server_keys` that links to files are signed with.
_KEY: Final = "links"


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A file. `key` is where its bytes lie; `mime` is by its first bytes, "" until they have come; `size` what is set
    aside for it until it is whole, and `sent_size` what it had when it came, though it was made anew since. `details`
    are of those whose purpose it serves; `reason` is why it failed.
    """

    id: UUID
    key: str
    owner_id: str
    purpose: Purpose
    session_id: UUID | None
    course_id: UUID | None
    details: Mapping[str, Any]
    name: str
    mime: str
    size: int
    sent_size: int
    state: State
    reason: str | None
    seconds: float | None
    width: int | None
    height: int | None
    video_codec: str | None
    audio_codec: str | None
    thumbnail_key: str | None
    tries: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> File:
        return cls(**{name: row[name] for name in cls.__slots__})


_COLUMNS: Final = ", ".join(File.__slots__)


async def find(executor: Executor, file_id: UUID) -> File | None:
    with translated():
        row = await executor.fetchrow(f"SELECT {_COLUMNS} FROM files WHERE id = $1", file_id)
    return File.from_row(row) if row else None


async def hold_place(connection: Connection, *, session_id: UUID | None, course_id: UUID | None) -> None:
    """Keep what a file belongs to for this transaction.

    Everybody takes the session or the course first, then the recording or the piece of content, then the file, then
    its upload and what its owner's files take: nobody waits in a circle.
    """
    if session_id is not None:
        await connection.execute("SELECT FROM sessions WHERE id = $1 FOR NO KEY UPDATE", session_id)
    if course_id is not None:
        await connection.execute("SELECT FROM courses WHERE id = $1 FOR NO KEY UPDATE", course_id)


async def locked(connection: Connection, file_id: UUID) -> File | None:
    """The file, kept for this transaction, and before it what it belongs to."""
    # A place is given to a file only as its state changes, or taken from it: see `save_place`.
    place = await connection.fetchrow("SELECT session_id, course_id FROM files WHERE id = $1", file_id)
    if place is None:
        return None
    await hold_place(connection, **place)
    row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM files WHERE id = $1 FOR NO KEY UPDATE", file_id)
    return File.from_row(row) if row else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What somebody's files take in bytes, and how many of them are on their way."""

    bytes: int
    uploading: int


_ON_THEIR_WAY: Final = "SELECT count(*) FROM files WHERE owner_id = $1 AND state = 'uploading'"


async def usage(connection: Connection, owner_id: str) -> Usage:
    """What a known person's files take, kept for this transaction: nobody else adds to it until commit."""
    await connection.execute("INSERT INTO file_usage (user_id) VALUES ($1) ON CONFLICT DO NOTHING", owner_id)
    taken = await connection.fetchval("SELECT bytes FROM file_usage WHERE user_id = $1 FOR NO KEY UPDATE", owner_id)
    # A new statement: it sees what others committed before the row was ours.
    uploading = await connection.fetchval(_ON_THEIR_WAY, owner_id)
    return Usage(bytes=taken, uploading=uploading)


async def insert(
    connection: Connection,
    *,
    file_id: UUID,
    key: str,
    owner_id: str,
    purpose: Purpose,
    name: str,
    size: int,
    session_id: UUID | None = None,
    course_id: UUID | None = None,
    details: Mapping[str, Any],
) -> File:
    """Make a file that is on its way, of a known person."""
    row = await connection.fetchrow(
        f"""
        INSERT INTO files (id, key, owner_id, purpose, name, size, session_id, course_id, details)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING {_COLUMNS}
        """,
        file_id,
        key,
        owner_id,
        purpose,
        name,
        size,
        session_id,
        course_id,
        details,
    )
    assert row is not None, "it answers what it wrote"
    return File.from_row(row)


async def save_place(
    connection: Connection,
    file_id: UUID,
    *,
    session_id: UUID | None,
    course_id: UUID | None,
    details: Mapping[str, Any],
) -> None:
    """Say where a file belongs that was begun before that was known."""
    await connection.execute(
        "UPDATE files SET session_id = $2, course_id = $3, details = $4, updated_at = now() WHERE id = $1",
        file_id,
        session_id,
        course_id,
        details,
    )


async def save_type(executor: Executor, file_id: UUID, *, mime: str, name: str) -> None:
    with translated():
        await executor.execute(
            "UPDATE files SET mime = $2, name = $3, updated_at = now() WHERE id = $1", file_id, mime, name
        )


async def add_details(executor: Executor, file_id: UUID, details: Mapping[str, Any]) -> None:
    with translated():
        await executor.execute("UPDATE files SET details = details || $2 WHERE id = $1", file_id, details)


async def save_whole(connection: Connection, file_id: UUID, *, size: int, state: State) -> File:
    """A file has come in whole: it is `processing`, or `ready`."""
    row = await connection.fetchrow(
        f"""
        UPDATE files SET size = $2, sent_size = $2, state = $3, updated_at = now() WHERE id = $1 RETURNING {_COLUMNS}
        """,
        file_id,
        size,
        state,
    )
    assert row is not None, "its row is held"
    return File.from_row(row)


async def save_ready(
    connection: Connection,
    file_id: UUID,
    *,
    key: str,
    size: int,
    thumbnail_key: str | None,
    seconds: float | None,
    width: int | None,
    height: int | None,
    video_codec: str | None,
    audio_codec: str | None,
) -> File:
    """A file was looked through, and lies under `key` from now on. Inside a transaction that holds its row."""
    row = await connection.fetchrow(
        f"""
        UPDATE files SET state = 'ready', key = $2, size = $3, thumbnail_key = $4, seconds = $5, width = $6,
            height = $7, video_codec = $8, audio_codec = $9, lease_holder = NULL, updated_at = now()
        WHERE id = $1 RETURNING {_COLUMNS}
        """,
        file_id,
        key,
        size,
        thumbnail_key,
        seconds,
        width,
        height,
        video_codec,
        audio_codec,
    )
    assert row is not None, "its row is held"
    return File.from_row(row)


_END_UPLOAD: Final = """
    WITH ended AS (DELETE FROM uploads WHERE file_id = $1 RETURNING state)
    INSERT INTO uploads_to_give_up (key, state) SELECT $2, state FROM ended WHERE state IS NOT NULL
    ON CONFLICT DO NOTHING
"""


async def save_failed(connection: Connection, file_id: UUID, reason: str) -> File:
    """A file will not be there. Its upload is over, its object is to go. Inside a transaction that holds its row."""
    row = await connection.fetchrow(
        f"""
        UPDATE files SET state = 'failed', reason = $2, lease_holder = NULL, updated_at = now()
        WHERE id = $1 RETURNING {_COLUMNS}
        """,
        file_id,
        reason,
    )
    assert row is not None, "its row is held"
    await connection.execute(_END_UPLOAD, file_id, row["key"])
    await delete_object_later(connection, row["key"])
    return File.from_row(row)


async def delete(connection: Connection, file_id: UUID) -> bool:
    """Remove a file; its objects go soon after the commit. Whether there was one."""
    row = await connection.fetchrow("DELETE FROM files WHERE id = $1 RETURNING id", file_id)
    return row is not None


async def is_in_use(connection: Connection, file_id: UUID) -> bool:
    """Whether a recording, a piece of content or a course has it."""
    in_use: bool = await connection.fetchval(
        """
        SELECT EXISTS (SELECT FROM recordings WHERE file_id = $1)
            OR EXISTS (SELECT FROM course_content WHERE file_id = $1)
            OR EXISTS (SELECT FROM course_content WHERE thumbnail_file_id = $1)
            OR EXISTS (SELECT FROM courses WHERE thumbnail_file_id = $1)
        """,
        file_id,
    )
    return in_use


_FORGET_FAILED: Final = """
    DELETE FROM files WHERE id = ANY (ARRAY(
        SELECT f.id FROM files f WHERE f.state = 'failed' AND f.updated_at < $1
            AND NOT EXISTS (SELECT FROM recordings r WHERE r.file_id = f.id)
            AND NOT EXISTS (SELECT FROM course_content c WHERE c.file_id = f.id)
        ORDER BY f.updated_at LIMIT $2 FOR UPDATE OF f SKIP LOCKED
    )) RETURNING id
"""


async def forget_failed(executor: Executor, *, before: datetime, limit: int) -> int:
    """Remove the rows of files that failed before that and that nothing has; how many."""
    with translated():
        rows = await executor.fetch(_FORGET_FAILED, before, limit)
    return len(rows)


# Files that are looked through


_CLAIM: Final = f"""
    UPDATE files SET lease_holder = $1, lease_until = now() + make_interval(secs => $2), tries = tries + 1
    WHERE id = (
        SELECT id FROM files WHERE state = 'processing' AND lease_until < now()
        ORDER BY lease_until LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ) RETURNING {_COLUMNS}
"""


async def claim_to_look_through(executor: Executor, holder: UUID, *, seconds: float) -> File | None:
    """A file that nobody looks through: the holder does now, and says within so many seconds that it still does."""
    with translated():
        row = await executor.fetchrow(_CLAIM, holder, seconds)
    return File.from_row(row) if row else None


_KEEP_LOOKING: Final = """
    UPDATE files SET lease_until = now() + make_interval(secs => $3)
    WHERE id = $1 AND lease_holder = $2 AND state = 'processing' RETURNING id
"""


async def keep_looking_through(executor: Executor, file_id: UUID, holder: UUID, *, seconds: float) -> bool:
    """Whether the file is still the holder's, for so many seconds more."""
    with translated():
        row = await executor.fetchrow(_KEEP_LOOKING, file_id, holder, seconds)
    return row is not None


async def locked_by_holder(connection: Connection, file_id: UUID, holder: UUID) -> File | None:
    """As :func:`locked`; None where it is another's to look through, or gone."""
    file = await locked(connection, file_id)
    is_holder = await connection.fetchval(
        "SELECT lease_holder = $2 AND state = 'processing' FROM files WHERE id = $1", file_id, holder
    )
    return file if is_holder else None


async def let_go(executor: Executor, file_id: UUID, holder: UUID) -> None:
    """Have somebody else look through it, at once; it does not count as a try."""
    with translated():
        await executor.execute(
            """
            UPDATE files SET lease_holder = NULL, lease_until = '-infinity', tries = tries - 1
            WHERE id = $1 AND lease_holder = $2 AND state = 'processing'
            """,
            file_id,
            holder,
        )


async def put_off(executor: Executor, file_id: UUID, holder: UUID, *, seconds: float, counts: bool) -> None:
    """Have somebody look through it again after so many seconds. `counts`: this was a try."""
    with translated():
        await executor.execute(
            """
            UPDATE files SET lease_holder = NULL, lease_until = now() + make_interval(secs => $3), tries = tries - $4
            WHERE id = $1 AND lease_holder = $2 AND state = 'processing'
            """,
            file_id,
            holder,
            seconds,
            0 if counts else 1,
        )


# Objects that are to go


async def delete_object_later(executor: Executor, key: str, *, seconds: float = 0.0) -> None:
    """Have the object removed after so many seconds, unless :func:`keep_object` is called before."""
    with translated():
        await executor.execute(
            """
            INSERT INTO objects_to_delete (key, due_at) VALUES ($1, now() + make_interval(secs => $2))
            ON CONFLICT (key) DO UPDATE SET due_at = excluded.due_at
            """,
            key,
            seconds,
        )


async def keep_object(connection: Connection, key: str) -> bool:
    """Have the object stay. False: it may be gone already."""
    row = await connection.fetchrow("DELETE FROM objects_to_delete WHERE key = $1 RETURNING key", key)
    return row is not None


_DUE: Final = "SELECT key FROM objects_to_delete WHERE due_at <= now() ORDER BY due_at LIMIT $1"


async def objects_to_delete(executor: Executor, *, limit: int) -> Sequence[str]:
    """Keys whose time has come, the longest due first."""
    with translated():
        rows = await executor.fetch(_DUE, limit)
    return [row["key"] for row in rows]


async def object_deleted(executor: Executor, key: str) -> None:
    with translated():
        await executor.execute("DELETE FROM objects_to_delete WHERE key = $1 AND due_at <= now()", key)


# Links


async def link_key(executor: Executor) -> bytes:
    """This installation's key for links to files."""
    with translated():
        key: bytes = await executor.fetchval("SELECT key FROM server_keys WHERE name = $1", _KEY)
    return key
