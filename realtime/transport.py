"""Socket.IO as this server speaks it: python-socketio on python-engineio, extended at a few named places.

What is relied on of them, beyond their documented interfaces (`tests/realtime/test_transport.py` fails if a
new version changes it):

* ``AsyncServer._engineio_server_class`` gives our :class:`Engine`;
* ``AsyncServer._handle_eio_message`` receives each Engine.IO message, ``_handle_event_internal`` each event;
* engineio's ``_handle_connect`` makes the socket of a handshake, and ``_async['websocket']`` wraps a WebSocket;
* ``AsyncSocket.poll`` empties the send queue through ``Queue.get`` once per round.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

import engineio
import socketio
import structlog
from aiohttp import WSMsgType, web
from engineio import packet as engine_packet
from engineio.async_socket import AsyncSocket
from engineio.payload import Payload
from socketio import packet as socket_packet

from realtime.events import Event
from realtime.frames import JSON, NAMESPACE, Frame, ack_frame, event_frame
from realtime.limits import Limits, TokenBucket

#: Seconds from the handshake to the CONNECT packet with a token; after that the connection is cut.
CONNECT_SECONDS: Final = 20.0
#: Seconds to write what is queued before a connection is closed.
FLUSH_SECONDS: Final = 2.0
#: Packets in one long-polling body. A body is bounded in bytes already; this bounds empty ones.
MAX_PACKETS_PER_BODY: Final = 1_000
#: The frame limit where the setting says "no limit": what one connection may make the worker hold.
MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
#: Addresses whose handshakes are counted. When there are more, those that have been quiet are forgotten.
MAX_COUNTED_ADDRESSES: Final = 10_000
#: How many events over the limit a connection is told about before it is cut, as a multiple of its burst.
ABUSE_BURSTS: Final = 5

logger = structlog.get_logger(__name__)

Payload.max_decode_packets = MAX_PACKETS_PER_BODY


class Refusal(Exception):
    """A handshake or connect that is refused with this document (`{error, message, status_code}`)."""

    def __init__(self, document: dict[str, Any], *, retry_after: int | None = None) -> None:
        super().__init__(document.get("message", ""))
        self.document = document
        self.retry_after = retry_after


class Handler(Protocol):
    """The door behind the transport. Handlers of one connection run one after the other, in the order sent."""

    async def connected(self, connection: Connection, token: str | None, environ: dict[str, Any]) -> None:
        """Authenticate. Raises Refusal."""

    async def received(self, connection: Connection, name: str, payload: list[Any]) -> Reply:
        """Act on an event, and answer."""

    def refused(self, status_code: int, code: str, message: str) -> dict[str, Any]:
        """The ack of an event that never reaches :meth:`received`."""

    async def disconnected(self, connection: Connection, reason: str) -> None: ...


class Reply:
    """The ack's document, and what happens right behind it: no event comes between the two."""

    __slots__ = ("document", "then")

    def __init__(self, document: dict[str, Any], then: Callable[[], None] | None = None) -> None:
        self.document = document
        self.then = then


class Connection:
    """One authenticated Socket.IO connection. `state` is the door's own."""

    def __init__(self, server: SocketServer, sid: str, engine_sid: str, limits: Limits) -> None:
        self.sid = sid
        self.engine_sid = engine_sid
        self.user_id = ""
        self.state: Any = None
        self.closed = False
        self._server = server
        self._queue: SendQueue = server.eio.sockets[engine_sid].queue
        self._events = TokenBucket(limits.events_per_second, limits.events_burst)
        self._patience = TokenBucket(limits.events_per_second, limits.events_burst * ABUSE_BURSTS)

    def send(self, frame: Frame) -> None:
        """Queue a frame. It never blocks; too many unsent bytes cut the connection."""
        if not self.closed:
            self._queue.put_nowait(frame)

    async def disconnect(self) -> None:
        """Take leave for good: official clients do not come back by themselves after this."""
        await self._server.disconnect(self.sid, namespace=NAMESPACE)

    async def drop(self) -> None:
        """Close the transport: official clients reconnect."""
        await self._server.eio.disconnect(self.engine_sid)

    def may_send(self, now: float) -> bool | None:
        """Whether another event is within the limit. None: it is not, and was not for too long."""
        if self._events.take(now):
            return True
        return False if self._patience.take(now) else None


