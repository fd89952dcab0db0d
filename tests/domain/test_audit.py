"""What stands in the audit log: moderation, deletions, and what administrators do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from domain import availability, bookings, chat, moderation, people, sessions
from domain.booking_rules import BookingChange, NewBooking, Repeat
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


async def test_another_parent_is_noted_with_the_profile(pool: Pool) -> None:
    kid = ProfileToSave(user_id="kid", role="student", first_name="Kid", last_name="")
    for parent_id in ("mum2", "mum2", None):
        named = replace(kid, parent_id=parent_id, sets_parent=True)
        await people.save_profile(pool, identity("boss"), named)
    assert [details.get("parent_id", "the same") for _, _, _, details in await noted(pool)] == [
        "mum2",
        "the same",
        None,
    ]


START = (datetime.now(UTC) + timedelta(days=10)).replace(hour=12, minute=0, second=0, microsecond=0)
HOUR = timedelta(hours=1)


async def test_what_an_admin_does_with_a_booking_is_noted_and_what_its_people_do_is_not(live: Live) -> None:
    async def change(who: str, booking_id: UUID, wanted: BookingChange) -> None:
        for _ in range(2):
            await bookings.change(live, identity(who), booking_id, wanted)

    ids = {}
    moved = BookingChange(start_time=START + 3 * HOUR, end_time=START + 4 * HOUR)
    for who, teacher in (("boss", "teach"), ("mum", "teach2")):
        new = NewBooking(student_id="kid", teacher_id=teacher, start_time=START, end_time=START + HOUR)
        if who == "mum":
            new = replace(new, start_time=START + 6 * HOUR, end_time=START + 7 * HOUR)
        ids[who] = await bookings.book(live, identity(who), new)
    await change("boss", ids["boss"], BookingChange(status="confirmed"))
    await change("boss", ids["boss"], moved)
    await change("boss", ids["boss"], BookingChange(status="cancelled"))
    await change("teach2", ids["mum"], BookingChange(status="confirmed"))
    await change("mum", ids["mum"], BookingChange(status="cancelled"))
    before = {"start_time": _z(START), "end_time": _z(START + HOUR)}
    after = {"start_time": _z(START + 3 * HOUR), "end_time": _z(START + 4 * HOUR)}
    booking = {"booking_id": str(ids["boss"]), "teacher_id": "teach"}
    assert await noted(live.pool) == [
        ("boss", "booking_made", "kid", {"teacher_id": "teach", "booking_ids": [str(ids["boss"])]}),
        ("boss", "booking_changed", "kid", booking | before | {"status": "confirmed"}),
        ("boss", "booking_changed", "kid", booking | after | {"status": "pending"}),
        ("boss", "booking_changed", "kid", booking | after | {"status": "cancelled"}),
    ]


def _z(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


async def test_lessons_that_an_admin_books_together_are_noted_together(live: Live) -> None:
    new = NewBooking(student_id="kid", teacher_id="teach", start_time=START, end_time=START + HOUR)
    made = await bookings.book_weekly(live, identity("boss"), new, Repeat(weeks=3, timezone="UTC"))
    [(_, action, _, details)] = await noted(live.pool)
    assert (action, details["booking_ids"]) == ("booking_made", [str(booking_id) for booking_id in made])


@pytest.mark.parametrize("who", ["teach", "boss"])
async def test_the_end_of_a_session_is_noted_once_from_whichever_side(live: Live, who: str) -> None:
    by_session, by_booking = await book(live.pool), await book(live.pool)
    for _ in range(2):
        await sessions.move(live, member(by_session, who), "ended")
        await bookings.change(live, identity(who), by_booking, BookingChange(status="completed"))
    ended = [
        (actor, subject, details)
        for actor, action, subject, details in await noted(live.pool)
        if action == "session_ended"
    ]
    assert ended == [(who, "kid", {"session_id": str(session_id)}) for session_id in (by_session, by_booking)]


async def test_what_an_admin_changes_of_a_session_is_noted_without_the_words(live: Live) -> None:
    session_id = await book(live.pool)

    async def update(who: str, **given: Any) -> None:
        changes = {"status": None, "notes": None, "files": None, "recording_enabled": None} | given
        await sessions.update(live, member(session_id, who), **changes)

    await update("teach", status="live", notes=[{"text": "what I wrote"}])
    assert await noted(live.pool) == []
    await update("boss", status="live", notes=[{"text": "what I wrote"}], recording_enabled=False)
    await update("boss", status="ended")
    session = {"session_id": str(session_id)}
    assert await noted(live.pool) == [
        ("boss", "session_changed", "kid", session | {"changed": ["notes", "recording_enabled"]}),
        ("boss", "session_ended", "kid", session),
    ]
    other = await book(live.pool)
    await sessions.move(live, member(other, "boss"), "live")
    assert (await noted(live.pool))[-1] == (
        *("boss", "session_changed", "kid"),
        {"session_id": str(other), "changed": ["status"]},
    )


async def test_slots_that_an_admin_adds_and_all_that_are_deleted_are_noted(pool: Pool) -> None:
    ids = [
        await availability.publish(pool, identity(who), "teach", START + hour * HOUR, START + (hour + 1) * HOUR)
        for hour, who in enumerate(("teach", "boss"))
    ]
    for slot_id, who in zip(ids, ("teach", "boss"), strict=True):
        await availability.delete(pool, identity(who), slot_id)
    own, others = ({"slot_ids": [str(slot_id)]} for slot_id in ids)
    assert await noted(pool) == [
        ("boss", "availability_added", "teach", others),
        ("teach", "availability_deleted", "teach", own),
        ("boss", "availability_deleted", "teach", others),
    ]
