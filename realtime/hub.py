"""What is here: the rooms of this worker and the connections in them.

A room follows one channel of the bus. Its events with a `seq` are delivered as `last + 1` only: repeats are
dropped, and a gap is read from the database. So it does not matter how often, in which order or whether at
all the bus brings them; every connection in the room gets each `seq` once and ascending.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

import structlog

from realtime.bus import Bus
from realtime.events import Event
from realtime.frames import Bundle, Frame, bundle

#: Seconds between two looks at the database for what the bus did not bring. Small enough for a person who
#: was barred to be cut within a second while the bus is away.
POLL_SECONDS: Final = 0.75
#: Seconds that a gap may close by itself: events of two writers overtake each other by about this much.
GAP_SECONDS: Final = 0.02
#: Events read at a time to close a gap.
CATCH_UP_EVENTS: Final = 500
#: Events of a room that are kept at hand for those who come back.
TAIL_EVENTS: Final = 200
#: Events that wait for an earlier one. Beyond it they are dropped, and read from the database instead.
MAX_EARLY_EVENTS: Final = 1_000
#: Seconds by which a busy room's events are held back at most, to be written together.
MAX_HOLD_SECONDS: Final = 0.01
#: Seconds of that for each member: about what a write to one takes, so that writing leaves time for the rest.
HOLD_SECONDS_PER_MEMBER: Final = 10e-6
#: Events in that time that are sent at once all the same: somebody who answers somebody waits for nothing.
FREE_EVENTS: Final = 2
#: In smaller rooms nothing is held back: it would save less than it delays.
LARGE_ROOM_MEMBERS: Final = 32
#: Seconds that an empty room is kept, so that a reload finds it as it was.
LINGER_SECONDS: Final = 15.0

logger = structlog.get_logger(__name__)


class Member(Protocol):
    """A connection, as a room sees it."""

    @property
    def user_id(self) -> str: ...

    def send(self, frame: Frame | Bundle) -> None:
        """Hand over encoded events. Never blocks; a connection that does not read is cut by its own bound."""

    def send_now(self, frame: Frame | Bundle) -> None:
        """As :meth:`send`, for one of very many: nothing else is waited for that could be written with it."""


class Source(Protocol):
    """Where the log of a room is read when the bus did not bring it."""

    async def position(self, room_id: str) -> int:
        """The newest `seq` of the room."""

    async def positions(self, room_ids: Sequence[str]) -> dict[str, int]: ...

    async def events_after(self, room_id: str, seq: int, limit: int) -> list[Event]:
        """The first `limit` events after `seq`, ascending, without a gap."""


class Room:
    """The connections of one channel on this worker, and how far they have been told.

    `observe` sees each event in its turn, and says whether the members are to see it.

    An event after a pause is sent at once. Where many follow each other in a large room, they are held back for at most
    MAX_HOLD_SECONDS, and sent as one: a write costs a connection the same for ten events as for one.
    """

    def __init__(self, room_id: str, encode: Callable[[Event], Frame]) -> None:
        self.id = room_id
        self.last_seq = 0
        self.members: set[Member] = set()
        self.tail: deque[Event] = deque(maxlen=TAIL_EVENTS)
        self.observe: Callable[[Event], bool] | None = None
        self.opened = False
        self.holds = 0
        self.lingering: asyncio.TimerHandle | None = None
        self._encode = encode
        self._early: dict[int, Event] = {}
        self._before_opening: list[Event] = []
        self._held: list[Frame] = []
        self._release: asyncio.TimerHandle | None = None
        self._hold_until = 0.0
        self._sent_in_window = 0

    @property
    def has_gap(self) -> bool:
        return bool(self._early)

    def receive(self, event: Event) -> None:
        """Take an event from the bus or the database, and deliver what is now in turn."""
        if event.seq is None:
            if self.opened:
                self._deliver(event)
            elif len(self._before_opening) < MAX_EARLY_EVENTS:
                self._before_opening.append(event)
            return
        if event.seq <= self.last_seq:
            return
        # The next in turn is always taken, or a room with that many early ones would stand still for ever.
        if event.seq == self.last_seq + 1 or len(self._early) < MAX_EARLY_EVENTS:
            self._early[event.seq] = event
        if self.opened:
            self._deliver_in_turn()

    def start_at(self, seq: int) -> None:
        """Open after `seq`; events that came meanwhile are delivered if they are newer."""
        self.opened = True
        self.last_seq = seq
        self._early = {early: event for early, event in self._early.items() if early > seq}
        hints, self._before_opening = self._before_opening, []
        for hint in hints:
            self._deliver(hint)
        self._deliver_in_turn()

    def since(self, seq: int) -> list[Event] | None:
        """The events after `seq`, if all of them are still at hand."""
        missing = self.last_seq - seq
        if missing < 0 or missing > len(self.tail):
            return None
        return list(self.tail)[len(self.tail) - missing :]

    def _deliver_in_turn(self) -> None:
        while (event := self._early.pop(self.last_seq + 1, None)) is not None:
            self.last_seq += 1
            self.tail.append(event)
            self._deliver(event)

    def show(self, event: Event, *, but: str | Member | None = None) -> None:
        """Send an event to the members here, and only here; not to `but`: a member, or all of a person's."""
        if not self.members:
            return
        frame = self._encode(event)
        if but is not None:
            self.flush()
            self._send([one for one in self.members if one is not but and one.user_id != but], frame)
            return
        loop = asyncio.get_running_loop()
        if self._release is None:
            now = loop.time()
            if now >= self._hold_until:
                self._begin_window(now, sent=0)
            if self._sent_in_window < FREE_EVENTS:
                self._sent_in_window += 1
                self._send(self.members, frame)
                return
            self._release = loop.call_at(self._hold_until, self._send_held)
        self._held.append(frame)

    def flush(self) -> None:
        """Send what is held back now. Before anybody enters or leaves: it is for those who are here."""
        if self._release is not None:
            self._release.cancel()
            self._send_held()

    def _send_held(self) -> None:
        held, self._held, self._release = self._held, [], None
        # While it gained something, the next ones are held back, too.
        self._begin_window(asyncio.get_running_loop().time(), sent=FREE_EVENTS if len(held) > 1 else 1)
        self._send(self.members, bundle(held))

    def _begin_window(self, now: float, *, sent: int) -> None:
        self._hold_until = now + self._hold_seconds
        self._sent_in_window = sent

    @property
    def _hold_seconds(self) -> float:
        members = len(self.members)
        return min(MAX_HOLD_SECONDS, members * HOLD_SECONDS_PER_MEMBER) if members >= LARGE_ROOM_MEMBERS else -1.0

    def _send(self, members: Collection[Member], frame: Frame | Bundle) -> None:
        large = len(members) >= LARGE_ROOM_MEMBERS
        for member in members:
            try:
                if large:
                    member.send_now(frame)
                else:
                    member.send(frame)
            except Exception:
                logger.exception("room.not_sent", user_id=member.user_id)  # to one of them; the others get theirs

    def _deliver(self, event: Event) -> None:
        visible = True
        if self.observe is not None:
            try:
                visible = self.observe(event)
            except Exception:
                logger.exception("room.observer_failed", event_name=event.name)
        if visible:
            self.show(event)


