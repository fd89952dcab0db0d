"""`/live-sessions`, and the lists of live classes: of a course, and of an instructor."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import Meta

from domain import courses, live_sessions, sessions
from domain.errors import BadRequest
from domain.live_sessions import NewLiveSession, document
from domain.session_settings import MAX_TITLE_CHARACTERS
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import DATABASE, LIVE, MEETINGS
from handlers.http.messages import entered
from handlers.http.requests import (
    cursor_of,
    identity_of,
    path_text,
    path_uuid,
    piece_of,
    query_limit,
    query_position,
)
from handlers.payloads import Instant
from store import live_sessions as store
from store.session_settings import MAX_PARTICIPANTS
from store.sessions import Session, Status

Title = Annotated[str, Meta(max_length=MAX_TITLE_CHARACTERS)]
MaxParticipants = Annotated[int, Meta(ge=1, le=MAX_PARTICIPANTS)]


class ClassToSchedule(msgspec.Struct, frozen=True):
    """What a live class is made of. A course and a start are required."""

    course_id: str | None = None
    starts_at: Instant | None = None
    title: Title | None = None
    recording_enabled: bool | None = None
    max_participants: MaxParticipants | None = None


async def create(request: web.Request) -> web.Response:
    return await schedule(request, await read_body(request, ClassToSchedule))


async def schedule(request: web.Request, wanted: ClassToSchedule) -> web.Response:
    """Make the live class that a body asks for."""
    if not wanted.course_id or wanted.starts_at is None:
        missing = {"course_id": wanted.course_id, "starts_at": wanted.starts_at}
        raise BadRequest(
            "courseId and startsAt are required",
            code="validation_failed",
            fields={name: "is required" for name, value in missing.items() if not value},
        )
    try:
        course_id = UUID(wanted.course_id)
    except ValueError:
        raise courses.unknown_course() from None
    session = await live_sessions.schedule(
        request.app[LIVE],
        request.app[MEETINGS].rooms,
        identity_of(request),
        NewLiveSession(
            course_id=course_id,
            starts_at=wanted.starts_at,
            title=wanted.title or "",
            recording_enabled=bool(wanted.recording_enabled),
            max_participants=wanted.max_participants,
        ),
    )
    return json_response(document(session), status=201, headers={"Location": f"/sessions/{session.id}"})


async def start(request: web.Request) -> web.Response:
    return await _move(request, "live")


async def end(request: web.Request) -> web.Response:
    return await _move(request, "ended")


async def _move(request: web.Request, status: Status) -> web.Response:
    _, member = await entered(request)
    return json_response(sessions.document(await sessions.move(request.app[LIVE], member, status)))


async def of_instructor(request: web.Request) -> web.Response:
    """The live classes that somebody leads, for everybody."""
    instructor_id = path_text(request, "instructor_id", live_sessions.unknown_instructor)
    limit, after = query_limit(request), query_position(request)
    await live_sessions.check_is_instructor(request.app[DATABASE], instructor_id)
    found = await store.led_by(request.app[DATABASE], instructor_id, after=after, limit=limit + 1)
    shown, more = piece_of(request, found, limit, _cursor)
    return json_response([document(session) for session in shown], headers=more)


async def in_course(request: web.Request) -> web.Response:
    """The live classes of a course, for those who take part in it."""
    course_id = path_uuid(request, "id", courses.unknown_course)
    limit, after = query_limit(request), query_position(request)
    await courses.read_as_participant(request.app[DATABASE], identity_of(request), course_id)
    found = await store.in_course(request.app[DATABASE], course_id, after=after, limit=limit + 1)
    shown, more = piece_of(request, found, limit, lambda one: _cursor(one.session))
    documents = [document(one.session) | {"participantCount": one.participant_count} for one in shown]
    return json_response(documents, headers=more)


def _cursor(session: Session) -> str:
    return cursor_of(session.starts_at, session.id)
