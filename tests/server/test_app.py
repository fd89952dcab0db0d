"""The application, composed: what runs in it beside what is asked of it."""

from __future__ import annotations

import asyncio

import pytest

from domain import reminders
from tests.support.apps import running_app
from tests.support.lessons import book, database_pool
from tests.support.recorder import WAIT_SECONDS


def is_reminding() -> bool:
    return any(task.get_name() == "reminders" for task in asyncio.all_tasks())


async def test_reminders_run_as_long_as_the_application(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reminders, "LOOK_SECONDS", 0.0)
    async with database_pool(database) as pool:
        booking_id = await book(pool, status="confirmed")
        await pool.execute(
            "UPDATE bookings SET start_time = now() + interval '9 minutes', end_time = now() + interval '1 hour'"
        )
    async with running_app(database, reminder_minutes=10) as app, asyncio.timeout(WAIT_SECONDS):
        assert is_reminding()
        while not (claimed := await app.pool.fetch("SELECT booking_id FROM booking_reminders")):
            pass
        assert [row["booking_id"] for row in claimed] == [booking_id]
    assert not is_reminding()


async def test_nobody_is_reminded_where_that_is_not_wanted(database: str) -> None:
    async with running_app(database, reminder_minutes=0):
        assert not is_reminding()
