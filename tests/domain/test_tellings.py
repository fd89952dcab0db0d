"""Providers are told of removed and muted people until they know, and the last change is what stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from domain import courses, moderation
from domain.moderation import ParticipantChange
from meetings.provider import Person, Room
from store.database import Pool
from tests.domain.test_meetings import meeting_on, session_of
from tests.meetings.worlds import DailyWorld, daily_world
from tests.standins.faults import Fault
from tests.support.lessons import book, database_pool, identity, live_session, make_course, member
from tests.support.recorder import WAIT_SECONDS
from tests.support.waiting import until

KICK, LET_BACK_IN = ParticipantChange(was_kicked=True), ParticipantChange(was_kicked=False)
MUTE, UNMUTE = ParticipantChange(mic_allowed=False), ParticipantChange(mic_allowed=True)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture
async def daily() -> AsyncIterator[DailyWorld]:
    async with daily_world() as world:
        yield world


async def test_who_was_removed_while_the_provider_was_away_is_out_when_it_is_back(
    pool: Pool, daily: DailyWorld
) -> None:
    session = await session_of(pool, await book(pool))
    async with meeting_on(pool, daily.provider, 2) as ((live, meetings), (other, _)):
        admitted = await meetings.admit(session, member(session.id, "kid"))
        room = daily.server.rooms[admitted.meeting.room_name]
        assert daily.server.join(room.name, admitted.given.token)
        daily.server.faults.next(Fault(status=403, at="POST"))

        await moderation.change_participant(live, member(session.id, "teach"), "kid", KICK)
        await until(lambda: daily.server.faults.asked("POST /v1/rooms/") >= 1)
        assert len(room.present) == 1
        await meetings.close()  # another worker goes on with it

        async with pool.acquire() as connection:
            while await connection.fetchval("SELECT count(*) FROM meeting_tellings WHERE held_until > now()"):
                pass
        await pool.execute("UPDATE meeting_tellings SET retry_at = now()")
        other.people_to_tell()

        await until(lambda: room.present == [])


async def test_what_changes_while_the_provider_is_told_is_told_afterwards(pool: Pool, daily: DailyWorld) -> None:
    session = await session_of(pool, await book(pool))
    teacher = member(session.id, "teach")
    permit, told = daily.provider.permit, []
    async with meeting_on(pool, daily.provider, 2) as ((live, meetings), (other, _)):
        admitted = await meetings.admit(session, member(session.id, "kid"))
        present = daily.server.join(admitted.meeting.room_name, admitted.given.token)
        assert present is not None

        async def slowly(room: Room, person: Person) -> None:
            told.append(person.mic_allowed)
            if len(told) == 1:
                await moderation.change_participant(other, teacher, "kid", UNMUTE)
                assert told == [False]  # nobody else tells of them meanwhile
            await permit(room, person)

        daily.provider.permit = slowly  # type: ignore[method-assign]
        await moderation.change_participant(live, teacher, "kid", MUTE)

        await until(lambda: len(told) == 2 and present.may_send("audio"))
        assert told == [False, True]


async def test_who_was_muted_and_comes_in_with_the_pass_of_before_is_muted_again(pool: Pool, daily: DailyWorld) -> None:
    session = await session_of(pool, await book(pool))
    async with meeting_on(pool, daily.provider) as ((live, meetings),):
        admitted = await meetings.admit(session, member(session.id, "kid"))
        await moderation.change_participant(live, member(session.id, "teach"), "kid", MUTE)
        await until(lambda: daily.server.faults.asked("GET /v1/rooms/") >= 2)  # nobody is there
        await pool.execute("UPDATE meeting_tellings SET changed_at = changed_at - interval '50 seconds'")
        daily.server.lags = True
        present = daily.server.join(admitted.meeting.room_name, admitted.given.token)
        assert present is not None
        assert present.may_send("audio")

        await time_passes(pool, 20)
        live.people_to_tell()
        await until(lambda: daily.server.faults.asked("GET /v1/rooms/") >= 3)  # nor does Daily see them yet
        daily.server.lags = False
        await time_passes(pool, 140)
        live.people_to_tell()

        await until(lambda: not present.may_send("audio"))
        async with asyncio.timeout(WAIT_SECONDS):
            while await pool.fetchval("SELECT count(*) FROM meeting_tellings"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def time_passes(pool: Pool, seconds: float) -> None:
    """When whoever tells of them has done so."""
    async with asyncio.timeout(WAIT_SECONDS):
        while await pool.fetchval(  # noqa: ASYNC110  # it is the tellers' own task
            "SELECT count(*) FROM meeting_tellings WHERE held_until > now()"
        ):
            await asyncio.sleep(0.01)
    await pool.execute(
        "UPDATE meeting_tellings SET changed_at = changed_at - $1::interval, retry_at = retry_at - $1::interval",
        timedelta(seconds=seconds),
    )


async def test_who_is_let_back_in_before_the_provider_knew_is_not_banned(pool: Pool, daily: DailyWorld) -> None:
    session = await session_of(pool, await book(pool))
    teacher = member(session.id, "teach")
    async with meeting_on(pool, daily.provider) as ((live, meetings),):
        meeting, _ = await meetings.ensure(session)
        wake, live.people_to_tell = live.people_to_tell, lambda: None
        await moderation.change_participant(live, teacher, "kid", KICK)
        await moderation.change_participant(live, teacher, "kid", LET_BACK_IN)

        wake()

        await until(lambda: daily.server.faults.asked("GET") >= 1)  # who is there, to permit
        assert daily.server.rooms[meeting.room_name].banned == set()


async def test_who_is_no_longer_enrolled_is_out_of_the_video_without_a_tab_in_the_lesson(
    pool: Pool, daily: DailyWorld
) -> None:
    course_id = await make_course(pool, students=["kid"])
    session = await session_of(pool, await live_session(pool, course_id=course_id))
    async with meeting_on(pool, daily.provider) as ((live, meetings),):
        admitted = await meetings.admit(session, member(session.id, "kid"))
        room = daily.server.rooms[admitted.meeting.room_name]
        assert daily.server.join(room.name, admitted.given.token)

        await courses.end_enrollment(live, identity("boss"), course_id, "kid")

        await until(lambda: room.present == [])
