"""People, as they are stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
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
    assert (user.bio, user.topics, user.subjects, user.timezone) == ("", [], [], "UTC")
    assert (user.name_set, user.email_set, user.parent_accepted) == (False, False, False)
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


async def test_a_profile_with_a_name_alone_leaves_the_address_to_the_token(pool: Pool) -> None:
    named = ProfileToSave(user_id="ada", role="teacher", first_name="Augusta", last_name="King")
    await users.save_profile(pool, named)
    for email in ("first@x.org", "second@x.org"):
        user = await users.upsert_from_token(pool, Identity(user_id="ada", role="teacher", email=email))
        assert (user.name, user.email) == ("Augusta King", email)
    before = await version(pool, "ada")
    await users.upsert_from_token(pool, Identity(user_id="ada", role="teacher", first_name="Eda", email="second@x.org"))
    assert await version(pool, "ada") == before, "the token says nothing new"
    await users.save_profile(pool, replace(named, sets_email=True))
    user = await users.upsert_from_token(pool, Identity(user_id="ada", role="teacher", email="third@x.org"))
    assert user.email is None, "it was taken away here"
    await users.save_profile(pool, named)
    assert (await users.upsert_from_token(pool, ADA)).email is None


async def test_the_first_requests_of_a_person_may_all_come_at_once(pool: Pool) -> None:
    found = await asyncio.gather(*(users.upsert_from_token(pool, ADA) for _ in range(50)))
    assert {user.id for user in found} == {"ada"}


async def test_an_unknown_person_is_not_found(pool: Pool) -> None:
    assert await users.find(pool, "nobody") is None


async def test_a_profile_is_made_and_then_changed(pool: Pool) -> None:
    made = await users.save_profile(pool, ADAS_PROFILE)
    assert made.before is None
    assert (made.user.name_set, made.user.email_set) == (True, True)
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
    assert await children(pool, "mum") == [("Abe", False), ("Zoe", False)]
    assert await users.accept_child(pool, "mum", "Zoe") is not None
    assert await children(pool, "mum") == [("Zoe", True), ("Abe", False)]
    assert await children(pool, "mum", limit=1) == [("Zoe", True)]
    assert await children(pool, "Zoe") == []


async def children(pool: Pool, parent_id: str, limit: int = 9) -> list[tuple[str, bool]]:
    """The ids of those who name the parent, and whether the parent has accepted it."""
    found = await users.children_of(pool, parent_id, limit=limit)
    return [(child.id, child.parent_accepted) for child in found]


async def test_a_parent_is_accepted_by_themself_or_an_administrator_until_another_is_named(pool: Pool) -> None:
    for user_id in ("mum", "dad"):
        await users.upsert_from_token(pool, Identity(user_id=user_id, role="parent"))
    plain = ProfileToSave(user_id="kid", role="student", first_name="Kid", last_name="")

    async def name(parent_id: str | None, *, by_admin: bool = False) -> bool:
        named = replace(plain, parent_id=parent_id, sets_parent=True, accepts_parent=by_admin)
        return (await users.save_profile(pool, named)).user.parent_accepted

    assert not await name("mum")
    assert await users.accept_child(pool, "dad", "kid") is None
    assert await users.accept_child(pool, "mum", "nobody") is None
    accepted = await users.accept_child(pool, "mum", "kid")
    assert accepted is not None
    assert accepted.accepted_parent_id == "mum"
    assert await name("mum"), "the same parent again"
    assert (await users.save_profile(pool, plain)).user.parent_accepted, "what is not given stays"
    assert not await name("dad")
    assert not await name("mum"), "not for good"
    assert await name("dad", by_admin=True)
    assert not await name(None, by_admin=True)
    await users.set_parent(pool, "kid", "mum")
    assert await children(pool, "mum") == [("kid", True)]
    await pool.execute("DELETE FROM users WHERE id = 'mum'")
    assert not await name("dad"), "who was accepted is gone"


async def test_a_parent_leaves_the_student_who_names_them_and_no_other(pool: Pool) -> None:
    for user_id in ("mum", "dad"):
        await users.upsert_from_token(pool, Identity(user_id=user_id, role="parent"))
    await users.upsert_from_token(pool, Identity(user_id="kid", role="student"))
    await users.set_parent(pool, "kid", "mum")
    assert not await users.leave_child(pool, "dad", "kid")
    assert await children(pool, "mum") == [("kid", True)]
    assert await users.leave_child(pool, "mum", "kid")
    assert not await users.leave_child(pool, "mum", "kid")
    left = await users.find(pool, "kid")
    assert left is not None
    assert (left.parent_id, left.parent_accepted) == (None, False)


async def test_the_people_of_one_booking_share_it_and_nobody_else(pool: Pool) -> None:
    for user_id, role in (
        ("t", "teacher"),
        ("s", "student"),
        ("p", "parent"),
        ("q", "parent"),
        ("x", "student"),
    ):
        await pool.execute("INSERT INTO users (id, role) VALUES ($1, $2)", user_id, role)
    await pool.execute("UPDATE users SET parent_id = 'q' WHERE id = 's'")  # who has not accepted it
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
    for accepted in (False, True):
        await pool.execute("UPDATE users SET parent_accepted = $1 WHERE id = 's'", accepted)
        for one in people:
            for other in people:
                assert await users.share_a_booking(pool, one, other) == (accepted or other != "q")
    for one in people:
        assert not await users.share_a_booking(pool, one, "x")
        assert not await users.share_a_booking(pool, "x", one)
