"""People, as they are stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from domain.identity import Identity
from store import bookings, users
from store.database import Pool, connect
from store.errors import Refused
from store.users import ProfileToSave


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    pool = await connect(database, size=10)
    yield pool
    await pool.close()


ADA = Identity(user_id="ada", role="teacher", first_name="Ada", last_name="Lovelace", email="ada@x.org")
ADAS_PROFILE = ProfileToSave(
    user_id="ada", role="teacher", first_name="Augusta", last_name="King", email="king@x.org", sets_email=True
)


async def version(pool: Pool, user_id: str) -> str:
    """Changes with every write to the row, locks included."""
    found: str = await pool.fetchval("SELECT concat(xmin, xmax, ctid) FROM users WHERE id = $1", user_id)
    return found


async def test_a_token_makes_its_bearer_known(pool: Pool) -> None:
    user = await users.upsert_from_token(pool, ADA)
    assert (user.id, user.role, user.name, user.email) == ("ada", "teacher", "Ada Lovelace", "ada@x.org")
    assert (user.bio, user.topics, user.subjects, user.timezone, user.profile_set) == (
        "",
        [],
        [],
        "UTC",
        False,
    )
    assert user.created_at.utcoffset() == timedelta(0)
    assert await users.find(pool, "ada") == user


async def test_a_token_that_says_nothing_new_writes_nothing(pool: Pool) -> None:
    first = await users.upsert_from_token(pool, ADA)
    before = await version(pool, "ada")
    assert await users.upsert_from_token(pool, ADA) == first
    assert await users.upsert_from_token(pool, Identity(user_id="ada", role="teacher")) == first
    assert await version(pool, "ada") == before


async def test_many_tokens_at_once_are_one_statement_and_each_gets_its_own_row(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    load = users._upsert_from_tokens

    async def counted(executor: Any, tokens: Any) -> Any:
        batches.append(len(tokens))
        return await load(executor, tokens)

    monkeypatch.setattr(users, "_upsert_from_tokens", counted)
    await users.upsert_from_token(pool, Identity(user_id="u3", role="parent"))
    people = [Identity(user_id=f"u{n}", role="student", first_name=f"N{n}") for n in range(20)]
    found = await asyncio.gather(*(users.upsert_from_token(pool, one) for one in people))
    assert [(user.id, user.role, user.first_name) for user in found] == [
        (one.user_id, "student", one.first_name) for one in people
    ]
    assert batches == [1, 20]


async def test_of_two_tokens_of_one_person_at_once_the_later_counts(pool: Pool) -> None:
    earlier, later = (Identity(user_id="ada", role="teacher", first_name=name) for name in ("Early", "Late"))
    found = await asyncio.gather(users.upsert_from_token(pool, earlier), users.upsert_from_token(pool, later))
    assert [user.first_name for user in found] == ["Late", "Late"]


async def test_a_tokens_new_name_and_role_are_taken_over(pool: Pool) -> None:
    await users.upsert_from_token(pool, ADA)
    user = await users.upsert_from_token(pool, Identity(user_id="ada", role="student", first_name="Ida"))
    assert (user.role, user.first_name, user.last_name, user.email) == ("student", "Ida", "", "ada@x.org")


async def test_a_profiles_name_stands_against_the_tokens_but_the_role_is_the_tokens(pool: Pool) -> None:
    await users.save_profile(pool, ADAS_PROFILE)
    user = await users.upsert_from_token(pool, Identity(user_id="ada", role="student", first_name="Ida"))
    assert (user.role, user.name, user.email) == ("student", "Augusta King", "king@x.org")
    before = await version(pool, "ada")
    await users.upsert_from_token(pool, Identity(user_id="ada", role="student", first_name="Eda", email="e@x"))
    assert await version(pool, "ada") == before


async def test_the_first_requests_of_a_person_may_all_come_at_once(pool: Pool) -> None:
    found = await asyncio.gather(*(users.upsert_from_token(pool, ADA) for _ in range(50)))
    assert {user.id for user in found} == {"ada"}


async def test_an_unknown_person_is_not_found(pool: Pool) -> None:
    assert await users.find(pool, "nobody") is None


async def test_a_profile_is_made_and_then_changed(pool: Pool) -> None:
    made = await users.save_profile(pool, ADAS_PROFILE)
    assert made.before is None
    assert made.user.profile_set
    changed = await users.save_profile(
        pool,
        ProfileToSave(
            user_id="ada",
            role="teacher",
            first_name="Ada",
            last_name="",
            bio="Counts.",
            topics=["numbers"],
            subjects=["mathematics", "poetry"],
            timezone="Europe/London",
        ),
    )
    assert changed.before == made.user
    assert changed.user.email == "king@x.org", "what is not given stays"
    assert (changed.user.bio, changed.user.topics, changed.user.timezone) == (
        "Counts.",
        ["numbers"],
        "Europe/London",
    )
    kept = await users.save_profile(
        pool, ProfileToSave(user_id="ada", role="teacher", first_name="A", last_name="", sets_email=True)
    )
    assert kept.user.email is None
    assert (kept.user.bio, kept.user.subjects) == ("Counts.", ["mathematics", "poetry"])


async def test_a_parent_must_exist_and_be_somebody_else(pool: Pool) -> None:
    for parent_id, constraint in (("nobody", users.PARENT_EXISTS), ("kid", users.NOT_OWN_PARENT)):
        profile = ProfileToSave(
            user_id="kid",
            role="student",
            first_name="Kid",
            last_name="",
            parent_id=parent_id,
            sets_parent=True,
        )
        with pytest.raises(Refused) as refusal:
            await users.save_profile(pool, profile)
        assert refusal.value.constraint == constraint


async def test_children_are_found_by_their_parent(pool: Pool) -> None:
    await users.upsert_from_token(pool, Identity(user_id="mum", role="parent"))
    for name in ("Zoe", "Abe"):
        await users.save_profile(
            pool,
            ProfileToSave(
                user_id=name, role="student", first_name=name, last_name="", parent_id="mum", sets_parent=True
            ),
        )
    await users.upsert_from_token(pool, Identity(user_id="other", role="student"))
    assert [child.id for child in await users.children_of(pool, "mum")] == ["Abe", "Zoe"]
    assert await users.children_of(pool, "Zoe") == []


async def test_the_people_of_one_booking_share_it_and_nobody_else(pool: Pool) -> None:
    for user_id, role in (
        ("t", "teacher"),
        ("s", "student"),
        ("p", "parent"),
        ("q", "parent"),
        ("x", "student"),
    ):
        await pool.execute("INSERT INTO users (id, role) VALUES ($1, $2)", user_id, role)
    await pool.execute("UPDATE users SET parent_id = 'q' WHERE id = 's'")
    now = datetime.now(UTC)
    async with pool.acquire() as connection:
        await bookings.insert(
            connection,
            booking_id=uuid4(),
            student_id="s",
            teacher_id="t",
            parent_id="p",
            start_time=now,
            end_time=now + timedelta(hours=1),
        )
    people = ("t", "s", "p", "q")
    for one in people:
        for other in people:
            assert await users.share_a_booking(pool, one, other)
        assert not await users.share_a_booking(pool, one, "x")
        assert not await users.share_a_booking(pool, "x", one)
