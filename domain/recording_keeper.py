"""What time does to recordings: one that nobody stops is stopped, one whose file never comes has failed, old ones go.

Every worker looks now and then; the database gives each recording to one of them. Nothing of it is lost with a worker:
whoever looks next finds what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from domain.live import Live
from store import audit, recordings
from store import sessions as session_store
from store.errors import Away, translated
from store.events import LogEntry
from store.ids import first_id

#: Seconds between two looks of a worker, about: hours are waited for, so minutes do not count.
LOOK_SECONDS: Final = 60.0
#: By what part of that each pause is longer or shorter, so that workers that started together part.
JITTER: Final = 0.2
#: The longest recording: longer than any lesson. Whoever forgot to stop it was recorded for long enough.
LONGEST: Final = timedelta(hours=12)
#: For how long a recording that was stopped waits for its file: a slow line, a weekend, another device.
WAITS_FOR_FILE: Final = timedelta(hours=72)
#: Recordings of each kind that are looked up at a time.
AT_A_TIME: Final = 50
#: Who is said to have deleted what was kept for as long as it should be.
TIME: Final = "retention"

NO_FILE: Final = "No file came for this recording."

logger = structlog.get_logger(__name__)


class RecordingKeeper:
    """This worker's part in it. Recordings are kept for `retention`, or forever. `clock` is for tests."""

    def __init__(
        self, live: Live, retention: timedelta | None, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._live = live
        self._retention = retention
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._look_forever(), name="recordings")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def stop_forgotten(self) -> int:
        """Stop the recordings that have run for too long; how many. Their sessions go on. Raises Away."""
        total, before = 0, self._clock() - LONGEST
        while session_ids := await recordings.left_running(self._live.pool, before=before, limit=AT_A_TIME):
            for session_id in session_ids:
                with translated():
                    async with self._live.pool.acquire() as connection, connection.transaction():
                        await session_store.locked(connection, session_id)
                        entry = await recordings.stop_running(connection, session_id, stopped_by=None, before=before)
                if entry is not None:
                    self._live.publish([entry])
                    total += 1
            if len(session_ids) < AT_A_TIME:
                break
        return total

    async def fail_without_file(self) -> int:
        """Say of the recordings whose file never came that they have failed; how many. Raises Away."""
        total, before = 0, self._clock() - WAITS_FOR_FILE
        while True:
            waiting = await recordings.without_a_file(self._live.pool, before=before, limit=AT_A_TIME)
            for recording in waiting:
                entry: LogEntry | None = None
                with translated():
                    async with self._live.pool.acquire() as connection, connection.transaction():
                        # The session's row before the recording's, as everybody does.
                        await session_store.locked(connection, recording.session_id)
                        held = await recordings.find(connection, recording.id)
                        if held is not None and held.status == "processing" and held.file_id is None:
                            await recordings.finish(connection, held.id, "failed", failure=NO_FILE)
                            entry = await recordings.log_state(
                                connection, recording.session_id, recording.id, "failed", at=self._clock(), user_id=None
                            )
                if entry is not None:
                    self._live.publish([entry])
                    total += 1
            if len(waiting) < AT_A_TIME:
                return total

    async def forget(self) -> int:
        """Delete the recordings, and their files, that are older than is kept; how many. Each is noted in the audit
        log. Raises Away."""
        if self._retention is None:
            return 0
        total, first_kept = 0, first_id(self._clock() - self._retention)
        while True:
            old = await recordings.older_than(self._live.pool, first_kept, limit=AT_A_TIME)
            for recording in old:
                # Each by itself: two workers that hold several people's files would wait for each other.
                with translated():
                    async with self._live.pool.acquire() as connection, connection.transaction():
                        await session_store.locked(connection, recording.session_id)
                        if not await recordings.delete(connection, recording.id):
                            continue  # another worker was faster, or its host
                        await audit.append(
                            connection,
                            actor_id=TIME,
                            action="recording_expired",
                            subject=recording.uploaded_by,
                            details={"session_id": recording.session_id, "recording_id": recording.id},
                        )
                total += 1
            if len(old) < AT_A_TIME:
                return total

    async def _look_forever(self) -> None:
        while True:
            # Before the first look, too: workers that start have more urgent things to do.
            await asyncio.sleep(LOOK_SECONDS * random.uniform(1 - JITTER, 1 + JITTER))
            for look in (self.stop_forgotten, self.fail_without_file, self.forget):
                try:
                    found = await look()
                except Away as error:
                    logger.info("recordings.look_waits", reason=str(error))
                except Exception:
                    logger.exception("recordings.look_failed")
                else:
                    if found:
                        logger.info("recordings.looked_after", act=look.__name__, recordings=found)
