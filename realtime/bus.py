"""Between workers: an event published on a channel reaches every worker that subscribed to it.

The bus is a hint. What must not be lost lies in the database before it is published, and whoever missed
something reads it there; a bus that is away delays, it loses nothing that has a `seq`.

A worker's own subscribers get an event at once and in the same turn, whatever the state of the bus.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from realtime.events import Event

Deliver = Callable[[Event], None]


class Bus(Protocol):
    """Publish and subscribe by channel name."""

    @property
    def connected(self) -> bool:
        """Whether events reach other workers at the moment."""

    def publish(self, channel: str, event: Event) -> None:
        """Deliver to this worker's subscriber now, and to the other workers' soon."""

    async def subscribe(self, channel: str, deliver: Deliver) -> None:
        """Have `deliver` called for each event from now on. One subscriber per channel and worker.

        Returns once other workers' events arrive, or at once while the bus is away.
        """

    def unsubscribe(self, channel: str) -> None:
        """Have nothing delivered from now on."""

    def on_gap(self, missed: Callable[[], None]) -> None:
        """Have `missed` called when events of other workers may have been lost, after they come again."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...


class LocalBus:
    """The bus of a lone worker: everything happens here."""

    connected = True

    def __init__(self) -> None:
        self._subscribers: dict[str, Deliver] = {}

    def publish(self, channel: str, event: Event) -> None:
        deliver = self._subscribers.get(channel)
        if deliver is not None:
            deliver(event)

    async def subscribe(self, channel: str, deliver: Deliver) -> None:
        self._subscribers[channel] = deliver

    def unsubscribe(self, channel: str) -> None:
        self._subscribers.pop(channel, None)

    def on_gap(self, missed: Callable[[], None]) -> None:
        """Nothing is ever missed."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...
