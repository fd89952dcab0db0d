"""A sample school put into the database, in few and large statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg

from store.bookings import Status
from store.database import Connection
from store.users import Role


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplePerson:
    """A person with their profile. A parent comes before their children."""

    id: str
    role: Role
    first_name: str
    last_name: str
    email: str
    timezone: str
    bio: str = ""
    topics: Sequence[str] = ()
    subjects: Sequence[str] = ()
    parent_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleEntry:
    """An entry of a lesson's log: a message, or a status of the session."""

    kind: Literal["message", "session_status"]
    user_id: str
    at: datetime
    id: UUID
    text: str = ""
    sender_name: str = ""
    status: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleLesson:
    """A booking, its session, and the entries of its log in their order."""

    id: UUID
    student_id: str
    teacher_id: str
    parent_id: str | None
    start_time: datetime
    end_time: datetime
    status: Status
    title: str
    room_name: str
    booked_at: datetime
    changed_at: datetime
    entries: Sequence[SampleEntry] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleSlot:
    """A time that a teacher offers."""

    id: UUID
    teacher_id: str
    start_time: datetime
    end_time: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleReview:
    """What a family says of a lesson."""

    booking_id: UUID
    author_id: str
    rating: int
    comment: str
    at: datetime


async def add_people(connection: Connection, people: Sequence[SamplePerson]) -> int:
    """Write those who are not known yet; how many that were. Inside a transaction."""
    ids = [person.id for person in people]
    known = {row["id"] for row in await connection.fetch("SELECT id FROM users WHERE id = ANY($1::text[])", ids)}
    new = [person for person in people if person.id not in known]
    await connection.executemany(
        """
        INSERT INTO users (
            id, role, first_name, last_name, email, bio, topics, subjects, timezone, parent_id, parent_accepted,
            name_set, email_set
        )
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10::text IS NOT NULL, true, true) ON CONFLICT DO NOTHING
        """,
        [
            (
                *(person.id, person.role, person.first_name, person.last_name, person.email, person.bio),
                *(list(person.topics), list(person.subjects), person.timezone, person.parent_id),
            )
            for person in new
        ],
    )
    return len(new)


async def add_lessons(connection: Connection, lessons: Sequence[SampleLesson]) -> list[SampleLesson]:
    """Write the lessons that are not known yet and whose people are free then. Answers them.

    Inside a transaction, after `store.bookings.take_turns` for all their people.
    """
    columns = (
        [lesson.id for lesson in lessons],
        [lesson.student_id for lesson in lessons],
        [lesson.teacher_id for lesson in lessons],
        [lesson.parent_id for lesson in lessons],
        [lesson.start_time for lesson in lessons],
        [lesson.end_time for lesson in lessons],
        [lesson.status for lesson in lessons],
        [lesson.booked_at for lesson in lessons],
        [lesson.changed_at for lesson in lessons],
    )
    rows = await connection.fetch(
        """
        INSERT INTO bookings (
            id, student_id, teacher_id, parent_id, start_time, end_time, status, created_at, updated_at
        )
        SELECT * FROM unnest(
            $1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::text[],
            $8::timestamptz[], $9::timestamptz[]
        )
        ON CONFLICT DO NOTHING RETURNING id
        """,
        *columns,
    )
    written = {row["id"] for row in rows}
    new = [lesson for lesson in lessons if lesson.id in written]
    await connection.executemany(
        """
        INSERT INTO sessions (
            id, kind, booking_id, room_name, title, host_id, status, chat_open, starts_at, ends_at, last_seq,
            created_at, updated_at
        )
        VALUES ($1, 'booking', $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        """,
        [_session(lesson) for lesson in new],
    )
    await add_entries(connection, [(lesson.id, lesson.entries) for lesson in new])
    return new


async def add_slots(connection: Connection, slots: Sequence[SampleSlot]) -> int:
    """Write the slots that are not known yet and overlap no other; how many that were.

    Inside a transaction, after `store.bookings.take_turns` for the teachers.
    """
    rows = await connection.fetch(
        """
        INSERT INTO availability_slots (id, teacher_id, start_time, end_time)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[])
        ON CONFLICT DO NOTHING RETURNING id
        """,
        [slot.id for slot in slots],
        [slot.teacher_id for slot in slots],
        [slot.start_time for slot in slots],
        [slot.end_time for slot in slots],
    )
    return len(rows)


