"""The pinned message of a session."""

from __future__ import annotations

from uuid import UUID

from store.database import Connection
from store.events import LogEntry
from store.events import append as append_event


async def put(connection: Connection, session_id: UUID, message_id: UUID | None, *, actor_id: str) -> LogEntry:
    """Pin a message of the session, or none, and log it. Inside the caller's transaction, which holds the session's
    row."""
    await connection.execute("UPDATE sessions SET pinned_message_id = $2 WHERE id = $1", session_id, message_id)
    return await append_event(connection, session_id, kind="message_pinned", user_id=actor_id, message_id=message_id)
