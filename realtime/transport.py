"""Socket.IO as this server speaks it: python-socketio, extended at a few named places.

What is relied on, beyond its documented interfaces (`tests/realtime/test_transport.py` fails if a new version
changes it):

* ``AsyncServer._engineio_server_class`` gives our :class:`realtime.engine.Engine`;
* ``AsyncServer._handle_eio_connect`` is told of each handshake, ``_handle_eio_message`` of each message.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol

import socketio
import structlog
from aiohttp import web
from socketio import packet as socket_packet

from realtime.engine import CONNECT_SECONDS, FLUSH_SECONDS, MAX_FRAME_BYTES, Engine, Socket
from realtime.events import Event
from realtime.frames import JSON, NAMESPACE, Frame, ack_frame, event_frame
from realtime.limits import Limits

logger = structlog.get_logger(__name__)


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

    def __init__(self, server: SocketServer, sid: str, socket: Socket) -> None:
        self.sid = sid
        self.engine_sid: str = socket.sid
        self.user_id = ""
        self.state: Any = None
        self.closed = False
        self._server = server
        self._socket = socket
        self._acting = asyncio.Lock()

    def send(self, frame: Frame) -> None:
        """Queue a frame. It never blocks; too many unsent bytes cut the connection."""
        if not self.closed:
            self._socket.queue.put_nowait(frame)

    async def act(self, respond: Callable[[], Awaitable[Reply]], ack_id: int | None) -> None:
        """Answer an event. Nothing else is sent between the ack and what the reply has behind it."""
        async with self._acting:
            reply = await respond()
            if ack_id is not None:
                self.send(ack_frame(ack_id, reply.document))
            if reply.then is not None:
                reply.then()

    async def settle(self) -> None:
        """Wait until the event under way is answered, and a polling client has fetched it; FLUSH_SECONDS at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                async with self._acting:
                    pass
                await self._socket.settle()

    async def disconnect(self) -> None:
        """Take leave for good: official clients do not come back by themselves after this."""
        await self._server.disconnect(self.sid, namespace=NAMESPACE)
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._socket.settle()
        await self._socket.close()  # whoever does not heed it

    async def drop(self) -> None:
        """Close the transport: official clients reconnect."""
        await self._socket.close()


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
        self.expect_connect(eio_sid)

    def _expect_connected(self, eio_sid: str) -> None:
        if eio_sid in self.eio.sockets and self._connection(eio_sid, NAMESPACE) is None:
            self.start_background_task(self.eio.disconnect, eio_sid)

    def expect_connect(self, eio_sid: str) -> None:
        """Cut the connection if it is without a namespace after CONNECT_SECONDS."""
        asyncio.get_running_loop().call_later(CONNECT_SECONDS, self._expect_connected, eio_sid)

    def _connection(self, eio_sid: str, namespace: str | None) -> Connection | None:
        return self.connections.get(self.manager.sid_from_eio_sid(eio_sid, namespace or "/"))

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        socket = self.eio.sockets.get(eio_sid)
        if socket is None or socket.closing or isinstance(data, bytes):
            return  # bytes: the attachment of a packet that was refused
        packet = self._packet_of(data)
        if packet is None:
            logger.info("connection.malformed_packet", engine_sid=eio_sid)
            self.start_background_task(self.eio.disconnect, eio_sid)
            return
        if packet.packet_type == socket_packet.CONNECT:
            if socket.may_send(time.monotonic()):  # each one is a token to verify
                await self._handle_connect(eio_sid, packet.namespace, packet.data)
            else:
                self.start_background_task(self.eio.disconnect, eio_sid)
        elif packet.packet_type == socket_packet.DISCONNECT:
            await self._handle_disconnect(eio_sid, packet.namespace, self.reason.CLIENT_DISCONNECT)
        elif packet.packet_type in _EVENTS:
            connection = self._connection(eio_sid, packet.namespace)
            if connection is not None:
                within = socket.may_send(time.monotonic())
                await connection.act(partial(self._reply, connection, packet, within), packet.id)
                if within is None:
                    logger.warning("connection.cut", reason="too many events", user_id=connection.user_id)
                    self.start_background_task(connection.disconnect)

    def _packet_of(self, data: Any) -> Any | None:
        """The packet in a message. None if it is none; where only an event's JSON is broken, an event without any."""
        if not isinstance(data, str):
            return None  # engineio has read it as JSON, which no packet is
        try:
            return self.packet_class(encoded_packet=data)
        except ValueError:
            head = _HEAD_OF_EVENT.match(data)
            return self.packet_class(encoded_packet=f"{head[0]}null") if head else None

    async def _reply(self, connection: Connection, packet: Any, within: bool | None) -> Reply:
        assert self.handler is not None, "a connection has passed it"
        if not within:
            return Reply(self.handler.refused(429, "too_many_requests", "Too many events; slow down."))
        if not _is_event(packet.data):
            message = "An event is a JSON array of its name and one object."
            return Reply(self.handler.refused(400, "malformed_event", message))
        if packet.packet_type == socket_packet.BINARY_EVENT:
            message = "Binary attachments are not accepted; send one JSON object."
            return Reply(self.handler.refused(400, "binary_refused", message))
        return await self.handler.received(connection, packet.data[0], packet.data[1:])

    async def move_all(self, spread_seconds: float) -> None:
        """Tell every client when to come again (`serverDraining`), each a moment of its own within the spread, and
        close its transport then, when the event under way is answered. Returns when all are gone."""
        by_engine_sid = {connection.engine_sid: connection for connection in self.connections.values()}

        async def move(engine_sid: str) -> None:
            seconds = random.uniform(0, spread_seconds)
            connection = by_engine_sid.get(engine_sid)
            if connection is not None:
                event = Event(name="serverDraining", data={"retryAfterMs": round(seconds * 1000)})
                connection.send(event_frame(event))
            await asyncio.sleep(seconds)
            if connection is not None:
                await connection.settle()
            await self.eio.disconnect(engine_sid)

        await asyncio.gather(*(move(sid) for sid in list(self.eio.sockets)), return_exceptions=True)