async def add_reviews(connection: Connection, reviews: Sequence[SampleReview]) -> None:
    """Write reviews of new lessons, and add them to their teachers' ratings. Inside a transaction."""
    await connection.execute(
        """
        WITH written AS (
            INSERT INTO reviews (booking_id, author_id, rating, comment, created_at)
            SELECT * FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::text[], $5::timestamptz[])
            RETURNING booking_id, rating
        )
        INSERT INTO teacher_ratings AS r (teacher_id, stars, reviews)
        SELECT b.teacher_id, sum(w.rating), count(*) FROM written w JOIN bookings b ON b.id = w.booking_id
        GROUP BY b.teacher_id ORDER BY b.teacher_id
        ON CONFLICT (teacher_id) DO UPDATE SET
            stars = r.stars + excluded.stars, reviews = r.reviews + excluded.reviews
        """,
        [review.booking_id for review in reviews],
        [review.author_id for review in reviews],
        [review.rating for review in reviews],
        [review.comment for review in reviews],
        [review.at for review in reviews],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenLesson:
    """A lesson whose end has come, and whose booking is still pending or confirmed. `last_at`: of its log so far."""

    id: UUID
    teacher_id: str
    start_time: datetime
    end_time: datetime
    session_status: str
    last_seq: int
    last_at: datetime

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> OpenLesson:
        return cls(**{name: row[name] for name in cls.__slots__})


async def left_open(connection: Connection, teacher_ids: Sequence[str], *, now: datetime) -> list[OpenLesson]:
    """The lessons of these teachers that are over and were not completed, kept for this transaction."""
    rows = await connection.fetch(
        """
        SELECT b.id, b.teacher_id, b.start_time, b.end_time, s.status AS session_status, s.last_seq,
               greatest(
                   b.created_at,
                   (SELECT max(created_at) FROM session_messages WHERE session_id = s.id),
                   (SELECT max(at) FROM session_events WHERE session_id = s.id)
               ) AS last_at
        FROM bookings b JOIN sessions s ON s.id = b.id
        WHERE b.teacher_id = ANY($1::text[]) AND b.end_time <= $2 AND b.status IN ('pending', 'confirmed')
        ORDER BY b.id FOR NO KEY UPDATE OF b, s
        """,
        list(teacher_ids),
        now,
    )
    return [OpenLesson.from_row(row) for row in rows]


async def complete(connection: Connection, lessons: Sequence[OpenLesson]) -> None:
    """Have lessons that were kept by :func:`left_open` be held and completed, as their teachers would have done it."""
    moved: list[tuple[UUID, int, str, dict[str, str], datetime]] = []
    for lesson in lessons:
        ended = ("ended", lesson.end_time)
        moves = {"scheduled": [("live", lesson.start_time), ended], "live": [ended]}.get(lesson.session_status, [])
        for seq, (status, at) in enumerate(moves, lesson.last_seq + 1):
            # People may have written meanwhile: a log never goes back in time.
            moved.append((lesson.id, seq, lesson.teacher_id, {"status": status}, max(at, lesson.last_at)))
    await connection.executemany(_MOVED, moved)
    await connection.execute(
        """
        WITH completed AS (
            UPDATE bookings SET status = 'completed', updated_at = end_time WHERE id = ANY($1::uuid[])
            RETURNING id, end_time
        )
        UPDATE sessions s SET status = 'ended', ends_at = c.end_time, updated_at = c.end_time,
            last_seq = greatest(s.last_seq, (SELECT max(seq) FROM session_events WHERE session_id = s.id))
        FROM completed c WHERE s.id = c.id
        """,
        [lesson.id for lesson in lessons],
    )


#: A status of a session, in its log.
_MOVED: Final = """
    INSERT INTO session_events (session_id, seq, kind, user_id, data, at) VALUES ($1, $2, 'session_status', $3, $4, $5)
"""


def _session(lesson: SampleLesson) -> tuple[Any, ...]:
    ended = {"completed": lesson.end_time, "cancelled": lesson.changed_at}.get(lesson.status)
    return (
        lesson.id,
        lesson.room_name,
        lesson.title,
        lesson.teacher_id,
        "scheduled" if ended is None else "ended",
        lesson.status != "cancelled",
        lesson.start_time,
        ended,
        len(lesson.entries),
        lesson.booked_at,
        lesson.changed_at,
    )


async def add_entries(connection: Connection, logs: Sequence[tuple[UUID, Sequence[SampleEntry]]]) -> None:
    """Write the logs of new sessions, each by its session's id. Inside a transaction."""
    numbered = [(session_id, seq, entry) for session_id, entries in logs for seq, entry in enumerate(entries, 1)]
    await connection.executemany(
        """
        INSERT INTO session_messages (id, session_id, seq, user_id, sender_name, text, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        """,
        [
            (entry.id, session_id, seq, entry.user_id, entry.sender_name, entry.text, entry.at)
            for session_id, seq, entry in numbered
            if entry.kind == "message"
        ],
    )
    await connection.executemany(
        _MOVED,
        [
            (session_id, seq, entry.user_id, {"status": entry.status}, entry.at)
            for session_id, seq, entry in numbered
            if entry.kind == "session_status"
        ],
    )
