"""What is cleared away behind the files: uploads that nobody finished, objects that nobody needs, rows of files that
failed long ago. Every worker looks now and then; what it takes, no other takes at that time."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

import structlog

from domain.arrivals import LEASE_SECONDS
from domain.errors import EncountersError
from domain.processing import ABANDONED_SECONDS
from domain.uploads import ONE_GO_EXPIRY, Uploads
from store import files, uploads
from store.errors import Away
from store.files import File
from store.uploads import Upload

#: Seconds between two looks of a worker, about.
LOOK_SECONDS: Final = 60.0
JITTER: Final = 0.2
#: Objects that are looked up at a time.
AT_A_TIME: Final = 20
#: Rows of failed files that are deleted in one statement.
ROWS_AT_A_TIME: Final = 500
#: Seconds after which something is tried again that could not be cleared away: the others have their turn first.
AGAIN_SECONDS: Final = 600.0
#: How much longer than any upload may rest something lies there that is noted nowhere.
MARGIN: Final = timedelta(days=1)
#: How long it stays readable why a file failed.
FAILED_KEPT: Final = timedelta(days=30)

logger = structlog.get_logger(__name__)


class Sweeper:
    """This worker's part in it."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._pool = uploads.pool
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._sweep_forever(), name="sweeper")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def sweep(self) -> None:
        """Clear away everything whose time has come. What cannot be is put off, and the rest goes on. Raises Away of
        the database; whoever comes next goes on from there."""
        await self._end_uploads()
        await self._give_up_uploads()
        await self._delete_objects()
        oldest = max(self._uploads.settings.expiry, ONE_GO_EXPIRY, timedelta(seconds=ABANDONED_SECONDS)) + MARGIN
        await _done("incoming", "", self._uploads.objects.clear(before=datetime.now(UTC) - oldest))
        before = datetime.now(UTC) - FAILED_KEPT
        while await files.forget_failed(self._pool, before=before, limit=ROWS_AT_A_TIME):
            pass

    async def _end_uploads(self) -> None:
        holder = uuid4()
        while expired := await uploads.take_expired(self._pool, holder, seconds=LEASE_SECONDS, limit=1):
            for upload in expired:
                file = await files.find(self._pool, upload.file_id)
                if file is None:
                    continue
                if not await _done("upload", file.key, self._settle(file, upload, holder)):
                    await uploads.put_off(self._pool, file.id, holder, seconds=AGAIN_SECONDS)

    async def _settle(self, file: File, upload: Upload, holder: UUID) -> None:
        try:
            await self._uploads.settle(file, upload, holder)
        except EncountersError as error:
            # It has failed, or somebody came for it after all; else it is looked at again later.
            logger.info("uploads.not_taken", file=str(file.id), reason=error.message)
            await uploads.put_off(self._pool, file.id, holder, seconds=AGAIN_SECONDS)
        else:
            logger.info("uploads.expired", file=str(file.id), offset=upload.offset)

    async def _give_up_uploads(self) -> None:
        while found := await uploads.to_give_up(self._pool, limit=AT_A_TIME):
            for key, state in found:
                if await _done("unfinished", key, self._uploads.objects.give_up(key, state)):
                    await uploads.given_up(self._pool, key, state)
                else:
                    await uploads.give_up_later(self._pool, key, state, seconds=AGAIN_SECONDS)

    async def _delete_objects(self) -> None:
        while keys := await files.objects_to_delete(self._pool, limit=AT_A_TIME):
            for key in keys:
                if await _done("object", key, self._uploads.objects.delete(key)):
                    await files.object_deleted(self._pool, key)
                else:
                    await files.delete_object_later(self._pool, key, seconds=AGAIN_SECONDS)

    async def _sweep_forever(self) -> None:
        while True:
            # Before the first look, too: workers that start have more urgent things to do.
            await asyncio.sleep(LOOK_SECONDS * random.uniform(1 - JITTER, 1 + JITTER))
            try:
                await self.sweep()
            except Away as error:
                logger.info("sweeper.waits", reason=str(error))
            except Exception:
                logger.exception("sweeper.failed")


async def _done(kind: str, key: str, act: Awaitable[None]) -> bool:
    """Whether one thing could be cleared away; why not is in the log."""
    try:
        await act
    except Away as error:
        logger.info("sweeper.put_off", kind=kind, key=key, reason=str(error))
    except Exception:
        logger.exception("sweeper.put_off", kind=kind, key=key)
    else:
        return True
    return False
