"""Who takes part in a session: permissions, raised hands, read marks, and whether they were kicked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from store.database import Connection, Executor, Pool
from store.errors import translated
from store.loader import shared
from store.visits import OPEN


@dataclass(frozen=True, kw_only=True, slots=True)
class Participant:
    """One person of one session. `online`: they have an open visit on a worker that nobody has given up."""

    id: UUID
    session_id: UUID
    user_id: str
    first_name: str
    last_name: str
    role: str
    joined_at: datetime | None
    left_at: datetime | None
    was_kicked: bool
    mic_allowed: bool
    camera_allowed: bool
    hand_raised: bool
    read_seq: int
    presence_version: int
    online: bool
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Participant:
        return cls(**{name: row[name] for name in cls.__slots__})


# Named one by one: a migration that adds a column would end what workers have prepared, in the middle of transactions.
# A scalar, where EXISTS could become a read of all open visits.
_PARTICIPANT = f"""
    SELECT p.id, p.session_id, p.user_id, p.joined_at, p.left_at, p.was_kicked, p.mic_allowed, p.camera_allowed,
           p.hand_raised, p.read_seq, p.presence_version, p.created_at, p.updated_at, u.first_name, u.last_name, u.role,
           coalesce((
               SELECT true FROM session_visits v JOIN workers w ON w.id = v.worker_id
               WHERE v.session_id = p.session_id AND v.user_id = p.user_id AND {OPEN} LIMIT 1
           ), false) AS online
    FROM session_participants p JOIN users u ON u.id = p.user_id
"""


async def of_session(
    executor: Executor, session_id: UUID, *, after: str | None = None, limit: int
) -> list[Participant]:
    """Everybody who joined, or whom the host gave or took something, first comers first: `limit` of them, behind
    the person `after`."""
    with translated():
        rows = await executor.fetch(
            f"""
            {_PARTICIPANT} WHERE p.session_id = $1 AND (
                $2::text IS NULL OR (coalesce(p.joined_at, 'infinity'), p.user_id) > (
                    SELECT coalesce(joined_at, 'infinity'), user_id FROM session_participants
                    WHERE session_id = $1 AND user_id = $2
                )
            ) ORDER BY coalesce(p.joined_at, 'infinity'), p.user_id LIMIT $3
            """,
            session_id,
            after,
            limit,
        )
    return [Participant.from_row(row) for row in rows]


async def online_in_session(
    executor: Executor, session_id: UUID, *, after: str | None = None, limit: int
) -> list[Participant]:
    """Those who are online, in the order of their ids: `limit` of them, behind the person `after`.

    Walks the session's people by their key: each page begins where the one before ended.
    """
    with translated():
        rows = await executor.fetch(
            f"""
            {_PARTICIPANT} WHERE p.session_id = $1 AND p.user_id > coalesce($2::text, '')
              AND p.joined_at IS NOT NULL AND p.left_at IS NULL
            ORDER BY p.user_id LIMIT $3
            """,
            session_id,
            after,
            limit,
        )
    return [Participant.from_row(row) for row in rows]


async def of_person(executor: Executor, session_id: UUID, user_id: str) -> Participant | None:
    with translated():
        row = await executor.fetchrow(f"{_PARTICIPANT} WHERE p.session_id = $1 AND p.user_id = $2", session_id, user_id)
    return Participant.from_row(row) if row else None


async def of_room(executor: Executor, session_id: UUID) -> list[Participant]:
    """Everybody who ever joined the session, online or not."""
    return await shared(executor, _of_rooms, session_id)


async def _of_rooms(executor: Executor, session_ids: Sequence[UUID]) -> list[list[Participant]]:
    joined = await of_sessions(executor, session_ids)
    return [joined[session_id] for session_id in session_ids]


async def of_sessions(executor: Executor, session_ids: Sequence[UUID]) -> dict[UUID, list[Participant]]:
    """Everybody who ever joined each of the sessions, online or not."""
    with translated():
        rows = await executor.fetch(
            f"{_PARTICIPANT} WHERE p.session_id = ANY($1::uuid[]) AND p.joined_at IS NOT NULL"
            " ORDER BY p.joined_at, p.user_id",
            list(session_ids),
        )
    joined: dict[UUID, list[Participant]] = {session_id: [] for session_id in session_ids}
    for row in rows:
        joined[row["session_id"]].append(Participant.from_row(row))
    return joined


async def change(
    connection: Connection,
    session_id: UUID,
    user_id: str,
    *,
    mic_allowed: bool | None = None,
    camera_allowed: bool | None = None,
    hand_raised: bool | None = None,
    was_kicked: bool | None = None,
) -> None:
    """Set what is given, also for somebody who has not joined yet. Inside the caller's transaction.

    Who is kicked loses their admission, too: let back in, they wait again where there is a waiting room.
    """
    await connection.execute(
        """
        INSERT INTO session_participants AS p
            (session_id, user_id, mic_allowed, camera_allowed, hand_raised, was_kicked)
        VALUES ($1, $2, coalesce($3, true), coalesce($4, true), coalesce($5, false), coalesce($6, false))
        ON CONFLICT (session_id, user_id) DO UPDATE SET
            mic_allowed = coalesce($3, p.mic_allowed), camera_allowed = coalesce($4, p.camera_allowed),
            hand_raised = coalesce($5, p.hand_raised), was_kicked = coalesce($6, p.was_kicked),
            admitted_at = CASE WHEN $6 THEN NULL ELSE p.admitted_at END, updated_at = now()
        """,
        session_id,
        user_id,
        mic_allowed,
        camera_allowed,
        hand_raised,
        was_kicked,
    )


async def admit(connection: Connection, session_id: UUID, user_ids: Sequence[str]) -> None:
    """Let known people in through the waiting room, now and whenever they come again. Inside a transaction that holds
    the session's row."""
    await connection.execute(
        """
        INSERT INTO session_participants AS p (session_id, user_id, admitted_at)
        SELECT $1, user_id, now() FROM unnest($2::text[]) AS i (user_id) ORDER BY user_id
        ON CONFLICT (session_id, user_id) DO UPDATE SET admitted_at = now(), updated_at = now()
        WHERE p.admitted_at IS NULL AND NOT p.was_kicked
        """,
        session_id,
        sorted(set(user_ids)),
    )


