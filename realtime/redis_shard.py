"""One node of Redis: the channels that are followed there, and the events that wait to be published there."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, Protocol

import structlog
from redis.crc import key_slot
from redis.exceptions import MovedError, ResponseError

from realtime import redis_link
from realtime.redis_link import Link, Node, keep_trying

#: Seconds of silence after which a subscription's connection is asked whether it is still there.
HEARTBEAT_SECONDS: Final = 1.0
#: Events that wait for a node. Beyond it the oldest go: receivers read them from the database.
MAX_WAITING_EVENTS: Final = 10_000
#: Seconds that an event waits for Redis. Later it is of no use: receivers have read the database meanwhile.
WAITING_SECONDS: Final = 5.0
#: Commands in one round trip.
MAX_PIPELINE: Final = 500
#: The PING behind subscriptions carries it, and so does its answer.
FOLLOWED: Final = b"followed"

logger = structlog.get_logger(__name__)


class Words(NamedTuple):
    """The commands of publish/subscribe."""

    subscribe: bytes
    unsubscribe: bytes
    publish: bytes


#: Of a lone Redis.
PLAIN: Final = Words(b"SUBSCRIBE", b"UNSUBSCRIBE", b"PUBLISH")
#: Of a cluster: to and from the node that holds the channel, and no other (Redis 7).
SHARDED: Final = Words(b"SSUBSCRIBE", b"SUNSUBSCRIBE", b"SPUBLISH")


class Waiting(NamedTuple):
    """An event that waits to be published, and since when."""

    since: float
    channel: bytes
    data: bytes


class Outbox:
    """Events that wait, in order; few and not for long."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, event: Waiting) -> None:
        self._waiting.append(event)
        self._drop_the_old()

    def merge(self, events: Iterable[Waiting]) -> None:
        """Add events that waited elsewhere; each channel's stay in order."""
        self._waiting = deque(sorted((*self._waiting, *events), key=lambda event: event.since))
        self._drop_the_old()

    def take(self, number: int) -> deque[Waiting]:
        return deque(self._waiting.popleft() for _ in range(min(number, len(self._waiting))))

    def put_back(self, events: Iterable[Waiting]) -> None:
        """They are the first again."""
        self._waiting = deque((*events, *self._waiting))
        self._drop_the_old()

    def _drop_the_old(self) -> None:
        oldest = time.monotonic() - WAITING_SECONDS
        while self._waiting and (len(self._waiting) > MAX_WAITING_EVENTS or self._waiting[0].since < oldest):
            self._waiting.popleft()


class Listener(Protocol):
    """Who is told what a shard hears."""

    def heard(self, channel: bytes, data: bytes) -> None: ...

    def followed_again(self) -> None:
        """Everything wanted is followed from now on; what was said before may have been missed."""

    def outdated(self) -> None:
        """The node is away, or holds other slots than was thought."""

    def astray(self, channels: list[bytes]) -> None:
        """The node holds these channels no longer, and the shard follows them no longer."""


