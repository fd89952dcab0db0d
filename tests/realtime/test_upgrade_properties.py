"""Upgrades from long-polling to a WebSocket, in whatever order things happen: nothing is lost, doubled or reordered.

A script of steps is played by a client that is correct, as the official ones are: one poll and one body at a time;
it probes; when the probe is answered it waits for its outstanding poll and body and begins no other; then it says
"5", and all else goes over the WebSocket. Where the upgrade breaks off before that, it goes on polling.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

import pytest
import uvloop
from aiohttp.http_exceptions import BadHttpMessage
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from realtime import socket
from realtime.limits import Limits
from tests.realtime.conftest import StartSite
from tests.support.recorder import WAIT_SECONDS
from tests.support.sockets import Poller, Site
from tests.support.waiting import until
from tests.support.websocket_frames import EndedError, Wire, closing, frame, handshake

# The script


@dataclass(frozen=True, slots=True)
class Tell:
    """The server tells `count` events, `turns` of its loop from now."""

    count: int = 1
    turns: int = 0


@dataclass(frozen=True, slots=True)
class Send:
    """The client sends `count` events in one body, or in one TCP segment; it may go on before a body is answered."""

    count: int = 1
    wait: bool = True


@dataclass(frozen=True, slots=True)
class Poll:
    """The client leaves a poll outstanding, unless there is one."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """The client waits for its outstanding poll; the server tells something, so that it ends."""


@dataclass(frozen=True, slots=True)
class Pause:
    turns: int = 1


@dataclass(frozen=True, slots=True)
class Drop:
    """The server closes the connection."""


class Stage(IntEnum):
    ASKED = 0
    OPEN = 1
    PROBED = 2
    ANSWERED = 3
    PAUSED = 4
    DONE = 5


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The client upgrades as far as `stage`, and breaks off there `how` it does unless that is the end.

    `between[stage]` happens when the stage is reached. `hasty`: it probes in the TCP segment of the handshake.
    """

    stage: Stage = Stage.DONE
    how: str = "close"
    between: tuple[tuple[Step, ...], ...] = ((),) * len(Stage)
    hasty: bool = False


Step = Tell | Send | Poll | Fetch | Pause | Drop | Upgrade

LEAVE: dict[str, Callable[[Wire], None]] = {"close": Wire.close, "reset": Wire.reset, "finish": Wire.finish}

tells = st.builds(Tell, st.integers(1, 3), st.integers(0, 12))
sends = st.builds(Send, st.integers(1, 3), st.booleans())
pauses = st.builds(Pause, st.integers(1, 8))
between_steps = st.lists(tells | sends | st.just(Poll()) | pauses, max_size=3).map(tuple)
upgrades = st.builds(
    Upgrade,
    st.sampled_from(Stage),
    st.sampled_from(["goodbye", *LEAVE]),
    st.tuples(*(between_steps for _ in Stage)),
    st.booleans(),
)
steps = tells | sends | st.just(Poll()) | st.just(Fetch()) | pauses | upgrades
scripts = st.lists(steps, min_size=1, max_size=8)


def with_a_drop(script: list[Step], at: int, inside: Stage) -> list[Step]:
    """The script with a Drop before the step `at`; where that is an upgrade, within it."""
    at %= len(script)
    step = script[at]
    if not isinstance(step, Upgrade):
        return [*script[:at], Drop(), *script[at:]]
    between = tuple((*happens, Drop()) if stage == inside else happens for stage, happens in enumerate(step.between))
    return [*script[:at], replace(step, between=between), *script[at + 1 :]]


# The client


