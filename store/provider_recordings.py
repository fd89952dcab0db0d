"""Recordings that video providers make: how each is found there, and when it is to be looked at next.

A row is written before the provider is asked to record, and goes when the provider has nothing of it any more: it
outlives the recording itself, whose row (:mod:`store.recordings`) says what is wanted. Triggers have it looked at when
that one is stopped or deleted, whoever does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg

from store.database import Connection, Executor
from store.errors import Refused, translated

#: At the provider, as far as it is known: asked to begin; begun, or perhaps begun; ended; with nothing more to come.
Phase = Literal["starting", "running", "stopped", "settled"]

#: The constraint that a second start in a session offends.
ONE_STARTING: Final = "provider_recordings_one_starting"
#: The constraint that the same recording of a provider's under two of ours offends.
ONE_OF_EACH: Final = "provider_recordings_one_of_each"
#: Seconds that a start may take, until it counts as given up by a worker that died: longer than any provider has.
STARTING_SECONDS: Final = 45
#: Seconds that one worker has for one look; then another may look.
HOLD_SECONDS: Final = 60
#: Seconds until a provider that could not be asked is asked again: doubled each time, at most so many while something
#: may be recorded that should not be, and at most so many afterwards.
FIRST_RETRY_SECONDS: Final = 2
MAX_RETRY_RUNNING_SECONDS: Final = 60
MAX_RETRY_SECONDS: Final = 3_600


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderRecording:
    """A recording at a provider. `room` is its room as JSON, `instance_id` ours, `provider_id` the provider's, once it
    is known. `changes` counts what happened to it here."""

    recording_id: UUID
    session_id: UUID
    meeting_id: UUID
    provider: str
    room: Mapping[str, Any]
    instance_id: UUID
    provider_id: str | None
    phase: Phase
    asked_at: datetime
    stopped_at: datetime | None
    changes: int

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> ProviderRecording:
        return cls(**{name: row[name] for name in cls.__slots__})


_COLUMNS: Final = """
    p.recording_id, p.session_id, p.meeting_id, p.provider, p.room, p.instance_id, p.provider_id, p.phase, p.asked_at,
    p.stopped_at, p.changes
