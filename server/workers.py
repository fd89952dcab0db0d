"""Several workers behind one port.

A long-polling client sends many requests, and all of them must reach the worker that knows its connection. The
parent accepts every connection, looks at its first line without taking it, and hands the connection to a
worker: to the one that the `sid` in it names, else to the next in turn. What Node calls a sticky cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from typing import Final

import structlog
import uvloop

from server import logging
from server.settings import Settings
from server.worker import READY, Ending, serve_given

#: Seconds that a client may take for its first line; after that any worker gets it, with its own time limits.
FIRST_LINE_SECONDS: Final = 5.0
#: Bytes of a first line that are looked at.
FIRST_LINE_BYTES: Final = 2_048
#: Seconds between two looks at a line that has not all come.
LOOK_AGAIN_SECONDS: Final = 0.02
#: Seconds for a worker to start.
START_SECONDS: Final = 60.0
#: Seconds between two starts of a worker that keeps dying.
RESTART_SECONDS: Final = 1.0
#: Seconds over DRAIN_SECONDS until a worker that does not end is killed.
KILL_AFTER_SECONDS: Final = 15.0

_SID: Final = re.compile(rb"[?&]sid=w(\d+)\.")

logger = structlog.get_logger(__name__)


class WorkersFailed(Exception):
    """The workers could not be started."""


@dataclass(slots=True)
class Worker:
    """A child process, and the socket that connections go to it through."""

    number: int
    process: SpawnProcess
    channel: socket.socket


class Workers:
    """The children of this process."""

    def __init__(self, settings: Settings, dsn: str, demo_secret: str | None) -> None:
        self._settings = settings
        self._dsn = dsn
        self._demo_secret = demo_secret
        self._workers: dict[int, Worker] = {}
        self._turn = 0
        self._ending = False

    async def serve(self, listener: socket.socket, ending: Ending, ready: Callable[[], None]) -> None:
        """Start the workers and hand them what comes to `listener`, until asked to end. Raises WorkersFailed.

        Calls `ready` when all of them serve.
        """
        count = self._settings.workers
        try:
            await asyncio.gather(*(self._start(number) for number in range(1, count + 1)))
            keepers = [asyncio.create_task(self._keep(number)) for number in range(1, count + 1)]
            accepting = asyncio.create_task(self._accept(listener))
            ready()
            await ending.asked.wait()
            accepting.cancel()
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(accepting, *keepers, return_exceptions=True)
        finally:
            await self._end(ending)

    async def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        process = multiprocessing.get_context("spawn").Process(
            target=_run,
            args=(self._settings, self._dsn, self._demo_secret, number, theirs, sys.stderr.isatty()),
            name=f"encounters-{number}",
        )
        process.start()
        theirs.close()
        self._workers[number] = Worker(number, process, ours)
        try:
            async with asyncio.timeout(START_SECONDS):
                said = await asyncio.get_running_loop().sock_recv(ours, 1)
        except (TimeoutError, OSError):
            said = b""
        if said != READY:
            raise WorkersFailed(f"Worker {number} did not start; its log lines above say why.")
        logger.info("worker.started", worker=number, pid=process.pid)

    async def _keep(self, number: int) -> None:
        """Start the worker again whenever it dies."""
        while True:
            worker = self._workers[number]
            await _gone(worker.process)
            worker.channel.close()
            logger.error("worker.died", worker=number, exit_code=worker.process.exitcode)
            await asyncio.sleep(RESTART_SECONDS)
            with contextlib.suppress(WorkersFailed):
                await self._start(number)

    async def _end(self, ending: Ending) -> None:
        hurried = ending.hurried.is_set()
        self._signal(signal.SIGINT if hurried else signal.SIGTERM)
        patience = self._settings.drain_seconds + KILL_AFTER_SECONDS
        all_gone = asyncio.gather(*(_gone(worker.process) for worker in self._workers.values()))
        hurry = asyncio.create_task(ending.hurried.wait())
        if not hurried:
            await asyncio.wait((all_gone, hurry), timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            self._signal(signal.SIGINT)
        hurry.cancel()
        await asyncio.wait((all_gone,), timeout=KILL_AFTER_SECONDS)
        for worker in self._workers.values():
            if worker.process.is_alive():
                logger.error("worker.killed", worker=worker.number)
                worker.process.kill()
            worker.channel.close()
        await all_gone

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._workers.values():
            if worker.process.is_alive() and worker.process.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.process.pid, number)

    # Handing over

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        tasks: set[asyncio.Task[None]] = set()
        listener.setblocking(False)
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                # No descriptor is free: those in use will be.
                logger.warning("server.accept_failed", reason=str(error))
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
                continue
            task = loop.create_task(self._hand_over(connection))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _hand_over(self, connection: socket.socket) -> None:
        with connection:
            connection.setblocking(False)
            try:
                line = await _first_line(connection)
            except OSError:
                return
            for worker in self._candidates(line):
                try:
                    await _send_descriptor(worker.channel, connection)
                except OSError:
                    continue  # it has died; its keeper knows
                return

    def _candidates(self, line: bytes) -> list[Worker]:
        """The workers to try, the best first."""
        numbers = sorted(self._workers)
        named = _SID.search(line)
        if named is not None and int(named[1]) in self._workers:
            return [self._workers[int(named[1])]]
        self._turn += 1
        turn = self._turn % len(numbers)
        return [self._workers[number] for number in numbers[turn:] + numbers[:turn]]


async def _first_line(connection: socket.socket) -> bytes:
    """The first line, left where it is for the worker to read. What has come of it after a while, at worst."""
    loop = asyncio.get_running_loop()
    deadline = time.monotonic() + FIRST_LINE_SECONDS
    line = b""
    while time.monotonic() < deadline:
        try:
            line = connection.recv(FIRST_LINE_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            readable = loop.create_future()
            loop.add_reader(connection, _settle, readable)
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    await readable
            except TimeoutError:
                break
            finally:
                loop.remove_reader(connection)
            continue
        if not line:
            raise ConnectionResetError("closed before its first line")
        if b"\n" in line or len(line) == FIRST_LINE_BYTES:
            break
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
    return line.partition(b"\n")[0]


async def _send_descriptor(channel: socket.socket, connection: socket.socket) -> None:
    while True:
        try:
            socket.send_fds(channel, [b"c"], [connection.fileno()])
        except BlockingIOError:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)  # the worker is behind; so shall be its clients
            continue
        return


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _gone(process: SpawnProcess) -> None:
    """Wait for a process to end."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    loop.add_reader(process.sentinel, _settle, ended)
    try:
        await ended
    finally:
        loop.remove_reader(process.sentinel)
    process.join()


def _run(
    settings: Settings, dsn: str, demo_secret: str | None, number: int, channel: socket.socket, terminal: bool
) -> None:
    """A worker's process."""
    os.setsid()  # Ctrl-C goes to the parent, which tells its workers
    log_format = settings.log_format
    if log_format == "auto":
        log_format = "console" if terminal else "json"
    logging.configure(settings.log_level, log_format)
    structlog.contextvars.bind_contextvars(worker=number)

    async def work() -> None:
        ending = Ending()
        ending.listen()
        await serve_given(settings, dsn, demo_secret, number, channel, ending)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())
