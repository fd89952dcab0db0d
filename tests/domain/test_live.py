"""The live side of a session: told in order, resumed exactly, on every worker."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from domain import chat, pins, reactions, session_settings
from domain.errors import EncountersError, NotFound
from domain.events import message_document
from domain.live import RESET_EVENTS, RESUME_EVENTS, Live
from realtime.events import Event
from realtime.hub import TAIL_EVENTS
from store import events as log
from store import messages, sessions
from store.database import Pool
from store.participants import ReadMark
from tests.support.lessons import book, database_pool, member
from tests.support.rooms import Exchange, Seat, join, leave, raise_hand, room_of, told, workers


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture
async def live(pool: Pool) -> AsyncIterator[Live]:
    async with workers(pool, 1) as (live,):
        yield live


async def say(live: Live, session_id: UUID, number: int = 1, who: str = "kid") -> list[messages.Message]:
    """So many messages, one after the other in the log."""
    sent = await asyncio.gather(
        *(chat.send(live, member(session_id, who), text=f"message {n}", client_id=None) for n in range(number))
    )
    return [message for message, _ in sent]


async def write(pool: Pool, session_id: UUID, number: int) -> None:
    """Messages that no worker has been told of."""
    new = [
        messages.NewMessage(
            id=uuid4(), session_id=session_id, user_id="kid", sender_name="Kid", text=f"untold {n}", client_id=None
        )
        for n in range(number)
    ]
    for start in range(0, number, 200):
        await messages.append(pool, new[start : start + 200])


def seqs(found: list[Event]) -> list[int | None]:
    assert all(event.seq == event.data["seq"] for event in found)
    return [event.seq for event in found]


async def missed(live: Live, session_id: UUID, seq: int) -> tuple[list[int | None], bool]:
    found, reset = await live.missed(room_of(live, session_id), seq)
    return seqs(found), reset


async def test_what_is_at_hand_is_answered_without_the_database(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    session_id = await book(live.pool)
    await join(live, session_id, "teach")
    await say(live, session_id, 5)

    async def not_asked(*_: object, **__: object) -> None:
        raise AssertionError("the database was asked")

    monkeypatch.setattr(log, "first_after", not_asked)
    monkeypatch.setattr(log, "newest", not_asked)
    assert await missed(live, session_id, 5) == ([], False)
    assert await missed(live, session_id, 3) == ([4, 5], False)
    assert await missed(live, session_id, 0) == ([1, 2, 3, 4, 5], False)


async def test_what_was_before_the_room_opened_is_read_from_the_database(live: Live) -> None:
    session_id = await book(live.pool)
    await write(live.pool, session_id, RESUME_EVENTS)
    await join(live, session_id, "teach")
    await say(live, session_id, 3)
    last = RESUME_EVENTS + 3
    assert await missed(live, session_id, 3) == (list(range(4, last + 1)), False), "as many as are resumed"
    assert await missed(live, session_id, last - 4) == (list(range(last - 3, last + 1)), False)


async def test_who_missed_too_much_starts_anew(live: Live) -> None:
    session_id = await book(live.pool)
    await write(live.pool, session_id, RESUME_EVENTS + 1)
    await join(live, session_id, "teach")
    last = RESUME_EVENTS + 1
    assert await missed(live, session_id, 0) == (list(range(last - RESET_EVENTS + 1, last + 1)), True)
    assert await missed(live, session_id, 1) == (list(range(2, last + 1)), False)


async def test_who_is_ahead_of_the_log_starts_anew(live: Live) -> None:
    session_id = await book(live.pool)
    await join(live, session_id, "teach")
    assert await missed(live, session_id, 1) == ([], True), "the database was put back to an earlier day"
    await say(live, session_id, 3)
    assert await missed(live, session_id, 4) == ([1, 2, 3], True)
    assert await missed(live, session_id, 2**63 - 1) == ([1, 2, 3], True)


async def test_who_was_told_more_by_another_worker_is_not_ahead(pool: Pool) -> None:
    session_id, exchange = await book(pool), Exchange()
    async with workers(pool, 2, exchange) as (one, other):
        for live in (one, other):
            await join(live, session_id, "teach")
        exchange.cut = True
        await say(one, session_id, 4)
        watching = next(iter(room_of(other, session_id).members))
        assert await missed(other, session_id, 4) == ([], False)
        assert await missed(other, session_id, 2) == ([3, 4], False)
        assert isinstance(watching, Seat)
        assert watching.seqs == [1, 2, 3, 4], "and who is there already is told by the way"


async def test_the_tail_at_hand_and_the_database_say_the_same(live: Live) -> None:
    """Whatever was done to messages, whoever asks from wherever."""
    session_id = await book(live.pool)
    await join(live, session_id, "teach")
    sent = await say(live, session_id, 12)
    for _ in range(40):
        await act(live, session_id, sent)
    room = room_of(live, session_id)
    at_hand = room.since(0)
    assert at_hand is not None
    assert len(at_hand) <= TAIL_EVENTS
    room.tail.clear()
    read, _ = await live.missed(room, 0)
    assert seqs(read) == seqs(at_hand) == list(range(1, room.last_seq + 1))
    for now, then in zip(at_hand, read, strict=True):
        assert now == then


async def act(live: Live, session_id: UUID, sent: list[messages.Message]) -> None:
    """Anything that a client may do to a session's log, by chance; what is refused, too."""
    kid, teach = member(session_id, "kid"), member(session_id, "teach")
    message_id = str(random.choice(sent).id)
    emoji = random.choice("👍🎉😀🤔")
    acts = (
        lambda: say(live, session_id, who=random.choice(("kid", "teach"))),
        lambda: chat.edit(live, kid, message_id, text=f"text {random.random()}"),
        lambda: reactions.react(live, kid, message_id, emoji, reacted=random.random() < 0.7),
        lambda: reactions.react(live, teach, message_id, emoji, reacted=random.random() < 0.7),
        lambda: pins.pin(live, teach, message_id),
        lambda: pins.unpin(live, teach),
        lambda: raise_hand(live, kid, raised=random.random() < 0.5),
        lambda: session_settings.change(
            live,
            teach,
            session_settings.SettingsChange(
                chat_muted=random.random() < 0.3,
                locked=random.random() < 0.5,
                slow_mode_seconds=random.choice((0, 0, 1)),
            ),
        ),
    )
    with suppress(EncountersError):
        if random.random() < 0.1:
            await chat.delete(live, teach, message_id)
        else:
            said = await random.choice(acts)()
            sent += said if isinstance(said, list) else []


