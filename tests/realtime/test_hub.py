"""Rooms: every member gets each `seq` once and ascending, whatever the bus does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from realtime import hub as hub_module
from realtime.bus import LocalBus
from realtime.events import Event
from realtime.frames import Bundle, Frame, event_frame
from realtime.hub import Hub, Room
from tests.support.recorder import WAIT_SECONDS
from tests.support.waiting import until


class AwayError(Exception):
    """The database is away for a moment."""


def entry(seq: int) -> Event:
    return Event(name="newMessage", data={"seq": seq}, seq=seq)


def hint(text: str) -> Event:
    return Event(name="typing", data={"text": text})


class Journal:
    """The logs of all rooms, as the database would have them."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Event]] = {}
        self.reads: list[tuple[str, int]] = []
        self.asked = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    def commit(self, room_id: str = "r") -> Event:
        log = self.logs.setdefault(room_id, [])
        log.append(entry(len(log) + 1))
        return log[-1]

    async def position(self, room_id: str) -> int:
        return (await self.positions([room_id]))[room_id]

    async def positions(self, room_ids: Sequence[str]) -> dict[str, int]:
        found = {room_id: len(self.logs.get(room_id, [])) for room_id in room_ids}
        self.asked += 1
        await self._answer()
        return found

    async def events_after(self, room_id: str, seq: int, limit: int) -> list[Event]:
        self.reads.append((room_id, seq))
        found = self.logs.get(room_id, [])[seq : seq + limit]
        await self._answer()
        return found

    async def _answer(self) -> None:
        await self.gate.wait()
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error


class Person:
    """A connection that remembers what it was sent."""

    def __init__(self, user_id: str = "u") -> None:
        self.user_id = user_id
        self.received: list[Any] = []
        self.writes = 0

    def send(self, frame: Frame | Bundle) -> None:
        self.writes += 1
        for one in frame.frames:
            name, data = msgspec.json.decode(one.text.partition(",")[2])
            self.received.append(data["seq"] if name == "newMessage" else data["text"])

    send_now = send


class Bus(LocalBus):
    """A lone worker's bus that tells what is followed, and can say that something was missed."""

    def __init__(self) -> None:
        super().__init__()
        self.missed: Callable[[], None] = lambda: None

    @property
    def followed(self) -> set[str]:
        return set(self._subscribers)

    def on_gap(self, missed: Callable[[], None]) -> None:
        self.missed = missed


