"""Meetings: what sessions have at their video providers, made when somebody first comes, and gone with their sessions.

How their rooms are made and deleted is in :mod:`domain.meeting_rooms`; here is who comes in, moves and ends one.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

import structlog

from domain import access
from domain.access import Member
from domain.errors import Conflict, EncountersError, Forbidden, NotFound, TooManyRequests, invalid
from domain.identity import Identity
from domain.live import Live
from domain.meeting_rooms import Rooms, provider_failed, room_of
from domain.tellings import Tellings
from meetings import peer
from meetings.provider import Attendee, Pass, Person, Provider, ProviderError, Room, RoomGone
from meetings.providers import Providers
from realtime.events import Event
from realtime.limits import TokenBucket
from store import meeting_people, meetings, participants, sessions
from store.database import Connection, Executor
from store.errors import Away, translated
from store.meetings import Meeting
from store.sessions import Session

#: Seconds between two looks for rooms that are over, about. An end that happens here is not waited for.
SWEEP_SECONDS: Final = 5.0
JITTER: Final = 0.2
#: Seconds that what is under way may take when the worker leaves.
CLOSE_SECONDS: Final = 1.0
#: Times that a pass is made for somebody whose permissions change meanwhile.
MAX_PASSES: Final = 3
#: Passes that a worker makes for one person at once, and then a second: several tabs that are reloaded, and no more of
#: what a provider allows all people together.
PASSES_BURST: Final = 20
PASSES_PER_SECOND: Final = 0.5
#: Seconds between two moves of a session's meeting by its host: each makes a room, and has everybody ask for a pass.
MOVE_PAUSE_SECONDS: Final = 5.0
#: The most people whose passes a worker counts.
MAX_COUNTED: Final = 10_000

T = TypeVar("T")

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Admitted:
    """A person's pass to a meeting. `people`: who else has one, where they connect to each other."""

    meeting: Meeting
    given: Pass
    people: tuple[str, ...] = ()


