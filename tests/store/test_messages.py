"""Chat messages: gapless, once each, whoever writes how much at once."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from itertools import count
from uuid import UUID, uuid4

import pytest

from store import events, messages, sessions
from store.chat_rules import ChatClosed
from store.database import Pool
from store.errors import Refused, translated
from store.messages import Appended, Message, NewMessage
from tests.support.lessons import book, close_chat, database_pool, until_somebody_waits


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database, size=10) as pool:
        yield pool


_numbers = count(1)


def new(session_id: UUID, *, client_id: str | None = None, user_id: str = "kid", text: str | None = None) -> NewMessage:
    return NewMessage(
        id=uuid4(),
        session_id=session_id,
        user_id=user_id,
        sender_name=user_id.capitalize(),
        text=text if text is not None else f"message {next(_numbers)}",
        client_id=client_id,
    )


async def write(pool: Pool, *batch: NewMessage, again: bool = False) -> list[Appended]:
    outcomes = await messages.append(pool, batch, again=again)
    appended = [outcome for outcome in outcomes if isinstance(outcome, Appended)]
    assert len(appended) == len(batch), outcomes
    return appended


async def stored(pool: Pool, session_id: UUID) -> list[Message]:
    page = await messages.page(pool, session_id, before=None, after=None, limit=100_000)
    assert page is not None
    return list(page.messages)


async def assert_gapless(pool: Pool, *session_ids: UUID) -> None:
    """Every `seq` from 1 to the session's counter stands exactly once, over messages and events."""
    for session_id in session_ids:
        entries = await events.first_after(pool, session_id, 0, limit=100_000)
        last = (await events.positions(pool, [session_id]))[session_id]
        assert [entry.seq for entry in entries] == list(range(1, last + 1))


async def test_a_message_is_found_as_it_was_answered(pool: Pool) -> None:
    session_id = await book(pool)
    asked = new(session_id, client_id="c1", text="ünï 👋 ' \" \\ {x}")
    [appended] = await write(pool, asked)
    message = appended.message
    assert not appended.repeated
    assert (message.id, message.seq, message.text, message.sender_name) == (asked.id, 1, asked.text, "Kid")
    assert await stored(pool, session_id) == [message]
    assert await messages.find(pool, session_id, message.id) == message
    assert await messages.find(pool, await book(pool), message.id) is None


async def test_an_empty_batch_writes_nothing(pool: Pool) -> None:
    assert await messages.append(pool, []) == []


async def test_a_batch_over_many_sessions_counts_in_each_by_itself(pool: Pool) -> None:
    session_ids = [await book(pool) for _ in range(7)]
    batch = [new(random.choice(session_ids)) for _ in range(200)]
    appended = await write(pool, *batch)
    by_session: dict[UUID, list[int]] = defaultdict(list)
    for asked, answer in zip(batch, appended, strict=True):
        assert (answer.message.id, answer.message.text) == (asked.id, asked.text)
        by_session[asked.session_id].append(answer.message.seq)
    for seqs in by_session.values():
        assert seqs == list(range(1, len(seqs) + 1)), "in the order of the batch"
    await assert_gapless(pool, *session_ids)


async def test_a_client_id_lands_once_within_a_batch(pool: Pool) -> None:
    session_id = await book(pool)
    first, other, repeat = new(session_id, client_id="c"), new(session_id), new(session_id, client_id="c")
    answers = await write(pool, first, other, repeat)
    assert [answer.repeated for answer in answers] == [False, False, True]
    assert answers[2].message == answers[0].message
    assert [message.seq for message in await stored(pool, session_id)] == [1, 2]


async def test_a_client_id_lands_once_over_batches(pool: Pool) -> None:
    session_id = await book(pool)
    [first] = await write(pool, new(session_id, client_id="c", text="first"))
    fresh, repeat = await write(pool, new(session_id), new(session_id, client_id="c", text="again"))
    assert (fresh.repeated, fresh.message.seq) == (False, 2)
    assert (repeat.repeated, repeat.message) == (True, first.message)
    await assert_gapless(pool, session_id)


