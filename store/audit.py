"""The audit log: who did what to whom. It is only appended to; the database refuses all else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import asyncpg

from store.database import Connection, Executor
from store.errors import translated

Action = Literal[
    "availability_added",
    "availability_deleted",
    "booking_changed",
    "booking_made",
    "calendar_link_rotated",
    "content_deleted",
    "course_changed",
    "enrollment_ended",
    "message_deleted",
    "participant_kicked",
    "participant_readmitted",
    "permissions_changed",
    "profile_saved",
    "recording_deleted",
    "recording_expired",
    "session_changed",
    "session_ended",
    "student_enrolled",
    "tutor_assigned",
    "tutor_unassigned",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEntry:
    """One act. `subject` is the id of the person to whom it was done; `details` hold no words of anybody's."""

    id: int
    at: datetime
    actor_id: str
    action: str
    subject: str
    details: Mapping[str, Any]

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> AuditEntry:
        return cls(**{name: row[name] for name in cls.__slots__})


async def append(
    connection: Connection, *, actor_id: str, action: Action, subject: str, details: Mapping[str, Any]
) -> None:
    """Note an act, inside the transaction that does it: there is none without the other."""
    await connection.execute(
        "INSERT INTO audit_log (actor_id, action, subject, details) VALUES ($1, $2, $3, $4)",
        actor_id,
        action,
        subject,
        dict(details),
    )


_NEWEST: Final = "SELECT * FROM audit_log WHERE id < $1 ORDER BY id DESC LIMIT $2"
# Each branch reads its own index from the end, and no more than is asked for. Said with rows, or a plan might read the
# whole log from its end until enough of it fits.
_NEWEST_OF: Final = " UNION ".join(
    f"(SELECT * FROM audit_log WHERE ({column}, id) < ($3, $1) AND {column} >= $3"
    f" ORDER BY {column} DESC, id DESC LIMIT $2)"
    for column in ("actor_id", "subject", "action")
)
#: Above every id: "no upper end".
_NO_END: Final = 2**63 - 1


async def newest(
    executor: Executor, *, about: str | None = None, before: int | None = None, limit: int
) -> list[AuditEntry]:
    """The newest entries before the id `before`, newest first; `about` an actor, a subject or an action."""
    end = _NO_END if before is None else before
    with translated():
        if about is None:
            rows = await executor.fetch(_NEWEST, end, limit)
        else:
            rows = await executor.fetch(f"{_NEWEST_OF} ORDER BY id DESC LIMIT $2", end, limit, about)
    return [AuditEntry.from_row(row) for row in rows]
