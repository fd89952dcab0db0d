"""Courses: who makes and edits them, who is enrolled, and who sees what of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

from domain.errors import BadRequest, Forbidden, NotFound, invalid
from domain.identity import Identity
from domain.live import Live
from store import audit, courses, enrollments, tellings, users
from store.courses import Course
from store.database import Executor, Pool
from store.enrollments import Enrollment, Tier
from store.errors import Refused, translated
from store.users import User

#: Characters of a title: one line in a list; the database holds both bounds.
MAX_TITLE_CHARACTERS: Final = 200
#: Characters of a description: a few pages.
MAX_DESCRIPTION_CHARACTERS: Final = 10_000

_NO_TEACHER: Final = {"instructor_id": "is not the id of a known teacher"}
_NO_STUDENT: Final = {"user_id": "is not the id of a known student"}


@dataclass(frozen=True, kw_only=True, slots=True)
class CourseChange:
    """What is changed of a course; None leaves it as it is."""

    title: str | None = None
    description: str | None = None
    instructor_id: str | None = None


# Rules


def check_may_make(identity: Identity, instructor_id: str) -> None:
    """Raise Forbidden unless the identity may make a course that `instructor_id` gives: a teacher their own, an admin
    anybody's."""
    if identity.is_admin or (identity.role == "teacher" and identity.user_id == instructor_id):
        return
    if identity.role == "teacher":
        raise Forbidden("A teacher makes courses of their own.")
    raise Forbidden("Only a teacher makes courses.")


def gives(course: Course, identity: Identity) -> bool:
    """Whether the identity may do with a course what its instructor may: they, with a teacher's token, and admins."""
    return identity.is_admin or (identity.user_id == course.instructor_id and identity.role == "teacher")


def require_instructor(course: Course, identity: Identity) -> None:
    if not gives(course, identity):
        raise Forbidden("Only the course's instructor may do this.", code="not_instructor")


def check_may_enroll(course: Course, identity: Identity, student_id: str, student: User | None) -> None:
    """Raise Forbidden unless the identity may enrol this person, or end their enrolment: the student themself, their
    parent, and whoever gives the course. `student` is the person called `student_id`, if known."""
    if gives(course, identity) or (identity.role == "student" and identity.user_id == student_id):
        return
    if identity.role == "parent" and student is not None and student.parent_id == identity.user_id:
        return
    raise Forbidden("Only the student, their parent, the instructor or an administrator may do this.")


def check_tier(course: Course, identity: Identity, tier: Tier | None) -> None:
    """Raise Forbidden for a tier that somebody else than the instructor or an admin sets."""
    if tier is not None and not gives(course, identity):
        raise Forbidden("Only the instructor or an administrator sets the tier.", code="not_instructor")


def checked_title(title: str) -> str:
    """A title without white space at its ends. Raises BadRequest for none, and for one that is too long."""
    title = title.strip()
    if not 1 <= len(title) <= MAX_TITLE_CHARACTERS:
        raise invalid({"title": f"must have 1 to {MAX_TITLE_CHARACTERS} characters"})
    return title


def unknown_course() -> NotFound:
    return NotFound("There is no such course.", code="course_not_found")


def unknown_enrollment() -> NotFound:
    return NotFound("This person is not enrolled in the course.", code="enrollment_not_found")


# Courses


async def read(executor: Executor, course_id: UUID) -> Course:
    """The course. Raises NotFound."""
    course = await courses.find(executor, course_id)
    if course is None:
        raise unknown_course()
    return course


async def read_as_participant(executor: Executor, identity: Identity, course_id: UUID) -> Course:
    """The course, for those who take part in it: its instructor, the enrolled, admins. Raises NotFound, Forbidden."""
    course = await read(executor, course_id)
    if identity.is_admin or identity.user_id == course.instructor_id:
        return course
    if await enrollments.find(executor, course_id, identity.user_id) is None:
        raise Forbidden("Only its instructor and those who are enrolled may see this of a course.", code="not_enrolled")
    return course


async def make(pool: Pool, identity: Identity, *, title: str, description: str, instructor_id: str | None) -> Course:
    """Make a course; without an instructor, one's own. Raises Forbidden, BadRequest."""
    instructor_id = instructor_id or identity.user_id
    check_may_make(identity, instructor_id)
    title = checked_title(title)
    if instructor_id != identity.user_id:
        _check_teacher(await users.find(pool, instructor_id))
    try:
        with translated():
            async with pool.acquire() as connection, connection.transaction():
                return await courses.insert(
                    connection,
                    course_id=uuid4(),
                    instructor_id=instructor_id,
                    title=title,
                    description=description,
                )
    except Refused as refused:
        raise _said_plainly(refused) from refused


