"""The rules of profiles, and the memory for tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from domain import people
from domain.errors import BadRequest, Forbidden
from domain.identity import Identity, Role
from domain.people import People
from store import users
from store.database import Pool, connect
from tests.domain.test_booking_rules import identity, user


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    pool = await connect(database, size=2)
    yield pool
    await pool.close()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


ADA = Identity(user_id="ada", role="teacher", first_name="Ada", last_name="Lovelace", email="ada@x.org")


async def test_a_token_that_was_seen_costs_no_query(pool: Pool) -> None:
    known = People(pool)
    await known.remember(ADA)
    await pool.execute("DELETE FROM users")
    await known.remember(ADA)
    assert await users.find(pool, "ada") is None


async def test_a_token_is_written_again_when_it_says_something_new_or_time_has_passed(pool: Pool) -> None:
    clock = Clock()
    known = People(pool, clock=clock)
    await known.remember(ADA)
    await known.remember(Identity(user_id="ada", role="student", first_name="Ada"))
    assert (await users.find(pool, "ada") or user("", "admin")).role == "student"
    await pool.execute("UPDATE users SET role = 'parent'")
    clock.now += people.REMEMBERED_SECONDS
    await known.remember(Identity(user_id="ada", role="student", first_name="Ada"))
    assert (await users.find(pool, "ada") or user("", "admin")).role == "student"


async def test_the_memory_is_bounded_and_forgets_the_oldest(pool: Pool) -> None:
    known = People(pool, most=2)
    for name in ("a", "b", "c"):
        await known.remember(Identity(user_id=name, role="student"))
    await pool.execute("DELETE FROM users")
    for name in ("b", "c", "a"):
        await known.remember(Identity(user_id=name, role="student"))
    assert [row["id"] for row in await pool.fetch("SELECT id FROM users")] == ["a"]
    known.forget("c")
    await known.remember(Identity(user_id="c", role="student"))
    assert await users.find(pool, "c") is not None


@pytest.mark.parametrize(
    ("someone", "user_id", "role", "present", "allowed"),
    [
        (identity("s", "student"), "s", "student", None, True),
        (identity("s", "student"), "s", "teacher", None, False),
        (identity("s", "student"), "s", "admin", None, False),
        (identity("s", "student"), "other", "student", None, False),
        (identity("t", "teacher"), "s", "student", user("s", "student"), False),
        (identity("boss", "admin"), "new", "teacher", None, True),
        (identity("boss", "admin"), "s", "teacher", user("s", "student"), True),
        (identity("boss", "admin"), "s", "admin", user("s", "student"), False),
        (identity("boss", "admin"), "new", "admin", None, False),
        (identity("boss", "admin"), "chief", "student", user("chief", "admin"), False),
        (identity("boss", "admin"), "chief", "admin", user("chief", "admin"), True),
        (identity("boss", "admin"), "boss", "admin", user("boss", "admin"), True),
        (identity("boss", "admin"), "boss", "teacher", user("boss", "admin"), False),
    ],
)
def test_a_role_comes_from_the_token(
    someone: Identity, user_id: str, role: Role, present: users.User | None, allowed: bool
) -> None:
    if allowed:
        people.check_may_save_profile(someone, user_id, role, present=present)
    else:
        with pytest.raises(Forbidden):
            people.check_may_save_profile(someone, user_id, role, present=present)


def test_a_student_or_an_admin_names_a_students_parent() -> None:
    people.check_may_set_parent(identity("s"), "s", "student")
    people.check_may_set_parent(identity("boss", "admin"), "s", "student")
    with pytest.raises(Forbidden):
        people.check_may_set_parent(identity("other"), "s", "student")
    with pytest.raises(BadRequest):
        people.check_may_set_parent(identity("t", "teacher"), "t", "teacher")


def test_a_parent_is_a_known_parent() -> None:
    people.check_parent(user("p", "parent"), "s")
    for wrong in (None, user("p", "teacher"), user("s", "parent")):
        with pytest.raises(BadRequest):
            people.check_parent(wrong, "s")


@pytest.mark.parametrize("email", ["ada@example.org", "o'brien+x@sub.example", "ü@bücher.example", "a@b"])
def test_a_plausible_address_is_taken(email: str) -> None:
    assert people.email_problem(email) is None


@pytest.mark.parametrize("email", ["", "ada", "ada@", "@x", "a b@x", "a@b@c", "a@" + "x" * 320, "a@b\u200bc"])
def test_an_implausible_address_is_refused(email: str) -> None:
    assert people.email_problem(email) is not None


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Asia/Kolkata"])
def test_a_known_time_zone_is_taken(timezone: str) -> None:
    assert people.timezone_problem(timezone) is None


@pytest.mark.parametrize(
    "timezone", ["", "Europe", "Mars/Base", "../etc/passwd", "/etc/passwd", "x" * 5000, "/".join("a" * 300), "x" * 65]
)
def test_an_unknown_time_zone_is_refused(timezone: str) -> None:
    assert people.timezone_problem(timezone) is not None
