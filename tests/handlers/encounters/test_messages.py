"""Chat at the real-time door: muted, slow, pinned, reacted to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from domain import session_settings
from domain.session_settings import SettingsChange
from store import messages
from store.database import Pool
from tests.handlers.test_encounters import Worker, doors
from tests.support.lessons import book, database_pool, member


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


def refused(ack: dict[str, Any]) -> tuple[int, str]:
    assert ack["ok"] is False, ack
    return ack["error"]["status_code"], ack["error"]["error"]


async def set_(worker: Worker, session_id: Any, **settings: Any) -> None:
    await session_settings.change(worker.live, member(session_id, "teach"), SettingsChange(**settings))


async def test_a_muted_person_is_refused_without_a_batch_and_the_host_writes_on(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await book(pool)
    async with doors(pool, 2) as (one, other):
        teach, kid = await one.join("teach", session_id), await other.join("kid", session_id)
        before = await other.send(kid, "sendMessage", sessionId=str(session_id), text="before", clientId="c")
        await set_(one, session_id, chat_muted=True)
        ack = await one.send(teach, "sendMessage", sessionId=str(session_id), text="quiet")
        assert ack["ok"]
        append = messages.append

        async def not_asked(*_: Any, **__: Any) -> None:
            raise AssertionError("the batch was asked")

        monkeypatch.setattr(messages, "append", not_asked)
        muted = await other.send(kid, "sendMessage", sessionId=str(session_id), text="x", clientId="d")
        assert refused(muted) == (403, "chat_muted")
        again = await other.send(kid, "sendMessage", sessionId=str(session_id), text="before", clientId="c")
        assert again == before
        bad = await other.send(kid, "sendMessage", sessionId=str(session_id), text=" ")
        assert refused(bad) == (400, "validation_failed")
        monkeypatch.setattr(messages, "append", append)
        edit = await other.send(kid, "editMessage", sessionId=str(session_id), id=before["message"]["id"], text="y")
        assert refused(edit) == (403, "chat_muted")
        await set_(other, session_id, chat_muted=False)
        assert (await other.send(kid, "sendMessage", sessionId=str(session_id), text="x"))["ok"]


async def test_slow_mode_counts_over_tabs_and_workers_and_says_when(pool: Pool) -> None:
    session_id = await book(pool)
    async with doors(pool, 2) as found:
        tabs = [(worker, await worker.join("kid", session_id)) for worker in found for _ in range(2)]
        await set_(found[0], session_id, slow_mode_seconds=3_600)
        acks = [await worker.send(tab, "sendMessage", sessionId=str(session_id), text="x") for worker, tab in tabs]
        assert [ack["ok"] for ack in acks] == [True, False, False, False]
        for ack in acks[1:]:
            assert refused(ack) == (429, "slow_mode")
            assert 3_500 <= ack["error"]["retry_after"] <= 3_600


async def test_the_host_pins_over_the_socket_and_others_do_not(pool: Pool) -> None:
    session_id = await book(pool)
    async with doors(pool, 2) as (one, other):
        teach, kid = await one.join("teach", session_id), await other.join("kid", session_id)
        said = await other.send(kid, "sendMessage", sessionId=str(session_id), text="x")
        message_id = said["message"]["id"]
        for pinned in (message_id, None):
            ack = await one.send(teach, "pinMessage", sessionId=str(session_id), id=pinned)
            assert ack == {"ok": True}
            joined = await other.send(await other.connect("mum"), "joinSession", sessionId=str(session_id))
            assert joined["session"]["pinnedMessageId"] == pinned
            assert refused(await other.send(kid, "pinMessage", sessionId=str(session_id), id=pinned)) == (
                403,
                "not_host",
            )
        assert [data["id"] for data in kid.events.of("messagePinned")] == [message_id, None]
        for bad, status in ((str(uuid4()), 404), ("x", 404), (5, 400)):
            ack = await one.send(teach, "pinMessage", sessionId=str(session_id), id=bad)
            assert refused(ack)[0] == status
        assert refused(await one.send(teach, "pinMessage", sessionId=str(session_id)))[0] == 400


async def test_a_reaction_is_acked_with_the_message_and_shown_on_every_worker(pool: Pool) -> None:
    session_id = await book(pool)
    async with doors(pool, 2) as (one, other):
        teach, kid = await one.join("teach", session_id), await other.join("kid", session_id)
        said = await other.send(kid, "sendMessage", sessionId=str(session_id), text="x")
        react = {"sessionId": str(session_id), "id": said["message"]["id"], "emoji": "👍"}
        for _ in range(2):
            ack = await one.send(teach, "react", **react)
            assert ack["message"] == said["message"] | {"reactions": {"👍": 1}}
        ack = await one.send(teach, "react", **react, reacted=False)
        assert ack["message"] == said["message"]
        for client in (teach, kid):
            assert [(data["reacted"], data["reactions"]) for data in client.events.of("messageReaction")] == [
                (True, {"👍": 1}),
                (False, {}),
            ]
        for bad in ("", "x", "👍👍", None, 5):
            assert refused(await one.send(teach, "react", **react | {"emoji": bad})) == (400, "validation_failed")
        stranger = await one.connect("kid2")
        assert refused(await one.send(stranger, "react", **react)) == (403, "not_joined")
