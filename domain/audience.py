"""Everybody who has a connection, whatever sessions they are in: how workers tell them what concerns them.

People's connections are known to the worker that holds them. What is told goes over one channel to all workers, and
nothing of it is stored: who has no connection then does not learn of it here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from domain.connections import Held, added, listed, removed
from realtime.bus import Bus
from realtime.connection import Connection
from realtime.events import Event
from realtime.frames import Frame, event_frame

PERSON_CHANGED: Final = "personChanged"
#: Where workers tell each other of people. One channel for everybody: people change seldom, and come often; a
#: channel for each would be a subscription with every connection.
PEOPLE_CHANNEL: Final = "people"


class Audience:
    """The people with connections on this worker. `heard(user_ids, news)` is called when people were told something, on
    every worker; `person_news(user_id)` when the name or memberships of somebody here may have changed.
    """

    def __init__(self, bus: Bus, *, heard: Callable[[Sequence[str], Event], None]) -> None:
        self.person_news: Callable[[str], None] = lambda user_id: None
        self._bus = bus
        self._heard = heard
        self._people: dict[str, Held] = {}

    async def start(self) -> None:
        """Hear what other workers tell."""
        await self._bus.subscribe(PEOPLE_CHANNEL, self._hear)

    # Telling

    def changed(self, user_ids: Iterable[str]) -> None:
        """Have every worker look again at these people's names and memberships."""
        for user_id in user_ids:
            self._bus.publish(PEOPLE_CHANNEL, Event(name=PERSON_CHANGED, data={"userId": user_id}))

    def tell(self, user_ids: Sequence[str], news: Event) -> None:
        """Show something to these people's connections on every worker, whatever sessions they are in. Best effort.

        One message of the bus for all of them, one frame on each worker.
        """
        addressed = _ToPeople(user_ids=user_ids, data=news.json)
        self._bus.publish(PEOPLE_CHANNEL, Event(name=news.name, data=msgspec.Raw(_encode(addressed))))

    def _hear(self, news: Event) -> None:
        if news.name == PERSON_CHANGED:
            user_id = news.data["userId"]
            if user_id in self._people:
                self.person_news(user_id)
            return
        addressed = _decode(news.json)
        told = Event(name=news.name, data=addressed.data)
        frame: Frame | None = None
        for user_id in addressed.user_ids:
            for connection in self.connections_of(user_id):
                if frame is None:
                    frame = event_frame(told)
                connection.send(frame)
        self._heard(addressed.user_ids, told)

    # Connections on this worker

    def attend(self, connection: Connection) -> None:
        """Note a person's connection: it is told of what concerns them."""
        user_id = connection.user_id
        self._people[user_id] = added(self._people.get(user_id), connection)

    def dismiss(self, connection: Connection) -> None:
        held = removed(self._people.pop(connection.user_id, None), connection)
        if held is not None:
            self._people[connection.user_id] = held

    def connections_of(self, user_id: str) -> Sequence[Connection]:
        """The person's connections on this worker."""
        return listed(self._people.get(user_id))

    def everybody(self) -> Sequence[str]:
        """Everybody with a connection on this worker."""
        return list(self._people)


class _ToPeople(msgspec.Struct, frozen=True):
    """What some people are told, as workers tell each other of it; none on the way reads the data."""

    user_ids: Sequence[str]
    data: msgspec.Raw


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_ToPeople).decode
