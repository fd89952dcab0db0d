"""What the door and the transport are to each other: connections, and the answers to what comes by them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

import socketio
import structlog

from realtime.frames import NAMESPACE, Bundle, Frame, ack_frame
from realtime.socket import FLUSH_SECONDS, Socket

logger = structlog.get_logger(__name__)


class Refusal(Exception):
    """A handshake or connect that is refused with this document (`{error, message, status_code}`)."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document.get("message", ""))
        self.document = document


class Handler(Protocol):
    """The door behind the transport. Handlers of one connection run in the order sent, and one after the other; only
    events whose name is in `pipelined` do not wait for others of these to be answered. Those whose name is in `apart`
    have limits of their own, so that they hold up no others."""

    pipelined: frozenset[str]
    apart: frozenset[str]

    async def connected(self, connection: Connection, token: str | None, environ: dict[str, Any]) -> None:
        """Authenticate. Raises Refusal."""

    def received(self, connection: Connection, name: str, payload: list[Any]) -> Answer:
        """Act on an event, and answer: at once, with a future, or by a coroutine that runs as a task."""

    def refused(self, status_code: int, code: str, message: str) -> dict[str, Any]:
        """The ack of an event that never reaches :meth:`received`."""

    async def disconnected(self, connection: Connection, reason: str) -> None: ...


class Reply:
    """The ack's document, and what happens right behind it: no event comes between the two."""

    __slots__ = ("document", "then")

    def __init__(self, document: dict[str, Any], then: Callable[[], None] | None = None) -> None:
        self.document = document
        self.then = then


class Pending:
    """An answer that comes with a future, without a task: `reply` makes it of the future when that is done."""

    __slots__ = ("future", "reply")

    def __init__(self, future: asyncio.Future[Any], reply: Callable[[asyncio.Future[Any]], Reply]) -> None:
        self.future = future
        self.reply = reply


Answer = Reply | Pending | Coroutine[Any, Any, Reply]


class Connection:
    """One authenticated Socket.IO connection. `state` is the door's own, `socket` the transport's."""

    __slots__ = ("_server", "closed", "sid", "socket", "state", "user_id")

    def __init__(self, server: socketio.AsyncServer, sid: str, socket: Socket) -> None:
        self.sid = sid
        self.user_id = ""
        self.state: Any = None
        self.closed = False
        self._server = server
        self.socket = socket

    @property
    def engine_sid(self) -> str:
        return self.socket.sid

    def send(self, frame: Frame | Bundle) -> None:
        """Send a frame. It never blocks; too many unsent bytes cut the connection."""
        if not self.closed:
            self.socket.put(frame)

    def send_now(self, frame: Frame | Bundle) -> None:
        """As :meth:`send`, for a frame that goes to very many: it is written at once if it may be."""
        socket = self.socket
        if socket.upgraded and not self.closed:
            now = socket.websocket.now  # type: ignore[union-attr]  # upgraded means that there is one
            if now is not None:
                now(frame.wire)
                return
        self.send(frame)

    def answer(self, ack_id: int | None, reply: Reply) -> None:
        """Answer an event. Nothing else is sent between the ack and what the reply has behind it."""
        try:
            if ack_id is not None:
                self.send(ack_frame(ack_id, reply.document))
            if reply.then is not None:
                reply.then()
        except Exception:
            logger.exception("event.not_answered", user_id=self.user_id)  # and the events behind it go on

    async def settle(self, seconds: float | None = None) -> None:
        """Hear nothing more, and wait until what is under way is answered, and a polling client has fetched it."""
        self.socket.deaf = True
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS if seconds is None else seconds):
                await self.socket.idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await self.socket.settle()

    async def disconnect(self) -> None:
        """Take leave for good: official clients do not come back by themselves after this."""
        await self._server.disconnect(self.sid, namespace=NAMESPACE)
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await self.socket.settle()
        await self.socket.close()  # whoever does not heed it

    async def drop(self) -> None:
        """Close the transport: official clients reconnect."""
        await self.socket.close()
