"""Engine.IO: both transports, and all that clients may do wrong in them."""

from __future__ import annotations

import asyncio
import json
import socket
import zlib
from contextlib import suppress
from functools import partial
from typing import Any

import aiohttp
import pytest
from engineio.packet import MESSAGE, Packet

from realtime import engine as engine_module
from realtime import socket as socket_module
from realtime import websocket as websocket_module
from realtime.connection import Connection
from realtime.engine import sid_prefix
from realtime.events import Event
from realtime.frames import Frame, event_frame
from realtime.outbox import Outbox
from realtime.socket import Socket
from tests.conftest import Connect, ConnectNode
from tests.realtime.conftest import StartSite
from tests.support.processes import HOST
from tests.support.recorder import WAIT_SECONDS
from tests.support.sockets import PATH, Poller, Site, masked
from tests.support.waiting import until


def frame_of(size: int) -> Frame:
    return Frame(b"x" * size)


# What waits for polls


async def test_an_outbox_counts_the_bytes_that_are_not_fetched_yet() -> None:
    outbox = Outbox()
    outbox.put(frame_of(30))
    outbox.put(frame_of(20))
    assert outbox.unsent_bytes == 50
    outbox.take(1)
    assert outbox.unsent_bytes == 50, "what was taken may still be on its way"
    outbox.take(1)
    assert outbox.unsent_bytes == 20, "asking for more says that the rest has arrived"
    outbox.take(1)
    assert outbox.unsent_bytes == 0


async def test_whoever_waits_for_an_outbox_is_woken_by_news_or_by_hand() -> None:
    outbox = Outbox()
    waits = [asyncio.create_task(outbox.wait(5)) for _ in range(2)]
    await asyncio.sleep(0)
    outbox.put(frame_of(1))
    await asyncio.gather(*waits)
    outbox.take(1)
    waiting = asyncio.create_task(outbox.wait(5))
    await asyncio.sleep(0)
    outbox.wake()
    await waiting
    with pytest.raises(TimeoutError):
        await outbox.wait(0.01)


async def test_an_outbox_says_when_everything_was_fetched() -> None:
    outbox = Outbox()
    await outbox.fetched()
    outbox.put(frame_of(1))
    outbox.put(frame_of(1))
    fetched = asyncio.create_task(outbox.fetched())
    outbox.take(1)
    await asyncio.sleep(0)
    assert not fetched.done()
    outbox.take(1)
    await fetched


async def test_a_bound_of_zero_is_none(start_site: StartSite) -> None:
    site = await start_site(unsent_bytes=0)
    poller = await site.poller()
    for number in range(10):
        site.door.tell(site.door.connections[0], number, padding=1_000_000)
    assert len((await poller.get()).split("\x1e")) == 10


# What is relied on of python-engineio


async def test_engineio_keeps_our_connections_and_asks_them_what_it_needs(site: Site) -> None:
    client, poller = await site.websocket(), await site.poller("bob")
    assert all(type(one) is Socket for one in site.sockets.eio.sockets.values())
    assert site.sockets.eio.start_service_task is False, "the wheel watches the connections"
    site.sockets.eio.sockets[poller.sid].session["x"] = 1
    assert await site.sockets.eio.get_session(poller.sid) == {"x": 1}
    for sid, transport in zip(site.sockets.eio.sockets, ("websocket", "polling"), strict=True):
        assert site.sockets.eio.transport(sid) == transport
        await site.sockets.eio.send_packet(sid, Packet(MESSAGE, data="2/encounters,[]"))
    assert await client.receive() == await poller.get() == "42/encounters,[]"


# Handshakes


async def test_a_handshake_tells_the_terms(site: Site) -> None:
    status, text = await site.get("EIO=4&transport=polling")
    terms = json.loads(text[1:])
    assert (status, text[0]) == (200, "0")
    assert {**terms, "sid": ""} == {
        "sid": "",
        "upgrades": ["websocket"],
        "pingInterval": 25_000,
        "pingTimeout": 20_000,
        "maxPayload": 65_536,
    }


@pytest.mark.parametrize("query", ["", "EIO=3&transport=polling", "EIO=4&transport=flash", "EIO=4&transport=websocket"])
async def test_a_handshake_that_is_none_is_refused(site: Site, query: str) -> None:
    assert (await site.get(query))[0] == 400
    assert site.empty


