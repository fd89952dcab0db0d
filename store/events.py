"""The ordered log of a session, as it lies in the database: messages and all else that carries a `seq`.

Whoever writes an entry first takes the session's row (`UPDATE sessions … last_seq + 1`) and keeps it until
commit. So `seq` has no gaps, and when an entry can be read, every earlier one can be read, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg

from store.database import Connection, Executor
from store.errors import translated

Kind = Literal[
    "message",
    "message_edited",
    "message_deleted",
    "message_pinned",
    "message_reaction",
    "session_status",
    "session_settings",
    "hand_raised",
    "permissions_changed",
    "participant_kicked",
    "whiteboard_cleared",
    "recording_state",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class LogEntry:
    """One entry. `user_id` is who did it; the message's fields stand for messages, and for what was done to them.

    `text` is the message's present text: empty once it was deleted. `reactions` are a message's present ones, how many
    people reacted with which emoji; None: nobody.
    """

    session_id: UUID
    seq: int
    kind: Kind
    user_id: str | None
    at: datetime
    data: Mapping[str, Any] = field(default_factory=dict)
    message_id: UUID | None = None
    sender_name: str = ""
    text: str = ""
    client_id: str | None = None
    edited_at: datetime | None = None
    deleted: bool = False
    reactions: Mapping[str, int] | None = None

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> LogEntry:
        return cls(
            session_id=row["session_id"],
            seq=row["seq"],
            kind=row["kind"],
            user_id=row["user_id"],
            at=row["at"],
            data=row["data"] or {},
            message_id=row["message_id"],
            sender_name=row["sender_name"] or "",
            text=row["text"] or "",
            client_id=row["client_id"],
            edited_at=row["edited_at"],
            deleted=row["deleted_at"] is not None,
            reactions=row["reactions"],
        )


async def append(
    connection: Connection,
    session_id: UUID,
    *,
    kind: Kind,
    user_id: str | None,
    data: Mapping[str, Any] | None = None,
    message_id: UUID | None = None,
) -> LogEntry:
    """Write one entry that is not a message, inside the caller's transaction. Takes the session's row lock."""
    row = await connection.fetchrow(
        """
        WITH next AS (
            UPDATE sessions SET last_seq = last_seq + 1 WHERE id = $1 RETURNING last_seq
        )
        INSERT INTO session_events (session_id, seq, kind, user_id, message_id, data, at)
        SELECT $1, last_seq, $2, $3, $4, $5, clock_timestamp() FROM next
        RETURNING seq, at
        """,
        session_id,
        kind,
        user_id,
        message_id,
        dict(data or {}),
    )
    if row is None:
        raise LookupError(f"no session {session_id}")
    return LogEntry(
        session_id=session_id,
        seq=row["seq"],
        kind=kind,
        user_id=user_id,
        at=row["at"],
        data=dict(data or {}),
        message_id=message_id,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class NewEntry:
    """An entry that is not a message, to be written."""

    session_id: UUID
    kind: Kind
    user_id: str | None
    data: Mapping[str, Any]
    message_id: UUID | None = None


async def append_all(connection: Connection, new: Sequence[NewEntry]) -> list[LogEntry]:
    """As :func:`append`, for several, in this order. Inside a transaction that holds the rows of their sessions."""
    numbers = Counter(one.session_id for one in new)
    rows = await connection.fetch(
        """
        UPDATE sessions s SET last_seq = s.last_seq + i.number
        FROM unnest($1::uuid[], $2::integer[]) AS i (id, number) WHERE s.id = i.id
        RETURNING s.id, s.last_seq
        """,
        list(numbers),
        list(numbers.values()),
    )
    seqs = {row["id"]: count(row["last_seq"] - numbers[row["id"]] + 1) for row in rows}
    numbered = [(one, next(seqs[one.session_id])) for one in new]
    at = await connection.fetchval(
        """
        WITH written AS (
            INSERT INTO session_events (session_id, seq, kind, user_id, message_id, data, at)
            SELECT session_id, seq, kind, user_id, message_id, data, now.at
            FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::uuid[], $6::jsonb[])
                AS i (session_id, seq, kind, user_id, message_id, data),
                (SELECT clock_timestamp() AS at) AS now
            RETURNING at
        )
        SELECT max(at) FROM written
        """,
        [one.session_id for one in new],
        [seq for _, seq in numbered],
        [one.kind for one in new],
        [one.user_id for one in new],
        [one.message_id for one in new],
        [dict(one.data) for one in new],
    )
    return [
        LogEntry(
            session_id=one.session_id,
            seq=seq,
            kind=one.kind,
            user_id=one.user_id,
            at=at,
            data=dict(one.data),
            message_id=one.message_id,
        )
        for one, seq in numbered
    ]


_ENTRIES: Final = """
    (
        SELECT session_id, seq, 'message' AS kind, user_id, created_at AS at, NULL::jsonb AS data,
               id AS message_id, sender_name, text, client_id, edited_at, deleted_at, reactions
        FROM session_messages WHERE session_id = $1 AND seq > $2 AND seq < $3 ORDER BY seq {order} LIMIT $4
    ) UNION ALL (
        SELECT e.session_id, e.seq, e.kind, e.user_id, e.at, e.data,
               e.message_id, m.sender_name, m.text, NULL, m.edited_at, m.deleted_at, NULL
        FROM session_events e LEFT JOIN session_messages m ON m.id = e.message_id
        WHERE e.session_id = $1 AND e.seq > $2 AND e.seq < $3 ORDER BY e.seq {order} LIMIT $4
    ) ORDER BY seq {order} LIMIT $4
"""
_FIRST_ENTRIES: Final = _ENTRIES.format(order="ASC")
_LAST_ENTRIES: Final = _ENTRIES.format(order="DESC")
#: Above every seq: "no upper end".
NO_END: Final = 2**63 - 1


async def first_after(executor: Executor, session_id: UUID, after: int, *, limit: int) -> list[LogEntry]:
    """The first `limit` entries after the cursor `after`, ascending."""
    with translated():
        rows = await executor.fetch(_FIRST_ENTRIES, session_id, after, NO_END, limit)
    return [LogEntry.from_row(row) for row in rows]


async def newest(executor: Executor, session_id: UUID, *, before: int | None = None, limit: int) -> list[LogEntry]:
    """The newest `limit` entries before the cursor `before`, ascending."""
    with translated():
        rows = await executor.fetch(_LAST_ENTRIES, session_id, 0, NO_END if before is None else before, limit)
    return [LogEntry.from_row(row) for row in reversed(rows)]


async def positions(executor: Executor, session_ids: Sequence[UUID]) -> dict[UUID, int]:
    """The last `seq` of each of the sessions."""
    with translated():
        rows = await executor.fetch("SELECT id, last_seq FROM sessions WHERE id = ANY($1::uuid[])", list(session_ids))
    return {row["id"]: row["last_seq"] for row in rows}
