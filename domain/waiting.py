"""The waiting rooms of this worker: who waits through it to be let in, and which hosts here are told of it.

The rows lie in the database (`store.waiters`); here are the connections that go with them. Whoever waits is in no room:
they are sent nothing of the session. While somebody waits, the room is kept open, so that its news is heard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from domain.access import Member, session_ref
from domain.connections import Held, added, listed, removed
from realtime.events import Event
from realtime.frames import Frame, event_frame
from realtime.transport import Connection
from store import waiters
from store.database import Pool

#: People whom a host is shown as they join; those who have waited longest. More are heard of as these are let in.
MAX_LISTED: Final = 1_000

#: The event by which hosts are told, and by which workers tell each other.
WAITING: Final = "waiting"
#: The events by which people are told what the host decided.
VERDICTS: Final = frozenset({"admitted", "refused"})


@dataclass(slots=True)
class _Waiter:
    member: Member
    connections: Held = None


@dataclass(slots=True)
class _WaitingRoom:
    """The people who wait for one session here. `hold` keeps the room open."""

    hold: ExitStack
    people: dict[str, _Waiter] = field(default_factory=dict)


class WaitingRooms:
    """`publish(room_id, event)` tells a session on every worker, `hold(room_id)` keeps its room open here, and
    `ended(member)` is called when somebody no longer waits on this worker."""

    def __init__(
        self,
        *,
        publish: Callable[[str, Event], None],
        hold: Callable[[str], AbstractContextManager[None]],
        ended: Callable[[Member], None],
    ) -> None:
        self._publish = publish
        self._hold = hold
        self._ended = ended
        self._rooms: dict[str, _WaitingRoom] = {}
        self._of_connection: dict[Connection, set[str]] = {}
        self._hosts: dict[str, Held] = {}
        #: What hosts on their way in are told right behind the ack.
        self._held_back: dict[tuple[str, Connection], list[Frame]] = {}

    # Those who wait

    def add(self, member: Member, connection: Connection) -> None:
        """Have a connection wait; its person was told to. The room must be open."""
        room_id = str(member.session_id)
        room = self._rooms.get(room_id)
        if room is None:
            hold = ExitStack()
            hold.enter_context(self._hold(room_id))
            room = self._rooms[room_id] = _WaitingRoom(hold)
        waiter = room.people.setdefault(member.user_id, _Waiter(member))
        waiter.connections = added(waiter.connections, connection)
        self._of_connection.setdefault(connection, set()).add(room_id)

    def has(self, room_id: str, user_id: str) -> bool:
        """Whether somebody waits through this worker."""
        room = self._rooms.get(room_id)
        return room is not None and user_id in room.people

    def of(self, connection: Connection) -> Sequence[str]:
        """The sessions that a connection waits for."""
        return list(self._of_connection.get(connection, ()))

    def find(self, connection: Connection, ref: str) -> str | None:
        """The session that a connection waits for, by its id or room name. Raises NotFound for what can be neither."""
        waited = self.of(connection)
        name = str(session_ref(ref)) if waited else ref
        for room_id in waited:
            member = self._rooms[room_id].people[connection.user_id].member
            if name in (room_id, member.room_name):
                return room_id
        return None

    def people(self, room_id: str) -> Sequence[str]:
        """Those who wait for one session here."""
        room = self._rooms.get(room_id)
        return list(room.people) if room is not None else []

    def everybody(self) -> list[tuple[UUID, str]]:
        """Everybody who waits through this worker, by session and person."""
        return [(UUID(room_id), user_id) for room_id, room in self._rooms.items() for user_id in room.people]

    def depart(self, connection: Connection, room_id: str) -> None:
        """A connection waits no longer: it is gone, gave up, or came in. With its last one its person does not."""
        of_connection = self._of_connection.get(connection)
        if of_connection is None or room_id not in of_connection:
            return
        self._forget(connection, room_id)
        waiter = self._rooms[room_id].people[connection.user_id]
        waiter.connections = removed(waiter.connections, connection)
        if waiter.connections is None:
            self._end(room_id, connection.user_id)

    def take(self, room_id: str, user_id: str) -> list[Connection]:
        """End somebody's waiting here. Answers their connections that did."""
        room = self._rooms.get(room_id)
        if room is None or user_id not in room.people:
            return []
        connections = listed(room.people[user_id].connections)
        for connection in connections:
            self._forget(connection, room_id)
        self._end(room_id, user_id)
        return connections

    def close(self) -> None:
        """Let go of the rooms. Those who wait are noted in the database until this worker's lease ends."""
        for room in self._rooms.values():
            room.hold.close()

    def _forget(self, connection: Connection, room_id: str) -> None:
        of_connection = self._of_connection[connection]
        of_connection.discard(room_id)
        if not of_connection:
            del self._of_connection[connection]

    def _end(self, room_id: str, user_id: str) -> None:
        room = self._rooms[room_id]
        waiter = room.people.pop(user_id)
        if not room.people:
            del self._rooms[room_id]
            room.hold.close()
        self._ended(waiter.member)

    # The hosts

    def lead(self, room_id: str, connection: Connection, *, is_host: bool = True) -> None:
        """Tell a host's connection of those who wait from now on; or no longer, who is none any more."""
        hosts = self._hosts.pop(room_id, None)
        hosts = added(hosts, connection) if is_host else removed(hosts, connection)
        if hosts is not None:
            self._hosts[room_id] = hosts
        if not is_host:
            self._held_back.pop((room_id, connection), None)

    def hold_back(self, room_id: str, connection: Connection) -> None:
        """As :meth:`lead`, for a host on their way in: they are told nothing until :meth:`release`."""
        self.lead(room_id, connection)
        self._held_back.setdefault((room_id, connection), [])

    def release(self, room_id: str, connection: Connection) -> None:
        """Tell a host who has come in what was held back."""
        for frame in self._held_back.pop((room_id, connection), ()):
            connection.send(frame)

    def tell(self, member: Member, *, waiting: bool) -> None:
        """Tell hosts on every worker that somebody waits, or no longer does."""
        self.tell_of(str(member.session_id), member.user_id, member.name, member.role, waiting=waiting)

    def tell_of(self, room_id: str, user_id: str, name: str, role: str, *, waiting: bool) -> None:
        data: dict[str, Any] = {
            "session_id": room_id,
            "userId": user_id,
            "name": name,
            "role": role,
            "waiting": waiting,
        }
        self._publish(room_id, Event(name="waiting", data=data))

    def hear(self, room_id: str, news: Event) -> None:
        """Show hosts here what a worker tells of those who wait."""
        hosts = listed(self._hosts.get(room_id))
        frame = event_frame(news) if hosts else None
        for connection in hosts:
            assert frame is not None
            held_back = self._held_back.get((room_id, connection))
            if held_back is None:
                connection.send(frame)
            else:
                held_back.append(frame)


def called(connections: Iterable[Connection], room_id: str) -> None:
    """Tell connections that waited to come in."""
    frame = event_frame(Event(name="admitted", data={"session_id": room_id}))
    for connection in connections:
        connection.send(frame)


async def listing(pool: Pool, session_id: UUID) -> list[dict[str, Any]]:
    """Who waits, as a host's ack shows them: `{userId, name, role, since}`, whoever has waited longest first."""
    return [
        {"userId": waiter.user_id, "name": waiter.name, "role": waiter.role, "since": waiter.since}
        for waiter in await waiters.of_session(pool, session_id, limit=MAX_LISTED)
    ]
