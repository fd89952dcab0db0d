"""Reactions: kept once each, counted on the message, and listed in one order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from store import events, messages, reactions
from store.database import Pool
from store.messages import Appended, Message, NewMessage
from tests.support.lessons import MEMBERS, book, database_pool
from tests.support.plans import indexes_in, plan_of


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def say(pool: Pool, session_id: UUID) -> Message:
    new = NewMessage(id=uuid4(), session_id=session_id, user_id="kid", sender_name="Kid", text="hello", client_id=None)
    [answer] = await messages.append(pool, [new])
    assert isinstance(answer, Appended)
    return answer.message


async def add(pool: Pool, message: Message, user_id: str, emoji: str) -> bool:
    async with pool.acquire() as connection, connection.transaction():
        return await reactions.add(connection, message.id, user_id, emoji)


async def test_a_reaction_is_kept_once_and_taken_back_once(pool: Pool) -> None:
    message = await say(pool, await book(pool))
    assert [await add(pool, message, "kid", "👍") for _ in range(2)] == [True, False]
    async with pool.acquire() as connection:
        assert [await reactions.remove(connection, message.id, "kid", "👍") for _ in range(2)] == [True, False]


async def test_counts_stand_in_the_message_and_in_the_log(pool: Pool) -> None:
    session_id = await book(pool)
    message = await say(pool, session_id)
    async with pool.acquire() as connection, connection.transaction():
        entry = await reactions.count(
            connection, message, {"👍": 2, "🎉": 1}, user_id="teach", emoji="🎉", reacted=True
        )
    found = await messages.find(pool, session_id, message.id)
    assert found is not None
    assert found.reactions == {"👍": 2, "🎉": 1}
    said, reacted = await events.first_after(pool, session_id, 0, limit=10)
    assert said.reactions == {"👍": 2, "🎉": 1}
    assert (reacted.seq, reacted.kind, reacted.user_id, reacted.message_id, reacted.data) == (
        2, "message_reaction", "teach", message.id, entry.data,
    )  # fmt: skip
    async with pool.acquire() as connection, connection.transaction():
        await reactions.count(connection, message, {}, user_id="teach", emoji="🎉", reacted=False)
    found = await messages.find(pool, session_id, message.id)
    assert found is not None
    assert found.reactions is None


async def test_who_reacted_is_read_in_pieces(pool: Pool) -> None:
    message = await say(pool, await book(pool))
    for who in MEMBERS:
        for emoji in ("👍", "🎉"):
            await add(pool, message, who, emoji)
    everybody = await reactions.of_message(pool, message.id, limit=100)
    assert {(one.user_id, one.emoji) for one in everybody} == {
        (who, emoji) for who in MEMBERS for emoji in ("👍", "🎉")
    }
    assert everybody[0].first_name == everybody[0].user_id.capitalize()
    pieces, after = [], None
    while piece := await reactions.of_message(pool, message.id, after=after, limit=3):
        pieces += piece
        after = (piece[-1].emoji, piece[-1].user_id)
    assert pieces == everybody


async def test_who_reacted_is_read_along_the_index(pool: Pool) -> None:
    statement = (
        "SELECT r.user_id FROM message_reactions r JOIN users u ON u.id = r.user_id"
        " WHERE r.message_id = $1::uuid AND (r.emoji, r.user_id) > ($2::text, $3::text)"
        " ORDER BY r.emoji, r.user_id LIMIT $4::int"
    )
    async with pool.acquire() as connection:
        plan = await plan_of(connection, statement, 4)
    assert indexes_in(plan) == {"message_reactions_pkey", "users_pkey"}
    assert "Sort" not in plan


async def test_the_reactions_of_a_deleted_message_are_gone(pool: Pool) -> None:
    session_id = await book(pool)
    message = await say(pool, session_id)
    await add(pool, message, "mum", "👍")
    async with pool.acquire() as connection, connection.transaction():
        await reactions.count(connection, message, {"👍": 1}, user_id="mum", emoji="👍", reacted=True)
        reacted_to = await messages.find(connection, session_id, message.id)
        assert reacted_to is not None
        deleted, _ = await messages.delete(connection, reacted_to, actor_id="kid")
    assert deleted.reactions is None
    assert await messages.find(pool, session_id, message.id) == deleted
    assert await reactions.of_message(pool, message.id, limit=10) == []
