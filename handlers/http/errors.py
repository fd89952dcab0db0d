"""Every refusal leaves as the same JSON document, whoever raised it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from domain.errors import Conflict, EncountersError, TooSlow, Unauthenticated, Unavailable
from handlers.http.bodies import json_response
from handlers.http.keys import BEGUN
from store.errors import Away, Refused

#: Seconds to wait before trying again while the database is away: it is restarted, or another takes over.
AWAY_RETRY_SECONDS: Final = 1

#: Headers of aiohttp's own refusals that mean something beside the document.
_KEPT_HEADERS: Final = (hdrs.ALLOW, hdrs.RETRY_AFTER, hdrs.WWW_AUTHENTICATE, hdrs.CONTENT_RANGE)
#: What the status alone cannot say well to a person.
_SENTENCES: Final = {
    404: "There is nothing at this address.",
    405: "This address does not take that method.",
    413: "What was sent is too large.",
    417: "What the Expect header asks for is not offered.",
}
_CODES: Final = {413: "too_large"}

_log = structlog.get_logger(__name__)


@web.middleware
async def errors_as_documents(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into ``{error, message, status_code, fields?}`` with its status.

    A response that was begun is never followed by another: its connection is cut, so that nobody takes it for whole.
    """
    try:
        return await _handled(request, handler)
    except TooSlow as error:
        return await _last_response(request, response_of(error))
    except EncountersError as error:
        return response_of(error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _response_of_aiohttps(error)
    except (Away, TimeoutError, ConnectionError) as error:
        # A ConnectionError may be the client's own, who then does not read this response.
        _log.warning("part_away", error=str(error) or type(error).__name__, kind=type(error).__name__)
        return response_of(
            Unavailable("A part of the server is away for the moment; try again.", retry_after=AWAY_RETRY_SECONDS)
        )
    except Refused as refused:
        # A handler that knows the constraint says more; the data stayed consistent either way.
        _log.warning("refused_by_constraint", constraint=refused.constraint)
        return response_of(Conflict("This does not fit what is stored."))
    except Exception:  # noqa: BLE001 - the one place where nothing may pass
        _log.exception("request_failed", method=request.method, path=logged_path(request))
        return response_of(EncountersError("Something went wrong here. It was logged."))


async def _handled(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Exception as error:
        if BEGUN not in request:
            raise
        if isinstance(error, (Away, ConnectionError, EncountersError, TimeoutError)):
            # A ConnectionError is mostly the client's own: players leave when they have what they wanted.
            reason = str(error) or type(error).__name__
            say = _log.debug if isinstance(error, ConnectionError) else _log.warning
            say("answer_cut", method=request.method, path=logged_path(request), reason=reason)
        else:
            _log.exception("answer_cut", method=request.method, path=logged_path(request))
        if request.transport is not None:
            request.transport.abort()  # what waits to be sent is not waited for
        return request[BEGUN]


def logged_path(request: web.Request) -> str:
    """The request's path without what opens something by itself: a link's token never stands in a log."""
    token = request.match_info.get("token")
    path = request.rel_url.raw_path
    if token is None:
        return path
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else path


def response_of(error: EncountersError) -> web.Response:
    """The HTTP response that says `error`."""
    headers: dict[str, str] = {}
    if error.retry_after is not None or isinstance(error, Unavailable):
        headers[hdrs.RETRY_AFTER] = str(error.retry_after or AWAY_RETRY_SECONDS)
    if isinstance(error, Unauthenticated):
        headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    return json_response(error.document(), status=error.status_code, headers=headers)


async def _last_response(request: web.Request, response: web.Response) -> web.Response:
    """Send `response` and close the connection: aiohttp would go on waiting for the rest of the body."""
    response.force_close()
    await response.prepare(request)
    await response.write_eof()
    request.protocol.force_close()
    return response


def _response_of_aiohttps(error: web.HTTPException) -> web.Response:
    """aiohttp's refusal: unknown path, wrong method, a failed preflight."""
    phrase = HTTPStatus(error.status).phrase
    own_text = error.text if error.text and not error.text.startswith(f"{error.status}:") else None
    document = {
        "error": _CODES.get(error.status) or phrase.lower().replace(" ", "_").replace("-", "_"),
        "message": own_text or _SENTENCES.get(error.status) or f"{phrase}.",
        "status_code": error.status,
    }
    headers = {str(name): error.headers[name] for name in _KEPT_HEADERS if name in error.headers}
    return json_response(document, status=error.status, headers=headers)
