"""Whatever fails while a file comes in: what the server says it has, it has."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from uuid import UUID

import pytest

from domain import arrivals
from store.errors import Away
from store.objects import s3
from store.objects.objects import ObjectsAway, ObjectStore
from store.objects.objects import Upload as Stored
from tests.conftest import StorageIn
from tests.support.apps import App, running_app
from tests.support.sending import PNG, TUS, append, begin, link

#: Of every act of the store, how many fail.
FAILURES = 0.15


class Flaky:
    """A store that fails now and then, before what it was asked for or after it."""

    def __init__(self, objects: ObjectStore, chance: random.Random) -> None:
        self._objects = objects
        self._chance = chance
        self.failures = FAILURES
        self.failed = 0

    def _may_fail(self) -> None:
        if self._chance.random() < self.failures / 2:
            self.failed += 1
            raise ObjectsAway("a test")

    async def begin(self, key: str, content_type: str) -> str:
        self._may_fail()
        state = await self._objects.begin(key, content_type)
        self._may_fail()
        return state

    async def resume(self, key: str, state: str) -> Stored:
        self._may_fail()
        return FlakyUpload(await self._objects.resume(key, state), self._may_fail)

    def __getattr__(self, name: str) -> object:
        return getattr(self._objects, name)


class FlakyUpload:
    def __init__(self, stored: Stored, may_fail: Callable[[], None]) -> None:
        self._stored = stored
        self._may_fail = may_fail

    @property
    def offset(self) -> int:
        return self._stored.offset

    async def write(self, chunk: bytes) -> None:
        self._fail()
        await self._stored.write(chunk)
        self._fail()

    async def keep(self) -> str:
        self._fail()
        state = await self._stored.keep()
        self._fail()
        return state

    async def finish(self) -> None:
        self._fail()
        await self._stored.finish()
        self._fail()

    def drop(self) -> None:
        self._stored.drop()

    def _fail(self) -> None:
        try:
            self._may_fail()
        except ObjectsAway:
            self._stored.drop()
            raise


@pytest.fixture(params=["folder", "rclone"])
async def app(request: pytest.FixtureRequest, database: str, storage_in: StorageIn) -> AsyncIterator[App]:
    """With its files in a folder, or in a bucket."""
    async with running_app(database, **await storage_in(request.param)) as app:
        yield app


@pytest.mark.parametrize("seed", range(6))
async def test_a_file_comes_whole_through_a_store_that_fails(
    app: App, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "KEEP_BYTES", 64 * 1024)
    monkeypatch.setattr(s3, "PART_BYTES", 32 * 1024)
    monkeypatch.setattr(arrivals, "LEASE_SECONDS", 2.0)
    chance = random.Random(seed)
    flaky = Flaky(app.uploads.objects, chance)
    monkeypatch.setattr(app.uploads, "objects", flaky)
    data = b"%PDF-1.7\n" + chance.randbytes(chance.choice([2_000, 5_000, 700_000]))
    path = await begin(app, "kid", len(data))

    async def pieces(place: int) -> AsyncIterator[bytes]:
        end = min(len(data), place + chance.choice([1_000, 50_000, len(data)]))
        while place < end:
            size = min(end - place, chance.choice([1, 100, 4_096, 30_000]))
            yield data[place : place + size]
            place += size
            await asyncio.sleep(0)

    async with asyncio.timeout(60):
        while True:
            said = await app.call("kid", "HEAD", path, headers=TUS)
            if said.status == 503:
                continue
            assert said.status == 200
            place = int(said.headers["Upload-Offset"])
            if "Upload-Expires" not in said.headers:
                break
            answer = await append(app, "kid", path, place, pieces(place))
            assert answer.status in (204, 409, 503), answer
    assert place == len(data)
    assert flaky.failed or len(data) < 10_000
    flaky.failures = 0
    async with app.client.get(await link(app, UUID(path.rpartition("/")[2]))) as response:
        assert await response.read() == data


async def test_a_file_whose_end_nobody_noted_is_taken_when_its_last_part_comes_again(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, complete = await begin(app, "kid", len(PNG)), app.uploads.complete

    async def away(*args: object, **named: object) -> None:
        raise Away("a test")

    monkeypatch.setattr(app.uploads, "complete", away)
    assert (await append(app, "kid", path, 0, PNG)).status == 503
    monkeypatch.setattr(app.uploads, "complete", complete)

    # A bucket says only now that this upload is over: but moto, which answers each such part with a 500, for good.
    said = await app.call("kid", "HEAD", path, headers=TUS)
    place = int(said.headers["Upload-Offset"])
    again = await append(app, "kid", path, place, PNG[place:])
    assert again.status in (204, 409), again
    said = await app.call("kid", "HEAD", path, headers=TUS)
    assert said.headers["Upload-Offset"] == str(len(PNG))
    async with app.client.get(await link(app, UUID(path.rpartition("/")[2]))) as response:
        assert await response.read() == PNG