async def test_jsonp_is_refused(site: Site) -> None:
    for query in ("EIO=4&transport=polling&j=0", "EIO=4&transport=polling&j="):
        status, text = await site.get(query + ("x" if query.endswith("=") else ""))
        assert (status, json.loads(text)["error"]) == (400, "jsonp_refused")
    assert site.empty


WEBSOCKET_HEADERS = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}


@pytest.mark.parametrize(
    "headers",
    [
        WEBSOCKET_HEADERS,
        {**WEBSOCKET_HEADERS, "Sec-WebSocket-Key": "short"},
        {**WEBSOCKET_HEADERS, "Sec-WebSocket-Key": "A" * 22 + "==", "Sec-WebSocket-Version": "12"},
        {**WEBSOCKET_HEADERS, "Sec-WebSocket-Key": "A" * 22 + "==", "Connection": "close"},
    ],
)
async def test_a_broken_websocket_handshake_leaves_nothing_behind(site: Site, headers: dict[str, str]) -> None:
    status, _ = await site.get("EIO=4&transport=websocket", headers=headers)
    assert status == 400
    assert site.empty


async def test_handshakes_are_limited_per_address(start_site: StartSite) -> None:
    site = await start_site(handshakes_per_second=3)
    answers = [await site.get("EIO=4&transport=polling") for _ in range(5)]
    assert [status for status, _ in answers].count(200) == 3
    status, text = answers[-1]
    assert (status, json.loads(text)["error"]) == (429, "too_many_requests")
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await site.websocket()
    site.address = "5.6.7.8"
    await site.websocket()


@pytest.mark.parametrize("nothing", ["sid=", "sid=&sid="])
async def test_an_empty_sid_is_a_handshake_like_any_other(start_site: StartSite, nothing: str) -> None:
    site = await start_site(handshakes_per_second=1)
    query = f"EIO=4&transport=polling&{nothing}"
    assert [(await site.get(query))[0] for _ in range(3)] == [200, 429, 429]
    site.sockets.draining = True
    assert (await site.get(query))[0] == 503


