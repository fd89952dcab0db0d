"""Rooms that are over are deleted, each provider's for itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from domain.meeting_rooms import MAX_SWEPT, Rooms
from meetings.jitsi import Jitsi
from meetings.provider import ProviderAway, Room
from meetings.providers import Providers
from store import meetings
from store.database import Pool
from tests.support.lessons import book, database_pool
from tests.support.meetings import meet
from tests.support.recorder import WAIT_SECONDS


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


class Named(Jitsi):
    """A provider of this name, which notes what it is asked to delete."""

    def __init__(self, name: str) -> None:
        super().__init__("meet.example", None)
        self.name = name
        self.asked = 0
        self.is_away = False
        self.held: asyncio.Event | None = None

    async def delete_room(self, room: Room) -> None:
        self.asked += 1
        if self.held is not None:
            await self.held.wait()
        if self.is_away:
            raise ProviderAway("It is away.")


async def over(pool: Pool, provider: str, number: int) -> None:
    for _ in range(number):
        meeting = await meet(pool, await book(pool), provider=provider)
        await meetings.end(pool, meeting.id)


async def test_a_provider_that_is_slow_or_away_holds_up_no_others_rooms(pool: Pool) -> None:
    away, here = Named("away"), Named("here")
    away.is_away, away.held = True, asyncio.Event()
    await over(pool, "away", 3)
    await over(pool, "here", MAX_SWEPT + 1)
    sweeping = asyncio.create_task(Rooms(pool, Providers(here, {"away": away, "here": here})).sweep())

    async with asyncio.timeout(WAIT_SECONDS):
        while here.asked <= MAX_SWEPT:  # noqa: ASYNC110  # nobody says when it is done
            await asyncio.sleep(0.01)

    assert not sweeping.done()
    away.held.set()
    assert await sweeping == MAX_SWEPT + 1
    assert away.asked == 1, "who is away is not asked for each of its rooms"
