"""Several workers and a bus that loses, repeats and mixes up: every member sees each `seq` once, ascending."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime import hub as hub_module
from realtime.bus import LocalBus
from realtime.events import Event
from realtime.frames import Bundle, Frame, event_frame
from realtime.hub import Hub, Room
from tests.support.waiting import until

WORKERS: Final = 3
ROOM: Final = "r"


class AwayError(Exception):
    """The database is away for a moment."""


class Log:
    """The room's log, as the database that all workers share has it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.away = False

    def commit(self) -> Event:
        seq = len(self.events) + 1
        self.events.append(Event(name="newMessage", data={"seq": seq}, seq=seq))
        return self.events[-1]

    async def position(self, room_id: str) -> int:
        return (await self.positions([room_id]))[room_id]

    async def positions(self, room_ids: Sequence[str]) -> dict[str, int]:
        found = dict.fromkeys(room_ids, len(self.events))
        await self._answer()
        return found

    async def events_after(self, room_id: str, seq: int, limit: int) -> list[Event]:
        found = self.events[seq : seq + limit]
        await self._answer()
        return found

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise AwayError


class Exchange:
    """Carries events between workers in steps: each copy of an event arrives after as many as it is told."""

    def __init__(self) -> None:
        self.buses: list[Bus] = []
        self._now = 0
        self._under_way: list[tuple[int, Callable[[], None]]] = []

    def after(self, steps: int, happens: Callable[[], None]) -> None:
        self._under_way.append((self._now + steps, happens))

    def step(self) -> None:
        self._now += 1
        self._let_arrive(lambda due: due <= self._now)

    def end(self) -> None:
        self._let_arrive(lambda due: True)

    def _let_arrive(self, arrives: Callable[[int], bool]) -> None:
        here = [happens for due, happens in self._under_way if arrives(due)]
        self._under_way = [one for one in self._under_way if not arrives(one[0])]
        for happens in here:
            happens()


class Bus(LocalBus):
    """One worker's end of the exchange."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self.missed: Callable[[], None] = lambda: None
        self._exchange = exchange
        exchange.buses.append(self)

    def on_gap(self, missed: Callable[[], None]) -> None:
        self.missed = missed

    def tell(self, event: Event, copies: Sequence[Sequence[int]]) -> None:
        """Publish: here at once, and each other worker gets a copy after each of its numbers of steps."""
        self.publish(ROOM, event)
        others = [bus for bus in self._exchange.buses if bus is not self]
        for bus, delays in zip(others, copies, strict=True):
            for delay in delays:
                self._exchange.after(delay, lambda bus=bus: bus.publish(ROOM, event))  # type: ignore[misc]


@dataclass(eq=False)
class Person:
    """A connection: what it was shown, and how far the room was when it came and when it left."""

    since: int
    until: int | None = None
    user_id: str = "u"
    seqs: list[int] = field(default_factory=list)

    def send(self, frame: Frame | Bundle) -> None:
        for one in frame.frames:
            _, data = msgspec.json.decode(one.text.partition(",")[2])
            self.seqs.append(data["seq"])

    send_now = send


class Worker:
    """A hub on its end of the exchange, and everybody who was ever in its room."""

    def __init__(self, exchange: Exchange, log: Log) -> None:
        self.bus = Bus(exchange)
        self.people: list[Person] = []
        self.hub = Hub(
            self.bus,
            log,
            encode=event_frame,
            channel=lambda room_id: room_id,
            opened=self._nothing_async,
            closed=lambda room: None,
            polled=self._nothing_async,
            passing=AwayError,
        )
        self.hub.start()

    async def _nothing_async(self, *_: object) -> None: ...

    @property
    def room(self) -> Room | None:
        return self.hub.find(ROOM)

    async def join(self) -> None:
        try:
            room = await self.hub.open(ROOM)
        except AwayError:
            return  # the client is told so, and is not in the room
        with self.hub.held(ROOM):
            person = Person(since=room.last_seq)
            self.hub.enter(room, person)
            self.people.append(person)

    def leave(self, number: int) -> None:
        here = [person for person in self.people if person.until is None]
        if here and self.room is not None:
            person = here[number % len(here)]
            self.hub.leave(self.room, person)
            person.until = self.room.last_seq


some_worker = st.integers(0, WORKERS - 1)
#: After how many steps each copy of an event arrives. None: it is lost. Two: it is repeated.
copies = st.lists(st.integers(0, 6), max_size=2)

says = st.tuples(
    st.just("say"), some_worker, st.integers(0, 3), st.lists(copies, min_size=WORKERS - 1, max_size=WORKERS - 1)
)
steps = st.one_of(
    says,
    says,
    says,
    st.tuples(st.just("join"), some_worker, st.just(0), st.just([])),
    st.tuples(st.just("leave"), some_worker, st.integers(0, 5), st.just([])),
    st.tuples(st.just("turns"), st.just(0), st.integers(1, 5), st.just([])),
    st.tuples(st.just("gap told"), some_worker, st.just(0), st.just([])),
    st.tuples(st.just("database fails or is back"), st.just(0), st.just(0), st.just([])),
)


async def play(script: list[tuple[str, int, int, list[list[int]]]]) -> None:
    log, exchange = Log(), Exchange()
    workers = [Worker(exchange, log) for _ in range(WORKERS)]
    for worker in workers[1:]:
        await worker.join()
    joins: list[asyncio.Task[None]] = []
    for step, number, amount, fates in script:
        worker = workers[number]
        if step == "say":
            # Another worker's event may be committed, and even told of, between this one's commit and its telling.
            event = log.commit()
            exchange.after(amount, lambda event=event, worker=worker, fates=fates: worker.bus.tell(event, fates))  # type: ignore[misc]
        elif step == "join":
            joins.append(asyncio.create_task(worker.join()))
        elif step == "leave":
            worker.leave(amount)
        elif step == "turns":
            for _ in range(amount):
                await asyncio.sleep(0)
        elif step == "gap told":
            worker.bus.missed()
        else:
            log.away = not log.away
        exchange.step()
    log.away = False
    exchange.end()
    exchange.end()  # what those told
    await asyncio.gather(*joins)
    for worker in workers:
        worker.bus.missed()
    try:
        await until(lambda: all(worker.room is None or worker.room.last_seq == len(log.events) for worker in workers))
        for worker in workers:
            if worker.room is not None:
                worker.room.flush()
            for person in worker.people:
                last = len(log.events) if person.until is None else person.until
                assert person.seqs == list(range(person.since + 1, last + 1))
    finally:
        for worker in workers:
            await worker.hub.close()


@settings(max_examples=200)
@given(st.lists(steps, max_size=60), st.booleans())
def test_whatever_the_bus_does_every_member_at_every_worker_sees_each_seq_once_and_ascending(
    script: list[tuple[str, int, int, list[list[int]]]], holding: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub_module, "GAP_SECONDS", 0.0005)
        patch.setattr(hub_module, "POLL_SECONDS", 0.01)
        if holding:  # as busy large rooms do
            patch.setattr(hub_module, "LARGE_ROOM_MEMBERS", 1)
            patch.setattr(hub_module, "HOLD_SECONDS_PER_MEMBER", 0.001)
        asyncio.run(play(script))
