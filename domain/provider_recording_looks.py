"""Looking after the recordings that video providers make, until they can be seen, have failed or are deleted.

What is wanted of a recording is what its row says; what the provider is known to do stands in
:mod:`store.provider_recordings`. Whoever looks brings the provider closer to what is wanted, or learns from it: as
often as it takes, on whichever worker, so that neither a provider that is away nor a worker that dies leaves one
running, and no webhook is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import structlog

from domain import recordings as acts
from domain.live import Live
from domain.recording_files import News, show, tell_ready
from meetings.provider import NotRecording, Provider, ProviderError, Recording, RecordingKey, Room
from meetings.providers import Providers
from store import meetings, provider_recordings, recordings
from store import sessions as session_store
from store.errors import Away, translated
from store.provider_recordings import HOLD_SECONDS, ProviderRecording

#: Seconds between two looks at a recording that goes on: a meeting may end by itself, or be moved.
RUNNING_LOOK_SECONDS: Final = 60.0
#: Seconds after a recording's end until the provider is asked for its film, if it does not tell by itself; then as long
#: again as it has taken so far, and at most so long.
FIRST_LOOK_SECONDS: Final = 60.0
MAX_LOOK_SECONDS: Final = 600.0
#: For how long a film is waited for, that its provider works on or does not know of yet.
LONGEST_WAIT: Final = timedelta(hours=72)
#: The same where nobody wants it any more, and it is only to be deleted; and the longest pause meanwhile.
LONGEST_WAIT_UNWANTED: Final = timedelta(hours=24)
MAX_UNWANTED_LOOK_SECONDS: Final = 3_600.0
#: Seconds until what runs on though it was stopped is stopped again: it may have been about to begin. Then as long
#: again as it has taken so far, and at most so long.
STOP_AGAIN_SECONDS: Final = 5.0
MAX_STOP_AGAIN_SECONDS: Final = 600.0
#: After so long a recording that its provider does not know of was never made.
UNKNOWN_AFTER: Final = timedelta(minutes=10)
#: Recordings that a worker looks at at a time; more wait.
LOOKING_AT_ONCE: Final = 4
#: Seconds for one look: less than it is held.
LOOK_SECONDS: Final = HOLD_SECONDS - 5.0
#: Seconds between two rounds of a worker, about. What happens here is not waited for.
ROUND_SECONDS: Final = 5.0
JITTER: Final = 0.2
#: Seconds that what is under way may take when the worker leaves.
CLOSE_SECONDS: Final = 1.0

NO_FILM: Final = "The video provider has no such recording."

logger = structlog.get_logger(__name__)


class Looks:
    """This worker's part in it."""

    def __init__(self, live: Live, providers: Providers) -> None:
        self._live = live
        self._pool = live.pool
        self._providers = providers
        self._lookers: set[asyncio.Task[None]] = set()
        self._rounds: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._rounds = asyncio.create_task(self._go_round(), name="provider-recordings")

    async def close(self) -> None:
        """Finish what is under way, if that does not take long; the rest is done by others."""
        if self._rounds is not None:
            self._rounds.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._rounds
        if self._lookers:
            await asyncio.wait(self._lookers, timeout=CLOSE_SECONDS)
        lookers = list(self._lookers)
        for task in lookers:
            task.cancel()
        await asyncio.gather(*lookers, return_exceptions=True)

    def wake(self) -> None:
        """There may be one to look at. What comes while all are busy is found by them, or in the next round."""
        if len(self._lookers) < LOOKING_AT_ONCE:
            task = asyncio.create_task(self._look_quietly(), name="provider-recording")
            self._lookers.add(task)
            task.add_done_callback(self._lookers.discard)

    async def _go_round(self) -> None:
        while True:
            await asyncio.sleep(ROUND_SECONDS * random.uniform(1 - JITTER, 1 + JITTER))
            self.wake()

    async def look(self) -> None:
        """Look at all that are due. What their providers do not do is tried again later. Raises Away."""
        while (held := await provider_recordings.claim(self._pool)) is not None:
            await self._look(held)

    async def _look_quietly(self) -> None:
        try:
            await self.look()
        except Away as error:
            logger.info("provider_recordings.wait", reason=str(error))
        except Exception:
            logger.exception("provider_recordings.failed")

    async def _look(self, held: ProviderRecording) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._bring_closer(held)
        except (ProviderError, TimeoutError) as error:
            reason = str(error) or "too slow"
            logger.warning("provider_recordings.not_done", recording=str(held.recording_id), reason=reason)
            await provider_recordings.release(self._pool, held)

    async def _bring_closer(self, held: ProviderRecording) -> None:
        provider, room = self._providers.by_name(held.provider), room_at(held)
        wanted = await recordings.find(self._pool, held.recording_id)
        if held.phase == "running" and (wanted is None or wanted.status != "recording"):
            with contextlib.suppress(NotRecording):
                await provider.stop_recording(room, key_of(held))
            after = 0.0 if wanted is None else FIRST_LOOK_SECONDS
            await provider_recordings.looked_at(self._pool, held, "stopped", look_after=after)
        elif wanted is None:
            await self._delete(held, provider, room)
        elif held.phase == "running":
            await self._follow(held, provider, room)
        elif held.phase == "stopped" and wanted.status != "completed":
            await self._wait_for_film(held, provider, room)
        else:
            await provider_recordings.looked_at(self._pool, held, "settled", look_after=None)

    async def _follow(self, held: ProviderRecording, provider: Provider, room: Room) -> None:
        """One that goes on here: does it there, too?"""
        current = await meetings.current(self._pool, held.session_id)
        if current is None or current.id != held.meeting_id:
            await self._stop_here(held)  # its meeting is over, and so is it
        else:
            found = await self._find(held, provider, room, wanted=True)
            if found is None and datetime.now(UTC) - held.asked_at > UNKNOWN_AFTER:
                await move(self._live, held, has_film=False, seconds=None, failure=NO_FILM)
            elif found is not None and found.status == "processing":
                await self._stop_here(held)
            elif found is not None and found.status != "in-progress":
                await self._settle(held, found)
                await provider_recordings.looked_at(self._pool, held, "stopped", look_after=0.0)
                return
        await provider_recordings.looked_at(self._pool, held, "running", look_after=RUNNING_LOOK_SECONDS)

    async def _stop_here(self, held: ProviderRecording) -> None:
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                await session_store.locked(connection, held.session_id)
                running = await recordings.running(connection, held.session_id)
                if running is None or running.id != held.recording_id:
                    return
                entry = await recordings.stop_running(connection, held.session_id, stopped_by=None)
        if entry is not None:
            self._live.publish([entry])

    async def _wait_for_film(self, held: ProviderRecording, provider: Provider, room: Room) -> None:
        found = await self._find(held, provider, room, wanted=True)
        waited = waited_for(held)
        if found is not None and found.status == "in-progress" and waited < LONGEST_WAIT:
            await self._stop_again(held, waited)
        elif found is not None and found.status in ("finished", "failed"):
            await self._settle(held, found)
            await provider_recordings.looked_at(self._pool, held, "settled", look_after=None)
        elif waited >= LONGEST_WAIT:
            await move(self._live, held, has_film=False, seconds=None, failure=NO_FILM)
            await provider_recordings.looked_at(self._pool, held, "settled", look_after=None)
        else:
            after = max(FIRST_LOOK_SECONDS, min(waited.total_seconds(), MAX_LOOK_SECONDS))
            await provider_recordings.looked_at(self._pool, held, "stopped", look_after=after)

    async def _settle(self, held: ProviderRecording, found: Recording) -> None:
        failure = "The video provider could not record this."
        await move(self._live, held, found.status == "finished", seconds=found.duration_seconds, failure=failure)

    async def _delete(self, held: ProviderRecording, provider: Provider, room: Room) -> None:
        """One that nobody wants any more: what comes of it late is waited for, and deleted, too."""
        found: Recording | None = None
        if held.phase != "settled":
            found = await self._find(held, provider, room, wanted=False)
            waited = waited_for(held)
            unsettled = found is None or found.status in ("in-progress", "processing")
            if unsettled and waited < LONGEST_WAIT_UNWANTED:
                if found is not None and found.status == "in-progress":
                    await self._stop_again(held, waited)
                else:
                    after = max(FIRST_LOOK_SECONDS, min(waited.total_seconds(), MAX_UNWANTED_LOOK_SECONDS))
                    await provider_recordings.looked_at(self._pool, held, "stopped", look_after=after)
                return
        key = key_of(held)
        if found is not None:
            key = replace(key, recording_id=found.id)
        await provider.delete_recording(room, key)
        await provider_recordings.forget(self._pool, held.recording_id)
        logger.info("provider_recordings.deleted", recording=str(held.recording_id), provider=held.provider)

    async def _stop_again(self, held: ProviderRecording, waited: timedelta) -> None:
        """It runs though it was stopped: it was about to begin, or its provider does not do it."""
        after = max(STOP_AGAIN_SECONDS, min(waited.total_seconds(), MAX_STOP_AGAIN_SECONDS))
        await provider_recordings.looked_at(self._pool, held, "running", look_after=after)

    async def _find(self, held: ProviderRecording, provider: Provider, room: Room, *, wanted: bool) -> Recording | None:
        """What the provider has not named is found by when it began. What is not `wanted` will be deleted: it is not
        looked for as long as it may be what somebody waits for."""
        if held.provider_id is not None:
            return await provider.find_recording(room, key_of(held), since=held.asked_at)
        others = await provider_recordings.others_in_room(self._pool, held)
        if others.waits and not wanted:
            return None
        found = await provider.find_recording(
            room, key_of(held), since=held.asked_at, until=others.next, others=others.named
        )
        if found is None or not await provider_recordings.name(self._pool, held.recording_id, found.id):
            return None
        return found


