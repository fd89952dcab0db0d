"""Meetings, put into the database as a provider's room would be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from store import meeting_people, meetings
from store.database import Pool
from store.meetings import Meeting


async def meet(pool: Pool, session_id: UUID, *people: str, provider: str = "peer", hours: float = 1) -> Meeting:
    """The session's next meeting, for so many hours from now, to which these people have passes."""
    async with pool.acquire() as connection, connection.transaction():
        meeting = await meetings.insert(
            connection,
            meeting_id=uuid4(),
            session_id=session_id,
            provider=provider,
            room_id="r",
            room_name="room",
            url=None,
            data={"a": [1, None]},
            closes_at=datetime.now(UTC) + timedelta(hours=hours),
        )
    for user_id in people:
        await meeting_people.take_place(pool, meeting.id, user_id, places=None, host_id="teach")
    return meeting
