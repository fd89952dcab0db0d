"""`/sessions/{ref}/recording-consent`: who agrees to be recorded."""

from __future__ import annotations

import msgspec
from aiohttp import web

from domain import access, consents
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import DATABASE, LIVE
from handlers.http.requests import identity_of, piece_of, query_limit, query_text
from handlers.payloads import UserId


class Decision(msgspec.Struct, frozen=True):
    """`user_id` is a child whom a guardian decides for; without it, oneself."""

    agreed: bool
    user_id: UserId | None = None


async def index(request: web.Request) -> web.Response:
    """What was decided: of everybody to the host, of oneself and one's children to others."""
    limit, after = query_limit(request), query_text(request, "cursor")
    answers = await consents.listing(
        request.app[DATABASE],
        identity_of(request),
        access.session_ref(request.match_info["ref"]),
        after=after,
        limit=limit + 1,
    )
    shown, more = piece_of(request, answers.people, limit, lambda person: str(person["user_id"]))
    document = {"required": answers.required, "people": shown, "children": answers.children}
    return json_response(document, headers=more)


async def put(request: web.Request) -> web.Response:
    ref = access.session_ref(request.match_info["ref"])
    said = await read_body(request, Decision)
    consent = await consents.decide(
        request.app[LIVE], identity_of(request), ref, agreed=said.agreed, user_id=said.user_id
    )
    return json_response({"user_id": consent.user_id, "agreed": consent.agreed, "decided_at": consent.decided_at})
