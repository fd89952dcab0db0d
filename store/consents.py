"""Who has agreed to be recorded in a session, and who decided that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from store.database import Connection, Executor
from store.errors import translated
from store.sessions import Session


@dataclass(frozen=True, kw_only=True, slots=True)
class Consent:
    """What was decided for a person, by themself or by a guardian."""

    session_id: UUID
    user_id: str
    agreed: bool
    decided_by: str
    decided_at: datetime

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Consent:
        return cls(**{name: row[name] for name in cls.__slots__})


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """A person, with their name at present."""

    user_id: str
    name: str


_COLUMNS: Final = "c.session_id, c.user_id, c.agreed, c.decided_by, c.decided_at"
_NAMED: Final = f"{_COLUMNS}, coalesce(nullif(trim(u.first_name || ' ' || u.last_name), ''), u.id) AS name"


async def find(executor: Executor, session_id: UUID, user_id: str) -> Consent | None:
    with translated():
        row = await executor.fetchrow(
            f"SELECT {_COLUMNS} FROM recording_consents c WHERE session_id = $1 AND user_id = $2", session_id, user_id
        )
    return Consent.from_row(row) if row else None


async def save(connection: Connection, session_id: UUID, user_id: str, *, agreed: bool, decided_by: str) -> Consent:
    """Write down what was decided, inside the caller's transaction, which holds the session's row."""
    row = await connection.fetchrow(
        f"""
        INSERT INTO recording_consents AS c (session_id, user_id, agreed, decided_by) VALUES ($1, $2, $3, $4)
        ON CONFLICT (session_id, user_id) DO UPDATE
        SET agreed = excluded.agreed, decided_by = excluded.decided_by, decided_at = now()
        RETURNING {_COLUMNS}
        """,
        session_id,
        user_id,
        agreed,
        decided_by,
    )
    assert row is not None, "it answers what it wrote"
    return Consent.from_row(row)


async def of_session(
    executor: Executor, session_id: UUID, *, after: str | None = None, limit: int
) -> Sequence[tuple[Consent, str]]:
    """The first `limit` consents of a session behind the person `after`, by their ids; each with its person's name."""
    with translated():
        rows = await executor.fetch(
            f"""
            SELECT {_NAMED}
            FROM recording_consents c JOIN users u ON u.id = c.user_id
            WHERE c.session_id = $1 AND c.user_id > $2 ORDER BY c.user_id LIMIT $3
            """,
            session_id,
            after or "",
            limit,
        )
    return [(Consent.from_row(row), row["name"]) for row in rows]


async def decided_for(
    executor: Executor, session_id: UUID, user_id: str, *, also: str | None, after: str | None = None, limit: int
) -> Sequence[tuple[Consent, str]]:
    """As :func:`of_session`, of a person, those whose parent they are, and the person called `also`."""
    with translated():
        rows = await executor.fetch(
            f"""
            SELECT {_NAMED}
            FROM (
                SELECT i.id FROM unnest(ARRAY[$2::text, $5::text]) AS i (id)
                UNION SELECT id FROM users WHERE parent_id = $2::text
            ) family
            JOIN recording_consents c ON c.session_id = $1 AND c.user_id = family.id
            JOIN users u ON u.id = c.user_id
            WHERE c.user_id > $3 ORDER BY c.user_id LIMIT $4
            """,
            session_id,
            user_id,
            after or "",
            limit,
            also,
        )
    return [(Consent.from_row(row), row["name"]) for row in rows]


async def children_of(
    executor: Executor, session: Session, guardian_id: str, *, also: str | None, limit: int
) -> Sequence[Named]:
    """The first `limit` students of a session whose parent somebody is, and the one called `also`; by their ids."""
    with translated():
        rows = await executor.fetch(
            """
            SELECT u.id, coalesce(nullif(trim(u.first_name || ' ' || u.last_name), ''), u.id) AS name
            FROM (SELECT $3::text AS id UNION SELECT id FROM users WHERE parent_id = $2::text) family
            JOIN users u ON u.id = family.id
            WHERE u.role = 'student' AND u.id <> $2 AND (
                u.id = $4 OR EXISTS (SELECT FROM enrollments e WHERE e.course_id = $1 AND e.user_id = u.id)
            )
            ORDER BY u.id LIMIT $5
            """,
            session.course_id,
            guardian_id,
            also,
            session.student_id,
            limit,
        )
    return [Named(user_id=row["id"], name=row["name"]) for row in rows]


# Those who are here, in the order of the index of open visits, so that no plan prefers another that holds nothing else.
_MISSING: Final = """
    SELECT here.user_id, coalesce(nullif(trim(u.first_name || ' ' || u.last_name), ''), u.id) AS name
    FROM (
        SELECT DISTINCT v.user_id FROM session_visits v
        WHERE v.session_id = $1 AND v.left_at IS NULL AND v.worker_id = ANY (ARRAY(SELECT id FROM workers))
        ORDER BY v.user_id
    ) here
    JOIN users u ON u.id = here.user_id
    WHERE here.user_id <> ALL ($2::text[])
      AND coalesce((
          SELECT agreed FROM recording_consents c WHERE c.session_id = $1 AND c.user_id = here.user_id
      ), false) IS FALSE
    ORDER BY here.user_id LIMIT $3
"""


async def missing(executor: Executor, session_id: UUID, *, but: Sequence[str], limit: int) -> Sequence[Named]:
    """The first `limit` of those who are in the session now and have not agreed, except the people called `but`."""
    with translated():
        rows = await executor.fetch(_MISSING, session_id, list(but), limit)
    return [Named(user_id=row["user_id"], name=row["name"]) for row in rows]
