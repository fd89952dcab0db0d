"""Rooms at video providers: made for a session, and deleted when they are over, whatever happens in between.

A provider is asked outside of every transaction: a slow one holds up nobody's chat. What it is asked for is written
down before (:mod:`store.meeting_intents`), and what is over is deleted by looks of every worker (:meth:`Rooms.sweep`),
so that neither a provider that is away nor a worker that dies leaves a room behind. Rooms have names that nobody can
guess.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

import structlog

from domain.errors import BadGateway
from meetings.provider import Provider, ProviderAway, ProviderError, ProviderFailed, Room, RoomSpec
from meetings.providers import Providers
from store import meeting_intents, meetings
from store.database import Connection, Pool
from store.errors import Away
from store.meeting_intents import Intent
from store.meetings import Meeting

#: How long a room lasts after the planned end of its session; a session that goes on longer gets another one.
ROOM_LIFETIME: Final = timedelta(hours=24)
#: Bytes of a room's name that nobody guesses, written as twice as many characters.
NAME_BYTES: Final = 12
#: Rooms of a provider that a worker deletes one after the other, before it looks again: fewer than come back to others
#: meanwhile, as they do when a worker dies.
MAX_SWEPT: Final = 10

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A room that its provider has made, and that is no meeting yet."""

    intent: Intent
    room: Room
    closes_at: datetime


class Rooms:
    """The rooms of this server's sessions, at any of `providers`. `over` is set when there may be some to delete."""

    def __init__(self, pool: Pool, providers: Providers) -> None:
        self._pool = pool
        self._providers = providers
        self.over = asyncio.Event()

    async def make(
        self, provider: Provider, session_id: UUID, *, starts_at: datetime, ends_at: datetime | None, recorded: bool
    ) -> Made:
        """Have the provider make a room. It is deleted in a while unless :meth:`keep` makes it a meeting.

        Raises BadGateway.
        """
        closes_at = max(datetime.now(UTC), starts_at, ends_at or starts_at) + ROOM_LIFETIME
        intent = await meeting_intents.declare(
            self._pool, session_id, provider.name, room_name=secrets.token_hex(NAME_BYTES)
        )
        spec = RoomSpec(name=intent.room_name, closes_at=closes_at, recorded=recorded)
        try:
            room = await provider.make_room(spec)
        except ProviderError as error:
            raise provider_failed("make_room", error) from error
        return Made(intent=intent, room=room, closes_at=closes_at)

    async def prepare(self, session_id: UUID, *, starts_at: datetime, recorded: bool) -> Made | None:
        """The room for a session that is about to be planned; None where rooms are made when somebody comes.

        :meth:`keep` it in the transaction that makes the session, or :meth:`give_up`. Raises BadGateway.
        """
        provider = self._providers.chosen
        if not provider.makes_ahead:
            return None
        try:
            return await self.make(provider, session_id, starts_at=starts_at, ends_at=None, recorded=recorded)
        except BadGateway as failed:
            raise BadGateway("Failed to create session room", retry_after=failed.retry_after) from failed

    async def keep(self, connection: Connection, session_id: UUID, made: Made) -> Meeting:
        """Make it the session's meeting, instead of the one before. In a transaction that holds the session's row.

        Raises BadGateway where that comes too late.
        """
        if not await meeting_intents.fulfil(connection, made.intent):
            raise BadGateway("The video provider took too long; try again.", retry_after=1)
        return await meetings.insert(
            connection,
            meeting_id=uuid4(),
            session_id=session_id,
            provider=made.room.provider,
            room_id=made.room.id,
            room_name=made.room.name,
            url=made.room.url,
            data=made.room.data,
            closes_at=made.closes_at,
        )

    async def give_up(self, made: Made) -> None:
        """It is not needed. What has become a meeting stays. While the database is away, that is found out later."""
        try:
            await meeting_intents.give_up(self._pool, made.intent)
        except Away as error:
            logger.info("meetings.given_up_later", reason=str(error))
        self.over.set()

    async def sweep(self) -> int:
        """Delete what is over, or has become no meeting, as far as providers can be reached; how many those were.

        Providers side by side: one that is away, or slow, holds up its own rooms alone.
        """
        swept = await asyncio.gather(
            *(self._sweep_one(self._providers.by_name(name)) for name in self._providers.names), return_exceptions=True
        )
        for one in swept:
            if isinstance(one, BaseException):
                raise one
        return sum(one for one in swept if isinstance(one, int))

    async def _sweep_one(self, provider: Provider) -> int:
        swept = 0
        while True:
            claimed = await meetings.claim_over(self._pool, provider.name, limit=MAX_SWEPT)
            intents = await meeting_intents.claim_due(self._pool, provider.name, limit=MAX_SWEPT)
            if not claimed and not intents:
                return swept
            try:
                for meeting in claimed:
                    swept += await self._delete(provider, meeting)
                for intent in intents:
                    swept += await self._unmake(provider, intent)
            except ProviderAway as error:
                logger.warning("meetings.sweep_waits", provider=provider.name, reason=error.message)
                return swept

    async def _delete(self, provider: Provider, meeting: Meeting) -> bool:
        """Raises ProviderAway."""
        try:
            await provider.delete_room(room_of(meeting))
        except ProviderFailed as error:
            logger.warning("meetings.not_deleted", provider=provider.name, reason=error.message)
            return False
        await meetings.set_deleted(self._pool, meeting.id)
        return True

    async def _unmake(self, provider: Provider, intent: Intent) -> bool:
        """Raises ProviderAway."""
        try:
            await provider.unmake_room(intent.room_name)
        except ProviderFailed as error:
            logger.warning("meetings.not_unmade", provider=provider.name, reason=error.message)
            return False
        await meeting_intents.forget(self._pool, intent)
        return True


def room_of(meeting: Meeting) -> Room:
    """The meeting's room, as its provider made it."""
    return Room(
        provider=meeting.provider, id=meeting.room_id, name=meeting.room_name, url=meeting.url, data=meeting.data
    )


def provider_failed(act: str, error: ProviderError) -> BadGateway:
    """What clients are told of a provider's failure, which is little; the log has it all."""
    logger.warning("meetings.provider_failed", act=act, code=error.code, reason=error.message)
    return BadGateway("The video provider did not do what it was asked for; try again.", retry_after=error.retry_after)
