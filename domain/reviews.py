"""Reviews: who may say how a lesson was, and when."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from domain import bookings
from domain.booking_rules import family_of
from domain.errors import Conflict, Forbidden
from domain.identity import Identity
from store import reviews
from store.bookings import Booking
from store.database import Executor
from store.errors import Refused
from store.reviews import Review

MAX_COMMENT_CHARACTERS: Final = 2_000


def check_may_review(booking: Booking, identity: Identity) -> None:
    """Raise Forbidden unless the identity is of the booking's family, or Conflict before the lesson is completed."""
    if identity.user_id not in family_of(booking):
        raise Forbidden("Only the student and their parents review a lesson.")
    if booking.status != "completed":
        raise Conflict("A lesson is reviewed once it is completed.", code="not_completed")


async def review(executor: Executor, identity: Identity, booking_id: UUID, *, rating: int, comment: str) -> Review:
    """Say how a lesson was, once for the whole family.

    Raises NotFound, Forbidden, Conflict (`not_completed`, `already_reviewed`).
    """
    check_may_review(await bookings.read(executor, identity, booking_id), identity)
    try:
        return await reviews.insert(
            executor, booking_id=booking_id, author_id=identity.user_id, rating=rating, comment=comment
        )
    except Refused as refused:
        if refused.constraint == reviews.ONCE:
            raise Conflict("This lesson was reviewed already.", code="already_reviewed") from refused
        raise
