"""Signals: what two people's browsers tell each other to connect (WebRTC offers, answers, candidates).

Nothing is stored, and nothing of it is understood here: it goes to one person in the room, through all their tabs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from domain.access import Member
from domain.errors import NotFound, TooLarge
from domain.rosters import Rosters
from realtime.events import Event
from realtime.frames import event_frame
from realtime.hub import Room
from realtime.transport import Connection

#: How workers call it among themselves; `to` says whom it is for.
SIGNAL: Final = "signalTo"
#: An offer with every codec and candidate has some 10 KiB.
MAX_SIGNAL_BYTES: Final = 64 * 1024


def send(rosters: Rosters, tell: Callable[[str, Event], None], member: Member, to: str, data: object) -> None:
    """Tell one person in the room, wherever they are connected. `tell` publishes to the room.

    Raises TooLarge (`signal_too_large`), NotFound (`not_here`).
    """
    if len(msgspec.json.encode(data)) > MAX_SIGNAL_BYTES:
        raise TooLarge(f"A signal has at most {MAX_SIGNAL_BYTES} bytes.", code="signal_too_large")
    room_id = str(member.session_id)
    if rosters.person(room_id, to) is None:
        raise NotFound("This person is not in the session at the moment.", code="not_here")
    tell(room_id, Event(name=SIGNAL, data={"session_id": room_id, "from": member.user_id, "to": to, "data": data}))


def hear(room: Room, connections: Sequence[Connection], said: dict[str, Any]) -> None:
    """Show a signal to whom it is for: to those of their `connections` that are in the room."""
    theirs = [one for one in connections if one in room.members]
    if not theirs:
        return
    room.flush()
    shown = {"session_id": said["session_id"], "from": said["from"], "data": said["data"]}
    frame = event_frame(Event(name="signal", data=shown))
    for connection in theirs:
        connection.send(frame)
