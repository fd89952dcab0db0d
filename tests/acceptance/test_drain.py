"""A deploy drops no lesson."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest
import socketio

from tests.acceptance.conftest import NO_LIMITS, Arrange, Pair, Sit, Start, check_log
from tests.acceptance.lessons import Lesson, Person, Seat, rest, until, within
from tests.acceptance.wire import NAMESPACE, address, wire
from tests.support.clients import Client, ConnectRefusedError
from tests.support.drawings import stroke
from tests.support.redis import RedisServer


@asynccontextmanager
async def nothing_commits(dsn: str, lesson: Lesson) -> AsyncIterator[None]:
    """Hold the lesson's row, so that whatever is sent meanwhile is under way."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM sessions WHERE id = $1 FOR UPDATE", lesson.id)
            yield
    finally:
        await connection.close()


async def test_those_who_come_are_refused_while_those_who_are_here_are_moved(
    module_database: str, start: Start, arrange: Arrange, sit: Sit
) -> None:
    (server,) = await start(1, DRAIN_SECONDS="240", **NO_LIMITS)
    lesson, other = await arrange(server.url), await arrange(server.url)
    seats = [await sit(server.url, lesson, p, transports=[t]) for p, t in _seated(lesson)]
    draws = await sit(server.url, other, other.teacher)
    # It does not end while something is under way: as long as this test looks.
    async with nothing_commits(module_database, other):
        drawing = asyncio.create_task(draws.call("whiteboard", elements=[stroke("under way")]))
        await until(lambda: _waiting(module_database, 1), "it is under way")
        server.terminate()
        for seat in seats:
            told = await seat.hears("serverDraining")
            assert 0 <= told["retryAfterMs"] <= 60_000, told

        refused = await rest(server.url, "GET", "/readyz")
        assert (refused.status, refused.body["status"]) == (503, "draining"), refused
        assert (await rest(server.url, "GET", "/healthz")).status == 200
        async with aiohttp.ClientSession() as http:
            async with http.get(address(server.url, "polling")) as response:
                assert response.status == 503
                assert int(response.headers["Retry-After"]) >= 1
                assert (await response.json())["error"] == "draining"
            with pytest.raises(aiohttp.WSServerHandshakeError) as handshake:
                await http.ws_connect(address(server.url, "websocket"))
            assert handshake.value.status == 503
        # Lessons go on over REST until the very end.
        assert (await lesson.post("by REST", by=lesson.parent)).status == 201
        assert server.running
    assert (await drawing)["ok"]
    for seat in seats:
        await seat.client.wait_disconnected()
    assert await server.wait() == 0
    check_log(server)


def _seated(lesson: Lesson) -> list[tuple[Person, str]]:
    return [(lesson.teacher, "websocket"), (lesson.student, "polling")]


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_what_is_under_way_is_committed_and_acked(
    module_database: str, start: Start, arrange: Arrange, sit: Sit, transport: str
) -> None:
    (server,) = await start(1, DRAIN_SECONDS="5", **NO_LIMITS)
    lesson = await arrange(server.url)
    seats = [await sit(server.url, lesson, p, transports=[transport]) for p in (lesson.teacher, lesson.student)]
    async with nothing_commits(module_database, lesson):
        sends = [asyncio.create_task(seat.say(f"by {seat.person.role}")) for seat in seats]
        posting = asyncio.create_task(lesson.post("by REST", by=lesson.parent))
        await until(lambda: _waiting(module_database, 1), "a batch is under way")
        server.terminate()
        for seat in seats:
            await seat.hears("serverDraining")
    messages = await asyncio.gather(*sends)
    posted = await posting
    assert posted.status == 201, posted
    assert sorted([*(m["seq"] for m in messages), posted.body["seq"]]) == [1, 2, 3]
    assert await server.wait() == 0
    check_log(server)


async def _waiting(dsn: str, count: int) -> bool:
    connection = await asyncpg.connect(dsn)
    try:
        waiting = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    finally:
        await connection.close()
    return bool(waiting >= count)


