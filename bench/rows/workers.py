"""The same load on more and more workers, with a bus between them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.bench import Bench, Running
from bench.crowd import Crowd
from bench.processes import cpu_seconds_of, family
from bench.rows.row import Column, Goal, Line, Scale, own

ROOMS = 48
MEMBERS = 4
RATE = 800.0


@dataclass(frozen=True, slots=True)
class Workers:
    counts: Sequence[int] = (1, 2, 4, 8)

    name = "workers"
    contenders: Sequence[str] = ("encounters", "node", "stock")
    scattered: bool = True

    @property
    def title(self) -> str:
        return f"Workers {self.counts[0]} → {self.counts[-1]}"

    @property
    def note(self) -> str:
        return (
            f"{RATE:.0f} durable messages a second in {ROOMS} rooms of {MEMBERS}, each room on one worker, Redis "
            "between them (Node: cluster and @socket.io/redis-adapter; python-socketio: AsyncRedisManager), all "
            "workers on one core. Scattered: the members of each room on as many workers as it has members. Without "
            "members: what a message costs a worker that has people, but nobody of its room, and what Redis sends."
        )

    @property
    def columns(self) -> Sequence[Column]:
        return (
            *(Column(f"µs CPU per message, {count}", f"total_{count}") for count in self.counts),
            Column("ratio", "growth", digits=2),
            *(Column(f"per worker, {count}", f"worker_{count}") for count in self.counts[1:]),
            *((Column("scattered", "scattered"),) if self.scattered else ()),
            Column("Redis", "redis"),
            Column("without members", "memberless"),
            Column("bytes from Redis", "bus_bytes", digits=0),
            Column("× one worker's", "copies", digits=2),
        )

    @property
    def lines(self) -> Sequence[Line]:
        goals = (
            Goal(f"≤ 1.15 × the CPU of {self.counts[0]}", own("growth"), most=1.15),
            Goal("a worker without members gets none: ≤ 1.1 × Redis' bytes", own("copies"), most=1.1),
        )
        last = self.counts[-1]
        return (Line(self.title, f"total_{last}", f"µs CPU per message at {last}", goals, digits=0),)

    def measure(self, bench: Bench, name: str, scale: Scale) -> dict[str, float]:
        spread = Crowd(ROOMS, MEMBERS, by_member=True)
        figures: dict[str, float] = {}
        for count in self.counts:
            total, redis = _cost(bench, name, spread, count, scale)
            figures |= {f"total_{count}": total, f"worker_{count}": total / count, "redis": redis}
        last = self.counts[-1]
        figures["growth"] = figures[f"total_{last}"] / figures[f"total_{self.counts[0]}"]
        if self.scattered:
            figures["scattered"], _ = _cost(bench, name, Crowd(ROOMS, MEMBERS), last, scale)
        _, alone = _memberless(bench, name, 1, scale)
        figures["memberless"], figures["bus_bytes"] = _memberless(bench, name, last, scale)
        figures["copies"] = figures["bus_bytes"] / alone
        return figures


def _cost(bench: Bench, name: str, crowd: Crowd, workers: int, scale: Scale) -> tuple[float, float]:
    """CPU of all workers and of Redis, in µs per message."""
    with bench.serving(name, crowd, workers=workers, with_redis=True) as running, running.load(crowd) as load:
        load.connect(crowd.clients, parallel=1)
        load.chat("paced", senders=MEMBERS, rate=RATE, seconds=scale.warmup, ordered=False)
        before = running.cpu()
        said = load.chat("paced", senders=MEMBERS, rate=RATE, seconds=scale.seconds, ordered=False)
        cpu = running.cpu() - before
        return cpu.server / said["messages"] * 1e6, cpu.redis / said["messages"] * 1e6


def _memberless(bench: Bench, name: str, workers: int, scale: Scale) -> tuple[float, float]:
    """What a message costs a worker with nobody in its room, in µs of CPU; and the bytes that Redis sends for it."""
    crowd = Crowd(rooms=workers, members=1)
    with bench.serving(name, crowd, workers=workers, with_redis=True) as running, running.load(crowd) as load:
        load.connect(crowd.clients, parallel=1)
        load.chat("paced", rooms=1, rate=RATE, seconds=scale.warmup, ordered=False)
        idle = _by_process(running, scale.seconds)
        assert running.redis is not None
        before, sent = _cpu_of_each(running), running.redis.bytes_out()
        said = load.chat("paced", rooms=1, rate=RATE, seconds=scale.seconds, ordered=False)
        sent = running.redis.bytes_out() - sent
        took = {pid: seconds - before.get(pid, 0.0) for pid, seconds in _cpu_of_each(running).items()}
        # The one with the room is the busiest; then come those without, and then who only starts the workers.
        without = sorted(took, key=lambda pid: -took[pid])[1:workers]
        spent = [took[pid] - idle.get(pid, 0.0) * said["seconds"] for pid in without] or [0.0]
        return max(0.0, statistics.mean(spent)) / said["messages"] * 1e6, sent / said["messages"]


def _by_process(running: Running, seconds: float) -> dict[int, float]:
    """CPU seconds per second of each process while nobody says anything."""
    before, started = _cpu_of_each(running), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - started
    return {pid: (now - before.get(pid, 0.0)) / passed for pid, now in _cpu_of_each(running).items()}


def _cpu_of_each(running: Running) -> dict[int, float]:
    processes = [process.pid for program in running.programs for process in family(program.pid)]
    return {pid: cpu_seconds_of(pid) for pid in processes}
