"""Live classes: the sessions of courses, as they are made and listed. What is one session's is in `store.sessions`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from store.bookings import Position
from store.database import Connection, Executor
from store.errors import Away, translated
from store.room_names import new_room_name
from store.sessions import SELECT_SESSION, Session

#: Names that are tried for a new room: a second collision in a row does not happen by chance.
ROOM_NAME_TRIES: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class AttendedSession:
    """A live class, and how many people have been in it."""

    session: Session
    participant_count: int


async def insert(
    connection: Connection,
    *,
    session_id: UUID,
    course_id: UUID,
    host_id: str,
    title: str,
    starts_at: datetime,
    recording_enabled: bool,
    max_participants: int | None,
) -> None:
    """Make a live class of a course, led by `host_id`. Inside a transaction that holds the course's row."""
    for _ in range(ROOM_NAME_TRIES):
        created = await connection.fetchval(
            """
            INSERT INTO sessions (
                id, kind, course_id, room_name, title, host_id, starts_at, recording_enabled, max_participants
            )
            VALUES ($1, 'course', $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT ON CONSTRAINT sessions_room_name_unique DO NOTHING RETURNING true
            """,
            session_id,
            course_id,
            new_room_name(),
            title,
            host_id,
            starts_at,
            recording_enabled,
            max_participants,
        )
        if created:
            return
    raise Away("no room name is free")


# The sessions by their index first, then what belongs to each of them. `course_id` besides: only classes have one.
_CLASSES: Final = (
    SELECT_SESSION
    + """
    WHERE s.id IN (
        SELECT id FROM sessions WHERE {column} = $2 AND course_id IS NOT NULL {after}
        ORDER BY starts_at DESC, id DESC LIMIT $1
    ) ORDER BY s.starts_at DESC, s.id DESC
"""
)
_AFTER: Final = "AND (starts_at, id) < ($3, $4)"
_COUNTED: Final = """
    SELECT found.*, (
        SELECT count(*) FROM session_participants p WHERE p.session_id = found.id AND p.joined_at IS NOT NULL
    ) AS participant_count
    FROM ({classes}) found ORDER BY starts_at DESC, id DESC
"""
_CLASSES_OF_HOST: Final = _CLASSES.format(column="host_id", after="")
_CLASSES_OF_HOST_AFTER: Final = _CLASSES.format(column="host_id", after=_AFTER)
_CLASSES_OF_COURSE: Final = _COUNTED.format(classes=_CLASSES.format(column="course_id", after=""))
_CLASSES_OF_COURSE_AFTER: Final = _COUNTED.format(classes=_CLASSES.format(column="course_id", after=_AFTER))


async def led_by(executor: Executor, host_id: str, *, after: Position | None = None, limit: int) -> Sequence[Session]:
    """The first `limit` live classes after `after` that somebody leads, newest first."""
    with translated():
        if after is None:
            rows = await executor.fetch(_CLASSES_OF_HOST, limit, host_id)
        else:
            rows = await executor.fetch(_CLASSES_OF_HOST_AFTER, limit, host_id, after.start_time, after.id)
    return [Session.from_row(row) for row in rows]


async def in_course(
    executor: Executor, course_id: UUID, *, after: Position | None = None, limit: int
) -> Sequence[AttendedSession]:
    """The first `limit` live classes of a course after `after`, newest first."""
    with translated():
        if after is None:
            rows = await executor.fetch(_CLASSES_OF_COURSE, limit, course_id)
        else:
            rows = await executor.fetch(_CLASSES_OF_COURSE_AFTER, limit, course_id, after.start_time, after.id)
    return [AttendedSession(session=Session.from_row(row), participant_count=row["participant_count"]) for row in rows]
