"""Migrations: applied once, each all or nothing, whoever starts first, while others go on."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from textwrap import dedent
from uuid import UUID, uuid4

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from structlog.testing import capture_logs

from domain.identity import Identity
from store import bookings, events, messages, participants, schema, sessions, users
from store.database import Pool, connect
from store.errors import Deadlocked, translated
from store.ids import new_id
from store.participants import ReadMark
from tests.support.waiting import until

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


async def execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
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


async def test_a_revision_that_fails_leaves_nothing_behind_and_those_before_it_stand(
    empty_database: str, migrations: Path
) -> None:
    add_revision(migrations, "0002", "0001", "CREATE TABLE b (id int)", "SELECT 1/0")
    with pytest.raises(schema.MigrationFailed, match="division by zero"):
        await schema.migrate(empty_database, migrations=migrations)
    assert await ask(empty_database, "SELECT to_regclass('b')") is None
    assert await schema.pending(empty_database, migrations=migrations)
    (migrations / "versions" / "0002_x.py").unlink()
    assert not await schema.pending(empty_database, migrations=migrations)


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


async def test_a_newer_release_may_come_between_the_look_and_the_lock(empty_database: str, migrations: Path) -> None:
    add_revision(migrations, "0002", "0001")
    await schema.migrate(empty_database, migrations=migrations)
    (migrations / "versions" / "0002_x.py").unlink()
    changed: list[Config] = []
    assert (await schema._change(empty_database, migrations, changed.append), changed) == ([], [])


async def test_a_revision_waits_for_its_tables_and_holds_up_nobody(empty_database: str, migrations: Path) -> None:
    await schema.migrate(empty_database, migrations=migrations)
    add_revision(migrations, "0002", "0001", "CREATE TABLE b (id int)")
    add_revision(migrations, "0003", "0002", "ALTER TABLE a ADD b int")
    user, other = await asyncpg.connect(empty_database), await asyncpg.connect(empty_database)
    try:
        transaction = user.transaction()
        await transaction.start()
        await user.execute("INSERT INTO a VALUES (2)")
        migration = asyncio.create_task(schema.migrate(empty_database, migrations=migrations))
        with capture_logs() as lines:
            while len(lines) < 2:
                # Behind the migration's lock at the worst, which is given up long before this one's patience.
                await other.execute("SET lock_timeout = '60s'; INSERT INTO a VALUES (3)")
                await asyncio.sleep(0.01)
        assert {(line["event"], *line["after"]) for line in lines} == {("migration.tries_again", "0002")}
        assert "lock timeout" in lines[0]["reason"]
        assert await ask(empty_database, "SELECT to_regclass('b')::text") == "b"
        await transaction.commit()
        assert await migration == ["0002", "0003"]
    finally:
        await user.close()
        await other.close()
    assert await ask(empty_database, "SELECT count(*) > 2 FROM a WHERE b IS NULL")


async def test_a_revision_does_not_wait_for_ever(
    empty_database: str, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await schema.migrate(empty_database, migrations=migrations)
    add_revision(migrations, "0002", "0001", "ALTER TABLE a ADD b int")
    monkeypatch.setattr(schema, "LOCK_SECONDS", 0.5)
    user = await asyncpg.connect(empty_database)
    try:
        async with user.transaction():
            await user.execute("INSERT INTO a VALUES (2)")
            with pytest.raises(schema.MigrationFailed, match="lock timeout"):
                await schema.migrate(empty_database, migrations=migrations)
        await user.execute("SELECT pg_advisory_lock($1)", schema.LOCK_KEY)
        with pytest.raises(schema.MigrationFailed, match="another migration"):
            await schema.migrate(empty_database, migrations=migrations)
    finally:
        await user.close()
    assert await schema.migrate(empty_database, migrations=migrations) == ["0002"]


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


async def to(dsn: str, revision: str) -> None:
    """Have the schema of another release."""
    is_made = await ask(dsn, "SELECT to_regclass('alembic_version')")
    present = (await ask(dsn, "SELECT max(version_num) FROM alembic_version") if is_made else None) or ""
    step = command.downgrade if revision == "base" or revision < str(present) else command.upgrade
    await schema._change(dsn, schema.MIGRATIONS, lambda config: step(config, revision))


async def shape(dsn: str) -> set[str]:
    """Every column, index, constraint, trigger and function that there is."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            """
            SELECT concat_ws(' ', table_name, column_name, data_type, column_default, is_nullable)
            FROM information_schema.columns WHERE table_schema = 'public'
            UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
            UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated)
            FROM pg_constraint WHERE connamespace = 'public'::regnamespace
            UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
            UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            """
        )
        return {row[0] for row in rows}
    finally:
        await connection.close()


async def test_the_way_back_and_forth_keeps_the_data_and_leads_to_the_same_schema(empty_database: str) -> None:
    await schema.migrate(empty_database)
    before = await shape(empty_database)
    await execute(empty_database, SEED, COURSES, CLASSES, FILES, allocation(), review(), slot())
    await to(empty_database, "0001")
    assert await ask(empty_database, "SELECT to_regclass('directory')") is None
    assert await schema.migrate(empty_database) == LATER
    assert await shape(empty_database) == before
    assert await ask(empty_database, "SELECT count(*) FROM session_messages") == 1, "the one of the booking"
    assert await ask(empty_database, "SELECT string_agg(kind, ' ') FROM session_events") == "hand_raised"
    assert await ask(empty_database, "SELECT string_agg(user_id, ' ' ORDER BY user_id) FROM directory") == "p s t"
    await to(empty_database, "base")
    assert {line.split()[0] for line in await shape(empty_database)} <= {"alembic_version", "CREATE"}
    await schema.migrate(empty_database)
    assert await shape(empty_database) == before
    await execute(empty_database, SEED, COURSES, CLASSES, FILES)


async def test_the_way_back_from_files_keeps_what_was_there_before_them(empty_database: str) -> None:
    await to(empty_database, "0006")
    before = await shape(empty_database)
    await to(empty_database, "0007")
    with_files = await shape(empty_database)
    await execute(empty_database, SEED, COURSES, CLASSES)
    rows = "SELECT count(*) FROM {} t"
    tables = ("users", "sessions", "session_messages", "session_events", "courses", "enrollments", "notifications")
    kept = {table: await ask(empty_database, rows.format(table)) for table in tables}
    await execute(empty_database, FILES)
    for _ in range(2):
        await to(empty_database, "0006")
        assert await shape(empty_database) == before
        assert {table: await ask(empty_database, rows.format(table)) for table in tables} == kept
        await to(empty_database, "0007")
        assert await shape(empty_database) == with_files
        await execute(empty_database, FILES)


async def test_an_index_that_was_left_unfinished_is_made_anew(empty_database: str) -> None:
    await to(empty_database, "0001")
    await execute(
        empty_database,
        SEED,
        booking(),
        "INSERT INTO sessions (id, kind, booking_id, room_name, host_id, starts_at)"
        " SELECT id, 'booking', id, 'b-room', 't', start_time FROM bookings ON CONFLICT DO NOTHING",
    )
    with pytest.raises(asyncpg.UniqueViolationError):
        await execute(empty_database, "CREATE UNIQUE INDEX CONCURRENTLY sessions_live ON sessions (status)")
    broken = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
    assert await ask(empty_database, broken) == 1
    await schema.migrate(empty_database)
    assert await ask(empty_database, broken) == 0
    made = await ask(empty_database, "SELECT indexdef FROM pg_indexes WHERE indexname = 'sessions_live'")
    assert "(id) WHERE" in str(made)


async def test_a_revision_that_was_cut_off_half_way_is_applied(empty_database: str) -> None:
    """As if the machine had gone down behind what is committed apart."""
    await to(empty_database, "0002")
    await execute(empty_database, "INSERT INTO users (id, role) VALUES ('t', 'teacher'), ('s', 'student')")
    await schema.migrate(empty_database)
    whole = await shape(empty_database)
    await execute(
        empty_database,
        "DROP TABLE provider_recordings, meeting_intents, meeting_people, meeting_tellings, meetings;"
        "DROP TABLE uploads_to_give_up, objects_to_delete, file_usage, uploads, recordings, recording_consents,"
        " content_likes, content_comments, content_progress, content_views, course_content;"
        "ALTER TABLE courses DROP CONSTRAINT courses_thumbnail_exists; DROP TABLE files;"
        "DROP TABLE notification_handouts, notification_recipients, notifications, whiteboard_elements, whiteboards,"
        " message_reactions, session_waiters, enrollments;"
        "ALTER TABLE sessions DROP CONSTRAINT sessions_course_exists, DROP CONSTRAINT sessions_pinned_message_exists;"
        "DROP TABLE courses; DROP FUNCTION courses_count_enrollments, courses_count_content, leave_files,"
        " files_leave_uploads, files_leave_objects, files_count_usage, recordings_tell_provider,"
        " meetings_end_recordings, meetings_leave_rooms; DROP FUNCTION sessions_end_meetings CASCADE;"
        "DROP TABLE reviews, teacher_ratings, allocations, audit_log, booking_reminders, calendar_links, server_keys;"
        "DROP FUNCTION audit_log_stays_as_it_is; DROP TRIGGER bookings_count_changes ON bookings;"
        "DROP FUNCTION bookings_count_change; ALTER TABLE bookings DROP COLUMN calendar_sequence;"
        "DELETE FROM directory WHERE user_id = 's'; UPDATE alembic_version SET version_num = '0002'",
    )
    assert await schema.migrate(empty_database) == LATER[1:]
    assert await shape(empty_database) == whole
    assert await ask(empty_database, "SELECT count(*) FROM directory") == 2


async def test_what_is_prepared_goes_on_inside_transactions_when_columns_are_added(database: str) -> None:
    await execute(database, SEED)
    pool = await connect(database, size=1)
    id = UUID(int=1)
    try:
        for column in (None, "of_a_later_release"):
            if column is not None:
                for table in ("users", "bookings", "sessions", "session_participants", "session_messages"):
                    await execute(database, f"ALTER TABLE {table} ADD COLUMN {column} int")
            async with pool.acquire() as connection, connection.transaction():
                assert await sessions.locked_with_booking(connection, id)
                assert await bookings.locked(connection, id)
                assert await messages.find(connection, id, id)
                assert await messages.find_sent(connection, id, "s", "c")
                assert await messages.page(connection, id, before=None, after=None, limit=1)
                assert await participants.of_person(connection, id, "s")
    finally:
        await pool.close()


#: What the release before 0005 sends, where this one asks for columns that came with it.
OLD_APPEND = """
    WITH open AS (
        SELECT s.id, s.last_seq FROM sessions s WHERE s.id = ANY($2::uuid[]) AND s.chat_open
        ORDER BY s.id FOR NO KEY UPDATE
    ), input AS (
        SELECT i.*, NULL::bigint AS last_seq
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[])
            WITH ORDINALITY AS i (id, session_id, user_id, sender_name, text, client_id, place)
    ), numbered AS (
        SELECT *, first_value(last_seq) OVER session + row_number() OVER session - 1 AS seq
        FROM (SELECT NULL, id, NULL, NULL, NULL, NULL, 0, last_seq FROM open UNION ALL TABLE input) i
             (id, session_id, user_id, sender_name, text, client_id, place, last_seq)
        WINDOW session AS (PARTITION BY session_id ORDER BY place)
    ), fresh AS (
        SELECT * FROM numbered WHERE place > 0 AND seq IS NOT NULL
    ), counted AS (
        UPDATE sessions s SET last_seq = f.seq
        FROM (SELECT session_id, max(seq) AS seq FROM fresh GROUP BY session_id) f WHERE s.id = f.session_id
    )
    INSERT INTO session_messages (id, session_id, seq, user_id, sender_name, text, client_id, created_at)
    SELECT id, session_id, seq, user_id, sender_name, text, client_id, clock_timestamp() FROM fresh
    RETURNING id, seq, created_at
