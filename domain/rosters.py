"""Who is online in the rooms of this worker, on whichever worker they are.

Every worker keeps a roster of each room that is open there, so that joining asks the database nothing about the others.
Versions make the roster right whatever order the news arrives in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.identity import full_name
from realtime.events import Event
from realtime.hub import Room
from store import participants
from store.database import Pool
from store.participants import Participant

#: Why a person is gone who said so, or of whom nothing else is known.
LEFT: Final = "left"
#: People in the ack of a join, some 170 bytes each: 85 KiB, where a class of ten thousand would take 1.7 MiB. That is
#: more than may wait unsent, and everybody who joins by polling would be cut.
PARTICIPANTS_IN_ACK: Final = 500


@dataclass(slots=True)
class Roster:
    """Who is online in one room, each as encoded for the ack, and the version of what is known of each person.

    `raised`: those of them who have raised a hand, in the order in which they did.
    """

    online: dict[str, bytes] = field(default_factory=dict)
    raised: dict[str, None] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)


class Rosters:
    """`find_room(room_id)` is the room, if it is open on this worker."""

    def __init__(self, pool: Pool, find_room: Callable[[str], Room | None]) -> None:
        self._pool = pool
        self._find_room = find_room
        self._rosters: dict[str, Roster] = {}

    async def open(self, room: Room) -> None:
        """Load the roster of a room that opens on this worker."""
        roster = self._rosters[room.id] = Roster()
        for participant in await participants.of_room(self._pool, UUID(room.id)):
            roster.versions[participant.user_id] = participant.presence_version
            if participant.online:
                _put(roster, participant.user_id, _person_of(participant))

    def forget(self, room: Room) -> None:
        self._rosters.pop(room.id, None)

    def participants(self, room_id: str, first: Iterable[str] = ()) -> msgspec.Raw:
        """Who is online, as `participants` of an ack: a JSON array, in the order in which they came.

        Of more than :data:`PARTICIPANTS_IN_ACK` so many: those of `first` who are there, then those who have raised a
        hand, then who came first.
        """
        roster = self._rosters.get(room_id) or Roster()
        shown: Iterable[str] = roster.online
        if len(roster.online) > PARTICIPANTS_IN_ACK:
            ahead = dict.fromkeys(chain((user_id for user_id in first if user_id in roster.online), roster.raised))
            others = (user_id for user_id in roster.online if user_id not in ahead)
            shown = islice(chain(ahead, others), PARTICIPANTS_IN_ACK)
        return msgspec.Raw(b"[%b]" % b",".join([roster.online[user_id] for user_id in shown]))

    def count(self, room_id: str) -> int:
        """How many are online."""
        roster = self._rosters.get(room_id)
        return len(roster.online) if roster else 0

    def person(self, room_id: str, user_id: str) -> dict[str, Any] | None:
        """One of them."""
        roster = self._rosters.get(room_id)
        encoded = roster.online.get(user_id) if roster else None
        return None if encoded is None else _decode(encoded)

    def online(self, room_id: str) -> list[dict[str, Any]]:
        """All of them."""
        roster = self._rosters.get(room_id)
        return [_decode(person) for person in roster.online.values()] if roster else []

    async def compare(self, session_ids: Sequence[UUID]) -> None:
        """Compare rosters with the database."""
        for session_id, joined in (await participants.of_sessions(self._pool, session_ids)).items():
            room = self._find_room(str(session_id))
            for participant in joined if room is not None else ():
                assert room is not None
                self._apply(
                    room,
                    participant.user_id,
                    participant.online,
                    participant.presence_version,
                    _person_of(participant) if participant.online else None,
                    None,
                )

    def hear(self, room: Room, news: dict[str, Any]) -> None:
        """Take news of a person, from this worker or another, and show what changed by it."""
        self._apply(room, news["userId"], news["online"], news["version"], news.get("person"), news.get("reason"))

    def change(self, room: Room, user_id: str, **changed: Any) -> None:
        """Keep a roster's line up with an event of the log."""
        roster = self._rosters.get(room.id)
        if roster is not None and user_id in roster.online:
            _put(roster, user_id, _decode(roster.online[user_id]) | changed)

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
            _put(roster, user_id, document)
            if known is None:
                room.show(Event(name="participantJoined", data=document | {"session_id": room.id}))
        elif not online and known is not None:
            del roster.online[user_id]
            roster.raised.pop(user_id, None)
            gone = {"userId": user_id, "reason": reason or LEFT, "session_id": room.id}
            room.show(Event(name="participantLeft", data=gone))


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


def _put(roster: Roster, user_id: str, person: dict[str, Any]) -> None:
    roster.online[user_id] = _encode(person)
    if person.get("handRaised"):
        roster.raised[user_id] = None
    else:
        roster.raised.pop(user_id, None)


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
