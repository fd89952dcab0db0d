"""What a message is, and the acts on it. Both doors come here."""

from __future__ import annotations

import asyncio
from typing import Final

from domain import access
from domain.access import Member
from domain.errors import Conflict, Forbidden, TooManyRequests, Unavailable, invalid
from domain.events import Posted
from domain.live import Live
from domain.message_ids import parse_id, unknown_message
from domain.pins import unpin_deleted
from realtime.log import Closed, Overloaded
from store import audit, messages, sessions
from store.chat_rules import ChatClosed, ChatMuted, TooSoon
from store.errors import Away, translated
from store.ids import new_id
from store.messages import Message, NewMessage

MAX_TEXT_CHARACTERS: Final = 2_000
MAX_CLIENT_ID_CHARACTERS: Final = 64


def clean_text(text: str) -> str:
    """The text without white space at its ends. Raises BadRequest for an empty, too long or unstorable one."""
    text = text.strip()
    problem = None
    if not text:
        problem = "must not be empty"
    elif len(text) > MAX_TEXT_CHARACTERS:
        problem = f"must be at most {MAX_TEXT_CHARACTERS} characters, and is {len(text)}"
    elif "\x00" in text:
        problem = "must not contain the NUL character"
    if problem:
        raise invalid({"text": problem})
    return text


def check_client_id(client_id: str | None) -> None:
    """Raises BadRequest for an idempotency key that cannot be kept."""
    if client_id is None:
        return
    if not 1 <= len(client_id) <= MAX_CLIENT_ID_CHARACTERS:
        raise invalid({"client_id": f"must be 1 to {MAX_CLIENT_ID_CHARACTERS} characters"})
    if "\x00" in client_id:
        raise invalid({"client_id": "must not contain the NUL character"})


def is_muted(live: Live, member: Member) -> bool:
    """Whether the host keeps this person from writing, as far as this worker knows: the database decides again."""
    if member.is_host:
        return False
    room = live.hub.find(str(member.session_id))
    return room is not None and live.settings(room).chat_muted


async def send(
    live: Live, member: Member, *, text: str, client_id: str | None, muted: bool = False
) -> tuple[Message, bool]:
    """Post a message; it is committed, then shown to everyone, then answered. `muted`: only the host writes, as the
    session was just read.

    Answers the message, and whether `client_id` had posted it before. Raises BadRequest, Conflict
    (`booking_cancelled`), Forbidden (`chat_muted`), TooManyRequests (`slow_mode`), Unavailable.
    """
    if muted and not member.is_host:
        return await sent_before(live, member, text=text, client_id=client_id), True
    sending = begin_send(live, member, text=text, client_id=client_id)
    await asyncio.wait([sending])
    post = sent(sending)
    return post.message, post.repeated


async def sent_before(live: Live, member: Member, *, text: str, client_id: str | None) -> Message:
    """What is left to those who may not write in a muted chat: the message that they had sent under this client id
    before, whose answer they may have missed. Raises BadRequest, Forbidden (`chat_muted`)."""
    clean_text(text)
    check_client_id(client_id)
    found = None
    if client_id is not None:
        found = await messages.find_sent(live.pool, member.session_id, member.user_id, client_id)
    if found is None:
        raise chat_muted()
    return found


def begin_send(live: Live, member: Member, *, text: str, client_id: str | None) -> asyncio.Future[Posted]:
    """Hand a message over to be committed and shown to everyone. When the future is done, :func:`sent` has the answer.

    Messages of one session are committed in the order in which they were handed over. Raises BadRequest, Unavailable.
    """
    text = clean_text(text)
    check_client_id(client_id)
    new = NewMessage(
        id=new_id(),
        session_id=member.session_id,
        user_id=member.user_id,
        sender_name=member.name,
        text=text,
        client_id=client_id,
        is_host=member.is_host,
    )
    try:
        return live.messages.append(new)
    except Overloaded:
        raise Unavailable("Too many messages wait to be stored; try again.", retry_after=1) from None
    except Closed:
        raise _not_stored() from None


def sent(sending: asyncio.Future[Posted]) -> Posted:
    """What became of a message that was handed over and is done.

    Raises Conflict (`booking_cancelled`), Forbidden (`chat_muted`), TooManyRequests (`slow_mode`), Unavailable.
    """
    try:
        return sending.result()
    except ChatClosed:
        raise access.chat_closed() from None
    except ChatMuted:
        raise chat_muted() from None
    except TooSoon as soon:
        raise TooManyRequests(
            f"This chat is in slow mode: write again in {soon.retry_after} s.",
            code="slow_mode",
            retry_after=soon.retry_after,
        ) from None
    except Away:
        raise _not_stored() from None


def chat_muted() -> Forbidden:
    return Forbidden("Only the host can write now.", code="chat_muted")


def _not_stored() -> Unavailable:
    return Unavailable("The message could not be stored just now; try again.", retry_after=1)


async def edit(live: Live, member: Member, message_id: str, *, text: str) -> Message:
    """Replace a message's text; its author may, unless the host has muted the chat."""
    text = clean_text(text)
    with translated():
        async with live.pool.acquire() as connection, connection.transaction():
            session = await sessions.locked(connection, member.session_id)
            message = await messages.find(connection, member.session_id, parse_id(message_id))
            if session is None or message is None:
                raise unknown_message()
            if message.user_id != member.user_id:
                raise Forbidden("Only its author may edit a message.", code="not_author")
            if message.deleted:
                raise Conflict("The message was deleted.", code="message_deleted")
            access.require_open_chat(session)
            if session.chat_muted and not member.is_host:
                raise chat_muted()
            edited, entry = await messages.edit(connection, message, text=text, actor_id=member.user_id)
    live.publish([entry])
    return edited


async def delete(live: Live, member: Member, message_id: str) -> Message:
    """Empty a message for good; its author, the host and admins may. It is no longer pinned then. Again: nothing more
    happens."""
    with translated():
        async with live.pool.acquire() as connection, connection.transaction():
            session = await sessions.locked(connection, member.session_id)
            message = await messages.find(connection, member.session_id, parse_id(message_id))
            if session is None or message is None:
                raise unknown_message()
            if message.user_id != member.user_id and not member.is_host:
                raise Forbidden("Only its author or the host may delete a message.", code="not_author")
            if message.deleted:
                return message
            deleted, entry = await messages.delete(connection, message, actor_id=member.user_id)
            entries = [entry, *await unpin_deleted(connection, session, message, actor_id=member.user_id)]
            await audit.append(
                connection,
                actor_id=member.user_id,
                action="message_deleted",
                subject=message.user_id,
                details={"session_id": member.session_id, "message_id": message.id},
            )
    live.publish(entries)
    return deleted


async def find(live: Live, member: Member, message_id: str) -> Message:
    """One message of the session. Raises NotFound."""
    message = await messages.find(live.pool, member.session_id, parse_id(message_id))
    if message is None:
        raise unknown_message()
    return message


def check_read_seq(seq: int) -> None:
    if not 0 <= seq < 2**63:
        raise invalid({"seq": "must be a seq of the session"})
