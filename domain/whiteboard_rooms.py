"""What this worker's rooms have been shown of their whiteboards: how every client's board stays what the database says.

An event that the bus lost is missed by the rooms of other workers; but each carries its board's `revision`, which
counts without gaps. So a worker knows where something is missing, and reads and shows it: a little later while the bus
is there, with each look while it is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import msgspec
import structlog

from domain.whiteboard import document
from realtime.bus import Bus
from realtime.connection import Connection
from realtime.events import Event
from realtime.hub import Room
from store import whiteboards
from store.database import Pool
from store.errors import Away
from store.whiteboards import Element, Page

#: Seconds between two looks at all boards of this worker while nothing says that anything was missed: for what a worker
#: committed that died before it could tell.
LOOK_SECONDS: Final = 10.0
#: Revisions that may have come before earlier ones. Beyond it they are read from the database instead.
MAX_EARLY_REVISIONS: Final = 1_000

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Mark:
    """How far a room's people have been shown their board: up to `known`, and what has come `early`.

    What was drawn up to `cleared` is gone.
    """

    known: int
    cleared: int = 0
    early: set[int] = field(default_factory=set)
    #: Where `known` was at the last look, if something was missing then.
    stuck_at: int | None = None

    def saw(self, revision: int) -> None:
        if revision > self.known:
            self.early.add(revision)
            self._advance()

    def reach(self, revision: int) -> None:
        """Everything up to there has been shown, or need not be."""
        self.known = max(self.known, revision)
        self.early = {early for early in self.early if early > self.known}
        self._advance()

    def _advance(self) -> None:
        while self.known + 1 in self.early:
            self.known += 1
            self.early.remove(self.known)

    def misses(self) -> bool:
        """Whether something has been missing since the last look, or too much is: what overtakes arrives by then."""
        stuck = bool(self.early) and (self.stuck_at == self.known or len(self.early) > MAX_EARLY_REVISIONS)
        self.stuck_at = self.known if self.early else None
        return stuck


class WhiteboardRooms:
    """The rooms of this worker, as far as they follow their boards."""

    def __init__(
        self, pool: Pool, bus: Bus, *, channel: Callable[[str], str], find_room: Callable[[str], Room | None]
    ) -> None:
        self._pool = pool
        self._bus = bus
        self._channel = channel
        self._find_room = find_room
        self._marks: dict[str, _Mark] = {}
        #: Whose update is being shown.
        self._sender: Connection | None = None
        self._gap = False
        self._looked_at = 0.0
        self._look: asyncio.Task[None] | None = None
        bus.on_gap(self._note_gap)

    async def close(self) -> None:
        """Look no more."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)

    def publish(
        self, room_id: str, user_id: str, elements: Sequence[Element], revision: int, *, but: Connection | None
    ) -> None:
        """Show everywhere what was drawn and is committed, to everybody but the connection that it came by."""
        # On this worker it is shown before the next line.
        self._sender = but
        try:
            self._bus.publish(self._channel(room_id), _news(room_id, user_id, elements, revision))
        finally:
            self._sender = None

    async def open(self, room: Room) -> None:
        """Follow the board of a room that opens on this worker."""
        self._marks[room.id] = _Mark(await whiteboards.revision(self._pool, UUID(room.id)))

    def forget(self, room: Room) -> None:
        self._marks.pop(room.id, None)

    def hear(self, room: Room, news: Event) -> None:
        """Show what was drawn, on this worker or another, to everybody but who drew it."""
        mark, revision = self._marks.get(room.id), _decode_place(news.json).revision
        if mark is not None:
            mark.saw(revision)
            if revision <= mark.cleared:
                return  # overtaken by a clear, which took it away
        room.show(news, but=self._sender)

    def hear_cleared(self, room: Room, revision: int) -> None:
        """Whatever came before, a clear has taken it away."""
        mark = self._marks.get(room.id)
        if mark is not None:
            mark.cleared = revision
            mark.reach(revision)

    def _note_gap(self) -> None:
        self._gap = True

    def look(self, *, bus_connected: bool) -> None:
        """Have what was missed read and shown, unless that is under way."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._show_missed(bus_connected), name="whiteboards-look")

    async def _show_missed(self, bus_connected: bool) -> None:
        gap, self._gap = self._gap, False
        try:
            now = asyncio.get_running_loop().time()
            if gap or not bus_connected or now - self._looked_at >= LOOK_SECONDS:
                self._looked_at = now
                found = await whiteboards.revisions(self._pool, [UUID(room_id) for room_id in self._marks])
                newer = {str(session_id): revision for session_id, revision in found.items()}
                behind = [room_id for room_id, mark in self._marks.items() if newer.get(room_id, 0) > mark.known]
            else:
                behind = [room_id for room_id, mark in self._marks.items() if mark.misses()]
            for room_id in behind:
                await self._show_rest(room_id)
        except Away as error:
            self._gap = True
            logger.info("whiteboards.look_waits", reason=str(error))
        except Exception:
            logger.exception("whiteboards.look_failed")

    async def _show_rest(self, room_id: str) -> None:
        more = True
        while more:
            mark, room = self._marks.get(room_id), self._find_room(room_id)
            if mark is None or room is None:
                return
            page = await whiteboards.page(self._pool, UUID(room_id), after=mark.known)
            more = page.more
            _show(room, page)
            mark.reach(page.revision)


class _Place(msgspec.Struct, frozen=True):
    """Of a `whiteboard` event, what a worker reads itself."""

    revision: int


_decode_place = msgspec.json.Decoder(_Place).decode
_encode = msgspec.json.Encoder(enc_hook=str).encode


def _news(room_id: str, user_id: str | None, elements: Sequence[Element], revision: int) -> Event:
    data = {
        "session_id": room_id,
        "userId": user_id,
        "revision": revision,
        "elements": [document(element) for element in elements],
    }
    return Event(name="whiteboard", data=msgspec.Raw(_encode(data)))


def _show(room: Room, page: Page) -> None:
    """Show a room what it missed. Of a clear it is told by the log."""
    elements = [element for element in page.elements if element.json is not None]
    if elements:
        room.show(_news(room.id, None, elements, page.revision))
