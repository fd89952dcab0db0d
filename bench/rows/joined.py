"""Coming in and being there: a storm of joins, and the memory of those who then sit idle."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.bench import Bench
from bench.crowd import Crowd
from bench.rows.row import Column, Goal, Line, Scale, own, ratio

ROOM = 20
#: Joins before it counts, as a share: just-in-time compilers have seen enough then.
FIRST = 0.1
#: For what follows the last join.
AFTER_SECONDS = 0.5
COLLECTING = ("node", "bun")


@dataclass(frozen=True, slots=True)
class Joined:
    clients: int

    note = (
        "Everybody is a person of their own, in rooms of 20, with a token that is verified. The others look up and "
        "store nothing; Encounters stores presence. Memory is taken at rest, after a garbage collection on request "
        "in Node and Bun, less that of the empty server."
    )

    @property
    def name(self) -> str:
        return f"joined-{self.clients}"

    @property
    def title(self) -> str:
        return f"{self.clients} joined"

    contenders: Sequence[str] = ("encounters", "node", "bun", "stock")
    columns: Sequence[Column] = (
        Column("server µs per join", "join_us"),
        Column("Postgres µs per join", "postgres_us"),
        Column("transactions per join", "transactions", digits=2),
        Column("p50 ms to join", "p50", 1e3, 1),
        Column("p99", "p99", 1e3, 1),
        Column("KiB per connection", "kib"),
    )

    @property
    def lines(self) -> Sequence[Line]:
        light = (
            Goal("≤ 6 KiB", own("kib"), most=6),
            Goal("below Node's", ratio("kib", "node"), most=1),
            Goal("below Bun's", ratio("kib", "bun"), most=1),
        )
        quick = (
            Goal("≤ 0.7 × Node", ratio("join_us", "node"), most=0.7),
            Goal("queries by session, not by join: < 0.5 a join", own("transactions"), most=0.5),
        )
        return (
            Line(f"Idle connection, {self.clients} joined", "kib", "KiB of RSS", light, digits=1),
            Line(f"Join storm, {self.clients}", "join_us", "µs CPU per join", quick, digits=0),
        )

    def measure(self, bench: Bench, name: str, scale: Scale) -> dict[str, float]:
        crowd = Crowd(rooms=self.clients // ROOM, members=ROOM)
        first = int(self.clients * FIRST)
        with bench.serving(name, crowd, durable=False) as running, running.load(crowd) as load:
            collects = name in COLLECTING
            settle = scale.warmup * 2
            empty = running.settled_rss(collects=collects, seconds=settle)
            load.connect(first)
            transactions, before = running.transactions(), running.cpu()
            joins = load.connect(self.clients - first, first=first)
            time.sleep(AFTER_SECONDS)
            cpu, counted = running.cpu() - before, self.clients - first
            return {
                "join_us": cpu.server / counted * 1e6,
                "postgres_us": cpu.postgres / counted * 1e6,
                "transactions": (running.transactions() - transactions) / counted,
                "p50": joins["p50"],
                "p99": joins["p99"],
                "kib": (running.settled_rss(collects=collects, seconds=settle) - empty) / self.clients / 1024,
            }
