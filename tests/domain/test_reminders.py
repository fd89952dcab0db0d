"""Reminders: every person of a lesson is told once, whichever worker looks, and of what is true then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from domain import reminders
from domain.live import Live
from domain.reminders import Reminders, reminders_of
from store import notifications
from store import reminders as store
from store.bookings import Status
from store.database import Pool
from store.errors import Away
from store.reminders import DueLesson
from tests.support.lessons import book, database_pool
from tests.support.rooms import Exchange, Seat, workers

MINUTE = timedelta(minutes=1)
START = datetime(2030, 1, 7, 9, 0, tzinfo=UTC)
LEAD = 15 * MINUTE
LESSON = DueLesson(
    booking_id=uuid4(),
    start_time=START,
    title="Fractions",
    student_id="kid",
    teacher_id="teach",
    parent_id="gran",
    student_parent_id="mum",
    student_name="Kid",
    teacher_name="Teach",
)


class Clock:
    """What time it is, as the test says."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def lesson(pool: Pool, start: datetime = START, status: Status = "confirmed") -> UUID:
    booking_id = await book(pool, status=status)
    await move(pool, booking_id, start)
    return booking_id


async def move(pool: Pool, booking_id: UUID, start: datetime) -> None:
    await pool.execute(
        "UPDATE bookings SET start_time = $2, end_time = $3 WHERE id = $1", booking_id, start, start + 50 * MINUTE
    )


def sit(live: Live, user_id: str) -> Seat:
    """A connection of that person, in no room."""
    seat = Seat(user_id)
    live.audience.attend(seat.connection)
    return seat


def titles(seat: Seat) -> list[str]:
    return [notification["title"] for notification in seat.events.of("notification")]


async def test_everybody_in_a_lesson_is_told_on_all_their_connections_and_on_every_worker(pool: Pool) -> None:
    booking_id = await lesson(pool)
    async with workers(pool, 2) as (one, other):
        seats = [sit(live, who) for who in ("kid", "mum", "gran", "teach") for live in (one, other)]
        strangers = [sit(one, who) for who in ("kid2", "teach2", "boss")]
        clock = Clock(START - LEAD)
        assert await Reminders(one, LEAD, clock=clock).remind() == 1
        assert await Reminders(other, LEAD, clock=clock).remind() == 0
        for seat in seats:
            [told] = seat.events.of("notification")
            assert told.pop("id")
            assert told == {
                "kind": "session_reminder",
                "title": "Your lesson starts in 15 minutes",
                "body": {"kid": "With Teach", "teach": "With Kid"}.get(seat.user_id, "Kid with Teach"),
                "data": {
                    "booking_id": str(booking_id),
                    "session_id": str(booking_id),
                    "start_time": "2030-01-07T09:00:00Z",
                },
                "read": False,
                "created_at": "2030-01-07T08:45:00Z",
            }
        assert all(seat.events.all == [] for seat in strangers)


async def test_whoever_is_not_there_finds_the_reminder_in_their_list(pool: Pool) -> None:
    booking_id = await lesson(pool)
    async with workers(pool, 1) as (live,):
        await Reminders(live, LEAD, clock=Clock(START - LEAD)).remind()
    for who in ("kid", "mum", "gran", "teach"):
        page = await notifications.page(pool, who, limit=10)
        [received] = page.received
        assert (received.notification.kind, received.read, page.unread) == ("session_reminder", False, 1)
        assert received.notification.data["booking_id"] == str(booking_id)
    assert (await notifications.page(pool, "boss", limit=10)).received == []


async def test_a_claim_whose_reminders_cannot_be_stored_is_none(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*arguments: object) -> None:
        raise Away("in this very moment")

    await lesson(pool)
    async with workers(pool, 1) as (live,):
        seat, look = sit(live, "kid"), Reminders(live, LEAD, clock=Clock(START - LEAD))
        with monkeypatch.context() as patched:
            patched.setattr(notifications, "add", away)
            with pytest.raises(Away):
                await look.remind()
        assert seat.events.all == []
        assert await look.remind() == 1
        assert len(titles(seat)) == 1


async def test_after_a_restart_nobody_is_told_again(pool: Pool) -> None:
    await lesson(pool)
    for expected in (1, 0, 0):
        async with workers(pool, 1) as (live,):
            assert await Reminders(live, LEAD, clock=Clock(START - MINUTE)).remind() == expected


async def test_many_workers_that_look_at_once_tell_once(pool: Pool) -> None:
    for hour in range(3):
        await lesson(pool, START + timedelta(hours=hour))
    async with workers(pool, 4) as lives:
        seat = sit(lives[0], "kid")
        looks = [Reminders(live, timedelta(hours=5), clock=Clock(START - MINUTE)) for live in lives]
        assert sum(await asyncio.gather(*(look.remind() for look in looks))) <= 3
        await looks[0].remind()
        assert len(titles(seat)) == 3


async def test_a_lesson_that_was_moved_is_announced_before_its_new_start(pool: Pool) -> None:
    booking_id = await lesson(pool)
    clock = Clock(START - LEAD)
    async with workers(pool, 1) as (live,):
        seat, look = sit(live, "kid"), Reminders(live, LEAD, clock=clock)
        await look.remind()
        later = START + timedelta(days=1)
        await move(pool, booking_id, later)
        for now, told in ((START - MINUTE, 1), (later - 16 * MINUTE, 1), (later - LEAD, 2), (later - MINUTE, 2)):
            clock.now = now
            await look.remind()
            assert len(titles(seat)) == told, now


