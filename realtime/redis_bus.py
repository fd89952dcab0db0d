"""The bus through Redis: one, or a cluster, whose nodes carry each the channels of their slots.

A lone Redis is a cluster of one node here. Each node has its own connections, its own waiting events and its own
troubles (:mod:`realtime.redis_shard`); this module knows which channel belongs where, and moves channels and what
waits for them when that changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

import msgspec
import structlog
from redis.exceptions import RedisError

from realtime import redis_link
from realtime.bus import Deliver
from realtime.events import Event
from realtime.redis_layout import NOTHING_KNOWN, Layout, read_layout, whole
from realtime.redis_link import Node, Servers, keep_trying
from realtime.redis_shard import PLAIN, SHARDED, Outbox, Shard, Waiting

#: Seconds after which a cluster's layout is read again without an occasion.
LAYOUT_SECONDS: Final = 10.0
#: Seconds between two readings at least: after a move, the nodes need a moment to tell each other.
LAYOUT_PAUSE_SECONDS: Final = 0.1

logger = structlog.get_logger(__name__)


class _News(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event, whose data no worker on the way reads."""

    name: str
    data: msgspec.Raw
    seq: int | None = None


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    """An event on the wire, with the worker it comes from: a worker has delivered its own already."""

    origin: str
    event: _News


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Envelope).decode


class RedisBus:
    """Redis publish/subscribe, one Redis channel per channel; a worker hears only what it has subscribed to."""

    def __init__(self, url: str, *, prefix: str) -> None:
        self._servers = Servers(url)
        self._prefix = prefix
        self._origin = uuid.uuid4().hex
        # By name in Redis: who is to be told, and the shard where it is followed, None while there is none.
        self._subscribers: dict[bytes, Deliver] = {}
        self._followed_at: dict[bytes, Shard | None] = {}
        self._layout = NOTHING_KNOWN
        self._layout_outdated = asyncio.Event()
        self._shards: dict[Node, Shard] = {}
        # Shards that hold nothing any more and are not closed yet.
        self._leaving: list[Shard] = []
        # What waits while no node holds its channel.
        self._homeless = Outbox()
        self._missed: list[Callable[[], None]] = []
        self._watch: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return (
            self._layout.complete
            and all(shard.connected for shard in self._shards.values())
            and None not in self._followed_at.values()
        )

    def on_gap(self, missed: Callable[[], None]) -> None:
        self._missed.append(missed)

    async def start(self) -> None:
        if self._servers.clustered:
            self._watch = asyncio.create_task(
                keep_trying(self._watch_layout, self._layout_unknown), name="bus-watch-layout"
            )
        else:
            self._rearrange(whole(self._servers.seeds[0]), losers=[])

    async def close(self) -> None:
        """Send what waits, then let go."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(redis_link.REDIS_SECONDS):
                await self._send_the_rest()
        await asyncio.gather(*(shard.close() for shard in (*self._shards.values(), *self._leaving)))

    async def _send_the_rest(self) -> None:
        if self._homeless and self._servers.clustered:
            with contextlib.suppress(RedisError, OSError):
                await self._follow(await read_layout(self._servers, self._shards))
        sending = (shard.send_waiting() for shard in self._shards.values())
        for outcome in await asyncio.gather(*sending, return_exceptions=True):
            if isinstance(outcome, Exception):
                logger.info("bus.not_sent", reason=type(outcome).__name__)

    def publish(self, channel: str, event: Event) -> None:
        name = self._name(channel)
        deliver = self._subscribers.get(name)
        if deliver is not None:
            deliver(event)
        news = _News(event.name, event.json, event.seq)
        waiting = Waiting(time.monotonic(), name, _encode(_Envelope(self._origin, news)))
        shard = self._shard_of(name)
        if shard is not None:
            shard.publish(waiting)
        else:
            self._homeless.add(waiting)

    async def subscribe(self, channel: str, deliver: Deliver) -> None:
        name = self._name(channel)
        self._subscribers[name] = deliver
        shard = self._followed_at.get(name) or self._shard_of(name)
        self._followed_at[name] = shard
        if shard is not None:
            shard.follow(name)
            await shard.followed(name)

    def unsubscribe(self, channel: str) -> None:
        name = self._name(channel)
        self._subscribers.pop(name, None)
        shard = self._followed_at.pop(name, None)
        if shard is not None:
            shard.unfollow(name)

    def _name(self, channel: str) -> bytes:
        return f"{self._prefix}{channel}".encode()

    def _shard_of(self, name: bytes) -> Shard | None:
        node = self._layout.node_of(name)
        return self._shards[node] if node is not None else None

    # What the shards say

    def heard(self, channel: bytes, data: bytes) -> None:
        try:
            envelope = _decode(data)
            if memoryview(envelope.event.data)[0] != ord("{"):
                raise msgspec.ValidationError("an event's data are an object")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            logger.warning("bus.malformed_message", channel=channel.decode(errors="replace"))
            return
        if envelope.origin == self._origin:
            return
        deliver = self._subscribers.get(channel)
        if deliver is not None:
            try:
                deliver(Event(name=envelope.event.name, data=envelope.event.data, seq=envelope.event.seq))
            except Exception:
                logger.exception("bus.delivery_failed", channel=channel.decode())

    def followed_again(self) -> None:
        for missed in self._missed:
            missed()

    def outdated(self) -> None:
        self._layout_outdated.set()

    def astray(self, channels: list[bytes]) -> None:
        for channel in channels:
            if channel in self._followed_at:
                self._followed_at[channel] = None
        self._layout_outdated.set()

    # Which node holds what

    async def _watch_layout(self) -> None:
        while True:
            self._layout_outdated.clear()
            await self._follow(await read_layout(self._servers, self._shards))
            await asyncio.sleep(LAYOUT_PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAYOUT_SECONDS):
                    await self._layout_outdated.wait()

    def _layout_unknown(self, error: Exception) -> None:
        logger.warning("bus.layout_unknown", reason=str(error) or type(error).__name__)

    async def _follow(self, layout: Layout) -> None:
        """Go over to a layout, in between batches: no event overtakes an earlier one of its channel."""
        losers = [self._shards[node] for node in self._layout.losers(layout)]
        async with AsyncExitStack() as flights:
            for shard in losers:
                await flights.enter_async_context(shard.flight)
            self._rearrange(layout, losers)
        while self._leaving:
            await self._leaving[0].close()
            del self._leaving[0]

    def _rearrange(self, layout: Layout, losers: list[Shard]) -> None:
        """Give each channel and each waiting event to its shard by that layout."""
        self._layout = layout
        holders = {node for node in layout.nodes if node is not None}
        for node in holders - self._shards.keys():
            self._shards[node] = self._new_shard(node)
        for name, before in self._followed_at.items():
            shard = self._shard_of(name)
            if shard is not before:
                self._followed_at[name] = shard
                if before is not None:
                    before.unfollow(name)
                if shard is not None:
                    shard.follow(name, missed=True)
        moving: dict[bytes, list[Waiting]] = {}
        for outbox in (self._homeless, *(shard.outbox for shard in losers)):
            for event in outbox.take(len(outbox)):
                moving.setdefault(event.channel, []).append(event)
        for name, events in moving.items():
            shard = self._shard_of(name)
            if shard is not None:
                shard.publish_all(events)
            else:
                self._homeless.merge(events)
        self._leaving += [self._shards.pop(node) for node in self._shards.keys() - holders]

    def _new_shard(self, node: Node) -> Shard:
        words = SHARDED if self._servers.clustered else PLAIN
        shard = Shard(node, lambda: self._servers.link(node), words, self)
        shard.start()
        return shard
