"""Who reacted to a message with which emoji; how many stand in the message itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from store.database import Connection, Executor
from store.errors import translated
from store.events import NO_END


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """Which reaction it is: there is one of each."""

    message_id: UUID
    emoji: str
    user_id: str


async def kept(connection: Connection, keys: Collection[Key]) -> set[Key]:
    """Those of the reactions that are there. Inside a transaction that holds the rows of their sessions."""
    rows = await connection.fetch(
        """
        SELECT r.message_id, r.emoji, r.user_id
        FROM unnest($1::uuid[], $2::text[], $3::text[]) AS i (message_id, emoji, user_id)
        JOIN message_reactions r ON r.message_id = i.message_id AND r.emoji = i.emoji AND r.user_id = i.user_id
        """,
        *_columns(keys),
    )
    return {Key(message_id=row["message_id"], emoji=row["emoji"], user_id=row["user_id"]) for row in rows}


async def save(
    connection: Connection,
    *,
    added: Collection[Key],
    removed: Collection[Key],
    counts: Mapping[UUID, Mapping[str, int]],
) -> None:
    """Write reactions, take others away, and write how many the messages have by then. Inside :func:`kept`'s
    transaction."""
    await connection.execute(
        """
        WITH added AS (
            INSERT INTO message_reactions (message_id, emoji, user_id)
            SELECT message_id, emoji, user_id
            FROM unnest($1::uuid[], $2::text[], $3::text[]) AS i (message_id, emoji, user_id)
        ), removed AS (
            DELETE FROM message_reactions r
            USING unnest($4::uuid[], $5::text[], $6::text[]) AS i (message_id, emoji, user_id)
            WHERE r.message_id = i.message_id AND r.emoji = i.emoji AND r.user_id = i.user_id
        )
        UPDATE session_messages m SET reactions = i.reactions
        FROM unnest($7::uuid[], $8::jsonb[]) AS i (id, reactions) WHERE m.id = i.id
        """,
        *_columns(added),
        *_columns(removed),
        list(counts),
        [dict(of_message) or None for of_message in counts.values()],
    )


def _columns(keys: Collection[Key]) -> tuple[list[UUID], list[str], list[str]]:
    return [key.message_id for key in keys], [key.emoji for key in keys], [key.user_id for key in keys]


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


async def own(
    executor: Executor, session_id: UUID, user_id: str, *, before: int | None, limit: int
) -> list[tuple[UUID, str]]:
    """What this person has reacted with to the newest `limit` messages before the cursor `before`: message and emoji,
    ascending.

    One look for each emoji that stands in a message, however many people have reacted with it.
    """
    with translated():
        rows = await executor.fetch(
            """
            SELECT m.id, r.emoji
            FROM (
                SELECT id, seq, reactions FROM session_messages
                WHERE session_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3
            ) m
            CROSS JOIN LATERAL jsonb_object_keys(m.reactions) AS k (emoji)
            JOIN message_reactions r ON r.message_id = m.id AND r.emoji = k.emoji AND r.user_id = $4
            ORDER BY m.seq, r.emoji
            """,
            session_id,
            NO_END if before is None else before,
            limit,
            user_id,
        )
    return [(row["id"], row["emoji"]) for row in rows]
