"""Who is in a meeting: counted by person, over tabs, reloads and workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from store import meeting_people, visits
from store.database import Pool
from store.meeting_people import COMING_SECONDS, MAX_TABS, Mesh
from store.visits import Change
from tests.support.lessons import book, database_pool
from tests.support.meetings import meet

#: Those who may belong to a lesson; `teach` is its host.
PEOPLE = ("kid", "mum", "gran", "boss")


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def visit(pool: Pool, worker: UUID, session_id: UUID, user_id: str, *, present: bool) -> None:
    await visits.renew_lease(pool, worker)
    await visits.record(pool, worker, [Change(session_id=session_id, user_id=user_id, present=present)])


async def take(pool: Pool, meeting_id: UUID, user_id: str, places: int = 3) -> bool:
    found = await meeting_people.take_place(pool, meeting_id, user_id, places=places, host_id="teach")
    return found is not None


async def later(pool: Pool) -> None:
    """When those who were on the way should have come."""
    await pool.execute(
        "UPDATE meeting_people SET came_at = came_at - make_interval(secs => $1)", float(COMING_SECONDS + 1)
    )


async def test_one_place_is_the_hosts_and_whoever_has_one_keeps_it(pool: Pool) -> None:
    meeting = await meet(pool, await book(pool))

    assert [await take(pool, meeting.id, person) for person in PEOPLE] == [True, True, False, False]
    assert await take(pool, meeting.id, "kid")
    assert await take(pool, meeting.id, "teach")
    assert not await take(pool, meeting.id, "gran")


async def test_who_never_comes_has_a_place_for_a_while_and_who_came_as_long_as_they_stay(pool: Pool) -> None:
    session_id, worker = await book(pool), uuid4()
    meeting = await meet(pool, session_id)
    for person in ("kid", "mum"):
        assert await take(pool, meeting.id, person)
    await visit(pool, worker, session_id, "kid", present=True)
    assert not await take(pool, meeting.id, "gran")

    await later(pool)

    assert await take(pool, meeting.id, "gran")
    assert not await take(pool, meeting.id, "boss")
    assert not await take(pool, meeting.id, "mum")


async def test_who_leaves_the_session_leaves_a_place_even_if_they_had_just_come(pool: Pool) -> None:
    session_id, worker = await book(pool), uuid4()
    meeting = await meet(pool, session_id)
    for person in ("kid", "mum"):
        assert await take(pool, meeting.id, person)
        await visit(pool, worker, session_id, person, present=True)

    await visit(pool, worker, session_id, "kid", present=False)

    assert await take(pool, meeting.id, "gran")


async def test_who_is_there_on_another_worker_is_there(pool: Pool) -> None:
    session_id, one, other = await book(pool), uuid4(), uuid4()
    meeting = await meet(pool, session_id, "kid", "mum")
    for worker in (one, other):
        await visit(pool, worker, session_id, "kid", present=True)
    await visit(pool, one, session_id, "mum", present=True)
    await visit(pool, one, session_id, "kid", present=False)
    await later(pool)

    assert not await take(pool, meeting.id, "gran")


async def test_the_people_of_a_worker_that_died_leave_their_places(pool: Pool) -> None:
    session_id, dead = await book(pool), uuid4()
    meeting = await meet(pool, session_id, "kid", "mum")
    for person in ("kid", "mum"):
        await visit(pool, dead, session_id, person, present=True)
    await later(pool)
    assert not await take(pool, meeting.id, "gran")

    await pool.execute("UPDATE workers SET lease_until = now() - interval '1 hour' WHERE id = $1", dead)
    await visits.close_expired(pool)

    assert await take(pool, meeting.id, "gran")


async def test_a_place_is_free_when_the_last_of_a_persons_tabs_gives_its_pass_back(pool: Pool) -> None:
    session_id, worker = await book(pool), uuid4()
    meeting = await meet(pool, session_id, "mum")
    for person in ("kid", "mum"):
        await visit(pool, worker, session_id, person, present=True)
    for tab in ("laptop", "tablet", "laptop"):
        assert await meeting_people.take_place(pool, meeting.id, "kid", places=3, host_id="teach", tab=tab) == 0

    for gone in ("laptop", "another", "laptop"):
        await meeting_people.leave(pool, session_id, "kid", gone)
        assert "kid" in (await meeting_people.mesh(pool, session_id)).people
        assert not await take(pool, meeting.id, "gran")
    await meeting_people.leave(pool, session_id, "kid", "tablet")

    assert "kid" not in (await meeting_people.mesh(pool, session_id)).people
    assert await take(pool, meeting.id, "gran")


async def test_the_tabs_that_somebody_had_before_they_went_hold_no_place_when_they_are_back(pool: Pool) -> None:
    session_id, worker = await book(pool), uuid4()
    meeting = await meet(pool, session_id)
    for tab in ("dead", "new"):
        await meeting_people.take_place(pool, meeting.id, "kid", places=3, host_id="teach", tab=tab)
        await visit(pool, worker, session_id, "kid", present=True)
        if tab == "dead":
            await visit(pool, worker, session_id, "kid", present=False)

    await meeting_people.leave(pool, session_id, "kid", "new")

    assert (await meeting_people.mesh(pool, session_id)).people == set()


async def test_only_so_many_tabs_are_remembered_the_latest(pool: Pool) -> None:
    meeting = await meet(pool, await book(pool))

    for tab in range(MAX_TABS + 2):
        await meeting_people.take_place(pool, meeting.id, "kid", places=3, host_id="teach", tab=str(tab))

    tabs = await pool.fetchval("SELECT tabs FROM meeting_people")
    assert tabs == [str(tab) for tab in reversed(range(2, MAX_TABS + 2))]


async def test_where_the_provider_counts_everybody_gets_in(pool: Pool) -> None:
    meeting = await meet(pool, await book(pool))

    for person in PEOPLE:
        assert await meeting_people.take_place(pool, meeting.id, person, places=None, host_id="teach") == 0


async def test_those_with_a_place_in_the_present_meeting_are_the_mesh(pool: Pool) -> None:
    session_id = await book(pool)
    assert (await meeting_people.mesh(pool, session_id)).provider is None
    await meet(pool, session_id, "gran")
    await meet(pool, session_id, "kid", "mum")
    await meeting_people.leave(pool, session_id, "mum")

    mesh = await meeting_people.mesh(pool, session_id)

    assert mesh == Mesh(provider="peer", people=frozenset({"kid"}))
    await pool.execute("UPDATE sessions SET status = 'ended' WHERE id = $1", session_id)
    assert (await meeting_people.mesh(pool, session_id)).people == set()


async def test_how_often_somebody_was_put_out_is_remembered_and_never_less(pool: Pool) -> None:
    meeting = await meet(pool, await book(pool), "kid")
    assert await meeting_people.times_ejected(pool, meeting.id, "mum") is None
    assert await meeting_people.times_ejected(pool, meeting.id, "kid") == 0

    for times in (1, 2, 1):
        await meeting_people.note_ejected(pool, meeting.id, "kid", times)

    assert await meeting_people.times_ejected(pool, meeting.id, "kid") == 2
    assert (await meeting_people.mesh(pool, meeting.session_id)).people == set()
    assert await meeting_people.take_place(pool, meeting.id, "kid", places=6, host_id="teach") == 2