async def test_a_lesson_that_was_cancelled_is_not_announced(pool: Pool) -> None:
    booking_id = await lesson(pool)
    async with workers(pool, 1) as (live,):
        clock = Clock(START - 16 * MINUTE)
        look = Reminders(live, LEAD, clock=clock)
        assert await look.remind() == 0
        await pool.execute("UPDATE bookings SET status = 'cancelled' WHERE id = $1", booking_id)
        clock.now = START - LEAD
        assert await look.remind() == 0


async def test_more_lessons_than_fit_in_one_claim_are_all_announced(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reminders, "MAX_CLAIMED", 2)
    for hour in range(5):
        await lesson(pool, START + timedelta(hours=hour))
    async with workers(pool, 1) as (live,):
        assert await Reminders(live, timedelta(hours=9), clock=Clock(START - MINUTE)).remind() == 5


async def test_a_worker_looks_by_itself_and_goes_on_after_the_database_was_away(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, asked = store.claim, 0

    async def away_at_first(*arguments: object, **options: object) -> list[DueLesson]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise Away("not yet")
        if asked == 2:
            raise RuntimeError("a fault of ours")
        return await claim(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "claim", away_at_first)
    monkeypatch.setattr(reminders, "LOOK_SECONDS", 0.0)
    await lesson(pool)
    async with workers(pool, 1) as (live,):
        seat, look = sit(live, "kid"), Reminders(live, LEAD, clock=Clock(START - MINUTE))
        look.start()
        await seat.events.wait_for("notification")
        await look.close()
        assert titles(seat) == ["Your lesson starts in a minute"]


def bus_is_away(exchange: Exchange, away: bool) -> None:
    exchange.cut = away
    for bus in exchange.buses:
        bus.connected = not away


async def test_while_the_bus_is_away_a_lesson_waits_for_it_and_then_everybody_is_told(pool: Pool) -> None:
    await lesson(pool)
    exchange = Exchange()
    async with workers(pool, 2, exchange) as (one, other):
        seat, clock = sit(other, "kid"), Clock(START - LEAD)
        look = Reminders(one, LEAD, clock=clock)
        bus_is_away(exchange, True)
        assert await look.remind() == 0
        bus_is_away(exchange, False)
        # The others may not be back yet.
        assert (await look.remind(), await look.remind()) == (0, 1)
        assert titles(seat) == ["Your lesson starts in 15 minutes"]


@pytest.mark.parametrize(("lead", "last"), [(LEAD, reminders.ALONE), (2 * MINUTE, MINUTE)])
async def test_a_lesson_does_not_wait_for_the_bus_for_ever(pool: Pool, lead: timedelta, last: timedelta) -> None:
    await lesson(pool)
    exchange = Exchange()
    async with workers(pool, 2, exchange) as (one, other):
        here, elsewhere, clock = sit(one, "kid"), sit(other, "teach"), Clock(START - last - MINUTE / 2)
        look = Reminders(one, lead, clock=clock)
        bus_is_away(exchange, True)
        assert await look.remind() == 0
        clock.now = START - last
        assert await look.remind() == 1
        assert (len(titles(here)), titles(elsewhere)) == (1, [])


async def test_a_worker_that_leaves_tells_what_it_has_claimed(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    claim, claimed, answered = store.claim, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: object, **options: object) -> list[DueLesson]:
        due = await claim(*arguments, **options)  # type: ignore[arg-type]
        claimed.set()
        await answered.wait()
        return due

    monkeypatch.setattr(store, "claim", slow)
    monkeypatch.setattr(reminders, "LOOK_SECONDS", 0.0)
    await lesson(pool)
    async with workers(pool, 1) as (live,):
        seat, look = sit(live, "kid"), Reminders(live, LEAD, clock=Clock(START - MINUTE))
        look.start()
        await claimed.wait()
        closing = asyncio.create_task(look.close())
        await asyncio.sleep(0)
        assert not closing.done()
        answered.set()
        await closing
        assert len(titles(seat)) == 1


async def test_a_look_that_does_not_end_is_cut(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    looking = asyncio.Event()

    async def stuck(*_arguments: object, **_options: object) -> list[DueLesson]:
        looking.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(store, "claim", stuck)
    monkeypatch.setattr(reminders, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(reminders, "CLOSE_SECONDS", 0.05)
    async with workers(pool, 1) as (live,):
        look = Reminders(live, LEAD)
        look.start()
        await looking.wait()
        await look.close()


def test_nobody_is_told_twice_of_one_lesson() -> None:
    both = replace(LESSON, parent_id="mum", student_parent_id="mum")
    assert [told.user_ids for told in reminders_of(both, START - MINUTE)] == [["kid"], ["teach"], ["mum"]]
    alone = replace(LESSON, parent_id=None, student_parent_id=None)
    assert [told.user_ids for told in reminders_of(alone, START - MINUTE)] == [["kid"], ["teach"]]
    assert [told.user_ids for told in reminders_of(LESSON, START - MINUTE)] == [["kid"], ["teach"], ["gran", "mum"]]


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (timedelta(seconds=30), "a minute"),
        (14 * MINUTE + timedelta(seconds=51), "15 minutes"),
        (90 * MINUTE, "90 minutes"),
        (timedelta(hours=24), "24 hours"),
        (timedelta(days=7), "7 days"),
    ],
)
def test_the_title_says_how_soon(before: timedelta, words: str) -> None:
    told = next(reminders_of(LESSON, START - before))
    assert told.notification.title == f"Fractions starts in {words}"
