"""Recordings that video providers make: begun there, and heard and read of. What follows is in
:mod:`domain.provider_recording_looks`.

A provider is asked outside of every transaction, after it was written down that it will be: what it may have begun is
stopped again if nothing comes of it, whoever dies meanwhile.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID, uuid4
from weakref import WeakValueDictionary

import msgspec
import structlog

from domain import recordings as acts
from domain.access import Member
from domain.errors import BadGateway, Conflict, NotFound
from domain.live import Live
from domain.meeting_rooms import provider_failed, room_of
from domain.provider_recording_looks import RUNNING_LOOK_SECONDS, Looks, key_of, move, room_at
from domain.recorder import Recorder, Written
from meetings import daily, daily_recordings
from meetings.provider import (
    AlreadyRecording,
    Link,
    MeetingEmpty,
    NotRecording,
    NotSupported,
    ProviderError,
    RecordingRefused,
    RoomGone,
)
from meetings.providers import Providers
from meetings.webhooks import RecordingNews
from store import meetings, provider_recordings
from store.database import Connection
from store.errors import Away, Refused, translated
from store.meetings import Meeting
from store.provider_recordings import STARTING_SECONDS, ProviderRecording

#: Seconds for a start at the provider: what it has to do takes less, and other workers wait for longer.
START_SECONDS: Final = STARTING_SECONDS - 15.0
#: Seconds that a provider's links end later than they must, so that many can have the same; and links that are kept.
LINK_STEP_SECONDS: Final = 300
MAX_LINKS: Final = 1_000

logger = structlog.get_logger(__name__)


class ProviderRecordings(Recorder):
    """This worker's part in it."""

    def __init__(self, live: Live, providers: Providers) -> None:
        self._live = live
        self._pool = live.pool
        self._providers = providers
        #: By recording and end, the oldest first, and who asks for one.
        self._links: OrderedDict[tuple[UUID, int], Link] = OrderedDict()
        self._asking: WeakValueDictionary[tuple[UUID, int], asyncio.Lock] = WeakValueDictionary()
        self.looks = Looks(live, providers)
        live.recorder = self

    def wake(self) -> None:
        self.looks.wake()

    # Starting

    @asynccontextmanager
    async def begins(self, member: Member, recording_id: UUID) -> AsyncIterator[Written]:
        """As :meth:`Recorder.begins`, where the session's meeting is with a provider that records.

        Raises Conflict (`meeting_empty`, `already_recording`, and why nothing may be recorded), BadGateway.
        """
        meeting = await meetings.current(self._pool, member.session_id)
        if not self._is_recorded(meeting):
            async with super().begins(member, recording_id) as written:
                yield written
            return
        if meeting is None:
            await self._check_ready(member)
            raise meeting_empty()
        provider_id = await self._ask(meeting, member, recording_id)

        async def written_down(connection: Connection) -> None:
            if not await provider_recordings.begun(
                connection,
                recording_id,
                provider=meeting.provider,
                provider_id=provider_id,
                look_after=RUNNING_LOOK_SECONDS,
            ):
                raise BadGateway("The video provider took too long; try again.")

        try:
            yield written_down
        except Exception:
            await self._undo(recording_id)
            raise

    def _is_recorded(self, meeting: Meeting | None) -> bool:
        """Whether it is the provider who records: of a session without a meeting, that of the next one."""
        if meeting is None:
            return "record" in self._providers.chosen.abilities
        try:
            return "record" in self._providers.by_name(meeting.provider).abilities
        except ProviderError as error:
            raise provider_failed("start_recording", error) from error

    async def _check_ready(self, member: Member) -> None:
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                await acts.ready_to_start(connection, member)

    async def _ask(self, meeting: Meeting, member: Member, recording_id: UUID) -> str | None:
        """Have the provider begin; its id for the recording, if it said one."""
        instance_id, room = uuid4(), room_of(meeting)
        try:
            with translated():
                async with self._pool.acquire() as connection, connection.transaction():
                    await acts.ready_to_start(connection, member)
                    await provider_recordings.intend(
                        connection,
                        recording_id=recording_id,
                        session_id=meeting.session_id,
                        meeting_id=meeting.id,
                        provider=meeting.provider,
                        room_name=meeting.room_name,
                        room=msgspec.to_builtins(room),
                        instance_id=instance_id,
                    )
        except Refused as refused:
            if refused.constraint == provider_recordings.ONE_STARTING:
                raise acts.already_recording() from refused
            raise
        try:
            async with asyncio.timeout(START_SECONDS):
                begun = await self._providers.by_name(meeting.provider).start_recording(room, str(instance_id))
        except (AlreadyRecording, MeetingEmpty, RoomGone, RecordingRefused, NotSupported) as refused:
            await provider_recordings.forget(self._pool, recording_id)
            if isinstance(refused, RoomGone):
                await meetings.set_deleted(self._pool, meeting.id)
            if isinstance(refused, AlreadyRecording):
                raise still_recording() from refused
            if isinstance(refused, RecordingRefused | NotSupported):
                raise provider_failed("start_recording", refused) from refused
            raise meeting_empty() from refused
        except ProviderError as error:
            await self._undo(recording_id)
            raise provider_failed("start_recording", error) from error
        except TimeoutError as error:
            await self._undo(recording_id)
            raise BadGateway("The video provider took too long; try again.") from error
        return begun.recording_id

    async def _undo(self, recording_id: UUID) -> None:
        """Have what may have begun stopped and deleted. Where even that cannot be written down, it is when its time is
        up."""
        try:
            await provider_recordings.undo(self._pool, recording_id)
        except Away as error:
            logger.warning("provider_recordings.undone_later", recording=str(recording_id), reason=str(error))
        else:
            self.wake()

    # Reading

    async def link(self, recording_id: UUID, *, until: float) -> Link:
        """Where the film of a recording is read until then (Unix seconds), or LINK_STEP_SECONDS longer at most.

        Its provider is asked once for all who want it about as long: a player comes back for every piece, and a class
        comes at once. Raises NotFound, BadGateway.
        """
        ends_at = math.ceil(until / LINK_STEP_SECONDS) * LINK_STEP_SECONDS
        key = (recording_id, ends_at)
        async with self._asking.setdefault(key, asyncio.Lock()):
            found = self._links.get(key)
            if found is None or found.expires_at.timestamp() < min(until, time.time() + LINK_STEP_SECONDS):
                found = self._links[key] = await self._ask_link(recording_id, seconds=ends_at - int(time.time()))
                if len(self._links) > MAX_LINKS:
                    self._links.popitem(last=False)
            return found

    async def _ask_link(self, recording_id: UUID, *, seconds: int) -> Link:
        found = await provider_recordings.find(self._pool, recording_id)
        if found is None:
            raise acts.unknown_recording()
        try:
            provider = self._providers.by_name(found.provider)
            return await provider.recording_link(room_at(found), key_of(found), seconds=seconds)
        except NotRecording as gone:
            raise NotFound("The video provider does not have this recording any more.", code="file_not_found") from gone
        except ProviderError as error:
            raise provider_failed("recording_link", error) from error

    # Hearing of them

    async def heard(self, news: RecordingNews) -> None:
        """What Daily tells of a recording. Twice, late and out of order is as good as once: states only move forward.

        Of one that is not known here nothing follows.
        """
        told = await provider_recordings.find_told(
            self._pool,
            daily.NAME,
            provider_id=news.recording_id,
            instance_id=_uuid(news.instance_id),
            room_name=news.room_name,
        )
        if told is None or not _is_of(told, news):
            logger.info("recording.unknown", recording=news.recording_id, instance=news.instance_id, told=news.status)
            return
        new_id = news.recording_id if told.provider_id is None else None
        if new_id is not None and not await provider_recordings.name(self._pool, told.recording_id, new_id):
            return  # it has become known as another recording's meanwhile
        if news.status in ("finished", "failed"):
            failure = f"The video provider could not record this: {news.error or 'it did not say why'}"
            await move(self._live, told, news.status == "finished", seconds=news.duration_seconds, failure=failure)


def _is_of(told: ProviderRecording, news: RecordingNews) -> bool:
    """What is told apart by its room alone must have begun after it was asked for."""
    if told.provider_id is not None or _uuid(news.instance_id) == told.instance_id:
        return True
    return daily_recordings.began_between(news.started_at, told.asked_at, None)


def meeting_empty() -> Conflict:
    return Conflict("Nobody is in the meeting yet: come in, and then record it.", code="meeting_empty", retry_after=2)


def still_recording() -> Conflict:
    """It is recorded by somebody else, or by an earlier recording, whose end the provider has not heard of yet."""
    return Conflict(
        "The video provider records this meeting already; try again in a moment.",
        code="already_recording",
        retry_after=2,
    )


def _uuid(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return None
