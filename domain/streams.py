"""The bytes that somebody sends, as they come: for how long they are waited for, and how slowly they may come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

from domain.errors import EncountersError, TooSlow

#: A connection from which nothing comes for so many seconds is of no use any more.
IDLE_SECONDS: Final = 60.0
#: Bytes per second that have to come, taken over so many seconds of waiting for them: less than any link for which the
#: files here are of use, and whoever holds connections by sending a byte now and then holds each for a minute or two.
LOWEST_RATE: Final = 1024
RATE_SECONDS: Final = 60.0


class Checksum(Protocol):
    """A running hash, such as hashlib's, of what comes."""

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class Stream:
    """What one request sends. One task reads from it; others may break that off. `clock`: seconds, by which it is seen
    how slowly it comes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: asyncio.Timeout | None = None
        self._broken_off: EncountersError | None = None
        #: Since the rate was looked at last. What is done with the bytes in between is not the sender's time.
        self._waited = 0.0
        self._came = 0

    def break_off(self, error: EncountersError) -> None:
        """Have whoever reads get the error, as soon as they wait for bytes."""
        self._broken_off = error
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(asyncio.get_running_loop().time())

    async def next(self, chunks: AsyncIterator[bytes]) -> bytes:
        """The next bytes; none at the end. Never broken off but while it waits for them.

        Raises TooSlow, what it was broken off with, and what `chunks` raises.
        """
        self._check()
        began = self._clock()
        try:
            async with asyncio.timeout(IDLE_SECONDS) as self._waiting:
                chunk = await anext(chunks, b"")
        except TimeoutError:
            self._check()
            raise TooSlow(f"Nothing came for {IDLE_SECONDS:g} seconds.") from None
        finally:
            self._waiting = None
        self._waited += self._clock() - began
        self._came += len(chunk)
        if chunk and self._waited >= RATE_SECONDS:
            if self._came < LOWEST_RATE * self._waited:
                raise TooSlow(f"Less than {LOWEST_RATE} bytes came per second.")
            self._waited, self._came = 0.0, 0
        return chunk

    def _check(self) -> None:
        if self._broken_off is not None:
            raise self._broken_off
