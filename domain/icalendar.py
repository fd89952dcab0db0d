"""Lessons as iCalendar (RFC 5545), written by the `icalendar` library.

An event stands in the time zone that it names, with that zone's definition (VTIMEZONE) beside it: a lesson at four
is at four in both halves of the year, also for a program that knows no zones of its own. In UTC stand those in UTC, in
a zone that this machine does not know, and those that begin or end in the hour that the clock shows twice: of such a
time programs think differently (§3.3.5 says the first, Thunderbird takes the second).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo

import icalendar

CONTENT_TYPE: Final = "text/calendar"
PRODUCT: Final = "-//Encounters//Encounters//EN"
#: Later events are in UTC. Nobody knows what clocks will do by then, and each year takes two observances.
LAST_ZONED_YEAR: Final = 2050
#: Events that are kept as they were written, some 1.5 KiB each: calendars are read again and again, and change little.
MAX_EVENTS_KEPT: Final = 4096
#: Zones that are kept, each for the years that some calendar has; about 1 KiB.
MAX_ZONES_KEPT: Final = 1024

#: `PUBLISH` shows events, `CANCEL` takes them back (RFC 5546).
Method = Literal["PUBLISH", "CANCEL"]
EventStatus = Literal["TENTATIVE", "CONFIRMED", "CANCELLED"]

#: Control characters have no place in a text, but for the tab and the line break.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_LINE_BREAK: Final = re.compile(r"\r\n|\r|\n")
_END: Final = b"END:VCALENDAR\r\n"
_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One event. `changed_at` is when it last became what it is; of two versions the higher `sequence` counts.

    `timezone` is an IANA name; `organizer` is a URI. Times carry their offset.
    """

    uid: str
    sequence: int
    created_at: datetime
    changed_at: datetime
    start: datetime
    end: datetime
    timezone: str
    status: EventStatus
    summary: str
    description: str
    url: str
    organizer: str
    organizer_name: str


class Calendar:
    """A calendar, filled event by event: each takes a fraction of a millisecond, so a long one can be made in pieces.

    `name` and `refresh` (how often to look again) are for those who subscribe to it.
    """

    def __init__(self, *, method: Method, name: str = "", refresh: timedelta | None = None) -> None:
        head = icalendar.Calendar()
        head.add("PRODID", PRODUCT)
        head.add("VERSION", "2.0")
        head.add("CALSCALE", "GREGORIAN")
        head.add("METHOD", method)
        if name:
            # The second of each is the older word, which more programs know (RFC 7986 came late).
            head.add("NAME", name)
            head.add("X-WR-CALNAME", name)
        if refresh is not None:
            head.add("REFRESH-INTERVAL", icalendar.vDuration(refresh), {"VALUE": "DURATION"})
            head.add("X-PUBLISHED-TTL", icalendar.vDuration(refresh))
        self._head: bytes = head.to_ical().removesuffix(_END)
        self._years: dict[str, set[int]] = {}
        self._events: list[bytes] = []

    def add(self, event: Event) -> None:
        """Write an event."""
        zone, written = _event(event)
        if zone is not None:
            years = self._years.setdefault(zone, set())
            years.update(moment.astimezone(UTC).year for moment in (event.start, event.end))
        self._events.append(written)

    def written(self) -> bytes:
        """All of it, each zone's definition before the events."""
        zones = [_definition(zone, tuple(sorted(years))) for zone, years in self._years.items()]
        return b"".join([self._head, *zones, *self._events, _END])


