"""Workers' buses on a real Redis or cluster, and what tests ask the servers themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from redis.asyncio import Redis

from realtime.events import Event
from realtime.redis_bus import RedisBus
from tests.support.cluster import RedisCluster
from tests.support.waiting import until

PREFIX = "test:"


def news(number: int, text: str = "") -> Event:
    return Event(name="newMessage", data={"text": text}, seq=number)


class Worker:
    """A bus that remembers what it was told."""

    def __init__(self, url: str) -> None:
        self.bus = RedisBus(url, prefix=PREFIX)
        self.gaps = 0
        self.heard: list[int | None] = []
        self.bus.on_gap(self._missed)

    def _missed(self) -> None:
        self.gaps += 1

    def hear(self, event: Event) -> None:
        self.heard.append(event.seq)

    async def connected(self) -> Worker:
        """Wait for it the first time. Counts gaps from then on: the beginning is one."""
        await until(lambda: self.bus.connected)
        assert self.gaps
        self.gaps = 0
        return self


StartWorker = Callable[[str], Awaitable[Worker]]


@asynccontextmanager
async def workers() -> AsyncIterator[StartWorker]:
    """Starts any number of buses, which are closed at the end."""
    started: list[Worker] = []

    async def start(url: str) -> Worker:
        worker = Worker(url)
        started.append(worker)
        await worker.bus.start()
        return worker

    try:
        yield start
    finally:
        await asyncio.gather(*(worker.bus.close() for worker in started))


class Site(Protocol):
    """One Redis or a cluster, from outside."""

    @property
    def url(self) -> str: ...

    async def listeners(self, channel: str) -> int:
        """How many connections follow the bus's channel."""

    async def publish(self, channel: str, data: bytes) -> None:
        """Publish on the bus's channel what no bus has written."""


class LoneSite:
    """One Redis."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client: Redis = Redis.from_url(url)

    async def listeners(self, channel: str) -> int:
        [(_, count)] = await self._client.pubsub_numsub(PREFIX + channel)
        return int(count)

    async def publish(self, channel: str, data: bytes) -> None:
        await self._client.publish(PREFIX + channel, data)

    async def close(self) -> None:
        await self._client.aclose()


class ClusterSite:
    """A cluster."""

    def __init__(self, cluster: RedisCluster) -> None:
        self.url = cluster.url
        self._cluster = cluster

    async def listeners(self, channel: str) -> int:
        return self._cluster.listeners(PREFIX + channel)

    async def publish(self, channel: str, data: bytes) -> None:
        self._cluster.holder(PREFIX + channel).ask("SPUBLISH", PREFIX + channel, data)
