"""People and lessons, put into the database as the doors would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final
from uuid import UUID, uuid4

from domain.access import Member
from domain.identity import Identity, Role
from store import bookings, content, courses, enrollments, files, live_sessions, sessions, users
from store.database import Pool, connect
from tests.support.recorder import WAIT_SECONDS

#: The people of a lesson, with those who may do nothing in it.
ROLES: Final[Mapping[str, Role]] = {
    "teach": "teacher",
    "kid": "student",
    "mum": "parent",  # the student's
    "gran": "parent",  # the booking's
    "boss": "admin",
    "teach2": "teacher",
    "kid2": "student",
    "mum2": "parent",
}
MEMBERS: Final = ("teach", "kid", "mum", "gran", "boss")
STRANGERS: Final = ("teach2", "kid2", "mum2")

#: Lessons lie one after the other, so that nobody is booked twice.
_hours = count(1)


@asynccontextmanager
async def database_pool(dsn: str, *, size: int = 10) -> AsyncIterator[Pool]:
    """A pool on a database in which these people are known."""
    pool = await connect(dsn, size=size)
    try:
        for user_id in ROLES:
            await users.upsert_from_token(pool, identity(user_id))
        await users.set_parent(pool, "kid", "mum")
        await users.set_parent(pool, "kid2", "mum2")
        yield pool
    finally:
        await pool.close()


def identity(user_id: str, role: Role | None = None) -> Identity:
    """The bearer of that person's token; their name is the id, capitalised."""
    return Identity(user_id=user_id, role=role or ROLES[user_id], first_name=user_id.capitalize())


async def book(
    pool: Pool,
    *,
    teacher: str = "teach",
    student: str = "kid",
    parent: str | None = "gran",
    status: bookings.Status = "pending",
) -> UUID:
    """A booking and its session, by their id. A `status` is the booking's alone: as it was made."""
    booking_id = uuid4()
    start = datetime.now(UTC) + timedelta(hours=next(_hours))
    async with pool.acquire() as connection, connection.transaction():
        await bookings.insert(
            connection,
            booking_id=booking_id,
            student_id=student,
            teacher_id=teacher,
            parent_id=parent,
            start_time=start,
            end_time=start + timedelta(minutes=50),
        )
        await sessions.create_for_booking(
            connection,
            booking_id=booking_id,
            host_id=teacher,
            starts_at=start,
        )
        if status != "pending":
            await connection.execute("UPDATE bookings SET status = $2 WHERE id = $1", booking_id, status)
    return booking_id


async def make_course(
    pool: Pool, *, instructor: str = "teach", title: str = "Algebra", students: Sequence[str] = ()
) -> UUID:
    """A course with these students, by its id."""
    course_id = uuid4()
    async with pool.acquire() as connection, connection.transaction():
        await courses.insert(connection, course_id=course_id, instructor_id=instructor, title=title, description="")
    await enroll(pool, course_id, *students)
    return course_id


async def enroll(pool: Pool, course_id: UUID, *students: str, tier: enrollments.Tier | None = None) -> None:
    """Have known people take part in a course."""
    async with pool.acquire() as connection, connection.transaction():
        await courses.locked(connection, course_id)
        for student in students:
            await enrollments.save(connection, course_id, student, tier=tier)


async def make_class(pool: Pool, number: int, *, max_participants: int | None = None) -> tuple[UUID, list[str]]:
    """A live class of `teach` with so many students, whom the database knows: its id, and theirs."""
    students = [f"student-{n:04}" for n in range(number)]
    await pool.execute(
        """
        INSERT INTO users (id, role, first_name)
        SELECT id, 'student', initcap(id) FROM unnest($1::text[]) AS i (id) ON CONFLICT DO NOTHING
        """,
        students,
    )
    course_id = await make_course(pool)
    await pool.execute(
        "INSERT INTO enrollments (course_id, user_id) SELECT $1, id FROM unnest($2::text[]) AS i (id)",
        course_id,
        students,
    )
    return await live_session(pool, course_id=course_id, max_participants=max_participants), students


async def live_session(
    pool: Pool,
    *,
    course_id: UUID | None = None,
    students: Sequence[str] = ("kid",),
    host: str = "teach",
    status: sessions.Status = "scheduled",
    max_participants: int | None = None,
    title: str = "",
) -> UUID:
    """A live class, by its id: of this course, or of one that the host makes for it with these students."""
    if course_id is None:
        course_id = await make_course(pool, instructor=host, students=students)
    session_id = uuid4()
    async with pool.acquire() as connection, connection.transaction():
        await live_sessions.insert(
            connection,
            session_id=session_id,
            course_id=course_id,
            host_id=host,
            title=title,
            starts_at=datetime.now(UTC) + timedelta(hours=next(_hours)),
            recording_enabled=False,
            max_participants=max_participants,
        )
        if status != "scheduled":
            await connection.execute(
                "UPDATE sessions SET status = $2, ends_at = CASE WHEN $2 = 'ended' THEN now() END WHERE id = $1",
                session_id,
                status,
            )
    return session_id


async def make_content(
    pool: Pool, course_id: UUID, *, author: str = "teach", access_level: content.AccessLevel = "enrolled_only"
) -> UUID:
    """A film of a course that can be watched, as far as the database knows, by its id."""
    content_id, file_id = uuid4(), uuid4()
    async with pool.acquire() as connection, connection.transaction():
        await files.insert(
            connection,
            file_id=file_id,
            key=f"content/{file_id}",
            owner_id=author,
            purpose="content",
            name="film.mp4",
            size=1000,
            course_id=course_id,
            details={},
        )
        await connection.execute("UPDATE files SET state = 'ready', mime = 'video/mp4' WHERE id = $1", file_id)
        await content.insert(
            connection,
            content_id=content_id,
            course_id=course_id,
            title="A film",
            description="",
            content_type="video",
            file_id=file_id,
            file_name="film.mp4",
            file_size=1000,
            mime_type="video/mp4",
            upload_status="processing",
            content_order=None,
            is_preview=False,
            access_level=access_level,
            created_by=author,
        )
        await content.finish(connection, file_id, status="completed", size=1000, seconds=60.0, failure=None)
    return content_id


async def close_chat(pool: Pool, session_id: UUID) -> None:
    """As the cancellation of its booking does."""
    await pool.execute("UPDATE sessions SET chat_open = false WHERE id = $1", session_id)


def member(session_id: UUID, user_id: str, *, is_host: bool | None = None) -> Member:
    """That person in the session, as if they had entered."""
    return Member(
        session_id=session_id,
        room_name="some-room",
        user_id=user_id,
        name=user_id.capitalize(),
        role=ROLES[user_id],
        is_host=user_id in ("teach", "boss") if is_host is None else is_host,
    )


async def until_somebody_waits(pool: Pool, statements: int = 1) -> None:
    """Return once so many statements on this database wait for others' locks."""
    async with asyncio.timeout(WAIT_SECONDS):
        while statements > await pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        ):
            pass