async def change(live: Live, identity: Identity, course_id: UUID, wanted: CourseChange) -> Course:
    """Change what is given of a course; its instructor may, and an admin, who may also hand it to another teacher.

    What others do stands in the audit log. Raises NotFound, Forbidden, BadRequest.
    """
    pool = live.pool
    require_instructor(await read(pool, course_id), identity)
    if wanted == CourseChange():
        raise BadRequest("Say what to change: title, description or instructor_id.", code="nothing_to_change")
    title = None if wanted.title is None else checked_title(wanted.title)
    try:
        with translated():
            async with pool.acquire() as connection, connection.transaction():
                before = await courses.locked(connection, course_id)
                if before is None:
                    raise unknown_course()
                require_instructor(before, identity)
                if wanted.instructor_id is not None and wanted.instructor_id != before.instructor_id:
                    if not identity.is_admin:
                        raise Forbidden("Only an administrator hands a course to another teacher.")
                    _check_teacher(await users.find(connection, wanted.instructor_id))
                after = await courses.save(
                    connection,
                    course_id,
                    title=title,
                    description=wanted.description,
                    instructor_id=wanted.instructor_id,
                )
                if identity.user_id != before.instructor_id:
                    await audit.append(
                        connection,
                        actor_id=identity.user_id,
                        action="course_changed",
                        subject=before.instructor_id,
                        details={"course_id": course_id, "instructor_id": after.instructor_id},
                    )
    except Refused as refused:
        raise _said_plainly(refused) from refused
    if after.instructor_id != before.instructor_id:
        live.audience.changed({before.instructor_id, after.instructor_id})
    return after


# Enrolments


async def enroll(
    pool: Pool, identity: Identity, course_id: UUID, *, student_id: str | None, tier: Tier | None
) -> tuple[Enrollment, bool]:
    """Enrol a student, oneself by default: the enrolment, and whether it is new. Again: it takes another tier at most.

    Raises NotFound, Forbidden, BadRequest.
    """
    course = await read(pool, course_id)
    if student_id is None and identity.role == "parent":
        raise invalid({"user_id": "is required: name your child"})
    student_id = student_id or identity.user_id
    student = await users.find(pool, student_id)
    check_may_enroll(course, identity, student_id, student)
    check_tier(course, identity, tier)
    if student is None or student.role != "student":
        raise invalid(_NO_STUDENT)
    try:
        with translated():
            async with pool.acquire() as connection, connection.transaction():
                held = await courses.locked(connection, course_id)
                if held is None:
                    raise unknown_course()
                check_may_enroll(held, identity, student_id, student)  # the course may have changed hands
                check_tier(held, identity, tier)
                enrollment, is_new = await enrollments.save(connection, course_id, student_id, tier=tier)
                if is_new and identity.user_id != student_id:
                    await audit.append(
                        connection,
                        actor_id=identity.user_id,
                        action="student_enrolled",
                        subject=student_id,
                        details={"course_id": course_id, "tier": enrollment.tier},
                    )
    except Refused as refused:
        raise _said_plainly(refused) from refused
    return enrollment, is_new


async def end_enrollment(live: Live, identity: Identity, course_id: UUID, student_id: str) -> None:
    """Take a student out of a course, and out of its sessions wherever they are in one. Raises NotFound, Forbidden."""
    pool = live.pool
    course = await read(pool, course_id)
    student = await users.find(pool, student_id)
    check_may_enroll(course, identity, student_id, student)
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            held = await courses.locked(connection, course_id)
            if held is None:
                raise unknown_course()
            check_may_enroll(held, identity, student_id, student)
            if not await enrollments.delete(connection, course_id, student_id):
                raise unknown_enrollment()
            await tellings.add_of_course(connection, course_id, student_id)
            if identity.user_id != student_id:
                await audit.append(
                    connection,
                    actor_id=identity.user_id,
                    action="enrollment_ended",
                    subject=student_id,
                    details={"course_id": course_id},
                )
    live.audience.changed([student_id])
    live.people_to_tell()


def _check_teacher(teacher: User | None) -> None:
    if teacher is None or teacher.role not in ("teacher", "admin"):
        raise invalid(_NO_TEACHER)


def _said_plainly(refused: Refused) -> Exception:
    """Somebody may have been removed since they were looked up."""
    if refused.constraint == courses.INSTRUCTOR_EXISTS:
        return invalid(_NO_TEACHER)
    if refused.constraint == enrollments.USER_EXISTS:
        return invalid(_NO_STUDENT)
    return refused
