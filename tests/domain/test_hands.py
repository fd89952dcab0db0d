"""Raised hands: each change once, however many raise theirs at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from domain import chat, hands
from domain.errors import NotFound, Unavailable
from domain.live import Live
from realtime import log
from store import participants, sessions
from tests.support.lessons import MEMBERS, book, database_pool, member, until_somebody_waits
from tests.support.recorder import WAIT_SECONDS
from tests.support.rooms import join, raise_hand, told, workers


@pytest.fixture
async def live(database: str) -> AsyncIterator[Live]:
    async with database_pool(database) as pool, workers(pool, 1) as (live,):
        yield live


async def test_hands_that_go_up_at_once_are_one_transaction(live: Live) -> None:
    session_id = await book(live.pool)
    watching = await join(live, session_id, "teach")
    raising = [
        hands.begin_raise(live, member(session_id, who), raised=raised)
        for who, raised in (("kid", True), ("mum", True), ("kid", True), ("gran", False), ("mum", False), ("mum", True))
    ]
    await asyncio.wait(raising)
    assert [(data["seq"], data["userId"], data["raised"]) for data in told(watching, "handRaised")] == [
        (1, "kid", True), (2, "mum", True), (3, "mum", False), (4, "mum", True),
    ]  # fmt: skip
    assert await live.pool.fetchval("SELECT count(DISTINCT xmin::text) FROM session_events") == 1
    found = await participants.of_session(live.pool, session_id, limit=10)
    assert {one.user_id: one.hand_raised for one in found} == {"teach": False, "kid": True, "mum": True}


async def test_a_class_that_raises_its_hands_leaves_the_database_to_the_others(live: Live) -> None:
    session_id, other = await book(live.pool), await book(live.pool)
    async with live.pool.acquire() as connection, connection.transaction():
        await sessions.locked(connection, session_id)
        raising = [
            asyncio.create_task(raise_hand(live, member(session_id, who), raised=n % 2 == 0))
            for n in range(4)
            for who in MEMBERS
        ]
        await until_somebody_waits(live.pool)
        async with asyncio.timeout(WAIT_SECONDS):
            await chat.send(live, member(other, "kid"), text="hello", client_id=None)
        assert not any(task.done() for task in raising)
    await asyncio.gather(*raising)


async def test_no_hand_goes_up_where_there_is_no_session_and_what_waits_is_bounded(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFound):
        await raise_hand(live, member(uuid4(), "kid"), raised=True)
    session_id = await book(live.pool)
    monkeypatch.setattr(log, "MAX_WAITING_ENTRIES", 1)
    raising = hands.begin_raise(live, member(session_id, "kid"), raised=True)
    with pytest.raises(Unavailable):
        hands.begin_raise(live, member(session_id, "mum"), raised=True)
    await asyncio.wait([raising])
