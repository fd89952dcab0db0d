"""The acts on whiteboards, and how every client's board stays what the database says.

What is drawn is committed, then shown. An event that the bus lost is missed by the rooms of other workers; but each
carries its board's `revision`, which counts without gaps. So a worker knows where something is missing, and reads and
shows it: a little later while the bus is there, with each look while it is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from domain import access
from domain.access import Member
from domain.errors import EncountersError, TooLarge, Unavailable
from domain.whiteboard import Drawn, document, draw, in_one_answer, parse, refusal
from realtime.bus import Bus
from realtime.events import Event
from realtime.hub import Room
from realtime.log import Closed, Log, Overloaded
from realtime.transport import Connection
from store import events, whiteboards
from store.database import Pool
from store.errors import Away, translated
from store.events import LogEntry
from store.whiteboards import Board, Element, Page, Version

#: Bytes of elements that may wait to be stored on this worker. Beyond it the database is too slow for the load.
MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
#: Seconds between two looks at all boards of this worker while nothing says that anything was missed: for what a worker
#: committed that died before it could tell.
LOOK_SECONDS: Final = 10.0
#: Revisions that may have come before earlier ones. Beyond it they are read from the database instead.
MAX_EARLY_REVISIONS: Final = 1_000

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """Elements that somebody draws. `connection` has them already."""

    session_id: UUID
    user_id: str
    is_host: bool
    elements: Sequence[Element]
    connection: Connection | None

    @property
    def size(self) -> int:
        return sum(element.size for element in self.elements)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What became of an update: what the others are shown, and the `winners` over what was stale.

    `more`: there are more of those than one answer brings.
    """

    elements: Sequence[Element]
    revision: int
    winners: Sequence[Element] = ()
    more: bool = False


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


class Whiteboards:
    """The boards of this worker's sessions. `publish` shows committed entries of sessions' logs."""

    def __init__(
        self,
        pool: Pool,
        bus: Bus,
        *,
        channel: Callable[[str], str],
        find_room: Callable[[str], Room | None],
        publish: Callable[[Iterable[LogEntry]], None],
    ) -> None:
        self._pool = pool
        self._bus = bus
        self._channel = channel
        self._find_room = find_room
        self._publish = publish
        self._updates: Log[Update, Shown] = Log(
            self._write,
            name="whiteboards",
            passing=Away,
            committed=self._committed,
            key=lambda update: update.session_id,
            size=lambda update: update.size,
        )
        self._waiting_bytes = 0
        self._marks: dict[str, _Mark] = {}
        #: Whose update is being shown.
        self._sender: Connection | None = None
        self._gap = False
        self._looked_at = 0.0
        self._look: asyncio.Task[None] | None = None
        bus.on_gap(self._note_gap)

    async def close(self) -> None:
        """Write what is under way."""
        await self._updates.close()
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)

    # Acts

    def begin_draw(
        self, member: Member, raw: Sequence[object], connection: Connection | None = None
    ) -> asyncio.Future[Shown]:
        """Hand elements over to be committed, then shown to everybody but `connection`, which sent them.

        All of them are taken, or none. Updates of one session are written in the order in which they were handed over.
        When the future is done, :func:`drawn` has the answer. Raises BadRequest, Unavailable.
        """
        update = Update(
            session_id=member.session_id,
            user_id=member.user_id,
            is_host=member.is_host,
            elements=parse(raw),
            connection=connection,
        )
        size = update.size
        if self._waiting_bytes + size > MAX_WAITING_BYTES:
            raise _not_stored()
        try:
            drawing = self._updates.append(update)
        except (Overloaded, Closed):
            raise _not_stored() from None
        self._waiting_bytes += size
        drawing.add_done_callback(lambda _: self._no_longer_waits(size))
        return drawing

    def _no_longer_waits(self, size: int) -> None:
        self._waiting_bytes -= size

    async def page(self, session_id: UUID, *, after: int | None) -> dict[str, Any]:
        """What is on the board: `{elements, revision, more}`; see :func:`store.whiteboards.page`.

        `revision` is the `after` of the next page, and of who comes back later.
        """
        page = await whiteboards.page(self._pool, session_id, after=after)
        return {
            "elements": [document(element) for element in page.elements],
            "revision": page.revision,
            "more": page.more,
        }

    async def clear(self, member: Member) -> None:
        """Empty the board; the host may. Is it empty already, nothing happens."""
        access.require_host(member)
        entries: list[LogEntry] = []
        with translated():
            # The board's row first, the session's last: whoever draws waits, and nobody who writes.
            async with self._pool.acquire() as connection, connection.transaction():
                revision = await whiteboards.clear(connection, member.session_id)
                if revision is not None:
                    entries.append(
                        await events.append(
                            connection,
                            member.session_id,
                            kind="whiteboard_cleared",
                            user_id=member.user_id,
                            data={"revision": revision},
                        )
                    )
        self._publish(entries)

    async def _write(self, batch: Sequence[Update], again: bool) -> Sequence[Shown | EncountersError]:
        touched = {(update.session_id, element.id) for update in batch for element in update.elements}
        found: dict[tuple[UUID, str], Element] = {}
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                boards, held = await whiteboards.take(connection, touched)
                sheet = _draw_all(boards, held, batch)
                full = {
                    update.session_id
                    for update, one in zip(batch, sheet.came, strict=True)
                    if isinstance(one, TooLarge)
                }
                if any([await whiteboards.forget(connection, session_id) for session_id in full]):
                    boards, held = await whiteboards.take(connection, touched)
                    sheet = _draw_all(boards, held, batch)
                if sheet.changed:
                    await whiteboards.save(connection, sheet.altered, sheet.changed)
                wanted = {
                    (update.session_id, one.id)
                    for update, drawn in zip(batch, sheet.came, strict=True)
                    if isinstance(drawn, Drawn)
                    for one in in_one_answer(drawn.stale)
                }
                if wanted:
                    found = await whiteboards.find(connection, wanted)
        return [
            drawn if isinstance(drawn, EncountersError) else _shown(update, drawn, found, again=again)
            for update, drawn in zip(batch, sheet.came, strict=True)
        ]

    def _committed(self, update: Update, shown: Shown) -> None:
        if not shown.elements:
            return
        room_id = str(update.session_id)
        # On this worker it is shown before the next line.
        self._sender = update.connection
        try:
            news = _news(room_id, update.user_id, shown.elements, shown.revision)
            self._bus.publish(self._channel(room_id), news)
        finally:
            self._sender = None

    # What the rooms see

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


