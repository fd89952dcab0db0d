"""Raised hands: many at once in one transaction, for a class raises them all in one moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from domain import access
from domain.access import Member
from domain.errors import EncountersError, Unavailable
from realtime.log import Closed, Log, Overloaded
from store import chat_rules, events, hands
from store.database import Pool
from store.errors import Away, translated
from store.events import LogEntry, NewEntry

if TYPE_CHECKING:
    from domain.live import Live  # which has the worker's Hands


@dataclass(frozen=True, kw_only=True, slots=True)
class Hand:
    """A hand that somebody raises or takes down."""

    session_id: UUID
    user_id: str
    raised: bool


class Hands:
    """Writes the hands of this worker's people. `publish` shows committed entries of sessions' logs."""

    def __init__(self, pool: Pool, publish: Callable[[Iterable[LogEntry]], None]) -> None:
        self._pool = pool
        self._publish = publish
        self._hands: Log[Hand, LogEntry | None] = Log(
            self._write,
            name="hands",
            passing=Away,
            committed=self._committed,
            key=lambda hand: hand.session_id,
        )

    async def close(self) -> None:
        """Write what is under way."""
        await self._hands.close()

    def append(self, hand: Hand) -> asyncio.Future[LogEntry | None]:
        """Hand it over to be committed and shown to everybody. Raises Unavailable."""
        try:
            return self._hands.append(hand)
        except (Overloaded, Closed):
            raise _not_stored() from None

    async def _write(self, batch: Sequence[Hand], again: bool) -> Sequence[LogEntry | EncountersError | None]:
        # Written by an attempt whose answer was lost, a hand is found so, and the rooms find its entry in the log.
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                there = await chat_rules.locked(connection, [hand.session_id for hand in batch])
                up = await hands.up(connection, {(hand.session_id, hand.user_id) for hand in batch})
                changed: dict[tuple[UUID, str], bool] = {}
                turned: list[int] = []
                for place, hand in enumerate(batch):
                    key = (hand.session_id, hand.user_id)
                    if hand.session_id in there and hand.raised != changed.get(key, key in up):
                        changed[key] = hand.raised
                        turned.append(place)
                entries: list[LogEntry] = []
                if turned:
                    await hands.save(connection, changed)
                    entries = await events.append_all(connection, [_entry(batch[place]) for place in turned])
        written = dict(zip(turned, entries, strict=True))
        return [
            written.get(place) if hand.session_id in there else access.unknown_session()
            for place, hand in enumerate(batch)
        ]

    def _committed(self, hand: Hand, entry: LogEntry | None) -> None:
        if entry is not None:
            self._publish([entry])


def _entry(hand: Hand) -> NewEntry:
    return NewEntry(
        session_id=hand.session_id,
        kind="hand_raised",
        user_id=hand.user_id,
        data={"userId": hand.user_id, "raised": hand.raised},
    )


def begin_raise(live: Live, member: Member, *, raised: bool) -> asyncio.Future[LogEntry | None]:
    """Show or take back a raised hand. As it is already: nothing happens. When the future is done, :func:`check_raised`
    says whether it went wrong. Raises Unavailable."""
    return live.hands.append(Hand(session_id=member.session_id, user_id=member.user_id, raised=raised))


def check_raised(raising: asyncio.Future[LogEntry | None]) -> None:
    """Raises NotFound (`session_not_found`), Unavailable if a hand that is done was not stored."""
    try:
        raising.result()
    except Away:
        raise _not_stored() from None


def _not_stored() -> Unavailable:
    return Unavailable("The hand could not be stored just now; try again.", retry_after=1)
