"""What is done about notifications beside the acts that they come of: a whole course is told, old ones are deleted.

Every worker looks every few seconds. The database gives each piece of work to one of them: a course's next batch is
written once, whoever writes it, and goes on where a worker stopped in the middle.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from domain import notifications
from domain.live import Live
from domain.notifications import BATCH_PEOPLE, Told
from store import notifications as store
from store.errors import Away

#: Seconds between two looks of a worker, about: so long a course waits whose worker stopped in the middle.
LOOK_SECONDS: Final = 10.0
#: By what part of that each pause is longer or shorter, so that workers that started together part.
JITTER: Final = 0.2
#: Seconds between two looks for old notifications: they are days older than they need to be anyway.
FORGET_SECONDS: Final = 600.0
#: Rows of each kind that are deleted in one transaction: some 20 ms of the database's time.
FORGOTTEN_AT_A_TIME: Final = 500

logger = structlog.get_logger(__name__)


class Notifier:
    """This worker's part in it. Notifications are kept for `retention`, or forever. `clock` is for tests."""

    def __init__(
        self, live: Live, retention: timedelta | None, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._live = live
        self._retention = retention
        self._clock = clock
        self._more = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        live.more_to_tell = self._more.set

    def start(self) -> None:
        self._tasks.append(asyncio.create_task(self._hand_on_forever(), name="notifications-hand-on"))
        if self._retention is not None:
            self._tasks.append(asyncio.create_task(self._forget_forever(), name="notifications-forget"))

    async def close(self) -> None:
        self._live.more_to_tell = lambda: None
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def hand_on(self) -> int:
        """Tell everybody else whom a notification goes to that is stored for the first of them; how many those were.

        A batch is shown before the next one is written: those at the beginning of a long list do not wait for its end,
        and neither does anything else here. Raises Away; whoever asks next goes on from there.
        """
        total = 0
        while (batch := await store.hand_on(self._live.pool, limit=BATCH_PEOPLE)) is not None:
            notifications.push(self._live, Told(notification=batch.notification, user_ids=batch.user_ids))
            total += len(batch.user_ids)
            await asyncio.sleep(0)
        return total

    async def forget(self) -> int:
        """Delete what is older than is kept; how many rows those were. Raises Away."""
        if self._retention is None:
            return 0
        total, before = 0, self._clock() - self._retention
        while rows := await store.forget(self._live.pool, before=before, limit=FORGOTTEN_AT_A_TIME):
            total += rows
            await asyncio.sleep(0)
        return total

    async def _hand_on_forever(self) -> None:
        while True:
            try:
                await self.hand_on()
            except Away as error:
                logger.info("notifications.hand_on_waits", reason=str(error))
            except Exception:
                logger.exception("notifications.hand_on_failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_about(LOOK_SECONDS)):
                    await self._more.wait()
            self._more.clear()

    async def _forget_forever(self) -> None:
        while True:
            # Before the first look, too: workers that start have more urgent things to do.
            await asyncio.sleep(_about(FORGET_SECONDS))
            try:
                forgotten = await self.forget()
            except Away as error:
                logger.info("notifications.forget_waits", reason=str(error))
            except Exception:
                logger.exception("notifications.forget_failed")
            else:
                if forgotten:
                    logger.info("notifications.forgotten", rows=forgotten)


def _about(seconds: float) -> float:
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)