class SendQueue(asyncio.Queue[Any]):
    """What is to be sent to one client, bounded in bytes.

    `get` begins a new round of writing, so what was taken before it has been written; what is taken in the
    round counts as unsent until then. Over the bound, `overflowed` is called once and everything is let go.
    """

    def __init__(self, most_bytes: int) -> None:
        super().__init__()
        self._most_bytes = most_bytes
        self._queued_bytes = 0
        self._taken_bytes = 0
        self.overflowed: Callable[[], None] | None = None
        self._overflown = False

    @property
    def unsent_bytes(self) -> int:
        return self._queued_bytes + self._taken_bytes

    async def get(self) -> Any:
        self._taken_bytes = 0
        return await super().get()

    async def join(self) -> None:
        """Wait until all is written, but not for a client that does not read."""
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await super().join()
        except TimeoutError:
            pass

    def _put(self, item: Any) -> None:
        if self._overflown and item is not None:
            return
        super()._put(item)
        self._queued_bytes += _size(item)
        if self._most_bytes and self.unsent_bytes > self._most_bytes:
            self._overflown = True
            self._queue.clear()  # type: ignore[attr-defined]
            self._queued_bytes = 0
            super()._put(None)  # ends the writer
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

    def __init__(self, server: Engine, sid: str) -> None:
        super().__init__(server, sid)
        self.transport: asyncio.Transport | None = None
        self.queue.overflowed = self._cut

    async def handle_post_request(self, environ: dict[str, Any]) -> None:
        """As the base class, but a body that is no Engine.IO payload ends the connection with 400."""
        try:
            await super().handle_post_request(environ)
        except ValueError as error:
            raise engineio.exceptions.EngineIOError(f"malformed body: {error}") from error

    def _cut(self) -> None:
        logger.warning("connection.cut", reason="the client does not read", engine_sid=self.sid)
        if self.transport is not None:
            self.transport.abort()
        else:
            self.server.start_background_task(self.server.disconnect, self.sid)


class WebSocket:
    """What engineio sees of a WebSocket: `send` and `wait` for text, `close`.

    No permessage-deflate: compressing per client costs more than the bytes are worth inside a lesson.
    """

    def __init__(self, handler: Callable[[WebSocket], Awaitable[None]], server: Engine) -> None:
        self._handler = handler
        self._response = web.WebSocketResponse(
            max_msg_size=server.max_http_buffer_size, compress=False, timeout=FLUSH_SECONDS
        )

    async def __call__(self, environ: dict[str, Any]) -> web.WebSocketResponse:
        request: web.Request = environ["aiohttp.request"]
        await self._response.prepare(request)
        socket: Socket = self._handler.__self__  # type: ignore[attr-defined]  # engineio passes a bound method
        socket.transport = request.transport
        await self._handler(self)
        return self._response

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self._response.send_str(message)
        else:
            await self._response.send_bytes(message)

    async def wait(self) -> str | bytes:
        """The next packet. OSError, as engineio expects, at the end and for what cannot be one."""
        message = await self._response.receive()
        if message.type is WSMsgType.TEXT and message.data[:1] in _ENGINE_PACKET_TYPES:
            return str(message.data)
        if message.type is WSMsgType.BINARY:
            return bytes(message.data)
        raise OSError("the WebSocket is closed, or what came is no Engine.IO packet")

    async def close(self) -> None:
        await self._response.close()


_ENGINE_PACKET_TYPES: Final = frozenset("0123456")


