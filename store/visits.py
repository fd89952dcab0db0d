"""Presence that lasts: who is in which session through which worker, and since when.

A visit is one person in one session through one worker, from their first connection there to their last.
A worker holds its visits open by a lease. When the lease runs out, by a crash or by leaving on purpose,
any other worker closes them, and takes the worker out of the table. Until then its people are here: nobody
counts them as gone while nobody has said so. So attendance and presence are one record, right on every worker.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

import asyncpg

from store import waiters
from store.database import Connection, Executor, Pool
from store.errors import Away, translated
from store.guards import LIMITS, Rule, TurnedAway, everybody_in, judge, lock_people

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
    """A person comes to (`present`) or leaves a session, seen from one worker.

    `limited`: they come in as far as the session's host lets people in; the host themself and admins always do.
    """

    session_id: UUID
    user_id: str
    present: bool
    limited: bool = False


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


#: Whose change it is: session and person.
_Key = tuple[UUID, str]
_Outcomes = dict[_Key, Outcome | TurnedAway | Exception]


async def record(
    pool: Pool, worker_id: UUID, changes: Sequence[Change], rule: Rule = everybody_in
) -> list[Outcome | TurnedAway | Exception]:
    """Write a batch of changes; at most the last one counts of each person and session.

    Who comes to a session for the first time is a row of one statement: nobody can be with them elsewhere yet. Those
    who have been there before, and those who leave, are a second one. Where the host limits who comes in, `rule`
    decides, in a third: after those who leave, whose places are free then. Where one of these fails, it is tried for
    each alone: an exception stands for who is refused.
    """
    last: dict[_Key, Change] = {(change.session_id, change.user_id): change for change in changes}
    outcomes: _Outcomes = {}
    asking: set[_Key] = set()
    arrivals = [last[key] for key in sorted(last) if last[key].present]
    if arrivals:
        with translated():
            rows = await pool.fetch(
                _FIRST_ARRIVALS, *_columns(arrivals), [change.limited for change in arrivals], worker_id
            )
        for row in rows:
            key = (row["session_id"], row["user_id"])
            if row["asks"]:
                asking.add(key)
            else:
                outcomes[key] = Outcome.from_row(row)
    known = [last[key] for key in sorted(last) if key not in outcomes and key not in asking]
    outcomes |= await _each_or_all(known, partial(_record_known, pool, worker_id))
    # As they came: whoever asked first has the place.
    limited = [change for key, change in last.items() if key in asking]
    outcomes |= await _each_or_all(limited, partial(_record_limited, pool, worker_id, rule))
    return [outcomes[change.session_id, change.user_id] for change in changes]


def _columns(changes: Sequence[Change]) -> tuple[list[UUID], list[str]]:
    return [change.session_id for change in changes], [change.user_id for change in changes]


# `asks`: the host limits who comes in, and they are not written here.
_FIRST_ARRIVALS: Final = f"""
    WITH asked AS MATERIALIZED (
        SELECT i.session_id, i.user_id,
               i.limited AND (SELECT {LIMITS} FROM sessions s WHERE s.id = i.session_id) IS TRUE AS asks
        FROM unnest($1::uuid[], $2::text[], $3::boolean[]) AS i (session_id, user_id, limited)
    ), made AS (
        INSERT INTO session_participants (session_id, user_id, presence_version, joined_at)
        SELECT session_id, user_id, 1, now() FROM asked WHERE NOT asks
        ORDER BY session_id, user_id ON CONFLICT DO NOTHING
        RETURNING session_id, user_id, presence_version, joined_at, was_kicked, mic_allowed, camera_allowed,
                  hand_raised, read_seq
    ), opened AS (
        INSERT INTO session_visits (session_id, user_id, worker_id, joined_at)
        SELECT session_id, user_id, $4, clock_timestamp() FROM made
    )
    SELECT session_id, user_id, false AS asks, presence_version AS version, joined_at, was_kicked, mic_allowed,
           camera_allowed, hand_raised, read_seq, true AS online, true AS turned
    FROM made
    UNION ALL
    SELECT session_id, user_id, true, 0, NULL, false, false, false, false, 0, false, false FROM asked WHERE asks
"""


async def _each_or_all(
    changes: Sequence[Change], write: Callable[[Sequence[Change]], Awaitable[_Outcomes]]
) -> _Outcomes:
    """All of them together; where that fails, each alone, and an exception for who is at fault."""
    if not changes:
        return {}
    try:
        with translated():
            return await write(changes)
    except Away:
        raise
    except Exception as error:  # noqa: BLE001  # it goes to who is at fault
        if len(changes) == 1:
            return {(changes[0].session_id, changes[0].user_id): error}
        outcomes: _Outcomes = {}
        for change in changes:
            outcomes |= await _each_or_all([change], write)
        return outcomes


async def _record_known(pool: Pool, worker_id: UUID, changes: Sequence[Change]) -> _Outcomes:
    """Changes of people who have been in the session before. Who leaves and was never known is gone all the same."""
    async with pool.acquire() as connection, connection.transaction():
        held = await lock_people(connection, *_columns(changes))
        theirs = [change for change in changes if (change.session_id, change.user_id) in held]
        outcomes = await _write(connection, worker_id, theirs)
    for change in changes:
        key = (change.session_id, change.user_id)
        if key not in held and not change.present:
            outcomes[key] = _never_here(change)
    return outcomes


async def _record_limited(pool: Pool, worker_id: UUID, rule: Rule, changes: Sequence[Change]) -> _Outcomes:
    """Arrivals at sessions whose host limits who comes in."""
    outcomes: _Outcomes = {}
    async with pool.acquire() as connection, connection.transaction():
        for one in await judge(connection, [(change.session_id, change.user_id) for change in changes], rule):
            outcomes[one.session_id, one.user_id] = one
        let_in = sorted(
            (change for change in changes if (change.session_id, change.user_id) not in outcomes),
            key=lambda change: (change.session_id, change.user_id),
        )
        if let_in:
            await connection.execute(
                """
                INSERT INTO session_participants (session_id, user_id)
                SELECT * FROM unnest($1::uuid[], $2::text[]) AS i (session_id, user_id)
                ORDER BY session_id, user_id ON CONFLICT DO NOTHING
                """,
                *_columns(let_in),
            )
            outcomes |= await _write(connection, worker_id, let_in)
        waiting = [key for key, one in outcomes.items() if isinstance(one, TurnedAway) and one.verdict == "waiting"]
        if waiting:
            await waiters.add(connection, worker_id, waiting)
    return outcomes


def _never_here(change: Change) -> Outcome:
    return Outcome(
        session_id=change.session_id,
        user_id=change.user_id,
        online=False,
        turned=False,
        version=0,
        joined_at=None,
        was_kicked=False,
        mic_allowed=True,
        camera_allowed=True,
        hand_raised=False,
        read_seq=0,
    )


async def _write(connection: Connection, worker_id: UUID, changes: Sequence[Change]) -> _Outcomes:
    """Write changes of people whose rows are held. A new statement: it sees what others committed before they were."""
    rows = await connection.fetch(
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
        *_columns(changes),
        [change.present for change in changes],
        worker_id,
    )
    return {(row["session_id"], row["user_id"]): Outcome.from_row(row) for row in rows}


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
            await waiters.forget(connection, ids)
    return [Outcome.from_row(row) for row in rows]
