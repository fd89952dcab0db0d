"""Availability: the slots a teacher offers. Whether one is booked is read off the bookings, never written.

Whoever adds or deletes slots, books or moves a booking takes the turn of its people first
(:func:`store.bookings.take_turns`): what is read here after that stands until the transaction's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Final, Literal
from uuid import UUID

import asyncpg

from store.bookings import Position, Span
from store.database import Connection, Executor
from store.errors import translated

#: The exclusion constraint: of two slots of one teacher that overlap, one is refused.
SLOTS_APART: Final = "availability_slots_apart"
TEACHER_EXISTS: Final = "availability_slots_teacher_exists"
SERIES_TEACHER_EXISTS: Final = "availability_series_teacher_exists"

#: What stands in the way of a booking: another one at that time, or no free slot around it.
Obstacle = Literal["slot_taken", "not_available"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """A time that a teacher offers. `is_booked`: a booking of theirs overlaps it that was not cancelled."""

    id: UUID
    teacher_id: str
    series_id: UUID | None
    start_time: datetime
    end_time: datetime
    is_booked: bool

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Slot:
        return cls(**{name: row[name] for name in cls.__slots__})


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """What a series repeats: a weekday (ISO, 1 is Monday) and times on the wall clock of a time zone."""

    id: UUID
    weekday: int
    starts: time
    ends: time
    timezone: str
    until: date


#: A lesson takes the time of its people until it is over, and its slot for good, unless it is cancelled.
_TAKES_TIME: Final = "b.status IN ('pending', 'confirmed')"
_TAKES_SLOT: Final = "b.status <> 'cancelled'"


def _during(starts: str, ends: str) -> str:
    """SQL: `b` is a booking that overlaps the span between two expressions.

    The lower bound of its start says nothing new, as no booking is longer, but lets an index find it.
    """
    return f"b.start_time > {starts} - interval '8 hours' AND b.start_time < {ends} AND b.end_time > {starts}"


_BOOKED: Final = f"""
    EXISTS (
        SELECT FROM bookings b
        WHERE b.teacher_id = a.teacher_id AND {_TAKES_SLOT} AND {_during("a.start_time", "a.end_time")}
    )
"""
_SLOT: Final = f"""
    SELECT a.id, a.teacher_id, a.series_id, a.start_time, a.end_time, {_BOOKED} AS is_booked FROM availability_slots a
"""


async def find(executor: Executor, slot_id: UUID) -> Slot | None:
    with translated():
        row = await executor.fetchrow(f"{_SLOT} WHERE a.id = $1", slot_id)
    return Slot.from_row(row) if row else None


async def found(executor: Executor, slot_ids: Sequence[UUID]) -> Sequence[Slot]:
    """Those of the slots that exist, by start."""
    with translated():
        rows = await executor.fetch(f"{_SLOT} WHERE a.id = ANY($1::uuid[]) ORDER BY a.start_time", slot_ids)
    return [Slot.from_row(row) for row in rows]


async def listed(
    executor: Executor,
    *,
    teacher_id: str | None = None,
    ends_after: datetime | None = None,
    starts_from: datetime | None = None,
    starts_before: datetime | None = None,
    after: Position | None = None,
    limit: int,
) -> Sequence[Slot]:
    """The first `limit` slots after `after` that fit, by start and id. `ends_after`, `starts_before` are exclusive."""
    filters: list[str] = []
    values: list[object] = []
    for clause, value in (
        ("a.teacher_id = {0}", teacher_id),
        # The second half says nothing new, but is what an index knows.
        ("a.end_time > {0} AND a.start_time > {0} - interval '24 hours'", ends_after),
        ("a.start_time >= {0}", starts_from),
        ("a.start_time < {0}", starts_before),
    ):
        if value is not None:
            values.append(value)
            filters.append(clause.format(f"${len(values)}"))
    if after is not None:
        values += [after.start_time, after.id]
        filters.append(f"(a.start_time, a.id) > (${len(values) - 1}, ${len(values)})")
    values.append(limit)
    where = " AND ".join(filters) or "true"
    with translated():
        rows = await executor.fetch(f"{_SLOT} WHERE {where} ORDER BY a.start_time, a.id LIMIT ${len(values)}", *values)
    return [Slot.from_row(row) for row in rows]


async def starts_that_overlap(connection: Connection, teacher_id: str, spans: Sequence[Span]) -> list[datetime]:
    """The starts of those spans that overlap a slot of the teacher's, in the order given."""
    rows = await connection.fetch(
        """
        SELECT w.starts FROM unnest($2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY AS w (starts, ends, place)
        WHERE EXISTS (
            SELECT FROM availability_slots a
            WHERE a.teacher_id = $1 AND a.start_time > w.starts - interval '24 hours' AND a.start_time < w.ends
                AND a.end_time > w.starts
        )
        ORDER BY w.place
        """,
        teacher_id,
        [start for start, _ in spans],
        [end for _, end in spans],
    )
    return [row["starts"] for row in rows]


