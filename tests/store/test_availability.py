"""Availability slots, as they are stored: none overlaps another of its teacher, and none goes while it is booked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID, uuid4

import pytest

from store import availability, bookings
from store.availability import Obstacle, Series, Slot
from store.bookings import Position
from store.database import Executor, Pool, connect
from store.errors import Refused, translated

START = datetime(2030, 1, 7, 9, 0, tzinfo=UTC)
NOW = START - timedelta(days=7)
HOUR = timedelta(hours=1)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    pool = await connect(database, size=10)
    for user_id, role in (("t1", "teacher"), ("t2", "teacher"), ("s1", "student"), ("s2", "student")):
        await pool.execute("INSERT INTO users (id, role) VALUES ($1, $2)", user_id, role)
    yield pool
    await pool.close()


def weekly() -> Series:
    return Series(
        id=uuid4(), weekday=1, starts=time(9), ends=time(10), timezone="Europe/Berlin", until=date(2030, 12, 31)
    )


async def offer(
    pool: Pool, *starts: datetime, teacher_id: str = "t1", length: timedelta = HOUR, series: Series | None = None
) -> list[UUID]:
    named = [(uuid4(), (start, start + length)) for start in starts]
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            await bookings.take_turns(connection, [teacher_id])
            await availability.insert(connection, teacher_id=teacher_id, spans=named, series=series)
    return [slot_id for slot_id, _ in named]


async def book(pool: Pool, start: datetime = START, *, student_id: str = "s1", length: timedelta = HOUR) -> UUID:
    """Book as the domain does: what stands in the way is asked for, and refused, inside the transaction."""
    booking_id = uuid4()
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            await bookings.take_turns(connection, [student_id, "t1"])
            [obstacle] = await availability.obstacles(
                connection, student_id=student_id, teacher_id="t1", spans=[(start, start + length)], now=NOW
            )
            if obstacle is not None:
                raise Refused(obstacle)
            await bookings.insert(
                connection,
                booking_id=booking_id,
                student_id=student_id,
                teacher_id="t1",
                parent_id=None,
                start_time=start,
                end_time=start + length,
            )
    return booking_id


async def finish(pool: Pool, booking_id: UUID, status: str) -> None:
    await pool.execute("UPDATE bookings SET status = $2 WHERE id = $1", booking_id, status)


async def delete(pool: Pool, slot_id: UUID, *, rest_after: datetime | None = None) -> int:
    slot = await availability.find(pool, slot_id)
    if slot is None:
        return 0
    async with pool.acquire() as connection, connection.transaction():
        await bookings.take_turns(connection, [slot.teacher_id])
        return len(await availability.delete_free(connection, slot, rest_after=rest_after))


async def obstacle(
    pool: Pool,
    start: datetime,
    *,
    length: timedelta = HOUR,
    student_id: str = "s1",
    now: datetime = NOW,
    booking_id: UUID | None = None,
) -> Obstacle | None:
    async with pool.acquire() as connection:
        [found] = await availability.obstacles(
            connection,
            student_id=student_id,
            teacher_id="t1",
            spans=[(start, start + length)],
            now=now,
            booking_id=booking_id,
        )
    return found


async def slots(pool: Pool, teacher_id: str = "t1") -> Sequence[Slot]:
    return await availability.listed(pool, teacher_id=teacher_id, limit=1000)


async def test_a_slot_is_found_as_it_was_offered(pool: Pool) -> None:
    series = weekly()
    [slot_id] = await offer(pool, START, series=series)
    assert await availability.find(pool, slot_id) == Slot(
        id=slot_id, teacher_id="t1", series_id=series.id, start_time=START, end_time=START + HOUR, is_booked=False
    )
    assert await availability.find(pool, uuid4()) is None
    row = await pool.fetchrow("SELECT * FROM availability_series")
    assert row is not None
    assert (row["weekday"], row["starts"], row["ends"]) == (1, time(9), time(10))


async def test_slots_of_one_teacher_do_not_overlap_and_those_of_two_may(pool: Pool) -> None:
    await offer(pool, START)
    with pytest.raises(Refused) as refusal:
        await offer(pool, START + HOUR / 2)
    assert refusal.value.constraint == availability.SLOTS_APART
    await offer(pool, START + HOUR, START - HOUR)
    await offer(pool, START + HOUR / 2, teacher_id="t2")


async def test_whoever_is_not_known_offers_nothing(pool: Pool) -> None:
    for series, constraint in ((None, availability.TEACHER_EXISTS), (weekly(), availability.SERIES_TEACHER_EXISTS)):
        with pytest.raises(Refused) as refusal:
            await offer(pool, START, teacher_id="nobody", series=series)
        assert refusal.value.constraint == constraint


async def test_the_starts_that_overlap_are_told(pool: Pool) -> None:
    await offer(pool, START, length=2 * HOUR)
    async with pool.acquire() as connection:
        spans = [(START + shift * HOUR, START + (shift + 1) * HOUR) for shift in (2, 1, 0, -1)]
        assert await availability.starts_that_overlap(connection, "t1", spans) == [START + HOUR, START]
        assert await availability.starts_that_overlap(connection, "t2", spans) == []


async def test_a_slot_is_booked_by_what_overlaps_it_and_was_not_cancelled(pool: Pool) -> None:
    _, middle, _ = await offer(pool, START, START + HOUR, START + 2 * HOUR)
    booking_id = await book(pool, START + HOUR, length=HOUR / 2)
    for status in ("pending", "confirmed", "completed"):
        await finish(pool, booking_id, status)
        assert [slot.is_booked for slot in await slots(pool)] == [False, True, False]
        assert await delete(pool, middle) == 0
    await finish(pool, booking_id, "cancelled")
    assert [slot.is_booked for slot in await slots(pool)] == [False, False, False]
    assert await delete(pool, middle) == 1


async def test_a_completed_lesson_keeps_its_slot_and_gives_its_people_their_time(pool: Pool) -> None:
    await offer(pool, START, length=2 * HOUR)
    booking_id = await book(pool, START)
    await finish(pool, booking_id, "completed")
    for start in (START, START + HOUR):
        assert await obstacle(pool, start) == "not_available"
    # Whoever publishes nothing any more can be asked for any time that nobody takes.
    assert await obstacle(pool, START, now=START + 2 * HOUR) is None


async def test_a_booking_from_before_the_slots_books_all_that_it_overlaps(pool: Pool) -> None:
    await book(pool, START, length=8 * HOUR)
    await offer(pool, *(START + shift * HOUR for shift in (-1, 0, 7, 8)))
    assert [slot.is_booked for slot in await slots(pool)] == [False, True, True, False]


async def test_without_slots_ahead_every_time_is_available(pool: Pool) -> None:
    await offer(pool, START)
    assert await obstacle(pool, START + 5 * HOUR) == "not_available"
    assert await obstacle(pool, START + 5 * HOUR, now=START + HOUR) is None
    assert await obstacle(pool, START + 5 * HOUR, now=START + HOUR - timedelta(microseconds=1)) == "not_available"


@pytest.mark.parametrize(
    ("shift", "length", "fits"),
    [
        (timedelta(0), 2 * HOUR, True),
        (HOUR / 2, HOUR, True),
        (HOUR, HOUR, True),
        (HOUR, HOUR + timedelta(microseconds=1), False),
        (-timedelta(microseconds=1), HOUR, False),
        (3 * HOUR / 2, HOUR, False),
        (2 * HOUR, HOUR, True),
        (HOUR, 2 * HOUR, False),
        (3 * HOUR, HOUR, False),
    ],
)
async def test_a_lesson_lies_inside_one_slot(pool: Pool, shift: timedelta, length: timedelta, fits: bool) -> None:
    await offer(pool, START, length=2 * HOUR)
    await offer(pool, START + 2 * HOUR)
    assert await obstacle(pool, START + shift, length=length) == (None if fits else "not_available")


async def test_a_slot_is_booked_whole(pool: Pool) -> None:
    await offer(pool, START, length=4 * HOUR)
    booking_id = await book(pool, START)
    assert await obstacle(pool, START, student_id="s2") == "slot_taken"
    assert await obstacle(pool, START + 2 * HOUR, student_id="s2") == "not_available"
    assert await obstacle(pool, START + 2 * HOUR, booking_id=booking_id) is None
    await finish(pool, booking_id, "cancelled")
    assert await obstacle(pool, START, student_id="s2") is None


async def test_what_stands_in_the_way_is_told_for_each_date(pool: Pool) -> None:
    day = timedelta(days=1)
    await offer(pool, START, START + day, START + 2 * day)
    await book(pool, START + day)
    async with pool.acquire() as connection:
        spans = [(START + count * day, START + count * day + HOUR) for count in (3, 1, 0)]
        found = await availability.obstacles(connection, student_id="s2", teacher_id="t1", spans=spans, now=NOW)
    assert found == ["not_available", "slot_taken", None]


async def test_of_fifty_bookings_of_one_slot_exactly_one_wins(pool: Pool) -> None:
    await offer(pool, START, length=4 * HOUR)
    outcomes = await asyncio.gather(
        *(
            book(pool, START + index % 4 * HOUR, student_id=student_id)
            for index in range(25)
            for student_id in ("s1", "s2")
        ),
        return_exceptions=True,
    )
    winners = [outcome for outcome in outcomes if isinstance(outcome, UUID)]
    refusals = {outcome.constraint for outcome in outcomes if isinstance(outcome, Refused)}
    assert len(winners) == 1
    assert refusals == {"slot_taken", "not_available"}
    assert len(outcomes) == 1 + sum(isinstance(outcome, Refused) for outcome in outcomes)


async def test_a_slot_is_either_booked_or_deleted(pool: Pool) -> None:
    """Another slot, so that the teacher publishes whatever happens to the first."""
    await offer(pool, START + timedelta(days=300))
    for day in range(20):
        start = START + timedelta(days=day)
        [slot_id] = await offer(pool, start)
        booked, deleted, *_ = await asyncio.gather(
            book(pool, start), delete(pool, slot_id), book(pool, start, student_id="s2"), return_exceptions=True
        )
        is_booked = await pool.fetchval("SELECT count(*) FROM bookings WHERE start_time = $1", start)
        assert deleted == 1 - is_booked, (booked, deleted)
        assert (await availability.find(pool, slot_id) is None) == (deleted == 1)


async def test_of_many_overlapping_slots_exactly_one_is_kept(pool: Pool) -> None:
    outcomes = await asyncio.gather(
        *(offer(pool, START + timedelta(minutes=index)) for index in range(30)), return_exceptions=True
    )
    assert len([outcome for outcome in outcomes if isinstance(outcome, list)]) == 1
    for outcome in outcomes:
        assert isinstance(outcome, list) or (
            isinstance(outcome, Refused) and outcome.constraint == availability.SLOTS_APART
        )


async def found(executor: Executor, booking_id: UUID) -> bookings.Booking:
    booking = await bookings.find(executor, booking_id)
    assert booking is not None
    return booking


async def move(pool: Pool, booking_id: UUID, start: datetime) -> None:
    """Move as the domain does."""
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            booking = await found(connection, booking_id)
            await bookings.take_turns(connection, [booking.student_id, booking.teacher_id])
            await bookings.locked(connection, booking_id)
            spans = [(start, start + HOUR)]
            people = {"student_id": booking.student_id, "teacher_id": booking.teacher_id}
            [obstacle] = await availability.obstacles(connection, **people, spans=spans, now=NOW, booking_id=booking_id)
            if obstacle is not None:
                raise Refused(obstacle)
            await bookings.save(connection, booking_id, status="pending", start_time=start, end_time=start + HOUR)


async def test_booking_moving_offering_and_deleting_at_once_never_deadlock(pool: Pool) -> None:
    starts = [START + index * HOUR for index in range(6)]
    # Two more, which nobody books: there is somewhere to move to.
    everywhere = [START + index * HOUR for index in range(8)]
    ids = await offer(pool, *everywhere, series=weekly())
    booked = [await book(pool, start, student_id=f"s{1 + index % 2}") for index, start in enumerate(starts[:4])]
    outcomes = await asyncio.gather(
        *(book(pool, start, student_id=f"s{1 + index % 2}") for index, start in enumerate(starts * 3)),
        *(move(pool, booking_id, start) for booking_id in booked for start in reversed(everywhere[4:])),
        *(delete(pool, slot_id, rest_after=NOW) for slot_id in reversed(ids)),
        *(offer(pool, start + 10 * HOUR) for start in starts * 2),
        return_exceptions=True,
    )
    for outcome in outcomes:
        assert not isinstance(outcome, Exception) or isinstance(outcome, Refused), repr(outcome)
    assert None in outcomes, "some were moved"


async def test_a_booked_slot_stays_and_the_free_rest_of_its_series_goes(pool: Pool) -> None:
    week = timedelta(days=7)
    series = weekly()
    first, second, third, fourth = await offer(pool, *(START + index * week for index in range(4)), series=series)
    [apart] = await offer(pool, START + 2 * HOUR)
    await book(pool, START + 2 * week)
    assert await delete(pool, third) == 0
    assert await delete(pool, second, rest_after=NOW) == 2
    assert [slot.id for slot in await slots(pool)] == [first, apart, third]
    assert await delete(pool, fourth) == 0
    assert await delete(pool, apart, rest_after=NOW) == 1
    # Those that are over stay, but for the one that was named.
    assert await delete(pool, first, rest_after=START + 10 * week) == 1
    assert [slot.id for slot in await slots(pool)] == [third]
    assert await pool.fetchval("SELECT count(*) FROM availability_series") == 1
    await pool.execute("UPDATE bookings SET status = 'cancelled'")
    assert await delete(pool, third) == 1
    assert await pool.fetchval("SELECT count(*) FROM availability_series") == 0


async def test_slots_are_listed_in_pieces_by_start(pool: Pool) -> None:
    ids = await offer(pool, *(START + index * HOUR for index in range(5)))
    [other] = await offer(pool, START + HOUR / 2, teacher_id="t2")
    everybodys = await availability.listed(pool, limit=10)
    assert [slot.id for slot in everybodys] == [ids[0], other, *ids[1:]]

    first = await availability.listed(pool, teacher_id="t1", limit=3)
    assert [slot.id for slot in first] == ids[:3]
    after = Position(start_time=first[-1].start_time, id=first[-1].id)
    assert [slot.id for slot in await availability.listed(pool, teacher_id="t1", after=after, limit=3)] == ids[3:]

    begun = await availability.listed(pool, teacher_id="t1", ends_after=START + 2 * HOUR, limit=9)
    assert [slot.id for slot in begun] == ids[2:]
    between = await availability.listed(pool, starts_from=START + HOUR, starts_before=START + 3 * HOUR, limit=9)
    assert [slot.id for slot in between] == ids[1:3]
    assert [slot.id for slot in await availability.found(pool, [ids[3], ids[1], uuid4()])] == [ids[1], ids[3]]
