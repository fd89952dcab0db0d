"""The waiting rooms of this worker: who waits through it to be let in. Hosts are shown them by `domain.waiting_lists`.

The rows lie in the database (`store.waiters`); here are the connections that go with them. Whoever waits is in no room:
they are sent nothing of the session. While somebody waits, the room is kept open, so that its news is heard. What the
host decides is told over the bus, which may lose it: so those who wait are compared with their rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from domain.access import Member, session_ref
from domain.connections import Held, added, listed, removed
from realtime.connection import Connection
from realtime.events import Event
from realtime.frames import event_frame
from realtime.log import MAX_BATCH_ENTRIES
from store import waiters
from store.database import Pool
from store.waiters import Settlement

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
    """`hold(room_id)` keeps a session's room open here, and `ended(member)` is called when somebody no longer waits on
    this worker."""

    def __init__(
        self,
        pool: Pool,
        worker_id: UUID,
        *,
        hold: Callable[[str], AbstractContextManager[None]],
        ended: Callable[[Member], None],
    ) -> None:
        self._pool = pool
        self._worker_id = worker_id
        self._hold = hold
        self._ended = ended
        self._rooms: dict[str, _WaitingRoom] = {}
        self._of_connection: dict[Connection, set[str]] = {}

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

    # Keeping right

    async def compare(self) -> None:
        """Tell those whom a host let in or turned away, and who did not hear of it.

        Only while this worker holds its lease, and is sure of that: rows are gone with a lost one, too.
        """
        for waiting in self._batches():
            for session_id, user_id, settlement in await waiters.settled(self._pool, self._worker_id, list(waiting)):
                if self._waiter(session_id, user_id) is waiting[session_id, user_id]:
                    room_id = str(session_id)
                    tell(self.take(room_id, user_id), room_id, settlement)

    async def keep(self) -> None:
        """Note everybody again: their rows went with this worker's lease."""
        for waiting in self._batches():
            await waiters.keep(self._pool, self._worker_id, list(waiting))
            for (session_id, user_id), waiter in waiting.items():
                if self._waiter(session_id, user_id) is None:
                    self._ended(waiter.member)  # they gave up meanwhile

    def _batches(self) -> Iterator[dict[tuple[UUID, str], _Waiter]]:
        """Those who wait at this moment, so many at a time."""
        everybody = self.everybody()
        for start in range(0, len(everybody), MAX_BATCH_ENTRIES):
            some = [(key, self._waiter(*key)) for key in everybody[start : start + MAX_BATCH_ENTRIES]]
            yield {key: waiter for key, waiter in some if waiter is not None}

    def _waiter(self, session_id: UUID, user_id: str) -> _Waiter | None:
        room = self._rooms.get(str(session_id))
        return room.people.get(user_id) if room is not None else None


def tell(connections: Iterable[Connection], room_id: str, settlement: Settlement) -> None:
    """Tell connections that waited to come in, or that they were turned away."""
    frame = event_frame(Event(name=settlement, data={"session_id": room_id}))
    for connection in connections:
        connection.send(frame)
