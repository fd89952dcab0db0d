"""Who is here. Per person, not per tab; over all workers; and right again after one of them died.

Each worker records its own people in the database (`store.visits`) and tells the others over the bus what came
of it. Every worker keeps a roster of each room that is open there, so that joining asks the database nothing
about the others. Versions make the roster right whatever order the news arrives in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from domain.access import Member
from domain.connections import Held, added, contains, listed, removed
from domain.errors import Forbidden, Unavailable
from domain.identity import full_name
from realtime.bus import Bus
from realtime.events import Event
from realtime.hub import Room
from realtime.log import MAX_BATCH_ENTRIES, Closed, Log, Overloaded
from realtime.transport import Connection
from store import participants, visits
from store.database import Pool
from store.errors import Away
from store.participants import Participant
from store.visits import Change, Outcome

#: Seconds after the last connection of a person went until the others are told: a reload is silent.
GRACE_SECONDS: Final = 5.0
#: Why a person is gone who said so.
LEFT: Final = "left"
#: Seconds between two renewals of this worker's lease, and two looks for workers whose lease ran out.
HEARTBEAT_SECONDS: Final = visits.LEASE_SECONDS / 3
#: Seconds without a renewal after which the database was away, for everybody: every lease has run out with it. For as
#: long as a lease nobody is believed dead then.
OUTAGE_SECONDS: Final = 2 * HEARTBEAT_SECONDS
#: Seconds between two comparisons of the rosters with the database while the bus is away.
REFRESH_SECONDS: Final = 2.0

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class Roster:
    """Who is online in one room, each as encoded for the ack, and the version of what is known of each person."""

    online: dict[str, bytes] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Here:
    """One person's connections in one room on this worker. `arrived`: their arrival, while it is being recorded."""

    member: Member
    connections: Held = None
    arrived: asyncio.Future[Outcome] | None = None
    recorded: bool = False
    leaving: asyncio.TimerHandle | None = None


