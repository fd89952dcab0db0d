"""Files in a bucket of S3, or of another server that speaks its language.

An upload is one multipart upload. Its parts but for the last have PART_BYTES; what is kept between two requests and is
less than a part lies beside it, as an object of its own, until more comes (S3 takes no part below 5 MiB but the last:
*Amazon S3 multipart upload limits*). That object's name says how many parts come before it, and how many bytes it has:
one name has the same bytes whoever puts it, and however late; so a state stays good until the next one was written
down, whoever dies in between.

A part is gathered before it is sent: its first GATHERED_BYTES in memory, then in a file without a name. Not more than
MAX_GATHERING uploads of a worker have such a file at a time, each from there to the end of the part: the next waits,
and with it whoever sends, as nothing is read from them.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError

from store.objects.objects import CACHE_CONTROL, CHUNK_BYTES, ObjectMissing, ObjectsAway, Stat, checked, in_thread

#: At most 10 000 parts make a file: 80 GiB.
PART_BYTES: Final = 8 * 1024 * 1024
#: Seconds for a connection, and for the next bytes of an answer.
CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 30.0
#: How often a request is tried that failed in passing; see botocore's *standard* retry mode.
ATTEMPTS: Final = 3
#: Requests to the bucket under way at a time, per worker.
MAX_CONNECTIONS: Final = 32
#: Bytes of a part that are held in memory: what is more lies in a file.
GATHERED_BYTES: Final = 256 * 1024
#: Uploads that have such a file at a time, per worker: PART_BYTES of disk each, and a descriptor. It takes 13 people
#: with all the uploads that one may have (`domain.uploads.MAX_ON_THEIR_WAY`) to fill it.
MAX_GATHERING: Final = 256
#: How long the next one waits for its turn: longer than those of whoever sends slowly last where it is
#: :attr:`S3Store.crowded` (`domain.arrivals.KEEP_SECONDS`).
TURN_SECONDS: Final = 15.0

_MISSING: Final = frozenset({"404", "NoSuchKey", "NoSuchUpload", "NotFound"})
#: What the refusal of a whole bucket means; to a HEAD there is no other answer than the status.
_REFUSALS: Final = {
    "404": "there is no bucket {}",
    "403": "the bucket {} may not be used with these credentials",
}


class _State(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of an upload: its id, its parts' ETags, and how many bytes lie beside it."""

    upload_id: str
    etags: tuple[str, ...] = ()
    beside: int = 0


