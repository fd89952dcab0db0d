"""Which lessons their people were reminded of: each start once, over all workers and restarts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from store.database import Executor
from store.errors import translated


@dataclass(frozen=True, kw_only=True, slots=True)
class DueLesson:
    """A lesson that is about to start, and its people. `student_parent_id`: the parent of now, once accepted."""

    booking_id: UUID
    start_time: datetime
    title: str
    student_id: str
    teacher_id: str
    parent_id: str | None
    student_parent_id: str | None
    student_name: str
    teacher_name: str

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> DueLesson:
        return cls(**{name: row[name] for name in cls.__slots__})


async def claim(executor: Executor, *, now: datetime, until: datetime, limit: int) -> list[DueLesson]:
    """Confirmed lessons that start after `now`, at `until` at the latest: each start is answered once, ever.

    A booking that somebody changes at this moment is left for the next look. On a pool the claim is committed with
    the answer; on a connection it belongs to its transaction.
    """
    with translated():
        rows = await executor.fetch(
            """
            WITH due AS (
                SELECT b.id, b.start_time FROM bookings b
                WHERE b.status = 'confirmed' AND b.start_time > $1 AND b.start_time <= $2 AND NOT EXISTS (
                    SELECT FROM booking_reminders r WHERE r.booking_id = b.id AND r.start_time = b.start_time
                )
                ORDER BY b.start_time, b.id LIMIT $3
                FOR NO KEY UPDATE OF b SKIP LOCKED
            ), claimed AS (
                -- Another worker may have claimed it between this statement's snapshot and the lock.
                INSERT INTO booking_reminders (booking_id, start_time, reminded_at)
                SELECT id, start_time, $1 FROM due ON CONFLICT DO NOTHING
                RETURNING booking_id, start_time
            )
            SELECT c.booking_id, c.start_time, coalesce(s.title, '') AS title,
                   b.student_id, b.teacher_id, b.parent_id,
                   CASE WHEN p.parent_accepted THEN p.parent_id END AS student_parent_id,
                   coalesce(nullif(trim(p.first_name || ' ' || p.last_name), ''), p.id) AS student_name,
                   coalesce(nullif(trim(t.first_name || ' ' || t.last_name), ''), t.id) AS teacher_name
            FROM claimed c
            JOIN bookings b ON b.id = c.booking_id
            JOIN users p ON p.id = b.student_id
            JOIN users t ON t.id = b.teacher_id
            LEFT JOIN sessions s ON s.id = b.id
            ORDER BY c.start_time, c.booking_id
            """,
            now,
            until,
            limit,
        )
    return [DueLesson.from_row(row) for row in rows]
