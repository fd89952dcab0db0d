"""Which node holds which channel. A channel has a slot, and each slot one node; a lone Redis holds them all."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisError

from realtime.redis_link import REDIS_SECONDS, Node, Servers


@dataclass(frozen=True, slots=True)
class Layout:
    """The slots from `starts[i]` up to the next start are held by `nodes[i]`, or by nobody."""

    starts: tuple[int, ...]
    nodes: tuple[Node | None, ...]

    @classmethod
    def of(cls, ranges: Iterable[tuple[int, int, Node]]) -> Layout:
        """Of ranges of slots, each with its first and its last one."""
        starts: list[int] = []
        nodes: list[Node | None] = []
        free = 0
        for first, last, node in sorted(ranges):
            if first > free:
                starts.append(free)
                nodes.append(None)
            starts.append(first)
            nodes.append(node)
            free = last + 1
        if free < REDIS_CLUSTER_HASH_SLOTS:
            starts.append(free)
            nodes.append(None)
        return cls(tuple(starts), tuple(nodes))

    @property
    def complete(self) -> bool:
        """Whether each slot is held by somebody."""
        return None not in self.nodes

    def node_of(self, channel: bytes) -> Node | None:
        """The node that holds the channel."""
        return self.nodes[bisect_right(self.starts, key_slot(channel)) - 1]

    def losers(self, newer: Layout) -> set[Node]:
        """The nodes whose slots are not all the same in a newer layout."""
        kept = set(newer._ranges())
        return {node for range_ in self._ranges() if range_ not in kept and (node := range_[2]) is not None}

    def _ranges(self) -> Iterable[tuple[int, int, Node | None]]:
        return zip(self.starts, (*self.starts[1:], REDIS_CLUSTER_HASH_SLOTS), self.nodes, strict=True)


NOTHING_KNOWN: Final = Layout.of([])


def whole(node: Node) -> Layout:
    """The layout of a lone Redis."""
    return Layout.of([(0, REDIS_CLUSTER_HASH_SLOTS - 1, node)])


async def read_layout(servers: Servers, nodes: Iterable[Node]) -> Layout:
    """Ask the nodes until one that sees the cluster whole has answered; else what another one sees.

    A node that was cut off from the others says that the cluster fails, and what it remembers is old. Raises the
    last node's error if none answers.
    """
    second_best: Layout | None = None
    failure: Exception | None = None
    asked = list(dict.fromkeys((*nodes, *servers.seeds)))
    random.shuffle(asked)  # or all workers ask the same one
    for node in asked:
        try:
            healthy, layout = await _ask(servers, node)
        except (RedisError, OSError, TimeoutError) as error:
            failure = error
            continue
        if healthy:
            return layout
        second_best = layout
    if second_best is not None:
        return second_best
    assert failure is not None, "a URL names at least one node"
    raise failure


async def _ask(servers: Servers, node: Node) -> tuple[bool, Layout]:
    link = servers.link(node)
    try:
        async with asyncio.timeout(REDIS_SECONDS):
            await link.open()
            await link.send([(b"CLUSTER", b"INFO"), (b"CLUSTER", b"SLOTS")])
            info: bytes = await link.answer()
            return b"cluster_state:ok" in info, Layout.of(_range(entry, node) for entry in await link.answer())
    finally:
        await link.close()


def _range(entry: list[Any], asked: Node) -> tuple[int, int, Node]:
    """Of `[first, last, [host, port, …], replicas…]`. Without a host it is that of the node asked."""
    first, last, (host, port, *_), *_ = entry
    known = host not in (None, b"", b"?")
    return first, last, Node(host.decode() if known else asked.host, port)
