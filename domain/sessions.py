"""A session's document, its state machine, and the acts that change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from domain import access, booking_news, live_sessions, notifications, session_settings
from domain.access import Member
from domain.errors import Conflict, Forbidden
from domain.live import Live
from domain.notifications import Told
from store import audit, bookings, sessions
from store.audit import Action
from store.database import Connection
from store.errors import translated
from store.events import LogEntry
from store.session_settings import Settings
from store.sessions import Session, Status

#: S3's words for the same states.
S3_STATUS: Final[Mapping[Status, str]] = {"scheduled": "pending", "live": "active", "ended": "completed"}
STATUS_OF_S3: Final[Mapping[str, Status]] = {word: status for status, word in S3_STATUS.items()}
_ORDER: Final[Mapping[Status, int]] = {"scheduled": 0, "live": 1, "ended": 2}


def document(session: Session) -> dict[str, Any]:
    """The session as REST shows it: a live class as S2 has it, a booking's as S3."""
    if session.kind == "course":
        return live_sessions.document(session)
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


def realtime_document(
    session: Session,
    *,
    status: Status,
    settings: Settings,
    pinned_message_id: UUID | None,
    recording_id: UUID | None = None,
) -> dict[str, Any]:
    """The `session` of an ack: the REST document with what its members know besides, `status`, `settings`, the pinned
    message and the recording that runs as they are at that moment."""
    return (
        document(session)
        | {
            "session_id": session.id,
            "room_name": session.room_name,
            "kind": session.kind,
            "title": session.title,
            "status": status,
        }
        | session_settings.document(settings)
        | {
            "maxParticipants": session.max_participants,
            "pinnedMessageId": pinned_message_id,
            "recordingId": recording_id,
        }
    )


def settings_document(session: Session) -> dict[str, Any]:
    """The session as its host has set it: the REST document and everything that `PATCH /sessions/{ref}` changes."""
    return (
        document(session)
        | {"title": session.title, "recordingEnabled": session.recording_enabled}
        | session_settings.document(session.settings)
        | {"maxParticipants": session.max_participants, "pinnedMessageId": session.pinned_message_id}
    )


def check_transition(now: Status, wanted: Status) -> None:
    """A status only moves forward. Raises Conflict."""
    if _ORDER[wanted] < _ORDER[now]:
        raise Conflict(f"The session is {now}; it cannot become {wanted} again.", code="invalid_transition")


async def move(live: Live, member: Member, status: Status) -> Session:
    """Start or end a session; the host may. To where it is already: nothing happens.

    The end of a booking's session completes the booking, pending or confirmed: one act. It stands in the audit log,
    and so does whatever else an administrator changes here. Those enrolled in a live class are told of its start.
    """
    access.require_host(member)
    with translated():
        async with live.pool.acquire() as connection, connection.transaction():
            session = await locked(connection, member)
            moved = await move_locked(connection, session, member, status)
            after = await again(connection, member)
    show(live, moved)
    return after


async def update(
    live: Live,
    member: Member,
    *,
    status: Status | None,
    notes: Sequence[Mapping[str, Any]] | None,
    files: Sequence[Mapping[str, Any]] | None,
    recording_enabled: bool | None,
) -> Session:
    """Replace what is given. Members write notes and files; the host alone the rest, and in a live class everything."""
    if (status is not None or recording_enabled is not None) and not member.is_host:
        raise Forbidden("Only the teacher may change the status of a session.", code="not_host")
    moved = Moved()
    with translated():
        async with live.pool.acquire() as connection, connection.transaction():
            session = await locked(connection, member)
            if session.kind == "course":
                access.require_host(member, "Only the host writes the notes and files of a live class.")
            if status is not None:
                moved = await move_locked(connection, session, member, status)
            details = {"notes": notes, "files": files, "recording_enabled": recording_enabled}
            replaced = [name for name, value in details.items() if value is not None]
            await sessions.save_details(
                connection, session.id, notes=notes, files=files, recording_enabled=recording_enabled
            )
            if replaced and member.role == "admin":
                await _note(connection, session, member, "session_changed", {"changed": replaced})
            updated = await again(connection, member)
    show(live, moved)
    return updated


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """What is shown after the commit of a change of status."""

    entries: Sequence[LogEntry] = ()
    told: Told | None = None


def show(live: Live, moved: Moved) -> None:
    """Tell everybody of a move that was committed."""
    live.publish(moved.entries)
    if any(entry.data.get("status") == "ended" for entry in moved.entries):
        live.session_ended()
    if moved.told is not None:
        notifications.push(live, moved.told)


async def move_locked(connection: Connection, session: Session, member: Member, status: Status) -> Moved:
    """Move a session inside a transaction that holds its row: see :func:`move`; :func:`show` the answer after commit.

    Raises Conflict.
    """
    if status == session.status:
        return Moved()
    check_transition(session.status, status)
    entries = await sessions.move(connection, session.id, status, actor_id=member.user_id)
    told = None
    if status == "ended":
        told = await _complete_booking(connection, session, member)
        await _note(connection, session, member, "session_ended", {})
    elif status == "live":
        told = await live_sessions.tell_of_start(connection, session, member.user_id)
    if status != "ended" and member.role == "admin":
        await _note(connection, session, member, "session_changed", {"changed": ["status"]})
    return Moved(entries=entries, told=told)


async def _complete_booking(connection: Connection, session: Session, member: Member) -> Told | None:
    before = await bookings.find(connection, session.id)
    await sessions.complete_booking(connection, session.id)
    after = await bookings.find(connection, session.id)
    if before is None or after is None or before.status == after.status:
        return None
    return await booking_news.tell_changed(connection, before, after, actor_id=member.user_id)


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


async def locked(connection: Connection, member: Member) -> Session:
    """The member's session, with its booking, held for this transaction. Raises NotFound."""
    session = await sessions.locked_with_booking(connection, member.session_id)
    if session is None:
        raise access.unknown_session()
    return session


async def again(connection: Connection, member: Member) -> Session:
    """The member's session as the transaction has changed it."""
    session = await sessions.find(connection, member.session_id)
    if session is None:
        raise access.unknown_session()
    return session
