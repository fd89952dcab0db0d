"""What an emoji is, and reacting with one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import chat, session_settings
from domain.errors import BadRequest, Conflict, EncountersError, NotFound, Unavailable
from domain.live import Live
from domain.reactions import MAX_EMOJI_PER_MESSAGE, begin_react, counted, is_emoji, react, reacted_to
from domain.session_settings import SettingsChange
from realtime import log
from store import messages, sessions
from store.database import Pool
from store.messages import Message
from tests.support.lessons import MEMBERS, book, close_chat, database_pool, member, until_somebody_waits
from tests.support.recorder import WAIT_SECONDS
from tests.support.rooms import join, told, workers

#: Different ones, each one emoji.
MANY = [chr(0x1F600 + number) for number in range(MAX_EMOJI_PER_MESSAGE + 1)]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "👍",
            "👍🏽",
            "❤",
            "❤️",
            "🎉",
            "😀",
            "✅",
            "➕",
            "⁉️",
            "©️",
            "ℹ️",
            "↔️",
            "⏰",
            "☝🏿",
            "⭐",
            "〰️",
            "㊗️",
            "🀄",
            "🫠",
        ),
        *("🇩🇪", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🏳️‍🌈", "🏴‍☠️", "👩‍💻", "👩🏾‍🚀", "👨‍👩‍👧‍👦", "👩🏻‍❤️‍💋‍👨🏿", "🧑‍🧑‍🧒‍🧒", "1️⃣", "#️⃣", "*⃣"),
    ],
)
def test_one_emoji_is_one(text: str) -> None:
    assert is_emoji(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "a", "1", "#", "é", "я", "字", "-", "~", "👍👍", "👍 ", " 👍", "👍a", "a👍", "🇩", "🇩🇪🇫", "👍\n"),
        *("\u200d", "👍\u200d", "\u200d👍", "\ufe0f", "1\ufe0f", "\u20e3", "🏴\U000e0067", "\u202e👍", "<b>", "\x00"),
        "👍" + "\u200d👍" * 16,
    ],
)
def test_what_is_not_one_emoji_is_none(text: str) -> None:
    assert not is_emoji(text)


@given(st.text())
def test_no_emoji_holds_a_letter_a_blank_or_a_control(text: str) -> None:
    if is_emoji(text):
        plain = "".join(character for character in text if character not in "\u2139\u2122\u24c2")
        assert not any(character.isspace() or character.isalpha() or ord(character) < 0x23 for character in plain)


def test_reactions_are_counted_and_those_of_nobody_left_out() -> None:
    assert counted({}, "👍", reacted=True) == {"👍": 1}
    assert counted({"👍": 1, "🎉": 2}, "👍", reacted=True) == {"👍": 2, "🎉": 2}
    assert counted({"👍": 1, "🎉": 2}, "👍", reacted=False) == {"🎉": 2}


def test_a_message_takes_so_many_different_emoji() -> None:
    full = dict.fromkeys(MANY[:-1], 1)
    assert counted(full, MANY[0], reacted=True)[MANY[0]] == 2
    with pytest.raises(Conflict) as refusal:
        counted(full, MANY[-1], reacted=True)
    assert refusal.value.code == "too_many_reactions"


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture
async def live(pool: Pool) -> AsyncIterator[Live]:
    async with workers(pool, 1) as (live,):
        yield live


async def say(live: Live, session_id: UUID) -> Message:
    message, _ = await chat.send(live, member(session_id, "kid"), text="hello", client_id=None)
    return message


async def test_a_reaction_is_counted_and_shown_to_everybody_once(live: Live) -> None:
    session_id = await book(live.pool)
    watching = await join(live, session_id, "teach")
    message = await say(live, session_id)
    first = await react(live, member(session_id, "mum"), str(message.id), "👍", reacted=True)
    again = await react(live, member(session_id, "mum"), str(message.id), "👍", reacted=True)
    second = await react(live, member(session_id, "kid"), str(message.id), "👍", reacted=True)
    assert first.reactions == again.reactions == {"👍": 1}
    assert second.reactions == {"👍": 2}
    assert told(watching, "messageReaction") == [
        {"seq": 2, "id": str(message.id), "userId": "mum", "emoji": "👍", "reacted": True, "reactions": {"👍": 1}},
        {"seq": 3, "id": str(message.id), "userId": "kid", "emoji": "👍", "reacted": True, "reactions": {"👍": 2}},
    ]
    assert await messages.find(live.pool, session_id, message.id) == second


async def test_a_reaction_is_taken_back_once(live: Live) -> None:
    session_id = await book(live.pool)
    watching = await join(live, session_id, "teach")
    message = await say(live, session_id)
    kid = member(session_id, "kid")
    await react(live, kid, str(message.id), "🎉", reacted=False)
    await react(live, kid, str(message.id), "🎉", reacted=True)
    for _ in range(2):
        after = await react(live, kid, str(message.id), "🎉", reacted=False)
        assert after.reactions is None
    assert [(data["reacted"], data["reactions"]) for data in told(watching, "messageReaction")] == [
        (True, {"🎉": 1}),
        (False, {}),
    ]
    assert await messages.find(live.pool, session_id, message.id) == message


async def test_everybody_at_once_is_counted_on_every_worker(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 2) as lives:
        watching = [await join(live, session_id, "teach") for live in lives]
        message = await say(lives[0], session_id)
        emoji = MANY[:4]
        await asyncio.gather(
            *(
                react(lives[number % 2], member(session_id, who), str(message.id), one, reacted=True)
                for number, who in enumerate(MEMBERS)
                for one in emoji
                for _ in range(2)
            )
        )
        found = await messages.find(pool, session_id, message.id)
        assert found is not None
        assert found.reactions == dict.fromkeys(emoji, len(MEMBERS))
        last = 1 + len(emoji) * len(MEMBERS)
        for seat in watching:
            assert seat.seqs == list(range(1, last + 1))
            assert told(seat, "messageReaction")[-1]["reactions"] == found.reactions


async def test_the_last_place_for_an_emoji_goes_to_one_of_those_who_race_for_it(live: Live) -> None:
    session_id = await book(live.pool)
    message = await say(live, session_id)
    for emoji in MANY[:-2]:
        await react(live, member(session_id, "kid"), str(message.id), emoji, reacted=True)
    racing = [
        react(live, member(session_id, who), str(message.id), emoji, reacted=True)
        for who, emoji in zip(("teach", "mum"), MANY[-2:], strict=True)
    ]
    outcomes = await asyncio.gather(*racing, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "Message"]
    kept = await live.pool.fetchval("SELECT count(DISTINCT emoji) FROM message_reactions")
    assert kept == MAX_EMOJI_PER_MESSAGE
    again = await react(live, member(session_id, "boss"), str(message.id), MANY[0], reacted=True)
    assert again.reactions is not None
    assert again.reactions[MANY[0]] == 2, "one that is there already has room"


async def test_a_class_that_reacts_at_once_leaves_the_database_to_the_others(live: Live) -> None:
    session_id, other = await book(live.pool), await book(live.pool)
    message = await say(live, session_id)
    async with live.pool.acquire() as connection, connection.transaction():
        await sessions.locked(connection, session_id)
        reacting = [
            asyncio.create_task(react(live, member(session_id, "kid"), str(message.id), emoji, reacted=True))
            for emoji in MANY[:-1]
        ]
        await until_somebody_waits(live.pool)
        async with asyncio.timeout(WAIT_SECONDS):
            await say(live, other)
        assert not any(task.done() for task in reacting)
    counts = [(await task).reactions for task in reacting]
    assert sorted(len(one or {}) for one in counts) == list(range(1, MAX_EMOJI_PER_MESSAGE + 1))


def begin(live: Live, session_id: UUID, message: Message, who: str, emoji: str, *, reacted: bool = True) -> Any:
    return begin_react(live, member(session_id, who), str(message.id), emoji, reacted=reacted)


async def test_what_comes_at_once_is_one_transaction_and_each_is_answered_for_itself(live: Live) -> None:
    here, there = await book(live.pool), await book(live.pool)
    watching = await join(live, here, "teach")
    message, other = await say(live, here), await say(live, there)
    gone = await say(live, here)
    await chat.delete(live, member(here, "kid"), str(gone.id))
    reacting = [
        begin(live, here, message, "kid", "👍"),
        begin(live, there, other, "kid", "🎉"),
        begin(live, here, message, "kid", "👍"),
        begin(live, here, gone, "kid", "👍"),
        begin(live, there, message, "kid", "👍"),
        begin(live, here, message, "mum", "👍"),
        begin(live, here, message, "kid", "👍", reacted=False),
        begin(live, here, message, "mum", "🎉", reacted=False),
        begin(live, there, other, "kid", "🎉", reacted=False),
    ]
    await asyncio.wait(reacting)
    assert [
        error.code if isinstance(error := one.exception(), EncountersError) else reacted_to(one).reactions
        for one in reacting
    ] == [
        {"👍": 1}, {"🎉": 1}, {"👍": 1}, "message_deleted", "message_not_found", {"👍": 2}, {"👍": 1}, {"👍": 1}, None,
    ]  # fmt: skip
    assert [
        (data["seq"], data["userId"], data["reacted"], data["reactions"]) for data in told(watching, "messageReaction")
    ] == [(4, "kid", True, {"👍": 1}), (5, "mum", True, {"👍": 2}), (6, "kid", False, {"👍": 1})]
    transactions = await live.pool.fetchval("SELECT count(DISTINCT xmin::text) FROM session_events WHERE seq > 1")
    assert transactions == 2, "the deletion, and all of these"
    rows = await live.pool.fetch("SELECT message_id, emoji, user_id FROM message_reactions")
    assert [tuple(row) for row in rows] == [(message.id, "👍", "mum")]
    found = await messages.by_ids(live.pool, [message.id, other.id])
    assert {one.id: one.reactions for one in found} == {message.id: {"👍": 1}, other.id: None}


async def test_what_waits_to_be_stored_is_bounded(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MAX_WAITING_ENTRIES", 3)
    session_id = await book(live.pool)
    message = await say(live, session_id)
    reacting = [begin(live, session_id, message, "kid", emoji) for emoji in MANY[:2]]
    with pytest.raises(Unavailable):
        begin(live, session_id, message, "kid", MANY[2])
    await asyncio.wait(reacting)
    assert [len(reacted_to(one).reactions or {}) for one in reacting] == [1, 2]


async def test_what_is_no_emoji_and_what_is_no_message_are_refused(live: Live) -> None:
    session_id, other = await book(live.pool), await book(live.pool)
    message = await say(live, session_id)
    kid = member(session_id, "kid")
    with pytest.raises(BadRequest) as refusal:
        await react(live, kid, str(message.id), "nice", reacted=True)
    assert list(refusal.value.fields or {}) == ["emoji"]
    for message_id in ("x", "", str(uuid4())):
        with pytest.raises(NotFound):
            await react(live, kid, message_id, "👍", reacted=True)
    with pytest.raises(NotFound):
        await react(live, member(other, "kid"), str(message.id), "👍", reacted=True)
    assert await live.pool.fetchval("SELECT count(*) FROM message_reactions") == 0


async def test_a_deleted_message_has_no_reactions_and_takes_none(live: Live) -> None:
    session_id = await book(live.pool)
    message = await say(live, session_id)
    kid = member(session_id, "kid")
    await react(live, kid, str(message.id), "👍", reacted=True)
    deleted = await chat.delete(live, kid, str(message.id))
    assert deleted.reactions is None
    for reacted in (True, False):
        with pytest.raises(Conflict) as refusal:
            await react(live, kid, str(message.id), "👍", reacted=reacted)
        assert refusal.value.code == "message_deleted"


async def test_a_muted_and_slow_chat_takes_reactions_and_a_cancelled_bookings_takes_none(live: Live) -> None:
    session_id = await book(live.pool)
    message = await say(live, session_id)
    change = SettingsChange(chat_muted=True, slow_mode_seconds=60)
    await session_settings.change(live, member(session_id, "teach"), change)
    for emoji in MANY[:3]:
        await react(live, member(session_id, "kid"), str(message.id), emoji, reacted=True)
    await close_chat(live.pool, session_id)
    with pytest.raises(Conflict) as refusal:
        await react(live, member(session_id, "kid"), str(message.id), "👍", reacted=True)
    assert refusal.value.code == "booking_cancelled"