async def test_only_so_many_addresses_are_counted(start_site: StartSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MAX_COUNTED_ADDRESSES", 3)
    site = await start_site(handshakes_per_second=1)
    for number in range(10):
        site.address = f"10.0.0.{number}"
        assert (await site.get("EIO=4&transport=polling"))[0] == 200
    assert (await site.get("EIO=4&transport=polling"))[0] == 429
    assert len(site.sockets.eio._handshakes) == 3


async def test_while_draining_those_who_are_here_stay_and_nobody_comes(site: Site) -> None:
    before = await site.websocket()
    poller = await site.poller()
    site.sockets.draining = True
    status, text = await site.get("EIO=4&transport=polling")
    assert (status, json.loads(text)["error"]) == (503, "draining")
    assert (await before.call("echo"))["ok"]
    assert await poller.post('42/encounters,1["echo"]') == 200


async def test_a_request_for_another_workers_connection_is_sent_on(start_site: StartSite) -> None:
    site = await start_site(worker=3)
    poller = await site.poller()
    assert poller.sid.startswith("w3.")
    async with site.http.get(f"{site.url}{PATH}?EIO=4&transport=polling&sid=w4.abc", allow_redirects=False) as response:
        assert response.status == 307
        assert response.headers["Location"] == f"{PATH}?EIO=4&transport=polling&sid=w4.abc"
        assert response.headers["Connection"] == "close"
    assert (sid_prefix(None), sid_prefix(2)) == ("", "w2.")


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_pages_of_other_origins_are_refused(site: Site, transport: str) -> None:
    headers = {**WEBSOCKET_HEADERS, "Sec-WebSocket-Key": "A" * 22 + "=="} if transport == "websocket" else {}
    for origin, status in (
        ("https://evil.example", 403),
        ("null", 403),
        ("https://app.example.evil.example", 403),
        ("https://app.example", 200 if transport == "polling" else 101),
        (site.url, 200 if transport == "polling" else 101),
    ):
        async with site.http.get(
            f"{site.url}{PATH}?EIO=4&transport={transport}", headers={**headers, "Origin": origin}
        ) as response:
            assert response.status == status, origin
            if status == 403:
                assert (await response.json())["error"] == "origin_refused"


# Garbage

MALFORMED = [
    "",
    "9",
    "x",
    "b4AAAA",
    "4{}",
    "4null",
    '4{"a":1}',
    "4[1]",
    "4true",
    "4-5",
    "4x",
    "42[",
    "42/nowhere,[",
    "40/encounters,{",
    '4512345678901-/encounters,["x"]',
    "43/encounters,1" + "[" * 20_000,
]
PASSED_OVER = [
    "0",
    "2",
    "2probe",
    "3",
    "5",
    "6",
    "4",
    "47",
    "42",
    "42[]",
    "42[1]",
    '42"x"',
    '44/encounters,"no"',
    "43/encounters,1[]",
    '43/encounters,1["x"]',
    '461-/encounters,1[{"_placeholder":true,"num":0}]',
    '42["echo"]',
    '42/nowhere,["echo"]',
    "41/nowhere,",
    '41/elsewhere?token=x,["x"]',
    "42/encounters,",
    "42/encounters,[",
    "42/encounters," + "1" * 101 + '["echo"]',
    b"",
    b"\xff\x00",
]


@pytest.mark.parametrize("packet", MALFORMED, ids=lambda packet: repr(packet[:24]))
async def test_a_malformed_packet_ends_a_websocket_and_nobody_elses(site: Site, packet: str) -> None:
    other = await site.websocket("bob")
    client = await site.websocket()
    await client.send(packet)
    await client.all()
    await until(lambda: len(site.sockets.eio.sockets) == 1)
    assert [who for who, _ in site.door.gone] == ["ann"]
    assert (await other.call("echo"))["ok"]


@pytest.mark.parametrize("packet", PASSED_OVER, ids=lambda packet: repr(packet[:24]))
async def test_what_concerns_nobody_here_is_passed_over(site: Site, packet: str | bytes) -> None:
    client = await site.websocket()
    await client.send(packet)
    await client.send('42/encounters,7["echo"]')
    while not (answer := await client.receive()).startswith("43/encounters,7"):
        assert answer[0] in "36", answer


@pytest.mark.parametrize(
    "body",
    [
        *(packet for packet in MALFORMED if len(packet) < 60_000),
        b"\xff\xfe",
        '42/encounters,["echo"]\x1e',
        "bAAA",
        "d=",
        "d=4",
        "2",
        "6",
        "\x1e" * 10,
        "6\x1e" * 1_000 + "6",
        "x" * 65_537,
    ],
    ids=lambda body: repr(body[:24]),
)
async def test_a_malformed_body_ends_a_polling_connection(site: Site, body: str | bytes) -> None:
    other = await site.websocket("bob")
    poller = await site.poller()
    await poller.post(body)
    await until(lambda: len(site.sockets.eio.sockets) == 1)
    assert (await site.get(poller.query))[0] == 400
    assert [who for who, _ in site.door.gone] == ["ann"]
    assert (await other.call("echo"))["ok"]


async def test_what_follows_the_end_in_a_body_is_passed_over(site: Site) -> None:
    poller = await site.poller()
    await poller.post('1\x1e42/encounters,["echo"]\x1e0\x1e40/encounters,{"token":"ann"}')
    assert site.empty
    assert site.door.events == []


async def test_a_body_that_goes_on_while_the_connection_ends_is_answered(site: Site) -> None:
    poller = await site.poller()
    assert await poller.post('42/encounters,["pause"]\x1e4\x1e42/encounters,["pause"]\x1e0') in (200, 400)
    await until(lambda: site.empty)


async def test_a_body_may_come_in_pieces(site: Site) -> None:
    poller = await site.poller()
    body = f"42/encounters,1{json.dumps(['echo', 'é' * 20_000], ensure_ascii=False)}".encode()

    async def pieces() -> Any:
        for start in range(0, len(body), 9_999):
            yield body[start : start + 9_999]
            await asyncio.sleep(0.01)

    assert await poller.post(pieces(), **{"Content-Length": str(len(body))}) == 200
    assert '"ok":true' in await poller.get()
    assert await poller.post(pieces()) == 200, "nor need it say beforehand how long it is"
    assert '"ok":true' in await poller.get()


async def test_a_body_of_a_thousand_packets_is_taken(start_site: StartSite) -> None:
    site = await start_site(events_per_second=0)
    poller = await site.poller()
    assert await poller.post("\x1e".join(f'42/encounters,["{number}"]' for number in range(1_000))) == 200
    assert [name for name, _ in site.door.events] == [str(number) for number in range(1_000)]


async def test_a_small_body_that_unpacks_to_a_large_one_is_refused(site: Site) -> None:
    poller = await site.poller()
    bomb = zlib.compress(b"6" * 50_000_000)
    assert len(bomb) < 65_536
    assert await poller.post(bomb, **{"Content-Encoding": "deflate"}) == 400
    await until(lambda: site.empty)


async def test_a_body_that_breaks_off_ends_the_connection(site: Site) -> None:
    poller = await site.poller()
    with socket.create_connection((HOST, site.port)) as client:
        client.sendall(
            f"POST {PATH}?{poller.query} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n42/encounters".encode()
        )
        await asyncio.sleep(0.05)
    await until(lambda: site.empty)


async def test_two_bodies_at_once_end_the_connection_for_they_would_overtake(site: Site) -> None:
    poller = await site.poller()
    first = asyncio.create_task(poller.post('42/encounters,["wait"]'))
    await until(lambda: site.door.busy == 1)
    assert await poller.post('42/encounters,["echo"]') == 400
    site.door.gate.set()
    await first
    assert [name for name, _ in site.door.events] == ["wait"]
    assert site.empty


async def test_a_frame_over_the_limit_closes_with_1009(site: Site) -> None:
    client = await site.websocket()
    await client.send("4" + "x" * 65_535)
    await client.all()
    client = await site.websocket()
    await client.send("4" + "x" * 65_536)
    await client.all()
    assert client.websocket.close_code == 1009
    await until(lambda: site.empty)


async def test_requests_for_connections_that_are_not_there_are_refused(site: Site) -> None:
    assert (await site.get("EIO=4&transport=polling&sid=nobody"))[0] == 400
    assert await Poller(site, "nobody").post("6") == 400
    client = await site.websocket()
    [sid] = site.sockets.eio.sockets
    assert (await site.get(f"EIO=4&transport=polling&sid={sid}"))[0] == 400
    assert await Poller(site, sid).post('42/encounters,["echo"]') == 400
    assert (await client.call("echo"))["ok"]
    for method in ("PUT", "DELETE"):
        async with site.http.request(method, f"{site.url}{PATH}?EIO=4&transport=polling") as response:
            assert response.status == 405


# Upgrades


async def test_an_upgrade_that_breaks_off_leaves_polling_as_it_was(site: Site) -> None:
    poller = await site.poller()
    for said in ([], ["2probe"], ["nonsense"], ["2probe", "4x"]):
        upgrade = await site.websocket(sid=poller.sid)
        for packet in said:
            await upgrade.send(packet)
        if said == ["2probe"]:
            assert await upgrade.receive() == "3probe"
        await upgrade.websocket.close()
        await until(lambda: site.sockets.eio.sockets[poller.sid].websocket is None)
        polling = asyncio.create_task(poller.get())
        await asyncio.sleep(0.02)
        assert not polling.done(), "a poll waits again until there is something"
        site.door.tell(site.door.connections[0], 1)
        assert '"n":1' in await polling


async def test_an_upgrade_that_cannot_be_answered_makes_no_noise(site: Site) -> None:
    poller = await site.poller()
    with socket.create_connection((HOST, site.port)) as client:
        request = (
            f"GET {PATH}?EIO=4&transport=websocket&sid={poller.sid} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.sendall(request.encode() + masked("2probe"))
    await asyncio.sleep(0.05)
    assert await poller.post('42/encounters,["echo"]') == 200


async def test_a_connection_upgrades_over_one_websocket_only(site: Site) -> None:
    poller = await site.poller()
    upgrade = await site.websocket(sid=poller.sid)
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await site.websocket(sid=poller.sid)
    await upgrade.send("2probe")
    assert await upgrade.receive() == "3probe"
    await upgrade.send("5")
    assert (await upgrade.call("echo"))["ok"]
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await site.websocket(sid=poller.sid)


async def test_an_upgrade_that_never_comes_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_module, "CONNECT_SECONDS", 0.1)
    poller = await site.poller()
    upgrade = await site.websocket(sid=poller.sid)
    assert await upgrade.all() == []
    assert await poller.post('42/encounters,["echo"]') == 200


def seen(site: Site, connections: int) -> bool:
    return len(site.door.connections) == connections


def upgraded(site: Site) -> bool:
    return all(one.upgraded for one in site.sockets.eio.sockets.values())


async def feed(site: Site, connection: Connection, stop: asyncio.Event) -> int:
    """Send numbered events, now and then several at once, until told to stop. Answers how many."""
    number = 0
    while not stop.is_set():
        for _ in range(1 + number % 5):
            number += 1
            site.door.tell(connection, number)
        await asyncio.sleep(0.001)
    return number


async def test_nothing_is_lost_doubled_or_reordered_while_an_official_client_upgrades(
    site: Site, connect_node: ConnectNode
) -> None:
    for attempt in range(2):
        connecting = asyncio.ensure_future(connect_node(site.url, "ann"))
        await until(partial(seen, site, attempt + 1))
        stop = asyncio.Event()
        feeding = asyncio.create_task(feed(site, site.door.connections[-1], stop))
        client = await connecting
        await until(partial(upgraded, site))
        await asyncio.sleep(0.05)
        stop.set()
        count = await feeding
        await client.events.wait_for_many(count, "news")
        assert [data["n"] for data in client.events.of("news")] == list(range(1, count + 1))
        await client.close()
        await until(lambda: site.empty)


async def test_nothing_is_lost_doubled_or_reordered_while_a_raw_client_upgrades(site: Site) -> None:
    poller = await site.poller()
    stop = asyncio.Event()
    feeding = asyncio.create_task(feed(site, site.door.connections[0], stop))
    packets: list[str] = []

    async def poll() -> None:
        packets.extend((await poller.get()).split("\x1e"))

    for _ in range(5):
        await poll()
    polling = asyncio.create_task(poll())
    upgrade = await site.websocket(sid=poller.sid)
    await upgrade.send("2probe")
    assert await upgrade.receive() == "3probe"
    await polling
    await upgrade.send("5")
    await asyncio.sleep(0.05)
    stop.set()
    count = await feeding
    while not packets or f'"n":{count},' not in packets[-1]:
        packets.append(await upgrade.receive())
    numbers = [json.loads(packet.partition(",")[2])[1]["n"] for packet in packets if packet != "6"]
    assert numbers == list(range(1, count + 1))


async def test_the_python_client_gets_everything_over_either_transport(site: Site, connect: Connect) -> None:
    for transports in (("polling",), ("websocket",), ("polling", "websocket")):
        client = await connect(site.url, "ann", transports=transports)
        connection = site.door.connections[-1]
        for number in range(200):
            site.door.tell(connection, number)
            if number % 10 == 0:
                await asyncio.sleep(0.001)
        await client.wait_for("news", lambda data: data["n"] == 199)
        assert [data["n"] for data in client.events.of("news")] == list(range(200))
        await client.close()
        await until(lambda: site.empty)


# Ends


async def test_a_client_that_does_not_read_is_cut_and_let_go_of(site: Site, said: list[Any]) -> None:
    reader = await site.websocket("bob")
    await site.stubborn()
    connection = site.door.connections[-1]
    one: Socket = connection.socket
    sent = 0
    while not connection.closed:
        site.door.tell(connection, sent, padding=10_000)
        sent += 1
        if sent % 20 == 0:
            await asyncio.sleep(0.001)
        assert sent < 2_000, "it is cut before 20 MB"
    assert one.websocket is not None
    websocket = one.websocket
    await until(lambda: not websocket.open)
    assert len(site.sockets.eio.sockets) == 1
    assert [who for who, _ in site.door.gone] == ["ann"]
    assert [entry["reason"] for entry in said if entry["event"] == "connection.cut"] == ["the client does not read"]
    assert (await reader.call("echo"))["ok"]


async def test_a_client_that_does_not_poll_is_cut(start_site: StartSite) -> None:
    site = await start_site(unsent_bytes=10_000)
    poller = await site.poller()
    connection = site.door.connections[0]
    for number in range(20):
        site.door.tell(connection, number, padding=1_000)
    await until(lambda: site.empty)
    assert connection.socket.outbox is not None
    assert connection.socket.outbox.unsent_bytes < 100
    assert (await site.get(poller.query))[0] == 400


def is_polled(connection: Connection) -> bool:
    """A poll waits for something to be told."""
    outbox = connection.socket.outbox
    return outbox is not None and outbox._news is not None and not outbox._news.done()


async def test_a_poll_that_waits_is_answered_when_the_connection_ends(site: Site) -> None:
    for goodbye in ("client", "server", "overflow"):
        poller = await site.poller()
        connection = site.door.connections[-1]
        polling = asyncio.create_task(site.get(poller.query))
        await until(partial(is_polled, connection))
        if goodbye == "client":
            await poller.post("1")
        elif goodbye == "server":
            await connection.drop()
        else:
            site.door.tell(connection, 1, padding=2_000_000)
        async with asyncio.timeout(WAIT_SECONDS):
            status, text = await polling
        assert (status, text) == (200, "1" if goodbye == "server" else "")
        await until(lambda: site.empty)


async def test_a_websocket_is_told_and_closed_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_module, "CLOSE_SECONDS", 3_600.0)
    monkeypatch.setattr(socket_module, "FLUSH_SECONDS", 3_600.0)
    client = await site.websocket()
    site.door.tell(site.door.connections[0], 1)
    await site.door.connections[0].drop()
    assert site.empty
    assert [packet[:2] for packet in await client.all()] == ["42", "1"]
    assert client.websocket.close_code == 1000


