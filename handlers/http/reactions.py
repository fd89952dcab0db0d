"""`/sessions/{ref}/messages/{id}/reactions`: who reacted to a message with what; and what oneself did."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from domain import chat, reactions
from domain.errors import NotFound, invalid
from domain.events import message_document
from domain.identity import full_name
from handlers.http.bodies import json_response
from handlers.http.keys import DATABASE, LIVE
from handlers.http.messages import entered
from handlers.http.requests import piece_of, query_limit, query_seq, query_text
from store import reactions as stored
from store.reactions import Reaction


async def index(request: web.Request) -> web.Response:
    _, member = await entered(request)
    message = await chat.find(request.app[LIVE], member, request.match_info["id"])
    limit, after = query_limit(request), _after(request)
    found = await stored.of_message(request.app[DATABASE], message.id, after=after, limit=limit + 1)
    shown, more = piece_of(request, found, limit, lambda reaction: f"{reaction.emoji}~{reaction.user_id}")
    return json_response([_document(reaction) for reaction in shown], headers=more)


def _after(request: web.Request) -> tuple[str, str] | None:
    """The place after which the list goes on, as a `Link` wrote it, or None."""
    cursor = query_text(request, "cursor")
    if cursor is None:
        return None
    emoji, _, user_id = cursor.partition("~")
    if not reactions.is_emoji(emoji):
        raise invalid({"cursor": "is not one from a Link header"})
    return emoji, user_id


async def own(request: web.Request) -> web.Response:
    """One's own, to the messages of such a page of the history."""
    session, member = await entered(request)
    found = await stored.own(
        request.app[DATABASE],
        session.id,
        member.user_id,
        before=query_seq(request, "before"),
        limit=query_limit(request),
    )
    return json_response([{"message_id": message_id, "emoji": emoji} for message_id, emoji in found])


async def add(request: web.Request) -> web.Response:
    return await _react(request, reacted=True)


async def remove(request: web.Request) -> web.Response:
    return await _react(request, reacted=False)


async def _react(request: web.Request, *, reacted: bool) -> web.Response:
    _, member = await entered(request)
    emoji = request.match_info["emoji"]
    if not reactions.is_emoji(emoji):
        # A piece of the path: there is nothing by that name.
        raise NotFound("This is not one emoji, written in UTF-8 and percent-encoded.", code="emoji_not_found")
    message = await reactions.react(request.app[LIVE], member, request.match_info["id"], emoji, reacted=reacted)
    return json_response(message_document(message))


def _document(reaction: Reaction) -> dict[str, Any]:
    return {
        "user_id": reaction.user_id,
        "name": full_name(reaction.first_name, reaction.last_name) or reaction.user_id,
        "emoji": reaction.emoji,
        "created_at": reaction.created_at,
    }
