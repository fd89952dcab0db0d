"""The session itself: `endSession`."""

from __future__ import annotations

from domain import sessions
from domain.live import Live
from handlers.encounters.answers import done
from handlers.encounters.attendees import member_of
from handlers.encounters.payloads import InSession
from realtime.transport import Connection, Reply


async def end(live: Live, connection: Connection, request: InSession) -> Reply:
    member = member_of(connection, request.session_id)
    await sessions.move(live, member, "ended")
    return done()
