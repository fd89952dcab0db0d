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
    """The newest entries, or those before or after a cursor; ascending."""
    session, _ = await entered(request)
    pool = request.app[DATABASE]
    limit, before, after = query_limit(request), query_seq(request, "before"), query_seq(request, "after")
    if after is not None:
        entries = await events.first_after(pool, session.id, after, limit=limit + 1)
        shown = entries[:limit]
        more = link(request, "next", after=str(shown[-1].seq)) if len(entries) > limit else None
    else:
        entries = await events.newest(pool, session.id, before=before, limit=limit + 1)
        shown = entries[-limit:]
        more = link(request, "prev", before=str(shown[0].seq)) if len(entries) > limit else None
    return json_response([timeline_document(entry) for entry in shown], headers=more)
