"""Between workers: a hint that arrives soon, in order, and only where somebody listens."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from realtime import redis_link, redis_shard
from realtime.bus import Bus, LocalBus
from realtime.events import Event
from realtime.redis_bus import RedisBus
from tests.support.buses import PREFIX, ClusterSite, LoneSite, Site, StartWorker, news, workers
from tests.support.cluster import RedisCluster
from tests.support.processes import free_port
from tests.support.recorder import WAIT_SECONDS
from tests.support.redis import RedisServer
from tests.support.waiting import until

KINDS = ["redis", "cluster"]


@pytest.fixture
async def start_worker() -> AsyncIterator[StartWorker]:
    """Starts any number of buses on a Redis."""
    async with workers() as start:
        yield start


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A running cluster, shared by the tests here: leave it as it is."""
    cluster = RedisCluster(tmp_path_factory.mktemp("redis-cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(params=KINDS)
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """One Redis, and a cluster."""
    if request.param == "cluster":
        yield ClusterSite(request.getfixturevalue("redis_cluster"))
        return
    lone = LoneSite(request.getfixturevalue("redis_url"))
    yield lone
    await lone.close()


@contextmanager
def impatient() -> Iterator[None]:
    """A Redis that does not answer is soon taken for away: for while one hangs, as a busy machine may be as slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_shard, "HEARTBEAT_SECONDS", 0.1)
        patch.setattr(redis_link, "REDIS_SECONDS", 0.3)
        yield


# Any bus


@pytest.fixture(params=["local", "away", *KINDS])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    """A bus of each kind, started; one whose Redis is away, too."""
    bus: Bus
    if request.param == "local":
        bus = LocalBus()
    else:
        if request.param == "away":
            url = f"redis://127.0.0.1:{free_port()}"
        elif request.param == "redis":
            url = request.getfixturevalue("redis_url")
        else:
            url = request.getfixturevalue("redis_cluster").url
        bus = RedisBus(url, prefix=PREFIX)
    await bus.start()
    if request.param != "away":
        await until(lambda: bus.connected)
    yield bus
    await bus.close()


async def test_a_worker_delivers_its_own_events_in_the_same_turn_whatever_the_bus(bus: Bus) -> None:
    heard: list[int | None] = []
    bus.publish("a", news(0))
    await bus.subscribe("a", lambda event: heard.append(event.seq))
    bus.publish("a", news(1))
    assert heard == [1]
    bus.publish("b", news(2))
    for number in range(3, 1_000):
        bus.publish("a", news(number))
    assert heard == [1, *range(3, 1_000)]
    bus.unsubscribe("a")
    bus.unsubscribe("never subscribed")
    bus.publish("a", news(1_000))
    assert heard[-1] == 999


async def test_the_subscriber_may_change_whatever_the_bus(bus: Bus) -> None:
    first: list[int | None] = []
    second: list[int | None] = []
    await bus.subscribe("a", lambda event: first.append(event.seq))
    await bus.subscribe("a", lambda event: second.append(event.seq))
    bus.publish("a", news(1))
    bus.unsubscribe("a")
    await bus.subscribe("a", lambda event: first.append(event.seq))
    bus.publish("a", news(2))
    assert (first, second) == ([2], [1])


# With others


async def until_listeners(site: Site, channel: str, number: int) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while await site.listeners(channel) != number:  # noqa: ASYNC110  # Redis sets no event
            await asyncio.sleep(0.01)


async def test_others_hear_what_they_subscribed_to_and_nothing_else(site: Site, start_worker: StartWorker) -> None:
    ann, bob = await start_worker(site.url), await start_worker(site.url)
    await bob.connected()
    await bob.bus.subscribe("a", bob.hear)
    await ann.connected()
    ann.bus.publish("b", news(1))
    ann.bus.publish("a", news(2))
    await until(lambda: bob.heard == [2])


async def test_a_worker_is_sent_only_the_channels_that_it_follows(site: Site, start_worker: StartWorker) -> None:
    worker = await (await start_worker(site.url)).connected()
    assert await site.listeners("a") == 0
    await worker.bus.subscribe("a", worker.hear)
    assert await site.listeners("a") == 1, "once the call returns, others are heard"
    assert await site.listeners("b") == 0
    worker.bus.unsubscribe("a")
    await until_listeners(site, "a", 0)


async def test_what_was_wanted_before_redis_was_reached_is_subscribed_to(site: Site, start_worker: StartWorker) -> None:
    worker = await start_worker(site.url)
    await asyncio.gather(*(worker.bus.subscribe(f"c{number}", worker.hear) for number in range(1_200)))
    await worker.connected()
    for channel in ("c0", "c700", "c1199"):
        assert await site.listeners(channel) == 1


async def test_ones_own_events_come_at_once_and_not_again(site: Site, start_worker: StartWorker) -> None:
    ann, bob = await start_worker(site.url), await start_worker(site.url)
    await asyncio.gather(ann.connected(), bob.connected())
    await ann.bus.subscribe("a", ann.hear)
    await bob.bus.subscribe("a", bob.hear)
    ann.bus.publish("a", news(1))
    assert ann.heard == [1]
    await until(lambda: bob.heard == [1])
    bob.bus.publish("a", news(2))
    await until(lambda: ann.heard == [1, 2])
    assert bob.heard == [1, 2]


async def test_a_channel_keeps_its_order(site: Site, start_worker: StartWorker) -> None:
    ann, bob = await start_worker(site.url), await start_worker(site.url)
    await asyncio.gather(ann.connected(), bob.connected())
    await bob.bus.subscribe("a", bob.hear)
    for number in range(2_000):
        ann.bus.publish("a", news(number, "x" * (number % 700)))
        if number % 97 == 0:
            await asyncio.sleep(0)
    await until(lambda: len(bob.heard) == 2_000)
    assert bob.heard == list(range(2_000))


async def test_a_large_event_arrives_whole(site: Site, start_worker: StartWorker) -> None:
    ann, bob = await start_worker(site.url), await start_worker(site.url)
    await asyncio.gather(ann.connected(), bob.connected())
    texts: list[str] = []
    await bob.bus.subscribe("a", lambda event: texts.append(event.data["text"]))
    ann.bus.publish("a", news(1, "é" * 1_000_000))
    await until(lambda: texts == ["é" * 1_000_000])


async def test_close_sends_what_waits(site: Site, start_worker: StartWorker) -> None:
    bob = await (await start_worker(site.url)).connected()
    await bob.bus.subscribe("a", bob.hear)
    ann = RedisBus(site.url, prefix=PREFIX)
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


async def test_messages_that_nobody_here_wrote_are_passed_over(site: Site, start_worker: StartWorker) -> None:
    worker = await (await start_worker(site.url)).connected()
    await worker.bus.subscribe("a", worker.hear)
    for forged in FORGED:
        await site.publish("a", forged)
    await site.publish("a", b'["another worker", {"name": "newMessage", "data": {}, "seq": 7}]')
    await until(lambda: 7 in worker.heard)
    assert worker.heard == [7]
    assert (worker.bus.connected, worker.gaps) == (True, 0)


async def test_a_subscriber_that_fails_stops_nobody(site: Site, start_worker: StartWorker) -> None:
    ann, bob = await start_worker(site.url), await start_worker(site.url)
    await asyncio.gather(ann.connected(), bob.connected())

    def fail(event: Event) -> None:
        raise RuntimeError(event.name)

    await bob.bus.subscribe("a", fail)
    await bob.bus.subscribe("b", bob.hear)
    ann.bus.publish("a", news(1))
    ann.bus.publish("b", news(2))
    await until(lambda: bob.heard == [2])


# Coming and going


async def test_subscribing_again_at_once_leaves_the_channel_followed(site: Site, start_worker: StartWorker) -> None:
    ann, bob = await start_worker(site.url), await start_worker(site.url)
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
    assert await site.listeners("a") == 1
    ann.bus.publish("a", news(1_000))
    await until(lambda: bob.heard[-1:] == [1_000])


async def test_however_subscriptions_race_the_last_wish_holds_and_a_returned_call_hears(
    site: Site, start_worker: StartWorker
) -> None:
    ann, bob = await start_worker(site.url), await start_worker(site.url)
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
    for number in range(20):
        await until_listeners(site, f"c{number}", int(number == 3))
    for shard in bob.bus._shards.values():
        assert not shard._confirmations
        assert not +shard._due


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
    assert bob.gaps == 0
    bob.bus.unsubscribe("b")
    started = time.monotonic()
    await bob.bus.subscribe("c", bob.hear)
    assert time.monotonic() - started < redis_link.REDIS_SECONDS / 2, "nobody waits for a bus that is away"
    private_redis.start()
    await until(lambda: ann.bus.connected and bob.bus.connected)
    assert bob.gaps == 1
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
    site = LoneSite(private_redis.url)

    async def ask() -> None:
        followed.append([await site.listeners(channel) for channel in ("c0", "c2999")])

    bob.bus.on_gap(lambda: asked.append(asyncio.create_task(ask())))
    await control.client_kill_filter(_type="pubsub")
    await until(lambda: len(followed) == 1)
    assert followed[0] == [1, 1]
    await site.close()
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
        await until(lambda cut=cut: bob.gaps == cut + 1)  # type: ignore[misc]
        ann.bus.publish("a", news(cut))
        await until(lambda cut=cut: cut in bob.heard)  # type: ignore[misc]
    await control.aclose()


async def test_a_loss_that_a_sender_notices_first_is_a_gap_too(site: Site, start_worker: StartWorker) -> None:
    ann, bob = await start_worker(site.url), await start_worker(site.url)
    await asyncio.gather(ann.connected(), bob.connected())
    await bob.bus.subscribe("a", bob.hear)
    shard = bob.bus._followed_at[f"{PREFIX}a".encode()]
    assert shard is not None
    assert shard._hearing is not None
    await shard._hearing.close()
    await until(lambda: bob.gaps == 1)
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
    assert bob.gaps == 0
    await control.aclose()


async def test_publishing_while_redis_is_away_neither_fails_nor_piles_up(
    start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_shard, "MAX_WAITING_EVENTS", 100)
    monkeypatch.setattr(redis_shard, "WAITING_SECONDS", 0.2)
    worker = await start_worker(f"redis://127.0.0.1:{free_port()}/0")
    await worker.bus.subscribe("a", worker.hear)
    for number in range(1_000):
        worker.bus.publish("a", news(number))
        if number % 100 == 0:
            await asyncio.sleep(0.005)
    assert worker.heard == list(range(1_000)), "on this worker everything goes on"
    [shard] = worker.bus._shards.values()
    assert len(shard.outbox) <= 100
    assert not worker.bus.connected
    await asyncio.sleep(0.25)
    worker.bus.publish("a", news(1_000))
    assert len(shard.outbox) == 1, "what is old is of no use to anybody"


async def test_a_redis_that_hangs_is_noticed(private_redis: RedisServer, start_worker: StartWorker) -> None:
    ann, bob = await start_worker(private_redis.url), await start_worker(private_redis.url)
    await asyncio.gather(ann.connected(), bob.connected())
    await bob.bus.subscribe("a", bob.hear)
    with impatient():
        private_redis.freeze()
        await bob.bus.subscribe("b", bob.hear)
        bob.bus.publish("b", news(1))
        assert bob.heard == [1]
        await until(lambda: not bob.bus.connected)
    assert bob.gaps == 0
    private_redis.thaw()
    await until(lambda: ann.bus.connected and bob.bus.connected)
    assert bob.gaps == 1
    ann.bus.publish("a", news(2))
    ann.bus.publish("b", news(3))
    await until(lambda: {2, 3} <= set(bob.heard))


async def test_a_hung_redis_does_not_hold_up_the_end(private_redis: RedisServer, start_worker: StartWorker) -> None:
    worker = await (await start_worker(private_redis.url)).connected()
    private_redis.freeze()
    worker.bus.publish("a", news(1))
    async with asyncio.timeout(WAIT_SECONDS):
        await worker.bus.close()
    private_redis.thaw()


async def test_silence_is_not_taken_for_a_hang(
    private_redis: RedisServer, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_shard, "HEARTBEAT_SECONDS", 0.1)
    worker = await (await start_worker(private_redis.url)).connected()
    await asyncio.sleep(1.2 * redis_link.REDIS_SECONDS)
    assert (worker.bus.connected, worker.gaps) == (True, 0)


async def test_what_nobody_thought_of_does_not_end_the_bus(
    private_redis: RedisServer, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await start_worker(private_redis.url), await start_worker(private_redis.url)
    await asyncio.gather(ann.connected(), bob.connected())
    await bob.bus.subscribe("a", bob.hear)

    def fail(answer: object) -> None:
        monkeypatch.undo()
        raise AttributeError("a fault in the client library, say")

    [shard] = bob.bus._shards.values()
    monkeypatch.setattr(shard, "_handle", fail)
    ann.bus.publish("a", news(1))
    await until(lambda: bob.gaps == 1)
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
