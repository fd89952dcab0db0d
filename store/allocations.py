"""Allocations: which tutor an administrator gave to which student, for what subject."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

import asyncpg

from store.database import Connection, Executor
from store.errors import translated

#: Constraints that an allocation can offend.
STUDENT_EXISTS: Final = "allocations_student_exists"
TUTOR_EXISTS: Final = "allocations_tutor_exists"


@dataclass(frozen=True, kw_only=True, slots=True)
class Allocation:
    """A tutor for a student and a subject. `number` counts up in the order in which they were made."""

    id: UUID
    number: int
    student_id: str
    student_name: str
    tutor_id: str
    tutor_name: str
    subject_id: str
    created_by: str
    created_at: datetime

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Allocation:
        return cls(**{name: row[name] for name in cls.__slots__})


async def insert(
    connection: Connection, *, student_id: str, tutor_id: str, subject_id: str, created_by: str
) -> tuple[UUID, bool]:
    """Make an allocation, or find the one that there is: its id, and whether it is new.

    The database refuses unknown people: STUDENT_EXISTS, TUTOR_EXISTS.
    """
    # DO NOTHING would not answer the row of somebody who came first a moment ago.
    row = await connection.fetchrow(
        """
        INSERT INTO allocations (id, student_id, tutor_id, subject_id, created_by) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (student_id, tutor_id, subject_id) DO UPDATE SET subject_id = excluded.subject_id
        RETURNING id, xmax = 0 AS is_new
        """,
        uuid4(),
        student_id,
        tutor_id,
        subject_id,
        created_by,
    )
    assert row is not None, "it answers what it wrote"
    return row["id"], row["is_new"]


#: What stands in the table itself: the rest is of its people.
_COLUMNS: Final = "id, number, student_id, tutor_id, subject_id, created_by, created_at"
_ALLOCATION: Final = """
    SELECT a.*, concat_ws(' ', nullif(s.first_name, ''), nullif(s.last_name, '')) AS student_name,
           concat_ws(' ', nullif(t.first_name, ''), nullif(t.last_name, '')) AS tutor_name
    FROM ({allocations}) a JOIN users s ON s.id = a.student_id JOIN users t ON t.id = a.tutor_id
    ORDER BY a.number DESC
"""
_NEWEST: Final = _ALLOCATION.format(
    allocations=f"SELECT {_COLUMNS} FROM allocations WHERE number < $1 ORDER BY number DESC LIMIT $2"
)
# All whose name fits are looked up once, then their allocations by indexes. Nothing else is asked there: a plan that
# was made while there were few would go by it, and read all allocations. Nor who they are today: somebody may have been
# a student when they were given a tutor.
_NAMESAKES: Final = "ARRAY(SELECT user_id FROM directory WHERE words @@ (SELECT search_query($2)))"
_FITTING: Final = f"""
    WITH fitting AS MATERIALIZED (
        SELECT number FROM allocations
        WHERE student_id = ANY ({_NAMESAKES}) OR tutor_id = ANY ({_NAMESAKES}) OR words @@ (SELECT search_query($2))
    )
"""
_NUMBERS_ABOUT: Final = f"{_FITTING} SELECT number FROM fitting WHERE number < $1 ORDER BY number DESC"
_NUMBERED: Final = _ALLOCATION.format(
    allocations=f"SELECT {_COLUMNS} FROM allocations WHERE number = ANY ($1::bigint[])"
)
_NEWEST_ABOUT: Final = _FITTING + _ALLOCATION.format(
    allocations=f"""
        SELECT {_COLUMNS} FROM allocations
        WHERE number = ANY (ARRAY(SELECT number FROM fitting WHERE number < $1 ORDER BY number DESC LIMIT $3))
    """
)
#: Above every number: "no upper end".
_NO_END: Final = 2**63 - 1


async def newest(
    executor: Executor, *, about: str | None = None, before: int | None = None, limit: int
) -> list[Allocation]:
    """The newest allocations before the number `before`, newest first; `about` words of a person or a subject."""
    end = _NO_END if before is None else before
    with translated():
        if about is None:
            rows = await executor.fetch(_NEWEST, end, limit)
        else:
            rows = await executor.fetch(_NEWEST_ABOUT, end, about, limit)
    return [Allocation.from_row(row) for row in rows]


async def in_pieces(
    executor: Executor, *, about: str, before: int | None = None, size: int
) -> AsyncIterator[Sequence[Allocation]]:
    """All that :func:`newest` answers, `size` at a time. What fits is looked up once, before the first piece."""
    with translated():
        found = await executor.fetch(_NUMBERS_ABOUT, _NO_END if before is None else before, about)
    for first in range(0, len(found), size):
        numbers = [row["number"] for row in found[first : first + size]]
        with translated():
            rows = await executor.fetch(_NUMBERED, numbers)
        if rows:  # they may have ended meanwhile
            yield [Allocation.from_row(row) for row in rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """An allocation that is no more."""

    student_id: str
    tutor_id: str
    subject_id: str


async def delete(connection: Connection, allocation_id: UUID) -> Ended | None:
    """End an allocation; what it was, or None where there is none."""
    row = await connection.fetchrow(
        "DELETE FROM allocations WHERE id = $1 RETURNING student_id, tutor_id, subject_id", allocation_id
    )
    return Ended(**row) if row else None