class Engine(engineio.AsyncServer):  # type: ignore[misc]  # python-engineio has no types
    """The Engine.IO server, with limits at its entrance."""

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
        sid = request.query.get("sid")
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
        socket = self.sockets[sid] = Socket(self, sid)
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
            response = await socket.handle_get_request(environ)
            if socket.closed:
                self.sockets.pop(sid, None)
            return response
        socket.connected = True
        return self._ok(await socket.poll(), jsonp_index=jsonp_index)


class SocketServer(socketio.AsyncServer):  # type: ignore[misc]  # python-socketio has no types
    """The Socket.IO server. Events go to `handler`, one after the other per connection."""

    def __init__(
        self,
        *,
        limits: Limits,
        cors_origins: Sequence[str],
        address_of: Callable[[web.Request], str],
        worker: int | None = None,
    ) -> None:
        self._limits = limits
        self.handler: Handler | None = None
        self.connections: dict[str, Connection] = {}
        quiet = structlog.stdlib.get_logger("socketio")
        super().__init__(
            async_mode="aiohttp",
            async_handlers=False,
            namespaces=[NAMESPACE],
            json=JSON,
            cors_allowed_origins=partial(_origin_allowed, cors_origins),
            max_http_buffer_size=limits.frame_bytes or MAX_FRAME_BYTES,
            limits=limits,
            address_of=address_of,
            worker=worker,
            logger=_Quiet(quiet),
            engineio_logger=_Quiet(quiet),
        )

    def _engineio_server_class(self) -> type[Engine]:
        return Engine

    @property
    def draining(self) -> bool:
        """While true, handshakes are refused; those who are here stay."""
        return bool(self.eio.draining)

    @draining.setter
    def draining(self, draining: bool) -> None:
        self.eio.draining = draining

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        await super()._handle_eio_connect(eio_sid, environ)
        asyncio.get_running_loop().call_later(CONNECT_SECONDS, self._expect_connected, eio_sid)

    def _expect_connected(self, eio_sid: str) -> None:
        if eio_sid in self.eio.sockets and not self.manager.sid_from_eio_sid(eio_sid, NAMESPACE):
            self.start_background_task(self.eio.disconnect, eio_sid)

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        if isinstance(data, bytes):
            return  # the attachment of a packet that was refused
        try:
            packet = self.packet_class(encoded_packet=data)
            if packet.packet_type in _EVENTS and not _is_event(packet.data):
                raise ValueError("an event is a list that begins with its name")
        except (ValueError, TypeError, IndexError, AttributeError, KeyError):
            logger.info("connection.malformed_packet", engine_sid=eio_sid)
            self.start_background_task(self.eio.disconnect, eio_sid)
            return
        if packet.packet_type == socket_packet.CONNECT:
            await self._handle_connect(eio_sid, packet.namespace, packet.data)
        elif packet.packet_type == socket_packet.DISCONNECT:
            await self._handle_disconnect(eio_sid, packet.namespace, self.reason.CLIENT_DISCONNECT)
        elif packet.packet_type == socket_packet.EVENT:
            await self._handle_event(eio_sid, packet.namespace, packet.id, packet.data)
        elif packet.packet_type == socket_packet.BINARY_EVENT:
            self._refuse_binary(eio_sid, packet)

    async def _handle_event_internal(
        self, server: Any, sid: str, eio_sid: str, data: list[Any], namespace: str, id: int | None
    ) -> None:
        connection = self.connections.get(sid)
        if connection is None or self.handler is None:
            return
        within = connection.may_send(time.monotonic())
        if within:
            reply = await self.handler.received(connection, data[0], data[1:])
        else:
            reply = Reply(self.handler.refused(429, "too_many_requests", "Too many events; slow down."))
        if id is not None:
            connection.send(ack_frame(id, reply.document))
        if reply.then is not None:
            reply.then()
        if within is None:
            logger.warning("connection.cut", reason="too many events", user_id=connection.user_id)
            self.start_background_task(connection.disconnect)

    def _refuse_binary(self, eio_sid: str, packet: Any) -> None:
        connection = self.connections.get(self.manager.sid_from_eio_sid(eio_sid, NAMESPACE))
        if connection is not None and self.handler is not None and packet.id is not None:
            message = "Binary attachments are not accepted; send one JSON object."
            connection.send(ack_frame(packet.id, self.handler.refused(400, "binary_refused", message)))

    async def move_all(self, spread_seconds: float) -> None:
        """Tell every client when to come again (`serverDraining`), each a moment of its own within the spread, and
        close its transport then. Returns when all are gone."""
        by_engine_sid = {connection.engine_sid: connection for connection in self.connections.values()}

        async def move(engine_sid: str) -> None:
            seconds = random.uniform(0, spread_seconds)
            connection = by_engine_sid.get(engine_sid)
            if connection is not None:
                event = Event(name="serverDraining", data={"retryAfterMs": round(seconds * 1000)})
                connection.send(event_frame(event))
            await asyncio.sleep(seconds)
            await self.eio.disconnect(engine_sid)

        await asyncio.gather(*(move(sid) for sid in list(self.eio.sockets)), return_exceptions=True)


