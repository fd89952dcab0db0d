"""One harness for all: Postgres, the programs, and a contender with its load for the length of a run."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bench import contenders, load, machine
from bench.contenders import ROOT, Contender
from bench.crowd import SECRET, Crowd
from bench.database import Database
from bench.load import Load
from bench.processes import Program, cpu_seconds, free_port, rss_bytes
from bench.redis import Redis

#: For a memory to settle.
SETTLE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Cpu:
    """Processor seconds so far."""

    server: float
    postgres: float
    redis: float

    def __sub__(self, earlier: Cpu) -> Cpu:
        return Cpu(self.server - earlier.server, self.postgres - earlier.postgres, self.redis - earlier.redis)


class Running:
    """A contender that serves, and the crowd that will come."""

    def __init__(self, bench: Bench, programs: list[Program], ports: list[int], dsn: str | None) -> None:
        self.programs = programs
        self.ports = ports
        self.dsn = dsn
        self.redis: Redis | None = None
        self._bench = bench

    def cpu(self) -> Cpu:
        server = sum(cpu_seconds(program.pid) for program in self.programs)
        return Cpu(server, self._bench.database.cpu, cpu_seconds(self.redis.pid) if self.redis else 0.0)

    def rss(self) -> int:
        return sum(rss_bytes(program.pid) for program in self.programs)

    def settled_rss(self, *, collects: bool, seconds: float = SETTLE_SECONDS) -> int:
        """Resident memory at rest; after a garbage collection on request, where the contender `collects`."""
        for _ in range(2):
            if collects:
                for program in self.programs:
                    program.signal(signal.SIGUSR2)
            time.sleep(seconds / 2)
        return self.rss()

    def transactions(self) -> int:
        return self._bench.database.transactions(self.dsn) if self.dsn else 0

    @contextmanager
    def load(self, crowd: Crowd) -> Iterator[Load]:
        plan = self._bench.folder / "plan"
        crowd.write(plan)
        clients = Load(self._bench.programs, self.ports, plan)
        try:
            yield clients
        finally:
            clients.close()


class Bench:
    """What all runs share. Use it as a context."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.most_connections = machine.allow_many_files()

    def __enter__(self) -> Self:
        try:
            self._prepare()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _prepare(self) -> None:
        machine.require("gcc", "redis-server")
        machine.pin(machine.LOAD_CORE)
        self.folder = Path(tempfile.mkdtemp(prefix="encounters-bench-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.programs = self.folder / "programs"
        self.programs.mkdir()
        load.compile_all(self.programs)
        contenders.install()
        self.contenders = contenders.contenders(self.programs)
        self.database = Database(self.folder)
        self._stack.callback(self.database.stop)
        self.database.start()

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def serving(
        self, name: str, crowd: Crowd, *, durable: bool = True, workers: int = 1, with_redis: bool = False
    ) -> Iterator[Running]:
        """A contender on a fresh database. Not `durable`: without one, where it can do without."""
        contender = self.contenders[name]
        with ExitStack() as stack:
            dsn = None
            if durable or contender.always_durable:
                dsn = stack.enter_context(self.database.fresh(contender.tables, crowd))
            redis = None
            environment = {"JWT_SECRET": SECRET}
            if with_redis:
                redis = Redis(self.folder)
                stack.callback(redis.kill)
                environment["REDIS_URL"] = redis.url
            ports: list[int] = []
            programs: list[Program] = []
            copies = workers if contender.many_ports else 1
            for _ in range(copies):
                port = free_port()
                program = self._start(contender, port, environment, dsn, workers // copies)
                stack.callback(program.kill)
                programs.append(program)
                ports.append(port)
            running = Running(self, programs, ports, dsn)
            running.redis = redis
            yield running

    def _start(
        self, contender: Contender, port: int, environment: dict[str, str], dsn: str | None, workers: int
    ) -> Program:
        own = {**environment, "PORT": str(port), "WORKERS": str(workers), "LOG_LEVEL": "warning"}
        own |= {f"LIMIT_{name}": "0" for name in contenders.LIMITS}
        own |= {"DATABASE_URL": dsn} if dsn else {}
        command = [*contender.command, *([str(port)] if contender.takes_port else [])]
        log = self.folder / f"{contender.name}-{port}.log"
        return Program(command, ready=contender.ready, log=log, environment=own, cwd=ROOT)
