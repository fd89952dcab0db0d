"""The whiteboard: `whiteboard`, `getWhiteboard`, `clearWhiteboard`."""

from __future__ import annotations

import asyncio
from typing import Any

from domain import whiteboards
from domain.live import Live
from domain.whiteboard import check_revision, document
from domain.whiteboards import Shown
from handlers.encounters.answers import done, refusal
from handlers.encounters.attendees import member_of
from handlers.encounters.payloads import InSession
from realtime.connection import Answer, Connection, Pending, Reply


class Draw(InSession):
    elements: list[Any]


class GetWhiteboard(InSession):
    after: int | None = None


def draw(live: Live, connection: Connection, request: Draw) -> Answer:
    member = member_of(connection, request.session_id)
    return Pending(live.whiteboards.begin_draw(member, request.elements, connection), _drawn)


def _drawn(drawing: asyncio.Future[Shown]) -> Reply:
    try:
        shown = whiteboards.drawn(drawing)
    except Exception as error:  # noqa: BLE001  # it is said in the ack
        return refusal(error, "whiteboard")
    more = {"more": True} if shown.more else {}
    return done(elements=[document(element) for element in shown.winners], **more)


async def show(live: Live, connection: Connection, request: GetWhiteboard) -> Reply:
    member = member_of(connection, request.session_id)
    check_revision(request.after)
    return done(**await live.whiteboards.page(member.session_id, after=request.after))


async def clear(live: Live, connection: Connection, request: InSession) -> Reply:
    await live.whiteboards.clear(member_of(connection, request.session_id))
    return done()