"""


# Starting


async def intend(
    connection: Connection,
    *,
    recording_id: UUID,
    session_id: UUID,
    meeting_id: UUID,
    provider: str,
    room_name: str,
    room: Mapping[str, Any],
    instance_id: UUID,
) -> None:
    """That the provider is about to be asked; the database refuses a second one of a session: ONE_STARTING.

    What has not :func:`begun` after STARTING_SECONDS is stopped.
    """
    await connection.execute(
        """
        INSERT INTO provider_recordings
            (recording_id, session_id, meeting_id, provider, room_name, room, instance_id, retry_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(secs => $8))
        """,
        recording_id,
        session_id,
        meeting_id,
        provider,
        room_name,
        dict(room),
        instance_id,
        STARTING_SECONDS,
    )


async def begun(
    connection: Connection, recording_id: UUID, *, provider: str, provider_id: str | None, look_after: float
) -> bool:
    """The provider records it, and so does the row of `recordings` that this transaction has written.

    False: it took so long that it is being stopped.
    """
    row = await connection.fetchrow(
        """
        UPDATE provider_recordings SET phase = 'running', provider_id = coalesce(provider_id, $2),
            retry_at = now() + make_interval(secs => $3)
        WHERE recording_id = $1 AND phase = 'starting' RETURNING recording_id
        """,
        recording_id,
        provider_id,
        look_after,
    )
    await connection.execute("UPDATE recordings SET provider = $2 WHERE id = $1", recording_id, provider)
    return row is not None


async def undo(executor: Executor, recording_id: UUID) -> None:
    """The start has failed, and may have begun something at the provider, which is to be stopped and deleted."""
    with translated():
        await executor.execute(
            "UPDATE provider_recordings SET phase = 'running', retry_at = now()"
            " WHERE recording_id = $1 AND phase = 'starting'",
            recording_id,
        )


async def forget(executor: Executor, recording_id: UUID) -> None:
    """The provider has nothing of it."""
    with translated():
        await executor.execute("DELETE FROM provider_recordings WHERE recording_id = $1", recording_id)


# Looking after them


async def claim(executor: Executor) -> ProviderRecording | None:
    """One that is to be looked at, for this worker and HOLD_SECONDS. Which is not :func:`looked_at` comes again.

    A start that was given up is `running` from now on: perhaps it does.
    """
    with translated():
        row = await executor.fetchrow(
            f"""
            UPDATE provider_recordings p
            SET phase = CASE WHEN p.phase = 'starting' THEN 'running' ELSE p.phase END,
                attempts = p.attempts + 1,
                held_until = now() + make_interval(secs => $1),
                retry_at = now() + make_interval(secs => least($2 * 2.0 ^ least(p.attempts, 20),
                    CASE WHEN p.phase IN ('starting', 'running') THEN $3::float8 ELSE $4 END))
            WHERE p.recording_id = (
                SELECT d.recording_id FROM provider_recordings d
                WHERE d.retry_at <= now() AND d.retry_at < 'infinity' AND d.held_until <= now()
                ORDER BY d.retry_at LIMIT 1
                FOR UPDATE SKIP LOCKED
            )
            RETURNING {_COLUMNS}
            """,
            HOLD_SECONDS,
            FIRST_RETRY_SECONDS,
            MAX_RETRY_RUNNING_SECONDS,
            MAX_RETRY_SECONDS,
        )
    return ProviderRecording.from_row(row) if row else None


async def looked_at(executor: Executor, held: ProviderRecording, phase: Phase, *, look_after: float | None) -> None:
    """Where it stands now, and in how many seconds it is looked at next; None: never, unless something happens to it.

    What has happened to it meanwhile is looked at at once.
    """
    with translated():
        await executor.execute(
            """
            UPDATE provider_recordings SET phase = $3, attempts = 0, held_until = now(),
                stopped_at = coalesce(stopped_at, CASE WHEN $3 IN ('stopped', 'settled') THEN now() END),
                retry_at = CASE WHEN changes <> $2 THEN now()
                    ELSE coalesce(now() + make_interval(secs => $4), 'infinity') END
            WHERE recording_id = $1
            """,
            held.recording_id,
            held.changes,
            phase,
            look_after,
        )


async def release(executor: Executor, held: ProviderRecording) -> None:
    """It could not be looked at: whoever's turn it is does so, when it is time."""
    with translated():
        await executor.execute(
            "UPDATE provider_recordings SET held_until = now() WHERE recording_id = $1", held.recording_id
        )


async def name(executor: Executor, recording_id: UUID, provider_id: str) -> bool:
    """The provider's id has become known. False: it is another recording's."""
    try:
        with translated():
            await executor.execute(
                "UPDATE provider_recordings SET provider_id = $2 WHERE recording_id = $1 AND provider_id IS NULL",
                recording_id,
                provider_id,
            )
    except Refused as refused:
        if refused.constraint != ONE_OF_EACH:
            raise
        return False
    return True


async def settle(connection: Connection, recording_id: UUID) -> None:
    """The provider has its file: there is nothing more to come."""
    await connection.execute(
        """
        UPDATE provider_recordings SET phase = 'settled', stopped_at = coalesce(stopped_at, now()),
            retry_at = 'infinity', changes = changes + 1
        WHERE recording_id = $1
        """,
        recording_id,
    )


async def look_soon(connection: Connection, recording_id: UUID, *, look_after: float) -> None:
    """Have it looked at in so many seconds, unless that is to happen earlier."""
    await connection.execute(
        """
        UPDATE provider_recordings SET changes = changes + 1,
            retry_at = least(retry_at, now() + make_interval(secs => $2))
        WHERE recording_id = $1
        """,
        recording_id,
        look_after,
    )


