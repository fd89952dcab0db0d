"""What a host sets in a session, and the title, start and size that they give it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from store.database import Connection

#: At most so many people in a session, so many seconds between two messages; the database holds both.
MAX_PARTICIPANTS: Final = 10_000
MAX_SLOW_MODE_SECONDS: Final = 3_600


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What a host sets while a session goes on; it is written into the log.

    `locked`: nobody comes in any more who has not been in. `waiting_room`: who comes in waits until the host admits
    them. `chat_muted`: only the host writes. `slow_mode_seconds`: between two messages of one person; 0: none.
    `whiteboard_locked`: only the host draws. `recording_consent`: nobody is recorded who has not agreed to it.
    """

    locked: bool = False
    waiting_room: bool = False
    chat_muted: bool = False
    slow_mode_seconds: int = 0
    whiteboard_locked: bool = False
    recording_consent: bool = False


async def save(connection: Connection, session_id: UUID, settings: Settings) -> None:
    """Write the settings. Inside a transaction that holds the session's row, and logs them."""
    await connection.execute(
        """
        UPDATE sessions SET locked = $2, waiting_room = $3, chat_muted = $4, slow_mode_seconds = $5,
            whiteboard_locked = $6, recording_consent = $7, updated_at = now()
        WHERE id = $1
        """,
        session_id,
        settings.locked,
        settings.waiting_room,
        settings.chat_muted,
        settings.slow_mode_seconds,
        settings.whiteboard_locked,
        settings.recording_consent,
    )


async def save_particulars(
    connection: Connection,
    session_id: UUID,
    *,
    title: str | None,
    starts_at: datetime | None,
    recording_enabled: bool | None,
    max_participants: int | None,
    sets_max_participants: bool,
) -> None:
    """Replace what is given; None leaves it as it is, but for `max_participants` where it is set."""
    await connection.execute(
        """
        UPDATE sessions SET title = coalesce($2, title), starts_at = coalesce($3, starts_at),
            recording_enabled = coalesce($4, recording_enabled),
            max_participants = CASE WHEN $6 THEN $5 ELSE max_participants END, updated_at = now()
        WHERE id = $1
        """,
        session_id,
        title,
        starts_at,
        recording_enabled,
        max_participants,
        sets_max_participants,
    )