class EncountersNamespace(socketio.AsyncNamespace):  # type: ignore[misc]  # python-socketio has no types
    """Connects and disconnects, handed on to the handler as :class:`Connection` values."""

    def __init__(self, server: SocketServer, handler: Handler) -> None:
        super().__init__(NAMESPACE)
        server.handler = handler
        self._handler = handler

    async def on_connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        engine_sid = self.server.manager.eio_sid_from_sid(sid, NAMESPACE)
        socket: Socket = self.server.eio.sockets[engine_sid]
        connection = Connection(self.server, sid, socket)
        try:
            await self._handler.connected(connection, _token(environ, auth), environ)
        except Refusal as refusal:
            raise socketio.exceptions.ConnectionRefusedError(str(refusal), refusal.document) from refusal
        except Exception:
            logger.exception("connect.failed")
            refused = self._handler.refused(500, "internal_error", "Something went wrong here; it was noted.")
            raise socketio.exceptions.ConnectionRefusedError("Something went wrong.", refused["error"]) from None
        if socket.closing:
            # It went meanwhile, and python-socketio tells of the end of finished connections only.
            connection.closed = True
            await self._handler.disconnected(connection, self.server.reason.TRANSPORT_CLOSE)
            raise socketio.exceptions.ConnectionRefusedError("The connection is gone.")
        self.server.connections[sid] = connection

    async def on_disconnect(self, sid: str, reason: str) -> None:
        connection = self.server.connections.pop(sid, None)
        if connection is None:
            return
        connection.closed = True
        self.server.expect_connect(connection.engine_sid)
        try:
            await self._handler.disconnected(connection, reason)
        except Exception:
            logger.exception("disconnect.failed")


def _origin_allowed(origins: Sequence[str], origin: str | None, environ: dict[str, Any]) -> bool:
    """Whether a page from `origin` may connect: one of this host, or one that was named. Programs have none."""
    if origin is None or "*" in origins or origin in origins:
        return True
    return origin.partition("://")[2] == environ.get("HTTP_HOST")


_EVENTS: Final = frozenset({socket_packet.EVENT, socket_packet.BINARY_EVENT})
#: An event up to its JSON, which may be broken: lone surrogates, numbers beyond all bounds, too deep.
_HEAD_OF_EVENT: Final = re.compile(rf"[25](?:[0-9]{{1,10}}-)?{NAMESPACE},(?:[0-9]{{1,18}}(?![0-9]))?")


def _is_event(data: Any) -> bool:
    return isinstance(data, list) and bool(data) and isinstance(data[0], str)


def _token(environ: dict[str, Any], auth: Any) -> str | None:
    """The token of a connect packet's `auth`, or else of the handshake's Authorization header."""
    if isinstance(auth, dict) and isinstance(auth.get("token"), str):
        return str(auth["token"]).removeprefix("Bearer ")
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


class _Quiet:
    """python-socketio's and python-engineio's log: warnings and worse; payloads (they log them at info) never."""

    level = 30

    def __init__(self, logger: Any) -> None:
        self.warning = logger.debug
        self.error = logger.warning
        self.exception = logger.exception

    def info(self, *_: Any, **__: Any) -> None: ...

    debug = info
