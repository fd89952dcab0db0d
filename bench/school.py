"""``python -m bench.school``: what a large school's lists cost, from the call of the store to its values.

100 000 teachers are searched; then 100 000 people with 100 000 lessons, 1 000 000 messages of a hundred days and
100 000 entries of the office's lists are listed. A real Postgres, with its data in memory, and one connection of the
server's own pool, after some calls to warm it. One line per question: the median and the 99th percentile of its
milliseconds, and the rows it answered. For comparisons within one run.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import uvloop

from bench import machine
from bench.crowd import Crowd
from bench.database import Database
from store import allocations, audit, database, directory, search, stats
from store.database import Pool
from store.directory import Place

WARMUPS: Final = 10
CALLS: Final = 200
#: An export as a file is measured so often.
EXPORTS: Final = 3
PAGE: Final = 201

#: 700 topics, 40 subjects, 3 000 family names; one topic that all have, and one person unlike all others.
TEACHERS: Final = """
    INSERT INTO users (id, role, first_name, last_name, topics, subjects, bio)
    SELECT 't' || n, 'teacher', 'First' || n % 500, 'Last' || n % 3000,
           ARRAY['topic' || n % 700, 'everything'], ARRAY['subject' || n % 40],
           'I have taught with patience and many examples since year ' || n
    FROM generate_series(1, 100000) n;
    UPDATE users SET first_name = 'Zacharias', last_name = 'Quixote' WHERE id = 't50000'
"""
SCHOOL: Final = """
    INSERT INTO users (id, role, first_name, last_name, email, subjects)
    SELECT r.prefix || n, r.role, 'First' || n % 500, 'Last' || n % 3000, r.prefix || n || '@example.org',
           ARRAY['subject' || n % 40]
    FROM (VALUES ('p', 'parent', 40000), ('s', 'student', 50000), ('t', 'teacher', 10000)) r (prefix, role, count),
         generate_series(1, r.count) n;
    UPDATE users SET first_name = 'Zacharias', last_name = 'Quixote' WHERE id = 's25000';
    SET session_replication_role = replica;
    UPDATE users SET parent_id = 'p' || (substr(id, 2)::int + 1) / 2 WHERE role = 'student' AND id <> 's50000';
    INSERT INTO bookings (id, student_id, teacher_id, start_time, end_time, status)
    SELECT gen_random_uuid(), 's' || n % 50000 + 1, 't' || n % 10000 + 1, t, t + interval '50 minutes', 'confirmed'
    FROM generate_series(0, 99999) n, LATERAL (SELECT now() + (n / 10000 - 5) * interval '1 day' AS t) at;
    INSERT INTO sessions (id, kind, booking_id, room_name, host_id, starts_at, status)
    SELECT id, 'booking', id, 'room-' || id, teacher_id, start_time,
           CASE WHEN start_time < now() THEN 'ended' ELSE 'scheduled' END FROM bookings;
    WITH s AS (SELECT id, host_id, row_number() OVER (ORDER BY starts_at) - 1 AS place FROM sessions)
    INSERT INTO session_messages (id, session_id, seq, user_id, sender_name, text, created_at)
    SELECT gen_random_uuid(), s.id, n / 100000 + 1, s.host_id, 'Some Body', 'What is x in this equation?',
           now() - (999999 - n) * interval '8.64 seconds'
    FROM generate_series(0, 999999) n JOIN s ON s.place = n % 100000 ORDER BY n;
    INSERT INTO allocations (id, student_id, tutor_id, subject_id, created_by)
    SELECT gen_random_uuid(), 's' || n % 50000 + 1, 't' || n % 10000 + 1, 'Subject ' || n % 37 || ' of ' || n, 'boss'
    FROM generate_series(1, 100000) n;
    INSERT INTO audit_log (actor_id, action, subject)
    SELECT 'boss' || n % 5, CASE WHEN n % 1000 = 0 THEN 'profile_saved' ELSE 'tutor_assigned' END, 's' || n % 50000
    FROM generate_series(1, 100000) n;
    SET session_replication_role = origin
