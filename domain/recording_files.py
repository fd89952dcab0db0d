"""The files of recordings: who may send one, and what becomes of the recording with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

from domain import access, notifications
from domain.errors import Conflict, Forbidden, invalid
from domain.files import SILENT, is_film
from domain.identity import Identity
from domain.live import Live
from domain.notifications import Told
from domain.purposes import Admission
from domain.recordings import unknown_recording
from domain.uploads import FILM_EXPIRY
from store import recordings, uploads
from store import sessions as session_store
from store.database import Connection, Executor
from store.events import LogEntry
from store.files import File
from store.ids import new_id
from store.recordings import Recording, Status
from store.sessions import Session

#: Seconds after the last bytes of a film in which no other page may record the same: a page that sees the server away
#: asks again sooner.
FILM_LEASE_SECONDS: Final = 60.0
MAX_PAGE_CHARACTERS: Final = 64

# Rules


def may_not_upload() -> Forbidden:
    return Forbidden("Only the tutor can upload recordings", code="not_host")


def check_takes_file(recording: Recording | None, session_id: UUID) -> Recording:
    """The recording, if a file can be added to it. Raises NotFound, Conflict (`recording_has_file`,
    `recording_failed`, `recording_at_provider`)."""
    if recording is None or recording.session_id != session_id:
        raise unknown_recording()
    if recording.status == "failed":
        raise Conflict("This recording has failed; send the file as one of its own.", code="recording_failed")
    if recording.provider is not None:
        raise Conflict(
            "The video provider makes this recording; send the file as one of its own.", code="recording_at_provider"
        )
    if recording.file_id is not None:
        raise has_file()
    return recording


def has_file() -> Conflict:
    return Conflict("This recording has its file already.", code="recording_has_file")


async def is_part(connection: Connection, recording: Recording, film: File) -> bool:
    """Whether a film of the recording is not the file of it: it has one, or has failed; or it runs on, unless whoever
    made the film is gone without a word, and nobody else makes one."""
    if recording.status == "recording" and SILENT in film.details:
        return await another_films(connection, film, page="")
    return recording.status != "processing" or recording.file_id is not None


def recorded_elsewhere() -> Conflict:
    return Conflict("Another page of yours records this lesson.", code="recorded_elsewhere")


async def check_nobody_else_films(connection: Connection, file: File) -> None:
    """One page records a lesson; who has sent nothing for a while is gone. Raises Conflict (`recorded_elsewhere`).

    Inside the transaction that announces the file, which holds its session.
    """
    if await another_films(connection, file, page=file.details["page"]):
        raise recorded_elsewhere()


async def another_films(connection: Connection, film: File, *, page: str) -> bool:
    """Whether another film of the same recording is being made just now, by another page if one is named."""
    since = datetime.now(UTC) - timedelta(seconds=FILM_LEASE_SECONDS)
    return await uploads.others_film(
        connection,
        film.id,
        session_id=film.session_id,
        recording_id=film.details["recording_id"],
        page=page,
        expires_after=since + FILM_EXPIRY,
    )


class RecordingFiles:
    """What recordings have to say of their files: :class:`domain.purposes.Hooks`."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def admit(self, executor: Executor, identity: Identity, fields: Mapping[str, str]) -> Admission:
        """`session_id` is an id or a room name; `recording_id` a recording that waits for its file, or none. Of a
        film, `page` is which page of the sender's makes it.

        Raises NotFound, Forbidden, BadRequest, Conflict (`recording_has_file`, `recording_failed`).
        """
        ref = fields.get("session_id", "").strip()
        if not ref:
            raise invalid({"session_id": "is required"})
        session = await may_upload(executor, access.session_ref(ref), identity)
        recording_id: UUID | None = None
        if said := fields.get("recording_id", "").strip():
            try:
                recording_id = UUID(said)
            except ValueError:
                raise invalid({"recording_id": "must be a UUID"}) from None
            check_takes_file(await recordings.find(executor, recording_id), session.id)
        return Admission(
            session_id=session.id,
            details={
                "recording_id": None if recording_id is None else str(recording_id),
                "page": fields.get("page", "")[:MAX_PAGE_CHARACTERS],
            },
            watchers=[session.host_id],
        )

    async def moved(self, connection: Connection, file: File) -> Callable[[], None] | None:
        said = file.details.get("recording_id")
        if file.state == "uploading":
            if is_film(file) and said is not None:
                await check_nobody_else_films(connection, file)
            return None
        news = await take_file(connection, file, None if said is None else UUID(said))
        if file.state != "processing":
            more = await finished(connection, file)
            news = News(entries=[*news.entries, *more.entries], told=more.told)
        return partial(show, self._live, news)


