"""What stands in the audit log: moderation, deletions, and what administrators do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from domain import chat, moderation, people
from domain.live import Live
from domain.moderation import ParticipantChange
from store import audit
from store.database import Pool
from store.users import ProfileToSave
from tests.support.lessons import book, database_pool, identity, member
from tests.support.rooms import workers


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture
async def live(pool: Pool) -> AsyncIterator[Live]:
    async with workers(pool, 1) as (live,):
        yield live


async def noted(pool: Pool) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Everything in the log, oldest first."""
    entries = await audit.newest(pool, limit=100)
    return [(one.actor_id, one.action, one.subject, dict(one.details)) for one in reversed(entries)]


async def test_moderation_is_noted_once_for_each_change(live: Live) -> None:
    session_id = await book(live.pool)
    teach = member(session_id, "teach")

    async def change(**changes: bool) -> None:
        await moderation.change_participant(live, teach, "kid", ParticipantChange(**changes))

    for _ in range(2):
        await change(mic_allowed=False)
    for _ in range(2):
        await change(was_kicked=True)
    for _ in range(2):
        await change(was_kicked=False)
    session = {"session_id": str(session_id)}
    assert await noted(live.pool) == [
        ("teach", "permissions_changed", "kid", session | {"mic_allowed": False, "camera_allowed": True}),
        ("teach", "participant_kicked", "kid", session),
        ("teach", "participant_readmitted", "kid", session),
    ]


async def say(live: Live, session_id: UUID, who: str) -> UUID:
    message, _ = await chat.send(live, member(session_id, who), text="what I said", client_id=None)
    return message.id


async def test_a_deletion_is_noted_once_and_without_the_text(live: Live) -> None:
    session_id = await book(live.pool)
    for author, deleter in (("kid", "teach"), ("teach", "teach"), ("mum", "boss")):
        message_id = await say(live, session_id, author)
        for _ in range(2):
            await chat.delete(live, member(session_id, deleter), str(message_id))
        assert (await noted(live.pool))[-1] == (
            deleter,
            "message_deleted",
            author,
            {"session_id": str(session_id), "message_id": str(message_id)},
        )
    assert len(await noted(live.pool)) == 3


async def test_a_profile_that_an_admin_saves_for_somebody_is_noted_and_ones_own_is_not(pool: Pool) -> None:
    def profile(user_id: str) -> ProfileToSave:
        return ProfileToSave(user_id=user_id, role="student", first_name="New", last_name="Name")

    await people.save_profile(pool, identity("kid"), profile("kid"))
    await people.save_profile(pool, identity("boss"), profile("kid"))
    await people.save_profile(pool, identity("boss"), profile("newcomer"))
    assert await noted(pool) == [
        ("boss", "profile_saved", "kid", {"role": "student", "is_new": False}),
        ("boss", "profile_saved", "newcomer", {"role": "student", "is_new": True}),
    ]
