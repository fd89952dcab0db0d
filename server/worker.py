"""One worker: an application, the connections it is given, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog
from aiohttp import web

from server.app import build, drain
from server.settings import Settings

#: How much of DRAIN_SECONDS answers under way may take once the connections have moved (aiohttp takes it twice: to
#: wait, and to cancel). With the shares in `server.app` it makes one.
ANSWERS_SHARE: Final = 0.15
#: Seconds that an HTTP connection may be idle between requests: longer than load balancers keep theirs.
KEEPALIVE_SECONDS: Final = 75.0
#: Seconds for which the rest of a body is read and thrown away that was refused in its middle. Who closes as it comes
#: takes the answer away from whoever has not read it yet, and most read it when they have sent everything: a piece of a
#: file, on a slow line.
LINGER_SECONDS: Final = 120.0
#: Connections that the kernel holds while the worker is busy.
LISTEN_BACKLOG: Final = 1024
#: When the garbage collector looks: messages come and go by the thousand without a cycle among them, and a look at what
#: lives on, such as connections, is what a message waits for.
GC_THRESHOLDS: Final = (20_000, 20, 100)

logger = structlog.get_logger(__name__)


class Ending:
    """The wish to end. SIGTERM: within DRAIN_SECONDS, gently. SIGINT, or a second signal: at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()

    def ask(self, number: int) -> None:
        if self.asked.is_set() or number == signal.SIGINT:
            self.hurried.set()
        self.asked.set()

    def listen(self) -> None:
        """Take this process' signals."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.ask, number)


@asynccontextmanager
async def running(app: web.Application, settings: Settings) -> AsyncIterator[web.AppRunner]:
    """The application, started; stopped at the end."""
    patience = settings.drain_seconds * ANSWERS_SHARE
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=patience,
        keepalive_timeout=KEEPALIVE_SECONDS,
        lingering_time=LINGER_SECONDS,
    )
    await runner.setup()
    gc.collect()
    gc.freeze()  # what is here by now stays
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        yield runner
    finally:
        await runner.cleanup()


async def serve_alone(
    settings: Settings,
    dsn: str,
    demo_secret: str | None,
    listener: socket.socket,
    ending: Ending,
    ready: Callable[[], None],
) -> None:
    """Serve everything that comes to `listener`, until asked to end. Calls `ready` when it begins."""
    app = build(settings, dsn, demo_secret=demo_secret)
    async with running(app, settings) as runner:
        await web.SockSite(runner, listener, backlog=LISTEN_BACKLOG).start()
        ready()
        await _until_ended(app, settings, ending)


async def serve_given(
    settings: Settings, dsn: str, demo_secret: str | None, number: int, channel: socket.socket, ending: Ending
) -> None:
    """Serve the connections that come, one file descriptor each, through `channel`; its end is the wish to end."""
    app = build(settings, dsn, demo_secret=demo_secret, worker=number)
    loop = asyncio.get_running_loop()
    welcoming: set[asyncio.Task[None]] = set()
    async with running(app, settings) as runner:
        server = runner.server
        assert server is not None, "the runner was set up"

        async def welcome(connection: socket.socket) -> None:
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(server, connection)

        def take() -> None:
            try:
                byte, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                byte, descriptors = b"", []
            for descriptor in descriptors:
                task = loop.create_task(welcome(socket.socket(fileno=descriptor)))
                welcoming.add(task)
                task.add_done_callback(welcoming.discard)
            if not byte:
                loop.remove_reader(channel)
                ending.ask(signal.SIGTERM)

        channel.setblocking(False)
        loop.add_reader(channel, take)
        channel.send(READY)
        await _until_ended(app, settings, ending)
        loop.remove_reader(channel)


#: What a worker sends when it can take connections.
READY = b"r"


async def _until_ended(app: web.Application, settings: Settings, ending: Ending) -> None:
    await ending.asked.wait()
    draining = asyncio.create_task(drain(app, settings.drain_seconds))
    hurry = asyncio.create_task(ending.hurried.wait())
    await asyncio.wait((draining, hurry), return_when=asyncio.FIRST_COMPLETED)
    for task in (draining, hurry):
        task.cancel()
    await asyncio.gather(draining, hurry, return_exceptions=True)
