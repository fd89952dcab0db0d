"""Meetings: the rooms of sessions at video providers, made when somebody first comes, and gone with their sessions.

A provider is asked outside of every transaction: a slow one holds up nobody's chat. What was made and then is not
needed, because somebody else was faster or the session has ended, is deleted again. Rooms that are over are deleted
by looks of every worker (:meth:`Meetings.sweep`), so that neither a provider that is away nor a worker that dies leaves
any behind. Rooms have names that nobody can guess.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4
from weakref import WeakValueDictionary

import structlog

from domain import access, admission
from domain.access import Member
from domain.errors import BadGateway, Conflict, Forbidden, NotFound
from domain.live import Live
from domain.tellings import Tellings, room_of
from meetings.provider import Attendee, Pass, Person, Provider, ProviderError, Room, RoomGone, RoomSpec
from meetings.providers import Providers
from realtime.events import Event
from store import meetings, participants, sessions
from store.database import Executor
from store.errors import Away, translated
from store.meetings import Meeting
from store.sessions import Session

#: How long a room lasts after the planned end of its session; a session that goes on longer gets another one.
ROOM_LIFETIME: Final = timedelta(hours=24)
#: Bytes of a room's name that nobody guesses, written as twice as many characters.
NAME_BYTES: Final = 12
#: Rooms that a worker deletes one after the other, before it looks again.
MAX_SWEPT: Final = 20
#: Seconds between two looks for rooms that are over, about. An end that happens here is not waited for.
SWEEP_SECONDS: Final = 5.0
JITTER: Final = 0.2
#: Seconds that what is under way may take when the worker leaves.
CLOSE_SECONDS: Final = 1.0
#: Times that a pass is made for somebody whose permissions change meanwhile.
MAX_PASSES: Final = 3

T = TypeVar("T")

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Admitted:
    """A person's pass to a meeting."""

    meeting: Meeting
    given: Pass


