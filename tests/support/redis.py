"""A real Redis that keeps nothing."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from tests import tools
from tests.support.processes import HOST, Process, answers, free_port


class RedisServer:
    """One Redis server on a loopback port. It may stop and start again on the same port, empty.

    `more` are options of redis.conf beyond those that a Redis which keeps nothing needs.
    """

    def __init__(self, folder: Path, **more: str | int) -> None:
        self.port = free_port()
        self.url = f"redis://{HOST}:{self.port}/0"
        options = {"bind": HOST, "port": self.port, "save": "", "appendonly": "no", "dir": folder, **more}
        self._process = Process(
            [
                tools.redis_server(),
                *(part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))),
            ],
            log=folder / f"redis-{self.port}.log",
            cwd=folder,
        )

    def start(self) -> None:
        """Start, and return when it answers."""
        self._process.spawn()
        self._process.wait_until(lambda: answers(self.port))

    def stop(self) -> None:
        """An orderly stop that cuts every connection."""
        self._process.end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL. Nothing if it does not run."""
        self._process.kill()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, and nothing answers. `thaw` ends it."""
        self._process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._process.signal(signal.SIGCONT)

    def clear(self) -> None:
        """Forget every key. Subscriptions stay."""
        with socket.create_connection((HOST, self.port), timeout=5) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            answer = connection.recv(64)
        assert answer == b"+OK\r\n", answer

    def log(self) -> str:
        """What it said."""
        return self._process.log()
