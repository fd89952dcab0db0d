"""Socket.IO as this server speaks it: python-socketio, extended at a few named places.

What is relied on, beyond its documented interfaces (`tests/realtime/test_transport.py` fails if a new version
changes it):

* ``AsyncServer._engineio_server_class`` gives our :class:`realtime.engine.Engine`;
* ``AsyncServer._handle_eio_connect`` is told of each handshake, ``_handle_eio_disconnect`` of each end;
* ``AsyncServer._handle_connect``, ``_handle_disconnect``, ``_handle_event`` and ``_handle_ack`` act on a packet; the
  manager's ``callbacks`` knows who waits for an ack.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

import msgspec
import socketio
import structlog
from aiohttp import web
from socketio import packet as socket_packet

from realtime.connection import Answer, Connection, Handler, Pending, Refusal, Reply
from realtime.deadlines import Deadlines
from realtime.engine import MAX_FRAME_BYTES, Engine
from realtime.events import Event
from realtime.frames import JSON, NAMESPACE, event_frame
from realtime.limits import Limits
from realtime.manager import Manager
from realtime.socket import CONNECT_SECONDS, Socket

#: Digits in the number that a client gives an event to have it acked.
MAX_ACK_DIGITS: Final = 18

logger = structlog.get_logger(__name__)


class SocketServer(socketio.AsyncServer):  # type: ignore[misc]  # python-socketio has no types
    """The Socket.IO server. Events of the namespace go to `handler`, one after the other per connection."""

    def __init__(
        self,
        *,
        limits: Limits,
        cors_origins: Sequence[str],
        address_of: Callable[[web.Request], str],
        worker: int | None = None,
        deflate: bool = False,
        **options: Any,
    ) -> None:
        self.handler: Handler | None = None
        self.connections: dict[str, Connection] = {}
        self._expected = Deadlines(time.monotonic)
        quiet = structlog.stdlib.get_logger("socketio")
        super().__init__(
            async_mode="aiohttp",
            async_handlers=False,
            namespaces=[NAMESPACE],
            client_manager=Manager(),
            json=JSON,
            cors_allowed_origins=partial(_origin_allowed, cors_origins),
            http_compression=False,  # it would be done in the loop, for each who polls
            max_http_buffer_size=limits.frame_bytes or MAX_FRAME_BYTES,
            limits=limits,
            address_of=address_of,
            worker=worker,
            deflate=deflate,
            logger=_Quiet(quiet),
            engineio_logger=_Quiet(quiet),
            **options,
        )
        self.eio.take = self._take
        self.eio.together = self._together

    def _engineio_server_class(self) -> type[Engine]:
        return Engine

    @property
    def draining(self) -> bool:
        """While true, handshakes are refused; those who are here stay."""
        return bool(self.eio.draining)

    @draining.setter
    def draining(self, draining: bool) -> None:
        self.eio.draining = draining

    async def shutdown(self) -> None:
        self._expected.close()
        await super().shutdown()

    # Connections that are nobody's yet

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        await super()._handle_eio_connect(eio_sid, environ)
        self.expect_connect(eio_sid)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        await super()._handle_eio_disconnect(eio_sid, reason)
        self._expected.drop(eio_sid)

    def expect_connect(self, eio_sid: str) -> None:
        """Cut the connection if it is without a namespace after CONNECT_SECONDS."""
        self._expected.set(eio_sid, time.monotonic() + CONNECT_SECONDS, self._end)

    def _end(self, eio_sid: str) -> None:
        self.start_background_task(self.eio.disconnect, eio_sid)

    def came(self, connection: Connection) -> None:
        """Somebody was let in."""
        eio_sid = connection.engine_sid
        self.connections[connection.sid] = connection
        connection.socket.client = connection
        self._expected.drop(eio_sid)
        # The request and its headers are of no use any more, but for a token that came in one of them.
        bearer = self.environ[eio_sid].get("HTTP_AUTHORIZATION")
        self.environ[eio_sid] = _NO_HEADERS if bearer is None else {"HTTP_AUTHORIZATION": bearer}

    def went(self, sid: str) -> Connection | None:
        """The connection with this sid has left the namespace. Answers it, if it was let in."""
        connection = self.connections.pop(sid, None)
        if connection is not None:
            connection.closed = True
            connection.socket.client = None
            if not connection.socket.closing:
                self.expect_connect(connection.engine_sid)
        return connection

    # What clients send

    def _take(self, socket: Socket, message: str) -> bool:
        """Act on a message. True: `socket.acted()` is called when that is done."""
        if message.startswith(_EVENT_HEAD):
            if socket.client is None:
                return False
            within = socket.may_send(time.monotonic(), apart=self._apart(message))
            if not within:
                return self._event(socket, False, _ack_id_of(message), None, within)
            start = message.find("[", len(_EVENT_HEAD))
            number = message[len(_EVENT_HEAD) : start]
            if start > 0 and len(number) <= MAX_ACK_DIGITS and (not number or (number.isascii() and number.isdigit())):
                try:
                    data = msgspec.json.decode(message[start:])
                except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
                    data = None
                return self._event(socket, False, int(number) if number else None, data, within)
        else:
            # Whatever it is, it is work. Only a first CONNECT is no event.
            within = (message[:1] == _CONNECT_TYPE and not socket.greeted) or socket.may_send(time.monotonic())
        if within is None and socket.client is None:
            self._end(socket.sid)
            return False
        packet = self._packet_of(message)
        if packet is None:
            logger.info("connection.malformed_packet", engine_sid=socket.sid)
            self._end(socket.sid)
            return False
        kind, namespace = packet.packet_type, packet.namespace or "/"
        if kind == socket_packet.CONNECT:
            socket.greeted = True
            if within:  # each one is a token to verify
                return self._run(socket, self._connect(socket, namespace, packet.data))
            self._end(socket.sid)
        elif kind == socket_packet.DISCONNECT and (within or socket.client is not None):
            return self._run(socket, self._handle_disconnect(socket.sid, namespace, self.reason.CLIENT_DISCONNECT))
        elif namespace == NAMESPACE and kind in _EVENTS:
            return self._event(socket, kind == socket_packet.BINARY_EVENT, packet.id, packet.data, within)
        elif kind == socket_packet.ACK and self._awaits_ack(socket, namespace):
            return self._run(socket, self._handle_ack(socket.sid, namespace, packet.id, packet.data))
        elif within and namespace != NAMESPACE and kind == socket_packet.EVENT and _is_event(packet.data):
            # Of another namespace, such as that of python-socketio's Admin UI.
            return self._run(socket, self._handle_event(socket.sid, namespace, packet.id, packet.data))
        return False

    async def _connect(self, socket: Socket, namespace: str, data: Any) -> None:
        if not socket.closing:  # it may have gone while this task was on its way
            await self._handle_connect(socket.sid, namespace, data)

    def _awaits_ack(self, socket: Socket, namespace: str) -> bool:
        return self.manager.sid_from_eio_sid(socket.sid, namespace) in self.manager.callbacks

    def _run(self, socket: Socket, work: Coroutine[Any, Any, Any]) -> bool:
        async def run() -> None:
            try:
                await work
            except Exception:
                logger.exception("connection.failed", engine_sid=socket.sid)
            finally:
                socket.acted()

        self.start_background_task(run)
        return True

    def _apart(self, message: str) -> bool:
        if self.handler is None or not self.handler.apart:
            return False
        named = _NAMED_MESSAGE.match(message)
        return named is not None and named[1] in self.handler.apart

    def _together(self, packet: str) -> bool:
        if self.handler is None:
            return False
        named = _NAMED_EVENT.match(packet)
        return named is not None and named[1] in self.handler.pipelined

    def _packet_of(self, message: str) -> Any | None:
        """The packet in a message. None if it is none; where only an event's JSON is broken, an event without any."""
        try:
            return self.packet_class(encoded_packet=message)
        except (ValueError, IndexError):
            head = _HEAD_OF_EVENT.match(message)
            return self.packet_class(encoded_packet=f"{head[0]}null") if head else None

    def _event(self, socket: Socket, binary: bool, ack_id: int | None, data: Any, within: bool | None) -> bool:
        connection: Connection | None = socket.client
        if connection is None:
            return False
        handler = self.handler
        assert handler is not None, "a connection has passed it"
        if not within:
            answer: Answer = Reply(handler.refused(429, "too_many_requests", "Too many events; slow down."))
        elif not _is_event(data):
            message = "An event is a JSON array of its name and one object."
            answer = Reply(handler.refused(400, "malformed_event", message))
        elif binary:
            message = "Binary attachments are not accepted; send one JSON object."
            answer = Reply(handler.refused(400, "binary_refused", message))
        else:
            answer = self._received(connection, data)
        if within is None:
            logger.warning("connection.cut", reason="too many events", user_id=connection.user_id)
            socket.client = None  # nothing more is heard of it
            self.start_background_task(connection.disconnect)
        if isinstance(answer, Reply):
            connection.answer(ack_id, answer)
            return False
        if isinstance(answer, Pending):
            answer.future.add_done_callback(partial(self._answer_pending, connection, ack_id, answer.reply))
            return True
        return self._run(socket, self._answer_later(connection, ack_id, answer))

    def _received(self, connection: Connection, data: list[Any]) -> Answer:
        assert self.handler is not None
        try:
            return self.handler.received(connection, data[0], data[1:])
        except Exception as error:  # noqa: BLE001  # it is logged, and answered
            return self._failed(error)

    def _answer_pending(
        self,
        connection: Connection,
        ack_id: int | None,
        reply: Callable[[asyncio.Future[Any]], Reply],
        future: asyncio.Future[Any],
    ) -> None:
        if not future.cancelled():
            try:
                answer = reply(future)
            except Exception as error:  # noqa: BLE001  # it is logged, and answered
                answer = self._failed(error)
            connection.answer(ack_id, answer)
        connection.socket.acted()

    async def _answer_later(self, connection: Connection, ack_id: int | None, work: Coroutine[Any, Any, Reply]) -> None:
        try:
            reply = await work
        except Exception as error:  # noqa: BLE001  # it is logged, and answered
            reply = self._failed(error)
        connection.answer(ack_id, reply)

    def _failed(self, error: Exception) -> Reply:
        """The door itself has failed."""
        assert self.handler is not None
        logger.error("event.failed", exc_info=error)
        return Reply(self.handler.refused(500, "internal_error", "Something went wrong here; it was noted."))

    async def move_all(self, spread_seconds: float, patience_seconds: float | None = None) -> None:
        """Tell every client when to come again (`serverDraining`), each a moment of its own within the spread, and
        close its transport then. From that moment nothing more is heard of it, and what is under way has
        `patience_seconds` (FLUSH_SECONDS) to be answered. Returns when all are gone."""

        async def move(socket: Socket) -> None:
            seconds = random.uniform(0, spread_seconds)
            told = self._tell_to_move(socket, seconds)
            await asyncio.sleep(seconds)
            if not told:  # it was let in meanwhile
                self._tell_to_move(socket, 0)
            connection: Connection | None = socket.client
            if connection is not None:
                await connection.settle(patience_seconds)
            await self.eio.disconnect(socket.sid)

        await asyncio.gather(*(move(socket) for socket in list(self.eio.sockets.values())), return_exceptions=True)

    def _tell_to_move(self, socket: Socket, seconds: float) -> bool:
        connection: Connection | None = socket.client
        if connection is None:
            return False
        event = Event(name="serverDraining", data={"retryAfterMs": round(seconds * 1000)})
        connection.send(event_frame(event))
        return True


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
        self.server.came(connection)

    async def on_disconnect(self, sid: str, reason: str) -> None:
        connection = self.server.went(sid)
        if connection is None:
            return
        try:
            await self._handler.disconnected(connection, reason)
        except Exception:
            logger.exception("disconnect.failed")


