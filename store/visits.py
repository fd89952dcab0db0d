"""Presence that lasts: who is in which session through which worker, and since when.

A visit is one person in one session through one worker, from their first connection there to their last.
A worker holds its visits open by a lease. When the lease runs out, by a crash or by leaving on purpose,
any other worker closes them, and takes the worker out of the table. Until then its people are here: nobody
counts them as gone while nobody has said so. So attendance and presence are one record, right on every worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from store.database import Executor, Pool
from store.errors import Away, translated

#: Seconds a worker is believed alive after its last renewal.
LEASE_SECONDS: Final = 5.0
#: Seconds after the lease until others close its visits. A database that was away took everybody's lease with
#: it: whoever is back first leaves the others time to renew theirs.
REAP_AFTER_SECONDS: Final = 1.5


#: An open visit `v`, looked up by its session and person. `IS NULL` would let a plan read all open visits instead,
#: by one of the indexes that hold nothing else; made while there are few, it would go on doing so.
OPEN: Final = "v.left_at IS NOT DISTINCT FROM NULL"


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A person comes to (`present`) or leaves a session, seen from one worker."""

    session_id: UUID
    user_id: str
    present: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Where a person is after a change, over all workers. `turned`: the change itself made them come or go.

    `version` counts the person's arrivals and departures in this session: the higher one is the later.
    """

    session_id: UUID
    user_id: str
    online: bool
    turned: bool
    version: int
    joined_at: datetime | None
    was_kicked: bool
    mic_allowed: bool
    camera_allowed: bool
    hand_raised: bool
    read_seq: int

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Outcome:
        return cls(**{name: row[name] for name in cls.__slots__})


async def record(pool: Pool, worker_id: UUID, changes: Sequence[Change]) -> list[Outcome | Exception]:
    """Write a batch of changes; at most the last one counts of each person and session.

    Who comes to a session for the first time is a row of one statement: nobody can be with them elsewhere yet. Those
    who have been there before are a second one, and where it fails, one each: an exception stands for who is refused.
    """
    last: dict[tuple[UUID, str], Change] = {(change.session_id, change.user_id): change for change in changes}
    ordered = [last[key] for key in sorted(last)]
    outcomes: dict[tuple[UUID, str], Outcome | Exception] = {}
    with translated():
        first = await pool.fetch(
            """
            WITH made AS (
                INSERT INTO session_participants (session_id, user_id, presence_version, joined_at)
                SELECT session_id, user_id, present::int, CASE WHEN present THEN now() END
                FROM unnest($1::uuid[], $2::text[], $3::boolean[]) AS i (session_id, user_id, present)
                ORDER BY session_id, user_id ON CONFLICT DO NOTHING
                RETURNING *, presence_version > 0 AS present
            ), opened AS (
                INSERT INTO session_visits (session_id, user_id, worker_id, joined_at)
                SELECT session_id, user_id, $4, clock_timestamp() FROM made WHERE present
            )
            SELECT session_id, user_id, presence_version AS version, joined_at, was_kicked, mic_allowed,
                camera_allowed, hand_raised, read_seq, present AS online, present AS turned
            FROM made
            """,
            *_columns(ordered),
            worker_id,
        )
        for row in first:
            outcomes[row["session_id"], row["user_id"]] = Outcome.from_row(row)
    known = [change for change in ordered if (change.session_id, change.user_id) not in outcomes]
    outcomes |= await _record_known(pool, worker_id, known)
    return [outcomes[change.session_id, change.user_id] for change in changes]


def _columns(changes: Sequence[Change]) -> tuple[list[UUID], list[str], list[bool]]:
    return (
        [change.session_id for change in changes],
        [change.user_id for change in changes],
        [change.present for change in changes],
    )


async def _record_known(
    pool: Pool, worker_id: UUID, changes: Sequence[Change]
) -> dict[tuple[UUID, str], Outcome | Exception]:
    if not changes:
        return {}
    try:
        with translated():
            rows = await _record_together(pool, worker_id, changes)
    except Away:
        raise
    except Exception as error:  # noqa: BLE001  # it goes to who is at fault
        if len(changes) == 1:
            return {(changes[0].session_id, changes[0].user_id): error}
        outcomes: dict[tuple[UUID, str], Outcome | Exception] = {}
        for change in changes:
            outcomes |= await _record_known(pool, worker_id, [change])
        return outcomes
    return {(row["session_id"], row["user_id"]): Outcome.from_row(row) for row in rows}


async def _record_together(pool: Pool, worker_id: UUID, changes: Sequence[Change]) -> list[asyncpg.Record]:
    """Changes of people who have been in the session before.

    Their rows are taken in one order, so that two workers never wait for each other in a ring, and the same
    person coming here and leaving there is decided one after the other.
    """
    session_ids, user_ids, present = _columns(changes)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            """
            SELECT FROM session_participants JOIN unnest($1::uuid[], $2::text[]) AS i (session_id, user_id)
            USING (session_id, user_id) ORDER BY session_id, user_id FOR NO KEY UPDATE
            """,
            session_ids,
            user_ids,
        )
        # A new statement: its snapshot sees what others committed before the rows were ours.
        return await connection.fetch(
            f"""
            WITH seen AS MATERIALIZED (
                SELECT i.*, open.id AS visit_id, open.elsewhere
                FROM unnest($1::uuid[], $2::text[], $3::boolean[]) AS i (session_id, user_id, present)
                CROSS JOIN LATERAL (
                    SELECT max(v.id) FILTER (WHERE v.worker_id = $4) AS id,
                           coalesce(bool_or(v.worker_id <> $4), false) AS elsewhere
                    FROM session_visits v
                    WHERE v.session_id = i.session_id AND v.user_id = i.user_id AND {OPEN}
                      AND (v.worker_id = $4 OR (SELECT true FROM workers w WHERE w.id = v.worker_id))
                ) open
            ), opened AS (
                INSERT INTO session_visits (session_id, user_id, worker_id, joined_at)
                SELECT session_id, user_id, $4, clock_timestamp() FROM seen WHERE present AND visit_id IS NULL
            ), closed AS (
                UPDATE session_visits SET left_at = greatest(joined_at, clock_timestamp())
                WHERE id = ANY (ARRAY(SELECT visit_id FROM seen WHERE NOT present AND visit_id IS NOT NULL))
            ), turned AS (
                SELECT *, NOT elsewhere AND present = (visit_id IS NULL) AS has_turned FROM seen
            )
            UPDATE session_participants p SET
                presence_version = p.presence_version + t.has_turned::int,
                joined_at = CASE WHEN t.present THEN coalesce(p.joined_at, now()) ELSE p.joined_at END,
                left_at = CASE WHEN t.present THEN NULL WHEN t.has_turned THEN now() ELSE p.left_at END,
                updated_at = now()
            FROM turned t WHERE p.session_id = t.session_id AND p.user_id = t.user_id
            RETURNING p.session_id, p.user_id, p.presence_version AS version, p.joined_at, p.was_kicked,
                p.mic_allowed, p.camera_allowed, p.hand_raised, p.read_seq,
                t.present OR t.elsewhere AS online, t.has_turned AS turned
            """,
            session_ids,
            user_ids,
            present,
            worker_id,
        )


async def renew_lease(executor: Executor, worker_id: UUID) -> bool:
    """Keep the worker alive for another :data:`LEASE_SECONDS`. False: it is new, or was believed dead and its
    visits are closed."""
    with translated():
        row = await executor.fetchrow(
            """
            INSERT INTO workers (id, lease_until) VALUES ($1, now() + make_interval(secs => $2))
            ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until
            RETURNING xmax <> 0 AS existed
            """,
            worker_id,
            LEASE_SECONDS,
        )
    assert row is not None
    return bool(row["existed"])


async def end_lease(executor: Executor, worker_id: UUID, *, grace_seconds: float) -> None:
    """Leave on purpose: others close what stays open after a grace, in which people may come back elsewhere."""
    with translated():
        await executor.execute(
            "UPDATE workers SET lease_until = now() + make_interval(secs => $2) WHERE id = $1",
            worker_id,
            grace_seconds,
        )


async def close_expired(pool: Pool) -> list[Outcome]:
    """Close the visits of workers whose lease ran out, once over all workers. Answers who went offline by it."""
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            dead = await connection.fetch(
                """
                DELETE FROM workers WHERE id IN (
                    SELECT id FROM workers WHERE lease_until < now() - make_interval(secs => $1)
                    ORDER BY id FOR UPDATE SKIP LOCKED
                ) RETURNING id, lease_until
                """,
                REAP_AFTER_SECONDS,
            )
            if not dead:
                return []
            ids = [row["id"] for row in dead]
            await connection.execute(
                """
                SELECT FROM session_participants p WHERE (session_id, user_id) IN (
                    SELECT session_id, user_id FROM session_visits
                    WHERE worker_id = ANY($1::uuid[]) AND left_at IS NULL
                ) ORDER BY session_id, user_id FOR NO KEY UPDATE
                """,
                ids,
            )
            rows = await connection.fetch(
                """
                WITH closed AS (
                    UPDATE session_visits v SET left_at = greatest(v.joined_at, d.lease_until)
                    FROM unnest($1::uuid[], $2::timestamptz[]) AS d (id, lease_until)
                    WHERE v.worker_id = d.id AND v.left_at IS NULL
                    RETURNING v.session_id, v.user_id, v.left_at
                )
                UPDATE session_participants p SET
                    presence_version = p.presence_version + 1, updated_at = now(),
                    left_at = greatest(c.left_at, (
                        SELECT max(v.left_at) FROM session_visits v
                        WHERE v.session_id = p.session_id AND v.user_id = p.user_id
                    ))
                FROM (SELECT session_id, user_id, max(left_at) AS left_at FROM closed GROUP BY 1, 2) c
                WHERE p.session_id = c.session_id AND p.user_id = c.user_id AND NOT EXISTS (
                    SELECT FROM session_visits v JOIN workers w ON w.id = v.worker_id
                    WHERE v.session_id = c.session_id AND v.user_id = c.user_id AND v.left_at IS NULL
                )
                RETURNING p.session_id, p.user_id, p.presence_version AS version, p.joined_at, p.was_kicked,
                    p.mic_allowed, p.camera_allowed, p.hand_raised, p.read_seq, false AS online, true AS turned
                """,
                ids,
                [row["lease_until"] for row in dead],
            )
    return [Outcome.from_row(row) for row in rows]
