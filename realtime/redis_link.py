"""A connection to one node of Redis."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import structlog
from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from realtime.redis_url import is_cluster, seed_urls

#: Seconds to wait for Redis: to connect, and to answer.
REDIS_SECONDS: Final = 2.0
#: Seconds between two attempts to reach Redis, grown by half each time up to the second one.
RECONNECT_SECONDS: Final = (0.1, 1.0)
DEFAULT_PORT: Final = 6379

Command = tuple[bytes, ...]

logger = structlog.get_logger(__name__)


class Node(NamedTuple):
    """A Redis, as it is logged. One on a socket has the path for its host."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Servers:
    """What a URL names (:mod:`realtime.redis_url`), and how to reach it."""

    def __init__(self, url: str) -> None:
        urls = seed_urls(url)
        self.clustered = is_cluster(url)
        self.seeds = tuple(_node(seed) for seed in urls)
        self._url = urls[0]

    def link(self, node: Node) -> Link:
        """A connection to that node, not opened yet."""
        url = self._url
        if self.clustered:
            host = f"[{node.host}]" if ":" in node.host else node.host
            parts = urlsplit(url)
            login, at, _ = parts.netloc.rpartition("@")
            url = parts._replace(netloc=f"{login}{at}{host}:{node.port}").geturl()
        return Link(url)


def _node(url: str) -> Node:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return Node(parts.path, 0)
    return Node(parts.hostname or "localhost", parts.port or DEFAULT_PORT)


class Link:
    """A connection that ends when it is lost: to connect again in silence would hide the gap.

    Raises ConnectionError and other RedisErrors, OSError and TimeoutError.
    """

    def __init__(self, url: str) -> None:
        # A pool that is never filled: it knows which kind of connection a URL asks for, and its options.
        pool = ConnectionPool.from_url(
            url,
            protocol=2,  # answers on one shape, whether the connection is subscribed or not
            socket_timeout=None,  # every call here has its own time
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),  # what is lost is noticed here, and tried again here
        )
        self._connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]

    async def open(self) -> None:
        async with asyncio.timeout(REDIS_SECONDS):
            await self._connection.connect()  # type: ignore[no-untyped-call]

    async def send(self, commands: Iterable[Command]) -> None:
        """Send all of them in one write. Each has its answer, in order."""
        # redis-py opens a lost connection anew when something is sent.
        if not self._connection.is_connected:
            raise ConnectionError("the connection was lost")
        async with asyncio.timeout(REDIS_SECONDS):
            packed = b"".join(pack_command(command) for command in commands)  # type: ignore[arg-type]
            await self._connection.send_packed_command(packed)

    async def answer(self) -> Any:
        """The next answer, whenever it comes. Raises ResponseError if it is one; the connection stays then."""
        return await self._connection.read_response(timeout=math.inf, push_request=True)

    async def close(self) -> None:
        await self._connection.disconnect(nowait=True)


async def keep_trying(work: Callable[[], Awaitable[None]], failed: Callable[[Exception], None]) -> None:
    """Run `work` until this task is cancelled, again after each loss of Redis, with growing pauses."""
    least, most = RECONNECT_SECONDS
    pause = least
    task = asyncio.current_task()
    assert task is not None
    while True:
        started = time.monotonic()
        try:
            await work()
        except (RedisError, OSError, TimeoutError, RuntimeError) as error:
            # RuntimeError: uvloop's, for writing to a transport that was closed meanwhile.
            failed(error)
        except Exception as error:
            logger.exception("bus.failed")
            failed(error)
        if task.cancelling():
            return  # a cancelled call of redis-py may end with another error than its cancellation
        if time.monotonic() - started > most:
            pause = least
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(most, pause * 1.5)