def drawn(drawing: asyncio.Future[Shown]) -> Shown:
    """What became of an update that was handed over and is done.

    Raises TooLarge (`whiteboard_full`), Forbidden (`whiteboard_locked`), Conflict (`booking_cancelled`), NotFound,
    Unavailable.
    """
    try:
        return drawing.result()
    except Away:
        raise _not_stored() from None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sheet:
    """What a batch comes to: what `came` of each update, the boards that are `altered`, and the elements `changed`."""

    came: Sequence[Drawn | EncountersError]
    altered: Sequence[Board]
    changed: Mapping[tuple[UUID, str], tuple[Element, int]]


def _draw_all(before: Mapping[UUID, Board], held: dict[UUID, dict[str, Version]], batch: Sequence[Update]) -> _Sheet:
    boards = dict(before)
    changed: dict[tuple[UUID, str], tuple[Element, int]] = {}
    came = [_draw_one(boards, held, update, changed) for update in batch]
    altered = [board for board in boards.values() if board != before[board.session_id]]
    return _Sheet(came=came, altered=altered, changed=changed)


def _draw_one(
    boards: dict[UUID, Board],
    held: dict[UUID, dict[str, Version]],
    update: Update,
    changed: dict[tuple[UUID, str], tuple[Element, int]],
) -> Drawn | EncountersError:
    """Draw one update of a batch, and note what it `changed`."""
    board = boards.get(update.session_id)
    if board is None:
        return access.unknown_session()
    refused = refusal(board, is_host=update.is_host)
    if refused is not None:
        return refused
    there = held[update.session_id]
    try:
        drawn = draw(board, there, update.elements)
    except EncountersError as error:
        return error
    boards[update.session_id] = drawn.board
    for element in drawn.won:
        there[element.id] = element
        changed[update.session_id, element.id] = (element, drawn.board.revision)
    return drawn


def _shown(update: Update, drawn: Drawn, found: Mapping[tuple[UUID, str], Element], *, again: bool) -> Shown:
    told = in_one_answer(drawn.stale)
    winners = [found[update.session_id, one.id] for one in told if (update.session_id, one.id) in found]
    return Shown(
        # What an attempt wrote whose answer was lost, nobody was told of.
        elements=[*drawn.won, *drawn.same] if again else drawn.won,
        revision=drawn.board.revision,
        winners=winners,
        more=len(told) < len(drawn.stale),
    )


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


def _not_stored() -> Unavailable:
    return Unavailable("The whiteboard could not be stored just now; try again.", retry_after=1)
