"""Files in a bucket of S3, or of another server that speaks its language.

An upload is one multipart upload. Its parts but for the last have PART_BYTES; what is kept between two requests and is
less than a part lies beside it, as an object of its own, until more comes (S3 takes no part below 5 MiB but the last:
*Amazon S3 multipart upload limits*). That object's name says how many parts come before it, and it only ever grows: so
a state stays good until the next one was written down, whoever dies in between.

A part is gathered in memory before it is sent, in one buffer that the request is read from. Not more than MAX_GATHERING
uploads of a worker have one at a time: the next waits, and with it whoever sends, as nothing is read from them. A place
is held from :meth:`S3Store.resume` until the upload is kept, finished or dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, Final

import msgspec
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError

from store.objects.objects import CACHE_CONTROL, CHUNK_BYTES, ObjectMissing, ObjectsAway, Stat, checked

#: At most 10 000 parts make a file: 80 GiB.
PART_BYTES: Final = 8 * 1024 * 1024
#: Seconds for a connection, and for the next bytes of an answer.
CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 30.0
#: How often a request is tried that failed in passing; see botocore's *standard* retry mode.
ATTEMPTS: Final = 3
#: Requests to the bucket under way at a time, per worker.
MAX_CONNECTIONS: Final = 32
#: Uploads that gather a part at a time, per worker: they take PART_BYTES each.
MAX_GATHERING: Final = 32
#: How long the next one waits for its turn.
TURN_SECONDS: Final = 5.0

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
    """

    def __init__(self, bucket: str, prefix: str = "", *, endpoint_url: str | None = None) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint_url = endpoint_url
        self._stack = AsyncExitStack()
        self._client: Any = None
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
                        s3={"addressing_style": "path" if self._endpoint_url else "auto"},
                    )
                    made = get_session().create_client("s3", endpoint_url=self._endpoint_url, config=config)
                    self._client = await self._stack.enter_async_context(made)
        return self._client

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
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise ObjectsAway("too many files are on their way into the bucket at once") from None
        upload = S3Upload(self, key, kept)
        try:
            if kept.beside:
                name = self._beside(key, len(kept.etags))
                async with aclosing(self._read(name, Range=f"bytes=0-{kept.beside - 1}")) as chunks:
                    async for chunk in chunks:
                        upload.gather(chunk)
        except BaseException:
            upload.drop()
            raise
        return upload

    def turn_over(self) -> None:
        """Another upload may gather a part."""
        self._turns.release()

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

    async def source(self, key: str, *, seconds: int) -> str:
        url = await self.link(key, seconds=seconds, content_type="application/octet-stream", disposition="attachment")
        assert url is not None, "a bucket signs its links"
        return url

    async def close(self) -> None:
        await self._stack.aclose()
        self._client = None

    # For uploads

    async def put_part(self, key: str, upload_id: str, number: int, data: BytesIO) -> str:
        async with self._asking() as s3:
            put = await s3.upload_part(
                Bucket=self._bucket, Key=self._name(key), UploadId=upload_id, PartNumber=number, Body=_body(data)
            )
        etag: str = put["ETag"]
        return etag

    async def put_beside(self, key: str, parts: int, data: BytesIO) -> None:
        async with self._asking() as s3:
            await s3.put_object(Bucket=self._bucket, Key=self._beside(key, parts), Body=_body(data))

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

    def _beside(self, key: str, parts: int) -> str:
        return f"{self._prefix}incoming/{checked(key)}/{parts}"


class S3Upload:
    """A file on its way into a bucket."""

    def __init__(self, store: S3Store, key: str, state: _State) -> None:
        self._store = store
        self._key = key
        self._upload_id = state.upload_id
        self._etags = list(state.etags)
        #: One for all parts, one after the other: `_gathered` bytes of it are of this one.
        self._buffer = BytesIO()
        self._gathered = 0

    @property
    def offset(self) -> int:
        return len(self._etags) * PART_BYTES + self._gathered

    async def write(self, chunk: bytes) -> None:
        left = memoryview(chunk)
        while len(left) >= (room := PART_BYTES - self._gathered):
            # In a part of its own only when it is whole: parts are counted by their size.
            self.gather(left[:room])
            left = left[room:]
            await self._put()
        self.gather(left)

    def gather(self, chunk: bytes | memoryview) -> None:
        """Append, as far as there is room in this part."""
        self._gathered += self._buffer.write(chunk)

    async def keep(self) -> str:
        if self._gathered:
            await self._store.put_beside(self._key, len(self._etags), self._part())
        state = _encoded(_State(upload_id=self._upload_id, etags=tuple(self._etags), beside=self._gathered))
        self.drop()
        return state

    async def finish(self) -> None:
        if self._gathered or not self._etags:
            await self._put()
        self.drop()
        await self._store.complete(self._key, self._upload_id, self._etags)

    def drop(self) -> None:
        if not self._buffer.closed:
            self._buffer.close()
            self._store.turn_over()

    async def _put(self) -> None:
        number = len(self._etags) + 1
        self._etags.append(await self._store.put_part(self._key, self._upload_id, number, self._part()))
        self._buffer.seek(0)
        self._gathered = 0

    def _part(self) -> BytesIO:
        self._buffer.truncate(self._gathered)
        self._buffer.seek(0)
        return self._buffer


def _body(data: BytesIO) -> BytesIO | bytes:
    """What botocore reads a request's body from, piece by piece. Of a file it asks first whether it may be sent, and
    some servers do not answer that for nothing."""
    return data if data.getbuffer().nbytes else b""


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
