"""The rosters by the news alone: whatever order it comes in, and without a database."""

from __future__ import annotations

from typing import Any, cast
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import rosters
from domain.rosters import Roster, Rosters
from realtime.frames import event_frame
from realtime.hub import Room
from store.database import Pool
from tests.support.rooms import Seat

PEOPLE = ("kid", "teach", "mum")


class _NoPool:
    """Nothing here asks the database."""


def silent_room() -> tuple[Rosters, Room, Seat]:
    room = Room(str(uuid4()), event_frame)
    seat = Seat("watching")
    room.members.add(seat)
    told = Rosters(cast(Pool, _NoPool()), find_room=lambda _: room)
    told._rosters[room.id] = Roster()
    return told, room, seat


def news_of(user_id: str, version: int) -> dict[str, Any]:
    """An odd version is an arrival, an even one a departure: they alternate."""
    online = version % 2 == 1
    about = {"person": {"userId": user_id, "name": f"{user_id} {version}"}} if online else {"reason": "left"}
    return {"userId": user_id, "online": online, "version": version, **about}


@st.composite
def comings_and_goings(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The news of several people, shuffled, some of it twice, some of it lost: but never the last of a person."""
    heard: list[dict[str, Any]] = []
    for user_id in PEOPLE:
        last = draw(st.integers(0, 6))
        for version in range(1, last + 1):
            least = 1 if version == last else 0
            heard += [news_of(user_id, version)] * draw(st.integers(least, 2))
    return draw(st.permutations(heard))


@given(comings_and_goings())
async def test_news_in_any_order_ends_in_the_same_roster(heard: list[dict[str, Any]]) -> None:
    told, room, seat = silent_room()
    for news in heard:
        told.hear(room, news)
    last = {user_id: max((n["version"] for n in heard if n["userId"] == user_id), default=0) for user_id in PEOPLE}
    here = {user_id for user_id, version in last.items() if version % 2 == 1}
    assert {p["userId"]: p["name"] for p in told.online(room.id)} == {u: f"{u} {last[u]}" for u in here}
    for user_id in PEOPLE:
        shown = [r.event for r in seat.events.all if r.data["userId"] == user_id]
        assert shown[::2] == ["participantJoined"] * len(shown[::2]), "they come and go by turns, as clients see it"
        assert shown[1::2] == ["participantLeft"] * len(shown[1::2])
        assert len(shown) % 2 == (user_id in here)


async def test_news_of_a_room_that_is_not_open_here_is_nothing() -> None:
    told, room, seat = silent_room()
    told.forget(room)
    told.hear(room, news_of("kid", 1))
    assert told.online(room.id) == []
    assert seat.events.all == []


async def test_permissions_and_hands_are_kept_up_in_the_roster() -> None:
    told, room, _ = silent_room()
    told.hear(room, news_of("kid", 1))
    told.change(room, "kid", micAllowed=False, handRaised=True)
    told.change(room, "nobody", micAllowed=False)
    [person] = told.online(room.id)
    assert (person["micAllowed"], person["handRaised"]) == (False, True)


def in_ack(told: Rosters, room: Room, *first: str) -> list[str]:
    return [person["userId"] for person in msgspec.json.decode(told.participants(room.id, first))]


async def test_an_ack_names_so_many_and_says_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rosters, "PARTICIPANTS_IN_ACK", 4)
    told, room, _ = silent_room()
    for n in range(4):
        told.hear(room, news_of(f"student-{n}", 1))
    assert in_ack(told, room, "student-3") == ["student-0", "student-1", "student-2", "student-3"], "all, as they came"
    for user_id in ("student-4", "teach", "student-5", "student-6", "kid"):
        told.hear(room, news_of(user_id, 1))
    told.change(room, "student-5", handRaised=True)
    told.change(room, "student-6", handRaised=True)
    told.change(room, "student-6", handRaised=False)
    assert in_ack(told, room, "teach", "nobody", "kid") == ["teach", "kid", "student-5", "student-0"]
    assert told.count(room.id) == 9
    told.hear(room, news_of("student-5", 2))
    assert in_ack(told, room, "teach") == ["teach", "student-0", "student-1", "student-2"]
    assert told.count(room.id) == 8
    told.forget(room)
    assert (in_ack(told, room, "teach"), told.count(room.id)) == ([], 0)
