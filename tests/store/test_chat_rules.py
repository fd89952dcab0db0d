"""Who may write where the host has muted the chat or slowed it down, as the database decides it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from store import events, messages, participants, sessions
from store.chat_rules import ChatClosed, ChatMuted, NotTaken, Rules, TooSoon, Writer, verdict
from store.database import Pool
from store.messages import Appended, NewMessage
from tests.support.lessons import book, close_chat, database_pool, until_somebody_waits
from tests.support.plans import plan_of

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def rules(*, chat_open: bool = True, chat_muted: bool = False, slow: int = 0) -> Rules:
    return Rules(chat_open=chat_open, chat_muted=chat_muted, slow_mode_seconds=slow)


@pytest.mark.parametrize(
    ("of", "is_host", "seconds_ago", "refusal"),
    [
        (rules(), False, 0, None),
        (rules(chat_muted=True), False, None, ChatMuted),
        (rules(chat_muted=True), True, None, None),
        (rules(chat_open=False), True, None, ChatClosed),
        (rules(chat_open=False, chat_muted=True), False, None, ChatClosed),
        (rules(slow=10), False, None, None),
        (rules(slow=10), False, 9.5, TooSoon),
        (rules(slow=10), False, 10, None),
        (rules(slow=10), True, 0, None),
        (rules(chat_muted=True, slow=10), False, 99, ChatMuted),
    ],
)
def test_who_may_write(of: Rules, is_host: bool, seconds_ago: float | None, refusal: type[NotTaken] | None) -> None:
    writer = Writer(session_id=UUID(int=1), user_id="kid", is_host=is_host)
    chatted_at = None if seconds_ago is None else NOW - timedelta(seconds=seconds_ago)
    found = verdict(of, writer, chatted_at, NOW)
    assert found is None if refusal is None else isinstance(found, refusal)


@pytest.mark.parametrize(("seconds_ago", "left"), [(0, 10), (0.1, 10), (9, 1), (9.99, 1), (-3600, 10)])
def test_whoever_is_too_soon_is_told_for_how_long(seconds_ago: float, left: int) -> None:
    writer = Writer(session_id=UUID(int=1), user_id="kid", is_host=False)
    found = verdict(rules(slow=10), writer, NOW - timedelta(seconds=seconds_ago), NOW)
    assert isinstance(found, TooSoon)
    assert found.retry_after == left


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


def new(session_id: UUID, user_id: str = "kid", *, client_id: str | None = None, is_host: bool = False) -> NewMessage:
    return NewMessage(
        id=uuid4(),
        session_id=session_id,
        user_id=user_id,
        sender_name=user_id.capitalize(),
        text="hello",
        client_id=client_id,
        is_host=is_host,
    )


async def restrict(pool: Pool, session_id: UUID, *, muted: bool = False, slow: int = 0) -> None:
    await pool.execute(
        "UPDATE sessions SET chat_muted = $2, slow_mode_seconds = $3 WHERE id = $1", session_id, muted, slow
    )


async def seqs(pool: Pool, session_id: UUID) -> list[int]:
    """Of all entries; there is no gap, and the counter is right."""
    found = [entry.seq for entry in await events.first_after(pool, session_id, 0, limit=1000)]
    assert found == list(range(1, len(found) + 1))
    assert await events.positions(pool, [session_id]) == {session_id: len(found)}
    return found


async def test_in_a_muted_chat_the_host_alone_writes_and_the_rest_of_the_batch_goes_through(pool: Pool) -> None:
    muted, free, closed = await book(pool), await book(pool), await book(pool)
    await restrict(pool, muted, muted=True)
    await close_chat(pool, closed)
    batch = [
        new(muted), new(muted, "teach", is_host=True), new(free), new(closed, "teach", is_host=True),
        new(muted, "boss", is_host=True), new(muted, "mum"), new(uuid4()),
    ]  # fmt: skip
    outcomes = await messages.append(pool, batch)
    assert [type(outcome) for outcome in outcomes] == [
        ChatMuted, Appended, Appended, ChatClosed, Appended, ChatMuted, ChatClosed,
    ]  # fmt: skip
    assert await seqs(pool, muted) == [1, 2]
    assert (await seqs(pool, free), await seqs(pool, closed)) == ([1], [])


async def test_in_slow_mode_each_person_writes_once_in_a_while_and_the_host_at_will(pool: Pool) -> None:
    session_id = await book(pool)
    await restrict(pool, session_id, slow=60)
    batch = [new(session_id), new(session_id, "mum"), new(session_id), new(session_id, "teach", is_host=True)]
    outcomes = await messages.append(pool, batch)
    assert [type(outcome) for outcome in outcomes] == [Appended, Appended, TooSoon, Appended]
    again, host = await messages.append(pool, [new(session_id), new(session_id, "teach", is_host=True)])
    assert isinstance(again, TooSoon)
    assert 55 < again.retry_after <= 60
    assert isinstance(host, Appended)
    await pool.execute(
        "UPDATE session_participants SET chatted_at = chatted_at - interval '60 s' WHERE user_id = 'kid'"
    )
    [later] = await messages.append(pool, [new(session_id)])
    assert isinstance(later, Appended)
    assert await seqs(pool, session_id) == [1, 2, 3, 4, 5]


async def test_who_writes_without_having_joined_is_slowed_down_and_not_shown_as_here(pool: Pool) -> None:
    session_id = await book(pool)
    await restrict(pool, session_id, slow=60)
    await messages.append(pool, [new(session_id)])
    [someone] = await participants.of_session(pool, session_id, limit=10)
    assert (someone.user_id, someone.joined_at, someone.online) == ("kid", None, False)


async def test_of_many_at_once_in_slow_mode_one_is_written_whatever_the_worker(pool: Pool) -> None:
    session_id = await book(pool)
    await restrict(pool, session_id, slow=60)
    answers = await asyncio.gather(*(messages.append(pool, [new(session_id), new(session_id)]) for _ in range(8)))
    written = [outcome for of_one in answers for outcome in of_one if isinstance(outcome, Appended)]
    assert len(written) == 1
    assert await seqs(pool, session_id) == [1]


@pytest.mark.parametrize("restriction", [{"slow": 60}, {"muted": True}])
async def test_a_message_sent_before_is_answered_and_counts_for_nothing(
    pool: Pool, restriction: dict[str, int]
) -> None:
    session_id = await book(pool)
    await restrict(pool, session_id, slow=60)
    [first] = await messages.append(pool, [new(session_id, client_id="c")])
    chatted = await pool.fetchval("SELECT chatted_at FROM session_participants")
    await restrict(pool, session_id, **restriction)  # type: ignore[arg-type]
    again, other = await messages.append(pool, [new(session_id, client_id="c"), new(session_id, client_id="d")])
    assert isinstance(first, Appended)
    assert again == Appended(message=first.message, repeated=True)
    assert isinstance(other, NotTaken)
    assert await pool.fetchval("SELECT chatted_at FROM session_participants") == chatted


async def test_repeats_within_a_batch_share_the_refusal(pool: Pool) -> None:
    session_id = await book(pool)
    await restrict(pool, session_id, muted=True)
    outcomes = await messages.append(pool, [new(session_id, client_id="c"), new(session_id, client_id="c")])
    assert [type(outcome) for outcome in outcomes] == [ChatMuted, ChatMuted]


@pytest.mark.parametrize("again", [False, True])
async def test_a_slowed_batch_whose_answer_was_lost_is_not_refused(pool: Pool, again: bool) -> None:
    """Halved or tried again, it finds what it has written, whether or not it was told that it may have."""
    free, slow = await book(pool), await book(pool)
    await restrict(pool, slow, slow=60)
    batch = [new(slow), new(free), new(slow, "mum", client_id="c")]
    first = await messages.append(pool, batch)
    assert await messages.append(pool, batch, again=again) == first
    assert (await seqs(pool, slow), await seqs(pool, free)) == ([1, 2], [1])


async def test_an_attempt_that_is_still_under_way_is_not_taken_for_another_message(pool: Pool) -> None:
    """The connection was lost, the transaction was not: it commits while the second try waits for the session."""
    session_id = await book(pool)
    await restrict(pool, session_id, slow=60)
    asked = new(session_id)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await sessions.locked(connection, session_id)
        second = asyncio.create_task(messages.append(pool, [asked], again=True))
        await until_somebody_waits(pool)
        await connection.execute(
            """
            INSERT INTO session_messages (id, session_id, seq, user_id, sender_name, text, created_at)
            VALUES ($1, $2, 1, 'kid', 'Kid', 'hello', now())
            """,
            asked.id,
            session_id,
        )
        await connection.execute("UPDATE sessions SET last_seq = 1 WHERE id = $1", session_id)
        await connection.execute(
            "INSERT INTO session_participants (session_id, user_id, chatted_at) VALUES ($1, 'kid', now())", session_id
        )
        await transaction.commit()
    [answer] = await second
    assert isinstance(answer, Appended)
    assert (answer.message.id, answer.message.seq, answer.repeated) == (asked.id, 1, False)


async def test_nothing_of_others_comes_after_the_mutes_seq(pool: Pool) -> None:
    """The message waits for the session's row while the chat is muted."""
    session_id = await book(pool)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await sessions.locked(connection, session_id)
        writing = asyncio.create_task(messages.append(pool, [new(session_id), new(session_id, "teach", is_host=True)]))
        await until_somebody_waits(pool)
        await connection.execute("UPDATE sessions SET chat_muted = true WHERE id = $1", session_id)
        await events.append(connection, session_id, kind="session_settings", user_id="teach")
        await transaction.commit()
    assert [type(outcome) for outcome in await writing] == [ChatMuted, Appended]
    entries = await events.first_after(pool, session_id, 0, limit=10)
    assert [(entry.kind, entry.user_id) for entry in entries] == [("session_settings", "teach"), ("message", "teach")]


