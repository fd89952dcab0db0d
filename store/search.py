"""Finding teachers by what they say of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from store.database import Executor
from store.errors import translated

#: Teachers that one question answers, over all its pieces.
MAX_FOUND: Final = 1000
#: The best rated of all teachers, who are looked through where more than MAX_FOUND fit: a word that so many use says
#: too little to tell the best from the next, and ranking all of 100 000 takes a second.
BEST_RATED: Final = 1000

#: Where a teacher is found: every place holds the ones before it, and every one has its index.
_PLACES: Final = ("ts_filter(headline, '{a}')", "ts_filter(headline, '{a,b}')", "headline", "document")
_ASKED: Final = "(SELECT words FROM asked)"
#: What a word weighs in the bio, the name, the subjects and the topics, to tell teachers in the same place apart.
_WEIGHTS: Final = "'{0.01, 0.05, 0.2, 1.0}'::real[]"
#: The bio is long, and read only where nothing else fits.
_RANK: Final = f"ts_rank({_WEIGHTS}, CASE WHEN place < 3 THEN headline ELSE document END, {_ASKED})"
_RATING: Final = "r.stars::float8 / r.reviews"


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


# Each branch runs only where the ones before it leave room: LIMIT reads them one after the other. So what it leaves
# out was found before, and is little.
_FOUND: Final = " UNION ALL ".join(
    f"(SELECT user_id, headline, document, {number} AS place FROM directory WHERE {place} @@ {_ASKED}"
    + (f" AND NOT {_PLACES[number - 1]} @@ {_ASKED})" if number else ")")
    for number, place in enumerate(_PLACES)
)
#: The first place in which a row of the directory is found, or NULL.
_PLACE: Final = " ".join(f"WHEN {place} @@ {_ASKED} THEN {number}" for number, place in enumerate(_PLACES))
# OFFSET 0 keeps the best rated on the outside: each is looked up by id, whatever the planner expects to fit.
_BEST: Final = f"""
    WITH asked AS MATERIALIZED (
        SELECT search_query($1) AS words
    ), found AS MATERIALIZED (
        SELECT user_id, place, {_RATING} AS rating, {_RANK} AS rank
        FROM ({_FOUND} LIMIT {MAX_FOUND}) places LEFT JOIN teacher_ratings r ON r.teacher_id = user_id
    ), best_rated AS MATERIALIZED (
        SELECT user_id, place, rating, {_RANK} AS rank FROM (
            SELECT teacher_id, {_RATING} AS rating FROM teacher_ratings r
            WHERE (SELECT count(*) FROM found) = {MAX_FOUND}
            ORDER BY {_RATING} DESC, teacher_id LIMIT {BEST_RATED}
        ) rated CROSS JOIN LATERAL (
            SELECT user_id, headline, document, CASE {_PLACE} END AS place FROM directory
            WHERE user_id = rated.teacher_id OFFSET 0
        ) d
        WHERE place IS NOT NULL
    )
    SELECT u.id, u.first_name, u.last_name, u.bio, u.topics, best.rating
    FROM (
        SELECT * FROM (TABLE found UNION TABLE best_rated) candidates
        ORDER BY place, rating DESC NULLS LAST, rank DESC, user_id OFFSET $2 LIMIT least($3, {MAX_FOUND} - $2)
    ) best JOIN users u ON u.id = best.user_id
    ORDER BY best.place, best.rating DESC NULLS LAST, best.rank DESC, best.user_id
"""


async def teachers(executor: Executor, words: str, *, skip: int = 0, limit: int) -> list[FoundTeacher]:
    """The teachers of whom every word is true, best first: those whose topics say it all, then those for whom the
    subjects are needed, the name, the bio; in each place the better rated first.

    Words may be beginnings of words. Accents, case and punctuation make no difference. `skip` leaves out the first
    ones. Of more than MAX_FOUND that fit some are answered: the best rated, as far as they are among the BEST_RATED of
    all teachers, and others of the same places.
    """
    with translated():
        rows = await executor.fetch(_BEST, words, skip, limit)
    return [FoundTeacher.from_row(row) for row in rows]
