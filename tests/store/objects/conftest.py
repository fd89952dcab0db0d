"""The same files in a folder, and in two servers that speak S3's language."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiobotocore.session import get_session

from store.objects.local import LocalStore
from store.objects.objects import ObjectStore
from store.objects.s3 import S3Store
from tests.support.buckets import BUCKET, ENVIRONMENT, S3Server

KINDS = ("local", "moto", "rclone")

#: Another worker's store on the same files.
NewStore = Callable[[], ObjectStore]


@pytest.fixture(scope="session")
def s3_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, S3Server]]:
    servers = {kind: S3Server(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS if kind != "local"}
    for server in servers.values():
        server.start()
    yield servers
    for server in servers.values():
        server.kill()


@pytest.fixture(params=KINDS)
async def new_store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[NewStore]:
    if request.param == "local":
        yield lambda: LocalStore(tmp_path / "files")
        return
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    server: S3Server = request.getfixturevalue("s3_servers")[request.param]
    if request.param == "moto":
        async with get_session().create_client("s3", endpoint_url=server.url) as s3:
            await s3.create_bucket(Bucket=BUCKET)
    async with AsyncExitStack() as stack:

        def new() -> ObjectStore:
            store = S3Store(BUCKET, f"test-{id(stack):x}", endpoint_url=server.url)
            stack.push_async_callback(store.close)
            return store

        yield new


@pytest.fixture
def store(new_store: NewStore) -> ObjectStore:
    return new_store()
