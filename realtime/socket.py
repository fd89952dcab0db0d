"""An Engine.IO connection of our own.

Packets are acted on in the order sent, and what is sent to a WebSocket is written without a queue, a task or a timer
per connection. While a connection is on long-polling, or on its way to a WebSocket, its packets wait in an outbox, in
order.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

import engineio
import structlog
from aiohttp import web
from engineio import packet as engine_packet

from realtime.frames import Bundle, Frame, bundle
from realtime.handshake import NoHandshake, answer_to, take_over
from realtime.limits import TokenBucket
from realtime.outbox import Outbox
from realtime.refusals import no_websocket
from realtime.websocket import WebSocket

if TYPE_CHECKING:
    from realtime.engine import Engine

#: Seconds that a connection may stay without a namespace: from the handshake to the CONNECT packet with a token,
#: and after it was made to leave. Also those from an upgrade's WebSocket to its UPGRADE packet.
CONNECT_SECONDS: Final = 20.0
#: Seconds for a polling client to fetch what is queued when its connection is closed, and for what came from a client
#: that is gone to be acted on.
FLUSH_SECONDS: Final = 1.5
#: Seconds for the body of a POST to come.
BODY_SECONDS: Final = 30.0
#: Packets in one long-polling body. A body is bounded in bytes already; this bounds empty ones.
MAX_PACKETS_PER_BODY: Final = 1_000
#: Packets in one answer to a long poll: python-engineio's own client refuses more.
MAX_PACKETS_PER_POLL: Final = 16
#: Packets of one connection that wait for the one before them. Beyond it nothing more is read from the connection.
MAX_WAITING_PACKETS: Final = 64
#: Packets of one connection that are acted on at a time, of the kind that may be.
MAX_TOGETHER_PACKETS: Final = 64
#: How many events over the limit a connection is told about before it is cut, as a multiple of its burst.
ABUSE_BURSTS: Final = 5
#: Events that a connection may send per second, and at once, of those that are counted apart: what browsers send by
#: themselves. Somebody who comes to five others sends each some dozen, and again when the network changes.
APART_PER_SECOND: Final = 30
APART_BURST: Final = 240

logger = structlog.get_logger(__name__)

#: Takes the message of a connection. True: it is acted on still, and `socket.acted()` will be called.
Take = Callable[["Socket", str], bool]

_PING: Final = Frame(b"2")
_CLOSE: Final = Frame(b"1")
_NOOP: Final = Frame(b"6")
_PROBE_ANSWER: Final = Frame(b"3probe")
_PACKET_TYPES: Final = frozenset("0123456")
#: What a polling client may send: no handshake, no probe, no NOOP.
_TYPES_IN_BODIES: Final = frozenset("1345")
_CLOSE_TYPE: Final = "1"
_PONG_TYPE: Final = "3"
_MESSAGE_TYPE: Final = "4"


class Socket:
    """An Engine.IO connection: long-polling, WebSocket, or on the way from the one to the other."""

    __slots__ = (
        "_acting",
        "_apart",
        "_events",
        "_idle",
        "_inbox",
        "_patience",
        "_reads_body",
        "_session",
        "_together",
        "_upgrade_deadline",
        "beat_at",
        "client",
        "closed",
        "closing",
        "connected",
        "deaf",
        "greeted",
        "outbox",
        "pong_due",
        "server",
        "sid",
        "upgraded",
        "upgrading",
        "websocket",
    )

    def __init__(self, server: Engine, sid: str) -> None:
        self.server = server
        self.sid = sid
        self.connected = False
        #: A WebSocket has probed: polls bring nothing any more, and what is sent waits for the end of the upgrade.
        self.upgrading = False
        self.upgraded = False
        self.closing = False
        self.closed = False
        #: Nothing more is heard of it but its end: it is to leave when what is under way is answered.
        self.deaf = False
        self.websocket: WebSocket | None = None
        #: What waits for polls. None on a WebSocket.
        self.outbox: Outbox | None = None
        #: The layer above keeps here what it knows of the connection.
        self.client: Any = None
        #: And whether it has heard a first CONNECT, which counts as no event.
        self.greeted = False
        self.beat_at = 0
        self.pong_due = False
        #: Packets that are acted on still; and whether others of their kind may be acted on beside them.
        self._acting = 0
        self._together = False
        self._inbox: deque[str] | None = None
        self._idle: asyncio.Future[None] | None = None
        self._reads_body = False
        self._session: dict[str, Any] | None = None
        self._upgrade_deadline: asyncio.TimerHandle | None = None
        limits = server.limits
        self._events = TokenBucket(limits.events_per_second, limits.events_burst)
        self._apart: TokenBucket | None = None
        self._patience: TokenBucket | None = None

    @property
    def session(self) -> dict[str, Any]:
        """What python-socketio's `session()` keeps."""
        if self._session is None:
            self._session = {}
        return self._session

    @session.setter
    def session(self, session: dict[str, Any]) -> None:
        self._session = session

    def may_send(self, now: float, *, apart: bool = False) -> bool | None:
        """Whether another event is within the limit, or one that is counted `apart` within theirs. None: it is not, and
        was not for too long."""
        if apart and self._apart is None:
            self._apart = TokenBucket(APART_PER_SECOND, APART_BURST)
        if (self._apart if apart and self._apart is not None else self._events).take(now):
            return True
        if self._patience is None:
            limits = self.server.limits
            self._patience = TokenBucket(limits.events_per_second, limits.events_burst * ABUSE_BURSTS)
        return False if self._patience.take(now) else None

    # Sending

    def put(self, frame: Frame | Bundle) -> None:
        """Send. It never blocks; too many unsent bytes cut the connection."""
        if self.upgraded and not self.closing:
            self.websocket.write(frame)  # type: ignore[union-attr]  # upgraded means that there is one
        elif not self.closing:
            outbox = self._outbox()
            for one in frame.frames:
                outbox.put(one)
            if 0 < self.server.limits.unsent_bytes < outbox.unsent_bytes:
                self._cut()

    async def send(self, packet: engine_packet.Packet) -> None:
        """Send a packet of python-engineio's. Bytes are not sent: nothing here has any."""
        self.put(Frame(cast(str, packet.encode(b64=True)).encode()))

    async def settle(self) -> None:
        """Wait until a polling client has fetched what is queued. What a WebSocket is sent is written already."""
        if self.outbox is not None and not self.closed:
            await self.outbox.fetched()

    def _outbox(self) -> Outbox:
        if self.outbox is None:
            self.outbox = Outbox()
        return self.outbox

    # Receiving

    def receive(self, packet: str) -> None:
        """Take a packet: they are acted on in their order, and one after the other but for those that
        `server.together` lets follow each other closely. Raises ValueError for what is none."""
        if self.closing or (self.deaf and packet[:1] == _MESSAGE_TYPE):
            return
        kind = packet[:1]
        if kind == _PONG_TYPE:
            self.server.heartbeat.answered(self)
        elif kind not in _PACKET_TYPES:
            raise ValueError("no Engine.IO packet")
        elif not self._inbox and self._may_act(packet):
            self._act(packet)
        else:
            if self._inbox is None:
                self._inbox = deque()
            self._inbox.append(packet)
            if len(self._inbox) == MAX_WAITING_PACKETS and self.websocket is not None:
                self.websocket.pause_reading()

    def _may_act(self, packet: str) -> bool:
        return not self._acting or (
            self._together and self._acting < MAX_TOGETHER_PACKETS and self.server.together(packet)
        )

    def _act(self, packet: str) -> None:
        kind = packet[0]
        if kind == _MESSAGE_TYPE:
            if self.server.take(self, packet[1:]):
                self._acting += 1
                self._together = self.server.together(packet)
        elif kind == _CLOSE_TYPE:
            self.end(self.server.reason.CLIENT_DISCONNECT)

    def acted(self) -> None:
        """What `take` began is done; go on with what came meanwhile."""
        self._acting -= 1
        inbox = self._inbox
        while inbox and not self.closing and self._may_act(inbox[0]):
            self._act(inbox.popleft())
            if len(inbox) == MAX_WAITING_PACKETS // 2 and self.websocket is not None:
                self.websocket.resume_reading()
        if not inbox:
            self._inbox = None
        self._tell_idle()

    def _tell_idle(self) -> None:
        if (not self._acting or self.closed) and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def idle(self) -> None:
        """Wait until everything that has come is acted on."""
        while self._acting and not self.closed:
            if self._idle is None or self._idle.done():
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)

    # Long-polling

    async def handle_get_request(self, environ: dict[str, Any]) -> Any:
        """A poll: its packets. Or a WebSocket for this connection: the response that made it one."""
        request: web.Request = environ["aiohttp.request"]
        if environ.get("HTTP_UPGRADE", "").strip().lower() == "websocket":
            return self._begin_upgrade(request)
        return await self.poll(request)

    async def poll(self, request: web.Request) -> list[Frame]:
        """What waits, as soon as there is something; nothing at the end of the connection."""
        server = self.server
        outbox = self._outbox()
        try:
            while not (self.upgrading or self.upgraded or self.closing or outbox):
                await outbox.wait(server.ping_interval + server.ping_timeout)
                if request.transport is None:
                    return []  # who asked is gone, and may ask again
        except TimeoutError:
            self.end(server.reason.TRANSPORT_ERROR)
            return []
        if self.upgrading or self.upgraded:
            return [_NOOP]
        return outbox.take(MAX_PACKETS_PER_POLL)

    async def handle_post_request(self, environ: dict[str, Any]) -> None:
        """Take the packets of a body, and wait until they are acted on.

        The connection ends with 400 for what is no Engine.IO payload, and for a second body before the first is
        done: its packets would overtake.
        """
        if self._reads_body:
            raise engineio.exceptions.EngineIOError("two bodies at once")
        self._reads_body = True
        try:
            for packet in await self._packets(environ["aiohttp.request"]):
                self.receive(packet)
            await self.idle()
        except (ValueError, OSError, web.RequestPayloadError, engineio.exceptions.EngineIOError) as error:
            if not self.closed:
                raise engineio.exceptions.EngineIOError(f"malformed body: {error}") from error
        finally:
            self._reads_body = False

    async def _packets(self, request: web.Request) -> list[str]:
        body = bytearray()
        async with asyncio.timeout(BODY_SECONDS):  # TimeoutError is an OSError
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > self.server.max_http_buffer_size:
                    raise engineio.exceptions.ContentTooLongError
        packets = body.decode().split("\x1e")
        if len(packets) > MAX_PACKETS_PER_BODY:
            raise ValueError("too many packets")
        texts = []
        for packet in packets:
            if packet[:1] in _TYPES_IN_BODIES:
                texts.append(packet)
            elif packet[:1] == "b":
                b64decode(packet[1:], validate=True)  # binary, in bodies as text: passed over
            else:
                raise ValueError("no Engine.IO packet")
        return texts

    # The WebSocket

    def open(self, request: web.Request) -> web.StreamResponse:
        """Make this the connection of a WebSocket's opening handshake, from its first packet on.

        Raises NoHandshake, ConnectionError.
        """
        answer, deflate = answer_to(request, deflate=self.server.deflate)
        self.connected = self.upgraded = True
        self.websocket = self._new_websocket(deflate)
        return take_over(request, self.websocket, answer)

    def _new_websocket(self, deflate: bool) -> WebSocket:
        server = self.server
        return WebSocket(
            self,
            server.writer,
            most_bytes=server.max_http_buffer_size,
            most_unsent_bytes=server.limits.unsent_bytes,
            deflate=deflate,
        )

    def _begin_upgrade(self, request: web.Request) -> Any:
        """A WebSocket wants to take over from polling: it has CONNECT_SECONDS to probe and to say so."""
        if self.websocket is not None or self.closing:
            return self.server._bad_request("Another WebSocket is on its way")
        try:
            answer, deflate = answer_to(request, deflate=self.server.deflate)
            websocket = self._new_websocket(deflate)
            response = take_over(request, websocket, answer)
        except (NoHandshake, ConnectionError) as error:
            return no_websocket(error)
        self.websocket = websocket
        self._upgrade_deadline = asyncio.get_running_loop().call_later(CONNECT_SECONDS, self._upgrade_failed)
        websocket.begin()
        return response

    def _upgrade_failed(self) -> None:
        """Polling goes on as it was: the outbox has kept everything."""
        websocket, self.websocket = self.websocket, None
        self._upgrade_over()
        if websocket is not None:
            websocket.close()

    def _upgrade_over(self) -> None:
        self.upgrading = False
        if self._upgrade_deadline is not None:
            self._upgrade_deadline.cancel()
            self._upgrade_deadline = None

    def heard(self, websocket: WebSocket, text: str) -> None:
        """A packet has come by WebSocket."""
        if not self.upgraded:
            self._probe(websocket, text)
            return
        try:
            self.receive(text)
        except ValueError:
            logger.info("connection.malformed_packet", engine_sid=self.sid)
            self.end(self.server.reason.TRANSPORT_ERROR)

    def _probe(self, websocket: WebSocket, text: str) -> None:
        """The steps of an upgrade (Engine.IO 4, *Upgrade*)."""
        if text == "2probe" and not self.upgrading:
            self.upgrading = True
            websocket.write(_PROBE_ANSWER)
            if self.outbox is not None:
                self.outbox.wake()  # the poll that waits ends with a NOOP
        elif text[:1] == "5" and self.upgrading:
            self._upgrade_over()
            self.upgraded = True
            outbox, self.outbox = self._outbox(), None
            outbox.wake()
            if outbox:
                websocket.write(bundle(outbox.take(len(outbox))))
        else:
            self._upgrade_failed()

    def lost(self, websocket: WebSocket) -> None:
        """The WebSocket is gone. What has come by it is acted on first."""
        if not self.upgraded:
            self._upgrade_failed()
        elif self._acting:
            self.server.start_background_task(self._end_when_idle)
        else:
            self.end(self.server.reason.TRANSPORT_CLOSE)

    async def _end_when_idle(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await self.idle()
        self.end(self.server.reason.TRANSPORT_CLOSE)

    def stuffed(self, websocket: WebSocket) -> None:
        self._cut()

    # Heartbeats

    def ping(self) -> None:
        self.put(_PING)

    def silent(self) -> None:
        self.end(self.server.reason.PING_TIMEOUT, goodbye=True)

    # Ends

    def end(self, reason: str, *, goodbye: bool = False) -> None:
        """Close at once; whoever is to be told of it is told by a task."""
        if not self.closing:
            self._close_entrance()
            self.server.start_background_task(self._close, not goodbye, reason)

    async def close(self, wait: bool = True, abort: bool = False, reason: str | None = None) -> None:
        """Take leave: what is queued goes out, and a CLOSE packet unless `abort`. Nobody waits for it here."""
        del wait
        if not self.closing:
            self._close_entrance()
            await self._close(abort, reason or self.server.reason.SERVER_DISCONNECT)

    def _close_entrance(self) -> None:
        """Nothing more is heard, from now on."""
        self.closing = True
        self._inbox = None
        self.server.heartbeat.forget(self)

    async def _close(self, abort: bool, reason: str) -> None:
        server = self.server
        await server._trigger_event("disconnect", self.sid, reason, run_async=False)
        self.closed = True
        server.sockets.pop(self.sid, None)
        self._upgrade_over()
        if self.outbox is not None:
            if not abort:
                self.outbox.put(_CLOSE)
            self.outbox.wake()
        if self.websocket is not None:
            if not abort and self.upgraded:
                self.websocket.write(_CLOSE)
            self.websocket.close()
        self._tell_idle()

    def _cut(self) -> None:
        """End at once: the client does not read what it is sent."""
        if self.closing:
            return
        logger.warning("connection.cut", reason="the client does not read", engine_sid=self.sid)
        if self.outbox is not None:
            self.outbox.clear()
        if self.websocket is not None:
            self.websocket.abort()
        self.end(self.server.reason.TRANSPORT_ERROR)
