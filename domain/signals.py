"""Signals: what two people's browsers tell each other to connect (WebRTC offers, answers, candidates).

Nothing is stored, and nothing of it is understood here: it goes to one person in the room, through all their tabs.
"""

from __future__ import annotations

import time
from collections import OrderedDict
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
#: An offer with every codec and candidate has some 10 KiB. Well below what a frame from a client may have.
MAX_SIGNAL_BYTES: Final = 32 * 1024
#: Of one person to another: a quarter of what may be unsent by default, and then what renegotiations need.
BURST_BYTES: Final = 256 * 1024
BYTES_PER_SECOND: Final = 16 * 1024
#: The most pairs of people that a worker remembers.
MAX_PAIRS: Final = 10_000


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


class Signals:
    """What this worker's people hear. Of one person, another hears BURST_BYTES at once and BYTES_PER_SECOND then.

    More is dropped: it would fill what may be unsent to the one who hears it, and cut *their* connection.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: By session, sender and hearer, who was heard last at the end: bytes left, and when.
        self._left: OrderedDict[tuple[str, str, str], tuple[float, float]] = OrderedDict()

    def hear(self, room: Room, connections: Sequence[Connection], said: dict[str, Any]) -> None:
        """Show a signal to whom it is for: to those of their `connections` that are in the room."""
        theirs = [one for one in connections if one in room.members]
        if not theirs:
            return
        shown = {"session_id": said["session_id"], "from": said["from"], "data": said["data"]}
        news = Event(name="signal", data=shown)
        if not self._take((room.id, said["from"], said["to"]), len(news.json)):
            return
        room.flush()
        frame = event_frame(news)
        for connection in theirs:
            connection.send(frame)

    def _take(self, pair: tuple[str, str, str], size: int) -> bool:
        now = self._clock()
        left, at = self._left.pop(pair, (float(BURST_BYTES), now))
        left = min(BURST_BYTES, left + (now - at) * BYTES_PER_SECOND)
        fits = size <= left
        self._left[pair] = (left - size if fits else left, now)
        if len(self._left) > MAX_PAIRS:
            self._left.popitem(last=False)
        return fits
