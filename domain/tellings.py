"""Telling the providers of meetings who was removed and who may no longer speak, until they know.

What is to be told is written with the change itself (:mod:`store.tellings`): neither a provider that is away nor a
worker that dies loses it. Of one person, one worker tells at a time, what is true at that moment: two changes that
follow each other cannot land in the other order. Where a pass says what its owner may send, it is told again until the
passes of before are over: they may have come in with one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID

import structlog

from domain import access
from domain.errors import EncountersError, Forbidden
from domain.identity import Identity
from domain.meeting_rooms import room_of
from meetings.provider import NotSupported, Person, Provider, ProviderAway, ProviderError
from meetings.providers import Providers
from store import meeting_people, meetings, participants, sessions, tellings, users
from store.database import Pool
from store.errors import Away
from store.meetings import Meeting
from store.tellings import HOLD_SECONDS, Telling

#: People of whom a worker tells at a time; more wait.
TELLING_AT_ONCE: Final = 4
#: Seconds for which a provider that was away is not asked: those of others are told of meanwhile.
AWAY_SECONDS: Final = 2.0
#: Seconds for one person: less than they are held.
TELL_SECONDS: Final = HOLD_SECONDS - 5.0

logger = structlog.get_logger(__name__)


class Tellings:
    """This worker's part in telling `providers`.

    `move_on(meeting)` moves everybody else to another meeting, where a provider takes nobody out.
    """

    def __init__(self, pool: Pool, providers: Providers, *, move_on: Callable[[Meeting], Awaitable[None]]) -> None:
        self._pool = pool
        self._providers = providers
        self._move_on = move_on
        #: By provider, on the clock of `time.monotonic`.
        self._away_until: dict[str, float] = {}
        self._tellers: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """There may be something to tell. What comes while all are busy is found by them, or with the next call."""
        if len(self._tellers) < TELLING_AT_ONCE:
            task = asyncio.create_task(self._tell_all(), name="tellings")
            self._tellers.add(task)
            task.add_done_callback(self._tellers.discard)

    async def close(self, within: float) -> None:
        """Tell what is under way, if that does not take longer than so many seconds; the rest is told by others."""
        if self._tellers:
            await asyncio.wait(self._tellers, timeout=within)
        tellers = list(self._tellers)
        for task in tellers:
            task.cancel()
        await asyncio.gather(*tellers, return_exceptions=True)

    async def removed(self, session_id: UUID, user_id: str) -> None:
        """Somebody is not, or may not be, in the session any more, which nothing else has written down."""
        await tellings.add(self._pool, session_id, user_id)
        self.wake()

    async def _tell_all(self) -> None:
        try:
            while (telling := await tellings.claim(self._pool)) is not None:
                await self._tell(telling)
        except Away as error:
            logger.info("tellings.wait", reason=str(error))
        except Exception:
            logger.exception("tellings.failed")

    async def _tell(self, telling: Telling) -> None:
        try:
            async with asyncio.timeout(TELL_SECONDS):
                again = await self._tell_state(telling)
        except NotSupported:
            again = ()  # of muting: the session's room has told them
        except (ProviderError, EncountersError, TimeoutError) as error:
            logger.warning("meetings.not_told", reason=str(error) or "too slow")
            await tellings.release(self._pool, telling)
            return
        at_age = next((seconds for seconds in again if seconds > telling.age_seconds), None)
        if at_age is None:
            await tellings.done(self._pool, telling)
        else:
            await tellings.tell_again(self._pool, telling, at_age=at_age)

    async def _tell_state(self, telling: Telling) -> Sequence[float]:
        """When it is to be told again, in seconds after the change."""
        meeting = await meetings.current(self._pool, telling.session_id)
        if meeting is None:
            return ()
        provider = self._providers.by_name(meeting.provider)
        if time.monotonic() < self._away_until.get(provider.name, 0.0):
            raise ProviderAway(f"The video provider {provider.name} was away a moment ago.")
        try:
            return await self._tell_provider(telling, meeting, provider)
        except ProviderAway:
            self._away_until[provider.name] = time.monotonic() + AWAY_SECONDS
            raise

    async def _tell_provider(self, telling: Telling, meeting: Meeting, provider: Provider) -> Sequence[float]:
        ejected = await meeting_people.times_ejected(self._pool, meeting.id, telling.user_id)
        person = await self._person(telling, ejected or 0)
        if person is not None:
            await provider.permit(room_of(meeting), person)
            return provider.permit_again_seconds
        if "eject" in provider.abilities:
            await provider.eject(room_of(meeting), telling.user_id, ejected=ejected or 0)
            await meeting_people.note_ejected(self._pool, meeting.id, telling.user_id, (ejected or 0) + 1)
        elif ejected is not None:  # they have a pass, which is good as long as the room
            await self._move_on(meeting)
        return ()

    async def _person(self, telling: Telling, ejected: int) -> Person | None:
        """The person with what they may do now; None for who may not be there."""
        user = await users.find(self._pool, telling.user_id)
        entrance = await sessions.find_for(self._pool, telling.session_id, telling.user_id)
        if user is None or entrance is None:
            return None
        try:
            member = access.member(
                entrance.session,
                Identity(user_id=user.id, role=user.role),
                name=entrance.name,
                kicked=entrance.was_kicked,
                enrolled=entrance.is_enrolled,
            )
        except Forbidden:
            return None
        participant = await participants.of_person(self._pool, telling.session_id, telling.user_id)
        return Person(
            user_id=member.user_id,
            name=member.name,
            is_owner=member.is_host,
            mic_allowed=participant is None or participant.mic_allowed,
            camera_allowed=participant is None or participant.camera_allowed,
            ejected=ejected,
        )
