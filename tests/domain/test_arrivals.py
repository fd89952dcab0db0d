"""Whatever fails while a file comes in: what the server says it has, it has."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from uuid import UUID

import pytest

from domain import arrivals
from store.objects.objects import ObjectsAway, ObjectStore
from store.objects.objects import Upload as Stored
from tests.support.apps import App, running_app
from tests.support.sending import TUS, append, begin, link

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


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


@pytest.mark.parametrize("seed", range(6))
async def test_a_file_comes_whole_through_a_store_that_fails(
    app: App, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "KEEP_BYTES", 64 * 1024)
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
