"""A real Redis Cluster on loopback: three nodes that share the slots, and as many replicas as a test asks for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from redis import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisError

from tests.support.processes import HOST, POLL_SECONDS, START_SECONDS, free_port
from tests.support.redis import RedisServer

NODES: Final = 3


class ClusterNode(RedisServer):
    """One node. It remembers the cluster in its folder when it starts again."""

    def __init__(self, folder: Path, node_timeout_ms: int) -> None:
        folder.mkdir()
        self.cluster_port = free_port()
        super().__init__(
            folder,
            cluster_enabled="yes",
            cluster_config_file="nodes.conf",
            cluster_port=self.cluster_port,
            cluster_node_timeout=node_timeout_ms,
            repl_diskless_sync_delay=0,
        )
        self._client = Redis(host=HOST, port=self.port, socket_timeout=START_SECONDS)

    def ask(self, *command: str | int | bytes) -> Any:
        """The node's own answer to a command; nothing is redirected."""
        return self._client.execute_command(*command)  # type: ignore[no-untyped-call]

    @property
    def id(self) -> str:
        identity: bytes = self.ask("CLUSTER", "MYID")
        return identity.decode()

    def info(self) -> dict[str, str]:
        """What it thinks of the cluster."""
        answer: dict[str, str] = self.ask("CLUSTER INFO")
        return answer

    def port_of(self, slot: int) -> int | None:
        """The port of the node that holds the slot, as this one has heard."""
        for first, last, (_, port, *_), *_ in self.ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return int(port)
        return None

    def replicas_of(self, primary: ClusterNode) -> int:
        """How many replicas of the primary this node has heard of."""
        return max(
            (len(replicas) for _, _, (_, port, *_), *replicas in self.ask("CLUSTER", "SLOTS") if port == primary.port),
            default=0,
        )

    def follows_its_primary(self) -> bool:
        """Of a replica: whether it has what its primary has."""
        return bool(self.ask("INFO", "replication").get("master_link_status") == "up")

    def listeners(self, channel: str) -> int:
        """How many connections here follow the channel."""
        [_, count] = self.ask("PUBSUB", "SHARDNUMSUB", channel)
        return int(count)

    def calls(self, command: str) -> int:
        """How often the command was called here."""
        statistics: dict[str, dict[str, int]] = self.ask("INFO", "commandstats")
        return statistics.get(f"cmdstat_{command}", {"calls": 0})["calls"]

    def close(self) -> None:
        self.kill()
        self._client.close()


class RedisCluster:
    """The nodes, each with a third of the slots, and the first node's replicas."""

    def __init__(self, folder: Path, *, replicas: int = 0, node_timeout_ms: int = 5_000) -> None:
        nodes = [ClusterNode(folder / f"node-{number}", node_timeout_ms) for number in range(NODES + replicas)]
        self.nodes, self.replicas = nodes[:NODES], nodes[NODES:]
        self.url = "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes)

    def start(self) -> None:
        """Start and join them, and return when each of them sees the cluster whole."""
        everybody = [*self.nodes, *self.replicas]
        for node in everybody:
            node.start()
        share = REDIS_CLUSTER_HASH_SLOTS // NODES
        for number, node in enumerate(self.nodes):
            last = REDIS_CLUSTER_HASH_SLOTS - 1 if number == NODES - 1 else (number + 1) * share - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", number * share, last)
        for number, node in enumerate(everybody):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number:
                self.nodes[0].ask("CLUSTER", "MEET", HOST, node.port, node.cluster_port)
        wait_until(lambda: all(node.info()["cluster_known_nodes"] == str(len(everybody)) for node in everybody))
        primary = self.nodes[0].id
        wait_until(lambda: all(_accepted(replica, "CLUSTER", "REPLICATE", primary) for replica in self.replicas))
        wait_until(lambda: all(node.info()["cluster_state"] == "ok" for node in everybody))
        wait_until(lambda: all(replica.follows_its_primary() for replica in self.replicas))
        wait_until(lambda: all(node.replicas_of(self.nodes[0]) == len(self.replicas) for node in everybody))

    def close(self) -> None:
        for node in (*self.nodes, *self.replicas):
            node.close()

    def holder(self, channel: str) -> ClusterNode:
        """The node that holds the channel, once all of them have heard of it."""
        slot = key_slot(channel.encode())
        wait_until(lambda: len({node.port_of(slot) for node in self.nodes}) == 1)
        port = self.nodes[0].port_of(slot)
        return next(node for node in self.nodes if node.port == port)

    def others(self, than: ClusterNode) -> list[ClusterNode]:
        return [node for node in self.nodes if node is not than]

    def move(self, channel: str, to: ClusterNode) -> None:
        """Give the channel's slot to another node, as redis-cli does. All nodes know of it when this returns."""
        slot, source = key_slot(channel.encode()), self.holder(channel)
        # The new owner takes the next epoch. One that has not heard of the last would take the same as another node.
        wait_until(lambda: len({node.info()["cluster_current_epoch"] for node in self.nodes}) == 1)
        to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)
        for node in (to, source, *(other for other in self.nodes if other not in (to, source))):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", to.id)

    def listeners(self, channel: str) -> int:
        """How many connections follow the channel, at any node."""
        return sum(node.listeners(channel) for node in self.nodes)

    def calls(self, command: str) -> int:
        """How often the command was called, at all nodes."""
        return sum(node.calls(command) for node in self.nodes)


def wait_until(condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    """Wait until `condition()`. Raises TimeoutError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the cluster is not as it should be")
        time.sleep(POLL_SECONDS)


def _accepted(node: ClusterNode, *command: str) -> bool:
    try:
        node.ask(*command)
    except RedisError:
        return False
    return True
