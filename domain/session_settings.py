"""What a host sets in a session, and the title, start and size that they give it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from domain import access
from domain.access import Member
from domain.errors import BadRequest, Conflict, invalid
from store import events, participants, recordings, sessions, whiteboards
from store import session_settings as store
from store.errors import translated
from store.events import LogEntry
from store.session_settings import MAX_PARTICIPANTS, MAX_SLOW_MODE_SECONDS, Settings
from store.sessions import Session

if TYPE_CHECKING:
    from domain.live import Live  # which keeps up with settings by what stands here
    from store.database import Connection

#: Characters of a session's title: one line on a card.
MAX_TITLE_CHARACTERS: Final = 200

#: How clients read and write the settings.
_SPELLINGS: Final[Mapping[str, str]] = {
    "locked": "locked",
    "waiting_room": "waitingRoom",
    "chat_muted": "chatMuted",
    "slow_mode_seconds": "slowModeSeconds",
    "whiteboard_locked": "whiteboardLocked",
    "recording_consent": "recordingConsent",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingsChange:
    """What a host changes of the settings; None leaves it as it is."""

    locked: bool | None = None
    waiting_room: bool | None = None
    chat_muted: bool | None = None
    slow_mode_seconds: int | None = None
    whiteboard_locked: bool | None = None
    recording_consent: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DetailsChange:
    """What a host changes of a session beside its settings; None leaves it as it is."""

    title: str | None = None
    starts_at: datetime | None = None
    recording_enabled: bool | None = None
    max_participants: int | None = None
    #: `max_participants` is written as it is, also None: as many as come.
    sets_max_participants: bool = False


NO_SETTINGS: Final = SettingsChange()
NO_DETAILS: Final = DetailsChange()


def document(settings: Settings) -> dict[str, Any]:
    """The settings as clients see them: `{locked, waitingRoom, chatMuted, slowModeSeconds, whiteboardLocked,
    recordingConsent}`."""
    return {spelling: getattr(settings, name) for name, spelling in _SPELLINGS.items()}


def from_document(said: Mapping[str, Any]) -> Settings:
    """The settings that :func:`document` made this of; `sessionSettings` carries it."""
    # A worker of an older release, which knows fewer of them, may have said it.
    return Settings(**{name: said[spelling] for name, spelling in _SPELLINGS.items() if spelling in said})


def changed(settings: Settings, change: SettingsChange) -> Settings:
    """The settings after the change. Raises BadRequest for a pause between messages that is out of range."""
    if change.slow_mode_seconds is not None and not 0 <= change.slow_mode_seconds <= MAX_SLOW_MODE_SECONDS:
        raise invalid({"slow_mode_seconds": f"must be a whole number from 0 to {MAX_SLOW_MODE_SECONDS}"})
    wanted = {name: value for name in _SPELLINGS if (value := getattr(change, name)) is not None}
    return replace(settings, **wanted)


def trimmed_title(title: str) -> str:
    """A title without white space at its ends. Raises BadRequest for one that is too long or breaks the line."""
    title = title.strip()
    if len(title) > MAX_TITLE_CHARACTERS:
        raise invalid({"title": f"must have at most {MAX_TITLE_CHARACTERS} characters"})
    if any(character in title for character in "\r\n"):
        raise invalid({"title": "must be one line"})
    return title


def check_max_participants(number: int | None) -> None:
    """Raise BadRequest for a size that no session may have."""
    if number is not None and not 1 <= number <= MAX_PARTICIPANTS:
        raise invalid({"max_participants": f"must be a whole number from 1 to {MAX_PARTICIPANTS}"})


def check_details(session: Session, change: DetailsChange) -> None:
    """Raise unless the session can take these details: a class alone is moved and sized here, and moved only before
    it has begun. BadRequest, or Conflict (`session_started`)."""
    check_max_participants(change.max_participants)
    if session.kind == "booking":
        problems = {}
        if change.starts_at is not None:
            problems["starts_at"] = "is the booking's; reschedule that"
        if change.sets_max_participants:
            problems["max_participants"] = "is for classes; a booking has its people"
        if problems:
            raise invalid(problems)
    if change.starts_at not in (None, session.starts_at) and session.status != "scheduled":
        raise Conflict(f"The session is {session.status}; its start cannot be moved.", code="session_started")


async def change(live: Live, member: Member, wanted: SettingsChange, details: DetailsChange = NO_DETAILS) -> Session:
    """Change what is given, all or nothing; the host may. Everybody is shown settings that are new.

    To what it is already: nothing happens. Raises BadRequest (`nothing_to_change`, `validation_failed`), Forbidden
    (`not_host`), NotFound, Conflict (`session_started`, `recording_running`).
    """
    access.require_host(member)
    if wanted == NO_SETTINGS and details == NO_DETAILS:
        raise BadRequest("Say what to change of the session.", code="nothing_to_change")
    if details.title is not None:
        details = replace(details, title=trimmed_title(details.title))
    entries: list[LogEntry] = []
    with translated():
        async with live.pool.acquire() as connection, connection.transaction():
            if wanted.whiteboard_locked is not None:
                # So that nothing of others is drawn any more once the host is answered.
                await whiteboards.hold(connection, member.session_id)
            session = await sessions.locked(connection, member.session_id)
            if session is None:
                raise access.unknown_session()
            check_details(session, details)
            settings = changed(session.settings, wanted)
            if details != NO_DETAILS:
                await store.save_particulars(
                    connection,
                    session.id,
                    title=details.title,
                    starts_at=details.starts_at,
                    recording_enabled=details.recording_enabled,
                    max_participants=details.max_participants,
                    sets_max_participants=details.sets_max_participants,
                )
            if settings.recording_consent and not session.recording_consent:
                await _check_not_recording(connection, session)
            if settings != session.settings:
                await store.save(connection, session.id, settings)
                if settings.waiting_room and not session.waiting_room:
                    await participants.admit_those_here(connection, session.id)
                entries.append(
                    await events.append(
                        connection,
                        session.id,
                        kind="session_settings",
                        user_id=member.user_id,
                        data=document(settings),
                    )
                )
            after = await sessions.find(connection, session.id)
            assert after is not None, "its row is held"
    live.publish(entries)
    return after


async def _check_not_recording(connection: Connection, session: Session) -> None:
    """Raise Conflict while a recording runs: those who are in it were not asked."""
    if await recordings.running(connection, session.id) is not None:
        raise Conflict("The session is being recorded; stop that before you ask for consent.", code="recording_running")
