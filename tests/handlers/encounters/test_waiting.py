"""The waiting room where its news is lost: with the bus, or with the worker that had it to tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import UUID

import pytest

from domain import presence
from store import participants, visits, waiters
from store.database import Pool
from store.errors import Away
from tests.handlers.encounters.test_admission import (
    WAITING,
    admit,
    ask,
    change,
    class_with_waiting_room,
    come,
    connect,
    gone,
    let_in,
    those_waiting,
    waiting_news,
    worker_settles,
)
from tests.handlers.test_encounters import Worker, doors
from tests.support.lessons import book, database_pool
from tests.support.recorder import WAIT_SECONDS
from tests.support.rooms import Exchange, ExchangedBus
from tests.support.waiting import until


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture(autouse=True)
def short_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "HEARTBEAT_SECONDS", 0.1)


def exchange_of(worker: Worker) -> Exchange:
    """What carries news between the workers."""
    return cast(ExchangedBus, worker.live.bus)._exchange


async def beats(worker: Worker, number: int = 2) -> None:
    """Wait until so many comparisons have begun and ended."""
    compare, begun = worker.live.presence.waiting_lists.compare, 0

    async def counted() -> None:
        nonlocal begun
        begun += 1
        await compare()

    lists = cast(Any, worker.live.presence.waiting_lists)
    lists.compare = counted
    await until(lambda: begun > number)
    lists.compare = compare


async def test_a_host_hears_of_who_came_and_went_while_the_bus_was_away(pool: Pool) -> None:
    async with doors(pool, 2) as (one, other):
        session_id, (student, fickle) = await class_with_waiting_room(pool, one, 2)
        host = await let_in(one, "teach", session_id, "teacher")
        gives_up, _ = await come(other, fickle, session_id)
        await until(lambda: waiting_news(host) == [(fickle, True)])
        exchange_of(one).cut = True
        client, answer = await come(other, student, session_id)
        assert answer == WAITING
        await gone(other, gives_up)
        await host.events.wait_for("waiting", lambda data: (data["userId"], data["waiting"]) == (student, True))
        told = await host.events.wait_for("waiting", lambda data: not data["waiting"])
        assert told == {
            "session_id": str(session_id),
            "userId": fickle,
            "name": fickle.capitalize(),
            "role": "student",
            "waiting": False,
        }
        exchange_of(one).cut = False
        assert await ask(other, client, session_id) == WAITING
        await beats(one)
        assert dict(waiting_news(host)) == {student: True, fickle: False}


@pytest.mark.parametrize("admitted", [True, False])
async def test_a_verdict_that_was_lost_with_the_bus_is_told(pool: Pool, admitted: bool) -> None:
    async with doors(pool, 2) as (one, other):
        session_id, (student, patient) = await class_with_waiting_room(pool, one, 2)
        hosts = [await let_in(one, "teach", session_id, "teacher"), await let_in(other, "boss", session_id, "admin")]
        tabs = [(await come(other, student, session_id))[0] for _ in range(2)]
        still, _ = await come(other, patient, session_id)
        exchange_of(one).cut = True
        assert (await admit(one, hosts[0], session_id, student, admitted=admitted))["ok"]
        for tab in tabs:
            assert await tab.events.wait_for("admitted" if admitted else "refused") == {"session_id": str(session_id)}
        await hosts[1].events.wait_for("waiting", lambda data: not data["waiting"])
        await beats(other)
        assert [len(tab.events.all) for tab in tabs] == [1, 1]
        assert still.events.all == []
        assert await those_waiting(pool, session_id) == [patient], "nobody is noted again"
        assert await ask(other, tabs[0], session_id) == ((200, "in") if admitted else WAITING)


async def test_a_verdict_of_a_worker_that_died_before_it_told_is_found(pool: Pool) -> None:
    """There is no gap: the bus is well, and nobody publishes anything."""
    async with doors(pool, 1) as (worker,):
        session_id, (let, refused) = await class_with_waiting_room(pool, worker, 2)
        host = await let_in(worker, "teach", session_id, "teacher")
        clients = [(await come(worker, user_id, session_id))[0] for user_id in (let, refused)]
        async with pool.acquire() as connection, connection.transaction():
            await waiters.settle(connection, session_id, [let, refused])
            await participants.admit(connection, session_id, [let])
        await clients[0].events.wait_for("admitted")
        await clients[1].events.wait_for("refused")
        await until(lambda: dict(waiting_news(host)) == {let: False, refused: False})
        assert worker.live.presence.waiting.everybody() == []


async def test_who_waits_through_a_worker_that_was_believed_dead_goes_on_waiting(pool: Pool) -> None:
    async with doors(pool, 2) as (one, other):
        session_id, (student,) = await class_with_waiting_room(pool, one, 1)
        client, _ = await come(other, student, session_id)
        await pool.execute(
            "UPDATE workers SET lease_until = now() - interval '1 minute' WHERE id = $1",
            other.live.presence._worker_id,
        )
        await visits.close_expired(pool)
        await beats(other)
        async with asyncio.timeout(WAIT_SECONDS):
            while await those_waiting(pool, session_id) != [student]:
                pass
        assert client.events.all == []
        assert other.live.presence.waiting.people(str(session_id)) == [student]


async def test_the_kick_of_who_waits_is_told_by_the_log_alone(pool: Pool) -> None:
    async with doors(pool, 2) as (one, other):
        session_id, (student,) = await class_with_waiting_room(pool, one, 1)
        host = await let_in(one, "teach", session_id, "teacher")
        client, _ = await come(other, student, session_id)
        exchange_of(one).cut = True
        await one.send(host, "kick", sessionId=str(session_id), userId=student)
        await client.events.wait_for("kicked")
        await beats(other)
        assert [received.event for received in client.events.all] == ["kicked"]


async def test_sessions_without_a_waiting_room_are_not_asked_about(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    session_id = await book(pool)
    async with doors(pool, 1) as (worker,):
        await let_in(worker, "teach", session_id, "teacher")
        await let_in(worker, "kid", session_id)

        async def not_asked(*_: object, **__: object) -> Any:
            raise AssertionError("it was asked")

        for name in ("settled", "of_sessions"):
            monkeypatch.setattr(waiters, name, not_asked)
        await worker.live.presence.waiting.compare()
        await worker.live.presence.waiting_lists.compare()


async def test_a_host_who_is_in_already_is_told_though_joining_again_fails(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with doors(pool, 1) as (worker,):
        session_id, (early, late) = await class_with_waiting_room(pool, worker, 2)
        host = await let_in(worker, "teach", session_id, "teacher")

        async def away(*_: object, **__: object) -> Any:
            await come(worker, early, session_id)
            raise Away("the database is away")

        with monkeypatch.context() as patch:
            patch.setattr(waiters, "of_session", away)
            assert (await ask(worker, host, session_id))[0] == 503
        await come(worker, late, session_id)
        assert waiting_news(host) == [(early, True), (late, True)]
        assert worker.live.presence.waiting_lists._held_back == {}


async def test_a_host_who_does_not_get_in_is_forgotten(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with doors(pool, 1) as (worker,):
        session_id, _ = await class_with_waiting_room(pool, worker, 1)

        async def away(*_: object, **__: object) -> Any:
            raise Away("the database is away")

        host = await connect(worker, "teach", "teacher")
        with monkeypatch.context() as patch:
            patch.setattr(waiters, "of_session", away)
            assert (await ask(worker, host, session_id))[0] == 503
        lists = worker.live.presence.waiting_lists
        assert (lists._hosts, lists._held_back) == ({}, {})


async def test_who_gets_in_as_the_waiting_room_closes_does_not_wait_any_more(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That they wait is committed, and the waiting room is switched off before their worker has heard of it."""
    async with doors(pool, 2) as (one, other):
        session_id, (student,) = await class_with_waiting_room(pool, one, 1)
        host = await let_in(one, "teach", session_id, "teacher")
        client = await connect(other, student)
        record = visits.record
        verdicts: list[str] = []

        async def slow(*arguments: Any) -> Any:
            outcomes = await record(*arguments)
            verdicts.extend(type(outcome).__name__ for outcome in outcomes)
            if len(verdicts) == 1:
                await change(one, session_id, waiting_room=False)
            return outcomes

        with monkeypatch.context() as patch:
            patch.setattr(visits, "record", slow)
            assert await ask(other, client, session_id) == (200, "in")
        assert verdicts == ["TurnedAway", "Outcome"]
        await worker_settles(other)
        assert await pool.fetchval("SELECT count(*) FROM session_waiters") == 0
        await until(lambda: dict(waiting_news(host)) == {student: False})


def waits(session_id: UUID, worker: Worker) -> list[str]:
    return list(worker.live.presence.waiting.people(str(session_id)))


async def test_who_is_told_to_wait_as_the_waiting_room_opens_again_waits(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with doors(pool, 2) as (one, other):
        session_id, (student,) = await class_with_waiting_room(pool, one, 1)
        client = await connect(other, student)
        record, batches = visits.record, 0

        async def slow(*arguments: Any) -> Any:
            nonlocal batches
            outcomes = await record(*arguments)
            batches += 1
            if batches == 1:
                await change(one, session_id, waiting_room=False)
                await change(one, session_id, waiting_room=True)
            return outcomes

        with monkeypatch.context() as patch:
            patch.setattr(visits, "record", slow)
            assert await ask(other, client, session_id) == WAITING
        await worker_settles(other)
        assert await those_waiting(pool, session_id) == waits(session_id, other) == [student]
        await gone(other, client)
        await worker_settles(other)
        assert await those_waiting(pool, session_id) == []
