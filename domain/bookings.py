"""What is done with bookings: they are read, made and changed. The rules are in :mod:`domain.booking_rules`.

A booking and its session are made and changed in one transaction. With a teacher who publishes availability
(:mod:`domain.availability`), a lesson lies inside one of their free slots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

from domain import booking_news, notifications
from domain.booking_rules import (
    NO_NOTICE,
    BookingChange,
    NewBooking,
    Repeat,
    changed,
    check_may_book,
    check_may_read,
    check_time,
    is_moved,
    side_of,
    starts_of,
)
from domain.errors import Conflict, EncountersError, NotFound, invalid
from domain.identity import Identity
from domain.notifications import Told
from domain.people import NO_STUDENT, NO_TEACHER, check_student_and_teacher
from domain.refusals import Meanings, refusals_named
from store import audit, availability, bookings, sessions, users
from store.availability import Obstacle
from store.bookings import Booking
from store.errors import translated

if TYPE_CHECKING:
    from domain.live import Live
    from store.database import Connection, Executor


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
