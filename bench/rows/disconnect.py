"""Going: what a disconnect costs among few and among many."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from bench.bench import Bench, Running
from bench.contenders import ROOT
from bench.crowd import SECRET, Crowd
from bench.inprocess import crowd_of
from bench.load import Load, RunFailed
from bench.rows.row import Column, Goal, Line, Scale, own

ROOM = 4
FEW = 1_000
MANY = 50_000
BATCH = 100
#: For what the server does behind its goodbye.
AFTER_SECONDS = 0.2
COLUMNS = (
    Column("µs CPU among 1 000", "few_us"),
    Column("µs CPU among many", "many_us"),
    Column("many", "many", digits=0),
    Column("ratio", "growth", digits=2),
)
GOAL = Goal("among many ≤ 1.2 × among 1 000", own("growth"), most=1.2)


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Real connections, as many of `many` as the machine lets one process have."""

    many: int = MANY
    batches: int = 5
    idle_seconds: float = 1.0

    name = "disconnect"
    title = "Disconnect"
    contenders: Sequence[str] = ("encounters", "node", "stock")
    columns: Sequence[Column] = COLUMNS
    lines: Sequence[Line] = (Line("Disconnect among many", "many_us", "µs CPU per disconnect", (GOAL,), digits=0),)

    @property
    def note(self) -> str:
        return (
            f"{self.batches} batches of {BATCH} say goodbye among 1 000 connections, and among as many of {self.many} "
            f"as this machine lets a process open, in rooms of {ROOM}, less the cost of an idle time. The median."
        )

    def measure(self, bench: Bench, name: str, scale: Scale) -> dict[str, float]:
        many = min(self.many, bench.most_connections) // ROOM * ROOM
        return _compared(self._cost(bench, name, FEW), self._cost(bench, name, many), many)

    def _cost(self, bench: Bench, name: str, clients: int) -> float:
        crowd = Crowd(rooms=clients // ROOM, members=ROOM, people=clients // 2)
        with bench.serving(name, crowd, durable=False) as running, running.load(crowd) as load:
            load.connect(clients, parallel=64)
            time.sleep(self.idle_seconds)
            costs = (_batch(running, load, batch * BATCH, self.idle_seconds) for batch in range(self.batches))
            return statistics.median(costs)


def _batch(running: Running, load: Load, first: int, idle_seconds: float) -> float:
    before, started = running.cpu(), time.monotonic()
    time.sleep(idle_seconds)
    idle_rate = (running.cpu() - before).server / (time.monotonic() - started)
    before, started = running.cpu(), time.monotonic()
    load.leave(BATCH, first=first)
    time.sleep(AFTER_SECONDS)
    cpu, took = running.cpu() - before, time.monotonic() - started
    return (cpu.server - idle_rate * took) / BATCH * 1e6


@dataclass(frozen=True, slots=True)
class DisconnectInProcess:
    """More connections than a process may open: the real application over transports without sockets."""

    many: int = MANY

    name = "disconnect-inprocess"
    title = "Disconnect, in one process without sockets"
    note = "As above, with the bytes of real clients fed to the application's own protocols (`bench/inprocess.py`)."
    contenders: Sequence[str] = ("encounters", "stock")
    columns: Sequence[Column] = COLUMNS

    @property
    def lines(self) -> Sequence[Line]:
        return (
            Line(f"Disconnect among {self.many}, in-process", "many_us", "µs CPU per disconnect", (GOAL,), digits=0),
        )

    def measure(self, bench: Bench, name: str, scale: Scale) -> dict[str, float]:
        return _compared(_in_process(bench, name, FEW), _in_process(bench, name, self.many), self.many)


def _in_process(bench: Bench, name: str, clients: int) -> float:
    durable = bench.contenders[name].always_durable
    with bench.database.fresh(bench.contenders[name].tables, crowd_of(clients)) as dsn:
        done = subprocess.run(
            [sys.executable, "-m", "bench.inprocess", name, str(clients)],
            env={**os.environ, "JWT_SECRET": SECRET, "DATABASE_URL": dsn if durable else ""},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise RunFailed(f"in-process: {done.stderr.strip()[-1000:]}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=dict[str, float])["us"]


def _compared(few_us: float, many_us: float, many: int) -> dict[str, float]:
    return {"few_us": few_us, "many_us": many_us, "many": many, "growth": many_us / few_us}
