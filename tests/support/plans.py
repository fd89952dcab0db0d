"""How Postgres means to answer a statement: which indexes it walks, and what it reads in full."""

from __future__ import annotations

import re

from store.database import Connection

_INDEX = re.compile(r"(?:Index (?:Only )?Scan(?: Backward)? using|Bitmap Index Scan on) (\w+)")


async def plan_of(connection: Connection, statement: str, arguments: int) -> str:
    """The plan that is kept for a statement of so many arguments, whatever their values: as the pool makes it."""
    await connection.execute(f"PREPARE asked AS {statement}")
    try:
        nulls = f"({', '.join(['NULL'] * arguments)})" if arguments else ""
        rows = await connection.fetch(f"EXPLAIN (COSTS OFF) EXECUTE asked{nulls}")
    finally:
        await connection.execute("DEALLOCATE asked")
    return "\n".join(row[0] for row in rows)


def indexes_in(plan: str) -> set[str]:
    """The indexes that a plan names."""
    return set(_INDEX.findall(plan))
