"""The sample school: believable, the same for everybody, and made once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import pytest

from domain import academy, access, school
from domain.errors import Forbidden
from domain.school import DAYS_AROUND, PEOPLE, lessons_of, slots_of
from store import messages, sessions
from store.academy import SampleClass, SampleCourse
from store.database import Pool, connect
from store.school import SampleLesson

#: A Wednesday afternoon in Berlin, in the middle of a lesson.
NOW = datetime(2026, 11, 18, 14, 20, tzinfo=UTC)


def month(now: datetime = NOW) -> list[SampleLesson]:
    today = now.date()
    days = [today + timedelta(days=offset) for offset in range(-DAYS_AROUND, DAYS_AROUND + 1)]
    return [lesson for day in days for lesson in lessons_of(day, now)]


def courses(now: datetime = NOW) -> list[SampleCourse]:
    teachers, students = ([one for one in PEOPLE if one.role == role] for role in ("teacher", "student"))
    return academy.courses(teachers, students, now)


def classes(now: datetime = NOW) -> list[SampleClass]:
    days = [now.date() + timedelta(days=offset) for offset in range(-DAYS_AROUND, DAYS_AROUND + 1)]
    return [one for day in days for one in academy.classes_of(courses(now), day, now)]


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    pool = await connect(database, size=4)
    yield pool
    await pool.close()


async def counts(pool: Pool) -> dict[str, int]:
    tables = (
        *("users", "bookings", "sessions", "session_messages", "session_events", "reviews", "availability_slots"),
        *("courses", "enrollments", "session_participants", "session_visits"),
    )
    return {table: await pool.fetchval(f"SELECT count(*) FROM {table}") for table in tables}


def test_it_has_the_people_that_it_says() -> None:
    assert Counter(person.role for person in PEOPLE) == {"teacher": 20, "student": 200, "parent": 160}
    assert len({person.id for person in PEOPLE}) == len(PEOPLE)
    assert all(person.id.startswith("demo-") for person in PEOPLE)
    parents = {person.id: person for person in PEOPLE if person.role == "parent"}
    children = Counter(person.parent_id for person in PEOPLE if person.role == "student")
    assert set(children) == set(parents)
    assert set(children.values()) == {1, 2}
    for person in PEOPLE:
        if person.role == "teacher":
            assert person.bio
            assert len(set(person.subjects)) == 2
            assert len(set(person.topics)) == 5
        if person.parent_id is not None:
            assert person.last_name == parents[person.parent_id].last_name


def test_a_month_has_lessons_of_every_status_and_some_chat() -> None:
    lessons = month()
    statuses = Counter(lesson.status for lesson in lessons)
    assert min(statuses[status] for status in ("pending", "confirmed", "completed", "cancelled")) > 100
    assert 1_000 < len(lessons) < 3_000
    assert sum(entry.kind == "message" for lesson in lessons for entry in lesson.entries) > 500
    assert {lesson.teacher_id for lesson in lessons} == {p.id for p in PEOPLE if p.role == "teacher"}
    assert len({lesson.student_id for lesson in lessons}) == 200
    for lesson in lessons:
        if lesson.end_time <= NOW:
            assert lesson.status in ("completed", "cancelled")
        else:
            assert lesson.status != "completed"


def test_nothing_of_it_happens_in_the_future_but_lessons() -> None:
    for lesson in month():
        assert lesson.booked_at <= lesson.changed_at <= NOW
        assert [entry.at for entry in lesson.entries] == sorted(entry.at for entry in lesson.entries)
        assert all(lesson.booked_at < entry.at <= NOW for entry in lesson.entries)


def test_nobody_is_in_two_lessons_at_a_time() -> None:
    lessons = month()
    for side in ("student_id", "teacher_id"):
        places = Counter((getattr(lesson, side), lesson.start_time) for lesson in lessons)
        assert set(places.values()) == {1}


def test_a_day_is_the_same_whenever_it_is_made() -> None:
    day = date(2026, 11, 20)
    assert lessons_of(day, NOW) == lessons_of(day, NOW)
    later = lessons_of(day, NOW + timedelta(days=9))
    assert [(lesson.id, lesson.student_id, lesson.title) for lesson in lessons_of(day, NOW)] == [
        (lesson.id, lesson.student_id, lesson.title) for lesson in later
    ]


def test_there_is_always_a_lesson_to_show_around_with() -> None:
    for hours in range(0, 24 * 14, 5):
        now = NOW + timedelta(hours=hours)
        lesson = school.next_lesson(now)
        assert lesson is not None
        assert lesson.end_time > now
        assert lesson.status == "confirmed"


def test_somebody_of_it_can_be_signed_in_and_nobody_else() -> None:
    teacher = school.person("demo-teacher-01")
    assert teacher is not None
    assert (teacher.role, teacher.email) == (
        "teacher",
        f"{teacher.first_name}.{teacher.last_name}@demo.invalid".lower(),
    )
    assert school.person("demo-teacher-21") is None
    assert school.person("") is None


async def test_it_is_put_into_the_database_once(pool: Pool) -> None:
    filled = await school.fill(pool, NOW)
    stored = await counts(pool)
    assert (filled.people, filled.lessons, filled.messages) == (
        len(PEOPLE),
        len(month()),
        stored["session_messages"],
    )
    assert (stored["users"], stored["bookings"]) == (len(PEOPLE), len(month()))
    assert (filled.courses, filled.classes) == (stored["courses"], len(classes())) == (5, len(classes()))
    assert stored["sessions"] == filled.lessons + filled.classes
    assert (stored["reviews"], stored["availability_slots"]) == (filled.reviews, filled.slots)
    assert min(filled.reviews, filled.slots) > 200
    again = await school.fill(pool, NOW)
    assert (again.people, again.lessons, again.messages) == (0, 0, 0)
    assert (again.slots, again.reviews, again.courses, again.classes) == (0, 0, 0, 0)
    assert await counts(pool) == stored


async def test_filled_again_later_it_has_the_days_that_have_come_since_and_people_are_left_alone(pool: Pool) -> None:
    first = await school.fill(pool, NOW)
    await pool.execute("UPDATE users SET bio = 'my own words' WHERE id = 'demo-teacher-01'")
    before = {row["id"] for row in await pool.fetch("SELECT id FROM bookings")}
    later = await school.fill(pool, NOW + timedelta(days=7))
    assert (later.people, later.last_day - first.last_day) == (0, timedelta(days=7))
    assert 0 < later.lessons < first.lessons
    assert 0 < later.slots < first.slots
    assert (later.courses, later.classes) == (0, 5)
    assert before <= {row["id"] for row in await pool.fetch("SELECT id FROM bookings")}
    assert await pool.fetchval("SELECT bio FROM users WHERE id = 'demo-teacher-01'") == "my own words"


@pytest.mark.parametrize("days", [7, 60])
async def test_filled_again_later_what_is_over_was_held_or_cancelled(pool: Pool, days: int) -> None:
    await school.fill(pool, NOW)
    now = NOW + timedelta(days=days)
    open_before = await pool.fetchval(
        "SELECT count(*) FROM bookings WHERE status IN ('pending', 'confirmed') AND end_time <= $1", now
    )
    cancelled = await pool.fetchval("SELECT count(*) FROM bookings WHERE status = 'cancelled' AND end_time <= $1", now)
    filled = await school.fill(pool, now)
    assert filled.completed == open_before > 100
    rows = await pool.fetch("SELECT status, count(*) FROM bookings WHERE end_time <= $1 GROUP BY 1", now)
    statuses = {row["status"]: row["count"] for row in rows}
    assert set(statuses) == {"completed", "cancelled"}
    assert statuses["cancelled"] >= cancelled
    assert await wrong_logs(pool) == 0
    assert await states(pool) == STATES
    backwards = await pool.fetchval(
        """
        SELECT count(*) FROM (
            SELECT at < lag(at) OVER (PARTITION BY session_id ORDER BY seq) AS back, at > $1 AS ahead
            FROM (
                SELECT session_id, seq, at FROM session_events
                UNION ALL SELECT session_id, seq, created_at FROM session_messages
            ) entries
        ) steps WHERE back OR ahead
        """,
        now,
    )
    assert backwards == 0
    assert (await school.fill(pool, now)).completed == 0


async def test_filled_again_later_lessons_that_people_have_made_or_moved_stay_theirs(pool: Pool) -> None:
    await school.fill(pool, NOW)
    mine = next(lesson for lesson in month() if lesson.status == "confirmed")
    # Where no lesson of the school begins.
    await pool.execute(
        "UPDATE bookings SET start_time = start_time + interval '3 minutes', end_time = end_time + interval '3 minutes'"
        " WHERE id = $1",
        mine.id,
    )
    written = next(lesson for lesson in month() if lesson.status == "pending")
    late = written.end_time + timedelta(hours=1)
    await pool.execute(
        "INSERT INTO session_messages (id, session_id, seq, user_id, sender_name, text, created_at)"
        " VALUES (gen_random_uuid(), $1, 1, $2, 'Me', 'Where were you?', $3)",
        *(written.id, written.student_id, late),
    )
    await pool.execute("UPDATE sessions SET status = 'live', last_seq = 1 WHERE id = $1", written.id)
    await school.fill(pool, NOW + timedelta(days=20))
    assert await pool.fetchval("SELECT status FROM bookings WHERE id = $1", mine.id) == "confirmed"
    [entry] = await pool.fetch("SELECT seq, data, at FROM session_events WHERE session_id = $1", written.id)
    assert tuple(entry) == (2, {"status": "ended"}, late)
    assert await pool.fetchval("SELECT last_seq FROM sessions WHERE id = $1", written.id) == 2


async def test_those_who_fill_it_at_once_fill_it_once(pool: Pool) -> None:
    filled = await asyncio.gather(*(school.fill(pool, NOW) for _ in range(2)))
    assert sorted(one.people for one in filled) == [0, len(PEOPLE)]
    assert (await counts(pool))["bookings"] == max(one.lessons for one in filled)


STATES = {
    ("pending", "scheduled", True),
    ("confirmed", "scheduled", True),
    ("completed", "ended", True),
    ("cancelled", "ended", False),
}


async def wrong_logs(pool: Pool) -> int:
    """Sessions whose log has a gap, or does not end where they say."""
    wrong: int = await pool.fetchval(
        """
        SELECT count(*) FROM sessions s WHERE s.last_seq <> (
            SELECT count(DISTINCT seq) FROM (
                SELECT seq FROM session_messages m WHERE m.session_id = s.id
                UNION ALL SELECT seq FROM session_events e WHERE e.session_id = s.id
            ) AS entries WHERE seq BETWEEN 1 AND s.last_seq
        )
        """
    )
    return wrong


async def states(pool: Pool) -> set[tuple[str, str, bool]]:
    """Which states of bookings and their sessions there are."""
    rows = await pool.fetch(
        "SELECT DISTINCT b.status, s.status AS now, chat_open FROM bookings b JOIN sessions s ON s.id = b.id"
    )
    return {tuple(row) for row in rows}


async def test_its_logs_have_no_gaps_and_end_where_the_sessions_say(pool: Pool) -> None:
    await school.fill(pool, NOW)
    assert await wrong_logs(pool) == 0
    assert await states(pool) == STATES
    assert {row["status"] for row in await pool.fetch("SELECT status FROM sessions WHERE kind = 'course'")} == {
        "scheduled",
        "ended",
    }


async def test_its_teacher_enters_a_lesson_and_reads_what_was_said(pool: Pool) -> None:
    await school.fill(pool, NOW)
    lesson = next(lesson for lesson in month() if any(entry.kind == "message" for entry in lesson.entries))
    teacher = school.person(lesson.teacher_id)
    assert teacher is not None
    session, member = await access.enter(pool, lesson.room_name, teacher)
    assert (session.id, session.title, member.is_host) == (lesson.id, lesson.title, True)
    page = await messages.page(pool, lesson.id, before=None, after=None, limit=10)
    assert page is not None
    assert [message.text for message in page.messages] == [e.text for e in lesson.entries if e.kind == "message"]
    assert (await sessions.find(pool, lesson.id)) == session


def test_every_lesson_to_come_lies_in_an_hour_that_its_teacher_offers() -> None:
    for offset in range(DAYS_AROUND):
        day = NOW.date() + timedelta(days=offset)
        slots = {(slot.teacher_id, slot.start_time, slot.end_time) for slot in slots_of(day, NOW)}
        assert len(slots) == len(slots_of(day, NOW))
        lessons = [lesson for lesson in lessons_of(day, NOW) if lesson.status in ("pending", "confirmed")]
        coming = {(one.teacher_id, one.start_time, one.end_time) for one in lessons if one.start_time > NOW}
        assert coming <= slots
        assert all(start > NOW for _, start, _ in slots)
        if slots:
            assert len(coming) < len(slots), "some are free"
    assert slots_of(NOW.date() - timedelta(days=1), NOW) == []


def test_five_courses_have_a_teacher_students_and_a_class_each_week() -> None:
    assert len({course.id for course in courses()}) == 5
    for course in courses():
        assert academy.LEAST_STUDENTS <= len({student.id for student in course.students}) <= academy.MOST_STUDENTS
        assert {student.role for student in course.students} == {"student"}
        assert course.instructor.role == "teacher"
    weekly = Counter(one.course_id for one in classes())
    assert set(weekly) == {course.id for course in courses()}
    assert set(weekly.values()) <= {4, 5}
    assert len({one.room_name for one in classes()}) == len(classes())


def test_a_class_that_is_over_has_a_chat_and_those_who_attended_and_others_have_neither() -> None:
    students = {course.id: {student.id for student in course.students} for course in courses()}
    for one in classes():
        if one.ended_at is None:
            assert (one.entries, one.visits) == ((), ())
            assert one.starts_at + academy.CLASS_LENGTH > NOW
            continue
        attended = {visit.user_id for visit in one.visits}
        assert attended <= students[one.course_id] | {one.host_id}
        assert one.host_id in attended
        assert len(attended) > 10
        assert {entry.user_id for entry in one.entries} <= attended
        assert [entry.at for entry in one.entries] == sorted(entry.at for entry in one.entries)
        assert all(entry.at <= one.ended_at <= NOW for entry in one.entries)
        assert all(visit.joined_at < visit.left_at <= one.ended_at for visit in one.visits)
    # Somebody is lost now and then, and comes back.
    visits = Counter((one.id, visit.user_id) for one in classes() for visit in one.visits)
    assert set(visits.values()) == {1, 2}


def test_nobody_is_in_a_class_and_a_lesson_at_a_time() -> None:
    last_end: dict[tuple[str, date], datetime] = {}
    for lesson in month():
        for who in (lesson.student_id, lesson.teacher_id):
            key = (who, lesson.start_time.date())
            last_end[key] = max(lesson.end_time, last_end.get(key, lesson.end_time))
    for one in classes():
        for visit in one.visits:
            assert last_end.get((visit.user_id, one.starts_at.date()), visit.joined_at) <= visit.joined_at


def test_there_is_always_a_class_to_show_around_with() -> None:
    for hours in range(0, 24 * 14, 5):
        now = NOW + timedelta(hours=hours)
        coming = school.next_class(now)
        assert coming is not None
        assert coming.starts_at + academy.CLASS_LENGTH > now
        assert coming.starts_at - now < timedelta(days=4)


async def test_teachers_are_rated_by_what_families_said(pool: Pool) -> None:
    await school.fill(pool, NOW)
    rows = await pool.fetch(
        """
        SELECT teacher_id, sum(rating), count(*) FROM reviews JOIN bookings b ON b.id = booking_id GROUP BY teacher_id
        EXCEPT SELECT teacher_id, stars, reviews FROM teacher_ratings
        """
    )
    assert rows == []
    assert await pool.fetchval("SELECT count(*) FROM teacher_ratings") == school.TEACHERS
    mean = await pool.fetchval("SELECT avg(rating) FROM reviews")
    assert 3.5 < mean < 5
    wrong = await pool.fetchval(
        """
        SELECT count(*) FROM reviews r JOIN bookings b ON b.id = r.booking_id
        WHERE b.status <> 'completed' OR r.author_id NOT IN (b.student_id, b.parent_id)
            OR r.created_at NOT BETWEEN b.end_time AND $1
        """,
        NOW,
    )
    assert wrong == 0


async def test_a_student_of_a_course_enters_its_class_and_a_stranger_does_not(pool: Pool) -> None:
    await school.fill(pool, NOW)
    live_class = school.next_class(NOW)
    assert live_class is not None
    course = next(course for course in courses() if course.id == live_class.course_id)
    student, teacher = school.person(course.students[0].id), school.person(live_class.host_id)
    assert student is not None
    assert teacher is not None
    _, member = await access.enter(pool, live_class.room_name, student)
    assert not member.is_host
    session, member = await access.enter(pool, live_class.room_name, teacher)
    assert member.is_host
    assert (session.title, session.status) == (live_class.title, "scheduled")
    stranger = next(one for one in PEOPLE if one.role == "student" and one not in course.students)
    identity = school.person(stranger.id)
    assert identity is not None
    with pytest.raises(Forbidden):
        await access.enter(pool, live_class.room_name, identity)
