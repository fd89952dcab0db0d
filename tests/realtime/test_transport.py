"""Socket.IO: who may connect, events and their acks in order, and leaving."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
import socketio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realtime import connection as connection_module
from realtime import socket as socket_module
from realtime import transport as transport_module
from realtime.engine import Engine
from realtime.limits import Limits
from tests.conftest import Connect, ConnectNode
from tests.realtime.conftest import StartSite
from tests.support.clients import ConnectRefusedError
from tests.support.recorder import WAIT_SECONDS
from tests.support.sockets import Site
from tests.support.waiting import until

BOTH = pytest.mark.parametrize("transports", [("polling",), ("websocket",)], ids=["polling", "websocket"])


# What is relied on of python-socketio


async def test_socketio_makes_our_engine_and_hands_us_each_handshake_and_each_message(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert type(site.sockets.eio) is Engine
    for name in ("_engineio_server_class", "_handle_eio_connect", "_handle_eio_message", "_handle_connect"):
        assert hasattr(socketio.AsyncServer, name), name
    assert site.sockets.eio.handlers["message"] == site.sockets._handle_eio_message
    assert site.sockets.eio.handlers["connect"] == site.sockets._handle_eio_connect
    assert site.sockets.eio.async_handlers is False, "or events overtake each other"


# Connecting


@BOTH
async def test_a_token_comes_in_the_connect_packet(site: Site, connect: Connect, transports: tuple[str, ...]) -> None:
    await connect(site.url, "ann", transports=transports)
    assert [one.user_id for one in site.door.connections] == ["ann"]
    assert list(site.sockets.connections.values()) == site.door.connections


async def test_a_token_may_come_in_a_header_and_a_scheme_is_no_part_of_it(site: Site, connect: Connect) -> None:
    await connect(site.url, None, headers={"Authorization": "Bearer ann"})
    await connect(site.url, "Bearer bob")
    assert [one.user_id for one in site.door.connections] == ["ann", "bob"]


@BOTH
async def test_whoever_is_refused_is_told_why(site: Site, connect: Connect, transports: tuple[str, ...]) -> None:
    with pytest.raises(ConnectRefusedError) as refused:
        await connect(site.url, "refused", transports=transports)
    assert refused.value.data == {"error": "token_missing", "message": "Who are you?", "status_code": 401}
    await until(lambda: site.empty)


@pytest.mark.parametrize("auth", ["", "[]", '"x"', "1", "null", '{"token":5}', '{"token":{"a":1}}'])
async def test_what_is_no_token_is_none(site: Site, auth: str) -> None:
    client = await site.websocket(None)
    await client.send(f"40/encounters,{auth}")
    assert json.loads((await client.receive()).partition(",")[2])["data"]["error"] == "token_missing"


async def test_whoever_was_refused_may_try_again_on_the_same_connection(site: Site) -> None:
    client = await site.websocket(None)
    await client.send('40/encounters,{"token":"refused"}')
    assert (await client.receive()).startswith("44/encounters,")
    await client.connect("ann")
    assert (await client.call("echo"))["ok"]


async def test_a_door_that_fails_refuses_and_keeps_nothing(start_site: StartSite, said: list[Any]) -> None:
    site = await start_site()
    client = await site.websocket(None)
    await client.send('40/encounters,{"token":"broken"}')
    assert json.loads((await client.receive()).partition(",")[2])["data"]["error"] == "internal_error"
    assert not site.sockets.manager.rooms
    assert [entry["event"] for entry in said if entry["log_level"] == "error"] == ["connect.failed"]
    said.clear()
    await client.connect("ann")


async def test_a_second_connect_and_other_namespaces_are_refused(site: Site) -> None:
    client = await site.websocket()
    for packet in ("40", "40/nowhere,", '40/encounters,{"token":"bob"}'):
        await client.send(packet)
        assert (await client.receive()).startswith("44")
    assert (await client.call("echo"))["ok"]
    assert [one.user_id for one in site.door.connections] == ["ann"]


async def test_events_before_the_connect_are_passed_over(site: Site) -> None:
    client = await site.websocket(None)
    await client.send('42/encounters,1["echo"]')
    await client.connect("ann")
    assert (await client.call("echo", ack_id=2))["ok"]
    assert len(site.door.events) == 1


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_a_connection_that_never_connects_is_cut(
    site: Site, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    stays = await site.websocket("bob")
    monkeypatch.setattr(transport_module, "CONNECT_SECONDS", 0.1)
    await (site.websocket(None) if transport == "websocket" else site.poller(None))
    await until(lambda: len(site.sockets.eio.sockets) == 1)
    assert (await stays.call("echo"))["ok"]


async def test_a_connection_that_leaves_the_namespace_is_cut_if_it_stays_outside(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes, returns = await site.websocket(), await site.websocket("bob")
    monkeypatch.setattr(transport_module, "CONNECT_SECONDS", 2.0)
    for client in (goes, returns):
        await client.send("41/encounters,")
    await returns.connect("bob")
    await until(lambda: len(site.sockets.eio.sockets) == 1)
    assert (await returns.call("echo"))["ok"]
    assert site.door.gone == [("ann", "client disconnect"), ("bob", "client disconnect")]


async def test_a_connection_that_goes_while_the_door_is_asked_leaves_nothing_behind(site: Site) -> None:
    client = await site.websocket(None)
    await client.send('40/encounters,{"token":"slow"}')
    await until(lambda: bool(site.sockets.manager.pending_connect))
    [sid] = site.sockets.eio.sockets
    await site.sockets.eio.disconnect(sid)
    site.door.gate.set()
    await until(lambda: len(site.door.gone) == 1)
    await asyncio.sleep(0.02)
    assert site.door.gone == [("slow", "transport close")]
    assert site.door.connections[0].closed
    assert site.empty


async def test_every_connect_packet_but_the_first_counts_as_an_event(start_site: StartSite) -> None:
    site = await start_site(events_per_second=1, events_burst=5, handshakes_per_second=0)
    client = await site.websocket(None)
    for _ in range(7):
        await client.send('40/encounters,{"token":"refused"}')
    assert len([packet for packet in await client.all() if packet.startswith("44")]) == 6
    await until(lambda: site.empty)


# Events


@BOTH
async def test_events_are_acked_in_the_order_sent(site: Site, connect: Connect, transports: tuple[str, ...]) -> None:
    client = await connect(site.url, "ann", transports=transports)
    names = ["echo", "pause", "echo", "pause", "echo"]
    done: list[int] = []

    async def call(number: int) -> None:
        answer = await client.call(names[number], {"n": number})
        assert answer == {"ok": True, "name": names[number], "payload": [{"n": number}]}
        done.append(number)

    await asyncio.gather(*(call(number) for number in range(5)))
    assert done == list(range(5))
    assert [payload[0]["n"] for _, payload in site.door.events] == list(range(5))


async def test_the_event_that_waits_holds_up_its_own_connection_only(site: Site) -> None:
    ann, bob = await site.websocket("ann"), await site.websocket("bob")
    await ann.send('42/encounters,1["wait"]')
    await ann.send('42/encounters,2["echo"]')
    await until(lambda: site.door.busy == 1)
    assert (await bob.call("echo"))["ok"]
    assert [name for name, _ in site.door.events] == ["wait", "echo"]
    site.door.gate.set()
    assert [(await ann.receive())[:16] for _ in range(2)] == ["43/encounters,1[", "43/encounters,2["]


async def test_what_lies_behind_the_ack_comes_right_behind_it(site: Site) -> None:
    client = await site.websocket()
    await client.send('42/encounters,9["enter"]')
    packets = [await client.receive() for _ in range(4)]
    assert [packet.startswith("43/encounters,9[") for packet in packets] == [False, False, True, False]
    assert ['"n":1' in packets[0], '"n":2' in packets[1], '"n":3' in packets[3]] == [True] * 3


async def test_events_that_may_follow_each_other_closely_do_and_nothing_overtakes_them(site: Site) -> None:
    client = await site.websocket()
    for number, name in enumerate(["later", "later", "echo", "later"]):
        await client.send(f'42/encounters,{number}["{name}"]')
    await until(lambda: len(site.door.futures) == 2)
    await asyncio.sleep(0.02)
    assert [name for name, _ in site.door.events] == ["later", "later"], "the others wait for both"
    site.door.futures[1].set_result("second")
    assert (await client.receive()).startswith('43/encounters,1[{"ok":true,"result":"second"}]')
    site.door.futures[0].set_result("first")
    assert (await client.receive()).startswith("43/encounters,0[")
    assert (await client.receive()).startswith("43/encounters,2[")
    await until(lambda: len(site.door.futures) == 3)
    site.door.futures[2].set_result("third")
    assert (await client.receive()).startswith("43/encounters,3[")


async def test_only_so_many_events_are_under_way_at_a_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_module, "MAX_TOGETHER_PACKETS", 3)
    client = await site.websocket()
    for number in range(7):
        await client.send(f'42/encounters,{number}["later"]')
    answered: list[str] = []
    while len(answered) < 7:
        await until(lambda: len(site.door.futures) > len(answered))
        assert len(site.door.futures) <= len(answered) + 3
        site.door.futures[len(answered)].set_result(None)
        answered.append(await client.receive())
    assert [answer.partition("[")[0] for answer in answered] == [f"43/encounters,{number}" for number in range(7)]


async def test_a_fault_of_the_door_is_answered_and_the_events_behind_it_go_on(
    start_site: StartSite, said: list[Any]
) -> None:
    site = await start_site()
    client = await site.websocket()
    for number, name in enumerate(["fail", "break", "later", "echo"]):
        await client.send(f'42/encounters,{number}["{name}"]')
    await until(lambda: len(site.door.futures) == 1)
    site.door.futures[0].set_exception(RuntimeError("a fault of the door"))
    answers = [await client.receive() for _ in range(4)]
    assert ["internal_error" in answer for answer in answers] == [True, True, True, False]
    assert [entry["event"] for entry in said if entry["log_level"] == "error"] == ["event.failed"] * 3
    said.clear()


async def test_an_event_that_asks_for_no_ack_gets_none(site: Site) -> None:
    client = await site.websocket()
    await client.send('42/encounters,["echo"]')
    assert (await client.call("echo", ack_id=5))["ok"]


@pytest.mark.parametrize("name", ["connect", "disconnect", "connect_error", "message", "*", "", "x" * 1_000])
async def test_reserved_names_are_events_like_any_other(site: Site, name: str) -> None:
    client = await site.websocket()
    assert await client.call(name, {"a": 1}) == {"ok": True, "name": name, "payload": [{"a": 1}]}
    assert len(site.sockets.connections) == 1


@pytest.mark.parametrize(
    "data",
    ["", "[", "[]", "[1]", "{}", '"x"', '[["echo"]]', '["echo","\\ud800"]', '["echo",' + "[" * 20_000 + "]" * 20_001],
    ids=lambda data: repr(data[:16]),
)
@pytest.mark.parametrize("type_", ["2", "5", "51-"])
async def test_an_event_that_cannot_be_read_is_answered_with_400(site: Site, type_: str, data: str) -> None:
    client = await site.websocket()
    await client.send(f"4{type_}/encounters,12{data}")
    answer = json.loads((await client.receive()).removeprefix("43/encounters,12"))[0]
    assert (answer["ok"], answer["error"]["status_code"]) == (False, 400)
    assert (await client.call("echo"))["ok"]


@pytest.mark.parametrize("attachments", [1, 2, 9_999_999_999])
async def test_binary_attachments_are_refused(site: Site, attachments: int) -> None:
    client = await site.websocket()
    await client.send(f'45{attachments}-/encounters,3["echo",{{"_placeholder":true,"num":0}}]')
    await client.send(b"\x00" * 1_000)
    answer = json.loads((await client.receive()).removeprefix("43/encounters,3"))[0]
    assert answer["error"]["error"] == "binary_refused"
    assert (await client.call("echo", ack_id=4))["ok"]
    assert len(site.door.events) == 1


async def test_binary_attachments_are_refused_over_polling_too(site: Site) -> None:
    poller = await site.poller()
    body = '451-/encounters,3["echo",{"_placeholder":true,"num":0}]\x1ebAAAA\x1e42/encounters,4["echo"]'
    assert await poller.post(body) == 200
    first, second = (await poller.get()).split("\x1e")
    assert "binary_refused" in first
    assert second.startswith('43/encounters,4[{"ok":true')


@BOTH
async def test_a_client_that_sends_bytes_is_told(site: Site, connect: Connect, transports: tuple[str, ...]) -> None:
    client = await connect(site.url, "ann", transports=transports)
    answer = await client.call("echo", {"file": b"\x00" * 1_000, "other": b"\xff"})
    assert answer["error"]["error"] == "binary_refused"
    assert (await client.call("echo", {}))["ok"]


async def test_an_ack_of_a_connection_that_went_is_dropped(site: Site) -> None:
    client = await site.websocket()
    await client.send('42/encounters,1["wait"]')
    await until(lambda: site.door.busy == 1)
    connection = site.door.connections[0]
    await connection.drop()
    site.door.gate.set()
    assert await client.all() == ["1"]
    await until(lambda: site.empty)


# Limits


async def test_events_over_the_limit_get_429_and_go_nowhere(
    start_site: StartSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1_000.0
    monkeypatch.setattr(transport_module, "time", SimpleNamespace(monotonic=lambda: clock))
    site = await start_site(events_per_second=10, events_burst=3)
    client = await site.websocket()
    answers = [await client.call("echo", ack_id=number) for number in range(1, 6)]
    assert [answer["ok"] for answer in answers] == [True, True, True, False, False]
    assert answers[-1]["error"]["status_code"] == 429
    assert len(site.door.events) == 3
    clock += 0.15
    assert (await client.call("echo"))["ok"]


async def test_events_that_are_counted_apart_use_up_no_others_and_have_a_limit(
    start_site: StartSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_module, "APART_BURST", 5)
    monkeypatch.setattr(socket_module, "APART_PER_SECOND", 0.001)
    site = await start_site(events_per_second=1, events_burst=2)
    client = await site.websocket()

    apart = [(await client.call("aside"))["ok"] for _ in range(6)]
    others = [(await client.call("echo"))["ok"] for _ in range(2)]

    assert apart == [True] * 5 + [False]
    assert others == [True, True]


async def test_what_is_sent_before_the_connect_costs_and_ends(start_site: StartSite) -> None:
    site = await start_site(events_per_second=1, events_burst=2)
    for packet in ('42/elsewhere,["x"]', "41/encounters,", '451-/encounters,["x"]'):
        client = await site.websocket(None)
        for _ in range(30):
            await client.send(packet)
        await client.all()
        await until(lambda: site.empty)


@pytest.mark.parametrize("spelling", ['[ "later",{"x":["later"]}]', '["echo",["later"]]', '["later "]'])
async def test_only_the_name_itself_says_what_may_follow_closely(site: Site, spelling: str) -> None:
    client = await site.websocket()
    await client.send('42/encounters,1["later"]')
    await client.send(f"42/encounters,2{spelling}")
    await until(lambda: len(site.door.futures) == 1)
    await asyncio.sleep(0.02)
    assert len(site.door.events) == 1, "it waits"
    site.door.futures[0].set_result(None)
    await until(lambda: len(site.door.events) == 2)
    for future in site.door.futures[1:]:
        future.set_result(None)


async def test_refused_binary_events_count_as_well(start_site: StartSite) -> None:
    site = await start_site(events_per_second=1, events_burst=3)
    client = await site.websocket()
    codes = []
    for number in range(1, 6):
        await client.send(f'451-/encounters,{number}["echo",{{"_placeholder":true,"num":0}}]')
        codes.append(json.loads((await client.receive()).partition(",")[2][1:])[0]["error"]["error"])
    assert codes == ["binary_refused"] * 3 + ["too_many_requests"] * 2


async def test_whoever_does_not_heed_the_limit_is_disconnected(start_site: StartSite, said: list[Any]) -> None:
    site = await start_site(events_per_second=1, events_burst=2)
    client = await site.websocket()
    other = await site.websocket("bob")
    for number in range(30):
        await client.send(f'42/encounters,{number}["echo"]')
    packets = await client.all()
    assert "41/encounters," in packets
    assert len([packet for packet in packets if "too_many_requests" in packet]) <= 12
    await until(lambda: len(site.sockets.eio.sockets) == 1)
    assert [who for who, _ in site.door.gone] == ["ann"]
    assert (await other.call("echo"))["ok"]
    assert "too many events" in [entry.get("reason") for entry in said]


async def test_connecting_again_on_the_same_connection_gives_no_new_allowance(start_site: StartSite) -> None:
    site = await start_site(events_per_second=1, events_burst=4)
    client = await site.websocket()
    await client.call("echo")
    await client.send("41/encounters,")
    await client.connect("ann")
    assert (await client.call("echo"))["ok"]
    assert not (await client.call("echo"))["ok"]


# Leaving


@BOTH
async def test_a_connection_that_is_disconnected_stays_away(
    site: Site, connect: Connect, transports: tuple[str, ...]
) -> None:
    client = await connect(site.url, "ann", transports=transports)
    await site.door.connections[0].disconnect()
    await client.wait_disconnected()
    await until(lambda: site.empty)
    assert site.door.gone == [("ann", "server disconnect")]


async def test_an_official_client_that_is_disconnected_stays_away_and_one_that_is_dropped_comes_back(
    site: Site, connect_node: ConnectNode
) -> None:
    ann, bob = await connect_node(site.url, "ann"), await connect_node(site.url, "bob", transports=["polling"])
    for who, client in (("ann", ann), ("bob", bob)):
        await next(one for one in site.door.connections if one.user_id == who).drop()
        await client.events.wait_for_many(2, "$connect")
        await [one for one in site.door.connections if one.user_id == who][-1].disconnect()
        assert (await client.events.wait_for_many(2, "$disconnect"))[1] == "io server disconnect"
    await asyncio.sleep(0.2)
    assert len(site.door.connections) == 4
    await until(lambda: site.empty)


async def test_a_door_that_fails_at_the_end_leaves_nothing_behind(start_site: StartSite, said: list[Any]) -> None:
    site = await start_site()
    client = await site.websocket("clings")
    await client.websocket.close()
    await until(lambda: site.empty)
    assert [entry["event"] for entry in said if entry["log_level"] == "error"] == ["disconnect.failed"]
    said.clear()


async def test_everybody_is_told_to_move_each_at_a_moment_of_their_own(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "FLUSH_SECONDS", 3_600.0)
    clients = [await site.websocket(f"person {number}") for number in range(8)]
    without_namespace = await site.websocket(None)
    async with asyncio.timeout(WAIT_SECONDS):
        await site.sockets.move_all(0.3)
    assert site.empty
    waits = []
    for client in clients:
        event, closing = await client.all()
        name, data = json.loads(event.partition(",")[2])
        assert (name, closing) == ("serverDraining", "1")
        waits.append(data["retryAfterMs"])
    assert all(0 <= wait <= 300 for wait in waits)
    assert len(set(waits)) > 1
    assert await without_namespace.all() == ["1"]


async def test_an_event_under_way_is_answered_before_the_connection_moves(site: Site) -> None:
    client = await site.websocket()
    await client.send('42/encounters,1["pause"]')
    await until(lambda: site.door.busy == 1)
    await site.sockets.move_all(0)
    assert [packet[:16] for packet in await client.all()] == ['42/encounters,["', "43/encounters,1[", "1"]


async def test_what_comes_after_the_call_to_move_is_not_acted_on(site: Site) -> None:
    client = await site.websocket()
    await client.send('42/encounters,1["later"]')
    await until(lambda: len(site.door.futures) == 1)
    moving = asyncio.create_task(site.sockets.move_all(0, 3_600))
    assert "serverDraining" in await client.receive()
    await client.send('42/encounters,2["later"]')
    await asyncio.sleep(0.05)
    assert len(site.door.futures) == 1, "it would be committed, and never answered"
    site.door.futures[0].set_result("done")
    async with asyncio.timeout(WAIT_SECONDS):
        await moving
    assert [packet[:16] for packet in await client.all()] == ["43/encounters,1[", "1"]


async def test_who_is_let_in_while_everybody_is_told_to_move_is_told_as_well(site: Site) -> None:
    client = await site.websocket(None)
    await client.send('40/encounters,{"token":"slow"}')
    await until(lambda: bool(site.sockets.manager.pending_connect))
    moving = asyncio.create_task(site.sockets.move_all(1.0))
    await asyncio.sleep(0)
    site.door.gate.set()
    packets = await client.all()
    await moving
    assert ["serverDraining" in packet for packet in packets] == [False, True, False]


async def test_an_event_that_takes_too_long_does_not_hold_up_the_move(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "FLUSH_SECONDS", 0.1)
    client = await site.websocket()
    await client.send('42/encounters,1["wait"]')
    await until(lambda: site.door.busy == 1)
    async with asyncio.timeout(WAIT_SECONDS):
        await site.sockets.move_all(0)
    site.door.gate.set()


async def test_a_polling_client_fetches_what_it_is_told_before_it_is_closed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "FLUSH_SECONDS", 3_600.0)
    poller = await site.poller()
    moving = asyncio.create_task(site.sockets.move_all(0))
    await asyncio.sleep(0.05)
    assert "serverDraining" in await poller.get()
    async with asyncio.timeout(WAIT_SECONDS):
        await moving
    assert site.empty


# Whatever comes

packets = st.one_of(
    st.text(alphabet='0123456789-/,[]{}":abencouters²\x1e', max_size=30),
    st.from_regex(r"\A[0-6]{1,2}([0-9]{1,3}-)?(/encounters|/x)?,?[0-9]{0,3}[\[{\"a-z,}\]0-9]{0,12}\Z"),
    st.binary(max_size=20),
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(packets, min_size=1, max_size=8))
def test_whatever_a_client_sends_it_is_answered_or_closed_and_leaves_nothing(
    said: list[Any], caplog: pytest.LogCaptureFixture, sent: list[str | bytes]
) -> None:
    async def run() -> None:
        site = await Site(Limits(handshakes_per_second=0, events_per_second=0)).start()
        try:
            client = await site.websocket()
            for packet in sent:
                await client.send(packet)
            await client.websocket.close()
            poller = await site.poller()
            for packet in sent:
                await poller.post(packet)
            await poller.post("1")
            await until(lambda: site.empty)
        finally:
            await site.close()

    asyncio.run(run())
    assert [one for one in said if one["log_level"] == "error"] == []
    assert [one.message for one in caplog.records if one.levelname == "ERROR"] == []
