"""The message that a host has pinned: at most one in a session, and never a deleted one."""

from __future__ import annotations

from domain import access
from domain.access import Member
from domain.errors import Conflict
from domain.live import Live
from domain.message_ids import parse_id, unknown_message
from store import messages, pins, sessions
from store.database import Connection
from store.errors import translated
from store.events import LogEntry
from store.messages import Message
from store.sessions import Session


async def pin(live: Live, member: Member, message_id: str) -> Message:
    """Pin a message in the place of whatever was pinned; the host may. It is pinned already: nothing happens.

    Raises Forbidden (`not_host`), NotFound (`message_not_found`), Conflict (`message_deleted`, `booking_cancelled`).
    """
    access.require_host(member)
    entries: list[LogEntry] = []
    with translated():
        async with live.pool.acquire() as connection, connection.transaction():
            session = await sessions.locked(connection, member.session_id)
            message = await messages.find(connection, member.session_id, parse_id(message_id))
            if session is None or message is None:
                raise unknown_message()
            if message.deleted:
                raise Conflict("The message was deleted.", code="message_deleted")
            access.require_open_chat(session)
            if session.pinned_message_id != message.id:
                entries.append(await pins.put(connection, session.id, message.id, actor_id=member.user_id))
    live.publish(entries)
    return message


async def unpin(live: Live, member: Member) -> None:
    """Take the pin away; the host may. Nothing is pinned: nothing happens. Raises Forbidden (`not_host`)."""
    access.require_host(member)
    entries: list[LogEntry] = []
    with translated():
        async with live.pool.acquire() as connection, connection.transaction():
            session = await sessions.locked(connection, member.session_id)
            if session is not None and session.pinned_message_id is not None:
                entries.append(await pins.put(connection, session.id, None, actor_id=member.user_id))
    live.publish(entries)


async def unpin_deleted(connection: Connection, session: Session, message: Message, *, actor_id: str) -> list[LogEntry]:
    """Take the pin from a message that is being deleted. Inside the caller's transaction, which holds the session's
    row. Returns what to publish after commit."""
    if session.pinned_message_id != message.id:
        return []
    return [await pins.put(connection, session.id, None, actor_id=actor_id)]
