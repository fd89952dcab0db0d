"""Who has a hand up in a session, for many people at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias
from uuid import UUID

from store.database import Connection

#: A session and a person.
Key: TypeAlias = tuple[UUID, str]


async def up(connection: Connection, keys: Collection[Key]) -> set[Key]:
    """Those of these people who have their hand up. Inside a transaction that holds the rows of their sessions."""
    rows = await connection.fetch(
        """
        SELECT p.session_id, p.user_id FROM unnest($1::uuid[], $2::text[]) AS i (session_id, user_id)
        JOIN session_participants p ON p.session_id = i.session_id AND p.user_id = i.user_id
        WHERE p.hand_raised
        """,
        [session_id for session_id, _ in keys],
        [user_id for _, user_id in keys],
    )
    return {(row["session_id"], row["user_id"]) for row in rows}


async def save(connection: Connection, hands: Mapping[Key, bool]) -> None:
    """Write whose hand is up, and whose is not; in the order in which everybody takes participants' rows. Inside
    :func:`up`'s transaction."""
    await connection.execute(
        """
        INSERT INTO session_participants (session_id, user_id, hand_raised)
        SELECT session_id, user_id, raised
        FROM unnest($1::uuid[], $2::text[], $3::boolean[]) AS i (session_id, user_id, raised)
        ORDER BY session_id, user_id
        ON CONFLICT (session_id, user_id) DO UPDATE SET hand_raised = excluded.hand_raised, updated_at = now()
        """,
        [session_id for session_id, _ in hands],
        [user_id for _, user_id in hands],
        list(hands.values()),
    )
