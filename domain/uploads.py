"""Taking files in: one act, whichever way the bytes come (a form, a resumable upload, a one-time address).

A file is announced (:meth:`Uploads.create`): who may, how large, whether there is room for it. Its bytes come through
an :class:`domain.arrivals.Arrival`, which one request at a time holds. When it is whole (:meth:`Uploads.complete`) it
is ready, or, if it is film or sound, looked through first (:mod:`domain.processing`). Nobody reads it before.

Those whose purpose a file serves (:mod:`domain.purposes`) say who may send one, and follow what becomes of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

import structlog

from domain import files as rules
from domain.arrivals import LEASE_SECONDS, Arrival
from domain.errors import EncountersError, Locked, TooManyRequests, Unavailable
from domain.files import Limits
from domain.identity import Identity
from domain.live import Live
from domain.purposes import Admission, Hooks, Shown
from media.types import Family
from store import files, uploads
from store.database import Connection
from store.errors import Away, translated
from store.files import File, Purpose
from store.ids import new_id
from store.objects.objects import ObjectStore
from store.uploads import Upload

#: Files of one person that are on their way at a time.
MAX_ON_THEIR_WAY: Final = 20
#: Seconds after which it is worth trying again where there are too many.
TRY_AGAIN_SECONDS: Final = 60
#: Seconds within which whoever writes lets go when somebody else wants to; and between two looks whether they have.
TAKE_OVER_SECONDS: Final = 8.0
TAKE_OVER_LOOK_SECONDS: Final = 0.2
#: How long a file that is sent in one go may be on its way before it is given up for lost.
ONE_GO_EXPIRY: Final = timedelta(hours=6)
#: How long a film may rest before it is taken for ended: twice as long as a page without network goes on recording
#: (`MOST_WAITING_BYTES` in static/recorder.js), and soon enough for those who wait for it.
FILM_EXPIRY: Final = timedelta(minutes=45)
#: What has to be free for a film to be begun.
LEAST_FILM_BYTES: Final = 16 * 1024 * 1024
#: For how long a one-time address takes its file.
ONCE_EXPIRY: Final = timedelta(minutes=15)

EXPIRED: Final = "The upload was not finished in time."
TERMINATED: Final = "The upload was given up."

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadSettings:
    """`quota_bytes`: what one person's files may take, 0 for any. `expiry`: of a resumable upload that rests."""

    max_recording_bytes: int
    quota_bytes: int
    expiry: timedelta


