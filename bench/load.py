"""The load: C programs that are much cheaper than what they measure. What they check is in their sources."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from bench.processes import HOST

NATIVE: Final = Path(__file__).parent / "native"
#: Handshakes under way at a time.
PARALLEL: Final = 32


class RunFailed(Exception):
    """A message was lost, doubled, out of order or refused: the run does not count."""


def compile_all(folder: Path) -> None:
    """Compile the programs into `folder`."""
    for name in ("load", "requests", "floor"):
        subprocess.run(
            ["gcc", "-O2", "-std=gnu11", "-D_GNU_SOURCE", "-o", str(folder / name), str(NATIVE / f"{name}.c")],
            check=True,
        )


class _Commanded:
    """A program that answers each line on its standard input by a line of JSON."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, command: str) -> dict[str, float]:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # there is no answer then, either
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        return self.answer(command)

    def answer(self, command: str) -> dict[str, float]:
        """The next line about a command that was asked before."""
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            _, error = self._process.communicate()
            raise RunFailed(f"{command}: {error.strip()[:1000] or 'the load ended'}")
        return msgspec.json.decode(answer, type=dict[str, float])

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Load(_Commanded):
    """Socket.IO clients, by a plan that `bench.crowd` wrote."""

    def __init__(self, programs: Path, ports: Sequence[int], plan: Path) -> None:
        super().__init__([programs / "load", HOST, ",".join(map(str, ports)), plan])

    def connect(self, count: int, *, first: int = 0, parallel: int = PARALLEL) -> dict[str, float]:
        """Connect, authenticate, join."""
        return self.ask(f"connect {first} {count} {parallel}")

    def chat(
        self,
        mode: Literal["closed", "lockstep", "paced"],
        *,
        seconds: float,
        senders: int = 1,
        window: int = 1,
        rate: float = 0,
        ordered: bool = True,
        rooms: int = 1_000_000,
        text_bytes: int = 40,
    ) -> dict[str, float]:
        return self.ask(f"chat {mode} {rooms} {senders} {window} {seconds} {text_bytes} {rate} {int(ordered)}")

    def notified(self, act: Callable[[], None]) -> float:
        """When, by the monotonic clock, the last of all who joined was notified of what `act` does: each once."""
        self.ask("notified")
        act()
        return self.answer("notified")["last"]

    def leave(self, count: int, *, first: int = 0) -> dict[str, float]:
        """Say goodbye, and wait until the server has let go."""
        return self.ask(f"close {first} {count}")


class Requests(_Commanded):
    """HTTP clients that ask for one page again and again."""

    def __init__(self, programs: Path, port: int, *, path: str, token: str, connections: int, messages: int) -> None:
        super().__init__([programs / "requests", HOST, str(port), path, token, str(connections), str(messages)])

    def run(self, seconds: float) -> dict[str, float]:
        return self.ask(f"run {seconds}")
