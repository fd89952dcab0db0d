"""What the hosts of one worker are shown of those who wait: by news, and by the database where news was lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest

from domain import waiting_lists
from domain.access import Member
from domain.waiting_lists import WaitingLists
from realtime.events import Event
from store import waiters
from store.database import Pool
from store.waiters import Waiter
from tests.support.lessons import member
from tests.support.rooms import Seat

ONE, OTHER = UUID(int=1), UUID(int=2)
ROOM = str(ONE)


class Lists:
    """Waiting lists, what they published, and the database that they ask."""

    def __init__(self) -> None:
        self.published: list[tuple[str, Event]] = []
        self.with_waiting_room = {ROOM}
        self.in_database: dict[UUID, list[str]] = {}
        self.asked: list[list[UUID]] = []
        self.meanwhile: list[tuple[str, bool]] = []
        self.lists = WaitingLists(
            cast(Pool, None),
            publish=lambda room_id, news: self.published.append((room_id, news)),
            has_waiting_room=self.with_waiting_room.__contains__,
        )

    def host(self, user_id: str = "teach", room_id: str = ROOM) -> Seat:
        seat = Seat(user_id)
        self.lists.lead(room_id, seat.connection)
        return seat

    def hear(self, user_id: str, waiting: bool) -> None:
        self.lists.tell(someone(user_id), waiting=waiting)
        self.lists.hear(*self.published[-1])

    async def of_sessions(self, _pool: Pool, session_ids: Sequence[UUID], *, limit: int) -> dict[UUID, list[Waiter]]:
        self.asked.append(list(session_ids))
        found = {session_id: self.in_database.get(session_id, [])[:limit] for session_id in session_ids}
        for user_id, waiting in self.meanwhile:
            self.hear(user_id, waiting)
        return {
            session_id: [
                Waiter(user_id=user_id, name=user_id.capitalize(), role="student", since=datetime.now(UTC))
                for user_id in people
            ]
            for session_id, people in found.items()
        }


def someone(user_id: str) -> Member:
    return member(ONE, user_id)


def told(seat: Seat) -> list[tuple[str, bool]]:
    """What a host was told since this was asked last."""
    news = [(data["userId"], data["waiting"]) for data in seat.events.of("waiting")]
    seat.events.all.clear()
    return news


@pytest.fixture
def lists(monkeypatch: pytest.MonkeyPatch) -> Lists:
    made = Lists()
    monkeypatch.setattr(waiters, "of_sessions", made.of_sessions)
    return made


def test_hosts_are_told_and_those_on_their_way_in_right_behind_the_ack(lists: Lists) -> None:
    inside, coming, other = lists.host(), Seat("boss"), lists.host("teach2", str(OTHER))
    lists.lists.hold_back(ROOM, coming.connection)
    lists.hear("kid", True)
    shown = {"session_id": ROOM, "userId": "kid", "name": "Kid", "role": "student", "waiting": True}
    assert inside.events.of("waiting") == [shown]
    assert coming.events.all == other.events.all == []
    lists.lists.release(ROOM, coming.connection)
    assert coming.events.of("waiting") == [shown]
    lists.hear("kid", True)
    assert len(coming.events.all) == 2


def test_who_is_no_host_any_more_is_told_nothing(lists: Lists) -> None:
    seats = [lists.host() for _ in range(3)]
    lists.lists.hold_back(ROOM, seats[0].connection)
    for seat in seats[:2]:
        lists.lists.lead(ROOM, seat.connection, is_host=False)
    lists.hear("kid", False)
    lists.lists.release(ROOM, seats[0].connection)
    assert [told(seat) for seat in seats] == [[], [], [("kid", False)]]


def test_who_becomes_a_host_in_the_session_is_shown_who_waits(lists: Lists) -> None:
    first = lists.host()
    for user_id in ("kid", "mum"):
        lists.hear(user_id, True)
    lists.hear("mum", False)
    second = lists.host("boss")
    lists.lists.lead(ROOM, second.connection)
    assert told(second) == [("kid", True)]
    assert len(told(first)) == 3


async def test_what_hosts_missed_is_made_up_for_once(lists: Lists) -> None:
    seat = lists.host()
    lists.hear("gran", True)
    lists.in_database = {ONE: ["kid", "mum"]}
    told(seat)
    await lists.lists.compare()
    assert told(seat) == [("kid", True), ("mum", True), ("gran", False)]
    await lists.lists.compare()
    assert told(seat) == []


async def test_news_that_comes_while_the_database_is_asked_is_newer(lists: Lists) -> None:
    seat = lists.host()
    lists.hear("mum", True)
    lists.in_database = {ONE: ["kid", "gran"]}
    lists.meanwhile = [("kid", False), ("mum", True)]
    told(seat)
    await lists.lists.compare()
    assert told(seat) == [("kid", False), ("mum", True), ("gran", True)]


async def test_a_host_who_joins_is_given_the_list_and_the_others_what_they_missed(lists: Lists) -> None:
    inside, coming = lists.host(), Seat("boss")
    lists.hear("gran", True)
    lists.in_database = {ONE: ["kid"]}
    told(inside)
    lists.lists.hold_back(ROOM, coming.connection)
    assert [one["userId"] for one in await lists.lists.list_for(ROOM, coming.connection)] == ["kid"]
    lists.lists.release(ROOM, coming.connection)
    assert (told(inside), told(coming)) == ([("kid", True), ("gran", False)], [])
    lists.in_database = {}
    await lists.lists.compare()
    assert told(inside) == told(coming) == [("kid", False)], "the list counts as shown"


async def test_more_than_are_listed_are_heard_of_as_these_are_let_in(
    lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_lists, "MAX_LISTED", 2)
    seat = lists.host()
    lists.in_database = {ONE: ["kid", "mum", "gran"]}
    await lists.lists.compare()
    assert told(seat) == [("kid", True), ("mum", True)]
    lists.in_database = {ONE: ["mum", "gran"]}
    await lists.lists.compare()
    assert told(seat) == [("gran", True)]
    lists.in_database = {ONE: ["gran"]}
    await lists.lists.compare()
    assert told(seat) == [("kid", False), ("mum", False)]


async def test_only_sessions_where_somebody_waits_or_may_are_asked_about(
    lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_lists, "SESSIONS_AT_A_TIME", 1)
    await lists.lists.compare()
    lists.host(room_id=str(OTHER))
    await lists.lists.compare()
    assert lists.asked == [], "no host here, or no waiting room"
    seat = lists.host()
    lists.with_waiting_room.add(str(OTHER))
    await lists.lists.compare()
    assert sorted(lists.asked) == [[ONE], [OTHER]]
    lists.hear("kid", True)
    lists.with_waiting_room.clear()
    await lists.lists.compare()
    await lists.lists.compare()
    assert lists.asked[2:] == [[ONE]], "until they believe of nobody that they wait"
    lists.lists.lead(ROOM, seat.connection, is_host=False)
    assert (list(lists.lists._hosts), lists.lists._shown, lists.lists._looks) == ([str(OTHER)], {}, [])


async def test_a_host_who_leaves_while_the_database_is_asked_is_forgotten(lists: Lists) -> None:
    seat = lists.host()

    async def gone(*_: Any, **__: Any) -> Any:
        lists.lists.lead(ROOM, seat.connection, is_host=False)
        return {ONE: []}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiters, "of_sessions", gone)
        await lists.lists.compare()
    assert (lists.lists._hosts, lists.lists._shown) == ({}, {})