class S3Store:
    """An :class:`store.objects.objects.ObjectStore` in `bucket`, under `prefix`.

    Credentials and region come from where AWS' own tools look for them (environment, files, the machine's role).
    `folder` is where parts are gathered, and is made when it is needed; None: where the system has such files.
    """

    def __init__(
        self, bucket: str, prefix: str = "", *, endpoint_url: str | None = None, folder: Path | None = None
    ) -> None:
        self._bucket = bucket
        self._folder = folder
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint_url = endpoint_url
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._origin: str | None = None
        self._opening = asyncio.Lock()
        self._turns = asyncio.Semaphore(MAX_GATHERING)

    async def _s3(self) -> Any:
        if self._client is None:
            async with self._opening:
                if self._client is None:
                    config = AioConfig(
                        connect_timeout=CONNECT_SECONDS,
                        read_timeout=READ_SECONDS,
                        max_pool_connections=MAX_CONNECTIONS,
                        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                        # Checksums beside those of HTTP are not known to every server that speaks S3.
                        request_checksum_calculation="when_required",
                        response_checksum_validation="when_required",
                        signature_version="s3v4",
                        s3={"addressing_style": "path" if self._endpoint_url or "." in self._bucket else "virtual"},
                    )
                    made = get_session().create_client("s3", endpoint_url=self._endpoint_url, config=config)
                    self._client = await self._stack.enter_async_context(made)
        return self._client

    @property
    def place(self) -> str:
        at = f" at {self._endpoint_url}" if self._endpoint_url else ""
        return f"the bucket {self._bucket}{at}"

    async def check(self) -> None:
        async with self._asking() as s3:
            try:
                await s3.head_bucket(Bucket=self._bucket)
            except ClientError as error:
                meaning = _REFUSALS.get(_code(error))
                if meaning is None:
                    raise
                raise ObjectsAway(meaning.format(self._bucket)) from error

    async def stat(self, key: str) -> Stat | None:
        try:
            async with self._asking() as s3:
                found = await s3.head_object(Bucket=self._bucket, Key=self._name(key))
        except ObjectMissing:
            return None
        return Stat(
            size=found["ContentLength"],
            etag=found["ETag"].strip('"'),
            # botocore's own kind of UTC is none that HTTP's dates are made of.
            modified_at=found["LastModified"].astimezone(UTC),
        )

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        if end is not None and end <= start:
            return
        # An empty file has no range.
        asked = {} if not start and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        async for chunk in self._read(self._name(key), **asked):
            yield chunk

    async def _read(self, name: str, **asked: str) -> AsyncGenerator[bytes, None]:
        async with self._asking() as s3:
            answer = await s3.get_object(Bucket=self._bucket, Key=name, **asked)
        async with answer["Body"] as body:
            while True:
                with _translated():
                    chunk = await body.read(CHUNK_BYTES)
                if not chunk:
                    break
                yield chunk

    async def delete(self, key: str) -> None:
        async with self._asking() as s3:
            await s3.delete_object(Bucket=self._bucket, Key=self._name(key))

    async def begin(self, key: str, content_type: str) -> str:
        async with self._asking() as s3:
            made = await s3.create_multipart_upload(Bucket=self._bucket, Key=self._name(key), ContentType=content_type)
        return _encoded(_State(upload_id=made["UploadId"]))

    async def resume(self, key: str, state: str) -> S3Upload:
        kept = _decoded(state)
        upload = S3Upload(self, key, kept)
        try:
            if kept.beside:
                name = self._beside(key, len(kept.etags), kept.beside)
                async with aclosing(self._read(name)) as chunks:
                    async for chunk in chunks:
                        await upload.gather(chunk)
        except BaseException:
            upload.drop()
            raise
        return upload

    @property
    def crowded(self) -> bool:
        return self._turns.locked()

    async def give_up(self, key: str, state: str) -> None:
        try:
            async with self._asking() as s3:
                await s3.abort_multipart_upload(
                    Bucket=self._bucket, Key=self._name(key), UploadId=_decoded(state).upload_id
                )
        except ObjectMissing:
            pass
        await self._sweep_beside(key)

    async def clear(self, *, before: datetime) -> None:
        """Nothing: an upload without a part is no object, and the bucket's own rule ends it."""

    async def link(self, key: str, *, seconds: int, content_type: str, disposition: str) -> str | None:
        async with self._asking() as s3:
            url: str = await s3.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self._bucket,
                    "Key": self._name(key),
                    "ResponseContentType": content_type,
                    "ResponseContentDisposition": disposition,
                    "ResponseCacheControl": CACHE_CONTROL,
                },
                ExpiresIn=seconds,
            )
        return url

    async def origin(self) -> str | None:
        if self._origin is None:
            signed = urlsplit(await self.source("any", seconds=1))
            self._origin = f"{signed.scheme}://{signed.netloc}"
        return self._origin

    async def source(self, key: str, *, seconds: int) -> str:
        url = await self.link(key, seconds=seconds, content_type="application/octet-stream", disposition="attachment")
        assert url is not None, "a bucket signs its links"
        return url

    async def close(self) -> None:
        await self._stack.aclose()
        self._client = None

    # For uploads

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

    async def put_part(self, key: str, upload_id: str, number: int, data: bytes | FileIO) -> str:
        async with self._asking() as s3:
            put = await s3.upload_part(
                Bucket=self._bucket, Key=self._name(key), UploadId=upload_id, PartNumber=number, Body=data
            )
        etag: str = put["ETag"]
        return etag

    async def put_beside(self, key: str, parts: int, size: int, data: bytes | FileIO) -> None:
        async with self._asking() as s3:
            await s3.put_object(Bucket=self._bucket, Key=self._beside(key, parts, size), Body=data)

    async def delete_beside(self, key: str, parts: int, size: int) -> None:
        async with self._asking() as s3:
            await s3.delete_object(Bucket=self._bucket, Key=self._beside(key, parts, size))

    async def complete(self, key: str, upload_id: str, etags: Sequence[str]) -> None:
        parts = [{"ETag": etag, "PartNumber": number} for number, etag in enumerate(etags, 1)]
        try:
            async with self._asking() as s3:
                await s3.complete_multipart_upload(
                    Bucket=self._bucket, Key=self._name(key), UploadId=upload_id, MultipartUpload={"Parts": parts}
                )
        except ObjectMissing:
            # Done already, and the answer got lost on its way: keys are never used twice.
            if await self.stat(key) is None:
                raise
        # The file is whole, whatever becomes of this; the bucket's rule for `incoming/` removes it then.
        with suppress(ObjectsAway):
            await self._sweep_beside(key)

    async def _sweep_beside(self, key: str) -> None:
        async with self._asking() as s3:
            pages = s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=f"{self._prefix}incoming/{checked(key)}/"
            )
            async for page in pages:
                for one in page.get("Contents", ()):
                    await s3.delete_object(Bucket=self._bucket, Key=one["Key"])

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[Any]:
        with _translated():
            yield await self._s3()

    def _name(self, key: str) -> str:
        return self._prefix + checked(key)

    def _beside(self, key: str, parts: int, size: int) -> str:
        return f"{self._prefix}incoming/{checked(key)}/{parts}.{size}"