async def test_a_client_id_is_its_authors_and_its_sessions_own(pool: Pool) -> None:
    one, other = await book(pool), await book(pool)
    batch = [new(one, client_id="c"), new(one, client_id="c", user_id="teach"), new(other, client_id="c")]
    assert not any(answer.repeated for answer in await write(pool, *batch))


async def test_racing_writers_land_each_client_id_once(pool: Pool) -> None:
    session_ids = [await book(pool) for _ in range(3)]
    keys = [(session_id, f"c{number}") for session_id in session_ids for number in range(20)]

    async def writer() -> list[Appended]:
        answers = []
        for _ in range(4):
            batch = [new(session_id, client_id=client_id) for session_id, client_id in random.sample(keys, 25)]
            answers += await write(pool, *batch)
        return answers

    answers = [answer for of_one in await asyncio.gather(*(writer() for _ in range(6))) for answer in of_one]
    by_key: dict[tuple[UUID, str | None], set[UUID]] = defaultdict(set)
    for answer in answers:
        by_key[answer.message.session_id, answer.message.client_id].add(answer.message.id)
    assert all(len(ids) == 1 for ids in by_key.values()), "everybody is answered with the same message"
    assert sum(not answer.repeated for answer in answers) == len(by_key)
    assert sum([len(await stored(pool, session_id)) for session_id in session_ids]) == len(by_key)
    await assert_gapless(pool, *session_ids)


async def test_many_writers_at_once_leave_no_gap_no_repeat_and_no_deadlock(pool: Pool) -> None:
    session_ids = [await book(pool) for _ in range(6)]

    async def writer() -> list[NewMessage]:
        written: list[NewMessage] = []
        for _ in range(12):
            batch = [new(random.choice(session_ids)) for _ in range(random.randint(1, 30))]
            await write(pool, *batch)
            written += batch
        return written

    async def other_entries() -> None:
        for _ in range(40):
            with translated():
                async with pool.acquire() as connection, connection.transaction():
                    session_id = random.choice(session_ids)
                    await events.append(connection, session_id, kind="hand_raised", user_id="kid")

    *written, _, _ = await asyncio.gather(*(writer() for _ in range(8)), other_entries(), other_entries())
    found = {message.id: message.text for session_id in session_ids for message in await stored(pool, session_id)}
    assert found == {asked.id: asked.text for of_one in written or [] for asked in of_one or []}
    await assert_gapless(pool, *session_ids)


async def test_a_reader_never_sees_a_seq_before_all_earlier_ones(pool: Pool) -> None:
    session_id = await book(pool)
    writing = asyncio.gather(
        *(write(pool, *[new(session_id) for _ in range(random.randint(1, 9))]) for _ in range(40)),
    )
    while not writing.done():
        seqs = [message.seq for message in await stored(pool, session_id)]
        assert seqs == list(range(1, len(seqs) + 1))
    await writing


@pytest.mark.parametrize("client_id", [None, "c"])
async def test_a_batch_whose_answer_was_lost_is_not_written_twice(pool: Pool, client_id: str | None) -> None:
    session_id = await book(pool)
    batch = [new(session_id, client_id=client_id), new(session_id)]
    first = await write(pool, *batch)
    assert await write(pool, *batch, again=True) == first, "and answered as the first time: nobody was told yet"
    assert len(await stored(pool, session_id)) == 2


async def test_what_was_lost_is_written_beside_what_was_not(pool: Pool) -> None:
    session_id = await book(pool)
    committed, lost = new(session_id, client_id="c"), new(session_id, client_id="d")
    [first] = await write(pool, committed)
    repeat = new(session_id, client_id="c")
    answers = await write(pool, committed, repeat, lost, again=True)
    assert answers[0] == first
    assert (answers[1].message, answers[1].repeated) == (first.message, True)
    assert (answers[2].message.id, answers[2].message.seq, answers[2].repeated) == (lost.id, 2, False)


