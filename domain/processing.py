"""What is done with film and sound that came in whole, before anybody may see it: it is looked through in a process of
its own (:mod:`media.pool`), gets a thumbnail, and an index where it has none to be sought by.

Every worker takes one file at a time, whoever took it in. It holds a lease that it renews: of a worker that died the
next one takes over, MAX_TRIES times at most, because it may have been the file that killed it.

Objects that this makes are noted as to be deleted before they are written (`store.files`), and kept in the
transaction in which the file becomes ready: whatever breaks off in between leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import structlog

from domain import files as rules
from domain.errors import EncountersError
from domain.uploads import Uploads
from media.job import Facts, Job
from media.pool import SECONDS as MEDIA_SECONDS
from media.pool import Broken, MediaPool, SourceAway, SourceGone, Unreadable
from store import files, uploads
from store.errors import Away, translated
from store.files import File

#: Seconds for which a file is a worker's, and between two renewals.
LEASE_SECONDS: Final = 30.0
RENEW_SECONDS: Final = 8.0
#: Seconds between two looks of a worker for files that others left, about.
LOOK_SECONDS: Final = 10.0
JITTER: Final = 0.2
#: How often a file is begun whose process, or whose worker, was killed each time.
MAX_TRIES: Final = 3
#: Seconds after which objects go that were written and not kept: longer than any file takes.
ABANDONED_SECONDS: Final = 6 * 3600.0
#: Seconds after which a file is begun again that could not be worked on, for no fault of its own or perhaps so; and,
#: where nobody knows when it could, the most of them: it waits as long again as it has waited.
AGAIN_SECONDS: Final = 30.0
MAX_AGAIN_SECONDS: Final = 3600.0
#: Bytes that stay free on the disk: the database that comes with the server may write to it, too.
RESERVE_BYTES: Final = 512 * 1024 * 1024
#: Seconds for which the bytes of a file stay that failed here, though nobody can read them: somebody may find out why.
KEPT_SECONDS: Final = 7 * 86_400.0
#: What a file may become when it is written anew: a share of what it was, and bytes for its index.
WRITTEN_SHARE: Final = 1.2
WRITTEN_BYTES: Final = 64 * 1024 * 1024
#: Bytes copied at a time.
COPY_BYTES: Final = 1024 * 1024
#: What FFmpeg writes a file as that cannot be sought in, by the type's MIME. The others stay as they are.
MUXERS: Final[Mapping[str, str]] = {
    "video/webm": "webm",
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "audio/mp4": "ipod",
}
#: What people are told of a file that three workers did not come to the end of.
NOT_THROUGH: Final = "The file could not be checked; send it again, or as MP4."
GONE: Final = "The file was lost; send it again."

logger = structlog.get_logger(__name__)


class _Lost(Exception):
    """The file is another worker's by now, or gone."""


class _NoRoom(Exception):
    """What the file would be written anew as does not fit on the disk."""


