"""Meetings under races and failures: one room for a session, and none left behind."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from domain import courses, moderation
from domain.errors import BadGateway, BadRequest, Conflict, Forbidden, TooManyRequests
from domain.live import Live
from domain.meetings import MOVE_PAUSE_SECONDS, PASSES_BURST, PASSES_PER_SECOND, Meetings
from domain.moderation import ParticipantChange
from meetings.jitsi import Jitsi
from meetings.provider import Pass, Person, Provider, ProviderAway, Room, RoomSpec
from meetings.providers import Providers
from store import sessions
from store.database import Pool
from store.sessions import Session
from tests.handlers.test_encounters import doors
from tests.meetings.worlds import ChimeWorld, DailyWorld, chime_world, daily_world
from tests.standins.faults import Fault
from tests.support.lessons import book, database_pool, identity, live_session, make_course, member
from tests.support.recorder import WAIT_SECONDS
from tests.support.rooms import join, told, workers
from tests.support.waiting import until


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture
async def daily() -> AsyncIterator[DailyWorld]:
    async with daily_world() as world:
        yield world


@asynccontextmanager
async def meeting_on(pool: Pool, provider: Provider, number: int = 1) -> AsyncIterator[list[tuple[Live, Meetings]]]:
    """So many workers, whose meetings are made with this provider."""
    async with AsyncExitStack() as stack:
        lives = await stack.enter_async_context(workers(pool, number))
        made = [(live, Meetings(live, Providers(provider, {provider.name: provider}))) for live in lives]
        for _, one in made:
            stack.push_async_callback(one.close)
        yield made


async def session_of(pool: Pool, session_id: UUID) -> Session:
    session = await sessions.find(pool, session_id)
    assert session is not None
    return session


def before_it_answers(world: DailyWorld, act: Callable[[], Awaitable[object]]) -> None:
    """Have `act` happen while the provider makes a room."""
    make = world.provider.make_room

    async def slowly(spec: RoomSpec) -> Room:
        room = await make(spec)
        await act()
        return room

    world.provider.make_room = slowly  # type: ignore[method-assign]


async def test_workers_that_make_one_at_once_make_one_and_leave_no_other(pool: Pool, daily: DailyWorld) -> None:
    session = await session_of(pool, await book(pool))
    async with meeting_on(pool, daily.provider, 3) as made:
        found = await asyncio.gather(*(one.ensure(session) for _, one in made for _ in range(5)))

        assert len({meeting.id for meeting, _ in found}) == 1
        assert sum(first for _, first in found) == 1
        await until(lambda: set(daily.server.rooms) == {found[0][0].room_name})


async def test_a_session_that_ends_while_its_room_is_made_has_none(pool: Pool, daily: DailyWorld) -> None:
    session = await session_of(pool, await book(pool))
    before_it_answers(
        daily, lambda: pool.execute("UPDATE sessions SET status = 'ended', ends_at = now() WHERE id = $1", session.id)
    )
    async with meeting_on(pool, daily.provider) as ((_, meetings),):
        with pytest.raises(Conflict) as refused:
            await meetings.ensure(session)

        assert refused.value.code == "session_ended"
        assert len(daily.server.rooms) == await meetings.sweep() == 1
        assert daily.server.rooms == {}
        assert await pool.fetchval("SELECT count(*) FROM meetings") == 0


async def test_a_room_that_is_not_needed_and_cannot_be_deleted_is_deleted_later(pool: Pool, daily: DailyWorld) -> None:
    session = await session_of(pool, await book(pool))
    before_it_answers(
        daily, lambda: pool.execute("UPDATE sessions SET status = 'ended', ends_at = now() WHERE id = $1", session.id)
    )
    daily.server.faults.next(Fault(status=403, at="DELETE"))
    async with meeting_on(pool, daily.provider) as ((_, meetings),):
        with pytest.raises(Conflict):
            await meetings.ensure(session)
        assert await meetings.sweep() == 0
        await pool.execute("UPDATE meeting_intents SET due_at = now()")

        assert await meetings.sweep() == 1
        assert daily.server.rooms == {}
        assert await pool.fetchval("SELECT count(*) FROM meeting_intents") == 0


async def test_two_moves_at_once_are_one(pool: Pool, daily: DailyWorld) -> None:
    session = await session_of(pool, await book(pool))
    async with meeting_on(pool, daily.provider, 2) as made:
        host = member(session.id, "teach")
        first, _ = await made[0][1].ensure(session)

        found = await asyncio.gather(*(one.move(host, session, only=first.id) for _, one in made for _ in range(3)))

        moved = [meeting for meeting, _ in found]
        assert len({meeting.id for meeting in moved} | {first.id}) == 2
        assert sum(made_now for _, made_now in found) == 1
        assert await made[0][1].sweep() + await made[1][1].sweep() >= 1
        assert set(daily.server.rooms) == {moved[0].room_name}


async def test_a_host_does_not_move_a_meeting_again_at_once_on_any_worker(pool: Pool, daily: DailyWorld) -> None:
    session = await session_of(pool, await book(pool))
    host = member(session.id, "teach")
    async with meeting_on(pool, daily.provider, 2) as ((_, one), (_, other)):
        first, _ = await one.ensure(session)
        moved, _ = await one.move(host, session)

        with pytest.raises(TooManyRequests) as refused:
            await other.move(host, session)

        assert 0 < (refused.value.retry_after or 0) <= MOVE_PAUSE_SECONDS
        assert await other.move(host, session, only=first.id) == (moved, False)
        assert set(daily.server.rooms) <= {first.room_name, moved.room_name}
        await pool.execute(
            "UPDATE meetings SET created_at = created_at - make_interval(secs => $1)", MOVE_PAUSE_SECONDS
        )
        assert (await other.move(host, session))[1]


async def test_a_room_goes_with_a_session_that_is_deleted(pool: Pool, daily: DailyWorld) -> None:
    session = await session_of(pool, await book(pool))
    async with meeting_on(pool, daily.provider) as ((_, meetings),):
        await meetings.ensure(session)
        assert len(daily.server.rooms) == 1

        await pool.execute("DELETE FROM bookings WHERE id = $1", session.id)

        assert await meetings.sweep() == 1
        assert daily.server.rooms == {}


async def test_everybody_in_the_session_is_told_of_a_move_whichever_worker_they_are_on(pool: Pool) -> None:
    session, other = await session_of(pool, await book(pool)), await session_of(pool, await book(pool))
    async with meeting_on(pool, Jitsi("meet.example", None), 2) as ((one, meetings), (two, _)):
        seats = [await join(one, session.id, "teach"), await join(two, session.id, "kid")]
        elsewhere = await join(two, other.id, "teach")
        await meetings.ensure(session)

        meeting, _ = await meetings.move(member(session.id, "teach"), session)

        for seat in seats:
            [moved] = told(seat, "meetingMoved")
            assert moved == {
                "meeting_id": str(meeting.id),
                "provider": "jitsi",
                "generation": 2,
            }
        assert told(elsewhere, "meetingMoved") == []


async def test_everybody_is_told_of_a_meetings_end_though_its_provider_has_nothing_to_do(pool: Pool) -> None:
    session = await session_of(pool, await book(pool))
    async with meeting_on(pool, Jitsi("meet.example", None), 2) as ((one, meetings), (two, _)):
        seats = [await join(one, session.id, "teach"), await join(two, session.id, "kid")]
        meeting, _ = await meetings.ensure(session)

        for _ in range(2):
            await meetings.end(member(session.id, "teach"), meeting)

        for seat in seats:
            assert told(seat, "meetingEnded") == [{"meeting_id": str(meeting.id)}]


async def test_chat_goes_on_while_a_provider_is_slow(pool: Pool, daily: DailyWorld) -> None:
    session = await session_of(pool, await book(pool))

    async def write() -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            await pool.execute("UPDATE sessions SET last_seq = last_seq WHERE id = $1", session.id)

    before_it_answers(daily, write)
    async with meeting_on(pool, daily.provider) as ((_, meetings),):
        assert (await meetings.ensure(session))[1]


async def test_a_room_that_its_provider_has_ended_is_made_anew(pool: Pool) -> None:
    async with chime_world() as world:
        assert isinstance(world, ChimeWorld)
        session = await session_of(pool, await book(pool))
        async with meeting_on(pool, world.provider) as ((_, meetings),):
            first = await meetings.admit(session, member(session.id, "kid"))
            world.server.meetings.clear()

            again = await meetings.admit(session, member(session.id, "kid"))

            assert again.meeting.id != first.meeting.id
            assert (await meetings.current(session.id)).id == again.meeting.id
            assert world.server.join(again.meeting.room_id, again.given.token)


async def test_who_is_no_longer_enrolled_is_out_of_the_video(pool: Pool, daily: DailyWorld) -> None:
    course_id = await make_course(pool, students=["kid"])
    session = await session_of(pool, await live_session(pool, course_id=course_id))
    async with doors(pool, 1) as (worker,):
        meetings = Meetings(worker.live, Providers(daily.provider, {"daily": daily.provider}))
        await worker.join("kid", session.id)
        admitted = await meetings.admit(session, member(session.id, "kid"))
        assert daily.server.join(admitted.meeting.room_name, admitted.given.token)

        await courses.end_enrollment(worker.live, identity("boss"), course_id, "kid")

        await until(lambda: daily.server.rooms[admitted.meeting.room_name].present == [])
        await meetings.close()


async def test_who_is_removed_while_their_pass_is_made_gets_none(pool: Pool) -> None:
    async with chime_world() as world:
        session = await session_of(pool, await book(pool))
        async with meeting_on(pool, world.provider) as ((live, meetings),):
            meeting, _ = await meetings.ensure(session)
            admit = world.provider.admit

            async def slowly(room: Room, person: Person, *, expires_at: datetime) -> Pass:
                kick = ParticipantChange(was_kicked=True)
                await moderation.change_participant(live, member(session.id, "teach"), "kid", kick)
                await until(lambda: world.server.faults.asked("GET") >= 1)  # to eject whom it does not find
                return await admit(room, person, expires_at=expires_at)

            world.provider.admit = slowly  # type: ignore[method-assign]

            with pytest.raises(Forbidden) as refused:
                await meetings.admit(session, member(session.id, "kid"))

            assert refused.value.code == "kicked"
            await until(lambda: world.server.meetings[meeting.room_id].attendees == {})


async def test_who_is_no_longer_enrolled_while_their_pass_is_made_gets_none(pool: Pool) -> None:
    async with chime_world() as world:
        course_id = await make_course(pool, students=["kid"])
        session = await session_of(pool, await live_session(pool, course_id=course_id))
        async with meeting_on(pool, world.provider) as ((live, meetings),):
            meeting, _ = await meetings.ensure(session)
            admit = world.provider.admit

            async def slowly(room: Room, person: Person, *, expires_at: datetime) -> Pass:
                await courses.end_enrollment(live, identity("boss"), course_id, "kid")
                await until(lambda: world.server.faults.asked("GET") >= 1)  # to eject whom it does not find
                return await admit(room, person, expires_at=expires_at)

            world.provider.admit = slowly  # type: ignore[method-assign]

            with pytest.raises(Forbidden):
                await meetings.admit(session, member(session.id, "kid"))

            await until(lambda: world.server.meetings[meeting.room_id].attendees == {})


async def test_who_is_muted_while_their_pass_is_made_gets_one_that_does_not_let_them_speak(
    pool: Pool, daily: DailyWorld
) -> None:
    session = await session_of(pool, await book(pool))
    async with meeting_on(pool, daily.provider) as ((live, meetings),):
        admit = daily.provider.admit
        mute = ParticipantChange(mic_allowed=False)

        async def slowly(room: Room, person: Person, *, expires_at: datetime) -> Pass:
            await moderation.change_participant(live, member(session.id, "teach"), "kid", mute)
            return await admit(room, person, expires_at=expires_at)

        daily.provider.admit = slowly  # type: ignore[method-assign]

        admitted = await meetings.admit(session, member(session.id, "kid"))

        joined = daily.server.join(admitted.meeting.room_name, admitted.given.token)
        assert joined is not None
        assert not joined.may_send("audio")


async def test_the_room_lasts_from_the_lesson_and_not_from_the_first_question(pool: Pool) -> None:
    session = await session_of(pool, await book(pool))
    later = replace(session, starts_at=datetime.now(UTC) + timedelta(hours=23), end_time=None)
    async with meeting_on(pool, Jitsi("meet.example", None)) as ((_, meetings),):
        meeting, _ = await meetings.ensure(later)

        assert meeting.closes_at - later.starts_at >= timedelta(hours=24)


async def test_a_full_class_has_room_for_its_host(pool: Pool, daily: DailyWorld) -> None:
    session = replace(await session_of(pool, await book(pool)), max_participants=1)
    async with meeting_on(pool, daily.provider) as ((_, meetings),):
        meeting, _ = await meetings.ensure(session)

        assert daily.server.rooms[meeting.room_name].properties.max_participants is None


async def test_nobody_guesses_a_rooms_name(pool: Pool) -> None:
    async with meeting_on(pool, Jitsi("meet.example", None)) as ((_, meetings),):
        names = {(await meetings.ensure(await session_of(pool, await book(pool))))[0].room_name for _ in range(3)}

        assert len(names) == 3
        assert all(re.fullmatch("[0-9a-f]{24}", name) for name in names)


async def test_a_provider_that_cannot_be_told_hinders_no_moderation(pool: Pool, daily: DailyWorld) -> None:
    for provider in (daily.provider, Jitsi("meet.example", None)):
        session = await session_of(pool, await book(pool))
        async with meeting_on(pool, provider) as ((live, meetings),):
            await meetings.ensure(session)
            daily.server.faults.next(Fault(status=403, at="POST"), 5)

            after = await moderation.change_participant(
                live, member(session.id, "teach"), "kid", ParticipantChange(was_kicked=True, mic_allowed=False)
            )

            assert after.was_kicked


async def test_a_failure_says_little_and_when_to_come_again(pool: Pool) -> None:
    class Away(Jitsi):
        async def make_room(self, spec: RoomSpec) -> Room:
            raise ProviderAway("Something that only the log is told.", retry_after=7)

    session = await session_of(pool, await book(pool))
    async with meeting_on(pool, Away("meet.example", None)) as ((_, meetings),):
        with pytest.raises(BadGateway) as failed:
            await meetings.ensure(session)

        assert (failed.value.code, failed.value.retry_after) == ("provider_failed", 7)
        assert "only the log" not in failed.value.message


async def test_a_worker_that_dies_while_a_room_is_made_leaves_none_behind(pool: Pool, daily: DailyWorld) -> None:
    session = await session_of(pool, await book(pool))
    made = asyncio.Event()

    async def die() -> None:
        made.set()
        await asyncio.Event().wait()

    before_it_answers(daily, die)
    async with meeting_on(pool, daily.provider) as ((_, meetings),):
        asking = asyncio.create_task(meetings.ensure(session))
        await made.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert len(daily.server.rooms) == 1
        assert await meetings.sweep() == 0  # somebody may be about to come
        await pool.execute("UPDATE meeting_intents SET due_at = now()")

        assert await meetings.sweep() == 1

        assert daily.server.rooms == {}
        assert await pool.fetchval("SELECT count(*) FROM meeting_intents") == 0


async def test_a_meeting_of_chimes_that_nobody_knows_of_is_ended(pool: Pool) -> None:
    async with chime_world() as world:
        session = await session_of(pool, await book(pool))
        world.server.faults.next(Fault(cut=True, done=True, at="POST /meetings"), 9)
        async with meeting_on(pool, world.provider) as ((_, meetings),):
            with pytest.raises(BadGateway):
                await meetings.ensure(session)
            assert len(world.server.meetings) == 1
            world.server.faults.clear()
            await pool.execute("UPDATE meeting_intents SET due_at = now()")

            assert await meetings.sweep() == 1

            assert world.server.meetings == {}


async def test_who_asks_again_after_a_failure_finds_the_room_that_was_made(pool: Pool, daily: DailyWorld) -> None:
    session = await session_of(pool, await book(pool))
    make, rooms = daily.provider.make_room, []

    async def lost(spec: RoomSpec) -> Room:
        rooms.append(await make(spec))
        if len(rooms) == 1:
            raise ProviderAway("The answer was lost.")
        return rooms[-1]

    daily.provider.make_room = lost  # type: ignore[method-assign]
    async with meeting_on(pool, daily.provider, 2) as ((_, one), (_, other)):
        with pytest.raises(BadGateway):
            await one.ensure(session)

        meeting, _ = await other.ensure(session)

        assert set(daily.server.rooms) == {meeting.room_name}
        assert await one.sweep() == 0


async def test_a_room_that_is_made_too_late_is_no_meeting(pool: Pool, daily: DailyWorld) -> None:
    session = await session_of(pool, await book(pool))
    async with meeting_on(pool, daily.provider) as ((_, meetings),):

        async def too_late() -> None:
            await pool.execute("UPDATE meeting_intents SET due_at = now()")
            await meetings.sweep()

        before_it_answers(daily, too_late)
        with pytest.raises(BadGateway):
            await meetings.ensure(session)

        assert daily.server.rooms == {}
        assert await pool.fetchval("SELECT count(*) FROM meetings") == 0


async def test_everybody_is_told_of_the_room_that_follows_one_whose_time_is_up(pool: Pool, daily: DailyWorld) -> None:
    session = await session_of(pool, await book(pool))
    async with meeting_on(pool, daily.provider, 2) as ((live, meetings), (_, other)):
        seat = await join(live, session.id, "kid")
        for swept in (False, True):
            before, _ = await meetings.ensure(session)
            await pool.execute("UPDATE meetings SET closes_at = now() WHERE id = $1", before.id)
            if swept:
                assert await other.sweep() >= 1

            after, made = await other.ensure(session)

            assert made
            assert [moved["meeting_id"] for moved in told(seat, "meetingMoved")][-1:] == [str(after.id)]
        assert len(told(seat, "meetingMoved")) == 2


async def test_nobody_is_told_of_a_meeting_that_follows_one_that_the_host_has_ended(pool: Pool) -> None:
    session = await session_of(pool, await book(pool))
    async with meeting_on(pool, Jitsi("meet.example", None)) as ((live, meetings),):
        seat = await join(live, session.id, "kid")
        meeting, _ = await meetings.ensure(session)
        await meetings.end(member(session.id, "teach"), meeting)

        await meetings.ensure(session)

        assert told(seat, "meetingMoved") == []


async def test_a_room_that_daily_has_lost_is_made_anew_and_everybody_told(pool: Pool, daily: DailyWorld) -> None:
    session = await session_of(pool, await book(pool))
    async with meeting_on(pool, daily.provider) as ((live, meetings),):
        seat = await join(live, session.id, "kid")
        first, _ = await meetings.ensure(session)
        daily.server.rooms.clear()

        admitted = await meetings.admit(session, member(session.id, "kid"))

        assert daily.server.join(admitted.meeting.room_name, admitted.given.token)
        assert admitted.meeting.id != first.id
        assert [moved["meeting_id"] for moved in told(seat, "meetingMoved")] == [str(admitted.meeting.id)]


async def test_a_lesson_goes_on_with_another_provider_while_its_own_is_away(pool: Pool, daily: DailyWorld) -> None:
    session = await session_of(pool, await book(pool))
    jitsi = Jitsi("meet.example", None)
    host = member(session.id, "teach")
    async with workers(pool, 1) as (live,):
        meetings = Meetings(live, Providers(daily.provider, {"daily": daily.provider, "jitsi": jitsi}))
        seat = await join(live, session.id, "kid")
        old, _ = await meetings.ensure(session)
        daily.server.faults.next(Fault(status=503), 1_000)

        moved, made = await meetings.move(host, session, to="jitsi")

        assert (made, moved.provider) == (True, "jitsi")
        assert [news["provider"] for news in told(seat, "meetingMoved")] == ["jitsi"]
        assert (await meetings.admit(session, host)).meeting.id == moved.id
        assert await meetings.sweep() == 0
        daily.server.faults.clear()
        await pool.execute("UPDATE meetings SET retry_at = now()")
        assert await meetings.sweep() == 1
        assert old.room_name not in daily.server.rooms
        with pytest.raises(BadRequest, match="daily, jitsi"):
            await meetings.move(host, session, to="chime")
        await meetings.close()


async def test_who_was_let_back_in_comes_into_the_same_room_again(pool: Pool, daily: DailyWorld) -> None:
    session = await session_of(pool, await book(pool))
    host, kid = member(session.id, "teach"), member(session.id, "kid")
    async with meeting_on(pool, daily.provider) as ((live, meetings),):
        first = await meetings.admit(session, kid)
        room = daily.server.rooms[first.meeting.room_name]
        for times in (1, 2):
            admitted = await meetings.admit(session, kid)
            assert daily.server.join(room.name, admitted.given.token)
            await moderation.change_participant(live, host, "kid", ParticipantChange(was_kicked=True))
            await until(lambda: len(room.banned) == times and not room.present)  # noqa: B023
            await until(lambda: not meetings._tellings._tellers)
            assert daily.server.join(room.name, admitted.given.token) is None

            await moderation.change_participant(live, host, "kid", ParticipantChange(was_kicked=False))

        again = await meetings.admit(session, kid)
        assert again.meeting.id == first.meeting.id
        assert daily.server.join(room.name, again.given.token)
        assert daily.server.join(room.name, first.given.token) is None


async def test_jitsi_leaves_the_room_to_who_was_removed_and_to_nobody_else(pool: Pool) -> None:
    session = await session_of(pool, await book(pool))
    host = member(session.id, "teach")
    kick = ParticipantChange(was_kicked=True)
    async with meeting_on(pool, Jitsi("meet.example", None)) as ((live, meetings),):
        seat = await join(live, session.id, "teach")
        meeting, _ = await meetings.ensure(session)
        await moderation.change_participant(live, host, "mum", kick)  # who has no pass
        await until(lambda: not meetings._tellings._tellers)
        assert (await meetings.current(session.id)).id == meeting.id
        await meetings.admit(session, member(session.id, "kid"))

        await moderation.change_participant(live, host, "kid", kick)

        await until(lambda: len(told(seat, "meetingMoved")) == 1)
        moved = await meetings.current(session.id)
        assert (moved.provider, moved.room_name != meeting.room_name) == ("jitsi", True)
        await until(lambda: not meetings._tellings._tellers)
        assert len(told(seat, "meetingMoved")) == 1


async def test_one_person_asks_for_so_many_passes_and_keeps_nobody_else_waiting(pool: Pool) -> None:
    session = await session_of(pool, await book(pool))
    async with meeting_on(pool, Jitsi("meet.example", None)) as ((_, meetings),):
        for _ in range(PASSES_BURST):
            await meetings.admit(session, member(session.id, "kid"))

        with pytest.raises(TooManyRequests) as refused:
            await meetings.admit(session, member(session.id, "kid"))

        assert refused.value.retry_after is not None
        assert 1 <= refused.value.retry_after <= 1 / PASSES_PER_SECOND
        await meetings.admit(session, member(session.id, "teach"))