class Presence:
    """The people of this worker's rooms, and who is online in them on any worker."""

    def __init__(
        self,
        pool: Pool,
        bus: Bus,
        worker_id: UUID,
        *,
        channel: Callable[[str], str],
        find_room: Callable[[str], Room | None],
    ) -> None:
        self._pool = pool
        self._bus = bus
        self._worker_id = worker_id
        self._channel = channel
        self._find_room = find_room
        self._rosters: dict[str, Roster] = {}
        self._here: dict[tuple[str, str], _Here] = {}
        self._visits: Log[Change, Outcome] = Log(
            self._record,
            name="visits",
            passing=Away,
            committed=self._recorded,
            key=lambda change: (change.session_id, change.user_id),
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
        await self._visits.close()
        try:
            await visits.end_lease(self._pool, self._worker_id, grace_seconds=GRACE_SECONDS)
        except Away as error:
            logger.warning("presence.lease_not_ended", reason=str(error))

    # Rooms

    async def open(self, room: Room) -> None:
        """Load the roster of a room that opens on this worker."""
        roster = self._rosters[room.id] = Roster()
        for participant in await participants.of_room(self._pool, UUID(room.id)):
            roster.versions[participant.user_id] = participant.presence_version
            if participant.online:
                roster.online[participant.user_id] = _encode(_person_of(participant))

    def forget(self, room: Room) -> None:
        self._rosters.pop(room.id, None)

    def participants(self, room_id: str) -> msgspec.Raw:
        """Who is online, as `participants` of an ack: a JSON array."""
        roster = self._rosters.get(room_id)
        return msgspec.Raw(b"[%b]" % b",".join(roster.online.values() if roster else ()))

    def person(self, room_id: str, user_id: str) -> dict[str, Any] | None:
        """One of them."""
        roster = self._rosters.get(room_id)
        encoded = roster.online.get(user_id) if roster else None
        return None if encoded is None else _decode(encoded)

    def online(self, room_id: str) -> list[dict[str, Any]]:
        """All of them."""
        roster = self._rosters.get(room_id)
        return [_decode(person) for person in roster.online.values()] if roster else []

    def connections(self, room_id: str, user_id: str) -> Sequence[Connection]:
        """The person's connections in the room on this worker."""
        here = self._here.get((room_id, user_id))
        return listed(here.connections) if here else []

    # Coming and going

    async def arrive(self, room: Room, member: Member, connection: Connection) -> None:
        """Count a connection in. The person's first one here is recorded, and announced if they were nowhere.

        Raises Forbidden when the person was kicked meanwhile, Unavailable when it cannot be recorded.
        """
        key = (room.id, member.user_id)
        here = self._here.get(key)
        if here is None:
            here = self._here[key] = _Here(member)
        if here.leaving is not None:
            here.leaving.cancel()
            here.leaving = None
        here.connections = added(here.connections, connection)
        if here.recorded:
            return
        try:
            if here.arrived is None:
                here.arrived = self._visits.append(_change(key, present=True))
            outcome = await asyncio.shield(here.arrived)
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
        if outcome.was_kicked:
            if self._turn_away(key, here, connection):
                self._record_departure(key, "kicked")
            raise Forbidden("You were removed from this session by its host.", code="kicked")
        here.arrived, here.recorded = None, True

    def _turn_away(self, key: tuple[str, str], here: _Here, connection: Connection) -> bool:
        """Count a connection out that did not get in. Whether it was its person's last one."""
        here.connections = removed(here.connections, connection)
        if here.connections is not None or self._here.get(key) is not here:
            return False
        del self._here[key]
        return True

    def depart(self, room_id: str, connection: Connection, reason: str) -> None:
        """Count a connection out. After its person's last one the person has left: at once where they said so
        (`reason` "left"), else after a grace."""
        key = (room_id, connection.user_id)
        here = self._here.get(key)
        if here is None or not contains(here.connections, connection):
            return
        here.connections = removed(here.connections, connection)
        if here.connections is not None:
            return
        if reason == LEFT:
            self._left(key, reason)
        elif here.leaving is None:
            here.leaving = asyncio.get_running_loop().call_later(GRACE_SECONDS, self._left, key, reason)

    def expel(self, room_id: str, user_id: str, reason: str) -> list[Connection]:
        """Count all of a person's connections out at once, without grace. Answers them."""
        here = self._here.pop((room_id, user_id), None)
        if here is None:
            return []
        if here.leaving is not None:
            here.leaving.cancel()
        self._record_departure((room_id, user_id), reason)
        connections, here.connections = listed(here.connections), None
        return connections

    def _left(self, key: tuple[str, str], reason: str) -> None:
        here = self._here.get(key)
        if here is not None and here.connections is None:
            del self._here[key]
            self._record_departure(key, reason)

    def _record_departure(self, key: tuple[str, str], reason: str) -> None:
        try:
            # In this very turn: whoever comes back in the next one is recorded after it.
            recorded = self._visits.append(_change(key, present=False))
        except (Overloaded, Closed) as error:
            self._departure_not_recorded(key, reason, error)
        else:
            self._spawn(self._announce_departure(key, recorded, reason))

    async def _announce_departure(self, key: tuple[str, str], recorded: asyncio.Future[Outcome], reason: str) -> None:
        try:
            outcome = await recorded
        except Exception as error:  # noqa: BLE001  # whatever it is, the person must not stay online for ever
            self._departure_not_recorded(key, reason, error)
            return
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

    async def _record(self, batch: Sequence[Change], again: bool) -> Sequence[Outcome | Exception]:
        outcomes = await visits.record(self._pool, self._worker_id, batch)
        # A try whose answer was lost may have done the turning; telling it twice does no harm.
        return [replace(one, turned=True) if again and isinstance(one, Outcome) else one for one in outcomes]

    # The news

    def _recorded(self, change: Change, outcome: Outcome) -> None:
        if change.present and outcome.turned and not outcome.was_kicked:
            self._announce(outcome, reason=None)

    def _announce(self, outcome: Outcome, *, reason: str | None) -> None:
        room_id = str(outcome.session_id)
        news: dict[str, Any] = {
            "userId": outcome.user_id,
            "online": outcome.online,
            "version": outcome.version,
        }
        if outcome.online:
            here = self._here.get((room_id, outcome.user_id))
            if here is None:
                return  # gone again already
            news["person"] = msgspec.to_builtins(
                {
                    "userId": outcome.user_id,
                    "name": here.member.name,
                    "role": here.member.role,
                    "micAllowed": outcome.mic_allowed,
                    "cameraAllowed": outcome.camera_allowed,
                    "handRaised": outcome.hand_raised,
                    "readSeq": outcome.read_seq,
                    "joinedAt": outcome.joined_at,
                }
            )
        else:
            news["reason"] = reason
        self._bus.publish(self._channel(room_id), Event(name=PRESENCE, data=news))

    def hear(self, room: Room, news: dict[str, Any]) -> None:
        """Take news of a person, from this worker or another, and show what changed by it."""
        self._apply(room, news["userId"], news["online"], news["version"], news.get("person"), news.get("reason"))

    def change(self, room: Room, user_id: str, **changed: Any) -> None:
        """Keep a roster's line up with an event of the log."""
        roster = self._rosters.get(room.id)
        if roster is not None and user_id in roster.online:
            roster.online[user_id] = _encode(_decode(roster.online[user_id]) | changed)

    def _apply(
        self,
        room: Room,
        user_id: str,
        online: bool,
        version: int,
        document: dict[str, Any] | None,
        reason: str | None,
    ) -> None:
        roster = self._rosters.get(room.id)
        if roster is None or version < roster.versions.get(user_id, 0):
            return
        roster.versions[user_id] = version
        known = roster.online.get(user_id)
        if online and document is not None:
            roster.online[user_id] = _encode(document)
            if known is None:
                room.show(Event(name="participantJoined", data=document | {"session_id": room.id}))
        elif not online and known is not None:
            del roster.online[user_id]
            gone = {"userId": user_id, "reason": reason or LEFT, "session_id": room.id}
            room.show(Event(name="participantLeft", data=gone))

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
        for session_id, joined in (await participants.of_sessions(self._pool, ids)).items():
            room = self._find_room(str(session_id))
            for participant in joined if room is not None else ():
                assert room is not None
                self._apply(
                    room,
                    participant.user_id,
                    participant.online,
                    participant.presence_version,
                    _person_of(participant) if participant.online else None,
                    LEFT,
                )

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
            except Away as error:
                logger.info("presence.heartbeat_waits", reason=str(error))
            except Exception:
                logger.exception("presence.heartbeat_failed")

    async def _record_everybody_again(self) -> None:
        """This worker was believed dead, and its people were closed out: they are here, though."""
        logger.warning("presence.lease_was_lost", people=len(self._here))
        keys = list(self._here)
        for start in range(0, len(keys), MAX_BATCH_ENTRIES):
            # Who leaves meanwhile stays gone.
            batch = [key for key in keys[start : start + MAX_BATCH_ENTRIES] if key in self._here]
            await asyncio.gather(*(self._visits.append(_change(key, present=True)) for key in batch))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


#: The event by which workers tell each other of people; clients see `participantJoined` and `participantLeft`.
PRESENCE: Final = "presence"

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


def _change(key: tuple[str, str], *, present: bool) -> Change:
    room_id, user_id = key
    return Change(session_id=UUID(room_id), user_id=user_id, present=present)


def _person_of(participant: Participant) -> dict[str, Any]:
    document = {
        "userId": participant.user_id,
        "name": full_name(participant.first_name, participant.last_name) or participant.user_id,
        "role": participant.role,
        "micAllowed": participant.mic_allowed,
        "cameraAllowed": participant.camera_allowed,
        "handRaised": participant.hand_raised,
        "readSeq": participant.read_seq,
        "joinedAt": participant.joined_at,
    }
    return dict(msgspec.to_builtins(document))
