"""Rooms that providers were asked for: written down before they are, so that none is left behind.

An intent goes in the transaction that makes its room a meeting. One that stays, because the provider failed or the
worker died, has its room deleted when it is due. Until then whoever asks again for the same session asks for the same
room: what an earlier try made is found, and not made twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg

from store.database import Connection, Executor
from store.errors import translated
from store.meetings import FIRST_RETRY_SECONDS, MAX_ATTEMPTS, MAX_RETRY_SECONDS

#: Seconds within which a room becomes a meeting: more than a provider and the database have, together.
INTENT_SECONDS: Final = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Intent:
    """A room of this name may be at the provider."""

    room_name: str
    session_id: UUID
    provider: str

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Intent:
        return cls(**{name: row[name] for name in cls.__slots__})


async def declare(executor: Executor, session_id: UUID, provider: str, *, room_name: str) -> Intent:
    """That the provider is about to be asked for a room: one called so, or as an earlier try that failed has it."""
    with translated():
        row = await executor.fetchrow(
            """
            INSERT INTO meeting_intents AS i (room_name, session_id, provider, due_at)
            VALUES ($1, $2, $3, now() + make_interval(secs => $4))
            ON CONFLICT (session_id, provider) WHERE NOT given_up DO UPDATE SET due_at = excluded.due_at
            RETURNING i.room_name, i.session_id, i.provider
            """,
            room_name,
            session_id,
            provider,
            INTENT_SECONDS,
        )
    assert row is not None, "one row is written"
    return Intent.from_row(row)


async def fulfil(connection: Connection, intent: Intent) -> bool:
    """The room becomes a meeting, in this transaction. False: it took so long that the room is being deleted."""
    return bool(
        await connection.fetchval(
            "DELETE FROM meeting_intents WHERE room_name = $1 AND NOT given_up RETURNING true", intent.room_name
        )
    )


async def give_up(executor: Executor, intent: Intent) -> None:
    """The room is not needed: it is to be deleted now. One that has become a meeting stays."""
    with translated():
        await executor.execute(
            "UPDATE meeting_intents SET given_up = true, due_at = now() WHERE room_name = $1 AND NOT given_up",
            intent.room_name,
        )


async def claim_due(executor: Executor, provider: str, *, limit: int) -> list[Intent]:
    """Rooms of this `provider` that became no meetings in time; each for one worker, and from now on nobody's to use.

    One that is not :func:`forget` comes again later, as rooms of meetings do.
    """
    with translated():
        rows = await executor.fetch(
            """
            UPDATE meeting_intents i
            SET given_up = true,
                attempts = i.attempts + 1,
                due_at = CASE WHEN i.attempts + 1 >= $5 THEN 'infinity'
                    ELSE now() + make_interval(secs => least($2 * 2.0 ^ least(i.attempts, 20), $3)) END
            WHERE i.room_name IN (
                SELECT o.room_name FROM meeting_intents o
                WHERE o.provider = $4 AND o.due_at <= now()
                ORDER BY o.due_at LIMIT $1 FOR UPDATE SKIP LOCKED
            )
            RETURNING i.room_name, i.session_id, i.provider
            """,
            limit,
            FIRST_RETRY_SECONDS,
            MAX_RETRY_SECONDS,
            provider,
            MAX_ATTEMPTS,
        )
    return [Intent.from_row(row) for row in rows]


async def forget(executor: Executor, intent: Intent) -> None:
    """There is no such room at the provider any more."""
    with translated():
        await executor.execute("DELETE FROM meeting_intents WHERE room_name = $1", intent.room_name)
