"""Engine.IO as this server speaks it: python-engineio, extended at a few named places.

What is relied on, beyond its documented interfaces (`tests/realtime/test_engine.py` fails if a new version
changes it):

* ``AsyncServer._handle_connect`` makes the socket of a handshake, and ``_async['websocket']`` wraps a WebSocket;
* ``AsyncSocket.poll`` empties the send queue through ``Queue.get`` once per round, and ends the writer at None;
* ``AsyncSocket.handle_post_request`` and ``_upgrade_websocket`` take what a client sends in the two transports.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qs

import engineio
import structlog
from aiohttp import WSMsgType, web
from engineio import packet as engine_packet
from engineio.async_socket import AsyncSocket

from realtime.frames import JSON, Frame
from realtime.limits import Limits, TokenBucket

#: Seconds that a connection may stay without a namespace: from the handshake to the CONNECT packet with a token,
#: and after it was made to leave. Also those from an upgrade's WebSocket to its UPGRADE packet.
CONNECT_SECONDS: Final = 20.0
#: Seconds to write what is queued when a connection is closed; after that its transport is aborted.
FLUSH_SECONDS: Final = 1.5
#: Packets in one long-polling body. A body is bounded in bytes already; this bounds empty ones.
MAX_PACKETS_PER_BODY: Final = 1_000
#: Packets in one answer to a long poll: python-engineio's own client refuses more.
MAX_PACKETS_PER_POLL: Final = 16
#: The frame limit where the setting says "no limit": what one connection may make the worker hold.
MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
#: Addresses whose handshakes are counted. When there are more, those that have been quiet are forgotten.
MAX_COUNTED_ADDRESSES: Final = 10_000
#: How many events over the limit a connection is told about before it is cut, as a multiple of its burst.
ABUSE_BURSTS: Final = 5

logger = structlog.get_logger(__name__)


class SendQueue(asyncio.Queue[Any]):
    """What is to be sent to one client, bounded in bytes. A None ends the writer.

    `get` begins a new round of writing, so what was taken before it has been written; what is taken in the
    round counts as unsent until then. Over the bound, `overflowed` is called once and everything is let go.
    """

    def __init__(self, most_bytes: int) -> None:
        super().__init__()
        self._most_bytes = most_bytes
        self._queued_bytes = 0
        self._taken_bytes = 0
        self._abandoned = False
        #: Packets in one round; 0: all there are.
        self.most_packets = 0
        self._packets_taken = 0
        self.overflowed: Callable[[], None] | None = None

    @property
    def unsent_bytes(self) -> int:
        return self._queued_bytes + self._taken_bytes

    async def get(self) -> Any:
        self._taken_bytes = 0
        self._packets_taken = 0
        return await super().get()

    def get_nowait(self) -> Any:
        """The next of this round. Raises asyncio.QueueEmpty at its end."""
        if 0 < self.most_packets <= self._packets_taken:
            raise asyncio.QueueEmpty
        item = super().get_nowait()
        self._packets_taken += 1
        return item

    def abandon(self) -> None:
        """Let everything go, now and from now on, and end the writer."""
        self._abandoned = True
        while not self.empty():
            super().get_nowait()
            self.task_done()
        self._taken_bytes = 0
        self.put_nowait(None)

    def put_nowait(self, item: Any) -> None:
        if self._abandoned and item is not None:
            return
        super().put_nowait(item)
        self._queued_bytes += _size(item)
        if self._most_bytes and self.unsent_bytes > self._most_bytes and not self._abandoned:
            self.abandon()
            if self.overflowed is not None:
                self.overflowed()

    def _get(self) -> Any:
        item = super()._get()
        size = _size(item)
        self._queued_bytes -= size
        self._taken_bytes += size
        return item


def _size(packet: Any) -> int:
    if isinstance(packet, Frame):
        return packet.size
    data = getattr(packet, "data", None)
    return len(data) if isinstance(data, str | bytes) else 0


class Socket(AsyncSocket):  # type: ignore[misc]  # python-engineio has no types
    """An Engine.IO connection: long-polling, WebSocket, or on the way from the one to the other."""

    queue: SendQueue
    upgrading: bool

    def __init__(self, server: Engine, sid: str, limits: Limits) -> None:
        super().__init__(server, sid)
        self.transport: asyncio.Transport | None = None
        self.queue.overflowed = self._cut
        self._reads_body = False
        self._events = TokenBucket(limits.events_per_second, limits.events_burst)
        self._patience = TokenBucket(limits.events_per_second, limits.events_burst * ABUSE_BURSTS)

    def may_send(self, now: float) -> bool | None:
        """Whether another event is within the limit. None: it is not, and was not for too long."""
        if self._events.take(now):
            return True
        return False if self._patience.take(now) else None

    async def poll(self) -> Any:
        """What a WebSocket's writer or a long poll takes next."""
        self.queue.most_packets = 0 if self.upgraded else MAX_PACKETS_PER_POLL
        return await super().poll()

    async def handle_post_request(self, environ: dict[str, Any]) -> None:
        """Take the packets of a body, one after the other.

        The connection ends with 400 for what is no Engine.IO payload, and for a second body before the first is
        done: its packets would overtake.
        """
        if self._reads_body:
            raise engineio.exceptions.EngineIOError("two bodies at once")
        self._reads_body = True
        try:
            for packet in await self._packets(environ["aiohttp.request"]):
                await self.receive(packet)
        except (ValueError, OSError, web.RequestPayloadError, engineio.exceptions.EngineIOError) as error:
            if not self.closed:
                raise engineio.exceptions.EngineIOError(f"malformed body: {error}") from error
        finally:
            self._reads_body = False

    async def _packets(self, request: web.Request) -> list[engine_packet.Packet]:
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > self.server.max_http_buffer_size:
                raise engineio.exceptions.ContentTooLongError
        parts = body.decode().split("\x1e")
        if len(parts) > MAX_PACKETS_PER_BODY or not all(part[:1] in _IN_BODIES for part in parts):
            raise ValueError("too many packets, or what is none")
        return [engine_packet.Packet(encoded_packet=part) for part in parts]

    async def close(self, wait: bool = True, abort: bool = False, reason: str | None = None) -> None:
        """Take leave. What is queued has FLUSH_SECONDS to be written; nobody waits for it here."""
        del wait
        if self.closing:
            return
        await super().close(wait=False, abort=abort, reason=reason)
        self.server.sockets.pop(self.sid, None)
        self.queue.put_nowait(None)
        asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._let_go)

    async def settle(self) -> None:
        """Wait until a polling client has fetched what is queued. A WebSocket's writer needs no waiting for."""
        if not self.upgraded and not self.closing:
            await self.queue.join()

    def _cut(self) -> None:
        logger.warning("connection.cut", reason="the client does not read", engine_sid=self.sid)
        self._let_go()
        self.server.start_background_task(self.close)

    def _let_go(self) -> None:
        if self.transport is not None:
            self.transport.abort()
        self.queue.abandon()

    async def _upgrade_websocket(self, environ: dict[str, Any]) -> Any:
        if self.upgrading or self.closing:
            return self.server._bad_request("Another WebSocket is on its way")
        self.upgrading = self.connected
        try:
            return await super()._upgrade_websocket(environ)
        finally:
            self.upgrading = False  # engineio leaves it set where the WebSocket ends before it says a word


