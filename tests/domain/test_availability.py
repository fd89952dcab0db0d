"""Availability: the weekly series across clock changes, and bookings and slots together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain import availability, booking_rules, bookings, sessions, wall_clock
from domain.availability import MAX_AHEAD, MAX_LENGTH, MAX_SERIES_SLOTS, MIN_LENGTH, Weekly
from domain.booking_rules import BookingChange, NewBooking, Repeat
from domain.errors import BadRequest, Conflict, EncountersError, Forbidden, NotFound
from domain.live import Live
from realtime.bus import LocalBus
from store import availability as store
from store.bookings import Span
from store.database import Pool
from tests.support.lessons import database_pool, identity, member
from tests.support.rooms import workers

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)  # a Monday
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)

#: Clocks that change in either half of the year, by half an hour, at midnight, not at all, and far from UTC.
ZONES = (
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Australia/Sydney", "America/Santiago",
    "Africa/Cairo", "Asia/Kolkata", "Pacific/Kiritimati", "Pacific/Apia", "UTC",
)  # fmt: skip


def weekly(
    weekday: int = 1,
    start: time = time(9),
    end: time = time(10),
    zone: str = "Europe/Berlin",
    until: date | None = None,
) -> Weekly:
    return Weekly(weekday=weekday, start=start, end=end, timezone=zone, until=until or date(2026, 6, 30))


# Who may


def test_a_teacher_publishes_their_own_availability_and_admins_everybodys() -> None:
    availability.check_may_publish(identity("teach"), "teach")
    availability.check_may_publish(identity("boss"), "teach")
    for someone in (identity("teach2"), identity("kid"), identity("mum"), identity("teach", "student")):
        with pytest.raises(Forbidden):
            availability.check_may_publish(someone, "teach")


# One slot


@pytest.mark.parametrize(
    ("start", "length", "wrong"),
    [
        (NOW, MIN_LENGTH - MINUTE, "end_time"),
        (NOW, timedelta(0), "end_time"),
        (NOW, -HOUR, "end_time"),
        (NOW, MAX_LENGTH + MINUTE, "end_time"),
        (NOW - 2 * MINUTE, HOUR, "start_time"),
        (NOW + MAX_AHEAD + MINUTE, HOUR, "start_time"),
    ],
)
def test_a_time_that_cannot_be_a_slot_is_refused(start: datetime, length: timedelta, wrong: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        availability.check_time(start, start + length, NOW)
    assert list(refusal.value.fields or {}) == [wrong]


def test_the_bounds_themselves_are_allowed() -> None:
    availability.check_time(NOW - MINUTE, NOW - MINUTE + MIN_LENGTH, NOW)
    availability.check_time(NOW + MAX_AHEAD, NOW + MAX_AHEAD + MAX_LENGTH, NOW)


# A series


def hours(spans: Iterable[Span], zone: str = "Europe/Berlin") -> list[tuple[str, str]]:
    """When they begin on the wall, and how long they last."""
    return [(f"{start.astimezone(ZoneInfo(zone)):%d.%m. %H:%M}", str(end - start)) for start, end in spans]


def test_a_series_keeps_the_wall_time_when_the_clock_goes_back() -> None:
    now = datetime(2026, 10, 12, tzinfo=UTC)
    spans = availability.spans_of(weekly(until=date(2026, 11, 2)), now)
    assert [start.hour for start, _ in spans] == [7, 7, 8, 8]
    assert hours(spans) == [(f"{day} 09:00", "1:00:00") for day in ("12.10.", "19.10.", "26.10.", "02.11.")]


def test_a_slot_across_a_change_begins_and_ends_when_the_clock_says_so() -> None:
    sunday = weekly(7, time(1), time(4), until=date(2026, 11, 1))
    spans = availability.spans_of(sunday, datetime(2026, 10, 12, tzinfo=UTC))
    assert hours(spans) == [("18.10. 01:00", "3:00:00"), ("25.10. 01:00", "4:00:00"), ("01.11. 01:00", "3:00:00")]
    sunday = weekly(7, time(1), time(4), until=date(2027, 4, 4))
    spans = availability.spans_of(sunday, datetime(2027, 3, 15, tzinfo=UTC))
    assert hours(spans) == [("21.03. 01:00", "3:00:00"), ("28.03. 01:00", "2:00:00"), ("04.04. 01:00", "3:00:00")]


def test_a_wall_time_that_comes_twice_makes_one_slot_at_the_first() -> None:
    spans = availability.spans_of(
        weekly(7, time(2, 15), time(2, 45), until=date(2026, 10, 25)), datetime(2026, 10, 20, tzinfo=UTC)
    )
    assert spans == [(datetime(2026, 10, 25, 0, 15, tzinfo=UTC), datetime(2026, 10, 25, 0, 45, tzinfo=UTC))]


@pytest.mark.parametrize(("start", "end"), [(time(2, 30), time(3, 30)), (time(1, 30), time(2, 30))])
def test_a_day_on_which_the_clock_skips_a_wall_time_has_no_slot(start: time, end: time) -> None:
    series = weekly(7, start, end, until=date(2027, 4, 4))
    spans = availability.spans_of(series, datetime(2027, 3, 15, tzinfo=UTC))
    assert [begins.astimezone(ZoneInfo("Europe/Berlin")).day for begins, _ in spans] == [21, 4]


def test_a_slot_may_end_at_midnight() -> None:
    sunday = weekly(7, time(20), time(0), until=date(2026, 10, 25))
    spans = availability.spans_of(sunday, datetime(2026, 10, 12, tzinfo=UTC))
    assert hours(spans) == [("18.10. 20:00", "4:00:00"), ("25.10. 20:00", "4:00:00")]
    # In Santiago, the hour before this midnight comes twice.
    zone = "America/Santiago"
    saturday = weekly(6, time(21), time(0), zone=zone, until=date(2026, 4, 5))
    spans = availability.spans_of(saturday, datetime(2026, 3, 30, tzinfo=UTC))
    assert hours(spans, zone) == [("04.04. 21:00", "4:00:00")]
    sunday = weekly(7, time(12), time(0), until=date(2027, 3, 28))
    assert availability.spans_of(sunday, datetime(2027, 3, 22, tzinfo=UTC)) == [
        (datetime(2027, 3, 28, 10, tzinfo=UTC), datetime(2027, 3, 28, 22, tzinfo=UTC))
    ]
    for start in (time(0), time(11, 59)):
        with pytest.raises(BadRequest) as refusal:
            availability.spans_of(weekly(7, start, time(0)), NOW)
        assert list(refusal.value.fields or {}) == ["weekly.end"]


def test_a_series_begins_with_the_next_slot_that_has_not_begun() -> None:
    monday = NOW.date()
    for start, first in ((time(14), monday), (time(13, 59), monday + WEEK)):  # Berlin is two hours ahead
        series = weekly(1, start, time(15))
        assert availability.spans_of(series, NOW)[0][0].date() == first


@pytest.mark.parametrize(
    ("series", "wrong"),
    [
        (weekly(zone="Mars/Olympus"), ["weekly.timezone"]),
        (weekly(zone=""), ["weekly.timezone"]),
        (weekly(start=time(10), end=time(9)), ["weekly.end"]),
        (weekly(start=time(9), end=time(9)), ["weekly.end"]),
        (weekly(start=time(9), end=time(21, 1)), ["weekly.end"]),
        (weekly(until=date(2026, 5, 3)), ["weekly.until"]),
        (weekly(until=date(1, 1, 1)), ["weekly.until"]),
        (weekly(until=NOW.date() + (MAX_SERIES_SLOTS + 1) * WEEK), ["weekly.until"]),
        (weekly(until=date(9999, 12, 31)), ["weekly.until"]),
        (weekly(zone="x", end=time(9), until=date(9999, 12, 31)), ["weekly.timezone", "weekly.end", "weekly.until"]),
    ],
)
def test_a_series_that_makes_no_sense_is_named(series: Weekly, wrong: list[str]) -> None:
    with pytest.raises(BadRequest) as refusal:
        availability.spans_of(series, NOW)
    assert list(refusal.value.fields or {}) == wrong


def test_a_year_of_one_weekday_is_one_series() -> None:
    series = weekly(start=time(15), end=time(16), until=NOW.date() + (MAX_SERIES_SLOTS - 1) * WEEK)
    assert len(availability.spans_of(series, NOW)) == MAX_SERIES_SLOTS


def first_showing(wall: datetime, zone: ZoneInfo) -> datetime | None:
    """By looking at the clock: when it first shows a date and time, minute by minute through that day and around it."""
    moment = wall.replace(tzinfo=UTC) - timedelta(hours=16)
    # A clock is at most 16 hours off, and changes by whole minutes: a quarter of an hour is the smallest step in use.
    for _ in range(32 * 4 + 1):
        if moment.astimezone(zone).replace(tzinfo=None, fold=0) == wall:
            return moment
        moment += timedelta(minutes=15)
    return None


#: Five years of moments, and those of them that a clock somewhere shows at a full quarter.
moments = st.integers(0, 5 * 366 * 24 * 60).map(lambda minutes: datetime(2024, 1, 1, tzinfo=UTC) + minutes * MINUTE)
quarter_hours = st.integers(0, 5 * 366 * 24 * 4).map(lambda count: datetime(2024, 1, 1, tzinfo=UTC) + count * HOUR / 4)
quarters = st.builds(time, st.integers(0, 23), st.sampled_from((0, 15, 30, 45)))


@settings(max_examples=200)
@given(
    zone=st.sampled_from(ZONES),
    now=moments,
    weekday=st.integers(1, 7),
    walls=st.tuples(quarters, quarters),
    to_midnight=st.booleans(),
    days=st.integers(0, 200),
)
@example(
    zone="Africa/Cairo", now=datetime(2026, 4, 1, tzinfo=UTC), weekday=5, walls=(time(0), time(1)),
    to_midnight=False, days=60,
)  # fmt: skip
@example(
    zone="America/Santiago", now=datetime(2026, 8, 20, tzinfo=UTC), weekday=7, walls=(time(0, 30), time(5)),
    to_midnight=False, days=60,
)  # fmt: skip
@example(
    zone="America/Santiago", now=datetime(2026, 8, 20, tzinfo=UTC), weekday=6, walls=(time(21), time(22)),
    to_midnight=True, days=60,
)  # fmt: skip
@example(
    zone="Australia/Lord_Howe", now=datetime(2026, 9, 20, tzinfo=UTC), weekday=7, walls=(time(1), time(2, 15)),
    to_midnight=False, days=60,
)  # fmt: skip
@example(
    zone="Europe/Berlin", now=datetime(2026, 10, 20, tzinfo=UTC), weekday=7, walls=(time(2, 30), time(3)),
    to_midnight=False, days=60,
)  # fmt: skip
def test_a_series_is_what_somebody_with_a_clock_and_a_calendar_writes_down(
    zone: str, now: datetime, weekday: int, walls: tuple[time, time], to_midnight: bool, days: int
) -> None:
    start, end = min(walls), max(walls)
    if to_midnight:
        end = time(0)
    days_over = timedelta(days=end == time(0))
    until = now.date() + timedelta(days=days)
    expected = []
    for shift in range(-2, days + 1):
        day = now.date() + timedelta(days=shift)
        if day.isoweekday() != weekday:
            continue
        begins = first_showing(datetime.combine(day, start), ZoneInfo(zone))
        ends = first_showing(datetime.combine(day + days_over, end), ZoneInfo(zone))
        if begins is not None and ends is not None and begins >= now:
            expected.append((begins, ends))
    series = weekly(weekday, start, end, zone, until)
    length = datetime.combine(until + days_over, end) - datetime.combine(until, start)
    if expected and MIN_LENGTH <= length <= MAX_LENGTH:
        assert list(availability.spans_of(series, now)) == expected
    else:
        with pytest.raises(BadRequest):
            availability.spans_of(series, now)


@settings(max_examples=200)
@given(
    zone=st.sampled_from(ZONES),
    start=quarter_hours,
    weeks=st.integers(1, 52),
)
def test_a_repeated_lesson_shows_the_same_wall_time_wherever_there_is_one(
    zone: str, start: datetime, weeks: int
) -> None:
    starts = wall_clock.weekly_from(start, weeks, ZoneInfo(zone))
    assert len(starts) == weeks
    assert starts[0] == start
    wall = start.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)
    for week, moment in enumerate(starts[1:], 1):
        first = first_showing(wall + week * WEEK, ZoneInfo(zone))
        if first is not None:
            assert moment == first
        else:
            # Skipped: later by as much as the clock goes forward.
            shown = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
            assert timedelta(0) < shown - (wall + week * WEEK) <= 24 * HOUR


def test_a_lesson_that_the_clock_skips_is_later_that_day() -> None:
    start = datetime(2027, 3, 21, 1, 30, tzinfo=UTC)  # 02:30 in Berlin
    moments = wall_clock.weekly_from(start, 3, ZoneInfo("Europe/Berlin"))
    shown = [f"{moment.astimezone(ZoneInfo('Europe/Berlin')):%d.%m. %H:%M}" for moment in moments]
    assert shown == ["21.03. 02:30", "28.03. 03:30", "04.04. 02:30"]


# Bookings and slots together


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


def live_side(pool: Pool) -> Live:
    """A worker to which nobody is connected."""
    return Live(pool, LocalBus(), uuid4())


#: An hour for whose sake nobody waits, in which nothing becomes past while a test runs. No clock skips it.
BASE = (datetime.now(UTC) + timedelta(days=10)).replace(hour=12, minute=0, second=0, microsecond=0)


def lesson(start: datetime, end: datetime, *, student: str = "kid", teacher: str = "teach") -> NewBooking:
    return NewBooking(student_id=student, teacher_id=teacher, start_time=start, end_time=end)


async def offer(pool: Pool, *starts: datetime, length: timedelta = HOUR) -> list[UUID]:
    return [await availability.publish(pool, identity("teach"), "teach", start, start + length) for start in starts]


async def refusal_of(act: Awaitable[object]) -> str:
    with pytest.raises(EncountersError) as refusal:
        await act
    return refusal.value.code


async def test_one_books_inside_a_free_slot_or_not_at_all(pool: Pool) -> None:
    live = live_side(pool)
    await offer(pool, BASE, length=2 * HOUR)
    assert await refusal_of(bookings.book(live, identity("kid"), lesson(BASE + 2 * HOUR, BASE + 3 * HOUR))) == (
        "not_available"
    )
    await bookings.book(live, identity("kid"), lesson(BASE, BASE + HOUR))
    assert await refusal_of(bookings.book(live, identity("boss"), lesson(BASE + HOUR, BASE + 2 * HOUR))) == (
        "not_available"
    )
    assert await refusal_of(bookings.book(live, identity("boss"), lesson(BASE, BASE + HOUR))) == "slot_taken"
    # Others publish nothing, so that they can be asked for any time.
    await bookings.book(
        live, identity("kid2"), lesson(BASE + 2 * HOUR, BASE + 3 * HOUR, student="kid2", teacher="teach2")
    )


async def test_a_lesson_is_moved_within_its_own_slot_and_into_another_free_one(pool: Pool) -> None:
    live = live_side(pool)
    await offer(pool, BASE, BASE + 2 * HOUR, length=2 * HOUR)
    booking_id = await bookings.book(live, identity("kid"), lesson(BASE, BASE + HOUR))
    for shift in (1, 2):
        change = BookingChange(start_time=BASE + shift * HOUR, end_time=BASE + (shift + 1) * HOUR)
        moved = await bookings.change(live, identity("kid"), booking_id, change)
        assert (moved.start_time, moved.status) == (BASE + shift * HOUR, "pending")
    outside = BookingChange(start_time=BASE + 4 * HOUR, end_time=BASE + 5 * HOUR)
    assert await refusal_of(bookings.change(live, identity("teach"), booking_id, outside)) == "not_available"


async def test_weekly_lessons_are_all_made_or_none_and_each_obstacle_is_named(pool: Pool) -> None:
    live = live_side(pool)
    await offer(pool, BASE, BASE + WEEK, BASE + 3 * WEEK)
    await bookings.book(live, identity("kid2"), lesson(BASE + WEEK, BASE + WEEK + HOUR, student="kid2"))
    for weeks, conflicts in (
        (2, [(1, "slot_taken")]),
        (4, [(1, "slot_taken"), (2, "not_available")]),
    ):
        with pytest.raises(Conflict) as refusal:
            await bookings.book_weekly(
                live, identity("kid"), lesson(BASE, BASE + HOUR), Repeat(weeks=weeks, timezone="UTC")
            )
        assert refusal.value.code == "slot_taken"
        assert refusal.value.document()["conflicts"] == [
            {"start_time": BASE + week * WEEK, "error": error} for week, error in conflicts
        ]
        assert await pool.fetchval("SELECT count(*) FROM bookings WHERE student_id = 'kid'") == 0
        assert await pool.fetchval("SELECT count(*) FROM sessions") == 1
    await bookings.book_weekly(live, identity("kid"), lesson(BASE, BASE + HOUR), Repeat(weeks=1, timezone="UTC"))


async def test_a_year_of_lessons_is_booked_at_once(pool: Pool) -> None:
    live = live_side(pool)
    repeat = Repeat(weeks=booking_rules.MAX_WEEKS, timezone="America/New_York")
    made = await bookings.book_weekly(live, identity("mum"), lesson(BASE, BASE + HOUR), repeat)
    rows = await pool.fetch(
        "SELECT b.id, b.start_time, b.parent_id FROM bookings b JOIN sessions s ON s.booking_id = b.id"
        " AND s.starts_at = b.start_time ORDER BY b.start_time"
    )
    assert [row["id"] for row in rows] == list(made)
    assert {row["parent_id"] for row in rows} == {"mum"}
    zone = ZoneInfo("America/New_York")
    assert {row["start_time"].astimezone(zone).time() for row in rows} == {BASE.astimezone(zone).time()}


@pytest.mark.parametrize(
    ("start", "repeat", "wrong"),
    [
        (BASE, Repeat(weeks=2, timezone="Nowhere"), "repeat.timezone"),
        (datetime(9998, 12, 31, 12, tzinfo=UTC), Repeat(weeks=2, timezone="UTC"), "repeat.weeks"),
    ],
)
def test_a_repetition_that_makes_no_sense_is_named(start: datetime, repeat: Repeat, wrong: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        booking_rules.starts_of(start, repeat)
    assert list(refusal.value.fields or {}) == [wrong]


async def test_a_series_that_overlaps_is_not_made_and_the_dates_are_named(pool: Pool) -> None:
    await offer(pool, BASE + WEEK)
    series = Weekly(
        weekday=BASE.isoweekday(),
        start=BASE.time(),
        end=time(BASE.hour, 30),
        timezone="UTC",
        until=BASE.date() + 2 * WEEK,
    )
    with pytest.raises(Conflict) as refusal:
        await availability.publish_weekly(pool, identity("teach"), "teach", series)
    assert refusal.value.code == "availability_overlaps"
    assert refusal.value.conflicts == [{"start_time": BASE + WEEK, "error": "availability_overlaps"}]
    assert len(await store.listed(pool, limit=9)) == 1
    [free] = await store.listed(pool, limit=9)
    await availability.delete(pool, identity("teach"), free.id)
    slots = await availability.publish_weekly(pool, identity("teach"), "teach", series)
    assert [slot.start_time for slot in slots][-3:] == [BASE, BASE + WEEK, BASE + 2 * WEEK]
    assert len({slot.series_id for slot in slots}) == 1


async def test_slots_are_for_known_teachers(pool: Pool) -> None:
    for teacher_id in ("nobody", "kid", "boss"):
        with pytest.raises(BadRequest) as refusal:
            await availability.publish(pool, identity("boss"), teacher_id, BASE, BASE + HOUR)
        assert list(refusal.value.fields or {}) == ["teacher_id"]


async def test_a_slot_that_is_gone_is_404(pool: Pool) -> None:
    [slot_id] = await offer(pool, BASE)
    for someone in (identity("teach2"), identity("kid")):
        with pytest.raises(Forbidden):
            await availability.delete(pool, someone, slot_id)
    assert await availability.delete(pool, identity("boss"), slot_id) == 1
    with pytest.raises(NotFound):
        await availability.delete(pool, identity("teach"), slot_id)


async def test_a_longer_series_of_lessons_takes_no_more_statements(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are made while the teacher's others wait."""
    statements: list[str] = []
    execute = asyncpg.Connection.execute

    async def counted(connection: Any, query: str, *arguments: Any, **options: Any) -> str:
        statements.append(query)
        return await execute(connection, query, *arguments, **options)

    monkeypatch.setattr(asyncpg.Connection, "execute", counted)
    counts = []
    for weeks, teacher in ((2, "teach"), (50, "teach2")):
        statements.clear()
        await bookings.book_weekly(
            live_side(pool),
            identity("kid2"),
            lesson(BASE + weeks * HOUR, BASE + (weeks + 1) * HOUR, student="kid2", teacher=teacher),
            Repeat(weeks=weeks, timezone="UTC"),
        )
        counts.append(len(statements))
    assert counts[0] == counts[1] > 0


