"""Reviews, and the ratings that they add up to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from store import reviews
from store.database import Pool
from store.errors import Refused
from tests.support.lessons import book, database_pool


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def rating(pool: Pool) -> tuple[int, int]:
    row = await pool.fetchrow("SELECT stars, reviews FROM teacher_ratings WHERE teacher_id = 'teach'")
    return (row["stars"], row["reviews"]) if row else (0, 0)


async def test_a_review_is_kept_and_added_to_the_teachers_rating(pool: Pool) -> None:
    first = await book(pool)
    review = await reviews.insert(pool, booking_id=first, author_id="kid", rating=5, comment="Patient.")
    assert (review.booking_id, review.author_id, review.rating, review.comment) == (first, "kid", 5, "Patient.")
    await reviews.insert(pool, booking_id=await book(pool), author_id="mum", rating=2, comment="")
    assert await rating(pool) == (7, 2)


async def test_a_booking_is_reviewed_once_and_counted_once(pool: Pool) -> None:
    booking_id = await book(pool)
    outcomes = await asyncio.gather(
        *(
            reviews.insert(pool, booking_id=booking_id, author_id=author, rating=4, comment="")
            for author in ("kid", "mum", "gran")
        ),
        return_exceptions=True,
    )
    refusals = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert [refusal.constraint for refusal in refusals] == [reviews.ONCE] * 2
    assert await rating(pool) == (4, 1)


async def test_reviews_of_one_teacher_at_once_all_count(pool: Pool) -> None:
    lessons = [await book(pool) for _ in range(10)]
    await asyncio.gather(
        *(reviews.insert(pool, booking_id=lesson, author_id="kid", rating=3, comment="") for lesson in lessons)
    )
    assert await rating(pool) == (30, 10)


async def test_a_booking_that_is_not_there_is_not_reviewed(pool: Pool) -> None:
    with pytest.raises(Refused) as refusal:
        await reviews.insert(pool, booking_id=uuid4(), author_id="kid", rating=3, comment="")
    assert refusal.value.constraint == "reviews_booking_exists"


@pytest.mark.parametrize("stars", [0, 6, -1])
async def test_there_are_one_to_five_stars(pool: Pool, stars: int) -> None:
    with pytest.raises(Refused) as refusal:
        await reviews.insert(pool, booking_id=await book(pool), author_id="kid", rating=stars, comment="")
    assert refusal.value.constraint == "reviews_rating_in_stars"
    assert await rating(pool) == (0, 0)
