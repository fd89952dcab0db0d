"""Who is in a meeting, as far as this server knows: who has a pass to it and is in its session.

A person is in it once, with however many tabs, and over reloads: what counts is that they are online in the session on
some worker. Who has just got a pass and is on the way there is counted, too, for COMING_SECONDS. Each tab has a pass of
its own; whose last one is given back is out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from store.database import Connection, Executor, Pool
from store.errors import translated
from store.visits import OPEN

#: Seconds within which somebody who got a pass joins the session.
COMING_SECONDS: Final = 60
#: Tabs of one person that are remembered; the oldest of more is taken for gone.
MAX_TABS: Final = 8

# Whether the person `p` of the meeting `m` is in it.
_IS_IN: Final = f"""
    p.came_at IS NOT NULL AND (
        EXISTS (
            SELECT FROM session_visits v JOIN workers w ON w.id = v.worker_id
            WHERE v.session_id = m.session_id AND v.user_id = p.user_id AND {OPEN}
        )
        OR p.came_at > clock_timestamp() - make_interval(secs => {COMING_SECONDS}) AND NOT EXISTS (
            SELECT FROM session_participants s
            WHERE s.session_id = m.session_id AND s.user_id = p.user_id AND s.left_at > p.came_at
        )
    )
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mesh:
    """Who may signal to each other in a session: those `people` who have a pass to its meeting, which is `provider`'s.

    None and nobody, where it has no meeting.
    """

    provider: str | None
    people: frozenset[str]


async def take_place(
    pool: Pool, meeting_id: UUID, user_id: str, *, places: int | None, host_id: str, tab: str = ""
) -> int | None:
    """Count a person in; how often the provider has put them out of this meeting. None: all `places` are taken, over
    all workers. Whoever has one keeps it.

    One of them is kept for the host: whoever comes before may take all but that one. `places` None: as many as come.
    """
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            if places is not None and not await _has_place(connection, meeting_id, user_id, places, host_id):
                return None
            ejected: int = await connection.fetchval(
                f"""
                INSERT INTO meeting_people AS p (meeting_id, user_id, came_at, tabs)
                VALUES ($1, $2, clock_timestamp(), ARRAY[$3::text])
                ON CONFLICT (meeting_id, user_id) DO UPDATE SET came_at = excluded.came_at, tabs = CASE
                    WHEN EXISTS (SELECT FROM meetings m WHERE m.id = p.meeting_id AND {_IS_IN})
                    THEN trim_array(
                        $3 || array_remove(p.tabs, $3),
                        greatest(0, cardinality(array_remove(p.tabs, $3)) + 1 - {MAX_TABS})
                    )
                    ELSE excluded.tabs  -- what they had before is closed
                END
                RETURNING p.ejected
                """,
                meeting_id,
                user_id,
                tab,
            )
    return ejected


async def _has_place(connection: Connection, meeting_id: UUID, user_id: str, places: int, host_id: str) -> bool:
    # Whoever counts holds the meeting: two who come at once do not both find the last place.
    await connection.execute("SELECT FROM meetings WHERE id = $1 FOR NO KEY UPDATE", meeting_id)
    # Who has gone gives the place up here, and for good: they ask for another when they come back.
    await connection.execute(
        f"""
        UPDATE meeting_people p SET came_at = NULL, tabs = '{{}}' FROM meetings m
        WHERE m.id = $1 AND p.meeting_id = $1 AND p.came_at IS NOT NULL AND p.user_id <> $2 AND NOT ({_IS_IN})
        """,
        meeting_id,
        user_id,
    )
    rows = await connection.fetch(
        "SELECT user_id FROM meeting_people WHERE meeting_id = $1 AND came_at IS NOT NULL", meeting_id
    )
    people = {row["user_id"] for row in rows}
    return user_id in people or len(people | {host_id, user_id}) <= places


async def leave(executor: Executor, session_id: UUID, user_id: str, tab: str | None = None) -> None:
    """A person is not in the session's meeting any more, with this tab; None: with any. With the last of those that
    they got passes for, their place is free."""
    with translated():
        await executor.execute(
            """
            UPDATE meeting_people p SET
                came_at = CASE WHEN $3::text IS NOT NULL AND p.tabs <> ARRAY[$3] THEN p.came_at END,
                tabs = CASE WHEN $3::text IS NOT NULL THEN array_remove(p.tabs, $3) ELSE '{}' END
            FROM meetings m
            WHERE m.id = p.meeting_id AND m.session_id = $1 AND m.ended_at IS NULL AND p.user_id = $2
                AND ($3::text IS NULL OR $3 = ANY (p.tabs))
            """,
            session_id,
            user_id,
            tab,
        )


async def mesh(executor: Executor, session_id: UUID) -> Mesh:
    """Who has a pass to the session's meeting."""
    with translated():
        row = await executor.fetchrow(
            """
            SELECT m.provider, array(
                SELECT p.user_id FROM meeting_people p WHERE p.meeting_id = m.id AND p.came_at IS NOT NULL
            ) AS people
            FROM meetings m JOIN sessions s ON s.id = m.session_id
            WHERE m.session_id = $1 AND m.ended_at IS NULL AND m.closes_at > clock_timestamp() AND s.status <> 'ended'
            """,
            session_id,
        )
    if row is None:
        return Mesh(provider=None, people=frozenset())
    return Mesh(provider=row["provider"], people=frozenset(row["people"]))


async def times_ejected(executor: Executor, meeting_id: UUID, user_id: str) -> int | None:
    """How often the provider has put a person out of this meeting; None for who has never had a pass to it."""
    with translated():
        ejected: int | None = await executor.fetchval(
            "SELECT ejected FROM meeting_people WHERE meeting_id = $1 AND user_id = $2", meeting_id, user_id
        )
    return ejected


async def note_ejected(executor: Executor, meeting_id: UUID, user_id: str, times: int) -> None:
    """The provider has put a person out, for the so manieth time."""
    with translated():
        await executor.execute(
            """
            INSERT INTO meeting_people AS p (meeting_id, user_id, ejected) VALUES ($1, $2, $3)
            ON CONFLICT (meeting_id, user_id) DO UPDATE
            SET ejected = greatest(p.ejected, excluded.ejected), came_at = NULL, tabs = '{}'
            """,
            meeting_id,
            user_id,
            times,
        )
