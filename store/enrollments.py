"""Enrolments: who takes part in a course. It may have ten thousand: they are asked for one by one, or in pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import asyncpg

from store.database import Connection, Executor
from store.errors import translated

Tier = Literal["standard", "premium"]

#: The constraint that the enrolment of somebody unknown offends.
USER_EXISTS: Final = "enrollments_user_exists"


@dataclass(frozen=True, kw_only=True, slots=True)
class Enrollment:
    """A person in a course. `name` is theirs at present, or their id while they have none."""

    course_id: UUID
    user_id: str
    name: str
    tier: Tier
    created_at: datetime

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Enrollment:
        return cls(**{name: row[name] for name in cls.__slots__})


_ENROLLMENT: Final = """
    SELECT e.course_id, e.user_id, e.tier, e.created_at,
           coalesce(nullif(trim(u.first_name || ' ' || u.last_name), ''), u.id) AS name
    FROM enrollments e JOIN users u ON u.id = e.user_id
"""


async def find(executor: Executor, course_id: UUID, user_id: str) -> Enrollment | None:
    """The person's enrolment in the course: None for those who are not in it."""
    with translated():
        row = await executor.fetchrow(f"{_ENROLLMENT} WHERE e.course_id = $1 AND e.user_id = $2", course_id, user_id)
    return Enrollment.from_row(row) if row else None


async def save(connection: Connection, course_id: UUID, user_id: str, *, tier: Tier | None) -> tuple[Enrollment, bool]:
    """Enrol somebody, or give who is enrolled another tier: the enrolment, and whether it is new.

    No tier: the one that stands; at first `standard`. Inside a transaction that holds the course's row. The database
    refuses unknown people: USER_EXISTS.
    """
    is_new = await connection.fetchval(
        """
        INSERT INTO enrollments (course_id, user_id, tier) VALUES ($1, $2, coalesce($3, 'standard'))
        ON CONFLICT (course_id, user_id) DO NOTHING RETURNING true
        """,
        course_id,
        user_id,
        tier,
    )
    if not is_new and tier is not None:
        await connection.execute(
            "UPDATE enrollments SET tier = $3 WHERE course_id = $1 AND user_id = $2 AND tier <> $3",
            course_id,
            user_id,
            tier,
        )
    enrollment = await find(connection, course_id, user_id)
    assert enrollment is not None, "the course's row is held"
    return enrollment, bool(is_new)


async def delete(connection: Connection, course_id: UUID, user_id: str) -> bool:
    """End somebody's enrolment. False: there was none."""
    row = await connection.fetchrow(
        "DELETE FROM enrollments WHERE course_id = $1 AND user_id = $2 RETURNING user_id", course_id, user_id
    )
    return row is not None


async def in_course(
    executor: Executor, course_id: UUID, *, after: str | None = None, limit: int
) -> Sequence[Enrollment]:
    """The first `limit` enrolments in a course after the person `after`, by their ids."""
    with translated():
        rows = await executor.fetch(
            f"{_ENROLLMENT} WHERE e.course_id = $1 AND e.user_id > $2 ORDER BY e.user_id LIMIT $3",
            course_id,
            after or "",
            limit,
        )
    return [Enrollment.from_row(row) for row in rows]
