"""From one person to another: `signal`."""

from __future__ import annotations

from typing import Any

from domain import signals
from domain.live import Live
from handlers.encounters.answers import done
from handlers.encounters.attendees import member_of
from handlers.encounters.payloads import InSession
from realtime.transport import Connection, Reply


class Signal(InSession):
    """`data` is the two browsers' own."""

    to: str
    data: Any


def send(live: Live, connection: Connection, request: Signal) -> Reply:
    member = member_of(connection, request.session_id)
    signals.send(live.presence, live.tell, member, request.to, request.data)
    return done()
