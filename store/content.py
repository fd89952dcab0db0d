"""What a course holds beside its live classes: films and sounds, in an order, each with its access and its counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import asyncpg

from store.database import Connection, Executor
from store.enrollments import Tier
from store.errors import translated

ContentType = Literal["video", "audio"]
AccessLevel = Literal["free", "enrolled_only", "premium"]
UploadStatus = Literal["uploading", "processing", "completed", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """One piece of a course: S4's `course_content`. Its file is `file_id`, a picture of it `thumbnail_file_id`, or else
    `file_thumbnail_key`, which was taken from the film. `failure` says to people why it cannot be played."""

    id: UUID
    course_id: UUID
    title: str
    description: str
    content_type: ContentType
    file_id: UUID | None
    file_name: str
    file_size: int
    mime_type: str | None
    duration_seconds: int | None
    thumbnail_file_id: UUID | None
    upload_status: UploadStatus
    failure: str | None
    content_order: int
    is_preview: bool
    access_level: AccessLevel
    view_count: int
    like_count: int
    comment_count: int
    created_by: str
    created_at: datetime
    updated_at: datetime
    file_thumbnail_key: str | None = None

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Content:
        return cls(**{name: row[name] for name in cls.__slots__})


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A piece of content as one person finds it: who gives its course, and how they are enrolled in that."""

    content: Content
    instructor_id: str
    tier: Tier | None
    liked: bool


_COLUMNS: Final = """
    c.id, c.course_id, c.title, c.description, c.content_type, c.file_id, c.file_name, c.file_size, c.mime_type,
    c.duration_seconds, c.thumbnail_file_id, c.upload_status, c.failure, c.content_order, c.is_preview, c.access_level,
    c.view_count, c.like_count, c.comment_count, c.created_by, c.created_at, c.updated_at,
    f.thumbnail_key AS file_thumbnail_key
"""
_SELECT: Final = f"SELECT {_COLUMNS} FROM course_content c LEFT JOIN files f ON f.id = c.file_id"


async def insert(
    connection: Connection,
    *,
    content_id: UUID,
    course_id: UUID,
    title: str,
    description: str,
    content_type: ContentType,
    file_id: UUID,
    file_name: str,
    file_size: int,
    mime_type: str,
    upload_status: UploadStatus,
    content_order: int | None,
    is_preview: bool,
    access_level: AccessLevel,
    created_by: str,
) -> None:
    """Write a piece of content; without a place in the order, behind all others.

    Inside a transaction that holds the course's row.
    """
    await connection.execute(
        """
        INSERT INTO course_content (
            id, course_id, title, description, content_type, file_id, file_name, file_size, mime_type, upload_status,
            content_order, is_preview, access_level, created_by
        ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, coalesce($11, 1 + coalesce((
            SELECT content_order FROM course_content WHERE course_id = $2
            ORDER BY course_id DESC, content_order DESC, id DESC LIMIT 1
        ), 0)), $12, $13, $14)
        """,
        content_id,
        course_id,
        title,
        description,
        content_type,
        file_id,
        file_name,
        file_size,
        mime_type,
        upload_status,
        content_order,
        is_preview,
        access_level,
        created_by,
    )


async def find(executor: Executor, content_id: UUID) -> Content | None:
    with translated():
        row = await executor.fetchrow(f"{_SELECT} WHERE c.id = $1", content_id)
    return Content.from_row(row) if row else None


async def of_file(executor: Executor, file_id: UUID) -> Content | None:
    """The content whose file this is."""
    with translated():
        row = await executor.fetchrow(f"{_SELECT} WHERE c.file_id = $1", file_id)
    return Content.from_row(row) if row else None


