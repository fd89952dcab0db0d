"""Live classes, as they are made and listed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from store import enrollments, live_sessions, session_settings, sessions
from store.bookings import Position
from store.database import Pool
from store.errors import Away
from store.session_settings import Settings
from store.sessions import Session
from tests.support.lessons import book, database_pool, enroll, live_session, make_course
from tests.support.plans import indexes_in, plan_of


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def found(pool: Pool, ref: UUID | str) -> Session:
    session = await sessions.find(pool, ref)
    assert session is not None
    return session


async def test_a_class_has_its_course_its_instructor_and_its_host(pool: Pool) -> None:
    course_id = await make_course(pool)
    session_id = await live_session(pool, course_id=course_id, host="boss", max_participants=50, title="Vectors")
    session = await found(pool, session_id)
    assert (session.kind, session.course_id, session.instructor_id, session.host_id) == (
        "course",
        course_id,
        "teach",
        "boss",
    )
    assert (session.title, session.max_participants, session.recording_enabled, session.status) == (
        "Vectors",
        50,
        False,
        "scheduled",
    )
    assert (session.booking_id, session.student_id, session.settings) == (None, None, Settings())
    assert await found(pool, session.room_name) == session


async def test_an_entrance_says_who_is_enrolled(pool: Pool) -> None:
    session_id = await live_session(pool, students=("kid",))
    other = await live_session(pool, students=("kid2",))
    for ref, user_id, enrolled in (
        (session_id, "kid", True),
        (session_id, "kid2", False),
        (session_id, "teach", False),
        (other, "kid2", True),
        ((await found(pool, other)).room_name, "kid", False),
        (await book(pool), "kid", False),
    ):
        entrance = await sessions.find_for(pool, ref, user_id)
        assert entrance is not None
        assert entrance.is_enrolled == enrolled, (ref, user_id)


async def test_whoever_leaves_the_course_is_not_enrolled(pool: Pool) -> None:
    course_id = await make_course(pool, students=("kid",))
    session_id = await live_session(pool, course_id=course_id)
    async with pool.acquire() as connection:
        await enrollments.delete(connection, course_id, "kid")
    entrance = await sessions.find_for(pool, session_id, "kid")
    assert entrance is not None
    assert not entrance.is_enrolled


async def test_settings_stand_as_they_were_written_and_where_the_session_stands(pool: Pool) -> None:
    session_id = await live_session(pool)
    settings = Settings(locked=True, waiting_room=True, chat_muted=True, slow_mode_seconds=30, whiteboard_locked=True)
    async with pool.acquire() as connection, connection.transaction():
        await session_settings.save(connection, session_id, settings)
    session = await found(pool, session_id)
    assert session.settings == settings
    standing = await sessions.standing(pool, session_id)
    assert standing == sessions.Standing(last_seq=0, status="scheduled", settings=settings)


async def test_a_name_that_is_taken_is_not_taken_twice(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    session_id = await live_session(pool)
    taken = (await found(pool, session_id)).room_name
    names = [taken, taken, "a-free-name"]
    monkeypatch.setattr(live_sessions, "new_room_name", lambda: names.pop(0))
    assert (await found(pool, await live_session(pool))).room_name == "a-free-name"
    monkeypatch.setattr(live_sessions, "new_room_name", lambda: taken)
    with pytest.raises(Away):
        await live_session(pool)
    assert await pool.fetchval("SELECT count(*) FROM sessions") == 2


async def test_those_whom_somebody_leads_are_read_in_pieces_newest_first(pool: Pool) -> None:
    course_id = await make_course(pool)
    made = [await live_session(pool, course_id=course_id) for _ in range(5)]
    await book(pool)  # a booking's session is nobody else's business
    await live_session(pool, host="teach2")
    same = (await found(pool, made[4])).starts_at
    await pool.execute("UPDATE sessions SET starts_at = $1 WHERE id = ANY($2)", same, made[2:])
    wanted = [*sorted(made[2:], reverse=True), made[1], made[0]]
    for attended in (False, True):
        pieces: list[UUID] = []
        after: Position | None = None
        while True:
            if attended:
                found_here = [
                    one.session for one in await live_sessions.in_course(pool, course_id, after=after, limit=2)
                ]
            else:
                found_here = list(await live_sessions.led_by(pool, "teach", after=after, limit=2))
            if not found_here:
                break
            pieces += [session.id for session in found_here]
            after = Position(start_time=found_here[-1].starts_at, id=found_here[-1].id)
        assert pieces == wanted
    assert await live_sessions.led_by(pool, "kid", limit=2) == []
    assert await live_sessions.in_course(pool, uuid4(), limit=2) == []


async def test_who_has_been_in_a_class_is_counted(pool: Pool) -> None:
    course_id = await make_course(pool, students=("kid", "kid2"))
    visited, empty = await live_session(pool, course_id=course_id), await live_session(pool, course_id=course_id)
    await enroll(pool, course_id, "mum")
    for user_id, joined in (("kid", True), ("kid2", True), ("mum", False)):
        await pool.execute(
            "INSERT INTO session_participants (session_id, user_id, joined_at)"
            " VALUES ($1, $2, CASE WHEN $3 THEN now() END)",
            visited,
            user_id,
            joined,
        )
    listed = await live_sessions.in_course(pool, course_id, limit=9)
    assert [(one.session.id, one.participant_count) for one in listed] == [(empty, 0), (visited, 2)]


async def test_what_is_not_given_of_a_class_stays(pool: Pool) -> None:
    session_id = await live_session(pool, max_participants=5, title="Vectors")
    before = await found(pool, session_id)
    later = before.starts_at + timedelta(days=1)
    nothing = {"title": None, "starts_at": None, "recording_enabled": None, "max_participants": None}
    for change, expected in (
        ({}, ("Vectors", before.starts_at, False, 5)),
        ({"title": "Matrices", "starts_at": later}, ("Matrices", later, False, 5)),
        ({"recording_enabled": True}, ("Matrices", later, True, 5)),
        ({"sets_max_participants": True}, ("Matrices", later, True, None)),
        ({"sets_max_participants": True, "max_participants": 7}, ("Matrices", later, True, 7)),
    ):
        async with pool.acquire() as connection:
            await session_settings.save_particulars(
                connection,
                session_id,
                **{"sets_max_participants": False, **nothing, **change},  # type: ignore[arg-type]
            )
        after = await found(pool, session_id)
        assert (after.title, after.starts_at, after.recording_enabled, after.max_participants) == expected


async def test_the_lists_walk_their_indexes(pool: Pool) -> None:
    async with pool.acquire() as connection:
        for statement, arguments, index in (
            (live_sessions._CLASSES_OF_HOST, 2, "sessions_of_courses_by_host"),
            (live_sessions._CLASSES_OF_HOST_AFTER, 4, "sessions_of_courses_by_host"),
            (live_sessions._CLASSES_OF_COURSE, 2, "sessions_by_course"),
            (live_sessions._CLASSES_OF_COURSE_AFTER, 4, "sessions_by_course"),
        ):
            plan = await plan_of(connection, statement, arguments)
            assert "Seq Scan" not in plan, plan
            assert index in indexes_in(plan), plan
