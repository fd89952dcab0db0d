"""The school's people as an administrator lists them: by last name, and by what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from store.database import Executor
from store.errors import translated
from store.users import Role


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A place in the order of the lists: that of the last person already read, whatever they are called since."""

    sort_name: str
    id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Student:
    """A student, and the parent whom they have now."""

    id: str
    sort_name: str
    first_name: str
    last_name: str
    email: str | None
    timezone: str
    created_at: datetime
    parent_id: str | None
    parent_email: str | None

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Student:
        return cls(**{name: row[name] for name in cls.__slots__})


@dataclass(frozen=True, kw_only=True, slots=True)
class Tutor:
    """A teacher. `rating`: the mean of so many `reviews`."""

    id: str
    sort_name: str
    first_name: str
    last_name: str
    email: str | None
    subjects: Sequence[str]
    topics: Sequence[str]
    timezone: str
    created_at: datetime
    rating: float | None
    reviews: int

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Tutor:
        return cls(**{name: row[name] for name in cls.__slots__})


_STUDENTS: Final = """
    SELECT u.*, d.sort_name, p.email AS parent_email
    FROM ({page}) d JOIN users u ON u.id = d.user_id LEFT JOIN users p ON p.id = u.parent_id
    ORDER BY d.sort_name, d.user_id
"""
_TUTORS: Final = """
    SELECT u.*, d.sort_name, r.stars::float8 / r.reviews AS rating, coalesce(r.reviews, 0) AS reviews
    FROM ({page}) d JOIN users u ON u.id = d.user_id LEFT JOIN teacher_ratings r ON r.teacher_id = u.id
    ORDER BY d.sort_name, d.user_id
"""

# Whatever their role: a plan made while the school was small would read everybody of the role instead.
_FITTING: Final = """
    WITH fitting AS MATERIALIZED (
        SELECT user_id, sort_name, role FROM directory WHERE words @@ (SELECT search_query($2))
    )
"""


async def students(
    executor: Executor, *, about: str | None = None, after: Place | None = None, limit: int
) -> list[Student]:
    """The first `limit` students behind the place `after`, by last and first name.

    `about`: words, or their beginnings, of the name, the e-mail address or the id.
    """
    rows = await _people(executor, _STUDENTS, "student", about, after, limit)
    return [Student.from_row(row) for row in rows]


async def tutors(
    executor: Executor, *, about: str | None = None, after: Place | None = None, limit: int
) -> list[Tutor]:
    """The first `limit` teachers behind the place `after`, as :func:`students`."""
    rows = await _people(executor, _TUTORS, "teacher", about, after, limit)
    return [Tutor.from_row(row) for row in rows]


async def _people(
    executor: Executor, shown: str, role: Role, about: str | None, after: Place | None, limit: int
) -> list[asyncpg.Record]:
    values: list[object] = [role]
    listed, fitting = "directory", ""
    if about is not None:
        # Materialized, or a plan might read the whole list in its order until enough of them fit.
        values.append(about)
        listed, fitting = "fitting", _FITTING
    behind = ""
    if after is not None:
        values += [after.sort_name, after.id]
        behind = f" AND (sort_name, user_id) > (${len(values) - 1}, ${len(values)})"
    values.append(limit)
    page = (
        f"SELECT user_id, sort_name FROM {listed} WHERE role = $1{behind}"
        f" ORDER BY sort_name, user_id LIMIT ${len(values)}"
    )
    with translated():
        return await executor.fetch(fitting + shown.format(page=page), *values)
