"""Two hundred students want one slot, over two servers: one of them gets it."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import aiohttp

from tests.acceptance.conftest import Pair
from tests.acceptance.lessons import Lesson, Person, rest

STUDENTS = 200
HOUR = timedelta(hours=1)


def times(start: datetime, length: timedelta = HOUR) -> dict[str, str]:
    return {"start_time": start.isoformat(), "end_time": (start + length).isoformat()}


async def teacher_with_slots(url: str, *starts: datetime, length: timedelta = HOUR) -> tuple[Lesson, Person, list[str]]:
    """A teacher who publishes a slot from each of these on."""
    school = Lesson(url)
    await school.meet(school.teacher)
    ids = []
    for start in starts:
        body = {"teacher_id": school.teacher.id, **times(start, length)}
        made = await rest(url, "POST", "/availability", body, token=school.teacher.token())
        assert made.status == 201, made
        ids.append(made.body["id"])
    return school, school.teacher, ids


async def book_at_once(pair: Pair, teacher: Person, students: list[Person], *starts: datetime) -> Counter[str]:
    """Everybody books one of these hours, half of them at each server: what they are told, and how often."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        async def book(number: int, student: Person) -> str:
            body = {"student_id": student.id, "teacher_id": teacher.id, **times(starts[number % len(starts)])}
            headers = {"Authorization": f"Bearer {student.token()}"}
            async with http.post(f"{pair.urls[number % 2]}/bookings", json=body, headers=headers) as response:
                answer = await response.json()
                return "booked" if response.status == 201 else f"{response.status} {answer['error']}"

        return Counter(await asyncio.gather(*(book(number, student) for number, student in enumerate(students))))


async def test_of_two_hundred_who_book_one_slot_at_once_exactly_one_gets_it(pair: Pair) -> None:
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    school, teacher, _ = await teacher_with_slots(pair.one.url, start)
    students = [school.person("student", f"Student{number} Race") for number in range(STUDENTS)]
    assert await book_at_once(pair, teacher, students, start) == {"booked": 1, "409 slot_taken": STUDENTS - 1}
    listed = await rest(pair.two.url, "GET", f"/availability?teacher_id={teacher.id}", token=students[0].token())
    assert [slot["is_booked"] for slot in listed.body] == [True]
    taken = await rest(pair.two.url, "GET", f"/bookings?teacher_id={teacher.id}", token=teacher.token())
    assert len(taken.body) == 1


async def test_of_two_hundred_who_book_different_hours_of_one_slot_exactly_one_gets_it(pair: Pair) -> None:
    """A slot is booked whole. No two of these hours overlap, so that only the look at the slot keeps them apart.

    More than once: the first time the servers still open connections and prepare statements, one after the other.
    """
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    days = [start + timedelta(days=index) for index in range(4)]
    school, teacher, _ = await teacher_with_slots(pair.one.url, *days, length=5 * HOUR)
    students = [school.person("student", f"Student{number} Race") for number in range(STUDENTS)]
    for day in days:
        told = await book_at_once(pair, teacher, students, *(day + index * HOUR for index in range(5)))
        assert told.pop("booked") == 1
        assert told == {"409 slot_taken": STUDENTS // 5 - 1, "409 not_available": STUDENTS - STUDENTS // 5}


async def test_a_slot_that_is_deleted_while_everybody_books_it_is_either_booked_or_gone(pair: Pair) -> None:
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    school, teacher, (slot_id, _) = await teacher_with_slots(pair.one.url, start, start + 5 * HOUR)
    students = [school.person("student", f"Student{number} Race") for number in range(STUDENTS // 4)]
    told, deleted = await asyncio.gather(
        book_at_once(pair, teacher, students, start),
        rest(pair.two.url, "DELETE", f"/availability/{slot_id}", token=teacher.token()),
    )
    assert (deleted.status, told["booked"]) in ((200, 0), (409, 1)), told
    assert set(told) <= {"booked", "409 slot_taken", "409 not_available"}
