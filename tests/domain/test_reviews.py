"""Who may review a lesson."""

from __future__ import annotations

from dataclasses import replace

import pytest

from domain import reviews
from domain.errors import Conflict, Forbidden
from store.bookings import Status
from tests.domain.test_booking_rules import BOOKING, identity

COMPLETED = replace(BOOKING, status="completed")


@pytest.mark.parametrize("user_id", ["student", "student-parent", "booking-parent"])
def test_the_family_reviews_a_lesson(user_id: str) -> None:
    reviews.check_may_review(COMPLETED, identity(user_id))


def test_the_teacher_an_admin_and_strangers_do_not() -> None:
    for someone in (identity("teacher", "teacher"), identity("boss", "admin"), identity("other")):
        with pytest.raises(Forbidden):
            reviews.check_may_review(COMPLETED, someone)


@pytest.mark.parametrize("status", ["pending", "confirmed", "cancelled"])
def test_a_lesson_is_reviewed_after_it_took_place(status: Status) -> None:
    with pytest.raises(Conflict) as refusal:
        reviews.check_may_review(replace(BOOKING, status=status), identity("student"))
    assert refusal.value.code == "not_completed"
