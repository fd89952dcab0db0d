"""One notification to everybody who is online in a course."""

from __future__ import annotations

import http.client
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from bench.bench import Bench, Running
from bench.crowd import Crowd, token
from bench.load import RunFailed
from bench.processes import HOST
from bench.rows.row import Column, Line, Scale

ROOM = 20
#: Who schedules the classes: an admin who does not listen.
ANNOUNCER = "announcer"
COURSE = "00000000-0000-4000-8000-000000000001"
#: Classes that are scheduled before it counts, and at least in each measurement: the slowest is its p99.
FIRST, LEAST = 3, 20

_ENROLL = (
    f"INSERT INTO courses (id, instructor_id, title) SELECT '{COURSE}', min(id), 'Algebra' FROM users",
    f"INSERT INTO enrollments (course_id, user_id) SELECT '{COURSE}', id FROM users",
    "VACUUM ANALYZE",
)


@dataclass(frozen=True, slots=True)
class Notify:
    clients: int

    note = (
        "Everybody is enrolled in one course, and has joined a room of 20. A live class is scheduled by REST, which "
        "stores the notification for each of them; from the request to the moment at which the last of them has it."
    )
    contenders: Sequence[str] = ("encounters",)
    columns: Sequence[Column] = (
        Column("p50 ms to the last", "last_p50"),
        Column("p99", "last_p99"),
        Column("p50 ms to the answer", "answer_p50"),
        Column("server µs per person", "server_us"),
        Column("Postgres µs per person", "postgres_us"),
    )

    @property
    def name(self) -> str:
        return f"notify-{self.clients}"

    @property
    def title(self) -> str:
        return f"Notification to {self.clients} online"

    @property
    def lines(self) -> Sequence[Line]:
        return (Line(f"{self.title}, p99 to the last", "last_p99", "ms", digits=1),)

    def measure(self, bench: Bench, name: str, scale: Scale) -> dict[str, float]:
        crowd = Crowd(rooms=self.clients // ROOM, members=ROOM)
        with bench.serving(name, crowd) as running, running.load(crowd) as load:
            assert running.dsn is not None
            bench.database.execute(running.dsn, *_ENROLL)
            load.connect(crowd.clients)
            announcer = _Announcer(running)
            for _ in range(FIRST):
                load.notified(announcer.schedule)
            lasts: list[float] = []
            answers: list[float] = []
            before, ends = running.cpu(), time.monotonic() + scale.seconds
            while len(lasts) < LEAST or time.monotonic() < ends:
                started = time.monotonic()
                lasts.append(load.notified(announcer.schedule) - started)
                answers.append(announcer.answered_at - started)
            cpu, told = running.cpu() - before, len(lasts) * self.clients
            return {
                "last_p50": statistics.median(lasts) * 1e3,
                "last_p99": statistics.quantiles(lasts, n=100, method="inclusive")[98] * 1e3,
                "answer_p50": statistics.median(answers) * 1e3,
                "server_us": cpu.server / told * 1e6,
                "postgres_us": cpu.postgres / told * 1e6,
            }


class _Announcer:
    """Schedules live classes, on one connection."""

    def __init__(self, running: Running) -> None:
        self._http = http.client.HTTPConnection(HOST, running.ports[0])
        self._headers = {"Authorization": f"Bearer {token(ANNOUNCER)}", "Content-Type": "application/json"}
        self._body = msgspec.json.encode({"courseId": COURSE, "startsAt": datetime.now(UTC) + timedelta(days=1)})
        self.answered_at = 0.0

    def schedule(self) -> None:
        self._http.request("POST", "/sessions", self._body, self._headers)
        response = self._http.getresponse()
        said = response.read()
        self.answered_at = time.monotonic()
        if response.status != 201:
            raise RunFailed(f"POST /sessions: {response.status} {said[:500]!r}")
