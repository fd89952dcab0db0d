"""What calendars read of the database: how often a booking has changed, and what links are made of."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from store import calendars
from store.database import Pool
from tests.support.lessons import book, database_pool


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def test_whatever_statement_changes_a_booking_it_is_counted(pool: Pool) -> None:
    booking_id = await book(pool)
    expected = 0
    for change, counts in (
        ("status = 'confirmed'", 1),
        ("status = 'confirmed', updated_at = now()", 0),
        ("end_time = end_time + interval '1 minute'", 1),
        ("parent_id = NULL", 0),
        ("start_time = start_time - interval '1 minute', status = 'pending'", 1),
        ("calendar_sequence = 0, status = 'completed'", 1),
    ):
        await pool.execute(f"UPDATE bookings SET {change} WHERE id = $1", booking_id)
        expected += counts
        appointment = await calendars.appointment(pool, booking_id)
        assert appointment is not None
        assert appointment.sequence == expected, change


async def test_links_are_made_of_a_key_of_this_installation_alone(pool: Pool) -> None:
    secret = await calendars.link_secret(pool, "kid")
    assert secret is not None
    assert (len(secret.key), secret.generation) == (32, 0)
    assert len(set(secret.key)) > 8
    assert await calendars.link_secret(pool, "nobody") is None


async def test_links_are_taken_back_one_person_at_a_time(pool: Pool) -> None:
    for generation in (1, 2):
        await calendars.take_back_links(pool, "kid")
        secret = await calendars.link_secret(pool, "kid")
        assert secret is not None
        assert secret.generation == generation
    other = await calendars.link_secret(pool, "mum")
    assert other is not None
    assert other.generation == 0
