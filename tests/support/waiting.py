"""Waiting for what happens elsewhere in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.support.recorder import WAIT_SECONDS

POLL_SECONDS = 0.005


async def until(condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    """Wait until `condition()`. Raises TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # whatever it is, it sets no event
            await asyncio.sleep(POLL_SECONDS)