class Model:
    """What a client has that applies every event once, in order, as the documents tell it to."""

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, Any]] = {}
        self.pinned: str | None = None
        self.settings: dict[str, Any] = {}
        self.last_seq = 0

    def apply(self, event: Event) -> None:
        data = event.data
        assert data["seq"] == self.last_seq + 1
        self.last_seq = data["seq"]
        message = self.messages.get(data.get("id") or "", {})
        match event.name:
            case "newMessage":
                self.messages[data["id"]] = dict(data)
            case "messageEdited":
                message |= {"text": data["text"], "edited_at": data["edited_at"]}
            case "messageDeleted":
                message |= {"text": "", "deleted": True, "reactions": {}}
            case "messageReaction":
                message["reactions"] = data["reactions"]
            case "messagePinned":
                self.pinned = data["id"]
            case "sessionSettings":
                self.settings = {name: data[name] for name in data if name not in ("seq", "session_id")}

    def shown(self) -> list[tuple[Any, ...]]:
        return [
            (one["id"], one["text"], one.get("deleted", False), one.get("edited_at"), one.get("reactions") or {})
            for one in self.messages.values()
        ]


@pytest.mark.parametrize("_", range(3))
async def test_whoever_comes_back_at_any_seq_has_what_the_database_has(live: Live, _: int) -> None:
    session_id = await book(live.pool)
    watching = await join(live, session_id, "mum")
    sent = await say(live, session_id, 3)
    for _ in range(60):
        await act(live, session_id, sent)
    room = room_of(live, session_id)
    shown = [Event(name=one.event, data=one.data) for one in watching.events.all if "seq" in one.data]
    session = await sessions.find(live.pool, session_id)
    page = await messages.page(live.pool, session_id, before=None, after=None, limit=1000)
    assert session is not None
    assert page is not None
    truth = Model()
    truth.messages = {str(one.id): msgspec.to_builtins(message_document(one)) for one in page.messages}
    for in_memory in (True, False):
        if not in_memory:
            room.tail.clear()
        for left_at in range(room.last_seq + 1):
            model = Model()
            for event in shown[:left_at]:
                model.apply(event)
            missed_, reset = await live.missed(room, left_at)
            assert not reset
            for event in missed_:
                model.apply(event)
            assert model.shown() == truth.shown()
            assert model.pinned == (None if session.pinned_message_id is None else str(session.pinned_message_id))
            assert model.settings in ({}, session_settings.document(session.settings))
    assert live.settings(room) == session.settings
    assert live.pinned_message(room) == session.pinned_message_id


