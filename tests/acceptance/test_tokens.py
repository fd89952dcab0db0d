"""Nobody without a sound token, nor longer than it holds; and no page of another site."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import aiohttp
import pytest

from tests.acceptance.conftest import NO_LIMITS, Arrange, Sit, running
from tests.acceptance.lessons import Person, delay, rest, until
from tests.acceptance.wire import Poll, address, wire
from tests.support.clients import Client, ConnectRefusedError
from tests.support.servers import Server
from tests.support.tokens import mint

ORIGIN = "https://app.example"
TRANSPORTS = [("polling",), ("websocket",)]


@pytest.fixture(scope="module")
def server(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker that pages from ORIGIN may use."""
    folder = tmp_path_factory.mktemp("tokens")
    with running(folder, 1, DATABASE_URL=module_database, CORS_ORIGINS=ORIGIN, **NO_LIMITS) as (server,):
        yield server


def _unsigned() -> str:
    parts = ({"alg": "none", "typ": "JWT"}, {"sub": "x", "role": "admin", "exp": int(time.time()) + 600})
    return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts) + "."


UNSOUND: dict[str, Callable[[], str]] = {
    "garbage": lambda: "garbage",
    "expired": lambda: mint("x", exp=int(time.time()) - 1),
    "without exp": lambda: mint("x", exp=None),
    "not valid yet": lambda: mint("x", nbf=int(time.time()) + 60),
    "signed by somebody else": lambda: mint("x", secret="another secret of more than 32 bytes!"),
    "not signed": _unsigned,
    "of no known role": lambda: mint("x", "janitor"),
    "of nobody": lambda: mint(""),
    "long": lambda: mint("x", name="x" * 5_000),
}


@pytest.mark.parametrize("transports", TRANSPORTS, ids="".join)
@pytest.mark.parametrize("kind", UNSOUND)
async def test_an_unsound_token_is_refused_with_the_words_of_rest(
    server: Server, kind: str, transports: tuple[str, ...]
) -> None:
    token = UNSOUND[kind]()
    by_rest = await rest(server.url, "GET", "/profiles?user_id=x", token=token)
    assert by_rest.status == 401, by_rest
    with pytest.raises(ConnectRefusedError) as refused:
        await Client.connect(server.url, token, transports=transports)
    assert refused.value.data == by_rest.body


async def test_a_token_beyond_all_measure_is_refused(server: Server) -> None:
    with pytest.raises(ConnectRefusedError) as refused:
        await Client.connect(server.url, "x" * 20_000)
    assert refused.value.data["error"] == "invalid_token"


@pytest.mark.parametrize("transports", TRANSPORTS, ids="".join)
async def test_no_token_is_refused_like_an_unsound_one(server: Server, transports: tuple[str, ...]) -> None:
    by_rest = await rest(server.url, "GET", "/profiles?user_id=x")
    for token in (None, ""):
        with pytest.raises(ConnectRefusedError) as refused:
            await Client.connect(server.url, token, transports=transports)
        assert set(refused.value.data) == set(by_rest.body)
        assert (refused.value.data["error"], refused.value.data["status_code"]) == (by_rest.body["error"], 401)


@pytest.mark.parametrize("transports", TRANSPORTS, ids="".join)
async def test_a_token_in_the_header_does_as_well(
    server: Server, arrange: Arrange, transports: tuple[str, ...]
) -> None:
    lesson = await arrange(server.url)
    headers = {"Authorization": f"Bearer {lesson.student.token()}"}
    client = await Client.connect(server.url, None, transports=transports, headers=headers)
    assert (await client.call("joinSession", {"sessionId": lesson.id}))["ok"]
    await client.close()


# Tokens that end


async def test_a_connection_is_warned_and_cut_when_its_token_expires(
    server: Server, arrange: Arrange, sit: Sit
) -> None:
    lesson = await arrange(server.url)
    seats = [
        await sit(server.url, lesson, person, transports=[transport])
        for person, transport in ((lesson.student, "websocket"), (lesson.parent, "polling"))
    ]
    briefs = []
    for seat in seats:
        briefs.append(seat.person.brief_token())
        refreshed = await seat.client.call("refreshAuth", {"token": briefs[-1][0]})
        assert refreshed["ok"], refreshed
    late = 0.5 + await delay(server.url)
    for seat, (token, expires) in zip(seats, briefs, strict=True):
        warned = await seat.hears("authExpiring")
        assert abs(datetime.fromisoformat(warned["expires_at"]).timestamp() - expires) < 0.01
        await seat.client.wait_disconnected()
        assert 0 <= time.time() - expires < late
        with pytest.raises(ConnectRefusedError) as refused:
            await Client.connect(server.url, token)
        assert refused.value.data["error"] == "token_expired"


async def test_a_token_that_ends_within_a_minute_is_warned_of_at_once_and_holds(
    server: Server, arrange: Arrange, sit: Sit
) -> None:
    lesson = await arrange(server.url)
    seat = await sit(server.url, lesson, lesson.student, token=lesson.student.token(exp=time.time() + 59))
    await seat.hears("authExpiring")
    assert (await seat.say("in time"))["seq"]