async def insert(
    connection: Connection, *, teacher_id: str, spans: Sequence[tuple[UUID, Span]], series: Series | None = None
) -> None:
    """Write slots under their ids, and the series they come from. After `take_turns`.

    The database refuses overlaps (SLOTS_APART) and unknown people (TEACHER_EXISTS, SERIES_TEACHER_EXISTS).
    """
    if series is not None:
        await connection.execute(
            """
            INSERT INTO availability_series (id, teacher_id, weekday, starts, ends, timezone, until)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            """,
            series.id,
            teacher_id,
            series.weekday,
            series.starts,
            series.ends,
            series.timezone,
            series.until,
        )
    await connection.execute(
        """
        INSERT INTO availability_slots (id, teacher_id, series_id, start_time, end_time)
        SELECT w.id, $1, $2, w.starts, w.ends
        FROM unnest($3::uuid[], $4::timestamptz[], $5::timestamptz[]) AS w (id, starts, ends)
        """,
        teacher_id,
        None if series is None else series.id,
        [slot_id for slot_id, _ in spans],
        [start for _, (start, _) in spans],
        [end for _, (_, end) in spans],
    )


async def delete_free(connection: Connection, slot: Slot, *, rest_after: datetime | None = None) -> list[UUID]:
    """Delete the slot if it is free; the ids of those that were deleted. After `take_turns`.

    With `rest_after` also the free later ones of its series that end after that moment. A series goes with its last
    slot.
    """
    rows = await connection.fetch(
        f"""
        DELETE FROM availability_slots a
        WHERE (a.id = $1 OR ($4::timestamptz IS NOT NULL
            AND a.series_id = $2 AND a.start_time >= $3 AND a.end_time > $4)) AND NOT {_BOOKED}
        RETURNING a.id
        """,
        slot.id,
        slot.series_id,
        slot.start_time,
        rest_after,
    )
    if slot.series_id is not None:
        await connection.execute(
            """
            DELETE FROM availability_series s
            WHERE s.id = $1 AND NOT EXISTS (SELECT FROM availability_slots a WHERE a.series_id = s.id)
            """,
            slot.series_id,
        )
    return [row["id"] for row in rows]


async def obstacles(
    connection: Connection,
    *,
    student_id: str,
    teacher_id: str,
    spans: Sequence[Span],
    now: datetime,
    booking_id: UUID | None = None,
) -> list[Obstacle | None]:
    """What stands in the way of booking each of the spans, in the order given. After `take_turns`.

    `slot_taken`: the student or the teacher has another pending or confirmed booking that overlaps it.
    `not_available`: the teacher has a slot that ends after `now`, but none around the whole span that is free.
    `booking_id` is the booking that is moved, which does not stand in its own way.
    """
    rows = await connection.fetch(
        f"""
        SELECT EXISTS (
            SELECT FROM bookings b
            WHERE b.teacher_id = $1 AND b.id IS DISTINCT FROM $6 AND {_TAKES_TIME} AND {_during("w.starts", "w.ends")}
        ) OR EXISTS (
            SELECT FROM bookings b
            WHERE b.student_id = $2 AND b.id IS DISTINCT FROM $6 AND {_TAKES_TIME} AND {_during("w.starts", "w.ends")}
        ) AS is_taken, coalesce((
            -- Slots do not overlap: the last one to begin is the last one to end.
            SELECT a.end_time > $5 FROM availability_slots a WHERE a.teacher_id = $1
            ORDER BY a.start_time DESC LIMIT 1
        ), false) AS is_published, EXISTS (
            SELECT FROM availability_slots a
            WHERE a.teacher_id = $1 AND a.start_time > w.starts - interval '24 hours'
                AND a.start_time <= w.starts AND a.end_time >= w.ends
                AND NOT EXISTS (
                    SELECT FROM bookings b
                    WHERE b.teacher_id = $1 AND b.id IS DISTINCT FROM $6
                        AND {_TAKES_SLOT} AND {_during("a.start_time", "a.end_time")}
                )
        ) AS is_in_a_free_slot
        FROM unnest($3::timestamptz[], $4::timestamptz[]) WITH ORDINALITY AS w (starts, ends, place)
        ORDER BY w.place
        """,
        teacher_id,
        student_id,
        [start for start, _ in spans],
        [end for _, end in spans],
        now,
        booking_id,
    )
    return [_obstacle(row) for row in rows]


def _obstacle(row: asyncpg.Record) -> Obstacle | None:
    if row["is_taken"]:
        return "slot_taken"
    if row["is_published"] and not row["is_in_a_free_slot"]:
        return "not_available"
    return None
