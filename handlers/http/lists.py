"""Long lists: read in pieces as JSON, or as a whole as CSV (RFC 4180) for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

import msgspec
from aiohttp import hdrs, web

from handlers.http.bodies import json_response
from handlers.http.requests import MAX_LIMIT, link, query_limit, query_word

RowT = TypeVar("RowT")
CursorT = TypeVar("CursorT", str, int)

#: What a spreadsheet takes for the beginning of a formula, in ASCII and in full width (OWASP, "CSV Injection").
FORMULA_SIGNS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
#: Put before such a text: spreadsheets then show it as it is.
TEXT_SIGN: Final = "'"


# Without slots: a generic class notes its parameters in each instance.
@dataclass(frozen=True, kw_only=True)
class Listing(Generic[RowT, CursorT]):
    """A list and how it is shown. `read` answers at most so many rows behind a cursor, or from the beginning."""

    name: str
    read: Callable[[CursorT | None, int], Awaitable[Sequence[RowT]]]
    cursor: Callable[[RowT], CursorT]
    document: Callable[[RowT], dict[str, Any]]
    #: The names of the columns, and what stands in them.
    columns: Sequence[str]
    cells: Callable[[RowT], Sequence[object]]


async def answer(request: web.Request, listing: Listing[RowT, CursorT], after: CursorT | None) -> web.StreamResponse:
    """One piece of the list behind `after`; with `?format=csv` all of it from there on, whatever the `limit`."""
    limit = query_limit(request)
    if query_word(request, "format", ("json", "csv")) == "csv":
        return await _stream(request, listing, after)
    found = await listing.read(after, limit + 1)
    shown = found[:limit]
    more = link(request, "next", cursor=str(listing.cursor(shown[-1]))) if len(found) > limit else None
    return json_response([listing.document(row) for row in shown], headers=more)


async def _stream(request: web.Request, listing: Listing[RowT, CursorT], after: CursorT | None) -> web.StreamResponse:
    # Before anything is sent: a database that is away is still a 503.
    rows = await listing.read(after, MAX_LIMIT)
    response = web.StreamResponse(
        headers={
            hdrs.CONTENT_TYPE: "text/csv; charset=utf-8; header=present",
            hdrs.CONTENT_DISPOSITION: f'attachment; filename="{listing.name}.csv"',
            "X-Content-Type-Options": "nosniff",
        }
    )
    await response.prepare(request)
    if request.method == hdrs.METH_HEAD:
        return response
    whole = False
    try:
        await response.write(csv_lines([listing.columns]))
        while rows:
            await response.write(csv_lines([listing.cells(row) for row in rows]))
            rows = await listing.read(listing.cursor(rows[-1]), MAX_LIMIT) if len(rows) == MAX_LIMIT else []
        whole = True
    finally:
        if not whole and request.transport is not None:
            # Half a list must not look like a whole one, nor an error's document like a part of it.
            request.transport.close()
    return response


def csv_lines(rows: Sequence[Sequence[object]]) -> bytes:
    """Rows of values as lines of CSV in UTF-8. No text in them is a formula to a spreadsheet."""
    lines = io.StringIO()
    csv.writer(lines).writerows([_cell(value) for value in row] for row in rows)
    return lines.getvalue().encode()


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, list | tuple):
        return _harmless("; ".join(str(item) for item in value))
    if isinstance(value, dict):
        return _harmless(msgspec.json.encode(value).decode())
    return _harmless(str(value))


def _harmless(text: str) -> str:
    # Some spreadsheets trim what they read, so what stands behind white space counts.
    if text.startswith(FORMULA_SIGNS) or text.lstrip().startswith(FORMULA_SIGNS):
        return TEXT_SIGN + text
    return text
