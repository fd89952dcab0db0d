"""The notifier: a whole course is told once, whoever goes on with it, and old notifications go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from domain import chat, notifications, notifier
from domain.live import Live
from domain.notifications import Told
from domain.notifier import Notifier
from store import notifications as store
from store.database import Pool
from store.errors import Away
from store.ids import first_id
from store.notifications import Batch, Notification
from tests.support.lessons import book, database_pool, make_course, member
from tests.support.rooms import Seat, join, workers
from tests.support.waiting import until

DAY = timedelta(days=1)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "BATCH_PEOPLE", 3)
    monkeypatch.setattr(notifier, "BATCH_PEOPLE", 3)


async def course(pool: Pool, number: int) -> tuple[UUID, list[str]]:
    """A course with so many students, and these."""
    course_id, key = await make_course(pool), uuid4().hex[:8]
    students = [f"{key}-{place:05}" for place in range(number)]
    await pool.executemany("INSERT INTO users (id, role) VALUES ($1, 'student')", [(who,) for who in students])
    await pool.executemany(
        "INSERT INTO enrollments (course_id, user_id) VALUES ($1, $2)", [(course_id, who) for who in students]
    )
    return course_id, students


async def announce(pool: Pool, course_id: UUID, title: str = "It began") -> Told:
    async with pool.acquire() as connection, connection.transaction():
        return await notifications.to_enrolled(
            connection, course_id, kind="session_started", title=title, body="", data={}
        )


def sit(live: Live, user_id: str) -> Seat:
    """A connection of that person, in no room."""
    seat = Seat(user_id)
    live.audience.attend(seat.connection)
    return seat


def shown(seats: list[Seat]) -> list[int]:
    return [len(seat.events.of("notification")) for seat in seats]


@pytest.mark.usefixtures("small_batches")
async def test_a_course_is_told_to_its_end_as_soon_as_the_act_is_over(pool: Pool) -> None:
    course_id, students = await course(pool, 10)
    async with workers(pool, 2) as lives:
        seats = [sit(live, who) for who in students for live in lives]
        looks = [Notifier(live, None) for live in lives]
        for look in looks:
            look.start()
        notifications.push(lives[0], await announce(pool, course_id))
        await until(lambda: min(shown(seats)) == 1)
        for look in looks:
            await look.close()
        assert set(shown(seats)) == {1}
    assert await pool.fetchval("SELECT count(*) FROM notification_recipients") == 10


@pytest.mark.usefixtures("small_batches")
async def test_another_worker_goes_on_where_one_stopped_in_the_middle(pool: Pool) -> None:
    course_id, students = await course(pool, 10)
    async with workers(pool, 2) as (gone, other):
        seats = [sit(other, who) for who in students]
        notifications.push(gone, await announce(pool, course_id))
        await store.hand_on(pool, limit=3)  # written by a worker that died before it could show it
        assert await Notifier(other, None).hand_on() == 4
        assert shown(seats) == [1] * 3 + [0] * 3 + [1] * 4
    rows = await pool.fetch("SELECT user_id FROM notification_recipients ORDER BY user_id")
    assert [row["user_id"] for row in rows] == students, "whoever was not shown it has it in the list"


@pytest.mark.usefixtures("small_batches")
async def test_workers_that_go_on_at_once_tell_everybody_once(pool: Pool) -> None:
    announced = [await course(pool, 20) for _ in range(3)]
    async with workers(pool, 4) as lives:
        seats = [sit(lives[0], who) for _, students in announced for who in students]
        for course_id, _ in announced:
            notifications.push(lives[1], await announce(pool, course_id))
        told = await asyncio.gather(*(Notifier(live, None).hand_on() for live in lives))
        assert sum(told) + sum([await Notifier(live, None).hand_on() for live in lives]) == 3 * 17
        assert set(shown(seats)) == {1}


async def test_chat_goes_on_while_ten_thousand_are_told(pool: Pool) -> None:
    """Not one message waits for all of them: between two batches others have their turn."""
    course_id, students = await course(pool, 10_000)
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        for who in students:
            sit(live, who)
        last, kid = sit(live, students[-1]), await join(live, session_id, "kid")
        look = Notifier(live, None)
        look.start()
        notifications.push(live, await announce(pool, course_id))
        said = 0
        while not last.events.of("notification"):
            await chat.send(live, member(session_id, "kid"), text=f"{said}", client_id=None)
            said += 1
        await look.close()
        assert said >= 5, "an ack came between any few of the twenty batches"
        assert len(kid.events.of("newMessage")) == said
    assert await pool.fetchval("SELECT count(*) FROM notification_recipients") == 10_000


async def test_a_worker_looks_by_itself_and_goes_on_after_the_database_was_away(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_on, forget, asked = store.hand_on, store.forget, 0

    async def away_at_first(*arguments: object, **options: object) -> Batch | None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise Away("not yet")
        if asked == 2:
            raise RuntimeError("a fault of ours")
        return await hand_on(*arguments, **options)  # type: ignore[arg-type]

    failed = iter([Away("not yet"), RuntimeError("a fault of ours")])

    async def forget_later(*arguments: object, **options: object) -> int:
        for error in failed:
            raise error
        return await forget(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "hand_on", away_at_first)
    monkeypatch.setattr(store, "forget", forget_later)
    monkeypatch.setattr(notifier, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(notifier, "FORGET_SECONDS", 0.0)
    monkeypatch.setattr(notifications, "BATCH_PEOPLE", 3)
    course_id, students = await course(pool, 5)
    await keep_one(pool, datetime.now(UTC) - 3 * DAY)
    await announce(pool, course_id)
    async with workers(pool, 1) as (live,):
        seat, look = sit(live, students[-1]), Notifier(live, DAY)
        look.start()
        await seat.events.wait_for("notification")
        while await pool.fetchval("SELECT count(*) FROM notifications") > 1:  # noqa: ASYNC110  # in the database
            await asyncio.sleep(0.005)
        await look.close()


async def keep_one(pool: Pool, moment: datetime) -> None:
    one = Notification(id=first_id(moment), kind="booking_created", title="t", body="b", data={}, created_at=moment)
    async with pool.acquire() as connection, connection.transaction():
        await store.add(connection, [(one, ["kid", "teach"])])


async def test_what_is_older_than_the_retention_goes_and_without_one_nothing_does(pool: Pool) -> None:
    now = datetime(2030, 1, 7, tzinfo=UTC)
    for age in (1, 179, 181, 400):
        await keep_one(pool, now - age * DAY)
    async with workers(pool, 1) as (live,):
        assert await Notifier(live, None, clock=lambda: now).forget() == 0
        assert await Notifier(live, 180 * DAY, clock=lambda: now).forget() == 2 * 3
    assert len((await store.page(pool, "kid", limit=10)).received) == 2
