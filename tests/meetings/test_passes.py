"""A pass opens one room, for one person, for a while: as those see it who check it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import jwt
import pytest

from meetings import chime
from meetings.daily_api import Patience
from meetings.provider import Pass, ProviderFailed, Room, RoomSpec
from server.settings import from_environment
from tests.meetings.worlds import JITSI_SECRET, STUDENT, TEACHER, WORLDS, World, chime_world, daily_world, soon
from tests.standins import daily as daily_standin
from tests.support.waiting import until

#: Those whose rooms somebody else guards. Among browsers it is the session's room: `tests/handlers/encounters`.
GUARDED = ("jitsi", "jaas", "daily", "chime")
LESSON = RoomSpec(name="maths-of-this-class")


@pytest.fixture(params=GUARDED)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with WORLDS[request.param]() as world:
        yield world


def with_token(admitted: Pass, token: str | None) -> Pass:
    """The pass with another token, wherever it has one."""
    assert admitted.token is not None
    url = None if admitted.url is None else admitted.url.replace(admitted.token, token or "")
    return replace(admitted, token=token, url=url)


async def test_a_pass_opens_its_own_room_and_none_of_the_others(world: World) -> None:
    names = ("maths", "maths-2", "maths-of-this-class", "matHs-3".lower())
    rooms = [await world.provider.make_room(RoomSpec(name=name)) for name in names]

    for own in rooms:
        for person in (TEACHER, STUDENT):
            admitted = await world.provider.admit(own, person, expires_at=soon())
            opened = [room.name for room in rooms if world.join(room, admitted) is not None]
            assert opened == [own.name]


async def test_a_pass_that_was_changed_opens_nothing(world: World) -> None:
    room = await world.provider.make_room(LESSON)
    admitted = await world.provider.admit(room, STUDENT, expires_at=soon())
    token = admitted.token
    assert token is not None

    middle = len(token) // 2
    other = "A" if token[middle] != "A" else "B"
    for forged in (token[:middle] + other + token[middle + 1 :], token[:-4], f"{token}AAAA", "", None):
        assert world.join(room, with_token(admitted, forged)) is None
    assert world.join(room, admitted) is not None


@pytest.mark.parametrize("name", ["jitsi", "jaas"])
async def test_a_jitsi_pass_says_everything_that_is_checked(name: str) -> None:
    async with WORLDS[name]() as world:
        room = await world.provider.make_room(LESSON)
        admitted = await world.provider.admit(room, STUDENT, expires_at=soon())
        assert admitted.token is not None
        said = jwt.decode(admitted.token, options={"verify_signature": False})
        assert said["room"] == room.name != "*"
        assert said["sub"] != "*"
        assert said["exp"] > said["nbf"]

        late = await world.provider.admit(room, STUDENT, expires_at=soon(-1))
        assert world.join(room, late) is None


async def test_prosody_takes_no_pass_that_is_signed_or_meant_otherwise() -> None:
    async with WORLDS["jitsi"]() as world:
        room = await world.provider.make_room(LESSON)
        admitted = await world.provider.admit(room, STUDENT, expires_at=soon())
        assert admitted.token is not None
        said: dict[str, Any] = jwt.decode(admitted.token, options={"verify_signature": False})

        def joins(claims: dict[str, Any], secret: str = JITSI_SECRET, algorithm: str = "HS256") -> bool:
            token = jwt.encode(claims, "" if algorithm == "none" else secret, algorithm)
            return world.join(room, with_token(admitted, token)) is not None

        assert joins(said)
        assert not joins(said, secret="somebody else's secret, which is long enough")
        assert not joins(said, algorithm="none")
        for claim, value in (("aud", "elsewhere"), ("iss", "another"), ("sub", "other.example"), ("room", "another")):
            assert not joins(said | {claim: value})
        for claim in ("aud", "exp", "iss"):
            assert not joins({name: value for name, value in said.items() if name != claim})


async def test_daily_takes_no_pass_that_is_over_or_that_daily_did_not_sign() -> None:
    async with daily_world() as world:
        room = await world.provider.make_room(LESSON)
        admitted = await world.provider.admit(room, STUDENT, expires_at=soon(60))
        assert admitted.token is not None
        said = jwt.decode(admitted.token, options={"verify_signature": False})
        assert said["r"] == room.name

        assert (
            world.server.join(room.name, jwt.encode(said, "another secret, which is long enough too", "HS256")) is None
        )
        assert world.server.join(room.name, admitted.token, after=61) is None
        assert world.server.join(room.name, jwt.encode(said, daily_standin.TOKEN_SECRET, "HS256")) is not None


async def test_a_request_to_chime_that_another_key_has_signed_is_refused() -> None:
    async with chime_world() as world:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("AWS_SECRET_ACCESS_KEY", "of somebody else, and forty characters!!")
            options = from_environment({"CHIME_REGION": "eu-central-1", "CHIME_ENDPOINT_URL": world.server.url})
            async with chime.opened(options) as provider:
                with pytest.raises(ProviderFailed, match="does not accept the AWS credentials"):
                    await provider.make_room(LESSON)
        assert world.server.meetings == {}


@pytest.mark.parametrize("name", WORLDS)
async def test_a_room_that_may_have_been_made_can_be_unmade(name: str) -> None:
    async with WORLDS[name]() as world:
        room: Room = await world.provider.make_room(LESSON)

        for _ in range(2):
            await world.provider.unmake_room(LESSON.name)

        if name in ("daily", "chime"):
            admitted = await _admitted_by_force(world, room)
            assert admitted is None or world.join(room, admitted) is None


async def _admitted_by_force(world: World, room: Room) -> Pass | None:
    try:
        return await world.provider.admit(room, STUDENT, expires_at=soon())
    except ProviderFailed:
        return None


async def test_who_was_put_out_of_a_room_of_dailys_and_let_back_in_comes_in() -> None:
    async with daily_world() as world:
        room = await world.provider.make_room(LESSON)
        first = await world.provider.admit(room, STUDENT, expires_at=soon())
        assert world.join(room, first)
        await world.provider.eject(room, STUDENT.user_id)
        assert world.join(room, await world.provider.admit(room, STUDENT, expires_at=soon())) is None

        again = replace(STUDENT, ejected=1)
        admitted = await world.provider.admit(room, again, expires_at=soon())
        assert world.join(room, admitted)
        assert world.join(room, first) is None
        await world.provider.permit(room, replace(again, mic_allowed=False))
        (there,) = world.server.rooms[room.name].present
        assert not there.may_send("audio")
        await world.provider.eject(room, STUDENT.user_id, ejected=1)
        assert world.join(room, admitted) is None
        assert world.server.rooms[room.name].present == []


async def test_a_room_that_daily_has_deleted_is_gone_and_is_looked_for_once_for_many() -> None:
    async with daily_world() as world:
        room = await world.provider.make_room(LESSON)
        for _ in range(5):
            await world.provider.admit(room, STUDENT, expires_at=soon())
        assert world.server.faults.asked("GET /v1/rooms/") == 1

        other = await world.provider.make_room(RoomSpec(name="another"))
        del world.server.rooms[other.name]
        with pytest.raises(ProviderFailed) as gone:
            await world.provider.admit(other, STUDENT, expires_at=soon())
        assert gone.value.code == "room_gone"


async def test_what_a_host_does_waits_for_nobody_who_asks_for_passes() -> None:
    async with daily_world(Patience(first_pause_seconds=0.01)) as world:
        room = await world.provider.make_room(LESSON)
        asking = [asyncio.create_task(world.provider.admit(room, STUDENT, expires_at=soon())) for _ in range(40)]
        await until(lambda: any(one.done() for one in asking))

        await world.provider.eject(room, STUDENT.user_id)

        assert not all(one.done() for one in asking)
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
