"""The running server: its port, its database, its workers, from start to end."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import uvloop

from domain import demo
from domain.demo import Lesson
from server.postgres import embedded
from server.settings import DEMO_SECRET_FILE, Settings
from server.worker import LISTEN_BACKLOG, Ending, serve_alone
from server.workers import Workers, WorkersFailed
from store import database, schema
from store.errors import Away


class CannotServe(Exception):
    """The server cannot start. The sentence says why."""


def serve(settings: Settings, demo: bool) -> int:
    """Serve until a signal ends it. Answers the exit code. Raises CannotServe, EmbeddedPostgresError."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, demo=demo))


async def _serve(settings: Settings, *, demo: bool) -> int:
    ending = Ending()
    ending.listen()
    with _listener(settings) as listener:
        starting = asyncio.create_task(_serve_on(listener, settings, ending, with_demo=demo))
        await starting
    return 0


async def _serve_on(listener: socket.socket, settings: Settings, ending: Ending, *, with_demo: bool) -> None:
    async with _database(settings) as dsn:
        try:
            await schema.migrate(dsn)
            demo_secret = _demo_secret(settings) if with_demo else None
            lesson = await _prepare_demo(dsn) if with_demo else None
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, schema.MigrationFailed, Away) as error:
            raise CannotServe(f"The database cannot be used: {str(error) or type(error).__name__}.") from error
        if ending.asked.is_set():
            return

        def greet() -> None:
            _greet(listener, lesson)

        if settings.workers == 1:
            await serve_alone(settings, dsn, demo_secret, listener, ending, greet)
        else:
            try:
                await Workers(settings, dsn, demo_secret).serve(listener, ending, greet)
            except WorkersFailed as error:
                raise CannotServe(str(error)) from error


def _listener(settings: Settings) -> socket.socket:
    """The port, taken before anything else is started."""
    host = settings.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, settings.port), family=family, backlog=LISTEN_BACKLOG)
    except OSError as error:
        where = f"{host}:{settings.port}"
        if error.errno == errno.EADDRINUSE:
            raise CannotServe(
                f"Something else listens on {where} already; end it, or choose another port with PORT."
            ) from error
        if error.errno == errno.EACCES:
            raise CannotServe(f"This user may not listen on {where}; ports below 1024 are root's.") from error
        raise CannotServe(f"HOST and PORT ({where}) cannot be listened on: {error.strerror or error}.") from error


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[str]:
    if settings.database_url is not None:
        yield settings.database_url
    else:
        async with embedded(settings.data_dir) as dsn:
            yield dsn


async def _prepare_demo(dsn: str) -> Lesson:
    pool = await database.connect(dsn, size=1)
    try:
        return await demo.prepare(pool)
    finally:
        await pool.close()


def _demo_secret(settings: Settings) -> str:
    """JWT_SECRET, or one that this installation keeps for its demos."""
    if settings.jwt_secret is not None:
        return settings.jwt_secret
    path = Path(settings.data_dir) / DEMO_SECRET_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(descriptor, "w") as file:
        secret = secrets.token_urlsafe(48)
        file.write(secret)
    return secret


def _greet(listener: socket.socket, lesson: Lesson | None) -> None:
    """Say where to go."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}"
    lines = ["", f"  Encounters is at {url}"]
    if lesson is not None:
        lines += ["", f"  The demo lesson: {lesson.title}. Open two of these, each in a window of its own:"]
        for person in demo.PEOPLE:
            name = f"{person.first_name} {person.last_name}"
            link = f"{url}/?as={person.user_id}&session={lesson.room_name}"
            lines.append(f"    {name:<12} {person.role:<8} {link}")
    lines += ["", "  Ctrl-C stops it.", ""]
    print("\n".join(lines), file=sys.stdout, flush=True)
