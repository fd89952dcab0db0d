"""Request bodies in, JSON responses out."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import LooseHeaders

from domain.errors import BadRequest, TooLarge, TooSlow, UnsupportedMediaType
from handlers.payloads import StructT, decode

#: Every JSON body of this API is far smaller; uploads take another way.
MAX_BODY_BYTES: Final = 256 * 1024
#: A body has so long to arrive: minutes for MAX_BODY_BYTES would be somebody holding a connection.
READ_SECONDS: Final = 30.0
JSON: Final = "application/json"


async def read_body(request: web.Request, type_: type[StructT]) -> StructT:
    """The request's JSON body as a `type_`.

    Raises UnsupportedMediaType, TooLarge, TooSlow, or BadRequest (`empty_body`, `malformed_json`, `body_incomplete`,
    and what :func:`handlers.payloads.decode` raises).
    """
    return decode(type_, await _read_json(request))


async def read_bytes(request: web.Request) -> bytes:
    """The request's body as it came. Raises TooLarge, BadRequest (`body_too_slow`, `body_incomplete`)."""
    return await _read(request) if request.body_exists else b""


async def _read_json(request: web.Request) -> object:
    if request.body_exists and request.content_type != JSON:
        raise UnsupportedMediaType(f"Send the body as {JSON}.")
    body = await read_bytes(request)
    if not body:
        raise BadRequest("The body is empty; send a JSON object.", code="empty_body")
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise BadRequest("The body nests too deep.", code="too_deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not JSON: {_why(error)}.", code="malformed_json") from None


async def _read(request: web.Request) -> bytes:
    too_large = TooLarge(f"A body has at most {MAX_BODY_BYTES} bytes.")
    if request.content_length is not None and request.content_length > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(READ_SECONDS):
            # Counted as it is unpacked: neither a chunked body nor a compressed one says how long it gets.
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    raise too_large
    except TimeoutError:
        raise TooSlow(f"The body did not arrive within {READ_SECONDS:g} seconds.") from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise BadRequest("The body did not arrive whole.", code="body_incomplete") from error
    return bytes(body)


def _why(error: Exception) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def json_response(value: Any, status: int = 200, headers: LooseHeaders | None = None) -> web.Response:
    """`value` as JSON: structs, dataclasses, UUIDs and datetimes (in UTC, with Z) as they are."""
    return web.Response(
        body=msgspec.json.encode(value),
        status=status,
        headers=headers,
        content_type=JSON,
        charset="utf-8",
    )