async def move(live: Live, told: ProviderRecording, has_film: bool, *, seconds: int | None, failure: str) -> None:
    """The recording can be seen, or has failed; nothing happens where it is so far already, or gone."""
    news = News()
    with translated():
        async with live.pool.acquire() as connection, connection.transaction():
            session = await session_store.locked(connection, told.session_id)
            if session is None:
                return
            at = datetime.now(UTC)
            if has_film and await provider_recordings.complete(connection, told.recording_id, seconds=seconds):
                recording = await acts.read(connection, session.id, told.recording_id)
                entry = await recordings.log_state(
                    connection, session.id, recording.id, "completed", at=at, user_id=None
                )
                await provider_recordings.settle(connection, recording.id)
                news = News(entries=[entry], told=await tell_ready(connection, session, recording))
            elif not has_film and await provider_recordings.fail(connection, told.recording_id, failure=failure):
                entry = await recordings.log_state(
                    connection, session.id, told.recording_id, "failed", at=at, user_id=None
                )
                # The film may come all the same.
                await provider_recordings.look_soon(connection, told.recording_id, look_after=FIRST_LOOK_SECONDS)
                news = News(entries=[entry])
    show(live, news)


def waited_for(held: ProviderRecording) -> timedelta:
    """How long it has been since it was stopped first."""
    return datetime.now(UTC) - (held.stopped_at or held.asked_at)


def room_at(found: ProviderRecording) -> Room:
    return msgspec.convert(found.room, Room)


def key_of(found: ProviderRecording) -> RecordingKey:
    return RecordingKey(instance_id=str(found.instance_id), recording_id=found.provider_id)
