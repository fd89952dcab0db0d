"""What stands in a request's path and query, checked and typed."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar
from uuid import UUID

import msgspec
from aiohttp import web

from domain.errors import BadRequest, NotFound, invalid
from domain.identity import Identity
from handlers.http.keys import IDENTITY
from handlers.payloads import NOT_AN_INSTANT, Instant, in_utc, refuse_unstorable
from store.bookings import Position
from store.directory import Place

#: Longer than every id, room name and search that is accepted.
MAX_PARAMETER_CHARACTERS: Final = 512
#: How much of a list one answer holds, unless asked otherwise.
DEFAULT_LIMIT: Final = 200
MAX_LIMIT: Final = 1000

#: Longer than every cursor of ours: that of a list of people holds a name and an id, of four bytes a character.
MAX_CURSOR_CHARACTERS: Final = 2048

MAX_SEQ: Final = 2**63 - 1

RowT = TypeVar("RowT")
WordT = TypeVar("WordT", bound=str)

_WHOLE_NUMBER: Final = re.compile(r"-?[0-9]{1,19}")
#: An offset whose + was sent as it is, which in a query means a blank.
_BLANK_FOR_PLUS: Final = re.compile(r" (?=[0-9]{2}:?[0-9]{2}$)")


def identity_of(request: web.Request) -> Identity:
    """The bearer of the request's token. On a public route: see `authentication.authenticate`."""
    return request[IDENTITY]


def path_text(request: web.Request, name: str, missing: Callable[[], NotFound]) -> str:
    """A piece of the path. Raises `missing()` for what cannot be anybody's name or id."""
    text = request.match_info[name]
    if not 1 <= len(text) <= MAX_PARAMETER_CHARACTERS:
        raise missing()
    try:
        refuse_unstorable(text)
    except BadRequest:
        raise missing() from None
    return text


def path_uuid(request: web.Request, name: str, missing: Callable[[], NotFound]) -> UUID:
    """An id in the path. Raises `missing()` for what is no id: there is nothing by that name."""
    try:
        return UUID(request.match_info[name])
    except ValueError:
        raise missing() from None


def query_text(request: web.Request, name: str) -> str | None:
    """A query parameter, or None where it is absent or empty."""
    text = request.query.get(name)
    if not text:
        return None
    refuse_unstorable(text, name)
    if len(text) > MAX_PARAMETER_CHARACTERS:
        raise invalid({name: f"must have at most {MAX_PARAMETER_CHARACTERS} characters"})
    return text


def required_query_text(request: web.Request, name: str) -> str:
    text = query_text(request, name)
    if text is None:
        raise invalid({name: "is required"})
    return text


def query_word(request: web.Request, name: str, words: tuple[WordT, ...]) -> WordT | None:
    """A query parameter that is one of `words`, or None."""
    text = query_text(request, name)
    if text is None:
        return None
    for word in words:
        if word == text:
            return word
    raise invalid({name: f"must be one of {', '.join(words)}"})


def query_whole_number(request: web.Request, name: str, *, least: int, most: int) -> int | None:
    """A query parameter that is a whole number from `least` to `most`, or None."""
    text = query_text(request, name)
    if text is None:
        return None
    if not _WHOLE_NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise invalid({name: f"must be a whole number from {least} to {most}"})
    return int(text)


def query_limit(request: web.Request) -> int:
    """How many entries of a list were asked for."""
    limit = query_whole_number(request, "limit", least=1, most=MAX_LIMIT)
    return DEFAULT_LIMIT if limit is None else limit


def query_instant(request: web.Request, name: str) -> datetime | None:
    """A query parameter that is an ISO 8601 date and time with an offset, in UTC, or None."""
    text = query_text(request, name)
    if text is None:
        return None
    try:
        moment = msgspec.convert(_BLANK_FOR_PLUS.sub("+", text), Instant)
    except msgspec.ValidationError:
        raise invalid({name: NOT_AN_INSTANT}) from None
    return in_utc(moment, name)


def query_seq(request: web.Request, name: str) -> int | None:
    """A cursor: a `seq` of the session's log, or None."""
    return query_whole_number(request, name, least=0, most=MAX_SEQ)


def query_position(request: web.Request) -> Position | None:
    """The place after which a list by start and id goes on, as :func:`cursor_of` wrote it, or None."""
    cursor = query_text(request, "cursor")
    if cursor is None:
        return None
    start_time, _, row_id = cursor.partition("~")
    try:
        return Position(start_time=datetime.fromisoformat(start_time).astimezone(UTC), id=UUID(row_id))
    except (ValueError, OverflowError):
        raise not_a_cursor() from None


def cursor_of(start_time: datetime, row_id: UUID) -> str:
    return f"{start_time.isoformat()}~{row_id}"


def query_place(request: web.Request) -> Place | None:
    """The place after which a list of people goes on, as :func:`place_cursor` wrote it, or None."""
    cursor = request.query.get("cursor")
    if not cursor:
        return None
    if len(cursor) > MAX_CURSOR_CHARACTERS:
        raise not_a_cursor()
    try:
        written = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        sort_name, user_id = msgspec.json.decode(written, type=tuple[str, str])
        refuse_unstorable(sort_name + user_id)
    except (ValueError, msgspec.MsgspecError, BadRequest):  # no ASCII, base64 or UTF-8, no JSON of two texts
        raise not_a_cursor() from None
    return Place(sort_name=sort_name, id=user_id)


def place_cursor(place: Place) -> str:
    """Text that stands in an address as it is, whatever the name."""
    return base64.urlsafe_b64encode(msgspec.json.encode((place.sort_name, place.id))).rstrip(b"=").decode()


def not_a_cursor() -> BadRequest:
    return invalid({"cursor": "is not one from a Link header"})


def piece_of(
    request: web.Request, found: Sequence[RowT], limit: int, cursor: Callable[[RowT], str]
) -> tuple[Sequence[RowT], dict[str, str] | None]:
    """A piece of a list, and the header with the way to the next one, if there is more. `found`: what there is, up to
    one more than the `limit`. `cursor`: where the list goes on behind the last row that is shown."""
    shown = found[:limit]
    return shown, link(request, "next", cursor=cursor(shown[-1])) if len(found) > limit else None


def link(request: web.Request, rel: str, **parameters: str) -> dict[str, str]:
    """The `Link` header (RFC 8288) to another piece of a list: this request with other `parameters`."""
    return {"Link": f'<{request.rel_url.update_query(parameters)}>; rel="{rel}"'}