@dataclass
class Player:
    """Plays a script to the server, and notes what comes of it."""

    site: Site
    poller: Poller
    told: int = 0
    sent: int = 0
    told_later: int = 0
    packets: list[str] = field(default_factory=list)
    poll: asyncio.Task[None] | None = None
    body: asyncio.Task[None] | None = None
    wire: Wire | None = None
    upgraded: bool = False
    dropped: bool = False
    wires: list[Wire] = field(default_factory=list)

    async def play(self, script: list[Step]) -> None:
        for step in script:
            await self.take(step)

    async def take(self, step: Step) -> None:
        match step:
            case Tell():
                self.told_later += 1
                self.tell_later(step.count, step.turns)
            case Send():
                await self.send(step.count, wait=step.wait)
            case Poll():
                self.begin_poll()
            case Fetch():
                await self.fetch()
            case Pause():
                for _ in range(step.turns):
                    await asyncio.sleep(0)
            case Drop():
                self.dropped = True
                await self.site.door.connections[0].drop()
            case Upgrade() if not self.upgraded:
                await self.upgrade(step)

    def tell_later(self, count: int, turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self.tell_later, count, turns - 1)
            return
        self.told_later -= 1
        for _ in range(count):
            self.told += 1
            self.site.door.tell(self.site.door.connections[0], self.told)

    async def send(self, count: int, *, wait: bool) -> None:
        await self.finish_body()
        numbers = range(self.sent + 1, self.sent + count + 1)
        self.sent += count
        packets = [f'42/encounters,{number}["echo",{number}]' for number in numbers]
        if self.upgraded:
            assert self.wire is not None
            await self.wire.send(b"".join(map(frame, packets)))
            return
        self.body = asyncio.create_task(self._post("\x1e".join(packets)))
        if wait:
            await self.finish_body()

    async def _post(self, body: str) -> None:
        if await self.poller.post(body) != 200:
            raise EndedError

    async def finish_body(self) -> None:
        if self.body is not None:
            await self.body
            self.body = None

    def begin_poll(self) -> None:
        if self.poll is None and not self.upgraded:
            self.poll = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        status, text = await self.site.get(self.poller.query)
        if status != 200:
            raise EndedError
        self.packets += text.split("\x1e")
        if self.packets[-1] == "1":
            raise EndedError

    async def finish_poll(self) -> None:
        if self.poll is not None:
            await self.poll
            self.poll = None

    async def fetch(self) -> None:
        if not self.upgraded:
            self.begin_poll()
            await self.take(Tell())
            await self.finish_poll()

    async def upgrade(self, upgrade: Upgrade) -> None:
        """Go through the stages, as far as the upgrade goes."""
        wire = self.wire = await Wire.open(self.site.port)
        self.wires.append(wire)
        for stage in Stage:
            if not await self.reach(stage, wire, hasty=upgrade.hasty):
                return
            for step in upgrade.between[stage]:
                if stage not in (Stage.ANSWERED, Stage.PAUSED) or not isinstance(step, Send | Poll):
                    await self.take(step)
            if stage == upgrade.stage and stage != Stage.DONE:
                if upgrade.how == "goodbye":
                    await wire.send(closing())
                    wire.close()
                else:
                    LEAVE[upgrade.how](wire)
                return

    async def reach(self, stage: Stage, wire: Wire, *, hasty: bool) -> bool:
        """Go on to this stage. False: the server has not seen yet that the WebSocket before has gone."""
        match stage:
            case Stage.ASKED:
                await wire.send(handshake(sid=self.poller.sid) + (frame("2probe") if hasty else b""))
            case Stage.OPEN:
                return (await wire.answer()).status == 101
            case Stage.PROBED:
                if not hasty:
                    await wire.send(frame("2probe"))
            case Stage.ANSWERED:
                assert await wire.text() == "3probe"
            case Stage.PAUSED:
                await self.finish_poll()
                await self.finish_body()
                if self.dropped:
                    raise EndedError
                assert wire.quiet, "until the client says 5, it is told over polls"
            case Stage.DONE:
                await wire.send(frame("5"))
                self.upgraded = True
        return True

    async def read_all(self) -> None:
        """Read up to the ack of an event that is sent when there is nothing more to tell."""
        await until(lambda: not self.told_later)
        await self.send(1, wait=True)
        last = f"43/encounters,{self.sent}["
        while not any(packet.startswith(last) for packet in self.packets):
            if self.upgraded:
                assert self.wire is not None
                self.packets.append(await self.wire.text())
            else:
                self.begin_poll()
                await self.finish_poll()

    async def read_what_there_is(self) -> None:
        """Read up to the end of the connection."""
        if self.upgraded and self.wire is not None:
            with suppress(EndedError, ConnectionError):
                while True:
                    self.packets.append(await self.wire.text())
        under_way = [task for task in (self.poll, self.body) if task is not None]
        await asyncio.gather(*under_way, return_exceptions=True)

    async def leave(self, how: str) -> None:
        if self.upgraded and self.wire is not None:
            LEAVE[how](self.wire)
        else:
            await self.poller.post("1")

    async def stop(self) -> None:
        """Let go of everything."""
        under_way = [task for task in (self.poll, self.body) if task is not None]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        for wire in self.wires:
            wire.close()

    @property
    def news(self) -> list[int]:
        """The numbers of what the client was told."""
        events = [packet for packet in self.packets if packet.startswith("42/encounters,")]
        return [json.loads(packet.partition(",")[2])[1]["n"] for packet in events]

    @property
    def acks(self) -> list[int]:
        """The numbers of those of its own events that the client knows were heard."""
        acks = [packet for packet in self.packets if packet.startswith("43/encounters,")]
        return [int(packet[len("43/encounters,") : packet.index("[")]) for packet in acks]

    @property
    def heard(self) -> list[int]:
        """The numbers of the client's events that reached the server's door."""
        return [payload[0] for _, payload in self.site.door.events]