class S3Upload:
    """A file on its way into a bucket."""

    def __init__(self, store: S3Store, key: str, state: _State) -> None:
        self._store = store
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
        state = _State(upload_id=self._upload_id, etags=tuple(self._etags), beside=self._gathered)
        if state != self._kept:
            # More came since: so the state before is written down, and what those before it had is of no use.
            while self._older:
                with suppress(ObjectsAway):  # it goes with the upload, then
                    await self._store.delete_beside(self._key, *self._older[-1])
                self._older.pop()
            if state.beside:
                await self._store.put_beside(self._key, len(state.etags), state.beside, await self._part())
            if self._kept.beside:
                self._older.append((len(self._kept.etags), self._kept.beside))
            self._kept = state
        return _encoded(state)

    async def finish(self) -> None:
        if self._gathered or not self._etags:
            await self._put()
        self.drop()
        await self._store.complete(self._key, self._upload_id, self._etags)

    def drop(self) -> None:
        self._buffer.clear()
        self._filed = 0
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._has_turn:
            self._has_turn = False
            self._store.turn_over()

    async def _put(self) -> None:
        number = len(self._etags) + 1
        self._etags.append(await self._store.put_part(self._key, self._upload_id, number, await self._part()))
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
            await self._store.take_turn()
            self._has_turn = True
        with _translated():
            if self._file is None:
                self._file = await in_thread(self._store.new_file)
            await in_thread(partial(_append, self._file, self._buffer))
        self._filed += len(self._buffer)
        self._buffer = bytearray()


def _append(file: FileIO, data: bytearray) -> None:
    file.seek(0, os.SEEK_END)
    with memoryview(data) as view:
        done = 0
        while done < len(view):
            done += file.write(view[done:])


_encode: Final = msgspec.json.Encoder().encode
_decoded: Final = msgspec.json.Decoder(_State).decode


def _encoded(state: _State) -> str:
    return _encode(state).decode()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if _code(error) in _MISSING:
            raise ObjectMissing(str(error)) from error
        raise ObjectsAway(f"the bucket refused: {error}") from error
    except (BotoCoreError, HttpError, OSError, TimeoutError) as error:
        raise ObjectsAway(f"the bucket cannot be reached: {error}") from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
