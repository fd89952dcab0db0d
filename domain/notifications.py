"""Notifications: what people are told of outside of any room.

At present they are pushed to the connections that a person has, on every worker, and are gone. Whoever keeps them in
the database, too, writes them in the transaction that they come of (for a reminder: that of `store.reminders.claim`),
and calls :func:`push` after its commit, as now: the document is the same in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

import msgspec

from domain.live import Live

Kind = Literal["allocation", "session_reminder"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Notification:
    """Something that one person is told: `title` and `body` for them, `kind` and `data` for their program."""

    user_id: str
    kind: Kind
    title: str
    body: str
    data: Mapping[str, Any]
    created_at: datetime
    id: UUID = field(default_factory=uuid4)


def document(notification: Notification) -> dict[str, Any]:
    """A notification as clients see it."""
    return {
        "id": notification.id,
        "kind": notification.kind,
        "title": notification.title,
        "body": notification.body,
        "data": notification.data,
        "read": False,
        "created_at": notification.created_at,
    }


def push(live: Live, notifications: Iterable[Notification]) -> None:
    """Show each to its person's connections on every worker, as far as they have any. Best effort."""
    for notification in notifications:
        live.tell_person(notification.user_id, msgspec.to_builtins(document(notification)))
