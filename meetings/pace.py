"""Keeping to a provider's rate: so many calls in a window, and whoever comes too soon waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class TooSoon(Exception):
    """The turn would come too late. `seconds`: when it would have come."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{seconds:.1f} s")
        self.seconds = seconds


class Pace:
    """At most `calls` turns in any `seconds`, first come, first served; within this process."""

    def __init__(self, calls: int, seconds: float, *, clock: Callable[[], float] | None = None) -> None:
        self._seconds = seconds
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        #: When the last `calls` turns were, or will be.
        self._turns: deque[float] = deque(maxlen=calls)

    async def turn(self, within: float) -> None:
        """Return when it is the caller's turn. Raises TooSoon at once where that is not within `within` seconds."""
        wait = self.reserve(within)
        if wait > 0:
            await asyncio.sleep(wait)

    def reserve(self, within: float) -> float:
        """Take the next turn; the seconds until then. Raises TooSoon, and takes none, where that is too late."""
        now = self._clock()
        turn = now
        if len(self._turns) == self._turns.maxlen:
            turn = max(now, self._turns[0] + self._seconds)
        if turn - now > within:
            raise TooSoon(turn - now)
        self._turns.append(turn)
        return turn - now
