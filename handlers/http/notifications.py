"""`/notifications`: what one was told of, and whether one has read it."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import msgspec
from aiohttp import web

from domain import notifications
from domain.errors import invalid
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import DATABASE, LIVE
from handlers.http.requests import identity_of, link, path_uuid, query_limit, query_text, query_word
from store import notifications as store

#: How many of all one's notifications are unread, beside a list of some of them.
UNREAD_COUNT_HEADER: Final = "X-Unread-Count"


class Change(msgspec.Struct, frozen=True):
    read: bool


async def index(request: web.Request) -> web.Response:
    """One's own, newest first: all, or only the unread ones."""
    limit = query_limit(request)
    page = await store.page(
        request.app[DATABASE],
        identity_of(request).user_id,
        only_unread=query_word(request, "unread", ("true", "false")) == "true",
        before=_before(request),
        limit=limit + 1,
    )
    shown = page.received[:limit]
    headers = {UNREAD_COUNT_HEADER: str(page.unread)}
    if len(page.received) > limit:
        headers |= link(request, "next", before=str(shown[-1].notification.id))
    documents = [notifications.document(received.notification, read=received.read) for received in shown]
    return json_response(documents, headers=headers)


def _before(request: web.Request) -> UUID | None:
    text = query_text(request, "before")
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise invalid({"before": "is not the id of a notification"}) from None


async def change(request: web.Request) -> web.Response:
    notification_id = path_uuid(request, "id", notifications.unknown_notification)
    wanted = await read_body(request, Change)
    document = await notifications.mark(request.app[LIVE], identity_of(request), notification_id, read=wanted.read)
    return json_response(document)


async def read_all(request: web.Request) -> web.Response:
    return json_response({"read": await notifications.mark_all_read(request.app[LIVE], identity_of(request))})