# Finding


async def find(executor: Executor, recording_id: UUID) -> ProviderRecording | None:
    with translated():
        row = await executor.fetchrow(
            f"SELECT {_COLUMNS} FROM provider_recordings p WHERE p.recording_id = $1", recording_id
        )
    return ProviderRecording.from_row(row) if row else None


async def find_told(
    executor: Executor,
    provider: str,
    *,
    provider_id: str | None,
    instance_id: UUID | None,
    room_name: str | None,
) -> ProviderRecording | None:
    """The one that a provider speaks of: by its id, by ours, or as the only one of the room that it has not named."""
    with translated():
        rows = await executor.fetch(
            f"""
            SELECT {_COLUMNS} FROM provider_recordings p
            WHERE p.provider = $1 AND (p.provider_id = $2 OR p.instance_id = $3)
            UNION ALL
            SELECT {_COLUMNS} FROM provider_recordings p
            WHERE p.provider = $1 AND p.room_name = $4 AND p.provider_id IS NULL AND $3::uuid IS NULL AND NOT EXISTS (
                SELECT FROM provider_recordings n WHERE n.provider = $1 AND n.provider_id = $2
            )
            LIMIT 2
            """,
            provider,
            provider_id,
            instance_id,
            room_name,
        )
    found = {row["recording_id"]: row for row in rows}
    return ProviderRecording.from_row(rows[0]) if len(found) == 1 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Others:
    """The other recordings of a room: the provider's ids of those that it has `named`, when the `next` one was asked
    for, and whether one that somebody wants, or may want, `waits` for its name."""

    named: Sequence[str]
    next: datetime | None
    waits: bool


async def others_in_room(executor: Executor, one: ProviderRecording) -> Others:
    """What the recording that the provider has not named yet is told apart by."""
    with translated():
        row = await executor.fetchrow(
            """
            SELECT coalesce(array_agg(p.provider_id) FILTER (WHERE p.provider_id IS NOT NULL), '{}') AS named,
                min(p.asked_at) FILTER (WHERE p.asked_at > $4) AS next,
                coalesce(bool_or(p.provider_id IS NULL AND (
                    p.phase = 'starting' OR EXISTS (SELECT FROM recordings r WHERE r.id = p.recording_id)
                )), false) AS waits
            FROM provider_recordings p
            WHERE p.room_name = $1 AND p.provider = $2 AND p.recording_id <> $3
            """,
            one.room["name"],
            one.provider,
            one.recording_id,
            one.asked_at,
        )
    assert row is not None, "an aggregate has one row"
    return Others(named=row["named"], next=row["next"], waits=row["waits"])


# What becomes of the recording


async def complete(connection: Connection, recording_id: UUID, *, seconds: int | None) -> bool:
    """The provider has the film: it can be seen. One that had failed was not lost after all.

    Inside a transaction that holds the session's row, as :func:`fail`. False: it could be seen already, or is gone.
    """
    row = await connection.fetchrow(
        """
        UPDATE recordings SET status = 'completed', failure = NULL, updated_at = now(),
            duration_seconds = coalesce($2, duration_seconds), stopped_at = coalesce(stopped_at, clock_timestamp())
        WHERE id = $1 AND provider IS NOT NULL AND file_id IS NULL AND status <> 'completed' RETURNING id
        """,
        recording_id,
        seconds,
    )
    return row is not None


async def fail(connection: Connection, recording_id: UUID, *, failure: str) -> bool:
    """The provider has no film. False: it has failed already, can be seen, or is gone."""
    row = await connection.fetchrow(
        """
        UPDATE recordings SET status = 'failed', failure = $2, updated_at = now(),
            stopped_at = coalesce(stopped_at, clock_timestamp())
        WHERE id = $1 AND provider IS NOT NULL AND status IN ('recording', 'processing') RETURNING id
        """,
        recording_id,
        failure,
    )
    return row is not None
