"""Programs that tests run: started, watched, ended for certain, with what they said kept for the failure."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

HOST = "127.0.0.1"
POLL_SECONDS = 0.02
#: For a machine that runs much else at once; an ordinary start takes a fraction of a second.
START_SECONDS = 60.0
STOP_SECONDS = 60.0
#: The end of the log that a failure shows.
SHOWN_CHARACTERS = 8_000

LISTENING_PORTS = range(12_000, 32_000)
#: Of several processes that run tests at once, each gives out ports of its own (pytest-xdist says which one this is).
MAX_TEST_PROCESSES = 16
_process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % MAX_TEST_PROCESSES
_given_ports: set[int] = set()


def free_port() -> int:
    """A loopback port that nobody listens on, and that this run has not given to anybody else.

    From below those that the system gives to outgoing connections: one of them could take the port before its
    server does, and while that is down.
    """
    while True:
        port = random.choice(LISTENING_PORTS[_process::MAX_TEST_PROCESSES])
        if port in _given_ports:
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            _given_ports.add(port)
            return port


def answers(port: int) -> bool:
    """Whether somebody listens on `port`."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


class ProcessError(Exception):
    """A program did not start, or ended by itself; the message ends with its log."""


class Process:
    """One program in a session of its own, so that its children end with it. May be started again."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self.log_file = log
        self.environment = environment
        self.cwd = cwd
        self.user = user
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; of the last start, if it has ended."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll() if self._process is not None else None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """All it wrote to stdout and stderr, over every start."""
        return self.log_file.read_text("utf-8", errors="replace") if self.log_file.exists() else ""

    def spawn(self) -> None:
        """Start it, and do not wait until it is ready."""
        assert not self.running, "already started"
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.cwd,
                start_new_session=True,
                user=self.user,
                extra_groups=[] if self.user else None,
            )

    def wait_until(self, ready: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Wait until `ready()`. Raises ProcessError when the program ends first, or takes too long."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.check_running()
            if time.monotonic() > deadline:
                raise self.failure(f"was not ready within {seconds:.0f} s")
            time.sleep(POLL_SECONDS)

    def check_running(self) -> None:
        """Raise ProcessError if it has ended."""
        if not self.running:
            raise self.failure(f"ended with status {self.returncode}")

    def failure(self, what: str) -> ProcessError:
        """An error that says what happened, and what the program said last."""
        return ProcessError(f"{' '.join(self.command)} {what}. Its log:\n{self.log()[-SHOWN_CHARACTERS:]}")

    def end(self, with_signal: signal.Signals = signal.SIGTERM, seconds: float = STOP_SECONDS) -> int:
        """Ask it to end and wait. The exit status; if it outlasts `seconds`, it is killed: ProcessError."""
        assert self._process is not None, "not started"
        if self.running:
            self._process.send_signal(with_signal)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self.failure(f"did not end within {seconds:.0f} s of {with_signal.name}") from None
        finally:
            self.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal and do not wait."""
        self.check_running()
        os.kill(self.pid, number)

    def wait(self, seconds: float) -> int:
        """Wait until it ends by itself. The exit status; ProcessError if it runs on."""
        assert self._process is not None, "not started"
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self.failure(f"still runs after {seconds:.0f} s") from None

    def kill(self) -> None:
        """SIGKILL to it and to all its children in its session. Nothing if there are none."""
        if self._process is None:
            return
        # macOS answers EPERM for a group of zombies.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
