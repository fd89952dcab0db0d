"""Courses, as they are stored and listed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from store import courses
from store.bookings import Position
from store.courses import Course
from store.database import Pool
from store.errors import Refused, translated
from tests.support.lessons import database_pool, enroll, live_session, make_course, until_somebody_waits
from tests.support.plans import indexes_in, plan_of


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def found(pool: Pool, course_id: UUID) -> Course:
    course = await courses.find(pool, course_id)
    assert course is not None
    return course


async def test_a_course_is_found_as_it_was_made(pool: Pool) -> None:
    course_id = uuid4()
    async with pool.acquire() as connection, connection.transaction():
        made = await courses.insert(
            connection, course_id=course_id, instructor_id="teach", title="Algebra", description="x + 1"
        )
        assert await courses.locked(connection, course_id) == made
    assert await found(pool, course_id) == made
    assert (made.instructor_id, made.title, made.description, made.enrollment_count) == ("teach", "Algebra", "x + 1", 0)
    assert made.created_at == made.updated_at
    assert await courses.find(pool, uuid4()) is None


async def test_a_course_of_nobody_is_refused(pool: Pool) -> None:
    with pytest.raises(Refused) as refusal, translated():
        await make_course(pool, instructor="nobody")
    assert refusal.value.constraint == courses.INSTRUCTOR_EXISTS


async def test_what_is_not_given_stays(pool: Pool) -> None:
    course_id = await make_course(pool)

    async def save(title: str | None = None, description: str | None = None, instructor: str | None = None) -> Course:
        with translated():
            async with pool.acquire() as connection, connection.transaction():
                return await courses.save(
                    connection, course_id, title=title, description=description, instructor_id=instructor
                )

    assert (await save(title="Geometry")).title == "Geometry"
    assert (await save(description="Lines")).title == "Geometry"
    after = await save(instructor="teach2")
    assert (after.title, after.description, after.instructor_id) == ("Geometry", "Lines", "teach2")
    assert after.updated_at > after.created_at
    with pytest.raises(Refused):
        await save(instructor="nobody")
    assert await found(pool, course_id) == after


async def test_enrolments_are_counted_however_they_come_and_go(pool: Pool) -> None:
    course_id, other = await make_course(pool), await make_course(pool, students=("kid",))
    await enroll(pool, course_id, "kid", "kid2", "kid")
    assert ((await found(pool, course_id)).enrollment_count, (await found(pool, other)).enrollment_count) == (2, 1)
    await pool.execute("DELETE FROM enrollments WHERE user_id = 'kid'")
    assert ((await found(pool, course_id)).enrollment_count, (await found(pool, other)).enrollment_count) == (1, 0)
    await pool.execute(
        "INSERT INTO enrollments (course_id, user_id) SELECT c.id, u.id FROM courses c, users u ON CONFLICT DO NOTHING"
    )
    everybody = await pool.fetchval("SELECT count(*) FROM users")
    assert (await found(pool, course_id)).enrollment_count == (await found(pool, other)).enrollment_count == everybody
    await pool.execute("DELETE FROM users WHERE id = 'mum2'")
    assert (await found(pool, other)).enrollment_count == everybody - 1, "and with a person who is gone"


async def test_those_who_come_at_once_are_all_counted(pool: Pool) -> None:
    course_id = await make_course(pool)
    await asyncio.gather(*(enroll(pool, course_id, who) for who in ("kid", "kid2", "mum", "gran") * 3))
    assert (await found(pool, course_id)).enrollment_count == 4


async def test_a_locked_course_is_seen_as_it_is_once_it_is_locked(pool: Pool) -> None:
    course_id = await make_course(pool)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await courses.locked(connection, course_id)

        async def locked() -> Course | None:
            async with pool.acquire() as other, other.transaction():
                return await courses.locked(other, course_id)

        waiting = asyncio.create_task(locked())
        await until_somebody_waits(pool)
        await courses.save(connection, course_id, title="New", description=None, instructor_id=None)
        await transaction.commit()
    seen = await waiting
    assert seen is not None
    assert seen.title == "New"


async def test_courses_are_read_in_pieces_newest_first(pool: Pool) -> None:
    made = [await make_course(pool, title=f"Course {number}") for number in range(5)]
    # Two of the same moment are two places.
    await pool.execute("UPDATE courses SET created_at = (SELECT created_at FROM courses WHERE id = $1)", made[2])
    pieces: list[UUID] = []
    after: Position | None = None
    while found := await courses.newest(pool, after=after, limit=2):
        pieces += [course.id for course in found]
        after = Position(start_time=found[-1].created_at, id=found[-1].id)
    assert pieces == sorted(made, reverse=True)
    later = (await courses.newest(pool, limit=1))[0].created_at + timedelta(seconds=1)
    await pool.execute("UPDATE courses SET created_at = $2 WHERE id = $1", made[3], later)
    assert [course.id for course in await courses.newest(pool, limit=1)] == [made[3]]


async def test_an_instructor_sees_how_many_classes_there_are(pool: Pool) -> None:
    first, second = await make_course(pool), await make_course(pool, students=("kid", "kid2"))
    await make_course(pool, instructor="teach2")
    for _ in range(3):
        await live_session(pool, course_id=first)
    taught = await courses.taught_by(pool, "teach", limit=10)
    assert [(one.course.id, one.course.enrollment_count, one.session_count) for one in taught] == [
        (second, 2, 0),
        (first, 0, 3),
    ]
    after = Position(start_time=taught[0].course.created_at, id=second)
    assert [one.course.id for one in await courses.taught_by(pool, "teach", after=after, limit=10)] == [first]
    assert await courses.taught_by(pool, "kid", limit=10) == []


async def test_the_lists_walk_their_indexes(pool: Pool) -> None:
    async with pool.acquire() as connection:
        for statement, arguments, index in (
            (courses._NEWEST, 1, "courses_in_order"),
            (courses._NEWEST_AFTER, 3, "courses_in_order"),
            (courses._TAUGHT_NEWEST, 2, "courses_by_instructor"),
            (courses._TAUGHT_AFTER, 4, "courses_by_instructor"),
        ):
            plan = await plan_of(connection, statement, arguments)
            assert "Seq Scan" not in plan, plan
            assert "Sort" not in plan, plan
            assert indexes_in(plan) <= {index, "sessions_by_course"}, plan


async def test_courses_go_on_inside_transactions_when_a_column_is_added(database: str) -> None:
    async with database_pool(database, size=1) as pool, database_pool(database, size=1) as migrating:
        course_id = await make_course(pool)
        for column in (None, "of_a_later_release"):
            if column is not None:
                await migrating.execute(f"ALTER TABLE courses ADD COLUMN {column} int")
            async with pool.acquire() as connection, connection.transaction():
                await courses.insert(
                    connection, course_id=uuid4(), instructor_id="teach", title="Algebra", description=""
                )
                held = await courses.locked(connection, course_id)
                assert await courses.find(connection, course_id) == held
                await courses.save(connection, course_id, title="Sums", description=None, instructor_id=None)
                assert len(await courses.newest(connection, limit=1)) == 1
                assert len(await courses.taught_by(connection, "teach", limit=1)) == 1
