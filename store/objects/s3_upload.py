"""A file on its way into a bucket: one multipart upload.

Its parts but for the last have PART_BYTES; what is kept between two requests and is less than a part lies beside it,
as an object of its own, until more comes (S3 takes no part below 5 MiB but the last: *Amazon S3 multipart upload
limits*). That object's name says how many parts come before it, and how many bytes it has: one name has the same bytes
whoever puts it, and however late; so a state stays good until the next one was written down, whoever dies in between.

A part is gathered before it is sent: its first GATHERED_BYTES in memory, then in a file without a name. Not more than
MAX_GATHERING uploads of a worker have such a file at a time, each from there to the end of the part: the next waits,
and with it whoever sends, as nothing is read from them.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import aclosing, suppress
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Final

import msgspec

from store.objects.bucket import Bucket, translated
from store.objects.objects import ObjectMissing, ObjectsAway, checked, in_thread

#: At most 10 000 parts make a file: 80 GiB.
PART_BYTES: Final = 8 * 1024 * 1024
#: Bytes of a part that are held in memory: what is more lies in a file.
GATHERED_BYTES: Final = 256 * 1024
#: Uploads that have such a file at a time, per worker: PART_BYTES of disk each, and a descriptor. It takes 13 people
#: with all the uploads that one may have (`domain.uploads.MAX_ON_THEIR_WAY`) to fill it.
MAX_GATHERING: Final = 256
#: How long the next one waits for its turn: longer than those of whoever sends slowly last where it is
#: :attr:`Gathering.crowded` (`domain.deposits.KEEP_SECONDS`).
TURN_SECONDS: Final = 15.0


class UploadState(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of an upload: its id, its parts' ETags, and how many bytes lie beside it."""

    upload_id: str
    etags: tuple[str, ...] = ()
    beside: int = 0


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(UploadState).decode


def encoded(state: UploadState) -> str:
    """The state as it is written down; see :meth:`store.objects.objects.Upload.keep`."""
    return _encode(state).decode()


def decoded(state: str) -> UploadState:
    """What was written down. Raises msgspec.DecodeError for anything else."""
    return _decode(state)


