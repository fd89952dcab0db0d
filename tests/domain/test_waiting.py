"""The waiting rooms of one worker: connections that wait, rooms that are kept open for them, hosts who are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID

import pytest

from domain.access import Member
from domain.errors import NotFound
from domain.waiting import WaitingRooms, called
from realtime.events import Event
from tests.support.lessons import member
from tests.support.rooms import Seat

ONE, OTHER = UUID(int=1), UUID(int=2)


class Rooms:
    """Waiting rooms, and what they asked for."""

    def __init__(self) -> None:
        self.held: list[str] = []
        self.ended: list[str] = []
        self.published: list[tuple[str, Event]] = []
        self.waiting = WaitingRooms(
            publish=lambda room_id, news: self.published.append((room_id, news)),
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


def test_hosts_are_told_and_those_on_their_way_in_right_behind_the_ack(rooms: Rooms) -> None:
    inside, coming, other = Seat("teach"), Seat("boss"), Seat("teach2")
    rooms.waiting.lead(str(ONE), inside.connection)
    rooms.waiting.hold_back(str(ONE), coming.connection)
    rooms.waiting.lead(str(OTHER), other.connection)
    rooms.waiting.tell(someone("kid"), waiting=True)
    [(room_id, news)] = rooms.published
    rooms.waiting.hear(room_id, news)
    told = {"session_id": str(ONE), "userId": "kid", "name": "Kid", "role": "student", "waiting": True}
    assert inside.events.of("waiting") == [told]
    assert coming.events.all == other.events.all == []
    rooms.waiting.release(str(ONE), coming.connection)
    assert coming.events.of("waiting") == [told]
    rooms.waiting.hear(room_id, news)
    assert len(coming.events.all) == 2


def test_who_is_no_host_any_more_is_told_nothing(rooms: Rooms) -> None:
    seats = [Seat("teach") for _ in range(3)]
    for seat in seats:
        rooms.waiting.lead(str(ONE), seat.connection)
    rooms.waiting.hold_back(str(ONE), seats[0].connection)
    for seat in seats[:2]:
        rooms.waiting.lead(str(ONE), seat.connection, is_host=False)
    rooms.waiting.tell(someone("kid"), waiting=False)
    rooms.waiting.hear(*rooms.published[0])
    rooms.waiting.release(str(ONE), seats[0].connection)
    assert [len(seat.events.all) for seat in seats] == [0, 0, 1]


def test_those_who_are_called_are_told_which_session(rooms: Rooms) -> None:
    seats = [rooms.wait("kid"), rooms.wait("mum")]
    called([seat.connection for seat in seats], str(ONE))
    assert [seat.events.of("admitted") for seat in seats] == [[{"session_id": str(ONE)}]] * 2


def test_a_worker_that_leaves_lets_go_of_the_rooms(rooms: Rooms) -> None:
    seat = rooms.wait("kid")
    rooms.wait("kid", OTHER)
    rooms.waiting.close()
    assert rooms.held == []
    rooms.waiting.depart(seat.connection, str(ONE))
    assert rooms.ended == ["kid"]
