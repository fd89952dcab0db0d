"""Notifications: stored with the act, shown to everybody of theirs who is there, on every worker, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from domain import notifications
from domain.audience import PEOPLE_CHANNEL
from domain.errors import NotFound
from domain.live import Live
from domain.notifications import Told
from realtime.bus import LocalBus
from realtime.events import Event
from realtime.frames import Frame
from store import notifications as store
from store.database import Pool
from tests.support.lessons import database_pool, identity, make_course
from tests.support.rooms import Seat, workers


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


def sit(live: Live, user_id: str) -> Seat:
    """A connection of that person, in no room."""
    seat = Seat(user_id)
    live.audience.attend(seat.connection)
    return seat


async def tell(pool: Pool, *user_ids: str, title: str = "A lesson was booked") -> Told:
    async with pool.acquire() as connection, connection.transaction():
        return await notifications.to_people(
            connection, user_ids, kind="booking_created", title=title, body="Kid with Teach", data={"booking_id": "b"}
        )


async def test_everybody_who_is_there_is_shown_it_once_on_each_device(pool: Pool) -> None:
    async with workers(pool, 2) as (one, other):
        seats = [sit(live, who) for who in ("kid", "mum") for live in (one, one, other)]
        stranger = sit(one, "kid2")
        told = await tell(pool, "kid", "mum", "kid", "gran")
        assert all(seat.events.all == [] for seat in seats), "before the commit nobody is told"
        notifications.push(one, told)
        [shown] = {str(seat.events.of("notification")) for seat in seats}
        [received] = (await store.page(pool, "gran", limit=10)).received
        assert seats[0].events.of("notification") == [
            {
                "id": str(received.notification.id),
                "kind": "booking_created",
                "title": "A lesson was booked",
                "body": "Kid with Teach",
                "data": {"booking_id": "b"},
                "read": False,
                "created_at": received.notification.created_at.isoformat().replace("+00:00", "Z"),
            }
        ], shown
        assert stranger.events.all == []


async def test_nobody_to_tell_leaves_nothing_behind(pool: Pool) -> None:
    async with workers(pool, 1) as (live,):
        notifications.push(live, await tell(pool))
    assert await pool.fetchval("SELECT count(*) FROM notifications") == 0


class Overheard(LocalBus):
    """Writes down what is published about people."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[Event] = []

    def publish(self, channel: str, event: Event) -> None:
        if channel == PEOPLE_CHANNEL:
            self.published.append(event)
        super().publish(channel, event)


async def test_many_people_are_one_message_of_the_bus_and_one_frame(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "BATCH_PEOPLE", 3)
    bus = Overheard()
    live = Live(pool, bus, uuid4())
    await bus.subscribe(PEOPLE_CHANNEL, live.audience._hear)
    frames: list[Frame] = []
    seats = [sit(live, f"s{number}") for number in range(7)]
    for seat in seats:
        monkeypatch.setattr(seat, "send", frames.append)
    notification = notifications.compose(
        [f"s{number}" for number in range(7)], kind="session_started", title="It began", body="", data={}
    )
    notifications.push(live, notification)
    assert len(bus.published) == 3
    assert len(frames) == 7
    assert len(set(map(id, frames))) == 3
    assert all(bytes(event.json).count(b"It began") == 1 for event in bus.published)


async def test_a_course_is_told_in_one_batch_and_word_is_left_of_the_rest(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "BATCH_PEOPLE", 2)
    course_id = await make_course(pool, students=["kid", "kid2", "mum"])
    woken = []
    async with workers(pool, 1) as (live,):
        live.more_to_tell = lambda: woken.append(True)
        seats = {who: sit(live, who) for who in ("kid", "kid2", "mum", "teach")}
        for but, first, more in ((None, ["kid", "kid2"], True), ("kid2", ["kid", "mum"], True)):
            woken.clear()
            async with pool.acquire() as connection, connection.transaction():
                told = await notifications.to_enrolled(
                    connection, course_id, kind="session_started", title="It began", body="", data={}, but=but
                )
            notifications.push(live, told)
            assert (told.user_ids, bool(woken)) == (first, more)
        assert [len(seats[who].events.of("notification")) for who in ("kid", "kid2", "mum", "teach")] == [2, 1, 1, 0]


async def test_reading_on_one_device_is_told_to_all_of_them_when_it_changes_something(pool: Pool) -> None:
    async with workers(pool, 2) as (one, other):
        devices, teacher = [sit(one, "kid"), sit(other, "kid")], sit(one, "teach")
        told = await tell(pool, "kid", "teach")
        for _ in range(2):
            document = await notifications.mark(one, identity("kid"), told.notification.id, read=True)
            assert (document["id"], document["read"]) == (told.notification.id, True)
        await notifications.mark(one, identity("kid"), told.notification.id, read=False)
        assert [await notifications.mark_all_read(other, identity("kid")) for _ in range(2)] == [1, 0]
        for device in devices:
            assert device.events.of("notificationsRead") == [
                {"ids": [str(told.notification.id)], "read": True},
                {"ids": [str(told.notification.id)], "read": False},
                {"all": True, "read": True},
            ]
        assert teacher.events.all == []


async def test_somebody_elses_is_as_good_as_none(pool: Pool) -> None:
    async with workers(pool, 1) as (live,):
        told = await tell(pool, "kid")
        for who, notification_id in (("teach", told.notification.id), ("boss", told.notification.id), ("kid", uuid4())):
            with pytest.raises(NotFound) as refusal:
                await notifications.mark(live, identity(who), notification_id, read=True)
            assert refusal.value.code == "notification_not_found"
    assert (await store.page(pool, "kid", limit=1)).unread == 1


def test_what_is_composed_names_everybody_once_and_says_when() -> None:
    moment = datetime(2030, 1, 7, 9, 0, tzinfo=UTC)
    told = notifications.compose(["a", "b", "a"], kind="allocation", title="t", body="b", data={}, created_at=moment)
    assert told.user_ids == ["a", "b"]
    assert notifications.document(told.notification)["created_at"] == moment
    assert notifications.document(told.notification, read=True)["read"] is True
