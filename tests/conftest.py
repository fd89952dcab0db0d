"""Fixtures: real things only. Any test may run alone, and in any order."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Collection, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from tests.support import postgres, tokens
from tests.support.apps import App, running_app
from tests.support.buckets import BUCKET, ENVIRONMENT, S3Servers
from tests.support.clients import BOTH_TRANSPORTS, Client
from tests.support.nginx import Nginx
from tests.support.node_client import NodeClient
from tests.support.postgres import Cluster, Clusters
from tests.support.redis import RedisServer
from tests.support.servers import Server
from tests.support.tokens import mint as mint_token
from tests.tools import MissingToolError

#: What tests ask for that look at browsers.
BROWSERS = "cameras"
STORE_TESTS = Path(__file__).parent / "store"

# How long an example takes says how busy the machine is.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

#: What the application gives others, in this process, before it takes them for away.
PATIENCE: Mapping[str, float] = dict.fromkeys(
    (
        "domain.deposits.LAST_KEEP_SECONDS",
        "domain.keys.FETCH_SECONDS",
        "domain.presence.COMPARE_SECONDS",
        "domain.uploads.TAKE_OVER_SECONDS",
        "server.app.READINESS_SECONDS",
        "server.app.STORAGE_SECONDS",
        "store.database.CONNECT_SECONDS",
        "store.database.STATEMENT_SECONDS",
        "store.objects.bucket.CONNECT_SECONDS",
        "store.objects.bucket.READ_SECONDS",
    ),
    60.0,
)


class StartServer(Protocol):
    """Starts a server for this test. Settings by name; "" unsets one. Those set already: DATABASE_URL (the
    test's own database), JWT_SECRET, DATA_DIR, DRAIN_SECONDS=1. REDIS_URL only where it is given."""

    def __call__(self, *arguments: str, **settings: str) -> Awaitable[Server]: ...


class Connect(Protocol):
    """Connects a python-socketio client for this test: `tests.support.clients.Client.connect`."""

    def __call__(
        self,
        url: str,
        token: str | None,
        *,
        transports: tuple[str, ...] = BOTH_TRANSPORTS,
        headers: dict[str, str] | None = None,
    ) -> Awaitable[Client]: ...


class ConnectNode(Protocol):
    """Connects an official client for this test: `tests.support.node_client.NodeClient.connect`."""

    def __call__(self, url: str, token: str, **options: object) -> Awaitable[NodeClient]: ...


class StartNginx(Protocol):
    """Starts an nginx for this test: `tests.support.nginx.Nginx`."""

    def __call__(self, http: str) -> Nginx: ...


class StorageIn(Protocol):
    """Settings of `tests.support.apps.running_app` for files in a "folder", or in a bucket of "moto" or "rclone"."""

    def __call__(self, kind: str) -> Awaitable[dict[str, str]]: ...


class Mint(Protocol):
    """Signs a token: `tests.support.tokens.mint`."""

    def __call__(self, sub: str, role: str = "student", *, secret: str = ..., **claims: object) -> str: ...


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The store's tests run on the oldest and the newest Postgres, all others on the newest."""
    if "postgres_version" not in metafunc.fixturenames:
        return
    asked = postgres.version_asked_for()
    if asked is None and metafunc.definition.path.is_relative_to(STORE_TESTS):
        versions = [postgres.NEWEST, postgres.OLDEST]
        metafunc.parametrize("postgres_version", versions, ids=[f"pg{v}" for v in versions], indirect=True)


_UUID = re.compile(r"(?<![0-9a-f])[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}(?![0-9a-f])", re.IGNORECASE)


def changes_with_each_run(name: str, source: str) -> bool:
    """Whether a test is called by a UUID that does not stand in its file: then no run can be spread over processes, or
    repeated."""
    return any(found not in source for found in _UUID.findall(name))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    named = [item for item in items if _UUID.search(item.name)]
    if wrong := [item.nodeid for item in named if changes_with_each_run(item.name, item.path.read_text())]:
        raise pytest.UsageError(f"these tests have another id in each run; name their parameters: {', '.join(wrong)}")
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    watching = {item.path for item in items if isinstance(item, pytest.Function) and BROWSERS in item.fixturenames}
    order = spread({path: len(of_file) for path, of_file in files.items()}, watching)
    items[:] = [item for path in order for item in files[path]]


def spread(files: Mapping[Path, int], watching: Collection[Path]) -> list[Path]:
    """The files, with how many tests each has, in the order in which processes take them: those with many tests first,
    and those that are `watching` browsers evenly among them. Side by side, browsers take each other's processor."""
    largest_first = sorted(files, key=lambda path: -files[path])
    places: dict[Path, float] = {}
    for seen in (True, False):
        group = [path for path in largest_first if (path in watching) is seen]
        places |= {path: number / len(group) for number, path in enumerate(group)}
    return sorted(largest_first, key=lambda path: places[path])


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no database, no bucket that is away. A test of how long one is waited for sets that itself."""
    for name, seconds in PATIENCE.items():
        monkeypatch.setattr(name, seconds)


@pytest.fixture
def postgres_version(request: pytest.FixtureRequest) -> int:
    """The version of Postgres that this test runs on: 15 or 18."""
    version: int = getattr(request, "param", postgres.version_asked_for() or postgres.NEWEST)
    try:
        postgres.binaries(version)
    except MissingToolError as missing:
        if postgres.version_asked_for() == version:
            raise
        pytest.skip(str(missing))
    return version


@pytest.fixture(scope="session")
def clusters() -> Iterator[Clusters]:
    """The run's Postgres clusters, by version."""
    clusters = Clusters()
    yield clusters
    clusters.remove()


@pytest.fixture
def cluster(clusters: Clusters, postgres_version: int) -> Cluster:
    """A running Postgres, shared by all tests: do not stop it (see `private_cluster`)."""
    return clusters.cluster(postgres_version)


@pytest.fixture
def template(clusters: Clusters, postgres_version: int) -> str:
    """The name of a migrated, empty database in `cluster`, to clone."""
    return clusters.template(postgres_version)


@pytest.fixture
async def database(cluster: Cluster, template: str) -> AsyncIterator[str]:
    """The DSN of a migrated, empty database of this test's own."""
    async with postgres.cloned_database(cluster, template) as dsn:
        yield dsn


@pytest.fixture
async def empty_database(cluster: Cluster) -> AsyncIterator[str]:
    """The DSN of a database of this test's own that no migration has touched."""
    async with postgres.cloned_database(cluster, "template0") as dsn:
        yield dsn


@pytest.fixture
def private_cluster(postgres_version: int) -> Iterator[Cluster]:
    """A running Postgres of this test's own, to stop, kill and start; its database `postgres` is empty."""
    cluster = Cluster(postgres_version)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_app(clusters: Clusters) -> AsyncIterator[App]:
    """An application for all tests of a file in which nothing changes; they run in the file's loop."""
    with postgres.new_database(clusters) as dsn:
        async with running_app(dsn) as app:
            yield app


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A running Redis, shared by all tests: do not stop it (see `private_redis`)."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of `redis_server`, with no keys left over from other tests."""
    redis_server.clear()
    return redis_server.url


@pytest.fixture
def private_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A running Redis of this test's own, to stop, kill, freeze and start again on the same port."""
    server = RedisServer(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def s3_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Servers]:
    """The servers of buckets that all tests share."""
    servers = S3Servers(tmp_path_factory.mktemp("s3"))
    yield servers
    servers.kill()


@pytest.fixture
def storage_in(s3_servers: S3Servers, monkeypatch: pytest.MonkeyPatch) -> StorageIn:
    """Says where an application keeps its files."""

    async def settings(kind: str) -> dict[str, str]:
        if kind == "folder":
            return {}
        for name, value in ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        return {"storage_url": f"s3://{BUCKET}/{uuid4().hex}", "s3_endpoint_url": await s3_servers.url(kind)}

    return settings


@pytest.fixture(scope="session")
def secret() -> str:
    """The JWT_SECRET of every server that `start_server` starts."""
    return tokens.SECRET


@pytest.fixture(scope="session")
def mint() -> Mint:
    """Signs tokens with that secret: ``mint("u1", "teacher", name="Ada")``."""
    return mint_token


@pytest.fixture
async def start_server(database: str, secret: str, tmp_path: Path) -> AsyncIterator[StartServer]:
    """Starts any number of servers; at the end they are stopped, and killed if that takes too long."""
    servers: list[Server] = []

    async def start(*arguments: str, **settings: str) -> Server:
        own = {
            "DATABASE_URL": database,
            "JWT_SECRET": secret,
            "DATA_DIR": str(tmp_path / "data"),
            "DRAIN_SECONDS": "1",
        }
        server = Server({**own, **settings}, *arguments, log=tmp_path / f"server-{len(servers)}.log")
        servers.append(server)
        await server.start()
        return server

    async with AsyncExitStack() as ends:
        yield start
        for server in servers:
            ends.callback(server.kill)
            if server.running:
                ends.push_async_callback(server.stop)


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connects any number of clients, which are closed at the end."""
    async with AsyncExitStack() as ends:

        async def start(
            url: str,
            token: str | None,
            *,
            transports: tuple[str, ...] = BOTH_TRANSPORTS,
            headers: dict[str, str] | None = None,
        ) -> Client:
            client = await Client.connect(url, token, transports=transports, headers=headers)
            ends.push_async_callback(client.close)
            return client

        yield start


@pytest.fixture
async def connect_node() -> AsyncIterator[ConnectNode]:
    """Connects any number of official clients, which are closed at the end."""
    async with AsyncExitStack() as ends:

        async def start(url: str, token: str, **options: object) -> NodeClient:
            client = await NodeClient.connect(url, token, **options)
            ends.push_async_callback(client.close)
            return client

        yield start


@pytest.fixture
def start_nginx(tmp_path: Path) -> Iterator[StartNginx]:
    """Starts any number of proxies, which are killed at the end."""
    proxies: list[Nginx] = []

    def start(http: str) -> Nginx:
        proxy = Nginx(tmp_path, http)
        proxies.append(proxy)
        proxy.start()
        return proxy

    yield start
    for proxy in proxies:
        proxy.kill()
