"""The whiteboard at the real-time door: acks, refusals, and who may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain import session_settings, whiteboard
from domain.session_settings import SettingsChange
from store.database import Pool
from tests.handlers.test_encounters import doors
from tests.support.drawings import stored, stroke
from tests.support.lessons import book, database_pool, live_session, member


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


def refused(ack: dict[str, Any]) -> tuple[int, str]:
    assert ack["ok"] is False, ack
    return ack["error"]["status_code"], ack["error"]["error"]


async def test_drawing_is_acked_and_shown_to_the_others_only(pool: Pool) -> None:
    session_id = await book(pool)
    async with doors(pool, 2) as (one, other):
        kid, tab = await one.join("kid", session_id), await one.join("kid", session_id)
        teach = await other.join("teach", session_id)
        ack = await one.send(kid, "whiteboard", sessionId=str(session_id), elements=[stroke("a", 2)])
        assert ack == {"ok": True, "elements": []}
        for client in (tab, teach):
            [data] = client.events.of("whiteboard")
            assert (data["userId"], data["elements"]) == ("kid", [stroke("a", 2)])
        assert kid.events.of("whiteboard") == []
        stale = await other.send(teach, "whiteboard", sessionId=str(session_id), elements=[stroke("a", 1)])
        assert stale == {"ok": True, "elements": [stroke("a", 2)]}
        fetched = await other.send(teach, "getWhiteboard", sessionId=str(session_id))
        assert fetched == {"ok": True, "elements": [stroke("a", 2)], "revision": 1, "more": False}


async def test_more_winners_than_an_answer_brings_are_announced(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whiteboard, "PAGE_BYTES", 1_000)
    session_id = await book(pool)
    async with doors(pool, 1) as (worker,):
        kid = await worker.join("kid", session_id)
        new = [stroke(f"{n}", 2, text="x" * 400) for n in range(4)]
        assert (await worker.send(kid, "whiteboard", sessionId=str(session_id), elements=new))["ok"]
        old = [stroke(f"{n}", 1) for n in range(4)]
        ack = await worker.send(kid, "whiteboard", sessionId=str(session_id), elements=old)
        assert (ack["ok"], ack["more"]) == (True, True)
        assert 0 < len(ack["elements"]) < 4


async def test_in_a_live_class_students_draw_until_the_host_locks_the_board(pool: Pool) -> None:
    session_id = await live_session(pool, students=["kid"], status="live")
    async with doors(pool, 2) as (one, other):
        kid, teach = await one.join("kid", session_id), await other.join("teach", session_id)
        assert (await one.send(kid, "whiteboard", sessionId=str(session_id), elements=[stroke("a")]))["ok"]
        await session_settings.change(other.live, member(session_id, "teach"), SettingsChange(whiteboard_locked=True))
        ack = await one.send(kid, "whiteboard", sessionId=str(session_id), elements=[stroke("b")])
        assert refused(ack) == (403, "whiteboard_locked")
        assert (await other.send(teach, "whiteboard", sessionId=str(session_id), elements=[stroke("c")]))["ok"]
        assert refused(await one.send(kid, "clearWhiteboard", sessionId=str(session_id))) == (403, "not_host")
        assert set(await stored(pool, session_id)) == {"a", "c"}
        assert await other.send(teach, "clearWhiteboard", sessionId=str(session_id)) == {"ok": True}
        assert (await one.send(kid, "getWhiteboard", sessionId=str(session_id)))["elements"] == []


@pytest.mark.parametrize("event", ["whiteboard", "getWhiteboard", "clearWhiteboard"])
async def test_nobody_touches_the_board_of_a_session_that_they_have_not_joined(pool: Pool, event: str) -> None:
    session_id, other_id = await book(pool), await book(pool)
    async with doors(pool, 1) as (worker,):
        teach = await worker.join("teach", session_id)
        ack = await worker.send(teach, event, sessionId=str(other_id), elements=[stroke("a")])
        assert refused(ack) == (403, "not_joined")
        assert await stored(pool, other_id) == {}


async def test_a_wrong_payload_is_named(pool: Pool) -> None:
    session_id = await book(pool)
    async with doors(pool, 1) as (worker,):
        kid = await worker.join("kid", session_id)
        for event, payload, path in (
            ("whiteboard", {}, "elements"),
            ("whiteboard", {"elements": "x"}, "elements"),
            ("whiteboard", {"elements": [stroke("a"), stroke("b") | {"version": None}]}, "elements[1].version"),
            ("getWhiteboard", {"after": "1"}, "after"),
            ("getWhiteboard", {"after": -1}, "after"),
        ):
            ack = await worker.send(kid, event, sessionId=str(session_id), **payload)
            assert refused(ack) == (400, "validation_failed")
            assert list(ack["error"]["fields"]) == [path]
        assert await stored(pool, session_id) == {}
