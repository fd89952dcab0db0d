"""Bookings: a student, a teacher and a time. That nobody is booked twice is the database's word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias
from uuid import UUID

import asyncpg

from store.database import Connection, Executor
from store.errors import translated

Status = Literal["pending", "confirmed", "completed", "cancelled"]

#: A start and an end.
Span: TypeAlias = tuple[datetime, datetime]

#: The exclusion constraints: of two bookings that overlap, one is refused.
TEACHER_FREE: Final = "bookings_teacher_free"
STUDENT_FREE: Final = "bookings_student_free"
TEACHER_EXISTS: Final = "bookings_teacher_exists"
STUDENT_EXISTS: Final = "bookings_student_exists"


@dataclass(frozen=True, kw_only=True, slots=True)
class Booking:
    """A booking. `student_parent_id`: the parent whom the student has now; `parent_id`: the booking's own.

    `accepted_parent_id`: the parent of now, once they have accepted; until then it is the student's word alone.
    """

    id: UUID
    student_id: str
    teacher_id: str
    parent_id: str | None
    student_parent_id: str | None
    accepted_parent_id: str | None
    start_time: datetime
    end_time: datetime
    status: Status
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Booking:
        return cls(**{name: row[name] for name in cls.__slots__})


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """A place in a list that is ordered by start and id: the last one already read."""

    start_time: datetime
    id: UUID


# Named one by one: a migration that adds a column would end what workers have prepared, in the middle of transactions.
_BOOKING: Final = """
    SELECT b.id, b.student_id, b.teacher_id, b.parent_id, s.parent_id AS student_parent_id,
           CASE WHEN s.parent_accepted THEN s.parent_id END AS accepted_parent_id,
           b.start_time, b.end_time, b.status, b.created_at, b.updated_at
    FROM bookings b JOIN users s ON s.id = b.student_id
"""


async def find(executor: Executor, booking_id: UUID) -> Booking | None:
    with translated():
        row = await executor.fetchrow(f"{_BOOKING} WHERE b.id = $1", booking_id)
    return Booking.from_row(row) if row else None


async def listed(
    executor: Executor,
    *,
    student_id: str | None = None,
    teacher_id: str | None = None,
    status: Status | None = None,
    starts_from: datetime | None = None,
    starts_before: datetime | None = None,
    after: Position | None = None,
    limit: int,
) -> Sequence[Booking]:
    """The first `limit` bookings after `after` that fit, by start and id. `starts_before` is exclusive."""
    filters: list[str] = []
    values: list[object] = []
    for clause, value in (
        ("b.student_id = {}", student_id),
        ("b.teacher_id = {}", teacher_id),
        ("b.status = {}", status),
        ("b.start_time >= {}", starts_from),
        ("b.start_time < {}", starts_before),
    ):
        if value is not None:
            values.append(value)
            filters.append(clause.format(f"${len(values)}"))
    if after is not None:
        values += [after.start_time, after.id]
        filters.append(f"(b.start_time, b.id) > (${len(values) - 1}, ${len(values)})")
    values.append(limit)
    where = " AND ".join(filters) or "true"
    with translated():
        rows = await executor.fetch(
            f"{_BOOKING} WHERE {where} ORDER BY b.start_time, b.id LIMIT ${len(values)}", *values
        )
    return [Booking.from_row(row) for row in rows]


async def take_turns(connection: Connection, people: Sequence[str]) -> None:
    """Let nobody else book or move bookings of these people until the transaction's end.

    Two overlapping bookings each wait for the other in the exclusion checks, which Postgres ends as a
    deadlock. One lock per person, taken in the same order by all, makes them wait in a line instead. To be
    called before any row of the booking is locked.
    """
    await connection.execute(
        """
        SELECT pg_advisory_xact_lock(key) FROM (
            SELECT DISTINCT hashtextextended('bookings of ' || id, 0) AS key FROM unnest($1::text[]) AS id
            ORDER BY key
        ) AS ordered
        """,
        list(people),
    )


async def insert(
    connection: Connection,
    *,
    booking_id: UUID,
    student_id: str,
    teacher_id: str,
    parent_id: str | None,
    start_time: datetime,
    end_time: datetime,
) -> None:
    """Write a pending booking, after :func:`take_turns`. The database refuses overlaps and unknown people."""
    await insert_all(
        connection,
        [(booking_id, (start_time, end_time))],
        student_id=student_id,
        teacher_id=teacher_id,
        parent_id=parent_id,
    )


async def insert_all(
    connection: Connection,
    spans: Sequence[tuple[UUID, Span]],
    *,
    student_id: str,
    teacher_id: str,
    parent_id: str | None,
) -> None:
    """As :func:`insert`, for several lessons of the same people, under their ids: all in one statement, or none."""
    await connection.execute(
        """
        INSERT INTO bookings (id, student_id, teacher_id, parent_id, start_time, end_time)
        SELECT w.id, $1, $2, $3, w.starts, w.ends
        FROM unnest($4::uuid[], $5::timestamptz[], $6::timestamptz[]) AS w (id, starts, ends)
        """,
        student_id,
        teacher_id,
        parent_id,
        [booking_id for booking_id, _ in spans],
        [start for _, (start, _) in spans],
        [end for _, (_, end) in spans],
    )


async def locked(connection: Connection, booking_id: UUID) -> Booking | None:
    """The booking, kept for this transaction: nobody else changes it until commit."""
    row = await connection.fetchrow(f"{_BOOKING} WHERE b.id = $1 FOR NO KEY UPDATE OF b", booking_id)
    return Booking.from_row(row) if row else None


async def save(
    connection: Connection, booking_id: UUID, *, status: Status, start_time: datetime, end_time: datetime
) -> None:
    """Write a booking's status and time. Inside a transaction that holds its row, after `take_turns`."""
    await connection.execute(
        """
        UPDATE bookings SET status = $2, start_time = $3, end_time = $4, updated_at = now() WHERE id = $1
        """,
        booking_id,
        status,
        start_time,
        end_time,
    )
