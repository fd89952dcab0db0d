"""`/sessions/{ref}/timeline`: everything of a session that has a `seq`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from domain.events import timeline_document
from domain.recordings import MAX_SPANS, offset_in
from handlers.http.bodies import json_response
from handlers.http.keys import DATABASE
from handlers.http.messages import entered
from handlers.http.requests import link, query_limit, query_seq
from store import events, recordings
from store.events import LogEntry
from store.recordings import Span


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
    spans = await recordings.spans(pool, session.id, limit=MAX_SPANS)
    return json_response([_document(entry, spans) for entry in shown], headers=more)


def _document(entry: LogEntry, spans: Sequence[Span]) -> dict[str, Any]:
    """A line; with where it is in the recording that ran then, so that a player can go there."""
    line = timeline_document(entry)
    place = offset_in(spans, entry.at)
    if place is not None:
        span, seconds = place
        line |= {"recording_id": span.id, "offset_seconds": seconds}
    return line
