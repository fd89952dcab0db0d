"""Signals: what two people's browsers tell each other to connect (WebRTC offers, answers, candidates).

Nothing is stored, and nothing of it is understood here: it goes to one person in the room, through all their tabs.
Those signal who have a pass to the session's meeting, to each other, while that is one among browsers.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID
from weakref import WeakValueDictionary

import msgspec

from domain.access import Member
from domain.errors import Conflict, Forbidden, NotFound, TooLarge, TooManyRequests
from domain.rosters import Rosters
from meetings import peer
from realtime.connection import Connection
from realtime.events import Event
from realtime.frames import event_frame
from realtime.hub import Room
from store import meeting_people
from store.database import Pool
from store.meeting_people import Mesh

#: How workers call it among themselves; `to` says whom it is for.
SIGNAL: Final = "signalTo"
#: An offer with every codec and candidate has some 10 KiB. Well below what a frame from a client may have.
MAX_SIGNAL_BYTES: Final = 32 * 1024
#: Of one person to another: several offers, and then what renegotiations need. The five others of a full meeting say
#: less together than may be unsent by default.
BURST_BYTES: Final = 128 * 1024
BYTES_PER_SECOND: Final = 16 * 1024
#: The most pairs of people that a worker remembers.
MAX_PAIRS: Final = 10_000
#: Seconds for which a worker believes what it knows of a meeting, where nothing tells it otherwise.
MESH_SECONDS: Final = 5.0


class Signals:
    """What this worker's people say and hear. `rosters` knows who is in a room, `tell` publishes to it.

    Of one person, another hears BURST_BYTES at once and BYTES_PER_SECOND then. More is refused, and, where it comes
    through several workers, dropped: it would fill what may be unsent to the one who hears it, and cut *their*
    connection.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        rosters: Rosters,
        tell: Callable[[str, Event], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._rosters = rosters
        self._tell = tell
        self._clock = clock
        self._said = _Budgets(clock)
        self._heard = _Budgets(clock)
        #: By room: who may signal there, and when that was looked up.
        self._meshes: dict[str, tuple[Mesh, float]] = {}
        self._looking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        #: How often something was forgotten: what was looked up meanwhile may be out of date.
        self._forgotten = 0

    async def send(self, member: Member, to: str, data: object) -> None:
        """Tell one person in the room, wherever they are connected.

        Raises TooLarge (`signal_too_large`), NotFound (`not_here`), Conflict (`not_peer`), Forbidden (`no_pass`),
        TooManyRequests (`too_many_signals`).
        """
        size = len(msgspec.json.encode(data))
        if size > MAX_SIGNAL_BYTES:
            raise TooLarge(f"A signal has at most {MAX_SIGNAL_BYTES} bytes.", code="signal_too_large")
        room_id = str(member.session_id)
        if self._rosters.person(room_id, to) is None:
            raise _not_here()
        await self._check(room_id, member.user_id, to)
        if not self._said.take((room_id, member.user_id, to), size):
            raise TooManyRequests("You signal more than they can hear.", code="too_many_signals", retry_after=1)
        said = {"session_id": room_id, "from": member.user_id, "to": to, "data": data}
        self._tell(room_id, Event(name=SIGNAL, data=said))

    async def _check(self, room_id: str, user_id: str, to: str) -> None:
        """Whether they may signal. The database is asked once for many; and before anybody is refused, who may have
        come just now, through another worker."""
        mesh, looked_at = self._meshes.get(room_id, (_NOBODY, -MESH_SECONDS))
        if self._clock() - looked_at >= MESH_SECONDS or not _connects(mesh, user_id, to):
            mesh = await self._look(room_id)
        if mesh.provider != peer.NAME:
            raise Conflict("There is no meeting here that is made by signals.", code="not_peer")
        if user_id not in mesh.people:
            raise Forbidden("Ask for a pass to the meeting first.", code="no_pass")
        if to not in mesh.people:
            raise _not_here()

    async def _look(self, room_id: str) -> Mesh:
        asked_at = self._clock()
        async with self._looking.setdefault(room_id, asyncio.Lock()):
            mesh, looked_at = self._meshes.get(room_id, (_NOBODY, asked_at - 1))
            if looked_at >= asked_at:
                return mesh  # somebody else has looked, since
            looked_at, forgotten = self._clock(), self._forgotten
            mesh = await meeting_people.mesh(self._pool, UUID(room_id))
            if forgotten == self._forgotten:
                self._meshes[room_id] = (mesh, looked_at)
            return mesh

    def forget(self, room_id: str) -> None:
        """The room's meeting is another one now, or there is none."""
        self._forgotten += 1
        self._meshes.pop(room_id, None)

    def hear(self, room: Room, connections: Sequence[Connection], said: dict[str, Any]) -> None:
        """Show a signal to whom it is for: to those of their `connections` that are in the room."""
        theirs = [one for one in connections if one in room.members]
        if not theirs:
            return
        shown = {"session_id": said["session_id"], "from": said["from"], "data": said["data"]}
        news = Event(name="signal", data=shown)
        if not self._heard.take((room.id, said["from"], said["to"]), len(news.json)):
            return
        room.flush()
        frame = event_frame(news)
        for connection in theirs:
            connection.send(frame)


class _Budgets:
    """Bytes by session, sender and hearer."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        #: Who was last heard stands at the end: bytes left, and when.
        self._left: OrderedDict[tuple[str, str, str], tuple[float, float]] = OrderedDict()

    def take(self, pair: tuple[str, str, str], size: int) -> bool:
        now = self._clock()
        left, at = self._left.pop(pair, (float(BURST_BYTES), now))
        left = min(BURST_BYTES, left + (now - at) * BYTES_PER_SECOND)
        fits = size <= left
        self._left[pair] = (left - size if fits else left, now)
        if len(self._left) > MAX_PAIRS:
            self._left.popitem(last=False)
        return fits


_NOBODY: Final = Mesh(provider=None, people=frozenset())


def _connects(mesh: Mesh, user_id: str, to: str) -> bool:
    return mesh.provider == peer.NAME and user_id in mesh.people and to in mesh.people


def _not_here() -> NotFound:
    return NotFound("This person is not in the meeting at the moment.", code="not_here")
