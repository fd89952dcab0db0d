"""Finding teachers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from store import search
from store.database import Pool, connect
from tests.support.plans import indexes_in, plan_of


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    pool = await connect(database, size=2)
    yield pool
    await pool.close()


async def add(
    pool: Pool,
    user_id: str,
    *,
    role: str = "teacher",
    name: str = "Ada Lovelace",
    topics: Sequence[str] = (),
    subjects: Sequence[str] = (),
    bio: str = "",
) -> None:
    first, _, last = name.partition(" ")
    await pool.execute(
        "INSERT INTO users (id, role, first_name, last_name, topics, subjects, bio)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        *(user_id, role, first, last, list(topics), list(subjects), bio),
    )


async def found(pool: Pool, words: str) -> list[str]:
    return [teacher.id for teacher in await search.teachers(pool, words, limit=100)]


async def rate(pool: Pool, teacher_id: str, *stars: int) -> None:
    await pool.execute("INSERT INTO teacher_ratings VALUES ($1, $2, $3)", teacher_id, sum(stars), len(stars))


async def test_a_topic_counts_more_than_a_subject_that_more_than_a_name_and_that_more_than_a_bio(pool: Pool) -> None:
    await add(pool, "bio", bio="algebra algebra algebra algebra, I love algebra")
    await add(pool, "name", name="Algebra Smith")
    await add(pool, "subject", subjects=["Algebra", "Algebra two", "algebraic geometry"], bio="algebra algebra")
    await add(pool, "topic", topics=["algebra"])
    assert await found(pool, "algebra") == ["topic", "subject", "name", "bio"]


async def test_every_word_must_be_true_of_the_teacher(pool: Pool) -> None:
    await add(pool, "both", topics=["algebra"], bio="I live in Berlin.")
    await add(pool, "one", topics=["algebra"], bio="I live in Bern.")
    assert await found(pool, "algebra berlin") == ["both"]
    assert await found(pool, "berlin algebra physics") == []


async def test_the_beginning_of_a_word_is_enough(pool: Pool) -> None:
    await add(pool, "t", topics=["Trigonometry"])
    for words in ("trig", "Tr", "TRIGONOMETRY"):
        assert await found(pool, words) == ["t"]
    assert await found(pool, "gonometry") == []


async def test_a_single_letter_is_a_whole_word(pool: Pool) -> None:
    await add(pool, "statistics", topics=["R"])
    await add(pool, "reading", topics=["Reading"])
    assert await found(pool, "r") == ["statistics"]


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("Français", "francais"),
        ("Francais", "français"),
        ("Élève", "ELEVE"),
        ("Straße", "strasse"),
        ("Łódź", "lodz"),
        ("Smørrebrød", "smorre"),
        ("İstanbul", "istanbul"),
        ("Œuvre", "oeuvre"),
        ("Ｆｕｌｌｗｉｄｔｈ", "fullwidth"),
        ("Ελληνικά", "ελληνικα"),
        ("Русский язык", "русск"),
        ("数学", "数学"),
        ("한국어", "한국"),
        ("C++", "c++"),
        ("C#", "c#"),
        ("maths/physics", "physics"),
        ("A-level", "level a"),
        ("e-mail.example.com", "example"),
    ],
)
async def test_accents_case_and_punctuation_make_no_difference(pool: Pool, written: str, asked: str) -> None:
    await add(pool, "t", topics=[written])
    assert await found(pool, asked) == ["t"]


async def test_c_plus_plus_is_not_c_sharp(pool: Pool) -> None:
    await add(pool, "plus", topics=["C++"])
    await add(pool, "sharp", topics=["C#"])
    assert await found(pool, "C++") == ["plus"]


@pytest.mark.parametrize(
    "words",
    ["'", "''", "\\", "a:*", "a & b", "!a", "a | b", "(((", "<->", ":*", "%", "_", "'; DROP TABLE users; --", "a\\'b",
     "\U0001f600", "*", "🇩🇪 &", "\u0301", "\ufdfa" * 100, " ".join("abcdefghijklmnopqrstuvwxyz" * 8)],
)  # fmt: skip
async def test_nothing_that_is_asked_is_more_than_words(pool: Pool, words: str) -> None:
    await add(pool, "t", topics=["zebras"])
    assert await found(pool, words) == []


async def test_teachers_alone_are_found_and_follow_their_profile(pool: Pool) -> None:
    await add(pool, "kid", role="student", topics=["algebra"])
    await add(pool, "t", topics=["algebra"])
    assert await found(pool, "algebra") == ["t"]
    await pool.execute("UPDATE users SET topics = '{geometry}' WHERE id = 't'")
    assert (await found(pool, "algebra"), await found(pool, "geometry")) == ([], ["t"])
    await pool.execute("UPDATE users SET role = 'teacher' WHERE id = 'kid'")
    assert await found(pool, "algebra") == ["kid"]
    await pool.execute("UPDATE users SET role = 'student'")
    assert await found(pool, "geometry") == []
    await pool.execute("DELETE FROM users")
    assert await pool.fetchval("SELECT count(*) FROM directory") == 0


async def test_what_is_not_searched_does_not_rewrite_the_directory(pool: Pool) -> None:
    await add(pool, "t", topics=["algebra"])
    before = await pool.fetchval("SELECT xmin::text FROM directory")
    await pool.execute("UPDATE users SET timezone = 'Europe/Berlin', role = role, bio = bio, updated_at = now()")
    assert await pool.fetchval("SELECT xmin::text FROM directory") == before


async def test_of_equally_good_ones_the_better_rated_comes_first(pool: Pool) -> None:
    for user_id in ("a", "b", "c", "d"):
        await add(pool, user_id, topics=["algebra"])
    await rate(pool, "c", 5, 4)
    await rate(pool, "b", 3)
    best = await search.teachers(pool, "algebra", limit=10)
    assert [(teacher.id, teacher.rating) for teacher in best] == [("c", 4.5), ("b", 3.0), ("a", None), ("d", None)]


async def test_pieces_of_a_result_are_the_whole_of_it(pool: Pool) -> None:
    for number in range(7):
        await add(pool, f"t{number}", topics=["algebra"])
    whole = await found(pool, "algebra")
    pieces = [await search.teachers(pool, "algebra", skip=skip, limit=3) for skip in (0, 3, 6)]
    assert [teacher.id for piece in pieces for teacher in piece] == whole
    assert len(whole) == 7


MANY = """
    INSERT INTO users (id, role, first_name, last_name, topics, subjects, bio)
    SELECT 't' || n, 'teacher', 'First' || n % 500, 'Last' || n % 3000,
           ARRAY['topic' || n % 700, 'everything'], ARRAY['subject' || n % 40], 'I teach patiently since year ' || n
    FROM generate_series(1, {count}) AS n
