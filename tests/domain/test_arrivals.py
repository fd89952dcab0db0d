"""Whatever fails while a file comes in: what the server says it has, it has."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from yarl import URL

from domain import arrivals, deposits
from domain.sweeper import Sweeper
from store.errors import Away
from store.objects import s3_upload
from store.objects.objects import ObjectsAway, ObjectStore, Stat
from store.objects.objects import Upload as Stored
from store.objects.s3 import S3Store
from tests.conftest import StorageIn
from tests.support.apps import App, running_app
from tests.support.recorder import WAIT_SECONDS
from tests.support.sending import PDF, PNG, TUS, append, begin, link, send
from tests.support.waiting import until

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
    monkeypatch.setattr(deposits, "KEEP_BYTES", 64 * 1024)
    monkeypatch.setattr(s3_upload, "PART_BYTES", 32 * 1024)
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

    async with asyncio.timeout(5 * WAIT_SECONDS):
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


@pytest.mark.parametrize("app", ["rclone"], indirect=True)
async def test_a_file_is_never_made_of_less_than_what_came(app: App) -> None:
    path = await begin(app, "kid", len(PNG))
    await append(app, "kid", path, 0, PNG[:4_500])
    key = await app.pool.fetchval("SELECT key FROM files")
    store = app.uploads.objects
    assert isinstance(store, S3Store)
    async with store.bucket.asking() as s3:
        await s3.put_object(
            Bucket=store.bucket.name, Key=f"{store.bucket.prefix}incoming/{key}/0.4500", Body=PNG[:4_400]
        )

    answer = await append(app, "kid", path, 4_500, PNG[4_500:])

    assert (answer.status, answer.error) == (404, "upload_not_found")
    assert arrivals.LOST in answer.body["message"]
    assert await app.pool.fetchval("SELECT state FROM files") == "failed"
    assert await store.stat(key) is None


async def test_a_file_that_does_not_lie_there_as_it_came_is_not_taken(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, stat = await begin(app, "kid", len(PNG)), app.uploads.objects.stat

    async def shorter(key: str) -> Stat | None:
        found = await stat(key)
        return None if found is None else replace(found, size=found.size - 1)

    monkeypatch.setattr(app.uploads.objects, "stat", shorter)
    answer = await append(app, "kid", path, 0, PNG)

    assert (answer.status, answer.error) == (404, "upload_not_found")
    assert await app.pool.fetchval("SELECT state FROM files") == "failed"


async def test_whoever_sends_slowly_in_one_go_makes_room_for_the_others(
    database: str, storage_in: StorageIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_upload, "MAX_GATHERING", 1)
    monkeypatch.setattr(s3_upload, "GATHERED_BYTES", 1_000)
    monkeypatch.setattr(deposits, "KEEP_SECONDS", 0.0)
    others_are_done, sent = asyncio.Event(), bytearray()

    async def slowly() -> AsyncIterator[bytes]:
        piece = PDF
        while not others_are_done.is_set():
            sent.extend(piece)
            yield piece
            await asyncio.sleep(0.02)
            piece = b"x"

    async with running_app(database, **await storage_in("rclone")) as app:
        wanted = {"file_name": "a.pdf", "content_type": "application/pdf"}
        once = URL((await app.call("kid", "POST", "/presigned-url", wanted)).body["upload_url"]).path
        slow = asyncio.create_task(
            app.call(None, "PUT", once, data=slowly(), headers={"Content-Type": "application/pdf"})
        )
        async with asyncio.timeout(WAIT_SECONDS):
            await until(lambda: app.uploads.objects.crowded)
            for _ in range(3):
                await send(app, "teach", PNG)
            others_are_done.set()
            answer = await slow
        assert answer.status == 200, answer
        async with app.client.get(await link(app, UUID(answer.body["id"]))) as response:
            assert await response.read() == bytes(sent)


async def test_nothing_is_lost_while_a_share_is_not_mounted(database: str, tmp_path: Path) -> None:
    share, elsewhere = tmp_path / "share", tmp_path / "elsewhere"
    async with running_app(database, storage_url=share.as_uri()) as app:
        ready = await send(app, "kid", PDF)
        path = await begin(app, "kid", len(PNG))
        assert (await append(app, "kid", path, 0, PNG[:4_500])).status == 204
        share.rename(elsewhere)
        share.mkdir()

        assert (await app.call(None, "GET", await link(app, ready))).status == 503
        assert (await append(app, "kid", path, 4_500, PNG[4_500:])).status == 503
        assert (await app.call("kid", "DELETE", f"/uploads/{ready}")).status == 204
        await Sweeper(app.uploads).sweep()
        assert (await app.call(None, "GET", "/readyz")).body["storage"] == "away"
        async with running_app(database, storage_url=share.as_uri()) as another:
            assert (await append(another, "kid", path, 4_500, PNG[4_500:])).status == 503
        assert list(share.iterdir()) == []

        share.rmdir()
        elsewhere.rename(share)
        assert await app.pool.fetchval("SELECT count(*) FROM objects_to_delete") == 1
        assert (await append(app, "kid", path, 4_500, PNG[4_500:])).status == 204
        async with app.client.get(await link(app, UUID(path.rpartition("/")[2]))) as response:
            assert await response.read() == PNG
