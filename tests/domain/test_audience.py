"""People's connections, and what all workers tell them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from store.database import Pool
from tests.support.lessons import database_pool
from tests.support.rooms import Seat, workers


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def test_people_hear_of_what_concerns_them_on_every_worker(pool: Pool) -> None:
    async with workers(pool, 2) as (one, other):
        heard: list[str] = []
        one.audience.person_news = other.audience.person_news = heard.append
        first, second, elsewhere = Seat("kid"), Seat("kid"), Seat("kid")
        one.audience.attend(first.connection)
        one.audience.attend(second.connection)
        other.audience.attend(elsewhere.connection)
        assert set(one.audience.connections_of("kid")) == {first.connection, second.connection}
        assert one.audience.everybody() == ["kid"]
        one.audience.changed(["kid", "mum"])
        assert heard == ["kid", "kid"], "once on each worker"
        one.audience.dismiss(first.connection)
        other.audience.changed(["kid"])
        assert len(heard) == 4
        one.audience.dismiss(second.connection)
        one.audience.dismiss(second.connection)
        other.audience.changed(["kid"])
        assert len(heard) == 5
        assert one.audience.connections_of("kid") == []
