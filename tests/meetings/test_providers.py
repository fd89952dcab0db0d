"""What every video provider does, the same for all: against the stand-ins of those that are servers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pytest

from meetings import providers
from meetings.external_ids import external_id
from meetings.provider import (
    MAX_NAME_CHARACTERS,
    AlreadyRecording,
    MeetingEmpty,
    NotRecording,
    NotSupported,
    Pass,
    Person,
    Provider,
    ProviderAway,
    ProviderFailed,
    RecordingKey,
    Room,
    RoomGone,
    RoomSpec,
)
from server.settings import SettingsError, from_environment
from tests.meetings.worlds import STUDENT, TEACHER, WORLDS, ChimeWorld, DailyWorld, World, chime_world, soon
from tests.standins.faults import Fault

INSTANCE = "5f0c2b8a-0000-4000-8000-000000000000"
OTHER_INSTANCE = "5f0c2b8a-0000-4000-8000-000000000001"
LESSON = RoomSpec(name="0f8fad5bd9cb469fa16570867728950e-1")


@pytest.fixture(params=WORLDS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with WORLDS[request.param]() as world:
        yield world


async def come_in(world: World, room: Room, person: Person) -> Pass:
    admitted = await world.provider.admit(room, person, expires_at=soon())
    joined = world.join(room, admitted)
    assert joined is not None
    assert joined.person_id == admitted.person_id
    return admitted


async def test_everybody_with_a_pass_is_let_in(world: World) -> None:
    room = await world.provider.make_room(LESSON)

    for person in (TEACHER, STUDENT):
        admitted = await come_in(world, room, person)
        assert admitted.provider == room.provider == world.provider.name
        assert admitted.person_id == external_id(person.user_id)


async def test_only_the_owner_is_taken_for_one(world: World) -> None:
    room = await world.provider.make_room(LESSON)

    for person in (TEACHER, STUDENT):
        joined = world.join(room, await world.provider.admit(room, person, expires_at=soon()))
        assert joined is not None
        assert joined.is_owner in (None, person.is_owner)


async def test_a_pass_opens_no_other_room(world: World) -> None:
    room = await world.provider.make_room(LESSON)
    other = await world.provider.make_room(replace(LESSON, name="another-lesson"))
    admitted = await world.provider.admit(other, STUDENT, expires_at=soon())

    if admitted.token is None:
        assert other.name != room.name  # nothing but the name keeps anybody out
    else:
        assert world.join(room, admitted) is None


async def test_a_room_is_made_once_however_often_it_is_asked_for(world: World) -> None:
    room = await world.provider.make_room(LESSON)

    assert await world.provider.make_room(LESSON) == room


async def test_two_names_are_two_rooms(world: World) -> None:
    one = await world.provider.make_room(LESSON)
    other = await world.provider.make_room(replace(LESSON, name=LESSON.name[:-1] + "2"))

    assert (one.id, one.name) != (other.id, other.name)


async def test_a_room_comes_back_from_where_it_was_stored(world: World) -> None:
    room = await world.provider.make_room(LESSON)
    stored = msgspec.json.decode(msgspec.json.encode(room), type=Room)

    assert stored == room
    await come_in(world, stored, STUDENT)


async def test_a_room_tells_nothing_that_lets_anybody_in(world: World) -> None:
    room = await world.provider.make_room(LESSON)
    admitted = await world.provider.admit(room, TEACHER, expires_at=soon())

    if admitted.token is None:  # whoever knows the room comes in
        assert room.name not in str(room.data)
    else:
        assert admitted.token not in str(room)
        assert admitted.token not in repr(admitted)


async def test_a_deleted_room_stays_deleted(world: World) -> None:
    room = await world.provider.make_room(LESSON)

    await world.provider.delete_room(room)
    await world.provider.delete_room(room)

    if isinstance(world, DailyWorld):
        assert world.server.rooms == {}
    if isinstance(world, ChimeWorld):
        assert world.server.meetings == {}
        with pytest.raises(RoomGone):
            await world.provider.admit(room, STUDENT, expires_at=soon())


async def test_the_longest_name_of_a_room_is_taken(world: World) -> None:
    room = await world.provider.make_room(replace(LESSON, name="r" * MAX_NAME_CHARACTERS))

    await come_in(world, room, STUDENT)


@pytest.mark.parametrize("name", ["", "x", "with space", "Ä" * 5, "x" * (MAX_NAME_CHARACTERS + 1), "a/../b", "line\n"])
def test_a_name_that_some_provider_refuses_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="a room is called by"):
        RoomSpec(name=name)


@pytest.mark.parametrize("user_id", ["x", "aws:root", "u" * 128, "zoë@schule.example|99", "🦊", "a\ud800b"])
async def test_people_of_any_id_and_name_come_in(world: World, user_id: str) -> None:
    room = await world.provider.make_room(LESSON)

    for name in ("", "Zoë \N{FOX FACE} O'Neil <b>", "n" * 200):
        await come_in(world, room, Person(user_id=user_id, name=name))


async def test_a_room_with_every_wish_is_made(world: World) -> None:
    room = await world.provider.make_room(
        replace(LESSON, max_people=10_000, opens_at=soon(-60), closes_at=soon(7200), recorded=True)
    )

    await come_in(world, room, TEACHER)


async def test_an_attendee_is_the_same_one_the_second_time(world: World) -> None:
    room = await world.provider.make_room(LESSON)

    first = await world.provider.attendee(room, STUDENT, expires_at=soon())
    second = await world.provider.attendee(room, STUDENT, expires_at=soon())
    another = await world.provider.attendee(room, TEACHER, expires_at=soon())

    assert first.id == second.id != another.id
    assert msgspec.json.encode(first.data)


@pytest.mark.parametrize(("mic", "camera"), [(True, False), (False, True), (False, False)])
async def test_who_may_not_speak_or_be_seen_comes_in_without(world: World, mic: bool, camera: bool) -> None:
    room = await world.provider.make_room(LESSON)
    person = replace(STUDENT, mic_allowed=mic, camera_allowed=camera)

    joined = world.join(room, await world.provider.admit(room, person, expires_at=soon()))

    assert joined is not None
    assert (joined.mic, joined.camera) in ((mic, camera), (None, None))


async def test_permissions_change_while_somebody_is_there(world: World) -> None:
    room = await world.provider.make_room(LESSON)
    await come_in(world, room, STUDENT)
    muted = replace(STUDENT, mic_allowed=False)

    if "permit" not in world.provider.abilities:
        with pytest.raises(NotSupported):
            await world.provider.permit(room, muted)
        return
    await world.provider.permit(room, muted)
    await world.provider.permit(room, replace(TEACHER, mic_allowed=False))  # is not there
    if isinstance(world, DailyWorld | ChimeWorld):
        there = world.inside(room, STUDENT.user_id)
        assert there is not None
        assert (there.mic, there.camera) == (False, True)
        await world.provider.permit(room, STUDENT)
        there = world.inside(room, STUDENT.user_id)
        assert there is not None
        assert there.mic is True


async def test_somebody_who_is_ejected_is_out_and_their_pass_worth_nothing(world: World) -> None:
    room = await world.provider.make_room(LESSON)
    admitted = await come_in(world, room, STUDENT)
    await come_in(world, room, TEACHER)

    if "eject" not in world.provider.abilities:
        with pytest.raises(NotSupported):
            await world.provider.eject(room, STUDENT.user_id)
        return
    await world.provider.eject(room, STUDENT.user_id)
    await world.provider.eject(room, STUDENT.user_id)
    await world.provider.eject(room, "nobody")
    if isinstance(world, DailyWorld | ChimeWorld):
        assert world.inside(room, STUDENT.user_id) is None
        assert world.inside(room, TEACHER.user_id) is not None
        assert world.join(room, admitted) is None


async def test_a_lesson_is_recorded_and_watched(world: World) -> None:
    provider = world.provider
    room = await provider.make_room(replace(LESSON, recorded=True))
    await come_in(world, room, TEACHER)
    if "record" not in provider.abilities:
        return
    began = soon(0)
    started = await provider.start_recording(room, INSTANCE)
    assert started.recording_id is not None
    key = RecordingKey(instance_id=INSTANCE, recording_id=started.recording_id)
    assert await status(provider, room, key) == "in-progress"
    with pytest.raises(NotRecording):
        await provider.recording_link(room, key)

    await provider.stop_recording(room, key)
    assert await status(provider, room, key) == "processing"

    world.finish(started.recording_id)
    finished = await provider.find_recording(room, key, since=began)
    assert finished is not None
    assert (finished.id, finished.status) == (started.recording_id, "finished")
    link = await provider.recording_link(room, key, seconds=10**9)
    assert urlsplit(link.url).scheme in ("http", "https")
    assert soon(43_100) < link.expires_at <= soon(43_201)

    await provider.delete_recording(room, key)
    await provider.delete_recording(room, key)
    with pytest.raises(NotRecording):
        await provider.recording_link(room, key)


async def test_a_room_that_is_gone_is_not_recorded(world: World) -> None:
    if "record" not in world.provider.abilities:
        return
    room = await world.provider.make_room(LESSON)
    await world.provider.delete_room(room)

    with pytest.raises(RoomGone):
        await world.provider.start_recording(room, INSTANCE)


async def status(provider: Provider, room: Room, key: RecordingKey) -> str | None:
    found = await provider.find_recording(room, key, since=soon(0))
    return None if found is None else found.status


async def test_what_does_not_run_is_not_stopped(world: World) -> None:
    room = await world.provider.make_room(LESSON)
    if "record" in world.provider.abilities:
        with pytest.raises(NotRecording):
            await world.provider.stop_recording(room, RecordingKey(instance_id=INSTANCE, recording_id=INSTANCE))


async def test_who_does_not_record_says_so(world: World) -> None:
    provider, room = world.provider, await world.provider.make_room(LESSON)
    if "record" in provider.abilities:
        return
    key = RecordingKey(instance_id=INSTANCE)
    for act in (
        provider.start_recording(room, INSTANCE),
        provider.stop_recording(room, key),
        provider.find_recording(room, key, since=soon()),
        provider.recording_link(room, key),
        provider.delete_recording(room, key),
    ):
        with pytest.raises(NotSupported, match=world.provider.name) as refused:
            await act
        assert refused.value.code == "not_supported"


async def test_chime_without_a_bucket_does_not_record() -> None:
    async with chime_world(bucket="") as world:
        assert world.provider.abilities == {"eject", "permit"}
        room = await world.provider.make_room(LESSON)
        with pytest.raises(NotSupported, match="CHIME_RECORDINGS_BUCKET"):
            await world.provider.start_recording(room, INSTANCE)


async def test_daily_says_that_it_records_already_and_takes_no_unnamed_recording_for_another() -> None:
    async with WORLDS["daily"]() as world:
        assert isinstance(world, DailyWorld)
        room = await world.provider.make_room(replace(LESSON, recorded=True))
        with pytest.raises(MeetingEmpty):
            await world.provider.start_recording(room, INSTANCE)
        await come_in(world, room, TEACHER)
        world.server.names_recordings = False
        started = await world.provider.start_recording(room, INSTANCE)

        assert started.recording_id == world.server.recordings[0]["id"]
        with pytest.raises(AlreadyRecording):
            await world.provider.start_recording(room, OTHER_INSTANCE)


async def test_a_recording_without_a_name_is_the_only_one_of_its_time_that_is_no_others() -> None:
    async with WORLDS["daily"]() as world:
        assert isinstance(world, DailyWorld)
        room = await world.provider.make_room(LESSON)
        now = soon(0)
        for name, began in (("old", -60), ("known", 0), ("new", 1)):
            listed = {"id": name, "room_name": room.name, "status": "in-progress", "start_ts": now.timestamp() + began}
            world.server.recordings.append(listed)
        key = RecordingKey(instance_id=INSTANCE)

        found = await world.provider.find_recording(room, key, since=now, others=["known"])

        assert found is not None
        assert found.id == "new"
        assert await world.provider.find_recording(room, key, since=now) is None, "it may be either"
        before = await world.provider.find_recording(room, key, since=now - timedelta(seconds=90), until=now)
        assert before is not None
        assert before.id == "old", "the others are of the next one"
        nowhere = RecordingKey(instance_id=INSTANCE, recording_id="nowhere")
        assert await world.provider.find_recording(room, nowhere, since=now) is None


async def test_a_recording_of_chimes_whose_start_was_not_answered_is_found_by_its_token_and_stopped() -> None:
    async with chime_world() as world:
        room = await world.provider.make_room(LESSON)
        world.server.faults.next(Fault(cut=True, done=True, at="POST /sdk-media-capture-pipelines"), 9)
        with pytest.raises(ProviderAway):
            await world.provider.start_recording(room, INSTANCE)
        world.server.faults.clear()
        key = RecordingKey(instance_id=INSTANCE)

        await world.provider.stop_recording(room, key)

        assert [one["Status"] for one in world.server.pipelines.values()] == ["Stopping"]
        world.server.forget_tokens()
        await world.provider.stop_recording(room, key)
        assert {one["Status"] for one in world.server.pipelines.values()} == {"Stopping"}, "nor does what that began"
        await world.provider.delete_recording(room, key)
        assert world.server.objects == {}


async def test_a_recording_of_chimes_becomes_one_file_though_the_meeting_ends_by_itself() -> None:
    async with chime_world() as world:
        room = await world.provider.make_room(LESSON)
        started = await world.provider.start_recording(room, INSTANCE)
        assert started.recording_id is not None
        world.server.end_meeting(room.id)
        world.finish(started.recording_id)

        key = RecordingKey(instance_id=INSTANCE, recording_id=started.recording_id)
        assert await status(world.provider, room, key) == "finished"
        assert len(world.server.objects) == 1, "the pieces are not kept beside the film"
        await world.provider.delete_recording(room, key)
        assert world.server.objects == {}, "nor are the pieces left"


async def test_a_capture_of_chimes_that_cannot_become_one_file_does_not_run() -> None:
    async with chime_world() as world:
        room = await world.provider.make_room(LESSON)
        world.server.faults.next(Fault(status=403, at="POST /sdk-media-concatenation-pipelines"))

        with pytest.raises(ProviderFailed):
            await world.provider.start_recording(room, INSTANCE)

        assert [one["Status"] for one in world.server.pipelines.values()] == ["Stopping"]


async def test_the_link_to_a_recording_of_chimes_can_be_followed() -> None:
    async with chime_world() as world, aiohttp.ClientSession() as session:
        room = await world.provider.make_room(LESSON)
        started = await world.provider.start_recording(room, INSTANCE)
        assert started.recording_id is not None
        key = RecordingKey(instance_id=INSTANCE, recording_id=started.recording_id)
        await world.provider.stop_recording(room, key)
        world.finish(started.recording_id)
        link = await world.provider.recording_link(room, key)
        async with session.get(link.url) as response:
            assert await response.read() == b"a film"
        assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in link.url


async def test_a_meeting_of_chimes_that_is_gone_is_made_anew_under_another_name() -> None:
    async with chime_world() as world:
        room = await world.provider.make_room(LESSON)
        world.server.meetings.clear()  # five minutes without anybody
        with pytest.raises(RoomGone):
            await world.provider.admit(room, STUDENT, expires_at=soon())

        again = await world.provider.make_room(replace(LESSON, name=LESSON.name + "2"))

        assert again.id != room.id
        assert world.join(again, await world.provider.admit(again, STUDENT, expires_at=soon()))


def test_a_provider_knows_people_by_names_that_tell_nothing() -> None:
    ids = {external_id(user_id) for user_id in ("ada", "Ada", "ada ", "", "a\ud800")}

    assert len(ids) == 5
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"MEETING_PROVIDER": "daily"}, "DAILY_API_KEY"),
        ({"MEETING_PROVIDER": "chime"}, "CHIME_REGION"),
        ({"MEETING_PROVIDER": "jitsi"}, "JITSI_DOMAIN"),
    ],
)
def test_the_chosen_provider_says_what_it_lacks(settings: Mapping[str, Any], expected: str) -> None:
    with pytest.raises(SettingsError, match=expected):
        from_environment(settings)


async def test_a_meeting_stays_with_its_provider_when_another_is_chosen() -> None:
    settings = from_environment({"MEETING_PROVIDER": "jitsi", "JITSI_DOMAIN": "meet.example"})
    async with providers.opened(settings) as made:
        assert made.chosen.name == "jitsi"
        assert made.by_name("peer").name == "peer"
        with pytest.raises(ProviderFailed, match="not set up") as refused:
            made.by_name("daily")
        assert refused.value.code == "provider_not_set_up"
