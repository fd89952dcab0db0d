"""WebSockets as bytes (RFC 6455): frames as clients may and may not send them, and a client that is a bare socket."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from itertools import cycle
from typing import Final, Self

from realtime.frames import NAMESPACE
from tests.support.processes import HOST
from tests.support.recorder import WAIT_SECONDS
from tests.support.sockets import PATH

#: The example of RFC 6455, section 1.3: a client's nonce, and the answer that proves that it was understood.
KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT: Final = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
MASK: Final = b"\x37\xfa\x21\x3d"
#: Stands for the code of a close frame that carries none.
NO_CODE: Final = 1005


class Op(IntEnum):
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True, slots=True)
class Arrived:
    """One frame of the server."""

    opcode: int
    payload: bytes
    fin: bool = True


def frame(
    payload: bytes | str = b"",
    opcode: int = Op.TEXT,
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
) -> bytes:
    """One frame as a client sends it. `mask` None: unmasked, which only servers may."""
    data = payload.encode() if isinstance(payload, str) else payload
    head = header(len(data), opcode, fin=fin, rsv=rsv, masked=mask is not None)
    if mask is None:
        return head + data
    return head + mask + bytes(byte ^ key for byte, key in zip(data, cycle(mask), strict=False))


def header(length: int, opcode: int = Op.TEXT, *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """The head of a frame that declares `length`, in the shortest encoding, up to its mask."""
    first, masked_bit = fin << 7 | rsv << 4 | opcode, masked << 7
    if length < 126:
        return struct.pack("!BB", first, masked_bit | length)
    if length < 1 << 16:
        return struct.pack("!BBH", first, masked_bit | 126, length)
    return struct.pack("!BBQ", first, masked_bit | 127, length)


def fragments(pieces: Iterable[bytes], opcode: int = Op.TEXT) -> list[bytes]:
    """The frames of one message in these pieces."""
    last = len(pieces := list(pieces)) - 1
    return [
        frame(piece, Op.CONTINUATION if number else opcode, fin=number == last) for number, piece in enumerate(pieces)
    ]


def closing(code: int | None = 1000, reason: bytes = b"") -> bytes:
    """A close frame."""
    return frame(b"" if code is None else struct.pack("!H", code) + reason, Op.CLOSE)


def parse(data: bytes | bytearray) -> tuple[Arrived, int] | None:
    """The server's frame that `data` begins with, and how long it is; None if it is not all there.

    Raises AssertionError for what a server must not send: masked, reserved bits, a length not in its shortest form.
    """
    if len(data) < 2:
        return None
    first, second = data[0], data[1]
    assert not first & 0x70, "no extension was agreed on"
    assert not second & 0x80, "a server does not mask"
    length, start = second & 0x7F, 2
    if length >= 126:
        start, form, least = (4, "!H", 126) if length == 126 else (10, "!Q", 1 << 16)
        if len(data) < start:
            return None
        (length,) = struct.unpack_from(form, data, 2)
        assert length >= least, "the shortest form"
    if len(data) < start + length:
        return None
    opcode, fin = first & 0x0F, bool(first & 0x80)
    assert opcode < Op.CLOSE or (fin and length <= 125), "control frames are whole and short"
    return Arrived(opcode, bytes(data[start : start + length]), fin), start + length


def parse_all(data: bytes) -> list[Arrived]:
    """All frames of `data`, which must end with the last one."""
    arrived = []
    while data:
        parsed = parse(data)
        assert parsed is not None, f"{len(data)} bytes are no whole frame"
        arrived.append(parsed[0])
        data = data[parsed[1] :]
    return arrived


def handshake(
    *,
    method: str = "GET",
    version: str = "HTTP/1.1",
    sid: str | None = None,
    headers: Mapping[str, str | None] | None = None,
) -> bytes:
    """The request for an Engine.IO WebSocket. `headers` change or add; None leaves one out."""
    query = "EIO=4&transport=websocket" + (f"&sid={sid}" if sid else "")
    all_headers: dict[str, str | None] = {
        "Host": HOST,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
        **(headers or {}),
    }
    lines = [f"{name}: {value}" for name, value in all_headers.items() if value is not None]
    return "\r\n".join([f"{method} {PATH}?{query} {version}", *lines, "", ""]).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an HTTP answer; the names of its headers in lower case."""

    status: int
    headers: Mapping[str, str]


class EndedError(Exception):
    """The server has closed the connection, and more was to come."""


