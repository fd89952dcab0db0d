"""Notifications: what is said, once, and who was told and has read it.

One that goes to a whole course is handed on in batches (:func:`add_for_enrolled`): ten thousand rows in one
transaction would hold the locks of the act that they come of for as long as they take to write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg

from store.database import Connection, Executor, Pool
from store.errors import translated
from store.ids import NO_END, first_id

Kind = Literal[
    "session_scheduled",
    "session_started",
    "content_added",
    "booking_created",
    "booking_changed",
    "allocation",
    "recording_ready",
    "session_reminder",
]

#: Unread notifications that are counted; who has more is told this number.
MAX_COUNTED: Final = 10_000
#: Rows that one statement marks as read.
MARKED_AT_A_TIME: Final = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Notification:
    """What is said: `title` and `body` to people, `kind` and `data` to their programs. `id` is a `store.ids.new_id`."""

    id: UUID
    kind: Kind
    title: str
    body: str
    data: Mapping[str, Any]
    created_at: datetime

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Notification:
        return cls(**{name: row[name] for name in cls.__slots__})


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """A notification as one of those has it whom it went to."""

    notification: Notification
    read: bool


async def add(connection: Connection, told: Sequence[tuple[Notification, Sequence[str]]]) -> None:
    """Write notifications, each with whom it goes to; people who are not known are left out.

    Inside the transaction of the act that they come of.
    """
    said = [notification for notification, _ in told]
    recipients = {(user_id, notification.id): None for notification, user_ids in told for user_id in user_ids}
    await connection.execute(
        """
        WITH said AS (
            INSERT INTO notifications (id, kind, title, body, data, created_at)
            SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::timestamptz[])
        )
        INSERT INTO notification_recipients (user_id, notification_id)
        SELECT u.id, r.notification_id
        FROM unnest($7::text[], $8::uuid[]) AS r (user_id, notification_id) JOIN users u ON u.id = r.user_id
        """,
        [notification.id for notification in said],
        [notification.kind for notification in said],
        [notification.title for notification in said],
        [notification.body for notification in said],
        [notification.data for notification in said],
        [notification.created_at for notification in said],
        [user_id for user_id, _ in recipients],
        [notification_id for _, notification_id in recipients],
    )


# Named one by one: a migration that adds a column would end what workers have prepared, in the middle of transactions.
_NOTIFICATION: Final = "n.id, n.kind, n.title, n.body, n.data, n.created_at"

# To a course


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Some of those whom a notification goes to, as they were written. `last`: nobody comes after them."""

    notification: Notification
    user_ids: Sequence[str]
    last: bool


# Of one course by both ends of a range, not by `=`: a plan might take the index of whatever orders people, and read all
# of it for those of the course. Likewise below, of one person.
_NEXT_ENROLLED: Final = """
    WITH next AS MATERIALIZED (
        SELECT user_id FROM enrollments
        WHERE (course_id, user_id) > ($2, $3) AND course_id <= $2 AND user_id IS DISTINCT FROM $4
        ORDER BY course_id, user_id LIMIT $5
    ), added AS (
        INSERT INTO notification_recipients (user_id, notification_id) SELECT user_id, $1 FROM next
    )
    SELECT user_id FROM next ORDER BY user_id
"""


async def add_for_enrolled(
    connection: Connection, notification: Notification, course_id: UUID, *, but: str | None, limit: int
) -> Batch:
    """Write a notification for everybody who is enrolled in a course except `but`: the first `limit` of them now.

    Inside the transaction of the act that it comes of. Where there are more, that is noted with it, and whoever calls
    :func:`hand_on` after its commit writes the rest.
    """
    await connection.execute(
        "INSERT INTO notifications (id, kind, title, body, data, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        notification.id,
        notification.kind,
        notification.title,
        notification.body,
        notification.data,
        notification.created_at,
    )
    rows = await connection.fetch(_NEXT_ENROLLED, notification.id, course_id, "", but, limit)
    user_ids = [row["user_id"] for row in rows]
    last = len(user_ids) < limit
    if not last:
        await connection.execute(
            """
            INSERT INTO notification_handouts (notification_id, course_id, but_user_id, after_user_id)
            VALUES ($1, $2, $3, $4)
            """,
            notification.id,
            course_id,
            but,
            user_ids[-1],
        )
    return Batch(notification=notification, user_ids=user_ids, last=last)


async def hand_on(pool: Pool, *, limit: int) -> Batch | None:
    """Write the oldest unfinished notification for the next `limit` of its course, in a transaction of its own.

    None: there is none, or others are at all of them. Nobody is written twice, whoever calls, and wherever a worker
    stopped in the middle.
    """
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(
                f"""
                SELECT {_NOTIFICATION}, h.course_id, h.but_user_id, h.after_user_id
                FROM notification_handouts h JOIN notifications n ON n.id = h.notification_id
                ORDER BY h.notification_id LIMIT 1
                FOR UPDATE OF h SKIP LOCKED
                """
            )
            if row is None:
                return None
            rows = await connection.fetch(
                _NEXT_ENROLLED, row["id"], row["course_id"], row["after_user_id"], row["but_user_id"], limit
            )
            user_ids = [found["user_id"] for found in rows]
            last = len(user_ids) < limit
            if last:
                await connection.execute("DELETE FROM notification_handouts WHERE notification_id = $1", row["id"])
            else:
                await connection.execute(
                    "UPDATE notification_handouts SET after_user_id = $2 WHERE notification_id = $1",
                    row["id"],
                    user_ids[-1],
                )
    return Batch(notification=Notification.from_row(row), user_ids=user_ids, last=last)


# To read


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Some of a person's notifications, newest first; `unread` of all that they have, up to MAX_COUNTED."""

    received: Sequence[Received]
    unread: int


