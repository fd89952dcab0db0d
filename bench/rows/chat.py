"""Durable chat: every message is committed before it is acked, and shown to everyone in its room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.bench import Bench
from bench.crowd import Crowd
from bench.rows.row import OURS, Column, Goal, Line, Scale, own, ratio

COLUMNS = (
    Column("messages/s", "rate", digits=0),
    Column("server µs per message", "server_us"),
    Column("Postgres µs per message", "postgres_us"),
    Column("p50 ms to the ack", "p50", 1e3, 1),
    Column("p99", "p99", 1e3, 1),
    Column("RSS MiB", "rss", 2**-20, 0),
)


@dataclass(frozen=True, slots=True)
class Chat:
    rooms: int
    members: int

    note = (
        "Everybody sends, the next message after the ack of the last. Node and python-socketio ask S1's three queries "
        "per message (membership, person, insert), prepared, ten connections to Postgres; Encounters has membership, "
        "one gapless `seq` per session and idempotency by `client_id`, ten connections."
    )

    @property
    def name(self) -> str:
        return f"chat-{self.rooms}x{self.members}"

    @property
    def title(self) -> str:
        return f"Durable chat, {self.rooms} rooms of {self.members}"

    contenders: Sequence[str] = ("encounters", "node", "stock")
    columns: Sequence[Column] = COLUMNS

    @property
    def lines(self) -> Sequence[Line]:
        faster = Goal("≥ 5 × Node's", ratio("rate", "node"), least=5)
        cheaper = Goal("≤ 0.2 × Node's", ratio("cpu_us", "node"), most=0.2)
        sooner = Goal("p99 below Node's", ratio("p99", "node"), most=1)
        return (
            Line(self.title, "rate", "messages/s", (faster, sooner), lower=False, digits=0),
            Line(self.title, "cpu_us", "µs CPU per message, server and Postgres", (cheaper,), digits=1),
        )

    def measure(self, bench: Bench, name: str, scale: Scale) -> dict[str, float]:
        return chat(bench, name, scale, Crowd(self.rooms, self.members), senders=self.members)


@dataclass(frozen=True, slots=True)
class HotSession:
    """All load in one room: its members send without waiting for each ack."""

    members: int = 8
    window: int = 16

    name = "hot-session"
    title = "Durable chat, one hot session"
    note = (
        "One room of 8, each with 16 messages on their way. Order per sender is checked for Encounters alone: "
        "the others store what one sender sends at once in any order."
    )
    contenders: Sequence[str] = ("encounters", "node", "stock")
    columns: Sequence[Column] = COLUMNS

    @property
    def lines(self) -> Sequence[Line]:
        goal = Goal("≥ 15 000", own("rate"), least=15_000)
        return (Line(self.title, "rate", "messages/s", (goal,), lower=False, digits=0),)

    def measure(self, bench: Bench, name: str, scale: Scale) -> dict[str, float]:
        return chat(bench, name, scale, Crowd(1, self.members), senders=self.members, window=self.window)


def chat(bench: Bench, name: str, scale: Scale, crowd: Crowd, *, senders: int, window: int = 1) -> dict[str, float]:
    ordered = window == 1 or name == OURS
    with bench.serving(name, crowd) as running, running.load(crowd) as load:
        load.connect(crowd.clients)
        load.chat("closed", senders=senders, window=window, seconds=scale.warmup, ordered=ordered)
        before = running.cpu()
        said = load.chat("closed", senders=senders, window=window, seconds=scale.seconds, ordered=ordered)
        cpu = running.cpu() - before
        return {
            "rate": said["messages"] / said["seconds"],
            "server_us": cpu.server / said["messages"] * 1e6,
            "postgres_us": cpu.postgres / said["messages"] * 1e6,
            "cpu_us": (cpu.server + cpu.postgres) / said["messages"] * 1e6,
            "p50": said["ack_p50"],
            "p99": said["ack_p99"],
            "rss": running.rss(),
        }
