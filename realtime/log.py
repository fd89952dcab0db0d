"""Group commit: whatever arrives while one batch is being written is the next batch.

One batch is in flight at a time. An idle log writes a lone entry at once; a busy one writes few, large
batches, and nobody waits for a timer. The way databases commit their own logs (DeWitt et al., *Implementation
techniques for main memory database systems*, 1984).

When more waits than one batch holds, every key (a session) has its turn (Nagle, *On packet switches with
infinite storage*, RFC 970): a flood under one key holds up the others by a batch, not by its length.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Final, Generic, TypeVar

import msgspec
import structlog

Entry = TypeVar("Entry")
Result = TypeVar("Result")

#: Entries in one batch: beyond this a larger batch no longer saves anything (design: engine measurements).
MAX_BATCH_ENTRIES: Final = 500
#: Bytes in one batch, so that a statement stays small beside the database's memory.
MAX_BATCH_BYTES: Final = 1024 * 1024
#: So many entries are worth a batch of their own before those of the last one have been told.
MIN_AHEAD_ENTRIES: Final = 32
#: Entries that may wait. Beyond it the database is too slow for the load, and new entries are refused.
MAX_WAITING_ENTRIES: Final = 10_000
#: Seconds from its arrival for which an entry is tried again while the database is away: long enough for its
#: restart. Counted from the arrival, so that those who waited behind others do not wait as long once more.
RETRY_SECONDS: Final = 8.0
#: Seconds between two tries.
RETRY_PAUSE_SECONDS: Final = 0.1

logger = structlog.get_logger(__name__)


class Overloaded(Exception):
    """Too many entries wait already."""


class Closed(Exception):
    """The log takes no more entries: the worker is leaving."""


class _Waiting(msgspec.Struct, Generic[Entry, Result], gc=False):
    """An entry and who waits for it. No cycle leads through it: the collector, which so many entries would have run
    all the time, need not know it."""

    key: Hashable
    entry: Entry
    size: int
    since: float
    future: asyncio.Future[Result]


class Log(Generic[Entry, Result]):
    """Gathers entries into batches for `write`.

    One batch is in flight: two at a time, of different keys, were no faster (measured with 200 and 50 sessions: as
    many messages/s within the noise, and up to a tenth more of the database's CPU, which had twice as many
    commits). But the next one is under way while those of the last are told, which gave a sixth more messages/s.

    `write(batch, again)` writes all of a batch or, when it raises, nothing of it; it answers for each entry in
    order, with an exception for an entry that is refused. `again` is true when an earlier try of the same
    batch may have been committed. After an error of type `passing` the batch is tried again, until its newest
    entry has waited for :data:`RETRY_SECONDS`; after any other it is halved, until the entry at fault fails alone.

    Entries of one `key` are written in the order in which they came; keys take turns.

    `committed(entry, result)` is called in the order of the batches, before anybody who waits for it goes on.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Entry], bool], Awaitable[Sequence[Result | Exception]]],
        *,
        name: str,
        passing: type[Exception],
        committed: Callable[[Entry, Result], None] | None = None,
        key: Callable[[Entry], Hashable] = lambda entry: None,
        size: Callable[[Entry], int] = lambda entry: 0,
    ) -> None:
        self._write = write
        self._name = name
        self._passing = passing
        self._committed = committed
        self._key = key
        self._size = size
        # What waits, by key; and the keys in the order of their turns.
        self._waiting: dict[Hashable, deque[_Waiting[Entry, Result]]] = {}
        self._turns: deque[deque[_Waiting[Entry, Result]]] = deque()
        self._count = 0
        self._writer: asyncio.Task[None] | None = None
        self._closed = False

    def append(self, entry: Entry) -> asyncio.Future[Result]:
        """Join the next batch. The future has the entry's result once it is committed.

        Raises Overloaded when :data:`MAX_WAITING_ENTRIES` wait already, or more under this key than there is room
        left: a flood leaves room for others (Choudhury and Hahne, *Dynamic queue length thresholds*, 1998). Raises
        Closed after :meth:`close`.
        """
        if self._closed:
            raise Closed(self._name)
        key = self._key(entry)
        queue = self._waiting.get(key)
        room = MAX_WAITING_ENTRIES - self._count
        if room <= 0 or (queue is not None and len(queue) > room):
            raise Overloaded(self._name)
        if queue is None:
            queue = self._waiting[key] = deque()
            self._turns.append(queue)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        queue.append(_Waiting(key, entry, self._size(entry), time.monotonic(), future))
        self._count += 1
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_batches(), name=f"log-{self._name}")
        return future

    async def close(self) -> None:
        """Take no more entries, and wait until those that are here are written."""
        self._closed = True
        if self._writer is not None:
            await self._writer

    async def _write_batches(self) -> None:
        # Entries of the same turn of the loop share the first batch.
        await asyncio.sleep(0)
        try:
            while self._count:
                batch = self._next_batch()
                outcomes = await self._outcomes(batch, again=False)
                while self._count >= MIN_AHEAD_ENTRIES:
                    # The database works on the next batch while this one is told. It has it two turns from now:
                    # in the first the task runs up to its statement, which uvloop sends at the end of that turn.
                    following = self._next_batch()
                    writing = asyncio.create_task(self._outcomes(following, again=False))
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                    self._tell(batch, outcomes)
                    batch, outcomes = following, await writing
                self._tell(batch, outcomes)
        finally:
            self._writer = None

    def _next_batch(self) -> list[_Waiting[Entry, Result]]:
        batch: list[_Waiting[Entry, Result]] = []
        size = 0
        while self._turns and len(batch) < MAX_BATCH_ENTRIES:
            queue = self._turns[0]
            size += queue[0].size
            if batch and size > MAX_BATCH_BYTES:
                break
            self._turns.popleft()
            batch.append(waiting := queue.popleft())
            if queue:
                self._turns.append(queue)
            else:
                del self._waiting[waiting.key]
        self._count -= len(batch)
        return batch

    async def _outcomes(self, batch: Sequence[_Waiting[Entry, Result]], *, again: bool) -> Sequence[Result | Exception]:
        """Write a batch, or what can be written of it."""
        entries = [waiting.entry for waiting in batch]
        patient_until = max(waiting.since for waiting in batch) + RETRY_SECONDS
        while True:
            try:
                return await self._write(entries, again)
            except Exception as error:  # noqa: BLE001  # it goes to those who wait
                passing = isinstance(error, self._passing)
                if passing and time.monotonic() < patient_until:
                    again = True
                    await asyncio.sleep(RETRY_PAUSE_SECONDS)
                    continue
                if len(batch) > 1 and not passing:
                    middle = len(batch) // 2
                    first = await self._outcomes(batch[:middle], again=again)
                    return [*first, *await self._outcomes(batch[middle:], again=again)]
                logger.warning("log.refused", log=self._name, entries=len(batch), reason=type(error).__name__)
                return [error] * len(batch)

    def _tell(self, batch: Sequence[_Waiting[Entry, Result]], outcomes: Sequence[Result | Exception]) -> None:
        """Show what was committed, and let those who wait go on."""
        for waiting, outcome in zip(batch, outcomes, strict=True):
            future = waiting.future
            if isinstance(outcome, Exception):
                if not future.done():
                    future.set_exception(outcome)
                    future.exception()  # whoever waited may be gone; that is no news
                continue
            if self._committed is not None:
                try:
                    self._committed(waiting.entry, outcome)
                except Exception:
                    logger.exception("log.not_announced", log=self._name)
            if not future.done():
                future.set_result(outcome)
