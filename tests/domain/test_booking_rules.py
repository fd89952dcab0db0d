"""The rules of bookings."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from domain import booking_rules, people
from domain.booking_rules import BookingChange, Side
from domain.errors import BadRequest, Conflict, Forbidden
from domain.identity import Identity, Role
from store.bookings import Booking, Status
from store.sessions import Status as SessionStatus
from store.users import User

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
BOOKING = Booking(
    id=uuid4(),
    student_id="student",
    teacher_id="teacher",
    parent_id="booking-parent",
    student_parent_id="student-parent",
    accepted_parent_id="student-parent",
    start_time=NOW + 24 * HOUR,
    end_time=NOW + 25 * HOUR,
    status="pending",
    created_at=NOW,
    updated_at=NOW,
)


def identity(user_id: str, role: Role = "student") -> Identity:
    return Identity(user_id=user_id, role=role)


def user(user_id: str, role: Role, parent_id: str | None = None) -> User:
    return User(
        id=user_id,
        role=role,
        first_name="",
        last_name="",
        email=None,
        bio="",
        topics=[],
        subjects=[],
        timezone="UTC",
        parent_id=parent_id,
        parent_accepted=parent_id is not None,
        name_set=False,
        email_set=False,
        created_at=NOW,
        updated_at=NOW,
    )


@pytest.mark.parametrize(
    ("user_id", "role", "side"),
    [
        ("student", "student", "family"),
        ("student-parent", "parent", "family"),
        ("booking-parent", "parent", "family"),
        ("teacher", "teacher", "teacher"),
        ("anybody", "admin", "admin"),
    ],
)
def test_everybody_of_a_booking_speaks_for_their_side(user_id: str, role: Role, side: Side) -> None:
    booking_rules.check_may_read(BOOKING, identity(user_id, role))
    assert booking_rules.side_of(BOOKING, identity(user_id, role)) == side


@pytest.mark.parametrize("role", ["student", "parent", "teacher"])
def test_a_stranger_neither_reads_nor_speaks(role: Role) -> None:
    with pytest.raises(Forbidden):
        booking_rules.check_may_read(BOOKING, identity("stranger", role))
    with pytest.raises(Forbidden):
        booking_rules.side_of(BOOKING, identity("stranger", role))


def test_a_teacher_whose_token_no_longer_says_so_does_not_decide() -> None:
    booking_rules.check_may_read(BOOKING, identity("teacher", "student"))
    with pytest.raises(Forbidden):
        booking_rules.side_of(BOOKING, identity("teacher", "student"))


STATUSES: tuple[Status, ...] = ("pending", "confirmed", "completed", "cancelled")
#: (from, to): what family, teacher and admin get to hear.
OUTCOMES: dict[tuple[Status, Status], tuple[object, object, object]] = {
    ("pending", "pending"): ("pending", "pending", "pending"),
    ("pending", "confirmed"): (Forbidden, "confirmed", "confirmed"),
    ("pending", "completed"): (Forbidden, "completed", "completed"),
    ("pending", "cancelled"): ("cancelled", "cancelled", "cancelled"),
    ("confirmed", "pending"): (Conflict, Conflict, Conflict),
    ("confirmed", "confirmed"): (Forbidden, "confirmed", "confirmed"),
    ("confirmed", "completed"): (Forbidden, "completed", "completed"),
    ("confirmed", "cancelled"): ("cancelled", "cancelled", "cancelled"),
    ("completed", "pending"): (Conflict, Conflict, Conflict),
    ("completed", "confirmed"): (Forbidden, Conflict, Conflict),
    ("completed", "completed"): (Forbidden, "completed", "completed"),
    ("completed", "cancelled"): (Conflict, Conflict, Conflict),
    ("cancelled", "pending"): (Conflict, Conflict, Conflict),
    ("cancelled", "confirmed"): (Forbidden, Conflict, Conflict),
    ("cancelled", "completed"): (Forbidden, Conflict, Conflict),
    ("cancelled", "cancelled"): ("cancelled", "cancelled", "cancelled"),
}
SIDES: tuple[Side, ...] = ("family", "teacher", "admin")


def test_the_table_covers_every_pair_of_states() -> None:
    assert set(OUTCOMES) == {(before, after) for before in STATUSES for after in STATUSES}


@pytest.mark.parametrize(
    ("before", "wanted", "side", "outcome"),
    [
        (before, wanted, side, outcome)
        for (before, wanted), outcomes in OUTCOMES.items()
        for side, outcome in zip(SIDES, outcomes, strict=True)
    ],
)
def test_a_status_changes_as_the_table_says(before: Status, wanted: Status, side: Side, outcome: object) -> None:
    booking = replace(BOOKING, status=before)
    if isinstance(outcome, type) and issubclass(outcome, Exception):
        with pytest.raises(outcome) as refusal:
            booking_rules.changed(booking, side, BookingChange(status=wanted), NOW)
        if isinstance(refusal.value, Conflict):
            assert refusal.value.code == "invalid_transition"
    else:
        after = booking_rules.changed(booking, side, BookingChange(status=wanted), NOW)
        assert after == replace(booking, status=wanted)
        assert after.status == outcome


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("before", ["pending", "confirmed"])
def test_either_side_reschedules_and_it_has_to_be_confirmed_anew(side: Side, before: Status) -> None:
    change = BookingChange(start_time=NOW + HOUR, end_time=NOW + 2 * HOUR)
    after = booking_rules.changed(replace(BOOKING, status=before), side, change, NOW)
    assert (after.start_time, after.end_time, after.status) == (NOW + HOUR, NOW + 2 * HOUR, "pending")


def test_rescheduling_to_the_same_time_keeps_the_confirmation() -> None:
    booking = replace(BOOKING, status="confirmed")
    change = BookingChange(start_time=booking.start_time, end_time=booking.end_time)
    assert booking_rules.changed(booking, "family", change, NOW) == booking


@pytest.mark.parametrize("before", ["completed", "cancelled"])
def test_a_finished_booking_is_not_rescheduled(before: Status) -> None:
    change = BookingChange(start_time=NOW + HOUR, end_time=NOW + 2 * HOUR)
    with pytest.raises(Conflict) as refusal:
        booking_rules.changed(replace(BOOKING, status=before), "admin", change, NOW)
    assert refusal.value.code == "invalid_transition"


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("session_status", ["live", "ended"])
def test_a_lesson_that_has_started_is_not_moved_any_more(side: Side, session_status: SessionStatus) -> None:
    booking = replace(BOOKING, status="confirmed")
    change = BookingChange(start_time=NOW + HOUR, end_time=NOW + 2 * HOUR)
    with pytest.raises(Conflict) as refusal:
        booking_rules.changed(booking, side, change, NOW, session_status=session_status)
    assert refusal.value.code == "session_started"
    same = BookingChange(start_time=booking.start_time, end_time=booking.end_time)
    assert booking_rules.changed(booking, side, same, NOW, session_status=session_status) == booking
    cancelled = booking_rules.changed(
        booking, side, BookingChange(status="cancelled"), NOW, session_status=session_status
    )
    assert cancelled.status == "cancelled"


@pytest.mark.parametrize(
    "change",
    [
        BookingChange(),
        BookingChange(status="confirmed", start_time=NOW + HOUR, end_time=NOW + 2 * HOUR),
        BookingChange(start_time=NOW + HOUR),
        BookingChange(end_time=NOW + HOUR),
        BookingChange(start_time=NOW + 2 * HOUR, end_time=NOW + HOUR),
        BookingChange(start_time=NOW - HOUR, end_time=NOW + HOUR),
    ],
)
def test_a_change_is_one_status_or_one_whole_time(change: BookingChange) -> None:
    with pytest.raises(BadRequest):
        booking_rules.changed(BOOKING, "admin", change, NOW)


@pytest.mark.parametrize(
    ("start", "end", "wrong"),
    [
        (NOW + HOUR, NOW + HOUR, "end_time"),
        (NOW + 2 * HOUR, NOW + HOUR, "end_time"),
        (NOW + HOUR, NOW + 9 * HOUR + timedelta(microseconds=1), "end_time"),
        (NOW - timedelta(seconds=61), NOW + HOUR, "start_time"),
    ],
)
def test_a_time_that_cannot_be_a_lesson_is_refused(start: datetime, end: datetime, wrong: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        booking_rules.check_time(start, end, NOW)
    assert list(refusal.value.fields or {}) == [wrong]


def test_eight_hours_from_a_minute_ago_are_just_allowed() -> None:
    start = NOW - timedelta(seconds=60)
    booking_rules.check_time(start, start + 8 * HOUR, NOW)


def test_the_student_their_parent_and_admins_book() -> None:
    student = user("student", "student", "parent")
    for someone in (identity("student"), identity("parent", "parent"), identity("boss", "admin")):
        booking_rules.check_may_book(someone, "student", student)
    for someone in (identity("other"), identity("other-parent", "parent"), identity("teacher", "teacher")):
        with pytest.raises(Forbidden):
            booking_rules.check_may_book(someone, "student", student)


def test_a_booking_needs_a_student_and_a_teacher() -> None:
    student, teacher = user("student", "student"), user("teacher", "teacher")
    assert people.check_student_and_teacher(student, teacher) == (student, teacher)
    for wrong_student, wrong_teacher, fields in (
        (None, teacher, {"student_id"}),
        (teacher, teacher, {"student_id"}),
        (student, None, {"teacher_id"}),
        (student, student, {"teacher_id"}),
        (None, None, {"student_id", "teacher_id"}),
    ):
        with pytest.raises(BadRequest) as refusal:
            people.check_student_and_teacher(wrong_student, wrong_teacher)
        assert set(refusal.value.fields or {}) == fields


def test_one_lists_ones_own_and_ones_childrens_bookings() -> None:
    student = user("student", "student", "parent")
    for someone in (identity("student"), identity("parent", "parent"), identity("boss", "admin")):
        booking_rules.check_may_list(someone, student=student, student_id="student", teacher_id=None)
    teacher = identity("teacher", "teacher")
    booking_rules.check_may_list(teacher, student=None, student_id=None, teacher_id="teacher")
    booking_rules.check_may_list(teacher, student=student, student_id="student", teacher_id="teacher")
    with pytest.raises(Forbidden):
        booking_rules.check_may_list(teacher, student=student, student_id="student", teacher_id=None)
    with pytest.raises(Forbidden):
        booking_rules.check_may_list(identity("student"), student=None, student_id=None, teacher_id="teacher")
    with pytest.raises(BadRequest):
        booking_rules.check_may_list(identity("boss", "admin"), student=None, student_id=None, teacher_id=None)
