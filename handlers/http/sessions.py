"""`/sessions`: lessons, as S3 has them for bookings and S2 for courses."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import Meta

from domain import access, meetings, session_settings, sessions
from domain.errors import Forbidden, NotFound, invalid
from handlers.http.authentication import authenticate
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import DATABASE, LIVE
from handlers.http.live_sessions import ClassToSchedule, MaxParticipants, Title, schedule
from handlers.http.messages import entered, entered_with
from handlers.http.requests import identity_of
from handlers.payloads import Instant
from store import sessions as store
from store.session_settings import MAX_SLOW_MODE_SECONDS

MAX_NOTES = 500
MAX_FILES = 500
Notes = Annotated[list["Note"], Meta(max_length=MAX_NOTES)]
Files = Annotated[list["File"], Meta(max_length=MAX_FILES)]


class NewSession(ClassToSchedule, frozen=True):
    """The session of a booking, or else a live class."""

    booking_id: str | None = None


class Note(msgspec.Struct, frozen=True):
    text: Annotated[str, Meta(max_length=10_000)]
    timestamp: Instant


class File(msgspec.Struct, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=255)]
    url: Annotated[str, Meta(min_length=1, max_length=2_000, pattern=r"^https?://")]
    timestamp: Instant


class SessionChange(msgspec.Struct, frozen=True):
    status: Literal["pending", "active", "completed"] | None = None
    notes: Notes | None = None
    files: Files | None = None
    recording_enabled: bool | None = None


class SettingsChange(msgspec.Struct, frozen=True):
    """`max_participants` null: as many as come."""

    title: Title | None = None
    starts_at: Instant | None = None
    max_participants: MaxParticipants | msgspec.UnsetType | None = msgspec.UNSET
    recording_enabled: bool | None = None
    locked: bool | None = None
    waiting_room: bool | None = None
    chat_muted: bool | None = None
    slow_mode_seconds: Annotated[int, Meta(ge=0, le=MAX_SLOW_MODE_SECONDS)] | None = None
    whiteboard_locked: bool | None = None
    recording_consent: bool | None = None


async def create(request: web.Request) -> web.Response:
    """The session of a booking, which exists since the booking does: the first to ask is told 201. Or a live class."""
    new = await read_body(request, NewSession)
    if new.booking_id is None:
        return await schedule(request, new)
    if new.course_id is not None:
        raise invalid({"course_id": "cannot stand beside booking_id: a session has one of them"})
    try:
        booking_id = UUID(new.booking_id)
    except ValueError:
        raise _unknown_booking() from None
    try:
        session, _ = await access.enter(request.app[DATABASE], booking_id, identity_of(request))
    except NotFound:
        raise _unknown_booking() from None
    if session.kind != "booking":
        raise _unknown_booking()
    first = await store.mark_requested(request.app[DATABASE], session.id)
    answer = {"session_id": session.id, "message": "Session created successfully"}
    return json_response(answer, status=201 if first else 200)


async def show(request: web.Request) -> web.Response:
    """A live class for everybody; a booking's session for its members."""
    ref = access.session_ref(request.match_info["ref"])
    session = await store.find(request.app[DATABASE], ref)
    if session is None:
        raise access.unknown_session()
    if session.kind != "booking":
        return json_response(sessions.document(session))
    session, _ = await access.enter(request.app[DATABASE], ref, await authenticate(request))
    meeting_data = await meetings.data_of(request.app[DATABASE], session.id)
    return json_response(sessions.document(session) | {"meeting_data": meeting_data})


async def delete(request: web.Request) -> web.Response:
    """End a session; what was said in it stays."""
    refusal = f"Not authorized to delete session:{request.match_info['ref']}"
    try:
        _, member = await entered(request)
    except Forbidden as refused:
        raise Forbidden(refusal, code=refused.code) from None
    access.require_host(member, refusal)
    return json_response(sessions.document(await sessions.move(request.app[LIVE], member, "ended")))


async def configure(request: web.Request) -> web.Response:
    """What a host sets in a session."""
    _, member, wanted = await entered_with(request, SettingsChange, may=access.require_host)
    size = wanted.max_participants
    session = await session_settings.change(
        request.app[LIVE],
        member,
        session_settings.SettingsChange(
            locked=wanted.locked,
            waiting_room=wanted.waiting_room,
            chat_muted=wanted.chat_muted,
            slow_mode_seconds=wanted.slow_mode_seconds,
            whiteboard_locked=wanted.whiteboard_locked,
            recording_consent=wanted.recording_consent,
        ),
        session_settings.DetailsChange(
            title=wanted.title,
            starts_at=wanted.starts_at,
            recording_enabled=wanted.recording_enabled,
            max_participants=None if size is msgspec.UNSET else size,
            sets_max_participants=size is not msgspec.UNSET,
        ),
    )
    return json_response(sessions.settings_document(session))


async def change(request: web.Request) -> web.Response:
    _, member, wanted = await entered_with(request, SessionChange)
    await sessions.update(
        request.app[LIVE],
        member,
        status=None if wanted.status is None else sessions.STATUS_OF_S3[wanted.status],
        notes=_plain(wanted.notes),
        files=_plain(wanted.files),
        recording_enabled=wanted.recording_enabled,
    )
    return json_response({"message": "Session updated successfully"})


def _plain(items: list[Any] | None) -> list[dict[str, Any]] | None:
    plain: list[dict[str, Any]] | None = msgspec.to_builtins(items)
    return plain


def _unknown_booking() -> NotFound:
    return NotFound("There is no such booking.", code="booking_not_found")
