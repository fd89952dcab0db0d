"""`GET /search/teachers`."""

from __future__ import annotations

from aiohttp import web

from domain.errors import BadRequest
from handlers.http.bodies import json_response
from handlers.http.keys import DATABASE
from handlers.http.requests import link, query_limit, query_text, query_whole_number
from store import search
from store.search import MAX_FOUND


async def teachers(request: web.Request) -> web.Response:
    topic = (query_text(request, "topic") or "").strip()
    if not topic:
        raise BadRequest("Give a topic to search for.", code="topic_required")
    limit = query_limit(request)
    # Of a ranking that is made anew each time only the place in it can be a cursor; it ends at MAX_FOUND.
    skip = query_whole_number(request, "cursor", least=0, most=MAX_FOUND) or 0
    found = await search.teachers(request.app[DATABASE], topic, skip=skip, limit=limit + 1)
    shown = found[:limit]
    more = link(request, "next", cursor=str(skip + limit)) if len(found) > limit else None
    documents = [
        {
            "user_id": teacher.id,
            "name": teacher.name,
            "bio": teacher.bio,
            "topics": teacher.topics,
            "rating": teacher.rating,
        }
        for teacher in shown
    ]
    return json_response(documents, headers=more)
