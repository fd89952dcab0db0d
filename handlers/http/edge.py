"""What every HTTP request passes: an id, one log line, errors as documents, authentication.

:func:`guard` puts it around an app; `handlers.http.routes` fills the app with routes.
"""

from __future__ import annotations

import re
import time
from random import getrandbits
from typing import Final
from uuid import UUID

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from handlers.http.authentication import authentication
from handlers.http.errors import errors_as_documents, logged_path
from handlers.http.keys import ACCESS_LOG, BEGUN, PUBLIC_ROUTES, REQUEST_ID

REQUEST_ID_HEADER: Final = "X-Request-Id"
#: 1 to 128 visible ASCII characters: it goes into log lines and back into a header.
_USABLE_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
#: Asked for every few seconds, by whoever watches the server and by clients on long-polling.
_QUIET_PATHS: Final = frozenset({"/healthz", "/readyz", "/socket.io/"})


def guard(app: web.Application) -> None:
    """Put the middlewares around `app`. Routes need a token until :func:`open_to_everyone` says otherwise."""
    app[PUBLIC_ROUTES] = set()
    app[ACCESS_LOG] = structlog.get_logger("access").bind()  # made once; the log is configured by now
    app.middlewares.extend((request_log, errors_as_documents, authentication))
    app.on_response_prepare.extend((_note_begun, _say_request_id))


def open_to_everyone(app: web.Application, route: web.AbstractRoute) -> None:
    """Let requests to `route` by without a token."""
    app[PUBLIC_ROUTES].add(route)


@web.middleware
async def request_log(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id, and the log one line about it: never the query, which may hold a token."""
    request[REQUEST_ID] = request_id = _request_id(request.headers.get(REQUEST_ID_HEADER))
    # Not taken back: aiohttp handles each request in a task of its own, and the task's context ends with it.
    structlog.contextvars.bind_contextvars(request_id=request_id)
    started = time.perf_counter()
    status = 0
    try:
        response = await handler(request)
        status = response.status
        return response
    except web.HTTPException as redirect:
        status = redirect.status
        raise
    finally:
        log = request.app[ACCESS_LOG]
        say = log.debug if request.path in _QUIET_PATHS else log.info
        say(
            "request",
            method=request.method,
            path=logged_path(request),
            status=status,  # 0: the client left before there was an answer
            milliseconds=round((time.perf_counter() - started) * 1000, 1),
        )


def _request_id(given: str | None) -> str:
    if given is not None and _USABLE_REQUEST_ID.fullmatch(given):
        return given
    # To be told apart, not to be secret: `uuid4` would ask the kernel each time.
    return UUID(int=getrandbits(128), version=4).hex


async def _note_begun(request: web.Request, response: web.StreamResponse) -> None:
    request[BEGUN] = response


async def _say_request_id(request: web.Request, response: web.StreamResponse) -> None:
    if REQUEST_ID in request:
        response.headers[REQUEST_ID_HEADER] = request[REQUEST_ID]
