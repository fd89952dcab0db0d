"""Reactions: kept once each, counted on the message, and listed in one order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from uuid import UUID, uuid4

import pytest

from store import messages, reactions
from store.database import Pool
from store.messages import Appended, Message, NewMessage
from store.reactions import Key
from tests.support.lessons import MEMBERS, book, database_pool
from tests.support.plans import indexes_in, plan_of, walked


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def say(pool: Pool, session_id: UUID) -> Message:
    new = NewMessage(id=uuid4(), session_id=session_id, user_id="kid", sender_name="Kid", text="hello", client_id=None)
    [answer] = await messages.append(pool, [new])
    assert isinstance(answer, Appended)
    return answer.message


def key(message: Message, user_id: str, emoji: str) -> Key:
    return Key(message_id=message.id, emoji=emoji, user_id=user_id)


async def save(
    pool: Pool, *, added: Collection[Key] = (), removed: Collection[Key] = (), counts: Mapping[UUID, Mapping[str, int]]
) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await reactions.save(connection, added=added, removed=removed, counts=counts)


async def test_reactions_are_kept_and_taken_away_and_their_counts_stand_in_the_message(pool: Pool) -> None:
    session_id = await book(pool)
    message, other = await say(pool, session_id), await say(pool, session_id)
    two = {key(message, "kid", "👍"), key(message, "mum", "👍")}
    await save(pool, added=two, counts={message.id: {"👍": 2}})
    async with pool.acquire() as connection:
        asked = two | {key(message, "kid", "🎉"), key(other, "kid", "👍"), key(message, "teach", "👍")}
        assert await reactions.kept(connection, asked) == two
        found = await messages.by_ids(connection, [message.id, other.id, uuid4()])
    assert {one.id: one.reactions for one in found} == {message.id: {"👍": 2}, other.id: None}
    await save(pool, added=[key(other, "kid", "🎉")], removed=two, counts={message.id: {}, other.id: {"🎉": 1}})
    async with pool.acquire() as connection:
        assert await reactions.kept(connection, asked | {key(other, "kid", "🎉")}) == {key(other, "kid", "🎉")}
        found = await messages.by_ids(connection, [message.id, other.id])
    assert {one.id: one.reactions for one in found} == {message.id: None, other.id: {"🎉": 1}}


async def test_who_reacted_is_read_in_pieces(pool: Pool) -> None:
    message = await say(pool, await book(pool))
    for who in MEMBERS:
        for emoji in ("👍", "🎉"):
            await save(pool, added=[key(message, who, emoji)], counts={})
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
    await save(pool, added=[key(message, "mum", "👍")], counts={message.id: {"👍": 1}})
    async with pool.acquire() as connection, connection.transaction():
        reacted_to = await messages.find(connection, session_id, message.id)
        assert reacted_to is not None
        deleted, _ = await messages.delete(connection, reacted_to, actor_id="kid")
    assert deleted.reactions is None
    assert await messages.find(pool, session_id, message.id) == deleted
    assert await reactions.of_message(pool, message.id, limit=10) == []


async def react(pool: Pool, message: Message, user_id: str, *emoji: str) -> None:
    """With counts as they stand in the message afterwards."""
    await pool.execute(
        "INSERT INTO message_reactions (message_id, user_id, emoji) SELECT $1, $2, unnest($3::text[])",
        message.id,
        user_id,
        list(emoji),
    )
    await pool.execute(
        """
        UPDATE session_messages SET reactions = (
            SELECT jsonb_object_agg(emoji, people) FROM (
                SELECT emoji, count(*) AS people FROM message_reactions WHERE message_id = $1 GROUP BY 1
            ) c
        ) WHERE id = $1
        """,
        message.id,
    )


async def test_ones_own_are_read_for_a_page_of_messages(pool: Pool) -> None:
    session_id, other = await book(pool), await book(pool)
    first, second, third = [await say(pool, session_id) for _ in range(3)]
    elsewhere = await say(pool, other)
    await react(pool, first, "kid", "👍", "🎉")
    await react(pool, first, "mum", "😂")
    await react(pool, third, "kid", "👍")
    await react(pool, elsewhere, "kid", "👍")
    everything = [(first.id, "🎉"), (first.id, "👍"), (third.id, "👍")]
    found = await reactions.own(pool, session_id, "kid", before=None, limit=10)
    assert (sorted(found[:2]), found[2:]) == (sorted(everything[:2]), everything[2:])
    assert await reactions.own(pool, session_id, "kid", before=None, limit=2) == [(third.id, "👍")]
    assert await reactions.own(pool, session_id, "kid", before=third.seq, limit=1) == []
    assert sorted(await reactions.own(pool, session_id, "kid", before=second.seq, limit=1)) == sorted(everything[:2])
    assert await reactions.own(pool, session_id, "mum", before=None, limit=10) == [(first.id, "😂")]


async def test_ones_own_are_found_without_reading_those_of_others(pool: Pool) -> None:
    session_id = await book(pool)
    spoken = [await say(pool, session_id) for _ in range(20)]
    await pool.execute("INSERT INTO users (id, role) SELECT 'many' || n, 'student' FROM generate_series(1, 200) n")
    await pool.execute(
        "INSERT INTO message_reactions (message_id, emoji, user_id)"
        " SELECT id, '👍', 'many' || n FROM session_messages, generate_series(1, 200) n"
    )
    for message in spoken:
        await react(pool, message, "kid", "👍")
    await pool.execute("ANALYZE")
    async with pool.acquire() as connection:
        walk = await walked(connection, lambda on: reactions.own(on, session_id, "kid", before=None, limit=10))
    assert {"session_messages_seq_unique", "message_reactions_pkey"} <= walk.indexes, walk.plan
    # Each message, and one's own reaction to it.
    assert walk.rows <= 2 * 10 + 1, (walk.rows, walk.plan)