@pytest.mark.parametrize("client_id", [None, "c"])
async def test_an_attempt_that_is_still_under_way_is_waited_for(pool: Pool, client_id: str | None) -> None:
    """The connection was lost, the statement was not: it commits between the look and the second try."""
    session_id = await book(pool)
    asked = new(session_id, client_id=client_id)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await sessions.locked(connection, session_id)
        second = asyncio.create_task(write(pool, asked, again=True))
        await until_somebody_waits(pool)
        await connection.execute(
            """
            INSERT INTO session_messages (id, session_id, seq, user_id, sender_name, text, client_id, created_at)
            VALUES ($1, $2, 1, 'kid', 'Kid', $3, $4, now())
            """,
            asked.id,
            session_id,
            asked.text,
            client_id,
        )
        await connection.execute("UPDATE sessions SET last_seq = 1 WHERE id = $1", session_id)
        await transaction.commit()
    [answer] = await second
    assert (answer.message.id, answer.message.seq, answer.repeated) == (asked.id, 1, False)
    assert len(await stored(pool, session_id)) == 1


async def test_who_waits_for_a_session_that_others_wait_for_too_gets_it_once(pool: Pool) -> None:
    """The session's row has become another while they waited, and whoever comes in just now has the old one still."""
    session_id = await book(pool)
    async with pool.acquire() as comer, pool.acquire() as holder, pool.acquire() as editor, comer.transaction():
        # As the foreign key of each row asks that is about the session.
        await comer.execute("SELECT FROM sessions WHERE id = $1 FOR KEY SHARE", session_id)
        async with holder.transaction():
            await events.append(holder, session_id, kind="hand_raised", user_id="kid")
            writing = asyncio.create_task(write(pool, new(session_id)))
            await until_somebody_waits(pool)
            editing = asyncio.create_task(sessions.locked(editor, session_id))
            await until_somebody_waits(pool, 2)
        [written] = await writing
        await editing
    assert written.message.seq == 2


async def test_a_batch_that_gave_way_to_others_is_written_once_all_the_same(pool: Pool) -> None:
    first, second = sorted([await book(pool), await book(pool)])
    batch = [new(first), new(second)]
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL deadlock_timeout = '1min'")  # it is the batch that finds out, and gives way
        await sessions.locked(connection, second)
        writing = asyncio.create_task(write(pool, *batch))
        await until_somebody_waits(pool)
        await sessions.locked(connection, first)  # nobody else takes them in this order
    assert [(answer.message.seq, answer.repeated) for answer in await writing] == [(1, False)] * 2
    await assert_gapless(pool, first, second)


async def test_a_closed_chat_takes_nothing_and_the_others_of_the_batch_go_through(pool: Pool) -> None:
    open_, closed = await book(pool), await book(pool)
    await close_chat(pool, closed)
    batch = [new(closed), new(open_), new(closed, client_id="c"), new(uuid4()), new(closed, client_id="c")]
    outcomes = await messages.append(pool, batch)
    assert [isinstance(outcome, ChatClosed) for outcome in outcomes] == [True, False, True, True, True]
    assert len(await stored(pool, open_)) == 1
    assert await events.positions(pool, [open_, closed]) == {open_: 1, closed: 0}


async def test_a_repeat_is_answered_even_after_the_chat_was_closed(pool: Pool) -> None:
    session_id = await book(pool)
    [first] = await write(pool, new(session_id, client_id="c"))
    await close_chat(pool, session_id)
    [repeat] = await write(pool, new(session_id, client_id="c"))
    assert (repeat.message, repeat.repeated) == (first.message, True)


@pytest.mark.parametrize(
    ("poison", "constraint"),
    [
        ({"user_id": "nobody"}, "session_messages_author_exists"),
        ({"text": "x" * 2001}, "session_messages_text_length"),
    ],
)
async def test_a_poisoned_row_is_refused_by_name_and_takes_its_batch_along(
    pool: Pool, poison: dict[str, str], constraint: str
) -> None:
    session_id = await book(pool)
    with pytest.raises(Refused) as refusal:
        await messages.append(pool, [new(session_id), new(session_id, **poison), new(session_id)])
    assert refusal.value.constraint == constraint
    assert await stored(pool, session_id) == []
    assert await events.positions(pool, [session_id]) == {session_id: 0}


