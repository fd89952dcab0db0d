"""`/webhooks/daily`: what Daily tells of its recordings."""

from __future__ import annotations

import time
from typing import Final

import structlog
from aiohttp import web

from domain.errors import BadRequest, Unauthenticated
from handlers.http.bodies import json_response, read_bytes
from handlers.http.keys import DAILY_WEBHOOKS
from meetings import webhooks
from meetings.webhooks import RecordingNews, WebhookRefused

#: Statuses of what is not believed; anything else of a delivery that is not taken is a bad request.
_UNBELIEVED: Final = frozenset({"webhook_unsigned", "webhook_forged", "webhook_stale"})

logger = structlog.get_logger(__name__)


async def daily(request: web.Request) -> web.Response:
    """Take a delivery that Daily signed; 200 for the ping before there is a secret, which does nothing.

    Daily takes anything but a quick 200 for a failure, and soon sends no more: what is known already, and what nobody
    knows of, is 200, too. A delivery that comes again, to whichever worker, changes nothing.
    """
    body = await read_bytes(request)
    if webhooks.is_ping(body):
        return json_response({"message": "Here"})
    door = request.app[DAILY_WEBHOOKS]
    try:
        if door.secret is None:
            raise WebhookRefused("No webhook was set up: DAILY_WEBHOOK_SECRET is not set.", "webhook_unsigned")
        webhooks.verify(
            door.secret,
            timestamp=request.headers.get(webhooks.TIMESTAMP_HEADER),
            signature=request.headers.get(webhooks.SIGNATURE_HEADER),
            body=body,
            now=time.time(),
        )
        news = webhooks.parse(body)
    except WebhookRefused as refused:
        logger.warning("webhook.refused", code=refused.code)
        if refused.code in _UNBELIEVED:
            raise Unauthenticated(refused.message, code=refused.code) from None
        raise BadRequest(refused.message, code=refused.code) from None
    if isinstance(news, RecordingNews):
        await door.recording_news(news)  # what fails, Daily sends again
    return json_response({"message": "Taken"})
