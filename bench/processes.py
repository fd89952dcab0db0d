"""Programs that are measured: started on their core, with what they take of processor and memory."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from bench import machine

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.02
#: Of the harness' own environment, all that a program gets.
PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")


class ProgramFailed(Exception):
    """A program did not start, or ended; the message has the end of its log."""


class Program:
    """One program and its children. `ready` is what it says when it serves."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        ready: str,
        log: Path,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        core: int = machine.SERVER_CORE,
    ) -> None:
        self._log = log
        own = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**own, **(environment or {})},
                cwd=cwd,
                start_new_session=True,
                preexec_fn=lambda: machine.pin(core),
            )
        try:
            self._wait_until(ready)
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def _wait_until(self, ready: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while ready not in self.log():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ProgramFailed(f"{self._process.args!r} did not start:\n{self.log()[-4000:]}")
            time.sleep(POLL_SECONDS)

    def log(self) -> str:
        return self._log.read_text("utf-8", errors="replace")

    def signal(self, number: signal.Signals) -> None:
        for process in family(self._process.pid):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self) -> None:
        """End it and its children at once: nothing of theirs is kept."""
        for process in family(self._process.pid):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()


def family(pid: int) -> list[psutil.Process]:
    """A process and all its descendants."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its descendants, to the microsecond, ended children included."""
    return sum(cpu_seconds_of(process.pid) for process in family(pid))


def cpu_seconds_of(pid: int) -> float:
    # schedstat counts nanoseconds, where stat counts hundredths of a second; but only stat knows ended children.
    total = 0.0
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                total += int((task / "schedstat").read_text().split()[0]) / 1e9
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    return total


def rss_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants."""
    total = 0
    for process in family(pid):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
