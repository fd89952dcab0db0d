"""Lessons as a calendar shows them, and what the links to people's calendars are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from store.bookings import Status
from store.database import Executor
from store.errors import translated

#: The key of `server_keys` that links are signed with.
_KEY: Final = "calendar"


@dataclass(frozen=True, kw_only=True, slots=True)
class Appointment:
    """A booking with the names that its entry shows. `sequence` rises with each change of its time or status.

    `timezone` is the teacher's.
    """

    id: UUID
    start_time: datetime
    end_time: datetime
    status: Status
    created_at: datetime
    updated_at: datetime
    sequence: int
    title: str
    timezone: str
    student_name: str
    teacher_name: str
    teacher_email: str | None

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Appointment:
        return cls(**{name: row[name] for name in cls.__slots__})


_APPOINTMENT: Final = """
    SELECT b.id, b.start_time, b.end_time, b.status, b.created_at, b.updated_at, b.calendar_sequence AS sequence,
           coalesce(s.title, '') AS title, t.timezone, t.email AS teacher_email,
           coalesce(nullif(trim(p.first_name || ' ' || p.last_name), ''), p.id) AS student_name,
           coalesce(nullif(trim(t.first_name || ' ' || t.last_name), ''), t.id) AS teacher_name
    FROM bookings b
    JOIN users p ON p.id = b.student_id
    JOIN users t ON t.id = b.teacher_id
    LEFT JOIN sessions s ON s.id = b.id
"""


async def appointment(executor: Executor, booking_id: UUID) -> Appointment | None:
    with translated():
        row = await executor.fetchrow(f"{_APPOINTMENT} WHERE b.id = $1", booking_id)
    return Appointment.from_row(row) if row else None


_APPOINTMENTS_OF: Final = f"""
    {_APPOINTMENT}
    WHERE b.id IN (
        SELECT id FROM bookings WHERE student_id = $1 AND start_time >= $2
        UNION
        SELECT id FROM bookings WHERE teacher_id = $1 AND start_time >= $2
        UNION
        SELECT id FROM bookings WHERE parent_id = $1 AND start_time >= $2
        UNION
        SELECT child.id FROM users c JOIN bookings child ON child.student_id = c.id
        WHERE c.parent_id = $1 AND c.parent_accepted AND child.start_time >= $2
    )
    ORDER BY b.start_time, b.id LIMIT $3
"""


async def appointments_of(
    executor: Executor, user_id: str, *, starts_from: datetime, limit: int
) -> Sequence[Appointment]:
    """The first `limit` lessons from `starts_from` on in which somebody is student, teacher or parent, by start."""
    with translated():
        rows = await executor.fetch(_APPOINTMENTS_OF, user_id, starts_from, limit)
    return [Appointment.from_row(row) for row in rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkSecret:
    """What the token of somebody's link is made of: this installation's key, and how often they took a link back."""

    key: bytes
    generation: int


async def link_secret(executor: Executor, user_id: str) -> LinkSecret | None:
    """None: nobody is known by that id."""
    with translated():
        row = await executor.fetchrow(
            """
            SELECT k.key, coalesce(l.generation, 0) AS generation
            FROM users u
            JOIN server_keys k ON k.name = $2
            LEFT JOIN calendar_links l ON l.user_id = u.id
            WHERE u.id = $1
            """,
            user_id,
            _KEY,
        )
    return LinkSecret(key=row["key"], generation=row["generation"]) if row else None


async def take_back_links(executor: Executor, user_id: str) -> None:
    """Have the person's links so far open nothing any more. The person is known."""
    with translated():
        await executor.execute(
            """
            INSERT INTO calendar_links AS l (user_id, generation) VALUES ($1, 1)
            ON CONFLICT (user_id) DO UPDATE SET generation = l.generation + 1
            """,
            user_id,
        )
