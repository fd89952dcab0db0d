"""One message to everybody in a room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.bench import Bench
from bench.crowd import Crowd
from bench.rows.row import Column, Goal, Line, Scale, ratio

#: Those who send in a busy room: each one's next message follows the ack of its last.
BUSY_SENDERS = 64
#: Deliveries a second where nobody is in a hurry: what a delivery takes, not what fits into a second.
CALM_DELIVERIES = 20_000
#: Few people with many connections: nobody's arrival is news to a thousand others while the room fills.
PEOPLE = 10


@dataclass(frozen=True, slots=True)
class FanOut:
    clients: int
    contenders: Sequence[str] = ("encounters", "node", "bun", "stock", "floor")

    note = (
        "Everybody in one room gets every message. One at a time: the next message is sent when all have the last. "
        "Calm: 20 000 deliveries a second, whatever comes back. Busy: 64 of them send, each its next message after the "
        "ack of its last. Encounters commits each message to Postgres, as always; the others are spared the database."
    )

    @property
    def name(self) -> str:
        return f"fanout-{self.clients}"

    @property
    def title(self) -> str:
        return f"Fan-out to {self.clients} clients"

    @property
    def lines(self) -> Sequence[Line]:
        one = Line(f"{self.title}, one message at a time", "one_us", "µs CPU per delivery")
        busy = Line(f"{self.title}, busy room", "busy_us", "µs CPU per delivery")
        if self.clients < 1000:
            return (one, busy)
        goals = (
            Goal("≤ 0.6 × Node", ratio("one_us", "node"), most=0.6),
            Goal("≤ 1.25 × the C floor", ratio("one_us", "floor"), most=1.25),
        )
        busy_goals = (Goal("≤ 0.15 × Node", ratio("busy_us", "node"), most=0.15),)
        return (
            Line(one.title, one.metric, one.unit, goals),
            Line(busy.title, busy.metric, busy.unit, busy_goals),
        )

    @property
    def columns(self) -> Sequence[Column]:
        return (
            Column("one: µs CPU per delivery", "one_us", digits=2),
            Column("Postgres µs per message", "one_postgres_us"),
            Column("p50 ms to the last", "one_p50", 1e3, 2),
            Column("p99", "one_p99", 1e3, 2),
            Column("busy: µs CPU per delivery", "busy_us", digits=2),
            Column("messages/s", "busy_rate", digits=0),
            Column("p50 ms to each", "busy_p50", 1e3, 1),
            Column("p99", "busy_p99", 1e3, 1),
            Column("calm: µs CPU per delivery", "calm_us", digits=2),
            Column("p50 ms to each", "calm_p50", 1e3, 1),
            Column("p99", "calm_p99", 1e3, 1),
            Column("RSS MiB", "rss", 2**-20, 0),
        )

    def measure(self, bench: Bench, name: str, scale: Scale) -> dict[str, float]:
        crowd = Crowd(rooms=1, members=self.clients, people=PEOPLE)
        with bench.serving(name, crowd, durable=False) as running, running.load(crowd) as load:
            load.connect(crowd.clients)
            load.chat("lockstep", seconds=scale.warmup)
            before = running.cpu()
            one = load.chat("lockstep", seconds=scale.seconds)
            one_cpu = running.cpu() - before
            before = running.cpu()
            rate = CALM_DELIVERIES / self.clients
            calm = load.chat("paced", senders=self.clients, seconds=scale.seconds, rate=rate)
            calm_cpu = running.cpu() - before
            load.chat("closed", senders=BUSY_SENDERS, seconds=scale.warmup)
            before = running.cpu()
            busy = load.chat("closed", senders=BUSY_SENDERS, seconds=scale.seconds)
            busy_cpu = running.cpu() - before
            return {
                "one_us": one_cpu.server / one["deliveries"] * 1e6,
                "one_postgres_us": one_cpu.postgres / one["messages"] * 1e6,
                "one_p50": one["last_p50"],
                "one_p99": one["last_p99"],
                "busy_us": busy_cpu.server / busy["deliveries"] * 1e6,
                "busy_rate": busy["messages"] / busy["seconds"],
                "busy_p50": busy["delivery_p50"],
                "busy_p99": busy["delivery_p99"],
                "calm_us": calm_cpu.server / calm["deliveries"] * 1e6,
                "calm_p50": calm["delivery_p50"],
                "calm_p99": calm["delivery_p99"],
                "rss": running.rss(),
            }
