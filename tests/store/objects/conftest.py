"""The same files in a folder, and in two servers that speak S3's language."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from store.objects.local import LocalStore
from store.objects.objects import ObjectStore
from store.objects.s3 import S3Store
from tests.support.buckets import BUCKET, ENVIRONMENT, S3Servers

KINDS = ("local", "moto", "rclone")

#: Another worker's store on the same files.
NewStore = Callable[[], ObjectStore]


@pytest.fixture(params=KINDS)
async def new_store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_servers: S3Servers
) -> AsyncIterator[NewStore]:
    if request.param == "local":
        yield lambda: LocalStore(tmp_path / "files")
        return
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    url = await s3_servers.url(request.param)
    async with AsyncExitStack() as stack:

        def new() -> ObjectStore:
            store = S3Store(BUCKET, f"test-{id(stack):x}", endpoint_url=url)
            stack.push_async_callback(store.close)
            return store

        yield new


@pytest.fixture
def store(new_store: NewStore) -> ObjectStore:
    return new_store()