async def test_a_websocket_that_ignores_its_end_is_aborted(site: Site) -> None:
    client = await site.stubborn()
    one: Socket = site.door.connections[0].socket
    for number in range(50):
        site.door.tell(site.door.connections[0], number, padding=10_000)
    await asyncio.sleep(0.05)
    await site.door.connections[0].drop()
    assert site.empty
    websocket = one.websocket
    assert websocket is not None
    await until(lambda: not websocket.open)
    client.setblocking(True)
    client.settimeout(WAIT_SECONDS)
    with suppress(ConnectionResetError):
        while client.recv(65_536):
            pass


async def test_what_comes_from_a_connection_that_has_ended_is_not_heard(site: Site) -> None:
    client = await site.stubborn()
    connection = site.door.connections[0]
    for number in range(50):
        site.door.tell(connection, number, padding=10_000)
    await asyncio.sleep(0.05)
    await connection.drop()
    loop = asyncio.get_running_loop()
    with suppress(ConnectionError):
        for packet in ('42/encounters,["echo"]', '40/encounters,{"token":"bob"}', "3", "5", "1"):
            await loop.sock_sendall(client, masked(packet))
    await asyncio.sleep(0.1)
    assert site.door.events == []
    assert site.empty


async def test_a_connection_that_answers_no_ping_is_closed(start_site: StartSite) -> None:
    site = await start_site(ping_interval=0.1, ping_timeout=1.0)
    poller = await site.poller()
    await site.websocket("bob")
    assert await poller.get() == "2"
    await until(lambda: site.empty)
    assert {who for who, _ in site.door.gone} == {"ann", "bob"}
    assert {reason for _, reason in site.door.gone} == {"ping timeout"}


def answered(one: Socket) -> bool:
    return not one.pong_due


def pong_due(one: Socket) -> bool:
    return one.pong_due


async def test_a_connection_that_answers_its_pings_stays(start_site: StartSite, connect: Connect) -> None:
    site = await start_site(ping_interval=0.05, ping_timeout=0.5)
    for transports in (("polling",), ("websocket",)):
        client = await connect(site.url, transports[0], transports=transports)
        [one] = site.sockets.eio.sockets.values()
        for _ in range(3):
            await until(partial(pong_due, one))
            await until(partial(answered, one))
        assert (await client.call("echo", {}))["ok"]
        await client.close()
        await until(lambda: site.empty)


async def test_sending_to_a_connection_that_has_ended_does_nothing(site: Site) -> None:
    await site.websocket()
    connection = site.door.connections[0]
    await connection.drop()
    connection.send(event_frame(Event(name="news", data={})))
    await connection.drop()
    await connection.disconnect()
    assert site.empty
