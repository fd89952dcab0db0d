"""The documents name everything that is there, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from domain.errors import EncountersError
from domain.events import EVENT_NAMES
from domain.live import Live
from domain.people import People
from domain.tokens import SecretVerifier
from handlers.encounters.door import Encounters
from handlers.http import routes
from realtime.limits import Limits

ROOT = Path(__file__).parents[1]
REST = ROOT / "docs" / "rest.md"
REALTIME = ROOT / "docs" / "realtime.md"
#: Where others' documents lie, in a checkout that was set up.
NOT_OURS = frozenset({".venv", "node_modules", "build", "dist"})
#: Where the code names the events that have no `seq`, and the codes of errors.
SOURCES = [path for room in ("domain", "handlers", "realtime") for path in sorted((ROOT / room).rglob("*.py"))]

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_EVENT_NAME = re.compile(r'Event\(\s*name="(\w+)"')
_ERROR_CODE = re.compile(r'(?:\bcode=|default_code(?:: ClassVar\[str\])? = )"(\w+)"')
#: Refusals that the transport makes itself: status, code, message.
_TRANSPORT_CODE = re.compile(r'refused\(\s*\d{3}, "(\w+)"')


@pytest.mark.parametrize("route", [*routes.routes(), *routes.demo_routes()], ids=lambda r: f"{r.method} {r.path}")
def test_every_route_has_a_heading_of_its_own(route: routes.Route) -> None:
    assert f"### `{route.method} {route.path}`" in REST.read_text().splitlines()


def test_no_route_is_described_that_is_not_there() -> None:
    described = set(re.findall(r"^### `(\S+ \S+)`$", REST.read_text(), re.MULTILINE))

    assert described == {f"{route.method} {route.path}" for route in [*routes.routes(), *routes.demo_routes()]}


def test_every_event_that_is_accepted_is_described() -> None:
    missing = [name for name in _accepted() if f"`{name}`" not in REALTIME.read_text()]

    assert missing == []


def test_every_event_that_is_sent_is_described() -> None:
    sent = {*EVENT_NAMES.values(), *_sent_without_seq()}

    assert {"participantJoined", "typing", "kicked", "authExpiring", "serverDraining"} <= sent
    assert [name for name in sorted(sent) if f"| `{name}` |" not in REALTIME.read_text()] == []


def test_every_code_of_an_error_is_described() -> None:
    both = REST.read_text() + REALTIME.read_text()
    codes = {code for path in SOURCES for code in _ERROR_CODE.findall(path.read_text())}
    codes |= {code for path in SOURCES for code in _TRANSPORT_CODE.findall(path.read_text())}
    # Every place that raises these gives a code that says more.
    codes -= {"bad_request", "unauthenticated"}

    assert EncountersError.default_code in codes
    assert [code for code in sorted(codes) if f"`{code}`" not in both] == []


def _documents() -> list[Path]:
    def is_ours(path: Path) -> bool:
        return not any(part in NOT_OURS or part.startswith(".") for part in path.relative_to(ROOT).parts)

    return [path for path in sorted(ROOT.rglob("*.md")) if is_ours(path)]


@pytest.mark.parametrize("document", _documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_to_a_file_and_a_heading(document: Path) -> None:
    lost = [link for link in _LINK.findall(_prose(document)) if not _leads_somewhere(document, link)]

    assert lost == []


def _leads_somewhere(document: Path, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return True
    file, _, fragment = link.partition("#")
    target = document.parent / file if file else document
    return target.exists() and (not fragment or fragment in _fragments(target))


def _fragments(document: Path) -> set[str]:
    """The headings of a document as GitHub makes fragments of them."""
    headings = _HEADING.findall(_prose(document))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _prose(document: Path) -> str:
    return _FENCE.sub("", document.read_text())


def _accepted() -> list[str]:
    """The events that the real-time door knows."""

    class Bus:
        def on_gap(self, heard: Any) -> None: ...

    class NoLive:
        bus = Bus()
        audience = SimpleNamespace()

    door = Encounters(cast(Live, NoLive()), SecretVerifier("x" * 32), cast(People, None), Limits())
    return list(door._events)


def _sent_without_seq() -> set[str]:
    return {name for path in SOURCES for name in _EVENT_NAME.findall(path.read_text())}
