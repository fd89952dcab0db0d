"""Sessions, as they are stored: with their people, and moving along with their booking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from store import bookings, events, participants, sessions, users
from store.database import Pool
from store.sessions import BookingStatus, Session
from tests.support.lessons import book, database_pool, until_somebody_waits


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def found(pool: Pool, ref: UUID | str) -> Session:
    session = await sessions.find(pool, ref)
    assert session is not None
    return session


async def test_a_bookings_session_has_its_id_its_people_and_its_time(pool: Pool) -> None:
    booking_id = await book(pool)
    session = await found(pool, booking_id)
    booking = await bookings.find(pool, booking_id)
    assert booking is not None
    assert (session.id, session.kind, session.booking_id, session.booking_status) == (
        booking_id,
        "booking",
        booking_id,
        "pending",
    )
    assert (session.host_id, session.teacher_id, session.student_id) == ("teach", "teach", "kid")
    assert (session.booking_parent_id, session.student_parent_id) == ("gran", "mum")
    assert (session.starts_at, session.end_time, session.ends_at) == (booking.start_time, booking.end_time, None)
    assert (session.status, session.chat_open, session.last_seq, session.notes, session.files) == (
        "scheduled",
        True,
        0,
        [],
        [],
    )
    assert session.recording_enabled
    assert await found(pool, session.room_name) == session


async def test_the_students_parent_is_the_one_of_today(pool: Pool) -> None:
    session_id = await book(pool)
    await users.set_parent(pool, "kid", "mum2")
    assert (await found(pool, session_id)).student_parent_id == "mum2"


@pytest.mark.parametrize(
    "ref",
    [UUID("5d0f7f0e-3f4b-4c53-9d38-6a0c1f2e7b94"), "no-such-room", "", "00000000-0000-0000-0000-000000000000"],
    ids=str,
)
async def test_a_session_that_is_not_there_is_not_found(pool: Pool, ref: UUID | str) -> None:
    await book(pool)
    assert await sessions.find(pool, ref) is None
    assert await sessions.find_for(pool, ref, "kid") is None


async def test_an_entrance_says_who_comes_and_whether_they_were_kicked(pool: Pool) -> None:
    session_id = await book(pool)
    session = await found(pool, session_id)
    entrance = await sessions.find_for(pool, session_id, "kid")
    assert entrance == sessions.Entrance(session=session, was_kicked=False, name="Kid")
    async with pool.acquire() as connection:
        await participants.change(connection, session_id, "kid", was_kicked=True)
    for ref in (session_id, session.room_name):
        entrance = await sessions.find_for(pool, ref, "kid")
        assert entrance is not None
        assert entrance.was_kicked
    stranger = await sessions.find_for(pool, session_id, "nobody")
    assert stranger is not None
    assert (stranger.name, stranger.was_kicked) == ("nobody", False), "without a name the id stands for it"


async def test_many_entrances_at_once_are_each_ones_own(pool: Pool) -> None:
    one, other = await book(pool), await book(pool, teacher="teach2", student="kid2")
    async with pool.acquire() as connection:
        await participants.change(connection, one, "kid", was_kicked=True)
    room_name = (await found(pool, other)).room_name
    asked: list[tuple[UUID | str, str]] = [
        (one, "kid"), (other, "kid"), (room_name, "kid"), (uuid4(), "kid"), ("nowhere", "kid"), (one, "teach"),
    ]  # fmt: skip
    together = await asyncio.gather(*(sessions.find_for(pool, ref, user_id) for ref, user_id in asked))
    async with pool.acquire() as connection:
        alone = [await sessions.find_for(connection, ref, user_id) for ref, user_id in asked]
    assert together == alone
    assert [(e.session.id, e.was_kicked, e.name) if e else None for e in together] == [
        (one, True, "Kid"), (other, False, "Kid"), (other, False, "Kid"), None, None, (one, False, "Teach"),
    ]  # fmt: skip


async def test_where_sessions_stand(pool: Pool) -> None:
    session_id, nothing = await book(pool), uuid4()
    found = await asyncio.gather(*(sessions.standing(pool, one) for one in (session_id, nothing)))
    assert found == [sessions.Standing(last_seq=0, status="scheduled"), None]
    async with pool.acquire() as connection, connection.transaction():
        await sessions.set_status(connection, session_id, "live", actor_id="teach")
    assert await sessions.standing(pool, session_id) == sessions.Standing(last_seq=1, status="live")


@pytest.mark.parametrize(
    ("first", "last", "name"), [("Ada", "King", "Ada King"), ("", "King", "King"), ("Ada", "", "Ada"), ("", "", "kid")]
)
async def test_a_name_is_first_and_last_trimmed(pool: Pool, first: str, last: str, name: str) -> None:
    await pool.execute("UPDATE users SET first_name = $1, last_name = $2 WHERE id = 'kid'", first, last)
    entrance = await sessions.find_for(pool, await book(pool), "kid")
    assert entrance is not None
    assert entrance.name == name


async def test_those_who_lead_are_found_newest_first(pool: Pool) -> None:
    made = [await book(pool) for _ in range(4)]
    await book(pool, teacher="teach2", student="kid2")
    assert [session.id for session in await sessions.hosted_by(pool, "teach", limit=3)] == made[:0:-1]
    assert await sessions.hosted_by(pool, "kid", limit=3) == []


async def follow(pool: Pool, booking_id: UUID, status: BookingStatus, **changes: Any) -> list[events.LogEntry]:
    session = await found(pool, booking_id)
    async with pool.acquire() as connection, connection.transaction():
        await bookings.locked(connection, booking_id)
        times = {"starts_at": session.starts_at} | changes
        return await sessions.follow_booking(connection, booking_id, status=status, actor_id="teach", **times)


@pytest.mark.parametrize("status", ["completed", "cancelled"])
async def test_a_session_ends_with_its_booking_once(pool: Pool, status: BookingStatus) -> None:
    session_id = await book(pool)
    [entry] = await follow(pool, session_id, status)
    assert (entry.kind, entry.seq, entry.user_id, entry.data) == ("session_status", 1, "teach", {"status": "ended"})
    session = await found(pool, session_id)
    assert (session.status, session.chat_open) == ("ended", status == "completed")
    assert session.ends_at is not None
    assert await follow(pool, session_id, status) == []
    assert (await found(pool, session_id)).ends_at == session.ends_at


async def test_a_session_moves_with_its_booking(pool: Pool) -> None:
    session_id = await book(pool)
    later = (await found(pool, session_id)).starts_at + timedelta(days=3)
    assert await follow(pool, session_id, "pending", starts_at=later) == []
    session = await found(pool, session_id)
    assert (session.starts_at, session.status, session.chat_open, session.last_seq) == (later, "scheduled", True, 0)


@pytest.mark.parametrize(
    ("before", "after"),
    [("pending", "completed"), ("confirmed", "completed"), ("completed", "completed"), ("cancelled", "cancelled")],
)
async def test_a_session_that_ended_completes_its_booking_unless_it_was_cancelled(
    pool: Pool, before: BookingStatus, after: BookingStatus
) -> None:
    session_id = await book(pool, status=before)
    async with pool.acquire() as connection:
        await sessions.complete_booking(connection, session_id)
    assert (await found(pool, session_id)).booking_status == after


async def test_what_is_not_given_stays_and_what_is_given_replaces(pool: Pool) -> None:
    session_id = await book(pool)

    async def save(**given: Any) -> Session:
        async with pool.acquire() as connection:
            details = {"notes": None, "files": None, "recording_enabled": None} | given
            await sessions.save_details(connection, session_id, **details)
        return await found(pool, session_id)

    notes = [{"text": "ünï 'quoted'", "timestamp": "2030-01-01T00:00:00Z"}]
    assert (await save(notes=notes)).notes == notes
    after = await save(files=[{"name": "a"}], recording_enabled=False)
    assert (after.notes, after.files, after.recording_enabled) == (notes, [{"name": "a"}], False)
    assert await save() == await found(pool, session_id)
    emptied = await save(notes=[])
    assert (emptied.notes, emptied.files, emptied.recording_enabled) == ([], [{"name": "a"}], False)


async def test_of_many_who_ask_for_a_session_exactly_one_is_the_first(pool: Pool) -> None:
    session_id = await book(pool)
    answers = await asyncio.gather(*(sessions.mark_requested(pool, session_id) for _ in range(20)))
    assert sorted(answers) == [False] * 19 + [True]
    assert not await sessions.mark_requested(pool, uuid4())


async def test_a_locked_session_is_seen_as_it_is_once_it_is_locked(pool: Pool) -> None:
    """Not as it was when the wait began."""
    session_id = await book(pool)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await sessions.locked_with_booking(connection, session_id)

        async def locked() -> Session | None:
            async with pool.acquire() as other, other.transaction():
                return await sessions.locked_with_booking(other, session_id)

        waiting = asyncio.create_task(locked())
        await until_somebody_waits(pool)
        await sessions.set_status(connection, session_id, "live", actor_id="teach")
        await transaction.commit()
    seen = await waiting
    assert seen is not None
    assert (seen.status, seen.last_seq) == ("live", 1)
