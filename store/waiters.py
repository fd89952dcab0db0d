"""Who waits to be let into a session, and through which worker.

A row is one person who waits for one session through one worker, and counts for as long as that worker holds its lease
(see `store.visits`). Rows are locked in one order, so that those who admit and those who give up never wait for each
other in a ring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg

from store.database import Connection, Executor, Pool
from store.errors import translated

#: What a host decided on somebody who waits.
Settlement = Literal["admitted", "refused"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiter:
    """Somebody who waits, since when, and what they are called: by their id while they have no name."""

    user_id: str
    name: str
    role: str
    since: datetime

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Waiter:
        return cls(**{name: row[name] for name in cls.__slots__})


async def add(connection: Connection, worker_id: UUID, asked: Sequence[tuple[UUID, str]]) -> None:
    """Note people who wait through this worker. Inside the transaction in which they were told to."""
    ordered = sorted(asked)
    await connection.execute(
        """
        INSERT INTO session_waiters (session_id, user_id, worker_id, since)
        SELECT session_id, user_id, $3, clock_timestamp()
        FROM unnest($1::uuid[], $2::text[]) AS i (session_id, user_id)
        ORDER BY session_id, user_id ON CONFLICT DO NOTHING
        """,
        [session_id for session_id, _ in ordered],
        [user_id for _, user_id in ordered],
        worker_id,
    )


async def of_session(executor: Executor, session_id: UUID, *, limit: int) -> list[Waiter]:
    """The first `limit` people who wait, whoever has waited longest first."""
    return (await of_sessions(executor, [session_id], limit=limit))[session_id]


async def of_sessions(executor: Executor, session_ids: Sequence[UUID], *, limit: int) -> dict[UUID, list[Waiter]]:
    """As :func:`of_session`, for each of the sessions."""
    with translated():
        rows = await executor.fetch(
            """
            SELECT asked.session_id, u.id AS user_id, u.role, waiting.since,
                   coalesce(nullif(trim(u.first_name || ' ' || u.last_name), ''), u.id) AS name
            FROM unnest($1::uuid[]) AS asked (session_id) CROSS JOIN LATERAL (
                SELECT user_id, min(since) AS since FROM session_waiters w
                WHERE w.session_id = asked.session_id AND (SELECT true FROM workers k WHERE k.id = w.worker_id)
                GROUP BY user_id ORDER BY min(since), user_id LIMIT $2
            ) waiting JOIN users u ON u.id = waiting.user_id ORDER BY waiting.since, u.id
            """,
            list(session_ids),
            limit,
        )
    found: dict[UUID, list[Waiter]] = {session_id: [] for session_id in session_ids}
    for row in rows:
        found[row["session_id"]].append(Waiter.from_row(row))
    return found


async def settle(connection: Connection, session_id: UUID, user_ids: Sequence[str]) -> list[Waiter]:
    """End the waiting of these people on every worker. Answers those of them who waited, longest first.

    Inside a transaction that holds the session's row.
    """
    rows = await connection.fetch(
        """
        WITH mine AS MATERIALIZED (
            SELECT session_id, user_id, worker_id, since FROM session_waiters
            WHERE session_id = $1 AND user_id = ANY ($2::text[]) ORDER BY user_id, worker_id FOR UPDATE
        ), gone AS (
            DELETE FROM session_waiters w USING mine
            WHERE w.session_id = mine.session_id AND w.user_id = mine.user_id AND w.worker_id = mine.worker_id
        )
        SELECT u.id AS user_id, u.role, waiting.since,
               coalesce(nullif(trim(u.first_name || ' ' || u.last_name), ''), u.id) AS name
        FROM (SELECT user_id, min(since) AS since FROM mine GROUP BY user_id) waiting
        JOIN users u ON u.id = waiting.user_id ORDER BY waiting.since, u.id
        """,
        session_id,
        list(user_ids),
    )
    return [Waiter.from_row(row) for row in rows]


async def end(pool: Pool, worker_id: UUID, ended: Sequence[tuple[UUID, str]], *, again: bool = False) -> list[bool]:
    """People no longer wait through this worker. Answers for each whether they waited, and now wait nowhere.

    `again`: an earlier try may have been committed, so that what is not there counts as ended by it.
    """
    if not ended:
        return []
    ordered = sorted(set(ended))
    with translated():
        rows = await pool.fetch(
            """
            WITH mine AS MATERIALIZED (
                SELECT session_id, user_id FROM session_waiters
                JOIN unnest($1::uuid[], $2::text[]) AS i (session_id, user_id) USING (session_id, user_id)
                WHERE worker_id = $3 ORDER BY session_id, user_id FOR UPDATE OF session_waiters
            ), gone AS (
                DELETE FROM session_waiters w USING mine
                WHERE w.session_id = mine.session_id AND w.user_id = mine.user_id AND w.worker_id = $3
                RETURNING w.session_id, w.user_id
            )
            SELECT session_id, user_id FROM gone g WHERE (
                SELECT true FROM session_waiters w JOIN workers k ON k.id = w.worker_id
                WHERE w.session_id = g.session_id AND w.user_id = g.user_id AND w.worker_id <> $3 LIMIT 1
            ) IS NOT TRUE
            """,
            [session_id for session_id, _ in ordered],
            [user_id for _, user_id in ordered],
            worker_id,
        )
    gone = {(row["session_id"], row["user_id"]) for row in rows}
    return [again or one in gone for one in ended]


async def forget(connection: Connection, worker_ids: Sequence[UUID]) -> None:
    """Nobody waits any more through workers that are gone. Inside the transaction that takes them out."""
    await connection.execute(
        """
        DELETE FROM session_waiters w USING (
            SELECT session_id, user_id, worker_id FROM session_waiters
            WHERE worker_id = ANY ($1::uuid[]) ORDER BY session_id, user_id, worker_id FOR UPDATE
        ) gone
        WHERE w.session_id = gone.session_id AND w.user_id = gone.user_id AND w.worker_id = gone.worker_id
        """,
        list(worker_ids),
    )


async def keep(pool: Pool, worker_id: UUID, waiting: Sequence[tuple[UUID, str]]) -> None:
    """Note again those who wait through this worker, whose rows went with its lease; not those who were admitted."""
    ordered = sorted(waiting)
    with translated():
        await pool.execute(
            """
            INSERT INTO session_waiters (session_id, user_id, worker_id, since)
            SELECT i.session_id, i.user_id, $3, clock_timestamp()
            FROM unnest($1::uuid[], $2::text[]) AS i (session_id, user_id)
            WHERE (
                SELECT p.admitted_at IS NOT NULL FROM session_participants p
                WHERE p.session_id = i.session_id AND p.user_id = i.user_id
            ) IS NOT TRUE
            ORDER BY i.session_id, i.user_id ON CONFLICT DO NOTHING
            """,
            [session_id for session_id, _ in ordered],
            [user_id for _, user_id in ordered],
            worker_id,
        )


async def settled(
    pool: Pool, worker_id: UUID, waiting: Sequence[tuple[UUID, str]]
) -> list[tuple[UUID, str, Settlement]]:
    """Those of these people, who wait through this worker, on whom a host has decided: who was admitted, and whose row
    is gone. Nobody whose row went with the worker's lease; nor who was kicked, which the session's log tells."""
    with translated():
        rows = await pool.fetch(
            """
            SELECT i.session_id, i.user_id, p.admitted_at IS NOT NULL AS is_admitted
            FROM unnest($1::uuid[], $2::text[]) AS i (session_id, user_id)
            LEFT JOIN LATERAL (
                SELECT admitted_at, was_kicked FROM session_participants
                WHERE session_id = i.session_id AND user_id = i.user_id LIMIT 1
            ) p ON true
            WHERE p.was_kicked IS NOT TRUE AND (p.admitted_at IS NOT NULL OR (
                (SELECT true FROM workers k WHERE k.id = $3)
                AND (
                    SELECT true FROM session_waiters w
                    WHERE w.session_id = i.session_id AND w.user_id = i.user_id AND w.worker_id = $3
                ) IS NOT TRUE
            ))
            """,
            [session_id for session_id, _ in waiting],
            [user_id for _, user_id in waiting],
            worker_id,
        )
    return [(row["session_id"], row["user_id"], "admitted" if row["is_admitted"] else "refused") for row in rows]
