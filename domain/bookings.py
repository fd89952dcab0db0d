"""Bookings: who may make and change them, which changes there are, and the acts that do it.

::

    pending ──► confirmed ──► completed
       │  ▲         │
       │  └─────────┤  rescheduled
       ▼            ▼
      cancelled ◄───┘

The teacher confirms and completes, either side cancels and reschedules. A pending booking may be completed, too: that
implies its confirmation. Completed and cancelled are final. A lesson whose session has started is not moved any more.
A booking and its session are made and changed in one transaction. With a teacher who publishes availability
(:mod:`domain.availability`), a lesson lies inside one of their free slots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from domain import booking_news, notifications
from domain.booking_news import is_moved
from domain.errors import BadRequest, Conflict, EncountersError, Forbidden, NotFound, invalid
from domain.identity import Identity
from domain.notifications import Told
from domain.people import NO_STUDENT, NO_TEACHER, check_student_and_teacher, timezone_problem
from domain.refusals import Meanings, refusals_named
from domain.wall_clock import weekly_from
from store import audit, availability, bookings, sessions, users
from store.availability import Obstacle
from store.bookings import Booking, Status
from store.errors import translated
from store.sessions import Status as SessionStatus
from store.users import User

if TYPE_CHECKING:
    from domain.live import Live
    from store.database import Connection, Executor

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


def unknown_booking() -> NotFound:
    return NotFound("There is no such booking.", code="booking_not_found")


async def read(executor: Executor, identity: Identity, booking_id: UUID) -> Booking:
    """The booking, for those whom it concerns. Raises NotFound, Forbidden."""
    booking = await bookings.find(executor, booking_id)
    if booking is None:
        raise unknown_booking()
    check_may_read(booking, identity)
    return booking


async def book(live: Live, identity: Identity, new: NewBooking) -> UUID:
    """Make a pending booking and its session, which share the id. Its other people are told of it.

    A parent who books for a student says with it that they are the parent.

    Raises Forbidden, BadRequest naming the fields, or Conflict: `slot_taken` where the student or the teacher
    has another pending or confirmed booking then, `not_available` where the teacher publishes availability and no
    free slot holds the whole lesson.
    """
    return (await _book(live, identity, new, None))[0]


async def book_weekly(live: Live, identity: Identity, new: NewBooking, repeat: Repeat) -> Sequence[UUID]:
    """Make a booking for each week, `new` being the first, or none of them. Each is as long as the first.

    As :func:`book`; the Conflict has the code of the first date that cannot be booked, and names all of these.
    """
    return await _book(live, identity, new, repeat)


async def _book(live: Live, identity: Identity, new: NewBooking, repeat: Repeat | None) -> Sequence[UUID]:
    student = await users.find(live.pool, new.student_id)
    check_may_book(identity, new.student_id, student)
    check_time(new.start_time, new.end_time, datetime.now(UTC))
    starts = [new.start_time] if repeat is None else starts_of(new.start_time, repeat)
    teacher = await users.find(live.pool, new.teacher_id)
    student, teacher = check_student_and_teacher(student, teacher)
    length = new.end_time - new.start_time
    spans = [(start, start + length) for start in starts]
    named = [(uuid4(), span) for span in spans]
    is_parent = identity.user_id == student.parent_id
    with refusals_named(_REFUSALS), translated():
        async with live.pool.acquire() as connection, connection.transaction():
            await bookings.take_turns(connection, [student.id, teacher.id])
            found = await availability.obstacles(
                connection,
                student_id=student.id,
                teacher_id=teacher.id,
                spans=spans,
                now=datetime.now(UTC),
            )
            _check_free(starts, found, name_each=repeat is not None)
            if is_parent and not student.parent_accepted:
                await users.accept_child(connection, identity.user_id, student.id)
            await bookings.insert_all(
                connection,
                named,
                student_id=student.id,
                teacher_id=teacher.id,
                parent_id=student.parent_id if is_parent else student.accepted_parent_id,
            )
            await sessions.create_for_bookings(
                connection, [(booking_id, start) for booking_id, (start, _) in named], host_id=teacher.id
            )
            if identity.is_admin:
                await audit.append(
                    connection,
                    actor_id=identity.user_id,
                    action="booking_made",
                    subject=student.id,
                    details={"teacher_id": teacher.id, "booking_ids": [booking_id for booking_id, _ in named]},
                )
            told = await booking_news.tell_booked(
                connection, [booking_id for booking_id, _ in named], actor_id=identity.user_id
            )
    notifications.push(live, told)
    return [booking_id for booking_id, _ in named]


def _check_free(starts: Sequence[datetime], found: Sequence[Obstacle | None], *, name_each: bool) -> None:
    """Raise Conflict for the first obstacle; with `name_each` it tells of all of them."""
    obstacles = [(start, obstacle) for start, obstacle in zip(starts, found, strict=True) if obstacle is not None]
    if obstacles:
        conflicts = [{"start_time": start, "error": obstacle} for start, obstacle in obstacles]
        raise _OBSTACLES[obstacles[0][1]](conflicts if name_each else ())


async def change(
    live: Live,
    identity: Identity,
    booking_id: UUID,
    wanted: BookingChange,
    *,
    cancel_notice: timedelta = NO_NOTICE,
) -> Booking:
    """Change a booking's status or time, and its session with it. Answers the booking as it is then.

    The booking's other people are told of a change; asked for what stands already, nobody is.

    Raises NotFound, Forbidden, BadRequest, Conflict (`invalid_transition`, `session_started`, `too_late`, `slot_taken`,
    `not_available`).
    """
    seen = await read(live.pool, identity, booking_id)
    entries = []
    told: list[Told] = []
    with refusals_named(_REFUSALS), translated():
        async with live.pool.acquire() as connection, connection.transaction():
            await bookings.take_turns(connection, [seen.student_id, seen.teacher_id])
            current = await bookings.locked(connection, booking_id)
            if current is None:
                raise unknown_booking()
            # Whoever moves the session takes the booking's row first, too: this stands until the transaction's end.
            standing = await sessions.standing(connection, booking_id)
            now = datetime.now(UTC)
            after = changed(
                current,
                side_of(current, identity),
                wanted,
                now,
                session_status="scheduled" if standing is None else standing.status,
                cancel_notice=cancel_notice,
            )
            if is_moved(current, after):
                found = await availability.obstacles(
                    connection,
                    student_id=current.student_id,
                    teacher_id=current.teacher_id,
                    spans=[(after.start_time, after.end_time)],
                    now=now,
                    booking_id=booking_id,
                )
                _check_free([after.start_time], found, name_each=False)
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
                told.append(await booking_news.tell_changed(connection, current, after, actor_id=identity.user_id))
                await _note(connection, identity, after, ends_session=bool(entries))
    live.publish(entries)
    notifications.push(live, *told)
    return after


async def _note(connection: Connection, identity: Identity, after: Booking, *, ends_session: bool) -> None:
    """Write into the audit log what an administrator changed, and that completing the booking ended its session."""
    if identity.is_admin:
        await audit.append(
            connection,
            actor_id=identity.user_id,
            action="booking_changed",
            subject=after.student_id,
            details={
                "booking_id": after.id,
                "teacher_id": after.teacher_id,
                "status": after.status,
                "start_time": after.start_time,
                "end_time": after.end_time,
            },
        )
    if ends_session and after.status == "completed":
        await audit.append(
            connection,
            actor_id=identity.user_id,
            action="session_ended",
            subject=after.student_id,
            details={"session_id": after.id},
        )


#: What stood in the way of which of several lessons.
Conflicts = Sequence[Mapping[str, Any]]


def _slot_taken(conflicts: Conflicts = ()) -> EncountersError:
    message = "The teacher or the student has another booking at this time."
    return Conflict(message, code="slot_taken", conflicts=conflicts)


def _not_available(conflicts: Conflicts = ()) -> EncountersError:
    message = "The teacher is not available at this time."
    return Conflict(message, code="not_available", conflicts=conflicts)


_OBSTACLES: Final[Mapping[Obstacle, Callable[..., EncountersError]]] = {
    "slot_taken": _slot_taken,
    "not_available": _not_available,
}


#: Somebody may have been removed since they were looked up.
_REFUSALS: Final[Meanings] = {
    bookings.TEACHER_FREE: _slot_taken,
    bookings.STUDENT_FREE: _slot_taken,
    bookings.STUDENT_EXISTS: lambda: invalid({"student_id": NO_STUDENT}),
    bookings.TEACHER_EXISTS: lambda: invalid({"teacher_id": NO_TEACHER}),
}