async def admitted(executor: Executor, session_id: UUID, user_ids: Sequence[str]) -> list[str]:
    """Those of these people whom the host has let in, in the order of their ids."""
    with translated():
        rows = await executor.fetch(
            """
            SELECT user_id FROM session_participants
            WHERE session_id = $1 AND user_id = ANY ($2::text[]) AND admitted_at IS NOT NULL ORDER BY user_id
            """,
            session_id,
            list(user_ids),
        )
    return [row["user_id"] for row in rows]


async def admit_those_here(connection: Connection, session_id: UUID) -> None:
    """Count as admitted whoever is in the session as its waiting room is opened. Inside the transaction that opens it,
    which holds the session's row."""
    # Locked by a statement of its own: see `store.messages` for what befalls one that goes to a row twice.
    here = await connection.fetch(
        """
        SELECT user_id FROM session_participants
        WHERE session_id = $1 AND joined_at IS NOT NULL AND left_at IS NULL AND admitted_at IS NULL AND NOT was_kicked
        ORDER BY user_id FOR NO KEY UPDATE
        """,
        session_id,
    )
    await connection.execute(
        "UPDATE session_participants SET admitted_at = now() WHERE session_id = $1 AND user_id = ANY ($2::text[])",
        session_id,
        [row["user_id"] for row in here],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadMark:
    """Somebody has read a session up to `seq`."""

    session_id: UUID
    user_id: str
    seq: int


async def mark_read(pool: Pool, marks: Sequence[ReadMark]) -> list[bool]:
    """Write a batch of read marks; a mark never moves back. Answers for each whether it moved."""
    furthest: dict[tuple[UUID, str], int] = {}
    for mark in marks:
        key = (mark.session_id, mark.user_id)
        furthest[key] = max(mark.seq, furthest.get(key, 0))
    ordered = sorted(furthest)
    with translated():
        rows = await pool.fetch(
            """
            UPDATE session_participants p SET read_seq = i.seq
            FROM (
                SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS i (session_id, user_id, seq)
                ORDER BY session_id, user_id
            ) i
            WHERE p.session_id = i.session_id AND p.user_id = i.user_id AND p.read_seq < i.seq
            RETURNING p.session_id, p.user_id, p.read_seq
            """,
            [session_id for session_id, _ in ordered],
            [user_id for _, user_id in ordered],
            [furthest[key] for key in ordered],
        )
    moved = {(row["session_id"], row["user_id"], row["read_seq"]) for row in rows}
    return [(mark.session_id, mark.user_id, mark.seq) in moved for mark in marks]