class Gathering:
    """Where a worker's uploads gather parts: in files in `folder`, which is made when it is needed; None: where the
    system has such files."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._turns = asyncio.Semaphore(MAX_GATHERING)

    @property
    def crowded(self) -> bool:
        """Whether the next one has to wait for its turn."""
        return self._turns.locked()

    async def take_turn(self) -> None:
        """Wait until there may be one more file to gather in. Raises ObjectsAway."""
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise ObjectsAway("too many files are on their way into the bucket at once") from None

    def turn_over(self) -> None:
        """Another upload may gather a part."""
        self._turns.release()

    def new_file(self) -> FileIO:
        """A file without a name, which ends with whoever has it open."""
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(buffering=0, dir=self._folder)


class S3Upload:
    """A file on its way into a bucket."""

    def __init__(self, bucket: Bucket, gathering: Gathering, key: str, state: UploadState) -> None:
        self._bucket = bucket
        self._gathering = gathering
        self._key = key
        self._upload_id = state.upload_id
        self._etags = list(state.etags)
        self._kept = state
        #: Beside the upload for states before `_kept`: parts and bytes of each.
        self._older: list[tuple[int, int]] = []
        #: Of the part that is gathered: `_filed` bytes in the file, if there is one, and then those in the buffer.
        self._buffer = bytearray()
        self._file: FileIO | None = None
        self._filed = 0
        self._has_turn = False

    @property
    def offset(self) -> int:
        return len(self._etags) * PART_BYTES + self._gathered

    @property
    def _gathered(self) -> int:
        return self._filed + len(self._buffer)

    async def write(self, chunk: bytes) -> None:
        left = memoryview(chunk)
        while len(left) >= (room := PART_BYTES - self._gathered):
            # In a part of its own only when it is whole: parts are counted by their size.
            await self.gather(left[:room])
            left = left[room:]
            await self._put()
        await self.gather(left)

    async def gather(self, chunk: bytes | memoryview) -> None:
        """Append, as far as there is room in this part."""
        self._buffer += chunk
        if len(self._buffer) >= GATHERED_BYTES:
            await self._put_in_file()

    async def keep(self) -> str:
        state = UploadState(upload_id=self._upload_id, etags=tuple(self._etags), beside=self._gathered)
        if state != self._kept:
            # More came since: so the state before is written down, and what those before it had is of no use.
            while self._older:
                with suppress(ObjectsAway):  # it goes with the upload, then
                    await self._delete_beside(*self._older[-1])
                self._older.pop()
            if state.beside:
                await self._put_beside(len(state.etags), state.beside, await self._part())
            if self._kept.beside:
                self._older.append((len(self._kept.etags), self._kept.beside))
            self._kept = state
        return encoded(state)

    async def finish(self) -> None:
        if self._gathered or not self._etags:
            await self._put()
        self.drop()
        await self._complete()

    def drop(self) -> None:
        self._buffer.clear()
        self._filed = 0
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._has_turn:
            self._has_turn = False
            self._gathering.turn_over()

    async def _put(self) -> None:
        number = len(self._etags) + 1
        self._etags.append(await self._put_part(number, await self._part()))
        self.drop()

    async def _part(self) -> bytes | FileIO:
        """What is gathered, to be sent. (What is empty must be no file: of those botocore asks first whether they may
        be sent, and some servers do not answer that for nothing.)"""
        if self._file is None:
            return bytes(self._buffer)
        await self._put_in_file()
        self._file.seek(0)
        return self._file

    async def _put_in_file(self) -> None:
        if not self._has_turn:
            await self._gathering.take_turn()
            self._has_turn = True
        with translated():
            if self._file is None:
                self._file = await in_thread(self._gathering.new_file)
            await in_thread(partial(_append, self._file, self._buffer))
        self._filed += len(self._buffer)
        self._buffer = bytearray()

    async def _put_part(self, number: int, data: bytes | FileIO) -> str:
        async with self._bucket.asking() as s3:
            put = await s3.upload_part(
                Bucket=self._bucket.name,
                Key=self._bucket.key(self._key),
                UploadId=self._upload_id,
                PartNumber=number,
                Body=data,
            )
        etag: str = put["ETag"]
        return etag

    async def _put_beside(self, parts: int, size: int, data: bytes | FileIO) -> None:
        async with self._bucket.asking() as s3:
            await s3.put_object(Bucket=self._bucket.name, Key=_beside(self._bucket, self._key, parts, size), Body=data)

    async def _delete_beside(self, parts: int, size: int) -> None:
        async with self._bucket.asking() as s3:
            await s3.delete_object(Bucket=self._bucket.name, Key=_beside(self._bucket, self._key, parts, size))

    async def _complete(self) -> None:
        parts = [{"ETag": etag, "PartNumber": number} for number, etag in enumerate(self._etags, 1)]
        bucket, key = self._bucket.name, self._bucket.key(self._key)
        try:
            async with self._bucket.asking() as s3:
                await s3.complete_multipart_upload(
                    Bucket=bucket, Key=key, UploadId=self._upload_id, MultipartUpload={"Parts": parts}
                )
        except ObjectMissing:
            # Done already, and the answer got lost on its way, if the file is there: keys are never used twice.
            async with self._bucket.asking() as s3:
                await s3.head_object(Bucket=bucket, Key=key)
        # The file is whole, whatever becomes of this; the bucket's rule for `incoming/` removes it then.
        with suppress(ObjectsAway):
            await sweep_beside(self._bucket, self._key)


async def resumed(bucket: Bucket, gathering: Gathering, key: str, state: str) -> S3Upload:
    """The upload as it was kept, with what lies beside it. Raises ObjectsAway, ObjectMissing."""
    kept = decoded(state)
    upload = S3Upload(bucket, gathering, key, kept)
    try:
        if kept.beside:
            async with aclosing(bucket.read(_beside(bucket, key, len(kept.etags), kept.beside))) as chunks:
                async for chunk in chunks:
                    await upload.gather(chunk)
    except BaseException:
        upload.drop()
        raise
    return upload


async def sweep_beside(bucket: Bucket, key: str) -> None:
    """Remove all that lies beside a file's upload. Raises ObjectsAway."""
    async with bucket.asking() as s3:
        pages = s3.get_paginator("list_objects_v2").paginate(
            Bucket=bucket.name, Prefix=f"{bucket.prefix}incoming/{checked(key)}/"
        )
        async for page in pages:
            for one in page.get("Contents", ()):
                await s3.delete_object(Bucket=bucket.name, Key=one["Key"])


def _beside(bucket: Bucket, key: str, parts: int, size: int) -> str:
    return f"{bucket.prefix}incoming/{checked(key)}/{parts}.{size}"


def _append(file: FileIO, data: bytearray) -> None:
    file.seek(0, os.SEEK_END)
    with memoryview(data) as view:
        done = 0
        while done < len(view):
            done += file.write(view[done:])
