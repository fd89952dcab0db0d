"""Bodies that are taken in as they come, and are never held whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from aiohttp import HttpVersion11, hdrs, web

from domain.errors import BadRequest

_CONTINUE: Final = "100-continue"
_ASKED: Final[web.RequestKey[bool]] = web.RequestKey("ASKED")


async def expect_later(request: web.Request) -> None:
    """aiohttp's hook for `Expect`: the client is asked for the body when somebody wants it (:func:`ask_for_body`), so
    that who is refused sends nothing. Raises HTTPExpectationFailed for what else is expected."""
    if request.version == HttpVersion11 and request.headers.get(hdrs.EXPECT, "").lower() != _CONTINUE:
        raise web.HTTPExpectationFailed


async def ask_for_body(request: web.Request) -> None:
    """Tell a client that waits for it to send the body (RFC 9110, 10.1.1)."""
    expects = request.headers.get(hdrs.EXPECT, "").lower() == _CONTINUE
    if expects and request.version == HttpVersion11 and not request.get(_ASKED):
        request[_ASKED] = True
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # of the answer itself


async def chunks_of(request: web.Request) -> AsyncIterator[bytes]:
    """The body in the pieces in which it comes. Raises BadRequest (`body_incomplete`) where it breaks off."""
    await ask_for_body(request)
    try:
        async for piece in request.content.iter_any():
            yield piece
    except (web.RequestPayloadError, ConnectionError) as error:
        raise incomplete() from error


def incomplete() -> BadRequest:
    return BadRequest("The body did not arrive whole.", code="body_incomplete")
