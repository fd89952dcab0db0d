"""Group commit: whatever arrives while one batch is being written is the next batch.

One batch is in flight at a time. An idle log writes a lone entry at once; a busy one writes few, large
batches, and nobody waits for a timer. The way databases commit their own logs (DeWitt et al., *Implementation
techniques for main memory database systems*, 1984).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import structlog

Entry = TypeVar("Entry")
Result = TypeVar("Result")

#: Entries in one batch: beyond this a larger batch no longer saves anything (design: engine measurements).
MAX_BATCH_ENTRIES: Final = 500
#: Bytes in one batch, so that a statement stays small beside the database's memory.
MAX_BATCH_BYTES: Final = 1024 * 1024
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


class Log(Generic[Entry, Result]):
    """Gathers entries into batches for `write`.

    `write(batch, again)` writes all of a batch or, when it raises, nothing of it; it answers for each entry in
    order, with an exception for an entry that is refused. `again` is true when an earlier try of the same
    batch may have been committed. After an error of type `passing` the batch is tried again, until its newest
    entry has waited for :data:`RETRY_SECONDS`; after any other it is halved, until the entry at fault fails alone.

    `committed(entry, result)` is called in the order of the batch, before anybody who waits for it goes on.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Entry], bool], Awaitable[Sequence[Result | Exception]]],
        *,
        name: str,
        passing: type[Exception],
        committed: Callable[[Entry, Result], None] | None = None,
        size: Callable[[Entry], int] = lambda entry: 0,
    ) -> None:
        self._write = write
        self._name = name
        self._passing = passing
        self._committed = committed
        self._size = size
        self._waiting: deque[_Waiting[Entry, Result]] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._closed = False

    def append(self, entry: Entry) -> asyncio.Future[Result]:
        """Join the next batch. The future has the entry's result once it is committed.

        Raises Overloaded when :data:`MAX_WAITING_ENTRIES` wait already, Closed after :meth:`close`.
        """
        if self._closed:
            raise Closed(self._name)
        if len(self._waiting) >= MAX_WAITING_ENTRIES:
            raise Overloaded(self._name)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(entry, future, time.monotonic()))
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
            while self._waiting:
                await self._settle(self._next_batch(), again=False)
        finally:
            self._writer = None

    def _next_batch(self) -> list[_Waiting[Entry, Result]]:
        batch: list[_Waiting[Entry, Result]] = []
        size = 0
        while self._waiting and len(batch) < MAX_BATCH_ENTRIES:
            size += self._size(self._waiting[0].entry)
            if batch and size > MAX_BATCH_BYTES:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _settle(self, batch: list[_Waiting[Entry, Result]], *, again: bool) -> None:
        """Write a batch, or what can be written of it, and tell those who wait."""
        results: Sequence[Result | Exception] | None = None
        while results is None:
            try:
                results = await self._write([waiting.entry for waiting in batch], again)
            except Exception as error:  # noqa: BLE001  # it goes to those who wait
                passing = isinstance(error, self._passing)
                if passing and time.monotonic() < batch[-1].since + RETRY_SECONDS:
                    again = True
                    await asyncio.sleep(RETRY_PAUSE_SECONDS)
                    continue
                if len(batch) > 1 and not passing:
                    middle = len(batch) // 2
                    await self._settle(batch[:middle], again=again)
                    await self._settle(batch[middle:], again=again)
                    return
                logger.warning("log.refused", log=self._name, entries=len(batch), reason=type(error).__name__)
                results = [error] * len(batch)
        for waiting, result in zip(batch, results, strict=True):
            self._tell(waiting, result)

    def _tell(self, waiting: _Waiting[Entry, Result], result: Result | Exception) -> None:
        if isinstance(result, Exception):
            if not waiting.future.done():
                waiting.future.set_exception(result)
                waiting.future.exception()  # whoever waited may be gone; that is no news
            return
        if self._committed is not None:
            try:
                self._committed(waiting.entry, result)
            except Exception:
                logger.exception("log.not_announced", log=self._name)
        if not waiting.future.done():
            waiting.future.set_result(result)


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Entry, Result]):
    entry: Entry
    future: asyncio.Future[Result]
    since: float