"""


async def test_words_are_looked_up_in_indexes_however_many_teachers_there_are(pool: Pool) -> None:
    async with pool.acquire() as connection:
        for count in (0, 3_000):
            await connection.execute(MANY.format(count=count))
            if count:
                await connection.execute("ANALYZE directory, users")
            plan = await plan_of(connection, search._BEST, 3)
            assert {
                *("directory_by_topics", "directory_by_subjects", "directory_by_headline", "directory_by_document"),
                *("teacher_ratings_best_first", "directory_pkey"),
            } <= indexes_in(plan), plan
            assert "Seq Scan" not in plan
    assert len(await found(pool, "everything")) == 100
    assert set(await found(pool, "topic699")) == {f"t{n}" for n in (699, 1399, 2099, 2799)}
    assert await found(pool, "2222") == ["t2222"]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than 5 are answered, and the 3 best rated looked through."""
    rated = f"teacher_id LIMIT {search.BEST_RATED}"
    assert search._BEST.count(rated) == 1
    statement = search._BEST.replace(rated, "teacher_id LIMIT 3")
    monkeypatch.setattr(search, "_BEST", statement.replace(str(search.MAX_FOUND), "5"))


@pytest.mark.usefixtures("few")
async def test_so_many_are_answered_and_no_more(pool: Pool) -> None:
    """Those whose topics fit, before any bio is looked at."""
    for number in range(10):
        await add(pool, f"bio{number}", bio="algebra")
    for number in range(4):
        await add(pool, f"topic{number}", topics=["algebra"])
    best = await found(pool, "algebra")
    assert best[:4] == ["topic0", "topic1", "topic2", "topic3"]
    assert len(best) == 5
    pieces = [await search.teachers(pool, "algebra", skip=skip, limit=3) for skip in (0, 3, 5)]
    assert [teacher.id for piece in pieces for teacher in piece] == best


@pytest.mark.usefixtures("few")
async def test_a_topic_is_found_among_however_many_subjects_names_and_bios(pool: Pool) -> None:
    for number in range(10):
        await add(pool, f"subject{number}", subjects=["Mathematics"])
        await add(pool, f"name{number}", name="Mathematics Smith", bio="mathematics")
    await add(pool, "topic", topics=["mathematics"])
    best = await found(pool, "mathematics")
    assert (best[0], len(best)) == ("topic", 5)
    assert all(user_id.startswith("subject") for user_id in best[1:])


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("where", ["topics", "subjects", "name", "bio"])
async def test_the_best_rated_is_found_among_however_many_who_fit(pool: Pool, where: str) -> None:
    says: Any = {"name": {"name": "Mathematics Smith"}, "bio": {"bio": "mathematics"}}.get(
        where, {where: ["mathematics"]}
    )
    for number in range(30):
        await add(pool, f"t{number:02}", **says)
    for teacher_id, stars in (("t28", 5), ("t29", 4), ("t03", 3), ("t02", 2)):
        await rate(pool, teacher_id, stars)
    best = await found(pool, "mathematics")
    assert (best[:3], len(best)) == (["t28", "t29", "t03"], 5)


async def test_in_the_same_place_the_better_rated_comes_before_the_one_who_says_it_more_often(pool: Pool) -> None:
    await add(pool, "often", topics=["algebra", "linear algebra"], subjects=["algebra"])
    await add(pool, "rated", topics=["algebra"])
    await add(pool, "once", topics=["algebra"])
    await rate(pool, "rated", 4)
    assert await found(pool, "algebra") == ["rated", "often", "once"]


async def test_words_are_true_of_the_last_place_that_they_need(pool: Pool) -> None:
    await add(pool, "bio", topics=["algebra"], bio="I live in Berlin.")
    await add(pool, "name", name="Berlin Algebra")
    await add(pool, "subject", topics=["algebra"], subjects=["Berlin history"])
    await add(pool, "topic", topics=["Berlin algebra"])
    assert await found(pool, "algebra berlin") == ["topic", "subject", "name", "bio"]


async def test_nobody_but_teachers_stands_in_the_indexes_of_the_search(pool: Pool) -> None:
    """A first token writes into none of them."""
    rows = await pool.fetch(
        "SELECT indexrelid::regclass::text AS name, pg_get_expr(indpred, indrelid) AS only FROM pg_index"
        " WHERE indrelid = 'directory'::regclass AND indexrelid::regclass::text ~ 'topics|subjects|headline|document'"
    )
    assert len(rows) == 4
    for row in rows:
        assert row["only"] in ("(headline IS NOT NULL)", "(document IS NOT NULL)"), row
