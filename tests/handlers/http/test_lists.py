"""Long lists as JSON in pieces and as CSV."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from aiohttp import ClientPayloadError, web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from handlers.http import lists
from handlers.http.lists import Listing, answer, csv_lines
from handlers.http.requests import query_seq
from store.errors import Away

Client = TestClient[web.Request, web.Application]
TOTAL = 2_345


def parsed(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        ("plain", "plain"),
        ('say "hi", you', 'say "hi", you'),
        ("two\nlines", "two\nlines"),
        ("ü👋", "ü👋"),
        (7, "7"),
        (-7, "-7"),
        (4.5, "4.5"),
        (["a", "b c"], "a; b c"),
        ([], ""),
        ({"a": [1]}, '{"a":[1]}'),
        (datetime(2030, 1, 2, 3, 4, tzinfo=UTC), "2030-01-02T03:04:00Z"),
        (datetime(2030, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=1))), "2030-01-02T02:04:00Z"),
    ],
    ids=repr,
)
def test_a_value_is_written_so_that_it_is_read_again(value: object, cell: str) -> None:
    assert parsed(csv_lines([["first", value, "last"]])) == [["first", cell, "last"]]


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+49 30 123", "-1", "@SUM(A1)",
     "\t=1", "\r=1", "\n=1", "  =1", "＝1", '=HYPERLINK("http://x","y")', "=cmd|'/C calc'!A0"],
)  # fmt: skip
def test_no_text_is_a_formula(text: str) -> None:
    [[cell, of_list]] = parsed(csv_lines([[text, [text, "x"]]]))
    for written in (cell, of_list.removesuffix("; x")):
        assert written.startswith("'")
        assert written.replace("'", "") == text.replace("'", "")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("x;=cmd", "x;'=cmd"),
        ("x; +1", "x; '+1"),
        ("a,b\t@SUM(A1)", "a,b\t'@SUM(A1)"),
        ("two\n-2", "two\n'-2"),
        ("two\r\n=2", "two\r\n'=2"),
        ('x;"=cmd"', 'x;"\'=cmd"'),
        ("x;＝1", "x;'＝1"),
        ("a-b; c=d", "a-b; c=d"),
    ],
)
def test_no_text_is_a_formula_where_cells_are_parted_at_other_signs(text: str, cell: str) -> None:
    assert parsed(csv_lines([[text, ["x", "=1"], {"a": [1, "=1"]}]])) == [[cell, "x; '=1", '{"a":[1,"\'=1"]}']]


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2), min_size=1))
def test_whatever_stands_in_a_cell_stays_in_it(rows: list[list[str]]) -> None:
    cells = parsed(csv_lines(rows))
    assert [[cell.replace("'", "") for cell in row] for row in cells] == [
        [text.replace("'", "") for text in row] for row in rows
    ]
    within = [part for row in cells for cell in row for part in re.split(r"[;,\t\r\n]", cell)]
    assert not any(part.lstrip().lstrip('"').lstrip()[:1] in ("=", "+", "-", "@") for part in within if part.strip())


class Rows:
    """Counts down from TOTAL; away once it was read `fails_at` times."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.reads: list[tuple[int | None, int]] = []
        self.fails_at = fails_at

    async def read(self, before: int | None, limit: int) -> list[int]:
        self.reads.append((before, limit))
        if len(self.reads) == self.fails_at:
            raise Away("gone")
        first = TOTAL if before is None else before - 1
        return list(range(first, max(0, first - limit), -1))


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
async def client(rows: Rows) -> AsyncIterator[Client]:
    async def handler(request: web.Request) -> web.StreamResponse:
        listing = Listing[int, int](
            name="numbers",
            read=rows.read,
            cursor=lambda row: row,
            document=lambda row: {"n": row},
            columns=("n", "twice"),
            cells=lambda row: (row, 2 * row),
        )
        return await answer(request, listing, query_seq(request, "cursor"))

    app = web.Application()
    app.router.add_get("/numbers", handler)
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_json_comes_in_pieces_with_a_link_to_the_next(client: Client) -> None:
    found: list[int] = []
    path: Any = "/numbers?limit=1000&q=x"
    sizes = []
    while path is not None:
        response = await client.get(path)
        page = [row["n"] for row in await response.json()]
        sizes.append(len(page))
        found += page
        following = response.links.get("next")
        path = URL(str(following["url"])).path_qs if following else None
    assert (sizes, found) == ([1000, 1000, 345], list(range(TOTAL, 0, -1)))


async def test_csv_is_the_whole_list_whatever_the_limit(client: Client, rows: Rows) -> None:
    response = await client.get("/numbers?format=csv&limit=5")
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert response.headers["Content-Disposition"] == 'attachment; filename="numbers.csv"'
    cells = parsed(await response.read())
    assert cells[0] == ["n", "twice"]
    assert cells[1:] == [[str(n), str(2 * n)] for n in range(TOTAL, 0, -1)]
    assert len(rows.reads) == 3, "it is read in pieces"


async def test_an_empty_list_has_its_header(client: Client) -> None:
    response = await client.get("/numbers?format=csv&cursor=1")
    assert await response.read() == b"n,twice\r\n"
    response = await client.get("/numbers?cursor=1")
    assert (await response.json(), response.links.get("next")) == ([], None)


async def test_head_of_a_csv_has_no_body(client: Client) -> None:
    for _ in range(2):
        async with client.head("/numbers?format=csv") as response:
            assert (response.status, await response.read()) == (200, b"")
            assert response.headers["Content-Type"].startswith("text/csv")


async def test_half_a_list_does_not_look_like_a_whole_one(client: Client, rows: Rows) -> None:
    rows.fails_at = 2
    response = await client.get("/numbers?format=csv")
    with pytest.raises(ClientPayloadError):
        await response.read()


async def test_half_a_list_does_not_look_like_a_whole_one_to_old_clients_either(client: Client, rows: Rows) -> None:
    """Over HTTP/1.0 the list ends with the connection."""
    rows.fails_at = 2
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(b"GET /numbers?format=csv HTTP/1.0\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_the_signs_of_formulas_are_those_that_spreadsheets_know() -> None:
    assert set("=+-@\t\r\n") <= set(lists.FORMULA_SIGNS)
