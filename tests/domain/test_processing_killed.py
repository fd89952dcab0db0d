"""A worker that is killed, whatever it is doing to a file: another one ends it, and nothing else is left of it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from aiobotocore.session import get_session

from domain.processing import Processing
from domain.sweeper import Sweeper
from store.objects.local import MARKER
from tests.conftest import StorageIn
from tests.support.apps import App, running_app
from tests.support.buckets import BUCKET
from tests.support.dying import REMUXED, STEPS, THERE, THUMBNAIL, Step, Writing
from tests.support.media import make
from tests.support.sending import send

ROOT: Final = Path(__file__).parents[2]
#: Seconds for the other worker to come to the step at which it is killed.
SECONDS: Final = 60.0


async def kill_a_worker_at(step: Step, **said: object) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.dying"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps({"step": step, **said}).encode())
        process.stdin.close()
        async with asyncio.timeout(SECONDS):
            while (line := await process.stdout.readline()) != THERE:
                assert line, "it ended by itself"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
async def film(tmp_path: Path) -> bytes:
    return await asyncio.to_thread(lambda: make(tmp_path / "lesson.mp4").read_bytes())


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        *((step, "folder") for step in STEPS),
        # What was only begun there, and not noted, is no object; the bucket's own rule ends it.
        *((step, "moto") for step in ("written", "put", "committing")),
    ],
)
async def test_what_a_killed_worker_left_of_a_file_is_ended_and_swept(
    database: str,
    film: bytes,
    step: Step,
    kind: str,
    storage_in: StorageIn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Processing, "start", lambda self: None)
    settings, folder = await storage_in(kind), tmp_path / "data"
    async with running_app(database, data_dir=folder, **settings) as app:
        file_id = await send(app, "teach", film, kind="recording", session_id=str(await app.book()))
        await kill_a_worker_at(step, dsn=database, folder=str(folder), settings=settings)
        await app.pool.execute("UPDATE files SET lease_until = now() - interval '1 second'")
        work = Processing(app.uploads, Writing(), folder / "work")
        assert await work.work() == (0 if step == "committed" else 1)
        await pass_time(app, folder)
        work.clear_folder()
        await Sweeper(app.uploads).sweep()
        row = await app.pool.fetchrow("SELECT state, key, thumbnail_key FROM files WHERE id = $1", file_id)
        assert row is not None
        assert row["state"] == "ready"
        assert await read(app, row["key"]) == REMUXED
        assert await read(app, row["thumbnail_key"]) == THUMBNAIL
        assert await asyncio.to_thread(files_in, folder / "work") == []
        found = [name async for name in objects_in(kind, folder, settings)]
        assert sorted(found) == sorted([row["key"], row["thumbnail_key"]])
        for table in ("objects_to_delete", "uploads_to_give_up"):
            assert await app.pool.fetchval(f"SELECT count(*) FROM {table}") == 0


async def pass_time(app: App, folder: Path) -> None:
    """Let everything that lies there, and is noted, be old."""
    await app.pool.execute("UPDATE objects_to_delete SET due_at = now() - interval '1 second'")
    await app.pool.execute("UPDATE uploads_to_give_up SET due_at = now() - interval '1 second'")

    def age() -> None:
        for path in folder.rglob("*"):
            os.utime(path, (0, 0))

    await asyncio.to_thread(age)


async def read(app: App, key: str) -> bytes:
    return b"".join([chunk async for chunk in app.uploads.objects.read(key)])


def files_in(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != MARKER]


async def objects_in(kind: str, folder: Path, settings: dict[str, str]) -> AsyncIterator[str]:
    """The keys of all objects, and names of whatever else is kept beside them."""
    if kind == "folder":
        for name in await asyncio.to_thread(files_in, folder / "files"):
            yield name.removeprefix("objects/")
        return
    prefix = settings["storage_url"].removeprefix(f"s3://{BUCKET}/") + "/"
    async with get_session().create_client("s3", endpoint_url=settings["s3_endpoint_url"]) as s3:
        for found in (await s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)).get("Contents", ()):
            yield found["Key"].removeprefix(prefix)
        for found in (await s3.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)).get("Uploads", ()):
            yield f"unfinished {found['Key']}"
