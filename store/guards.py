"""Who may come into a session whose host limits that: its places, its lock, its waiting room.

The sessions' rows are locked before anything is read, and kept until the arrivals are committed: of two who want the
last place through two workers one is decided after the other, and whoever changes a setting, admits or kicks comes
before all of it or after. What is decided by these facts is not decided here: see :data:`Rule`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

import asyncpg

from store.database import Connection

#: What becomes of somebody who asks to come in.
Verdict = Literal["in", "kicked", "locked", "waiting", "unagreed", "full"]

#: A session (`s`) whose host limits who comes in.
LIMITS: Final = "(s.max_participants IS NOT NULL OR s.locked OR s.waiting_room OR s.recording_consent)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Guard:
    """What a host has set, and how full the session is: `people` are those online that count, 0 where nobody asks.

    The host and admins do not count, nor do those who were kicked and whose worker has not closed their visit yet.
    """

    session_id: UUID
    max_participants: int | None
    locked: bool
    waiting_room: bool
    people: int
    #: It is being recorded, and nobody is who has not agreed to it.
    needs_consent: bool = False

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Guard:
        return cls(**{name: row[name] for name in cls.__slots__})


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """Somebody who asks to come in. `is_here`: they are in already, through another connection or worker."""

    session_id: UUID
    user_id: str
    is_here: bool
    has_been_in: bool
    was_kicked: bool
    is_admitted: bool
    is_waiting: bool
    has_agreed: bool = False

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Asking:
        return cls(**{name: row[name] for name in cls.__slots__})


#: The verdicts on those who ask at one session, in their order. Plain: it runs while the session's row is held.
Rule = Callable[[Guard, Sequence[Asking]], Sequence[Verdict]]


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnedAway:
    """Somebody who did not come in. `is_new`, of one who waits: they did not wait anywhere before."""

    session_id: UUID
    user_id: str
    verdict: Verdict
    max_participants: int | None
    is_new: bool


def everybody_in(_guard: Guard, asking: Sequence[Asking]) -> Sequence[Verdict]:
    """The rule that refuses nobody."""
    return ["in"] * len(asking)


async def judge(connection: Connection, asked: Sequence[tuple[UUID, str]], rule: Rule) -> list[TurnedAway]:
    """Lock the sessions and the people's rows in them, and answer who does not come in. Who asks first comes first."""
    session_ids, user_ids = [session_id for session_id, _ in asked], [user_id for _, user_id in asked]
    await connection.execute(
        "SELECT FROM sessions WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE", session_ids
    )
    await lock_people(connection, session_ids, user_ids)
    # New statements: they see what others committed before the rows were ours.
    guards = {row["session_id"]: Guard.from_row(row) for row in await connection.fetch(_GUARDS, session_ids)}
    by_session: dict[UUID, list[Asking]] = {}
    for row in await connection.fetch(_ASKING, session_ids, user_ids):
        by_session.setdefault(row["session_id"], []).append(Asking.from_row(row))
    return [
        TurnedAway(
            session_id=session_id,
            user_id=one.user_id,
            verdict=verdict,
            max_participants=guards[session_id].max_participants,
            is_new=not one.is_waiting,
        )
        for session_id, asking in by_session.items()
        if session_id in guards
        for one, verdict in zip(asking, rule(guards[session_id], asking), strict=True)
        if verdict != "in"
    ]


async def lock_people(
    connection: Connection, session_ids: Sequence[UUID], user_ids: Sequence[str]
) -> set[tuple[UUID, str]]:
    """Take the rows of those who are known in their sessions, in one order: two workers never wait for each other in a
    ring, and the same person coming here and leaving there is decided one after the other. Answers whose rows are held
    now: whoever became known just then is not among them, and their row is not to be written before the commit."""
    rows = await connection.fetch(
        """
        SELECT session_id, user_id
        FROM session_participants JOIN unnest($1::uuid[], $2::text[]) AS i (session_id, user_id)
        USING (session_id, user_id) ORDER BY session_id, user_id FOR NO KEY UPDATE
        """,
        session_ids,
        user_ids,
    )
    return {(row["session_id"], row["user_id"]) for row in rows}


# In the order of the index of open visits, so that no plan prefers another one that holds nothing else. Whom it leaves
# out is looked up once, not for each of thousands: they are few, and hashed.
_GUARDS: Final = """
    SELECT s.id AS session_id, s.max_participants, s.locked, s.waiting_room,
           CASE WHEN s.max_participants IS NULL THEN 0 ELSE (
               SELECT count(DISTINCT open.user_id) FROM (
                   SELECT v.user_id, v.worker_id FROM session_visits v
                   WHERE v.session_id = s.id AND v.left_at IS NULL
                   ORDER BY v.session_id, v.user_id, v.worker_id
               ) open
               WHERE open.user_id <> s.host_id
                 AND open.worker_id = ANY (ARRAY(SELECT id FROM workers))
                 AND open.user_id NOT IN (SELECT id FROM users WHERE role = 'admin')
                 AND (s.id, open.user_id) NOT IN (
                     SELECT session_id, user_id FROM session_participants
                     WHERE session_id = ANY ($1::uuid[]) AND was_kicked
                 )
           ) END AS people,
           s.recording_consent AND coalesce((
               SELECT true FROM recordings r WHERE r.session_id = s.id AND r.status = 'recording' LIMIT 1
           ), false) AS needs_consent
    FROM sessions s WHERE s.id = ANY ($1::uuid[])
"""

_ASKING: Final = """
    SELECT i.session_id, i.user_id, p.joined_at IS NOT NULL AS has_been_in,
           coalesce(p.was_kicked, false) AS was_kicked, p.admitted_at IS NOT NULL AS is_admitted,
           coalesce((
               SELECT true FROM session_visits v JOIN workers w ON w.id = v.worker_id
               WHERE v.session_id = i.session_id AND v.user_id = i.user_id
                 AND v.left_at IS NOT DISTINCT FROM NULL LIMIT 1
           ), false) AS is_here,
           coalesce((
               SELECT true FROM session_waiters v JOIN workers w ON w.id = v.worker_id
               WHERE v.session_id = i.session_id AND v.user_id = i.user_id LIMIT 1
           ), false) AS is_waiting,
           coalesce((
               SELECT agreed FROM recording_consents c WHERE c.session_id = i.session_id AND c.user_id = i.user_id
           ), false) AS has_agreed
    FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS i (session_id, user_id, place)
    LEFT JOIN LATERAL (
        SELECT * FROM session_participants p WHERE p.session_id = i.session_id AND p.user_id = i.user_id LIMIT 1
    ) p ON true
    ORDER BY i.place
"""