def up_to(number: int) -> list[int]:
    return list(range(1, number + 1))


async def play_to_the_end(script: list[Step], goodbye: str) -> None:
    async with playing() as player:
        await player.play(script)
        await player.read_all()
        assert player.news == up_to(player.told)
        assert player.heard == player.acks == up_to(player.sent)
        await player.leave(goodbye)
        await until(lambda: player.site.empty)


async def play_until_it_is_dropped(script: list[Step]) -> None:
    async with playing() as player:
        with suppress(EndedError, ConnectionError):
            await player.play(script)
        await player.site.door.connections[0].drop()
        await player.read_what_there_is()
        await until(lambda: not player.told_later)
        for numbers in (player.news, player.acks, player.heard):
            assert numbers == up_to(len(numbers))
        assert set(player.acks) <= set(player.heard)
        assert player.site.empty


async def start() -> Site:
    """A server. Hypothesis seeds what ports are chosen by, so that runs beside each other would choose the same."""
    while True:
        site = Site(Limits(handshakes_per_second=0, events_per_second=0))
        try:
            return await site.start()
        except OSError as error:
            await site.close()
            if error.errno != errno.EADDRINUSE:
                raise


@asynccontextmanager
async def playing() -> AsyncIterator[Player]:
    """A server, and a client that polls."""
    site = await start()
    player = Player(site, await site.poller())
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            yield player
    finally:
        await player.stop()
        await site.close()