async def test_pages_go_back_and_forth_by_their_cursors(pool: Pool) -> None:
    session_id = await book(pool)
    await write(pool, *[new(session_id) for _ in range(10)])

    async def page(before: int | None = None, after: int | None = None, limit: int = 3) -> list[int]:
        found = await messages.page(pool, session_id, before=before, after=after, limit=limit)
        assert found is not None
        assert found.last_seq == 10
        return [message.seq for message in found.messages]

    assert await page() == [8, 9, 10]
    assert await page(before=8) == [5, 6, 7]
    assert await page(before=3) == [1, 2]
    assert await page(before=1) == await page(before=0) == []
    assert await page(after=0) == [1, 2, 3]
    assert await page(after=8) == [9, 10]
    assert await page(after=10) == await page(after=2**63 - 1) == []
    assert await page(after=3, before=6) == [4, 5]
    assert await page(before=2**63 - 1) == [8, 9, 10]


async def test_a_page_says_which_state_of_the_history_it_shows(pool: Pool) -> None:
    session_id = await book(pool)

    async def page() -> tuple[int, list[str]]:
        found = await messages.page(pool, session_id, before=None, after=None, limit=3)
        assert found is not None
        return found.last_seq, [message.text for message in found.messages]

    assert await page() == (0, [])
    (first,) = await write(pool, new(session_id, text="first"))
    assert await page() == (1, ["first"])
    await changed(pool, first.message, text="edited")
    assert await page() == (2, ["edited"])
    await changed(pool, first.message)
    assert await page() == (3, [""])
    assert await messages.page(pool, uuid4(), before=None, after=None, limit=3) is None


async def changed(pool: Pool, message: Message, *, text: str | None = None, actor_id: str = "kid") -> Message:
    """Edit the message, or delete it where there is no text. The entry is the one that is stored."""
    async with pool.acquire() as connection, connection.transaction():
        await sessions.locked(connection, message.session_id)
        if text is None:
            after, entry = await messages.delete(connection, message, actor_id=actor_id)
        else:
            after, entry = await messages.edit(connection, message, text=text, actor_id=actor_id)
    logged = await events.newest(pool, message.session_id, limit=1)
    assert (logged[0].seq, logged[0].kind, logged[0].user_id, logged[0].message_id, logged[0].text) == (
        entry.seq,
        entry.kind,
        actor_id,
        message.id,
        entry.text,
    )
    return after


async def test_an_edit_replaces_the_text_in_place_and_takes_a_seq_of_its_own(pool: Pool) -> None:
    session_id = await book(pool)
    one, _ = await write(pool, new(session_id), new(session_id))
    edited = await changed(pool, one.message, text="better")
    assert (edited.seq, edited.text) == (1, "better")
    assert edited.edited_at is not None
    assert await messages.find(pool, session_id, edited.id) == edited
    assert await events.positions(pool, [session_id]) == {session_id: 3}
    await assert_gapless(pool, session_id)


async def test_a_deleted_text_is_gone_and_its_place_stays(pool: Pool) -> None:
    session_id = await book(pool)
    [one] = await write(pool, new(session_id, client_id="c", text="a secret"))
    deleted = await changed(pool, await changed(pool, one.message, text="another secret"), actor_id="teach")
    assert (deleted.seq, deleted.text, deleted.deleted) == (1, "", True)
    assert await stored(pool, session_id) == [deleted]
    [repeat] = await write(pool, new(session_id, client_id="c", text="a secret"))
    assert repeat.message == deleted, "a retry does not bring it back"
    everything = await pool.fetchval(
        "SELECT string_agg(m::text, ' ') || (SELECT string_agg(e::text, ' ') FROM session_events e)"
        " FROM session_messages m"
    )
    assert "secret" not in everything
