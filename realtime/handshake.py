"""How a WebSocket is opened (RFC 6455, 4.2): aiohttp answers HTTP on the port, and lets go of the connection here.

What is relied on, beyond documented interfaces (`tests/realtime/test_websocket.py` fails if a new version changes it):
``aiohttp.web_protocol.RequestHandler`` lets go of a connection in ``connection_lost`` without closing the transport
when its ``transport`` was set to None before, and keeps what came behind the handshake in ``_message_tail``.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Sequence
from hashlib import sha1
from typing import Any, Final

from aiohttp import web

from realtime.websocket import WebSocket

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES: Final = 16


class NoHandshake(Exception):
    """The request is no opening handshake of a WebSocket; the message says why."""


def answer_to(request: web.Request, *, deflate: bool) -> tuple[bytes, bool]:
    """The answer to an opening handshake (RFC 6455, 4.2), and whether frames may be compressed on the connection.

    They may if `deflate` says so and the client offered it. Raises NoHandshake.
    """
    headers = request.headers
    if request.method != "GET" or request.version < (1, 1) or request.body_exists:
        raise NoHandshake("a WebSocket is opened by an HTTP/1.1 GET without a body")
    if headers.get("Upgrade", "").strip().lower() != "websocket" or "upgrade" not in _listed(headers, "Connection"):
        raise NoHandshake("the headers Upgrade: websocket and Connection: Upgrade are missing")
    if headers.get("Sec-WebSocket-Version") != "13":
        raise NoHandshake("the version must be 13")
    key = headers.get("Sec-WebSocket-Key", "")
    try:
        length = len(b64decode(key, validate=True))
    except (binascii.Error, ValueError):
        length = 0
    if length != _KEY_BYTES:
        raise NoHandshake(f"Sec-WebSocket-Key must be {_KEY_BYTES} bytes in base64")
    accept = b64encode(sha1(key.encode() + _GUID).digest())  # noqa: S324  # as the RFC has it; it keeps no secret
    deflate = deflate and _offers_deflate(headers.getall("Sec-WebSocket-Extensions", ()))
    extension = b"Sec-WebSocket-Extensions: %b\r\n" % _DEFLATE if deflate else b""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (accept, extension)
    ), deflate


#: Without context takeover one compressed frame suits every client (RFC 7692, 7.1.1).
_DEFLATE: Final = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def _offers_deflate(offers: Sequence[str]) -> bool:
    for offer in ",".join(offers).split(","):
        name, *parameters = (part.strip().lower() for part in offer.split(";"))
        if name == "permessage-deflate" and not any(one.startswith("server_max_window_bits") for one in parameters):
            return True
    return False


def _listed(headers: Any, name: str) -> list[str]:
    return [one.strip().lower() for line in headers.getall(name, ()) for one in line.split(",")]


class Upgraded(web.StreamResponse):
    """What a handler returns whose connection speaks WebSocket from now on: nothing is left to be sent."""

    def __init__(self) -> None:
        super().__init__(status=101)

    async def prepare(self, request: web.BaseRequest) -> None:
        """It was sent by :func:`take_over`."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Nor is there a body."""


def take_over(request: web.Request, websocket: WebSocket, answer: bytes) -> Upgraded:
    """Write the answer to the handshake, and give the request's connection to `websocket`, which is to begin.

    Raises ConnectionError when the client is gone.
    """
    handler, transport = request.protocol, request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client is gone")
    websocket.data_received(handler._message_tail)
    transport.write(answer)
    # aiohttp lets go: of its parser, its task, its timers, and of the request when the handler returns.
    handler.transport = None
    transport.set_protocol(websocket)
    handler.connection_lost(None)
    websocket.connection_made(transport)
    return Upgraded()
