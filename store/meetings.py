"""Meetings: the rooms that sessions have at their video providers, one at a time, and those that are to be deleted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from store.database import Connection, Executor
from store.errors import translated

#: Seconds until a room that could not be deleted is tried again: doubled each time, and at most an hour.
FIRST_RETRY_SECONDS: Final = 30
MAX_RETRY_SECONDS: Final = 3_600
#: Times that it is tried: for about a week. A provider that will not delete a room is not asked, nor the log filled,
#: for ever; most end it by themselves long before.
MAX_ATTEMPTS: Final = 175
#: Seconds that the room of a meeting that is over stays for its recording to be stopped: what becomes of the film of a
#: room that is deleted meanwhile, no provider says.
STOPPING_SECONDS: Final = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class Meeting:
    """A room of a session. `room_id`, `room_name`, `url` and `data` are its provider's; `generation` counts them."""

    id: UUID
    session_id: UUID
    generation: int
    provider: str
    room_id: str
    room_name: str
    url: str | None
    data: Mapping[str, Any]
    created_at: datetime
    closes_at: datetime

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Meeting:
        return cls(**{name: row[name] for name in cls.__slots__})


_MEETING: Final = """
    m.id, m.session_id, m.generation, m.provider, m.room_id, m.room_name, m.url, m.data, m.created_at, m.closes_at
"""


async def current(executor: Executor, session_id: UUID) -> Meeting | None:
    """The session's meeting, if it has one that goes on; that of a session that has ended does not."""
    with translated():
        row = await executor.fetchrow(
            f"SELECT {_MEETING} FROM meetings m JOIN sessions s ON s.id = m.session_id"
            " WHERE m.session_id = $1 AND m.ended_at IS NULL AND m.closes_at > clock_timestamp()"
            " AND s.status <> 'ended'",
            session_id,
        )
    return Meeting.from_row(row) if row else None


async def find(executor: Executor, meeting_id: UUID) -> Meeting | None:
    """The meeting with this id, whether it goes on or not."""
    with translated():
        row = await executor.fetchrow(f"SELECT {_MEETING} FROM meetings m WHERE m.id = $1", meeting_id)
    return Meeting.from_row(row) if row else None


async def goes_on(connection: Connection, session_id: UUID) -> bool:
    """Whether the session has had a meeting that nobody has ended: the next one is instead of it."""
    return bool(
        await connection.fetchval(
            "SELECT ended_at IS NULL OR ended_at >= closes_at FROM meetings WHERE session_id = $1"
            " ORDER BY generation DESC LIMIT 1",
            session_id,
        )
    )


async def insert(
    connection: Connection,
    *,
    meeting_id: UUID,
    session_id: UUID,
    provider: str,
    room_id: str,
    room_name: str,
    url: str | None,
    data: Mapping[str, Any],
    closes_at: datetime,
) -> Meeting:
    """Make it the session's meeting, and end the one before. Inside a transaction that holds the session's row."""
    await connection.execute(
        "UPDATE meetings SET ended_at = now(), retry_at = now() WHERE session_id = $1 AND ended_at IS NULL", session_id
    )
    row = await connection.fetchrow(
        f"""
        INSERT INTO meetings AS m
            (id, session_id, generation, provider, room_id, room_name, url, data, closes_at, retry_at)
        SELECT $1, $2, coalesce(max(generation), 0) + 1, $3, $4, $5, $6, $7, $8, $8 FROM meetings WHERE session_id = $2
        RETURNING {_MEETING}
        """,
        meeting_id,
        session_id,
        provider,
        room_id,
        room_name,
        url,
        dict(data),
        closes_at,
    )
    assert row is not None, "one row is inserted"
    return Meeting.from_row(row)


async def end(executor: Executor, meeting_id: UUID) -> bool:
    """It is over, and its room is to be deleted; False where it was over already."""
    with translated():
        ended = await executor.fetchval(
            "UPDATE meetings SET ended_at = now(), retry_at = now() WHERE id = $1 AND ended_at IS NULL RETURNING true",
            meeting_id,
        )
    return bool(ended)


async def set_deleted(executor: Executor, meeting_id: UUID) -> None:
    """Its provider has no such room any more."""
    with translated():
        await executor.execute(
            "UPDATE meetings SET deleted_at = now(), ended_at = coalesce(ended_at, now())"
            " WHERE id = $1 AND deleted_at IS NULL",
            meeting_id,
        )


async def claim_over(executor: Executor, provider: str, *, limit: int) -> list[Meeting]:
    """Meetings that are over, or whose sessions are, and whose rooms this `provider` is still to delete; each for one
    worker. One whose recording is being ended waits for that, and at most STOPPING_SECONDS.

    One that is not :func:`set_deleted` comes again later, up to MAX_ATTEMPTS times.
    """
    with translated():
        rows = await executor.fetch(
            f"""
            UPDATE meetings m
            SET attempts = m.attempts + 1,
                retry_at = CASE WHEN m.attempts + 1 >= $6 THEN 'infinity'
                    ELSE now() + make_interval(secs => least($2 * 2.0 ^ least(m.attempts, 20), $3)) END
            WHERE m.id IN (
                SELECT o.id FROM meetings o JOIN sessions s ON s.id = o.session_id
                WHERE o.deleted_at IS NULL AND o.provider = $4 AND o.retry_at <= now()
                    AND (o.ended_at IS NOT NULL OR s.status = 'ended' OR o.closes_at <= now())
                    AND NOT EXISTS (
                        SELECT FROM provider_recordings p LEFT JOIN recordings r ON r.id = p.recording_id
                        WHERE p.room_name = o.room_name AND p.meeting_id = o.id AND p.phase IN ('starting', 'running')
                            AND now() - make_interval(secs => $5) < greatest(
                                p.asked_at, r.stopped_at, o.ended_at,
                                CASE WHEN o.closes_at <= now() THEN o.closes_at END
                            )
                    )
                ORDER BY o.retry_at LIMIT $1
                FOR UPDATE OF o SKIP LOCKED
            )
            RETURNING {_MEETING}
            """,
            limit,
            FIRST_RETRY_SECONDS,
            MAX_RETRY_SECONDS,
            provider,
            STOPPING_SECONDS,
            MAX_ATTEMPTS,
        )
    return [Meeting.from_row(row) for row in rows]
