"""Recordings: a host starts and stops them, a file comes of each, and the session's members see it.

A recording is `recording` until it is stopped, `processing` until its file has come and was looked through, and then
`completed` or `failed`. It only moves forward. Each step stands in the session's log (`recordingState`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from domain import access, consents, sessions
from domain.access import Member
from domain.errors import BadRequest, Conflict, Forbidden, NotFound
from domain.live import Live
from store import audit, recordings
from store import sessions as session_store
from store.database import Connection, Executor
from store.errors import Refused, translated
from store.ids import new_id
from store.recordings import Recording, Span, Status
from store.sessions import Session

#: S2's words for the same states.
S2_STATUS: Final[Mapping[Status, str]] = {
    "recording": "in-progress",
    "processing": "processing",
    "completed": "finished",
    "failed": "failed",
}
#: Recordings of one session whose times a timeline is laid beside; a lesson has a few.
MAX_SPANS: Final = 200


# Rules


def check_may_record(member: Member, ref: str) -> None:
    if not member.is_host:
        raise may_not_record(ref)


def may_not_record(ref: str) -> Forbidden:
    return Forbidden(f"Not authorized to record session:{ref}", code="not_host")


def check_may_stop(member: Member, ref: str) -> None:
    if not member.is_host:
        raise may_not_stop(ref)


def may_not_stop(ref: str) -> Forbidden:
    return Forbidden(f"Not authorized to stop recording session:{ref}", code="not_host")


def may_not_see(ref: str) -> Forbidden:
    return Forbidden(f"Not authorized to access recording for session:{ref}")


def check_enabled(session: Session) -> None:
    """Raise BadRequest where the host has turned recording off."""
    if not session.recording_enabled:
        raise BadRequest("Recording is not enabled for this session", code="recording_not_enabled")


def unknown_recording() -> NotFound:
    return NotFound("There is no such recording in this session.", code="recording_not_found")


def offset_in(spans: Sequence[Span], at: datetime) -> tuple[Span, float] | None:
    """The recording that ran at that moment, and how many seconds into it that was; None: none did.

    `spans` are newest first.
    """
    for span in spans:
        if span.started_at <= at and (span.stopped_at is None or at <= span.stopped_at):
            return span, round((at - span.started_at).total_seconds(), 3)
    return None


def document(recording: Recording, url: str | None, download_url: str | None) -> dict[str, Any]:
    """A recording in a list, with the signed links to its file: to watch it and to save it, None while there is nothing
    to see."""
    return {
        "id": recording.id,
        "session_id": recording.session_id,
        "uploaded_by": recording.uploaded_by,
        "url": url,
        "download_url": download_url,
        "file_name": recording.file_name,
        "file_size_bytes": recording.file_size_bytes,
        "duration_seconds": recording.duration_seconds,
        "mime_type": recording.mime_type,
        "status": recording.status,
        "failure": recording.failure,
        "arriving": recording.arriving,
        "started_at": recording.started_at,
        "stopped_at": recording.stopped_at,
        "created_at": recording.created_at,
    }


def started(recording: Recording) -> dict[str, Any]:
    """What whoever started it is answered."""
    return {"recordingId": recording.id, "startedAt": recording.started_at}


def stopped(recording: Recording) -> dict[str, Any]:
    """What whoever stopped it is answered; `duration` in whole seconds."""
    return {
        "recordingId": recording.id,
        "stoppedAt": recording.stopped_at,
        "duration": recording.duration_seconds,
    }


def newest_document(
    recording: Recording, *, url: str | None, download_url: str | None, expires_at: datetime | None
) -> dict[str, Any]:
    """A session's newest recording, as S2 has it; without links while there is nothing to see."""
    return {
        "recordingId": recording.id,
        "startedAt": recording.started_at,
        "stoppedAt": recording.stopped_at,
        "duration": recording.duration_seconds,
        "status": S2_STATUS[recording.status],
        "downloadLink": download_url,
        "accessLink": None if url is None else {"url": url, "expiresAt": expires_at},
    }


