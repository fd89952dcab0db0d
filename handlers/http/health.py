"""Is the process up; can it serve."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from handlers.http.bodies import json_response
from handlers.http.keys import READINESS

#: Seconds after which it is worth asking again.
RETRY_SECONDS: Final = 1


async def healthz(_request: web.Request) -> web.Response:
    """200 while the process answers at all."""
    return json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """200 while every part is there, else 503; each part with its state."""
    readiness = await request.app[READINESS]()
    if readiness.get("status") == "ready":
        return json_response(readiness)
    return json_response(readiness, status=503, headers={hdrs.RETRY_AFTER: str(RETRY_SECONDS)})
