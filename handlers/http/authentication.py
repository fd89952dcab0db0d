"""Who is asking. Every route needs a token, unless it was opened to everyone."""

from __future__ import annotations

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from domain.errors import Unauthenticated
from domain.identity import Identity
from handlers.http.keys import IDENTITY, PEOPLE, PUBLIC_ROUTES, VERIFIER


@web.middleware
async def authentication(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let nobody by without a valid token, except to public routes and to addresses that do not exist."""
    match = request.match_info
    if match.http_exception is not None or match.route in request.app[PUBLIC_ROUTES]:
        return await handler(request)
    await authenticate(request)
    return await handler(request)


async def authenticate(request: web.Request) -> Identity:
    """The bearer of the request's token, whose row in the database is made or refreshed from it; the log names them.

    For public routes whose answer depends on who asks; elsewhere the identity is on the request already.
    Raises Unauthenticated (`token_missing`, `invalid_token`, …), Unavailable.
    """
    identity = await request.app[VERIFIER].verify(_bearer_token(request))
    request[IDENTITY] = identity
    structlog.contextvars.bind_contextvars(user_id=identity.user_id)
    await request.app[PEOPLE].remember(identity)
    return identity


def _bearer_token(request: web.Request) -> str:
    values = request.headers.getall(hdrs.AUTHORIZATION, [])
    scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("Send a token: Authorization: Bearer <token>.", code="token_missing")
    return token
