"""The feed, apart from what it reads."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest

from domain import calendars
from store.calendars import Appointment, LinkSecret
from tests.support.calendars import read

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SECRET = LinkSecret(key=bytes(32), generation=0)
LESSONS = 300


def appointment(number: int) -> Appointment:
    start = NOW + number * timedelta(hours=1)
    return Appointment(
        id=UUID(int=number),
        start_time=start,
        end_time=start + timedelta(minutes=50),
        status="confirmed",
        created_at=NOW,
        updated_at=NOW,
        sequence=0,
        title="",
        timezone="Europe/Berlin",
        student_name="Leo Brandt",
        teacher_name="Maya Okafor",
        teacher_email=None,
    )


async def test_while_a_long_feed_is_written_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    async def link_secret(*_: Any) -> LinkSecret:
        return SECRET

    async def appointments_of(*_: Any, **__: Any) -> list[Appointment]:
        return [appointment(number) for number in range(LESSONS)]

    monkeypatch.setattr("store.calendars.link_secret", link_secret)
    monkeypatch.setattr("store.calendars.appointments_of", appointments_of)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(others())
    feed = await calendars.feed(
        cast(Any, None), "leo", calendars.token_of("leo", SECRET), origin="https://lessons.example", now=NOW
    )
    running.cancel()
    assert turns >= LESSONS
    assert len(read(feed).entries) == LESSONS
