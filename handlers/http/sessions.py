"""`/sessions`: lessons, as S3 has them for bookings."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import Meta

from domain import access, sessions
from domain.errors import BadRequest, NotFound
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import DATABASE, LIVE
from handlers.http.messages import entered
from handlers.http.requests import identity_of
from handlers.payloads import Instant
from store import sessions as store

MAX_NOTES = 500
MAX_FILES = 500
Notes = Annotated[list["Note"], Meta(max_length=MAX_NOTES)]
Files = Annotated[list["File"], Meta(max_length=MAX_FILES)]


class NewSession(msgspec.Struct, frozen=True):
    booking_id: str | None = None
    course_id: str | None = None
    starts_at: str | None = None


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


async def create(request: web.Request) -> web.Response:
    """The session of a booking. It exists since the booking does; the first to ask is told 201."""
    new = await read_body(request, NewSession)
    if new.booking_id is None:
        raise BadRequest("booking_id is required.", code="validation_failed", fields={"booking_id": "is required"})
    try:
        booking_id = UUID(new.booking_id)
    except ValueError:
        raise _unknown_booking() from None
    try:
        session, _ = await access.enter(request.app[DATABASE], booking_id, identity_of(request))
    except NotFound:
        raise _unknown_booking() from None
    first = await store.mark_requested(request.app[DATABASE], session.id)
    answer = {"session_id": session.id, "message": "Session created successfully"}
    return json_response(answer, status=201 if first else 200)


async def show(request: web.Request) -> web.Response:
    session, _ = await entered(request)
    return json_response(sessions.document(session))


async def change(request: web.Request) -> web.Response:
    _, member = await entered(request)
    wanted = await read_body(request, SessionChange)
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