"""
OLD_PAGE = """
    SELECT s.last_seq, m.*
    FROM sessions s LEFT JOIN LATERAL (
        SELECT * FROM session_messages WHERE session_id = s.id AND seq > $2 AND seq < $3 ORDER BY seq DESC LIMIT $4
    ) m ON true
    WHERE s.id = $1 ORDER BY m.seq
"""
OLD_FIND = "SELECT * FROM session_messages WHERE session_id = $1 AND id = $2"
OLD_FIRST_ARRIVALS = """
    WITH made AS (
        INSERT INTO session_participants (session_id, user_id, presence_version, joined_at)
        SELECT session_id, user_id, present::int, CASE WHEN present THEN now() END
        FROM unnest($1::uuid[], $2::text[], $3::boolean[]) AS i (session_id, user_id, present)
        ORDER BY session_id, user_id ON CONFLICT DO NOTHING
        RETURNING *, presence_version > 0 AS present
    ), opened AS (
        INSERT INTO session_visits (session_id, user_id, worker_id, joined_at)
        SELECT session_id, user_id, $4, clock_timestamp() FROM made WHERE present
    )
    SELECT session_id, user_id, presence_version AS version, joined_at, was_kicked, mic_allowed,
        camera_allowed, hand_raised, read_seq, present AS online, present AS turned
    FROM made