# The person's own rows are chosen first: joined freely, a plan might read everybody's notifications from the newest on.
_PAGE_TEMPLATE: Final = f"""
    SELECT counted.unread, {_NOTIFICATION}, r.read_at IS NOT NULL AS read
    FROM (
        SELECT count(*) AS unread FROM (
            SELECT FROM notification_recipients WHERE user_id = $1 AND read_at IS NULL LIMIT {MAX_COUNTED}
        ) unread
    ) counted
    LEFT JOIN LATERAL (
        SELECT notification_id, read_at FROM notification_recipients
        WHERE (user_id, notification_id) < ($1, $2) AND user_id >= $1 {{which}}
        ORDER BY user_id DESC, notification_id DESC LIMIT $3
    ) r ON true
    LEFT JOIN notifications n ON n.id = r.notification_id
    ORDER BY n.id DESC
"""
_PAGE: Final = _PAGE_TEMPLATE.format(which="")
_UNREAD_PAGE: Final = _PAGE_TEMPLATE.format(which="AND read_at IS NULL")


async def page(
    executor: Executor, user_id: str, *, only_unread: bool = False, before: UUID | None = None, limit: int
) -> Page:
    """The newest `limit` notifications of a person, older than the id `before`."""
    with translated():
        rows = await executor.fetch(
            _UNREAD_PAGE if only_unread else _PAGE, user_id, NO_END if before is None else before, limit
        )
    # Who has none here is one row without a notification.
    received = [
        Received(notification=Notification.from_row(row), read=row["read"]) for row in rows if row["id"] is not None
    ]
    return Page(received=received, unread=rows[0]["unread"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Marked:
    """A notification after it was marked. `changed`: it was not so before."""

    received: Received
    changed: bool


async def mark(executor: Executor, user_id: str, notification_id: UUID, *, read: bool) -> Marked | None:
    """Say of one of a person's notifications whether they have read it. None: they have none by this id."""
    with translated():
        row = await executor.fetchrow(
            f"""
            WITH before AS (
                SELECT user_id, notification_id, (read_at IS NOT NULL) <> $3 AS changes
                FROM notification_recipients WHERE user_id = $1 AND notification_id = $2
                FOR NO KEY UPDATE
            ), marked AS (
                UPDATE notification_recipients r SET read_at = CASE WHEN $3 THEN now() END
                FROM before b WHERE b.changes AND r.user_id = b.user_id AND r.notification_id = b.notification_id
            )
            SELECT {_NOTIFICATION}, b.changes FROM before b JOIN notifications n ON n.id = b.notification_id
            """,
            user_id,
            notification_id,
            read,
        )
    if row is None:
        return None
    received = Received(notification=Notification.from_row(row), read=read)
    return Marked(received=received, changed=row["changes"])


# In one order, so that two devices that do this at once wait for each other in a line.
_MARK_ALL_READ: Final = """
    WITH unread AS MATERIALIZED (
        SELECT user_id, notification_id FROM notification_recipients
        WHERE user_id >= $1 AND user_id <= $1 AND read_at IS NULL
        ORDER BY user_id, notification_id LIMIT $2 FOR NO KEY UPDATE
    ), marked AS (
        UPDATE notification_recipients r SET read_at = now() FROM unread u
        WHERE r.user_id = u.user_id AND r.notification_id = u.notification_id RETURNING 1
    )
    SELECT count(*) FROM marked
"""


async def mark_all_read(executor: Executor, user_id: str) -> int:
    """Say of all that a person has not read that they have; how many those were."""
    total = 0
    while True:
        with translated():
            marked: int = await executor.fetchval(_MARK_ALL_READ, user_id, MARKED_AT_A_TIME)
        total += marked
        if marked < MARKED_AT_A_TIME:
            return total


# To forget

# A few of those, in the order in which everybody takes them: a person marks theirs as read meanwhile. Each is found by
# its person: of one notification by both ends of a range, or a plan might read all whom it went to for each.
_FORGET_RECIPIENTS: Final = """
    WITH few AS MATERIALIZED (
        SELECT user_id, notification_id FROM notification_recipients
        WHERE notification_id = ANY ($1::uuid[]) LIMIT $2
    ), held AS MATERIALIZED (
        SELECT r.user_id, r.notification_id FROM few f
        JOIN notification_recipients r ON r.user_id = f.user_id
            AND r.notification_id >= f.notification_id AND r.notification_id <= f.notification_id
        ORDER BY r.user_id, r.notification_id FOR UPDATE OF r
    ), gone AS (
        DELETE FROM notification_recipients r USING held h
        WHERE r.user_id = h.user_id
            AND r.notification_id >= h.notification_id AND r.notification_id <= h.notification_id RETURNING 1
    )
    SELECT count(*) FROM gone
"""


async def forget(pool: Pool, *, before: datetime, limit: int) -> int:
    """Delete up to `limit` notifications from before that time, and up to `limit` of those whom they went to.

    In a transaction of its own; how many rows went. 0: there is nothing left to delete, or others are at it.
    """
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            found = await connection.fetch(
                "SELECT id FROM notifications WHERE id < $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED",
                first_id(before),
                limit,
            )
            if not found:
                return 0
            # Those whom it went to first: deleted with their notification, a whole course would go at once.
            old = [row["id"] for row in found]
            recipients: int = await connection.fetchval(_FORGET_RECIPIENTS, old, limit)
            notifications: int = await connection.fetchval(
                """
                WITH gone AS (
                    DELETE FROM notifications n WHERE n.id = ANY ($1::uuid[])
                    AND NOT EXISTS (SELECT FROM notification_recipients r WHERE r.notification_id = n.id)
                    RETURNING 1
                )
                SELECT count(*) FROM gone
                """,
                old,
            )
    return recipients + notifications
