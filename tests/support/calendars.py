"""Calendars as a calendar program reads them: by ical.js, in Node.js. Every one is held to the rules of RFC 5545."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests import tools

SCRIPT = Path(__file__).with_name("calendar.mjs")
SECONDS = 30
#: §3.1, without the line's end.
MAX_LINE_OCTETS = 75

_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ONCE_IN_AN_EVENT = (
    *("UID", "SEQUENCE", "DTSTAMP", "CREATED", "LAST-MODIFIED", "DTSTART", "DTEND"),
    *("STATUS", "TRANSP", "SUMMARY", "URL", "ORGANIZER"),
)


@dataclass(frozen=True, slots=True)
class Moment:
    """When something is: as it is `shown`, in which `zone` (None: UTC), and the moment that this is."""

    shown: str
    zone: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """One event."""

    properties: Mapping[str, str]
    start: Moment
    end: Moment
    organizer_name: str

    def __getitem__(self, name: str) -> str:
        return self.properties[name]

    @property
    def sequence(self) -> int:
        return int(self["SEQUENCE"])


@dataclass(frozen=True, slots=True)
class Calendar:
    """What stood in a calendar. `zones` are those that it defines."""

    properties: Mapping[str, str]
    zones: Sequence[str]
    entries: Sequence[Entry]

    def __getitem__(self, name: str) -> str:
        return self.properties[name]

    @property
    def by_uid(self) -> dict[str, Entry]:
        return {entry["UID"]: entry for entry in self.entries}


def read(written: bytes | str) -> Calendar:
    """The calendar. AssertionError for one that breaks a rule that holds for all of ours."""
    raw = written.encode() if isinstance(written, str) else written
    check_lines(raw)
    ran = subprocess.run([tools.node(), SCRIPT], input=raw, capture_output=True, timeout=SECONDS)
    assert ran.returncode == 0, ran.stderr.decode()
    said = json.loads(ran.stdout)
    properties = _single(said["properties"])
    assert (properties["VERSION"], properties["CALSCALE"]) == ("2.0", "GREGORIAN")
    entries = [_entry(event) for event in said["events"]]
    used = {moment.zone for entry in entries for moment in (entry.start, entry.end) if moment.zone is not None}
    assert Counter(said["zones"]) == Counter(used), "each zone that is used is defined, once"
    assert len({entry["UID"] for entry in entries}) == len(entries), "every event has a UID of its own"
    return Calendar(properties, said["zones"], entries)


def check_lines(raw: bytes) -> None:
    """§3.1: CRLF at the end of each line, which is short enough and has no control characters."""
    assert raw.endswith(b"\r\n")
    lines = raw.removesuffix(b"\r\n").split(b"\r\n")
    assert max(map(len, lines)) <= MAX_LINE_OCTETS
    for line in lines:
        line.decode()  # no character was cut
        assert b"\n" not in line
        assert b"\r" not in line
        assert not _CONTROLS.search(line), line


def _entry(event: Any) -> Entry:
    for name in _ONCE_IN_AN_EVENT:
        assert len(event["properties"].get(name, ())) == 1, f"{name} stands once"
    [organizer] = event["properties"]["ORGANIZER"]
    return Entry(
        properties=_single(event["properties"]),
        start=_moment(event["start"]),
        end=_moment(event["end"]),
        organizer_name=organizer["parameters"]["cn"],
    )


def _moment(time: Any) -> Moment:
    return Moment(shown=time["shown"], zone=time["zone"], at=datetime.fromisoformat(time["at"]))


def _single(properties: Any) -> dict[str, str]:
    return {name: values[0]["value"] for name, values in properties.items()}
