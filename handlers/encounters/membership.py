"""Into a session and out of it: `joinSession`, `leaveSession`."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from domain import access, sessions
from domain.access import Member
from domain.errors import TooManyRequests, invalid
from domain.live import Live
from domain.rosters import LEFT
from handlers.encounters.answers import done
from handlers.encounters.attendees import attendee_of, member_of
from handlers.encounters.payloads import InSession
from realtime.connection import Connection, Reply
from realtime.events import Event
from realtime.frames import event_frame
from realtime.hub import Room

#: Sessions that one connection may have joined, or wait for, at a time.
MAX_JOINED_SESSIONS: Final = 50
#: Seconds for which the ack of a leaving waits until it is written. Who leaves is out in any case.
LEAVING_SECONDS: Final = 2.0


class JoinSession(InSession):
    last_seq: int | None = None


async def join(live: Live, connection: Connection, request: JoinSession) -> Reply:
    if request.last_seq is not None and not 0 <= request.last_seq < 2**63:
        raise invalid({"last_seq": "must be the last seq that was seen"})
    attendee = attendee_of(connection)
    ref = access.session_ref(request.session_id)
    news = attendee.news
    session, member = await access.enter(live.pool, ref, attendee.identity)
    room_id = str(session.id)
    rooms = {*attendee.joined, *live.presence.waiting.of(connection)}
    if room_id not in rooms and len(rooms) >= MAX_JOINED_SESSIONS:
        raise TooManyRequests(f"A connection joins at most {MAX_JOINED_SESSIONS} sessions.", retry_after=1)
    room = await live.hub.open(room_id)
    room_id = room.id  # one string for everybody in it
    with live.hub.held(room_id):
        await live.presence.arrive(room, member, connection)
        waiters: list[dict[str, Any]] = []
        try:
            if member.is_host:
                live.presence.waiting_lists.hold_back(room_id, connection)
                if session.waiting_room or live.settings(room).waiting_room:
                    waiters = await live.presence.waiting_lists.list_for(room_id, connection)
            while True:
                # The last to be awaited: what comes afterwards is for those who are in the room.
                missed, reset = await _missed(live, connection, room, request.last_seq)
                if news == attendee.news:
                    break
                news = attendee.news
                session, member = await access.enter(live.pool, ref, attendee.identity)
        except BaseException:
            if room_id in attendee.joined:
                live.presence.waiting_lists.release(room_id, connection)  # they are in, and told as before
            else:
                live.presence.waiting_lists.lead(room_id, connection, is_host=False)
                live.presence.depart(room_id, connection, "disconnected")
            raise
    # From here to the ack and the entry behind it nothing is awaited: the room stands still.
    room.flush()  # who is in it already gets what came before first
    answer: dict[str, Any] = {
        "ok": True,
        "session": sessions.realtime_document(
            session,
            status=live.status(room),
            settings=live.settings(room),
            pinned_message_id=live.pinned_message(room),
            recording_id=live.recording(room),
        ),
        "participants": live.presence.participants(
            room_id, first=(session.host_id, session.instructor_id or session.host_id, member.user_id)
        ),
        "participantCount": live.presence.count(room_id),
        "you": (live.presence.person(room_id, member.user_id) or _entry(member)) | {"is_host": member.is_host},
        "lastSeq": room.last_seq,
    }
    if member.is_host:
        answer["waiting"] = waiters
    if request.last_seq is not None:
        answer["events"] = [{"event": event.name, "data": event.json} for event in missed]
        if reset:
            answer["reset"] = True

    def enter() -> None:
        if connection.closed:
            live.presence.waiting_lists.lead(room_id, connection, is_host=False)
            live.presence.depart(room_id, connection, "disconnected")
        elif connection in live.presence.connections(room_id, member.user_id):
            attendee.joined[room_id] = member
            live.hub.enter(room, connection)
            live.presence.waiting.depart(connection, room_id)
            live.presence.waiting_lists.lead(room_id, connection, is_host=member.is_host)
            live.presence.waiting_lists.release(room_id, connection)
        else:
            live.presence.waiting_lists.lead(room_id, connection, is_host=False)
            removed(connection, room_id)  # kicked between the two

    return Reply(answer, then=enter)


async def _missed(live: Live, connection: Connection, room: Room, last_seq: int | None) -> tuple[list[Event], bool]:
    """What the ack of a join brings: nothing for who is in the room, and has been sent it all."""
    if last_seq is None or connection in room.members:
        return [], False
    return await live.missed(room, last_seq)


def _entry(member: Member) -> dict[str, Any]:
    """Oneself, where the news of one's own arrival has not come round yet."""
    return {"userId": member.user_id, "name": member.name, "role": member.role}


async def leave(live: Live, connection: Connection, request: InSession) -> Reply:
    """The ack comes when the person's place is free, or at once for who gives up waiting."""
    waited = live.presence.waiting.find(connection, request.session_id)
    if waited is not None:
        live.presence.waiting.depart(connection, waited)
        return done()
    member = member_of(connection, request.session_id)
    left = let_go(live, connection, str(member.session_id), LEFT)
    if left is not None:
        await asyncio.wait([left], timeout=LEAVING_SECONDS)
    return done()


def let_go(live: Live, connection: Connection, session_id: str, reason: str) -> asyncio.Future[Any] | None:
    """Take a connection out of a session that it leaves, or that its end takes it out of. Answers what is done when it
    is recorded that its person has left, too."""
    member = attendee_of(connection).joined.pop(session_id, None)
    room = live.hub.find(session_id)
    if room is not None:
        live.hub.leave(room, connection)
    live.presence.waiting_lists.lead(session_id, connection, is_host=False)
    left = live.presence.depart(session_id, connection, reason)
    if member is not None and not live.presence.connections(session_id, member.user_id):
        live.typing.stop(session_id, member.user_id)
    return left


def let_go_of_all(live: Live, connection: Connection) -> None:
    """Take a connection that is gone out of everything it is in, or waits for."""
    for session_id in list(attendee_of(connection).joined):
        let_go(live, connection, session_id, "disconnected")
    for session_id in live.presence.waiting.of(connection):
        live.presence.waiting.depart(connection, session_id)


def removed(connection: Connection, session_id: str) -> None:
    """Tell a connection that it was taken out of a session."""
    attendee_of(connection).joined.pop(session_id, None)
    data = {"sessionId": session_id, "session_id": session_id}
    connection.send(event_frame(Event(name="kicked", data=data)))