async def find_for(executor: Executor, content_id: UUID, user_id: str) -> Found | None:
    """A piece of content, for this person."""
    with translated():
        row = await executor.fetchrow(
            f"""
            SELECT {_COLUMNS}, k.instructor_id, (
                SELECT tier FROM enrollments e WHERE e.course_id = c.course_id AND e.user_id = $2
            ) AS tier, coalesce((
                SELECT true FROM content_likes l WHERE l.content_id = c.id AND l.user_id = $2
            ), false) AS liked
            FROM course_content c JOIN courses k ON k.id = c.course_id LEFT JOIN files f ON f.id = c.file_id
            WHERE c.id = $1
            """,
            content_id,
            user_id,
        )
    if row is None:
        return None
    return Found(
        content=Content.from_row(row), instructor_id=row["instructor_id"], tier=row["tier"], liked=row["liked"]
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A place in a course's order."""

    content_order: int
    id: UUID


async def of_course(
    executor: Executor, course_id: UUID, *, only_completed: bool, after: Place | None, limit: int
) -> Sequence[Content]:
    """The first `limit` pieces of a course after a place in its order; `only_completed`: those that can be played."""
    with translated():
        rows = await executor.fetch(
            f"""
            {_SELECT} WHERE c.course_id = $1 AND (c.content_order, c.id) > ($2, $3)
                AND (NOT $4 OR c.upload_status = 'completed')
            ORDER BY c.course_id, c.content_order, c.id LIMIT $5
            """,
            course_id,
            -(2**31) if after is None else after.content_order,
            UUID(int=0) if after is None else after.id,
            only_completed,
            limit,
        )
    return [Content.from_row(row) for row in rows]


async def save(
    connection: Connection,
    content_id: UUID,
    *,
    title: str | None,
    description: str | None,
    content_order: int | None,
    is_preview: bool | None,
    access_level: AccessLevel | None,
) -> None:
    """Replace what is given; None leaves it as it is."""
    await connection.execute(
        """
        UPDATE course_content SET title = coalesce($2, title), description = coalesce($3, description),
            content_order = coalesce($4, content_order), is_preview = coalesce($5, is_preview),
            access_level = coalesce($6, access_level), updated_at = now()
        WHERE id = $1
        """,
        content_id,
        title,
        description,
        content_order,
        is_preview,
        access_level,
    )


async def save_thumbnail(connection: Connection, content_id: UUID, file_id: UUID) -> None:
    await connection.execute(
        "UPDATE course_content SET thumbnail_file_id = $2, updated_at = now() WHERE id = $1", content_id, file_id
    )


async def save_whole(connection: Connection, file_id: UUID, *, name: str, size: int, mime_type: str) -> bool:
    """The file has come in whole: its content is `processing`. False: there is no content for it yet."""
    row = await connection.fetchrow(
        """
        UPDATE course_content SET upload_status = 'processing', file_name = $2, file_size = $3, mime_type = $4,
            updated_at = now()
        WHERE file_id = $1 RETURNING id
        """,
        file_id,
        name,
        size,
        mime_type,
    )
    return row is not None


async def finish(
    connection: Connection,
    file_id: UUID,
    *,
    status: UploadStatus,
    size: int,
    seconds: float | None,
    failure: str | None,
) -> UUID | None:
    """Say what became of the content whose file this is; its id. None: it was finished before, or is gone.

    One that `failed` lets go of its file.
    """
    content_id: UUID | None = await connection.fetchval(
        """
        UPDATE course_content SET upload_status = $2, file_size = $3, failure = $5, updated_at = now(),
            duration_seconds = coalesce(round($4::float8)::integer, duration_seconds),
            file_id = CASE WHEN $2 <> 'failed' THEN file_id END
        WHERE file_id = $1 AND upload_status IN ('uploading', 'processing') RETURNING id
        """,
        file_id,
        status,
        size,
        seconds,
        failure,
    )
    return content_id


async def forget(connection: Connection, file_id: UUID) -> None:
    """Take away the content of a file that did not come in whole: there is nothing to show of it, nor to mend."""
    await connection.execute("DELETE FROM course_content WHERE file_id = $1 AND upload_status = 'uploading'", file_id)


async def delete(connection: Connection, content_id: UUID) -> bool:
    """Take it away, with its files. Inside a transaction that holds the course's row."""
    row = await connection.fetchrow("DELETE FROM course_content WHERE id = $1 RETURNING id", content_id)
    return row is not None
