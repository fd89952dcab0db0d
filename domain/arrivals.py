"""A file's bytes as they come in, held by one request at a time.

What came is judged by its first bytes before any of it is stored, and counted as it comes. It is made to last as it
comes (:mod:`domain.deposits`) and whenever the request ends, however it ends; whoever goes on later does so from there.
The request holds a lease in the database, which it renews: it lets go when somebody else comes to write, and is taken
for gone when it no longer renews it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Final, NoReturn, Self
from uuid import UUID

from domain import files as rules
from domain.deposits import Deposit, Lost
from domain.errors import (
    BadRequest,
    ChecksumMismatch,
    EncountersError,
    TooLarge,
    UnsupportedMediaType,
)
from domain.files import InForm
from domain.purposes import Admission
from domain.streams import Checksum, Stream
from media.types import HEAD_BYTES, FileType
from realtime.events import Event
from store import files, uploads
from store.errors import Away
from store.files import File
from store.objects.objects import ObjectMissing
from store.uploads import Upload

if TYPE_CHECKING:
    from domain.uploads import Uploads

#: Seconds that the lease is good for, and between two renewals of it, at which is also seen who else wants it.
LEASE_SECONDS: Final = 15.0
BEAT_SECONDS: Final = 1.0
#: What whoever sent a file is told when the store does not have what came of it.
LOST: Final = "What had come of it was lost; send it again."


def too_long(length: int) -> TooLarge:
    return TooLarge(f"The upload was announced with {length} bytes, and more than that came.", code="upload_too_long")


class Arrival:
    """The one request that writes to an upload. Made by :meth:`domain.uploads.Uploads.arrive`, used in `async with`."""

    def __init__(self, doors: Uploads, file: File, upload: Upload, holder: UUID) -> None:
        self.file = file
        #: The form in which it comes, of which the size is known.
        self.form: InForm | None = None
        self._doors = doors
        self._holder = holder
        self._watchers = list(dict.fromkeys((file.owner_id, *upload.watchers)))
        families = None if upload.families is None else frozenset(upload.families)
        self._limits = doors.limits(file.purpose, families)
        self._max_bytes = self._limits.max_bytes
        self._type: FileType | None = None
        self._deposit = Deposit(doors.pool, doors.objects, file, upload, holder, doors.expiry_of(file))
        self._stream = Stream()
        self._beating: asyncio.Task[None] | None = None
        self._shown_offset = -1
        self._over = False

    @property
    def upload(self) -> Upload:
        """As it stands in the database."""
        return self._deposit.upload

    @property
    def offset(self) -> int:
        """Bytes that have come, in this request and before it."""
        return self._deposit.offset

    @property
    def expires_at(self) -> datetime:
        return self.upload.expires_at

    @property
    def is_over(self) -> bool:
        """Nothing more is to be done: the file was taken, refused or given up, or somebody else took over."""
        return self._over or self._deposit.taken_over

    @property
    def is_whole(self) -> bool:
        return self.upload.length is not None and self.offset == self.upload.length

    async def __aenter__(self) -> Self:
        if len(self._deposit.head) >= HEAD_BYTES:
            try:
                await self._judge()
            except (TooLarge, UnsupportedMediaType) as error:
                # Of what came before such files were refused.
                await self._refuse(error)
                raise
        self._doors.arrivals.add(self)
        self._beating = asyncio.create_task(self._beat_forever(), name="upload-lease")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._doors.arrivals.discard(self)
        if self._beating is not None:
            self._beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._beating
        self._deposit.drop()
        if not self.is_over:
            # Should it not succeed, the lease ends by itself.
            with contextlib.suppress(Away):
                await uploads.let_go(self._doors.pool, self.file.id, self._holder)

    def interrupt(self, error: EncountersError) -> None:
        """Have the request end with the error, as soon as it waits for bytes."""
        self._stream.break_off(error)

    async def take(
        self, chunks: AsyncIterator[bytes], *, checksum: Checksum | None = None, expected: bytes = b""
    ) -> None:
        """Take in what comes, to its end. What came before an end that was none is kept where the upload can resume.

        With a `checksum` nothing is kept unless its digest is the `expected` one in the end: ChecksumMismatch.

        Raises UnsupportedMediaType and TooLarge, after which the upload is over (not so `upload_too_long`: more than
        announced; and a film that may not be larger ends there, and is kept); TooSlow; what the request was
        interrupted with (Locked, Unavailable); Away; and what `chunks` raises.
        """
        refused: EncountersError | None = None
        try:
            while chunk := await self._stream.next(chunks):
                if checksum is not None:
                    checksum.update(chunk)
                try:
                    for piece in self._deposit.pieces(chunk) if refused is None else ():
                        await self._add(piece)
                        if checksum is None:
                            await self._deposit.keep_now_and_then()
                except (TooLarge, UnsupportedMediaType) as error:
                    refused = error
                    if checksum is None:
                        break
                    # Perhaps it was not what was sent: the checksum will tell.
        except BaseException:
            if checksum is None:
                await self._deposit.keep_what_came()
            raise
        if checksum is not None and not hmac.compare_digest(checksum.digest(), expected):
            raise ChecksumMismatch("What came does not have the checksum that was sent with it; nothing was kept.")
        if refused is not None:
            await self._refuse(refused, checksum)
            raise refused

    async def keep(self) -> None:
        """Make last what came. Raises Locked where somebody else took over, Away."""
        await self._deposit.keep()

    async def set_length(self, length: int) -> None:
        """Say how long the file is, of which nobody knew when it was announced.

        Raises TooLarge, BadRequest (`empty_file`, `upload_too_short`), Locked where somebody else took over, Away.
        """
        self.check_length(length)
        await self._deposit.set_length(length)

    def check_length(self, length: int) -> None:
        """Raise as :meth:`set_length` for a length that it cannot have."""
        rules.check_size(self._limits, length)
        if length < self.offset:
            raise BadRequest(f"{self.offset} bytes have come already, not {length}.", code="upload_too_short")

    async def end_film(self, *, silent: bool = False) -> File:
        """It was sent as it was made, and no more of it comes: what there is of the lesson is the whole of it.

        `silent`: nobody said so; see :data:`domain.files.SILENT`.
        """
        await self.keep()
        if silent:
            await files.add_details(self._doors.pool, self.file.id, {rules.SILENT: True})
        await self.set_length(self.offset)
        return await self.finish()

    async def restart(self) -> None:
        """Begin from the first byte again, whatever came before: for what is sent in one go."""
        state = await self._deposit.forget(seconds=LEASE_SECONDS)
        if state is not None:
            await self._doors.give_up(self.file.key, state)

    async def finish(self, admission: Admission | None = None) -> File:
        """The file is whole; it is `ready`, or `processing`. `admission`: where one was not given before.

        Raises BadRequest (`empty_file`), UnsupportedMediaType, TooLarge, after which the upload is over; Locked, Away.
        """
        try:
            if self.offset == 0:
                raise rules.empty()
            if admission is not None and admission.families is not None:
                # What it may be is known only now: it is looked at again.
                self._limits, self._type = self._doors.limits(self.file.purpose, admission.families), None
            if self._type is None:
                await self._judge(self.offset)
            await self._store()
        except (BadRequest, TooLarge, UnsupportedMediaType) as error:
            await self._refuse(error)
            raise
        try:
            await self._deposit.finish()
        except ObjectMissing:
            return await self._settle_missing()
        except Lost:
            await self._lose()
        self._show_progress()
        try:
            whole = await self._doors.complete(self.file, self._holder, size=self.offset, admission=admission)
        except EncountersError:
            self._over = True
            raise
        self._over = True
        return whole

    async def give_up(self, reason: str) -> None:
        """The file will not be there."""
        self._over = True
        self._deposit.drop()
        await self._doors.fail(self.file.id, self.upload, reason)

    # What came

    async def _add(self, chunk: bytes) -> None:
        length = self.upload.length
        if length is not None and self.offset + len(chunk) > length:
            raise too_long(length)
        if self.offset + len(chunk) > self._max_bytes:
            if self._type is None:
                self._deposit.head += chunk
                await self._judge()
            assert self._type is not None
            raise rules.too_large(self._type, self._max_bytes, length, self.form)
        if self._type is not None:
            await self._store(chunk)
            return
        self._deposit.gather(chunk)
        if len(self._deposit.head) >= HEAD_BYTES or self.is_whole:
            await self._judge()
            await self._store()

    async def _judge(self, size: int | None = None) -> None:
        """Tell the type, and whether a file of it may be so large: of `size` bytes, where only now that is known."""
        found, self._max_bytes = rules.judged(
            self._limits,
            bytes(self._deposit.head[:HEAD_BYTES]),
            size=size or self.upload.length,
            form=self.form,
            mime_wanted=self.upload.mime_wanted,
        )
        if rules.is_film(self.file):
            self._max_bytes = min(self._max_bytes, self.file.size)
        self._type = found
        if self.file.mime != found.mime:
            name = rules.named_as(self.file.name, found)
            await files.save_type(self._doors.pool, self.file.id, mime=found.mime, name=name)
            self.file = replace(self.file, mime=found.mime, name=name)

    async def _store(self, chunk: bytes = b"") -> None:
        """Have in the store what came before, and this behind it."""
        assert self._type is not None, "nothing is stored before it was judged"
        try:
            await self._deposit.add(chunk, self._type.mime)
        except ObjectMissing:
            # A bucket says so only when it is given something.
            await self._settle_missing()
            raise rules.finished() from None
        except Lost:
            await self._lose()

    async def _settle_missing(self) -> File:
        """The store knows nothing of the upload: it was finished, or swept. Raises NotFound of the latter."""
        self._over = True
        if not await self._doors.lies_whole(self.file, self.upload):
            await self._lose()
        return await self._doors.complete(self.file, self._holder, size=self.upload.length or 0)

    async def _lose(self) -> NoReturn:
        """What the store has is not what came: nothing is made of it."""
        await self.give_up(LOST)
        raise rules.unknown_upload(LOST)

    async def _refuse(self, error: EncountersError, checksum: Checksum | None = None) -> None:
        """The file is none that is taken: the upload is over, and nothing of it stays. Of more than was announced,
        what was announced stays."""
        if error.code == "upload_too_long" and self.upload.resumable:
            if checksum is None:
                await self._deposit.keep_what_came()
        elif isinstance(error, TooLarge) and rules.is_film(self.file) and 0 < self.offset <= self._max_bytes:
            await self.end_film()
        else:
            await self.give_up(error.message)

    # Beside it

    async def _beat_forever(self) -> None:
        """Renew the lease, see whether somebody else wants it, and show how far it has come."""
        good_until = time.monotonic() + LEASE_SECONDS
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                if await uploads.hold_on(self._doors.pool, self.file.id, self._holder, seconds=LEASE_SECONDS):
                    good_until = time.monotonic() + LEASE_SECONDS - BEAT_SECONDS
                elif not self.is_over:
                    self.interrupt(rules.taken_over())
            except Away:
                if time.monotonic() > good_until:
                    self.interrupt(rules.taken_over())
            self._show_progress()

    def _show_progress(self) -> None:
        if self.offset == self._shown_offset:
            return
        self._shown_offset = self.offset
        file = self.file
        data = {
            "upload_id": file.id,
            "purpose": file.purpose,
            "session_id": file.session_id,
            "course_id": file.course_id,
            "name": file.name,
            "received": self.offset,
            "total": self.upload.length if self.upload.length is not None else max(file.size, self.offset),
        }
        self._doors.live.audience.tell(self._watchers, Event(name="uploadProgress", data=data))
