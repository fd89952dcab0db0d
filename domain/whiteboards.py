"""What is done with whiteboards: they are drawn on, read and cleared. The rules are in :mod:`domain.whiteboard`.

What is drawn is committed, then shown (:mod:`domain.whiteboard_rooms`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from domain import access
from domain.access import Member
from domain.errors import EncountersError, TooLarge, Unavailable
from domain.whiteboard import Drawn, document, draw, in_one_answer, parse, refusal
from domain.whiteboard_rooms import WhiteboardRooms
from realtime.connection import Connection
from realtime.log import Closed, Log, Overloaded
from store import events, whiteboards
from store.database import Pool
from store.errors import Away, translated
from store.events import LogEntry
from store.whiteboards import Board, Element, Version

#: Bytes of elements that may wait to be stored on this worker. Beyond it the database is too slow for the load.
MAX_WAITING_BYTES: Final = 32 * 1024 * 1024


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


class Whiteboards:
    """The boards of sessions. `rooms` show what is drawn, `publish` committed entries of sessions' logs."""

    def __init__(
        self,
        pool: Pool,
        rooms: WhiteboardRooms,
        *,
        publish: Callable[[Iterable[LogEntry]], None],
    ) -> None:
        self._pool = pool
        self._rooms = rooms
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

    async def close(self) -> None:
        """Write what is under way."""
        await self._updates.close()

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
        if shown.elements:
            self._rooms.publish(
                str(update.session_id), update.user_id, shown.elements, shown.revision, but=update.connection
            )


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


def _not_stored() -> Unavailable:
    return Unavailable("The whiteboard could not be stored just now; try again.", retry_after=1)
