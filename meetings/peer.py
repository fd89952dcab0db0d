"""`peer`: browsers connect to each other, and to nothing outside (a WebRTC mesh).

There is no service to ask: a room is its name, who is in it is what the session's room says, and whoever is taken out
of that gets no more signals. The host's browser records.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, Protocol

from meetings import ice
from meetings.external_ids import external_id
from meetings.ice import IceServer
from meetings.provider import (
    Ability,
    Attendee,
    Pass,
    Person,
    Provider,
    Room,
    RoomSpec,
    WithoutRecording,
)

NAME: Final = "peer"
#: A relay asks for the credentials again and again: they outlast the lesson.
PASS_SECONDS: Final = 12 * 60 * 60
#: In a mesh everybody sends to everybody: a home's uplink carries five copies of a camera, and not many more.
MAX_PEOPLE: Final = 6


class Options(Protocol):
    """The settings that this provider reads."""

    @property
    def ice_servers(self) -> tuple[IceServer, ...]: ...


def problem(options: Options) -> str | None:
    """What is missing; nothing is needed."""
    return None


@asynccontextmanager
async def opened(options: Options) -> AsyncIterator[Provider]:
    yield Peer(options.ice_servers)


class Peer(WithoutRecording):
    """The provider. `ice_servers`: how the browsers find each other, and relays for those who cannot."""

    name = NAME
    #: Both are done by the session's own room: its events, and signals that no longer come.
    abilities: frozenset[Ability] = frozenset({"eject", "permit"})
    places = MAX_PEOPLE
    makes_ahead = False
    pass_seconds = PASS_SECONDS
    permit_again_seconds = ()

    def __init__(self, ice_servers: Sequence[IceServer]) -> None:
        self._ice_servers = tuple(ice_servers)

    async def make_room(self, spec: RoomSpec) -> Room:
        return Room(provider=NAME, id=spec.name, name=spec.name, data={"maxPeople": MAX_PEOPLE})

    async def delete_room(self, room: Room) -> None:
        return None

    async def unmake_room(self, name: str) -> None:
        return None

    async def admit(self, room: Room, person: Person, *, expires_at: datetime) -> Pass:
        person_id = external_id(person.user_id)
        servers = ice.for_person(self._ice_servers, person_id, expires_at)
        return Pass(
            provider=NAME,
            token=None,
            url=None,
            expires_at=expires_at,
            person_id=person_id,
            data={"iceServers": servers, "maxPeople": MAX_PEOPLE},
        )

    async def attendee(self, room: Room, person: Person, *, expires_at: datetime) -> Attendee:
        admitted = await self.admit(room, person, expires_at=expires_at)
        return Attendee(id=admitted.person_id, data=admitted.data)

    async def eject(self, room: Room, user_id: str, *, ejected: int = 0) -> None:
        return None

    async def permit(self, room: Room, person: Person) -> None:
        return None
