"""A page of history over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.bench import Bench
from bench.crowd import Crowd, token
from bench.load import Requests
from bench.rows.row import OURS, Column, Goal, Line, Scale, ratio

PAGE = 50
CONNECTIONS = 16

#: 500 messages, of which the page is the end.
_OURS = """
    INSERT INTO session_messages (id, session_id, seq, user_id, sender_name, text, created_at)
    SELECT gen_random_uuid(), s.id, n, s.host_id, 'Some Body', '@@' || n || ' ' || repeat('x', 32), clock_timestamp()
    FROM sessions s, generate_series(1, 500) n
"""
_COUNTED = "UPDATE sessions SET last_seq = 500"
_THEIRS = """
    INSERT INTO session_messages (session_id, user_id, text, created_at)
    SELECT b.id, b.tutor_id, '@@' || n || ' ' || repeat('x', 32), now() + n * interval '1 millisecond'
    FROM bookings b, generate_series(1, 500) n
"""


@dataclass(frozen=True, slots=True)
class History:
    name = "history"
    title = "History, 50 messages"
    note = (
        "The newest 50 messages of a session that people are in, 16 connections, without If-None-Match. "
        "fastify asks two prepared queries: membership, and the page with its authors (S1's, with an index)."
    )
    contenders: Sequence[str] = ("encounters", "fastify")
    columns: Sequence[Column] = (
        Column("requests/s", "rate", digits=0),
        Column("server µs per request", "server_us"),
        Column("Postgres µs per request", "postgres_us"),
        Column("p50 ms", "p50", 1e3, 2),
        Column("p99", "p99", 1e3, 2),
    )

    @property
    def lines(self) -> Sequence[Line]:
        goal = Goal("≥ 3 × fastify's", ratio("rate", "fastify"), least=3)
        return (Line(self.title, "rate", "requests/s", (goal,), lower=False, digits=0),)

    def measure(self, bench: Bench, name: str, scale: Scale) -> dict[str, float]:
        crowd = Crowd(rooms=1, members=3)
        with bench.serving(name, crowd) as running, running.load(crowd) as load:
            assert running.dsn is not None
            if name == OURS:
                bench.database.execute(running.dsn, _OURS, _COUNTED)
                load.connect(crowd.clients)
            else:
                bench.database.execute(running.dsn, _THEIRS)
            bench.database.execute(running.dsn, "VACUUM ANALYZE session_messages")
            path = f"/sessions/{crowd.session_ids[0]}/messages?limit={PAGE}"
            requests = Requests(
                bench.programs,
                running.ports[0],
                path=path,
                token=token(crowd.user_ids[0]),
                connections=CONNECTIONS,
                messages=PAGE,
            )
            try:
                requests.run(scale.warmup)
                before = running.cpu()
                asked = requests.run(scale.seconds)
                cpu = running.cpu() - before
            finally:
                requests.close()
            return {
                "rate": asked["requests"] / asked["seconds"],
                "server_us": cpu.server / asked["requests"] * 1e6,
                "postgres_us": cpu.postgres / asked["requests"] * 1e6,
                "p50": asked["p50"],
                "p99": asked["p99"],
            }
