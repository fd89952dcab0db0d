"""Notifications over two workers: each once to everybody online, on every device; the others find it in their list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import uuid4

import asyncpg
import pytest

from tests.acceptance.conftest import Arrange, Pair
from tests.acceptance.lessons import Answer, Person, rest, until
from tests.support.clients import Client

STUDENTS = 5
#: More than are told in one batch.
MANY = 1_200


class Listen(Protocol):
    """Connects somebody, who joins nothing; closed at the end of the test."""

    async def __call__(self, url: str, person: Person) -> Client: ...


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    async with AsyncExitStack() as ends:

        async def connect(url: str, person: Person) -> Client:
            client = await Client.connect(url, person.token(), transports=("websocket",))
            ends.push_async_callback(client.close)
            return client

        yield connect


@dataclass(frozen=True)
class Course:
    """A course, its teacher and its students."""

    url: str
    id: str
    teacher: Person
    students: Sequence[Person]

    async def call(self, method: str, path: str, body: Any = None, *, by: Person, url: str | None = None) -> Answer:
        return await rest(url or self.url, method, path, body, token=by.token())

    async def schedule(self) -> str:
        """A live class, by its id."""
        starts_at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        made = await self.call("POST", "/sessions", {"courseId": self.id, "startsAt": starts_at}, by=self.teacher)
        assert made.status == 201, made
        session_id: str = made.body["_id"]
        return session_id


async def course(url: str) -> Course:
    key = uuid4().hex[:8]
    teacher = Person(f"teacher-{key}", "teacher", "Tea Cher")
    students = [Person(f"student-{key}-{number}", "student", "Stu Dent") for number in range(STUDENTS)]
    made = await rest(url, "POST", "/courses", {"title": "Algebra"}, token=teacher.token())
    assert made.status == 201, made
    for student in students:
        enrolled = await rest(url, "POST", f"/courses/{made.body['id']}/enrollments", {}, token=student.token())
        assert enrolled.status == 201, enrolled
    return Course(url, made.body["id"], teacher, students)


async def listed(person: Person, url: str, query: str = "") -> list[dict[str, Any]]:
    answer = await rest(url, "GET", f"/notifications{query}", token=person.token())
    assert answer.status == 200, answer
    found: list[dict[str, Any]] = answer.body
    return found


def told(client: Client) -> list[Any]:
    return client.events.of("notification")


async def test_a_class_is_announced_once_on_every_device_and_kept_for_those_who_are_away(
    pair: Pair, listen: Listen
) -> None:
    algebra = await course(pair.one.url)
    *online, away = algebra.students
    devices = [await listen(url, student) for student in online for url in (*pair.urls, pair.two.url)]
    teacher = await listen(pair.two.url, algebra.teacher)
    session_id = await algebra.schedule()
    for url in pair.urls:  # the second time it has begun already: nobody is told again
        started = await algebra.call("PATCH", f"/live-sessions/{session_id}/start", by=algebra.teacher, url=url)
        assert started.status == 200, started
    for device in devices:
        await device.wait_for("notification", lambda data: data["kind"] == "session_started")
    for device in devices:
        assert [(data["kind"], data["data"]["session_id"]) for data in told(device)] == [
            ("session_scheduled", session_id),
            ("session_started", session_id),
        ]
    assert told(teacher) == []
    kept = await listed(away, pair.two.url)
    assert [data["kind"] for data in kept] == ["session_started", "session_scheduled"]
    assert kept == list(reversed(told(devices[0])))


async def test_a_booking_that_is_made_and_confirmed_is_told_to_the_other_side(
    pair: Pair, arrange: Arrange, listen: Listen
) -> None:
    lesson = await arrange(pair.one.url)
    devices = {person: await listen(pair.two.url, person) for person in (lesson.student, lesson.parent, lesson.teacher)}
    for _ in range(2):
        confirmed = await rest(
            pair.one.url, "PATCH", f"/bookings/{lesson.id}", {"status": "confirmed"}, token=lesson.teacher.token()
        )
        assert confirmed.status == 200, confirmed
    for person in (lesson.student, lesson.parent):
        await devices[person].wait_for("notification")
        [one] = told(devices[person])
        assert (one["kind"], one["data"]["booking_id"]) == ("booking_changed", lesson.id)
        assert one in await listed(person, pair.one.url)
    [one] = await listed(lesson.teacher, pair.one.url)
    assert (one["kind"], one["body"]) == ("booking_created", "Stu Dent with Tea Cher, by Stu Dent")
    assert told(devices[lesson.teacher]) == []


async def test_what_is_read_on_one_device_is_read_on_the_others(pair: Pair, listen: Listen) -> None:
    algebra = await course(pair.one.url)
    student = algebra.students[0]
    devices = [await listen(url, student) for url in pair.urls]
    for _ in range(2):
        await algebra.schedule()
    newest, _ = await listed(student, pair.one.url)
    path = f"/notifications/{newest['id']}"
    assert (await algebra.call("PATCH", path, {"read": True}, by=student, url=pair.two.url)).status == 200
    for device in devices:
        assert await device.wait_for("notificationsRead") == {"ids": [newest["id"]], "read": True}
    stranger = await algebra.call("PATCH", path, {"read": True}, by=algebra.teacher)
    assert (stranger.status, stranger.body["error"]) == (404, "notification_not_found")
    answer = await rest(pair.two.url, "GET", "/notifications?unread=true", token=student.token())
    assert (len(answer.body), answer.headers["X-Unread-Count"]) == (1, "1")
    read = await algebra.call("POST", "/notifications/read-all", by=student)
    assert (read.status, read.body) == (200, {"read": 1})
    for device in devices:
        await device.wait_for("notificationsRead", lambda data: data == {"all": True, "read": True})


async def test_a_course_of_many_batches_is_told_to_its_end_on_both_workers(
    pair: Pair, listen: Listen, module_database: str
) -> None:
    algebra = await course(pair.one.url)
    key = uuid4().hex[:8]
    connection = await asyncpg.connect(module_database)
    try:
        await connection.execute(
            f"INSERT INTO users (id, role) SELECT '{key}-' || n, 'student' FROM generate_series(1, {MANY}) n"
        )
        await connection.execute(
            f"INSERT INTO enrollments (course_id, user_id) SELECT $1, '{key}-' || n FROM generate_series(1, {MANY}) n",
            algebra.id,
        )
        some = [Person(f"{key}-{number}", "student", "Stu Dent") for number in (1, 500, 9, 99, 999)]
        devices = await asyncio.gather(*(listen(url, person) for person in some for url in pair.urls))
        session_id = await algebra.schedule()
        for device in devices:
            await device.wait_for("notification")

        async def all_told() -> bool:
            count = "SELECT count(*) FROM notification_recipients r JOIN notifications n ON n.id = notification_id"
            found = await connection.fetchval(f"{count} WHERE n.data ->> 'session_id' = $1", session_id)
            return bool(found == MANY + STUDENTS)

        await until(all_told, "everybody has it in their list")
    finally:
        await connection.close()
    assert [len(told(device)) for device in devices] == [1] * len(devices)
