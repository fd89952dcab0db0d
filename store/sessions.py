"""Sessions: one lesson each, with who belongs to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg

from store import recordings
from store.database import Connection, Executor
from store.errors import translated
from store.events import LogEntry
from store.events import append as append_event
from store.loader import shared
from store.room_names import new_room_name
from store.session_settings import Settings

Status = Literal["scheduled", "live", "ended"]
BookingStatus = Literal["pending", "confirmed", "completed", "cancelled"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A session, with the people of its booking or the instructor of its course, whom access is decided by.

    Its other members, those enrolled in its course, may be ten thousand: see :class:`Entrance`.
    """

    id: UUID
    kind: Literal["booking", "course"]
    room_name: str
    title: str
    host_id: str
    status: Status
    chat_open: bool
    starts_at: datetime
    ends_at: datetime | None
    recording_enabled: bool
    notes: Sequence[Mapping[str, Any]]
    files: Sequence[Mapping[str, Any]]
    last_seq: int
    created_at: datetime
    updated_at: datetime
    booking_id: UUID | None = None
    booking_status: BookingStatus | None = None
    student_id: str | None = None
    teacher_id: str | None = None
    booking_parent_id: str | None = None
    student_parent_id: str | None = None
    end_time: datetime | None = None
    course_id: UUID | None = None
    instructor_id: str | None = None
    max_participants: int | None = None
    locked: bool = False
    waiting_room: bool = False
    chat_muted: bool = False
    slow_mode_seconds: int = 0
    whiteboard_locked: bool = False
    recording_consent: bool = False
    pinned_message_id: UUID | None = None

    @property
    def settings(self) -> Settings:
        return Settings(
            locked=self.locked,
            waiting_room=self.waiting_room,
            chat_muted=self.chat_muted,
            slow_mode_seconds=self.slow_mode_seconds,
            whiteboard_locked=self.whiteboard_locked,
            recording_consent=self.recording_consent,
        )

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Session:
        return cls(**{name: row[name] for name in cls.__slots__})


#: Where every session is read from: `s`, with its people.
SELECT_SESSION: Final = """
    SELECT s.id, s.kind, s.room_name, s.title, s.host_id, s.status, s.chat_open, s.starts_at, s.ends_at,
           s.recording_enabled, s.notes, s.files, s.last_seq, s.created_at, s.updated_at,
           s.booking_id, b.status AS booking_status, b.student_id, b.teacher_id,
           b.parent_id AS booking_parent_id, u.parent_id AS student_parent_id, b.end_time,
           s.course_id, c.instructor_id, s.max_participants, s.locked, s.waiting_room, s.chat_muted,
           s.slow_mode_seconds, s.whiteboard_locked, s.recording_consent, s.pinned_message_id
    FROM sessions s
    LEFT JOIN bookings b ON b.id = s.booking_id
    LEFT JOIN users u ON u.id = b.student_id
    LEFT JOIN courses c ON c.id = s.course_id
"""


async def find(executor: Executor, ref: UUID | str) -> Session | None:
    """The session with this id or room name."""
    column = "s.id" if isinstance(ref, UUID) else "s.room_name"
    with translated():
        row = await executor.fetchrow(f"{SELECT_SESSION} WHERE {column} = $1", ref)
    return Session.from_row(row) if row else None


