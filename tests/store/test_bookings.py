"""Bookings, as they are stored: nobody is booked twice, whoever is first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from store import bookings
from store.bookings import Position
from store.database import Pool, connect
from store.errors import Refused, translated

START = datetime(2030, 1, 7, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    pool = await connect(database, size=10)
    for index in range(20):
        await pool.execute("INSERT INTO users (id, role) VALUES ($1, 'teacher')", f"t{index}")
        await pool.execute("INSERT INTO users (id, role) VALUES ($1, 'student')", f"s{index}")
    await pool.execute("INSERT INTO users (id, role) VALUES ('p', 'parent')")
    yield pool
    await pool.close()


async def book(
    pool: Pool, student_id: str, teacher_id: str, start: datetime = START, end: datetime | None = None
) -> UUID:
    booking_id = uuid4()
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            await bookings.take_turns(connection, [student_id, teacher_id])
            await bookings.insert(
                connection,
                booking_id=booking_id,
                student_id=student_id,
                teacher_id=teacher_id,
                parent_id=None,
                start_time=start,
                end_time=end or start + HOUR,
            )
    return booking_id


async def move(pool: Pool, booking_id: UUID, *, status: bookings.Status = "pending", start: datetime = START) -> None:
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            booking = await bookings.find(connection, booking_id)
            assert booking is not None
            await bookings.take_turns(connection, [booking.student_id, booking.teacher_id])
            await bookings.locked(connection, booking_id)
            await bookings.save(connection, booking_id, status=status, start_time=start, end_time=start + HOUR)


def winners_and_refusals(outcomes: list[UUID | BaseException]) -> tuple[list[UUID], set[str]]:
    winners = [outcome for outcome in outcomes if isinstance(outcome, UUID)]
    refusals = set()
    for outcome in outcomes:
        if not isinstance(outcome, UUID):
            assert isinstance(outcome, Refused), repr(outcome)
            refusals.add(outcome.constraint)
    return winners, refusals


async def test_a_booking_is_found_as_it_was_made(pool: Pool) -> None:
    await pool.execute("UPDATE users SET parent_id = 'p' WHERE id = 's1'")
    booking_id = await book(pool, "s1", "t1")
    booking = await bookings.find(pool, booking_id)
    assert booking is not None
    assert (booking.id, booking.student_id, booking.teacher_id, booking.status) == (
        booking_id,
        "s1",
        "t1",
        "pending",
    )
    assert (booking.start_time, booking.end_time) == (START, START + HOUR)
    assert (booking.parent_id, booking.student_parent_id) == (None, "p")
    assert await bookings.find(pool, uuid4()) is None


async def test_of_fifty_overlapping_bookings_of_one_teacher_exactly_one_wins(pool: Pool) -> None:
    outcomes = await asyncio.gather(
        *(book(pool, f"s{index % 20}", "t1", START + timedelta(minutes=index % 59)) for index in range(50)),
        return_exceptions=True,
    )
    winners, refusals = winners_and_refusals(outcomes)
    assert len(winners) == 1
    assert bookings.TEACHER_FREE in refusals


async def test_of_fifty_overlapping_bookings_of_one_student_exactly_one_wins(pool: Pool) -> None:
    outcomes = await asyncio.gather(
        *(book(pool, "s1", f"t{index % 20}", START + timedelta(minutes=index % 59)) for index in range(50)),
        return_exceptions=True,
    )
    winners, refusals = winners_and_refusals(outcomes)
    assert len(winners) == 1
    assert bookings.STUDENT_FREE in refusals


async def test_bookings_that_cross_each_other_never_deadlock(pool: Pool) -> None:
    """Two bookings that share the teacher, two that share the student, in a ring."""
    for round_ in range(10):
        start = START + round_ * timedelta(days=1)
        outcomes = await asyncio.gather(
            *(book(pool, f"s{(index + shift) % 4}", f"t{index % 4}", start) for index in range(8) for shift in (0, 1)),
            return_exceptions=True,
        )
        winners, _ = winners_and_refusals(outcomes)
        found = [await bookings.find(pool, winner) for winner in winners]
        assert len({booking.student_id for booking in found if booking}) == len(winners)
        assert len({booking.teacher_id for booking in found if booking}) == len(winners)


async def test_confirming_while_others_ask_for_the_same_time_never_deadlocks(pool: Pool) -> None:
    booking_id = await book(pool, "s1", "t1")
    outcomes = await asyncio.gather(
        *(move(pool, booking_id, status="confirmed" if index % 2 else "pending") for index in range(20)),
        *(book(pool, f"s{index}", "t1") for index in range(2, 20)),
        return_exceptions=True,
    )
    assert outcomes[:20] == [None] * 20
    for outcome in outcomes[20:]:
        assert isinstance(outcome, Refused)


async def test_bookings_that_touch_do_not_overlap(pool: Pool) -> None:
    await book(pool, "s1", "t1", START)
    await book(pool, "s1", "t1", START + HOUR)
    await book(pool, "s1", "t1", START - HOUR)


@pytest.mark.parametrize("status", ["completed", "cancelled"])
async def test_a_finished_booking_takes_no_time(pool: Pool, status: bookings.Status) -> None:
    await move(pool, await book(pool, "s1", "t1"), status=status)
    await book(pool, "s1", "t1")


async def test_a_booking_moved_onto_another_is_refused(pool: Pool) -> None:
    await book(pool, "s1", "t1", START)
    later = await book(pool, "s2", "t1", START + HOUR)
    with pytest.raises(Refused) as refusal:
        await move(pool, later, start=START + timedelta(minutes=30))
    assert refusal.value.constraint == bookings.TEACHER_FREE
    await move(pool, later, start=START + timedelta(minutes=90))


async def test_people_who_are_not_known_are_refused(pool: Pool) -> None:
    for student_id, teacher_id, constraint in (
        ("nobody", "t1", bookings.STUDENT_EXISTS),
        ("s1", "nobody", bookings.TEACHER_EXISTS),
    ):
        with pytest.raises(Refused) as refusal:
            await book(pool, student_id, teacher_id)
        assert refusal.value.constraint == constraint


async def test_bookings_are_listed_in_pieces_by_start(pool: Pool) -> None:
    made = [await book(pool, f"s{index}", "t1", START + index * HOUR) for index in range(5)]
    await book(pool, "s1", "t2", START + 10 * HOUR)
    await move(pool, made[4], status="confirmed", start=START + 4 * HOUR)

    first = await bookings.listed(pool, teacher_id="t1", limit=3)
    assert [booking.id for booking in first] == made[:3]
    after = Position(start_time=first[-1].start_time, id=first[-1].id)
    rest = await bookings.listed(pool, teacher_id="t1", after=after, limit=3)
    assert [booking.id for booking in rest] == made[3:]

    confirmed = await bookings.listed(pool, teacher_id="t1", status="confirmed", limit=9)
    assert [booking.id for booking in confirmed] == made[4:]
    between = await bookings.listed(
        pool, teacher_id="t1", starts_from=START + HOUR, starts_before=START + 3 * HOUR, limit=9
    )
    assert [booking.id for booking in between] == made[1:3]
    assert len(await bookings.listed(pool, student_id="s1", limit=9)) == 2
    assert len(await bookings.listed(pool, student_id="s1", teacher_id="t2", limit=9)) == 1
