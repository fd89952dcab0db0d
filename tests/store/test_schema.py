"""Migrations: applied once, all or nothing, whoever starts first."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import asyncpg
import pytest

from store import schema

ROOT = Path(__file__).parents[2]


def add_revision(folder: Path, name: str, after: str | None, *statements: str) -> None:
    executed = "\n    ".join(f"op.execute({statement!r})" for statement in statements) or "pass"
    (folder / "versions" / f"{name}_x.py").write_text(
        dedent(f"""\
        from alembic import op

        revision = {name!r}
        down_revision = {after!r}


        def upgrade() -> None:
            {{executed}}
        """).replace("{executed}", executed)
    )


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """A history of one revision, which fails if it is applied twice."""
    folder = tmp_path / "100% migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text((schema.MIGRATIONS / "env.py").read_text())
    add_revision(folder, "0001", None, "CREATE TABLE a (id int)", "INSERT INTO a VALUES (1)")
    return folder


async def ask(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_an_empty_database_gets_everything_once(empty_database: str) -> None:
    assert await schema.pending(empty_database)
    applied = await schema.migrate(empty_database)
    assert applied == sorted(applied)
    assert applied[0] == "0001"
    assert not await schema.pending(empty_database)
    assert await schema.migrate(empty_database) == []
    assert await ask(empty_database, "SELECT count(*) FROM users") == 0


async def test_only_what_is_missing_is_applied(empty_database: str, migrations: Path) -> None:
    await schema.migrate(empty_database, migrations=migrations)
    add_revision(migrations, "0002", "0001", "ALTER TABLE a ADD b int")
    add_revision(migrations, "0003", "0002", "UPDATE a SET b = 2")
    assert await schema.pending(empty_database, migrations=migrations)
    assert await schema.migrate(empty_database, migrations=migrations) == ["0002", "0003"]
    assert await ask(empty_database, "SELECT b FROM a") == 2


async def test_a_failure_leaves_nothing_behind(empty_database: str, migrations: Path) -> None:
    add_revision(migrations, "0002", "0001", "CREATE TABLE b (id int)", "SELECT 1/0")
    with pytest.raises(schema.MigrationFailed, match="division by zero"):
        await schema.migrate(empty_database, migrations=migrations)
    assert await ask(empty_database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    assert await schema.pending(empty_database, migrations=migrations)


async def test_workers_that_start_at_once_apply_it_once(empty_database: str, migrations: Path) -> None:
    add_revision(migrations, "0002", "0001", "SELECT pg_sleep(0.1)")
    applied = await asyncio.gather(*(schema.migrate(empty_database, migrations=migrations) for _ in range(4)))
    assert sorted(applied) == [[], [], [], ["0001", "0002"]]
    assert await ask(empty_database, "SELECT count(*) FROM a") == 1


def migrate_in_a_process(dsn: str, migrations: Path) -> list[str]:
    return asyncio.run(schema.migrate(dsn, migrations=migrations))


async def test_processes_that_start_at_once_apply_it_once(empty_database: str, migrations: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        arguments = [(empty_database, migrations)] * 4
        applied = await asyncio.to_thread(pool.starmap, migrate_in_a_process, arguments, 1)
        pool.close()
        pool.join()
    assert sorted(applied) == [[], [], [], ["0001"]]
    assert await ask(empty_database, "SELECT count(*) FROM a") == 1


async def test_a_strict_isolation_level_changes_nothing(empty_database: str, migrations: Path) -> None:
    name = await ask(empty_database, "SELECT current_database()")
    await ask(empty_database, f'ALTER DATABASE "{name}" SET default_transaction_isolation = serializable')
    add_revision(migrations, "0002", "0001", "SELECT pg_sleep(0.1)")
    applied = await asyncio.gather(*(schema.migrate(empty_database, migrations=migrations) for _ in range(4)))
    assert sorted(applied) == [[], [], [], ["0001", "0002"]]


async def test_a_database_of_a_newer_release_is_left_alone(empty_database: str, migrations: Path) -> None:
    add_revision(migrations, "0002", "0001")
    await schema.migrate(empty_database, migrations=migrations)
    (migrations / "versions" / "0002_x.py").unlink()
    assert not await schema.pending(empty_database, migrations=migrations)
    assert await schema.migrate(empty_database, migrations=migrations) == []
    # As in a race: the newer release came between the look and the lock.
    assert await schema._upgrade(empty_database, migrations) == []


async def test_two_newest_revisions_are_a_mistake(migrations: Path) -> None:
    add_revision(migrations, "0002", "0001")
    add_revision(migrations, "0002b", "0001")
    with pytest.raises(ValueError, match="one newest revision"):
        await schema.pending("postgresql://nowhere", migrations=migrations)


async def test_without_a_database_it_says_so() -> None:
    with pytest.raises(OSError, match="Connect call failed"):
        await schema.migrate("postgresql://u@127.0.0.1:1/x")


async def test_a_start_with_nothing_to_do_imports_no_migration_tool(database: str) -> None:
    code = (
        "import asyncio, sys; from store import schema;"
        f"assert asyncio.run(schema.migrate({database!r})) == [];"
        "assert not {'alembic', 'sqlalchemy'} & sys.modules.keys()"
    )
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_every_revision_of_ours_is_named_as_its_file() -> None:
    known, head = schema._revisions(schema.MIGRATIONS)
    files = {file.name.partition("_")[0] for file in (schema.MIGRATIONS / "versions").glob("[0-9]*.py")}
    assert known == files
    assert head == max(files)


#: What Postgres calls a constraint that nobody named. Primary keys keep that name: their tables have one each.
NAMELESS = ("_check", "_key", "_fkey", "_excl")


async def test_every_constraint_has_a_name_that_says_what_holds(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        rows = await connection.fetch(
            "SELECT conname, relname FROM pg_constraint JOIN pg_class c ON c.oid = conrelid"
            " WHERE c.relnamespace = 'public'::regnamespace AND contype <> 'p' AND contype <> 'n'"
            " AND relname <> 'alembic_version'"
        )
    finally:
        await connection.close()
    assert len(rows) > 20
    for row in rows:
        assert row["conname"].startswith(f"{row['relname']}_"), row
        assert not row["conname"].endswith(NAMELESS), row


SEED = """
    INSERT INTO users (id, role) VALUES ('t', 'teacher'), ('s', 'student'), ('p', 'parent');
    INSERT INTO bookings (id, student_id, teacher_id, start_time, end_time)
    VALUES ('00000000-0000-0000-0000-000000000001', 's', 't', '2030-01-01 09:00Z', '2030-01-01 10:00Z');
    INSERT INTO sessions (id, kind, booking_id, room_name, host_id, starts_at)
    SELECT id, 'booking', id, 'a-room', 't', start_time FROM bookings;
    INSERT INTO session_messages (id, session_id, seq, user_id, sender_name, text, client_id, created_at)
    SELECT id, id, 1, 's', 'S', 'hello', 'c', now() FROM bookings;
    INSERT INTO session_participants (session_id, user_id) SELECT id, 's' FROM bookings;
    INSERT INTO courses (id, instructor_id, title) VALUES ('00000000-0000-0000-0000-000000000002', 't', 'Algebra');
    INSERT INTO enrollments (course_id, user_id) SELECT id, 's' FROM courses;
    INSERT INTO whiteboards (session_id, revision, elements, bytes) SELECT id, 1, 1, 2 FROM bookings;
