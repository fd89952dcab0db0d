"""The application, composed: what runs in it beside what is asked of it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

import server.app
from domain import reminders
from meetings.ice import IceServer
from store.objects import bucket
from tests.conftest import StorageIn
from tests.support.apps import App, running_app
from tests.support.buckets import BUCKET
from tests.support.lessons import book, database_pool
from tests.support.processes import HOST, free_port
from tests.support.recorder import WAIT_SECONDS
from tests.support.sending import PNG, announce, append


def is_reminding() -> bool:
    return any(task.get_name() == "reminders" for task in asyncio.all_tasks())


async def test_reminders_run_as_long_as_the_application(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reminders, "LOOK_SECONDS", 0.0)
    async with database_pool(database) as pool:
        booking_id = await book(pool, status="confirmed")
        await pool.execute(
            "UPDATE bookings SET start_time = now() + interval '9 minutes', end_time = now() + interval '1 hour'"
        )
    async with running_app(database, reminder_minutes=10) as app, asyncio.timeout(WAIT_SECONDS):
        assert is_reminding()
        while not (claimed := await app.pool.fetch("SELECT booking_id FROM booking_reminders")):
            pass
        assert [row["booking_id"] for row in claimed] == [booking_id]
    assert not is_reminding()


async def test_nobody_is_reminded_where_that_is_not_wanted(database: str) -> None:
    async with running_app(database, reminder_minutes=0):
        assert not is_reminding()


@pytest.mark.parametrize(
    ("changes", "is_said"),
    [
        ({}, True),
        ({"ice_servers": (IceServer(urls="stun:stun.example"),)}, False),
        ({"meeting_provider": "jitsi", "jitsi_domain": "meet.example"}, False),
        ({"demo_secret": "s" * 32}, False),
    ],
    ids=["nothing", "stun", "jitsi", "demo"],
)
async def test_a_start_says_that_video_does_not_leave_the_network(
    database: str, capsys: pytest.CaptureFixture[str], changes: Any, is_said: bool
) -> None:
    async with running_app(database, **changes):
        assert ("meetings.no_ice_servers" in capsys.readouterr().out) is is_said


async def keeps_no_files_and_serves_on(app: App, said: str, why: str) -> None:
    [line] = [line for line in said.splitlines() if "storage.away" in line]
    assert why in line
    announced = await announce(app, "kid", len(PNG))
    assert announced.status == 201, "the database knows of it"
    answer = await append(app, "kid", announced.headers["Location"], 0, PNG)
    assert (answer.status, answer.error, answer.headers["Retry-After"]) == (503, "unavailable", "1")
    ready = await app.call(None, "GET", "/readyz")
    assert (ready.status, ready.body["storage"], ready.body["database"]) == (503, "away", "ok")


async def test_a_start_without_its_bucket_says_which_and_serves_on(
    database: str, storage_in: StorageIn, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**await storage_in("rclone"), "storage_url": "s3://les-sons"}
    async with running_app(database, **settings) as app:
        await keeps_no_files_and_serves_on(app, capsys.readouterr().out, "there is no bucket les-sons")


async def test_a_start_without_the_server_of_its_bucket_says_so_and_serves_on(
    database: str, storage_in: StorageIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "ATTEMPTS", 1)
    endpoint = f"http://{HOST}:{free_port()}"
    settings = {**await storage_in("rclone"), "s3_endpoint_url": endpoint}
    async with running_app(database, **settings) as app:
        await keeps_no_files_and_serves_on(app, capsys.readouterr().out, endpoint)


async def test_a_start_with_a_bucket_that_does_not_answer_says_which_and_serves(
    database: str, storage_in: StorageIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.app, "STORAGE_SECONDS", 0.1)
    with socket.create_server((HOST, 0)) as silent:
        endpoint = f"http://{HOST}:{silent.getsockname()[1]}"
        settings = {**await storage_in("rclone"), "s3_endpoint_url": endpoint}
        async with running_app(database, **settings):
            [line] = [line for line in capsys.readouterr().out.splitlines() if "storage.away" in line]
    assert f"nothing was heard of the bucket {BUCKET} at {endpoint} for 0.1 seconds" in line


async def test_a_start_without_a_folder_to_write_to_says_which_and_serves_on(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "files").write_text("a file stands where the folder should")
    async with running_app(database, storage_url=(tmp_path / "files").as_uri()) as app:
        await keeps_no_files_and_serves_on(app, capsys.readouterr().out, str(tmp_path / "files"))