class WebSocket:
    """What engineio sees of a WebSocket: `send` and `wait` for text, `close`.

    No permessage-deflate: compressing per client costs more than the bytes are worth inside a lesson.
    """

    def __init__(self, handler: Callable[[WebSocket], Awaitable[None]], server: Engine) -> None:
        self._handler = handler
        self._socket: Socket = handler.__self__  # type: ignore[attr-defined]  # engineio passes a bound method
        self._response = web.WebSocketResponse(
            max_msg_size=server.max_http_buffer_size + 1,  # aiohttp refuses at it, not above it
            compress=False,
            timeout=FLUSH_SECONDS,
        )

    async def __call__(self, environ: dict[str, Any]) -> web.StreamResponse:
        request: web.Request = environ["aiohttp.request"]
        socket = self._socket
        try:
            await self._response.prepare(request)
            socket.transport = request.transport
            await self._handler(self)
        except ConnectionError:
            pass  # it went before its first answer
        finally:
            socket.transport = None
            if socket.closed:
                socket.queue.abandon()
        return self._response if self._response.prepared else web.Response(status=400)

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self._response.send_str(message)
        else:
            await self._response.send_bytes(message)

    async def wait(self) -> str | bytes:
        """The next packet. OSError, as engineio expects, at the end and for what cannot be one."""
        try:
            message = await self._response.receive(timeout=None if self._socket.upgraded else CONNECT_SECONDS)
        except TimeoutError as error:
            raise OSError("the upgrade came to nothing") from error
        if message.type is WSMsgType.TEXT and message.data[:1] in _ENGINE_PACKET_TYPES:
            return str(message.data)
        if message.type is WSMsgType.BINARY:
            return bytes(message.data)
        raise OSError("the WebSocket is closed, or what came is no Engine.IO packet")

    async def close(self) -> None:
        await self._response.close()


