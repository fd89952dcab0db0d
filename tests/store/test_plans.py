"""What lessons' statements read of a school that has years behind it: little more than what they answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from store import availability, bookings, calendars, reminders, users
from store.bookings import Position
from store.database import Pool, connect
from tests.support.plans import walked
from tests.support.postgres import Clusters, new_database

#: The school's first lesson. Each teacher has one an hour from then on, and a slot around each.
START = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
TEACHERS, STUDENTS, PARENTS = 40, 1_000, 500
#: Lessons of each teacher; the first one, who is asked about, has ten times as many.
LESSONS, MANY = 150, 1_500
BUSY, STUDENT, PARENT = "t0", "s7", "p7"
PAGE = 201
#: A row of a page is looked at as a booking and for its student, teacher and session.
TABLES = 4
NOBODY = UUID(int=0)

SCHOOL = f"""
    INSERT INTO users (id, role) SELECT 't' || n, 'teacher' FROM generate_series(0, {TEACHERS - 1}) n;
    INSERT INTO users (id, role) SELECT 'p' || n, 'parent' FROM generate_series(0, {PARENTS - 1}) n;
    INSERT INTO users (id, role, parent_id, parent_accepted)
        SELECT 's' || n, 'student', 'p' || n % {PARENTS}, true FROM generate_series(0, {STUDENTS - 1}) n;
    ALTER TABLE bookings DROP CONSTRAINT bookings_student_free;  -- more at a time than one student could have
    INSERT INTO bookings (id, student_id, teacher_id, parent_id, start_time, end_time, status)
        SELECT gen_random_uuid(), 's' || (n * {TEACHERS} + t) % {STUDENTS}, 't' || t, 'p' || (n * 7 + t) % {PARENTS},
               s, s + interval '50 minutes',
               CASE WHEN n % 10 = 0 THEN 'pending' WHEN n % 10 = 1 THEN 'cancelled' ELSE 'confirmed' END
        FROM generate_series(0, {TEACHERS - 1}) t,
             generate_series(0, CASE WHEN t = 0 THEN {MANY} ELSE {LESSONS} END - 1) n,
             LATERAL (SELECT '{START:%Y-%m-%d}'::timestamptz + n * interval '1 hour' AS s) AS at;
    INSERT INTO sessions (id, kind, booking_id, room_name, host_id, starts_at)
        SELECT id, 'booking', id, 'room-' || id, teacher_id, start_time FROM bookings;
    INSERT INTO availability_slots (id, teacher_id, start_time, end_time)
        SELECT gen_random_uuid(), teacher_id, start_time, start_time + interval '1 hour' FROM bookings;
    ANALYZE
"""


class Schools:
    """The module's schools, by the version of Postgres, each filled when first asked for."""

    def __init__(self, clusters: Clusters, ends: ExitStack) -> None:
        self._clusters = clusters
        self._ends = ends
        self._dsns: dict[int, str] = {}

    async def dsn(self, version: int) -> str:
        if version not in self._dsns:
            dsn = self._ends.enter_context(new_database(self._clusters, version))
            connection = await asyncpg.connect(dsn)
            await connection.execute(SCHOOL)
            await connection.close()
            self._dsns[version] = dsn
        return self._dsns[version]


@pytest.fixture(scope="module")
def schools(clusters: Clusters) -> Iterator[Schools]:
    with ExitStack() as ends:
        yield Schools(clusters, ends)


@pytest.fixture
async def pool(schools: Schools, postgres_version: int) -> AsyncIterator[Pool]:
    """On the module's school, which nobody changes."""
    pool = await connect(await schools.dsn(postgres_version), size=1)
    yield pool
    await pool.close()


async def test_a_page_of_somebodys_bookings(pool: Pool) -> None:
    middle = START + 700 * HOUR
    behind = Position(start_time=middle, id=NOBODY)
    of_teacher: list[tuple[dict[str, Any], int]] = [
        ({}, PAGE),
        ({"after": behind}, PAGE),
        ({"starts_from": middle}, PAGE),
        ({"starts_from": middle, "starts_before": middle + 10 * HOUR}, 10),
        ({"status": "confirmed"}, 2 * PAGE),
        # One in ten: those between are looked at, but not the rest.
        ({"status": "pending", "starts_from": middle, "starts_before": middle + 100 * HOUR}, 100),
    ]
    async with pool.acquire() as connection:
        for filters, most in of_teacher:
            walk = await walked(connection, partial(bookings.listed, teacher_id=BUSY, limit=PAGE, **filters))
            assert "bookings_by_teacher" in walk.indexes, walk.plan
            # Each with its student, whose parent is asked for, and one or two more to sort what begins at once.
            assert walk.rows <= 2 * (most + 2), (filters, walk.rows, walk.plan)
        of_student: list[dict[str, Any]] = [{"student_id": STUDENT}, {"student_id": STUDENT, "teacher_id": BUSY}]
        for whose in of_student:
            walk = await walked(connection, partial(bookings.listed, limit=PAGE, **whose))
            assert walk.indexes & {"bookings_by_student", "bookings_by_teacher"}, walk.plan
            assert walk.rows <= 2 * PAGE, (walk.rows, walk.plan)