async def test_changes_of_bookings_and_sessions_offers_and_deletions_at_once_never_deadlock(pool: Pool) -> None:
    starts = [BASE + 2 * index * HOUR for index in range(6)]
    ids = await offer(pool, *starts)
    made = [
        await bookings.book(live_side(pool), identity(student), lesson(start, start + HOUR, student=student))
        for start, student in zip(starts, ("kid", "kid2", "kid", "kid2"), strict=False)
    ]
    confirm, cancel = BookingChange(status="confirmed"), BookingChange(status="cancelled")
    moves = [BookingChange(start_time=start, end_time=start + HOUR) for start in starts]
    async with workers(pool, 1) as (live,):
        outcomes = await asyncio.gather(
            *(
                act
                for booking_id in made
                for act in (
                    bookings.change(live, identity("teach"), booking_id, confirm),
                    *(bookings.change(live, identity("boss"), booking_id, move) for move in reversed(moves)),
                    sessions.move(live, member(booking_id, "teach"), "live"),
                    sessions.move(live, member(booking_id, "boss"), "ended"),
                    bookings.change(live, identity("teach"), booking_id, cancel),
                )
            ),
            *(availability.delete(pool, identity("teach"), slot_id) for slot_id in ids),
            *(offer(pool, start + HOUR) for start in starts),
            return_exceptions=True,
        )
    for outcome in outcomes:
        assert not isinstance(outcome, BaseException) or isinstance(outcome, Conflict), repr(outcome)
    rows = await pool.fetch("SELECT b.status, s.status AS session FROM bookings b JOIN sessions s ON s.id = b.id")
    assert len(rows) == len(made)
    for row in rows:
        assert (row["status"] in ("completed", "cancelled")) == (row["session"] == "ended"), row