class Uploads:
    """This worker's way of taking files in. `whole()` is called when there is a file to be looked through."""

    def __init__(self, live: Live, objects: ObjectStore, settings: UploadSettings) -> None:
        self.live = live
        self.pool = live.pool
        self.objects = objects
        self.settings = settings
        self.hooks: dict[Purpose, Hooks] = {}
        self.whole: Callable[[], None] = lambda: None
        self.arrivals: set[Arrival] = set()
        self._link_key: bytes | None = None
        self._stopped = False

    async def link_key(self) -> bytes:
        """What links are signed with."""
        if self._link_key is None:
            self._link_key = await files.link_key(self.pool)
        return self._link_key

    def stop(self) -> None:
        """Have every request that sends a file end, with what came kept, and take no more: this worker leaves."""
        self._stopped = True
        for arrival in list(self.arrivals):
            arrival.interrupt(_leaving())

    def limits(self, purpose: Purpose, families: frozenset[Family] | None = None) -> Limits:
        return rules.limits_of(purpose, max_recording_bytes=self.settings.max_recording_bytes, families=families)

    async def admit(self, identity: Identity, purpose: Purpose, fields: Mapping[str, str]) -> Admission:
        """Leave to send a file, by what its sender says of it. Raises NotFound, Forbidden, BadRequest, Conflict."""
        if purpose == "document" and purpose not in self.hooks:
            return Admission()  # anybody's
        return await self.hooks[purpose].admit(self.pool, identity, fields)

    async def create(
        self,
        identity: Identity,
        purpose: Purpose,
        admission: Admission | None,
        *,
        name: str,
        length: int | None,
        at_most: int | None = None,
        mime_wanted: str | None = None,
        metadata: str = "",
        expiry: timedelta | None = None,
    ) -> File:
        """Announce a file of `length` bytes; None where only its end will tell, of `at_most` so many then. Such a
        recording is a film (:func:`domain.files.is_film`), which takes what is left of the quota.

        Without an admission, one is given when it is whole (:meth:`Arrival.finish`). With an `expiry` it is not
        resumable. Raises TooLarge (`file_too_large`, `quota_exceeded`), TooManyRequests, BadRequest (`empty_file`),
        Unavailable after :meth:`stop`.
        """
        self._check_stays()
        limits = self.limits(purpose, admission.families if admission else None)
        if length is not None:
            rules.check_size(limits, length)
        size = length if length is not None else min(limits.max_bytes, at_most or limits.max_bytes)
        quota = self.settings.quota_bytes
        file_id = new_id()
        details = dict(admission.details) if admission else {}
        if length is None and expiry is None and purpose == "recording":
            details[rules.FILM] = True
        with translated():
            async with self.pool.acquire() as connection, connection.transaction():
                if admission is not None:
                    await files.hold_place(connection, session_id=admission.session_id, course_id=admission.course_id)
                taken = await files.usage(connection, identity.user_id)
                if taken.uploading >= MAX_ON_THEIR_WAY:
                    raise TooManyRequests(
                        f"{MAX_ON_THEIR_WAY} of your files are on their way already; finish those first, or end them.",
                        code="too_many_uploads",
                        retry_after=TRY_AGAIN_SECONDS,
                    )
                if quota and rules.FILM in details:
                    size = max(min(size, quota - taken.bytes), min(size, LEAST_FILM_BYTES))
                if quota and taken.bytes + size > quota:
                    raise rules.over_quota(quota, taken.bytes, size, at_most=length is None)
                file = await files.insert(
                    connection,
                    file_id=file_id,
                    key=f"{purpose}/{file_id}",
                    owner_id=identity.user_id,
                    purpose=purpose,
                    name=rules.clean_name(name),
                    size=size,
                    session_id=admission.session_id if admission else None,
                    course_id=admission.course_id if admission else None,
                    details=details,
                )
                await uploads.insert(
                    connection,
                    file_id=file_id,
                    length=length,
                    metadata=metadata,
                    mime_wanted=mime_wanted,
                    families=sorted(admission.families) if admission and admission.families else None,
                    watchers=list(admission.watchers) if admission else [],
                    resumable=expiry is None,
                    expires_at=datetime.now(UTC) + (expiry or self.expiry_of(file)),
                )
                shown = await self.moved(connection, file) if admission else None
        _show(shown)
        return file

    def expiry_of(self, file: File) -> timedelta:
        """How long a resumable upload may rest."""
        return min(FILM_EXPIRY, self.settings.expiry) if rules.is_film(file) else self.settings.expiry

    async def find(self, identity: Identity, file_id: UUID) -> tuple[File, Upload | None]:
        """A file that the identity sends, and its upload unless that is over. Raises NotFound, also for others'."""
        file = await files.find(self.pool, file_id)
        if file is None or file.owner_id != identity.user_id:
            raise rules.unknown_upload()
        if file.state == "failed":
            raise rules.unknown_upload(file.reason)
        return file, await uploads.find(self.pool, file_id)

    async def rested(self, identity: Identity, file_id: UUID) -> tuple[File, Upload | None]:
        """As :meth:`find`, with nobody writing any more: how far it has come is how far it will stay."""
        file, upload = await self.find(identity, file_id)
        deadline = time.monotonic() + TAKE_OVER_SECONDS
        # Whoever writes may be on another worker: the database is where they meet. What cannot resume is left alone.
        while (
            upload is not None
            and upload.resumable
            and await uploads.want(self.pool, file_id)
            and time.monotonic() < deadline
        ):
            await asyncio.sleep(TAKE_OVER_LOOK_SECONDS)
            file, upload = await self.find(identity, file_id)
        if upload is not None:
            file, upload = await self.find(identity, file_id)  # what was written as they let go
        return file, upload

    async def arrive(self, file: File) -> Arrival:
        """Take the lease of a file's upload: whoever writes to it lets go. Use it as a context manager.

        Raises Locked where they do not, NotFound, Conflict (`upload_finished`), Unavailable after :meth:`stop`.
        """
        self._check_stays()
        holder = uuid4()
        deadline = time.monotonic() + TAKE_OVER_SECONDS
        while (upload := await uploads.take(self.pool, file.id, holder, seconds=LEASE_SECONDS)) is None:
            found = await files.find(self.pool, file.id)
            if found is None or found.state == "failed":
                raise rules.unknown_upload(found.reason if found else None)
            if found.state != "uploading":
                raise rules.finished()
            if time.monotonic() >= deadline:
                raise rules.taken_over()
            await uploads.want(self.pool, file.id)
            await asyncio.sleep(TAKE_OVER_LOOK_SECONDS)
        # As whoever wrote before left it: its type may be known by now.
        file = await files.find(self.pool, file.id) or file
        arrival = Arrival(self, file, upload, holder)
        if self._stopped:  # meanwhile
            arrival.interrupt(_leaving())
        return arrival

    def _check_stays(self) -> None:
        if self._stopped:
            raise _leaving()

    async def complete(self, file: File, holder: UUID, *, size: int, admission: Admission | None = None) -> File:
        """A file lies whole in the object store. Raises Locked where somebody else took over, and what those whose
        purpose it serves raise of it: then it has failed."""
        try:
            with translated():
                async with self.pool.acquire() as connection, connection.transaction():
                    whole, shown = await self._complete_locked(connection, file, holder, size, admission)
        except Locked:
            raise
        except EncountersError as error:
            await self.fail(file.id, None, error.message)
            if await files.find(self.pool, file.id) is None:
                # Deleted as it came in: its object may be younger than the note that it is to go.
                await files.delete_object_later(self.pool, file.key)
            raise
        _show(shown)
        if whole.state == "processing":
            self.whole()
        return whole

    async def _complete_locked(
        self, connection: Connection, file: File, holder: UUID, size: int, admission: Admission | None
    ) -> tuple[File, Shown | None]:
        if admission is not None:
            await files.hold_place(connection, session_id=admission.session_id, course_id=admission.course_id)
        if await files.locked(connection, file.id) is None:
            raise rules.unknown_upload()
        if not await uploads.delete(connection, file.id, holder):
            raise rules.taken_over()
        if admission is not None:
            await files.save_place(
                connection,
                file.id,
                session_id=admission.session_id,
                course_id=admission.course_id,
                details=admission.details,
            )
        state: files.State = "ready" if rules.TYPES[file.mime].demuxer is None else "processing"
        whole = await files.save_whole(connection, file.id, size=size, state=state)
        return whole, await self.moved(connection, whole)

    async def fail(self, file_id: UUID, upload: Upload | None, reason: str) -> None:
        """A file that was on its way will not be there: its bytes go, and those whose purpose it serves are told."""
        with translated():
            async with self.pool.acquire() as connection, connection.transaction():
                file = await files.locked(connection, file_id)
                if file is None or file.state != "uploading":
                    return
                failed = await files.save_failed(connection, file_id, reason)
                shown = await self.moved_to_failed(connection, failed)
        _show(shown)
        if upload is not None and upload.state is not None:
            await self.give_up(file.key, upload.state)

    @contextlib.asynccontextmanager
    async def given_up_on_error(self, file: File) -> AsyncIterator[None]:
        """Around what is done with a file that nobody else knows of yet: should that fail, nobody can go on with it."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(Away):  # it expires, then
                await self.fail(file.id, None, TERMINATED)
            raise

    async def give_up(self, key: str, state: str) -> None:
        """Remove what an upload has written, which is noted as to go: what cannot be reached now, the sweeper will."""
        with contextlib.suppress(Away):
            await self.objects.give_up(key, state)
            await uploads.given_up(self.pool, key, state)

    async def delete(self, identity: Identity, file_id: UUID) -> None:
        """Give an upload up, or take a file away that came in whole. Raises NotFound, Locked, Conflict (`file_in_use`;
        `upload_finished` where it was finished just now)."""
        file, upload = await self.find(identity, file_id)
        if upload is not None:
            async with await self.arrive(file) as arrival:
                await self.fail(file.id, arrival.upload, TERMINATED)
            return
        with translated():
            async with self.pool.acquire() as connection, connection.transaction():
                if await files.locked(connection, file_id) is None:
                    raise rules.unknown_upload()
                if await files.is_in_use(connection, file_id):
                    raise rules.in_use()
                await files.delete(connection, file_id)

    async def settle(self, file: File, upload: Upload, holder: UUID) -> None:
        """What becomes of an upload that nobody goes on with, of which the holder has the lease: the file is whole, if
        all of it is there, else it has failed. Raises Away, and what it was refused for."""
        async with Arrival(self, file, upload, holder) as arrival:
            if await self.lies_whole(file, upload):
                await self.complete(file, holder, size=upload.length or 0)
            elif arrival.is_whole:
                await arrival.finish()
            elif rules.is_film(file) and upload.offset:
                await arrival.end_film(silent=True)
            else:
                if rules.is_film(file):
                    await files.add_details(self.pool, file.id, {rules.SILENT: True})
                await arrival.give_up(EXPIRED)

    async def lies_whole(self, file: File, upload: Upload) -> bool:
        """Whether all of a file lies under its key already: whoever finished it was gone before it was noted down."""
        if upload.length is None or not file.mime:
            return False
        found = await self.objects.stat(file.key)
        return found is not None and found.size == upload.length

    async def moved(self, connection: Connection, file: File) -> Shown | None:
        """Tell those whose purpose a file serves what became of it, in the transaction in which it did."""
        hooks = self.hooks.get(file.purpose)
        return None if hooks is None else await hooks.moved(connection, file)

    async def moved_to_failed(self, connection: Connection, file: File) -> Shown | None:
        """As :meth:`moved`, of a file that has failed: it has, whatever they think of it."""
        try:
            async with connection.transaction():
                return await self.moved(connection, file)
        except EncountersError as error:
            logger.info("uploads.failure_not_taken", file=str(file.id), reason=error.message)
            return None


def _leaving() -> Unavailable:
    return Unavailable("This server is about to stop; go on with the upload elsewhere.", retry_after=1)


def _show(shown: Shown | None) -> None:
    if shown is not None:
        shown()
