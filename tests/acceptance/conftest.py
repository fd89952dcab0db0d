"""Real servers, spoken to from outside: HTTP and Socket.IO, nothing else."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.acceptance import windows
from tests.acceptance.lessons import Lesson, Person, Seat
from tests.support import media
from tests.support.browsers import chromium
from tests.support.postgres import Clusters, new_database, run_apart
from tests.support.redis import RedisServer
from tests.support.servers import Server
from tests.support.tokens import SECRET

#: For tests that are about something else.
NO_LIMITS = {
    "LIMIT_EVENTS_PER_SECOND": "0",
    "LIMIT_EVENTS_BURST": "0",
    "LIMIT_HANDSHAKES_PER_SECOND": "0",
    "LIMIT_CONNECTIONS_PER_USER": "0",
}


class Arrange(Protocol):
    """Makes a lesson by REST at `url`."""

    def __call__(self, url: str) -> Awaitable[Lesson]: ...


class Start(Protocol):
    """Starts `count` servers with the same settings and returns them when they are ready."""

    def __call__(self, count: int, *arguments: str, **settings: str) -> Awaitable[list[Server]]: ...


class Sit(Protocol):
    """Connects somebody and joins; closed at the end of the test. See `Seat.take`."""

    def __call__(
        self,
        url: str,
        lesson: Lesson,
        person: Person,
        *,
        last_seq: int | None = None,
        transports: Sequence[str] = ("websocket",),
        token: str | None = None,
        source: str | None = None,
    ) -> Awaitable[Seat]: ...


@dataclass(frozen=True)
class Pair:
    """Two `encounters serve`, each on a port of its own, with one Redis and one database between them."""

    one: Server
    two: Server

    @property
    def urls(self) -> tuple[str, str]:
        return self.one.url, self.two.url


@contextmanager
def running(folder: Path, count: int, *arguments: str, **settings: str) -> Iterator[list[Server]]:
    """Servers with the same settings, started at once, for a whole module. See `ended_well` for their end."""
    servers = several(folder, count, *arguments, **settings)
    try:
        for server in servers:
            server.spawn()
        for server in servers:
            run_apart(server.until_ready())
        yield servers
        for server in servers:
            if server.running:
                server.terminate()
        for server in servers:
            if server.returncode != -signal.SIGKILL:
                run_apart(ended_well(server))
    finally:
        for server in servers:
            server.kill()


def several(folder: Path, count: int, *arguments: str, **settings: str) -> list[Server]:
    """Servers with the same settings and a log each, not started yet."""
    folder.mkdir(exist_ok=True)
    own = {"JWT_SECRET": SECRET, "DATA_DIR": str(folder), "DRAIN_SECONDS": "1", **settings}
    return [Server(own, *arguments, log=folder / f"server-{number}.log") for number in range(count)]


async def ended_well(server: Server) -> None:
    """Wait for the end of a server that was told to end: status 0, and no error in its log."""
    status = await server.wait()
    assert status == 0, f"it ended with {status}:\n{server.log()[-8000:]}"
    check_log(server)


def check_log(server: Server) -> None:
    """Whatever the clients do, nothing may go wrong in a way that the server did not expect.

    That a worker was killed is said, too; tests do that.
    """
    wrong = [line for line in server.log().splitlines() if _is_error(line) and '"worker.died"' not in line]
    assert not wrong, "the server logged errors:\n" + "\n".join(wrong)


def _is_error(line: str) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return "Traceback" in line or "never awaited" in line or "never retrieved" in line
    return isinstance(entry, dict) and entry.get("level") in ("error", "critical")


@pytest.fixture(scope="module")
def module_database(clusters: Clusters) -> Iterator[str]:
    """The database of the module's servers."""
    with new_database(clusters) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def module_files(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the module's servers keep files: who has a database has its files, too, or is not ready."""
    return tmp_path_factory.mktemp("files").as_uri()


@pytest.fixture(scope="module")
def pair(module_database: str, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two workers for all tests of the module: nobody stops them. Without limits on events and handshakes."""
    folder = tmp_path_factory.mktemp("pair")
    with running(folder, 2, DATABASE_URL=module_database, REDIS_URL=redis_server.url, **NO_LIMITS) as (one, two):
        yield Pair(one, two)


@pytest.fixture(scope="module")
def server(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker for all tests of the module: nobody stops it. Lessons are cancelled an hour before at the latest."""
    settings = {"DATABASE_URL": module_database, "BOOKING_CANCEL_NOTICE_MINUTES": "60", **NO_LIMITS}
    with running(tmp_path_factory.mktemp("server"), 1, **settings) as (server,):
        yield server


@pytest.fixture(scope="module")
def demo(module_database: str, module_files: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The demo, on one server for the whole module."""
    settings = {"DATABASE_URL": module_database, "STORAGE_URL": module_files, **NO_LIMITS}
    with running(tmp_path_factory.mktemp("demo"), 1, "--demo", **settings) as (server,):
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cameras() -> AsyncIterator[Browser]:
    """A browser for the whole module, whose windows have cameras and microphones."""
    async with chromium(*windows.FLAGS) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def gather(cameras: Browser, demo: Server, start: Start) -> AsyncIterator[windows.Gather]:
    """Has a class: `gather()` on the module's server, or, where a test stops it or sets it up, on its own,
    `gather(workers=2, **settings)`. At the end nothing may have gone wrong in anybody's console."""
    classes: list[windows.Class] = []

    async def have(workers: int = 0, **settings: str) -> windows.Class:
        servers = await start(workers, "--demo", **settings) if workers else [demo]
        classes.append(await windows.Class.arrange(servers, cameras))
        return classes[-1]

    yield have
    for one in classes:
        await one.close()


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of two seconds, `lesson.webm`, as a browser's MediaRecorder writes it. Nobody changes it."""
    return media.make(tmp_path_factory.mktemp("film") / "lesson.webm", live=True)


@pytest.fixture
def arrange() -> Arrange:
    return Lesson.arrange


@pytest.fixture
async def start(tmp_path: Path, module_database: str, module_files: str) -> AsyncIterator[Start]:
    """Starts servers of this test's own, on the module's database; at the end they are stopped.

    None of them may have logged an error, and those that run yet must end well.
    """
    groups: list[list[Server]] = []
    of_module = {"DATABASE_URL": module_database, "STORAGE_URL": module_files}

    async def start_them(count: int, *arguments: str, **settings: str) -> list[Server]:
        own = settings if "DATABASE_URL" in settings else {**of_module, **settings}
        servers = several(tmp_path / f"servers-{len(groups)}", count, *arguments, **own)
        groups.append(servers)
        for server in servers:
            server.spawn()
        for server in servers:
            await server.until_ready()
        return servers

    try:
        yield start_them
        servers = [server for group in groups for server in group]
        for server in servers:
            if server.running:
                server.terminate()
                await ended_well(server)
            else:
                check_log(server)
    finally:
        for group in groups:
            for server in group:
                server.kill()


@pytest.fixture
async def sit(start: Start) -> AsyncIterator[Sit]:
    del start  # clients are closed before servers end
    seats: list[Seat] = []

    async def take(
        url: str,
        lesson: Lesson,
        person: Person,
        *,
        last_seq: int | None = None,
        transports: Sequence[str] = ("websocket",),
        token: str | None = None,
        source: str | None = None,
    ) -> Seat:
        seat = await Seat.take(
            url, lesson, person, last_seq=last_seq, transports=transports, token=token, source=source
        )
        seats.append(seat)
        return seat

    yield take
    for seat in seats:
        await seat.client.close()
