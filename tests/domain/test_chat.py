"""What a message is, and the acts on it, as both doors do them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import chat, session_settings
from domain.errors import BadRequest, Conflict, Forbidden, NotFound, TooManyRequests, Unavailable
from domain.live import Live
from domain.session_settings import SettingsChange
from realtime import log
from store import messages
from store.database import Pool
from store.errors import Away
from tests.support.lessons import book, close_chat, database_pool, member
from tests.support.rooms import join, told, workers


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (" a ", "a"),
        ("\n\t\u2003\u00a0a b\r\n", "a b"),
        ("x" * 2000, "x" * 2000),
        (" " * 5000 + "x", "x"),
        ("👨‍👩‍👧" * 400, "👨‍👩‍👧" * 400),
        ("\u200b", "\u200b"),
    ],
)
def test_a_text_is_trimmed_and_kept_otherwise(text: str, clean: str) -> None:
    assert chat.clean_text(text) == clean


@pytest.mark.parametrize("text", ["", " ", "\u2003\n", "x" * 2001, "a\x00b", "👋" * 2001])
def test_a_text_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        chat.clean_text(text)
    assert list(refusal.value.fields or {}) == ["text"]


@given(st.text())
def test_a_cleaned_text_is_clean_already(text: str) -> None:
    try:
        clean = chat.clean_text(text)
    except BadRequest:
        return
    assert chat.clean_text(clean) == clean
    assert 1 <= len(clean) <= 2000


def test_a_client_id_is_1_to_64_characters() -> None:
    for client_id in (None, "x", "x" * 64):
        chat.check_client_id(client_id)
    for bad in ("", "x" * 65, "a\x00"):
        with pytest.raises(BadRequest):
            chat.check_client_id(bad)


def test_a_read_mark_is_a_seq() -> None:
    for seq in (0, 1, 2**63 - 1):
        chat.check_read_seq(seq)
    for bad in (-1, 2**63):
        with pytest.raises(BadRequest):
            chat.check_read_seq(bad)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture
async def live(pool: Pool) -> AsyncIterator[Live]:
    async with workers(pool, 1) as (live,):
        yield live


async def send(live: Live, session_id: UUID, text: str, who: str = "kid", **options: Any) -> messages.Message:
    message, _ = await chat.send(live, member(session_id, who), text=text, client_id=options.get("client_id"))
    return message


async def test_everybody_is_shown_what_was_committed_before_the_sender_is_answered(live: Live) -> None:
    session_id = await book(live.pool)
    watching = await join(live, session_id, "teach")
    message = await send(live, session_id, "  hello ", client_id="c")
    [shown] = watching.events.of("newMessage")
    assert (shown["id"], shown["seq"], shown["text"], shown["from"], shown["client_id"]) == (
        str(message.id), 1, "hello", "Kid", "c",
    )  # fmt: skip
    assert await messages.find(live.pool, session_id, message.id) == message


async def test_a_repeat_is_answered_and_not_shown_again(live: Live) -> None:
    session_id = await book(live.pool)
    watching = await join(live, session_id, "teach")
    first = await chat.send(live, member(session_id, "kid"), text="once", client_id="c")
    again = await chat.send(live, member(session_id, "kid"), text="twice", client_id="c")
    assert (first[1], again) == (False, (first[0], True))
    assert len(watching.events.of("newMessage")) == 1


async def test_a_message_is_handed_over_without_waiting_and_said_alike_in_the_answer_and_to_everybody(
    live: Live,
) -> None:
    session_id = await book(live.pool)
    watching = await join(live, session_id, "teach")
    sendings = [
        chat.begin_send(live, member(session_id, who), text=text, client_id="c")
        for who, text in (("kid", "one"), ("teach", "two"), ("kid", "again"))
    ]
    assert not any(sending.done() for sending in sendings)
    await asyncio.wait(sendings)
    one, two, again = (chat.sent(sending) for sending in sendings)
    shown = watching.events.of("newMessage")
    assert shown == [msgspec.json.decode(one.json), msgspec.json.decode(two.json)]
    assert (again.repeated, again.json) == (True, one.json)


async def test_what_cannot_be_handed_over_is_refused_at_once_and_what_was_not_stored_when_it_is_known(
    live: Live,
) -> None:
    session_id = await book(live.pool)
    with pytest.raises(BadRequest):
        chat.begin_send(live, member(session_id, "kid"), text=" ", client_id=None)
    with pytest.raises(BadRequest):
        chat.begin_send(live, member(session_id, "kid"), text="x", client_id="")
    await close_chat(live.pool, session_id)
    sending = chat.begin_send(live, member(session_id, "kid"), text="x", client_id=None)
    await asyncio.wait([sending])
    with pytest.raises(Conflict, match="cancelled"):
        chat.sent(sending)


async def test_a_database_that_is_away_and_too_many_that_wait_are_said_so(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await book(live.pool)

    async def away(pool: Pool, batch: object, *, again: bool) -> Any:
        raise Away("gone")

    monkeypatch.setattr(messages, "append", away)
    monkeypatch.setattr(log, "RETRY_SECONDS", 0.0)
    with pytest.raises(Unavailable, match="could not be stored"):
        await send(live, session_id, "x")
    monkeypatch.setattr(log, "MAX_WAITING_ENTRIES", 0)
    with pytest.raises(Unavailable, match="Too many"):
        await send(live, session_id, "x")


async def test_an_edit_and_a_deletion_are_shown_and_the_text_is_gone(live: Live) -> None:
    session_id = await book(live.pool)
    watching = await join(live, session_id, "teach")
    message = await send(live, session_id, "wrogn")
    edited = await chat.edit(live, member(session_id, "kid"), str(message.id), text=" wrong ")
    deleted = await chat.delete(live, member(session_id, "teach"), str(message.id))
    again = await chat.delete(live, member(session_id, "teach"), str(message.id))
    assert (edited.text, deleted.text, deleted.deleted, again) == ("wrong", "", True, deleted)
    [edit], [deletion] = told(watching, "messageEdited"), told(watching, "messageDeleted")
    assert (edit["id"], edit["seq"], edit["text"]) == (str(message.id), 2, "wrong")
    assert deletion == {"id": str(message.id), "seq": 3}
    assert watching.seqs == [1, 2, 3]


@pytest.mark.parametrize(
    ("who", "edits", "deletes"),
    [("kid", True, True), ("teach", False, True), ("boss", False, True), ("mum", False, False), ("gran", False, False)],
)
async def test_who_may_edit_and_delete(live: Live, who: str, edits: bool, deletes: bool) -> None:
    session_id = await book(live.pool)
    someone = member(session_id, who)

    async def edit(message: messages.Message) -> messages.Message:
        return await chat.edit(live, someone, str(message.id), text="y")

    async def delete(message: messages.Message) -> messages.Message:
        return await chat.delete(live, someone, str(message.id))

    for act, may in ((edit, edits), (delete, deletes)):
        message = await send(live, session_id, "x")
        if may:
            assert (await act(message)).text in ("y", "")
            continue
        with pytest.raises(Forbidden) as refusal:
            await act(message)
        assert refusal.value.code == "not_author"
        assert await messages.find(live.pool, session_id, message.id) == message


async def test_a_deleted_message_is_not_edited(live: Live) -> None:
    session_id = await book(live.pool)
    message = await send(live, session_id, "x")
    await chat.delete(live, member(session_id, "kid"), str(message.id))
    with pytest.raises(Conflict) as refusal:
        await chat.edit(live, member(session_id, "kid"), str(message.id), text="y")
    assert refusal.value.code == "message_deleted"


async def test_a_closed_chat_takes_no_text_but_gives_it_up(live: Live) -> None:
    session_id = await book(live.pool)
    message = await send(live, session_id, "x")
    await close_chat(live.pool, session_id)
    with pytest.raises(Conflict, match="cancelled"):
        await send(live, session_id, "y")
    with pytest.raises(Conflict, match="cancelled"):
        await chat.edit(live, member(session_id, "kid"), str(message.id), text="y")
    assert (await chat.delete(live, member(session_id, "kid"), str(message.id))).deleted


async def set_(live: Live, session_id: UUID, **settings: Any) -> None:
    await session_settings.change(live, member(session_id, "teach"), SettingsChange(**settings))


async def test_in_a_muted_chat_the_host_alone_writes_and_edits(live: Live) -> None:
    session_id = await book(live.pool)
    watching = await join(live, session_id, "kid")
    message = await send(live, session_id, "before", client_id="c")
    await set_(live, session_id, chat_muted=True)
    for act in (
        send(live, session_id, "x"),
        send(live, session_id, "x", "mum", client_id="c"),
        chat.edit(live, member(session_id, "kid"), str(message.id), text="y"),
    ):
        with pytest.raises(Forbidden) as refusal:
            await act
        assert refusal.value.code == "chat_muted"
    for host in ("teach", "boss"):
        own = await send(live, session_id, "quiet, please", host)
        assert (await chat.edit(live, member(session_id, host), str(own.id), text="thank you")).text == "thank you"
    assert (await chat.delete(live, member(session_id, "kid"), str(message.id))).deleted
    assert [data["user_id"] for data in watching.events.of("newMessage")] == ["kid", "teach", "boss"]
    await set_(live, session_id, chat_muted=False)
    await send(live, session_id, "at last")


async def test_a_worker_knows_of_the_mute_and_the_host_is_never_asked(live: Live) -> None:
    session_id = await book(live.pool)
    assert not chat.is_muted(live, member(session_id, "kid")), "nobody is in the room here"
    await join(live, session_id, "kid")
    await set_(live, session_id, chat_muted=True)
    assert [chat.is_muted(live, member(session_id, who)) for who in ("kid", "mum", "teach", "boss")] == [
        True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("muted", [False, True])
async def test_a_retry_is_answered_in_a_muted_chat_and_what_is_no_message_is_refused_first(
    live: Live, muted: bool
) -> None:
    session_id = await book(live.pool)
    first = await send(live, session_id, "before", client_id="c")
    await set_(live, session_id, chat_muted=True)
    kid = member(session_id, "kid")
    again = await chat.send(live, kid, text="before", client_id="c", muted=muted)
    assert again == (first, True)
    with pytest.raises(BadRequest):
        await chat.send(live, kid, text=" ", client_id="c", muted=muted)
    for client_id in (None, "d"):
        with pytest.raises(Forbidden):
            await chat.send(live, kid, text="x", client_id=client_id, muted=muted)


async def test_in_slow_mode_the_next_message_waits_its_time(live: Live) -> None:
    session_id = await book(live.pool)
    await set_(live, session_id, slow_mode_seconds=3_600)
    message = await send(live, session_id, "one", client_id="c")
    with pytest.raises(TooManyRequests) as refusal:
        await send(live, session_id, "two")
    assert refusal.value.code == "slow_mode"
    assert refusal.value.retry_after is not None
    assert 3_500 <= refusal.value.retry_after <= 3_600
    assert refusal.value.document()["retry_after"] == refusal.value.retry_after
    assert await send(live, session_id, "one", client_id="c") == message
    assert (await chat.edit(live, member(session_id, "kid"), str(message.id), text="better")).text == "better"
    for _ in range(2):
        await send(live, session_id, "go on", "teach")
    await set_(live, session_id, slow_mode_seconds=0)
    await send(live, session_id, "two")


async def test_a_message_is_found_by_its_id(live: Live) -> None:
    session_id, other = await book(live.pool), await book(live.pool)
    message = await send(live, session_id, "x")
    assert await chat.find(live, member(session_id, "mum"), str(message.id)) == message
    for where, message_id in ((other, str(message.id)), (session_id, "x"), (session_id, str(uuid4()))):
        with pytest.raises(NotFound):
            await chat.find(live, member(where, "boss"), message_id)


async def test_a_message_of_another_session_is_not_there(live: Live) -> None:
    session_id, other = await book(live.pool), await book(live.pool)
    message = await send(live, session_id, "x")
    for where, message_id in (
        (other, str(message.id)),
        (session_id, str(uuid4())),
        (session_id, "x"),
        (session_id, ""),
    ):
        with pytest.raises(NotFound):
            await chat.delete(live, member(where, "boss"), message_id)
        with pytest.raises(NotFound):
            await chat.edit(live, member(where, "kid"), message_id, text="y")


async def test_a_worker_that_leaves_takes_no_more_and_says_so(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        await live.messages.close()
        with pytest.raises(Unavailable) as refusal:
            await send(live, session_id, "x")
        assert refusal.value.retry_after == 1
