"""Allocations, as they are stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from store import allocations
from store.database import Pool
from store.errors import Refused, translated
from tests.support.lessons import database_pool
from tests.support.plans import indexes_in, plan_of


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def give(
    pool: Pool, student_id: str = "kid", tutor_id: str = "teach", subject_id: str = "Maths"
) -> tuple[UUID, bool]:
    with translated():
        async with pool.acquire() as connection:
            return await allocations.insert(
                connection, student_id=student_id, tutor_id=tutor_id, subject_id=subject_id, created_by="boss"
            )


async def shown(pool: Pool, about: str | None = None) -> list[tuple[str, str, str]]:
    found = await allocations.newest(pool, about=about, limit=100)
    return [(one.student_id, one.tutor_id, one.subject_id) for one in found]


async def test_a_tutor_is_given_once_for_each_subject(pool: Pool) -> None:
    made, is_new = await give(pool)
    assert is_new
    assert await give(pool) == (made, False)
    other, is_new = await give(pool, subject_id="Poetry")
    assert (is_new, other == made) == (True, False)
    assert await shown(pool) == [("kid", "teach", "Poetry"), ("kid", "teach", "Maths")]


async def test_of_many_requests_at_once_one_makes_it_and_all_have_its_id(pool: Pool) -> None:
    outcomes = await asyncio.gather(*(give(pool) for _ in range(8)))
    assert len({made for made, _ in outcomes}) == 1
    assert [is_new for _, is_new in outcomes].count(True) == 1


@pytest.mark.parametrize(
    ("student_id", "tutor_id", "constraint"),
    [("nobody", "teach", allocations.STUDENT_EXISTS), ("kid", "nobody", allocations.TUTOR_EXISTS)],
)
async def test_nobody_unknown_is_brought_together(pool: Pool, student_id: str, tutor_id: str, constraint: str) -> None:
    with pytest.raises(Refused) as refusal:
        await give(pool, student_id, tutor_id)
    assert refusal.value.constraint == constraint


async def test_an_allocation_ends_once(pool: Pool) -> None:
    made, _ = await give(pool)
    async with pool.acquire() as connection:
        ended = await allocations.delete(connection, made)
        assert ended == allocations.Ended(student_id="kid", tutor_id="teach", subject_id="Maths")
        assert await allocations.delete(connection, made) is None
        assert await allocations.delete(connection, uuid4()) is None
    assert await shown(pool) == []


async def test_allocations_are_found_by_either_persons_name_and_by_subject(pool: Pool) -> None:
    await give(pool, "kid", "teach", "Französisch")
    await give(pool, "kid2", "teach", "Maths")
    await give(pool, "kid2", "teach2", "Poetry")
    assert await shown(pool, "franz") == [("kid", "teach", "Französisch")]
    assert await shown(pool, "TEACH2") == [("kid2", "teach2", "Poetry")]
    assert len(await shown(pool, "kid2")) == 2
    assert len(await shown(pool, "teach")) == 3
    assert await shown(pool, "nobody") == []
    assert await shown(pool, "!") == []


async def test_names_are_shown_and_pieces_follow_each_other(pool: Pool) -> None:
    for number in range(5):
        await give(pool, subject_id=f"S{number}")
    newest = await allocations.newest(pool, limit=2)
    older = await allocations.newest(pool, before=newest[-1].number, limit=10)
    assert [one.subject_id for one in newest + older] == ["S4", "S3", "S2", "S1", "S0"]
    assert (newest[0].student_name, newest[0].tutor_name, newest[0].created_by) == ("Kid", "Teach", "boss")
    assert len(await allocations.newest(pool, about="kid", before=newest[-1].number, limit=2)) == 2


async def whole(pool: Pool, about: str, size: int, before: int | None = None) -> list[list[int]]:
    pieces = allocations.in_pieces(pool, about=about, before=before, size=size)
    return [[one.number for one in piece] async for piece in pieces]


async def test_all_that_fits_is_found_however_many_have_the_name(pool: Pool) -> None:
    """More namesakes than a page is long, nearly all of them parents and without a tutor."""
    await pool.execute(
        "INSERT INTO users (id, role, last_name) SELECT 'p' || n, 'parent', 'Smith' FROM generate_series(1, 3000) AS n"
    )
    await pool.execute(
        "INSERT INTO users (id, role, last_name) SELECT 's' || n, 'student', 'Smith' FROM generate_series(1, 1200) AS n"
    )
    await pool.execute(
        "INSERT INTO allocations (id, student_id, tutor_id, subject_id, created_by)"
        " SELECT gen_random_uuid(), 's' || n, 'teach', 'Maths', 'boss' FROM generate_series(1, 1200) AS n ORDER BY n"
    )
    await pool.execute("UPDATE users SET role = 'teacher' WHERE id = 's7'")
    found = await allocations.newest(pool, about="smith", limit=2000)
    assert [one.student_id for one in found] == [f"s{n}" for n in range(1200, 0, -1)]
    assert [number for piece in await whole(pool, "smith", 500) for number in piece] == [one.number for one in found]


async def test_the_whole_list_comes_in_pieces_for_one_look(pool: Pool) -> None:
    for number in range(5):
        await give(pool, subject_id=f"S{number}")
    await give(pool, "kid2", "teach2")
    numbers = [one.number for one in await allocations.newest(pool, about="kid", limit=10)]
    kids = numbers[1:]  # the first is the namesake's
    assert await whole(pool, "teach kid", 3) == []
    assert await whole(pool, "s", 2) == []
    assert await whole(pool, "kid", 4) == [numbers[:4], numbers[4:]]
    assert await whole(pool, "kid", 4, before=kids[1]) == [kids[2:]]


async def test_many_allocations_are_read_by_their_indexes(pool: Pool) -> None:
    async with pool.acquire() as connection:
        for count in (0, 5_000):
            await connection.execute(
                "INSERT INTO users (id, role) SELECT r || n, CASE r WHEN 's' THEN 'student' ELSE 'teacher' END"
                f" FROM generate_series(1, {count}) AS n, unnest(ARRAY['s', 't']) AS r"
            )
            await connection.execute(
                "INSERT INTO allocations (id, student_id, tutor_id, subject_id, created_by)"
                f" SELECT gen_random_uuid(), 's' || n, 't' || n, 'S' || n, 'boss' FROM generate_series(1, {count}) AS n"
            )
            if count:
                await connection.execute("ANALYZE allocations, users, directory")
            plan = await plan_of(connection, allocations._NEWEST, 2)
            assert "allocations_number_unique" in indexes_in(plan), plan
            assert "Seq Scan" not in plan
            for statement, arguments in ((allocations._NEWEST_ABOUT, 3), (allocations._NUMBERS_ABOUT, 2)):
                plan = await plan_of(connection, statement, arguments)
                assert {
                    *("allocations_made_once", "allocations_by_tutor"),
                    *("allocations_by_words", "directory_by_words"),
                } <= indexes_in(plan), plan
                assert "Seq Scan" not in plan
            plan = await plan_of(connection, allocations._NUMBERED, 1)
            assert "allocations_number_unique" in indexes_in(plan), plan
            assert "Seq Scan" not in plan
    assert await shown(pool, "s4242") == [("s4242", "t4242", "S4242")]