class Wire:
    """A TCP connection to the server. It reads only when asked to, and closes when it is told to."""

    def __init__(self, client: socket.socket) -> None:
        self.socket = client
        self._buffer = bytearray()
        self._said_goodbye = False

    @classmethod
    async def open(cls, port: int, *, small: bool = False) -> Self:
        """`small`: with the smallest buffers, so that the server soon feels it when nothing is read."""
        client = socket.socket()
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if small:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        await asyncio.get_running_loop().sock_connect(client, (HOST, port))
        return cls(client)

    async def send(self, *pieces: bytes | memoryview) -> None:
        """Send each piece in a TCP segment of its own, which the server may read before the next."""
        loop = asyncio.get_running_loop()
        for number, piece in enumerate(pieces):
            if number:
                for _ in range(3):
                    await asyncio.sleep(0)
            await loop.sock_sendall(self.socket, piece)

    async def push(self, data: bytes, patience: float = 0.2) -> int:
        """Send what the server takes until it takes nothing for `patience` seconds. Answers how many bytes it took."""
        rest, idle = memoryview(data), 0.0
        while rest and idle < patience:
            try:
                rest, idle = rest[self.socket.send(rest) :], 0.0
            except BlockingIOError:
                idle += 0.005
            await asyncio.sleep(0.005 if idle else 0)
        return len(data) - len(rest)

    async def answer(self) -> Answer:
        """The head of the answer to a request. What follows it stays to be read."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            await self._more_or_ended()
        status, *lines = self._buffer[:end].decode().split("\r\n")
        del self._buffer[: end + 4]
        pairs = (line.split(":", 1) for line in lines)
        return Answer(int(status.split(" ")[1]), {name.lower(): value.strip() for name, value in pairs})

    async def body(self, length: int) -> bytes:
        """The next bytes as they are."""
        while len(self._buffer) < length:
            await self._more_or_ended()
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return body

    async def frame(self) -> Arrived | None:
        """The next frame. None at the end of the connection."""
        while (parsed := parse(self._buffer)) is None:
            if not await self._more():
                assert not self._buffer, "the end comes between frames"
                return None
        arrived, length = parsed
        del self._buffer[:length]
        return arrived

    async def text(self) -> str:
        """The next frame, which must be a text. Raises EndedError where the server has closed."""
        arrived = await self.frame()
        if arrived is None or arrived.opcode == Op.CLOSE:
            raise EndedError(arrived)
        assert (arrived.opcode, arrived.fin) == (Op.TEXT, True), arrived
        return arrived.payload.decode()

    @property
    def quiet(self) -> bool:
        """Whether nothing has come that was not read, not even an end."""
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return not self._buffer
        return False

    async def end(self, *, acks: bool = False) -> int | None:
        """Wait until the server has closed the connection, as it does after the close frames of both sides.

        Answers the code of its close frame (NO_CODE if it has none); None if there was no close frame. What comes
        before that is passed over; there must be no ack among it unless `acks` says so.
        """
        code: int | None = None
        while (arrived := await self.frame()) is not None:
            assert code is None, f"nothing comes after a close frame, but {arrived}"
            assert acks or not arrived.payload.startswith(b"43"), f"it was heard: {arrived}"
            if arrived.opcode == Op.CLOSE:
                code = int.from_bytes(arrived.payload[:2]) if arrived.payload else NO_CODE
                arrived.payload[2:].decode()
                if not self._said_goodbye:
                    with suppress(ConnectionError):
                        await self.send(frame(arrived.payload, Op.CLOSE))
        return code

    async def say_goodbye(self, goodbye: bytes) -> None:
        """Send a close frame, so that the server's needs no answer."""
        self._said_goodbye = True
        await self.send(goodbye)

    def finish(self) -> None:
        """Send the end of the stream, and stay to read."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Be gone without an end: the server gets a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    async def _more_or_ended(self) -> None:
        if not await self._more():
            raise EndedError(bytes(self._buffer))

    async def _more(self) -> bool:
        async with asyncio.timeout(WAIT_SECONDS):
            try:
                data = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 16)
            except ConnectionError:
                data = b""
        self._buffer += data
        return bool(data)


async def enter(wire: Wire, who: str = "ann") -> None:
    """Shake hands, and connect to the namespace."""
    await wire.send(handshake())
    assert (await wire.answer()).status == 101
    assert (await wire.text()).startswith("0{")
    await wire.send(frame(f'40{NAMESPACE},{{"token":"{who}"}}'))
    assert (await wire.text()).startswith(f'40{NAMESPACE},{{"sid"')
