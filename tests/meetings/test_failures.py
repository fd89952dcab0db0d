"""What happens when a provider is slow, away, busy, broken or says nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from meetings import chime, daily
from meetings.daily_api import MAX_ANSWER_BYTES, Patience, Refusal, Unsure
from meetings.pace import Pace, TooSoon
from meetings.provider import (
    NotRecording,
    Provider,
    ProviderAway,
    ProviderError,
    ProviderFailed,
    RecordingKey,
    RecordingRefused,
    Room,
    RoomSpec,
)
from server.settings import from_environment
from tests.meetings.worlds import QUICK, STUDENT, ChimeWorld, DailyWorld, chime_world, daily_world, soon
from tests.standins import daily as daily_standin
from tests.standins.faults import Fault

LESSON = RoomSpec(name="a-lesson")
RECORDED = replace(LESSON, recorded=True)
#: Rates that can be seen to be kept to, and need not be waited for.
PACED = Patience(first_pause_seconds=0.01, rate_seconds=0.3)
RECORDING = RecordingKey(
    instance_id="5f0c2b8a-0000-4000-8000-000000000000", recording_id="5f0c2b8a-0000-4000-8000-000000000001"
)
UNNAMED = replace(RECORDING, recording_id=None)
AWAY = Fault(cut=True)
SLOW = Fault(seconds=60.0)
#: Seconds that acts have here, and each of their tries.
ACT_SECONDS, TRY_SECONDS = 0.6, 0.15
NONSENSE = [
    Fault(status=200, body="<html>"),
    Fault(status=200, body="[]"),
    Fault(status=200, body="{}"),
    Fault(status=200, body='{"Meeting": null, "Attendee": 7, "token": 5, "id": {}}'),
    Fault(status=200, body=""),
]
Act = Callable[[Provider, Room], Awaitable[object]]
ACTS: dict[str, Act] = {
    "make": lambda provider, room: provider.make_room(replace(LESSON, name="another")),
    "delete": lambda provider, room: provider.delete_room(room),
    "admit": lambda provider, room: provider.admit(room, STUDENT, expires_at=soon()),
    "attendee": lambda provider, room: provider.attendee(room, STUDENT, expires_at=soon()),
    "eject": lambda provider, room: provider.eject(room, STUDENT.user_id),
    "permit": lambda provider, room: provider.permit(room, STUDENT),
    "start": lambda provider, room: provider.start_recording(room, RECORDING.instance_id),
    "stop": lambda provider, room: provider.stop_recording(room, RECORDING),
    "find": lambda provider, room: provider.find_recording(room, RECORDING, since=soon()),
    "link": lambda provider, room: provider.recording_link(room, RECORDING),
    "delete a recording": lambda provider, room: provider.delete_recording(room, RECORDING),
}


@pytest.fixture(params=["daily", "chime"])
async def hasty_world(request: pytest.FixtureRequest) -> AsyncIterator[DailyWorld | ChimeWorld]:
    """With so little time that what does not answer need not be waited for."""
    if request.param == "daily":
        patience = replace(QUICK, try_seconds=TRY_SECONDS, act_seconds=ACT_SECONDS)
        async with daily_world(patience) as of_daily:
            yield of_daily
    else:
        async with chime_world(try_seconds=TRY_SECONDS, act_seconds=ACT_SECONDS) as of_chime:
            yield of_chime


@pytest.fixture(params=["daily", "chime"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[DailyWorld | ChimeWorld]:
    """With more time than anything takes."""
    if request.param == "daily":
        async with daily_world() as of_daily:
            yield of_daily
    else:
        async with chime_world() as of_chime:
            yield of_chime


@pytest.mark.parametrize("act", ACTS)
async def test_a_provider_that_does_not_answer_is_away_before_anybody_loses_patience(
    hasty_world: DailyWorld | ChimeWorld, act: str
) -> None:
    world, room = hasty_world, None
    while room is None:
        with contextlib.suppress(ProviderAway):  # on a busy machine
            room = await world.provider.make_room(LESSON)
    world.server.faults.next(SLOW, 50)
    began = time.monotonic()

    with pytest.raises(ProviderAway) as failed:
        await ACTS[act](world.provider, room)

    assert failed.value.code == "provider_away"
    assert time.monotonic() - began < SLOW.seconds / 2


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("fault", [AWAY, Fault(status=500), Fault(status=503)], ids=["cut", "500", "503"])
async def test_a_provider_that_has_trouble_is_away(world: DailyWorld | ChimeWorld, act: str, fault: Fault) -> None:
    room = await world.provider.make_room(LESSON)
    world.server.faults.next(fault, 50)

    with pytest.raises(ProviderAway):
        await ACTS[act](world.provider, room)


@pytest.mark.parametrize("fault", NONSENSE, ids=lambda fault: fault.body[:10] or "nothing")
@pytest.mark.parametrize("act", ["make", "admit", "attendee"])
async def test_nonsense_is_no_answer(world: DailyWorld | ChimeWorld, act: str, fault: Fault) -> None:
    room = await world.provider.make_room(LESSON)
    world.server.faults.next(fault, 3)

    with pytest.raises(ProviderError) as failed:
        await ACTS[act](world.provider, room)

    assert failed.value.code in ("provider_failed", "provider_away")
    assert failed.value.message.endswith(".")


@pytest.mark.parametrize("act", [name for name in ACTS if name != "start"])
async def test_trouble_that_passes_is_not_noticed(world: DailyWorld | ChimeWorld, act: str) -> None:
    room = await world.provider.make_room(LESSON)
    world.server.faults.next(Fault(status=500), 1)

    with contextlib.suppress(NotRecording):  # which is the answer of the second try
        await ACTS[act](world.provider, room)


async def test_a_room_whose_answer_was_lost_is_made_once(world: DailyWorld | ChimeWorld) -> None:
    world.server.faults.next(Fault(cut=True, done=True), 1)

    room = await world.provider.make_room(LESSON)

    assert room.name == "a-lesson"
    made = world.server.rooms if isinstance(world, DailyWorld) else world.server.meetings
    assert len(made) == 1


async def test_two_who_make_a_meeting_of_chimes_at_once_make_one() -> None:
    async with chime_world() as world:
        world.server.conflicts = 2
        one, other = await asyncio.gather(world.provider.make_room(LESSON), world.provider.make_room(LESSON))

        assert one == other


async def test_chime_without_credentials_says_so() -> None:
    async with chime_world() as world:
        with pytest.MonkeyPatch.context() as environment:
            environment.delenv("AWS_ACCESS_KEY_ID")
            options = from_environment({"CHIME_REGION": "eu-central-1", "CHIME_ENDPOINT_URL": world.server.url})
            async with chime.opened(options) as provider:
                with pytest.raises(ProviderFailed, match="no AWS credentials"):
                    await provider.make_room(LESSON)


# Daily alone


@pytest.fixture
async def of_daily() -> AsyncIterator[DailyWorld]:
    async with daily_world() as world:
        yield world


async def test_half_a_room_is_taken_back(of_daily: DailyWorld) -> None:
    of_daily.server.faults.next(Fault(status=200, body="{}", done=True, at="POST /v1/rooms"))

    with pytest.raises(ProviderFailed):
        await of_daily.provider.make_room(LESSON)

    assert of_daily.server.rooms == {}


async def test_a_room_that_an_earlier_try_made_for_other_wishes_is_as_it_is_wished_now(of_daily: DailyWorld) -> None:
    closes_at = soon(7200)
    await of_daily.provider.make_room(replace(RECORDED, closes_at=soon(3600)))

    room = await of_daily.provider.make_room(replace(LESSON, closes_at=closes_at, max_people=10))

    made = of_daily.server.rooms[room.name].properties
    assert (made.enable_recording, made.max_participants, made.exp) == (None, 10, int(closes_at.timestamp()))
    assert of_daily.server.faults.asked(f"POST /v1/rooms/{room.name}") == 1
    await of_daily.provider.make_room(replace(LESSON, closes_at=closes_at, max_people=10))
    assert of_daily.server.faults.asked(f"POST /v1/rooms/{room.name}") == 1, "there is nothing to change"


async def test_a_room_that_daily_does_not_record_is_refused_and_nothing_has_begun(of_daily: DailyWorld) -> None:
    room = await of_daily.provider.make_room(LESSON)
    of_daily.join(room, await of_daily.provider.admit(room, STUDENT, expires_at=soon()))

    with pytest.raises(RecordingRefused, match="not enabled"):
        await of_daily.provider.start_recording(room, RECORDING.instance_id)


async def test_a_room_that_is_public_is_not_kept(of_daily: DailyWorld) -> None:
    of_daily.server.faults.next(
        Fault(
            status=200,
            done=True,
            at="POST /v1/rooms",
            body='{"id": "1", "name": "a-lesson", "url": "https://school.daily.co/a-lesson", "privacy": "public"}',
        )
    )

    with pytest.raises(ProviderFailed, match="another room"):
        await of_daily.provider.make_room(LESSON)

    assert of_daily.server.rooms == {}


async def test_a_recording_whose_start_was_lost_does_not_run_on(of_daily: DailyWorld) -> None:
    room = await of_daily.provider.make_room(RECORDED)
    of_daily.join(room, await of_daily.provider.admit(room, STUDENT, expires_at=soon()))
    of_daily.server.faults.next(Fault(cut=True, done=True, at="POST /v1/rooms/a-lesson/recordings/start"))

    with pytest.raises(ProviderAway):
        await of_daily.provider.start_recording(room, RECORDING.instance_id)

    assert of_daily.server.rooms["a-lesson"].recording is None
    assert of_daily.server.faults.asked("POST /v1/rooms/a-lesson/recordings/start") == 1


async def test_a_recording_that_has_no_worker_yet_is_tried_again() -> None:
    async with daily_world(Patience(first_pause_seconds=0.01, rate_seconds=0.02)) as world:
        room = await world.provider.make_room(RECORDED)
        world.join(room, await world.provider.admit(room, STUDENT, expires_at=soon()))
        world.server.faults.next(Fault(status=503, at="POST /v1/rooms/a-lesson/recordings/start"))

        await world.provider.start_recording(room, RECORDING.instance_id)

        assert len(world.server.recordings) == 1


async def test_as_long_as_daily_says_nobody_asks_again() -> None:
    async with daily_world(Patience(first_pause_seconds=0.01)) as world:
        world.server.faults.next(Fault(status=429, headers={"Retry-After": "1"}))
        began = time.monotonic()

        await world.provider.make_room(LESSON)

        assert time.monotonic() - began >= 1.0


async def test_who_would_wait_too_long_is_told_for_how_long(of_daily: DailyWorld) -> None:
    of_daily.server.faults.next(Fault(status=429, headers={"Retry-After": "30"}))
    began = time.monotonic()

    with pytest.raises(ProviderAway) as failed:
        await of_daily.provider.make_room(LESSON)

    assert failed.value.retry_after == 30
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("header", ["soon", "-5", "Wed, 21 Oct 2026 07:28:00 GMT", "9" * 50, ""])
async def test_a_retry_after_of_another_kind_is_none(of_daily: DailyWorld, header: str) -> None:
    of_daily.server.faults.next(Fault(status=429, headers={"Retry-After": header}), 9)

    with pytest.raises(ProviderAway) as failed:
        await of_daily.provider.make_room(LESSON)

    assert failed.value.retry_after is None


async def test_an_answer_without_end_is_not_read_to_it(of_daily: DailyWorld) -> None:
    room = await of_daily.provider.make_room(LESSON)
    of_daily.server.faults.next(Fault(status=200, body='"' + "x" * MAX_ANSWER_BYTES + '"'))

    with pytest.raises(ProviderFailed, match="more than can be read"):
        await of_daily.provider.admit(room, STUDENT, expires_at=soon())


async def test_the_key_follows_no_redirect(of_daily: DailyWorld) -> None:
    of_daily.server.faults.next(Fault(status=302, headers={"Location": "/elsewhere"}))

    with pytest.raises(ProviderFailed):
        await of_daily.provider.make_room(LESSON)

    assert of_daily.server.faults.asked("GET") == 0


async def test_a_key_that_daily_does_not_accept_is_named_and_not_told(of_daily: DailyWorld) -> None:
    key = "another-domains-key"
    options = from_environment({"DAILY_API_KEY": key, "DAILY_API_URL": of_daily.server.url})
    async with daily.opened(options) as provider:
        with pytest.raises(ProviderFailed, match="DAILY_API_KEY") as failed:
            await provider.make_room(LESSON)

    assert key not in repr(failed.value) + str(failed.value.__cause__)
    assert daily_standin.API_KEY not in repr(of_daily.provider)


async def test_where_nobody_listens_daily_is_away() -> None:
    options = from_environment({"DAILY_API_KEY": "key", "DAILY_API_URL": "http://127.0.0.1:9/v1"})
    async with daily.opened(options, Patience(first_pause_seconds=0.01)) as provider:
        with pytest.raises(ProviderAway, match="cannot be reached"):
            await provider.make_room(LESSON)


async def test_dailys_words_are_repeated_in_part_and_without_control_characters(of_daily: DailyWorld) -> None:
    room = await of_daily.provider.make_room(LESSON)
    info = "evil\\n\\u001b[31m" + "x" * 1000
    of_daily.server.faults.next(Fault(status=403, body=f'{{"error": "forbidden-error", "info": "{info}"}}'))

    with pytest.raises(Refusal) as failed:
        await of_daily.provider.admit(room, STUDENT, expires_at=soon())

    assert failed.value.message.isprintable()
    assert len(failed.value.message) < 300


async def test_more_calls_than_daily_allows_wait_for_their_turn() -> None:
    async with daily_world(PACED) as world:
        began = time.monotonic()
        for number in range(4):
            await world.provider.delete_room(Room(provider="daily", id="1", name=f"room-{number}"))

        assert time.monotonic() - began >= PACED.rate_seconds


async def test_daily_refuses_none_of_what_keeps_to_its_rates() -> None:
    # Calls that are sent in time may come late: by less than what is between the two rates.
    paced = replace(PACED, try_seconds=15.0, act_seconds=20.0, rate_seconds=2.0)
    async with daily_world(paced) as world:
        world.server.rate_seconds = paced.rate_seconds * 0.7
        room = await world.provider.make_room(LESSON)
        acts = [world.provider.admit(room, STUDENT, expires_at=soon()) for _ in range(14)]
        acts += [world.provider.find_recording(room, UNNAMED, since=soon()) for _ in range(3)]  # type: ignore[misc]

        await asyncio.gather(*acts)

        assert world.server.refused == 0


async def test_recordings_are_started_no_faster_than_daily_allows_and_stopped_at_once() -> None:
    paced = replace(PACED, rate_seconds=2.0)
    async with daily_world(paced) as world:
        rooms = [await world.provider.make_room(RoomSpec(name=f"room-{n}", recorded=True)) for n in range(2)]
        for room in rooms:
            world.join(room, await world.provider.admit(room, STUDENT, expires_at=soon()))
        began = time.monotonic()
        for room in rooms:
            await world.provider.start_recording(room, RECORDING.instance_id)
        assert time.monotonic() - began >= paced.rate_seconds

        asked = time.monotonic()
        for room in rooms:
            await world.provider.stop_recording(room, RECORDING)
        assert time.monotonic() - asked < paced.rate_seconds


# Keeping a pace


def test_turns_are_as_far_apart_as_the_pace_has_it() -> None:
    now = 100.0
    pace = Pace(2, 1.0, clock=lambda: now)

    assert [round(pace.reserve(10), 3) for _ in range(5)] == [0, 0, 1, 1, 2]
    now = 101.5
    assert round(pace.reserve(10), 3) == 0.5
    now = 200.0
    assert pace.reserve(10) == 0


def test_who_would_come_too_late_takes_nobodys_turn() -> None:
    pace = Pace(1, 1.0, clock=lambda: 5.0)
    pace.reserve(0)

    with pytest.raises(TooSoon) as late:
        pace.reserve(0.5)
    assert late.value.seconds == 1.0
    assert pace.reserve(1.0) == 1.0


async def test_a_room_that_daily_made_too_slowly_is_deleted_though_the_last_try_was_refused() -> None:
    """Two tries use up the time of the act, or the second one is told to come later: the first may have made it."""
    for second in (Fault(seconds=1.0, at="POST"), Fault(status=429, headers={"Retry-After": "60"}, at="POST")):
        async with daily_world(Patience(try_seconds=0.2, act_seconds=0.4, first_pause_seconds=0.001)) as world:
            world.server.faults.next(Fault(seconds=0.3, done=True, at="POST"))
            world.server.faults.next(second)

            with pytest.raises(Unsure):
                await world.provider.make_room(LESSON)

            assert world.server.rooms == {}


async def test_who_is_ejected_while_chime_registers_them_is_registered_anew_in_the_same_meeting() -> None:
    async with chime_world() as world:
        room = await world.provider.make_room(LESSON)
        await world.provider.admit(room, STUDENT, expires_at=soon())
        update = world.server.update_attendee_capabilities

        def ejected(MeetingId: str, AttendeeId: str, Capabilities: Any) -> dict[str, Any]:  # noqa: N803
            if AttendeeId == first:
                world.server.delete_attendee(MeetingId, AttendeeId)
            return update(MeetingId, AttendeeId, Capabilities)

        (first,) = world.server.meetings[room.id].attendees
        world.server.update_attendee_capabilities = ejected  # type: ignore[method-assign]

        admitted = await world.provider.admit(room, replace(STUDENT, mic_allowed=False), expires_at=soon())

        joined = world.join(room, admitted)
        assert joined is not None
        assert joined.mic is False