class Hub:
    """The rooms of this worker. `opened(room)` and `closed(room)` frame a room's life here."""

    def __init__(
        self,
        bus: Bus,
        source: Source,
        *,
        encode: Callable[[Event], Frame],
        channel: Callable[[str], str],
        opened: Callable[[Room], Awaitable[None]],
        closed: Callable[[Room], None],
        polled: Callable[[], Awaitable[None]],
        passing: type[Exception],
    ) -> None:
        self._bus = bus
        self._source = source
        self._encode = encode
        self._channel = channel
        self._opened = opened
        self._closed = closed
        self._polled = polled
        self._passing = passing
        self._rooms: dict[str, Room] = {}
        self._openings: dict[str, asyncio.Task[None]] = {}
        self._poller: asyncio.Task[None] | None = None
        self._poll_now = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._catching_up: set[Room] = set()

    @property
    def rooms(self) -> Sequence[Room]:
        return list(self._rooms.values())

    def start(self) -> None:
        self._bus.on_gap(self._poll_now.set)
        self._poller = asyncio.create_task(self._poll_forever(), name="hub-poll")

    async def close(self) -> None:
        for room in self.rooms:
            self._stop_lingering(room)
        tasks = [*self._tasks, *self._openings.values(), *([self._poller] if self._poller else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def find(self, room_id: str) -> Room | None:
        """The room, if it is open here."""
        return self._rooms.get(room_id)

    async def open(self, room_id: str) -> Room:
        """The room, followed from now on. The caller holds it (:meth:`held`) until somebody is in it.

        Whoever asks while it opens waits for the same opening, and gets the error with which it fails.
        """
        if room_id not in self._rooms:
            # A task of its own: that one of those who wait is cancelled is nothing to the others.
            opening = self._openings.get(room_id)
            if opening is None:
                opening = self._openings[room_id] = asyncio.create_task(self._open(room_id))
                opening.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.shield(opening)
        return self._rooms[room_id]

    async def _open(self, room_id: str) -> None:
        room = Room(room_id, self._encode)
        channel = self._channel(room_id)
        try:
            await self._bus.subscribe(channel, self._receiver(room))
            # After the subscription, so that nothing falls between the two.
            position = await self._source.position(room_id)
            await self._opened(room)
        except BaseException:
            self._bus.unsubscribe(channel)
            self._closed(room)
            raise
        finally:
            del self._openings[room_id]
        self._rooms[room_id] = room
        room.start_at(position)
        if room.has_gap:
            self._catch_up(room, pause=GAP_SECONDS)
        self._close_when_empty(room)

    @contextmanager
    def held(self, room_id: str) -> Iterator[None]:
        """Keep the room from closing while somebody is about to enter."""
        room = self._rooms[room_id]
        room.holds += 1
        try:
            yield
        finally:
            room.holds -= 1
            self._close_when_empty(room)

    def enter(self, room: Room, member: Member) -> None:
        room.flush()
        room.members.add(member)

    def leave(self, room: Room, member: Member) -> None:
        room.flush()
        room.members.discard(member)
        self._close_when_empty(room)

    def _receiver(self, room: Room) -> Callable[[Event], None]:
        def receive(event: Event) -> None:
            room.receive(event)
            if room.opened and room.has_gap:
                self._catch_up(room, pause=GAP_SECONDS)

        return receive

    # Closing

    def _close_when_empty(self, room: Room) -> None:
        if not room.members and not room.holds:
            self._stop_lingering(room)
            room.lingering = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._close_if_empty, room)

    def _stop_lingering(self, room: Room) -> None:
        if room.lingering is not None:
            room.lingering.cancel()

    def _close_if_empty(self, room: Room) -> None:
        if not room.members and not room.holds:
            del self._rooms[room.id]
            self._bus.unsubscribe(self._channel(room.id))
            self._closed(room)

    # Catching up

    async def catch_up(self, room: Room) -> None:
        """Read now what the room has not been told yet. Raises the source's errors."""
        while True:
            seq = room.last_seq
            events = await self._source.events_after(room.id, seq, CATCH_UP_EVENTS)
            for event in events:
                room.receive(event)
            if len(events) < CATCH_UP_EVENTS or room.last_seq == seq:
                return

    def _catch_up(self, room: Room, *, pause: float) -> None:
        if room not in self._catching_up:
            self._catching_up.add(room)
            self._spawn(self._read_gap(room, pause))

    async def _read_gap(self, room: Room, pause: float) -> None:
        """Read what is missing, unless it came by itself meanwhile."""
        try:
            await asyncio.sleep(pause)
            if self._rooms.get(room.id) is room and (not pause or room.has_gap):
                await self.catch_up(room)
        except self._passing as error:
            logger.info("room.catch_up_waits", reason=str(error))
        finally:
            self._catching_up.discard(room)

    async def _poll_forever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._poll_now.wait()
            except TimeoutError:
                pass
            self._poll_now.clear()
            try:
                await self._poll()
                await self._polled()
            except self._passing as error:
                logger.info("hub.poll_waits", reason=str(error))
            except Exception:
                logger.exception("hub.poll_failed")

    async def _poll(self) -> None:
        if not self._rooms:
            return
        for room_id, seq in (await self._source.positions(list(self._rooms))).items():
            room = self._rooms.get(room_id)
            if room is not None and seq > room.last_seq:
                self._catch_up(room, pause=0)

    def _spawn(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            try:
                await work
            except Exception:
                logger.exception("hub.task_failed")

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
