"""Between workers: an event published on a channel reaches every worker that subscribed to it.

The bus is a hint. What must not be lost lies in the database before it is published, and whoever missed
something reads it there; a bus that is away delays, it loses nothing that has a `seq`.

A worker's own subscribers get an event at once and in the same turn, whatever the state of the bus.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import msgspec
import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from realtime.events import Event

Deliver = Callable[[Event], None]

#: Seconds to wait for Redis: to connect, and to answer.
REDIS_SECONDS: Final = 2.0
#: Seconds between two attempts to reach Redis, grown by half each time up to the second one.
RECONNECT_SECONDS: Final = (0.1, 1.0)
#: Seconds of silence after which a subscription's connection is asked whether it is still there.
HEARTBEAT_SECONDS: Final = 1.0
#: Events that wait for Redis. Beyond it the oldest go: receivers read them from the database.
MAX_WAITING_EVENTS: Final = 10_000
#: Seconds that an event waits for Redis. Later it is of no use: receivers have read the database meanwhile.
WAITING_SECONDS: Final = 5.0
#: Publishes in one round trip.
MAX_PIPELINE: Final = 500

logger = structlog.get_logger(__name__)


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


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    """An event on the wire, with the worker it comes from: a worker has delivered its own already."""

    origin: str
    event: Event


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Envelope).decode


class _Subscriptions(PubSub):
    """A connection for subscriptions that ends when it is lost: to reconnect in silence would hide the gap."""

    async def on_connect(self, connection: Any) -> None:
        raise ConnectionError("the subscriptions' connection was lost")


class RedisBus:
    """Redis publish/subscribe, one Redis channel per channel; a worker hears only what it has subscribed to."""

    def __init__(self, url: str, *, prefix: str) -> None:
        self._redis: Redis = Redis.from_url(
            url,
            socket_connect_timeout=REDIS_SECONDS,
            socket_timeout=REDIS_SECONDS,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),  # what is lost is noticed here, and tried again here
        )
        self._prefix = prefix
        self._origin = uuid.uuid4().hex
        self._subscribers: dict[str, Deliver] = {}
        # Of the present connection: channels to look at, those asked for, and how many answers are due to each.
        self._pubsub: PubSub | None = None
        self._changed: set[str] = set()
        self._change_here = asyncio.Event()
        self._asked: set[str] = set()
        self._due: Counter[str] = Counter()
        self._confirmations: dict[str, asyncio.Future[None]] = {}
        self._outgoing: deque[tuple[float, str, bytes]] = deque()
        self._outgoing_here = asyncio.Event()
        self._sending = asyncio.Lock()
        self._missed: list[Callable[[], None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.connected = False
        self._said_away = False
        self._closing = False

    def on_gap(self, missed: Callable[[], None]) -> None:
        self._missed.append(missed)

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._receive_forever(), name="bus-receive"),
            asyncio.create_task(self._send_forever(), name="bus-send"),
        ]

    async def close(self) -> None:
        """Send what waits, then let go."""
        # A cancelled call of redis-py may end with another error than its cancellation: no more tries after it.
        self._closing = True
        with contextlib.suppress(TimeoutError, RedisError, OSError):
            async with asyncio.timeout(REDIS_SECONDS):
                await self._send_waiting()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._redis.aclose()

    def publish(self, channel: str, event: Event) -> None:
        deliver = self._subscribers.get(channel)
        if deliver is not None:
            deliver(event)
        self._outgoing.append((time.monotonic(), self._prefix + channel, _encode(_Envelope(self._origin, event))))
        self._drop_the_old()
        self._outgoing_here.set()

    async def subscribe(self, channel: str, deliver: Deliver) -> None:
        self._subscribers[channel] = deliver
        if self._pubsub is None:
            return  # the next connection subscribes to everything that is wanted
        if channel in self._asked and not self._due[channel]:
            return
        confirmed = self._confirmations.setdefault(channel, asyncio.get_running_loop().create_future())
        self._look_at(channel)
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                await asyncio.shield(confirmed)
        except TimeoutError:
            logger.info("bus.subscription_waits", channel=channel)

    def unsubscribe(self, channel: str) -> None:
        self._subscribers.pop(channel, None)
        self._confirm(channel)
        self._look_at(channel)

    def _look_at(self, channel: str) -> None:
        if self._pubsub is not None:
            self._changed.add(channel)
            self._change_here.set()

    async def _adjust_forever(self, pubsub: PubSub) -> None:
        while True:
            await self._change_here.wait()
            self._change_here.clear()
            await self._adjust(pubsub)

    async def _adjust(self, pubsub: PubSub) -> None:
        """Subscribe to what is wanted by now, and unsubscribe from what is not: what changed meanwhile, at once."""
        changed, self._changed = self._changed, set()
        wanted = [one for one in changed if one in self._subscribers and one not in self._asked]
        unwanted = [one for one in changed if one not in self._subscribers and one in self._asked]
        self._asked.update(wanted)
        self._asked.difference_update(unwanted)
        self._due.update(wanted)
        for change, channels in ((pubsub.subscribe, wanted), (pubsub.unsubscribe, unwanted)):
            for start in range(0, len(channels), MAX_PIPELINE):
                await change(*(self._prefix + channel for channel in channels[start : start + MAX_PIPELINE]))

    async def _receive_forever(self) -> None:
        await self._retrying(self._receive, self._now_away)

    async def _receive(self) -> None:
        """Subscribe to everything wanted, say that something may have been missed, and deliver what comes."""
        async with _Subscriptions(self._redis.connection_pool) as pubsub:
            # A channel of its own keeps the connection subscribed while no session is here.
            await pubsub.subscribe(f"{self._prefix}worker-{self._origin}")
            self._asked.clear()
            self._due.clear()
            self._changed = set(self._subscribers)
            self._pubsub = pubsub
            await self._adjust(pubsub)
            await pubsub.ping()  # answered after all that
            adjusting = asyncio.create_task(self._adjust_forever(pubsub), name="bus-adjust")
            try:
                await self._listen(pubsub, adjusting)
            finally:
                adjusting.cancel()
                await asyncio.gather(adjusting, return_exceptions=True)

    async def _listen(self, pubsub: PubSub, adjusting: asyncio.Task[None]) -> None:
        silent = 0
        while not adjusting.done():
            message = await pubsub.get_message(timeout=HEARTBEAT_SECONDS)
            if message is not None:
                silent = 0
                self._handle(message)
                continue
            silent += 1
            if silent > REDIS_SECONDS / HEARTBEAT_SECONDS + 1:
                raise ConnectionError("Redis does not answer")
            await pubsub.ping()
        adjusting.result()

    def _handle(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "message":
            self._deliver(message["channel"], message["data"])
        elif kind == "subscribe":
            self._answered(message["channel"].decode().removeprefix(self._prefix))
        elif kind == "pong" and not self.connected:
            self._now_connected()

    def _deliver(self, channel: bytes, data: bytes) -> None:
        try:
            envelope = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            logger.warning("bus.malformed_message", channel=channel.decode(errors="replace"))
            return
        if envelope.origin == self._origin:
            return
        deliver = self._subscribers.get(channel.decode().removeprefix(self._prefix))
        if deliver is not None:
            try:
                deliver(envelope.event)
            except Exception:
                logger.exception("bus.delivery_failed", channel=channel.decode())

    def _answered(self, channel: str) -> None:
        self._due[channel] -= 1
        if self._due[channel] <= 0:
            del self._due[channel]
            if channel in self._asked:
                self._confirm(channel)

    def _confirm(self, channel: str) -> None:
        confirmation = self._confirmations.pop(channel, None)
        if confirmation is not None and not confirmation.done():
            confirmation.set_result(None)

    def _now_connected(self) -> None:
        logger.info("bus.connected")
        self._said_away = False
        self.connected = True
        for missed in self._missed:
            missed()

    def _now_away(self, error: Exception) -> None:
        self._pubsub = None
        if not self._said_away:
            logger.warning("bus.away", reason=str(error) or type(error).__name__)
        self._said_away = True
        self.connected = False
        for channel in list(self._confirmations):
            self._confirm(channel)

    async def _send_forever(self) -> None:
        await self._retrying(self._send, lambda error: logger.info("bus.not_sent", reason=type(error).__name__))

    async def _send(self) -> None:
        while True:
            await self._send_waiting()
            await self._outgoing_here.wait()
            self._outgoing_here.clear()

    async def _send_waiting(self) -> None:
        """Publish what waits, in order, many in one round trip. What fails waits again."""
        async with self._sending:
            while self._outgoing:
                batch = [self._outgoing.popleft() for _ in range(min(MAX_PIPELINE, len(self._outgoing)))]
                try:
                    async with self._redis.pipeline(transaction=False) as pipeline:
                        for _, channel, data in batch:
                            pipeline.publish(channel, data)
                        await pipeline.execute()
                except BaseException:
                    self._outgoing.extendleft(reversed(batch))
                    self._drop_the_old()
                    raise

    def _drop_the_old(self) -> None:
        oldest = time.monotonic() - WAITING_SECONDS
        while self._outgoing and (len(self._outgoing) > MAX_WAITING_EVENTS or self._outgoing[0][0] < oldest):
            self._outgoing.popleft()

    async def _retrying(self, work: Callable[[], Awaitable[None]], failed: Callable[[Exception], None]) -> None:
        """Run `work` until the end, again after each loss of Redis, with growing pauses."""
        least, most = RECONNECT_SECONDS
        pause = least
        while not self._closing:
            started = time.monotonic()
            try:
                await work()
            except (RedisError, OSError, TimeoutError, RuntimeError) as error:
                # RuntimeError: uvloop's, for writing to a transport that was closed meanwhile.
                failed(error)
            except Exception as error:
                logger.exception("bus.failed")
                failed(error)
            if time.monotonic() - started > most:
                pause = least
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(most, pause * 1.5)
