"""Courses: what an instructor teaches to those who are enrolled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from store.bookings import Position
from store.database import Connection, Executor
from store.errors import translated

#: The constraint that a course of somebody unknown offends.
INSTRUCTOR_EXISTS: Final = "courses_instructor_exists"


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """A course. `enrollment_count` and `content_count` are the database's own counts; the latter of whatever was sent,
    also of what cannot be played (yet)."""

    id: UUID
    instructor_id: str
    title: str
    description: str
    enrollment_count: int
    created_at: datetime
    updated_at: datetime
    content_count: int = 0
    thumbnail_file_id: UUID | None = None

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Course:
        return cls(**{name: row[name] for name in cls.__slots__})


@dataclass(frozen=True, kw_only=True, slots=True)
class TaughtCourse:
    """A course as its instructor looks at it: with how many live classes it has had and will have."""

    course: Course
    session_count: int


# Named one by one: a migration that adds a column would end what workers have prepared, in the middle of transactions.
_COURSE: Final = """
    c.id, c.instructor_id, c.title, c.description, c.enrollment_count, c.created_at, c.updated_at, c.content_count,
    c.thumbnail_file_id
"""


async def insert(
    connection: Connection, *, course_id: UUID, instructor_id: str, title: str, description: str
) -> Course:
    """Make a course. The database refuses an unknown instructor: INSTRUCTOR_EXISTS."""
    row = await connection.fetchrow(
        f"""
        INSERT INTO courses AS c (id, instructor_id, title, description) VALUES ($1, $2, $3, $4) RETURNING {_COURSE}
        """,
        course_id,
        instructor_id,
        title,
        description,
    )
    assert row is not None, "it answers what it wrote"
    return Course.from_row(row)


async def find(executor: Executor, course_id: UUID) -> Course | None:
    with translated():
        row = await executor.fetchrow(f"SELECT {_COURSE} FROM courses c WHERE c.id = $1", course_id)
    return Course.from_row(row) if row else None


async def locked(connection: Connection, course_id: UUID) -> Course | None:
    """The course, kept for this transaction: nobody else changes it, its enrolments or its instructor until commit.

    Its row is taken before those of its sessions.
    """
    row = await connection.fetchrow(f"SELECT {_COURSE} FROM courses c WHERE c.id = $1 FOR NO KEY UPDATE", course_id)
    return Course.from_row(row) if row else None


async def save(
    connection: Connection,
    course_id: UUID,
    *,
    title: str | None,
    description: str | None,
    instructor_id: str | None,
) -> Course:
    """Replace what is given; None leaves it as it is. Inside a transaction that holds the course's row.

    The database refuses an unknown instructor: INSTRUCTOR_EXISTS.
    """
    row = await connection.fetchrow(
        f"""
        UPDATE courses c SET title = coalesce($2, c.title), description = coalesce($3, c.description),
            instructor_id = coalesce($4, c.instructor_id), updated_at = now()
        WHERE c.id = $1 RETURNING {_COURSE}
        """,
        course_id,
        title,
        description,
        instructor_id,
    )
    assert row is not None, "its row is held"
    return Course.from_row(row)


async def save_thumbnail(connection: Connection, course_id: UUID, file_id: UUID) -> None:
    """Give a course a picture. Inside a transaction that holds the course's row."""
    await connection.execute(
        "UPDATE courses SET thumbnail_file_id = $2, updated_at = now() WHERE id = $1", course_id, file_id
    )


_NEWEST: Final = f"SELECT {_COURSE} FROM courses c ORDER BY c.created_at DESC, c.id DESC LIMIT $1"
_NEWEST_AFTER: Final = f"""
    SELECT {_COURSE} FROM courses c WHERE (c.created_at, c.id) < ($2, $3)
    ORDER BY c.created_at DESC, c.id DESC LIMIT $1
"""


async def newest(executor: Executor, *, after: Position | None = None, limit: int) -> Sequence[Course]:
    """The first `limit` courses after `after`, newest first."""
    with translated():
        if after is None:
            rows = await executor.fetch(_NEWEST, limit)
        else:
            rows = await executor.fetch(_NEWEST_AFTER, limit, after.start_time, after.id)
    return [Course.from_row(row) for row in rows]


_TAUGHT: Final = f"""
    SELECT {_COURSE}, (SELECT count(*) FROM sessions s WHERE s.course_id = c.id) AS session_count
    FROM courses c WHERE c.instructor_id = $1 {{after}} ORDER BY c.created_at DESC, c.id DESC LIMIT $2
"""
_TAUGHT_NEWEST: Final = _TAUGHT.format(after="")
_TAUGHT_AFTER: Final = _TAUGHT.format(after="AND (c.created_at, c.id) < ($3, $4)")


async def taught_by(
    executor: Executor, instructor_id: str, *, after: Position | None = None, limit: int
) -> Sequence[TaughtCourse]:
    """The first `limit` courses of an instructor after `after`, newest first."""
    with translated():
        if after is None:
            rows = await executor.fetch(_TAUGHT_NEWEST, instructor_id, limit)
        else:
            rows = await executor.fetch(_TAUGHT_AFTER, instructor_id, limit, after.start_time, after.id)
    return [TaughtCourse(course=Course.from_row(row), session_count=row["session_count"]) for row in rows]