_ENGINE_PACKET_TYPES: Final = frozenset("0123456")
#: Bytes come in bodies as text.
_IN_BODIES: Final = _ENGINE_PACKET_TYPES | {"b"}


class Engine(engineio.AsyncServer):  # type: ignore[misc]  # python-engineio has no types
    """The Engine.IO server, with limits at its entrance."""

    _async: dict[str, Any]
    start_service_task: bool

    def __init__(
        self,
        *,
        limits: Limits,
        address_of: Callable[[web.Request], str],
        worker: int | None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._sid_prefix = sid_prefix(worker)
        self._limits = limits
        self._address_of = address_of
        self._handshakes: dict[str, TokenBucket] = {}
        self.draining = False
        self._async = {**self._async, "websocket": WebSocket}

    def create_queue(self, *_: Any, **__: Any) -> SendQueue:
        return SendQueue(self._limits.unsent_bytes)

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        """One HTTP request of either transport. New connections are refused while draining, or too many."""
        query = parse_qs(request.query_string)  # as engineio reads it: an empty sid is none
        sid = query["sid"][0] if "sid" in query else None
        if not self.cors_allowed_origins(request.headers.get("Origin"), {"HTTP_HOST": request.headers.get("Host")}):
            return _refused(403, "origin_refused", "Pages of this origin may not connect here.")
        if "j" in query:
            return _refused(400, "jsonp_refused", "Engine.IO 4 has no JSONP.")
        if sid is not None and not sid.startswith(self._sid_prefix):
            # A browser reused a connection to this worker; a new one finds the way (`server.workers`).
            again = web.Response(status=307, headers={"Location": request.raw_path})
            again.force_close()
            return again
        if sid is None and request.method == "GET":
            if self.draining:
                return _refused(503, "draining", "This worker is leaving; connect again.", retry_after=1)
            if not self._may_shake_hands(self._address_of(request)):
                message = "Too many connections from this address; try again shortly."
                return _refused(429, "too_many_requests", message, retry_after=1)
        response: web.StreamResponse = await super().handle_request(request)
        return response

    def generate_id(self) -> str:
        return self._sid_prefix + str(super().generate_id())

    def _may_shake_hands(self, address: str) -> bool:
        rate = self._limits.handshakes_per_second
        if not rate:
            return True
        now = time.monotonic()
        bucket = self._handshakes.pop(address, None) or TokenBucket(rate, rate)
        self._handshakes[address] = bucket  # last in the order: the quiet ones are first
        if len(self._handshakes) > MAX_COUNTED_ADDRESSES:
            del self._handshakes[next(iter(self._handshakes))]
        return bucket.take(now)

    async def _handle_connect(self, environ: dict[str, Any], transport: str, jsonp_index: int | None = None) -> Any:
        """A handshake: the socket, its OPEN packet, and the first exchange of its transport."""
        if self.start_service_task:
            self.start_service_task = False
            self.service_task_handle = self.start_background_task(self._service_task)
        sid = self.generate_id()
        socket = self.sockets[sid] = Socket(self, sid, self._limits)
        opening = {
            "sid": sid,
            "upgrades": self._upgrades(sid, transport),
            "pingInterval": int(self.ping_interval * 1000),
            "pingTimeout": int(self.ping_timeout * 1000),
            "maxPayload": self.max_http_buffer_size,
        }
        await socket.send(engine_packet.Packet(engine_packet.OPEN, opening))
        await self._trigger_event("connect", sid, environ, run_async=False)
        socket.schedule_ping()
        if transport == "websocket":
            try:
                response = await socket.handle_get_request(environ)
            finally:
                await socket.close(abort=True, reason=self.reason.TRANSPORT_ERROR)
            return self._bad_request() if isinstance(response, list) else response
        socket.connected = True
        return self._ok(await socket.poll(), jsonp_index=jsonp_index)


def sid_prefix(worker: int | None) -> str:
    """What the connection ids of a worker begin with, so that its requests find it where several share a port."""
    return "" if worker is None else f"w{worker}."


def _refused(status: int, code: str, message: str, *, retry_after: int | None = None) -> web.Response:
    document = {"error": code, "message": message, "status_code": status}
    return web.Response(
        status=status,
        text=JSON.dumps(document),
        content_type="application/json",
        headers={} if retry_after is None else {"Retry-After": str(retry_after)},
    )
