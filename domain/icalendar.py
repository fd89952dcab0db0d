"""iCalendar (RFC 5545), as far as lessons need it: one calendar of plain events, written out.

Written here rather than with a library: a lesson needs ten kinds of lines and no recurrence, and a feed of a thousand
lessons is ready in milliseconds, during which the worker's rooms wait. The tests read it back with `icalendar`.

Times are in UTC. A lesson is a single instant for people who may live in different zones; every calendar shows it in
its reader's own, and there is no definition of a zone (VTIMEZONE) to be out of date or to be read wrongly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

CONTENT_TYPE: Final = "text/calendar"
#: §3.1: a line has at most so many octets, without its end; what follows begins with a blank.
MAX_LINE_OCTETS: Final = 75
PRODUCT: Final = "-//Encounters//Encounters//EN"

#: `PUBLISH` shows events, `CANCEL` takes them back (RFC 5546).
Method = Literal["PUBLISH", "CANCEL"]
EventStatus = Literal["TENTATIVE", "CONFIRMED", "CANCELLED"]

#: Control characters have no place in a text, but for the tab.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_LINE_BREAK: Final = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One event. `changed_at` is when it last became what it is; of two versions the higher `sequence` counts.

    `organizer` is a URI. Times carry their offset.
    """

    uid: str
    sequence: int
    created_at: datetime
    changed_at: datetime
    start: datetime
    end: datetime
    status: EventStatus
    summary: str
    description: str
    url: str
    organizer: str
    organizer_name: str


def written(events: Sequence[Event], *, method: Method, name: str = "", refresh: timedelta | None = None) -> bytes:
    """A calendar of these events. `name` and `refresh` (how often to look again) are for those who subscribe to it."""
    return b"".join(_folded(line) for line in _calendar(events, method, name, refresh))


def _calendar(events: Sequence[Event], method: Method, name: str, refresh: timedelta | None) -> Iterator[str]:
    yield "BEGIN:VCALENDAR"
    yield "VERSION:2.0"
    yield f"PRODID:{PRODUCT}"
    yield "CALSCALE:GREGORIAN"
    yield f"METHOD:{method}"
    if name:
        # The second of each is the older word, which more programs know (RFC 7986 came late).
        yield f"NAME:{_text(name)}"
        yield f"X-WR-CALNAME:{_text(name)}"
    if refresh is not None:
        minutes = refresh // timedelta(minutes=1)
        yield f"REFRESH-INTERVAL;VALUE=DURATION:PT{minutes}M"
        yield f"X-PUBLISHED-TTL:PT{minutes}M"
    for event in events:
        yield from _event(event)
    yield "END:VCALENDAR"


def _event(event: Event) -> Iterator[str]:
    yield "BEGIN:VEVENT"
    yield f"UID:{_text(event.uid)}"
    yield f"SEQUENCE:{event.sequence}"
    yield f"DTSTAMP:{_instant(event.changed_at)}"
    yield f"CREATED:{_instant(event.created_at)}"
    yield f"LAST-MODIFIED:{_instant(event.changed_at)}"
    yield f"DTSTART:{_instant(event.start)}"
    yield f"DTEND:{_instant(event.end)}"
    yield f"STATUS:{event.status}"
    # A cancelled lesson leaves its time free.
    yield f"TRANSP:{'TRANSPARENT' if event.status == 'CANCELLED' else 'OPAQUE'}"
    yield f"SUMMARY:{_text(event.summary)}"
    if event.description:
        yield f"DESCRIPTION:{_text(event.description)}"
    yield f"URL:{event.url}"
    yield f"ORGANIZER;CN={_quoted(event.organizer_name)}:{event.organizer}"
    yield "END:VEVENT"


def _instant(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _text(text: str) -> str:
    """§3.3.11."""
    text = text.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,")
    return _CONTROLS.sub("", _LINE_BREAK.sub("\\\\n", text))


def _quoted(text: str) -> str:
    """§3.2: a parameter's value in quotation marks, inside which none can stand."""
    return f'"{_CONTROLS.sub("", _LINE_BREAK.sub(" ", text)).replace(chr(34), chr(39))}"'


def _folded(line: str) -> bytes:
    """The line with its end, folded where it is long; never inside of a character."""
    rest = line.encode()
    pieces = []
    most = MAX_LINE_OCTETS
    while len(rest) > most:
        cut = most
        while rest[cut] & 0xC0 == 0x80:  # the middle of a character in UTF-8
            cut -= 1
        pieces.append(rest[:cut])
        rest = rest[cut:]
        most = MAX_LINE_OCTETS - 1  # the blank counts
    return b"\r\n ".join([*pieces, rest]) + b"\r\n"
