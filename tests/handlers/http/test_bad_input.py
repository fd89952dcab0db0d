"""Bad input, on every route that takes any: refused with the contract's document, and nothing changed."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from domain import uploads
from handlers.http.routes import Route, routes
from tests.support.apps import Answer, App, contents, running_app
from tests.support.families import Family, body_for, fill, make_family, parameters

WITH_BODIES: Final = [route for route in routes() if body_for(route) is not None]
JSON: Final = {"Content-Type": "application/json"}

#: What no route takes as its body: content, its type, the status, and the code.
BAD_BODIES: Final[dict[str, tuple[bytes, str, int, str]]] = {
    "none at all": (b"", "application/json", 400, "empty_body"),
    "no JSON": (b"hello", "application/json", 400, "malformed_json"),
    "half": (b'{"text": "x"', "application/json", 400, "malformed_json"),
    "two": (b"{} {}", "application/json", 400, "malformed_json"),
    "not UTF-8": (b'{"text": "\xff\xfe"}', "application/json", 400, "malformed_json"),
    "UTF-16": ('{"text": "x"}'.encode("utf-16"), "application/json", 400, "malformed_json"),
    "NaN": (b'{"text": NaN}', "application/json", 400, "malformed_json"),
    "a lone surrogate": (b'{"text": "\\ud800"}', "application/json", 400, "malformed_json"),
    "an array": (b"[]", "application/json", 400, "not_an_object"),
    "a string": (b'"text"', "application/json", 400, "not_an_object"),
    "a number": (b"1e999", "application/json", 400, "malformed_json"),
    "null": (b"null", "application/json", 400, "not_an_object"),
    "NUL in a text": (b'{"text": "a\\u0000b"}', "application/json", 400, "validation_failed"),
    "NUL in a key": (b'{"\\u0000": 1}', "application/json", 400, "validation_failed"),
    "too deep": (b'{"x": ' + b"[" * 40 + b"]" * 40 + b"}", "application/json", 400, "too_deep"),
    "far too deep": (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "application/json", 400, "too_deep"),
    "too large": (b'{"x": "' + b"x" * 10_000_000 + b'"}', "application/json", 413, "too_large"),
    "a form": (b"text=x", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    "a plain text": (b'{"text": "x"}', "text/plain", 415, "unsupported_media_type"),
    "multipart": (b"--x\r\n\r\nx\r\n--x--", "multipart/form-data; boundary=x", 415, "unsupported_media_type"),
}

#: What no field takes.
TAKEN_BY_NONE: Final[Any] = [[]]
#: Of every field: what it is never.
BAD_VALUES: Final[tuple[Any, ...]] = (
    *(TAKEN_BY_NONE, 0, -1, 1.5, 10**30, True, [], {}, {"a": None}, "", "x" * 20_000),
    *(["x"], "\x00", "‮", "null", "<b>", "2030-13-01T00:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59"),
)

BAD_IDS: Final = (
    *("00000000-0000-0000-0000-000000000000", "x", "0", "-1", "%00", "%20", "%0a", "%ff", "%ed%a0%80", "%e2%80%ae"),
    *("x" * 300, "x" * 4000, "..%2f..%2fetc", "'%3b--", "%7b%7d", "null", "undefined", "9" * 400),
)

BAD_QUERIES: Final = (
    *("limit=0", "limit=-1", "limit=x", "limit=1e3", "limit=99999", "limit=" + "9" * 4000, "limit=%00", "limit=%ff"),
    *("after=-1", "after=x", "after=9223372036854775808", "before=-5", "before=%00", "before=" + "1" * 400),
    *("cursor=x", "cursor=%00", "cursor=~", "from=x", "to=2030-01-01", "status=done", "student_id=%00", "user_id=%00"),
)


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


@pytest.fixture
async def family(app: App) -> Family:
    return await make_family(app, student="kid", teacher="teach", parent="gran")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_family(shared_app: App) -> Family:
    return await make_family(shared_app, student="kid", teacher="teach", parent="gran")


def assert_document(answer: Answer, *statuses: int) -> None:
    assert answer.status in statuses, answer
    assert isinstance(answer.body, dict), answer
    assert set(answer.body) - {"fields"} == {"error", "message", "status_code"}, answer
    assert answer.body["status_code"] == answer.status
    assert answer.body["message"].strip(), answer
    assert len(str(answer.body)) < 2_000, "what was sent is not sent back"
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"


def allowed(route: Route) -> str:
    """Somebody whom the route lets by, so that it is the input that is refused."""
    if route.path.startswith("/notifications/"):
        return "teach"
    of_students = ("/sessions/{ref}/messages/{id}", "/bookings/{id}/review", "/content/{id}/progress")
    return "kid" if route.path in of_students else "boss"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("kind", BAD_BODIES)
async def test_a_body_that_is_none_is_refused_everywhere(shared_app: App, shared_family: Family, kind: str) -> None:
    content, content_type, status, code = BAD_BODIES[kind]
    before = await contents(shared_app.pool)
    for route in WITH_BODIES:
        answer = await shared_app.call(
            allowed(route),
            route.method,
            fill(route, shared_family),
            data=io.BytesIO(content),
            headers={"Content-Type": content_type},
        )
        assert_document(answer, status)
        assert answer.error == code, (route.method, route.path, answer.body)
    assert await contents(shared_app.pool) == before


@pytest.mark.parametrize("route", WITH_BODIES, ids=lambda route: f"{route.method} {route.path}")
async def test_whatever_stands_in_a_field_is_taken_or_refused_and_never_breaks(
    app: App, family: Family, route: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each field in turn holds what it should not. No 500; what is refused has changed nothing. Where even what no
    field takes is taken, it is no field of this route: the rest is not tried."""
    monkeypatch.setattr(uploads, "MAX_ON_THEIR_WAY", 10_000)
    sound = body_for(route) or {"booking_id": str(family.lesson_id)}
    fields = {*sound, "status", "notes", "files", "recording_enabled", "client_id", "mic_allowed", "profile_data"}
    fields |= {"weekly", "repeat", "starts_at", "max_participants", "slow_mode_seconds", "tier", "instructor_id"}
    before = await contents(app.pool)
    for field in sorted(fields):
        for value in BAD_VALUES:
            answer = await app.call(allowed(route), route.method, fill(route, family), {**sound, field: value})
            after = await contents(app.pool)
            if answer.status >= 300:
                assert_document(answer, 400, 403, 404, 409)
                assert after == before, (field, value, answer)
            before = after
            if answer.status < 300 and value is TAKEN_BY_NONE:
                break


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("route", [r for r in routes() if parameters(r.path)], ids=lambda r: f"{r.method} {r.path}")
async def test_an_id_that_is_none_is_404(shared_app: App, shared_family: Family, route: Route) -> None:
    before = await contents(shared_app.pool)
    sound = fill(route, shared_family)
    for _, parameter in parameters(route.path):
        place = route.path.split("/").index(parameter)
        for bad in BAD_IDS:
            pieces = sound.split("/")
            pieces[place] = bad
            answer = await shared_app.call(allowed(route), route.method, "/".join(pieces), body_for(route))
            assert_document(answer, 404)
    assert await contents(shared_app.pool) == before


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("route", [r for r in routes() if r.method == "GET" and not r.public], ids=lambda r: r.path)
async def test_a_query_that_makes_no_sense_is_ignored_or_400(
    shared_app: App, shared_family: Family, route: Route
) -> None:
    for query in BAD_QUERIES:
        for more in ("", "&user_id=kid&student_id=kid"):
            answer = await shared_app.call("boss", "GET", f"{fill(route, shared_family)}?{query}{more}")
            if answer.status != 200:
                assert_document(answer, 400, 404)
