"""Files in a bucket of S3, or of another server that speaks its language.

How they come in is in :mod:`store.objects.s3_upload`, how the bucket is asked in :mod:`store.objects.bucket`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from store.objects.bucket import Bucket, code_of
from store.objects.objects import CACHE_CONTROL, ObjectMissing, ObjectsAway, Stat
from store.objects.s3_upload import Gathering, S3Upload, UploadState, decoded, encoded, resumed, sweep_beside

#: What the refusal of a whole bucket means; to a HEAD there is no other answer than the status.
_REFUSALS: Final = {
    "404": "there is no bucket {}",
    "403": "the bucket {} may not be used with these credentials",
}


class S3Store:
    """An :class:`store.objects.objects.ObjectStore` in `bucket`, under `prefix`.

    Credentials and region come from where AWS' own tools look for them (environment, files, the machine's role).
    `folder` is where parts are gathered, and is made when it is needed; None: where the system has such files.
    """

    def __init__(
        self, bucket: str, prefix: str = "", *, endpoint_url: str | None = None, folder: Path | None = None
    ) -> None:
        self.bucket = Bucket(bucket, prefix, endpoint_url)
        self._gathering = Gathering(folder)
        self._origin: str | None = None

    @property
    def place(self) -> str:
        return self.bucket.place

    async def check(self) -> None:
        async with self.bucket.asking() as s3:
            try:
                await s3.head_bucket(Bucket=self.bucket.name)
            except ClientError as error:
                meaning = _REFUSALS.get(code_of(error))
                if meaning is None:
                    raise
                raise ObjectsAway(meaning.format(self.bucket.name)) from error

    async def stat(self, key: str) -> Stat | None:
        try:
            async with self.bucket.asking() as s3:
                found = await s3.head_object(Bucket=self.bucket.name, Key=self.bucket.key(key))
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
        async for chunk in self.bucket.read(self.bucket.key(key), **asked):
            yield chunk

    async def delete(self, key: str) -> None:
        async with self.bucket.asking() as s3:
            await s3.delete_object(Bucket=self.bucket.name, Key=self.bucket.key(key))

    async def begin(self, key: str, content_type: str) -> str:
        async with self.bucket.asking() as s3:
            made = await s3.create_multipart_upload(
                Bucket=self.bucket.name, Key=self.bucket.key(key), ContentType=content_type
            )
        return encoded(UploadState(upload_id=made["UploadId"]))

    async def resume(self, key: str, state: str) -> S3Upload:
        return await resumed(self.bucket, self._gathering, key, state)

    @property
    def crowded(self) -> bool:
        return self._gathering.crowded

    async def give_up(self, key: str, state: str) -> None:
        try:
            async with self.bucket.asking() as s3:
                await s3.abort_multipart_upload(
                    Bucket=self.bucket.name, Key=self.bucket.key(key), UploadId=decoded(state).upload_id
                )
        except ObjectMissing:
            pass
        await sweep_beside(self.bucket, key)

    async def clear(self, *, before: datetime) -> None:
        """Nothing: an upload without a part is no object, and the bucket's own rule ends it."""

    async def link(self, key: str, *, seconds: int, content_type: str, disposition: str) -> str | None:
        async with self.bucket.asking() as s3:
            url: str = await s3.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self.bucket.name,
                    "Key": self.bucket.key(key),
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
        await self.bucket.close()
