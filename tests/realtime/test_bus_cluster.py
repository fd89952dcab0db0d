"""The bus through a Redis Cluster: each channel at the node that holds it, whatever becomes of that node."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from realtime import redis_link, redis_shard
from realtime.bus import Deliver
from realtime.redis_layout import NOTHING_KNOWN, Layout, whole
from realtime.redis_link import Node, Servers
from realtime.redis_url import seed_urls
from tests.support.buses import PREFIX, StartWorker, Worker, news, workers
from tests.support.cluster import ClusterNode, RedisCluster, wait_until
from tests.support.processes import HOST, free_port
from tests.support.waiting import until

CHANNELS = [f"session:{number}" for number in range(30)]


@pytest.fixture
async def start_worker() -> AsyncIterator[StartWorker]:
    """Starts any number of buses on a cluster."""
    async with workers() as start:
        yield start


@pytest.fixture(scope="module")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    cluster = RedisCluster(tmp_path_factory.mktemp("redis-cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def cluster(running_cluster: RedisCluster) -> RedisCluster:
    """A running cluster. Its slots may be anywhere; its nodes run, and are to run when the test ends."""
    for node in running_cluster.nodes:
        node.ask("CONFIG", "RESETSTAT")
    return running_cluster


def channel_at(cluster: RedisCluster, node: ClusterNode) -> str:
    """A channel that the node holds."""
    return next(one for one in map(str, range(1_000)) if cluster.holder(PREFIX + one) is node)


async def pair(start_worker: StartWorker, url: str) -> tuple[Worker, Worker]:
    ann, bob = await start_worker(url), await start_worker(url)
    await asyncio.gather(ann.connected(), bob.connected())
    return ann, bob


async def said_and_heard(speaker: Worker, channel: str, hearer: Worker, first: int) -> None:
    """Wait until what the one says there reaches the other: from `first` on, again and again."""
    number = first

    def arrived() -> bool:
        nonlocal number
        speaker.bus.publish(channel, news(number))
        number += 1
        return any(seq is not None and seq >= first for seq in hearer.heard)

    await until(arrived)


# All well


async def test_channels_of_all_nodes_reach_the_other_worker_in_order(
    cluster: RedisCluster, start_worker: StartWorker
) -> None:
    ann, bob = await pair(start_worker, cluster.url)
    heard: dict[str, list[int | None]] = {channel: [] for channel in CHANNELS}

    def hearer(channel: str) -> Deliver:
        return lambda event: heard[channel].append(event.seq)

    await asyncio.gather(*(bob.bus.subscribe(channel, hearer(channel)) for channel in CHANNELS))
    assert len({cluster.holder(PREFIX + channel) for channel in CHANNELS}) == 3
    for number in range(200):
        for channel in CHANNELS:
            ann.bus.publish(channel, news(number, "x" * (number % 97)))
        if number % 13 == 0:
            await asyncio.sleep(0)
    await until(lambda: all(len(seqs) == 200 for seqs in heard.values()))
    assert all(seqs == list(range(200)) for seqs in heard.values())


async def test_a_channel_is_followed_at_its_node_and_nowhere_else(
    cluster: RedisCluster, start_worker: StartWorker
) -> None:
    worker = await (await start_worker(cluster.url)).connected()
    await worker.bus.subscribe("a", worker.hear)
    holder = cluster.holder(PREFIX + "a")
    assert holder.listeners(PREFIX + "a") == 1, "once the call returns, others are heard"
    assert [node.listeners(PREFIX + "a") for node in cluster.others(holder)] == [0, 0]
    worker.bus.unsubscribe("a")
    await until(lambda: cluster.listeners(PREFIX + "a") == 0)


async def test_a_worker_is_sent_nothing_that_it_did_not_subscribe_to(
    cluster: RedisCluster, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await pair(start_worker, cluster.url)
    eve = await (await start_worker(cluster.url)).connected()
    sent: list[bytes] = []
    monkeypatch.setattr(eve.bus, "heard", lambda channel, data: sent.append(channel))
    await bob.bus.subscribe("a", bob.hear)
    await eve.bus.subscribe("b", eve.hear)
    for number in range(100):
        ann.bus.publish("a", news(number))
    ann.bus.publish("b", news(100))
    await until(lambda: len(bob.heard) == 100 and bool(sent))
    assert sent == [f"{PREFIX}b".encode()]


async def test_many_events_share_a_round_trip_at_each_node(cluster: RedisCluster, start_worker: StartWorker) -> None:
    ann, bob = await pair(start_worker, cluster.url)
    await asyncio.gather(*(bob.bus.subscribe(channel, bob.hear) for channel in CHANNELS))
    for node in cluster.nodes:
        node.ask("CONFIG", "RESETSTAT")
    for number in range(3_000):
        ann.bus.publish(CHANNELS[number % len(CHANNELS)], news(number))
    await until(lambda: len(bob.heard) == 3_000)
    assert cluster.calls("spublish") == 3_000
    assert cluster.calls("publish") == 0
    reads = [node.ask("INFO", "stats")["total_reads_processed"] for node in cluster.nodes]
    assert sum(reads) < 100, "bytes are read in pieces of 16 KiB, and each node has its heartbeats besides"


async def test_a_dead_seed_does_not_matter(cluster: RedisCluster, start_worker: StartWorker) -> None:
    url = f"redis+cluster://{HOST}:{free_port()},{HOST}:{cluster.nodes[1].port}"
    ann, bob = await pair(start_worker, url)
    await bob.bus.subscribe("a", bob.hear)
    ann.bus.publish("a", news(1))
    await until(lambda: bob.heard == [1])


async def test_user_password_and_options_hold_for_every_node(cluster: RedisCluster, start_worker: StartWorker) -> None:
    for node in cluster.nodes:
        node.ask(
            "ACL",
            "SETUSER",
            "bus",
            "on",
            ">pass word",
            "&test:*",
            "+ssubscribe",
            "+sunsubscribe",
            "+spublish",
            "+ping",
            "+cluster|slots",
            "+cluster|info",
            "+client|setname",
        )
    url = cluster.url.replace("://", "://bus:pass%20word@") + "/0?client_name=encounters"
    worker = await (await start_worker(url)).connected()
    await asyncio.gather(*(worker.bus.subscribe(channel, worker.hear) for channel in CHANNELS))
    for node in cluster.nodes:
        assert "encounters" in [client["name"] for client in node.ask("CLIENT LIST")]
        node.ask("ACL", "DELUSER", "bus")


# Away


async def test_a_cluster_that_is_not_there_holds_nobody_up(
    start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_shard, "MAX_WAITING_EVENTS", 100)
    worker = await start_worker(f"redis+cluster://{HOST}:{free_port()},{HOST}:{free_port()}")
    started = time.monotonic()
    await worker.bus.subscribe("a", worker.hear)
    for number in range(1_000):
        worker.bus.publish("a", news(number))
    assert time.monotonic() - started < redis_link.REDIS_SECONDS / 2
    assert worker.heard == list(range(1_000)), "on this worker everything goes on"
    assert len(worker.bus._homeless) <= 100
    assert not worker.bus.connected


async def test_a_lone_redis_is_no_cluster(redis_url: str, start_worker: StartWorker) -> None:
    worker = await start_worker(redis_url.replace("redis://", "redis+cluster://"))
    await worker.bus.subscribe("a", worker.hear)
    worker.bus.publish("a", news(1))
    assert worker.heard == [1]
    assert not worker.bus.connected


async def test_what_was_wanted_and_said_before_the_cluster_was_reached_is_not_lost(
    cluster: RedisCluster, start_worker: StartWorker
) -> None:
    bob = await (await start_worker(cluster.url)).connected()
    await bob.bus.subscribe("a", bob.hear)
    ann = await start_worker(cluster.url)
    await ann.bus.subscribe("b", ann.hear)
    for number in range(1_000):
        ann.bus.publish("a", news(number))
    await until(lambda: bob.heard == list(range(1_000)))
    await ann.connected()
    assert cluster.listeners(PREFIX + "b") == 1


async def test_a_node_that_dies_is_a_gap_and_the_others_go_on(cluster: RedisCluster, start_worker: StartWorker) -> None:
    ann, bob = await pair(start_worker, cluster.url)
    dying, living = cluster.nodes[0], cluster.nodes[1]
    lost, kept = channel_at(cluster, dying), channel_at(cluster, living)
    late = next(one for one in map(str, range(1_000, 2_000)) if cluster.holder(PREFIX + one) is dying)
    for channel in (lost, kept):
        await bob.bus.subscribe(channel, bob.hear)
    dying.kill()
    try:
        await until(lambda: not bob.bus.connected and not ann.bus.connected)
        assert bob.gaps == 0, "not before others are heard again"
        started = time.monotonic()
        await bob.bus.subscribe(late, bob.hear)
        assert time.monotonic() - started < redis_link.REDIS_SECONDS / 2, "nobody waits for a node that is away"
        ann.bus.publish(kept, news(1))
        await until(lambda: 1 in bob.heard)
    finally:
        dying.start()
    await until(lambda: ann.bus.connected and bob.bus.connected)
    assert bob.gaps == 1
    assert [dying.listeners(PREFIX + channel) for channel in (lost, late)] == [1, 1]
    ann.bus.publish(lost, news(2))
    ann.bus.publish(late, news(3))
    await until(lambda: {2, 3} <= set(bob.heard))


async def test_a_node_that_hangs_holds_up_nothing_but_its_own_channels(
    cluster: RedisCluster, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_shard, "HEARTBEAT_SECONDS", 0.1)
    ann, bob = await pair(start_worker, cluster.url)
    hanging, living = cluster.nodes[0], cluster.nodes[1]
    lost, kept = channel_at(cluster, hanging), channel_at(cluster, living)
    for channel in (lost, kept):
        await bob.bus.subscribe(channel, bob.hear)
    monkeypatch.setattr(redis_link, "REDIS_SECONDS", 5.0)
    hanging.freeze()
    try:
        for number in range(50):
            ann.bus.publish(lost, news(number))
            ann.bus.publish(kept, news(1_000 + number))
        await until(lambda: bob.heard == list(range(1_000, 1_050)), 0.8 * redis_link.REDIS_SECONDS)
        await until(lambda: not bob.bus.connected and not ann.bus.connected)
    finally:
        hanging.thaw()
    await until(lambda: ann.bus.connected and bob.bus.connected)
    assert bob.gaps == 1
    await said_and_heard(ann, lost, bob, 2_000)


# Slots on the move


async def test_a_channel_whose_slot_moves_is_followed_to_its_new_node(
    cluster: RedisCluster, start_worker: StartWorker
) -> None:
    ann, bob = await pair(start_worker, cluster.url)
    await bob.bus.subscribe("moving", bob.hear)
    await bob.bus.subscribe("staying", bob.hear)
    source = cluster.holder(PREFIX + "moving")
    [target, _] = cluster.others(source)
    cluster.move(PREFIX + "moving", target)
    assert source.listeners(PREFIX + "moving") == 0, "the node has dropped its listeners"
    await until(lambda: bob.gaps == 1)
    assert bob.bus.connected
    assert target.listeners(PREFIX + "moving") == 1, "the gap is told of once others are heard again"
    for number, channel in enumerate(("moving", "staying")):
        ann.bus.publish(channel, news(number))
    await until(lambda: set(bob.heard) == {0, 1})


async def test_nothing_overtakes_while_slots_move(cluster: RedisCluster, start_worker: StartWorker) -> None:
    ann, bob = await pair(start_worker, cluster.url)
    await bob.bus.subscribe("moving", bob.hear)
    number = 0

    async def speak() -> None:
        nonlocal number
        while True:
            for _ in range(5):
                ann.bus.publish("moving", news(number))
                number += 1
            await asyncio.sleep(0.001)

    speaking = asyncio.create_task(speak())
    for _ in range(6):
        before = bob.gaps
        source = cluster.holder(PREFIX + "moving")
        cluster.move(PREFIX + "moving", random.choice(cluster.others(source)))
        await until(lambda before=before: bob.gaps > before and bob.bus.connected)  # type: ignore[misc]
        mark = number
        await until(lambda mark=mark: bool(bob.heard) and (bob.heard[-1] or 0) > mark)  # type: ignore[misc]
    speaking.cancel()
    await asyncio.gather(speaking, return_exceptions=True)
    await until(lambda: bob.heard[-1] == number - 1)
    seqs = [seq for seq in bob.heard if seq is not None]
    assert seqs == sorted(set(seqs))


async def test_a_slot_that_moved_unnoticed_is_found_by_subscribers_and_publishers(
    cluster: RedisCluster, start_worker: StartWorker
) -> None:
    ann, bob = await pair(start_worker, cluster.url)
    source = cluster.holder(PREFIX + "quiet")
    cluster.move(PREFIX + "quiet", cluster.others(source)[1])
    assert ann.bus._shard_of(f"{PREFIX}quiet".encode()) is ann.bus._shards[Node(HOST, source.port)], "by old news"
    await bob.bus.subscribe("quiet", bob.hear)
    await until(lambda: cluster.listeners(PREFIX + "quiet") == 1 and bob.bus.connected)
    for number in range(10):
        ann.bus.publish("quiet", news(number))
    await until(lambda: bob.heard == list(range(10)))


async def test_however_slots_and_subscriptions_change_in_the_end_each_wish_holds(
    cluster: RedisCluster, start_worker: StartWorker
) -> None:
    ann, bob = await pair(start_worker, cluster.url)
    chance = random.Random(11)
    channels = [f"c{number}" for number in range(16)]
    wanted: set[str] = set()
    moved: set[str] = set()
    for _ in range(80):
        channel = chance.choice(channels)
        # Once each: nodes that are told of the same slot again and again may disagree about it for long.
        if channel not in moved and chance.random() < 0.3:
            moved.add(channel)
            source = cluster.holder(PREFIX + channel)
            cluster.move(PREFIX + channel, chance.choice(cluster.others(source)))
        elif channel in wanted:
            wanted.remove(channel)
            bob.bus.unsubscribe(channel)
        else:
            wanted.add(channel)
            await bob.bus.subscribe(channel, bob.hear)
        ann.bus.publish(channel, news(-1))
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
    await until(lambda: bob.bus.connected)
    await until(lambda: {channel for channel in channels if cluster.listeners(PREFIX + channel) == 1} == wanted)
    for number, channel in enumerate(channels):
        if channel in wanted:
            await said_and_heard(ann, channel, bob, 1_000 * (number + 1))
    assert sum(len(shard._wanted) for shard in bob.bus._shards.values()) == len(wanted)


async def test_whoever_takes_over_is_followed(tmp_path: Path, start_worker: StartWorker) -> None:
    cluster = RedisCluster(tmp_path, replicas=1, node_timeout_ms=1_000)
    try:
        cluster.start()
        ann, bob = await pair(start_worker, cluster.url)
        primary, [replica] = cluster.nodes[0], cluster.replicas
        channel = channel_at(cluster, primary)
        await bob.bus.subscribe(channel, bob.hear)

        replica.ask("CLUSTER", "FAILOVER")  # the primary steps down
        await until(lambda: replica.listeners(PREFIX + channel) == 1 and ann.bus.connected and bob.bus.connected)
        assert bob.gaps >= 1
        await said_and_heard(ann, channel, bob, 1)

        await asyncio.to_thread(wait_until, lambda: primary.follows_its_primary() and _all_know(cluster))
        before = bob.gaps
        replica.kill()  # and takes over again
        await until(lambda: not bob.bus.connected)
        await until(lambda: ann.bus.connected and bob.bus.connected)
        assert bob.gaps > before
        assert primary.listeners(PREFIX + channel) == 1
        await said_and_heard(ann, channel, bob, 1_000)
    finally:
        cluster.close()


def _all_know(cluster: RedisCluster) -> bool:
    return all(node.replicas_of(cluster.replicas[0]) == 1 for node in (*cluster.nodes, *cluster.replicas))


# Addresses and slots


def test_a_url_of_a_cluster_names_each_node_with_everything_else() -> None:
    assert seed_urls("redis://h:1/2") == ["redis://h:1/2"]
    assert seed_urls("redis+cluster://h") == ["redis://h"]
    assert seed_urls("rediss+cluster://u:p,@a:1,[::1]:2/0?x=y,z") == [
        "rediss://u:p,@a:1/0?x=y,z",
        "rediss://u:p,@[::1]:2/0?x=y,z",
    ]
    servers = Servers("redis+cluster://u:p@a:1,[::1]:2,c")
    assert servers.seeds == (Node("a", 1), Node("::1", 2), Node("c", 6379))
    assert Servers("unix:///run/redis.sock").seeds == (Node("/run/redis.sock", 0),)


def test_a_layout_knows_the_node_of_each_slot_and_what_nobody_holds() -> None:
    a, b = Node("h", 1), Node("h", 2)
    layout = Layout.of([(100, 199, b), (0, 49, a), (200, REDIS_CLUSTER_HASH_SLOTS - 1, a)])
    assert not layout.complete
    names = {key_slot(name): name for name in (str(number).encode() for number in range(200_000))}
    for slot, node in ((0, a), (49, a), (50, None), (99, None), (100, b), (199, b), (200, a), (16_383, a)):
        assert layout.node_of(names[slot]) == node
    assert Layout.of([(0, 99, a), (100, 16_383, b)]).complete
    assert whole(a).complete
    assert not NOTHING_KNOWN.complete


def test_a_newer_layout_says_who_has_lost_slots() -> None:
    a, b, c = (Node("h", port) for port in range(3))
    before = Layout.of([(0, 99, a), (100, 199, b), (200, 16_383, c)])
    assert before.losers(before) == set()
    assert before.losers(Layout.of([(0, 98, a), (99, 199, b), (200, 16_383, c)])) == {a, b}, "b's range is another"
    assert NOTHING_KNOWN.losers(before) == set()
