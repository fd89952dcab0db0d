"""A Redis that keeps nothing, on the load's core."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from bench import machine
from bench.processes import HOST, Program, free_port


class Redis(Program):
    """The server, running."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self.url = f"redis://{HOST}:{self._port}/0"
        super().__init__(
            ["redis-server", "--bind", HOST, "--port", str(self._port), "--save", "", "--appendonly", "no"],
            ready="Ready to accept connections",
            log=folder / f"redis-{self._port}.log",
            cwd=folder,
            core=machine.LOAD_CORE,
        )

    def bytes_out(self) -> int:
        """What it has sent so far."""
        with socket.create_connection((HOST, self._port), timeout=5) as connection:
            connection.sendall(b"INFO stats\r\n")
            found = re.search(rb"total_net_output_bytes:(\d+)", connection.recv(65536))
        assert found is not None
        return int(found[1])
