"""Acks: `{ok: true, …}`, or `{ok: false, error}` with the error as REST says it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import structlog

from domain.errors import EncountersError, Unavailable
from realtime.connection import Reply
from realtime.log import Closed, Overloaded
from store.errors import Away

logger = structlog.get_logger(__name__)


def done(**added: Any) -> Reply:
    return Reply({"ok": True, **added})


async def answered(work: Coroutine[Any, Any, Reply], event_name: str) -> Reply:
    try:
        return await work
    except Exception as error:  # noqa: BLE001  # it is said in the ack
        return refusal(error, event_name)


def refusal(error: BaseException, event_name: str) -> Reply:
    """What went wrong, for the client. A fault of ours is logged."""
    if isinstance(error, Away | Overloaded | Closed):
        error = away()
    elif not isinstance(error, EncountersError):
        logger.error("event.failed", event_name=event_name, exc_info=error)
        error = EncountersError("Something went wrong here; it was noted.")
    return Reply({"ok": False, "error": error.document()})


def away() -> Unavailable:
    return Unavailable("The database is away for a moment; try again.", retry_after=1)
