"""Engine.IO as this server speaks it: python-engineio's server, with connections of our own.

python-engineio reads and answers the HTTP requests of both transports and keeps the table of connections. A connection
itself is a :class:`realtime.socket.Socket`.

What is relied on, beyond documented interfaces (`tests/realtime/test_engine.py` fails if a new version changes it):

* ``AsyncServer._handle_connect`` makes the socket of a handshake;
* ``AsyncServer.handle_request`` asks a socket for ``connected``, ``upgraded`` and ``closed``, and gives it requests by
  ``handle_get_request`` (which answers packets or a response) and ``handle_post_request``;
* ``AsyncServer.send_packet`` and ``disconnect`` use a socket's ``send`` and ``close``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import lru_cache
from secrets import token_urlsafe
from typing import Any, Final
from urllib.parse import parse_qs

import engineio
from aiohttp import web

from realtime.frames import JSON, Frame
from realtime.handshake import NoHandshake
from realtime.heartbeat import Heartbeat
from realtime.limits import Limits, TokenBucket
from realtime.refusals import no_websocket, refused
from realtime.socket import Socket, Take
from realtime.websocket import Writer

#: Random bytes in the id of a connection: it is what a polling client shows for a credential.
ID_BYTES: Final = 15
#: The frame limit where the setting says "no limit": what one connection may make the worker hold.
MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
#: Addresses whose handshakes are counted. When there are more, those that have been quiet are forgotten.
MAX_COUNTED_ADDRESSES: Final = 10_000


class Engine(engineio.AsyncServer):  # type: ignore[misc]  # python-engineio has no types
    """The Engine.IO server, with limits at its entrance. Messages go to `take`, which is set by the layer above."""

    def __init__(
        self,
        *,
        limits: Limits,
        address_of: Callable[[web.Request], str],
        worker: int | None,
        deflate: bool,
        **options: Any,
    ) -> None:
        super().__init__(monitor_clients=False, **options)
        self.limits = limits
        self.deflate = deflate
        self.take: Take = lambda socket, message: False
        #: Whether a packet may be acted on while earlier ones of which this is true are under way.
        self.together: Callable[[str], bool] = lambda packet: False
        self.heartbeat = Heartbeat(self.ping_interval, self.ping_timeout)
        self.writer = Writer()
        self.draining = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sid_prefix = sid_prefix(worker)
        self._address_of = address_of
        self._handshakes: dict[str, TokenBucket] = {}

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        """One HTTP request of either transport. New connections are refused while draining, or too many."""
        query = _query_of(request.query_string)
        sid = query["sid"][0] if "sid" in query else None
        if not self.cors_allowed_origins(request.headers.get("Origin"), {"HTTP_HOST": request.headers.get("Host")}):
            return refused(403, "origin_refused", "Pages of this origin may not connect here.")
        if "j" in query:
            return refused(400, "jsonp_refused", "Engine.IO 4 has no JSONP.")
        if sid is not None and not sid.startswith(self._sid_prefix):
            # A browser reused a connection to this worker; a new one finds the way (`server.workers`).
            again = web.Response(status=307, headers={"Location": request.raw_path})
            again.force_close()
            return again
        if sid is None and request.method == "GET":
            if self.draining:
                return refused(503, "draining", "This worker is leaving; connect again.", retry_after=1)
            if not self._may_shake_hands(self._address_of(request)):
                message = "Too many connections from this address; try again shortly."
                return refused(429, "too_many_requests", message, retry_after=1)
            if query.get("EIO") == ["4"] and query.get("transport") == ["websocket"]:
                opened: web.StreamResponse = await self._handle_connect(_environ_of(request), "websocket")
                return opened
        response: web.StreamResponse = await super().handle_request(request)
        return response

    def start_background_task(
        self, target: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kwargs: Any
    ) -> asyncio.Task[Any]:
        """Run a coroutine function as a task, which is held until it is done."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        task = self._loop.create_task(target(*args, **kwargs))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def shutdown(self) -> None:
        """End, when those who take leave have heard the last of it."""
        await super().shutdown()
        await self.writer.settle()

    def generate_id(self) -> str:
        return self._sid_prefix + token_urlsafe(ID_BYTES)

    def _may_shake_hands(self, address: str) -> bool:
        rate = self.limits.handshakes_per_second
        if not rate:
            return True
        now = time.monotonic()
        bucket = self._handshakes.pop(address, None) or TokenBucket(rate, rate)
        self._handshakes[address] = bucket  # last in the order: the quiet ones are first
        if len(self._handshakes) > MAX_COUNTED_ADDRESSES:
            del self._handshakes[next(iter(self._handshakes))]
        return bucket.take(now)

    async def _handle_connect(self, environ: dict[str, Any], transport: str, jsonp_index: int | None = None) -> Any:
        """A handshake: the connection, its OPEN packet, and the first exchange of its transport."""
        request: web.Request = environ["aiohttp.request"]
        sid = self.generate_id()
        socket = self.sockets[sid] = Socket(self, sid)
        response: web.StreamResponse | None = None
        if transport == "websocket":
            try:
                response = socket.open(request)
            except (NoHandshake, ConnectionError) as error:
                del self.sockets[sid]
                return no_websocket(error)
        opening = {
            "sid": sid,
            "upgrades": self._upgrades(sid, transport),
            "pingInterval": int(self.ping_interval * 1000),
            "pingTimeout": int(self.ping_timeout * 1000),
            "maxPayload": self.max_http_buffer_size,
        }
        await self._trigger_event("connect", sid, environ, run_async=False)
        socket.connected = True
        if not socket.closing:
            self.heartbeat.answered(socket)
        socket.put(Frame(b"0" + JSON.dumps(opening).encode()))
        if response is not None:
            assert socket.websocket is not None
            socket.websocket.begin()
            return response
        return self._ok(await socket.poll(request), jsonp_index=jsonp_index)


@lru_cache(maxsize=64)  # nearly all WebSockets are asked for by the same query
def _query_of(query_string: str) -> dict[str, list[str]]:
    """As engineio reads it: an empty sid is none."""
    return parse_qs(query_string)


def _environ_of(request: web.Request) -> dict[str, Any]:
    """What handlers are told of a handshake, as python-engineio words it; of the headers just the token's."""
    environ = {
        "aiohttp.request": request,
        "REQUEST_METHOD": request.method,
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query_string,
    }
    bearer = request.headers.get("Authorization")
    if bearer is not None:
        environ["HTTP_AUTHORIZATION"] = bearer
    return environ


def sid_prefix(worker: int | None) -> str:
    """What the connection ids of a worker begin with, so that its requests find it where several share a port."""
    return "" if worker is None else f"w{worker}."
