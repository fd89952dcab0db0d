"""The real-time door: the `/encounters` namespace of Socket.IO (contract-realtime).

Each event: is its payload sound, who sends it, may they; then one act of the domain, and the ack.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import structlog

from domain import access, chat, moderation, sessions
from domain.access import Member
from domain.errors import (
    BadRequest,
    EncountersError,
    Forbidden,
    NotFound,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    invalid,
)
from domain.events import Posted, message_document
from domain.identity import Identity
from domain.live import Live
from domain.moderation import ParticipantChange
from domain.people import People
from domain.presence import LEFT
from domain.tokens import Verifier
from handlers.encounter_events import (
    DeleteMessage,
    EditMessage,
    InSession,
    JoinSession,
    Kick,
    MarkRead,
    RaiseHand,
    RefreshAuth,
    SendMessage,
    SetPermissions,
    SetTyping,
)
from handlers.payloads import decode
from realtime.deadlines import Deadlines
from realtime.events import Event
from realtime.frames import event_frame
from realtime.hub import Room
from realtime.limits import Limits
from realtime.log import Closed, Overloaded
from realtime.transport import Answer, Connection, Pending, Refusal, Reply
from store.errors import Away
from store.participants import ReadMark

#: Seconds before its token expires at which a connection is told.
EXPIRY_NOTICE_SECONDS: Final = 60.0
#: Connections whose memberships are looked up together: as many as one statement answers for.
LOOKS_AT_A_TIME: Final = 500
#: Seconds until a look that the database could not answer is tried again.
LOOK_PAUSE_SECONDS: Final = 0.25
#: Sessions that one connection may have joined at a time.
MAX_JOINED_SESSIONS: Final = 50

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class Attendee:
    """What this door knows of a connection: whose it is, and what it has joined (by session id).

    `news` counts what was heard of its person: who is on the way in meanwhile is looked up again.
    """

    identity: Identity
    joined: dict[str, Member] = field(default_factory=dict)
    news: int = 0

    def member(self, ref: str) -> Member:
        """Oneself in a session that was joined, by id or room name. Raises Forbidden."""
        member = self.joined.get(ref) or self.joined.get(str(access.session_ref(ref)))
        if member is None:
            member = next((one for one in self.joined.values() if one.room_name == ref), None)
        if member is None:
            raise Forbidden("Join this session first.", code="not_joined")
        return member


class Encounters:
    """Handles the connections of this worker. One instance per worker; see :class:`realtime.transport.Handler`."""

    #: Messages that a person sends one right after the other may share a batch: the log keeps their order.
    pipelined = frozenset({"sendMessage"})

    def __init__(self, live: Live, verifier: Verifier, people: People, limits: Limits) -> None:
        self._live = live
        self._verifier = verifier
        self._people = people
        self._limits = limits
        self._deadlines = Deadlines()
        # Bound once, for all connections.
        self._warn: Final = self._expiring
        self._cut: Final = self._expired
        self._tasks: set[asyncio.Task[None]] = set()
        live.removed = self._removed
        live.person_news = lambda user_id: self._spawn(self._look_again(user_id))
        live.bus.on_gap(self._look_at_everybody)
        live.no_news = self._look_at_everybody
        self._events: dict[str, tuple[type[Any], Callable[[Connection, Any], Answer]]] = {
            "joinSession": (JoinSession, self._join_session),
            "leaveSession": (InSession, self._leave_session),
            "sendMessage": (SendMessage, self._send_message),
            "editMessage": (EditMessage, self._edit_message),
            "deleteMessage": (DeleteMessage, self._delete_message),
            "typing": (SetTyping, self._typing),
            "markRead": (MarkRead, self._mark_read),
            "raiseHand": (RaiseHand, self._raise_hand),
            "setPermissions": (SetPermissions, self._set_permissions),
            "kick": (Kick, self._kick),
            "endSession": (InSession, self._end_session),
            "refreshAuth": (RefreshAuth, self._refresh_auth),
        }

    # Connections

    async def connected(self, connection: Connection, token: str | None, environ: dict[str, Any]) -> None:
        """Authenticate a connection, and count it to its person. Raises Refusal."""
        try:
            identity = await self._identify(token)
            most = self._limits.connections_per_user
            if 0 < most <= len(self._live.connections_of(identity.user_id)):
                raise TooManyRequests(
                    f"You have {most} connections open already.", code="too_many_connections", retry_after=5
                )
        except EncountersError as error:
            raise Refusal(error.document()) from error
        connection.user_id = identity.user_id
        connection.state = Attendee(identity)
        self._live.attend(connection)
        self._watch_expiry(connection, identity)

    async def _identify(self, token: str | None) -> Identity:
        if not token:
            raise Unauthenticated("Connect with auth: {token: '<JWT>'}.", code="token_missing")
        identity = await self._verifier.verify(token)
        try:
            await self._people.remember(identity)
        except Away:
            raise _away() from None
        return identity

    async def disconnected(self, connection: Connection, reason: str) -> None:
        self._deadlines.drop(connection)
        attendee: Attendee = connection.state
        for session_id in list(attendee.joined):
            self._let_go(connection, session_id, "disconnected")
        self._live.dismiss(connection)

    async def close(self) -> None:
        self._deadlines.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Events

    def received(self, connection: Connection, name: str, payload: list[Any]) -> Answer:
        """Act on one event. Whatever goes wrong is said in the ack, and the connection stays."""
        try:
            known = self._events.get(name)
            if known is None:
                raise NotFound(f"There is no event called {name[:64]!r}.", code="unknown_event")
            type_, act = known
            if len(payload) != 1:
                raise BadRequest("An event carries one JSON object.", code="validation_failed")
            answer = act(connection, decode(type_, payload[0]))
        except Exception as error:  # noqa: BLE001  # it is said in the ack
            return _refusal(error, name)
        return _answered(answer, name) if isinstance(answer, Coroutine) else answer

    def refused(self, status_code: int, code: str, message: str) -> dict[str, Any]:
        """The ack of an event that was not acted on."""
        return {"ok": False, "error": {"error": code, "message": message, "status_code": status_code}}

    async def _join_session(self, connection: Connection, request: JoinSession) -> Reply:
        if request.last_seq is not None and not 0 <= request.last_seq < 2**63:
            raise invalid({"last_seq": "must be the last seq that was seen"})
        live, attendee = self._live, _attendee(connection)
        ref = access.session_ref(request.session_id)
        news = attendee.news
        session, member = await access.enter(live.pool, ref, attendee.identity)
        room_id = str(session.id)
        if room_id not in attendee.joined and len(attendee.joined) >= MAX_JOINED_SESSIONS:
            raise TooManyRequests(f"A connection joins at most {MAX_JOINED_SESSIONS} sessions.", retry_after=1)
        room = await live.hub.open(room_id)
        room_id = room.id  # one string for everybody in it
        with live.hub.held(room_id):
            await live.presence.arrive(room, member, connection)
            try:
                while True:
                    # The last to be awaited: what comes afterwards is for those who are in the room.
                    missed, reset = await self._missed(connection, room, request.last_seq)
                    if news == attendee.news:
                        break
                    news = attendee.news
                    session, member = await access.enter(live.pool, ref, attendee.identity)
            except BaseException:
                if room_id not in attendee.joined:
                    live.presence.depart(room_id, connection, "disconnected")
                raise
        # From here to the ack and the entry behind it nothing is awaited: the room stands still.
        room.flush()  # who is in it already gets what came before first
        answer: dict[str, Any] = {
            "ok": True,
            "session": sessions.realtime_document(session, live.status(room)),
            "participants": live.presence.participants(room_id),
            "you": (live.presence.person(room_id, member.user_id) or _entry(member)) | {"is_host": member.is_host},
            "lastSeq": room.last_seq,
        }
        if request.last_seq is not None:
            answer["events"] = [{"event": event.name, "data": event.json} for event in missed]
            if reset:
                answer["reset"] = True

        def enter() -> None:
            if connection.closed:
                live.presence.depart(room_id, connection, "disconnected")
            elif connection in live.presence.connections(room_id, member.user_id):
                attendee.joined[room_id] = member
                live.hub.enter(room, connection)
            else:
                self._removed(connection, room_id)  # kicked between the two

        return Reply(answer, then=enter)

    async def _missed(self, connection: Connection, room: Room, last_seq: int | None) -> tuple[list[Event], bool]:
        """What the ack of a join brings: nothing for who is in the room, and has been sent it all."""
        if last_seq is None or connection in room.members:
            return [], False
        return await self._live.missed(room, last_seq)

    def _leave_session(self, connection: Connection, request: InSession) -> Reply:
        member = _attendee(connection).member(request.session_id)
        self._let_go(connection, str(member.session_id), LEFT)
        return _done()

    def _send_message(self, connection: Connection, request: SendMessage) -> Answer:
        member = _attendee(connection).member(request.session_id)
        sending = chat.begin_send(self._live, member, text=request.text, client_id=request.client_id)
        return Pending(sending, partial(self._sent, member))

    def _sent(self, member: Member, sending: asyncio.Future[Posted]) -> Reply:
        try:
            post = chat.sent(sending)
        except Exception as error:  # noqa: BLE001  # it is said in the ack
            return _refusal(error, "sendMessage")
        self._live.typing.stop(str(member.session_id), member.user_id)
        return _done(message=post.json)

    async def _edit_message(self, connection: Connection, request: EditMessage) -> Reply:
        member = _attendee(connection).member(request.session_id)
        message = await chat.edit(self._live, member, request.id, text=request.text)
        return _done(message=message_document(message))

    async def _delete_message(self, connection: Connection, request: DeleteMessage) -> Reply:
        member = _attendee(connection).member(request.session_id)
        message = await chat.delete(self._live, member, request.id)
        return _done(message=message_document(message))

    def _typing(self, connection: Connection, request: SetTyping) -> Reply:
        self._live.typing.set(_attendee(connection).member(request.session_id), typing=request.typing)
        return _done()

    def _mark_read(self, connection: Connection, request: MarkRead) -> Answer:
        member = _attendee(connection).member(request.session_id)
        chat.check_read_seq(request.seq)
        room = self._live.hub.find(str(member.session_id))
        seq = min(request.seq, room.last_seq) if room else request.seq
        mark = ReadMark(session_id=member.session_id, user_id=member.user_id, seq=seq)
        return Pending(self._live.marks.append(mark), _marked)

    async def _raise_hand(self, connection: Connection, request: RaiseHand) -> Reply:
        member = _attendee(connection).member(request.session_id)
        await moderation.raise_hand(self._live, member, raised=request.raised)
        return _done()

    async def _set_permissions(self, connection: Connection, request: SetPermissions) -> Reply:
        member = _attendee(connection).member(request.session_id)
        change = ParticipantChange(mic_allowed=request.mic_allowed, camera_allowed=request.camera_allowed)
        await moderation.change_participant(self._live, member, request.user_id, change)
        return _done()

    async def _kick(self, connection: Connection, request: Kick) -> Reply:
        member = _attendee(connection).member(request.session_id)
        change = ParticipantChange(was_kicked=True)
        await moderation.change_participant(self._live, member, request.user_id, change)
        return _done()

    async def _end_session(self, connection: Connection, request: InSession) -> Reply:
        member = _attendee(connection).member(request.session_id)
        await sessions.move(self._live, member, "ended")
        return _done()

    async def _refresh_auth(self, connection: Connection, request: RefreshAuth) -> Reply:
        identity = await self._identify(request.token)
        attendee = _attendee(connection)
        if identity.user_id != attendee.identity.user_id:
            raise Forbidden("The new token is somebody else's.", code="other_person")
        role_changed = any(member.role != identity.role for member in attendee.joined.values())
        attendee.identity = identity
        if role_changed:
            await self._check_memberships(connection)
        self._watch_expiry(connection, identity)
        expires_at = identity.expires_at
        return _done(expires_at=None if expires_at is None else _instant(expires_at))

    # Leaving, and being made to

    def _let_go(self, connection: Connection, session_id: str, reason: str) -> None:
        attendee = _attendee(connection)
        member = attendee.joined.pop(session_id, None)
        room = self._live.hub.find(session_id)
        if room is not None:
            self._live.hub.leave(room, connection)
        self._live.presence.depart(session_id, connection, reason)
        if member is not None and not self._live.presence.connections(session_id, member.user_id):
            self._live.typing.stop(session_id, member.user_id)

    def _removed(self, connection: Connection, session_id: str) -> None:
        _attendee(connection).joined.pop(session_id, None)
        data = {"sessionId": session_id, "session_id": session_id}
        connection.send(event_frame(Event(name="kicked", data=data)))

    def _look_at_everybody(self) -> None:
        """News of people may have been lost with the bus."""
        self._spawn(self._look_again(*self._live.everybody()))

    async def _look_again(self, *user_ids: str) -> None:
        """Something about these people has changed: their names, or what they belong to."""
        connections = [connection for user_id in user_ids for connection in self._live.connections_of(user_id)]
        for connection in connections:
            _attendee(connection).news += 1
        for start in range(0, len(connections), LOOKS_AT_A_TIME):
            some = connections[start : start + LOOKS_AT_A_TIME]
            await asyncio.gather(*(self._look_at(connection) for connection in some), return_exceptions=True)

    async def _look_at(self, connection: Connection) -> None:
        looked = False
        while not looked and not connection.closed:
            try:
                await self._check_memberships(connection)
                looked = True
            except Away as error:
                logger.info("encounters.look_waits", reason=str(error))
                await asyncio.sleep(LOOK_PAUSE_SECONDS)

    async def _check_memberships(self, connection: Connection) -> None:
        attendee = _attendee(connection)
        for session_id in list(attendee.joined):
            try:
                ref = access.session_ref(session_id)
                _, member = await access.enter(self._live.pool, ref, attendee.identity)
            except (Forbidden, NotFound):
                self._live.remove(session_id, connection.user_id, "removed")
            else:
                if session_id in attendee.joined:  # who left meanwhile, or was made to, stays out
                    attendee.joined[session_id] = member

    # Tokens that end

    def _watch_expiry(self, connection: Connection, identity: Identity) -> None:
        if identity.expires_at is None:
            self._deadlines.drop(connection)
            return
        notice_at = identity.expires_at - EXPIRY_NOTICE_SECONDS
        self._deadlines.set(connection, max(notice_at, time.time()), self._warn)

    def _expiring(self, connection: Connection) -> None:
        expires_at = _attendee(connection).identity.expires_at
        assert expires_at is not None, "only what expires is watched"
        connection.send(event_frame(Event(name="authExpiring", data={"expires_at": _instant(expires_at)})))
        self._deadlines.set(connection, expires_at, self._cut)

    def _expired(self, connection: Connection) -> None:
        logger.info("connection.expired", user_id=connection.user_id)
        self._spawn(connection.disconnect())

    def _spawn(self, work: Any) -> None:
        async def run() -> None:
            try:
                await work
            except Away as error:
                logger.info("encounters.waits", reason=str(error))
            except Exception:
                logger.exception("encounters.task_failed")

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _attendee(connection: Connection) -> Attendee:
    attendee: Attendee = connection.state
    return attendee


def _entry(member: Member) -> dict[str, Any]:
    """Oneself, where the news of one's own arrival has not come round yet."""
    return {"userId": member.user_id, "name": member.name, "role": member.role}


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _done(**added: Any) -> Reply:
    return Reply({"ok": True, **added})


def _marked(marking: asyncio.Future[bool]) -> Reply:
    error = marking.exception()
    return _done() if error is None else _refusal(error, "markRead")


async def _answered(work: Coroutine[Any, Any, Reply], name: str) -> Reply:
    try:
        return await work
    except Exception as error:  # noqa: BLE001  # it is said in the ack
        return _refusal(error, name)


def _refusal(error: BaseException, event_name: str) -> Reply:
    """What went wrong, for the client. A fault of ours is logged."""
    if isinstance(error, Away | Overloaded | Closed):
        error = _away()
    elif not isinstance(error, EncountersError):
        logger.error("event.failed", event_name=event_name, exc_info=error)
        error = EncountersError("Something went wrong here; it was noted.")
    return Reply({"ok": False, "error": error.document()})


def _away() -> Unavailable:
    return Unavailable("The database is away for a moment; try again.", retry_after=1)