async def test_a_page_of_slots(pool: Pool) -> None:
    now = START + 700 * HOUR
    behind = Position(start_time=now, id=NOBODY)
    of_all: list[dict[str, Any]] = [
        {"ends_after": now},
        {"ends_after": now, "after": behind},
        {"starts_from": now, "starts_before": now + 200 * HOUR},
    ]
    async with pool.acquire() as connection:
        for filters in of_all:
            for teacher_id, index in ((BUSY, "availability_slots_by_teacher"), (None, "availability_slots_by_start")):
                walk = await walked(
                    connection, partial(availability.listed, teacher_id=teacher_id, limit=PAGE, **filters)
                )
                assert index in walk.indexes, walk.plan
                assert "bookings_by_teacher" in walk.indexes, walk.plan
                # A day's slots are looked at for one that is not over yet, and of each slot the lessons of eight hours.
                assert walk.rows <= (PAGE + 24) * (1 + 9), (filters, walk.rows, walk.plan)


async def test_what_stands_in_the_way_of_a_years_lessons(pool: Pool) -> None:
    starts = [START + week * 24 * HOUR for week in range(52)]
    async with pool.acquire() as connection:
        walk = await walked(
            connection,
            lambda on: availability.obstacles(
                on,
                student_id=STUDENT,
                teacher_id=BUSY,
                spans=[(start, start + HOUR) for start in starts],
                now=START,
            ),
        )
    assert {"bookings_by_teacher", "bookings_by_student", "availability_slots_by_teacher"} <= walk.indexes, walk.plan
    # Of each: eight hours of both people's lessons, a day of slots, and the lessons of the one that fits.
    assert walk.rows <= len(starts) * (9 + 9 + 25 + 9), (walk.rows, walk.plan)


@pytest.mark.parametrize(("user_id", "lessons"), [(BUSY, MANY), (STUDENT, 30), (PARENT, 60), ("nobody", 0)])
async def test_somebodys_feed(pool: Pool, user_id: str, lessons: int) -> None:
    async with pool.acquire() as connection:
        walk = await walked(
            connection, lambda on: calendars.appointments_of(on, user_id, starts_from=START, limit=2000)
        )
    assert {"bookings_by_student", "bookings_by_teacher", "bookings_by_parent", "users_by_parent"} <= walk.indexes, (
        walk.plan
    )
    # Each is found, and then read with its people and its session.
    assert walk.rows <= lessons * (1 + TABLES) + 10, (walk.rows, walk.plan)


async def test_a_look_for_lessons_to_remind_of(pool: Pool) -> None:
    now = START + 100 * HOUR - timedelta(minutes=10)
    async with pool.acquire() as connection:
        for moment, lessons in ((now, TEACHERS), (now + timedelta(minutes=20), 0), (START - 24 * HOUR, 0)):
            until = moment + timedelta(minutes=15)
            walk = await walked(connection, partial(reminders.claim, now=moment, until=until, limit=200))
            assert "bookings_confirmed_by_start" in walk.indexes, walk.plan
            assert walk.rows <= lessons * (2 + TABLES), (walk.rows, walk.plan)


@pytest.mark.parametrize(
    ("reader", "person", "lessons"),
    [(STUDENT, BUSY, 30), (PARENT, BUSY, 60), (BUSY, STUDENT, MANY), (BUSY, "nobody", MANY), ("nobody", BUSY, 0)],
)
async def test_whether_two_people_share_a_booking(pool: Pool, reader: str, person: str, lessons: int) -> None:
    async with pool.acquire() as connection:
        walk = await walked(connection, lambda on: users.share_a_booking(on, reader, person))
    assert {"bookings_by_student", "bookings_by_teacher", "bookings_by_parent"} <= walk.indexes, walk.plan
    # No more than the reader's own: each found, and read with its student.
    assert walk.rows <= lessons * 3 + 10, (walk.rows, walk.plan)
