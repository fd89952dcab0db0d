"""Who is here: per person, over all workers, in whatever order the news comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from domain import presence
from domain.errors import Forbidden, Unavailable
from realtime.log import Overloaded
from store import participants, visits
from store.database import Pool
from store.errors import Away
from tests.support.lessons import book, database_pool, member, until_somebody_waits
from tests.support.recorder import WAIT_SECONDS
from tests.support.rooms import Exchange, Seat, join, leave, online, room_of, told, workers
from tests.support.waiting import until


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "GRACE_SECONDS", 0.02)


async def is_online(pool: Pool, session_id: UUID, user_id: str) -> bool:
    found = await participants.of_person(pool, session_id, user_id)
    return found is not None and found.online


async def test_everybody_is_told_of_a_person_once_whatever_their_connections(pool: Pool, short_grace: None) -> None:
    session_id = await book(pool)
    async with workers(pool, 2) as (one, other):
        watching = [await join(one, session_id, "teach"), await join(other, session_id, "mum")]
        tabs = [await join(one, session_id, "kid"), await join(one, session_id, "kid")]
        elsewhere = await join(other, session_id, "kid")
        for live in (one, other):
            assert online(live, session_id) == ["kid", "mum", "teach"]
        for tab in tabs:
            leave(one, session_id, tab)
        leave(other, session_id, elsewhere, "left")
        for seat in watching:
            await seat.events.wait_for("participantLeft", lambda data: data["userId"] == "kid")
            joined = [data["userId"] for data in seat.events.of("participantJoined")]
            assert joined.count("kid") == 1
            assert len(seat.events.of("participantLeft")) == 1
        for live in (one, other):
            assert online(live, session_id) == ["mum", "teach"]


async def test_a_person_is_shown_as_the_contract_says(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        watching = await join(live, session_id, "teach")
        await join(live, session_id, "kid")
        [shown] = told(watching, "participantJoined")
        joined_at = shown.pop("joinedAt")
        assert joined_at.endswith("Z")
        entry = {
            "userId": "kid", "name": "Kid", "role": "student", "micAllowed": True, "cameraAllowed": True,
            "handRaised": False, "readSeq": 0,
        }  # fmt: skip
        assert shown == entry
        assert watching.events.of("participantJoined")[0]["session_id"] == str(session_id)
        assert [p for p in live.presence.online(str(session_id)) if p["userId"] == "kid"] == [
            entry | {"joinedAt": joined_at}
        ]


async def test_a_worker_that_opens_the_room_later_knows_who_is_there(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 2) as (one, other):
        await join(one, session_id, "kid")
        await join(other, session_id, "teach")
        assert online(other, session_id) == online(one, session_id) == ["kid", "teach"]
        by_id = [{p["userId"]: p for p in live.presence.online(str(session_id))} for live in (one, other)]
        assert by_id[0] == by_id[1]


async def test_a_reload_is_silent(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 2) as (one, other):
        watching = await join(one, session_id, "teach")
        before = await join(one, session_id, "kid")
        leave(one, session_id, before)
        await join(one, session_id, "kid")
        assert [data["userId"] for data in told(watching, "participantJoined")] == ["kid"]
        assert told(watching, "participantLeft") == []
        assert await is_online(pool, session_id, "kid")
        # Through another worker, while the grace runs here.
        leave(one, session_id, before)
        await join(other, session_id, "kid")
        assert told(watching, "participantLeft") == []


@pytest.mark.parametrize("reason", ["disconnected", "left"])
async def test_the_reason_is_told(pool: Pool, short_grace: None, reason: str) -> None:
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        watching = await join(live, session_id, "teach")
        leave(live, session_id, await join(live, session_id, "kid"), reason)
        assert (await watching.events.wait_for("participantLeft"))["reason"] == reason
        assert not await is_online(pool, session_id, "kid")


async def test_who_comes_back_in_the_very_turn_in_which_they_left_is_here(pool: Pool) -> None:
    """The last connection leaves, and another arrives before anything else happens."""
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        watching = await join(live, session_id, "teach")
        room = room_of(live, session_id)
        for _ in range(5):
            first, second = await join(live, session_id, "kid"), Seat("kid")
            live.presence.depart(room.id, first.connection, "left")
            await live.presence.arrive(room, member(session_id, "kid"), second.connection)
            assert await is_online(pool, session_id, "kid")
            assert online(live, session_id) == ["kid", "teach"]
            live.presence.depart(room.id, second.connection, "left")
            await watching.events.wait_for("participantLeft")
            watching.events.all.clear()


async def test_a_connection_that_leaves_twice_leaves_once(pool: Pool, short_grace: None) -> None:
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        watching = await join(live, session_id, "teach")
        stays, goes = await join(live, session_id, "kid"), await join(live, session_id, "kid")
        for _ in range(3):
            leave(live, session_id, goes, "left")
        assert list(live.presence.connections(str(session_id), "kid")) == [stays.connection]
        assert told(watching, "participantLeft") == []


async def test_the_name_is_the_one_at_joining(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        watching = await join(live, session_id, "teach")
        await pool.execute("UPDATE users SET first_name = 'Other' WHERE id = 'kid'")
        await join(live, session_id, "kid", replace(member(session_id, "kid"), name="Kid Then"))
        assert told(watching, "participantJoined")[0]["name"] == "Kid Then"


async def test_who_was_kicked_does_not_arrive_and_nobody_hears_of_them(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        watching = await join(live, session_id, "teach")
        async with pool.acquire() as connection:
            await participants.change(connection, session_id, "kid", was_kicked=True)
        with pytest.raises(Forbidden) as refusal:
            await join(live, session_id, "kid")
        assert refusal.value.code == "kicked"
        assert live.presence.connections(str(session_id), "kid") == []
        assert told(watching, "participantJoined") == []
        async with pool.acquire() as connection:
            await participants.change(connection, session_id, "kid", was_kicked=False)
        await join(live, session_id, "kid")
        assert online(live, session_id) == ["kid", "teach"]


async def test_a_second_connection_of_a_person_costs_no_statement(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        first = await join(live, session_id, "kid")

        async def not_asked(*_: object) -> Any:
            raise AssertionError("it was recorded again")

        with monkeypatch.context() as patch:
            patch.setattr(visits, "record", not_asked)
            second = await join(live, session_id, "kid")
            leave(live, session_id, first)
            third = await join(live, session_id, "kid")
        connections = live.presence.connections(str(session_id), "kid")
        assert set(connections) == {second.connection, third.connection}


async def test_who_gives_up_while_arriving_leaves_again(pool: Pool, short_grace: None) -> None:
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        await join(live, session_id, "teach")
        room, seat = room_of(live, session_id), Seat("kid")
        async with pool.acquire() as connection, connection.transaction():
            await participants.change(connection, session_id, "kid", mic_allowed=True)  # holds their row
            arriving = asyncio.create_task(live.presence.arrive(room, member(session_id, "kid"), seat.connection))
            await until_somebody_waits(pool)
            arriving.cancel()
            await asyncio.gather(arriving, return_exceptions=True)
        assert live.presence.connections(room.id, "kid") == []
        await until(lambda: online(live, session_id) == ["teach"] and (room.id, "kid") not in live.presence._here)
        async with asyncio.timeout(WAIT_SECONDS):
            while await is_online(pool, session_id, "kid"):
                pass


async def test_the_ack_shows_the_roster(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        for user_id in ("kid", "teach"):
            await join(live, session_id, user_id)
        shown = live.presence.online(str(session_id))
        assert msgspec.json.decode(live.presence.participants(str(session_id))) == shown
        assert [live.presence.person(str(session_id), person["userId"]) for person in shown] == shown
        assert live.presence.person(str(session_id), "mum") is None
        assert live.presence.person("elsewhere", "kid") is None
        assert msgspec.json.decode(live.presence.participants("elsewhere")) == []


async def test_who_is_expelled_while_arriving_is_not_in(pool: Pool) -> None:
    """The kick is committed after the arrival was recorded, and its event comes before the arrival is answered."""
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        await join(live, session_id, "teach")
        room, seat = room_of(live, session_id), Seat("kid")
        async with pool.acquire() as connection, connection.transaction():
            await participants.change(connection, session_id, "kid", mic_allowed=True)  # holds their row
            arriving = asyncio.create_task(live.presence.arrive(room, member(session_id, "kid"), seat.connection))
            await until_somebody_waits(pool)
            assert live.presence.expel(room.id, "kid", "kicked") == [seat.connection]
        await arriving
        assert live.presence.connections(room.id, "kid") == [], "the door looks here before it lets them in"
        async with asyncio.timeout(WAIT_SECONDS):
            while await is_online(pool, session_id, "kid"):
                pass
        assert online(live, session_id) == ["teach"]


async def test_an_arrival_that_cannot_be_recorded_is_refused_and_leaves_nothing_behind(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        room_seat = await join(live, session_id, "teach")

        def full(_change: object) -> Any:
            raise Overloaded("visits")

        with monkeypatch.context() as patch:
            patch.setattr(live.presence._visits, "append", full)
            with pytest.raises(Unavailable):
                await join(live, session_id, "kid")
            leave(live, session_id, room_seat, "left")  # not recorded either, and not raised
        assert live.presence.connections(str(session_id), "kid") == []
        await join(live, session_id, "kid")
        assert "kid" in online(live, session_id)


async def test_a_dead_workers_people_are_announced_as_gone_by_another(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "HEARTBEAT_SECONDS", 0.02)
    session_id, dead = await book(pool), uuid4()
    await visits.renew_lease(pool, dead)
    await pool.execute("UPDATE workers SET lease_until = now() + interval '1 hour' WHERE id = $1", dead)
    await visits.record(pool, dead, [visits.Change(session_id=session_id, user_id="kid", present=True)])
    async with workers(pool, 2) as (one, other):
        watching = [await join(one, session_id, "teach"), await join(other, session_id, "mum")]
        assert online(one, session_id) == ["kid", "mum", "teach"]
        await pool.execute("UPDATE workers SET lease_until = now() - interval '1 minute' WHERE id = $1", dead)
        for seat in watching:
            assert (await seat.events.wait_for("participantLeft"))["reason"] == "timeout"
            assert len(seat.events.of("participantLeft")) == 1


async def test_a_worker_that_was_believed_dead_brings_its_people_back(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "MAX_BATCH_ENTRIES", 2)
    renew, turn = visits.renew_lease, asyncio.Lock()

    async def renew_in_turn(*arguments: Any) -> bool:
        async with turn:
            return await renew(*arguments)

    monkeypatch.setattr(visits, "renew_lease", renew_in_turn)
    session_id = await book(pool)
    async with workers(pool, 2) as (lost, other):
        watching = await join(other, session_id, "teach")
        for user_id in ("kid", "mum", "gran", "boss"):
            await join(lost, session_id, user_id)
        # What another worker's heartbeat does, and then this one's.
        async with turn:
            await pool.execute(
                "UPDATE workers SET lease_until = now() - interval '1 minute' WHERE id = $1", lost.presence._worker_id
            )
            for outcome in await visits.close_expired(pool):
                other.presence._announce(outcome, reason="timeout")
            assert online(other, session_id) == ["teach"]
            assert len(told(watching, "participantLeft")) == 4
        await watching.events.wait_for_many(8, "participantJoined")
        for live in (lost, other):
            assert online(live, session_id) == ["boss", "gran", "kid", "mum", "teach"]
        assert await is_online(pool, session_id, "kid")


async def test_while_the_bus_is_away_the_rosters_follow_the_database(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id, exchange = await book(pool), Exchange()
    async with workers(pool, 2, exchange) as (one, other):
        watching = await join(one, session_id, "teach")
        kid = await join(other, session_id, "kid")
        exchange.cut = True
        await join(other, session_id, "mum")
        leave(other, session_id, kid, "left")
        async with asyncio.timeout(WAIT_SECONDS):
            while await is_online(pool, session_id, "kid"):
                pass
        assert online(one, session_id) == ["kid", "teach"], "nobody has said so here yet"
        await one.presence.refresh(one.hub.rooms, bus_connected=False)
        assert online(one, session_id) == online(other, session_id) == ["mum", "teach"]
        assert [data["userId"] for data in told(watching, "participantJoined", "participantLeft")] == [
            "kid", "kid", "mum",
        ]  # fmt: skip
        assert told(watching, "participantLeft")[0]["reason"] == "left"


async def test_a_gap_is_made_up_for_though_the_database_was_away_at_first(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id, exchange = await book(pool), Exchange()
    async with workers(pool, 2, exchange) as (one, other):
        await join(one, session_id, "teach")
        exchange.cut = True
        await join(other, session_id, "kid")
        exchange.cut = False
        one.presence._note_gap()

        async def away(*_: object) -> Any:
            raise Away("the database is away")

        with monkeypatch.context() as patch:
            patch.setattr(participants, "of_sessions", away)
            with pytest.raises(Away):
                await one.presence.refresh(one.hub.rooms, bus_connected=True)
        assert online(one, session_id) == ["teach"]
        await one.presence.refresh(one.hub.rooms, bus_connected=True)
        assert online(one, session_id) == ["kid", "teach"]
