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
#: Seconds for which a batch is tried again while the database is away: long enough for its restart.
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
    batch may have been committed. An error of type `passing` is tried again for :data:`RETRY_SECONDS`; after
    any other, the batch is halved until the entry at fault fails alone.

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
        self._waiting: deque[tuple[Entry, asyncio.Future[Result]]] = deque()
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
        self._waiting.append((entry, future))
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

    def _next_batch(self) -> list[tuple[Entry, asyncio.Future[Result]]]:
        batch: list[tuple[Entry, asyncio.Future[Result]]] = []
        size = 0
        while self._waiting and len(batch) < MAX_BATCH_ENTRIES:
            size += self._size(self._waiting[0][0])
            if batch and size > MAX_BATCH_BYTES:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _settle(self, batch: list[tuple[Entry, asyncio.Future[Result]]], *, again: bool) -> None:
        try:
            results = await self._write_patiently([entry for entry, _ in batch], again)
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, self._passing):
                middle = len(batch) // 2
                await self._settle(batch[:middle], again=again)
                await self._settle(batch[middle:], again=again)
                return
            logger.warning("log.refused", log=self._name, entries=len(batch), reason=type(error).__name__)
            results = [error] * len(batch)
        for (entry, future), result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                if not future.done():
                    future.set_exception(result)
                    future.exception()  # whoever waited may be gone; that is no news
                continue
            if self._committed is not None:
                try:
                    self._committed(entry, result)
                except Exception:
                    logger.exception("log.not_announced", log=self._name)
            if not future.done():
                future.set_result(result)

    async def _write_patiently(self, entries: list[Entry], again: bool) -> Sequence[Result | Exception]:
        deadline = time.monotonic() + RETRY_SECONDS
        while True:
            try:
                return await self._write(entries, again)
            except self._passing:
                if time.monotonic() > deadline:
                    raise
                again = True
                await asyncio.sleep(RETRY_PAUSE_SECONDS)
