"""The pinned message: one at a time, the host's to choose, and never a deleted one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from domain import chat, pins
from domain.errors import Conflict, Forbidden, NotFound
from domain.live import Live
from store import sessions
from store.database import Pool
from store.messages import Message
from tests.support.lessons import book, close_chat, database_pool, member
from tests.support.rooms import join, room_of, told, workers


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture
async def live(pool: Pool) -> AsyncIterator[Live]:
    async with workers(pool, 1) as (live,):
        yield live


async def say(live: Live, session_id: UUID, text: str = "hello") -> Message:
    message, _ = await chat.send(live, member(session_id, "kid"), text=text, client_id=None)
    return message


async def pinned(live: Live, session_id: UUID) -> UUID | None:
    session = await sessions.find(live.pool, session_id)
    assert session is not None
    return session.pinned_message_id


async def test_the_host_pins_one_message_in_the_place_of_another_and_everybody_is_told(live: Live) -> None:
    session_id = await book(live.pool)
    watching = await join(live, session_id, "kid")
    one, other = await say(live, session_id), await say(live, session_id)
    teach = member(session_id, "teach")
    for message in (one, one, other):
        assert await pins.pin(live, teach, str(message.id)) == message
        assert await pinned(live, session_id) == message.id
    assert live.pinned_message(room_of(live, session_id)) == other.id
    for _ in range(2):
        await pins.unpin(live, member(session_id, "boss"))
        assert await pinned(live, session_id) is None
    assert told(watching, "messagePinned") == [
        {"seq": 3, "id": str(one.id)},
        {"seq": 4, "id": str(other.id)},
        {"seq": 5, "id": None},
    ]
    assert live.pinned_message(room_of(live, session_id)) is None


@pytest.mark.parametrize("who", ["kid", "mum", "gran"])
async def test_others_pin_nothing(live: Live, who: str) -> None:
    session_id = await book(live.pool)
    message = await say(live, session_id)
    await pins.pin(live, member(session_id, "teach"), str(message.id))
    someone = member(session_id, who)
    with pytest.raises(Forbidden) as refusal:
        await pins.pin(live, someone, str(message.id))
    assert refusal.value.code == "not_host"
    with pytest.raises(Forbidden):
        await pins.unpin(live, someone)
    assert await pinned(live, session_id) == message.id


async def test_a_message_of_another_session_and_none_at_all_are_not_pinned(live: Live) -> None:
    session_id, other = await book(live.pool), await book(live.pool)
    message = await say(live, session_id)
    for where, message_id in ((other, str(message.id)), (session_id, str(uuid4())), (session_id, "x")):
        with pytest.raises(NotFound):
            await pins.pin(live, member(where, "teach"), message_id)
        assert await pinned(live, where) is None


async def test_a_deleted_message_is_no_longer_pinned_and_cannot_be(live: Live) -> None:
    session_id = await book(live.pool)
    watching = await join(live, session_id, "teach")
    message, stays = await say(live, session_id), await say(live, session_id)
    teach = member(session_id, "teach")
    await pins.pin(live, teach, str(message.id))
    await chat.delete(live, member(session_id, "kid"), str(message.id))
    assert await pinned(live, session_id) is None
    assert [received.event for received in watching.events.all if "seq" in received.data][-2:] == [
        "messageDeleted",
        "messagePinned",
    ]
    assert told(watching, "messagePinned")[-1] == {"seq": 5, "id": None}
    with pytest.raises(Conflict) as refusal:
        await pins.pin(live, teach, str(message.id))
    assert refusal.value.code == "message_deleted"
    await pins.pin(live, teach, str(stays.id))
    other = await say(live, session_id)
    await chat.delete(live, teach, str(other.id))
    assert await pinned(live, session_id) == stays.id, "another's deletion leaves it"


async def test_pinning_and_deleting_at_once_never_leaves_a_deleted_message_pinned(live: Live) -> None:
    session_id = await book(live.pool)
    teach = member(session_id, "teach")
    for _ in range(10):
        message = await say(live, session_id)
        await asyncio.gather(
            pins.pin(live, teach, str(message.id)),
            chat.delete(live, teach, str(message.id)),
            return_exceptions=True,
        )
        assert await pinned(live, session_id) is None


async def test_in_a_cancelled_bookings_chat_nothing_is_pinned_any_more(live: Live) -> None:
    session_id = await book(live.pool)
    message, other = await say(live, session_id), await say(live, session_id)
    teach = member(session_id, "teach")
    await pins.pin(live, teach, str(message.id))
    await close_chat(live.pool, session_id)
    with pytest.raises(Conflict) as refusal:
        await pins.pin(live, teach, str(other.id))
    assert refusal.value.code == "booking_cancelled"
    await pins.unpin(live, teach)
    assert await pinned(live, session_id) is None
