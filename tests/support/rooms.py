"""The live side of several workers in one process: real database, a bus in memory, seats instead of sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast
from uuid import UUID, uuid4

import msgspec

from domain import hands
from domain.access import Member
from domain.live import Live
from realtime.bus import LocalBus
from realtime.connection import Connection
from realtime.events import Event
from realtime.frames import NAMESPACE, Bundle, Frame
from realtime.hub import Room
from store.database import Pool
from tests.support.lessons import member
from tests.support.recorder import Recorder


class Seat:
    """Stands where a connection does, and keeps what it is sent."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.closed = False
        self.events = Recorder()

    @property
    def connection(self) -> Connection:
        return cast(Connection, self)

    def send(self, frame: Frame | Bundle) -> None:
        for one in frame.frames:
            name, data = msgspec.json.decode(one.text.removeprefix(f"42{NAMESPACE},"))
            self.events.add(name, data)

    send_now = send

    @property
    def seqs(self) -> list[int]:
        """The `seq`s it was shown, in the order they came."""
        return [received.data["seq"] for received in self.events.all if "seq" in received.data]


class Exchange:
    """Carries events between workers at once. While `cut`, they are lost, as with a bus that is away."""

    def __init__(self) -> None:
        self.buses: list[ExchangedBus] = []
        self.cut = False


class ExchangedBus(LocalBus):
    """One worker's end of an exchange."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self._exchange = exchange
        exchange.buses.append(self)

    def publish(self, channel: str, event: Event) -> None:
        super().publish(channel, event)
        for bus in self._exchange.buses:
            if bus is not self and not self._exchange.cut:
                bus.take(channel, Event(name=event.name, data=msgspec.Raw(bytes(event.json)), seq=event.seq))

    def take(self, channel: str, event: Event) -> None:
        """An event of another worker."""
        super().publish(channel, event)


@asynccontextmanager
async def workers(pool: Pool, number: int, exchange: Exchange | None = None) -> AsyncIterator[list[Live]]:
    """So many workers, started; closed at the end."""
    exchange = exchange or Exchange()
    async with AsyncExitStack() as ends:
        lives = []
        for _ in range(number):
            live = Live(pool, ExchangedBus(exchange), uuid4())
            await live.start()
            ends.push_async_callback(live.close)
            lives.append(live)
        yield lives


async def join(live: Live, session_id: UUID, user_id: str, who: Member | None = None) -> Seat:
    """A connection of that person, in the room as `joinSession` puts it there."""
    seat = Seat(user_id)
    room = await live.hub.open(str(session_id))
    with live.hub.held(room.id):
        await live.presence.arrive(room, who or member(session_id, user_id), seat.connection)
        live.hub.enter(room, seat)
    return seat


def leave(live: Live, session_id: UUID, seat: Seat, reason: str = "disconnected") -> None:
    """As when the connection leaves the room, or is gone."""
    room = room_of(live, session_id)
    live.hub.leave(room, seat)
    live.presence.depart(room.id, seat.connection, reason)


async def raise_hand(live: Live, who: Member, *, raised: bool) -> None:
    """As `raiseHand` does."""
    raising = hands.begin_raise(live, who, raised=raised)
    await asyncio.wait([raising])
    hands.check_raised(raising)


def room_of(live: Live, session_id: UUID) -> Room:
    room = live.hub.find(str(session_id))
    assert room is not None, "nobody is in it on this worker"
    return room


def online(live: Live, session_id: UUID) -> list[str]:
    """Who is in the session, as this worker tells those who join."""
    return sorted(person["userId"] for person in live.presence.online(str(session_id)))


def told(seat: Seat, *events: str) -> list[Any]:
    """The data of these events, without their session."""
    return [{k: v for k, v in data.items() if k != "session_id"} for data in seat.events.of(*events)]
