"""Signals at the real-time door: to one person in the room, and to nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain import signals
from domain.signals import BURST_BYTES, BYTES_PER_SECOND, MAX_SIGNAL_BYTES
from realtime.events import Event
from store import meeting_people
from store.database import Executor, Pool
from store.meeting_people import Mesh
from tests.handlers.test_encounters import doors
from tests.support.lessons import MEMBERS, book, database_pool
from tests.support.meetings import meet

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
    await meet(pool, lesson_id, *MEMBERS)
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
    await meet(pool, lesson_id, *MEMBERS)
    async with doors(pool, 1) as (worker,):
        kid, teach = await worker.join("kid", lesson_id), await worker.join("teach", lesson_id)

        await worker.send(kid, "signal", sessionId=session_id, to="teach", data=1, **{"from": "boss"})

        assert [said["from"] for said in teach.events.of("signal")] == ["kid"]


async def test_only_who_joined_signals_and_only_to_who_is_there(pool: Pool) -> None:
    lesson_id, other_id = await book(pool), await book(pool)
    session_id, elsewhere = str(lesson_id), str(other_id)
    await meet(pool, lesson_id, *MEMBERS)
    await meet(pool, other_id, *MEMBERS)
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
    await meet(pool, lesson_id, *MEMBERS)
    async with doors(pool, 1) as (worker,):
        kid, teach = await worker.join("kid", lesson_id), await worker.join("teach", lesson_id)
        await worker.send(teach, "kick", sessionId=session_id, userId="kid")
        await kid.events.wait_for("kicked")
        await teach.events.wait_for("participantLeft")

        ack = await worker.send(teach, "signal", sessionId=session_id, to="kid", data=OFFER)
        assert refused(ack) == (404, "not_here")
        assert not (await worker.send(kid, "signal", sessionId=session_id, to="teach", data=OFFER))["ok"]
        assert kid.events.of("signal") == teach.events.of("signal") == []


async def test_there_is_nothing_to_signal_where_the_meeting_is_not_among_browsers(pool: Pool) -> None:
    lesson_id = await book(pool)
    async with doors(pool, 2) as (one, other):
        kid, teach = await one.join("kid", lesson_id), await other.join("teach", lesson_id)

        async def signalled() -> dict[str, Any]:
            return await one.send(kid, "signal", sessionId=str(lesson_id), to="teach", data=OFFER)

        assert refused(await signalled()) == (409, "not_peer")
        await meet(pool, lesson_id, "kid", "teach")
        assert (await signalled())["ok"]
        await meet(pool, lesson_id, "kid", "teach", provider="daily")
        other.live.tell(str(lesson_id), Event(name="meetingMoved", data={"session_id": str(lesson_id)}))
        assert refused(await signalled()) == (409, "not_peer")
        assert len(teach.events.of("signal")) == 1


async def test_a_move_that_no_worker_was_told_of_is_noticed(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    lesson_id = await book(pool)
    await meet(pool, lesson_id, "kid", "teach")
    async with doors(pool, 1) as (worker,):
        kid, _ = await worker.join("kid", lesson_id), await worker.join("teach", lesson_id)
        assert (await worker.send(kid, "signal", sessionId=str(lesson_id), to="teach", data=OFFER))["ok"]
        await meet(pool, lesson_id, "kid", "teach", provider="jitsi")

        monkeypatch.setattr(signals, "MESH_SECONDS", 0.0)

        ack = await worker.send(kid, "signal", sessionId=str(lesson_id), to="teach", data=OFFER)
        assert refused(ack) == (409, "not_peer")


async def test_only_who_has_a_pass_signals_and_is_signalled_to(pool: Pool) -> None:
    lesson_id = await book(pool)
    meeting = await meet(pool, lesson_id, "kid", "teach")
    async with doors(pool, 2) as (one, other):
        kid, mum = await one.join("kid", lesson_id), await other.join("mum", lesson_id)
        await one.join("teach", lesson_id)

        async def signalled(worker: Any, who: Any, to: str) -> dict[str, Any]:
            ack: dict[str, Any] = await worker.send(who, "signal", sessionId=str(lesson_id), to=to, data=OFFER)
            return ack

        assert refused(await signalled(other, mum, "kid")) == (403, "no_pass")
        assert refused(await signalled(one, kid, "mum")) == (404, "not_here")
        await meeting_people.take_place(pool, meeting.id, "mum", places=6, host_id="teach")
        assert (await signalled(one, kid, "mum"))["ok"]  # at once, and without being told of it
        assert (await signalled(other, mum, "kid"))["ok"]
        assert len(kid.events.of("signal")) == len(mum.events.of("signal")) == 1


async def test_a_pass_to_one_meeting_is_none_to_another(pool: Pool) -> None:
    lesson_id, other_id = await book(pool), await book(pool)
    await meet(pool, lesson_id, "kid", "teach")
    await meet(pool, other_id, "teach")
    async with doors(pool, 1) as (worker,):
        kid, teach = await worker.join("kid", other_id), await worker.join("teach", other_id)

        ack = await worker.send(kid, "signal", sessionId=str(other_id), to="teach", data=OFFER)
        assert refused(ack) == (403, "no_pass")
        ack = await worker.send(kid, "signal", sessionId=str(lesson_id), to="teach", data=OFFER)
        assert refused(ack) == (403, "not_joined")
        assert teach.events.of("signal") == []


async def test_the_database_is_asked_once_for_many_signals(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    lesson_id = await book(pool)
    await meet(pool, lesson_id, "kid", "teach")
    asked, look = 0, meeting_people.mesh

    async def counted(executor: Executor, session_id: Any) -> Mesh:
        nonlocal asked
        asked += 1
        return await look(executor, session_id)

    monkeypatch.setattr(meeting_people, "mesh", counted)
    async with doors(pool, 1) as (worker,):
        kid, teach = await worker.join("kid", lesson_id), await worker.join("teach", lesson_id)
        ways = [(kid, "teach"), (teach, "kid")] * 20
        acks = [await worker.send(who, "signal", sessionId=str(lesson_id), to=to, data=1) for who, to in ways]

        assert all(ack["ok"] for ack in acks)
        assert asked == 1


async def test_whoever_is_flooded_with_signals_stays_connected_and_hears_others(pool: Pool) -> None:
    lesson_id = await book(pool)
    session_id = str(lesson_id)
    await meet(pool, lesson_id, *MEMBERS)
    async with doors(pool, 1) as (worker,):
        kid, teach = await worker.join("kid", lesson_id), await worker.join("teach", lesson_id)
        mum = await worker.join("mum", lesson_id)
        flood = "x" * (MAX_SIGNAL_BYTES - 2)
        for _ in range(40):
            await worker.send(kid, "signal", sessionId=session_id, to="teach", data=flood)

        await worker.send(mum, "signal", sessionId=session_id, to="teach", data=OFFER)

        ack = await worker.send(kid, "signal", sessionId=session_id, to="teach", data=flood)
        assert refused(ack) == (429, "too_many_signals")
        heard = [said["from"] for said in teach.events.of("signal")]
        assert heard[-1] == "mum"
        assert 1 <= heard.count("kid") <= (BURST_BYTES + 2 * BYTES_PER_SECOND) // MAX_SIGNAL_BYTES


async def test_a_signal_has_a_size_and_is_complete(pool: Pool) -> None:
    lesson_id = await book(pool)
    session_id = str(lesson_id)
    await meet(pool, lesson_id, *MEMBERS)
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
