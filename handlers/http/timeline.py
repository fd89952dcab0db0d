"""`/sessions/{ref}/timeline`: everything of a session that has a `seq`."""

from __future__ import annotations

from aiohttp import web

from domain.events import timeline_document
from handlers.http.bodies import json_response
from handlers.http.keys import DATABASE
from handlers.http.messages import entered
from handlers.http.requests import link, query_limit, query_seq
from store import events


async def index(request: web.Request) -> web.Response:
    session, _ = await entered(request)
    limit, after = query_limit(request), query_seq(request, "after")
    pool = request.app[DATABASE]
    if after is None:
        entries = await events.newest(pool, session.id, limit=limit + 1)
        shown = entries[-limit:]
        headers = link(request, "next", after=str(shown[-1].seq)) if shown else {}
        return json_response([timeline_document(entry) for entry in shown], headers=headers)
    entries = await events.first_after(pool, session.id, after, limit=limit + 1)
    shown = entries[:limit]
    headers = link(request, "next", after=str(shown[-1].seq)) if len(entries) > limit else {}
    return json_response([timeline_document(entry) for entry in shown], headers=headers)
