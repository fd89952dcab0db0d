# ruff: noqa: ASYNC230, ASYNC240 - files are looked at while nothing else runs
"""The embedded Postgres: comes up quickly, loses nothing, leaves nothing, and says why when it cannot."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import asyncpg
import psutil
import pytest

from server import postgres
from server.postgres import EmbeddedPostgres, EmbeddedPostgresError, embedded

ROOT = Path(__file__).parents[2]
AS_ROOT = os.geteuid() == 0


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder that other users can reach, with a path short enough for a socket."""
    folder = Path(mkdtemp(prefix="pg-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder / "data"
    shutil.rmtree(folder, ignore_errors=True)


def at_work_in(data_dir: Path) -> list[int]:
    """Postgres' processes in that folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and process.cwd().startswith(str(data_dir)):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


async def ask(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def refusal(data_dir: Path) -> str:
    with pytest.raises(EmbeddedPostgresError) as caught:
        async with embedded(data_dir):
            pass
    said = str(caught.value)
    assert said.endswith(".")
    assert "\n" not in said
    assert at_work_in(data_dir) == []
    return said


def in_another_process(
    data_dir: Path, then: str, *, as_nobody: bool = False, own_group: bool = False
) -> subprocess.Popen[str]:
    """A process with an embedded Postgres, which says when it is up, and then does what `then` says."""
    # Not by Popen's `user`: nobody may be unable to read the interpreter, but can go on in a running one, which
    # has to have imported by then what it needs.
    become = (
        "import pwd; n = pwd.getpwnam('nobody'); os.setgroups([]); os.setgid(n.pw_gid); os.setuid(n.pw_uid)"
        if as_nobody
        else "pass"
    )
    code = f"""
import asyncio, asyncpg, os, signal, sys, time
from pathlib import Path
from server.postgres import EmbeddedPostgresError, embedded

async def main():
    async with embedded(Path({str(data_dir)!r})) as dsn:
        print('up', dsn, flush=True)
        {then}

asyncio.run(asyncio.to_thread(int))
{become}
try:
    asyncio.run(main())
except (EmbeddedPostgresError, KeyboardInterrupt) as error:
    print(type(error).__name__, error, flush=True)
"""
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=own_group
    )


async def test_it_comes_up_durable_and_goes_without_a_trace(data_dir: Path) -> None:
    async with embedded(data_dir) as dsn:
        assert await ask(dsn, "SELECT current_database()") == "encounters"
        for setting, value in {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "max_connections": "200",
            "listen_addresses": "",
            "TimeZone": "UTC",
        }.items():
            assert await ask(dsn, f"SHOW {setting}") == value
        assert await ask(dsn, "SELECT lower('ÄÖ')") == "äö"
        await ask(dsn, "CREATE TABLE kept AS SELECT 7 AS n")
        assert at_work_in(data_dir)
    assert at_work_in(data_dir) == []
    started = time.monotonic()
    async with embedded(data_dir) as dsn:
        assert time.monotonic() - started < postgres.STOP_SECONDS
        assert await ask(dsn, "SELECT n FROM kept") == 7


async def test_nobody_else_reads_the_data(data_dir: Path) -> None:
    async with embedded(data_dir):
        assert (data_dir / "postgres").stat().st_mode & 0o077 == 0
        assert data_dir.stat().st_mode & 0o066 == 0


async def test_one_folder_serves_one_encounters(data_dir: Path) -> None:
    async with embedded(data_dir) as dsn:
        with pytest.raises(EmbeddedPostgresError) as caught:
            async with embedded(data_dir):
                pass
        assert f"process {os.getpid()}" in str(caught.value)
        assert await ask(dsn, "SELECT 1") == 1


async def test_what_a_killed_process_left_is_taken_over(data_dir: Path) -> None:
    then = "os.kill(os.getpid(), signal.SIGKILL)"
    with in_another_process(data_dir, then) as killed:
        assert killed.wait(60) == -signal.SIGKILL
    left = at_work_in(data_dir)
    assert left
    started = time.monotonic()
    async with embedded(data_dir) as dsn:
        assert time.monotonic() - started < postgres.STOP_SECONDS
        assert await ask(dsn, "SELECT 1") == 1
        assert not set(left) & set(at_work_in(data_dir))
    assert at_work_in(data_dir) == []


async def test_a_crash_of_everything_is_recovered_from(data_dir: Path) -> None:
    async with embedded(data_dir) as dsn:
        await ask(dsn, "CREATE TABLE kept AS SELECT 7 AS n")
        postmaster = int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(postmaster, signal.SIGKILL)
    assert (data_dir / "postgres" / "postmaster.pid").exists()
    async with embedded(data_dir) as dsn:
        assert await ask(dsn, "SELECT n FROM kept") == 7


async def test_a_number_that_now_belongs_to_another_process_is_no_server(data_dir: Path) -> None:
    async with embedded(data_dir):
        written = (data_dir / "postgres" / "postmaster.pid").read_text().splitlines()
    # As after a restart of a container, where the same few numbers are given out again.
    lines = [str(os.getppid()), *written[1:]]
    (data_dir / "postgres" / "postmaster.pid").write_text("\n".join(lines) + "\n")
    async with embedded(data_dir) as dsn:
        assert await ask(dsn, "SELECT 1") == 1


async def test_a_half_written_pid_file_is_no_obstacle(data_dir: Path) -> None:
    async with embedded(data_dir):
        pass
    (data_dir / "postgres" / "postmaster.pid").write_text("12")
    async with embedded(data_dir) as dsn:
        assert await ask(dsn, "SELECT 1") == 1


async def test_a_setup_that_was_cut_off_is_begun_anew(data_dir: Path) -> None:
    (data_dir / "postgres.new").mkdir(parents=True)
    (data_dir / "postgres.new" / "PG_VERSION").write_text("18\n")
    async with embedded(data_dir) as dsn:
        assert await ask(dsn, "SELECT 1") == 1
    assert not (data_dir / "postgres.new").exists()


async def test_ctrl_c_reaches_the_app_alone(data_dir: Path) -> None:
    # The terminal signals the whole foreground group; Postgres must not be in it.
    then = "await asyncio.sleep(60)"
    with in_another_process(data_dir, then, own_group=True) as process:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline)
        assert all(os.getpgid(pid) != process.pid for pid in at_work_in(data_dir))
        os.killpg(process.pid, signal.SIGINT)
        said, _ = await asyncio.to_thread(process.communicate, timeout=60)
    assert said.startswith("KeyboardInterrupt")
    assert at_work_in(data_dir) == []
    assert "immediate shutdown" not in (data_dir / "postgres.log").read_text()


async def test_a_start_that_is_given_up_leaves_nothing(data_dir: Path) -> None:
    async def start() -> None:
        async with embedded(data_dir):
            pass

    # Before anything, while the cluster is set up, and while a server starts or stops.
    for patience in (0.0, 0.05, 0.2, 0.005, 0.01, 0.02, 0.03, 0.04):
        task = asyncio.create_task(start())
        await asyncio.sleep(patience)
        task.cancel()
        await asyncio.wait({task})
        assert at_work_in(data_dir) == []
    async with embedded(data_dir) as dsn:
        assert await ask(dsn, "SELECT 1") == 1


async def test_a_process_that_forgets_to_stop_it_still_leaves_nothing(data_dir: Path) -> None:
    with in_another_process(data_dir, "sys.exit(3)") as process:
        assert process.wait(30) == 3
    assert at_work_in(data_dir) == []


def test_stopping_twice_is_stopping_once(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    server.start()
    server.stop()
    server.stop()
    assert at_work_in(data_dir) == []


async def test_a_path_too_long_for_a_socket_is_no_obstacle(data_dir: Path) -> None:
    deep = data_dir / ("x" * 60) / ("y" * 60)
    async with embedded(deep) as dsn:
        assert await ask(dsn, "SELECT 1") == 1
        folder = Path(dsn.partition("host=")[2].partition("&")[0])
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


async def test_a_socket_folder_that_is_a_link_is_refused(data_dir: Path) -> None:
    deep = data_dir / ("x" * 60) / ("y" * 60)
    async with embedded(deep) as dsn:
        folder = Path(dsn.partition("host=")[2].partition("&")[0])
    folder.symlink_to(data_dir)
    try:
        assert "belongs to somebody else" in await refusal(deep)
    finally:
        folder.unlink()


async def test_a_path_with_odd_characters_is_no_obstacle(data_dir: Path) -> None:
    async with embedded(data_dir / "a b,c'd\"ü%&?#") as dsn:
        assert await ask(dsn, "SELECT 1") == 1


async def test_a_file_instead_of_a_folder_is_refused(data_dir: Path) -> None:
    data_dir.write_text("")
    assert "is a file" in await refusal(data_dir)
    assert "cannot be used" in await refusal(data_dir / "below")


async def test_data_of_another_version_is_refused(data_dir: Path) -> None:
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / "PG_VERSION").write_text("13\n")
    said = await refusal(data_dir)
    assert "Postgres 13" in said
    assert "Postgres 18" in said


async def test_a_folder_of_something_else_is_refused_and_kept(data_dir: Path) -> None:
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / "thesis.odt").write_text("years of work")
    assert "not a Postgres cluster" in await refusal(data_dir)
    assert (data_dir / "postgres" / "thesis.odt").read_text() == "years of work"


async def test_a_disk_without_room_is_refused(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "MIN_FREE_BYTES", 2**63)
    assert "MiB free" in await refusal(data_dir)


async def test_a_server_that_cannot_start_says_why(data_dir: Path) -> None:
    async with embedded(data_dir):
        pass
    with open(data_dir / "postgres" / "postgresql.conf", "a") as file:
        file.write("\nshared_buffers = many\n")
    said = await refusal(data_dir)
    assert "did not start: configuration file" in said
    assert str(data_dir / "postgres.log") in said


async def test_a_setup_that_fails_says_why(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "SUPERUSER", "pg_reserved")
    said = await refusal(data_dir)
    assert "could not be set up: superuser name" in said
    assert not (data_dir / "postgres.new").exists()


async def test_a_folder_that_may_not_be_written_is_refused(data_dir: Path) -> None:
    data_dir.mkdir()
    data_dir.chmod(0o555)
    with in_another_process(data_dir, "pass", as_nobody=AS_ROOT) as process:
        said, _ = await asyncio.to_thread(process.communicate, timeout=60)
    assert said.startswith("EmbeddedPostgresError")
    assert "cannot be used: Permission denied" in said


@pytest.mark.skipif(not AS_ROOT, reason="only root becomes somebody else")
async def test_it_runs_for_an_ordinary_user_and_then_for_root_on_the_same_data(data_dir: Path) -> None:
    data_dir.mkdir()
    shutil.chown(data_dir, "nobody", "nogroup")
    with in_another_process(data_dir, "pass", as_nobody=True) as process:
        said, _ = await asyncio.to_thread(process.communicate, timeout=60)
    assert said.startswith("up ")
    owner = (data_dir / "postgres").stat().st_uid
    assert owner != 0
    async with embedded(data_dir) as dsn:
        assert await ask(dsn, "SELECT 1") == 1
        assert {psutil.Process(pid).uids().real for pid in at_work_in(data_dir)} == {owner}


@pytest.mark.skipif(not AS_ROOT, reason="only root becomes somebody else")
async def test_data_of_root_is_refused_to_an_ordinary_user(data_dir: Path) -> None:
    async with embedded(data_dir):
        pass
    with in_another_process(data_dir, "pass", as_nobody=True) as process:
        said, _ = await asyncio.to_thread(process.communicate, timeout=60)
    assert said.startswith("EmbeddedPostgresError")
    assert "cannot be used: Permission denied" in said
