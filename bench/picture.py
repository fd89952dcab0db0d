"""The results as bars: what the same work costs here, as a share of what it costs in Node and in Bun."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from bench.report import ratio_to
from bench.rows.row import Line, Measured

WIDTH, LEFT, RIGHT = 860, 330, 70
BAR, GAP, TOP = 11, 12, 62
#: The ratio at the right edge; longer bars are cut there, and their label says how long they are.
MOST = 1.5
COLOURS = {"node": ("Node", "#3c873a"), "bun": ("Bun", "#c98b5b")}


def picture(results: Sequence[Measured]) -> str:
    """An SVG."""
    lines = [(line, costs) for measured in results for line in measured.row.lines if (costs := _costs(measured, line))]
    body: list[str] = []
    y = TOP
    for line, costs in lines:
        height = len(costs) * (BAR + 2)
        body.append(_text(LEFT - 12, y + height / 2 + 3, line.title, anchor="end"))
        body.append(_text(LEFT - 12, y + height / 2 + 16, line.unit, anchor="end", size=9, colour="#767676"))
        for name, cost in costs.items():
            width = min(cost, MOST) / MOST * (WIDTH - LEFT - RIGHT)
            body.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{COLOURS[name][1]}"/>')
            body.append(_text(LEFT + width + 5, y + BAR - 2, f"{cost:.2f}", size=10))
            y += BAR + 2
        y += max(GAP, 34 - height)
    one = LEFT + (WIDTH - LEFT - RIGHT) / MOST
    head = [_text(LEFT, 22, "The same work in Encounters, as a share of its cost in", size=14, weight="bold")]
    x: float = LEFT
    for title, colour in COLOURS.values():
        head.append(f'<rect x="{x}" y="32" width="11" height="11" fill="{colour}"/>{_text(x + 16, 42, title)}')
        x += 80
    head.append(_text(one, 42, "1 = the same; shorter is better", size=10, anchor="middle", colour="#767676"))
    head.append(f'<line x1="{one}" y1="48" x2="{one}" y2="{y - GAP}" stroke="#767676" stroke-dasharray="3 3"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" '
        f'font-family="system-ui, sans-serif">\n<rect width="100%" height="100%" rx="8" fill="#fff"/>\n'
        + "\n".join(head + body)
        + "\n</svg>\n"
    )


def _costs(measured: Measured, line: Line) -> dict[str, float]:
    """By contender; more work in the same time is less cost for each piece."""
    costs = {}
    for name in COLOURS:
        found = ratio_to(measured, line, name)
        if found:
            costs[name] = found if line.lower else 1 / found
    return costs


def _text(
    x: float, y: float, words: str, *, size: int = 12, anchor: str = "start", colour: str = "#222", weight: str = ""
) -> str:
    bold = f' font-weight="{weight}"' if weight else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"{bold}>'
        f"{escape(words)}</text>"
    )
