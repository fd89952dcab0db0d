"""Who belongs to a session, and who leads it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from domain import access
from domain.errors import Conflict, Forbidden, NotFound
from domain.identity import Identity, Role
from store import courses, participants, users
from store.database import Pool
from store.sessions import Session
from tests.support.lessons import MEMBERS, STRANGERS, book, database_pool, identity, live_session, make_course

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SESSION = Session(
    id=UUID(int=1),
    kind="booking",
    room_name="amber-otter-bcdfghjkmn",
    title="",
    host_id="teach",
    status="scheduled",
    chat_open=True,
    starts_at=NOW,
    ends_at=None,
    recording_enabled=True,
    notes=[],
    files=[],
    last_seq=0,
    created_at=NOW,
    updated_at=NOW,
    booking_id=UUID(int=1),
    booking_status="pending",
    student_id="kid",
    teacher_id="teach",
    booking_parent_id="gran",
    student_parent_id="mum",
)
ALONE = replace(SESSION, booking_parent_id=None, student_parent_id=None)

HOST, MEMBER, NOBODY = "host", "member", "nobody"


@pytest.mark.parametrize(
    ("user_id", "role", "session", "standing"),
    [
        ("teach", "teacher", SESSION, HOST),
        ("teach", "student", SESSION, MEMBER),
        ("teach", "parent", SESSION, MEMBER),
        ("kid", "student", SESSION, MEMBER),
        ("kid", "teacher", SESSION, MEMBER),
        ("mum", "parent", SESSION, MEMBER),
        ("gran", "parent", SESSION, MEMBER),
        ("boss", "admin", SESSION, HOST),
        ("kid", "admin", SESSION, HOST),
        ("other", "teacher", SESSION, NOBODY),
        ("other", "student", SESSION, NOBODY),
        ("other", "parent", SESSION, NOBODY),
        ("mum", "parent", ALONE, NOBODY),
        ("gran", "parent", ALONE, NOBODY),
        ("None", "student", ALONE, NOBODY),
        ("KID", "student", SESSION, NOBODY),
        ("kid ", "student", SESSION, NOBODY),
    ],
)
def test_who_may(user_id: str, role: Role, session: Session, standing: str) -> None:
    someone = Identity(user_id=user_id, role=role)
    if standing == NOBODY:
        with pytest.raises(Forbidden, match=r"^Access denied to this session$"):
            access.member(session, someone, name="N", kicked=False)
        return
    member = access.member(session, someone, name="N", kicked=False)
    assert (member.session_id, member.room_name, member.user_id, member.name, member.role) == (
        session.id,
        session.room_name,
        user_id,
        "N",
        role,
    )
    assert member.is_host == (standing == HOST)
    if standing == HOST:
        access.require_host(member)
    else:
        with pytest.raises(Forbidden) as refusal:
            access.require_host(member, "Only the host.")
        assert (refusal.value.code, refusal.value.message) == ("not_host", "Only the host.")


CLASS = replace(
    ALONE,
    kind="course",
    booking_id=None,
    booking_status=None,
    student_id=None,
    teacher_id=None,
    course_id=UUID(int=2),
    instructor_id="teach2",
)


@pytest.mark.parametrize(
    ("user_id", "role", "enrolled", "standing"),
    [
        ("teach", "teacher", False, HOST),
        ("teach", "student", False, MEMBER),
        ("teach2", "teacher", False, MEMBER),
        ("kid", "student", True, MEMBER),
        ("kid", "teacher", True, MEMBER),
        ("boss", "admin", False, HOST),
        ("kid", "student", False, NOBODY),
        ("mum", "parent", False, NOBODY),
        ("other", "teacher", False, NOBODY),
    ],
)
def test_who_may_in_a_class(user_id: str, role: Role, enrolled: bool, standing: str) -> None:
    someone = Identity(user_id=user_id, role=role)
    if standing == NOBODY:
        with pytest.raises(Forbidden, match=r"^Access denied to this session$"):
            access.member(CLASS, someone, name="N", kicked=False, enrolled=enrolled)
        return
    member = access.member(CLASS, someone, name="N", kicked=False, enrolled=enrolled)
    assert member.is_host == (standing == HOST)
    with pytest.raises(Forbidden) as refusal:
        access.member(CLASS, someone, name="N", kicked=True, enrolled=enrolled)
    assert refusal.value.code == "kicked"


@pytest.mark.parametrize("user_id", MEMBERS)
def test_who_was_kicked_is_no_member(user_id: str) -> None:
    with pytest.raises(Forbidden) as refusal:
        access.member(SESSION, identity(user_id), name="", kicked=True)
    assert refusal.value.code == "kicked"


def test_a_stranger_is_not_told_that_they_were_kicked() -> None:
    with pytest.raises(Forbidden, match="Access denied"):
        access.member(SESSION, identity("kid2"), name="", kicked=True)


def test_a_closed_chat_is_a_conflict() -> None:
    access.require_open_chat(SESSION)
    with pytest.raises(Conflict) as refusal:
        access.require_open_chat(replace(SESSION, chat_open=False))
    assert refusal.value.code == "booking_cancelled"


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("00000000-0000-0000-0000-000000000001", UUID(int=1)),
        ("ABCDEF00-0000-0000-0000-000000000001", UUID("abcdef00-0000-0000-0000-000000000001")),
        ("amber-otter-bcdfghjkmn", "amber-otter-bcdfghjkmn"),
        ("x", "x"),
        ("x" * 200, "x" * 200),
    ],
)
def test_a_session_is_called_by_id_or_by_name(text: str, ref: UUID | str) -> None:
    assert access.session_ref(text) == ref


@pytest.mark.parametrize("text", ["", "\x00", "a\x00", "x" * 201, "\x00" * 300])
def test_what_can_be_neither_is_not_found(text: str) -> None:
    with pytest.raises(NotFound) as refusal:
        access.session_ref(text)
    assert refusal.value.code == "session_not_found"


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def test_members_enter_with_their_name_and_strangers_do_not(pool: Pool) -> None:
    session_id = await book(pool)
    for user_id in MEMBERS:
        session, member = await access.enter(pool, session_id, identity(user_id))
        assert (session.id, member.session_id, member.name) == (session_id, session_id, user_id.capitalize())
        assert await access.enter(pool, session.room_name, identity(user_id)) == (session, member)
    for user_id in STRANGERS:
        with pytest.raises(Forbidden):
            await access.enter(pool, session_id, identity(user_id))
    for nothing in (uuid4(), "no-such-room"):
        with pytest.raises(NotFound):
            await access.enter(pool, nothing, identity("boss"))


async def test_a_new_parent_belongs_and_a_former_one_does_not(pool: Pool) -> None:
    session_id = await book(pool)
    await users.set_parent(pool, "kid", "mum2")
    await access.enter(pool, session_id, identity("mum2"))
    with pytest.raises(Forbidden):
        await access.enter(pool, session_id, identity("mum"))


async def test_a_kick_is_of_one_session(pool: Pool) -> None:
    session_id, other = await book(pool), await book(pool)
    async with pool.acquire() as connection:
        await participants.change(connection, session_id, "kid", was_kicked=True)
    with pytest.raises(Forbidden):
        await access.enter(pool, session_id, identity("kid"))
    await access.enter(pool, other, identity("kid"))


async def test_those_who_are_enrolled_enter_a_class_and_their_parents_do_not(pool: Pool) -> None:
    session_id = await live_session(pool, students=("kid",))
    for user_id, is_host in (("teach", True), ("kid", False), ("boss", True)):
        _, member = await access.enter(pool, session_id, identity(user_id))
        assert member.is_host == is_host
    for user_id in ("mum", "gran", "teach2", "kid2"):
        with pytest.raises(Forbidden):
            await access.enter(pool, session_id, identity(user_id))


async def test_a_course_that_changes_hands_keeps_its_classes_hosts(pool: Pool) -> None:
    course_id = await make_course(pool)
    session_id = await live_session(pool, course_id=course_id)
    async with pool.acquire() as connection:
        await courses.save(connection, course_id, title=None, description=None, instructor_id="teach2")
    _, former = await access.enter(pool, session_id, identity("teach"))
    _, present = await access.enter(pool, session_id, identity("teach2"))
    assert (former.is_host, present.is_host) == (True, False)
