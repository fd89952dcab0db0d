"""Events, encoded once for everybody: Socket.IO 5 packets in Engine.IO 4 messages in WebSocket frames."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from realtime.events import Event

#: The one namespace that is served.
NAMESPACE: Final = "/encounters"

#: Shorter packets are not compressed: deflate makes them longer, or hardly shorter.
MIN_DEFLATED_BYTES: Final = 128

_encode = msgspec.json.Encoder(enc_hook=str).encode
_EVENT: Final = f"42{NAMESPACE},[".encode()
_ACK: Final = f"43{NAMESPACE},".encode()


class JSON:
    """The JSON module that python-socketio and python-engineio are given: `dumps` and `loads` on msgspec."""

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        return _encode(value).decode()

    @staticmethod
    def loads(text: str | bytes, **_: Any) -> Any:
        """Raises ValueError for what is not JSON, and for JSON that is nested too deep."""
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValueError(str(error)) from error


class Frame:
    """An Engine.IO packet, made once: as it stands in a WebSocket (`wire`, `deflated`) and in a poll (`encode`)."""

    __slots__ = ("_deflated", "payload", "wire")

    def __init__(self, payload: bytes) -> None:
        #: The Engine.IO packet, in UTF-8.
        self.payload = payload
        #: A whole WebSocket text frame (RFC 6455, 5.2).
        self.wire = text_frame(payload)
        self._deflated: bytes | None = None

    @property
    def deflated(self) -> bytes:
        """The same frame compressed (RFC 7692, 7.2.1) without any context, so that it suits every connection."""
        if self._deflated is None:
            self._deflated = _deflated_frame(self.payload) if len(self.payload) >= MIN_DEFLATED_BYTES else self.wire
        return self._deflated

    @property
    def frames(self) -> Sequence[Frame]:
        return (self,)

    @property
    def size(self) -> int:
        return len(self.payload)

    @property
    def text(self) -> str:
        return self.payload.decode()

    def encode(self, b64: bool = False) -> str:
        """As python-engineio asks for what it puts into the answer of a poll."""
        del b64  # it is text
        return self.text


class Bundle:
    """Frames that are written as one, in their order."""

    __slots__ = ("_deflated", "frames", "wire")

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.frames = frames
        self.wire = b"".join([frame.wire for frame in frames])
        self._deflated: bytes | None = None

    @property
    def deflated(self) -> bytes:
        if self._deflated is None:
            self._deflated = b"".join([frame.deflated for frame in self.frames])
        return self._deflated


def bundle(frames: Sequence[Frame]) -> Frame | Bundle:
    """At least one frame, as one thing to write."""
    return frames[0] if len(frames) == 1 else Bundle(frames)


def event_frame(event: Event) -> Frame:
    """`["<name>", <data>]` to every client of the namespace."""
    return Frame(b"%b%b,%b]" % (_EVENT, _encode(event.name), event.json))


def ack_frame(ack_id: int, answer: Any) -> Frame:
    """The answer to the event that a client numbered `ack_id`."""
    return Frame(b"%b%d[%b]" % (_ACK, ack_id, _encode(answer)))


def text_frame(payload: bytes) -> bytes:
    """A server's WebSocket frame: final, text, not masked (RFC 6455, 5.2)."""
    return _header(0x81, len(payload)) + payload


def _deflated_frame(payload: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    packed = packed[:-4]  # the empty block at the end is understood (RFC 7692, 7.2.1)
    return _header(0xC1, len(packed)) + packed


def _header(first_byte: int, length: int) -> bytes:
    if length < 126:
        return bytes((first_byte, length))
    if length < 1 << 16:
        return b"%c\x7e%b" % (first_byte, length.to_bytes(2, "big"))
    return b"%c\x7f%b" % (first_byte, length.to_bytes(8, "big"))
