"""A session's document, its state machine, and the acts that change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from domain import access
from domain.access import Member
from domain.errors import Conflict, Forbidden
from domain.live import Live
from store import audit, sessions
from store.audit import Action
from store.database import Connection
from store.errors import translated
from store.events import LogEntry
from store.sessions import Session, Status

#: S3's words for the same states.
S3_STATUS: Final[Mapping[Status, str]] = {"scheduled": "pending", "live": "active", "ended": "completed"}
STATUS_OF_S3: Final[Mapping[str, Status]] = {word: status for status, word in S3_STATUS.items()}
_ORDER: Final[Mapping[Status, int]] = {"scheduled": 0, "live": 1, "ended": 2}


def document(session: Session) -> dict[str, Any]:
    """A booking's session as S3 shows it."""
    return {
        "session_id": session.id,
        "booking_id": session.booking_id,
        "student_id": session.student_id,
        "teacher_id": session.teacher_id,
        "start_time": session.starts_at,
        "end_time": session.end_time or session.ends_at,
        "status": S3_STATUS[session.status],
        "meeting_data": {},
        "notes": session.notes,
        "files": session.files,
    }


def realtime_document(session: Session, status: Status) -> dict[str, Any]:
    """The `session` of an ack: the REST document with `room_name`, `kind`, `title` and the `status` of that moment."""
    return document(session) | {
        "room_name": session.room_name,
        "kind": session.kind,
        "title": session.title,
        "status": status,
    }


def check_transition(now: Status, wanted: Status) -> None:
    """A status only moves forward. Raises Conflict."""
    if _ORDER[wanted] < _ORDER[now]:
        raise Conflict(f"The session is {now}; it cannot become {wanted} again.", code="invalid_transition")


async def move(live: Live, member: Member, status: Status) -> Session:
    """Start or end a session; the host may. To where it is already: nothing happens.

    The end of a booking's session completes the booking, pending or confirmed: one act. It stands in the audit log,
    and so does whatever else an administrator changes here.
    """
    access.require_host(member)
    entries: list[LogEntry] = []
    with translated():
        async with live.pool.acquire() as connection, connection.transaction():
            session = await _locked(connection, member)
            entries += await _move_locked(connection, session, member, status)
            moved = await _again(connection, member)
    live.publish(entries)
    return moved


async def update(
    live: Live,
    member: Member,
    *,
    status: Status | None,
    notes: Sequence[Mapping[str, Any]] | None,
    files: Sequence[Mapping[str, Any]] | None,
    recording_enabled: bool | None,
) -> Session:
    """Replace what is given. Members write notes and files; the host alone the rest."""
    if (status is not None or recording_enabled is not None) and not member.is_host:
        raise Forbidden("Only the teacher may change the status of a session.", code="not_host")
    entries: list[LogEntry] = []
    with translated():
        async with live.pool.acquire() as connection, connection.transaction():
            session = await _locked(connection, member)
            if status is not None:
                entries += await _move_locked(connection, session, member, status)
            details = {"notes": notes, "files": files, "recording_enabled": recording_enabled}
            replaced = [name for name, value in details.items() if value is not None]
            await sessions.save_details(
                connection, session.id, notes=notes, files=files, recording_enabled=recording_enabled
            )
            if replaced and member.role == "admin":
                await _note(connection, session, member, "session_changed", {"changed": replaced})
            updated = await _again(connection, member)
    live.publish(entries)
    return updated


async def _move_locked(connection: Connection, session: Session, member: Member, status: Status) -> list[LogEntry]:
    if status == session.status:
        return []
    check_transition(session.status, status)
    entry = await sessions.set_status(connection, session.id, status, actor_id=member.user_id)
    if status == "ended":
        await sessions.complete_booking(connection, session.id)
        await _note(connection, session, member, "session_ended", {})
    elif member.role == "admin":
        await _note(connection, session, member, "session_changed", {"changed": ["status"]})
    return [entry]


async def _note(
    connection: Connection, session: Session, member: Member, action: Action, details: Mapping[str, Any]
) -> None:
    """Write into the audit log what was done to the session's student, or where it has none to its host."""
    await audit.append(
        connection,
        actor_id=member.user_id,
        action=action,
        subject=session.student_id or session.host_id,
        details={"session_id": session.id, **details},
    )


async def _locked(connection: Connection, member: Member) -> Session:
    session = await sessions.locked_with_booking(connection, member.session_id)
    if session is None:
        raise access.unknown_session()
    return session


async def _again(connection: Connection, member: Member) -> Session:
    session = await sessions.find(connection, member.session_id)
    if session is None:
        raise access.unknown_session()
    return session
