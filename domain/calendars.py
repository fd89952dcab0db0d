"""People's calendars: what stands in them, and the links by which calendar programs read them.

A calendar program sends no token of ours, so a link carries its own: an HMAC over the person's id and a number that
rises when they take their links back. Its key is this installation's, kept in the database: JWT_SECRET exists only
where tokens are signed with it, and a new one must not end everybody's subscriptions. A link opens one person's
calendar and nothing else.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import quote
from uuid import UUID

from domain import bookings, icalendar, people
from domain.errors import Forbidden, invalid
from domain.identity import MAX_USER_ID_CHARACTERS, Identity
from store import audit, calendars, users
from store.bookings import Status
from store.calendars import Appointment, LinkSecret
from store.database import Executor, Pool
from store.errors import translated

#: How far back a feed goes: what a term's attendance is looked up in. Calendars drop what a feed no longer has.
FEED_PAST: Final = timedelta(days=120)
#: More than anybody teaches in half a year; some 400 bytes each.
MAX_FEED_LESSONS: Final = 2000
#: How often a calendar is asked to look again. Many choose for themselves.
FEED_REFRESH: Final = timedelta(minutes=15)
FEED_NAME: Final = "Lessons"

#: Who organizes a lesson whose teacher has no address: what calendars themselves write then.
_NO_ADDRESS: Final = "invalid:nomail"
_EVENT_STATUS: Final[dict[Status, icalendar.EventStatus]] = {
    "pending": "TENTATIVE",
    "confirmed": "CONFIRMED",
    "completed": "CONFIRMED",
    "cancelled": "CANCELLED",
}
_SAID_OF: Final[dict[Status, str]] = {
    "pending": "The teacher has not confirmed this lesson yet.",
    "confirmed": "",
    "completed": "",
    "cancelled": "This lesson was cancelled.",
}


async def lesson(executor: Executor, identity: Identity, booking_id: UUID, *, origin: str) -> bytes:
    """One lesson as a calendar, for those whom it concerns: `METHOD:CANCEL` once it is cancelled.

    `origin` is where the server is seen. Raises NotFound, Forbidden.
    """
    await bookings.read(executor, identity, booking_id)
    appointment = await calendars.appointment(executor, booking_id)
    if appointment is None:
        raise bookings.unknown_booking()
    calendar = icalendar.Calendar(method="CANCEL" if appointment.status == "cancelled" else "PUBLISH")
    calendar.add(event_of(appointment, origin))
    return calendar.written()


async def feed(executor: Executor, user_id: str, token: str, *, origin: str, now: datetime) -> bytes:
    """The person's lessons as a calendar to subscribe to, for whoever has their link's `token`.

    Raises Forbidden, the same for a wrong token, one that was taken back, and a person who is not known.
    """
    if not _may_be_an_id(user_id):
        raise link_not_valid()
    secret = await calendars.link_secret(executor, user_id)
    if secret is None or not hmac.compare_digest(
        token_of(user_id, secret).encode(), token.encode("utf-8", "surrogatepass")
    ):
        raise link_not_valid()
    found = await calendars.appointments_of(executor, user_id, starts_from=now - FEED_PAST, limit=MAX_FEED_LESSONS)
    calendar = icalendar.Calendar(method="PUBLISH", name=FEED_NAME, refresh=FEED_REFRESH)
    for appointment in found:
        calendar.add(event_of(appointment, origin))
        # Two thousand that were not written before take 0.6 s: the rooms have their turn between any two. In a thread
        # they would wait longer, for Python's lock.
        await asyncio.sleep(0)
    return calendar.written()


async def link_token(executor: Executor, user_id: str) -> str:
    """The token of a known person's link, as it is now."""
    secret = await calendars.link_secret(executor, user_id)
    if secret is None:
        raise link_not_valid()  # removed since their request began
    return token_of(user_id, secret)


async def new_link_token(pool: Pool, identity: Identity, user_id: str) -> str:
    """Another token of a person's link; those so far open nothing any more.

    Anybody may for themself, an administrator for everybody, which stands in the audit log. Raises Forbidden, and
    BadRequest naming the id of a person who is not known.
    """
    if user_id == identity.user_id:
        await calendars.take_back_links(pool, user_id)
        return await link_token(pool, user_id)
    people.check_is_admin(identity)
    if await users.find(pool, user_id) is None:
        raise invalid({"user_id": "is not the id of a known person"})
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            await calendars.take_back_links(connection, user_id)
            await audit.append(
                connection, actor_id=identity.user_id, action="calendar_link_rotated", subject=user_id, details={}
            )
    return await link_token(pool, user_id)


def token_of(user_id: str, secret: LinkSecret) -> str:
    digest = hmac.digest(secret.key, f"{secret.generation}:{user_id}".encode(), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _may_be_an_id(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text and len(text) <= MAX_USER_ID_CHARACTERS


def link_not_valid() -> Forbidden:
    return Forbidden("This link to a calendar is not valid, or was taken back.", code="link_not_valid")


def event_of(appointment: Appointment, origin: str) -> icalendar.Event:
    """The calendar's entry of a lesson. `url` leads into its room."""
    email = appointment.teacher_email
    url = f"{origin}/?session={appointment.id}"
    said = _SAID_OF[appointment.status]
    return icalendar.Event(
        uid=str(appointment.id),
        sequence=appointment.sequence,
        created_at=appointment.created_at,
        changed_at=appointment.updated_at,
        start=appointment.start_time,
        end=appointment.end_time,
        timezone=appointment.timezone,
        status=_EVENT_STATUS[appointment.status],
        summary=f"{appointment.title or 'Lesson'} – {appointment.student_name} with {appointment.teacher_name}",
        # Some programs show no URL of an event, but make a link of one in its text.
        description="\n".join(part for part in (said, f"Room: {url}") if part),
        url=url,
        organizer=f"mailto:{quote(email, safe='@')}" if email else _NO_ADDRESS,
        organizer_name=appointment.teacher_name,
    )
