"""Requests to a bucket of S3, or of another server that speaks its language, and what their failures mean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Final

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError

from store.objects.objects import CHUNK_BYTES, ObjectMissing, ObjectsAway, checked

#: Seconds for a connection, and for the next bytes of an answer.
CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 30.0
#: How often a request is tried that failed in passing; see botocore's *standard* retry mode.
ATTEMPTS: Final = 3
#: Requests to the bucket under way at a time, per worker.
MAX_CONNECTIONS: Final = 32

_MISSING: Final = frozenset({"404", "NoSuchKey", "NoSuchUpload", "NotFound"})


class Bucket:
    """The bucket called `name`, of which what lies under `prefix` is ours. Its client is made for the first request."""

    def __init__(self, name: str, prefix: str, endpoint_url: str | None) -> None:
        self.name = name
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint_url = endpoint_url
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._opening = asyncio.Lock()

    @property
    def place(self) -> str:
        """As whoever runs the server calls it."""
        at = f" at {self._endpoint_url}" if self._endpoint_url else ""
        return f"the bucket {self.name}{at}"

    def key(self, key: str) -> str:
        """Where a file lies in the bucket. Raises ValueError for a key that is none of ours."""
        return self.prefix + checked(key)

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Any]:
        """botocore's client, for a request. What that raises becomes ObjectMissing or ObjectsAway."""
        with translated():
            yield await self._s3()

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
                        s3={"addressing_style": "path" if self._endpoint_url or "." in self.name else "virtual"},
                    )
                    made = get_session().create_client("s3", endpoint_url=self._endpoint_url, config=config)
                    self._client = await self._stack.enter_async_context(made)
        return self._client

    async def read(self, key: str, **asked: str) -> AsyncGenerator[bytes, None]:
        """What lies under a key of the bucket's, in chunks of CHUNK_BYTES at most; `asked` goes into the request."""
        async with self.asking() as s3:
            answer = await s3.get_object(Bucket=self.name, Key=key, **asked)
        async with answer["Body"] as body:
            while True:
                with translated():
                    chunk = await body.read(CHUNK_BYTES)
                if not chunk:
                    break
                yield chunk

    async def close(self) -> None:
        await self._stack.aclose()
        self._client = None


@contextmanager
def translated() -> Iterator[None]:
    """Around what fails as requests do: with ObjectMissing or ObjectsAway instead."""
    try:
        yield
    except ClientError as error:
        if code_of(error) in _MISSING:
            raise ObjectMissing(str(error)) from error
        raise ObjectsAway(f"the bucket refused: {error}") from error
    except (BotoCoreError, HttpError, OSError, TimeoutError) as error:
        raise ObjectsAway(f"the bucket cannot be reached: {error}") from error


def code_of(error: ClientError) -> str:
    """S3's own word for what is wrong, such as NoSuchKey; the status where the answer has none."""
    return str(error.response.get("Error", {}).get("Code", ""))
