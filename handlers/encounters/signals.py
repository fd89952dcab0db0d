"""From one person to another: `signal`."""

from __future__ import annotations

from typing import Any

from domain.live import Live
from handlers.encounters.answers import done
from handlers.encounters.attendees import member_of
from handlers.encounters.payloads import InSession
from realtime.connection import Connection, Reply


class Signal(InSession):
    """`data` is the two browsers' own."""

    to: str
    data: Any


async def send(live: Live, connection: Connection, request: Signal) -> Reply:
    await live.signals.send(member_of(connection, request.session_id), request.to, request.data)
    return done()