async def test_a_deleted_text_is_nowhere_anymore(live: Live) -> None:
    session_id = await book(live.pool)
    await join(live, session_id, "teach")
    kid = member(session_id, "kid")
    message, _ = await chat.send(live, kid, text="a secret", client_id=None)
    await chat.edit(live, kid, str(message.id), text="another secret")
    await chat.delete(live, kid, str(message.id))
    room = room_of(live, session_id)
    for _ in range(2):
        found, _ = await live.missed(room, 0)
        assert [event.name for event in found] == ["newMessage", "messageEdited", "messageDeleted"]
        assert "secret" not in repr(found)
        assert found[0].data["text"] == found[1].data["text"] == ""
        room.tail.clear()


async def test_everybody_is_told_everything_in_order_on_every_worker(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 3) as lives:
        seats = [await join(live, session_id, who) for live in lives for who in ("teach", "kid")]
        await asyncio.gather(*(say(live, session_id, 20, who) for live in lives for who in ("teach", "kid")))
        for seat in seats:
            await seat.events.wait_for("newMessage", lambda data: data["seq"] == 120)
            assert seat.seqs == list(range(1, 121))


async def test_what_the_bus_lost_is_caught_up(pool: Pool) -> None:
    session_id, exchange = await book(pool), Exchange()
    async with workers(pool, 2, exchange) as (one, other):
        seat = await join(other, session_id, "teach")
        exchange.cut = True
        await say(one, session_id, 5)
        exchange.cut = False
        await say(one, session_id, 1)
        await seat.events.wait_for("newMessage", lambda data: data["seq"] == 6)
        assert seat.seqs == [1, 2, 3, 4, 5, 6]


async def test_coming_back_through_another_worker_gives_exactly_the_rest(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 2) as lives:
        writing = asyncio.create_task(say(lives[0], session_id, 300))
        seen: list[int | None] = []
        live = lives[0]
        while len(seen) < 300:
            live = lives[1] if live is lives[0] else lives[0]
            seat = Seat("teach")
            room = await live.hub.open(str(session_id))
            with live.hub.held(room.id):
                await live.presence.arrive(room, member(session_id, "teach"), seat.connection)
                resumed, reset = await live.missed(room, len(seen))
                live.hub.enter(room, seat)
            assert not reset
            seen += seqs(resumed)
            await asyncio.sleep(0)
            leave(live, session_id, seat)
            seen += seat.seqs
        await writing
        assert seen == list(range(1, 301))


async def test_typing_is_shown_to_others_and_ends_with_leaving(live: Live) -> None:
    session_id = await book(live.pool)
    kid, teach = await join(live, session_id, "kid"), await join(live, session_id, "teach")
    live.typing.set(member(session_id, "kid"), typing=True)
    assert told(teach, "typing") == [{"userId": "kid", "name": "Kid", "typing": True}]
    assert told(kid, "typing") == []
    live.remove(str(session_id), "kid", "removed")
    assert [data["typing"] for data in told(teach, "typing")] == [True, False]


async def test_a_read_mark_is_told_when_it_moves(live: Live) -> None:
    session_id = await book(live.pool)
    await join(live, session_id, "kid")
    watching = await join(live, session_id, "teach")
    for seq in (2, 1, 2, 3):
        await live.marks.append(ReadMark(session_id=session_id, user_id="kid", seq=seq))
    assert told(watching, "read") == [{"userId": "kid", "seq": 2}, {"userId": "kid", "seq": 3}]
    by_id = {person["userId"]: person["readSeq"] for person in live.presence.online(str(session_id))}
    assert by_id == {"kid": 3, "teach": 0}


async def test_a_room_of_no_session_does_not_open(live: Live) -> None:
    with pytest.raises(NotFound):
        await live.hub.open(str(uuid4()))