Scripts = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, said: list[Any], caplog: pytest.LogCaptureFixture) -> Scripts:
    """Runs a coroutine in a loop of its own: that of these tests, and that of the server. It must make no noise."""

    def run(coroutine: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(coroutine)
        assert [one for one in said if one["log_level"] in ("error", "critical")] == []
        assert [one.message for one in caplog.records if one.levelname == "ERROR" and not of_a_hasty_client(one)] == []

    return run


def of_a_hasty_client(record: logging.LogRecord) -> bool:
    """Whether aiohttp complains of a probe behind a refused handshake, which it reads as the next request."""
    return record.exc_info is not None and isinstance(record.exc_info[1], BadHttpMessage)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(scripts, st.sampled_from(list(LEAVE)))
@example([Poll(), Upgrade(), Send(2), Tell(3)], "close")
@example([Tell(2), Upgrade(), Tell(1)], "reset")
@example([Poll(), Upgrade(Stage.ANSWERED, "reset"), Tell(2), Poll(), Upgrade()], "finish")
def test_across_upgrades_everything_arrives_once_and_in_order(run: Scripts, script: list[Step], goodbye: str) -> None:
    run(play_to_the_end(script, goodbye))


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(scripts, st.integers(0, 7), st.sampled_from(Stage))
def test_a_connection_that_ends_within_an_upgrade_leaves_nothing_and_doubles_nothing(
    run: Scripts, script: list[Step], at: int, inside: Stage
) -> None:
    run(play_until_it_is_dropped(with_a_drop(script, at, inside)))


# What no script finds

OpenWire = Callable[[], Awaitable[Wire]]


@pytest.fixture
def short_upgrades(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds that a client has for an upgrade."""
    monkeypatch.setattr(socket, "CONNECT_SECONDS", 1.0)
    return 1.0


async def assert_told_by(site: Site, wire: Wire) -> None:
    site.door.tell(site.door.connections[0], 1)
    while (packet := await wire.text()) == "6":
        pass
    assert '"n":1' in packet


@pytest.fixture
async def open_wire(site: Site) -> AsyncIterator[OpenWire]:
    """Opens TCP connections to the server, which end with the test."""
    with ExitStack() as ends:

        async def open_wire() -> Wire:
            return ends.enter_context(contextlib.closing(await Wire.open(site.port)))

        yield open_wire


async def test_an_upgrade_that_ended_with_its_handshake_does_not_run_out_of_time_when_the_next_is_done(
    site: Site, open_wire: OpenWire, short_upgrades: float
) -> None:
    poller = await site.poller()
    first, second = await open_wire(), await open_wire()
    await first.send(handshake(sid=poller.sid) + closing())
    await first.answer()
    await first.end()
    await second.send(handshake(sid=poller.sid), frame("2probe"))
    assert (await second.answer()).status == 101
    assert await second.text() == "3probe"
    await second.send(frame("5"))
    await asyncio.sleep(1.5 * short_upgrades)
    await assert_told_by(site, second)


async def test_an_upgrade_that_was_done_with_its_handshake_does_not_run_out_of_time(
    site: Site, open_wire: OpenWire, short_upgrades: float
) -> None:
    poller = await site.poller()
    wire = await open_wire()
    await wire.send(handshake(sid=poller.sid) + frame("2probe") + frame("5"))
    assert (await wire.answer()).status == 101
    assert await wire.text() == "3probe"
    await asyncio.sleep(1.5 * short_upgrades)
    await assert_told_by(site, wire)


async def test_an_upgrade_with_very_much_to_be_told_holds_up_nobody(start_site: StartSite) -> None:
    site = await start_site(handshakes_per_second=0, unsent_bytes=0)
    poller = await site.poller()
    bob = await site.websocket("bob")
    count = 40_000
    for number in range(count):
        site.door.tell(site.door.connections[0], number)
    with contextlib.closing(await Wire.open(site.port)) as wire:
        await wire.send(handshake(sid=poller.sid), frame("2probe"))
        await wire.answer()
        assert await wire.text() == "3probe"
        # Of this process: others may be busy, too.
        started = time.process_time()
        await wire.send(frame("5"))
        await until(lambda: site.sockets.eio.sockets[poller.sid].upgraded)
        assert (await bob.call("echo"))["ok"]
        assert time.process_time() - started < 1
        for number in range(count):
            assert f'"n":{number},' in await wire.text()


async def test_a_poll_that_would_like_another_protocol_is_a_poll(site: Site) -> None:
    poller = await site.poller()
    site.door.tell(site.door.connections[0], 1)
    headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    status, text = await site.get(poller.query, headers=headers)
    assert (status, text.count('"n":1')) == (200, 1)
