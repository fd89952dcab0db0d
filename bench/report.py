"""What was measured, as Markdown: a summary with ratios and goals, then each row's own table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.rows.row import OURS, Goal, Line, Measured

TITLES: Mapping[str, str] = {
    "encounters": "Encounters",
    "node": "Node",
    "bun": "Bun",
    "stock": "python-socketio",
    "fastify": "fastify",
    "floor": "C `send`",
}
#: What stands in Node's column where Node's Socket.IO has no part in a row.
INSTEAD_OF_NODE = "fastify"
COLUMNS = ("encounters", "node", "bun", "stock", "floor")


@dataclass(frozen=True, kw_only=True, slots=True)
class Circumstances:
    """Where, when, with what and how."""

    machine: str
    date: str
    versions: Mapping[str, str]
    runs: int
    seconds: float
    quick: bool


def summary(results: Sequence[Measured]) -> str:
    """One table: each line of each row, with ratios and goals."""
    head = ["", "", *(TITLES[name] for name in COLUMNS), "÷ Node", "÷ Bun", "Goal"]
    table = [head, [":--", ":--", *["--:"] * (len(head) - 3), ":--"]]
    for measured in results:
        table += [_summary_line(measured, line) for line in measured.row.lines]
    return _markdown(table)


def _summary_line(measured: Measured, line: Line) -> list[str]:
    cells = [line.title, line.unit]
    for name in COLUMNS:
        shown = INSTEAD_OF_NODE if name == "node" and "node" not in measured.row.contenders else name
        value = measured.medians.get(shown, {}).get(line.metric)
        if value is None:
            cells.append("failed" if shown in measured.failures else "")
        else:
            cells.append(number(value, line.digits) + (f" ({TITLES[shown]})" if shown != name else ""))
    for name in ("node", "bun"):
        found = ratio_to(measured, line, name)
        cells.append("" if found is None else number(found, 2))
    cells.append("<br>".join(verdict(goal, measured) for goal in line.goals))
    return cells


def ratio_to(measured: Measured, line: Line, name: str) -> float | None:
    """This project's figure by another's; `node` is fastify where that stands for it."""
    if name == "node" and "node" not in measured.row.contenders:
        name = INSTEAD_OF_NODE
    ours, theirs = (measured.medians.get(who, {}).get(line.metric) for who in (OURS, name))
    return ours / theirs if ours is not None and theirs else None


def verdict(goal: Goal, measured: Measured) -> str:
    try:
        value = goal.value(measured.medians)
    except KeyError:
        return f"{goal.says}: not measured"
    return f"{goal.says}: {'**met**' if goal.met(value) else 'missed'}, {number(value, 2)}"


def details(results: Sequence[Measured]) -> str:
    """Every row's own table, with how it was measured."""
    parts = []
    for measured in results:
        row = measured.row
        table = [["", *(column.title for column in row.columns)], [":--", *["--:"] * len(row.columns)]]
        for name in row.contenders:
            if name in measured.failures:
                table.append([TITLES[name], f"failed: {measured.failures[name]}", *[""] * (len(row.columns) - 1)])
            elif name in measured.medians:
                figures = measured.medians[name]
                cells = [number(figures[column.metric] * column.factor, column.digits) for column in row.columns]
                table.append([TITLES[name], *cells])
        parts.append(f"### {row.title}\n\n{row.note}\n\n{_markdown(table)}")
    return "\n\n".join(parts)


def document(results: Sequence[Measured], circumstances: Circumstances, picture: str) -> str:
    """The whole of docs/performance.md."""
    versions = ", ".join(f"{name} {version}" for name, version in circumstances.versions.items())
    runs = "one run" if circumstances.runs == 1 else f"medians of {circumstances.runs} alternated runs"
    how = f"{runs} of {circumstances.seconds:g} s each."
    quick = " This was `make bench-quick`: small and rough." if circumstances.quick else ""
    return f"""# Performance

Measured by `make bench` on {circumstances.date}: {circumstances.machine}; {how}{quick}
{versions}.

![Cost of the same work, as a share of Node's and Bun's]({picture})

{summary(results)}

Figures move with the machine: compare the columns of one run, not two runs. The server has one core; the load,
Postgres and Redis share the other. Postgres has `fsync` on, and whatever is stored is committed before it is acked.
The load counts every delivery and looks at its order; a run that loses one message does not count.

[engine.md](engine.md) says how it is done, and why what is missed is missed.

## Row by row

{details(results)}
"""


def number(value: float, digits: int) -> str:
    """With thin spaces between thousands."""
    return f"{value:,.{digits}f}".replace(",", "\u202f")


def _markdown(table: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)
