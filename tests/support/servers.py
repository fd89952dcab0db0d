"""The real server, run by its real command."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from tests.support.processes import HOST, START_SECONDS, STOP_SECONDS, Process, free_port
from tests.tools import ROOT

POLL_SECONDS = 0.02
#: Of the tests' own environment, all that a server gets: a developer's settings must not leak in.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE")


class Server:
    """One ``encounters serve`` as its own process, on a free port of loopback.

    `settings` are environment variables; HOST, PORT and LOG_FORMAT have defaults here. `arguments` follow
    ``serve`` on the command line.
    """

    def __init__(self, settings: Mapping[str, str], *arguments: str, log: Path) -> None:
        self.port = int(settings.get("PORT") or free_port())
        self.url = f"http://{HOST}:{self.port}"
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment |= {"HOST": HOST, "LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1"}
        environment |= {**settings, "PORT": str(self.port)}
        self._process = Process(
            [sys.executable, "-m", "server", "serve", *arguments],
            log=log,
            environment=environment,
            cwd=ROOT,
        )

    @property
    def pid(self) -> int:
        """The process that was started; with several workers, their parent."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process.running

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.returncode

    def log(self) -> str:
        """All it has logged so far, one JSON object a line."""
        return self._process.log()

    def spawn(self) -> None:
        """Start it and do not wait: for a server that is expected to refuse to start."""
        self._process.spawn()

    async def start(self) -> None:
        """Start it, and return when ``GET /readyz`` answers 200. ProcessError, with its log, if not."""
        self.spawn()
        await self.until_ready()

    async def until_ready(self) -> None:
        """Wait for the 200 of ``GET /readyz`` after `spawn`, or after a part was away."""
        deadline = time.monotonic() + START_SECONDS
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
            while not await self._is_ready(http):
                self._process.check_running()
                if time.monotonic() > deadline:
                    raise self._process.failure(f"was not ready within {START_SECONDS:.0f} s")
                await asyncio.sleep(POLL_SECONDS)

    async def stop(self) -> int:
        """SIGTERM, and wait for the end. The exit status; its children, if any are left, are killed."""
        return await asyncio.to_thread(self._process.end)

    def terminate(self) -> None:
        """SIGTERM, and do not wait."""
        self._process.signal(signal.SIGTERM)

    async def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait until it ends by itself. The exit status; ProcessError if it runs on."""
        return await asyncio.to_thread(self._process.wait, seconds)

    def kill(self) -> None:
        """SIGKILL to it and its workers, as when the machine goes. An embedded Postgres lives on."""
        self._process.kill()

    async def _is_ready(self, http: aiohttp.ClientSession) -> bool:
        try:
            async with http.get(f"{self.url}/readyz") as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False
