"""How Postgres answers a statement: which indexes it walks, and how much it reads."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID

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


@dataclass(frozen=True, slots=True)
class Walk:
    """One answer: the indexes that were walked, the rows of tables that were looked at, and the plan."""

    indexes: frozenset[str]
    rows: int
    plan: str


async def walk_of(connection: Connection, statement: str, *values: object) -> Walk:
    """How a statement is answered with these values, by the plan that is kept for all. What it writes is undone."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f"PREPARE asked AS {statement}")
        execute = f"EXECUTE asked({', '.join(map(_literal, values))})"
        said = await connection.fetchval(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, FORMAT JSON) {execute}")
    finally:
        await transaction.rollback()
        await connection.execute("DEALLOCATE ALL")
    [explained] = json.loads(said) if isinstance(said, str) else said
    nodes = list(_nodes(explained["Plan"]))
    return Walk(
        indexes=frozenset(node["Index Name"] for node in nodes if "Index Name" in node),
        rows=round(sum(_rows_of(node) for node in nodes)),
        plan="\n".join(_lines(explained["Plan"])),
    )


class Watching:
    """Stands where a connection does, and keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[object, ...]]] = []

    async def fetch(self, statement: str, *values: object) -> list[object]:
        self.asked.append((statement, values))
        return []

    async def fetchval(self, statement: str, *values: object) -> bool:
        self.asked.append((statement, values))
        return False


async def walked(connection: Connection, ask: Callable[[Any], Awaitable[object]]) -> Walk:
    """How the one statement of `ask` is answered."""
    watching = Watching()
    await ask(cast(Any, watching))
    [(statement, values)] = watching.asked
    walk = await walk_of(connection, statement, *values)
    assert "Seq Scan" not in walk.plan, walk.plan
    return walk


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


def _lines(node: Any, depth: int = 0) -> Iterator[str]:
    """The plan, short: each node with what it walks and the rows it has looked at."""
    names = (node.get(name) for name in ("Node Type", "Index Name", "Relation Name", "Index Cond", "Filter"))
    yield "  " * depth + " ".join(name for name in names if name) + f": {_rows_of(node):g}"
    for inner in node.get("Plans", ()):
        yield from _lines(inner, depth + 1)


def _rows_of(node: Any) -> float:
    """The rows of a table that a node has looked at; what an index names and the table then shows counts once."""
    if "Relation Name" not in node or "Scan" not in node["Node Type"]:
        return 0.0
    left_out = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float((node["Actual Rows"] + left_out) * node["Actual Loops"])


def _literal(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        inner = ",".join(f'"{_text(item)}"' for item in value)
        return f"'{{{inner}}}'"
    return "'" + _text(value).replace("'", "''") + "'"


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    assert isinstance(value, str | UUID), value
    return str(value)
