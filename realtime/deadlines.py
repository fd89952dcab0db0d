"""Many deadlines, one timer."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from collections.abc import Callable, Hashable
from typing import Any, Final

#: What was dropped stays in the heap, and holds its key, until it outnumbers what was not by this much.
SPARE_ENTRIES: Final = 64
#: Seconds between two looks at the clock, which may be set meanwhile.
LOOK_SECONDS: Final = 60.0

#: Tells the seconds. Tokens expire by the wall clock, whatever the process slept through.
Clock = Callable[[], float]


class Deadlines:
    """Calls back, with the key, when a deadline passes. A key has one deadline; a new one replaces it.

    There may be one for every connection: pass a callback that all of them share.
    """

    def __init__(self, clock: Clock = time.time) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Hashable, Callable[[Any], None]]] = []
        self._current: dict[Hashable, int] = {}
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at = math.inf

    def set(self, key: Hashable, at: float, callback: Callable[[Any], None]) -> None:
        """Call `callback(key)` at `at` (seconds of the clock), unless the key is set or dropped again before."""
        number = next(self._numbers)
        self._current[key] = number
        heapq.heappush(self._heap, (at, number, key, callback))
        self._forget_the_dropped()
        if self._timer is None or at < self._looks_at:
            self._arm()

    def drop(self, key: Hashable) -> None:
        self._current.pop(key, None)
        self._forget_the_dropped()

    def close(self) -> None:
        self._current.clear()
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _forget_the_dropped(self) -> None:
        if len(self._heap) > 2 * len(self._current) + SPARE_ENTRIES:
            self._heap = [entry for entry in self._heap if self._current.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._heap and self._current.get(self._heap[0][2]) != self._heap[0][1]:
            heapq.heappop(self._heap)
        if self._heap:
            now = self._clock()
            wait = min(max(0.0, self._heap[0][0] - now), LOOK_SECONDS)
            self._looks_at = now + wait
            self._timer = asyncio.get_running_loop().call_later(wait, self._due)

    def _due(self) -> None:
        self._timer = None
        now = self._clock()
        try:
            while self._heap and self._heap[0][0] <= now:
                _, number, key, callback = heapq.heappop(self._heap)
                if self._current.get(key) == number:
                    del self._current[key]
                    callback(key)
        finally:
            self._arm()
