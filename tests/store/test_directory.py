"""The lists of people."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from store import directory
from store.database import Pool, connect
from store.directory import Place
from tests.support.plans import indexes_in, plan_of


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    pool = await connect(database, size=2)
    yield pool
    await pool.close()


async def add(pool: Pool, user_id: str, name: str, role: str = "student", email: str | None = None) -> None:
    first, _, last = name.partition(" ")
    await pool.execute(
        "INSERT INTO users (id, role, first_name, last_name, email) VALUES ($1, $2, $3, $4, $5)",
        *(user_id, role, first, last, email),
    )


async def test_students_stand_by_last_and_first_name_whatever_case_and_accents(pool: Pool) -> None:
    for user_id, name in (
        ("1", "Zoe Zimmer"), ("2", "Änne Ärmel"), ("3", "adam arm"), ("4", "Bea Arm"), ("5", "Bea Arm"), ("6", "Cher"),
    ):  # fmt: skip
        await add(pool, user_id, name)
    await add(pool, "t", "Ada Aaa", "teacher")
    assert [student.id for student in await directory.students(pool, limit=10)] == ["3", "4", "5", "2", "6", "1"]


async def test_a_student_comes_with_the_parent_whom_they_have(pool: Pool) -> None:
    await add(pool, "mum", "Mum Brandt", "parent", "mum@example.org")
    await add(pool, "kid", "Kid Brandt")
    await add(pool, "alone", "Al One")
    await pool.execute("UPDATE users SET parent_id = 'mum' WHERE id = 'kid'")
    kid, alone = await directory.students(pool, limit=10)
    assert (kid.id, kid.parent_id, kid.parent_email) == ("kid", "mum", "mum@example.org")
    assert (alone.parent_id, alone.parent_email) == (None, None)


async def test_a_tutor_comes_with_subjects_and_rating(pool: Pool) -> None:
    await add(pool, "t", "Ada Lovelace", "teacher")
    await add(pool, "new", "New Tutor", "teacher")
    await pool.execute("UPDATE users SET subjects = '{Maths, Poetry}' WHERE id = 't'")
    await pool.execute("INSERT INTO teacher_ratings VALUES ('t', 9, 2)")
    rated, unrated = await directory.tutors(pool, limit=10)
    assert (rated.id, rated.subjects, rated.rating, rated.reviews) == ("t", ["Maths", "Poetry"], 4.5, 2)
    assert (unrated.id, unrated.rating, unrated.reviews) == ("new", None, 0)


async def test_people_are_found_by_name_address_and_id(pool: Pool) -> None:
    await add(pool, "u-17", "Bjørn Ångström", email="b.angstrom@uni.example")
    await add(pool, "u-18", "Bea Other", email="bea@uni.example")

    async def found(about: str) -> list[str]:
        return [student.id for student in await directory.students(pool, about=about, limit=10)]

    for about in ("bjorn", "ANGSTROM b", "b.angstrom@uni.example", "u-17", "Ångst"):
        assert await found(about) == ["u-17"]
    assert await found("uni.example") == ["u-17", "u-18"]
    assert await found("nobody") == []
    assert await found("@") == []
    assert await directory.tutors(pool, about="bjorn", limit=10) == []


async def test_a_list_read_in_pieces_is_whole(pool: Pool) -> None:
    for number in range(10):
        await add(pool, f"u{number}", f"Same Name{number % 3}")
    for about in (None, "same"):
        whole = [student.id for student in await directory.students(pool, about=about, limit=100)]
        pieces: list[str] = []
        after: Place | None = None
        while piece := await directory.students(pool, about=about, after=after, limit=3):
            pieces += [student.id for student in piece]
            after = Place(sort_name=piece[-1].sort_name, id=piece[-1].id)
        assert pieces == whole
        assert len(whole) == 10


async def test_a_place_stays_where_it_is_when_its_person_moves_or_is_gone(pool: Pool) -> None:
    for letter in "abcd":
        await add(pool, letter, f"X {letter}")
    [_, second] = await directory.students(pool, limit=2)
    place = Place(sort_name=second.sort_name, id=second.id)
    for change in ("UPDATE users SET last_name = 'zz' WHERE id = 'b'", "DELETE FROM users WHERE id = 'b'"):
        await pool.execute(change)
        assert [student.id for student in await directory.students(pool, after=place, limit=2)] == ["c", "d"]


async def test_the_longest_name_stands_in_the_list(pool: Pool) -> None:
    await add(pool, "long", "ﷺ" * 200 + " " + "🦊" * 200)
    [student] = await directory.students(pool, limit=2)
    assert len(student.sort_name) == 200


@pytest.mark.parametrize("count", [0, 5_000])
async def test_a_page_of_a_long_list_is_read_by_an_index(pool: Pool, count: int) -> None:
    statements: list[tuple[str, int]] = []

    class Watching:
        async def fetch(self, statement: str, *values: object) -> list[object]:
            statements.append((statement, len(values)))
            return []

    watching = cast(Any, Watching())
    for about in (None, "last1"):
        for after in (None, Place(sort_name="last7 first7", id="s7")):
            await directory.students(watching, about=about, after=after, limit=200)
            await directory.tutors(watching, about=about, after=after, limit=200)
    async with pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO users (id, role, first_name, last_name) SELECT r || n,"
            " CASE r WHEN 's' THEN 'student' ELSE 'teacher' END, 'First' || n % 50, 'Last' || n % 700"
            f" FROM generate_series(1, {count}) AS n, unnest(ARRAY['s', 't']) AS r"
        )
        if count:
            await connection.execute("ANALYZE users, directory")
        for statement, arguments in statements:
            plan = await plan_of(connection, statement, arguments)
            searched = "search_query" in statement
            assert ("directory_by_words" if searched else "directory_in_order") in indexes_in(plan), plan
            assert "Seq Scan" not in plan
            if not searched:
                assert "Sort" not in plan.replace("Sort Key", ""), plan
