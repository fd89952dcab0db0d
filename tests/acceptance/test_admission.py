"""Who gets into a live class, from outside: real sockets on several workers, one database and one Redis."""

from __future__ import annotations

import asyncio
import csv
import io
from collections import Counter
from typing import Any

from tests.acceptance.conftest import NO_LIMITS, Pair, Sit, Start
from tests.acceptance.lessons import Lesson, Person, Seat, rest, until
from tests.support.clients import Client
from tests.support.redis import RedisServer

PLACES = 10
PEOPLE = 40


class Class(Lesson):
    """A live class of the teacher's, with students of its own."""

    students: list[Person]

    @classmethod
    async def of(cls, url: str, number: int, **details: Any) -> Class:
        lesson = cls(url)
        teacher = lesson.teacher.token()
        await lesson.meet(lesson.teacher)
        course = await rest(url, "POST", "/courses", {"title": "Algebra"}, token=teacher)
        assert course.status == 201, course
        lesson.students = [lesson.person("student", f"Student{n} Dent") for n in range(number)]
        for student in lesson.students:
            path = f"/courses/{course.body['id']}/enrollments"
            enrolled = await rest(url, "POST", path, {}, token=student.token())
            assert enrolled.status == 201, enrolled
        body = {"courseId": course.body["id"], "startsAt": "2030-01-07T15:00:00Z", **details}
        made = await rest(url, "POST", "/sessions", body, token=teacher)
        assert made.status == 201, made
        lesson.id = made.body["_id"]
        return lesson


async def answer(client: Client, lesson: Lesson) -> tuple[int, str]:
    """What `joinSession` says: status and code."""
    ack = await client.call("joinSession", {"sessionId": lesson.id}, timeout=30)
    return (200, "in") if ack["ok"] else (ack["error"]["status_code"], ack["error"]["error"])


async def test_a_race_for_the_places_on_four_workers_fills_them_and_no_more(
    start: Start, redis_server: RedisServer, sit: Sit
) -> None:
    servers = await start(4, REDIS_URL=redis_server.url, **NO_LIMITS)
    lesson = await Class.of(servers[0].url, PEOPLE, maxParticipants=PLACES)
    await sit(servers[0].url, lesson, lesson.teacher)
    clients = await asyncio.gather(
        *(
            Client.connect(servers[n % 4].url, student.token(), transports=("websocket",))
            for n, student in enumerate(lesson.students)
        )
    )
    try:
        answers = await asyncio.gather(*(answer(client, lesson) for client in clients))
        assert Counter(answers) == {(200, "in"): PLACES, (409, "session_full"): PEOPLE - PLACES}
        inside = {student.id for student, said in zip(lesson.students, answers, strict=True) if said == (200, "in")}
        for server in servers:
            assert await lesson.online(url=server.url) == inside | {lesson.teacher.id}
        # One leaves here, and another has the place there.
        leaving, waiting = answers.index((200, "in")), answers.index((409, "session_full"))
        assert (await clients[leaving].call("leaveSession", {"sessionId": lesson.id}))["ok"]
        assert await answer(clients[waiting], lesson) == (200, "in")
    finally:
        await asyncio.gather(*(client.close() for client in clients))


async def test_a_host_lets_people_in_who_wait_at_another_worker(pair: Pair, sit: Sit) -> None:
    lesson = await Class.of(pair.one.url, 3)
    host = await sit(pair.one.url, lesson, lesson.teacher)
    assert host.ack["waiting"] == []
    assert (await host.call("setSession", waitingRoom=True))["ok"]
    first, second, third = lesson.students
    clients = [
        await Client.connect(pair.two.url, person.token(), transports=("websocket",)) for person in lesson.students
    ]
    try:
        for client, person in zip(clients, lesson.students, strict=True):
            ack = await client.call("joinSession", {"sessionId": lesson.id})
            assert ack == {
                "ok": False,
                "error": {"error": "waiting", "message": "The host will let you in.", "status_code": 403},
            }
            heard = await host.hears("waiting", userId=person.id)
            assert (heard["name"], heard["role"], heard["waiting"]) == (person.name, "student", True)
        elsewhere = await sit(pair.two.url, lesson, lesson.teacher)
        assert [one["userId"] for one in elsewhere.ack["waiting"]] == [person.id for person in lesson.students]

        assert await host.call("admit", userId=first.id) == {"ok": True, "userIds": [first.id]}
        assert await clients[0].wait_for("admitted") == {"session_id": lesson.id}
        assert await answer(clients[0], lesson) == (200, "in")
        for seat in (host, elsewhere):
            await seat.hears("waiting", userId=first.id, waiting=False)
            await seat.hears("participantJoined", userId=first.id)

        assert (await elsewhere.call("admit", userIds=[second.id], admitted=False))["ok"]
        assert await clients[1].wait_for("refused") == {"session_id": lesson.id}
        assert await answer(clients[1], lesson) == (403, "waiting")

        await clients[2].drop()
        await host.hears("waiting", userId=third.id, waiting=False)
        gone = await host.call("admit", userId=third.id)
        assert (gone["error"]["status_code"], gone["error"]["error"]) == (404, "not_waiting")

        assert (await host.call("setSession", waitingRoom=False))["ok"]
        await until(lambda: len(clients[1].events.of("admitted")) == 1, "being called in")
        assert await answer(clients[1], lesson) == (200, "in")
        assert await lesson.online() == {lesson.teacher.id, first.id, second.id}
    finally:
        for client in clients:
            await client.close()


async def test_attendance_over_two_workers_is_one_line_each(pair: Pair, sit: Sit) -> None:
    lesson = await Class.of(pair.one.url, 1)
    [student] = lesson.students
    await sit(pair.one.url, lesson, lesson.teacher)
    tabs: list[Seat] = [await sit(url, lesson, student) for url in pair.urls]
    for tab in tabs:
        assert (await tab.call("leaveSession"))["ok"]
    exported = await lesson.call("GET", "/participants?format=csv", by=lesson.teacher, url=pair.two.url)
    assert exported.status == 200
    assert exported.headers["Content-Type"].startswith("text/csv")
    header, *lines = csv.reader(io.StringIO(exported.body))
    assert header == ["name", "role", "first_joined", "last_left", "minutes"]
    assert [(line[0], line[1], bool(line[3])) for line in lines] == [
        ("Tea Cher", "instructor", False),
        ("Student0 Dent", "student", True),
    ]
    refused = await lesson.call("GET", "/participants?format=csv", by=student)
    assert (refused.status, refused.body["error"]) == (403, "not_host")
