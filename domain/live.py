"""The live side of sessions on this worker: the hub's rooms joined with the log, presence and typing.

Both doors act through one :class:`Live`. Whatever has a `seq` is committed first and published after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import structlog

from domain import session_settings
from domain.access import unknown_session
from domain.audience import Audience
from domain.events import Posted, event, message_event, posted, renew
from domain.hands import Hands
from domain.presence import Presence
from domain.reactions import Reactions
from domain.recorder import Recorder
from domain.signals import SIGNAL, Signals
from domain.typing import Typing
from domain.visits import PRESENCE
from domain.waiting import VERDICTS
from domain.waiting_lists import WAITING
from domain.whiteboard_rooms import WhiteboardRooms
from domain.whiteboards import Whiteboards
from realtime.bus import Bus
from realtime.connection import Connection
from realtime.events import Event
from realtime.frames import event_frame
from realtime.hub import Hub, Room
from realtime.log import Log
from store import events, messages, participants, sessions
from store.chat_rules import NotTaken
from store.database import Pool
from store.errors import Away
from store.events import LogEntry
from store.messages import NewMessage
from store.participants import ReadMark
from store.session_settings import Settings
from store.sessions import Standing, Status

#: Missed events that a rejoin answers with; above it the client starts anew with the newest ones.
RESUME_EVENTS: Final = 500
#: Events that a client starts anew with.
RESET_EVENTS: Final = 200
#: Bytes of the one or the other; half of what may be unsent by default.
RESUME_BYTES: Final = 512 * 1024
#: Seconds between two looks at everybody's memberships while the bus does not tell of changes.
LOOK_SECONDS: Final = 1.0
#: What one message weighs beside its text, in bytes, for the bound of a batch.
MESSAGE_OVERHEAD_BYTES: Final = 200

logger = structlog.get_logger(__name__)


class Live:
    """What both doors share. `pool` is the database; `hub` the rooms here; `presence` and `typing` their people;
    `whiteboards` what these draw, and `whiteboard_rooms` what the rooms have been shown of it; `audience` everybody's
    connections here, whatever rooms they are in.

    `removed(connection, room_id)` is called for each connection that is taken out of a room; while the bus is away, and
    would not tell of people, `no_news()` every LOOK_SECONDS; `more_to_tell()` when a notification was stored for more
    people than are told at once. `session_ended()` is called when that was committed on this worker,
    `people_to_tell()` when something was that providers of meetings are to be told, and
    `participant_removed(session_id, user_id)` for who was found to belong no more.
    """

    def __init__(self, pool: Pool, bus: Bus, worker_id: UUID) -> None:
        self.pool = pool
        self.bus = bus
        self._standings: dict[str, Standing] = {}
        self.hub = Hub(
            bus,
            _LogSource(pool, self._standings),
            encode=event_frame,
            channel=session_channel,
            opened=self._opened,
            closed=self._closed,
            polled=self._polled,
            passing=Away,
        )
        self.presence = Presence(
            pool,
            bus,
            worker_id,
            channel=session_channel,
            find_room=self.hub.find,
            hold=self.hub.held,
            has_waiting_room=lambda room_id: (
                (standing := self._standings.get(room_id)) is not None and standing.settings.waiting_room
            ),
        )
        self.audience = Audience(bus, heard=self._people_heard)
        self.typing = Typing(self.tell)
        self.reactions = Reactions(pool, publish=self.publish)
        self.hands = Hands(pool, publish=self.publish)
        self.signals = Signals(pool, rosters=self.presence, tell=self.tell)
        self.whiteboard_rooms = WhiteboardRooms(pool, bus, channel=session_channel, find_room=self.hub.find)
        self.whiteboards = Whiteboards(pool, self.whiteboard_rooms, publish=self.publish)
        self.messages: Log[NewMessage, Posted] = Log(
            self._write_messages,
            name="messages",
            passing=Away,
            committed=self._message_committed,
            key=lambda new: new.session_id,
            size=lambda new: MESSAGE_OVERHEAD_BYTES + 4 * len(new.text),
        )
        self.marks: Log[ReadMark, bool] = Log(
            lambda batch, again: participants.mark_read(pool, batch),
            name="read-marks",
            passing=Away,
            committed=self._mark_committed,
            key=lambda mark: (mark.session_id, mark.user_id),
        )
        self.removed: Callable[[Connection, str], None] = lambda connection, room_id: None
        self.no_news: Callable[[], None] = lambda: None
        self.more_to_tell: Callable[[], None] = lambda: None
        self.session_ended: Callable[[], None] = lambda: None
        self.participant_removed: Callable[[UUID, str], None] = lambda session_id, user_id: None
        self.people_to_tell: Callable[[], None] = lambda: None
        self.recorder = Recorder()
        self._looked_at = 0.0

    async def start(self) -> None:
        await self.audience.start()
        await self.presence.start()
        self.hub.start()

    async def close(self) -> None:
        """Write what is under way, and leave."""
        await self.messages.close()
        await self.marks.close()
        await self.reactions.close()
        await self.hands.close()
        await self.whiteboards.close()
        await self.whiteboard_rooms.close()
        await self.presence.close()
        await self.hub.close()

    # Publishing

    def publish(self, entries: Iterable[LogEntry]) -> None:
        """Show committed entries of sessions' logs to everyone in them, on every worker."""
        for entry in entries:
            self.tell(str(entry.session_id), event(entry))
            if entry.kind == "recording_state":
                self.recorder.wake()

    def tell(self, room_id: str, news: Event) -> None:
        """Publish an event to one session."""
        self.bus.publish(session_channel(room_id), news)

    # Coming back

    async def missed(self, room: Room, seq: int) -> tuple[list[Event], bool]:
        """What a client that saw up to `seq` has missed, up to what this room has been told; and whether it must
        start anew, because it missed too much or was ahead of the log.

        It weighs RESUME_BYTES at most: more would be cut as unsent, each time that the client comes back for it. The
        answer belongs to the present turn of the loop: enter the room before the next await.
        """
        missed, reset = await self._missed(room, seq)
        room_left = RESUME_BYTES
        for place in range(len(missed) - 1, -1, -1):
            room_left -= len(missed[place].json)
            if room_left < 0:
                return missed[place + 1 :], True
        return missed, reset

    async def _missed(self, room: Room, seq: int) -> tuple[list[Event], bool]:
        if seq > room.last_seq:
            await self.hub.catch_up(room)  # seen through another worker, which was told earlier
        reset = False
        while (at_hand := room.since(seq)) is None:
            if reset or not 0 <= room.last_seq - seq <= RESUME_EVENTS:
                reset = True
                entries = await events.newest(self.pool, UUID(room.id), before=room.last_seq + 1, limit=RESET_EVENTS)
            else:
                entries = await events.first_after(self.pool, UUID(room.id), seq, limit=RESUME_EVENTS)
            read = [event(entry) for entry in entries]
            told = [one for one in read if (one.seq or 0) <= room.last_seq]
            newer = room.since((told[-1].seq or 0) if told else 0)
            if newer is not None:
                return told + newer, reset
        return at_hand, reset

    # What the rooms see

    def status(self, room: Room) -> Status:
        """The session's status, as of the room's `last_seq`."""
        return self._standings[room.id].status

    def settings(self, room: Room) -> Settings:
        """What the session's host has set, as of the room's `last_seq`."""
        return self._standings[room.id].settings

    def pinned_message(self, room: Room) -> UUID | None:
        """The id of the message that is pinned, as of the room's `last_seq`."""
        return self._standings[room.id].pinned_message_id

    def recording(self, room: Room) -> UUID | None:
        """The id of the recording that runs, as of the room's `last_seq`."""
        return self._standings[room.id].recording_id

    async def _opened(self, room: Room) -> None:
        await self.presence.open(room)
        await self.whiteboard_rooms.open(room)
        room.observe = lambda news: self._observe(room, news)

    def _closed(self, room: Room) -> None:
        self.presence.forget(room)
        self.whiteboard_rooms.forget(room)
        self.signals.forget(room.id)
        self._standings.pop(room.id, None)

    async def _polled(self) -> None:
        self.whiteboard_rooms.look(bus_connected=self.bus.connected)
        await self.presence.refresh(self.hub.rooms, bus_connected=self.bus.connected)
        now = asyncio.get_running_loop().time()
        if not self.bus.connected and now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            self.no_news()

    def _observe(self, room: Room, news: Event) -> bool:
        if news.name == "newMessage":
            return True
        if news.name == "whiteboard":
            self.whiteboard_rooms.hear(room, news)
            return False
        data = news.data
        if news.name == PRESENCE:
            self.presence.hear(room, data)
            return False
        if news.name == WAITING:
            self.presence.waiting_lists.hear(room.id, news)
            return False
        if news.name == SIGNAL:
            self.signals.hear(room, self.presence.connections(room.id, data["to"]), data)
            return False
        if news.name == "typing":
            room.show(news, but=data["userId"])
            return False
        if news.name in ("messageEdited", "messageDeleted", "messageReaction"):
            renew(room.tail, news)
        elif news.name == "permissionsChanged":
            permissions = {name: data[name] for name in ("micAllowed", "cameraAllowed")}
            self.presence.change(room, data["userId"], **permissions)
        elif news.name in ("meetingMoved", "meetingEnded"):
            self.signals.forget(room.id)
        elif news.name == "sessionStatus":
            self._note(room, status=data["status"])
            self.signals.forget(room.id)
        elif news.name == "sessionSettings":
            settings = session_settings.from_document(data)
            self._note(room, settings=settings)
            if not settings.waiting_room:
                self.presence.call_everybody_in(room.id)
        elif news.name == "messagePinned":
            self._note(room, pinned_message_id=None if data["id"] is None else UUID(data["id"]))
        elif news.name == "recordingState":
            self._note_recording(room, UUID(data["recording_id"]), runs=data["state"] == "recording")
        elif news.name == "read":
            self.presence.change(room, data["userId"], readSeq=data["seq"])
        elif news.name == "handRaised":
            self.presence.change(room, data["userId"], handRaised=data["raised"])
        elif news.name == "whiteboardCleared":
            self.whiteboard_rooms.hear_cleared(room, data["revision"])
        elif news.name == "participantKicked":
            # In the next turn: the person is told what happened, and then is out.
            asyncio.get_running_loop().call_soon(self.remove, room.id, data["userId"], "kicked")
        return True

    def _people_heard(self, user_ids: Sequence[str], news: Event) -> None:
        if news.name in VERDICTS:
            self.presence.call_in(news.data["session_id"], user_ids)

    def _note_recording(self, room: Room, recording_id: UUID, *, runs: bool) -> None:
        # An earlier one may become ready while another runs.
        if runs or self.recording(room) == recording_id:
            self._note(room, recording_id=recording_id if runs else None)

    def _note(self, room: Room, **news: Any) -> None:
        self._standings[room.id] = replace(self._standings[room.id], **news)

    def remove(self, room_id: str, user_id: str, reason: str) -> None:
        """Take all of a person's connections on this worker out of a room."""
        room = self.hub.find(room_id)
        for connection in self.presence.expel(room_id, user_id, reason):
            if room is not None:
                self.hub.leave(room, connection)
            self.removed(connection, room_id)
        self.typing.stop(room_id, user_id)

    async def _write_messages(self, batch: Sequence[NewMessage], again: bool) -> Sequence[Posted | NotTaken]:
        outcomes = await messages.append(self.pool, batch, again=again)
        return [outcome if isinstance(outcome, NotTaken) else posted(outcome) for outcome in outcomes]

    def _message_committed(self, new: NewMessage, post: Posted) -> None:
        if not post.repeated:
            self.tell(str(new.session_id), message_event(post))

    def _mark_committed(self, mark: ReadMark, moved: bool) -> None:
        if moved:
            data: dict[str, Any] = {
                "userId": mark.user_id,
                "seq": mark.seq,
                "session_id": str(mark.session_id),
            }
            self.tell(str(mark.session_id), Event(name="read", data=data))


def session_channel(session_id: str) -> str:
    return f"session-{session_id}"


class _LogSource:
    """The sessions' logs, as the hub reads them. `standings` are kept as of the position at which each room opens."""

    def __init__(self, pool: Pool, standings: dict[str, Standing]) -> None:
        self._pool = pool
        self._standings = standings

    async def position(self, room_id: str) -> int:
        standing = await sessions.standing(self._pool, UUID(room_id))
        if standing is None:
            raise unknown_session()
        self._standings[room_id] = standing
        return standing.last_seq

    async def positions(self, room_ids: Sequence[str]) -> dict[str, int]:
        found = await events.positions(self._pool, [UUID(room_id) for room_id in room_ids])
        return {str(session_id): seq for session_id, seq in found.items()}

    async def events_after(self, room_id: str, seq: int, limit: int) -> list[Event]:
        entries = await events.first_after(self._pool, UUID(room_id), seq, limit=limit)
        return [event(entry) for entry in entries]