"""

Call = Callable[[], Awaitable[Sequence[object]]]


def searches(pool: Pool) -> Mapping[str, Call]:
    words = {
        "a topic of 142": "topic650",
        "a topic of all": "everything",
        "a beginning that all have": "ev",
        "a subject of 2 500": "subject17",
        "a name": "quixote",
        "a family name of 33": "last2999",
        "a word of all bios": "patience",
        "topic and subject": "topic17 subject17",
        "a year in one bio": "77777",
        "what nobody has": "zymurgy",
    }
    return {f"search: {what}": partial(search.teachers, pool, word, limit=PAGE) for what, word in words.items()}


def lists(pool: Pool) -> Mapping[str, Call]:
    async def numbers() -> Sequence[object]:
        return [await stats.now(pool)]

    return {
        "stats": numbers,
        "students": partial(directory.students, pool, limit=PAGE),
        "students, behind half of them": partial(
            directory.students, pool, after=Place(sort_name="last1500", id=""), limit=PAGE
        ),
        "students, q=one": partial(directory.students, pool, about="quixote", limit=PAGE),
        "students, q=an address": partial(directory.students, pool, about="s31415@example.org", limit=PAGE),
        "students, q=a family name": partial(directory.students, pool, about="last2999", limit=PAGE),
        "students, q=all of them": partial(directory.students, pool, about="first", limit=PAGE),
        "tutors": partial(directory.tutors, pool, limit=PAGE),
        "tutors, q=all of them": partial(directory.tutors, pool, about="last", limit=PAGE),
        "allocations": partial(allocations.newest, pool, limit=PAGE),
        "allocations, behind 50 000": partial(allocations.newest, pool, before=50_000, limit=PAGE),
        "allocations, q=one student": partial(allocations.newest, pool, about="quixote", limit=PAGE),
        "allocations, q=a subject of 2 700": partial(allocations.newest, pool, about="subject 17", limit=PAGE),
        "allocations, q=all of them": partial(allocations.newest, pool, about="subject", limit=PAGE),
        "audit": partial(audit.newest, pool, limit=PAGE),
        "audit, q=an actor of 20 000": partial(audit.newest, pool, about="boss3", limit=PAGE),
        "audit, q=a rare action": partial(audit.newest, pool, about="profile_saved", limit=PAGE),
    }


async def export(pool: Pool) -> Sequence[object]:
    """All students, as `?format=csv` reads them."""
    found = await directory.students(pool, limit=1000)
    while len(found) % 1000 == 0:
        last = Place(sort_name=found[-1].sort_name, id=found[-1].id)
        more = await directory.students(pool, after=last, limit=1000)
        if not more:
            break
        found += more
    return found


async def timed(what: str, call: Call, *, calls: int, warmups: int) -> None:
    for _ in range(warmups):
        await call()
    waits = []
    for _ in range(calls):
        since = time.perf_counter()
        found = await call()
        waits.append(1e3 * (time.perf_counter() - since))
    waits.sort()
    p50, p99 = waits[len(waits) // 2], waits[min(len(waits) - 1, len(waits) * 99 // 100)]
    print(f"{what:45} p50 {p50:8.2f} ms  p99 {p99:8.2f} ms  {len(found):6} rows", flush=True)


async def measure(dsn: str, questions: Callable[[Pool], Mapping[str, Call]], *, exports: bool) -> None:
    pool = await database.connect(dsn, size=1)
    try:
        for what, call in questions(pool).items():
            await timed(what, call, calls=CALLS, warmups=WARMUPS)
        if exports:
            await timed("students, format=csv", partial(export, pool), calls=EXPORTS, warmups=1)
    finally:
        await pool.close()


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="encounters-bench-"))
    postgres = Database(folder)
    machine.pin(machine.LOAD_CORE)
    try:
        postgres.start()
        machine.pin(machine.SERVER_CORE)
        for filled, questions, exports in ((TEACHERS, searches, False), (SCHOOL, lists, True)):
            with postgres.fresh("ours", Crowd(1, 1)) as dsn:
                postgres.execute(dsn, filled, "VACUUM ANALYZE")
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    runner.run(measure(dsn, questions, exports=exports))
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
