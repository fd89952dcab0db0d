"""Recordings: `startRecording`, `stopRecording`, and who agrees to be in one: `consent`."""

from __future__ import annotations

from domain import consents, recordings
from domain.live import Live
from handlers.encounters.answers import done
from handlers.encounters.attendees import attendee_of, member_of
from handlers.encounters.payloads import InSession
from realtime.connection import Connection, Reply


class StopRecording(InSession):
    """`end` false: the session goes on."""

    end: bool = True


class Consent(InSession):
    agreed: bool


async def start(live: Live, connection: Connection, request: InSession) -> Reply:
    member = member_of(connection, request.session_id)
    return done(**recordings.started(await recordings.start(live, member, request.session_id)))


async def stop(live: Live, connection: Connection, request: StopRecording) -> Reply:
    member = member_of(connection, request.session_id)
    return done(**recordings.stopped(await recordings.stop(live, member, request.session_id, end=request.end)))


async def consent(live: Live, connection: Connection, request: Consent) -> Reply:
    """For oneself; a guardian says it of a child over REST."""
    member = member_of(connection, request.session_id)
    identity = attendee_of(connection).identity
    said = await consents.decide(live, identity, member.session_id, agreed=request.agreed, user_id=None)
    return done(agreed=said.agreed)
