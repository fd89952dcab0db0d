"""`/sessions/{ref}/pinned-message`: the message that the host has pinned."""

from __future__ import annotations

import msgspec
from aiohttp import web

from domain import pins
from domain.events import message_document
from handlers.http.bodies import json_response
from handlers.http.keys import LIVE
from handlers.http.messages import entered, entered_with


class Pin(msgspec.Struct, frozen=True):
    id: str


async def put(request: web.Request) -> web.Response:
    _, member, wanted = await entered_with(request, Pin)
    message = await pins.pin(request.app[LIVE], member, wanted.id)
    return json_response(message_document(message))


async def delete(request: web.Request) -> web.Response:
    _, member = await entered(request)
    await pins.unpin(request.app[LIVE], member)
    return json_response({"message": "Message unpinned successfully"})
