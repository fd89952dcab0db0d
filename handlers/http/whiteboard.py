"""`/sessions/{ref}/whiteboard`: what is drawn in a session."""

from __future__ import annotations

from aiohttp import web

from handlers.http.bodies import json_response
from handlers.http.keys import LIVE
from handlers.http.messages import entered
from handlers.http.requests import link, query_seq


async def show(request: web.Request) -> web.Response:
    """The board, or what of it changed after a revision; page by page."""
    _, member = await entered(request)
    page = await request.app[LIVE].whiteboards.page(member.session_id, after=query_seq(request, "after"))
    more = link(request, "next", after=str(page["revision"])) if page["more"] else {}
    return json_response(page, headers=more)


async def clear(request: web.Request) -> web.Response:
    _, member = await entered(request)
    await request.app[LIVE].whiteboards.clear(member)
    return json_response({"message": "Whiteboard cleared successfully"})
