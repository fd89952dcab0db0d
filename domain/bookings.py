"""Bookings: who may make and change them, which changes there are, and the acts that do it.

::

    pending ──► confirmed ──► completed
       │  ▲         │
       │  └─────────┤  rescheduled
       ▼            ▼
      cancelled ◄───┘

The teacher confirms and completes, either side cancels and reschedules. Completed and cancelled are final.
A booking and its session are made and changed in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID, uuid4

from domain.errors import BadRequest, Conflict, EncountersError, Forbidden, NotFound, invalid
from domain.identity import Identity
from store import bookings, sessions, users
from store.bookings import Booking, Status
from store.errors import Refused, translated
from store.users import User

if TYPE_CHECKING:
    from domain.live import Live
    from store.database import Executor, Pool

MAX_DURATION: Final = timedelta(hours=8)
#: How far a start may lie in the past: clocks differ, and a request takes its time.
PAST_TOLERANCE: Final = timedelta(seconds=60)

#: Who speaks for a booking: the student's family (they, their parent, the booking's parent), or the teacher.
Side = Literal["family", "teacher", "admin"]

_NO_STUDENT: Final = "is not the id of a known student"
_NO_TEACHER: Final = "is not the id of a known teacher"

#: From each state: the states that can be asked for, and who may.
TRANSITIONS: Final[Mapping[Status, Mapping[Status, frozenset[Side]]]] = {
    "pending": {
        "confirmed": frozenset({"teacher", "admin"}),
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


def check_people(student: User | None, teacher: User | None) -> tuple[User, User]:
    """The student and the teacher. Raises BadRequest naming who is not known as that."""
    if student is None or student.role != "student":
        student = None
    if teacher is None or teacher.role != "teacher":
        teacher = None
    if student is not None and teacher is not None:
        return student, teacher
    problems = {"student_id": _NO_STUDENT} if student is None else {}
    if teacher is None:
        problems["teacher_id"] = _NO_TEACHER
    raise invalid(problems)


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


def changed(booking: Booking, side: Side, change: BookingChange, now: datetime) -> Booking:
    """The booking as it is after `change`; itself where that changes nothing.

    Raises BadRequest, Forbidden, or Conflict `invalid_transition`.
    """
    moves = change.start_time is not None or change.end_time is not None
    if change.status is not None and not moves:
        return _with_status(booking, side, change.status)
    if change.status is None and moves:
        return _rescheduled(booking, change, now)
    raise BadRequest("Give either status, or start_time and end_time.", code="one_change_at_a_time")


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


def _rescheduled(booking: Booking, change: BookingChange, now: datetime) -> Booking:
    if change.start_time is None or change.end_time is None:
        missing = "start_time" if change.start_time is None else "end_time"
        raise invalid({missing: "is required to reschedule"})
    if not TRANSITIONS[booking.status]:
        raise _invalid_transition(f"The booking is {booking.status}; it cannot be rescheduled.")
    if (change.start_time, change.end_time) == (booking.start_time, booking.end_time):
        # The same request again, which must not take back a confirmation.
        return booking
    check_time(change.start_time, change.end_time, now)
    return replace(booking, start_time=change.start_time, end_time=change.end_time, status="pending")


def _invalid_transition(message: str) -> Conflict:
    return Conflict(message, code="invalid_transition")


def unknown_booking() -> NotFound:
    return NotFound("There is no such booking.", code="booking_not_found")


async def read(executor: Executor, identity: Identity, booking_id: UUID) -> Booking:
    """The booking, for those whom it concerns. Raises NotFound, Forbidden."""
    booking = await bookings.find(executor, booking_id)
    if booking is None:
        raise unknown_booking()
    check_may_read(booking, identity)
    return booking


async def book(pool: Pool, identity: Identity, new: NewBooking) -> UUID:
    """Make a pending booking and its session, which share the id.

    Raises Forbidden, BadRequest naming the fields, or Conflict `slot_taken` where the student or the teacher
    has another pending or confirmed booking then.
    """
    student = await users.find(pool, new.student_id)
    check_may_book(identity, new.student_id, student)
    check_time(new.start_time, new.end_time, datetime.now(UTC))
    teacher = await users.find(pool, new.teacher_id)
    student, teacher = check_people(student, teacher)
    booking_id = uuid4()
    with _refusals_named(), translated():
        async with pool.acquire() as connection, connection.transaction():
            await bookings.take_turns(connection, [student.id, teacher.id])
            await bookings.insert(
                connection,
                booking_id=booking_id,
                student_id=student.id,
                teacher_id=teacher.id,
                parent_id=student.parent_id,
                start_time=new.start_time,
                end_time=new.end_time,
            )
            await sessions.create_for_booking(
                connection,
                booking_id=booking_id,
                host_id=teacher.id,
                starts_at=new.start_time,
            )
    return booking_id


async def change(live: Live, identity: Identity, booking_id: UUID, wanted: BookingChange) -> Booking:
    """Change a booking's status or time, and its session with it. Answers the booking as it is then.

    Raises NotFound, Forbidden, BadRequest, Conflict (`invalid_transition`, `slot_taken`).
    """
    seen = await read(live.pool, identity, booking_id)
    entries = []
    with _refusals_named(), translated():
        async with live.pool.acquire() as connection, connection.transaction():
            await bookings.take_turns(connection, [seen.student_id, seen.teacher_id])
            current = await bookings.locked(connection, booking_id)
            if current is None:
                raise unknown_booking()
            after = changed(current, side_of(current, identity), wanted, datetime.now(UTC))
            if after != current:
                await bookings.save(
                    connection,
                    booking_id,
                    status=after.status,
                    start_time=after.start_time,
                    end_time=after.end_time,
                )
                entries = await sessions.follow_booking(
                    connection,
                    booking_id,
                    status=after.status,
                    starts_at=after.start_time,
                    actor_id=identity.user_id,
                )
    live.publish(entries)
    return after


@contextmanager
def _refusals_named() -> Iterator[None]:
    """Say what a constraint's name means here."""
    try:
        yield
    except Refused as refused:
        error = _REFUSALS.get(refused.constraint)
        if error is None:
            raise
        raise error() from refused


def _slot_taken() -> EncountersError:
    return Conflict("The teacher or the student has another booking at this time.", code="slot_taken")


#: Somebody may have been removed since they were looked up.
_REFUSALS: Final[Mapping[str, Callable[[], EncountersError]]] = {
    bookings.TEACHER_FREE: _slot_taken,
    bookings.STUDENT_FREE: _slot_taken,
    bookings.STUDENT_EXISTS: lambda: invalid({"student_id": _NO_STUDENT}),
    bookings.TEACHER_EXISTS: lambda: invalid({"teacher_id": _NO_TEACHER}),
}