async def hosted_by(executor: Executor, host_id: str, *, limit: int) -> list[Session]:
    """The sessions of bookings that somebody leads, newest first. Their live classes: `live_sessions.led_by`."""
    with translated():
        rows = await executor.fetch(
            f"{SELECT_SESSION} WHERE s.host_id = $1 AND s.kind = 'booking' ORDER BY s.starts_at DESC, s.id LIMIT $2",
            host_id,
            limit,
        )
    return [Session.from_row(row) for row in rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entrance:
    """A session as one person finds it: whether they are enrolled in its course, whether they were kicked out of it,
    and their name."""

    session: Session
    was_kicked: bool
    name: str
    is_enrolled: bool = False


async def find_for(executor: Executor, ref: UUID | str, user_id: str) -> Entrance | None:
    """The session with this id or room name, for this person."""
    return await shared(executor, _entrances, (ref, user_id))


async def _entrances(executor: Executor, asked: Sequence[tuple[UUID | str, str]]) -> list[Entrance | None]:
    # Scalars and LIMITs, so that whatever is joined is looked up by its key, row by row.
    with translated():
        rows = await executor.fetch(
            f"""
            SELECT i.place, found.*, coalesce((
                SELECT was_kicked FROM session_participants p WHERE p.session_id = found.id AND p.user_id = i.user_id
            ), false) AS was_kicked, coalesce((
                SELECT true FROM enrollments e WHERE e.course_id = found.course_id AND e.user_id = i.user_id
            ), false) AS is_enrolled, coalesce((
                SELECT nullif(trim(me.first_name || ' ' || me.last_name), '') FROM users me WHERE me.id = i.user_id
            ), i.user_id) AS name
            FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS i (id, room_name, user_id, place)
            CROSS JOIN LATERAL (
                {SELECT_SESSION}
                WHERE s.id = coalesce(i.id, (SELECT id FROM sessions WHERE room_name = i.room_name)) LIMIT 1
            ) found
            """,
            [ref if isinstance(ref, UUID) else None for ref, _ in asked],
            [ref if isinstance(ref, str) else None for ref, _ in asked],
            [user_id for _, user_id in asked],
        )
    found: dict[UUID, Session] = {}
    entrances: list[Entrance | None] = [None] * len(asked)
    for row in rows:
        session = found.get(row["id"])
        if session is None:
            session = found[row["id"]] = Session.from_row(row)
        entrances[row["place"] - 1] = Entrance(
            session=session, was_kicked=row["was_kicked"], name=row["name"], is_enrolled=row["is_enrolled"]
        )
    return entrances


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Where a session is: its status, its settings, its pinned message and the recording that runs, as of its newest
    `seq`."""

    last_seq: int
    status: Status
    settings: Settings = field(default_factory=Settings)
    pinned_message_id: UUID | None = None
    recording_id: UUID | None = None


async def standing(executor: Executor, session_id: UUID) -> Standing | None:
    return await shared(executor, _standings, session_id)


async def _standings(executor: Executor, session_ids: Sequence[UUID]) -> list[Standing | None]:
    with translated():
        rows = await executor.fetch(
            """
            SELECT id, last_seq, status, pinned_message_id,
                   locked, waiting_room, chat_muted, slow_mode_seconds, whiteboard_locked, recording_consent, (
                       SELECT r.id FROM recordings r WHERE r.session_id = sessions.id AND r.status = 'recording'
                   ) AS recording_id
            FROM sessions WHERE id = ANY($1::uuid[])
            """,
            session_ids,
        )
    found = {
        row["id"]: Standing(
            last_seq=row["last_seq"],
            status=row["status"],
            settings=Settings(**{name: row[name] for name in Settings.__slots__}),
            pinned_message_id=row["pinned_message_id"],
            recording_id=row["recording_id"],
        )
        for row in rows
    }
    return [found.get(session_id) for session_id in session_ids]


async def locked(connection: Connection, session_id: UUID) -> Session | None:
    """The session, kept for this transaction: nobody else writes to its log until commit.

    Whoever changes a booking takes its row first and the session's after; see :func:`locked_with_booking`.
    """
    await connection.execute("SELECT FROM sessions WHERE id = $1 FOR NO KEY UPDATE", session_id)
    return await find(connection, session_id)


async def locked_with_booking(connection: Connection, session_id: UUID) -> Session | None:
    """As :func:`locked`, with the booking's row taken before it, as every change of a booking does."""
    await connection.execute("SELECT FROM bookings WHERE id = $1 FOR NO KEY UPDATE", session_id)
    return await locked(connection, session_id)


async def create_for_booking(
    connection: Connection,
    *,
    booking_id: UUID,
    host_id: str,
    starts_at: datetime,
    title: str = "",
) -> None:
    """Make the session of a new booking: it has the booking's id. Inside the booking's transaction.

    `ends_at` of a booking's session stays empty until it has ended; the planned end is the booking's.
    """
    await create_for_bookings(connection, [(booking_id, starts_at)], host_id=host_id, title=title)


async def create_for_bookings(
    connection: Connection, starts: Sequence[tuple[UUID, datetime]], *, host_id: str, title: str = ""
) -> None:
    """As :func:`create_for_booking`, for several bookings of one teacher, each with its start: in one statement."""
    await connection.execute(
        """
        INSERT INTO sessions (id, kind, booking_id, room_name, title, host_id, starts_at)
        SELECT w.id, 'booking', w.id, w.room_name, $1, $2, w.starts_at
        FROM unnest($3::uuid[], $4::text[], $5::timestamptz[]) AS w (id, room_name, starts_at)
        """,
        title,
        host_id,
        [booking_id for booking_id, _ in starts],
        [new_room_name() for _ in starts],
        [starts_at for _, starts_at in starts],
    )


async def follow_booking(
    connection: Connection,
    booking_id: UUID,
    *,
    status: BookingStatus,
    starts_at: datetime,
    actor_id: str,
) -> list[LogEntry]:
    """Move a session along with its changed booking: its time, and its end when completed or cancelled.

    Inside the booking's transaction, which holds the booking's row. Returns what to publish after commit.
    """
    session = await locked(connection, booking_id)
    if session is None:
        return []
    await connection.execute(
        "UPDATE sessions SET starts_at = $2, chat_open = $3, updated_at = now() WHERE id = $1",
        booking_id,
        starts_at,
        status != "cancelled",
    )
    if status in ("completed", "cancelled") and session.status != "ended":
        return await move(connection, booking_id, "ended", actor_id=actor_id)
    return []


async def set_status(connection: Connection, session_id: UUID, status: Status, *, actor_id: str) -> LogEntry:
    """Write the status and log it. Inside a transaction that holds the session's row."""
    await connection.execute(
        """
        UPDATE sessions SET status = $2, updated_at = now(),
            ends_at = CASE WHEN $2 = 'ended' THEN now() ELSE ends_at END
        WHERE id = $1
        """,
        session_id,
        status,
    )
    return await append_event(connection, session_id, kind="session_status", user_id=actor_id, data={"status": status})


async def move(connection: Connection, session_id: UUID, status: Status, *, actor_id: str) -> list[LogEntry]:
    """As :func:`set_status`, with what goes with it: the end of a session is that of its recording."""
    entries = []
    if status == "ended":
        stopped = await recordings.stop_running(connection, session_id, stopped_by=actor_id)
        entries = [stopped] if stopped else []
    return [*entries, await set_status(connection, session_id, status, actor_id=actor_id)]


async def complete_booking(connection: Connection, session_id: UUID) -> None:
    """The booking of a session that ended is completed, unless it was cancelled."""
    await connection.execute(
        """
        UPDATE bookings SET status = 'completed', updated_at = now()
        WHERE id = $1 AND status IN ('pending', 'confirmed')
        """,
        session_id,
    )


async def save_details(
    connection: Connection,
    session_id: UUID,
    *,
    notes: Sequence[Mapping[str, Any]] | None,
    files: Sequence[Mapping[str, Any]] | None,
    recording_enabled: bool | None,
) -> None:
    """Replace what is given; None leaves it as it is."""
    await connection.execute(
        """
        UPDATE sessions SET notes = coalesce($2, notes), files = coalesce($3, files),
            recording_enabled = coalesce($4, recording_enabled), updated_at = now()
        WHERE id = $1
        """,
        session_id,
        notes,
        files,
        recording_enabled,
    )


async def mark_requested(executor: Executor, session_id: UUID) -> bool:
    """Note that the session was asked for. True the first time."""
    with translated():
        row = await executor.fetchrow(
            "UPDATE sessions SET requested_at = now() WHERE id = $1 AND requested_at IS NULL RETURNING id",
            session_id,
        )
    return row is not None
