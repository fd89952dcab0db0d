"""Live classes: the sessions of courses. What happens in a session of whichever kind is in `domain.sessions`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec

from domain import courses, notifications
from domain.errors import NotFound
from domain.identity import Identity
from domain.live import Live
from domain.meeting_rooms import Made, Rooms
from domain.notifications import Told
from domain.session_settings import check_max_participants, trimmed_title
from store import courses as course_store
from store import live_sessions, sessions, users
from store.database import Connection, Executor
from store.errors import translated
from store.sessions import Session


@dataclass(frozen=True, kw_only=True, slots=True)
class NewLiveSession:
    """A live class that somebody schedules. `starts_at` in UTC; no `max_participants`: as many as come."""

    course_id: UUID
    starts_at: datetime
    title: str = ""
    recording_enabled: bool = False
    max_participants: int | None = None


def document(session: Session) -> dict[str, Any]:
    """A live class as S2 shows it, to everybody: the public card."""
    return {
        "_id": session.id,
        "courseId": session.course_id,
        "roomName": session.room_name,
        "title": session.title,
        "status": session.status,
        "startsAt": session.starts_at,
        "endsAt": session.ends_at,
        "createdBy": session.host_id,
        "recordingEnabled": session.recording_enabled,
        "maxParticipants": session.max_participants,
        "createdAt": session.created_at,
        "updatedAt": session.updated_at,
    }


async def schedule(live: Live, rooms: Rooms, identity: Identity, new: NewLiveSession) -> Session:
    """Make a live class, led by whoever makes it: the course's instructor, or an admin. The enrolled are told.

    Where the video provider makes rooms ahead, it makes the class's now; if that fails, there is no class.

    Raises NotFound (`course_not_found`), Forbidden (`not_instructor`), BadRequest, BadGateway.
    """
    title = trimmed_title(new.title)
    check_max_participants(new.max_participants)
    # Looked at again in the transaction; a provider is asked for nothing by those who may not.
    course = await course_store.find(live.pool, new.course_id)
    if course is None:
        raise courses.unknown_course()
    courses.require_instructor(course, identity)
    session_id = uuid4()
    prepared = await rooms.prepare(session_id, starts_at=new.starts_at, recorded=new.recording_enabled)
    try:
        session, told = await _insert(live, identity, replace(new, title=title), session_id, rooms, prepared)
    except BaseException:
        if prepared is not None:
            await rooms.give_up(prepared)
        raise
    notifications.push(live, told)
    return session


async def _insert(
    live: Live, identity: Identity, new: NewLiveSession, session_id: UUID, rooms: Rooms, prepared: Made | None
) -> tuple[Session, Told]:
    with translated():
        async with live.pool.acquire() as connection, connection.transaction():
            course = await course_store.locked(connection, new.course_id)
            if course is None:
                raise courses.unknown_course()
            courses.require_instructor(course, identity)
            await live_sessions.insert(
                connection,
                session_id=session_id,
                course_id=course.id,
                host_id=identity.user_id,
                title=new.title,
                starts_at=new.starts_at,
                recording_enabled=new.recording_enabled,
                max_participants=new.max_participants,
            )
            if prepared is not None:
                await rooms.keep(connection, session_id, prepared)
            session = await sessions.find(connection, session_id)
            assert session is not None, "it was written just now"
            told = await notifications.to_enrolled(
                connection,
                course.id,
                kind="session_scheduled",
                title=f"New live class: {session.title or course.title}",
                body=f"In the course {course.title}",
                data=_news(session),
                but=identity.user_id,
            )
    return session, told


async def tell_of_start(connection: Connection, session: Session, actor_id: str) -> Told | None:
    """Store that a live class has begun, for the enrolled; inside the transaction that begins it. None: it is none."""
    course = None if session.course_id is None else await course_store.find(connection, session.course_id)
    if course is None:
        return None
    return await notifications.to_enrolled(
        connection,
        course.id,
        kind="session_started",
        title=f"{session.title or course.title} has begun",
        body=f"In the course {course.title}",
        data=_news(session),
        but=actor_id,
    )


def _news(session: Session) -> Mapping[str, Any]:
    data: Mapping[str, Any] = msgspec.to_builtins(
        {
            "session_id": session.id,
            "course_id": session.course_id,
            "room_name": session.room_name,
            "starts_at": session.starts_at,
        }
    )
    return data


async def check_is_instructor(executor: Executor, user_id: str) -> None:
    """Raise NotFound unless somebody who could lead a live class is known by this id."""
    user = await users.find(executor, user_id)
    if user is None or user.role not in ("teacher", "admin"):
        raise unknown_instructor()


def unknown_instructor() -> NotFound:
    return NotFound("There is no such instructor.", code="instructor_not_found")