async def test_a_token_that_holds_for_long_is_not_warned_of(server: Server, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(server.url)
    expires = time.time() + 62
    await (await sit(server.url, lesson, lesson.student, token=lesson.student.token(exp=expires))).hears("authExpiring")
    assert time.time() >= expires - 60, "a minute before"


async def test_refreshing_extends_a_connection(server: Server, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(server.url)
    seat = await sit(server.url, lesson, lesson.student)
    token, expires = lesson.student.brief_token()
    assert (await seat.client.call("refreshAuth", {"token": token}))["ok"]
    later = int(time.time()) + 3600
    refreshed = await seat.client.call("refreshAuth", {"token": lesson.student.token(exp=later)})
    assert refreshed["ok"], refreshed
    assert datetime.fromisoformat(refreshed["expires_at"]).timestamp() == later
    await until(lambda: time.time() > expires + 0.5, "the first token has expired")
    assert await seat.say("still here")
    assert seat.client.connected


async def test_nobody_becomes_somebody_else_by_refreshing(server: Server, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(server.url)
    seat = await sit(server.url, lesson, lesson.student)
    brief, expires = lesson.student.brief_token()
    assert (await seat.client.call("refreshAuth", {"token": brief}))["ok"]
    for token, status, code in (
        (lesson.teacher.token(), 403, "other_person"),
        (lesson.student.token(exp=int(time.time()) - 1), 401, "token_expired"),
        ("nonsense", 401, "invalid_token"),
    ):
        refused = await seat.client.call("refreshAuth", {"token": token})
        assert (refused["error"]["status_code"], refused["error"]["error"]) == (status, code)
    assert (await seat.say("I am who I was"))["user_id"] == lesson.student.id
    await seat.client.wait_disconnected()
    assert 0 <= time.time() - expires < 0.5 + await delay(server.url)


async def test_a_role_that_is_gone_with_the_new_token_is_gone_at_once(
    server: Server, arrange: Arrange, sit: Sit
) -> None:
    lesson = await arrange(server.url)
    admin = lesson.person("admin", "Ad Min")
    seat = await sit(server.url, lesson, admin)
    demoted = Person(admin.id, "student", admin.name)
    assert (await seat.client.call("refreshAuth", {"token": demoted.token()}))["ok"]
    await seat.hears("kicked", session_id=lesson.id)
    assert (await seat.call("sendMessage", text="hello"))["error"]["status_code"] == 403
    assert (await seat.call("joinSession"))["error"]["status_code"] == 403


# Origins


async def _handshakes(server: Server, headers: dict[str, str]) -> dict[str, Any]:
    """The status of a handshake with each transport, and its CORS header with polling."""
    async with aiohttp.ClientSession() as http:
        async with http.get(address(server.url, "polling"), headers=headers) as response:
            found: dict[str, Any] = {
                "polling": response.status,
                "allowed": response.headers.get("Access-Control-Allow-Origin"),
            }
        try:
            async with http.ws_connect(address(server.url, "websocket"), headers=headers):
                found["websocket"] = 200
        except aiohttp.WSServerHandshakeError as refused:
            found["websocket"] = refused.status
    return found


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://app.example", "https://app.example.evil.example", "https://app.example:8443",
     "null", "https://", "app.example", "file://", "http://127.0.0.1", "http://127.0.0.1:1"],
)  # fmt: skip
async def test_a_page_of_another_site_is_refused(server: Server, origin: str) -> None:
    found = await _handshakes(server, {"Origin": origin})
    assert found["polling"] in (400, 403), found
    assert found["websocket"] in (400, 403), found
    assert found["allowed"] != origin


async def test_pages_of_this_server_and_of_named_sites_and_programs_are_let_in(server: Server) -> None:
    allowed = {"polling": 200, "websocket": 200}
    for headers in ({}, {"Origin": server.url}, {"Origin": ORIGIN}):
        found = await _handshakes(server, headers)
        assert allowed.items() <= found.items(), (headers, found)
        assert found["allowed"] in (None, headers.get("Origin")), found
    # As a proxy hands on a page's own host.
    found = await _handshakes(
        server, {"Origin": "https://lessons.example", "Host": "lessons.example", "X-Forwarded-Proto": "https"}
    )
    assert allowed.items() <= found.items(), found


async def test_an_origin_is_looked_at_in_every_request_of_a_connection(server: Server, arrange: Arrange) -> None:
    lesson = await arrange(server.url)
    async with aiohttp.ClientSession() as http:
        poll = Poll(http, server.url, {"Origin": ORIGIN})
        await poll.shake_hands()
        poll.headers = {"Origin": "https://evil.example"}
        status, _ = await poll.post("40/encounters," + json.dumps({"token": lesson.student.token()}))
        assert status in (400, 403)


async def test_a_token_in_the_address_is_not_looked_at(server: Server, arrange: Arrange) -> None:
    # It would stand in the logs of every proxy on the way.
    lesson = await arrange(server.url)
    token = lesson.student.token()
    async with aiohttp.ClientSession() as http:
        where = address(server.url, "polling") + f"&token={token}"
        async with http.get(where) as response:
            sid = json.loads((await response.text())[1:])["sid"]
        poll = Poll(http, server.url)
        poll.sid = sid
        await asyncio.gather(poll.post("40/encounters,"))
        _, answer = await poll.get()
    assert answer.startswith("44/encounters,"), answer
    assert token not in server.log()
    async with wire(server.url) as line:
        assert (await line.enter(None)).startswith("44")
