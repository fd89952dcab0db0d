"""Slots, bookings and their sessions against a model in memory: any sequence of acts, whoever does them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Final, Literal, cast
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from domain import availability, bookings, sessions
from domain.access import Member
from domain.availability import Weekly
from domain.booking_rules import NO_NOTICE, BookingChange, NewBooking, Repeat, Side
from domain.errors import EncountersError
from domain.identity import Identity
from domain.live import Live
from store import availability as slot_store
from store.bookings import Status
from store.database import Pool
from store.sessions import Status as SessionStatus
from tests.support.lessons import database_pool, identity
from tests.support.rooms import workers

HOUR: Final = timedelta(hours=1)
WEEK_HOURS: Final = 7 * 24
#: What the hours of the model count from: a noon that does not become past while a test runs.
BASE: Final = (datetime.now(UTC) + timedelta(days=10)).replace(hour=12, minute=0, second=0, microsecond=0)
#: Weeks of a series around BASE: one lies before it, in which nobody but the series offers anything.
SERIES_WEEKS: Final = (-1, 0, 1)
#: With a notice, the family changes nothing that starts at this hour or earlier any more.
NOTICE_HOUR: Final = 4

#: What a booking may become, by the teacher's word or an administrator's; the family cancels, and no more.
BECOMES: Final[Mapping[Status, frozenset[Status]]] = {
    "pending": frozenset({"confirmed", "completed", "cancelled"}),
    "confirmed": frozenset({"completed", "cancelled"}),
    "completed": frozenset(),
    "cancelled": frozenset(),
}

Hours = tuple[int, int]
Act = Literal["offer", "weekly", "delete", "book", "confirmed", "completed", "cancelled", "move", "live", "ended"]


def overlap(one: Hours, other: Hours) -> bool:
    return one[0] < other[1] and other[0] < one[1]


@dataclass(frozen=True, slots=True)
class Offered:
    """A slot of the model."""

    teacher: str
    hours: Hours
    series: int | None = None


@dataclass(slots=True)
class Held:
    """A booking of the model, and its session's status."""

    student: str
    teacher: str
    hours: Hours
    status: Status = "pending"
    session: SessionStatus = "scheduled"


