"""python-socketio's table of connections and rooms, with every look-up, join, leave and disconnect in constant time.

The stock manager keeps two dictionaries and a room of its own for each connection, and a disconnect looks into every
room there is. Here a connection's own room is understood, and the rooms of a connection are noted with it.

What is relied on: the methods of ``BaseManager`` that ``AsyncManager`` and ``AsyncServer`` call, and the shape of
``rooms`` that its Admin UI reads (`tests/realtime/test_manager.py` fails if a new version changes it).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import socketio
from engineio import packet as engine_packet
from socketio import packet as socket_packet


class Manager(socketio.AsyncManager):  # type: ignore[misc]  # python-socketio has no types
    """Connections by namespace: their `sid` there, and the `eio_sid` of the transport below."""

    rooms: dict[str, dict[str | None, dict[str, str]]]
    pending_connect: dict[str, set[str]]
    pending_disconnect: dict[str, set[str]]

    def __init__(self) -> None:
        super().__init__()
        self._sids: dict[str, dict[str, str]] = {}
        self._rooms_of: dict[str, dict[str, set[str]]] = {}

    # Connections

    def basic_pre_connect(self, eio_sid: str, namespace: str) -> str | None:
        sids = self._sids.setdefault(namespace, {})
        if eio_sid in sids:
            return None
        sid = str(self.server.eio.generate_id())
        sids[eio_sid] = sid
        self.rooms.setdefault(namespace, {None: {}})[None][sid] = eio_sid
        self.pending_connect.setdefault(namespace, set()).add(sid)
        return sid

    async def pre_connect(self, eio_sid: str, namespace: str) -> str | None:
        """Give a connection its sid in a namespace. None: it has one."""
        return self.basic_pre_connect(eio_sid, namespace)

    async def connect(self, sid: str, namespace: str) -> str | None:
        """The connection was let in."""
        if not self.is_pre_connected(sid, namespace):
            return self.basic_pre_connect(sid, namespace)
        self.pending_connect[namespace].discard(sid)
        return sid

    def is_pre_connected(self, sid: str, namespace: str) -> bool:
        return sid in self.pending_connect.get(namespace, ())

    def is_connected(self, sid: str, namespace: str) -> bool:
        return (
            sid in self.rooms.get(namespace, {}).get(None, ())
            and sid not in self.pending_connect.get(namespace, ())
            and sid not in self.pending_disconnect.get(namespace, ())
        )

    def sid_from_eio_sid(self, eio_sid: str, namespace: str) -> str | None:
        return self._sids.get(namespace, {}).get(eio_sid)

    def eio_sid_from_sid(self, sid: str, namespace: str) -> str | None:
        return self.rooms.get(namespace, {}).get(None, {}).get(sid)

    def pre_disconnect(self, sid: str, namespace: str) -> str | None:
        """Its handlers are about to be told. It is still listed, but not connected."""
        self.pending_disconnect.setdefault(namespace, set()).add(sid)
        return self.eio_sid_from_sid(sid, namespace)

    def basic_disconnect(self, sid: str, namespace: str, **_: Any) -> None:
        rooms = self.rooms.get(namespace)
        if rooms is None:
            return
        for room in self._rooms_of.get(namespace, {}).pop(sid, ()):
            self._take_out(sid, rooms, room)
        eio_sid = rooms[None].pop(sid, None)
        if eio_sid is not None:
            del self._sids[namespace][eio_sid]
        self.callbacks.pop(sid, None)
        self.pending_connect.get(namespace, set()).discard(sid)
        self.pending_disconnect.get(namespace, set()).discard(sid)
        if not rooms[None]:
            for table in (self.rooms, self._sids, self._rooms_of, self.pending_connect, self.pending_disconnect):
                table.pop(namespace, None)

    # Rooms

    def get_participants(self, namespace: str, room: Any) -> Iterator[tuple[str, str]]:
        """The sids in a room, in any of a list of rooms, or (None) in the namespace, each with its `eio_sid`."""
        rooms = self.rooms.get(namespace, {})
        everybody = rooms.get(None, {})
        found: dict[str, str] = {}
        for one in room if isinstance(room, list | tuple) else [room]:
            if one in everybody:
                found[one] = everybody[one]
            else:
                found.update(rooms.get(one, {}))
        yield from found.items()

    def is_sid_room(self, namespace: str, room: str | None) -> bool:
        return room in self.rooms.get(namespace, {}).get(None, {})

    def basic_enter_room(self, sid: str, namespace: str, room: str, eio_sid: str | None = None) -> None:
        """Raises ValueError for who is not connected, and for another connection's own room."""
        rooms = self.rooms.get(namespace, {})
        if sid not in rooms.get(None, ()):
            raise ValueError("sid is not connected to requested namespace")
        if sid != room and self.is_sid_room(namespace, room):
            raise ValueError("cannot enter a sid room")
        if sid != room:
            rooms.setdefault(room, {})[sid] = rooms[None][sid]
            self._rooms_of.setdefault(namespace, {}).setdefault(sid, set()).add(room)

    def basic_leave_room(self, sid: str, namespace: str, room: str) -> None:
        entered = self._rooms_of.get(namespace, {}).get(sid, set())
        if room in entered:
            entered.discard(room)
            self._take_out(sid, self.rooms[namespace], room)

    def _take_out(self, sid: str, rooms: dict[str | None, dict[str, str]], room: str) -> None:
        del rooms[room][sid]
        if not rooms[room]:
            del rooms[room]

    def get_rooms(self, sid: str, namespace: str) -> list[str]:
        own = [sid] if self.is_sid_room(namespace, sid) else []
        return own + list(self._rooms_of.get(namespace, {}).get(sid, ()))

    # Sending

    async def emit(
        self,
        event: str,
        data: Any,
        namespace: str,
        room: Any = None,
        skip_sid: Any = None,
        callback: Any = None,
        to: Any = None,
        **kwargs: Any,
    ) -> None:
        """Send an event to a room, or to everybody: encoded once, and without a task per recipient."""
        if callback is not None:
            await super().emit(event, data, namespace, room, skip_sid, callback, to, **kwargs)
            return
        arguments = list(data) if isinstance(data, tuple) else [] if data is None else [data]
        packet = self.server.packet_class(socket_packet.EVENT, namespace=namespace, data=[event, *arguments])
        encoded = packet.encode()
        skipped = skip_sid if isinstance(skip_sid, list) else [skip_sid]
        message = engine_packet.Packet(engine_packet.MESSAGE, encoded)
        for sid, eio_sid in self.get_participants(namespace, to or room):
            if sid not in skipped:
                await self.server._send_eio_packet(eio_sid, message)
