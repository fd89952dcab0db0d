"""The rules of bookings: who may see, make and change them, and which changes there are.

::

    pending ──► confirmed ──► completed
       │  ▲         │
       │  └─────────┤  rescheduled
       ▼            ▼
      cancelled ◄───┘

The teacher confirms and completes, either side cancels and reschedules. A pending booking may be completed, too: that
implies its confirmation. Completed and cancelled are final. A lesson whose session has started is not moved any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import MAXYEAR, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from domain.errors import BadRequest, Conflict, Forbidden, invalid
from domain.identity import Identity
from domain.people import timezone_problem
from domain.wall_clock import weekly_from
from store.bookings import Booking, Status
from store.sessions import Status as SessionStatus
from store.users import User

MAX_DURATION: Final = timedelta(hours=8)
#: How far a start may lie in the past: clocks differ, and a request takes its time.
PAST_TOLERANCE: Final = timedelta(seconds=60)
#: The most lessons that are booked at once: a year of them, in one short transaction.
MAX_WEEKS: Final = 52
#: Everybody cancels whenever they like.
NO_NOTICE: Final = timedelta(0)

#: Who speaks for a booking: the student's family (they, their parent, the booking's parent), or the teacher.
Side = Literal["family", "teacher", "admin"]

#: From each state: the states that can be asked for, and who may.
TRANSITIONS: Final[Mapping[Status, Mapping[Status, frozenset[Side]]]] = {
    "pending": {
        "confirmed": frozenset({"teacher", "admin"}),
        "completed": frozenset({"teacher", "admin"}),
        "cancelled": frozenset({"family", "teacher", "admin"}),
    },
    "confirmed": {
        "completed": frozenset({"teacher", "admin"}),
        "cancelled": frozenset({"family", "teacher", "admin"}),
    },
    "completed": {},
    "cancelled": {},
}
#: What only a teacher may ask for, whatever the state.
_TEACHERS_ALONE: Final[frozenset[Status]] = frozenset({"confirmed", "completed"})


@dataclass(frozen=True, kw_only=True, slots=True)
class NewBooking:
    """A lesson that somebody asks for. Times carry their offset."""

    student_id: str
    teacher_id: str
    start_time: datetime
    end_time: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeat:
    """The same lesson in `weeks` weeks on end, 1 to MAX_WEEKS, at the same time on the wall clock of a time zone."""

    weeks: int
    timezone: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BookingChange:
    """Either another `status`, or another time: both `start_time` and `end_time`."""

    status: Status | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None


def family_of(booking: Booking) -> frozenset[str]:
    people = (booking.student_id, booking.student_parent_id, booking.parent_id)
    return frozenset(person for person in people if person is not None)


def check_may_read(booking: Booking, identity: Identity) -> None:
    """Raise Forbidden for strangers to the booking."""
    if identity.is_admin or identity.user_id == booking.teacher_id or identity.user_id in family_of(booking):
        return
    raise Forbidden("This is somebody else's booking.")


def side_of(booking: Booking, identity: Identity) -> Side:
    """Whom it speaks for. Raises Forbidden for strangers, and for a teacher without a teacher's token."""
    if identity.is_admin:
        return "admin"
    if identity.user_id in family_of(booking):
        return "family"
    if identity.user_id == booking.teacher_id and identity.role == "teacher":
        return "teacher"
    raise Forbidden("This is somebody else's booking.")


def check_may_list(identity: Identity, *, student: User | None, student_id: str | None, teacher_id: str | None) -> None:
    """Raise unless one of the two is oneself, or the student one's child; administrators list everybody's.

    `student` is the person called `student_id`, if known.
    """
    if student_id is None and teacher_id is None:
        raise BadRequest("Give student_id or teacher_id.", code="student_or_teacher_required")
    if identity.is_admin or identity.user_id in (student_id, teacher_id):
        return
    if student is not None and student.parent_id == identity.user_id:
        return
    raise Forbidden("You may list your own bookings and those of your children.")


def check_may_book(identity: Identity, student_id: str, student: User | None) -> None:
    """Raise Forbidden unless the identity is the student, their parent, or an administrator."""
    if identity.is_admin or identity.user_id == student_id:
        return
    if student is not None and student.parent_id == identity.user_id:
        return
    raise Forbidden("Only the student, their parent or an administrator may book for this student.")


