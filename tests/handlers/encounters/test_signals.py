"""Signals at the real-time door: to one person in the room, and to nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain.signals import BURST_BYTES, BYTES_PER_SECOND, MAX_SIGNAL_BYTES
from store.database import Pool
from tests.handlers.test_encounters import doors
from tests.support.lessons import book, database_pool

OFFER = {"type": "offer", "sdp": "v=0\r\n", "candidates": [None, 1.5, True, {"é": "🦊"}]}


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


def refused(ack: dict[str, Any]) -> tuple[int, str]:
    assert ack["ok"] is False, ack
    return ack["error"]["status_code"], ack["error"]["error"]


async def test_a_signal_reaches_one_person_on_all_their_tabs_and_workers_and_nobody_else(pool: Pool) -> None:
    lesson_id = await book(pool)
    session_id = str(lesson_id)
    async with doors(pool, 2) as (one, other):
        teach = await one.join("teach", lesson_id)
        tabs = [await one.join("kid", lesson_id), await other.join("kid", lesson_id)]
        mum = await other.join("mum", lesson_id)

        assert await one.send(teach, "signal", sessionId=session_id, to="kid", data=OFFER) == {"ok": True}

        for tab in tabs:
            assert tab.events.of("signal") == [{"session_id": session_id, "from": "teach", "data": OFFER}]
        assert teach.events.of("signal") == mum.events.of("signal") == []


async def test_who_it_is_from_is_not_for_the_sender_to_say(pool: Pool) -> None:
    lesson_id = await book(pool)
    session_id = str(lesson_id)
    async with doors(pool, 1) as (worker,):
        kid, teach = await worker.join("kid", lesson_id), await worker.join("teach", lesson_id)

        await worker.send(kid, "signal", sessionId=session_id, to="teach", data=1, **{"from": "boss"})

        assert [said["from"] for said in teach.events.of("signal")] == ["kid"]


async def test_only_who_joined_signals_and_only_to_who_is_there(pool: Pool) -> None:
    lesson_id, other_id = await book(pool), await book(pool)
    session_id, elsewhere = str(lesson_id), str(other_id)
    async with doors(pool, 1) as (worker,):
        kid = await worker.join("kid", lesson_id)
        teach = await worker.join("teach", other_id)

        for to in ("teach", "nobody", ""):
            ack = await worker.send(kid, "signal", sessionId=session_id, to=to, data=OFFER)
            assert refused(ack) == (404, "not_here")
        ack = await worker.send(kid, "signal", sessionId=elsewhere, to="teach", data=OFFER)
        assert refused(ack) == (403, "not_joined")
        assert teach.events.of("signal") == []


async def test_who_was_kicked_gets_and_sends_no_signals(pool: Pool) -> None:
    lesson_id = await book(pool)
    session_id = str(lesson_id)
    async with doors(pool, 1) as (worker,):
        kid, teach = await worker.join("kid", lesson_id), await worker.join("teach", lesson_id)
        await worker.send(teach, "kick", sessionId=session_id, userId="kid")
        await kid.events.wait_for("kicked")
        await teach.events.wait_for("participantLeft")

        ack = await worker.send(teach, "signal", sessionId=session_id, to="kid", data=OFFER)
        assert refused(ack) == (404, "not_here")
        assert not (await worker.send(kid, "signal", sessionId=session_id, to="teach", data=OFFER))["ok"]
        assert kid.events.of("signal") == teach.events.of("signal") == []


async def test_whoever_is_flooded_with_signals_stays_connected_and_hears_others(pool: Pool) -> None:
    lesson_id = await book(pool)
    session_id = str(lesson_id)
    async with doors(pool, 1) as (worker,):
        kid, teach = await worker.join("kid", lesson_id), await worker.join("teach", lesson_id)
        mum = await worker.join("mum", lesson_id)
        flood = "x" * (MAX_SIGNAL_BYTES - 2)
        for _ in range(40):
            await worker.send(kid, "signal", sessionId=session_id, to="teach", data=flood)

        await worker.send(mum, "signal", sessionId=session_id, to="teach", data=OFFER)

        heard = [said["from"] for said in teach.events.of("signal")]
        assert heard[-1] == "mum"
        assert 1 <= heard.count("kid") <= (BURST_BYTES + 2 * BYTES_PER_SECOND) // MAX_SIGNAL_BYTES


async def test_a_signal_has_a_size_and_is_complete(pool: Pool) -> None:
    lesson_id = await book(pool)
    session_id = str(lesson_id)
    async with doors(pool, 1) as (worker,):
        kid, teach = await worker.join("kid", lesson_id), await worker.join("teach", lesson_id)
        fits = "x" * (MAX_SIGNAL_BYTES - 2)
        assert (await worker.send(kid, "signal", sessionId=session_id, to="teach", data=fits))["ok"]
        assert [said["data"] for said in teach.events.of("signal")] == [fits]

        ack = await worker.send(kid, "signal", sessionId=session_id, to="teach", data=fits + "x")
        assert refused(ack) == (413, "signal_too_large")
        for payload in ({"to": "teach"}, {"data": 1}, {"to": 5, "data": 1}):
            ack = await worker.send(kid, "signal", sessionId=session_id, **payload)
            assert refused(ack) == (400, "validation_failed")