"""
OLD_CHANGE = """
    INSERT INTO session_participants AS p
        (session_id, user_id, mic_allowed, camera_allowed, hand_raised, was_kicked)
    VALUES ($1, $2, coalesce($3, true), coalesce($4, true), coalesce($5, false), coalesce($6, false))
    ON CONFLICT (session_id, user_id) DO UPDATE SET
        mic_allowed = coalesce($3, p.mic_allowed), camera_allowed = coalesce($4, p.camera_allowed),
        hand_raised = coalesce($5, p.hand_raised), was_kicked = coalesce($6, p.was_kicked),
        updated_at = now()
"""


class Traffic:
    """What people do while the schema changes, as the old release's server does it, with time for the migration in
    between."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.ended = asyncio.Event()
        self.done: Counter[str] = Counter()
        self.session_id = UUID(int=1)
        self.acts = (
            self.write, self.edit, self.raise_hand, self.arrive, self.read, self.change_booking, self.come, self.rename,
        )  # fmt: skip

    async def go_on(self) -> None:
        async with asyncio.TaskGroup() as everybody:
            for act in self.acts:
                for _ in range(2):
                    everybody.create_task(self.repeat(act))

    async def repeat(self, act: Callable[[], Awaitable[None]]) -> None:
        while not self.ended.is_set():
            try:
                await act()
            except (asyncpg.DeadlockDetectedError, Deadlocked):
                continue  # OLD_APPEND goes to its session's row twice: answered by 503, and repeated
            self.done[act.__name__] += 1
            # All of them are at one session, whose row would else be held without a gap, as no lesson's is.
            await asyncio.sleep(random.uniform(0.02, 0.1))

    async def write(self) -> None:
        with translated():
            rows = await self.pool.fetch(OLD_APPEND, [new_id()], [self.session_id], ["s"], ["S"], ["hi"], [None])
        assert len(rows) == 1

    async def edit(self) -> None:
        [found] = await self.pool.fetch(OLD_PAGE, self.session_id, 0, events.NO_END, 1)
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM sessions WHERE id = $1 FOR NO KEY UPDATE", self.session_id)
            try:
                message = await connection.fetchrow(OLD_FIND, self.session_id, found["id"])
            except asyncpg.InvalidCachedStatementError:
                return  # answered by 503 once, with nothing written: what was prepared lacks the new column
            assert message is not None
            await asyncio.sleep(0.01)
            entry = await events.append(
                connection, self.session_id, kind="message_edited", user_id="s", message_id=message["id"]
            )
            await connection.execute(
                "UPDATE session_messages SET text = $2, edited_at = $3 WHERE id = $1", message["id"], "ho", entry.at
            )

    async def raise_hand(self) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM sessions WHERE id = $1 FOR NO KEY UPDATE", self.session_id)
            await connection.execute(OLD_CHANGE, self.session_id, "s", None, None, True, None)
            await asyncio.sleep(0.01)
            await events.append(connection, self.session_id, kind="hand_raised", user_id="s", data={"raised": True})

    async def arrive(self) -> None:
        who = f"u{random.randint(1, PEOPLE)}"
        await self.pool.fetch(OLD_FIRST_ARRIVALS, [self.session_id], [who], [True], UUID(int=2))

    async def read(self) -> None:
        last = await self.pool.fetchval("SELECT last_seq FROM sessions WHERE id = $1", self.session_id)
        await participants.mark_read(self.pool, [ReadMark(session_id=self.session_id, user_id="s", seq=last)])

    async def change_booking(self) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            await bookings.take_turns(connection, ["s", "t"])
            booking = await bookings.locked(connection, self.session_id)
            assert booking is not None
            await asyncio.sleep(0.01)
            status: bookings.Status = "pending" if booking.status == "confirmed" else "confirmed"
            await bookings.save(
                connection, booking.id, status=status, start_time=booking.start_time, end_time=booking.end_time
            )
            await connection.execute("UPDATE sessions SET updated_at = now() WHERE id = $1", booking.id)

    async def come(self) -> None:
        await users.upsert_from_token(self.pool, Identity(user_id=f"new-{uuid4()}", role="student", first_name="New"))

    async def rename(self) -> None:
        who = f"u{random.randint(1, PEOPLE)}"
        await users.upsert_from_token(self.pool, Identity(user_id=who, role="teacher", first_name=str(uuid4())))