class EncountersNamespace(socketio.AsyncNamespace):  # type: ignore[misc]  # python-socketio has no types
    """Connects and disconnects, handed on to the handler as :class:`Connection` values."""

    def __init__(self, server: SocketServer, handler: Handler, limits: Limits) -> None:
        super().__init__(NAMESPACE)
        server.handler = handler
        self._handler = handler
        self._limits = limits

    async def on_connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        engine_sid = self.server.manager.eio_sid_from_sid(sid, NAMESPACE)
        connection = Connection(self.server, sid, engine_sid, self._limits)
        try:
            await self._handler.connected(connection, _token(environ, auth), environ)
        except Refusal as refusal:
            raise socketio.exceptions.ConnectionRefusedError(str(refusal), refusal.document) from refusal
        self.server.connections[sid] = connection

    async def on_disconnect(self, sid: str, reason: str) -> None:
        connection = self.server.connections.pop(sid, None)
        if connection is not None:
            connection.closed = True
            await self._handler.disconnected(connection, reason)


def sid_prefix(worker: int | None) -> str:
    """What the connection ids of a worker begin with, so that its requests find it where several share a port."""
    return "" if worker is None else f"w{worker}."


def _origin_allowed(origins: Sequence[str], origin: str | None, environ: dict[str, Any]) -> bool:
    """Whether a page from `origin` may connect: one of this host, or one that was named. Programs have none."""
    if origin is None or "*" in origins or origin in origins:
        return True
    return origin.partition("://")[2] == environ.get("HTTP_HOST")


_EVENTS: Final = frozenset({socket_packet.EVENT, socket_packet.BINARY_EVENT})


def _is_event(data: Any) -> bool:
    return isinstance(data, list) and bool(data) and isinstance(data[0], str)


def _token(environ: dict[str, Any], auth: Any) -> str | None:
    """The token of a connect packet's `auth`, or else of the handshake's Authorization header."""
    if isinstance(auth, dict) and isinstance(auth.get("token"), str):
        return str(auth["token"]).removeprefix("Bearer ")
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _refused(status: int, code: str, message: str, *, retry_after: int) -> web.Response:
    document = {"error": code, "message": message, "status_code": status}
    return web.Response(
        status=status,
        text=JSON.dumps(document),
        content_type="application/json",
        headers={"Retry-After": str(retry_after)},
    )


class _Quiet:
    """python-socketio's and python-engineio's log: warnings and worse; payloads (they log them at info) never."""

    level = 30

    def __init__(self, logger: Any) -> None:
        self.warning = logger.debug
        self.error = logger.warning
        self.exception = logger.exception

    def info(self, *_: Any, **__: Any) -> None: ...

    debug = info
