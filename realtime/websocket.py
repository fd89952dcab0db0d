"""WebSocket connections (RFC 6455), without the machinery of HTTP that opened them.

Once a request has turned out to be a WebSocket's opening handshake (:mod:`realtime.handshake`), its transport is given
to a :class:`WebSocket`, a lean protocol without a task or a timer of its own. Frames are parsed and unmasked by
aiohttp's reader, in C.

What is relied on, beyond documented interfaces (`tests/realtime/test_websocket.py` fails if a new version changes it):
``aiohttp._websocket.reader.WebSocketReader`` hands messages to ``WebSocketDataQueue.feed_data``, errors to its
``set_exception``, and each frame to ``_handle_frame``: as a bytearray where it was masked.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import zlib
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

import structlog
from aiohttp import WSCloseCode, WSMsgType
from aiohttp._websocket.models import WebSocketError
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader

from realtime.frames import Bundle, Frame

#: Seconds for the other side to close, and to take what was written before; after that the transport is aborted.
CLOSE_SECONDS: Final = 1.5

_CLOSE: Final = 0x88
_PONG: Final = 0x8A
#: Where aiohttp was built without its extensions, frames are read all the same.
_READS_IN_C: Final = WebSocketReader.__module__.endswith("reader_c")
#: Opcodes from here on are those of control frames.
_CONTROL: Final = 0x8
#: They say how a connection ended, and are no part of it (RFC 6455, 7.4.1).
_UNSENDABLE_CODES: Final = frozenset({1004, 1005, 1006, 1015})

logger = structlog.get_logger(__name__)


class Owner(Protocol):
    """Who a WebSocket belongs to."""

    def heard(self, websocket: WebSocket, text: str) -> None:
        """A text message has come."""

    def lost(self, websocket: WebSocket) -> None:
        """Nothing will come any more. Told once; not after the owner closed or aborted it."""

    def stuffed(self, websocket: WebSocket) -> None:
        """More is to be written while more than the bound is unsent: the other side does not read."""


class Writer:
    """Writes what came together in one turn of the loop to each WebSocket at once, at the end of the turn.

    One for all WebSockets of an engine; it knows which of them are taking leave, too.
    """

    __slots__ = ("_closing", "_nobody", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[WebSocket] = []
        self._closing: set[WebSocket] = set()
        self._nobody: asyncio.Future[None] | None = None

    def closing(self, websocket: WebSocket) -> None:
        self._closing.add(websocket)

    def closed(self, websocket: WebSocket) -> None:
        self._closing.discard(websocket)
        if not self._closing and self._nobody is not None and not self._nobody.done():
            self._nobody.set_result(None)

    async def settle(self) -> None:
        """Wait until whoever is taking leave has gone: each has CLOSE_SECONDS."""
        while self._closing:
            if self._nobody is None or self._nobody.done():
                self._nobody = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._nobody)

    def add(self, websocket: WebSocket) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._write)
        self._waiting.append(websocket)

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        for websocket in waiting:
            try:
                websocket.flush()
            except Exception:
                logger.exception("websocket.write_failed")
                websocket.abort()


class WebSocket(asyncio.Protocol):
    """A WebSocket after its handshake. Text goes to the owner; binary messages are passed over.

    It reads messages of at most `most_bytes`, and has `owner.stuffed` called when it is written to while more than
    `most_unsent_bytes` (0: no bound) wait for the other side.
    """

    __slots__ = (
        "_abort_timer",
        "_closing",
        "_deflate",
        "_early",
        "_goodbye",
        "_most_bytes",
        "_most_unsent_bytes",
        "_owner",
        "_reader",
        "_stuffed",
        "_transport",
        "_unwritten",
        "_writer",
        "now",
    )

    def __init__(
        self, owner: Owner, writer: Writer, *, most_bytes: int, most_unsent_bytes: int, deflate: bool = False
    ) -> None:
        self._owner: Owner | None = owner
        self._writer = writer
        self._deflate = deflate
        self._most_bytes = most_bytes
        self._most_unsent_bytes = most_unsent_bytes
        self._transport: asyncio.Transport | None = None
        self._unwritten: list[bytes] | None = None
        self._abort_timer: asyncio.TimerHandle | None = None
        self._early: bytes | None = b""
        self._goodbye: bytes | None = None
        self._closing = False
        self._stuffed = False
        #: Writes a frame's `wire` in this very moment: the transport's own `write`, for one of very many WebSockets,
        #: which gain nothing by waiting for the end of the turn. None while something waits before it.
        self.now: Callable[[bytes], None] | None = None
        self._reader: _Reader | None = _Reader(
            _Inlet(self),
            most_bytes + 1,  # it refuses at the size, not above it
            deflate,
            True,
        )

    @property
    def open(self) -> bool:
        """Whether there is a connection still, if only to take leave."""
        return self._transport is not None

    # Writing

    def write(self, frame: Frame | Bundle) -> None:
        """Have a frame written at the end of this turn of the loop. Never blocks."""
        if not self._closing:
            self._put(frame.deflated if self._deflate else frame.wire)

    def _put(self, data: bytes) -> None:
        if self._unwritten is None:
            self._unwritten = [data]
            self.now = None
            self._writer.add(self)
        else:
            self._unwritten.append(data)

    def flush(self) -> None:
        """Write what waits now."""
        unwritten, self._unwritten = self._unwritten, None
        if unwritten is not None:
            self._write(unwritten[0] if len(unwritten) == 1 else b"".join(unwritten))
            self._look_at_now()

    def _look_at_now(self) -> None:
        hindered = self._deflate or self._closing or self._stuffed or self._unwritten is not None
        self.now = None if hindered or self._transport is None else self._transport.write

    def _write(self, data: bytes) -> None:
        if self._transport is None:
            return
        if self._stuffed and self._owner is not None and not self._closing:
            self._owner.stuffed(self)
        else:
            self._transport.write(data)

    def close(self, code: int = WSCloseCode.OK) -> None:
        """Take leave: what was written goes out, then a close frame. The connection ends within CLOSE_SECONDS."""
        self._owner = None
        if self._goodbye is None:
            self._say_goodbye(struct.pack("!H", code))
        else:
            self._say_goodbye(self._goodbye)  # the client's own: the answer to its close frame
            if self._transport is not None:
                self._transport.close()

    def abort(self) -> None:
        """End the connection now, whatever is unsent."""
        self._owner = None
        self._closing = True
        self._unwritten = None
        self.now = None
        if self._transport is not None:
            self._transport.abort()

    def _say_goodbye(self, payload: bytes) -> None:
        if self._closing:
            return
        self._put(bytes((_CLOSE, len(payload))) + payload)
        self._closing = True
        self.flush()
        if self._transport is not None:
            self._transport.resume_reading()  # for the other side's goodbye
            self._writer.closing(self)
            self._abort_timer = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._transport.abort)

    # Reading

    def begin(self) -> None:
        """Hear what comes from now on, and what came with the handshake or right behind it."""
        early, self._early = self._early, None
        if early:
            self.data_received(early)

    def pause_reading(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def take(self, message: Any, size: int) -> None:
        """A whole message of so many bytes, or a control frame."""
        kind = message.type
        if size > self._most_bytes:  # the reader lets one byte more through where it inflates
            raise WebSocketError(WSCloseCode.MESSAGE_TOO_BIG, "the message is too big")
        if self._owner is None or self._closing or self._goodbye is not None:
            if self._closing and kind is WSMsgType.CLOSE and self._transport is not None:
                self._transport.close()  # the answer to ours
        elif kind is WSMsgType.TEXT:
            self._owner.heard(self, message.data)
        elif kind is WSMsgType.PING:
            self._put(bytes((_PONG, len(message.data))) + message.data)
        elif kind is WSMsgType.CLOSE:
            if message.data in _UNSENDABLE_CODES:
                raise WebSocketError(WSCloseCode.PROTOCOL_ERROR, "a code that nobody may send")
            self._goodbye = struct.pack("!H", message.data) if message.data else b""
            self._owner.lost(self)  # and closes it, when what came before is acted on

    def refuse(self, error: BaseException) -> None:
        """What came is against the protocol: close with the code that says how."""
        if self._goodbye is not None:
            return  # behind a close frame anything may come
        code = WSCloseCode.INTERNAL_ERROR
        if isinstance(error, WebSocketError):
            code = WSCloseCode(error.code)
        elif isinstance(error, zlib.error):
            code = WSCloseCode.INVALID_TEXT  # what it unpacks to is not even known
        else:
            logger.error("websocket.failed", exc_info=error)
        self._say_goodbye(struct.pack("!H", code))
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()  # and go on reading: an end with unread data would be a reset
        self._tell_lost()

    def _tell_lost(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None and self._goodbye is None:
            owner.lost(self)

    # As the loop calls it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are no instances of it
        self._transport = transport
        if self._most_unsent_bytes:
            transport.set_write_buffer_limits(high=self._most_unsent_bytes, low=self._most_unsent_bytes)
        if not transport.is_reading():
            transport.resume_reading()
        self._look_at_now()

    def data_received(self, data: bytes) -> None:
        if self._early is not None:
            self._early += data
        elif self._reader is not None:
            self._reader.feed_data(data)

    def pause_writing(self) -> None:
        self._stuffed = bool(self._most_unsent_bytes)
        self._look_at_now()

    def resume_writing(self) -> None:
        self._stuffed = False
        self._look_at_now()

    def connection_lost(self, error: Exception | None) -> None:
        del error  # it does not matter how
        self._transport = None
        self._reader = None
        self._closing = True
        self._unwritten = None
        self.now = None
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        self._writer.closed(self)
        self._tell_lost()


class _Inlet(WebSocketDataQueue):
    """Hands what the reader has read to the WebSocket at once, instead of queueing it."""

    __slots__ = ("_websocket",)

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        if not _READS_IN_C:
            self._size = 0  # aiohttp's reader in Python asks for them
            self._limit = sys.maxsize

    def feed_data(self, message: Any, size: int) -> None:
        try:
            self._websocket.take(message, size)
        except Exception as error:  # noqa: BLE001  # it is logged there, or the client's fault
            self._websocket.refuse(error)

    def set_exception(self, error: BaseException, cause: BaseException | None = None) -> None:
        self._websocket.refuse(error)


class _Reader(WebSocketReader):
    """A reader for a server, and a stricter one: clients mask their frames (RFC 6455, 5.1), and no message begins
    inside another, even if nothing came of that yet (5.4)."""

    __slots__ = ("_inside_message",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._inside_message = False

    def _handle_frame(self, fin: bool, opcode: int, payload: Any, compressed: int) -> None:
        if type(payload) is not bytearray:
            raise WebSocketError(WSCloseCode.PROTOCOL_ERROR, "a client's frames are masked")
        if opcode < _CONTROL:
            if opcode and self._inside_message:
                raise WebSocketError(WSCloseCode.PROTOCOL_ERROR, "a message inside another")
            self._inside_message = not fin
        super()._handle_frame(fin, opcode, payload, compressed)
