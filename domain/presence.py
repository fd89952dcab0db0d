"""Who is here. Per person, not per tab; over all workers; and right again after one of them died.

Each worker records its own people in the database (`store.visits`) and tells the others over the bus what came
of it; what each knows of the others' people is in `domain.rosters`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import structlog

from domain import admission
from domain.access import Member
from domain.connections import Held, added, contains, listed, removed
from domain.errors import Unavailable
from domain.rosters import LEFT, Rosters
from domain.visits import Entry, GaveUp, Recorded, change_of, news_of, person_in_session, record
from domain.waiting import WaitingRooms, tell
from domain.waiting_lists import WaitingLists
from realtime.bus import Bus
from realtime.connection import Connection
from realtime.hub import Room
from realtime.log import MAX_BATCH_ENTRIES, Closed, Log, Overloaded
from store import visits
from store.database import Pool
from store.errors import Away
from store.guards import TurnedAway
from store.visits import Outcome

#: Seconds after the last connection of a person went until the others are told: a reload is silent.
GRACE_SECONDS: Final = 5.0
#: Seconds between two renewals of this worker's lease, and two looks for workers whose lease ran out.
HEARTBEAT_SECONDS: Final = visits.LEASE_SECONDS / 3
#: Seconds for one comparison of the waiting rooms with the database: the next renewal does not wait for it.
COMPARE_SECONDS: Final = HEARTBEAT_SECONDS
#: Seconds without a renewal after which the database was away, for everybody: every lease has run out with it. For as
#: long as a lease nobody is believed dead then.
OUTAGE_SECONDS: Final = 2 * HEARTBEAT_SECONDS
#: Seconds between two comparisons of the rosters with the database while the bus is away.
REFRESH_SECONDS: Final = 2.0

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Here:
    """One person's connections in one room on this worker. `arrived`: their arrival, while it is being recorded.

    `called_in`: meanwhile they were let in through the waiting room. `gave_up`: meanwhile nobody else of theirs waits.
    """

    member: Member
    connections: Held = None
    arrived: asyncio.Future[Recorded] | None = None
    recorded: bool = False
    called_in: bool = False
    gave_up: bool = False
    leaving: asyncio.TimerHandle | None = None

    @property
    def arriving(self) -> bool:
        return self.arrived is not None and not self.recorded

    @property
    def is_limited(self) -> bool:
        """Whether what the host has set decides if they come in."""
        return not self.recorded and not self.member.is_host


class Presence(Rosters):
    """The people of this worker's rooms, and who is online in them on any worker; and those who wait to come in.

    `hold(room_id)` keeps a room open here; `has_waiting_room(room_id)` is whether who comes in waits for the host.
    """

    def __init__(
        self,
        pool: Pool,
        bus: Bus,
        worker_id: UUID,
        *,
        channel: Callable[[str], str],
        find_room: Callable[[str], Room | None],
        hold: Callable[[str], AbstractContextManager[None]],
        has_waiting_room: Callable[[str], bool],
    ) -> None:
        super().__init__(pool, find_room)
        self._bus = bus
        self._worker_id = worker_id
        self._channel = channel
        self._here: dict[tuple[str, str], _Here] = {}
        self.waiting = WaitingRooms(pool, worker_id, hold=hold, ended=self._ended_waiting)
        self.waiting_lists = WaitingLists(
            pool, publish=lambda room_id, news: bus.publish(channel(room_id), news), has_waiting_room=has_waiting_room
        )
        self._visits: Log[Entry, Recorded] = Log(
            lambda batch, again: record(pool, worker_id, batch, again=again),
            name="visits",
            passing=Away,
            committed=self._recorded,
            key=person_in_session,
        )
        self._heart: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        #: Departures that could not be recorded, and why each person went.
        self._unrecorded: dict[tuple[str, str], str] = {}
        self._refreshed_at = 0.0
        self._gap = False
        bus.on_gap(self._note_gap)

    async def start(self) -> None:
        await visits.renew_lease(self._pool, self._worker_id)
        self._heart = asyncio.create_task(self._beat_forever(), name="presence-heartbeat")

    async def close(self) -> None:
        """Leave on purpose: after the grace, other workers close what was open here and nobody came back to."""
        if self._heart is not None:
            self._heart.cancel()
        for task in list(self._tasks):
            task.cancel()
        self.waiting.close()
        await self._visits.close()
        try:
            await visits.end_lease(self._pool, self._worker_id, grace_seconds=GRACE_SECONDS)
        except Away as error:
            logger.warning("presence.lease_not_ended", reason=str(error))

    def connections(self, room_id: str, user_id: str) -> Sequence[Connection]:
        """The person's connections in the room on this worker."""
        here = self._here.get((room_id, user_id))
        return listed(here.connections) if here else []

    # Coming and going

    async def arrive(self, room: Room, member: Member, connection: Connection) -> None:
        """Count a connection in. The person's first one here is recorded, and announced if they were nowhere.

        Raises Forbidden when the person was kicked meanwhile, or the host lets nobody in; then their connection waits,
        if there is a waiting room. Conflict when the session is full, Unavailable when it cannot be recorded.
        """
        key = (room.id, member.user_id)
        here = self._here.get(key)
        if here is None:
            here = self._here[key] = _Here(member)
        if here.leaving is not None:
            here.leaving.cancel()
            here.leaving = None
        here.connections = added(here.connections, connection)
        while not here.recorded:
            try:
                if here.arrived is None:
                    here.arrived = self._visits.append(change_of(key, present=True, limited=not member.is_host))
                arrived = here.arrived
                outcome = await asyncio.shield(arrived)
            except (Away, Overloaded, Closed) as error:
                if self._turn_away(key, here, connection) and isinstance(error, Away):
                    self._unrecorded[key] = LEFT  # it may have been recorded all the same
                raise Unavailable("You could not be let in just now; try again.", retry_after=1) from None
            except asyncio.CancelledError:
                self.depart(room.id, connection, "disconnected")
                raise
            except Exception:
                self._turn_away(key, here, connection)
                raise
            if isinstance(outcome, TurnedAway):
                if here.called_in and here.arrived is arrived:
                    here.arrived, here.called_in = None, False
                if here.arrived is arrived or self._here.get(key) is not here:
                    self._turned_away(key, here, connection, outcome)
                    raise admission.refusal(outcome)
                continue  # once more, through the waiting room that was opened meanwhile
            assert isinstance(outcome, Outcome)
            if outcome.was_kicked:
                if self._turn_away(key, here, connection):
                    self._record_departure(key, "kicked")
                raise admission.kicked()
            here.arrived, here.recorded = None, True
            if here.gave_up:
                self._ended_waiting(member)

    def _turn_away(self, key: tuple[str, str], here: _Here, connection: Connection) -> bool:
        """Count a connection out that did not get in. Whether it was its person's last one."""
        here.connections = removed(here.connections, connection)
        if here.connections is not None or self._here.get(key) is not here:
            return False
        del self._here[key]
        if here.gave_up and not self.waiting.has(*key):
            self._ended_waiting(here.member)
        return True

    def _turned_away(self, key: tuple[str, str], here: _Here, connection: Connection, outcome: TurnedAway) -> None:
        """Count a connection out that was not let in, and have it wait if it was told to."""
        waits = outcome.verdict == "waiting"
        is_expelled = self._here.get(key) is not here
        if waits and not is_expelled and not connection.closed:
            self.waiting.add(here.member, connection)
        is_last = self._turn_away(key, here, connection)
        if waits and (is_last or is_expelled) and not self.waiting.has(*key):
            self._ended_waiting(here.member)  # nobody is left of those who were noted

    def depart(self, room_id: str, connection: Connection, reason: str) -> asyncio.Future[Recorded] | None:
        """Count a connection out. After its person's last one the person has left: at once where they said so
        (`reason` "left"), else after a grace. Answers what is done when it is recorded that they have left."""
        key = (room_id, connection.user_id)
        here = self._here.get(key)
        if here is None or not contains(here.connections, connection):
            return None
        here.connections = removed(here.connections, connection)
        if here.connections is not None:
            return None
        if reason == LEFT:
            return self._left(key, reason)
        if here.leaving is None:
            here.leaving = asyncio.get_running_loop().call_later(GRACE_SECONDS, self._left, key, reason)
        return None

    def expel(self, room_id: str, user_id: str, reason: str) -> list[Connection]:
        """Count all of a person's connections out at once, without grace; also those that wait. Answers them."""
        waited = self.waiting.take(room_id, user_id)
        here = self._here.pop((room_id, user_id), None)
        if here is None:
            return waited
        for connection in listed(here.connections):
            self.waiting_lists.lead(room_id, connection, is_host=False)
        if here.leaving is not None:
            here.leaving.cancel()
        self._record_departure((room_id, user_id), reason)
        connections, here.connections = listed(here.connections), None
        return waited + connections

    def _left(self, key: tuple[str, str], reason: str) -> asyncio.Future[Recorded] | None:
        here = self._here.get(key)
        if here is None or here.connections is not None:
            return None
        del self._here[key]
        if here.arriving:
            self._ended_waiting(here.member)  # nobody is left to hear the verdict
        return self._record_departure(key, reason)

    def _record_departure(self, key: tuple[str, str], reason: str) -> asyncio.Future[Recorded] | None:
        try:
            # In this very turn: whoever comes back in the next one is recorded after it.
            recorded = self._visits.append(change_of(key, present=False))
        except (Overloaded, Closed) as error:
            self._departure_not_recorded(key, reason, error)
            return None
        self._spawn(self._announce_departure(key, recorded, reason))
        return recorded

    async def _announce_departure(self, key: tuple[str, str], recorded: asyncio.Future[Recorded], reason: str) -> None:
        try:
            outcome = await recorded
        except Exception as error:  # noqa: BLE001  # whatever it is, the person must not stay online for ever
            self._departure_not_recorded(key, reason, error)
            return
        assert isinstance(outcome, Outcome)
        if outcome.turned and not outcome.online:
            self._announce(outcome, reason=reason)

    def _departure_not_recorded(self, key: tuple[str, str], reason: str, error: Exception) -> None:
        # The visit stays open until a heartbeat, the end of this worker's lease, or the person's next departure.
        logger.warning("presence.departure_not_recorded", reason=str(error))
        self._unrecorded[key] = reason

    def _record_departures_again(self) -> None:
        departures, self._unrecorded = self._unrecorded, {}
        for key, reason in departures.items():
            if key not in self._here:
                self._record_departure(key, reason)

    # Those who wait to come in

    def _ended_waiting(self, member: Member) -> None:
        here = self._here.get((str(member.session_id), member.user_id))
        if here is not None and here.arriving:
            here.gave_up = True  # the verdict says whether they wait still
            return
        try:
            self._visits.append(GaveUp(member))
        except (Overloaded, Closed) as error:
            # Their row stays until this worker's lease ends, or the host looks at them.
            logger.warning("presence.waiting_not_ended", reason=str(error))

    def call_in(self, room_id: str, user_ids: Iterable[str]) -> list[Connection]:
        """The host lets these people in, or turns them away: they wait here no longer. Answers their connections."""
        connections = []
        for user_id in user_ids:
            connections += self.waiting.take(room_id, user_id)
            here = self._here.get((room_id, user_id))
            if here is not None and here.arriving:
                here.called_in = True
        return connections

    def call_everybody_in(self, room_id: str) -> None:
        """There is no waiting room any more: whoever waits here is told to come in."""
        arriving = [user_id for (room, user_id), here in self._here.items() if room == room_id and here.arriving]
        for user_id in arriving:
            self._here[room_id, user_id].gave_up = True  # nobody else ends their waiting, if they are told to wait
        tell(self.call_in(room_id, {*self.waiting.people(room_id), *arriving}), room_id, "admitted")

    # The news

    def _recorded(self, change: Entry, outcome: Recorded) -> None:
        if isinstance(change, GaveUp):
            if outcome:
                self.waiting_lists.tell(change.member, waiting=False)
        elif isinstance(outcome, TurnedAway):
            here = self._here.get((str(change.session_id), change.user_id))
            if outcome.verdict == "waiting" and outcome.is_new and here is not None:
                self.waiting_lists.tell(here.member, waiting=True)
        elif isinstance(outcome, Outcome) and change.present and outcome.turned and not outcome.was_kicked:
            self._announce(outcome, reason=None)

    def _announce(self, outcome: Outcome, *, reason: str | None) -> None:
        room_id = str(outcome.session_id)
        here = self._here.get((room_id, outcome.user_id))
        if outcome.online and here is None:
            return  # gone again already
        self._bus.publish(self._channel(room_id), news_of(outcome, here.member if here else None, reason))

    # Keeping right

    def _note_gap(self) -> None:
        self._gap = True

    async def refresh(self, rooms: Iterable[Room], *, bus_connected: bool) -> None:
        """Compare the rosters with the database after a gap of the bus, and while it is away."""
        now = asyncio.get_running_loop().time()
        if not self._gap and (bus_connected or now - self._refreshed_at < REFRESH_SECONDS):
            return
        self._gap, self._refreshed_at = False, now
        ids = [UUID(room.id) for room in rooms]
        if not ids:
            return
        try:
            await self.compare(ids)
        except Exception:
            self._gap = True  # it is still to be made up for
            raise

    async def _beat_forever(self) -> None:
        lost = False
        clock = asyncio.get_running_loop().time
        renewed_at = back_since = clock()
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            try:
                if not await visits.renew_lease(self._pool, self._worker_id):
                    lost = True
                if clock() - renewed_at > OUTAGE_SECONDS:
                    back_since = clock()
                renewed_at = clock()
                if lost:
                    await self._record_everybody_again()
                    lost = False
                self._record_departures_again()
                if clock() - back_since > visits.LEASE_SECONDS:
                    for outcome in await visits.close_expired(self._pool):
                        self._announce(outcome, reason="timeout")
                # Between two renewals: a lost lease is known of before any of its rows is missed.
                await self._compare_waiting()
            except Away as error:
                logger.info("presence.heartbeat_waits", reason=str(error))
            except Exception:
                logger.exception("presence.heartbeat_failed")

    async def _record_everybody_again(self) -> None:
        """This worker was believed dead, and its people were closed out: they are here, though."""
        logger.warning("presence.lease_was_lost", people=len(self._here))
        keys = list(self._here)
        for start in range(0, len(keys), MAX_BATCH_ENTRIES):
            # Who leaves meanwhile stays gone; who is on the way in is judged as they come.
            batch = [key for key in keys[start : start + MAX_BATCH_ENTRIES] if key in self._here]
            changes = [change_of(key, present=True, limited=self._here[key].is_limited) for key in batch]
            await asyncio.gather(*map(self._visits.append, changes))
        await self.waiting.keep()

    async def _compare_waiting(self) -> None:
        """Make up for lost news of the waiting rooms, on both sides. Costs nothing where there are none."""
        try:
            async with asyncio.timeout(COMPARE_SECONDS):
                await self.waiting.compare()
                await self.waiting_lists.compare()
        except TimeoutError:
            logger.warning("presence.waiting_not_compared")

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
