"""Reminders: some minutes before a confirmed lesson starts, each of its people is told once.

Every worker looks every few seconds, and a lesson that is due goes to whichever worker claims it in the database
(`store.reminders`). It is due by what stands there at that moment: a lesson that was cancelled is not, one that was
moved is due anew before its new start.

The claim and the notifications that come of it are stored in one transaction, before anybody is told: nobody is told
twice, and people without a connection at that moment, or whose worker dies in it, find theirs in their list
(`domain.notifications`). A bus that is known to be away is waited for, until ALONE before the start: what it does not
carry is not shown before the next look into the list.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from domain import notifications
from domain.live import Live
from domain.notifications import Told
from store import reminders
from store.errors import Away, translated
from store.reminders import DueLesson

#: Seconds between two looks of a worker, about: by so much a reminder may be late.
LOOK_SECONDS: Final = 10.0
#: By what part of that each pause is longer or shorter, so that workers that started together part.
JITTER: Final = 0.2
#: How long before the start a lesson is claimed though the bus is away; half of the lead where that is less.
ALONE: Final = timedelta(minutes=3)
#: Seconds that a look under way may take to end when the worker leaves.
CLOSE_SECONDS: Final = 2.0
#: Lessons claimed in one statement.
MAX_CLAIMED: Final = 200

logger = structlog.get_logger(__name__)


class Reminders:
    """This worker's looks for lessons that start within `lead`. `clock` is for tests."""

    def __init__(
        self, live: Live, lead: timedelta, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._live = live
        self._lead = lead
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._leaves = asyncio.Event()
        self._bus_was_connected = True

    def start(self) -> None:
        self._task = asyncio.create_task(self._look_forever(), name="reminders")

    async def close(self) -> None:
        """Look no more. A look under way ends first, if it does within CLOSE_SECONDS: what it has claimed is told."""
        self._leaves.set()
        if self._task is not None:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._task
            except TimeoutError:
                logger.warning("reminders.look_cut")

    async def remind(self) -> int:
        """Remind the people of every lesson that is due and unclaimed; how many lessons those were.

        While the bus is away, and until it was there at two looks, only those are due that cannot wait any longer.
        Raises Away; what was claimed before is told all the same.
        """
        lead = self._lead
        # The other workers come back to the bus within a second or two of this one.
        if not (self._live.bus.connected and self._bus_was_connected):
            lead = min(ALONE, lead / 2)
        self._bus_was_connected = self._live.bus.connected
        total = 0
        while True:
            now = self._clock()
            with translated():
                async with self._live.pool.acquire() as connection, connection.transaction():
                    due = await reminders.claim(connection, now=now, until=now + lead, limit=MAX_CLAIMED)
                    told = [reminder for lesson in due for reminder in reminders_of(lesson, now)]
                    await notifications.keep(connection, told)
            notifications.push(self._live, *told)
            total += len(due)
            if len(due) < MAX_CLAIMED:
                return total

    async def _look_forever(self) -> None:
        # Before the first look, too: after a restart, people have this time to come back and be told.
        while not await self._left_within(LOOK_SECONDS * random.uniform(1 - JITTER, 1 + JITTER)):
            try:
                reminded = await self.remind()
            except Away as error:
                logger.info("reminders.look_waits", reason=str(error))
            except Exception:
                logger.exception("reminders.look_failed")
            else:
                if reminded:
                    logger.info("reminders.sent", lessons=reminded)

    async def _left_within(self, seconds: float) -> bool:
        """Wait for so long, or until the worker leaves."""
        try:
            async with asyncio.timeout(seconds):
                await self._leaves.wait()
        except TimeoutError:
            return False
        return True


def reminders_of(lesson: DueLesson, now: datetime) -> Iterator[Told]:
    """What the people of a lesson are told, each once, whatever their parts in it."""
    title = f"{lesson.title or 'Your lesson'} starts in {_in_words(lesson.start_time - now)}"
    both = f"{lesson.student_name} with {lesson.teacher_name}"
    by_person: dict[str, str] = {}
    for user_id, body in (
        (lesson.student_id, f"With {lesson.teacher_name}"),
        (lesson.teacher_id, f"With {lesson.student_name}"),
        (lesson.parent_id, both),
        (lesson.student_parent_id, both),
    ):
        if user_id is not None:
            by_person.setdefault(user_id, body)
    by_body: dict[str, list[str]] = {}
    for user_id, body in by_person.items():
        by_body.setdefault(body, []).append(user_id)
    data = {
        "booking_id": lesson.booking_id,
        "session_id": lesson.booking_id,
        "start_time": lesson.start_time,
    }
    for body, user_ids in by_body.items():
        yield notifications.compose(
            user_ids, kind="session_reminder", title=title, body=body, data=data, created_at=now
        )


def _in_words(time: timedelta) -> str:
    """In minutes, from two hours on in hours, from two days on in days."""
    for unit, name in ((timedelta(days=1), "days"), (timedelta(hours=1), "hours")):
        if time >= 2 * unit:
            return f"{round(time / unit)} {name}"
    minutes = math.ceil(time / timedelta(minutes=1))
    return "a minute" if minutes == 1 else f"{minutes} minutes"
