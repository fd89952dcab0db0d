"""What a host sets in a session: said to everybody, kept on every worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from domain import session_settings, sessions
from domain.errors import BadRequest, Conflict, EncountersError, Forbidden
from domain.live import Live
from domain.session_settings import NO_SETTINGS, DetailsChange, SettingsChange
from store import sessions as store
from store.database import Pool
from store.session_settings import Settings
from store.sessions import Session
from tests.support.lessons import book, database_pool, live_session, member
from tests.support.rooms import Exchange, join, leave, room_of, told, workers

ALL = Settings(
    locked=True,
    waiting_room=True,
    chat_muted=True,
    slow_mode_seconds=10,
    whiteboard_locked=True,
    recording_consent=True,
)


def test_a_change_replaces_what_it_names_and_no_more() -> None:
    assert session_settings.changed(ALL, NO_SETTINGS) == ALL
    assert session_settings.changed(ALL, SettingsChange(locked=False)) == replace(ALL, locked=False)
    assert session_settings.changed(Settings(), SettingsChange(slow_mode_seconds=0)) == Settings()
    everything = SettingsChange(
        locked=True,
        waiting_room=True,
        chat_muted=True,
        slow_mode_seconds=10,
        whiteboard_locked=True,
        recording_consent=True,
    )
    assert session_settings.changed(Settings(), everything) == ALL


@pytest.mark.parametrize("seconds", [-1, 3601, 10**30])
def test_a_pause_out_of_range_is_refused(seconds: int) -> None:
    with pytest.raises(BadRequest) as refusal:
        session_settings.changed(Settings(), SettingsChange(slow_mode_seconds=seconds))
    assert refusal.value.fields == {"slow_mode_seconds": "must be a whole number from 0 to 3600"}


def test_what_clients_see_is_read_again() -> None:
    for settings in (ALL, Settings(), replace(ALL, chat_muted=False)):
        assert session_settings.from_document(session_settings.document(settings)) == settings
    assert session_settings.document(ALL) == {
        "locked": True,
        "waitingRoom": True,
        "chatMuted": True,
        "slowModeSeconds": 10,
        "whiteboardLocked": True,
        "recordingConsent": True,
    }


@pytest.mark.parametrize(("title", "kept"), [("  Vectors ", "Vectors"), ("", ""), ("x" * 200, "x" * 200)])
def test_a_title_is_trimmed(title: str, kept: str) -> None:
    assert session_settings.trimmed_title(title) == kept


@pytest.mark.parametrize("title", ["x" * 201, "two\nlines", "two\rlines"])
def test_a_title_is_one_line_of_a_card(title: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        session_settings.trimmed_title(title)
    assert list(refusal.value.fields or {}) == ["title"]


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture
async def live(pool: Pool) -> AsyncIterator[Live]:
    async with workers(pool, 1) as (live,):
        yield live


async def stored(pool: Pool, session_id: UUID) -> Session:
    session = await store.find(pool, session_id)
    assert session is not None
    return session


async def test_everybody_is_shown_the_whole_state_on_every_worker(pool: Pool) -> None:
    session_id = await live_session(pool)
    async with workers(pool, 2) as (one, other):
        here, there = await join(one, session_id, "teach"), await join(other, session_id, "kid")
        after = await session_settings.change(one, member(session_id, "teach"), SettingsChange(locked=True))
        assert after.settings == Settings(locked=True)
        await session_settings.change(other, member(session_id, "teach"), SettingsChange(slow_mode_seconds=5))
        states = [
            {"seq": 1, **session_settings.document(Settings(locked=True))},
            {"seq": 2, **session_settings.document(Settings(locked=True, slow_mode_seconds=5))},
        ]
        assert told(here, "sessionSettings") == told(there, "sessionSettings") == states
        for live in (one, other):
            room = room_of(live, session_id)
            assert live.settings(room) == Settings(locked=True, slow_mode_seconds=5)
            assert live.settings(room) == (await stored(pool, session_id)).settings


async def test_a_room_that_opens_later_knows_them(pool: Pool) -> None:
    session_id = await live_session(pool)
    async with workers(pool, 2) as (one, other):
        await session_settings.change(one, member(session_id, "teach"), SettingsChange(chat_muted=True))
        await join(other, session_id, "kid")
        assert other.settings(room_of(other, session_id)) == Settings(chat_muted=True)


async def test_a_worker_that_missed_the_news_catches_up(pool: Pool) -> None:
    session_id, exchange = await live_session(pool), Exchange()
    async with workers(pool, 2, exchange) as (one, other):
        seat = await join(other, session_id, "kid")
        exchange.cut = True
        await session_settings.change(one, member(session_id, "teach"), SettingsChange(locked=True))
        await sessions.move(one, member(session_id, "teach"), "live")
        exchange.cut = False
        await session_settings.change(one, member(session_id, "teach"), SettingsChange(waiting_room=True))
        await seat.events.wait_for("sessionSettings", lambda data: data["seq"] == 3)
        assert seat.seqs == [1, 2, 3]
        room = room_of(other, session_id)
        assert (other.settings(room), other.status(room)) == (Settings(locked=True, waiting_room=True), "live")
        leave(other, session_id, seat)


async def test_to_what_it_is_already_nothing_happens(live: Live) -> None:
    session_id = await live_session(live.pool)
    await session_settings.change(live, member(session_id, "teach"), SettingsChange(locked=True))
    before = await stored(live.pool, session_id)
    await session_settings.change(live, member(session_id, "teach"), SettingsChange(locked=True, chat_muted=False))
    assert await stored(live.pool, session_id) == before
    assert before.last_seq == 1


async def refused(live: Live, session_id: UUID, who: str = "teach", **change: Any) -> EncountersError:
    """The refusal of a change, which has changed nothing."""
    names = SettingsChange.__slots__
    wanted = SettingsChange(**{name: value for name, value in change.items() if name in names})
    details = DetailsChange(**{name: value for name, value in change.items() if name not in names})
    before = await stored(live.pool, session_id)
    with pytest.raises(EncountersError) as refusal:
        await session_settings.change(live, member(session_id, who), wanted, details)
    assert await stored(live.pool, session_id) == before
    return refusal.value


async def test_only_the_host_sets(live: Live) -> None:
    for session_id in (await live_session(live.pool), await book(live.pool)):
        error = await refused(live, session_id, "kid", locked=True)
        assert (type(error), error.code) == (Forbidden, "not_host")


async def test_a_change_is_all_or_nothing(live: Live) -> None:
    session_id = await live_session(live.pool, status="live")
    starts_at = (await stored(live.pool, session_id)).starts_at
    for change, code in (
        ({}, "nothing_to_change"),
        ({"locked": True, "slow_mode_seconds": -1}, "validation_failed"),
        ({"locked": True, "title": "two\nlines"}, "validation_failed"),
        ({"locked": True, "sets_max_participants": True, "max_participants": 0}, "validation_failed"),
        ({"locked": True, "sets_max_participants": True, "max_participants": 10_001}, "validation_failed"),
        ({"locked": True, "starts_at": starts_at + timedelta(hours=1)}, "session_started"),
    ):
        assert (await refused(live, session_id, **change)).code == code


async def test_a_class_is_moved_before_it_begins(live: Live) -> None:
    session_id = await live_session(live.pool)
    later = (await stored(live.pool, session_id)).starts_at + timedelta(hours=1)
    moved = DetailsChange(starts_at=later, title=" Matrices ", max_participants=3, sets_max_participants=True)
    after = await session_settings.change(live, member(session_id, "teach"), NO_SETTINGS, moved)
    assert (after.starts_at, after.title, after.max_participants, after.last_seq) == (later, "Matrices", 3, 0)
    await sessions.move(live, member(session_id, "teach"), "ended")
    assert isinstance(await refused(live, session_id, starts_at=later + timedelta(hours=1)), Conflict)
    same = DetailsChange(starts_at=later, title="Over")
    assert (await session_settings.change(live, member(session_id, "boss"), NO_SETTINGS, same)).title == "Over"


async def test_a_bookings_session_is_set_but_neither_moved_nor_sized(live: Live) -> None:
    session_id = await book(live.pool)
    starts_at = (await stored(live.pool, session_id)).starts_at
    error = await refused(live, session_id, starts_at=starts_at, sets_max_participants=True, max_participants=2)
    assert set(error.fields or {}) == {"starts_at", "max_participants"}
    after = await session_settings.change(
        live, member(session_id, "teach"), SettingsChange(whiteboard_locked=True), DetailsChange(title="Algebra")
    )
    assert (after.title, after.settings) == ("Algebra", Settings(whiteboard_locked=True))
