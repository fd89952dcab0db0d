"""Files are looked through once, by whoever is there, and what breaks off leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain import processing
from domain.processing import (
    AGAIN_SECONDS,
    GONE,
    KEPT_SECONDS,
    MAX_AGAIN_SECONDS,
    MAX_TRIES,
    NOT_THROUGH,
    RESERVE_BYTES,
    WRITTEN_BYTES,
    WRITTEN_SHARE,
    Processing,
)
from domain.sweeper import Sweeper
from media.job import Facts, Job
from media.pool import Broken, MediaPool, SourceAway, SourceGone
from store.objects.objects import ObjectsAway
from tests.support.apps import App, running_app
from tests.support.media import make
from tests.support.sending import link, send


class Slow(MediaPool):
    """Media work that takes as long as it is let, and writes what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.began = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def run(self, job: Job) -> Facts:
        self.began.set()
        await self.goes_on.wait()
        assert job.thumbnail is not None
        await asyncio.to_thread(Path(job.thumbnail).write_bytes, b"\xff\xd8\xff a picture")
        return Facts(seconds=2.0, has_thumbnail=True)


@pytest.fixture
async def app(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    # The application's own does nothing in these tests.
    monkeypatch.setattr(Processing, "start", lambda self: None)
    async with running_app(database) as app:
        yield app


@pytest.fixture
async def file_id(app: App, tmp_path: Path) -> UUID:
    lesson_id = await app.book()
    film = await asyncio.to_thread(lambda: make(tmp_path / "lesson.mp4").read_bytes())
    return await send(app, "teach", film, kind="recording", session_id=str(lesson_id))


async def row_of(app: App, file_id: UUID) -> Any:
    return await app.pool.fetchrow("SELECT * FROM files WHERE id = $1", file_id)


async def test_a_file_that_nobody_comes_to_the_end_of_fails(app: App, file_id: UUID, tmp_path: Path) -> None:
    await app.pool.execute("UPDATE files SET tries = $2 WHERE id = $1", file_id, MAX_TRIES)
    await Processing(app.uploads, Slow(), tmp_path / "work").work()
    row = await row_of(app, file_id)
    assert (row["state"], row["reason"]) == ("failed", NOT_THROUGH)


async def test_a_worker_that_leaves_leaves_its_file_to_the_next_at_once(
    app: App, file_id: UUID, tmp_path: Path
) -> None:
    media = Slow()
    leaving = asyncio.create_task(Processing(app.uploads, media, tmp_path / "work").work())
    await media.began.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    row = await row_of(app, file_id)
    assert (row["state"], row["lease_holder"], row["tries"]) == ("processing", None, 0)
    media.goes_on.set()
    assert await Processing(app.uploads, media, tmp_path / "work").work() == 1
    assert (await row_of(app, file_id))["state"] == "ready"
    assert await asyncio.to_thread(lambda: list((tmp_path / "work").iterdir())) == []


async def test_who_was_taken_for_gone_changes_nothing_any_more(
    app: App, file_id: UUID, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processing, "RENEW_SECONDS", 0.1)
    media, other = Slow(), uuid4()
    late = asyncio.create_task(Processing(app.uploads, media, tmp_path / "work").work())
    await media.began.wait()
    await app.pool.execute(
        "UPDATE files SET lease_holder = $2, lease_until = now() + interval '1 hour' WHERE id = $1", file_id, other
    )
    assert await late == 1
    row = await row_of(app, file_id)
    assert (row["state"], row["lease_holder"], row["thumbnail_key"]) == ("processing", other, None)


async def test_objects_that_were_made_for_nothing_are_swept(app: App, file_id: UUID, tmp_path: Path) -> None:
    media = Slow()
    working = Processing(app.uploads, media, tmp_path / "work")
    late = asyncio.create_task(working.work())
    await media.began.wait()
    await app.pool.execute("UPDATE files SET lease_holder = $2 WHERE id = $1", file_id, uuid4())
    media.goes_on.set()
    await late
    [made] = await app.pool.fetch("SELECT key, due_at > now() AS later FROM objects_to_delete")
    assert made["later"]
    assert await app.uploads.objects.stat(made["key"]) is not None
    await app.pool.execute("UPDATE objects_to_delete SET due_at = now()")
    await Sweeper(app.uploads).sweep()
    assert await app.uploads.objects.stat(made["key"]) is None


class Failing(MediaPool):
    """Media work that never comes to its end."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def run(self, job: Job) -> Facts:
        raise self._error


@pytest.mark.parametrize("error", [SourceAway("a bucket"), ObjectsAway("a bucket"), OSError(28, "no space")])
async def test_an_outage_however_long_costs_no_file(app: App, file_id: UUID, tmp_path: Path, error: Exception) -> None:
    working = Processing(app.uploads, Failing(error), tmp_path / "work")
    for _ in range(MAX_TRIES + 2):
        await working.work()
        await app.pool.execute("UPDATE files SET lease_until = now() - interval '1 second'")
    row = await row_of(app, file_id)
    assert (row["state"], row["lease_holder"], row["tries"]) == ("processing", None, 0)


async def test_a_file_is_gone_when_the_store_says_so_too(app: App, file_id: UUID, tmp_path: Path) -> None:
    working = Processing(app.uploads, Failing(SourceGone("not mounted")), tmp_path / "work")
    await working.work()
    row = await row_of(app, file_id)
    assert (row["state"], row["tries"]) == ("processing", 0)
    await app.uploads.objects.delete(row["key"])
    await app.pool.execute("UPDATE files SET lease_until = now() - interval '1 second'")
    await working.work()
    row = await row_of(app, file_id)
    assert (row["state"], row["reason"]) == ("failed", GONE)


async def test_what_nobody_has_foreseen_costs_no_file(app: App, file_id: UUID, tmp_path: Path) -> None:
    working = Processing(app.uploads, Failing(ZeroDivisionError("a bad deploy")), tmp_path / "work")
    for _ in range(MAX_TRIES + 2):
        await working.work()
        await app.pool.execute("UPDATE files SET lease_until = now() - interval '1 second'")
    row = await row_of(app, file_id)
    assert (row["state"], row["lease_holder"], row["tries"]) == ("processing", None, 0)
    await working.work()
    slow = Slow()
    slow.goes_on.set()
    await app.pool.execute("UPDATE files SET lease_until = now() - interval '1 second'")
    await Processing(app.uploads, slow, tmp_path / "work").work()
    assert (await row_of(app, file_id))["state"] == "ready"


async def test_what_keeps_failing_is_begun_less_and_less_often(app: App, file_id: UUID, tmp_path: Path) -> None:
    working = Processing(app.uploads, Failing(ZeroDivisionError("a bad deploy")), tmp_path / "work")
    pauses = []
    for age in ("1 second", "10 minutes", "3 days"):
        await app.pool.execute(
            "UPDATE files SET lease_until = '-infinity', updated_at = now() - $1::text::interval", age
        )
        await working.work()
        pauses.append(
            await app.pool.fetchval(
                "SELECT extract(epoch FROM lease_until - now())::float FROM files WHERE id = $1", file_id
            )
        )
    assert pauses == pytest.approx([AGAIN_SECONDS, 600, MAX_AGAIN_SECONDS], abs=20)


async def test_a_file_that_the_disk_has_no_room_for_waits_and_nothing_is_written(
    app: App, file_id: UUID, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 2 * WRITTEN_BYTES + RESERVE_BYTES

    class Disk:
        def __init__(self, _folder: Path) -> None:
            self.free = free

    monkeypatch.setattr(shutil, "disk_usage", Disk)
    media = Slow()
    media.goes_on.set()
    for _ in range(MAX_TRIES + 2):
        await Processing(app.uploads, media, tmp_path / "work").work()
        await app.pool.execute("UPDATE files SET lease_until = now() - interval '1 second'")
    assert not media.began.is_set()
    row = await row_of(app, file_id)
    assert (row["state"], row["tries"]) == ("processing", 0)
    free += 2 * int(row["size"] * WRITTEN_SHARE) + 2
    await Processing(app.uploads, media, tmp_path / "work").work()
    assert (await row_of(app, file_id))["state"] == "ready"


async def test_the_bytes_of_a_file_that_nobody_came_to_the_end_of_stay_for_some_days(
    app: App, file_id: UUID, tmp_path: Path
) -> None:
    await app.pool.execute("UPDATE files SET tries = $2 WHERE id = $1", file_id, MAX_TRIES)
    await Processing(app.uploads, Slow(), tmp_path / "work").work()
    await Sweeper(app.uploads).sweep()
    row = await row_of(app, file_id)
    assert row["state"] == "failed"
    assert await app.uploads.objects.stat(row["key"]) is not None
    assert (await app.call(None, "GET", await link(app, file_id))).status == 404
    await app.pool.execute("UPDATE objects_to_delete SET due_at = due_at - make_interval(secs => $1)", KEPT_SECONDS)
    await Sweeper(app.uploads).sweep()
    assert await app.uploads.objects.stat(row["key"]) is None


async def test_a_process_that_was_killed_is_a_try_and_no_verdict(app: App, file_id: UUID, tmp_path: Path) -> None:
    working = Processing(app.uploads, Failing(Broken("killed")), tmp_path / "work")
    await working.work()
    row = await row_of(app, file_id)
    assert (row["state"], row["lease_holder"], row["tries"]) == ("processing", None, 1)
    for _ in range(MAX_TRIES):
        await app.pool.execute("UPDATE files SET lease_until = now() - interval '1 second'")
        await working.work()
    row = await row_of(app, file_id)
    assert (row["state"], row["reason"]) == ("failed", NOT_THROUGH)


async def test_what_a_killed_worker_left_in_the_work_folder_goes(app: App, tmp_path: Path) -> None:
    left, young = tmp_path / "tmpleft", tmp_path / "tmpyoung"
    for folder in (left, young):
        folder.mkdir()
        (folder / "remuxed.mp4").write_bytes(b"x")
    os.utime(left, (0, 0))
    Processing(app.uploads, Slow(), tmp_path).clear_folder()
    assert not left.exists()
    assert young.exists()
