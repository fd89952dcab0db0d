"""How far a file has come, and how much of that lasts: in the object store, and written down in the database.

What came is gathered until the file was judged by its first bytes (:mod:`domain.arrivals`); from then on it goes into
the store as it comes, and is made to last every so many bytes and seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from domain import files as rules
from domain.errors import Locked
from media.types import HEAD_BYTES
from store import uploads
from store.database import Pool
from store.errors import Away
from store.files import File
from store.objects.objects import ObjectStore
from store.objects.objects import Upload as Stored
from store.uploads import Upload

#: What came is made to last every so many bytes (a multiple of the parts that a bucket takes), or seconds.
KEEP_BYTES: Final = 16 * 1024 * 1024
KEEP_SECONDS: Final = 10.0
#: Seconds for making it last when the request ends.
LAST_KEEP_SECONDS: Final = 10.0

logger = structlog.get_logger(__name__)


class Lost(Exception):
    """What the store has is not what came."""


class Deposit:
    """What came of a file, for the `holder` of its upload's lease. A resumable one rests for `expiry` at most.

    What writes raises Locked where somebody else took over, which `taken_over` says from then on; Away; ObjectMissing
    where the store knows nothing of the upload; Lost.
    """

    def __init__(
        self, pool: Pool, objects: ObjectStore, file: File, upload: Upload, holder: UUID, expiry: timedelta
    ) -> None:
        #: As it stands in the database.
        self.upload = upload
        #: Bytes that have come, whether they last or not.
        self.offset = upload.offset
        #: The first bytes, until there are enough of them to tell the type by; then HEAD_BYTES of them.
        self.head = bytearray(upload.head)
        self.taken_over = False
        self._pool = pool
        self._objects = objects
        self._file_id = file.id
        self._key = file.key
        self._holder = holder
        self._expiry = expiry
        self._stored: Stored | None = None
        self._kept_at = time.monotonic()
        #: The store is being written to: what breaks off then leaves it as nobody knows.
        self._writing = False

    # Writing

    def gather(self, chunk: bytes) -> None:
        """Add to the first bytes, while nothing is stored yet."""
        self.head += chunk
        self.offset += len(chunk)

    async def add(self, chunk: bytes, mime: str) -> None:
        """Put into the store what is not there yet of what came, and this behind it. `mime` is the file's."""
        stored = await self._open(mime)
        if chunk:
            await self._write(stored, chunk)
            self.offset += len(chunk)

    async def _open(self, mime: str) -> Stored:
        """The file in the store, which has everything that came before."""
        if self._stored is not None:
            return self._stored
        upload = self.upload
        state = upload.state
        if state is None:
            state = await self._objects.begin(self._key, mime)
            # Noted before there is anything: should this worker die, it is known what is to go.
            await self._write_down(upload.offset, upload.head, state)
        self._stored = stored = await self._objects.resume(self._key, state)
        if stored.offset < len(self.head):
            # So far it was only looked at.
            await self._write(stored, bytes(self.head[stored.offset :]))
        if stored.offset != self.offset:
            raise Lost
        del self.head[HEAD_BYTES:]
        return stored

    async def _write(self, stored: Stored, data: bytes) -> None:
        self._writing = True
        await stored.write(data)
        self._writing = False

    async def finish(self) -> None:
        """The file is whole, and everything was added: it can be read under its key from now on."""
        assert self._stored is not None, "everything was added"
        self._writing = True
        await self._stored.finish()
        self._stored = None
        found = await self._objects.stat(self._key)
        if found is None or found.size != self.offset:
            raise Lost

    def drop(self) -> None:
        """Let go of the store: what was not kept is lost there."""
        if self._stored is not None:
            self._stored.drop()
            self._stored = None

    # Keeping

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """The chunk, cut where what came is made to last: a bucket has whole parts there, and nothing beside them."""
        room = KEEP_BYTES - self.offset % KEEP_BYTES
        yield chunk[:room]
        if len(chunk) > room:
            yield chunk[room:]

    async def keep(self) -> None:
        """Make last what came."""
        state, head = self.upload.state, bytes(self.head[:HEAD_BYTES])
        # What the store does not have yet lasts only as far as it stands in the head.
        offset = min(self.offset, max(self.upload.offset, len(head)))
        if self._stored is not None:
            self._writing = True
            state, offset = await self._stored.keep(), self.offset
            self._writing = False
        self._kept_at = time.monotonic()
        await self._write_down(offset, head, state)
        if self._objects.crowded:
            self.drop()  # it is gone on with when the next bytes have come

    async def keep_now_and_then(self) -> None:
        """Make last what came, if it is time."""
        if self._stored is None:
            return
        late = time.monotonic() - self._kept_at >= KEEP_SECONDS
        if self.upload.resumable and (late or self.offset % KEEP_BYTES == 0):
            await self.keep()
        elif late and self._objects.crowded:
            await self.keep()  # for the others' sake

    async def keep_what_came(self) -> None:
        """As the request breaks off: what cannot be kept now has to be sent again. Raises nothing for that."""
        if not self.upload.resumable or self._writing or self.offset == self.upload.offset:
            return
        try:
            async with asyncio.timeout(LAST_KEEP_SECONDS):
                await self.keep()
        except (Away, Locked, TimeoutError) as error:
            logger.info("upload.not_kept", file=str(self._file_id), reason=str(error))

    async def forget(self, *, seconds: float) -> str | None:
        """Nothing has come. What the store had of it is noted as to go after so many seconds: its state."""
        state = self.upload.state
        self.offset = 0
        self.head.clear()
        if state is not None:
            await uploads.give_up_later(self._pool, self._key, state, seconds=seconds)
        await self._write_down(0, b"", None)
        return state

    async def set_length(self, length: int) -> None:
        """Write down how long the file is, of which nobody knew when it was announced."""
        if not await uploads.save_length(self._pool, self._file_id, self._holder, length):
            self.taken_over = True
            raise rules.taken_over()
        self.upload = replace(self.upload, length=length)

    async def _write_down(self, offset: int, head: bytes, state: str | None) -> None:
        expires_at = datetime.now(UTC) + self._expiry if self.upload.resumable else None
        if not await uploads.save(
            self._pool, self._file_id, self._holder, offset=offset, head=head, state=state, expires_at=expires_at
        ):
            self.taken_over = True
            raise rules.taken_over()
        self.upload = replace(
            self.upload, offset=offset, head=head, state=state, expires_at=expires_at or self.upload.expires_at
        )
