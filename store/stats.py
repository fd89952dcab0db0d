"""What an administrator's first page counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import asyncpg

from store.database import Executor
from store.errors import translated


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """Numbers of this moment. `messages_today`: since midnight UTC, those that were deleted since included.
    `recordings_bytes`: of those that can be watched."""

    students: int
    parents: int
    tutors: int
    upcoming_sessions: int
    live_sessions: int
    participants_online: int
    messages_today: int
    recordings_bytes: int

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Stats:
        return cls(**{name: row[name] for name in cls.__slots__})


_COUNTED: Final = """
    SELECT (SELECT count(*) FROM directory WHERE role = 'student') AS students,
           (SELECT count(*) FROM directory WHERE role = 'parent') AS parents,
           (SELECT count(*) FROM directory WHERE role = 'teacher') AS tutors,
           (SELECT count(*) FROM sessions WHERE status = 'scheduled' AND starts_at >= now())
               AS upcoming_sessions,
           (SELECT count(*) FROM sessions WHERE status = 'live') AS live_sessions,
           (
               SELECT count(DISTINCT v.user_id) FROM workers w
               JOIN session_visits v ON v.worker_id = w.id AND v.left_at IS NULL
           ) AS participants_online,
           (
               SELECT count(*) FROM session_messages
               WHERE created_at >= date_trunc('day', now(), 'UTC')
           ) AS messages_today,
           (
               SELECT coalesce(sum(size), 0)::bigint FROM files WHERE purpose = 'recording' AND state = 'ready'
           ) AS recordings_bytes
"""


async def now(executor: Executor) -> Stats:
    """Count everything, each by an index made for it."""
    with translated():
        row = await executor.fetchrow(_COUNTED)
    assert row is not None, "a SELECT of numbers has one row"
    return Stats.from_row(row)
