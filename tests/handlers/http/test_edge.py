"""What every HTTP request passes: ids, errors as documents, authentication, bodies, CORS."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, cast
from uuid import UUID

import msgspec
import pytest
import structlog
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from msgspec import Meta

from domain import errors as refusals
from domain.identity import Identity
from domain.people import People
from domain.tokens import SecretVerifier
from handlers.http import bodies, edge
from handlers.http.authentication import authenticate
from handlers.http.bodies import MAX_BODY_BYTES, json_response, read_body
from handlers.http.keys import PEOPLE, READINESS, VERIFIER
from handlers.http.requests import (
    identity_of,
    link,
    path_uuid,
    query_instant,
    query_limit,
    query_text,
    query_word,
    required_query_text,
)
from handlers.http.routes import Route, apply
from handlers.payloads import Instant
from store.errors import Away, Refused
from tests.support.recorder import WAIT_SECONDS
from tests.support.tokens import SECRET, mint

Client = TestClient[web.Request, web.Application]


class Inner(msgspec.Struct):
    full_name: Annotated[str, Meta(min_length=1, max_length=5)]
    note: str = ""


class Thing(msgspec.Struct):
    name: str
    course_id: str
    inner: Inner | None = None
    count: Annotated[int, Meta(ge=1, le=9)] = 1
    starts_at: Instant | None = None
    anything: Any = None


class PeopleInMemory:
    """Stands where `People` does: these tests need no database."""

    def __init__(self) -> None:
        self.remembered: list[Identity] = []

    async def remember(self, identity: Identity) -> None:
        self.remembered.append(identity)


async def echo(request: web.Request) -> web.Response:
    return json_response(await read_body(request, Thing))


async def whoami(request: web.Request) -> web.Response:
    return json_response({"user_id": identity_of(request).user_id})


async def maybe(request: web.Request) -> web.Response:
    """Public, but asks who it is where a token came."""
    if "Authorization" not in request.headers:
        return json_response({"user_id": None})
    return json_response({"user_id": (await authenticate(request)).user_id})


async def query(request: web.Request) -> web.Response:
    return json_response(
        {
            "limit": query_limit(request),
            "at": query_instant(request, "at"),
            "text": query_text(request, "text"),
            "word": query_word(request, "word", ("a", "b")),
        }
    )


async def listing(request: web.Request) -> web.Response:
    required_query_text(request, "of")
    return json_response([], headers=link(request, "next", cursor="a b>"))


async def one(request: web.Request) -> web.Response:
    return json_response({"id": path_uuid(request, "id", lambda: refusals.NotFound("No such thing."))})


FAILURES: dict[str, Exception] = {
    "forbidden": refusals.Forbidden("Not yours."),
    "conflict": refusals.Conflict("Taken.", code="slot_taken"),
    "too-many": refusals.TooManyRequests("Slowly.", retry_after=7),
    "unavailable": refusals.Unavailable("Away."),
    "away": Away("connection refused to 10.0.0.1"),
    "timeout": TimeoutError(),
    "refused": Refused("some_constraint"),
    "bug": ValueError("a secret detail"),
    "redirect": web.HTTPFound("/healthz"),
    "lost": ConnectionResetError("gone"),
}


async def fail(request: web.Request) -> web.Response:
    raise FAILURES[request.match_info["how"]]


async def nothing(_request: web.Request) -> web.Response:
    return web.Response()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async def readiness() -> dict[str, str]:
        return {"status": "ready"}

    app = web.Application()
    edge.guard(app)
    app[VERIFIER] = SecretVerifier(SECRET)
    app[PEOPLE] = cast("People", PeopleInMemory())
    app[READINESS] = readiness
    routes = [
        Route("POST", "/echo", echo, public=True),
        Route("GET", "/whoami", whoami),
        Route("GET", "/maybe", maybe, public=True),
        Route("GET", "/query", query, public=True),
        Route("GET", "/listing", listing, public=True),
        Route("GET", "/things/{id}", one, public=True),
        Route("GET", "/fail/{how}", fail, public=True),
        Route("GET", "/healthz", nothing, public=True),
        Route("DELETE", "/things/{id}", nothing),
    ]
    apply(app, ["https://app.example"], routes)
    async with TestClient(TestServer(app)) as client:
        yield client


def bearer(sub: str = "ada", role: str = "student", **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {mint(sub, role, **claims)}"}


async def error_of(response: ClientResponse, status: int, code: str) -> dict[str, Any]:
    document: dict[str, Any] = await response.json()
    assert (response.status, document["error"], document["status_code"]) == (status, code, status)
    assert response.content_type == "application/json"
    assert document["message"].endswith(".") or document["message"]
    assert set(document) <= {"error", "message", "status_code", "fields", "retry_after"}
    return document


# Bodies

GOOD = {"name": "x", "course_id": "c"}
DEEP: list[Any] = []
for _ in range(40):
    DEEP = [DEEP]

BAD_BODIES: list[tuple[str, bytes, str, list[str]]] = [
    ("empty", b"", "empty_body", []),
    ("white space", b"  ", "malformed_json", []),
    ("not JSON", b"{name: x}", "malformed_json", []),
    ("cut off", b'{"name": "x"', "malformed_json", []),
    ("two documents", b"{} {}", "malformed_json", []),
    ("not UTF-8", b'{"name": "\xff", "course_id": "c"}', "malformed_json", []),
    ("NaN", b'{"name": NaN, "course_id": "c"}', "malformed_json", []),
    ("an infinite number", b'{"name": "x", "course_id": "c", "anything": 1e999}', "malformed_json", []),
    ("a lone surrogate", b'{"name": "\\ud800", "course_id": "c"}', "malformed_json", []),
    ("an array", b"[]", "not_an_object", []),
    ("a string", b'"x"', "not_an_object", []),
    ("null", b"null", "not_an_object", []),
    ("a number", b"1", "not_an_object", []),
    ("nothing of what is needed", b"{}", "validation_failed", ["name", "course_id"]),
    ("wrong types", b'{"name": 1, "courseId": []}', "validation_failed", ["name", "course_id"]),
    ("null for a string", b'{"name": null, "courseId": "c"}', "validation_failed", ["name"]),
    ("true for a number", json.dumps({**GOOD, "count": True}).encode(), "validation_failed", ["count"]),
    ("a string for a number", json.dumps({**GOOD, "count": "1"}).encode(), "validation_failed", ["count"]),
    ("a fraction for a number", json.dumps({**GOOD, "count": 1.5}).encode(), "validation_failed", ["count"]),
    ("a number too large", json.dumps({**GOOD, "count": 10**18}).encode(), "validation_failed", ["count"]),
    ("too short inside", json.dumps({**GOOD, "inner": {"fullName": ""}}).encode(), "validation_failed",
     ["inner.full_name"]),
    ("too long inside", json.dumps({**GOOD, "inner": {"full_name": "x" * 6, "note": 1}}).encode(),
     "validation_failed", ["inner.full_name", "inner.note"]),
    ("an array for an object", json.dumps({**GOOD, "inner": []}).encode(), "validation_failed", ["inner"]),
    ("NUL", b'{"name": "a\\u0000b", "course_id": "c"}', "validation_failed", ["name"]),
    ("NUL inside", json.dumps({**GOOD, "inner": {"fullName": "\0"}}).encode(), "validation_failed",
     ["inner.fullName"]),
    ("NUL in what is ignored", json.dumps({**GOOD, "x": ["\0"]}).encode(), "validation_failed", ["x[0]"]),
    ("NUL in a key", json.dumps({**GOOD, "\0": 1}).encode(), "validation_failed", ["\\u0000"]),
    ("a time without an offset", json.dumps({**GOOD, "startsAt": "2026-01-01T10:00:00"}).encode(),
     "validation_failed", ["starts_at"]),
    ("a date", json.dumps({**GOOD, "startsAt": "2026-01-01"}).encode(), "validation_failed", ["starts_at"]),
    ("a time as a number", json.dumps({**GOOD, "startsAt": 0}).encode(), "validation_failed", ["starts_at"]),
    ("a time before time", json.dumps({**GOOD, "startsAt": "0001-01-01T00:00:00+23:00"}).encode(),
     "validation_failed", ["starts_at"]),
    ("too deep", json.dumps({**GOOD, "anything": DEEP}).encode(), "too_deep", []),
    ("deeper than the parser goes", b'{"anything":' + b"[" * 100_000, "too_deep", []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "code", "fields"), [bad[1:] for bad in BAD_BODIES], ids=[bad[0] for bad in BAD_BODIES]
)
async def test_a_bad_body_is_a_400_that_says_why(client: Client, body: bytes, code: str, fields: list[str]) -> None:
    response = await client.post("/echo", data=body, headers={"Content-Type": "application/json"})
    document = await error_of(response, 400, code)
    assert list(document.get("fields", {})) == fields


async def test_both_spellings_are_taken_and_unknown_fields_ignored(client: Client) -> None:
    body = {
        "name": "ä\U0001f600",
        "courseId": "c",
        "inner": {"fullName": "Ada"},
        "startsAt": "2026-01-01T10:00:00+01:00",
        "anything": {"keepThis": 1},
        "unknown": {"deeply": []},
    }
    response = await client.post("/echo", json=body)
    assert response.status == 200
    assert await response.json() == {
        "name": "ä\U0001f600",
        "course_id": "c",
        "inner": {"full_name": "Ada", "note": ""},
        "count": 1,
        "starts_at": "2026-01-01T09:00:00Z",
        "anything": {"keepThis": 1},
    }


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_another_type_than_json_is_415(client: Client, content_type: str) -> None:
    response = await client.post("/echo", data=b"{}", headers={"Content-Type": content_type})
    await error_of(response, 415, "unsupported_media_type")


async def test_json_may_name_its_charset(client: Client) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    response = await client.post("/echo", data=json.dumps(GOOD).encode(), headers=headers)
    assert response.status == 200


async def test_a_body_of_just_the_largest_size_is_taken(client: Client) -> None:
    body = json.dumps({**GOOD, "padding": ""}).encode()
    body = body.replace(b'""', b'"' + b"x" * (MAX_BODY_BYTES - len(body)) + b'"')
    assert len(body) == MAX_BODY_BYTES
    headers = {"Content-Type": "application/json"}
    assert (await client.post("/echo", data=body, headers=headers)).status == 200
    await error_of(await client.post("/echo", data=body + b" ", headers=headers), 413, "too_large")


async def test_ten_megabytes_are_answered_with_413(client: Client) -> None:
    response = await client.post(
        "/echo", data=io.BytesIO(b"[" * 10_000_000), headers={"Content-Type": "application/json"}
    )
    await error_of(response, 413, "too_large")
    assert (await client.post("/echo", json=GOOD)).status == 200


async def test_a_chunked_body_is_bounded_too(client: Client) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(400):
            yield b" " * 1024

    response = await client.post("/echo", data=pieces(), headers={"Content-Type": "application/json"})
    await error_of(response, 413, "too_large")


async def test_a_compressed_body_is_bounded_by_what_it_unpacks_to(client: Client) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < MAX_BODY_BYTES
    await error_of(await client.post("/echo", data=bomb, headers=headers), 413, "too_large")
    small = gzip.compress(json.dumps(GOOD).encode())
    assert (await client.post("/echo", data=small, headers=headers)).status == 200


async def raw_request(client: Client, *pieces: bytes) -> bytes:
    """What comes back, until the server closes the connection."""
    host, port = client.server.host, client.server.port
    reader, writer = await asyncio.open_connection(host, port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    answer = await asyncio.wait_for(reader.read(), WAIT_SECONDS)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_body_that_trickles_is_cut(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "READ_SECONDS", 0.2)
    answer = await raw_request(
        client,
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    )
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"body_too_slow" in answer


async def test_a_broken_compressed_body_is_a_400(client: Client) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    response = await client.post("/echo", data=b"this is not gzip", headers=headers, chunked=True)
    assert response.status == 400


async def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection(client.server.host, client.server.port)
    writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{")
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()
    await writer.wait_closed()
    with structlog.testing.capture_logs() as logs:
        await asyncio.sleep(0.1)
    assert not [line for line in logs if line["log_level"] == "error"]
    assert (await client.post("/echo", json=GOOD)).status == 200


def test_datetimes_and_ids_are_written_as_the_contract_says() -> None:
    body = json_response({"at": datetime(2026, 1, 1, 9, 30, 0, 500_000, tzinfo=UTC), "id": UUID(int=1)}, status=201)
    assert body.text == '{"at":"2026-01-01T09:30:00.500000Z","id":"00000000-0000-0000-0000-000000000001"}'
    assert (body.status, body.content_type, body.charset) == (201, "application/json", "utf-8")


# Queries and paths


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("limit", value) for value in ("0", "1001", "-1", "x", "1.5", "1e2", "٣", "1_0", " 1", "9" * 400)],
        *[("at", value) for value in ("now", "2026-01-01", "2026-01-01T10:00:00", "0001-01-01T00:00:00+23:59")],
        *[("text", value) for value in ("a\0b", "x" * 513)],
        *[("word", value) for value in ("c", "A", "a,b")],
    ],
)
async def test_a_bad_query_parameter_is_a_400_that_names_it(client: Client, name: str, value: str) -> None:
    response = await client.get("/query", params={name: value})
    document = await error_of(response, 400, "validation_failed")
    assert list(document["fields"]) == [name]


async def test_query_parameters_are_typed_and_have_defaults(client: Client) -> None:
    assert await (await client.get("/query?limit=&text=")).json() == {
        "limit": 200, "at": None, "text": None, "word": None
    }  # fmt: skip
    # The + of the offset arrives as a blank where a client did not encode it.
    for at in ("2026-01-01T10:00:00%2B01:00", "2026-01-01T10:00:00+01:00", "2026-01-01T09:00:00Z"):
        response = await client.get(f"/query?limit=1000&at={at}&text=ä&word=b")
        assert await response.json() == {
            "limit": 1000, "at": "2026-01-01T09:00:00Z", "text": "ä", "word": "b"
        }  # fmt: skip


async def test_a_link_keeps_the_query_and_escapes_what_it_adds(client: Client) -> None:
    response = await client.get("/listing?of=x%3E&cursor=old")
    assert response.headers["Link"] == '</listing?of=x%3E&cursor=a+b%3E>; rel="next"'
    await error_of(await client.get("/listing"), 400, "validation_failed")


@pytest.mark.parametrize("bad", ["1", "x", "%00", "%ff", "%ed%a0%80", "..%2f..", "x" * 3000])
async def test_an_id_that_is_none_is_not_found(client: Client, bad: str) -> None:
    await error_of(await client.get(f"/things/{bad}"), 404, "not_found")


# Errors


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ("forbidden", 403, "forbidden"),
        ("conflict", 409, "slot_taken"),
        ("too-many", 429, "too_many_requests"),
        ("unavailable", 503, "unavailable"),
        ("away", 503, "unavailable"),
        ("timeout", 503, "unavailable"),
        ("lost", 503, "unavailable"),
        ("refused", 409, "conflict"),
        ("bug", 500, "internal_error"),
    ],
)
async def test_every_refusal_is_the_same_document(client: Client, how: str, status: int, code: str) -> None:
    response = await client.get(f"/fail/{how}")
    text = await response.text()
    await error_of(response, status, code)
    for secret in ("secret detail", "10.0.0.1", "some_constraint", "Traceback"):
        assert secret not in text
    retry = response.headers.get("Retry-After")
    assert retry == {429: "7", 503: "1"}.get(status)


async def test_a_bug_is_logged_with_its_traceback(client: Client) -> None:
    with structlog.testing.capture_logs() as logs:
        await client.get("/fail/bug?token=hush")
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert line["event"] == "request_failed"
    assert line["exc_info"]
    assert "hush" not in str(logs)


async def test_an_unknown_path_is_404_with_and_without_a_token(client: Client) -> None:
    await error_of(await client.get("/nowhere"), 404, "not_found")
    await error_of(await client.get("/nowhere", headers=bearer()), 404, "not_found")


async def test_a_wrong_method_is_405_and_says_the_right_ones(client: Client) -> None:
    response = await client.put("/things/1")
    await error_of(response, 405, "method_not_allowed")
    assert set(response.headers["Allow"].split(",")) == {"GET", "HEAD", "DELETE", "OPTIONS"}


async def test_a_redirect_stays_one(client: Client) -> None:
    response = await client.get("/fail/redirect", allow_redirects=False)
    assert (response.status, response.headers["Location"]) == (302, "/healthz")
    assert "X-Request-Id" in response.headers


async def test_head_is_get_without_the_body(client: Client) -> None:
    response = await client.head("/query")
    assert (response.status, await response.read()) == (200, b"")


# Authentication


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "token_missing"),
        ({"Authorization": ""}, "token_missing"),
        ({"Authorization": "Bearer"}, "token_missing"),
        ({"Authorization": "Bearer "}, "token_missing"),
        ({"Authorization": "Basic YTpi"}, "token_missing"),
        ({"Authorization": "Bearer nonsense"}, "invalid_token"),
        ({"Authorization": "Bearer a.b.c"}, "invalid_token"),
        ({"Authorization": f"Bearer {mint('ada', secret='another secret, as long as it has to be')}"},
         "invalid_token"),
        ({"Authorization": f"Bearer {mint('ada', exp=1)}"}, "token_expired"),
        ({"Authorization": f"Bearer {mint('ada', 'emperor')}"}, "invalid_token"),
    ],
)  # fmt: skip
async def test_no_valid_token_no_answer(client: Client, headers: dict[str, str], code: str) -> None:
    response = await client.get("/whoami", headers=headers)
    await error_of(response, 401, code)
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert "X-Request-Id" in response.headers


async def test_two_tokens_at_once_are_none(client: Client) -> None:
    token = mint("ada")
    answer = await raw_request(
        client,
        f"GET /whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n"
        f"Authorization: Bearer {token}\r\n\r\n".encode(),
    )
    assert answer.split()[1] in (b"400", b"401")


async def test_the_bearer_is_known_to_the_handler_and_remembered(client: Client) -> None:
    for scheme in ("Bearer", "bearer"):
        response = await client.get("/whoami", headers={"Authorization": f"{scheme} {mint('ada')}"})
        assert await response.json() == {"user_id": "ada"}
    people = cast("PeopleInMemory", client.server.app[PEOPLE])  # type: ignore[attr-defined]
    assert [identity.user_id for identity in people.remembered] == ["ada", "ada"]


async def test_a_body_is_not_read_before_the_token(client: Client) -> None:
    response = await client.delete("/things/1", data=b"x" * 1000)
    await error_of(response, 401, "token_missing")


async def test_a_public_route_may_ask_who_it_is(client: Client) -> None:
    assert await (await client.get("/maybe")).json() == {"user_id": None}
    assert await (await client.get("/maybe", headers=bearer("ada"))).json() == {"user_id": "ada"}
    response = await client.get("/maybe", headers={"Authorization": "Bearer nonsense"})
    await error_of(response, 401, "invalid_token")


# Request ids and the log


@pytest.mark.parametrize("given", ["a", "trace-1/ü".replace("ü", "u"), "~" * 128, "!"])
async def test_a_usable_request_id_is_taken_over(client: Client, given: str) -> None:
    response = await client.get("/healthz", headers={"X-Request-Id": given})
    assert response.headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "ü", "\t"])
async def test_an_unusable_request_id_is_replaced(client: Client, given: str) -> None:
    response = await client.get("/healthz", headers={"X-Request-Id": given})
    assert UUID(response.headers["X-Request-Id"]).version == 4


async def test_each_request_is_one_log_line_without_its_query(client: Client) -> None:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        await client.get("/whoami?token=hush", headers={**bearer("ada"), "X-Request-Id": "r1"})
        await client.get("/nowhere%0Aforged")
        await client.get("/healthz")
    known, unknown, health = [line for line in logs if line["event"] == "request"]
    assert known.pop("milliseconds") >= 0
    assert known == {
        "event": "request", "log_level": "info", "method": "GET", "path": "/whoami", "status": 200,
        "user_id": "ada", "request_id": "r1",
    }  # fmt: skip
    assert (unknown["path"], unknown["status"]) == ("/nowhere%0Aforged", 404)
    assert "user_id" not in unknown
    assert health["log_level"] == "debug"


# CORS

ORIGIN = {"Origin": "https://app.example"}


async def test_a_preflight_needs_no_token(client: Client) -> None:
    ask = {"Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "authorization"}
    response = await client.options("/things/1", headers={**ORIGIN, **ask})
    assert response.status == 200
    assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert response.headers["Access-Control-Allow-Methods"] == "DELETE"
    assert response.headers["Access-Control-Allow-Headers"].lower() == "authorization"
    assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {**ORIGIN},
        {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"},
        {**ORIGIN, "Access-Control-Request-Method": "PUT"},
        {**ORIGIN, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x-other"},
    ],
)
async def test_another_preflight_is_refused_as_a_document(client: Client, headers: dict[str, str]) -> None:
    response = await client.options("/things/1", headers=headers)
    await error_of(response, 403, "forbidden")
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize(("path", "status"), [("/whoami", 401), ("/healthz", 200), ("/fail/bug", 500)])
async def test_pages_from_an_allowed_origin_read_answers_and_errors(client: Client, path: str, status: int) -> None:
    response = await client.get(path, headers=ORIGIN)
    assert response.status == status
    assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
    exposed = set(response.headers["Access-Control-Expose-Headers"].lower().split(","))
    assert {"link", "etag", "x-request-id", "retry-after"} <= exposed
    assert response.headers["Vary"] == "Origin"


async def test_pages_from_elsewhere_are_told_nothing(client: Client) -> None:
    response = await client.get("/healthz", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in response.headers


async def test_without_origins_there_is_no_cors() -> None:
    app = web.Application()
    edge.guard(app)
    apply(app, [], [Route("GET", "/healthz", nothing, public=True)])
    async with TestClient(TestServer(app)) as client:
        response = await client.options("/healthz", headers={**ORIGIN, "Access-Control-Request-Method": "GET"})
        await error_of(response, 405, "method_not_allowed")
        assert "Vary" not in (await client.get("/healthz", headers=ORIGIN)).headers


def test_a_time_in_another_zone_is_the_same_moment() -> None:
    berlin = timezone(timedelta(hours=1))
    thing = Thing(name="x", course_id="c", starts_at=datetime(2026, 1, 1, 10, tzinfo=berlin))
    assert thing.starts_at == datetime(2026, 1, 1, 9, tzinfo=UTC)
