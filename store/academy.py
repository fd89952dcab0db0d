"""A sample academy put into the database: courses, who is enrolled, and live classes with who attended them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from store.database import Connection
from store.school import SampleEntry, SamplePerson, add_entries


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleCourse:
    """A course, and its students with when they enrolled. The first of them have the tier `premium`."""

    id: UUID
    title: str
    description: str
    instructor: SamplePerson
    students: Sequence[SamplePerson]
    premium: int
    created_at: datetime
    topics: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleVisit:
    """Somebody was in a class from then to then; who came back has two of them, one after the other."""

    user_id: str
    joined_at: datetime
    left_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleClass:
    """A live class of a course, the entries of its log in their order, and who was there. `ended_at`: it is over."""

    id: UUID
    course_id: UUID
    host_id: str
    title: str
    room_name: str
    starts_at: datetime
    ended_at: datetime | None
    created_at: datetime
    max_participants: int
    entries: Sequence[SampleEntry] = ()
    visits: Sequence[SampleVisit] = ()


async def add_courses(connection: Connection, courses: Sequence[SampleCourse]) -> int:
    """Write the courses that are not known yet, with their students; how many that were. Inside a transaction."""
    rows = await connection.fetch(
        """
        INSERT INTO courses (id, instructor_id, title, description, created_at, updated_at)
        SELECT id, instructor_id, title, description, created_at, created_at
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
            AS i (id, instructor_id, title, description, created_at)
        ON CONFLICT DO NOTHING RETURNING id
        """,
        [course.id for course in courses],
        [course.instructor.id for course in courses],
        [course.title for course in courses],
        [course.description for course in courses],
        [course.created_at for course in courses],
    )
    written = {row["id"] for row in rows}
    enrolled = [
        (course.id, student.id, "premium" if place < course.premium else "standard", course.created_at)
        for course in courses
        if course.id in written
        for place, student in enumerate(course.students)
    ]
    await connection.execute(
        """
        INSERT INTO enrollments (course_id, user_id, tier, created_at)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[])
        """,
        [course_id for course_id, _, _, _ in enrolled],
        [user_id for _, user_id, _, _ in enrolled],
        [tier for _, _, tier, _ in enrolled],
        [created_at for _, _, _, created_at in enrolled],
    )
    return len(written)


async def add_classes(connection: Connection, classes: Sequence[SampleClass]) -> list[SampleClass]:
    """Write the classes that are not known yet. Answers them. Inside a transaction."""
    rows = await connection.fetch(
        """
        INSERT INTO sessions (
            id, kind, course_id, room_name, title, host_id, status, starts_at, ends_at, last_seq, max_participants,
            created_at, updated_at
        )
        SELECT id, 'course', course_id, room_name, title, host_id, CASE WHEN ends_at IS NULL THEN 'scheduled' ELSE
            'ended' END, starts_at, ends_at, last_seq, max_participants, created_at, coalesce(ends_at, created_at)
        FROM unnest(
            $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[],
            $8::bigint[], $9::integer[], $10::timestamptz[]
        ) AS i (
            id, course_id, room_name, title, host_id, starts_at, ends_at, last_seq, max_participants, created_at
        )
        ON CONFLICT DO NOTHING RETURNING id
        """,
        [one.id for one in classes],
        [one.course_id for one in classes],
        [one.room_name for one in classes],
        [one.title for one in classes],
        [one.host_id for one in classes],
        [one.starts_at for one in classes],
        [one.ended_at for one in classes],
        [len(one.entries) for one in classes],
        [one.max_participants for one in classes],
        [one.created_at for one in classes],
    )
    written = {row["id"] for row in rows}
    new = [one for one in classes if one.id in written]
    await _add_visits(connection, [(one.id, visit) for one in new for visit in one.visits])
    await add_entries(connection, [(one.id, one.entries) for one in new])
    return new


async def _add_visits(connection: Connection, visits: Sequence[tuple[UUID, SampleVisit]]) -> None:
    """Write who was in which session. The worker that they came through is none that ever was: all have left."""
    columns = (
        [session_id for session_id, _ in visits],
        [visit.user_id for _, visit in visits],
        [visit.joined_at for _, visit in visits],
        [visit.left_at for _, visit in visits],
    )
    await connection.execute(
        """
        INSERT INTO session_participants (session_id, user_id, joined_at, left_at, presence_version)
        SELECT session_id, user_id, min(joined_at), max(left_at), 2 * count(*)
        FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[])
            AS i (session_id, user_id, joined_at, left_at)
        GROUP BY session_id, user_id
        """,
        *columns,
    )
    await connection.execute(
        """
        INSERT INTO session_visits (session_id, user_id, worker_id, joined_at, left_at)
        SELECT session_id, user_id, session_id, joined_at, left_at
        FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[])
            AS i (session_id, user_id, joined_at, left_at)
        """,
        *columns,
    )
