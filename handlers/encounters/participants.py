"""The people of a session: `raiseHand`, `setPermissions`, `kick`, `admit`."""

from __future__ import annotations

import asyncio
from typing import Annotated

from msgspec import Meta

from domain import hands, moderation
from domain.errors import invalid
from domain.live import Live
from domain.moderation import MAX_ADMITTED, ParticipantChange
from handlers.encounters.answers import done, refusal
from handlers.encounters.attendees import member_of
from handlers.encounters.payloads import InSession
from realtime.connection import Answer, Connection, Pending, Reply
from store.events import LogEntry


class RaiseHand(InSession):
    raised: bool


class SetPermissions(InSession):
    user_id: str
    mic_allowed: bool | None = None
    camera_allowed: bool | None = None


class Kick(InSession):
    user_id: str


class Admit(InSession):
    """One person, or several."""

    user_id: str | None = None
    user_ids: Annotated[list[str], Meta(min_length=1, max_length=MAX_ADMITTED)] | None = None
    admitted: bool = True


def raise_hand(live: Live, connection: Connection, request: RaiseHand) -> Answer:
    member = member_of(connection, request.session_id)
    return Pending(hands.begin_raise(live, member, raised=request.raised), _raised)


def _raised(raising: asyncio.Future[LogEntry | None]) -> Reply:
    try:
        hands.check_raised(raising)
    except Exception as error:  # noqa: BLE001  # it is said in the ack
        return refusal(error, "raiseHand")
    return done()


async def set_permissions(live: Live, connection: Connection, request: SetPermissions) -> Reply:
    member = member_of(connection, request.session_id)
    change = ParticipantChange(mic_allowed=request.mic_allowed, camera_allowed=request.camera_allowed)
    await moderation.change_participant(live, member, request.user_id, change)
    return done()


async def kick(live: Live, connection: Connection, request: Kick) -> Reply:
    member = member_of(connection, request.session_id)
    change = ParticipantChange(was_kicked=True)
    await moderation.change_participant(live, member, request.user_id, change)
    return done()


async def admit(live: Live, connection: Connection, request: Admit) -> Reply:
    member = member_of(connection, request.session_id)
    if (request.user_id is None) == (request.user_ids is None):
        raise invalid({"user_id": "is required, or user_ids instead"})
    user_ids = request.user_ids or [request.user_id or ""]
    concerned = await moderation.admit(live, member, user_ids, admitted=request.admitted)
    return done(userIds=concerned)
