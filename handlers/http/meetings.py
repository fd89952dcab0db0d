"""`/meetings` and `/attendees`, as S3 has them, a session's `token`, as S2, and `meeting/move`."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import Meta

from domain import access, meetings
from domain.access import Member
from domain.errors import Forbidden, NotFound, invalid
from domain.identity import Identity
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import DATABASE, MEETINGS
from handlers.http.messages import entered
from handlers.http.requests import identity_of, query_text
from store import meetings as store
from store import sessions, users
from store.meetings import Meeting
from store.sessions import Session

#: What a page calls itself among the person's others.
MAX_TAB_CHARACTERS: Final = 64

UserId = Annotated[str, Meta(min_length=1, max_length=128)]


class NewMeeting(msgspec.Struct, frozen=True):
    session_id: str


class EndedMeeting(msgspec.Struct, frozen=True):
    meeting_id: str


class NewAttendee(msgspec.Struct, frozen=True):
    """`name` is taken over where the person has none yet."""

    meeting_id: str
    user_id: UserId
    name: Annotated[str, Meta(max_length=200)] = ""


class Move(msgspec.Struct, frozen=True):
    """`provider` left out: the one that the server is set up with."""

    provider: Annotated[str, Meta(max_length=100)] | None = None


async def create(request: web.Request) -> web.Response:
    """The session's meeting, which the first to ask makes: 201, then 200."""
    new = await read_body(request, NewMeeting)
    session, member = await access.enter(
        request.app[DATABASE], access.session_ref(new.session_id), identity_of(request)
    )
    access.require_host(member)
    meeting, made = await request.app[MEETINGS].ensure(session)
    return json_response(meetings.document(meeting), status=201 if made else 200)


async def show(request: web.Request) -> web.Response:
    session, _ = await entered(request)
    return json_response(meetings.document(await request.app[MEETINGS].current(session.id)))


async def delete(request: web.Request) -> web.Response:
    """End a meeting; the session goes on, and may have another one."""
    wanted = await read_body(request, EndedMeeting)
    meeting, _, member = await _of_meeting(request, wanted.meeting_id)
    await request.app[MEETINGS].end(member, meeting)
    return json_response({"message": "Meeting ended successfully"})


async def attend(request: web.Request) -> web.Response:
    """Register oneself, or, as the host, another member."""
    new = await read_body(request, NewAttendee)
    meeting, session, member = await _of_meeting(request, new.meeting_id)
    if new.user_id != member.user_id:
        access.require_host(member, "Only the host registers others.")
        member = await _other(request, session, new)
    if (await request.app[MEETINGS].current(session.id)).id != meeting.id:
        raise meetings.unknown_meeting()  # it is over
    attendee = await request.app[MEETINGS].attendee(session, member)
    return json_response({"attendee_id": attendee.id, "attendee_data": attendee.data}, status=201)


async def token(request: web.Request) -> web.Response:
    """What lets a member into the session's meeting, which is made if there is none; one for each `tab`."""
    session, member = await entered(request)
    admitted = await request.app[MEETINGS].admit(session, member, tab=_tab(request) or "")
    given = admitted.given
    return json_response(
        {
            "token": given.token,
            "url": given.url,
            "provider": given.provider,
            "expires_at": given.expires_at,
            "meeting_id": admitted.meeting.id,
            "person_id": given.person_id,
            "people": admitted.people,
            "data": given.data,
        },
        headers={"Cache-Control": "no-store"},
    )


async def leave(request: web.Request) -> web.Response:
    """Give a pass back, of one `tab` or all: who left the meeting, and not the session, keeps nobody else out."""
    _, member = await entered(request)
    await request.app[MEETINGS].leave(member, _tab(request))
    return web.Response(status=204)


async def move(request: web.Request) -> web.Response:
    """To another room. `from`: the id of the meeting to move, so that a request that is repeated moves it once.
    `provider`, in the body or the query: to another provider."""
    session, member = await entered(request)
    access.require_host(member)
    wanted = await read_body(request, Move) if request.body_exists else Move()
    only = query_text(request, "from")
    meeting, made = await request.app[MEETINGS].move(
        member,
        session,
        only=None if only is None else _id(only),
        to=wanted.provider if wanted.provider is not None else query_text(request, "provider"),
    )
    return json_response(meetings.document(meeting), status=201 if made else 200)


async def _of_meeting(request: web.Request, meeting_id: str) -> tuple[Meeting, Session, Member]:
    """A meeting, its session, and its visitor as a member. Raises NotFound, Forbidden."""
    meeting = await store.find(request.app[DATABASE], _id(meeting_id))
    if meeting is None:
        raise meetings.unknown_meeting()
    session, member = await access.enter(request.app[DATABASE], meeting.session_id, identity_of(request))
    return meeting, session, member


def _tab(request: web.Request) -> str | None:
    tab = query_text(request, "tab")
    if tab is not None and len(tab) > MAX_TAB_CHARACTERS:
        raise invalid({"tab": f"must have at most {MAX_TAB_CHARACTERS} characters"})
    return tab


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise meetings.unknown_meeting() from None


async def _other(request: web.Request, session: Session, new: NewAttendee) -> Member:
    """Somebody else as a member of the session. Raises NotFound for who is none."""
    pool = request.app[DATABASE]
    user = await users.find(pool, new.user_id)
    entrance = await sessions.find_for(pool, session.id, new.user_id)
    if user is None or entrance is None:
        raise _unknown_person()
    identity = Identity(user_id=user.id, role=user.role)
    name = entrance.name or new.name
    try:
        return access.member(session, identity, name=name, kicked=entrance.was_kicked, enrolled=entrance.is_enrolled)
    except Forbidden as refused:
        if refused.code == "kicked":
            raise
        raise _unknown_person() from None


def _unknown_person() -> NotFound:
    return NotFound("There is no such person in this session.", code="participant_not_found")
