"""The session itself: `endSession`, `setSession`."""

from __future__ import annotations

from domain import session_settings, sessions
from domain.live import Live
from domain.session_settings import SettingsChange
from handlers.encounters.answers import done
from handlers.encounters.attendees import member_of
from handlers.encounters.payloads import InSession
from realtime.connection import Connection, Reply


class SetSession(InSession):
    locked: bool | None = None
    waiting_room: bool | None = None
    chat_muted: bool | None = None
    slow_mode_seconds: int | None = None
    whiteboard_locked: bool | None = None
    recording_consent: bool | None = None


async def configure(live: Live, connection: Connection, request: SetSession) -> Reply:
    member = member_of(connection, request.session_id)
    session = await session_settings.change(
        live,
        member,
        SettingsChange(
            locked=request.locked,
            waiting_room=request.waiting_room,
            chat_muted=request.chat_muted,
            slow_mode_seconds=request.slow_mode_seconds,
            whiteboard_locked=request.whiteboard_locked,
            recording_consent=request.recording_consent,
        ),
    )
    return done(settings=session_settings.document(session.settings))


async def end(live: Live, connection: Connection, request: InSession) -> Reply:
    member = member_of(connection, request.session_id)
    await sessions.move(live, member, "ended")
    return done()
