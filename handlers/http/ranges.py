"""Parts of a file, as HTTP asks for them: RFC 9110, 13 (conditions) and 14 (ranges). Plain rules."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from aiohttp import hdrs

#: Ranges of one request; players ask for one, and whoever asks for more than these gets all of it.
MAX_RANGES: Final = 16
#: Digits of a position: more than any file has.
_RANGE: Final = re.compile(r"([0-9]{0,15})-([0-9]{0,15})")


class Range(NamedTuple):
    """Bytes from `start` up to, but without, `end`."""

    start: int
    end: int


class NotSatisfiable(Exception):
    """No range that was asked for lies in the file: 416."""


def ranges_of(headers: Mapping[str, str], *, size: int, etag: str, modified_at: datetime) -> Sequence[Range]:
    """The ranges that are to be sent, in the order in which they were asked for; none: all of the file.

    A header that makes no sense, or asks for pieces that are not worth it, is passed over, as 14.2 has it.
    Raises NotSatisfiable.
    """
    header = headers.get(hdrs.RANGE, "")
    unit, equals, said = header.partition("=")
    if not equals or unit.strip().lower() != "bytes" or not _is_this_one(headers.get(hdrs.IF_RANGE), etag, modified_at):
        return ()
    parts = [part.strip() for part in said.split(",") if part.strip()]
    if not 1 <= len(parts) <= MAX_RANGES:
        return ()
    found = []
    for part in parts:
        match = _RANGE.fullmatch(part)
        if match is None or match.group(0) == "-":
            return ()
        first, last = match.groups()
        if not first:
            length = min(int(last), size)
            if length:
                found.append(Range(size - length, size))
        elif last and int(last) < int(first):
            return ()
        elif int(first) < size:
            found.append(Range(int(first), min(int(last) + 1, size) if last else size))
    if not found:
        raise NotSatisfiable
    if sum(one.end - one.start for one in found) > size:
        return ()  # the same bytes more than once
    return found


def not_modified(headers: Mapping[str, str], *, etag: str, modified_at: datetime) -> bool:
    """Whether the client has this very file already: 304."""
    seen = headers.get(hdrs.IF_NONE_MATCH)
    if seen is not None:
        return _names(seen, etag, weak=True)
    since = _moment(headers.get(hdrs.IF_MODIFIED_SINCE))
    return since is not None and _seconds(modified_at) <= since


def precondition_failed(headers: Mapping[str, str], *, etag: str, modified_at: datetime) -> bool:
    """Whether the client wants another file than this: 412."""
    wanted = headers.get(hdrs.IF_MATCH)
    if wanted is not None:
        return not _names(wanted, etag, weak=False)
    since = _moment(headers.get(hdrs.IF_UNMODIFIED_SINCE))
    return since is not None and _seconds(modified_at) > since


def _is_this_one(if_range: str | None, etag: str, modified_at: datetime) -> bool:
    if if_range is None:
        return True
    if if_range.startswith(('"', "W/")):
        return if_range == f'"{etag}"'  # a weak one never fits (13.1.5)
    return _moment(if_range) == _seconds(modified_at)


def _names(header: str, etag: str, *, weak: bool) -> bool:
    if header.strip() == "*":
        return True
    tags = [tag.strip() for tag in header.split(",")]
    return any((tag.removeprefix("W/") if weak else tag) == f'"{etag}"' for tag in tags)


def _moment(header: str | None) -> datetime | None:
    if header is None:
        return None
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _seconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
