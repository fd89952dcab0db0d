"""What one client has received, in order, and waiting for what has not come yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: For what must come, on a machine that runs much else at once; a test that waits this long has failed.
WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Received:
    """One event as it came."""

    event: str
    data: Any


def anything(_data: Any) -> bool:
    """The predicate that every event satisfies."""
    return True


class Recorder:
    """Every event of one client. `wait_for` also finds what came before it was asked, so nothing races."""

    def __init__(self) -> None:
        self.all: list[Received] = []
        self._arrival = asyncio.Event()

    def add(self, event: str, data: Any) -> None:
        """Note an event, and wake whoever waits."""
        self.all.append(Received(event, data))
        self._arrival.set()

    def of(self, *events: str) -> list[Any]:
        """The data of all events of these names, in the order they came."""
        return [received.data for received in self.all if received.event in events]

    async def wait_for(
        self,
        event: str,
        predicate: Callable[[Any], bool] = anything,
        timeout: float = WAIT_SECONDS,
    ) -> Any:
        """The data of the first `event`, past or future, that satisfies `predicate`.

        Raises AssertionError with all that did come, after `timeout` seconds.
        """
        return (await self.wait_for_many(1, event, predicate, timeout))[0]

    async def wait_for_many(
        self,
        count: int,
        event: str,
        predicate: Callable[[Any], bool] = anything,
        timeout: float = WAIT_SECONDS,
    ) -> list[Any]:
        """As `wait_for`, for the first `count` of them."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    self._arrival.clear()
                    found = [data for data in self.of(event) if predicate(data)]
                    if len(found) >= count:
                        return found[:count]
                    await self._arrival.wait()
        except TimeoutError:
            raise AssertionError(
                f"no {count} × {event} as asked for within {timeout:g} s; what came: {self.all}"
            ) from None
