"""Finding teachers by what they say of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from store.database import Executor
from store.errors import translated

#: Teachers that are ranked for one question, topics, subjects and names before bios. A word that more of them use
#: says too little to tell the best from the next, and ranking all of 100 000 takes a second.
MAX_CANDIDATES: Final = 1000

#: What a word weighs in the bio, the name, the subjects and the topics: several in a lesser place do not make up for
#: one in a better place.
_WEIGHTS: Final = "'{0.01, 0.05, 0.2, 1.0}'::real[]"
_ASKED: Final = "(SELECT search_query($1))"


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundTeacher:
    """A teacher who fits. `rating`: the mean of their reviews, from 1 to 5."""

    id: str
    first_name: str
    last_name: str
    bio: str
    topics: Sequence[str]
    rating: float | None

    @property
    def name(self) -> str:
        return f"{self.first_name} {self.last_name}".strip()

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> FoundTeacher:
        return cls(**{name: row[name] for name in cls.__slots__})


# The second branch runs only where the first one leaves room: LIMIT reads them one after the other. So what it
# leaves out was found before, and is little.
_BEST: Final = f"""
    SELECT u.id, u.first_name, u.last_name, u.bio, u.topics, best.rating
    FROM (
        SELECT found.user_id, found.rank, r.stars::float8 / r.reviews AS rating
        FROM (
            (
                SELECT user_id, 1 + ts_rank({_WEIGHTS}, headline, {_ASKED}) AS rank
                FROM directory WHERE headline @@ {_ASKED}
            ) UNION ALL (
                SELECT user_id, ts_rank({_WEIGHTS}, document, {_ASKED})
                FROM directory WHERE document @@ {_ASKED} AND NOT headline @@ {_ASKED}
            )
            LIMIT {MAX_CANDIDATES}
        ) found LEFT JOIN teacher_ratings r ON r.teacher_id = found.user_id
        ORDER BY found.rank DESC, rating DESC NULLS LAST, found.user_id OFFSET $2 LIMIT $3
    ) best JOIN users u ON u.id = best.user_id
    ORDER BY best.rank DESC, best.rating DESC NULLS LAST, best.user_id
"""


async def teachers(executor: Executor, words: str, *, skip: int = 0, limit: int) -> list[FoundTeacher]:
    """The teachers of whom every word is true, best first; of equally good ones the better rated.

    Words may be beginnings of words. A topic counts more than a subject, that more than the name, and that more than
    the bio. Accents, case and punctuation make no difference. `skip` leaves out the first ones.
    """
    with translated():
        rows = await executor.fetch(_BEST, words, skip, limit)
    return [FoundTeacher.from_row(row) for row in rows]
