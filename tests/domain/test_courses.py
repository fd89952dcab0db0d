"""Who makes and edits courses, and who is enrolled in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from domain import courses
from domain.courses import CourseChange
from domain.errors import BadRequest, Forbidden, NotFound
from domain.identity import Role
from domain.live import Live
from store import courses as store
from store import enrollments, users
from store.courses import Course
from store.database import Pool
from store.enrollments import Tier
from store.users import User
from tests.support.lessons import database_pool, identity, make_course
from tests.support.rooms import Seat, workers

NOW = datetime(2030, 1, 1, tzinfo=UTC)
COURSE = Course(
    id=UUID(int=1),
    instructor_id="teach",
    title="Algebra",
    description="",
    enrollment_count=0,
    created_at=NOW,
    updated_at=NOW,
)


def student(user_id: str = "kid", parent_id: str | None = "mum") -> User:
    return User(
        id=user_id,
        role="student",
        first_name="",
        last_name="",
        email=None,
        bio="",
        topics=[],
        subjects=[],
        timezone="UTC",
        parent_id=parent_id,
        parent_accepted=False,
        name_set=False,
        email_set=False,
        created_at=NOW,
        updated_at=NOW,
    )


@pytest.mark.parametrize(
    ("who", "role", "whose", "may"),
    [
        ("teach", "teacher", "teach", True),
        ("teach", "teacher", "teach2", False),
        ("boss", "admin", "teach", True),
        ("boss", "admin", "boss", True),
        ("kid", "student", "kid", False),
        ("mum", "parent", "mum", False),
        ("teach", "student", "teach", False),
    ],
)
def test_who_makes_a_course(who: str, role: Role, whose: str, may: bool) -> None:
    if may:
        courses.check_may_make(identity(who, role), whose)
        return
    with pytest.raises(Forbidden):
        courses.check_may_make(identity(who, role), whose)


@pytest.mark.parametrize(
    ("who", "role", "may"),
    [
        ("kid", "student", True),
        ("kid", "teacher", False),  # with a token that says otherwise
        ("mum", "parent", True),
        ("mum", "student", False),
        ("mum2", "parent", False),
        ("gran", "parent", False),
        ("teach", "teacher", True),
        ("teach", "student", False),
        ("teach2", "teacher", False),
        ("kid2", "student", False),
        ("boss", "admin", True),
    ],
)
def test_who_enrols_a_student(who: str, role: Role, may: bool) -> None:
    if may:
        courses.check_may_enroll(COURSE, identity(who, role), "kid", student())
        return
    with pytest.raises(Forbidden):
        courses.check_may_enroll(COURSE, identity(who, role), "kid", student())


def test_nobody_is_the_parent_of_somebody_unknown() -> None:
    with pytest.raises(Forbidden):
        courses.check_may_enroll(COURSE, identity("mum"), "nobody", None)


@pytest.mark.parametrize("who", ["kid", "mum", "teach2"])
def test_only_the_instructor_and_an_admin_set_the_tier(who: str) -> None:
    courses.check_tier(COURSE, identity(who), None)
    tiers: list[Tier] = ["standard", "premium"]
    for tier in tiers:
        with pytest.raises(Forbidden):
            courses.check_tier(COURSE, identity(who), tier)
        for allowed in ("teach", "boss"):
            courses.check_tier(COURSE, identity(allowed), tier)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture
async def live(pool: Pool) -> AsyncIterator[Live]:
    async with workers(pool, 1) as (live,):
        yield live


async def audited(pool: Pool) -> list[tuple[str, str, str]]:
    rows = await pool.fetch("SELECT actor_id, action, subject FROM audit_log ORDER BY id")
    return [(row["actor_id"], row["action"], row["subject"]) for row in rows]


async def test_an_admin_makes_a_course_for_a_teacher(pool: Pool) -> None:
    made = await courses.make(pool, identity("boss"), title=" Algebra ", description="", instructor_id="teach")
    assert (made.title, made.instructor_id) == ("Algebra", "teach")
    for nobody in ("kid", "nobody"):
        with pytest.raises(BadRequest) as refusal:
            await courses.make(pool, identity("boss"), title="X", description="", instructor_id=nobody)
        assert list(refusal.value.fields or {}) == ["instructor_id"]
    assert await pool.fetchval("SELECT count(*) FROM courses") == 1


async def test_an_admin_hands_a_course_over_and_both_are_looked_at_again(live: Live) -> None:
    course_id = await make_course(live.pool)
    with pytest.raises(Forbidden):
        await courses.change(live, identity("teach"), course_id, CourseChange(instructor_id="teach2"))
    after = await courses.change(live, identity("boss"), course_id, CourseChange(instructor_id="teach2"))
    assert after.instructor_id == "teach2"
    with pytest.raises(Forbidden):
        await courses.change(live, identity("teach"), course_id, CourseChange(title="Mine"))
    with pytest.raises(BadRequest):
        await courses.change(live, identity("boss"), course_id, CourseChange(instructor_id="kid"))
    assert await audited(live.pool) == [("boss", "course_changed", "teach")]


async def test_its_instructor_changes_a_course_and_nothing_is_audited(live: Live) -> None:
    course_id = await make_course(live.pool)
    change = CourseChange(title="Geometry", description="Lines", instructor_id="teach")
    after = await courses.change(live, identity("teach"), course_id, change)
    assert (after.title, after.description, after.instructor_id) == ("Geometry", "Lines", "teach")
    with pytest.raises(BadRequest) as refusal:
        await courses.change(live, identity("teach"), course_id, CourseChange())
    assert refusal.value.code == "nothing_to_change"
    with pytest.raises(NotFound):
        await courses.change(live, identity("teach"), uuid4(), change)
    assert await audited(live.pool) == []


async def test_a_student_enrols_once_and_again_is_no_error(pool: Pool) -> None:
    course_id = await make_course(pool)
    for is_new in (True, False):
        enrollment, new = await courses.enroll(pool, identity("kid"), course_id, student_id=None, tier=None)
        assert (enrollment.user_id, enrollment.tier, new) == ("kid", "standard", is_new)
    assert await audited(pool) == []


async def test_a_parent_enrols_their_child_and_nobody_elses(pool: Pool) -> None:
    course_id = await make_course(pool)
    _, new = await courses.enroll(pool, identity("mum"), course_id, student_id="kid", tier=None)
    assert new
    for other in ("kid2", "nobody", "mum"):
        with pytest.raises(Forbidden):
            await courses.enroll(pool, identity("mum"), course_id, student_id=other, tier=None)
    with pytest.raises(BadRequest) as refusal:
        await courses.enroll(pool, identity("mum"), course_id, student_id=None, tier=None)
    assert list(refusal.value.fields or {}) == ["user_id"]
    assert await audited(pool) == [("mum", "student_enrolled", "kid")]


@pytest.mark.parametrize("who", ["teach", "boss"])
async def test_whoever_gives_a_course_enrols_students_and_sets_their_tier(pool: Pool, who: str) -> None:
    course_id = await make_course(pool)
    first, new = await courses.enroll(pool, identity(who), course_id, student_id="kid2", tier="premium")
    assert (first.tier, new) == ("premium", True)
    again, new = await courses.enroll(pool, identity(who), course_id, student_id="kid2", tier="standard")
    assert (again.tier, new) == ("standard", False)
    for nobody in ("nobody", "mum", "teach", None):
        with pytest.raises(BadRequest):
            await courses.enroll(pool, identity(who), course_id, student_id=nobody, tier=None)
    with pytest.raises(NotFound):
        await courses.enroll(pool, identity(who), uuid4(), student_id="kid", tier=None)


@pytest.mark.parametrize("who", ["kid", "mum", "teach", "boss"])
async def test_an_enrolment_ends_and_every_worker_looks_again(pool: Pool, who: str) -> None:
    course_id = await make_course(pool, students=("kid", "kid2"))
    async with workers(pool, 2) as (one, other):
        heard: list[str] = []
        other.audience.person_news = heard.append
        for student_id in ("kid", "kid2"):
            other.audience.attend(Seat(student_id).connection)
        await courses.end_enrollment(one, identity(who), course_id, "kid")
        assert heard == ["kid"]
        with pytest.raises(NotFound) as refusal:
            await courses.end_enrollment(one, identity(who), course_id, "kid")
        assert refusal.value.code == "enrollment_not_found"
        for stranger in ("gran", "teach2", "kid", "mum"):
            with pytest.raises(Forbidden):
                await courses.end_enrollment(one, identity(stranger), course_id, "kid2")
    assert await enrollments.find(pool, course_id, "kid2") is not None
    assert await audited(pool) == ([] if who == "kid" else [(who, "enrollment_ended", "kid")])


async def test_who_takes_part_reads_what_is_for_participants(pool: Pool) -> None:
    course_id = await make_course(pool, students=("kid",))
    for who in ("teach", "kid", "boss"):
        assert (await courses.read_as_participant(pool, identity(who), course_id)).id == course_id
    for who in ("kid2", "mum", "teach2"):
        with pytest.raises(Forbidden):
            await courses.read_as_participant(pool, identity(who), course_id)
    with pytest.raises(NotFound):
        await courses.read_as_participant(pool, identity("boss"), uuid4())


async def test_those_who_enrol_and_leave_at_once_are_counted_right(live: Live) -> None:
    pool = live.pool
    course_id = await make_course(pool)
    people = [f"student-{number}" for number in range(12)]
    for user_id in people:
        await users.upsert_from_token(pool, identity(user_id, "student"))

    async def come_and_go(user_id: str, *, stays: bool) -> None:
        await courses.enroll(pool, identity(user_id, "student"), course_id, student_id=None, tier=None)
        if not stays:
            await courses.end_enrollment(live, identity(user_id, "student"), course_id, user_id)

    await asyncio.gather(*(come_and_go(user_id, stays=number % 3 == 0) for number, user_id in enumerate(people)))
    course = await store.find(pool, course_id)
    assert course is not None
    assert course.enrollment_count == 4