class Worker:
    """A hub with its surroundings."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.bus = Bus()
        self.opened: list[Room] = []
        self.closed: list[Room] = []
        self.opening: Callable[[Room], Awaitable[None]] = self._nothing
        self.polls = 0
        self.hub = Hub(
            self.bus,
            self.journal,
            encode=event_frame,
            channel=lambda room_id: f"channel-{room_id}",
            opened=self._opened,
            closed=self.closed.append,
            polled=self._polled,
            passing=AwayError,
        )

    async def _nothing(self, room: Room) -> None: ...

    async def _opened(self, room: Room) -> None:
        self.opened.append(room)
        await self.opening(room)

    async def _polled(self) -> None:
        self.polls += 1

    def publish(self, event: Event, room_id: str = "r") -> None:
        self.bus.publish(f"channel-{room_id}", event)

    async def enter(self, person: Person, room_id: str = "r") -> Room:
        room = await self.hub.open(room_id)
        with self.hub.held(room_id):
            self.hub.enter(room, person)
        return room


@pytest.fixture
async def worker(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Worker]:
    monkeypatch.setattr(hub_module, "GAP_SECONDS", 0.01)
    monkeypatch.setattr(hub_module, "LINGER_SECONDS", 0.1)
    worker = Worker()
    yield worker
    await worker.hub.close()


@pytest.fixture
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "POLL_SECONDS", 0.02)


# Order


async def test_members_get_what_comes_in_turn(worker: Worker) -> None:
    ann, bob = Person(), Person()
    await worker.enter(ann)
    worker.publish(worker.journal.commit())
    await worker.enter(bob)
    worker.publish(worker.journal.commit())
    assert (ann.received, bob.received) == ([1, 2], [2])
    assert worker.journal.reads == []


async def test_repeats_are_dropped(worker: Worker) -> None:
    ann = Person()
    await worker.enter(ann)
    for event in [worker.journal.commit()] * 3 + [worker.journal.commit()] * 2:
        worker.publish(event)
    assert ann.received == [1, 2]


async def test_a_gap_that_closes_by_itself_is_not_read(worker: Worker) -> None:
    ann = Person()
    await worker.enter(ann)
    first, second = worker.journal.commit(), worker.journal.commit()
    worker.publish(second)
    assert ann.received == []
    worker.publish(first)
    assert ann.received == [1, 2]
    await asyncio.sleep(0.03)
    assert worker.journal.reads == []


async def test_a_gap_that_stays_is_read(worker: Worker) -> None:
    ann = Person()
    await worker.enter(ann)
    for _ in range(3):
        lost = worker.journal.commit()
    worker.publish(lost)
    await until(lambda: ann.received == [1, 2, 3])
    assert worker.journal.reads == [("r", 0)]


async def test_a_long_gap_is_read_in_pages(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "CATCH_UP_EVENTS", 10)
    ann = Person()
    room = await worker.enter(ann)
    for _ in range(25):
        worker.journal.commit()
    await worker.hub.catch_up(room)
    assert ann.received == list(range(1, 26))
    assert worker.journal.reads == [("r", 0), ("r", 10), ("r", 20)]


async def test_a_log_with_a_hole_is_not_read_for_ever(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "CATCH_UP_EVENTS", 3)
    room = await worker.hub.open("r")
    worker.journal.logs["r"] = [entry(seq) for seq in (1, 2, 3, 5, 6, 7, 8, 9)]
    async with asyncio.timeout(WAIT_SECONDS):
        await worker.hub.catch_up(room)
    assert room.last_seq == 3


async def test_more_early_events_than_are_kept_do_not_stop_the_room(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "MAX_EARLY_EVENTS", 5)
    ann = Person()
    await worker.enter(ann)
    events = [worker.journal.commit() for _ in range(20)]
    for event in events[1:]:
        worker.publish(event)
    await until(lambda: ann.received == list(range(1, 21)))


async def test_what_has_no_seq_is_shown_at_once_also_inside_a_gap(worker: Worker) -> None:
    ann = Person()
    await worker.enter(ann)
    worker.journal.commit()
    worker.publish(worker.journal.commit())
    worker.publish(hint("ann types"))
    assert ann.received == ["ann types"]


async def test_an_event_may_be_kept_from_one_person(worker: Worker) -> None:
    ann, bob = Person("ann"), Person("bob")
    room = await worker.enter(ann)
    await worker.enter(bob)
    room.show(hint("for others"), but="ann")
    assert (ann.received, bob.received) == ([], ["for others"])


async def test_the_observer_sees_each_event_in_turn_and_may_hide_it(worker: Worker) -> None:
    ann = Person()
    seen: list[int | None] = []

    def observe(event: Event) -> bool:
        seen.append(event.seq)
        if event.seq == 2:
            raise RuntimeError("an observer that fails hides nothing")
        return event.seq != 1

    room = await worker.enter(ann)
    room.observe = observe
    for _ in range(3):
        worker.publish(worker.journal.commit())
    assert seen == [1, 2, 3]
    assert ann.received == [2, 3]


# The tail


async def test_the_tail_answers_for_those_who_come_back(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "TAIL_EVENTS", 3)
    worker.journal.commit()
    room = await worker.hub.open("r")
    assert room.since(1) == []
    assert room.since(0) is None, "what was before the room opened is not at hand"
    assert room.since(2) is None, "nor is what nobody was told of yet"
    for _ in range(5):
        worker.publish(worker.journal.commit())
    assert room.since(6) == []
    assert [event.seq for event in room.since(3) or []] == [4, 5, 6]
    assert room.since(2) is None


# Opening


async def test_a_room_begins_where_its_log_stands(worker: Worker) -> None:
    for _ in range(3):
        worker.journal.commit()
    ann = Person()
    room = await worker.enter(ann)
    assert room.last_seq == 3
    worker.publish(worker.journal.commit())
    assert ann.received == [4]


async def test_what_comes_while_the_room_opens_is_told_in_turn(worker: Worker) -> None:
    worker.journal.gate.clear()
    opening = asyncio.create_task(worker.hub.open("r"))
    await until(lambda: worker.journal.asked == 1)
    seen: list[Any] = []

    async def watch(room: Room) -> None:
        def observe(event: Event) -> bool:
            seen.append(event.seq or event.data["text"])
            return True

        room.observe = observe

    worker.opening = watch
    events = [worker.journal.commit() for _ in range(3)]
    worker.publish(events[1])
    worker.publish(hint("a hint"))
    worker.publish(events[0])
    assert worker.hub.find("r") is None
    worker.journal.gate.set()
    room = await opening
    assert seen == ["a hint", 1, 2]
    worker.publish(events[2])
    assert room.last_seq == 3


async def test_a_gap_from_before_the_opening_is_read(worker: Worker) -> None:
    worker.journal.gate.clear()
    opening = asyncio.create_task(worker.hub.open("r"))
    await until(lambda: worker.journal.asked == 1)
    for _ in range(3):
        newest = worker.journal.commit()
    worker.publish(newest)
    worker.journal.gate.set()
    room = await opening
    await until(lambda: room.last_seq == 3)


async def test_a_room_opens_once_for_all_who_ask_at_once(worker: Worker) -> None:
    rooms = await asyncio.gather(*(worker.hub.open("r") for _ in range(5)))
    assert len(set(map(id, rooms))) == 1
    assert len(worker.opened) == 1
    assert worker.hub.find("r") is rooms[0]
    assert list(worker.hub.rooms) == [rooms[0]]


async def test_a_failed_opening_fails_all_who_wait_and_the_next_one_opens(worker: Worker) -> None:
    worker.journal.error = AwayError("away")
    failures = await asyncio.gather(*(worker.hub.open("r") for _ in range(3)), return_exceptions=True)
    assert [type(failure) for failure in failures] == [AwayError] * 3
    assert worker.bus.followed == set()
    assert worker.hub.find("r") is None
    worker.journal.error = None
    ann = Person()
    await worker.enter(ann)
    worker.publish(worker.journal.commit())
    assert ann.received == [1]


async def test_an_opening_that_fails_late_is_closed(worker: Worker) -> None:
    async def fail(room: Room) -> None:
        raise AwayError

    worker.opening = fail
    with pytest.raises(AwayError):
        await worker.hub.open("r")
    assert worker.closed == worker.opened
    worker.publish(worker.journal.commit())
    await asyncio.sleep(0.03)
    assert worker.journal.reads == [], "nothing is read for a room that is not here"


async def test_one_who_stops_waiting_takes_nothing_from_the_others(worker: Worker) -> None:
    worker.journal.gate.clear()
    first = asyncio.create_task(worker.hub.open("r"))
    await until(lambda: worker.journal.asked == 1)
    second = asyncio.create_task(worker.hub.open("r"))
    await asyncio.sleep(0)
    first.cancel()
    worker.journal.gate.set()
    assert (await second).opened
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_room_that_nobody_waited_for_closes_again(worker: Worker) -> None:
    worker.journal.gate.clear()
    only = asyncio.create_task(worker.hub.open("r"))
    await until(lambda: worker.journal.asked == 1)
    only.cancel()
    worker.journal.gate.set()
    await until(lambda: worker.closed != [])
    assert worker.closed == worker.opened
    assert worker.hub.find("r") is None
    assert worker.bus.followed == set()


# Closing


async def test_an_empty_room_lingers_and_is_found_as_it_was(worker: Worker) -> None:
    ann = Person()
    room = await worker.enter(ann)
    worker.publish(worker.journal.commit())
    worker.hub.leave(room, ann)
    worker.publish(worker.journal.commit())
    assert ann.received == [1]
    assert await worker.enter(ann) is room
    assert [event.seq for event in room.since(1) or []] == [2]
    await asyncio.sleep(0.15)
    assert worker.hub.find("r") is room


async def test_a_room_that_stays_empty_is_closed(worker: Worker) -> None:
    ann = Person()
    room = await worker.enter(ann)
    worker.hub.leave(room, ann)
    await until(lambda: worker.closed == [room])
    assert worker.hub.find("r") is None
    assert worker.bus.followed == set()
    assert await worker.enter(ann) is not room


async def test_lingering_begins_anew_with_each_time_that_it_gets_empty(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "LINGER_SECONDS", 3_600.0)
    ann = Person()
    room = await worker.enter(ann)
    worker.hub.leave(room, ann)
    first = room.lingering
    await asyncio.sleep(0.01)
    worker.hub.enter(room, ann)
    worker.hub.leave(room, ann)
    second = room.lingering
    assert first is not None
    assert second is not None
    assert first.cancelled()
    assert second.when() > first.when()


async def test_a_held_room_is_not_closed(worker: Worker) -> None:
    room = await worker.hub.open("r")
    with worker.hub.held("r"):
        await asyncio.sleep(0.15)
        assert worker.hub.find("r") is room
    await until(lambda: worker.hub.find("r") is None)


async def test_a_room_that_opens_as_its_predecessor_closes_is_followed(worker: Worker) -> None:
    ann = Person()
    room = await worker.enter(ann)
    worker.hub.leave(room, ann)
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    while worker.hub.find("r") is room:
        # Not an await but a busy turn: whoever comes next does so in the very turn in which the room went.
        await asyncio.sleep(0)
        assert asyncio.get_running_loop().time() < deadline
    again = await worker.enter(ann)
    await asyncio.sleep(0.02)
    assert again is not room
    worker.publish(worker.journal.commit())
    assert ann.received == [1]


# Catching up


async def test_the_poll_finds_what_the_bus_did_not_bring(worker: Worker, quick_polls: None) -> None:
    ann = Person()
    await worker.enter(ann)
    await worker.enter(Person(), "other")
    worker.hub.start()
    worker.journal.commit()
    worker.journal.commit()
    await until(lambda: ann.received == [1, 2])
    assert {room_id for room_id, _ in worker.journal.reads} == {"r"}
    assert worker.polls


async def test_a_gap_of_the_bus_is_looked_at_at_once(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "POLL_SECONDS", 3_600.0)
    ann = Person()
    await worker.enter(ann)
    worker.hub.start()
    worker.journal.commit()
    worker.bus.missed()
    await until(lambda: ann.received == [1])


async def test_the_poll_survives_a_database_that_is_away(worker: Worker, quick_polls: None) -> None:
    ann = Person()
    await worker.enter(ann)
    worker.hub.start()
    for error in (AwayError("away"), RuntimeError("and what nobody thought of")):
        worker.journal.error = error
        before = worker.journal.asked
        await until(lambda before=before: worker.journal.asked > before + 1)  # type: ignore[misc]
    worker.journal.commit()
    worker.journal.error = None
    await until(lambda: ann.received == [1])


async def test_a_read_that_fails_is_made_up_for_by_the_poll(worker: Worker, quick_polls: None) -> None:
    ann = Person()
    await worker.enter(ann)
    worker.journal.error = AwayError("away")
    worker.journal.commit()
    worker.publish(worker.journal.commit())
    await until(lambda: worker.journal.reads != [])
    worker.journal.error = None
    worker.hub.start()
    await until(lambda: ann.received == [1, 2])


async def test_catching_up_says_when_the_database_is_away(worker: Worker) -> None:
    room = await worker.hub.open("r")
    worker.journal.error = AwayError("away")
    with pytest.raises(AwayError):
        await worker.hub.catch_up(room)


# All of it at once

commits = st.tuples(st.just("commit"), st.integers(1, 4))
hints_of_the_bus = st.tuples(st.just("bring"), st.integers(0, 30))
steps = st.one_of(
    commits,
    hints_of_the_bus,
    hints_of_the_bus,
    st.tuples(st.sampled_from(["bring newest", "catch up", "poll", "turn", "enter", "leave", "fail"]), st.just(0)),
)


@settings(max_examples=150)
@given(st.lists(steps, max_size=60), st.integers(0, 3))
def test_whatever_the_bus_loses_repeats_or_mixes_up_each_member_gets_each_seq_once(
    script: list[tuple[str, int]], before: int
) -> None:
    async def run() -> None:
        worker = Worker()
        for _ in range(before):
            worker.journal.commit()
        log = worker.journal.logs.setdefault("r", [])
        stays = Person()
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(worker.enter(stays))]
        entered: list[tuple[Person, int]] = [(stays, before)]
        room: Room | None = None
        for step, number in script:
            room = room or worker.hub.find("r")
            if step == "commit":
                for _ in range(number):
                    worker.journal.commit()
            elif step == "bring" and log:
                worker.publish(log[number % len(log)])
            elif step == "bring newest" and log:
                worker.publish(log[-1])
            elif step == "catch up" and room:
                tasks.append(asyncio.create_task(catch_up(worker, room)))
            elif step == "poll":
                tasks.append(asyncio.create_task(poll(worker)))
            elif step == "turn":
                await asyncio.sleep(0)
            elif step == "enter" and room:
                entered.append((Person(), room.last_seq))
                worker.hub.enter(room, entered[-1][0])
            elif step == "leave" and room and len(entered) > 1:
                worker.hub.leave(room, entered.pop()[0])
            elif step == "fail":
                worker.journal.error = None if worker.journal.error else AwayError("away")
        worker.journal.error = None
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        if isinstance(outcomes[0], AwayError):
            await worker.enter(stays)  # a client whose join failed joins again
            entered[0] = (stays, await worker.journal.position("r"))
        room = worker.hub.find("r")
        assert room is not None
        for _ in range(3):  # as the poll does, for ever
            await asyncio.gather(catch_up(worker, room), poll(worker))
        for person, since in entered:
            first = person.received[0] if person.received else len(log) + 1
            assert first == since + 1 or person is stays
            assert person.received == list(range(first, len(log) + 1))
        await worker.hub.close()

    async def catch_up(worker: Worker, room: Room) -> None:
        with suppress(AwayError):
            await worker.hub.catch_up(room)

    async def poll(worker: Worker) -> None:
        with suppress(AwayError):
            await worker.hub._poll()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub_module, "GAP_SECONDS", 0)
        patch.setattr(hub_module, "MAX_EARLY_EVENTS", 3)
        patch.setattr(hub_module, "CATCH_UP_EVENTS", 2)
        patch.setattr(hub_module, "TAIL_EVENTS", 4)
        asyncio.run(run())


# Many at once


@pytest.fixture
def long_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """So long that a slow machine does not end them."""
    monkeypatch.setattr(hub_module, "HOLD_SECONDS_PER_MEMBER", 1.0)
    monkeypatch.setattr(hub_module, "MAX_HOLD_SECONDS", 0.3)


async def crowd(worker: Worker, number: int) -> list[Person]:
    people = [Person() for _ in range(number)]
    for person in people:
        await worker.enter(person)
    return people


@pytest.mark.usefixtures("long_holds")
async def test_what_follows_closely_in_a_large_room_is_written_together(worker: Worker) -> None:
    people = await crowd(worker, hub_module.LARGE_ROOM_MEMBERS)
    free = hub_module.FREE_EVENTS
    for _ in range(20):
        worker.publish(worker.journal.commit())
    assert {tuple(person.received) for person in people} == {tuple(range(1, free + 1))}, "the first are not held back"
    await until(lambda: people[0].received == list(range(1, 21)))
    assert {tuple(person.received) for person in people} == {tuple(range(1, 21))}
    assert {person.writes for person in people} == {free + 1}
    worker.publish(worker.journal.commit())
    assert len(people[0].received) == 20, "the room is busy: the next one is held back at once"
    await until(lambda: len(people[0].received) == 21)
    worker.publish(worker.journal.commit())
    assert len(people[0].received) == 22, "it was alone: the room is busy no more"


async def test_in_a_small_room_nothing_is_held_back(worker: Worker) -> None:
    people = await crowd(worker, hub_module.LARGE_ROOM_MEMBERS - 1)
    for _ in range(3):
        worker.publish(worker.journal.commit())
    assert {person.writes for person in people} == {3}


async def test_after_a_pause_a_large_room_is_told_at_once(worker: Worker) -> None:
    [person, *_] = await crowd(worker, hub_module.LARGE_ROOM_MEMBERS)
    for number in range(1, 4):
        worker.publish(worker.journal.commit())
        assert len(person.received) == number
        await asyncio.sleep(2 * hub_module.MAX_HOLD_SECONDS)


@pytest.mark.usefixtures("long_holds")
async def test_what_is_held_back_is_for_those_who_were_there(worker: Worker) -> None:
    people = await crowd(worker, hub_module.LARGE_ROOM_MEMBERS)
    room = worker.opened[0]
    for _ in range(4):
        worker.publish(worker.journal.commit())
    assert people[0].received == [1, 2]
    late = Person()
    await worker.enter(late)
    assert people[0].received == [1, 2, 3, 4], "it is sent before somebody enters"
    worker.publish(worker.journal.commit())
    assert late.received == []
    worker.hub.leave(room, people[0])
    assert people[0].received == [1, 2, 3, 4, 5], "and before somebody leaves"
    worker.publish(worker.journal.commit())
    worker.publish(worker.journal.commit())
    await until(lambda: late.received == [5, 6, 7])
    assert people[0].received == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("long_holds")
async def test_what_some_are_not_to_see_overtakes_nothing(worker: Worker) -> None:
    people = await crowd(worker, hub_module.LARGE_ROOM_MEMBERS)
    writer = Person("writer")
    await worker.enter(writer)
    for _ in range(3):
        worker.publish(worker.journal.commit())
    worker.opened[0].show(Event(name="typing", data={"text": "…"}), but="writer")
    assert people[0].received == [1, 2, 3, "…"]
    assert writer.received == [1, 2, 3]


async def test_a_member_that_cannot_be_sent_to_stops_nobody(worker: Worker) -> None:
    class Broken(Person):
        def send(self, frame: Frame | Bundle) -> None:
            raise RuntimeError("broken")

    ann = Person()
    for person in (Broken(), ann, Broken()):
        await worker.enter(person)
    with capture_logs() as said:
        worker.publish(worker.journal.commit())
    assert ann.received == [1]
    assert [entry["event"] for entry in said] == ["room.not_sent"] * 2
