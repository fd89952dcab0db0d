"""Between workers: a hint that arrives soon, in order, and only where somebody listens."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from realtime import bus as bus_module
from realtime.bus import LocalBus, RedisBus
from realtime.events import Event
from tests.support.processes import free_port
from tests.support.redis import RedisServer
from tests.support.waiting import until

PREFIX = "test:"


def news(number: int, text: str = "") -> Event:
    return Event(name="newMessage", data={"text": text}, seq=number)


class Worker:
    """A bus that is started and remembers what it was told."""

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
        await until(lambda: self.bus.connected)
        return self


StartWorker = Callable[[str], Awaitable[Worker]]


@pytest.fixture
async def start_worker() -> AsyncIterator[StartWorker]:
    """Starts any number of buses on a Redis."""
    workers: list[Worker] = []

    async def start(url: str) -> Worker:
        worker = Worker(url)
        workers.append(worker)
        await worker.bus.start()
        return worker

    yield start
    await asyncio.gather(*(worker.bus.close() for worker in workers))


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client: Redis = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(bus_module, "REDIS_SECONDS", 0.3)


async def listeners(redis: Redis, channel: str) -> int:
    [(_, count)] = await redis.pubsub_numsub(PREFIX + channel)
    return int(count)


# Alone


async def test_the_bus_of_a_lone_worker_delivers_in_the_same_turn() -> None:
    bus = LocalBus()
    heard: list[int | None] = []
    await bus.start()
    bus.publish("a", news(0))
    await bus.subscribe("a", lambda event: heard.append(event.seq))
    bus.publish("a", news(1))
    bus.publish("b", news(2))
    bus.unsubscribe("a")
    bus.unsubscribe("never subscribed")
    bus.publish("a", news(3))
    assert heard == [1]
    assert bus.connected
    await bus.close()


# With others


async def test_others_hear_what_they_subscribed_to_and_nothing_else(redis_url: str, start_worker: StartWorker) -> None:
    ann, bob = await start_worker(redis_url), await start_worker(redis_url)
    await bob.connected()
    await bob.bus.subscribe("a", bob.hear)
    await ann.connected()
    ann.bus.publish("b", news(1))
    ann.bus.publish("a", news(2))
    await until(lambda: bob.heard == [2])


async def test_a_worker_is_sent_only_the_channels_that_it_follows(
    redis_url: str, redis: Redis, start_worker: StartWorker
) -> None:
    worker = await (await start_worker(redis_url)).connected()
    assert await listeners(redis, "a") == 0
    await worker.bus.subscribe("a", worker.hear)
    assert await listeners(redis, "a") == 1, "once the call returns, others are heard"
    assert await listeners(redis, "b") == 0
    worker.bus.unsubscribe("a")
    await asyncio.sleep(0.1)
    assert await listeners(redis, "a") == 0


async def test_what_was_wanted_before_redis_was_reached_is_subscribed_to(
    redis_url: str, redis: Redis, start_worker: StartWorker
) -> None:
    worker = await start_worker(redis_url)
    await asyncio.gather(*(worker.bus.subscribe(f"c{number}", worker.hear) for number in range(1_200)))
    await worker.connected()
    for channel in ("c0", "c700", "c1199"):
        assert await listeners(redis, channel) == 1


async def test_ones_own_events_come_at_once_and_not_again(redis_url: str, start_worker: StartWorker) -> None:
    ann, bob = await start_worker(redis_url), await start_worker(redis_url)
    await asyncio.gather(ann.connected(), bob.connected())
    await ann.bus.subscribe("a", ann.hear)
    await bob.bus.subscribe("a", bob.hear)
    ann.bus.publish("a", news(1))
    assert ann.heard == [1]
    await until(lambda: bob.heard == [1])
    bob.bus.publish("a", news(2))
    await until(lambda: ann.heard == [1, 2])
    assert bob.heard == [1, 2]


async def test_a_channel_keeps_its_order(redis_url: str, start_worker: StartWorker) -> None:
    ann, bob = await start_worker(redis_url), await start_worker(redis_url)
    await asyncio.gather(ann.connected(), bob.connected())
    await bob.bus.subscribe("a", bob.hear)
    for number in range(2_000):
        ann.bus.publish("a", news(number, "x" * (number % 700)))
        if number % 97 == 0:
            await asyncio.sleep(0)
    await until(lambda: len(bob.heard) == 2_000)
    assert bob.heard == list(range(2_000))


async def test_a_large_event_arrives_whole(redis_url: str, start_worker: StartWorker) -> None:
    ann, bob = await start_worker(redis_url), await start_worker(redis_url)
    await asyncio.gather(ann.connected(), bob.connected())
    texts: list[str] = []
    await bob.bus.subscribe("a", lambda event: texts.append(event.data["text"]))
    ann.bus.publish("a", news(1, "é" * 1_000_000))
    await until(lambda: texts == ["é" * 1_000_000])


async def test_close_sends_what_waits(redis_url: str, start_worker: StartWorker) -> None:
    bob = await (await start_worker(redis_url)).connected()
    await bob.bus.subscribe("a", bob.hear)
    ann = RedisBus(redis_url, prefix=PREFIX)
    await ann.start()
    for number in range(1_500):
        ann.publish("a", news(number))
    await asyncio.sleep(0.001)
    await ann.close()
    await until(lambda: bob.heard == list(range(1_500)))


FORGED = [
    b"",
    b"not json",
    b"\xff\xfe",
    b"null",
    b"{}",
    b"[]",
    b'["x"]',
    b'["x", null]',
    b'["x", {"name": "newMessage"}]',
    b'["x", {"name": 1, "data": {}}]',
    b'["x", {"name": "newMessage", "data": []}]',
    b'["x", {"name": "newMessage", "data": {}, "seq": "1"}]',
    b'["x", {"name": "newMessage", "data": {}, "seq": 1.5}]',
    b'["x", {"name": "newMessage", "data": {}, "seq": 1e400}]',
    b'["x", {"name": "newMessage", "data": {}, "seq": ' + b"9" * 5_000 + b"}]",
    b'["x", {"name": "newMessage", "data": {"deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}]",
    b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.",
]


async def test_messages_that_nobody_here_wrote_are_passed_over(
    redis_url: str, redis: Redis, start_worker: StartWorker
) -> None:
    worker = await (await start_worker(redis_url)).connected()
    await worker.bus.subscribe("a", worker.hear)
    for forged in FORGED:
        await redis.publish(f"{PREFIX}a", forged)
    await redis.publish(f"{PREFIX}a", json.dumps(["another worker", {"name": "newMessage", "data": {}, "seq": 7}]))
    await until(lambda: 7 in worker.heard)
    assert worker.heard == [7]
    assert (worker.bus.connected, worker.gaps) == (True, 1)


async def test_a_subscriber_that_fails_stops_nobody(redis_url: str, start_worker: StartWorker) -> None:
    ann, bob = await start_worker(redis_url), await start_worker(redis_url)
    await asyncio.gather(ann.connected(), bob.connected())

    def fail(event: Event) -> None:
        raise RuntimeError(event.name)

    await bob.bus.subscribe("a", fail)
    await bob.bus.subscribe("b", bob.hear)
    ann.bus.publish("a", news(1))
    ann.bus.publish("b", news(2))
    await until(lambda: bob.heard == [2])


# Coming and going


async def test_subscribing_again_at_once_leaves_the_channel_followed(
    redis_url: str, redis: Redis, start_worker: StartWorker
) -> None:
    ann, bob = await start_worker(redis_url), await start_worker(redis_url)
    await asyncio.gather(ann.connected(), bob.connected())
    for number in range(100):
        await bob.bus.subscribe("a", bob.hear)
        ann.bus.publish("a", news(number))
        if number % 3:
            await until(lambda number=number: number in bob.heard)  # type: ignore[misc]
        bob.bus.unsubscribe("a")
        if number % 2:
            await asyncio.sleep(0)
    await bob.bus.subscribe("a", bob.hear)
    assert await listeners(redis, "a") == 1
    ann.bus.publish("a", news(1_000))
    await until(lambda: bob.heard[-1:] == [1_000])


async def test_however_subscriptions_race_the_last_wish_holds_and_a_returned_call_hears(
    redis_url: str, redis: Redis, start_worker: StartWorker
) -> None:
    ann, bob = await start_worker(redis_url), await start_worker(redis_url)
    await asyncio.gather(ann.connected(), bob.connected())
    chance = random.Random(7)

    async def waver(channel: str) -> None:
        heard: list[int | None] = []
        for number in range(30):
            await bob.bus.subscribe(channel, lambda event: heard.append(event.seq))
            if chance.random() < 0.5:
                ann.bus.publish(channel, news(number))
                await until(lambda number=number: number in heard)  # type: ignore[misc]
            bob.bus.unsubscribe(channel)
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)

    await asyncio.gather(*(waver(f"c{number}") for number in range(20)))
    await bob.bus.subscribe("c3", bob.hear)
    await bob.bus.subscribe("c4", bob.hear)
    bob.bus.unsubscribe("c4")
    await until(lambda: not bob.bus._changed)
    await asyncio.sleep(0.05)
    counts = [await listeners(redis, f"c{number}") for number in range(20)]
    assert [number for number, count in enumerate(counts) if count] == [3]
    assert not bob.bus._confirmations
    assert not +bob.bus._due


# Redis gone, and back


async def test_a_redis_that_goes_is_noticed_and_everything_followed_again_when_it_is_back(
    private_redis: RedisServer, start_worker: StartWorker
) -> None:
    ann, bob = await start_worker(private_redis.url), await start_worker(private_redis.url)
    await asyncio.gather(ann.connected(), bob.connected())
    await bob.bus.subscribe("a", bob.hear)
    await bob.bus.subscribe("b", bob.hear)
    private_redis.kill()
    await until(lambda: not bob.bus.connected)
    assert bob.gaps == 1
    bob.bus.unsubscribe("b")
    started = time.monotonic()
    await bob.bus.subscribe("c", bob.hear)
    assert time.monotonic() - started < 0.1, "nobody waits for a bus that is away"
    private_redis.start()
    await until(lambda: ann.bus.connected and bob.bus.connected)
    assert bob.gaps == 2
    for number, channel in enumerate("abc"):
        ann.bus.publish(channel, news(number))
    await until(lambda: set(bob.heard) >= {0, 2})
    assert 1 not in bob.heard


async def test_the_gap_is_told_of_when_others_are_heard_again(
    private_redis: RedisServer, start_worker: StartWorker
) -> None:
    ann, bob = await start_worker(private_redis.url), await start_worker(private_redis.url)
    await asyncio.gather(ann.connected(), bob.connected())
    await asyncio.gather(*(bob.bus.subscribe(f"c{number}", bob.hear) for number in range(3_000)))
    control: Redis = Redis.from_url(private_redis.url)
    followed: list[list[int]] = []
    asked: list[asyncio.Task[None]] = []

    async def ask() -> None:
        followed.append([await listeners(control, channel) for channel in ("c0", "c2999")])

    bob.bus.on_gap(lambda: asked.append(asyncio.create_task(ask())))
    await control.client_kill_filter(_type="pubsub")
    await until(lambda: len(followed) == 1)
    assert followed[0] == [1, 1]
    await control.aclose()


async def test_a_cut_connection_is_a_gap_however_soon_it_is_back(
    private_redis: RedisServer, start_worker: StartWorker
) -> None:
    ann, bob = await start_worker(private_redis.url), await start_worker(private_redis.url)
    await asyncio.gather(ann.connected(), bob.connected())
    await bob.bus.subscribe("a", bob.hear)
    control: Redis = Redis.from_url(private_redis.url)
    for cut in range(3):
        await control.client_kill_filter(_type="pubsub")
        await until(lambda cut=cut: bob.gaps == cut + 2)  # type: ignore[misc]
        ann.bus.publish("a", news(cut))
        await until(lambda cut=cut: cut in bob.heard)  # type: ignore[misc]
    await control.aclose()


async def test_a_loss_that_a_sender_notices_first_is_a_gap_too(redis_url: str, start_worker: StartWorker) -> None:
    ann, bob = await start_worker(redis_url), await start_worker(redis_url)
    await asyncio.gather(ann.connected(), bob.connected())
    await bob.bus.subscribe("a", bob.hear)
    subscriptions: Any = bob.bus._pubsub
    await subscriptions.connection.disconnect(nowait=True)
    await until(lambda: bob.gaps == 2)
    ann.bus.publish("a", news(1))
    await until(lambda: bob.heard == [1])


async def test_a_publisher_whose_connection_is_cut_sends_again(
    private_redis: RedisServer, start_worker: StartWorker
) -> None:
    ann, bob = await start_worker(private_redis.url), await start_worker(private_redis.url)
    await asyncio.gather(ann.connected(), bob.connected())
    await bob.bus.subscribe("a", bob.hear)
    control: Redis = Redis.from_url(private_redis.url)
    for number in range(200):
        ann.bus.publish("a", news(number))
        if number % 50 == 0:
            await asyncio.sleep(0.001)
            await control.client_kill_filter(_type="normal", skipme=True)
    await until(lambda: set(bob.heard) == set(range(200)))
    assert bob.gaps == 1
    await control.aclose()


async def test_publishing_while_redis_is_away_neither_fails_nor_piles_up(
    start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "MAX_WAITING_EVENTS", 100)
    monkeypatch.setattr(bus_module, "WAITING_SECONDS", 0.2)
    worker = await start_worker(f"redis://127.0.0.1:{free_port()}/0")
    await worker.bus.subscribe("a", worker.hear)
    for number in range(1_000):
        worker.bus.publish("a", news(number))
        if number % 100 == 0:
            await asyncio.sleep(0.005)
    assert worker.heard == list(range(1_000)), "on this worker everything goes on"
    assert len(worker.bus._outgoing) <= 100
    assert not worker.bus.connected
    await asyncio.sleep(0.25)
    worker.bus.publish("a", news(1_000))
    assert len(worker.bus._outgoing) == 1, "what is old is of no use to anybody"


async def test_a_redis_that_hangs_is_noticed(
    private_redis: RedisServer, start_worker: StartWorker, quick_heartbeat: None
) -> None:
    ann, bob = await start_worker(private_redis.url), await start_worker(private_redis.url)
    await asyncio.gather(ann.connected(), bob.connected())
    await bob.bus.subscribe("a", bob.hear)
    private_redis.freeze()
    started = time.monotonic()
    await bob.bus.subscribe("b", bob.hear)
    bob.bus.publish("b", news(1))
    assert bob.heard == [1]
    await until(lambda: not bob.bus.connected)
    assert time.monotonic() - started < 2
    assert bob.gaps == 1
    private_redis.thaw()
    await until(lambda: ann.bus.connected and bob.bus.connected)
    assert bob.gaps == 2
    ann.bus.publish("a", news(2))
    ann.bus.publish("b", news(3))
    await until(lambda: {2, 3} <= set(bob.heard))


async def test_a_hung_redis_does_not_hold_up_the_end(
    private_redis: RedisServer, start_worker: StartWorker, quick_heartbeat: None
) -> None:
    worker = await (await start_worker(private_redis.url)).connected()
    private_redis.freeze()
    worker.bus.publish("a", news(1))
    async with asyncio.timeout(2):
        await worker.bus.close()
    private_redis.thaw()


async def test_silence_is_not_taken_for_a_hang(
    private_redis: RedisServer, start_worker: StartWorker, quick_heartbeat: None
) -> None:
    worker = await (await start_worker(private_redis.url)).connected()
    await asyncio.sleep(1)
    assert (worker.bus.connected, worker.gaps) == (True, 1)


async def test_what_nobody_thought_of_does_not_end_the_bus(
    private_redis: RedisServer, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await start_worker(private_redis.url), await start_worker(private_redis.url)
    await asyncio.gather(ann.connected(), bob.connected())
    await bob.bus.subscribe("a", bob.hear)

    def fail(message: object) -> None:
        monkeypatch.undo()
        raise AttributeError("a fault in the client library, say")

    monkeypatch.setattr(bob.bus, "_handle", fail)
    ann.bus.publish("a", news(1))
    await until(lambda: bob.gaps == 2)
    ann.bus.publish("a", news(2))
    await until(lambda: bob.heard == [2])


async def test_a_wrong_password_is_no_end_either(private_redis: RedisServer, start_worker: StartWorker) -> None:
    control: Redis = Redis.from_url(private_redis.url)
    await control.config_set("requirepass", "secret")
    worker = await start_worker(private_redis.url)
    await asyncio.sleep(0.2)
    assert not worker.bus.connected
    with suppress(RedisError):
        await control.config_set("requirepass", "")
    await worker.connected()
    await control.aclose()
