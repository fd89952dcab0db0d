"""The hosts of this worker, and what they are shown of those who wait to be let in (`domain.waiting`).

Hosts are shown a list as they join, and then what changes. That news is a hint: it may be lost with the bus, or with
the worker that had it to tell. So what they were shown is compared with the database while there is a waiting room, or
while they still believe that somebody waits; a session without one costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

from domain.access import Member
from domain.connections import Held, added, contains, listed, removed
from realtime.connection import Connection
from realtime.events import Event
from realtime.frames import Frame, event_frame
from store import waiters
from store.database import Pool
from store.waiters import Waiter

#: People whom a host is shown at a time; those who have waited longest. More are heard of as these are let in. While as
#: many wait, a lost word of one who waits no longer is not made up for.
MAX_LISTED: Final = 1_000
#: Sessions that are compared in one statement, which answers with up to MAX_LISTED people of each.
SESSIONS_AT_A_TIME: Final = 100

#: The event by which hosts are told, and by which workers tell each other.
WAITING: Final = "waiting"


class WaitingLists:
    """`publish(room_id, event)` tells a session on every worker; `has_waiting_room(room_id)` is whether its host has
    switched one on."""

    def __init__(
        self, pool: Pool, *, publish: Callable[[str, Event], None], has_waiting_room: Callable[[str], bool]
    ) -> None:
        self._pool = pool
        self._publish = publish
        self._has_waiting_room = has_waiting_room
        self._hosts: dict[str, Held] = {}
        #: Who waits, as far as the hosts here were shown: what they were told last of each.
        self._shown: dict[str, dict[str, dict[str, Any]]] = {}
        #: What hosts on their way in are told right behind the ack.
        self._held_back: dict[tuple[str, Connection], list[Frame]] = {}
        #: For each look at the database that is under way, of whom there was news meanwhile.
        self._looks: list[set[tuple[str, str]]] = []

    # The hosts

    def lead(self, room_id: str, connection: Connection, *, is_host: bool = True) -> None:
        """Tell a host's connection of those who wait from now on; or no longer, who is none any more."""
        hosts = self._hosts.pop(room_id, None)
        if is_host and not contains(hosts, connection):
            for data in self._shown.get(room_id, {}).values():
                connection.send(event_frame(Event(name=WAITING, data=data)))
        hosts = added(hosts, connection) if is_host else removed(hosts, connection)
        if hosts is not None:
            self._hosts[room_id] = hosts
        else:
            self._shown.pop(room_id, None)
        if not is_host:
            self._held_back.pop((room_id, connection), None)

    def hold_back(self, room_id: str, connection: Connection) -> None:
        """As :meth:`lead`, for a host on their way in: their ack has the list, and they are told nothing else until
        :meth:`release`."""
        self._hosts[room_id] = added(self._hosts.get(room_id), connection)
        self._held_back.setdefault((room_id, connection), [])

    def release(self, room_id: str, connection: Connection) -> None:
        """Tell a host who is in what was held back."""
        for frame in self._held_back.pop((room_id, connection), ()):
            connection.send(frame)

    async def list_for(self, room_id: str, connection: Connection) -> list[dict[str, Any]]:
        """Who waits, as a host's ack shows them: `{userId, name, role, since}`, whoever has waited longest first."""
        with self._looking() as heard_of:
            found = await waiters.of_session(self._pool, UUID(room_id), limit=MAX_LISTED)
            self._compared(room_id, found, heard_of, but=connection)
        return [
            {"userId": waiter.user_id, "name": waiter.name, "role": waiter.role, "since": waiter.since}
            for waiter in found
        ]

    # The news

    def tell(self, member: Member, *, waiting: bool) -> None:
        """Tell hosts on every worker that somebody waits, or no longer does."""
        self.tell_of(str(member.session_id), member.user_id, member.name, member.role, waiting=waiting)

    def tell_of(self, room_id: str, user_id: str, name: str, role: str, *, waiting: bool) -> None:
        data = _news_of(room_id, user_id, name, role, waiting=waiting)
        self._publish(room_id, Event(name=WAITING, data=data))

    def hear(self, room_id: str, news: Event) -> None:
        """Show hosts here what a worker tells of those who wait."""
        if room_id in self._hosts:
            data = news.data
            for heard_of in self._looks:
                heard_of.add((room_id, data["userId"]))
            self._show(room_id, data, news)

    def _show(self, room_id: str, data: dict[str, Any], news: Event, *, but: Connection | None = None) -> None:
        shown = self._shown.pop(room_id, {})
        if data["waiting"]:
            shown[data["userId"]] = data
        else:
            shown.pop(data["userId"], None)
        if shown:
            self._shown[room_id] = shown
        frame = event_frame(news)
        for connection in listed(self._hosts[room_id]):
            if connection is but:
                continue
            held_back = self._held_back.get((room_id, connection))
            if held_back is None:
                connection.send(frame)
            else:
                held_back.append(frame)

    # Keeping right

    async def compare(self) -> None:
        """Show the hosts here what they missed of those who wait, by the database."""
        room_ids = [room_id for room_id in self._hosts if room_id in self._shown or self._has_waiting_room(room_id)]
        for start in range(0, len(room_ids), SESSIONS_AT_A_TIME):
            some = room_ids[start : start + SESSIONS_AT_A_TIME]
            with self._looking() as heard_of:
                found = await waiters.of_sessions(self._pool, [UUID(room_id) for room_id in some], limit=MAX_LISTED)
                for room_id in some:
                    self._compared(room_id, found[UUID(room_id)], heard_of)

    @contextmanager
    def _looking(self) -> Iterator[set[tuple[str, str]]]:
        """Collects of whom there is news meanwhile: it may be newer than what the database answers."""
        heard_of: set[tuple[str, str]] = set()
        self._looks.append(heard_of)
        try:
            yield heard_of
        finally:
            # By identity: two looks that heard of nobody are equal.
            self._looks = [look for look in self._looks if look is not heard_of]

    def _compared(
        self,
        room_id: str,
        found: Sequence[Waiter],
        heard_of: set[tuple[str, str]],
        *,
        but: Connection | None = None,
    ) -> None:
        """Show the hosts, but the one who is given the list itself, how it differs from what they were shown."""
        if room_id not in self._hosts:
            return
        shown = self._shown.get(room_id, {})
        differs = [
            _news_of(room_id, waiter.user_id, waiter.name, waiter.role, waiting=True)
            for waiter in found
            if waiter.user_id not in shown
        ]
        if len(found) < MAX_LISTED:
            waiting = {waiter.user_id for waiter in found}
            differs += [data | {"waiting": False} for user_id, data in shown.items() if user_id not in waiting]
        for data in differs:
            if (room_id, data["userId"]) not in heard_of:
                self._show(room_id, data, Event(name=WAITING, data=data), but=but)


def _news_of(room_id: str, user_id: str, name: str, role: str, *, waiting: bool) -> dict[str, Any]:
    return {"session_id": room_id, "userId": user_id, "name": name, "role": role, "waiting": waiting}
