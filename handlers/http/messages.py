"""`/sessions/{ref}/messages`: the chat of a session, over plain HTTP."""

from __future__ import annotations

import msgspec
from aiohttp import hdrs, web

from domain import access, chat
from domain.access import Member
from domain.events import message_document
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import DATABASE, LIVE
from handlers.http.requests import identity_of, link, query_limit, query_seq
from store import messages
from store.sessions import Session


class NewMessage(msgspec.Struct, frozen=True):
    text: str
    client_id: str | None = None


class MessageChange(msgspec.Struct, frozen=True):
    text: str


async def index(request: web.Request) -> web.Response:
    """The newest messages, or those before or after a cursor; ascending."""
    session, _ = await entered(request)
    limit, before, after = query_limit(request), query_seq(request, "before"), query_seq(request, "after")
    etag = f"{session.id}-{session.last_seq}"
    headers: dict[str, str] = {hdrs.ETAG: f'"{etag}"', hdrs.CACHE_CONTROL: "private, no-cache"}
    if any(seen.value in (etag, "*") for seen in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    page = await messages.page(request.app[DATABASE], session.id, before=before, after=after, limit=limit + 1)
    if len(page) > limit:
        if after is not None:
            page = page[:limit]
            headers |= link(request, "next", after=str(page[-1].seq))
        else:
            page = page[-limit:]
            headers |= link(request, "prev", before=str(page[0].seq))
    return json_response([message_document(message) for message in page], headers=headers)


async def create(request: web.Request) -> web.Response:
    _, member = await entered(request)
    new = await read_body(request, NewMessage)
    message, repeated = await chat.send(request.app[LIVE], member, text=new.text, client_id=new.client_id)
    return json_response(message_document(message), status=200 if repeated else 201)


async def change(request: web.Request) -> web.Response:
    _, member = await entered(request)
    wanted = await read_body(request, MessageChange)
    message = await chat.edit(request.app[LIVE], member, request.match_info["id"], text=wanted.text)
    return json_response(message_document(message))


async def delete(request: web.Request) -> web.Response:
    _, member = await entered(request)
    message = await chat.delete(request.app[LIVE], member, request.match_info["id"])
    return json_response(message_document(message))


async def entered(request: web.Request) -> tuple[Session, Member]:
    """The session in the path, and its visitor as a member. Raises NotFound, Forbidden."""
    ref = access.session_ref(request.match_info["ref"])
    return await access.enter(request.app[DATABASE], ref, identity_of(request))
