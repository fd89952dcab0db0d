"""The waiting rooms of one worker: connections that wait, rooms that are kept open, verdicts that nobody told of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import pytest

from domain.access import Member
from domain.errors import NotFound
from domain.waiting import WaitingRooms, tell
from store import waiters
from store.database import Pool
from tests.support.lessons import member
from tests.support.rooms import Seat

ONE, OTHER = UUID(int=1), UUID(int=2)


class Rooms:
    """Waiting rooms, and what they asked for."""

    def __init__(self) -> None:
        self.held: list[str] = []
        self.ended: list[str] = []
        self.waiting = WaitingRooms(
            cast(Pool, None),
            UUID(int=7),
            hold=self.hold,
            ended=lambda member: self.ended.append(member.user_id),
        )

    @contextmanager
    def hold(self, room_id: str) -> Iterator[None]:
        self.held.append(room_id)
        try:
            yield
        finally:
            self.held.remove(room_id)

    def wait(self, user_id: str, session_id: UUID = ONE) -> Seat:
        seat = Seat(user_id)
        self.waiting.add(someone(user_id, session_id), seat.connection)
        return seat


def someone(user_id: str, session_id: UUID = ONE) -> Member:
    return replace(member(session_id, user_id), room_name=f"room-{session_id.int}")


@pytest.fixture
def rooms() -> Rooms:
    return Rooms()


def test_a_room_is_kept_open_while_somebody_waits_for_it(rooms: Rooms) -> None:
    kid, mum = rooms.wait("kid"), rooms.wait("mum")
    elsewhere = rooms.wait("kid", OTHER)
    assert sorted(rooms.held) == [str(ONE), str(OTHER)]
    assert sorted(rooms.waiting.everybody()) == [(ONE, "kid"), (ONE, "mum"), (OTHER, "kid")]
    rooms.waiting.depart(kid.connection, str(ONE))
    assert str(ONE) in rooms.held
    rooms.waiting.depart(mum.connection, str(ONE))
    assert rooms.held == [str(OTHER)]
    rooms.waiting.depart(elsewhere.connection, str(OTHER))
    assert (rooms.held, rooms.ended) == ([], ["kid", "mum", "kid"])


def test_a_person_waits_until_their_last_connection_is_gone(rooms: Rooms) -> None:
    tabs = [rooms.wait("kid") for _ in range(2)]
    rooms.waiting.depart(tabs[0].connection, str(ONE))
    rooms.waiting.depart(tabs[0].connection, str(ONE))
    assert (rooms.ended, rooms.waiting.has(str(ONE), "kid")) == ([], True)
    rooms.waiting.depart(tabs[1].connection, str(ONE))
    assert (rooms.ended, rooms.waiting.has(str(ONE), "kid")) == (["kid"], False)


def test_taking_somebody_out_answers_all_their_connections_once(rooms: Rooms) -> None:
    tabs = [rooms.wait("kid") for _ in range(2)]
    rooms.wait("mum")
    assert set(rooms.waiting.take(str(ONE), "kid")) == {tab.connection for tab in tabs}
    assert rooms.waiting.take(str(ONE), "kid") == rooms.waiting.take(str(OTHER), "mum") == []
    assert rooms.waiting.people(str(ONE)) == ["mum"]
    for tab in tabs:
        assert rooms.waiting.of(tab.connection) == []
        rooms.waiting.depart(tab.connection, str(ONE))
    assert rooms.ended == ["kid"]


def test_a_session_is_found_by_its_id_however_written_and_by_its_room(rooms: Rooms) -> None:
    seat = rooms.wait("kid")
    rooms.wait("kid", OTHER)
    for ref in (str(ONE), str(ONE).upper(), ONE.hex, "room-1"):
        assert rooms.waiting.find(seat.connection, ref) == str(ONE)
    assert rooms.waiting.find(seat.connection, "room-2") is None, "another connection waits for that"
    with pytest.raises(NotFound):
        rooms.waiting.find(seat.connection, "x" * 300)
    assert rooms.waiting.find(Seat("mum").connection, "x" * 300) is None


def test_those_on_whom_was_decided_are_told_which_session(rooms: Rooms) -> None:
    seats = [rooms.wait("kid"), rooms.wait("mum")]
    tell([seat.connection for seat in seats], str(ONE), "admitted")
    assert [seat.events.of("admitted") for seat in seats] == [[{"session_id": str(ONE)}]] * 2
    tell([seats[0].connection], str(ONE), "refused")
    assert seats[0].events.of("refused") == [{"session_id": str(ONE)}]


def test_a_worker_that_leaves_lets_go_of_the_rooms(rooms: Rooms) -> None:
    seat = rooms.wait("kid")
    rooms.wait("kid", OTHER)
    rooms.waiting.close()
    assert rooms.held == []
    rooms.waiting.depart(seat.connection, str(ONE))
    assert rooms.ended == ["kid"]


async def test_a_verdict_on_who_waited_before_is_nothing_to_who_asks_again(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The news comes while the database is being asked, and they ask once more."""
    stays, asks = rooms.wait("mum"), rooms.wait("kid")

    async def settled(_pool: Pool, _worker_id: UUID, waiting: Sequence[tuple[UUID, str]]) -> Any:
        rooms.waiting.take(str(ONE), "kid")
        rooms.waiting.add(someone("kid"), asks.connection)
        return [(*key, "refused") for key in waiting]

    monkeypatch.setattr(waiters, "settled", settled)
    await rooms.waiting.compare()
    assert (len(stays.events.of("refused")), asks.events.all) == (1, [])
    assert rooms.waiting.people(str(ONE)) == ["kid"]


async def test_who_gives_up_while_they_are_noted_again_is_taken_out_again(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    seat = rooms.wait("kid")
    rooms.wait("mum")

    async def keep(*_: object) -> None:
        rooms.waiting.depart(seat.connection, str(ONE))

    monkeypatch.setattr(waiters, "keep", keep)
    await rooms.waiting.keep()
    assert rooms.ended == ["kid", "kid"], "before it, and after"


async def test_where_nobody_waits_nothing_is_asked(rooms: Rooms) -> None:
    rooms.waiting.take(str(ONE), rooms.wait("kid").user_id)
    await rooms.waiting.compare()
    await rooms.waiting.keep()
