"""Reviews of lessons, and the ratings of teachers that they make."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from store.database import Executor
from store.errors import translated

#: Constraints that a review can offend. A booking is reviewed once.
ONCE: Final = "reviews_pkey"


@dataclass(frozen=True, kw_only=True, slots=True)
class Review:
    """What a family says of a lesson: 1 to 5 stars, and words."""

    booking_id: UUID
    author_id: str
    rating: int
    comment: str
    created_at: datetime

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Review:
        return cls(**{name: row[name] for name in cls.__slots__})


_COLUMNS: Final = ", ".join(Review.__slots__)


async def insert(executor: Executor, *, booking_id: UUID, author_id: str, rating: int, comment: str) -> Review:
    """Write a review and add it to the teacher's rating. Raises Refused: ONCE."""
    with translated():
        row = await executor.fetchrow(
            f"""
            WITH written AS (
                INSERT INTO reviews (booking_id, author_id, rating, comment) VALUES ($1, $2, $3, $4)
                RETURNING {_COLUMNS}
            ), rated AS (
                INSERT INTO teacher_ratings AS r (teacher_id, stars, reviews)
                SELECT b.teacher_id, w.rating, 1 FROM written w JOIN bookings b ON b.id = w.booking_id
                ON CONFLICT (teacher_id) DO UPDATE SET
                    stars = r.stars + excluded.stars, reviews = r.reviews + excluded.reviews
            )
            SELECT * FROM written
            """,
            booking_id,
            author_id,
            rating,
            comment,
        )
    assert row is not None, "an INSERT answers what it wrote"
    return Review.from_row(row)
