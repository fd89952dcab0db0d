"""Claims of reminders: each start once, whoever asks, and only of what stands there then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from store import bookings, reminders
from store.database import Pool
from tests.support.lessons import book, database_pool

MINUTE = timedelta(minutes=1)
START = datetime(2030, 1, 7, 9, 0, tzinfo=UTC)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def lesson(pool: Pool, start: datetime = START, status: bookings.Status = "confirmed") -> UUID:
    booking_id = await book(pool, status=status)
    await move(pool, booking_id, start)
    return booking_id


async def move(pool: Pool, booking_id: UUID, start: datetime) -> None:
    await pool.execute(
        "UPDATE bookings SET start_time = $2, end_time = $3 WHERE id = $1", booking_id, start, start + 50 * MINUTE
    )


async def claimed(pool: Pool, now: datetime, limit: int = 10) -> list[UUID]:
    due = await reminders.claim(pool, now=now, until=now + 15 * MINUTE, limit=limit)
    return [lesson.booking_id for lesson in due]


async def test_a_lesson_is_claimed_once_when_its_time_has_come(pool: Pool) -> None:
    booking_id = await lesson(pool)
    assert await claimed(pool, START - 16 * MINUTE) == []
    assert await claimed(pool, START - 15 * MINUTE) == [booking_id]
    assert await claimed(pool, START - 14 * MINUTE) == []


async def test_the_students_parent_is_reminded_once_accepted(pool: Pool) -> None:
    for hour, accepted in enumerate((False, True)):
        await pool.execute("UPDATE users SET parent_accepted = $1 WHERE id = 'kid'", accepted)
        start = START + timedelta(hours=hour)
        await lesson(pool, start)
        [due] = await reminders.claim(pool, now=start - MINUTE, until=start, limit=10)
        assert (due.parent_id, due.student_parent_id) == ("gran", "mum" if accepted else None)


async def test_what_has_begun_is_not_announced(pool: Pool) -> None:
    await lesson(pool)
    assert await claimed(pool, START) == []


@pytest.mark.parametrize("status", ["pending", "completed", "cancelled"])
async def test_only_confirmed_lessons_are_announced(pool: Pool, status: bookings.Status) -> None:
    await lesson(pool, status=status)
    assert await claimed(pool, START - MINUTE) == []


async def test_another_start_is_claimed_anew(pool: Pool) -> None:
    booking_id = await lesson(pool)
    assert await claimed(pool, START - MINUTE) == [booking_id]
    later = START + timedelta(hours=3)
    await move(pool, booking_id, later)
    assert await claimed(pool, START - MINUTE) == []
    assert await claimed(pool, later - MINUTE) == [booking_id]


async def test_the_next_ones_come_first_and_no_more_than_asked_for(pool: Pool) -> None:
    second, first = await lesson(pool, START + 5 * MINUTE + timedelta(hours=1)), await lesson(pool)
    await pool.execute("UPDATE bookings SET student_id = 'kid2', teacher_id = 'teach2' WHERE id = $1", second)
    await move(pool, second, START + 5 * MINUTE)
    assert await claimed(pool, START - MINUTE, limit=1) == [first]
    assert await claimed(pool, START - MINUTE, limit=1) == [second]


async def test_of_many_who_claim_at_once_one_gets_each(pool: Pool) -> None:
    lessons = [await lesson(pool, START + timedelta(hours=hour)) for hour in range(5)]
    now = START - MINUTE
    answers = await asyncio.gather(
        *(reminders.claim(pool, now=now, until=now + timedelta(hours=9), limit=3) for _ in range(10))
    )
    rest = await reminders.claim(pool, now=now, until=now + timedelta(hours=9), limit=10)
    assert sorted(due.booking_id for answer in (*answers, rest) for due in answer) == sorted(lessons)


async def test_a_booking_that_is_being_changed_is_left_for_the_next_look(pool: Pool) -> None:
    booking_id = await lesson(pool)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await bookings.locked(connection, booking_id)
        assert await claimed(pool, START - MINUTE) == []
        await connection.execute("UPDATE bookings SET status = 'cancelled' WHERE id = $1", booking_id)
        await transaction.commit()
    assert await claimed(pool, START - MINUTE) == []


async def test_a_claim_that_is_rolled_back_was_none(pool: Pool) -> None:
    booking_id = await lesson(pool)
    now = START - MINUTE
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        assert len(await reminders.claim(connection, now=now, until=START, limit=1)) == 1
        await transaction.rollback()
    assert await claimed(pool, now) == [booking_id]