#: All revisions after the first.
LATER = ["0002", "0003", "0004", "0005", "0006", "0007", "0008"]
#: Who are there when the directory is made: several batches.
PEOPLE = 4000


async def test_the_schema_changes_while_people_go_on(empty_database: str) -> None:
    await to(empty_database, "0001")
    await execute(
        empty_database,
        SEED,
        "UPDATE sessions SET last_seq = 1",
        "INSERT INTO users (id, role, first_name)"
        f" SELECT 'u' || n, 'teacher', 'Old' FROM generate_series(1, {PEOPLE}) n",
    )
    pool = await connect(empty_database, size=8)
    try:
        traffic = Traffic(pool)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(traffic.go_on())
            await until(lambda: len(traffic.done) == len(traffic.acts))
            assert await schema.migrate(empty_database) == LATER
            at_the_end = traffic.done.copy()
            await until(lambda: all(traffic.done[act] > count + 2 for act, count in at_the_end.items()))
            traffic.ended.set()
        wrong = await pool.fetchval(
            "SELECT count(*) FROM users u LEFT JOIN directory d ON d.user_id = u.id"
            " WHERE d.sort_name IS DISTINCT FROM btrim(search_folded(concat_ws(' ', u.last_name, u.first_name)))"
        )
        assert wrong == 0
    finally:
        await pool.close()


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
"""
#: On top of that, at 0005.
COURSES = """
    INSERT INTO courses (id, instructor_id, title) VALUES ('00000000-0000-0000-0000-000000000002', 't', 'Algebra');
    INSERT INTO enrollments (course_id, user_id) SELECT id, 's' FROM courses;
    INSERT INTO whiteboards (session_id, revision, elements, bytes) SELECT id, 1, 1, 2 FROM bookings;