class Meetings:
    """The meetings of this server's sessions. New ones are made with `providers.chosen`."""

    def __init__(self, live: Live, providers: Providers) -> None:
        self._live = live
        self._pool = live.pool
        self._providers = providers
        #: One at a time makes a session's room: a whole class comes at once.
        self._making: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()
        self._tellings = Tellings(live.pool, providers)
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        live.session_ended = self._over.set
        live.participant_removed = lambda session_id, user_id: self._spawn(
            lambda: self._tellings.removed(session_id, user_id)
        )
        live.people_to_tell = self._tellings.wake

    def start(self) -> None:
        self._sweeper = asyncio.create_task(self._sweep_forever(), name="meetings")

    async def close(self) -> None:
        """Tell providers what is under way, if that does not take long, and leave."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        tasks = [*self._tasks, *([self._sweeper] if self._sweeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._tellings.close(CLOSE_SECONDS)

    # Having one

    async def current(self, session_id: UUID) -> Meeting:
        """The session's meeting. Raises NotFound."""
        meeting = await meetings.current(self._pool, session_id)
        if meeting is None:
            raise unknown_meeting()
        return meeting

    async def ensure(self, session: Session) -> tuple[Meeting, bool]:
        """The session's meeting, and whether it was made now. Raises Conflict (`session_ended`), BadGateway."""
        meeting = await meetings.current(self._pool, session.id)
        if meeting is not None:
            return meeting, False
        async with self._making.setdefault(session.id, asyncio.Lock()):
            meeting = await meetings.current(self._pool, session.id)
            if meeting is not None:
                return meeting, False
            return await self._make(session, instead_of=None)

    async def move(self, member: Member, session: Session, *, only: UUID | None = None) -> tuple[Meeting, bool]:
        """Another meeting instead of the present one, with the chosen provider, and whether it was made now; the host
        may. Instead of the one with the id `only`, where that is given: if it was moved already, that is it.

        Everybody in the session is told (`meetingMoved`), and gets a pass to it by asking for one. Who was removed gets
        none. Raises Forbidden, NotFound (there is none to move), Conflict (`session_ended`), BadGateway.
        """
        access.require_host(member)
        before = await self.current(session.id)
        if only is not None and before.id != only:
            return before, False
        async with self._making.setdefault(session.id, asyncio.Lock()):
            meeting, made = await self._make(session, instead_of=before.id)
        if made:
            data = {
                "session_id": str(session.id),
                "meeting_id": str(meeting.id),
                "provider": meeting.provider,
                "generation": meeting.generation,
            }
            self._live.tell(str(session.id), Event(name="meetingMoved", data=data))
            self._over.set()
        return meeting, made

    async def _make(self, session: Session, *, instead_of: UUID | None) -> tuple[Meeting, bool]:
        """A new meeting, unless there is another than `instead_of` by the time that it is made."""
        if session.status == "ended":
            raise session_ended()
        provider = self._providers.chosen
        closes_at = max(datetime.now(UTC), session.starts_at, session.end_time or session.starts_at) + ROOM_LIFETIME
        spec = RoomSpec(
            name=secrets.token_hex(NAME_BYTES),
            closes_at=closes_at,
            recorded=session.recording_enabled,
        )
        try:
            room = await provider.make_room(spec)
        except ProviderError as error:
            raise provider_failed("make_room", error) from error
        try:
            with translated():
                async with self._pool.acquire() as connection, connection.transaction():
                    now = await sessions.locked(connection, session.id)
                    if now is None:
                        raise access.unknown_session()
                    if now.status == "ended":
                        raise session_ended()
                    present = await meetings.current(connection, session.id)
                    if present is None or present.id == instead_of:
                        made = await meetings.insert(
                            connection,
                            meeting_id=uuid4(),
                            session_id=session.id,
                            provider=room.provider,
                            room_id=room.id,
                            room_name=room.name,
                            url=room.url,
                            data=room.data,
                            closes_at=closes_at,
                        )
                        return made, True
        except Away:
            raise  # it may have been committed: the room closes by itself
        except BaseException:
            self._spawn(lambda: self._delete_unneeded(provider, room, session.id))
            raise
        self._spawn(lambda: self._delete_unneeded(provider, room, session.id))
        return present, False

    async def _delete_unneeded(self, provider: Provider, room: Room, session_id: UUID) -> None:
        """Delete it, or have it deleted when its provider can be reached again."""
        try:
            await provider.delete_room(room)
        except ProviderError as error:
            logger.warning("meetings.room_left", provider=provider.name, room=room.name, reason=error.message)
            with translated():
                async with self._pool.acquire() as connection, connection.transaction():
                    if await sessions.locked(connection, session_id) is None:
                        return
                    await meetings.insert_over(
                        connection,
                        meeting_id=uuid4(),
                        session_id=session_id,
                        provider=room.provider,
                        room_id=room.id,
                        room_name=room.name,
                    )

    # Coming in

    async def admit(self, session: Session, member: Member) -> Admitted:
        """A pass for a member, to the session's meeting, which is made if there is none.

        Raises Forbidden (`not_joined`: the host limits who comes in, and they are not in), Conflict, BadGateway.
        """

        async def give(provider: Provider, room: Room, person: Person, expires_at: datetime) -> Pass:
            return await provider.admit(room, person, expires_at=expires_at)

        meeting, given = await self._as_they_are(session, member, give)
        return Admitted(meeting=meeting, given=given)

    async def attendee(self, session: Session, member: Member) -> Attendee:
        """A member as an attendee of the session's meeting; raises as :meth:`admit`."""

        async def register(provider: Provider, room: Room, person: Person, expires_at: datetime) -> Attendee:
            return await provider.attendee(room, person, expires_at=expires_at)

        _, attendee = await self._as_they_are(session, member, register)
        return attendee

    async def _as_they_are(
        self, session: Session, member: Member, act: Callable[[Provider, Room, Person, datetime], Awaitable[T]]
    ) -> tuple[Meeting, T]:
        """Do it for a member with what they may do: again, where that has changed meanwhile, as providers may have
        learnt of the change before they made the pass, which undoes it."""
        for _ in range(MAX_PASSES):
            person = await self._person(session, member)
            meeting, given = await self._in_room(session, partial(_for_person, act, person))
            await self._check_open(member)
            if await self._person(session, member) == person:
                return meeting, given
        await self._tellings.removed(session.id, member.user_id)
        raise Conflict("What you may do here is changing; try again.", code="permissions_changing")

    async def _check_open(self, member: Member) -> None:
        """Whoever was removed while their pass was made may be registered anew, behind the removal: undo that."""
        participant = await participants.of_person(self._pool, member.session_id, member.user_id)
        if participant is not None and participant.was_kicked:
            self._spawn(lambda: self._tellings.removed(member.session_id, member.user_id))
            raise admission.kicked()
        now = await sessions.find(self._pool, member.session_id)
        if now is None or now.status == "ended":
            raise session_ended()

    async def _person(self, session: Session, member: Member) -> Person:
        participant = await participants.of_person(self._pool, session.id, member.user_id)
        limited = session.locked or session.waiting_room or session.max_participants is not None
        if limited and not member.is_host and (participant is None or not participant.online):
            raise Forbidden("Join this session first: its host says who comes in.", code="not_joined")
        return Person(
            user_id=member.user_id,
            name=member.name,
            is_owner=member.is_host,
            mic_allowed=participant is None or participant.mic_allowed,
            camera_allowed=participant is None or participant.camera_allowed,
        )

    async def _in_room(
        self, session: Session, act: Callable[[Provider, Room, datetime], Awaitable[T]]
    ) -> tuple[Meeting, T]:
        """Do it in the session's meeting; where its provider has ended that by itself, in a new one."""
        meeting, made = await self.ensure(session)
        try:
            return meeting, await self._do(meeting, act)
        except RoomGone as gone:
            if made:
                raise provider_failed("admit", gone) from gone
        await meetings.set_deleted(self._pool, meeting.id)
        meeting, _ = await self.ensure(session)
        try:
            return meeting, await self._do(meeting, act)
        except RoomGone as gone:
            raise provider_failed("admit", gone) from gone

    async def _do(self, meeting: Meeting, act: Callable[[Provider, Room, datetime], Awaitable[T]]) -> T:
        """Raises RoomGone, BadGateway."""
        try:
            provider = self._providers.by_name(meeting.provider)
            return await act(provider, room_of(meeting), datetime.now(UTC) + timedelta(seconds=provider.pass_seconds))
        except RoomGone:
            raise
        except ProviderError as error:
            raise provider_failed("admit", error) from error

    # Ending

    async def end(self, member: Member, meeting: Meeting) -> None:
        """End a meeting for everybody; the host may. One that is over stays so. Raises Forbidden.

        Everybody in the session is told (`meetingEnded`). The room is deleted as soon as its provider can be reached.
        """
        access.require_host(member)
        if await meetings.end(self._pool, meeting.id):
            data = {"session_id": str(meeting.session_id), "meeting_id": str(meeting.id)}
            self._live.tell(str(meeting.session_id), Event(name="meetingEnded", data=data))
            self._over.set()

    async def sweep(self) -> int:
        """Delete the rooms that are over, as far as their providers can be reached; how many those were."""
        swept = 0
        while claimed := await meetings.claim_over(self._pool, limit=MAX_SWEPT):
            for meeting in claimed:
                try:
                    await self._providers.by_name(meeting.provider).delete_room(room_of(meeting))
                except ProviderError as error:
                    logger.warning("meetings.not_deleted", provider=meeting.provider, reason=error.message)
                else:
                    await meetings.set_deleted(self._pool, meeting.id)
                    swept += 1
        return swept

    async def _sweep_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS * random.uniform(1 - JITTER, 1 + JITTER)):
                    await self._over.wait()
            self._over.clear()
            self._tellings.wake()
            try:
                await self.sweep()
            except Away as error:
                logger.info("meetings.sweep_waits", reason=str(error))
            except Exception:
                logger.exception("meetings.sweep_failed")

    def _spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def run() -> None:
            try:
                await work()
            except (ProviderError, Away) as error:
                logger.warning("meetings.task_waits", reason=str(error))
            except Exception:
                logger.exception("meetings.task_failed")

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def data_of(executor: Executor, session_id: UUID) -> dict[str, Any]:
    """What members are told of the session's meeting; nothing where it has none."""
    meeting = await meetings.current(executor, session_id)
    return {} if meeting is None else document(meeting)["meeting_data"]


def document(meeting: Meeting) -> dict[str, Any]:
    """The meeting as S3 shows it."""
    return {"meeting_id": meeting.id, "meeting_data": {"provider": meeting.provider, **meeting.data}}


async def _for_person(
    act: Callable[[Provider, Room, Person, datetime], Awaitable[T]],
    person: Person,
    provider: Provider,
    room: Room,
    expires_at: datetime,
) -> T:
    return await act(provider, room, person, expires_at)


def provider_failed(act: str, error: ProviderError) -> BadGateway:
    """What clients are told of a provider's failure, which is little; the log has it all."""
    logger.warning("meetings.provider_failed", act=act, code=error.code, reason=error.message)
    return BadGateway("The video provider did not do what it was asked for; try again.", retry_after=error.retry_after)


def unknown_meeting() -> NotFound:
    return NotFound("There is no such meeting.", code="meeting_not_found")


def session_ended() -> Conflict:
    return Conflict("This session has ended: there is no meeting any more.", code="session_ended")