# Acts


async def may_upload(executor: Executor, ref: UUID | str, identity: Identity) -> Session:
    """The session, if the identity leads it. Raises NotFound, Forbidden: to a stranger as to any other member."""
    try:
        session, member = await access.enter(executor, ref, identity)
    except Forbidden as refused:
        raise Forbidden(may_not_upload().message, code=refused.code) from None
    if not member.is_host:
        raise may_not_upload()
    return session


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """What is shown after the commit of a change to a recording."""

    entries: Sequence[LogEntry] = ()
    told: Sequence[Told] = ()


def show(live: Live, news: News) -> None:
    live.publish(news.entries)
    notifications.push(live, *news.told)


async def take_file(connection: Connection, file: File, recording_id: UUID | None) -> News:
    """A file has come in whole: it is the recording's, or a recording of its own that was made elsewhere.

    A film that ends while its recording runs is a part of the lesson, and a recording of its own; so is one whose
    recording has another file already. Inside the transaction that makes the file `processing`, or `failed`. Raises
    NotFound and Conflict where the recording has gone, or got a file, meanwhile.
    """
    if file.state == "failed":
        return await end_with_film(connection, file, recording_id)
    if await recordings.of_file(connection, file.id) is not None:
        return News()
    session = None if file.session_id is None else await session_store.locked(connection, file.session_id)
    if session is None:
        raise access.unknown_session()
    before = None if recording_id is None else await recordings.find(connection, recording_id)
    began_at = file.created_at if is_film(file) else None
    if recording_id is None or (before is not None and is_film(file) and await is_part(connection, before, file)):
        own_id = new_id()
        await recordings.insert_with_file(
            connection, session.id, recording_id=own_id, file_id=file.id, uploaded_by=file.owner_id, began_at=began_at
        )
        return News(entries=[await _log(connection, session.id, own_id, "processing", file)])
    before = check_takes_file(before, session.id)
    if not await recordings.add_file(connection, recording_id, file.id, uploaded_by=file.owner_id, began_at=began_at):
        raise has_file()
    if before.status == "processing":
        return News()
    return News(entries=[await _log(connection, session.id, recording_id, "processing", file)])


async def end_with_film(connection: Connection, film: File, recording_id: UUID | None) -> News:
    """A file will not be there. Was it a film of which nothing came before whoever made it was gone without a word, its
    recording is over, unless somebody else makes one of that."""
    if recording_id is None or film.session_id is None or SILENT not in film.details:
        return News()
    session = await session_store.locked(connection, film.session_id)
    if session is None or await another_films(connection, film, page=""):
        return News()
    recording = await recordings.running(connection, session.id)
    if recording is None or recording.id != recording_id:
        return News()
    entry = await recordings.stop_running(connection, session.id, stopped_by=None)
    return News(entries=[] if entry is None else [entry])


async def finished(connection: Connection, file: File) -> News:
    """A recording's file was looked through, `ready` or `failed`: so is the recording, and its members are told.

    Inside the transaction that says so of the file; :func:`show` the answer after its commit.
    """
    recording = await recordings.of_file(connection, file.id)
    if recording is None:
        return News()
    session = await session_store.locked(connection, recording.session_id)
    if session is None:
        return News()
    if file.state == "failed":
        if not await recordings.finish(connection, recording.id, "failed", failure=file.reason):
            return News()
        await recordings.drop_file(connection, recording.id)
        return News(entries=[await _log(connection, session.id, recording.id, "failed", file)])
    if not await recordings.finish(connection, recording.id, "completed", seconds=file.seconds):
        return News()
    entry = await _log(connection, session.id, recording.id, "completed", file)
    return News(entries=[entry], told=await tell_ready(connection, session, recording))


async def _log(connection: Connection, session_id: UUID, recording_id: UUID, status: Status, file: File) -> LogEntry:
    return await recordings.log_state(
        connection, session_id, recording_id, status, at=file.updated_at, user_id=file.owner_id
    )


async def tell_ready(connection: Connection, session: Session, recording: Recording) -> list[Told]:
    """Store that a recording can be seen: for the session's people, and the enrolled of its course."""
    title = f"Recording ready: {session.title}" if session.title else "A recording is ready"
    data = {"session_id": session.id, "room_name": session.room_name, "recording_id": recording.id}
    body = "It can be watched now."
    people = access.people_of(session)
    told = [
        await notifications.to_people(
            connection, sorted(people), kind="recording_ready", title=title, body=body, data=data
        )
    ]
    if session.course_id is not None:
        told.append(
            await notifications.to_enrolled(
                connection, session.course_id, kind="recording_ready", title=title, body=body, data=data
            )
        )
    return told