"""
#: Something in every table and column that came with 0005, in a session of a booking and in one of a course.
CLASSES = """
    INSERT INTO sessions (id, kind, course_id, room_name, host_id, starts_at, max_participants, locked, waiting_room,
                          chat_muted, slow_mode_seconds, whiteboard_locked)
    SELECT id, 'course', id, 'a-class', 't', now(), 5, true, true, true, 5, true FROM courses;
    INSERT INTO session_messages (id, session_id, seq, user_id, sender_name, text, created_at, reactions)
    SELECT id, id, 1, 's', 'S', 'hello', now(), '{"x": 1}' FROM sessions WHERE kind = 'course';
    UPDATE session_messages SET reactions = '{"x": 1}';
    UPDATE sessions SET pinned_message_id = id, last_seq = 6;
    INSERT INTO message_reactions (message_id, emoji, user_id) SELECT id, 'x', 's' FROM session_messages;
    INSERT INTO session_events (session_id, seq, kind, user_id, at)
    SELECT s.id, e.place + 1, e.kind, 't', now() FROM sessions s, unnest(ARRAY[
        'message_pinned', 'message_reaction', 'session_settings', 'whiteboard_cleared', 'hand_raised'
    ]) WITH ORDINALITY AS e (kind, place);
    INSERT INTO session_participants (session_id, user_id, joined_at, admitted_at, chatted_at)
    SELECT id, 's', now(), now(), now() FROM courses;
    INSERT INTO session_visits (session_id, user_id, worker_id, joined_at) SELECT id, 's', id, now() FROM courses;
    INSERT INTO session_waiters (session_id, user_id, worker_id) SELECT id, 'p', id FROM sessions;
    INSERT INTO whiteboards (session_id) SELECT id FROM courses;
    INSERT INTO whiteboard_elements
        (session_id, element_id, version, version_nonce, deleted, element, bytes, revision)
    SELECT session_id, 'e', 1, 1, false, '{}', 2, 1 FROM whiteboards;
    INSERT INTO notifications (id, kind, title, body) SELECT id, 'session_started', 'T', 'B' FROM courses;
    INSERT INTO notification_recipients (user_id, notification_id) SELECT 's', id FROM notifications;
    INSERT INTO notification_handouts (notification_id, course_id, after_user_id) SELECT id, id, 's' FROM courses;
