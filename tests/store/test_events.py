"""The ordered log of a session: messages and all else, in one counting."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from store import chat_rules, events, messages, sessions
from store.database import Pool
from store.errors import Refused, translated
from store.events import Kind, LogEntry, NewEntry
from store.messages import Appended, Message, NewMessage
from tests.support.lessons import book, database_pool


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def say(pool: Pool, session_id: UUID, text: str) -> Message:
    new = NewMessage(
        id=uuid4(), session_id=session_id, user_id="kid", sender_name="Kid", text=text, client_id=f"c-{uuid4()}"
    )
    [answer] = await messages.append(pool, [new])
    assert isinstance(answer, Appended)
    return answer.message


def logged(message: Message) -> LogEntry:
    """A message as an entry of its session's log."""
    return LogEntry(
        session_id=message.session_id,
        seq=message.seq,
        kind="message",
        user_id=message.user_id,
        at=message.created_at,
        message_id=message.id,
        sender_name=message.sender_name,
        text=message.text,
        client_id=message.client_id,
    )


async def log(pool: Pool, session_id: UUID, kind: Kind, data: dict[str, Any] | None = None) -> LogEntry:
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            return await events.append(connection, session_id, kind=kind, user_id="teach", data=data)


async def edit(pool: Pool, message: Message, text: str) -> LogEntry:
    async with pool.acquire() as connection, connection.transaction():
        await sessions.locked(connection, message.session_id)
        return (await messages.edit(connection, message, text=text, actor_id="kid"))[1]


async def delete(pool: Pool, message: Message) -> LogEntry:
    async with pool.acquire() as connection, connection.transaction():
        await sessions.locked(connection, message.session_id)
        return (await messages.delete(connection, message, actor_id="teach"))[1]


async def everything(pool: Pool, session_id: UUID) -> list[LogEntry]:
    return await events.first_after(pool, session_id, 0, limit=1000)


async def test_messages_and_all_else_are_read_as_one_log_and_as_they_were_written(pool: Pool) -> None:
    session_id, other = await book(pool), await book(pool)
    await say(pool, other, "elsewhere")
    await log(pool, other, "session_status", {"status": "live"})
    written = [
        logged(await say(pool, session_id, "one")),
        await log(pool, session_id, "session_status", {"status": "live"}),
        await log(pool, session_id, "hand_raised", {"userId": "kid", "raised": True}),
        logged(await say(pool, session_id, "two")),
        await log(pool, session_id, "participant_kicked", {"userId": "kid"}),
        await log(pool, session_id, "permissions_changed"),
    ]
    assert await everything(pool, session_id) == written
    assert [entry.seq for entry in written] == [1, 2, 3, 4, 5, 6]
    assert await events.positions(pool, [session_id, other, uuid4()]) == {session_id: 6, other: 2}


async def test_an_edited_message_stands_everywhere_with_its_present_text(pool: Pool) -> None:
    session_id = await book(pool)
    message = await say(pool, session_id, "wrogn")
    first = await edit(pool, message, "worng")
    second = await edit(pool, message, "wrong")
    said, once, twice = await everything(pool, session_id)
    assert (said.text, once.text, twice.text) == ("wrong", "wrong", "wrong")
    assert (said.message_id, once.message_id) == (message.id, message.id)
    assert said.edited_at == second.at
    assert (once.seq, once.at, first.text) == (2, first.at, "worng"), "as it was told live"
    assert (said.at, said.client_id, once.client_id) == (message.created_at, message.client_id, None)


async def test_a_deleted_text_is_gone_from_every_entry(pool: Pool) -> None:
    session_id = await book(pool)
    message = await say(pool, session_id, "a secret")
    await edit(pool, message, "another secret")
    told = await delete(pool, message)
    said, edited, deleted = await everything(pool, session_id)
    assert [entry.kind for entry in (said, edited, deleted)] == ["message", "message_edited", "message_deleted"]
    assert "secret" not in repr((said, edited, deleted, told))
    assert (said.deleted, said.text, edited.text) == (True, "", "")
    assert (deleted.seq, deleted.user_id, deleted.message_id) == (3, "teach", message.id)


async def test_the_log_is_read_by_cursors_in_both_directions(pool: Pool) -> None:
    session_id = await book(pool)
    for number in range(12):
        if random.random() < 0.5:
            await say(pool, session_id, str(number))
        else:
            await log(pool, session_id, "hand_raised")

    async def after(seq: int, limit: int) -> list[int]:
        return [entry.seq for entry in await events.first_after(pool, session_id, seq, limit=limit)]

    async def newest(before: int | None = None, limit: int = 3) -> list[int]:
        return [entry.seq for entry in await events.newest(pool, session_id, before=before, limit=limit)]

    assert await after(0, 5) == [1, 2, 3, 4, 5]
    assert await after(10, 5) == [11, 12]
    assert await after(12, 5) == await after(2**63 - 1, 5) == []
    assert await newest() == [10, 11, 12]
    assert await newest(before=10) == [7, 8, 9]
    assert await newest(before=2) == [1]
    assert await newest(before=1) == []
    assert await newest(limit=1000) == list(range(1, 13))


async def test_what_is_rolled_back_leaves_no_gap(pool: Pool) -> None:
    session_id = await book(pool)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        assert (await events.append(connection, session_id, kind="hand_raised", user_id="kid")).seq == 1
        await transaction.rollback()
    assert (await log(pool, session_id, "hand_raised")).seq == 1


async def test_entries_of_many_at_once_have_no_gap(pool: Pool) -> None:
    session_id = await book(pool)
    logged = await asyncio.gather(*(log(pool, session_id, "hand_raised", {"n": n}) for n in range(60)))
    assert sorted(entry.seq for entry in logged) == list(range(1, 61))
    assert await everything(pool, session_id) == sorted(logged, key=lambda entry: entry.seq)
    times = [entry.at for entry in await everything(pool, session_id)]
    assert times == sorted(times), "an entry's time is when it had its turn"


async def test_nothing_is_logged_of_a_session_that_is_not_there(pool: Pool) -> None:
    with pytest.raises(LookupError):
        await log(pool, uuid4(), "hand_raised")


async def test_a_kind_that_is_not_known_and_an_actor_who_is_not_are_refused(pool: Pool) -> None:
    session_id = await book(pool)
    with pytest.raises(Refused, match="session_events_kind_known"):
        await log(pool, session_id, "message")
    with pytest.raises(Refused, match="session_events_actor_exists"), translated():
        async with pool.acquire() as connection, connection.transaction():
            await events.append(connection, session_id, kind="hand_raised", user_id="nobody")
    assert await events.positions(pool, [session_id]) == {session_id: 0}


async def test_several_entries_are_written_at_once_each_sessions_in_their_order(pool: Pool) -> None:
    first, second = await book(pool), await book(pool)
    await log(pool, second, "hand_raised")
    new = [
        NewEntry(session_id=session_id, kind="hand_raised", user_id="kid", data={"n": n})
        for n, session_id in enumerate((first, second, first, first, second))
    ]
    async with pool.acquire() as connection, connection.transaction():
        await chat_rules.locked(connection, [first, second])
        written = await events.append_all(connection, new)
    assert [(entry.seq, entry.data["n"]) for entry in written] == [(1, 0), (2, 1), (2, 2), (3, 3), (3, 4)]
    assert await everything(pool, first) == [entry for entry in written if entry.session_id == first]
    assert (await everything(pool, second))[1:] == [entry for entry in written if entry.session_id == second]
    assert await events.positions(pool, [first, second]) == {first: 3, second: 3}
