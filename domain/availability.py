"""Availability: which slots a teacher may offer, how a weekly series becomes slots, and the acts on them.

A teacher who has a slot that is not over yet *publishes*: bookings with them then need a free slot around the whole
lesson (:mod:`domain.bookings`). A slot is booked as a whole, by any booking that overlaps it and is not cancelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from domain.booking_rules import PAST_TOLERANCE
from domain.errors import Conflict, EncountersError, Forbidden, NotFound, invalid
from domain.identity import Identity
from domain.people import NO_TEACHER, timezone_problem
from domain.refusals import Meanings, refusals_named
from domain.wall_clock import WEEK, moment_of
from store import audit, availability, bookings, users
from store.audit import Action
from store.availability import Series, Slot
from store.bookings import Span
from store.errors import translated
from store.users import User

if TYPE_CHECKING:
    from store.database import Connection, Pool

#: The shortest and the longest slot. One booking takes a whole slot: a day is better offered in several.
MIN_LENGTH: Final = timedelta(minutes=5)
MAX_LENGTH: Final = timedelta(hours=12)
#: How far ahead a slot may begin: two years.
MAX_AHEAD: Final = timedelta(days=731)
#: A year of one weekday, both ends included.
MAX_SERIES_SLOTS: Final = 53
#: As an end, the next day's beginning: a day has no 24:00 in Python.
MIDNIGHT: Final = time(0)
DAY: Final = timedelta(days=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Weekly:
    """Every week on this weekday (ISO, 1 is Monday), on the wall clock of a time zone, to the day `until`.

    An `end` at midnight is the next day's beginning.
    """

    weekday: int
    start: time
    end: time
    timezone: str
    until: date


def check_may_publish(identity: Identity, teacher_id: str) -> None:
    """Raise Forbidden unless the identity is that teacher, or an administrator."""
    if identity.is_admin or (identity.user_id == teacher_id and identity.role == "teacher"):
        return
    raise Forbidden("Only the teacher or an administrator changes when the teacher is available.")


def check_teacher(teacher: User | None) -> None:
    """Raise BadRequest for somebody who is not known as a teacher."""
    if teacher is None or teacher.role != "teacher":
        raise invalid({"teacher_id": NO_TEACHER})


def check_time(start: datetime, end: datetime, now: datetime) -> None:
    """Raise BadRequest for a slot that is too short or too long, past, or too far ahead."""
    problems = {}
    if problem := _length_problem(end - start, "start_time"):
        problems["end_time"] = problem
    if start < now - PAST_TOLERANCE:
        problems["start_time"] = "must not be in the past"
    elif start > now + MAX_AHEAD:
        problems["start_time"] = f"must be at most {MAX_AHEAD.days} days ahead"
    if problems:
        raise invalid(problems)


def _length_problem(length: timedelta, start: str) -> str | None:
    if length < MIN_LENGTH:
        return f"must be at least {MIN_LENGTH // timedelta(minutes=1)} minutes after {start}"
    if length > MAX_LENGTH:
        return f"must be at most {MAX_LENGTH // timedelta(hours=1)} hours after {start}"
    return None


def spans_of(weekly: Weekly, now: datetime) -> Sequence[Span]:
    """The slots of a series from `now` on, in UTC.

    The clock on the wall counts: where it goes forward or back, the slot begins and ends when it shows those times,
    the first time where it shows one twice. A day on which it skips either has no slot.

    Raises BadRequest for a series that makes no sense, has no slot, or more than MAX_SERIES_SLOTS.
    """
    problems = {}
    if problem := timezone_problem(weekly.timezone):
        problems["weekly.timezone"] = problem
    end_on_the_wall = DAY if weekly.end == MIDNIGHT else _on_the_wall(weekly.end)
    if problem := _length_problem(end_on_the_wall - _on_the_wall(weekly.start), "start on the same day"):
        problems["weekly.end"] = problem
    if weekly.until > (now + MAX_AHEAD).date():
        problems["weekly.until"] = f"must be at most {MAX_AHEAD.days} days ahead"
    if problems:
        raise invalid(problems)
    zone = ZoneInfo(weekly.timezone)
    today = now.astimezone(zone).date()
    day = today + timedelta(days=(weekly.weekday - today.isoweekday()) % 7)
    spans = []
    while day <= weekly.until:
        last_day = day + DAY if weekly.end == MIDNIGHT else day
        start, end = moment_of(day, weekly.start, zone), moment_of(last_day, weekly.end, zone)
        if start is not None and end is not None and start >= now:
            spans.append((start, end))
        day += WEEK
    if not spans:
        raise invalid({"weekly.until": "leaves no slot from now on"})
    if len(spans) > MAX_SERIES_SLOTS:
        raise invalid({"weekly.until": f"makes {len(spans)} slots; a series has at most {MAX_SERIES_SLOTS}"})
    return spans


def _on_the_wall(wall: time) -> timedelta:
    return timedelta(hours=wall.hour, minutes=wall.minute)


def unknown_slot() -> NotFound:
    return NotFound("There is no such availability slot.", code="slot_not_found")


async def publish(pool: Pool, identity: Identity, teacher_id: str, start: datetime, end: datetime) -> UUID:
    """Offer one slot; its id.

    Raises Forbidden, BadRequest naming the fields, or Conflict `availability_overlaps`.
    """
    check_may_publish(identity, teacher_id)
    check_time(start, end, datetime.now(UTC))
    [slot] = await _publish(pool, identity, teacher_id, [(start, end)])
    return slot.id


async def publish_weekly(pool: Pool, identity: Identity, teacher_id: str, weekly: Weekly) -> Sequence[Slot]:
    """Offer a series, all of its slots or none. As :func:`publish`; the Conflict names each date that overlaps."""
    check_may_publish(identity, teacher_id)
    spans = spans_of(weekly, datetime.now(UTC))
    series = Series(
        id=uuid4(),
        weekday=weekly.weekday,
        starts=weekly.start,
        ends=weekly.end,
        timezone=weekly.timezone,
        until=weekly.until,
    )
    return await _publish(pool, identity, teacher_id, spans, series)


async def _publish(
    pool: Pool, identity: Identity, teacher_id: str, spans: Sequence[Span], series: Series | None = None
) -> Sequence[Slot]:
    check_teacher(await users.find(pool, teacher_id))
    named = [(uuid4(), span) for span in spans]
    with refusals_named(_REFUSALS), translated():
        async with pool.acquire() as connection, connection.transaction():
            await bookings.take_turns(connection, [teacher_id])
            if overlapping := await availability.starts_that_overlap(connection, teacher_id, spans):
                raise _overlaps(overlapping if series is not None else ())
            await availability.insert(connection, teacher_id=teacher_id, spans=named, series=series)
            if identity.is_admin:
                await _note(connection, identity, "availability_added", teacher_id, [slot_id for slot_id, _ in named])
            return await availability.found(connection, [slot_id for slot_id, _ in named])


async def delete(pool: Pool, identity: Identity, slot_id: UUID, *, with_rest: bool = False) -> int:
    """Take a free slot back; `with_rest` also the free ones of its series that follow and are not over yet.

    How many were deleted. Booked ones stay. Raises NotFound, Forbidden, or Conflict `slot_booked` where none was free.
    """
    slot = await availability.find(pool, slot_id)
    if slot is None:
        raise unknown_slot()
    check_may_publish(identity, slot.teacher_id)
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            await bookings.take_turns(connection, [slot.teacher_id])
            rest_after = datetime.now(UTC) if with_rest else None
            deleted = await availability.delete_free(connection, slot, rest_after=rest_after)
            if not deleted and await availability.find(connection, slot_id) is None:
                raise unknown_slot()  # somebody else was quicker
            if deleted:
                await _note(connection, identity, "availability_deleted", slot.teacher_id, deleted)
    if not deleted:
        raise Conflict("The slot is booked; cancel the booking first.", code="slot_booked")
    return len(deleted)


async def _note(
    connection: Connection, identity: Identity, action: Action, teacher_id: str, slot_ids: Sequence[UUID]
) -> None:
    """Write into the audit log what was done to a teacher's slots."""
    await audit.append(
        connection,
        actor_id=identity.user_id,
        action=action,
        subject=teacher_id,
        details={"slot_ids": slot_ids},
    )


def _overlaps(starts: Sequence[datetime] = ()) -> EncountersError:
    return Conflict(
        "The teacher has another availability slot at this time.",
        code="availability_overlaps",
        conflicts=[{"start_time": start, "error": "availability_overlaps"} for start in starts],
    )


#: Somebody may have been removed since they were looked up.
_REFUSALS: Final[Meanings] = {
    availability.SLOTS_APART: _overlaps,
    availability.TEACHER_EXISTS: lambda: invalid({"teacher_id": NO_TEACHER}),
    availability.SERIES_TEACHER_EXISTS: lambda: invalid({"teacher_id": NO_TEACHER}),
}