"""
#: On top of those, at 0007: something in every table and column that came with it.
FILES = """
    INSERT INTO files (id, key, owner_id, purpose, session_id, course_id, name, mime, size, state, thumbnail_key)
    SELECT f.id::uuid, f.id, 't', f.purpose, CASE f.purpose WHEN 'recording' THEN s.id END,
        CASE f.purpose WHEN 'recording' THEN NULL ELSE c.id END, 'x', 'video/mp4', 5, f.state, f.id || '.1'
    FROM (VALUES
        ('00000000-0000-0000-0000-00000000000a', 'recording', 'ready'),
        ('00000000-0000-0000-0000-00000000000b', 'content', 'ready'),
        ('00000000-0000-0000-0000-00000000000c', 'thumbnail', 'ready'),
        ('00000000-0000-0000-0000-00000000000d', 'content', 'uploading'),
        ('00000000-0000-0000-0000-00000000000e', 'content', 'failed')
    ) f (id, purpose, state), bookings s, courses c;
    INSERT INTO uploads (file_id, length, state, resumable, expires_at)
    SELECT id, 5, 'x', true, now() FROM files WHERE state = 'uploading';
    INSERT INTO objects_to_delete (key) VALUES ('x');
    INSERT INTO uploads_to_give_up (key, state) VALUES ('x', 'x');
    UPDATE sessions SET recording_consent = true;
    INSERT INTO recordings (id, session_id, uploaded_by, status, file_id)
    SELECT id, session_id, 't', 'completed', id FROM files WHERE purpose = 'recording';
    INSERT INTO recording_consents (session_id, user_id, agreed, decided_by) SELECT id, 's', true, 'p' FROM bookings;
    INSERT INTO session_events (session_id, seq, kind, user_id, at)
    SELECT id, 50, 'recording_state', 't', now() FROM bookings;
    UPDATE courses SET thumbnail_file_id = (SELECT id FROM files WHERE purpose = 'thumbnail');
    INSERT INTO course_content (id, course_id, title, content_type, file_id, file_name, upload_status, content_order,
                                created_by, thumbnail_file_id)
    SELECT f.id, f.course_id, 'T', 'video', f.id, 'x', 'completed', 1, 't', c.thumbnail_file_id
    FROM files f JOIN courses c ON c.id = f.course_id WHERE f.purpose = 'content' AND f.state = 'ready';
    INSERT INTO content_views (content_id, day, user_id) SELECT id, '2030-01-01', 's' FROM course_content;
    INSERT INTO content_progress (content_id, user_id, position_seconds) SELECT id, 's', 1 FROM course_content;
    INSERT INTO content_comments (id, content_id, user_id, text) SELECT id, id, 's', 'hm' FROM course_content;
    INSERT INTO content_likes (content_id, user_id) SELECT id, 's' FROM course_content;
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
        (RECORDING.format("'completed', now(), now(), NULL"), "recordings_completed_can_be_seen"),
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
        (series(ends="00:01"), "availability_series_end_after_start"),
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
        await connection.execute(SEED + COURSES)
        with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refusal:
            await connection.execute(statement)
        assert refusal.value.constraint_name == constraint
    finally:
        await connection.close()