async def test_a_lesson_moves_to_another_worker_without_a_gap(
    pair: Pair, redis_server: RedisServer, start: Start, arrange: Arrange, sit: Sit
) -> None:
    (leaving,) = await start(1, REDIS_URL=redis_server.url, DRAIN_SECONDS="5", **NO_LIMITS)
    lesson = await arrange(pair.one.url)
    watcher = await sit(pair.one.url, lesson, lesson.teacher)
    seat = await sit(leaving.url, lesson, lesson.student)
    acked: list[str] = []
    seen: list[int] = []

    async def talk() -> None:
        """As a client does: what was not acked is sent again, under the same clientId, where it connects next."""
        nonlocal seat
        for n in range(300):
            text = f"{n}"
            while True:
                if await _is_acked(seat, text):
                    break
                await seat.client.wait_disconnected()
                seen.extend(seat.seqs)
                seat = await sit(pair.two.url, lesson, lesson.student, last_seq=seen[-1] if seen else 0)
                seen.extend(event["data"]["seq"] for event in seat.ack["events"])
            acked.append(text)
            if n == 50:
                leaving.terminate()

    await talk()
    await watcher.hears_up_to(300)
    await seat.hears_up_to(300)
    assert watcher.texts == acked
    assert seen + seat.seqs == list(range(1, 301))
    assert watcher.came("participantLeft") == [], "they came back within the grace"
    assert await leaving.wait() == 0
    check_log(leaving)


async def _is_acked(seat: Seat, text: str) -> bool:
    """Send it, until it is acked ok or the connection is gone."""
    payload = {"sessionId": seat.lesson.id, "text": text, "clientId": text}
    acked: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    gone = asyncio.create_task(seat.client.disconnected.wait())
    try:
        await seat.client.sio.emit("sendMessage", payload, namespace=NAMESPACE, callback=acked.set_result)
    except socketio.exceptions.SocketIOError:
        await gone
    await asyncio.wait({acked, gone}, return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if not acked.done():
        return False
    ack = acked.result()
    assert ack["ok"] or ack["error"]["status_code"] == 503, ack
    return bool(ack["ok"])


async def test_clients_that_heed_nothing_do_not_keep_it(start: Start, arrange: Arrange, sit: Sit) -> None:
    (server,) = await start(1, DRAIN_SECONDS="3", **NO_LIMITS)
    lesson = await arrange(server.url)
    where = urlsplit(server.url)
    assert where.hostname is not None
    assert where.port is not None
    head = f"HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer {lesson.student.token()}\r\n"
    stubborn = []
    upgrade = (
        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    for request in (
        # A WebSocket that answers nothing, a body that never comes, a request that never ends, one that asks nothing.
        f"GET /socket.io/?EIO=4&transport=websocket {head}{upgrade}",
        f"POST /sessions/{lesson.id}/messages {head}Content-Length: 100\r\nContent-Type: application/json\r\n\r\n{{",
        f"GET /healthz {head}X-Slow: ",
        "",
    ):
        line = socket.create_connection((where.hostname, where.port))
        line.sendall(request.encode())
        stubborn.append(line)
    async with aiohttp.ClientSession() as http, http.get(address(server.url, "polling")) as response:
        sid = json.loads((await response.text())[1:])["sid"]
        poll = asyncio.create_task(_poll(http, server.url, sid))
        await sit(server.url, lesson, lesson.teacher)
        async with within(3.0, server.url):
            server.terminate()
            assert await server.wait() == 0
        await poll
    for line in stubborn:
        line.close()


async def _poll(http: aiohttp.ClientSession, url: str, sid: str) -> None:
    """A poll that hangs until the server answers or leaves."""
    try:
        async with http.get(address(url, "polling", sid)) as response:
            await response.read()
    except aiohttp.ClientError:
        pass


async def test_a_second_signal_hurries_it(start: Start) -> None:
    (server,) = await start(1, DRAIN_SECONDS="60", **NO_LIMITS)
    async with AsyncExitStack() as lines:
        for _ in range(1_000):
            await lines.enter_async_context(wire(server.url))
        # Without it, so many are moved in five seconds.
        async with within(4.0, server.url):
            server.terminate()
            await until(lambda: _is_draining(server.url), "it drains")
            server.terminate()
            assert await server.wait() == 0


async def _is_draining(url: str) -> bool:
    return (await rest(url, "GET", "/readyz")).status == 503


async def test_a_server_without_anybody_ends_at_once(start: Start) -> None:
    (server,) = await start(1)
    async with within(1.0, server.url):
        server.terminate()
        assert await server.wait() == 0
    with pytest.raises(ConnectRefusedError):
        await Client.connect(server.url, "x")
