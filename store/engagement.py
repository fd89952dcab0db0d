"""What people make of a course's content: who looked at it and when, how far they came, what they say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

import asyncpg

from store.database import Connection, Executor, Pool
from store.errors import translated

# Who takes a piece of content away takes its row first, and its comments and likes after: so does whoever takes one of
# those away.

# Views and likes


async def view(executor: Executor, content_id: UUID, user_id: str) -> bool:
    """Count that a person looked at it, once on each day in UTC. Whether this was the day's first time."""
    with translated():
        row = await executor.fetchrow(
            """
            WITH seen AS (
                INSERT INTO content_views (content_id, day, user_id)
                SELECT $1, (now() AT TIME ZONE 'UTC')::date, id FROM users WHERE id = $2
                ON CONFLICT DO NOTHING RETURNING content_id
            )
            UPDATE course_content c SET view_count = view_count + 1 FROM seen WHERE c.id = seen.content_id
            RETURNING c.id
            """,
            content_id,
            user_id,
        )
    return row is not None


async def like(pool: Pool, content_id: UUID, user_id: str) -> int | None:
    """Have a person like it; how many do. None: there is no such content."""
    return await _count_likes(
        pool,
        """
        INSERT INTO content_likes (content_id, user_id) SELECT $1, id FROM users WHERE id = $2
        ON CONFLICT DO NOTHING RETURNING 1
        """,
        content_id,
        user_id,
    )


async def unlike(pool: Pool, content_id: UUID, user_id: str) -> int | None:
    """Take a like back; how many are left. None: there is no such content."""
    return await _count_likes(
        pool, "DELETE FROM content_likes WHERE content_id = $1 AND user_id = $2 RETURNING -1", content_id, user_id
    )


async def _count_likes(pool: Pool, statement: str, content_id: UUID, user_id: str) -> int | None:
    """Run what answers by how much the number of likes changes, while the content is held."""
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            count: int | None = await connection.fetchval(
                "SELECT like_count FROM course_content WHERE id = $1 FOR NO KEY UPDATE", content_id
            )
            if count is None or (change := await connection.fetchval(statement, content_id, user_id)) is None:
                return count
            await connection.execute(
                "UPDATE course_content SET like_count = like_count + $2 WHERE id = $1", content_id, change
            )
    return count + int(change)


# Comments


@dataclass(frozen=True, kw_only=True, slots=True)
class Comment:
    """What somebody said of it. `id` is a `store.ids.new_id`; `name` the author's at present."""

    id: UUID
    content_id: UUID
    user_id: str
    name: str
    text: str
    created_at: datetime

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Comment:
        return cls(**{name: row[name] for name in cls.__slots__})


_COMMENT: Final = """
    SELECT m.id, m.content_id, m.user_id, m.text, m.created_at,
           coalesce(nullif(trim(u.first_name || ' ' || u.last_name), ''), u.id) AS name
    FROM content_comments m JOIN users u ON u.id = m.user_id
"""


async def comments(executor: Executor, content_id: UUID, *, after: UUID | None, limit: int) -> Sequence[Comment]:
    """The first `limit` comments after the id `after`, oldest first."""
    with translated():
        rows = await executor.fetch(
            f"{_COMMENT} WHERE m.content_id = $1 AND m.id > $2 ORDER BY m.content_id, m.id LIMIT $3",
            content_id,
            after or UUID(int=0),
            limit,
        )
    return [Comment.from_row(row) for row in rows]


async def find_comment(executor: Executor, content_id: UUID, comment_id: UUID) -> Comment | None:
    with translated():
        row = await executor.fetchrow(f"{_COMMENT} WHERE m.id = $1 AND m.content_id = $2", comment_id, content_id)
    return Comment.from_row(row) if row else None


async def add_comment(connection: Connection, content_id: UUID, *, comment_id: UUID, user_id: str, text: str) -> None:
    """Write a comment and count it, inside the caller's transaction."""
    await connection.execute(
        "INSERT INTO content_comments (id, content_id, user_id, text) VALUES ($1, $2, $3, $4)",
        comment_id,
        content_id,
        user_id,
        text,
    )
    await connection.execute("UPDATE course_content SET comment_count = comment_count + 1 WHERE id = $1", content_id)


async def delete_comment(connection: Connection, content_id: UUID, comment_id: UUID) -> bool:
    """Take a comment away, and count it off, inside the caller's transaction. False: there was none."""
    await connection.execute("SELECT FROM course_content WHERE id = $1 FOR NO KEY UPDATE", content_id)
    row = await connection.fetchrow(
        "DELETE FROM content_comments WHERE id = $1 AND content_id = $2 RETURNING id", comment_id, content_id
    )
    if row is None:
        return False
    await connection.execute("UPDATE course_content SET comment_count = comment_count - 1 WHERE id = $1", content_id)
    return True


# Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far somebody has come."""

    content_id: UUID
    user_id: str
    position_seconds: int
    completed: bool
    updated_at: datetime

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Progress:
        return cls(**{name: row[name] for name in cls.__slots__})


_PROGRESS: Final = "content_id, user_id, position_seconds, completed, updated_at"


