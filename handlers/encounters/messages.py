"""Chat: `sendMessage`, `editMessage`, `deleteMessage`, `pinMessage`, `react`, `typing`, `markRead`."""

from __future__ import annotations

import asyncio
from functools import partial

from domain import chat, pins, reactions
from domain.access import Member
from domain.events import Posted, message_document
from domain.live import Live
from domain.reactions import Reacted
from handlers.encounters.answers import done, refusal
from handlers.encounters.attendees import member_of
from handlers.encounters.payloads import InSession
from realtime.connection import Answer, Connection, Pending, Reply
from store.participants import ReadMark


class SendMessage(InSession):
    text: str
    client_id: str | None = None


class EditMessage(InSession):
    id: str
    text: str


class DeleteMessage(InSession):
    id: str


class PinMessage(InSession):
    """`id` null: no message."""

    id: str | None


class React(InSession):
    id: str
    emoji: str
    reacted: bool = True


class SetTyping(InSession):
    typing: bool


class MarkRead(InSession):
    seq: int


def send(live: Live, connection: Connection, request: SendMessage) -> Answer:
    member = member_of(connection, request.session_id)
    if chat.is_muted(live, member):
        return _send_muted(live, member, request)
    sending = chat.begin_send(live, member, text=request.text, client_id=request.client_id)
    return Pending(sending, partial(_sent, live, member))


async def _send_muted(live: Live, member: Member, request: SendMessage) -> Reply:
    message = await chat.sent_before(live, member, text=request.text, client_id=request.client_id)
    return done(message=message_document(message))


def _sent(live: Live, member: Member, sending: asyncio.Future[Posted]) -> Reply:
    try:
        post = chat.sent(sending)
    except Exception as error:  # noqa: BLE001  # it is said in the ack
        return refusal(error, "sendMessage")
    live.typing.stop(str(member.session_id), member.user_id)
    return done(message=post.json)


async def edit(live: Live, connection: Connection, request: EditMessage) -> Reply:
    member = member_of(connection, request.session_id)
    message = await chat.edit(live, member, request.id, text=request.text)
    return done(message=message_document(message))


async def delete(live: Live, connection: Connection, request: DeleteMessage) -> Reply:
    member = member_of(connection, request.session_id)
    message = await chat.delete(live, member, request.id)
    return done(message=message_document(message))


async def pin(live: Live, connection: Connection, request: PinMessage) -> Reply:
    member = member_of(connection, request.session_id)
    if request.id is None:
        await pins.unpin(live, member)
    else:
        await pins.pin(live, member, request.id)
    return done()


def react(live: Live, connection: Connection, request: React) -> Answer:
    member = member_of(connection, request.session_id)
    return Pending(reactions.begin_react(live, member, request.id, request.emoji, reacted=request.reacted), _reacted)


def _reacted(reacting: asyncio.Future[Reacted]) -> Reply:
    try:
        message = reactions.reacted_to(reacting)
    except Exception as error:  # noqa: BLE001  # it is said in the ack
        return refusal(error, "react")
    return done(message=message_document(message))


def set_typing(live: Live, connection: Connection, request: SetTyping) -> Reply:
    live.typing.set(member_of(connection, request.session_id), typing=request.typing)
    return done()


def mark_read(live: Live, connection: Connection, request: MarkRead) -> Answer:
    member = member_of(connection, request.session_id)
    chat.check_read_seq(request.seq)
    room = live.hub.find(str(member.session_id))
    seq = min(request.seq, room.last_seq) if room else request.seq
    mark = ReadMark(session_id=member.session_id, user_id=member.user_id, seq=seq)
    return Pending(live.marks.append(mark), _marked)


def _marked(marking: asyncio.Future[bool]) -> Reply:
    error = marking.exception()
    return done() if error is None else refusal(error, "markRead")