async def test_what_is_unmuted_meanwhile_is_written(pool: Pool) -> None:
    session_id = await book(pool)
    await restrict(pool, session_id, muted=True)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await sessions.locked(connection, session_id)
        writing = asyncio.create_task(messages.append(pool, [new(session_id)]))
        await until_somebody_waits(pool)
        await connection.execute("UPDATE sessions SET chat_muted = false WHERE id = $1", session_id)
        await transaction.commit()
    assert [type(outcome) for outcome in await writing] == [Appended]


async def test_writers_are_noted_in_the_order_of_the_databases_collation(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's order and the tests' database's are one; the statement has to say it where they are not."""
    said = []
    execute = asyncpg.Connection.execute

    async def listen(self: Any, statement: str, *arguments: Any, **options: Any) -> str:
        said.append((statement, arguments))
        return await execute(self, statement, *arguments, **options)

    session_id = await book(pool)
    await restrict(pool, session_id, slow=60)
    monkeypatch.setattr(asyncpg.Connection, "execute", listen)
    await messages.append(pool, [new(session_id, who) for who in ("mum", "kid")])
    [(statement, _)] = [one for one in said if "chatted_at" in one[0]]
    async with pool.acquire() as connection:
        plan = await plan_of(connection, statement, 3)
    assert "Sort Key: i.session_id, i.user_id" in plan, plan
