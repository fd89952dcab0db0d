"""Who reacted to a message with which emoji; how many stand in the message itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from store.database import Connection, Executor
from store.errors import translated
from store.events import LogEntry
from store.events import append as append_event
from store.messages import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class Reaction:
    """One person's reaction to one message."""

    user_id: str
    first_name: str
    last_name: str
    emoji: str
    created_at: datetime

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Reaction:
        return cls(**{name: row[name] for name in cls.__slots__})


async def add(connection: Connection, message_id: UUID, user_id: str, emoji: str) -> bool:
    """False: it was there. Inside the caller's transaction, which holds the session's row."""
    row = await connection.fetchrow(
        """
        INSERT INTO message_reactions (message_id, emoji, user_id) VALUES ($1, $2, $3)
        ON CONFLICT DO NOTHING RETURNING user_id
        """,
        message_id,
        emoji,
        user_id,
    )
    return row is not None


async def remove(connection: Connection, message_id: UUID, user_id: str, emoji: str) -> bool:
    """False: it was not there. Inside the caller's transaction, which holds the session's row."""
    row = await connection.fetchrow(
        "DELETE FROM message_reactions WHERE message_id = $1 AND emoji = $2 AND user_id = $3 RETURNING user_id",
        message_id,
        emoji,
        user_id,
    )
    return row is not None


async def count(
    connection: Connection, message: Message, counts: Mapping[str, int], *, user_id: str, emoji: str, reacted: bool
) -> LogEntry:
    """Write how many reacted with what (`counts`), and log whose reaction changed it. Inside the caller's
    transaction, which holds the session's row."""
    await connection.execute(
        "UPDATE session_messages SET reactions = $2 WHERE id = $1", message.id, dict(counts) or None
    )
    return await append_event(
        connection,
        message.session_id,
        kind="message_reaction",
        user_id=user_id,
        message_id=message.id,
        data={"userId": user_id, "emoji": emoji, "reacted": reacted, "reactions": dict(counts)},
    )


async def of_message(
    executor: Executor, message_id: UUID, *, after: tuple[str, str] | None = None, limit: int
) -> list[Reaction]:
    """Who reacted with what, by emoji and person: `limit` of them, behind this emoji and person (`after`)."""
    emoji, user_id = after or ("", "")
    with translated():
        rows = await executor.fetch(
            """
            SELECT r.user_id, u.first_name, u.last_name, r.emoji, r.created_at
            FROM message_reactions r JOIN users u ON u.id = r.user_id
            WHERE r.message_id = $1 AND (r.emoji, r.user_id) > ($2, $3)
            ORDER BY r.emoji, r.user_id LIMIT $4
            """,
            message_id,
            emoji,
            user_id,
            limit,
        )
    return [Reaction.from_row(row) for row in rows]
