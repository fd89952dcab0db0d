"""`/sessions/{ref}/messages`: the chat of a session, over plain HTTP."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import msgspec
from aiohttp import hdrs, web

from domain import access, chat
from domain.access import Member
from domain.events import message_document
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import DATABASE, LIVE, PAGE_CACHE
from handlers.http.page_cache import CachedPage
from handlers.http.requests import identity_of, link, query_limit, query_seq
from handlers.payloads import StructT
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
    cache = request.app[PAGE_CACHE]
    page = cache.get(session.id, request.raw_path, last_seq=session.last_seq)
    if page is not None:
        return _not_modified(request, page.etag) or web.Response(body=page.body, headers=page.headers)
    limit, before, after = query_limit(request), query_seq(request, "before"), query_seq(request, "after")
    not_modified = _not_modified(request, _etag(session.id, session.last_seq))
    if not_modified is not None:
        return not_modified
    page = await _read_page(request, session.id, limit=limit, before=before, after=after)
    page = cache.put(session.id, request.raw_path, page)
    return web.Response(body=page.body, headers=page.headers)


async def _read_page(
    request: web.Request, session_id: UUID, *, limit: int, before: int | None, after: int | None
) -> CachedPage:
    # One more than asked for tells whether there are more.
    page = await messages.page(request.app[DATABASE], session_id, before=before, after=after, limit=limit + 1)
    if page is None:
        raise access.unknown_session()
    shown, more = page.messages, dict[str, str]()
    if len(shown) > limit:
        if after is not None:
            shown = shown[:limit]
            more = link(request, "next", after=str(shown[-1].seq))
        else:
            shown = shown[-limit:]
            more = link(request, "prev", before=str(shown[0].seq))
    etag = _etag(session_id, page.last_seq)
    answer = json_response([message_document(message) for message in shown], headers=_validators(etag) | more)
    assert isinstance(answer.body, bytes)
    return CachedPage(last_seq=page.last_seq, etag=etag, headers=answer.headers, body=answer.body)


def _etag(session_id: UUID, last_seq: int) -> str:
    return f"{session_id}-{last_seq}"


def _validators(etag: str) -> dict[str, str]:
    return {hdrs.ETAG: f'"{etag}"', hdrs.CACHE_CONTROL: "private, no-cache"}


def _not_modified(request: web.Request, etag: str) -> web.Response | None:
    """304 for whoever has seen this state of the history already."""
    if any(seen.value in (etag, "*") for seen in request.if_none_match or ()):
        return web.Response(status=304, headers=_validators(etag))
    return None


async def show(request: web.Request) -> web.Response:
    _, member = await entered(request)
    message = await chat.find(request.app[LIVE], member, request.match_info["id"])
    return json_response(message_document(message))


async def create(request: web.Request) -> web.Response:
    session, member, new = await entered_with(request, NewMessage)
    message, repeated = await chat.send(
        request.app[LIVE], member, text=new.text, client_id=new.client_id, muted=session.chat_muted
    )
    return json_response(message_document(message), status=200 if repeated else 201)


async def change(request: web.Request) -> web.Response:
    _, member, wanted = await entered_with(request, MessageChange)
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


async def entered_with(
    request: web.Request, type_: type[StructT], *, may: Callable[[Member], None] = lambda member: None
) -> tuple[Session, Member, StructT]:
    """As :func:`entered`, with the request's body, which is read from those alone who `may` send it.

    They are looked at again once it is here: it takes its time to come, and who sends it may have been removed.
    """
    _, member = await entered(request)
    may(member)
    body = await read_body(request, type_)
    session, member = await entered(request)
    may(member)
    return session, member, body