async def progress_of(executor: Executor, content_id: UUID, user_id: str) -> Progress | None:
    with translated():
        row = await executor.fetchrow(
            f"SELECT {_PROGRESS} FROM content_progress WHERE content_id = $1 AND user_id = $2", content_id, user_id
        )
    return Progress.from_row(row) if row else None


async def save_progress(
    executor: Executor, content_id: UUID, user_id: str, *, position_seconds: int, completed: bool | None
) -> Progress:
    """Write how far somebody has come; `completed` None leaves that as it is. The database refuses unknown content."""
    with translated():
        row = await executor.fetchrow(
            f"""
            INSERT INTO content_progress AS p (content_id, user_id, position_seconds, completed)
            VALUES ($1, $2, $3, coalesce($4, false))
            ON CONFLICT (content_id, user_id) DO UPDATE SET position_seconds = excluded.position_seconds,
                completed = coalesce($4, p.completed), updated_at = now()
            RETURNING {_PROGRESS}
            """,
            content_id,
            user_id,
            position_seconds,
            completed,
        )
    assert row is not None, "it answers what it wrote"
    return Progress.from_row(row)


async def progress_in_course(
    executor: Executor, course_id: UUID, *, user_id: str | None, after: tuple[UUID, str] | None, limit: int
) -> Sequence[Progress]:
    """The first `limit` of what people have done of a course, by content and person, behind `after`; of one `user_id`
    alone, if given."""
    content_id, person = after or (UUID(int=0), "")
    with translated():
        rows = await executor.fetch(
            """
            SELECT p.content_id, p.user_id, p.position_seconds, p.completed, p.updated_at
            FROM (SELECT id FROM course_content WHERE course_id = $1 AND id >= $2) c
            JOIN content_progress p ON p.content_id = c.id
            WHERE (p.content_id, p.user_id) > ($2, $3) AND ($4::text IS NULL OR p.user_id = $4)
            ORDER BY p.content_id, p.user_id LIMIT $5
            """,
            course_id,
            content_id,
            person,
            user_id,
            limit,
        )
    return [Progress.from_row(row) for row in rows]


# Analytics


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What is counted of one piece of content, or (`content_id` None) of a whole course: `views` are people's days,
    `people` those who looked or played, `completed` those of them who came to the end."""

    content_id: UUID | None
    title: str
    views: int
    people: int
    completed: int
    likes: int
    comments: int

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Figures:
        return cls(**{name: row[name] for name in cls.__slots__})


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    day: date
    views: int
    people: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Analytics:
    total: Figures
    content: Sequence[Figures]
    days: Sequence[Day]


#: A report reads all of a course's rows: it may hash and sort as it likes, by a plan for this course.
_FOR_A_REPORT: Final = (
    "SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL enable_seqscan = on; "
    "SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on"
)
_FIGURES: Final = """
    WITH content AS MATERIALIZED (
        SELECT id, title, content_order, view_count, like_count, comment_count FROM course_content
        WHERE course_id = $1 ORDER BY content_order, id LIMIT $2
    ), people AS MATERIALIZED (
        SELECT content_id, user_id, bool_or(completed) AS completed FROM (
            SELECT v.content_id, v.user_id, false AS completed FROM content_views v
            WHERE v.content_id IN (SELECT id FROM content)
            UNION ALL
            SELECT p.content_id, p.user_id, p.completed FROM content_progress p
            WHERE p.content_id IN (SELECT id FROM content)
        ) either GROUP BY content_id, user_id
    ), counted AS (
        SELECT content_id, count(*) AS people, count(*) FILTER (WHERE completed) AS completed
        FROM people GROUP BY content_id
    )
    SELECT c.id AS content_id, c.title, c.view_count AS views, coalesce(n.people, 0) AS people,
           coalesce(n.completed, 0) AS completed, c.like_count AS likes, c.comment_count AS comments,
           c.content_order
    FROM content c LEFT JOIN counted n ON n.content_id = c.id
    UNION ALL
    SELECT NULL, '', coalesce((SELECT sum(view_count) FROM content), 0)::bigint,
           (SELECT count(DISTINCT user_id) FROM people), (SELECT count(*) FROM people WHERE completed),
           coalesce((SELECT sum(like_count) FROM content), 0), coalesce((SELECT sum(comment_count) FROM content), 0),
           NULL
    ORDER BY content_order NULLS FIRST, content_id
"""
_DAYS: Final = """
    SELECT v.day, count(*) AS views, count(DISTINCT v.user_id) AS people
    FROM course_content c JOIN content_views v ON v.content_id = c.id
    WHERE c.course_id = $1 AND v.day >= $2 GROUP BY v.day ORDER BY v.day
"""


async def analytics(pool: Pool, course_id: UUID, *, since: date, limit: int) -> Analytics:
    """Count what became of a course's content, of the first `limit` pieces; the views of each day from `since` on."""
    with translated():
        async with pool.acquire() as connection, connection.transaction(readonly=True):
            await connection.execute(_FOR_A_REPORT)
            rows = await connection.fetch(_FIGURES, course_id, limit)
            days = await connection.fetch(_DAYS, course_id, since)
    total, *content = (Figures.from_row(row) for row in rows)
    return Analytics(
        total=total,
        content=content,
        days=[Day(day=row["day"], views=row["views"], people=row["people"]) for row in days],
    )
