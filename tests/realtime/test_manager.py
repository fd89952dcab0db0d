"""The table of connections and rooms: as python-socketio's own, without scanning, and as its Admin UI reads it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import socketio
from bidict import bidict
from hypothesis import given
from hypothesis import strategies as st

from realtime.manager import Manager
from tests.realtime.conftest import StartSite
from tests.support.sockets import Site
from tests.support.waiting import until

SPACE = "/encounters"


class Server:
    """As much of a server as a manager asks for."""

    def __init__(self) -> None:
        self.packet_class = socketio.packet.Packet
        self.eio = self
        self._number = 0

    def generate_id(self) -> str:
        self._number += 1
        return f"sid {self._number}"


def stock() -> Any:
    manager = socketio.AsyncManager()
    manager.set_server(Server())
    return manager


def ours() -> Manager:
    manager = Manager()
    manager.set_server(Server())
    return manager


def test_what_it_takes_the_place_of_is_there() -> None:
    stocks = stock()
    for name in vars(Manager):
        if not name.startswith("_") and name != "basic_pre_connect":
            assert hasattr(stocks, name), name
    assert type(stocks.rooms) is dict
    sid = asyncio.run(stocks.pre_connect("engine", SPACE))
    assert type(stocks.rooms[SPACE][None]) is bidict
    assert stocks.rooms[SPACE][None][sid] == "engine"


acts = st.lists(
    st.tuples(
        st.sampled_from(["pre_connect", "connect", "enter", "leave", "pre_disconnect", "disconnect", "close"]),
        st.integers(0, 3),
        st.sampled_from(["a", "b", "c"]),
    ),
    max_size=40,
)


@given(acts)
def test_it_answers_as_the_stock_manager_does(acts: list[tuple[str, int, str]]) -> None:
    async def run() -> None:
        tables = [stock(), ours()]
        sids: dict[int, str] = {}
        for act, who, room in acts:
            sid = sids.get(who, "nobody")
            if act == "pre_connect":
                first, second = [await table.pre_connect(f"engine {who}", SPACE) for table in tables]
                assert (first is None) == (second is None)
                if first is not None:
                    sids[who] = first
                    if first != second:  # a refused one uses up a number of the stock manager's
                        tables[1].server._number = tables[0].server._number
                        tables[1].basic_disconnect(second, SPACE)
                        tables[1].server._number -= 1
                        assert await tables[1].pre_connect(f"engine {who}", SPACE) == first
            elif act == "connect" and who in sids:
                for table in tables:
                    if table.is_pre_connected(sid, SPACE):
                        assert await table.connect(sid, SPACE) == sid
            elif act in ("enter", "leave") and who in sids:
                for table in tables:
                    await getattr(table, f"{act}_room")(sid, SPACE, room)
            elif act == "pre_disconnect" and who in sids and tables[0].is_connected(sid, SPACE):
                for table in tables:
                    assert table.pre_disconnect(sid, SPACE) == f"engine {who}"
            elif act == "disconnect":
                for table in tables:
                    await table.disconnect(sid, SPACE)
                sids.pop(who, None)
            elif act == "close":
                for table in tables:
                    await table.close_room(room, SPACE)
            for name in ("a", "b", "c", None, ["a", "b"]):
                seen = [dict(table.get_participants(SPACE, name)) if table.rooms else {} for table in tables]
                assert seen[0] == seen[1]
            for number, one in sids.items():
                for look in (
                    lambda table, one=one: table.is_connected(one, SPACE),
                    lambda table, one=one: set(table.get_rooms(one, SPACE)),
                    lambda table, one=one: table.eio_sid_from_sid(one, SPACE),
                    lambda table, number=number: table.sid_from_eio_sid(f"engine {number}", SPACE),
                ):
                    assert look(tables[0]) == look(tables[1])
        for sid in list(sids.values()):
            tables[1].basic_disconnect(sid, SPACE)
        mine = tables[1]
        assert not any([mine.rooms, mine._sids, mine._rooms_of, mine.pending_connect, mine.pending_disconnect])

    asyncio.run(run())


def test_a_room_is_for_who_is_connected_and_a_connections_own_room_for_itself() -> None:
    manager = ours()
    first = manager.basic_pre_connect("engine 1", SPACE)
    second = manager.basic_pre_connect("engine 2", SPACE)
    assert first is not None
    assert second is not None
    with pytest.raises(ValueError, match="not connected"):
        manager.basic_enter_room("nobody", SPACE, "room")
    with pytest.raises(ValueError, match="sid room"):
        manager.basic_enter_room(first, SPACE, second)
    assert dict(manager.get_participants(SPACE, first)) == {first: "engine 1"}


async def test_handlers_may_emit_to_rooms_and_connections_on_either_transport(site: Site) -> None:
    ann, bob, carl = await site.websocket("ann"), await site.poller("bob"), await site.websocket("carl")
    sids = {one.user_id: one.sid for one in site.door.connections}
    for who in ("ann", "bob"):
        await site.sockets.enter_room(sids[who], "board", namespace=SPACE)
    assert set(site.sockets.rooms(sids["ann"], namespace=SPACE)) == {sids["ann"], "board"}
    await site.sockets.emit("drawn", {"x": 1}, room="board", skip_sid=sids["bob"], namespace=SPACE)
    await site.sockets.emit("all", namespace=SPACE)
    await site.sockets.emit("own", ("a", 2), to=sids["carl"], namespace=SPACE)
    assert [await ann.receive() for _ in range(2)] == ['42/encounters,["drawn",{"x":1}]', '42/encounters,["all"]']
    assert await bob.get() == '42/encounters,["all"]'
    assert [await carl.receive() for _ in range(2)] == ['42/encounters,["all"]', '42/encounters,["own","a",2]']


async def test_a_handler_may_ask_a_client_for_an_ack(site: Site) -> None:
    client = await site.websocket()
    answers: list[str] = []
    await site.sockets.emit(
        "asked", {"n": 1}, to=site.door.connections[0].sid, namespace=SPACE, callback=answers.append
    )
    assert await client.receive() == '42/encounters,1["asked",{"n":1}]'
    for number in (7, 1, 1):
        await client.send(f'43/encounters,{number}["yes"]')
    assert (await client.call("echo"))["ok"]
    assert answers == ["yes"]


async def test_the_admin_ui_sees_the_connections_and_their_rooms(start_site: StartSite) -> None:
    site = await start_site(handshakes_per_second=0)
    admin = site.sockets.instrument(auth=False, mode="development", server_stats_interval=1)
    try:
        seen = await site.websocket("ann")
        viewer = await site.websocket(None)
        await viewer.send("40/admin,{}")
        told: dict[str, Any] = {}
        while "all_sockets" not in told or "server_stats" not in told:
            packet = await viewer.receive()
            if packet.startswith("42/admin,"):
                name, *data = json.loads(packet.removeprefix("42/admin,"))
                told[name] = data[0]
        [listed] = [one for one in told["all_sockets"] if one["nsp"] == SPACE]
        assert listed["transport"] == "websocket"
        assert listed["rooms"] == [listed["id"]] == [site.door.connections[0].sid]
        assert told["server_stats"]["clientsCount"] == 2
        assert (await seen.call("echo"))["ok"]
        await viewer.send(f'42/admin,["_disconnect","{SPACE}",false,"{listed["id"]}"]')
        await until(lambda: site.door.gone == [("ann", "server disconnect")])
    finally:
        await admin.shutdown()
        admin.uninstrument()
