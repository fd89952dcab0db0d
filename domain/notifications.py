"""Notifications: what people are told of outside of any room.

Stored first, then shown: whoever acts writes them in the transaction of the act (:func:`to_people`,
:func:`to_enrolled`), and calls :func:`push` with what these answered after its commit. Who is connected sees them at
once; everybody finds them in their list. An act that is repeated without changing anything tells nobody again.

A whole course is told in batches. The first stands in the act's transaction, the rest is written and shown after its
commit by :mod:`domain.notifier`, on this worker, or, should it stop in the middle, on another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from domain.errors import NotFound
from domain.identity import Identity
from realtime.events import Event
from store import notifications
from store.ids import new_id
from store.notifications import Kind, Notification

if TYPE_CHECKING:
    from domain.live import Live
    from store.database import Connection

#: People who are told at a time: so many rows are written in one transaction (some 20 ms), and so many ids travel with
#: what they are told in one message of the bus (20 KB of usual ids). Between two batches others have their turn.
BATCH_PEOPLE: Final = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """A notification and whom it goes to. `more`: there are further people, who are told after these."""

    notification: Notification
    user_ids: Sequence[str]
    more: bool = False


def document(notification: Notification, *, read: bool = False) -> dict[str, Any]:
    """A notification as clients see it."""
    return {
        "id": notification.id,
        "kind": notification.kind,
        "title": notification.title,
        "body": notification.body,
        "data": notification.data,
        "read": read,
        "created_at": notification.created_at,
    }


def compose(
    user_ids: Iterable[str],
    *,
    kind: Kind,
    title: str,
    body: str,
    data: Mapping[str, Any],
    created_at: datetime | None = None,
) -> Told:
    """What these people are to be told, each once however often they are named. Not stored yet: see :func:`keep`."""
    notification = Notification(
        id=new_id(), kind=kind, title=title, body=body, data=data, created_at=created_at or datetime.now(UTC)
    )
    return Told(notification=notification, user_ids=list(dict.fromkeys(user_ids)))


async def keep(connection: Connection, told: Sequence[Told]) -> None:
    """Store what was composed. Inside the act's transaction; nobody is asked for where nobody is to be told."""
    told = [one for one in told if one.user_ids]
    if told:
        await notifications.add(connection, [(one.notification, one.user_ids) for one in told])


async def to_people(
    connection: Connection, user_ids: Iterable[str], *, kind: Kind, title: str, body: str, data: Mapping[str, Any]
) -> Told:
    """Store a notification for some people, inside the act's transaction; :func:`push` the answer after its commit.

    `title` and `body` are sentences for people, without times of day, which only their own clock can say: times
    stand in `data`, as everything that programs need. For all of a course: :func:`to_enrolled`.
    """
    told = compose(user_ids, kind=kind, title=title, body=body, data=data)
    await keep(connection, [told])
    return told


async def to_enrolled(
    connection: Connection,
    course_id: UUID,
    *,
    kind: Kind,
    title: str,
    body: str,
    data: Mapping[str, Any],
    but: str | None = None,
) -> Told:
    """As :func:`to_people`, for everybody who is enrolled in a course, except the person called `but`.

    However many these are, the transaction writes BATCH_PEOPLE of them at most.
    """
    told = compose((), kind=kind, title=title, body=body, data=data)
    batch = await notifications.add_for_enrolled(connection, told.notification, course_id, but=but, limit=BATCH_PEOPLE)
    return Told(notification=batch.notification, user_ids=batch.user_ids, more=not batch.last)


def push(live: Live, *told: Told) -> None:
    """Show what was stored and committed to the connections of its people, on every worker. Best effort."""
    for one in told:
        shown = Event(name="notification", data=document(one.notification))
        for start in range(0, len(one.user_ids), BATCH_PEOPLE):
            live.audience.tell(one.user_ids[start : start + BATCH_PEOPLE], shown)
        if one.more:
            live.more_to_tell()


# What a person says of theirs


async def mark(live: Live, identity: Identity, notification_id: UUID, *, read: bool) -> dict[str, Any]:
    """Say whether one has read a notification; its document. The person's devices are told of a change.

    Raises NotFound, of somebody else's, too.
    """
    marked = await notifications.mark(live.pool, identity.user_id, notification_id, read=read)
    if marked is None:
        raise unknown_notification()
    if marked.changed:
        news = Event(name="notificationsRead", data={"ids": [notification_id], "read": read})
        live.audience.tell([identity.user_id], news)
    return document(marked.received.notification, read=marked.received.read)


async def mark_all_read(live: Live, identity: Identity) -> int:
    """Say that one has read everything; how many notifications that changed. The person's devices are told of it."""
    marked = await notifications.mark_all_read(live.pool, identity.user_id)
    if marked:
        live.audience.tell([identity.user_id], Event(name="notificationsRead", data={"all": True, "read": True}))
    return marked


def unknown_notification() -> NotFound:
    return NotFound("There is no such notification.", code="notification_not_found")
