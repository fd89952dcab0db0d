"""Who agrees to be recorded, and what happens where somebody does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import pytest

from domain import consents, recordings, session_settings
from domain.errors import Conflict, Forbidden, NotFound
from domain.live import Live
from domain.session_settings import SettingsChange
from store import recordings as store
from store import sessions as session_store
from store import users
from store.database import Pool
from tests.support.lessons import book, database_pool, identity, live_session, member
from tests.support.rooms import join, told, workers


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture
async def live(pool: Pool) -> AsyncIterator[Live]:
    async with workers(pool, 1) as (live,):
        yield live


async def asking(live: Live, *, asks: bool = True) -> UUID:
    """A lesson in which nobody is recorded who has not agreed."""
    session_id = await book(live.pool)
    if asks:
        await session_settings.change(live, member(session_id, "teach"), SettingsChange(recording_consent=True))
    return session_id


async def agree(live: Live, session_id: UUID, who: str, *, agreed: bool = True, child: str | None = None) -> None:
    await consents.decide(live, identity(who), session_id, agreed=agreed, user_id=child)


async def start(live: Live, session_id: UUID) -> None:
    await recordings.start(live, member(session_id, "teach"), "x")


async def test_a_childs_guardians_are_its_parent_and_the_bookings(pool: Pool) -> None:
    session_id = await book(pool)
    session, kid = await session_store.find(pool, session_id), await users.find(pool, "kid")
    assert session is not None
    assert kid is not None
    assert consents.guardians_of(session, kid) == {"mum", "gran"}
    assert consents.guardians_of(session, replace(kid, id="kid2", parent_id="mum2")) == {"mum2"}
    assert consents.guardians_of(session, replace(kid, id="kid2", parent_id=None)) == frozenset()
    mum = await users.find(pool, "mum")
    assert mum is not None
    assert consents.guardians_of(session, mum) == frozenset()


async def test_who_has_not_agreed_is_named_and_nothing_is_recorded(live: Live) -> None:
    session_id = await asking(live)
    for who in ("kid", "mum", "teach"):
        await join(live, session_id, who)
    with pytest.raises(Conflict) as refusal:
        await start(live, session_id)
    assert refusal.value.code == "consent_missing"
    assert refusal.value.fields == {
        "kid": "Kid has not agreed to be recorded",
        "mum": "Mum has not agreed to be recorded",
    }
    assert await store.of_session(live.pool, session_id, limit=1) == []
    await agree(live, session_id, "mum")
    await agree(live, session_id, "mum", child="kid")
    await start(live, session_id)


async def test_nobody_is_asked_where_the_host_has_not_set_it(live: Live) -> None:
    session_id = await asking(live, asks=False)
    await join(live, session_id, "kid")
    await start(live, session_id)


async def test_who_is_not_there_holds_nobody_up(live: Live) -> None:
    session_id = await asking(live)
    await join(live, session_id, "teach")
    await start(live, session_id)


async def test_nobody_comes_into_a_recording_who_has_not_agreed(live: Live) -> None:
    session_id = await asking(live)
    await join(live, session_id, "teach")
    await start(live, session_id)
    with pytest.raises(Conflict) as refusal:
        await join(live, session_id, "kid")
    assert refusal.value.code == "consent_missing"
    await agree(live, session_id, "mum", child="kid")
    await join(live, session_id, "kid")


async def test_a_child_agrees_through_a_guardian_and_refuses_alone(live: Live) -> None:
    session_id = await asking(live)
    with pytest.raises(Forbidden) as refusal:
        await agree(live, session_id, "kid")
    assert refusal.value.code == "guardian_decides"
    for guardian in ("mum", "gran"):
        await agree(live, session_id, guardian, child="kid")
    await agree(live, session_id, "kid", agreed=False)
    assert await live.pool.fetchval("SELECT agreed FROM recording_consents WHERE user_id = 'kid'") is False


@pytest.mark.parametrize("who", ["teach", "boss", "mum2", "kid2"])
async def test_nobody_else_agrees_for_a_child(live: Live, who: str) -> None:
    session_id = await asking(live)
    with pytest.raises(Forbidden):
        await agree(live, session_id, who, child="kid")
    assert await live.pool.fetchval("SELECT count(*) FROM recording_consents") == 0


async def test_a_guardian_decides_in_the_childs_sessions_alone(live: Live) -> None:
    session_id = await asking(live)
    with pytest.raises(Forbidden):
        await agree(live, session_id, "mum2", child="kid2")
    with pytest.raises(NotFound):
        await agree(live, UUID(int=1), "mum", child="kid")
    with pytest.raises(NotFound):
        await agree(live, session_id, "teach", child="nobody")


async def test_the_parent_of_an_enrolled_child_decides_in_a_class(live: Live) -> None:
    session_id = await live_session(live.pool, students=("kid",))
    await agree(live, session_id, "mum", child="kid")
    with pytest.raises(Forbidden):
        await agree(live, session_id, "gran", child="kid")


async def test_who_takes_it_back_stops_the_recording_and_the_session_goes_on(live: Live) -> None:
    session_id = await asking(live)
    watching = await join(live, session_id, "teach")
    await agree(live, session_id, "mum", child="kid")
    await join(live, session_id, "kid")
    await start(live, session_id)
    await agree(live, session_id, "kid", agreed=False)
    assert [one["state"] for one in told(watching, "recordingState")] == ["recording", "processing"]
    session = await session_store.find(live.pool, session_id)
    assert session is not None
    assert session.status == "live"


async def test_who_never_agreed_stops_nothing(live: Live) -> None:
    session_id = await asking(live)
    await start(live, session_id)
    await agree(live, session_id, "kid", agreed=False)
    assert await store.running(live.pool, session_id) is not None


async def test_consent_is_not_asked_for_in_the_middle_of_a_recording(live: Live) -> None:
    session_id = await asking(live, asks=False)
    await start(live, session_id)
    with pytest.raises(Conflict) as refusal:
        await session_settings.change(live, member(session_id, "teach"), SettingsChange(recording_consent=True))
    assert refusal.value.code == "recording_running"


async def test_the_host_sees_everybodys_word_and_others_their_familys(live: Live) -> None:
    session_id = await asking(live)
    await agree(live, session_id, "mum")
    await agree(live, session_id, "mum", child="kid")
    await agree(live, session_id, "gran", agreed=False)

    async def seen_by(who: str) -> list[tuple[str, bool, str]]:
        answers = await consents.listing(live.pool, identity(who), session_id, after=None, limit=10)
        return [(one["name"], one["agreed"], one["decided_by"]) for one in answers.people]

    everything = [("Gran", False, "gran"), ("Kid", True, "mum"), ("Mum", True, "mum")]
    assert await seen_by("teach") == everything
    assert await seen_by("mum") == everything[1:]
    assert await seen_by("gran") == everything[:2]
    assert await seen_by("kid") == everything[1:2]
    with pytest.raises(Forbidden):
        await seen_by("kid2")


async def test_a_guardian_learns_whom_they_decide_for_also_from_outside_a_class(live: Live) -> None:
    async def children(who: str, session_id: UUID) -> list[str]:
        return [one.user_id for one in (await listed(who, session_id)).children]

    async def listed(who: str, session_id: UUID) -> consents.Answers:
        return await consents.listing(live.pool, identity(who), session_id, after=None, limit=10)

    lesson, lesson_of_a_class = await asking(live), await live_session(live.pool, students=("kid",))
    for who, found in (("mum", ["kid"]), ("gran", ["kid"]), ("kid", []), ("teach", [])):
        assert await children(who, lesson) == found, who
    await agree(live, lesson_of_a_class, "mum", child="kid")
    seen = await listed("mum", lesson_of_a_class)
    assert [(one["user_id"], one["agreed"]) for one in seen.people] == [("kid", True)]
    assert [one.user_id for one in seen.children] == ["kid"]
    with pytest.raises(Forbidden):
        await listed("gran", lesson_of_a_class)
    with pytest.raises(Forbidden):
        await listed("mum", await live_session(live.pool, students=("kid2",)))