"""
BOOKING = "INSERT INTO bookings (id, student_id, teacher_id, parent_id, status, start_time, end_time) VALUES "
MESSAGE = (
    "INSERT INTO session_messages (session_id, id, seq, user_id, sender_name, text, client_id, created_at, deleted_at)"
    " SELECT id, gen_random_uuid(), {seq}, {user}, 'S', {text}, {client}, now(), {deleted} FROM bookings"
)

ANOTHER_SESSION = (
    "INSERT INTO sessions (id, kind, course_id, room_name, host_id, starts_at)"
    " SELECT gen_random_uuid(), 'course', {course}, '{room}', 't', now() FROM courses"
)
RECIPIENT = "INSERT INTO notification_recipients (user_id, notification_id) VALUES ('{user}', gen_random_uuid())"
HANDOUT = (
    "WITH said AS (INSERT INTO notifications VALUES (gen_random_uuid(), 'session_started', '', '') RETURNING id)"
    " INSERT INTO notification_handouts (notification_id, course_id, after_user_id)"
    " SELECT {notification}, {course}, '' FROM said, courses"
)
ELEMENT = (
    "INSERT INTO whiteboard_elements"
    " (session_id, element_id, version, version_nonce, deleted, element, bytes, revision)"
    " SELECT {session}, {id}, 1, 1, {deleted}, {element}, {bytes}, 1 FROM bookings"
)
REACTION = (
    "INSERT INTO message_reactions (message_id, emoji, user_id) SELECT {message}, {emoji}, '{user}' FROM bookings"
)
RECORDING = (
    "INSERT INTO recordings (id, session_id, uploaded_by, status, started_at, stopped_at, file_id)"
    " SELECT gen_random_uuid(), id, 't', {} FROM sessions"
)
CONSENT = (
    "INSERT INTO recording_consents (session_id, user_id, agreed, decided_by) SELECT id, 's', true, 'x' FROM sessions"
)
CONTENT = (
    "INSERT INTO course_content"
    " (id, course_id, content_order, file_name, created_by,"
    " content_type, upload_status, access_level, title, view_count)"
    " SELECT gen_random_uuid(), id, 1, 'x.mp4', 't', {} FROM courses"
)
COURSE = "INSERT INTO courses (id, instructor_id, title, description) VALUES (gen_random_uuid(), {})"
VISIT = (
    "INSERT INTO session_visits (session_id, user_id, worker_id, joined_at, left_at)"
    " SELECT id, '{user}', id, now(), {left} FROM bookings, generate_series(1, {times})"
)


SLOT = (
    "INSERT INTO availability_slots (id, teacher_id, series_id, start_time, end_time)"
    " SELECT gen_random_uuid(), '{teacher}', {series}, '2030-01-01 09:00Z', '{end}' FROM generate_series(1, {times})"
)
SERIES = (
    "INSERT INTO availability_series (id, teacher_id, weekday, starts, ends, timezone, until)"
    " VALUES (gen_random_uuid(), '{teacher}', {weekday}, '09:00', '{ends}', 'UTC', '2030-12-31')"
)


def slot(teacher: str = "t", series: str = "NULL", end: str = "2030-01-01 10:00Z", times: int = 1) -> str:
    return SLOT.format(teacher=teacher, series=series, end=end, times=times)


def series(teacher: str = "t", weekday: int = 1, ends: str = "10:00") -> str:
    return SERIES.format(teacher=teacher, weekday=weekday, ends=ends)


REVIEW = (
    "INSERT INTO reviews (booking_id, author_id, rating, comment)"
    " SELECT id, '{author}', {stars}, {comment} FROM bookings"
)
ALLOCATION = (
    "INSERT INTO allocations (id, student_id, tutor_id, subject_id, created_by)"
    " SELECT gen_random_uuid(), '{student}', '{tutor}', '{subject}', 'boss' FROM generate_series(1, {times})"
)


def review(author: str = "s", stars: int = 5, comment: str = "''") -> str:
    return REVIEW.format(author=author, stars=stars, comment=comment)


def allocation(student: str = "s", tutor: str = "t", subject: str = "Maths", times: int = 1) -> str:
    return ALLOCATION.format(student=student, tutor=tutor, subject=subject, times=times)


def element(
    session: str = "id", id: str = "'e'", deleted: str = "false", element: str = "'{}'", size: str = "2"
) -> str:
    return ELEMENT.format(session=session, id=id, deleted=deleted, element=element, bytes=size)


def message(seq: str = "2", user: str = "'s'", text: str = "'x'", client: str = "NULL", deleted: str = "NULL") -> str:
    return MESSAGE.format(seq=seq, user=user, text=text, client=client, deleted=deleted)


def booking(**changes: str) -> str:
    values = {
        "student": "'s'", "teacher": "'t'", "parent": "NULL", "status": "'pending'",
        "start": "'2030-01-02 09:00Z'", "end": "'2030-01-02 10:00Z'",
    } | changes  # fmt: skip
    return f"{BOOKING} (gen_random_uuid(), {', '.join(values.values())})"


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("INSERT INTO users (id, role) VALUES ('x', 'tutor')", "users_role_known"),
        ("INSERT INTO users (id, role) VALUES ('', 'student')", "users_id_length"),
        ("INSERT INTO users (id, role) VALUES (repeat('x', 129), 'student')", "users_id_length"),
        ("INSERT INTO users (id, role, parent_id) VALUES ('x', 'student', 'y')", "users_parent_exists"),
        ("INSERT INTO users (id, role, parent_id) VALUES ('x', 'student', 'x')", "users_not_own_parent"),
        (booking(start="'2030-01-01 09:59Z'", end="'2030-01-01 11:00Z'", student="'p'"), "bookings_teacher_free"),
        (booking(start="'2030-01-01 08:00Z'", end="'2030-01-01 09:01Z'", teacher="'p'"), "bookings_student_free"),
        (booking(teacher="'s'"), "bookings_two_people"),
        (booking(status="'done'"), "bookings_status_known"),
        (booking(end="'2030-01-02 09:00Z'"), "bookings_end_after_start"),
        (booking(end="'2030-01-02 17:01Z'"), "bookings_not_too_long"),
        (booking(student="'x'"), "bookings_student_exists"),
        (booking(teacher="'x'"), "bookings_teacher_exists"),
        (booking(parent="'x'"), "bookings_parent_exists"),
        ("UPDATE sessions SET kind = 'party'", "sessions_kind_known"),
        ("UPDATE sessions SET kind = 'course'", "sessions_of_a_booking_share_its_id"),
        ("UPDATE sessions SET booking_id = NULL", "sessions_of_a_booking_share_its_id"),
        ("UPDATE sessions SET status = 'paused'", "sessions_status_known"),
        ("UPDATE sessions SET host_id = 'x'", "sessions_host_exists"),
        ("UPDATE sessions SET last_seq = -1", "sessions_last_seq_counts"),
        (ANOTHER_SESSION.format(course="id", room="a-room"), "sessions_room_name_unique"),
        (ANOTHER_SESSION.format(course="NULL", room="b-room"), "sessions_of_courses_have_one"),
        (ANOTHER_SESSION.format(course="gen_random_uuid()", room="b-room"), "sessions_course_exists"),
        ("UPDATE sessions SET course_id = (SELECT id FROM courses)", "sessions_of_courses_have_one"),
        ("UPDATE sessions SET max_participants = 0", "sessions_max_participants_sane"),
        ("UPDATE sessions SET max_participants = 10001", "sessions_max_participants_sane"),
        ("UPDATE sessions SET slow_mode_seconds = -1", "sessions_slow_mode_sane"),
        ("UPDATE sessions SET slow_mode_seconds = 3601", "sessions_slow_mode_sane"),
        ("UPDATE sessions SET pinned_message_id = gen_random_uuid()", "sessions_pinned_message_exists"),
        (COURSE.format("'x', 'Algebra', ''"), "courses_instructor_exists"),
        (COURSE.format("'t', '', ''"), "courses_title_length"),
        (COURSE.format("'t', repeat('x', 201), ''"), "courses_title_length"),
        (COURSE.format("'t', 'x', repeat('x', 10001)"), "courses_description_length"),
        ("UPDATE courses SET enrollment_count = -1", "courses_enrollment_count_counts"),
        ("INSERT INTO enrollments (course_id, user_id) SELECT id, 'x' FROM courses", "enrollments_user_exists"),
        ("INSERT INTO enrollments (course_id, user_id) SELECT id, 's' FROM courses", "enrollments_pkey"),
        ("INSERT INTO enrollments (course_id, user_id) VALUES (gen_random_uuid(), 'p')", "enrollments_course_exists"),
        ("UPDATE enrollments SET tier = 'gold'", "enrollments_tier_known"),
        (RECORDING.format("'done', now(), NULL, NULL"), "recordings_status_known"),
        (RECORDING.format("'recording', NULL, NULL, NULL"), "recordings_run_from_a_start"),
        (RECORDING.format("'failed', now(), now() - interval '1 second', NULL"), "recordings_end_after_their_start"),
        (RECORDING.format("'completed', now(), now(), NULL"), "recordings_completed_have_a_file"),
        (RECORDING.format("'failed', now(), now(), gen_random_uuid()"), "recordings_file_exists"),
        (";".join([RECORDING.format("'recording', now(), NULL, NULL")] * 2), "recordings_one_running"),
        (CONSENT, "recording_consents_decider_exists"),
        (CONTENT.format("'text', 'uploading', 'free', 'x', 1"), "course_content_type_known"),
        (CONTENT.format("'video', 'lost', 'free', 'x', 1"), "course_content_status_known"),
        (CONTENT.format("'video', 'uploading', 'all', 'x', 1"), "course_content_access_known"),
        (CONTENT.format("'video', 'uploading', 'free', '', 1"), "course_content_title_length"),
        (CONTENT.format("'video', 'uploading', 'free', 'x', -1"), "course_content_counts"),
        ("UPDATE courses SET thumbnail_file_id = gen_random_uuid()", "courses_thumbnail_exists"),
        ("INSERT INTO whiteboards (session_id) VALUES (gen_random_uuid())", "whiteboards_session_exists"),
        ("UPDATE whiteboards SET elements = -1", "whiteboards_count_up"),
        (element(session="gen_random_uuid()"), "whiteboard_elements_whiteboard_exists"),
        (element(id="''"), "whiteboard_elements_id_length"),
        (element(id="repeat('x', 65)"), "whiteboard_elements_id_length"),
        (element(element="NULL", size="0"), "whiteboard_elements_cleared_are_deleted"),
        (element(element="NULL", deleted="true"), "whiteboard_elements_bytes_counted"),
        (element(size="0"), "whiteboard_elements_bytes_counted"),
        (message(seq="1"), "session_messages_seq_unique"),
        (message(client="'c'"), "session_messages_client_id_unique"),
        (message(user="'x'"), "session_messages_author_exists"),
        (message(text="repeat('x', 2001)"), "session_messages_text_length"),
        (message(deleted="now()"), "session_messages_deleted_are_empty"),
        (REACTION.format(message="gen_random_uuid()", emoji="'x'", user="s"), "message_reactions_message_exists"),
        (REACTION.format(message="id", emoji="'x'", user="x"), "message_reactions_user_exists"),
        (REACTION.format(message="id", emoji="''", user="s"), "message_reactions_emoji_length"),
        (REACTION.format(message="id", emoji="repeat('x', 33)", user="s"), "message_reactions_emoji_length"),
        (VISIT.format(user="t", left="NULL", times=1), "session_visits_participant_exists"),
        (VISIT.format(user="s", left="NULL", times=2), "session_visits_one_open"),
        (VISIT.format(user="s", left="now() - interval '1 second'", times=1), "session_visits_in_order"),
        (slot(times=2), "availability_slots_apart"),
        (slot(teacher="x"), "availability_slots_teacher_exists"),
        (slot(series="gen_random_uuid()"), "availability_slots_series_exists"),
        (slot(end="2030-01-01 09:00Z"), "availability_slots_end_after_start"),
        (slot(end="2030-01-02 09:01Z"), "availability_slots_not_too_long"),
        (series(teacher="x"), "availability_series_teacher_exists"),
        (series(weekday=0), "availability_series_weekday_known"),
        (series(ends="09:00"), "availability_series_end_after_start"),
        ("INSERT INTO directory VALUES ('x', 'student', 'x', '')", "directory_user_exists"),
        (review(author="x"), "reviews_author_exists"),
        (review(stars=6), "reviews_rating_in_stars"),
        (review(comment="repeat('x', 2001)"), "reviews_comment_length"),
        ("INSERT INTO teacher_ratings VALUES ('x', 5, 1)", "teacher_ratings_teacher_exists"),
        ("INSERT INTO teacher_ratings VALUES ('t', 0, 0)", "teacher_ratings_of_reviews"),
        (allocation(student="x"), "allocations_student_exists"),
        (allocation(tutor="x"), "allocations_tutor_exists"),
        (allocation(subject=""), "allocations_subject_length"),
        (allocation(times=2), "allocations_made_once"),
        ("INSERT INTO notifications VALUES (gen_random_uuid(), 'gossip', '', '')", "notifications_kind_known"),
        (RECIPIENT.format(user="x"), "notification_recipients_user_exists"),
        (RECIPIENT.format(user="s"), "notification_recipients_notification_exists"),
        (
            HANDOUT.format(notification="gen_random_uuid()", course="courses.id"),
            "notification_handouts_notification_exists",
        ),
        (HANDOUT.format(notification="said.id", course="gen_random_uuid()"), "notification_handouts_course_exists"),
    ],
)
async def test_the_database_itself_refuses_what_must_not_be(database: str, statement: str, constraint: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(SEED)
        with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refusal:
            await connection.execute(statement)
        assert refusal.value.constraint_name == constraint
    finally:
        await connection.close()