class Meetings:
    """The meetings of this server's sessions, in `rooms`. New ones are made with `providers.chosen`."""

    def __init__(self, live: Live, providers: Providers) -> None:
        self._live = live
        self._pool = live.pool
        self._providers = providers
        self.rooms = Rooms(live.pool, providers)
        #: One at a time makes a session's room: a whole class comes at once.
        self._making: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()
        self._tellings = Tellings(live.pool, providers, move_on=self._move_on)
        #: By person, who asked for a pass last at the end.
        self._asked: OrderedDict[str, TokenBucket] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        live.session_ended = self.rooms.over.set
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
            return await self._make(session, self._providers.chosen, instead_of=None)

    async def move(
        self, member: Member, session: Session, *, only: UUID | None = None, to: str | None = None
    ) -> tuple[Meeting, bool]:
        """Another meeting instead of the present one, with the provider `to` or else the chosen one, and whether it
        was made now; the host may. Instead of the one with the id `only`, where that is given: if it was moved
        already, that is it. The provider of the present one is not asked.

        Everybody in the session is told (`meetingMoved`), and gets a pass to it by asking for one. Who was removed gets
        none. Raises Forbidden, NotFound (there is none to move), BadRequest (there is no such provider), Conflict
        (`session_ended`), TooManyRequests (it was moved less than MOVE_PAUSE_SECONDS ago), BadGateway.
        """
        access.require_host(member)
        if to is not None and to not in self._providers.names:
            raise invalid({"provider": f"must be one of those set up here: {', '.join(self._providers.names)}"})
        provider = self._providers.chosen if to is None else self._providers.by_name(to)
        before = await self.current(session.id)
        if only is not None and before.id != only:
            return before, False
        if before.generation > 1:
            # Over all workers: whichever moved it, this is its time.
            left = MOVE_PAUSE_SECONDS - (datetime.now(UTC) - before.created_at).total_seconds()
            if 0 < left <= MOVE_PAUSE_SECONDS:
                raise TooManyRequests("This meeting was moved just now; wait a moment.", retry_after=math.ceil(left))
        return await self._replace(session, provider, before.id)

    async def _move_on(self, meeting: Meeting) -> None:
        """Leave a room to somebody who cannot be taken out of it. Raises NotFound, Conflict, BadGateway."""
        session = await sessions.find(self._pool, meeting.session_id)
        if session is None:
            raise access.unknown_session()
        await self._replace(session, self._provider_of(meeting), meeting.id)

    async def _replace(self, session: Session, provider: Provider, meeting_id: UUID) -> tuple[Meeting, bool]:
        """Another meeting instead of this one, unless there is one already."""
        async with self._making.setdefault(session.id, asyncio.Lock()):
            present = await meetings.current(self._pool, session.id)
            if present is not None and present.id != meeting_id:
                return present, False
            return await self._make(session, provider, instead_of=meeting_id)

    async def _make(self, session: Session, provider: Provider, *, instead_of: UUID | None) -> tuple[Meeting, bool]:
        """A new meeting, unless there is another than `instead_of` by the time that it is made. Everybody is told of
        one that is instead of another that nobody has ended."""
        if session.status == "ended":
            raise session_ended()
        made = await self.rooms.make(
            provider,
            session.id,
            starts_at=session.starts_at,
            ends_at=session.end_time,
            recorded=session.recording_enabled,
        )
        try:
            with translated():
                async with self._pool.acquire() as connection, connection.transaction():
                    await self._check_goes_on(connection, session.id)
                    present = await meetings.current(connection, session.id)
                    if present is not None and present.id != instead_of:
                        meeting, kept, moved = present, False, False
                    else:
                        moved = await meetings.goes_on(connection, session.id)
                        meeting, kept = await self.rooms.keep(connection, session.id, made), True
        except EncountersError:
            await self.rooms.give_up(made)
            raise
        if not kept:
            await self.rooms.give_up(made)
        elif moved:
            self._tell_moved(meeting)
        return meeting, kept

    async def _check_goes_on(self, connection: Connection, session_id: UUID) -> None:
        """Hold the session's row. Raises NotFound, Conflict (`session_ended`)."""
        now = await sessions.locked(connection, session_id)
        if now is None:
            raise access.unknown_session()
        if now.status == "ended":
            raise session_ended()

    def _tell_moved(self, meeting: Meeting) -> None:
        data = {
            "session_id": str(meeting.session_id),
            "meeting_id": str(meeting.id),
            "provider": meeting.provider,
            "generation": meeting.generation,
        }
        self._live.tell(str(meeting.session_id), Event(name="meetingMoved", data=data))
        self.rooms.over.set()

    # Coming in

    async def admit(self, session: Session, member: Member, *, tab: str = "") -> Admitted:
        """A pass for a member, to the session's meeting, which is made if there is none. `tab`: what they call the
        place where they use it; the same again is the same pass.

        Raises Forbidden (`not_joined`: the host limits who comes in, and they are not in), Conflict (`meeting_full`,
        `session_ended`), TooManyRequests, BadGateway.
        """

        async def give(provider: Provider, room: Room, person: Person, expires_at: datetime) -> Pass:
            return await provider.admit(room, person, expires_at=expires_at)

        meeting, given = await self._as_they_are(session, member, give, tab)
        if given.provider != peer.NAME:
            return Admitted(meeting=meeting, given=given)
        # Looked up when the place is taken: of two who come at once, one at least is told of the other.
        mesh = await meeting_people.mesh(self._pool, session.id)
        return Admitted(meeting=meeting, given=given, people=tuple(sorted(mesh.people - {member.user_id})))

    async def attendee(self, session: Session, member: Member) -> Attendee:
        """A member as an attendee of the session's meeting; raises as :meth:`admit`."""

        async def register(provider: Provider, room: Room, person: Person, expires_at: datetime) -> Attendee:
            return await provider.attendee(room, person, expires_at=expires_at)

        _, attendee = await self._as_they_are(session, member, register)
        return attendee

    async def _as_they_are(
        self,
        session: Session,
        member: Member,
        act: Callable[[Provider, Room, Person, datetime], Awaitable[T]],
        tab: str = "",
    ) -> tuple[Meeting, T]:
        """Do it for a member with what they may do: again, where that has changed meanwhile, as providers may have
        learnt of the change before they made the pass, which undoes it."""
        self._count(member.user_id)
        for _ in range(MAX_PASSES):
            person = await self._person(session, member)
            meeting, given = await self._in_room(session, person, act, tab)
            await self._check_still_open(member)
            if await self._person(session, member) == person:
                return meeting, given
        await self._tellings.removed(session.id, member.user_id)
        raise Conflict("What you may do here is changing; try again.", code="permissions_changing")

    async def _check_still_open(self, member: Member) -> None:
        """Whoever was removed while their pass was made, or does not belong to the session any more, may be registered
        anew, behind the removal: undo that."""
        try:
            now, _ = await access.enter(
                self._pool, member.session_id, Identity(user_id=member.user_id, role=member.role)
            )
        except Forbidden:
            self._spawn(lambda: self._tellings.removed(member.session_id, member.user_id))
            raise
        except NotFound:
            raise session_ended() from None
        if now.status == "ended":
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
        self,
        session: Session,
        person: Person,
        act: Callable[[Provider, Room, Person, datetime], Awaitable[T]],
        tab: str,
    ) -> tuple[Meeting, T]:
        """Do it in the session's meeting; where its provider has ended that by itself, in a new one."""
        meeting, made = await self.ensure(session)
        try:
            return meeting, await self._do(session, meeting, person, act, tab)
        except RoomGone as gone:
            if made:
                raise provider_failed("admit", gone) from gone
        meeting, _ = await self._replace(session, self._provider_of(meeting), meeting.id)
        try:
            return meeting, await self._do(session, meeting, person, act, tab)
        except RoomGone as gone:
            raise provider_failed("admit", gone) from gone

    async def _do(
        self,
        session: Session,
        meeting: Meeting,
        person: Person,
        act: Callable[[Provider, Room, Person, datetime], Awaitable[T]],
        tab: str,
    ) -> T:
        """Raises RoomGone, Conflict (`meeting_full`), BadGateway."""
        provider = self._provider_of(meeting)
        ejected = await meeting_people.take_place(
            self._pool, meeting.id, person.user_id, places=provider.places, host_id=session.host_id, tab=tab
        )
        if ejected is None:
            raise Conflict(
                f"This meeting has places for {provider.places} people, and one of them is the host's.",
                code="meeting_full",
            )
        expires_at = datetime.now(UTC) + timedelta(seconds=provider.pass_seconds)
        try:
            return await act(provider, room_of(meeting), replace(person, ejected=ejected), expires_at)
        except RoomGone:
            raise
        except ProviderError as error:
            raise provider_failed("admit", error) from error

    def _provider_of(self, meeting: Meeting) -> Provider:
        """Raises BadGateway for one that is not set up any more."""
        try:
            return self._providers.by_name(meeting.provider)
        except ProviderError as error:
            raise provider_failed("admit", error) from error

    def _count(self, user_id: str) -> None:
        """Raises TooManyRequests."""
        bucket = self._asked.pop(user_id, None) or TokenBucket(PASSES_PER_SECOND, PASSES_BURST)
        self._asked[user_id] = bucket
        if len(self._asked) > MAX_COUNTED:
            self._asked.popitem(last=False)
        now = time.monotonic()
        if not bucket.take(now):
            seconds = math.ceil(bucket.seconds_until_next(now))
            raise TooManyRequests("You ask for passes too often; wait a moment.", retry_after=seconds)

    async def leave(self, member: Member, tab: str | None = None) -> None:
        """A member is not in the session's meeting any more, if they were, with this tab or, None, with any: somebody
        else may have the place of who has left with the last one."""
        await meeting_people.leave(self._pool, member.session_id, member.user_id, tab)

    # Ending

    async def end(self, member: Member, meeting: Meeting) -> None:
        """End a meeting for everybody; the host may. One that is over stays so. Raises Forbidden.

        Everybody in the session is told (`meetingEnded`). The room is deleted as soon as its provider can be reached.
        """
        access.require_host(member)
        if await meetings.end(self._pool, meeting.id):
            data = {"session_id": str(meeting.session_id), "meeting_id": str(meeting.id)}
            self._live.tell(str(meeting.session_id), Event(name="meetingEnded", data=data))
            self.rooms.over.set()

    async def sweep(self) -> int:
        """See :meth:`domain.meeting_rooms.Rooms.sweep`."""
        return await self.rooms.sweep()

    async def _sweep_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS * random.uniform(1 - JITTER, 1 + JITTER)):
                    await self.rooms.over.wait()
            self.rooms.over.clear()
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


def unknown_meeting() -> NotFound:
    return NotFound("There is no such meeting.", code="meeting_not_found")


def session_ended() -> Conflict:
    return Conflict("This session has ended: there is no meeting any more.", code="session_ended")