def _origin_allowed(origins: Sequence[str], origin: str | None, environ: dict[str, Any]) -> bool:
    """Whether a page from `origin` may connect: one of this host, or one that was named. Programs have none."""
    if origin is None or "*" in origins or origin in origins:
        return True
    return origin.partition("://")[2] == environ.get("HTTP_HOST")


_NO_HEADERS: Final[dict[str, Any]] = {}
_EVENT_HEAD: Final = f"2{NAMESPACE},"
_CONNECT_TYPE: Final = str(socket_packet.CONNECT)
_ACK_ID: Final = re.compile(rf"{re.escape(_EVENT_HEAD)}([0-9]{{1,{MAX_ACK_DIGITS}}})(?![0-9])")
#: An Engine.IO packet whose event is named right behind its number.
_NAMED_EVENT: Final = re.compile(rf'4{re.escape(_EVENT_HEAD)}[0-9]*\["([A-Za-z]+)"')
#: The same without Engine.IO's part.
_NAMED_MESSAGE: Final = re.compile(rf'{re.escape(_EVENT_HEAD)}[0-9]*\["([A-Za-z]+)"')
_EVENTS: Final = frozenset({socket_packet.EVENT, socket_packet.BINARY_EVENT})
#: An event up to its JSON, which may be broken: lone surrogates, numbers beyond all bounds, too deep.
_HEAD_OF_EVENT: Final = re.compile(rf"[25](?:[0-9]{{1,10}}-)?{NAMESPACE},(?:[0-9]{{1,{MAX_ACK_DIGITS}}}(?![0-9]))?")


def _ack_id_of(message: str) -> int | None:
    found = _ACK_ID.match(message)
    return int(found[1]) if found else None


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