# Start and stop


async def start(live: Live, member: Member, ref: str) -> Recording:
    """Begin to record; the host may. A session that is only scheduled becomes live.

    `ref` is how the session was called, for the refusal. Raises Forbidden, BadRequest (`recording_not_enabled`),
    Conflict (`already_recording`, `consent_missing`, `invalid_transition`, `meeting_empty`), NotFound, BadGateway.
    """
    check_may_record(member, ref)
    recording_id = new_id()
    async with live.recorder.begins(member, recording_id) as written:
        try:
            with translated():
                async with live.pool.acquire() as connection, connection.transaction():
                    session = await ready_to_start(connection, member)
                    moved = await sessions.move_locked(connection, session, member, "live")
                    entry = await recordings.start(
                        connection, session.id, recording_id=recording_id, started_by=member.user_id
                    )
                    await written(connection)
                    recording = await recordings.find(connection, recording_id)
        except Refused as refused:
            if refused.constraint == recordings.ONE_RUNNING:
                raise already_recording() from refused
            raise
    assert recording is not None, "it was written just now"
    sessions.show(live, moved)
    live.publish([entry])
    return recording


async def ready_to_start(connection: Connection, member: Member) -> Session:
    """The member's session, held for this transaction, if it can be recorded now. Raises as :func:`start`."""
    session = await sessions.locked(connection, member)
    check_enabled(session)
    sessions.check_transition(session.status, "live")
    if await recordings.running(connection, session.id) is not None:
        raise already_recording()
    await consents.require(connection, session, actor_id=member.user_id)
    return session


async def stop(live: Live, member: Member, ref: str, *, end: bool = True) -> Recording:
    """End the recording that runs; the host may. With it the session ends, unless `end` is false.

    Its file is waited for. Raises Forbidden, Conflict (`not_recording`), NotFound.
    """
    check_may_stop(member, ref)
    with translated():
        async with live.pool.acquire() as connection, connection.transaction():
            session = await sessions.locked(connection, member)
            recording = await recordings.running(connection, session.id)
            if recording is None:
                raise Conflict("Nothing is being recorded in this session.", code="not_recording")
            entry = await recordings.stop_running(connection, session.id, stopped_by=member.user_id)
            assert entry is not None, "the session's row is held"
            moved = sessions.Moved()
            if end:
                moved = await sessions.move_locked(connection, session, member, "ended")
            stopped = await recordings.find(connection, recording.id)
    assert stopped is not None, "it was written just now"
    live.publish([entry])
    sessions.show(live, moved)
    return stopped


def already_recording() -> Conflict:
    return Conflict("This session is being recorded already.", code="already_recording")


# Afterwards


async def read(executor: Executor, session_id: UUID, recording_id: UUID) -> Recording:
    """A recording of a session. Raises NotFound."""
    recording = await recordings.find(executor, recording_id)
    if recording is None or recording.session_id != session_id:
        raise unknown_recording()
    return recording


async def delete(live: Live, member: Member, recording_id: UUID) -> None:
    """Take a recording away, with its file; the host may. It is noted in the audit log.

    Raises Forbidden, NotFound, Conflict (`recording_running`).
    """
    access.require_host(member, "Only the host deletes a recording.")
    with translated():
        async with live.pool.acquire() as connection, connection.transaction():
            if await session_store.locked(connection, member.session_id) is None:
                raise access.unknown_session()
            recording = await read(connection, member.session_id, recording_id)
            if recording.status == "recording":
                raise Conflict("The recording runs; stop it before you delete it.", code="recording_running")
            await recordings.delete(connection, recording.id)
            await audit.append(
                connection,
                actor_id=member.user_id,
                action="recording_deleted",
                subject=recording.uploaded_by,
                details={"session_id": recording.session_id, "recording_id": recording.id},
            )
    live.recorder.wake()
