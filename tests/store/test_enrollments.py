"""Enrolments: each person once, in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from store import enrollments
from store.database import Pool
from store.enrollments import Enrollment, Tier
from store.errors import Refused, translated
from tests.support.lessons import database_pool, enroll, make_course
from tests.support.plans import indexes_in, plan_of


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def save(pool: Pool, course_id: UUID, user_id: str, tier: Tier | None = None) -> tuple[Enrollment, bool]:
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            return await enrollments.save(connection, course_id, user_id, tier=tier)


async def test_somebody_is_enrolled_once_and_their_tier_changes(pool: Pool) -> None:
    course_id = await make_course(pool)
    first, is_new = await save(pool, course_id, "kid")
    assert (first.course_id, first.user_id, first.name, first.tier, is_new) == (
        course_id,
        "kid",
        "Kid",
        "standard",
        True,
    )
    tiers: list[tuple[Tier | None, Tier]] = [("premium", "premium"), (None, "premium"), ("standard", "standard")]
    for wanted, stands in tiers:
        again, is_new = await save(pool, course_id, "kid", wanted)
        assert (again.tier, again.created_at, is_new) == (stands, first.created_at, False)
    premium, is_new = await save(pool, course_id, "kid2", "premium")
    assert (premium.tier, is_new) == ("premium", True)
    assert await enrollments.find(pool, course_id, "kid2") == premium


async def test_of_many_who_enrol_one_person_one_is_the_first(pool: Pool) -> None:
    course_id = await make_course(pool)
    answers = await asyncio.gather(*(save(pool, course_id, "kid") for _ in range(8)))
    assert sorted(is_new for _, is_new in answers) == [False] * 7 + [True]


async def test_nobody_is_not_enrolled(pool: Pool) -> None:
    course_id = await make_course(pool)
    with pytest.raises(Refused) as refusal:
        await save(pool, course_id, "nobody")
    assert refusal.value.constraint == enrollments.USER_EXISTS


async def test_an_enrolment_ends_once(pool: Pool) -> None:
    course_id = await make_course(pool, students=("kid",))
    async with pool.acquire() as connection:
        assert await enrollments.delete(connection, course_id, "kid")
        assert not await enrollments.delete(connection, course_id, "kid")
    assert await enrollments.find(pool, course_id, "kid") is None
    assert await enrollments.find(pool, uuid4(), "kid") is None


async def test_those_of_a_course_are_read_in_pieces(pool: Pool) -> None:
    course_id = await make_course(pool)
    await enroll(pool, course_id, "mum", "kid2", "kid", "gran")
    await make_course(pool, students=("teach2",))
    pieces: list[str] = []
    after: str | None = None
    while found := await enrollments.in_course(pool, course_id, after=after, limit=3):
        pieces += [one.user_id for one in found]
        after = found[-1].user_id
    assert pieces == ["gran", "kid", "kid2", "mum"]


async def test_the_list_walks_its_index(pool: Pool) -> None:
    statement = f"{enrollments._ENROLLMENT} WHERE e.course_id = $1 AND e.user_id > $2 ORDER BY e.user_id LIMIT $3"
    async with pool.acquire() as connection:
        plan = await plan_of(connection, statement, 3)
    assert "Seq Scan" not in plan, plan
    assert "Sort" not in plan, plan
    assert indexes_in(plan) == {"enrollments_pkey", "users_pkey"}
