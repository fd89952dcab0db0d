"""What a host may do to the people of a session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from domain import moderation
from domain.errors import Conflict, Forbidden, NotFound
from domain.live import Live
from domain.moderation import ParticipantChange
from store import participants
from store.database import Pool
from store.participants import Participant
from tests.support.lessons import book, database_pool, member
from tests.support.recorder import WAIT_SECONDS
from tests.support.rooms import Seat, join, online, raise_hand, room_of, told, workers


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture
async def live(pool: Pool) -> AsyncIterator[Live]:
    async with workers(pool, 1) as (live,):
        yield live


async def change(
    live: Live,
    session_id: UUID,
    user_id: str,
    who: str = "teach",
    *,
    mic: bool | None = None,
    camera: bool | None = None,
    kicked: bool | None = None,
) -> Participant:
    wanted = ParticipantChange(mic_allowed=mic, camera_allowed=camera, was_kicked=kicked)
    return await moderation.change_participant(live, member(session_id, who), user_id, wanted)


async def test_what_is_taken_and_given_is_told_once(live: Live) -> None:
    session_id = await book(live.pool)
    watching = await join(live, session_id, "mum")
    await join(live, session_id, "kid")
    for _ in range(2):
        assert not (await change(live, session_id, "kid", mic=False)).mic_allowed
    await change(live, session_id, "kid", camera=False)
    await change(live, session_id, "kid", "boss", mic=True, camera=True)
    assert told(watching, "permissionsChanged") == [
        {"seq": 1, "userId": "kid", "micAllowed": False, "cameraAllowed": True},
        {"seq": 2, "userId": "kid", "micAllowed": False, "cameraAllowed": False},
        {"seq": 3, "userId": "kid", "micAllowed": True, "cameraAllowed": True},
    ]


async def test_the_roster_knows_what_was_taken(live: Live) -> None:
    session_id = await book(live.pool)
    await join(live, session_id, "kid")
    await change(live, session_id, "kid", mic=False)
    await raise_hand(live, member(session_id, "kid"), raised=True)
    [person] = live.presence.online(str(session_id))
    assert (person["micAllowed"], person["cameraAllowed"], person["handRaised"]) == (False, True, True)


async def test_a_hand_goes_up_and_down_once(live: Live) -> None:
    session_id = await book(live.pool)
    watching = await join(live, session_id, "teach")
    for raised in (False, True, True, False, False):
        await raise_hand(live, member(session_id, "kid"), raised=raised)
    assert told(watching, "handRaised") == [
        {"seq": 1, "userId": "kid", "raised": True},
        {"seq": 2, "userId": "kid", "raised": False},
    ]


async def test_who_is_kicked_is_told_so_and_then_is_out_on_every_worker(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 2) as (one, other):
        removed: list[tuple[Seat, str]] = []
        for live in (one, other):
            live.removed = lambda connection, room_id: removed.append((connection, room_id))  # type: ignore[arg-type]
        watching = await join(one, session_id, "teach")
        seats = [await join(one, session_id, "kid"), await join(other, session_id, "kid")]
        await raise_hand(other, member(session_id, "kid"), raised=True)
        participant = await change(one, session_id, "kid", kicked=True)
        assert (participant.was_kicked, participant.hand_raised) == (True, False)
        await watching.events.wait_for("participantLeft")
        assert told(watching, "participantLeft") == [{"userId": "kid", "reason": "kicked"}]
        assert told(watching, "participantKicked") == [{"seq": 2, "userId": "kid"}]
        assert {id(seat) for seat, _ in removed} == {id(seat) for seat in seats}
        for seat, live in zip(seats, (one, other), strict=True):
            assert told(seat, "participantKicked") == [{"seq": 2, "userId": "kid"}]
            assert seat not in room_of(one, session_id).members
            assert live.presence.connections(str(session_id), "kid") == []
        assert online(one, session_id) == ["teach"]
        with pytest.raises(Forbidden):
            await join(other, session_id, "kid")
        assert not (await change(one, session_id, "kid", kicked=False)).was_kicked
        await join(other, session_id, "kid")
        assert online(one, session_id) == ["kid", "teach"]
        assert len(told(watching, "participantKicked")) == 1, "letting back in is no event"


async def test_kicks_and_comings_at_once_end_with_everybody_out(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 2) as (one, other):
        await join(one, session_id, "teach")
        for _ in range(5):
            await change(one, session_id, "kid", kicked=False)
            comings = (join(live, session_id, "kid") for live in (one, other, one))
            _, *outcomes = await asyncio.gather(
                change(one, session_id, "kid", kicked=True), *comings, return_exceptions=True
            )
            assert all(isinstance(outcome, Seat | Forbidden) for outcome in outcomes), outcomes
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    kid = await participants.of_person(pool, session_id, "kid")
                    if kid is not None and not kid.online and online(one, session_id) == ["teach"]:
                        break
            for live in (one, other):
                assert live.presence.connections(str(session_id), "kid") == []


@pytest.mark.parametrize("who", ["kid", "mum", "gran"])
async def test_only_the_host_moderates(live: Live, who: str) -> None:
    session_id = await book(live.pool)
    with pytest.raises(Forbidden) as refusal:
        await change(live, session_id, "kid", who, kicked=True)
    assert refusal.value.code == "not_host"


@pytest.mark.parametrize("user_id", ["nobody", "kid2", "teach2", "boss", ""])
async def test_who_is_no_member_is_not_found(live: Live, user_id: str) -> None:
    session_id = await book(live.pool)
    with pytest.raises(NotFound):
        await change(live, session_id, user_id, mic=False)
    assert await participants.of_session(live.pool, session_id, limit=100) == []
    with pytest.raises(NotFound):
        await change(live, uuid4(), "kid", mic=False)


async def test_the_host_and_admins_are_not_removed(live: Live) -> None:
    session_id = await book(live.pool)
    await join(live, session_id, "boss")
    with pytest.raises(Conflict) as conflict:
        await change(live, session_id, "teach", "boss", kicked=True)
    assert conflict.value.code == "host_stays"
    with pytest.raises(Forbidden) as refusal:
        await change(live, session_id, "boss", kicked=True)
    assert refusal.value.code == "admin_stays"
    assert not (await change(live, session_id, "boss", mic=False)).mic_allowed