def check_time(start: datetime, end: datetime, now: datetime) -> None:
    """Raise BadRequest for a lesson that ends before it starts, is longer than MAX_DURATION, or past."""
    problems = {}
    if end <= start:
        problems["end_time"] = "must be after start_time"
    elif end - start > MAX_DURATION:
        problems["end_time"] = f"must be at most {MAX_DURATION // timedelta(hours=1)} hours after start_time"
    if start < now - PAST_TOLERANCE:
        problems["start_time"] = "must not be in the past"
    if problems:
        raise invalid(problems)


def starts_of(start: datetime, repeat: Repeat) -> Sequence[datetime]:
    """When each of the repeated lessons begins; see :func:`domain.wall_clock.weekly_from`. Raises BadRequest."""
    if problem := timezone_problem(repeat.timezone):
        raise invalid({"repeat.timezone": problem})
    starts = weekly_from(start, repeat.weeks, ZoneInfo(repeat.timezone))
    if starts[-1].year == MAXYEAR:
        # As of a single lesson: see `handlers.payloads.in_utc`.
        raise invalid({"repeat.weeks": "must end at a date of our time"})
    return starts


def changed(
    booking: Booking,
    side: Side,
    change: BookingChange,
    now: datetime,
    *,
    session_status: SessionStatus = "scheduled",
    cancel_notice: timedelta = NO_NOTICE,
) -> Booking:
    """The booking as it is after `change`; itself where that changes nothing.

    `session_status` is its session's; `cancel_notice`: how long before the start the family may last cancel or
    reschedule. Raises BadRequest, Forbidden, or Conflict (`invalid_transition`, `session_started`, `too_late`).
    """
    moves = change.start_time is not None or change.end_time is not None
    if change.status is not None and not moves:
        after = _with_status(booking, side, change.status)
    elif change.status is None and moves:
        after = _rescheduled(booking, change, now, session_status)
    else:
        raise BadRequest("Give either status, or start_time and end_time.", code="one_change_at_a_time")
    gives_up_its_time = after.status == "cancelled" or is_moved(booking, after)
    if after != booking and gives_up_its_time and side == "family":
        _check_notice(booking, cancel_notice, now)
    return after


def is_moved(before: Booking, after: Booking) -> bool:
    """Whether a change gave it another time."""
    return (before.start_time, before.end_time) != (after.start_time, after.end_time)


def _check_notice(booking: Booking, notice: timedelta, now: datetime) -> None:
    if notice and now > booking.start_time - notice:
        raise Conflict(
            f"Less than {notice // timedelta(minutes=1)} minutes before the lesson only the teacher "
            "or an administrator cancels or moves it.",
            code="too_late",
        )


def _with_status(booking: Booking, side: Side, wanted: Status) -> Booking:
    if wanted in _TEACHERS_ALONE and side == "family":
        raise Forbidden("Only the teacher confirms and completes a booking.")
    if wanted == booking.status:
        return booking
    allowed = TRANSITIONS[booking.status].get(wanted)
    if allowed is None:
        raise _invalid_transition(f"The booking is {booking.status}; it cannot become {wanted}.")
    if side not in allowed:
        raise Forbidden("The other side decides this.")
    return replace(booking, status=wanted)


def _rescheduled(booking: Booking, change: BookingChange, now: datetime, session_status: SessionStatus) -> Booking:
    if change.start_time is None or change.end_time is None:
        missing = "start_time" if change.start_time is None else "end_time"
        raise invalid({missing: "is required to reschedule"})
    if not TRANSITIONS[booking.status]:
        raise _invalid_transition(f"The booking is {booking.status}; it cannot be rescheduled.")
    if (change.start_time, change.end_time) == (booking.start_time, booking.end_time):
        # The same request again, which must not take back a confirmation.
        return booking
    if session_status != "scheduled":
        raise Conflict("The lesson has started; it cannot be moved any more.", code="session_started")
    check_time(change.start_time, change.end_time, now)
    return replace(booking, start_time=change.start_time, end_time=change.end_time, status="pending")


def _invalid_transition(message: str) -> Conflict:
    return Conflict(message, code="invalid_transition")