@lru_cache(MAX_EVENTS_KEPT)
def _event(event: Event) -> tuple[str | None, bytes]:
    """The zone that an event names, None for UTC, and the event as it is written."""
    zone = _zone_of(event)
    entry = icalendar.Event()
    entry.add("UID", _text(event.uid))
    entry.add("SEQUENCE", event.sequence)
    entry.add("DTSTAMP", event.changed_at)
    entry.add("CREATED", event.created_at)
    entry.add("LAST-MODIFIED", event.changed_at)
    for name, moment in (("DTSTART", event.start), ("DTEND", event.end)):
        if zone is None:
            entry.add(name, moment.astimezone(UTC))
        else:
            entry.add(name, moment.astimezone(zone).replace(tzinfo=None), {"TZID": zone.key})
    entry.add("STATUS", event.status)
    # A cancelled lesson leaves its time free.
    entry.add("TRANSP", "TRANSPARENT" if event.status == "CANCELLED" else "OPAQUE")
    entry.add("SUMMARY", _text(event.summary))
    if event.description:
        entry.add("DESCRIPTION", _text(event.description))
    entry.add("URL", event.url)
    entry.add("ORGANIZER", icalendar.vCalAddress(event.organizer), {"CN": _line(event.organizer_name)})
    return (None if zone is None else zone.key), entry.to_ical()


def _text(text: str) -> str:
    return _CONTROLS.sub("", text)


def _line(text: str) -> str:
    """As a parameter: on one line."""
    return _CONTROLS.sub("", _LINE_BREAK.sub(" ", text))


def _zone_of(event: Event) -> ZoneInfo | None:
    """The zone in which an event is written; None for UTC."""
    if event.timezone == "UTC":
        return None
    try:
        zone = ZoneInfo(event.timezone)
    except (LookupError, ValueError, OSError):
        return None  # known where it was chosen, not here
    if event.end.year > LAST_ZONED_YEAR or any(_is_shown_twice(moment, zone) for moment in (event.start, event.end)):
        return None
    return zone


def _is_shown_twice(moment: datetime, zone: ZoneInfo) -> bool:
    shown = moment.astimezone(zone)
    return shown.utcoffset() != shown.replace(fold=1 - shown.fold).utcoffset()


@lru_cache(MAX_ZONES_KEPT)
def _definition(name: str, years: tuple[int, ...]) -> bytes:
    """A zone's VTIMEZONE for these years of UTC, in ascending order.

    Not by `icalendar.Timezone.from_tzinfo`: it says when the clock goes forward in the new time rather than in the old
    one (§3.6.5), so an hour late; it leaps over what lasts less than 64 days (Morocco's Ramadan); and programs overlook
    its DTSTARTs that stand beside an RDATE (Thunderbird).
    """
    zone = ZoneInfo(name)
    definition = icalendar.Timezone()
    definition.add("TZID", name)
    for year in years:
        first = datetime(year, 1, 1, tzinfo=UTC)
        if year - 1 not in years:
            definition.add_component(_observance(zone, first, _offset(first, zone)))
        for onset in _changes_in(year, zone):
            definition.add_component(_observance(zone, onset, _offset(onset - _SECOND, zone)))
    written: bytes = definition.to_ical()
    return written


def _observance(zone: ZoneInfo, onset: datetime, before: timedelta) -> icalendar.Component:
    """What holds from `onset` on, which is told in the time `before` it."""
    shown = onset.astimezone(zone)
    observance = icalendar.TimezoneDaylight() if shown.dst() else icalendar.TimezoneStandard()
    observance.DTSTART = onset.replace(tzinfo=None) + before
    observance.TZOFFSETFROM = before
    observance.TZOFFSETTO = _offset(onset, zone)
    observance.add("TZNAME", shown.tzname() or zone.key)
    return observance


def _changes_in(year: int, zone: ZoneInfo) -> Iterator[datetime]:
    """When in a year of UTC the zone's offset changes, to the second. A day has at most one change."""
    day, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    while day < end:
        if _offset(day, zone) != _offset(day + _DAY, zone):
            yield _change_of_day(day, zone)
        day += _DAY


def _change_of_day(day: datetime, zone: ZoneInfo) -> datetime:
    before = _offset(day, zone)
    seconds = range(_DAY // _SECOND)
    return day + _SECOND * bisect_left(
        seconds, True, key=lambda passed: _offset(day + passed * _SECOND, zone) != before
    )


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return offset