class Shard:
    """One node, with a connection that hears and one that publishes. Each is made again when it is lost."""

    def __init__(self, node: Node, connect: Callable[[], Link], words: Words, listener: Listener) -> None:
        self.node = node
        self.outbox = Outbox()
        #: Held while events are on their way to the node.
        self.flight = asyncio.Lock()
        #: Whether all that is wanted is followed, as far as the node has said.
        self.connected = False
        self._connect = connect
        self._words = words
        self._listener = listener
        self._wanted: set[bytes] = set()
        # Of the present connection: channels to look at, those asked for, and how many answers are due to each.
        self._hearing: Link | None = None
        self._changed: set[bytes] = set()
        self._change_here = asyncio.Event()
        self._asked: set[bytes] = set()
        self._due: Counter[bytes] = Counter()
        self._unsure = True
        self._silent_beats = 0
        self._confirmations: dict[bytes, asyncio.Future[None]] = {}
        self._publishing: Link | None = None
        self._outgoing_here = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._said_away = False

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(keep_trying(self._hear, self._now_away), name="bus-hear"),
            asyncio.create_task(keep_trying(self._send, self._not_sent), name="bus-send"),
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.connected = False
        self._confirm_all()
        await self._hang_up()

    # Hearing

    def follow(self, channel: bytes, *, missed: bool = False) -> None:
        """Have what is published on the channel heard; `missed` says that some of it was not."""
        self._wanted.add(channel)
        if missed:
            self._unsure = True
            self.connected = False
        self._look_at(channel)

    def unfollow(self, channel: bytes) -> None:
        self._wanted.discard(channel)
        self._confirm(channel)
        self._look_at(channel)

    async def followed(self, channel: bytes) -> None:
        """Return once the channel is heard, or at once while the node is away."""
        if self._hearing is None or (channel in self._asked and not self._due[channel]):
            return
        confirmed = self._confirmations.setdefault(channel, asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(redis_link.REDIS_SECONDS):
                await asyncio.shield(confirmed)
        except TimeoutError:
            logger.info("bus.subscription_waits", channel=channel.decode())

    def _look_at(self, channel: bytes) -> None:
        if self._hearing is not None:
            self._changed.add(channel)
            self._change_here.set()

    async def _hear(self) -> None:
        """Subscribe to everything wanted, say that something may have been missed, and deliver what comes."""
        link = self._connect()
        try:
            await link.open()
            self._asked.clear()
            self._due.clear()
            self._changed = set(self._wanted)
            self._change_here.set()
            self._unsure = True
            self._hearing = link
            works = [
                asyncio.create_task(self._read(link), name="bus-read"),
                asyncio.create_task(self._tend(link), name="bus-tend"),
            ]
            try:
                await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for work in works:
                    work.cancel()
                await asyncio.gather(*works, return_exceptions=True)
            for work in works:
                if not work.cancelled():
                    work.result()
        finally:
            await link.close()

    async def _tend(self, link: Link) -> None:
        """Keep the subscriptions as they are wanted, and notice when nobody answers."""
        loop = asyncio.get_running_loop()
        beat = loop.time() + HEARTBEAT_SECONDS
        self._silent_beats = 0
        while True:
            try:
                async with asyncio.timeout_at(beat):
                    await self._change_here.wait()
            except TimeoutError:
                beat = loop.time() + HEARTBEAT_SECONDS
                self._silent_beats += 1
                if self._silent_beats > redis_link.REDIS_SECONDS / HEARTBEAT_SECONDS + 1:
                    raise ConnectionError("Redis does not answer") from None
                await link.send([(b"PING",)])
            else:
                self._change_here.clear()
                await self._adjust(link)

    async def _adjust(self, link: Link) -> None:
        """Subscribe to what is wanted by now, and unsubscribe from what is not: what changed meanwhile, at once."""
        changed, self._changed = self._changed, set()
        wanted = [one for one in changed if one in self._wanted and one not in self._asked]
        unwanted = [one for one in changed if one not in self._wanted and one in self._asked]
        self._asked.update(wanted)
        self._asked.difference_update(unwanted)
        self._due.update(wanted)
        # One channel each: in a cluster, those of one command must share a slot.
        commands: list[tuple[bytes, ...]] = [
            *((self._words.subscribe, channel) for channel in wanted),
            *((self._words.unsubscribe, channel) for channel in unwanted),
        ]
        if self._unsure:
            self._unsure = False
            commands.append((b"PING", FOLLOWED))  # answered after all that
        for start in range(0, len(commands), MAX_PIPELINE):
            await link.send(commands[start : start + MAX_PIPELINE])

    async def _read(self, link: Link) -> None:
        while True:
            try:
                answer = await link.answer()
            except MovedError as moved:
                self._handle_moved(moved.slot_id)
            else:
                self._handle(answer)
            self._silent_beats = 0

    def _handle(self, answer: Any) -> None:
        # While subscribed, an answer is a list with its kind. The answer to a PING is else what the PING carried.
        kind, channel, *rest = answer if isinstance(answer, list) else (b"pong", answer)
        if kind in (b"message", b"smessage"):
            self._listener.heard(channel, rest[0])
        elif kind in (b"subscribe", b"ssubscribe"):
            self._answered(channel)
        elif kind == b"sunsubscribe":
            # Nobody here asked for it, if no answer is due: the slot was moved to another node.
            if channel in self._asked and not self._due[channel]:
                self._lose([channel])
        elif kind == b"pong" and channel == FOLLOWED and not self._unsure:
            self._now_connected()

    def _handle_moved(self, slot: int) -> None:
        self._listener.outdated()
        self._lose([channel for channel in self._due if key_slot(channel) == slot])

    def _lose(self, channels: list[bytes]) -> None:
        # Those that are not wanted here any more may be followed elsewhere by now.
        astray = [channel for channel in channels if channel in self._wanted]
        for channel in channels:
            self._asked.discard(channel)
            self._wanted.discard(channel)
            del self._due[channel]
            self._confirm(channel)
        self._listener.astray(astray)

    def _answered(self, channel: bytes) -> None:
        self._due[channel] -= 1
        if self._due[channel] <= 0:
            del self._due[channel]
            if channel in self._asked:
                self._confirm(channel)

    def _confirm(self, channel: bytes) -> None:
        confirmation = self._confirmations.pop(channel, None)
        if confirmation is not None and not confirmation.done():
            confirmation.set_result(None)

    def _confirm_all(self) -> None:
        for channel in list(self._confirmations):
            self._confirm(channel)

    def _now_connected(self) -> None:
        logger.info("bus.connected", node=str(self.node))
        self._said_away = False
        self.connected = True
        self._listener.followed_again()

    def _now_away(self, error: Exception) -> None:
        self._hearing = None
        self.connected = False
        if not self._said_away:
            logger.warning("bus.away", node=str(self.node), reason=str(error) or type(error).__name__)
        self._said_away = True
        self._confirm_all()
        self._listener.outdated()

    # Publishing

    def publish(self, event: Waiting) -> None:
        """Have the event sent soon. In order with the others of its channel."""
        self.outbox.add(event)
        self._outgoing_here.set()

    def publish_all(self, events: Iterable[Waiting]) -> None:
        """The same for events that waited elsewhere until now."""
        self.outbox.merge(events)
        self._outgoing_here.set()

    async def send_waiting(self) -> None:
        """Publish what waits, in order, many in one round trip. What fails waits again."""
        while self.outbox:
            async with self.flight:
                await self._send_batch(self.outbox.take(MAX_PIPELINE))

    async def _send(self) -> None:
        while True:
            await self.send_waiting()
            await self._outgoing_here.wait()
            self._outgoing_here.clear()

    async def _send_batch(self, batch: deque[Waiting]) -> None:
        refused: list[Waiting] = []
        refusal: ResponseError | None = None
        try:
            link = await self._ring_up()
            await link.send((self._words.publish, event.channel, event.data) for event in batch)
            async with asyncio.timeout(redis_link.REDIS_SECONDS):
                while batch:
                    try:
                        await link.answer()
                    except ResponseError as error:
                        refusal = error
                        refused.append(batch[0])
                    batch.popleft()
        except BaseException:
            await self._hang_up()
            raise
        finally:
            if refused or batch:
                self.outbox.put_back((*refused, *batch))
        if refusal is not None:
            raise refusal

    async def _ring_up(self) -> Link:
        if self._publishing is None:
            self._publishing = self._connect()
            await self._publishing.open()
        return self._publishing

    async def _hang_up(self) -> None:
        link, self._publishing = self._publishing, None
        if link is not None:
            await link.close()

    def _not_sent(self, error: Exception) -> None:
        logger.info("bus.not_sent", node=str(self.node), reason=type(error).__name__)
        self._listener.outdated()