class Processing:
    """This worker's part in it. `folder` holds what is being worked on."""

    def __init__(self, uploads: Uploads, media: MediaPool, folder: Path) -> None:
        self._uploads = uploads
        self._pool = uploads.pool
        self._objects = uploads.objects
        self._media = media
        self._folder = folder.absolute()  # a media process stands elsewhere
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._uploads.whole = self._more.set
        self._task = asyncio.create_task(self._work_forever(), name="processing")

    async def close(self) -> None:
        """End it; the file under way is left to others at once."""
        self._uploads.whole = lambda: None
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def work(self) -> int:
        """Look through every file that nobody else does; how many those were. Raises Away of the database.

        Where something is away that has nothing to do with the file it ends, and the file is put off: that was no try,
        and neither is what nobody has foreseen. Only a process that was killed is one.
        """
        total = 0
        holder = uuid4()
        while (file := await files.claim_to_look_through(self._pool, holder, seconds=LEASE_SECONDS)) is not None:
            try:
                await self._process(file, holder)
            except _Lost:
                logger.info("processing.lost", file=str(file.id))
            except Away as error:
                logger.info("processing.waits", file=str(file.id), reason=str(error))
                await files.put_off(self._pool, file.id, holder, seconds=AGAIN_SECONDS, counts=False)
                break
            except (SourceAway, OSError) as error:
                logger.info("processing.waits", file=str(file.id), reason=str(error))
                await files.put_off(self._pool, file.id, holder, seconds=_pause(file), counts=False)
                break
            except _NoRoom as error:  # a smaller one may have it
                logger.warning("processing.no_room", file=str(file.id), reason=str(error))
                await files.put_off(self._pool, file.id, holder, seconds=_pause(file), counts=False)
            except Broken as error:
                logger.warning("processing.broken", file=str(file.id), reason=str(error), tries=file.tries)
                await files.put_off(self._pool, file.id, holder, seconds=AGAIN_SECONDS, counts=True)
            except Exception:
                logger.exception("processing.failed", file=str(file.id))
                await files.put_off(self._pool, file.id, holder, seconds=_pause(file), counts=False)
            total += 1
        return total

    async def _work_forever(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.clear_folder)
                await self.work()
            except Away as error:
                logger.info("processing.waits", reason=str(error))
            except Exception:
                logger.exception("processing.failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS * random.uniform(1 - JITTER, 1 + JITTER)):
                    await self._more.wait()
            self._more.clear()

    def clear_folder(self) -> None:
        """Remove what workers left that were killed. Others may share the folder: what is young is theirs."""
        oldest = time.time() - ABANDONED_SECONDS
        for left in self._folder.glob("tmp*"):
            with contextlib.suppress(FileNotFoundError):
                if left.stat().st_mtime < oldest:
                    shutil.rmtree(left, ignore_errors=True)

    async def _process(self, file: File, holder: UUID) -> None:
        """Raises _Lost, _NoRoom, Away, SourceAway, OSError, Broken."""
        if file.tries > MAX_TRIES:
            await self._fail(file, holder, NOT_THROUGH, kept_seconds=KEPT_SECONDS)
            # Whoever runs the server may still get at it, for as long.
            logger.warning("processing.given_up", file=str(file.id), key=file.key)
            return
        renewing = asyncio.create_task(self._renew_forever(file, holder), name="processing-lease")
        looking = asyncio.create_task(self._look_through(file, holder), name="processing-file")
        try:
            await asyncio.wait((renewing, looking), return_when=asyncio.FIRST_COMPLETED)
            if not looking.done():
                raise _Lost
            await looking
        except Unreadable as unreadable:
            await self._fail(file, holder, str(unreadable))
        except SourceGone as gone:
            # Where files are kept knows better whether it is all there. Raises Away, where it is not.
            if await self._objects.stat(file.key) is not None:
                raise SourceAway("the file was not seen where it lies") from gone
            await self._fail(file, holder, GONE)
        except EncountersError as error:
            # Those whose purpose it serves do not want it, as it turns out.
            await self._fail(file, holder, error.message)
        except asyncio.CancelledError:
            with contextlib.suppress(Away):
                await asyncio.shield(files.let_go(self._pool, file.id, holder))
            raise
        finally:
            for task in (renewing, looking):
                task.cancel()
            await asyncio.gather(renewing, looking, return_exceptions=True)

    async def _renew_forever(self, file: File, holder: UUID) -> None:
        """Until the file is not ours any more."""
        missed = 0.0
        while missed < LEASE_SECONDS:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                if not await files.keep_looking_through(self._pool, file.id, holder, seconds=LEASE_SECONDS):
                    return
                missed = 0.0
            except Away:
                missed += RENEW_SECONDS

    async def _look_through(self, file: File, holder: UUID) -> None:
        found = rules.TYPES[file.mime]
        assert found.demuxer is not None, "other files are ready at once"
        await asyncio.to_thread(partial(self._folder.mkdir, parents=True, exist_ok=True))
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._folder))
        try:
            source = await self._objects.source(file.key, seconds=int(MEDIA_SECONDS) + 60)
            max_written_bytes = int(file.size * WRITTEN_SHARE) + WRITTEN_BYTES
            await asyncio.to_thread(_check_room, folder, source, max_written_bytes)
            thumbnail, remuxed = folder / "thumbnail.jpg", folder / f"remuxed.{found.extension}"
            muxer = MUXERS.get(file.mime)
            facts = await self._media.run(
                Job(
                    source=source,
                    demuxer=found.demuxer,
                    thumbnail=str(thumbnail) if found.family == "video" else None,
                    remuxed=str(remuxed) if muxer else None,
                    muxer=muxer,
                    max_written_bytes=max_written_bytes,
                )
            )
            new_key = await self._put(file, remuxed, file.mime) if facts.was_remuxed else None
            size = remuxed.stat().st_size if new_key else file.size
            thumbnail_key = await self._put(file, thumbnail, "image/jpeg") if facts.has_thumbnail else None
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        await self._ready(file, holder, facts, new_key=new_key, size=size, thumbnail_key=thumbnail_key)

    async def _put(self, file: File, path: Path, mime: str) -> str:
        """A file of this machine among the objects: its key."""
        key = f"{file.purpose}/{file.id}.{uuid4().hex[:8]}"
        await files.delete_object_later(self._pool, key, seconds=ABANDONED_SECONDS)
        state = await self._objects.begin(key, mime)
        await uploads.give_up_later(self._pool, key, state, seconds=ABANDONED_SECONDS)
        stored = await self._objects.resume(key, state)
        try:
            with await asyncio.to_thread(path.open, "rb") as source:
                while chunk := await asyncio.to_thread(source.read, COPY_BYTES):
                    await stored.write(chunk)
            await stored.finish()
        except BaseException:
            stored.drop()
            await self._uploads.give_up(key, state)
            raise
        await uploads.given_up(self._pool, key, state)
        return key

    async def _ready(
        self, file: File, holder: UUID, facts: Facts, *, new_key: str | None, size: int, thumbnail_key: str | None
    ) -> None:
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                if await files.locked_by_holder(connection, file.id, holder) is None:
                    raise _Lost
                for made in filter(None, (new_key, thumbnail_key)):
                    if not await files.keep_object(connection, made):
                        raise _Lost  # it took so long that it was swept
                if new_key is not None:
                    await files.delete_object_later(connection, file.key)
                ready = await files.save_ready(
                    connection,
                    file.id,
                    key=new_key or file.key,
                    size=size,
                    thumbnail_key=thumbnail_key,
                    seconds=facts.seconds,
                    width=facts.width,
                    height=facts.height,
                    video_codec=facts.video_codec,
                    audio_codec=facts.audio_codec,
                )
                shown = await self._uploads.moved(connection, ready)
        if shown is not None:
            shown()

    async def _fail(self, file: File, holder: UUID, reason: str, *, kept_seconds: float = 0.0) -> None:
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                if await files.locked_by_holder(connection, file.id, holder) is None:
                    raise _Lost
                failed = await files.save_failed(connection, file.id, reason)
                if kept_seconds:
                    await files.delete_object_later(connection, failed.key, seconds=kept_seconds)
                shown = await self._uploads.moved_to_failed(connection, failed)
        if shown is not None:
            shown()


def _pause(file: File) -> float:
    """Seconds to wait with a file that has waited since it came in: as long again."""
    waited = (datetime.now(UTC) - file.updated_at).total_seconds()
    return min(max(waited, AGAIN_SECONDS), MAX_AGAIN_SECONDS)


def _check_room(folder: Path, source: str, written_bytes: int) -> None:
    """Raises _NoRoom where so many bytes could not be written into the folder, and from there among the objects."""
    # Objects that have a path may lie on the same disk.
    needed = written_bytes * (1 if urlsplit(source).scheme in ("http", "https") else 2) + RESERVE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise _NoRoom(f"{folder} has {free} bytes left, and {needed} are needed")
