"""How long people were in a session: their visits added up."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from store.database import Executor
from store.errors import translated


async def seconds(executor: Executor, session_id: UUID, user_ids: Sequence[str]) -> dict[str, float]:
    """For how many seconds each of these people was in the session, 0 for those who never were.

    Time spent there through two workers, or two tabs, counts once. A visit that is open counts up to now, or up to the
    end of its worker's lease where that has run out.
    """
    with translated():
        rows = await executor.fetch(
            """
            SELECT i.user_id, coalesce((
                SELECT sum(extract(epoch FROM upper(stay) - lower(stay))) FROM unnest((
                    SELECT range_agg(tstzrange(v.joined_at, greatest(v.joined_at, coalesce(v.left_at, (
                        SELECT least(now(), w.lease_until) FROM workers w WHERE w.id = v.worker_id
                    )))))
                    FROM session_visits v WHERE v.session_id = $1 AND v.user_id = i.user_id
                )) AS stay
            ), 0)::float8 AS seconds
            FROM unnest($2::text[]) AS i (user_id)
            """,
            session_id,
            list(user_ids),
        )
    return {row["user_id"]: row["seconds"] for row in rows}
