"""The demo's people and their lesson, for trying the server without anything else around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from domain.identity import Identity, Role, full_name
from store import bookings, sessions, users
from store.database import Pool
from store.errors import translated
from store.sessions import Session

TEACHER: Final = "demo-teacher"
STUDENT: Final = "demo-student"
PARENT: Final = "demo-parent"
ADMIN: Final = "demo-admin"

LESSON_TITLE: Final = "Algebra: linear equations"
LESSON_LENGTH: Final = timedelta(hours=1)
#: Lessons that the sign-in page offers, newest first.
MAX_LESSONS: Final = 5
#: Among which one that is still to be ended is looked for: more than anybody books in a demo.
MAX_LESSONS_LOOKED_AT: Final = 1000


def _person(user_id: str, role: Role, first_name: str, last_name: str) -> Identity:
    email = f"{first_name.lower()}@demo.invalid"
    return Identity(user_id=user_id, role=role, first_name=first_name, last_name=last_name, email=email)


PEOPLE: Final[Sequence[Identity]] = (
    _person(TEACHER, "teacher", "Maya", "Okafor"),
    _person(STUDENT, "student", "Leo", "Brandt"),
    _person(PARENT, "parent", "Nina", "Brandt"),
    _person(ADMIN, "admin", "Sam", "Office"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """What the sign-in page shows of a lesson."""

    session_id: UUID
    room_name: str
    title: str
    starts_at: datetime
    ends_at: datetime | None
    status: str


async def prepare(pool: Pool, now: datetime | None = None) -> Lesson:
    """Make the demo's people, and a lesson of this hour unless one is still to be ended. Answers the lesson."""
    now = now or datetime.now(UTC)
    for person in PEOPLE:
        await users.upsert_from_token(pool, person)
    await users.set_parent(pool, STUDENT, PARENT)
    starts_at = now.replace(minute=0, second=0, microsecond=0)
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            # Servers that start at once make one lesson.
            await bookings.take_turns(connection, [STUDENT, TEACHER])
            for session in await sessions.hosted_by(connection, TEACHER, limit=MAX_LESSONS_LOOKED_AT):
                if session.status != "ended":
                    return _lesson(session)
            booking_id = uuid4()
            await bookings.insert(
                connection,
                booking_id=booking_id,
                student_id=STUDENT,
                teacher_id=TEACHER,
                parent_id=PARENT,
                start_time=starts_at,
                end_time=starts_at + LESSON_LENGTH,
            )
            await sessions.create_for_booking(
                connection,
                booking_id=booking_id,
                host_id=TEACHER,
                starts_at=starts_at,
                title=LESSON_TITLE,
            )
            made = await sessions.find(connection, booking_id)
    assert made is not None, "it was made just now"
    return _lesson(made)


async def lessons(pool: Pool) -> list[Lesson]:
    """The demo's lessons, newest first."""
    return [_lesson(session) for session in await sessions.hosted_by(pool, TEACHER, limit=MAX_LESSONS)]


def person(user_id: str) -> Identity | None:
    return next((one for one in PEOPLE if one.user_id == user_id), None)


def person_document(identity: Identity) -> dict[str, Any]:
    name = full_name(identity.first_name, identity.last_name)
    return {"user_id": identity.user_id, "name": name, "role": identity.role}


def _lesson(session: Session) -> Lesson:
    return Lesson(
        session_id=session.id,
        room_name=session.room_name,
        title=session.title,
        starts_at=session.starts_at,
        ends_at=session.end_time or session.ends_at,
        status=session.status,
    )
