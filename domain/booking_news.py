"""What the people of a booking are told of it: that it was made, and what became of it. Not those who did it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from domain import notifications
from domain.booking_rules import is_moved
from domain.notifications import Told
from store import bookings, users
from store.bookings import Booking

if TYPE_CHECKING:
    from store.database import Connection


async def tell_booked(connection: Connection, booking_ids: Sequence[UUID], *, actor_id: str) -> Told:
    """Tell of a new lesson, or of several, the first one first, as one piece of news. Inside their transaction."""
    booking = await bookings.find(connection, booking_ids[0])
    assert booking is not None, "this transaction has just made it"
    data = _data(booking)
    title = "A lesson was booked"
    if len(booking_ids) > 1:
        data["booking_ids"] = booking_ids
        title = f"{len(booking_ids)} weekly lessons were booked"
    return await notifications.to_people(
        connection,
        _people_but(actor_id, booking),
        kind="booking_created",
        title=title,
        body=await _body(connection, booking, actor_id),
        data=data,
    )


async def tell_changed(connection: Connection, before: Booking, after: Booking, *, actor_id: str) -> Told:
    """Tell what became of a lesson. Inside the transaction that changes it."""
    data = _data(after)
    outcome: str = after.status
    if is_moved(before, after):
        data |= {"previous_start_time": before.start_time, "previous_end_time": before.end_time}
        outcome = "moved"
    return await notifications.to_people(
        connection,
        _people_but(actor_id, after),
        kind="booking_changed",
        title=f"A lesson was {outcome}",
        body=await _body(connection, after, actor_id),
        data=data,
    )


def _people_but(actor_id: str, booking: Booking) -> list[str]:
    # A student may name anybody as their parent, who hears nothing of it before they have said yes.
    people = (booking.teacher_id, booking.student_id, booking.accepted_parent_id, booking.parent_id)
    return [person for person in people if person is not None and person != actor_id]


async def _body(connection: Connection, booking: Booking, actor_id: str) -> str:
    names = await users.names_of(connection, [booking.student_id, booking.teacher_id, actor_id])
    return f"{names[booking.student_id]} with {names[booking.teacher_id]}, by {names.get(actor_id, actor_id)}"


def _data(booking: Booking) -> dict[str, Any]:
    return {
        "booking_id": booking.id,
        "session_id": booking.id,
        "student_id": booking.student_id,
        "teacher_id": booking.teacher_id,
        "status": booking.status,
        "start_time": booking.start_time,
        "end_time": booking.end_time,
    }
