"""Long lists: read in pieces as JSON, or as a whole as CSV (RFC 4180) for spreadsheets."""

from __future__ import annotations

import csv
import io
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

import msgspec
from aiohttp import hdrs, web

from handlers.http.bodies import json_response
from handlers.http.requests import MAX_LIMIT, piece_of, query_limit, query_word

RowT = TypeVar("RowT")
CursorT = TypeVar("CursorT")

#: What a spreadsheet takes for the beginning of a formula, in ASCII and in full width (OWASP, "CSV Injection").
FORMULA_SIGNS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
#: Put before such a text: spreadsheets then show it as it is.
TEXT_SIGN: Final = "'"
#: Where the beginning of a formula may be the beginning of a cell, too: spreadsheets in many languages part cells at
#: semicolons, others at tabs, and not all keep to the quotes.
_CELL_WITHIN: Final = re.compile(r'([;,\t\r\n][\s"]*)(?=[=+\-@＝＋－＠])')
#: The socket is reset, not closed, and what is unsent is thrown away (SO_LINGER: on, for 0 seconds).
_RESET: Final = struct.pack("ii", 1, 0)


# Without slots: a generic class notes its parameters in each instance.
@dataclass(frozen=True, kw_only=True)
class Listing(Generic[RowT, CursorT]):
    """A list and how it is shown. `read` answers at most so many rows behind a cursor, or from the beginning.

    `pieces`: all rows behind a cursor, where reading them so costs less than one `read` after the other.
    """

    name: str
    read: Callable[[CursorT | None, int], Awaitable[Sequence[RowT]]]
    cursor: Callable[[RowT], CursorT]
    document: Callable[[RowT], dict[str, Any]]
    #: The names of the columns, and what stands in them.
    columns: Sequence[str]
    cells: Callable[[RowT], Sequence[object]]
    #: A cursor as a link has it.
    written: Callable[[CursorT], str] = str
    pieces: Callable[[CursorT | None], AsyncIterator[Sequence[RowT]]] | None = None


async def answer(request: web.Request, listing: Listing[RowT, CursorT], after: CursorT | None) -> web.StreamResponse:
    """One piece of the list behind `after`; with `?format=csv` all of it from there on, whatever the `limit`."""
    limit = query_limit(request)
    if query_word(request, "format", ("json", "csv")) == "csv":
        return await _stream(request, listing, after)
    found = await listing.read(after, limit + 1)
    shown, more = piece_of(request, found, limit, lambda row: listing.written(listing.cursor(row)))
    return json_response([listing.document(row) for row in shown], headers=more)


async def _stream(request: web.Request, listing: Listing[RowT, CursorT], after: CursorT | None) -> web.StreamResponse:
    pieces = _in_pieces(listing, after) if listing.pieces is None else listing.pieces(after)
    # Before anything is sent: a database that is away is still a 503.
    rows = await anext(pieces, None)
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
            rows = await anext(pieces, None)
        whole = True
    finally:
        if not whole:
            _break_off(request)
    return response


async def _in_pieces(listing: Listing[RowT, CursorT], after: CursorT | None) -> AsyncIterator[Sequence[RowT]]:
    rows = await listing.read(after, MAX_LIMIT)
    while rows:
        yield rows
        rows = await listing.read(listing.cursor(rows[-1]), MAX_LIMIT) if len(rows) == MAX_LIMIT else []


def _break_off(request: web.Request) -> None:
    """Half a list must not look like a whole one, nor an error's document like a part of it.

    Over HTTP/1.0 the end of the connection is the end of the list, so it must not be an orderly one.
    """
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):  # it may be closed already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    request.transport.abort()


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
    text = _CELL_WITHIN.sub(rf"\1{TEXT_SIGN}", text)
    # Some spreadsheets trim what they read, so what stands behind white space counts.
    if text.startswith(FORMULA_SIGNS) or text.lstrip().startswith(FORMULA_SIGNS):
        return TEXT_SIGN + text
    return text