@dataclass(slots=True)
class Model:
    """What ought to be, in whole hours from BASE. Each act answers the code of its refusal, or None and does it."""

    slots: dict[UUID, Offered] = field(default_factory=dict)
    bookings: dict[UUID, Held] = field(default_factory=dict)

    def is_booked(self, slot: Offered, besides: UUID | None = None) -> bool:
        return any(
            held.teacher == slot.teacher and held.status != "cancelled" and overlap(held.hours, slot.hours)
            for key, held in self.bookings.items()
            if key != besides
        )

    def overlaps(self, teacher: str, spans: Iterable[Hours]) -> str | None:
        offered = [slot.hours for slot in self.slots.values() if slot.teacher == teacher]
        return "availability_overlaps" if any(overlap(span, slot) for span in spans for slot in offered) else None

    def delete(self, slot_id: UUID, *, with_rest: bool) -> str | None:
        slot = self.slots.get(slot_id)
        if slot is None:
            return "slot_not_found"
        named = {slot_id}
        if with_rest and slot.series is not None:
            named |= {
                key
                for key, other in self.slots.items()
                if other.series == slot.series and other.hours[0] >= slot.hours[0]
            }
        free = [key for key in named if not self.is_booked(self.slots[key])]
        for key in free:
            del self.slots[key]
        return None if free else "slot_booked"

    def obstacle(self, student: str, teacher: str, span: Hours, besides: UUID | None = None) -> str | None:
        for key, held in self.bookings.items():
            concerns = key != besides and (held.student == student or held.teacher == teacher)
            if concerns and held.status in ("pending", "confirmed") and overlap(held.hours, span):
                return "slot_taken"
        offered = [slot for slot in self.slots.values() if slot.teacher == teacher]
        around = [slot for slot in offered if slot.hours[0] <= span[0] and span[1] <= slot.hours[1]]
        if offered and all(self.is_booked(slot, besides) for slot in around):
            return "not_available"
        return None

    def becomes(self, booking_id: UUID, side: Side, wanted: Status, *, with_notice: bool) -> str | None:
        held = self.bookings.get(booking_id)
        if held is None:
            return "booking_not_found"
        if side == "family" and wanted != "cancelled":
            return "forbidden"
        if wanted == held.status:
            return None
        if wanted not in BECOMES[held.status]:
            return "invalid_transition"
        if side == "family" and with_notice and held.hours[0] <= NOTICE_HOUR:
            return "too_late"
        held.status = wanted
        if wanted in ("completed", "cancelled"):
            held.session = "ended"
        return None

    def move(self, booking_id: UUID, side: Side, span: Hours, *, with_notice: bool) -> str | None:
        held = self.bookings.get(booking_id)
        if held is None:
            return "booking_not_found"
        if held.status in ("completed", "cancelled"):
            return "invalid_transition"
        if span == held.hours:
            return None
        if held.session != "scheduled":
            return "session_started"
        if side == "family" and with_notice and held.hours[0] <= NOTICE_HOUR:
            return "too_late"
        obstacle = self.obstacle(held.student, held.teacher, span, besides=booking_id)
        if obstacle is None:
            held.hours, held.status = span, "pending"
        return obstacle

    def session(self, booking_id: UUID, side: Side, wanted: SessionStatus) -> str | None:
        held = self.bookings[booking_id]
        if side == "family":
            return "not_host"
        if held.session == "ended" and wanted == "live":
            return "invalid_transition"
        held.session = wanted
        if wanted == "ended" and held.status != "cancelled":
            held.status = "completed"
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One act: of this teacher and student (0 or 1), at these hours, on the slot or booking of that `number`."""

    act: Act
    teacher: int
    student: int
    hours: Hours
    number: int
    side: Side
    weeks: int
    with_rest: bool
    with_notice: bool


# What makes and what changes bookings is drawn equally often, so that there is something to change.
steps: st.SearchStrategy[list[Step]] = st.lists(
    st.builds(
        Step,
        act=st.sampled_from(
            (
                *("offer", "offer", "weekly", "delete", "book", "book", "book", "book"),
                *("confirmed", "completed", "cancelled", "move", "move", "live", "live", "ended"),
            )
        ),
        teacher=st.integers(0, 1),
        student=st.integers(0, 1),
        # To the midnight after BASE, at which a weekly slot may end.
        hours=st.tuples(st.integers(0, 9), st.integers(1, 3)).map(lambda span: (span[0], span[0] + span[1])),
        # Few of them, so that several things are done to the same one.
        number=st.integers(0, 3),
        side=st.sampled_from(("family", "teacher", "admin")),
        weeks=st.sampled_from((1, 1, 2, 3)),
        with_rest=st.booleans(),
        with_notice=st.booleans(),
    ),
    min_size=1,
    max_size=25,
)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture
async def live(pool: Pool) -> AsyncIterator[Live]:
    async with workers(pool, 1) as (live,):
        yield live


def at(hour: int) -> datetime:
    return BASE + hour * HOUR


def wall(hour: int) -> time:
    return at(hour).time()


def one_of(known: Iterable[UUID], number: int) -> UUID:
    """One that is known, or at times one that is not."""
    listed = list(known)
    return listed[number % len(listed)] if listed and number else uuid4()


async def outcome(act: Awaitable[object]) -> tuple[str | None, object]:
    """The code of the refusal, or what was answered."""
    try:
        return None, await act
    except EncountersError as error:
        return error.code, None


class School:
    """Two teachers and two students of an example's own, their acts, and what the model says to them."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.model = Model()
        key = uuid4().hex
        self.teachers = [Identity(user_id=f"t{number}-{key}", role="teacher") for number in range(2)]
        self.students = [Identity(user_id=f"s{number}-{key}", role="student") for number in range(2)]
        self._series = 0

    async def open(self) -> None:
        people = [*self.teachers, *self.students]
        await self.live.pool.execute(
            "INSERT INTO users (id, role) SELECT * FROM unnest($1::text[], $2::text[])",
            [person.user_id for person in people],
            [person.role for person in people],
        )

    async def act(self, step: Step) -> None:
        """Do it, and see that it came out as the model says."""
        match step.act:
            case "offer" | "weekly":
                await self._offer(step)
            case "delete":
                await self._delete(step)
            case "book":
                await self._book(step)
            case "live" | "ended":
                await self._move_session(step, step.act)
            case _:
                await self._change(step)
        await self._compare()

    async def _offer(self, step: Step) -> None:
        teacher = self.teachers[step.teacher]
        start, end = step.hours
        if step.act == "offer":
            spans = [step.hours]
            act: Awaitable[object] = availability.publish(self.live.pool, teacher, teacher.user_id, at(start), at(end))
            series = None
        else:
            spans = [(start + week * WEEK_HOURS, end + week * WEEK_HOURS) for week in SERIES_WEEKS]
            weekly = Weekly(
                weekday=BASE.isoweekday(),
                start=wall(start),
                end=wall(end),
                timezone="UTC",
                until=(BASE + SERIES_WEEKS[-1] * WEEK_HOURS * HOUR).date(),
            )
            act = availability.publish_weekly(self.live.pool, teacher, teacher.user_id, weekly)
            self._series += 1
            series = self._series
        expected = self.model.overlaps(teacher.user_id, spans)
        code, made = await outcome(act)
        assert code == expected, step
        if code is None:
            ids = [made] if series is None else [slot.id for slot in cast(Sequence[slot_store.Slot], made)]
            for slot_id, span in zip(ids, spans, strict=True):
                self.model.slots[cast(UUID, slot_id)] = Offered(teacher.user_id, span, series)

    async def _delete(self, step: Step) -> None:
        slot_id = one_of(self.model.slots, step.number)
        offered = self.model.slots.get(slot_id)
        teacher = self.teachers[0] if offered is None else self._known(offered.teacher)
        before = len(self.model.slots)
        expected = self.model.delete(slot_id, with_rest=step.with_rest)
        code, deleted = await outcome(availability.delete(self.live.pool, teacher, slot_id, with_rest=step.with_rest))
        assert code == expected, step
        assert code is not None or deleted == before - len(self.model.slots)

    async def _book(self, step: Step) -> None:
        student, teacher = self.students[step.student], self.teachers[step.teacher]
        start, end = step.hours
        new = NewBooking(student_id=student.user_id, teacher_id=teacher.user_id, start_time=at(start), end_time=at(end))
        spans = [(start + week * WEEK_HOURS, end + week * WEEK_HOURS) for week in range(step.weeks)]
        found = [self.model.obstacle(student.user_id, teacher.user_id, span) for span in spans]
        expected = next((obstacle for obstacle in found if obstacle is not None), None)
        repeat = Repeat(weeks=step.weeks, timezone="UTC")
        code, made = await outcome(bookings.book_weekly(self.live, student, new, repeat))
        assert code == expected, step
        if code is None:
            for booking_id, span in zip(cast(Sequence[UUID], made), spans, strict=True):
                self.model.bookings[booking_id] = Held(student.user_id, teacher.user_id, span)

    async def _change(self, step: Step) -> None:
        booking_id = one_of(self.model.bookings, step.number)
        notice = NO_NOTICE
        if step.with_notice:
            notice = at(NOTICE_HOUR) + HOUR / 2 - datetime.now(UTC)
        if step.act == "move":
            change = BookingChange(start_time=at(step.hours[0]), end_time=at(step.hours[1]))
            expected = self.model.move(booking_id, step.side, step.hours, with_notice=step.with_notice)
        else:
            wanted = cast(Status, step.act)
            change = BookingChange(status=wanted)
            expected = self.model.becomes(booking_id, step.side, wanted, with_notice=step.with_notice)
        someone = self._speaking(booking_id, step.side)
        code, _ = await outcome(bookings.change(self.live, someone, booking_id, change, cancel_notice=notice))
        assert code == expected, step

    async def _move_session(self, step: Step, wanted: SessionStatus) -> None:
        if not self.model.bookings:
            return
        booking_id = one_of(self.model.bookings, step.number or 1)
        someone = self._speaking(booking_id, step.side)
        member = Member(
            session_id=booking_id,
            room_name="some-room",
            user_id=someone.user_id,
            name="",
            role=someone.role,
            is_host=step.side != "family",
        )
        expected = self.model.session(booking_id, step.side, wanted)
        code, _ = await outcome(sessions.move(self.live, member, wanted))
        assert code == expected, step

    def _speaking(self, booking_id: UUID, side: Side) -> Identity:
        held = self.model.bookings.get(booking_id)
        if held is None or side == "admin":
            return identity("boss")
        return self._known(held.student if side == "family" else held.teacher)

    def _known(self, user_id: str) -> Identity:
        return next(person for person in (*self.teachers, *self.students) if person.user_id == user_id)

    async def _compare(self) -> None:
        """What stands in the database is what the model has."""
        shown: dict[UUID, tuple[datetime, datetime, bool]] = {}
        for teacher in self.teachers:
            listed = await slot_store.listed(self.live.pool, teacher_id=teacher.user_id, limit=1000)
            shown |= {slot.id: (slot.start_time, slot.end_time, slot.is_booked) for slot in listed}
        assert shown == {
            key: (at(slot.hours[0]), at(slot.hours[1]), self.model.is_booked(slot))
            for key, slot in self.model.slots.items()
        }
        rows = await self.live.pool.fetch(
            """
            SELECT b.id, b.start_time, b.end_time, b.status, s.status AS session, s.starts_at, s.chat_open
            FROM bookings b JOIN sessions s ON s.id = b.id WHERE b.student_id = ANY($1::text[])
            """,
            [student.user_id for student in self.students],
        )
        assert {row["id"]: tuple(row.values())[1:] for row in rows} == {
            key: (
                *(at(held.hours[0]), at(held.hours[1]), held.status, held.session),
                *(at(held.hours[0]), held.status != "cancelled"),
            )
            for key, held in self.model.bookings.items()
        }


def step(act: Act, hours: Hours = (2, 3), side: Side = "teacher") -> Step:
    """An act of the first teacher, on the first booking."""
    return Step(
        act=act,
        teacher=0,
        student=0,
        hours=hours,
        number=1,
        side=side,
        weeks=1,
        with_rest=False,
        with_notice=False,
    )


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(sequence=steps)
@example(sequence=[step("book"), step("live"), step("move", (5, 6))])
@example(sequence=[step("book"), step("completed", side="family"), step("completed"), step("ended")])
@example(sequence=[step("offer", (2, 5)), step("book"), step("completed"), step("book", (3, 4)), step("delete")])
async def test_any_sequence_of_acts_does_what_the_model_says(live: Live, sequence: Sequence[Step]) -> None:
    school = School(live)
    await school.open()
    for step in sequence:
        await school.act(step)
