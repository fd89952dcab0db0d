"""The bench's load sees what a server loses, doubles, mixes up or refuses."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from aiohttp import WSMsgType, web

from bench.crowd import Crowd
from bench.load import Load, RunFailed, compile_all

CROWD = Crowd(rooms=1, members=3)
#: What happens to the third message on its way to one of the three.
FAULTS = ("lost", "doubled", "late", "refused", "unordered")
NAMESPACE = "/encounters,"


class Room:
    """A server with one room that does one thing wrong, or nothing."""

    def __init__(self, fault: str | None) -> None:
        self._fault = fault
        self._members: list[web.WebSocketResponse] = []
        self._seq = 0
        self._late: str | None = None

    async def welcome(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str('0{"sid":"a"}')
        async for message in socket:
            assert message.type is WSMsgType.TEXT
            if message.data.startswith("40"):
                await socket.send_str(f'40{NAMESPACE}{{"sid":"a"}}')
                continue
            found = re.fullmatch(rf"42{NAMESPACE}(\d+)(.*)", message.data)
            assert found is not None
            name, data = json.loads(found[2])
            if name == "joinSession":
                self._members.append(socket)
            else:
                await self._deliver(data["text"])
            ok = not (self._fault == "refused" and self._seq == 3)
            await socket.send_str(f"43{NAMESPACE}{found[1]}{json.dumps([{'ok': ok}], separators=(',', ':'))}")
        return socket

    async def notify(self, times: int = 1) -> None:
        """Tell everybody something, the last of them so often."""
        packet = f"42{NAMESPACE}" + json.dumps(["notification", {"title": "x"}], separators=(",", ":"))
        for member in [*self._members[:-1], *self._members[-1:] * times]:
            await member.send_str(packet)

    async def _deliver(self, text: str) -> None:
        self._seq += 1
        fault = self._fault if self._seq == 3 else None
        seq = 1 if fault == "unordered" else self._seq
        packet = f"42{NAMESPACE}" + json.dumps(["newMessage", {"seq": seq, "text": text}], separators=(",", ":"))
        for member in self._members[:-1]:
            await member.send_str(packet)
        held, self._late = self._late, packet if fault == "late" else None
        for one in {"lost": [], "late": [], "doubled": [packet, packet]}.get(fault or "", [packet]):
            await self._members[-1].send_str(one)
        if held is not None:
            await self._members[-1].send_str(held)


@asynccontextmanager
async def serving(room: Room) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/socket.io/", room.welcome)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    compile_all(folder)
    return folder


async def chat(room: Room, programs: Path, folder: Path) -> dict[str, float]:
    plan = folder / "plan"
    CROWD.write(plan)
    async with serving(room) as port:
        load = Load(programs, [port], plan)
        try:
            await asyncio.to_thread(load.connect, CROWD.clients)
            return await asyncio.to_thread(load.chat, "closed", seconds=0.3)
        finally:
            load.close()


async def test_a_run_in_which_everything_arrives_counts_all_of_it(programs: Path, tmp_path: Path) -> None:
    said = await chat(Room(None), programs, tmp_path)
    assert said["messages"] > 0
    assert said["deliveries"] == said["messages"] * CROWD.members
    assert 0 < said["ack_p50"] <= said["ack_p99"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_run_with_a_fault_fails(fault: str, programs: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"after message|after seq|refused"):
        await chat(Room(fault), programs, tmp_path)


async def notified(room: Room, programs: Path, folder: Path, times: int) -> list[float]:
    """When the last was notified, of two notifications; one of the clients gets the first so often."""
    plan = folder / "plan"
    CROWD.write(plan)
    async with serving(room) as port:
        load, loop = Load(programs, [port], plan), asyncio.get_running_loop()

        def notify(times: int) -> None:
            asyncio.run_coroutine_threadsafe(room.notify(times), loop).result()

        try:
            await asyncio.to_thread(load.connect, CROWD.clients)
            return [await asyncio.to_thread(load.notified, partial(notify, each)) for each in (times, 1)]
        finally:
            load.close()


async def test_the_last_to_be_notified_says_when(programs: Path, tmp_path: Path) -> None:
    before = time.monotonic()
    first, second = await notified(Room(None), programs, tmp_path, 1)
    assert before < first < second < time.monotonic()


async def test_who_is_notified_twice_ends_the_run(programs: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="notified twice"):
        await notified(Room(None), programs, tmp_path, 2)
