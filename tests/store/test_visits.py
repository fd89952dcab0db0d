"""Visits: who is here, over all workers, told once, whoever comes, goes or dies at the same time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from store import participants, visits
from store.database import Pool
from store.errors import Refused
from store.visits import Change, Outcome
from tests.support.lessons import MEMBERS, book, database_pool, until_somebody_waits
from tests.support.recorder import WAIT_SECONDS

A, B, C = (UUID(int=number) for number in (1, 2, 3))


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database, size=10) as pool:
        for worker_id in (A, B):
            await visits.renew_lease(pool, worker_id)
        yield pool


async def recorded(pool: Pool, worker_id: UUID, batch: list[Change]) -> list[Outcome]:
    """What became of each change; none was refused."""
    outcomes = [one for one in await visits.record(pool, worker_id, batch) if isinstance(one, Outcome)]
    assert len(outcomes) == len(batch)
    return outcomes


async def comes(pool: Pool, worker_id: UUID, session_id: UUID, user_id: str = "kid") -> Outcome:
    [outcome] = await recorded(pool, worker_id, [Change(session_id=session_id, user_id=user_id, present=True)])
    return outcome


async def goes(pool: Pool, worker_id: UUID, session_id: UUID, user_id: str = "kid") -> Outcome:
    [outcome] = await recorded(pool, worker_id, [Change(session_id=session_id, user_id=user_id, present=False)])
    return outcome


async def is_online(pool: Pool, session_id: UUID, user_id: str = "kid") -> bool:
    participant = await participants.of_person(pool, session_id, user_id)
    return participant is not None and participant.online


async def expire(pool: Pool, *worker_ids: UUID, seconds: float = visits.REAP_AFTER_SECONDS + 0.5) -> None:
    """Let the leases have run out so many seconds ago."""
    await pool.execute(
        "UPDATE workers SET lease_until = now() - make_interval(secs => $2) WHERE id = ANY($1::uuid[])",
        list(worker_ids),
        seconds,
    )


async def open_visits(pool: Pool) -> int:
    count: int = await pool.fetchval("SELECT count(*) FROM session_visits WHERE left_at IS NULL")
    return count


async def left_at(pool: Pool, session_id: UUID, user_id: str = "kid") -> datetime | None:
    participant = await participants.of_person(pool, session_id, user_id)
    assert participant is not None
    return participant.left_at


async def test_coming_and_going_turn_once_and_count_up(pool: Pool) -> None:
    session_id = await book(pool)
    came = await comes(pool, A, session_id)
    assert (came.online, came.turned, came.version) == (True, True, 1)
    assert came.joined_at is not None
    assert (came.was_kicked, came.mic_allowed, came.camera_allowed, came.hand_raised) == (False, True, True, False)
    assert await is_online(pool, session_id)

    again = await comes(pool, A, session_id)
    assert (again.online, again.turned, again.version) == (True, False, 1)

    went = await goes(pool, A, session_id)
    assert (went.online, went.turned, went.version) == (False, True, 2)
    assert not await is_online(pool, session_id)
    assert (await goes(pool, A, session_id)).turned is False

    back = await comes(pool, A, session_id)
    assert (back.turned, back.version, back.joined_at) == (True, 3, came.joined_at), "joined_at is the first time"
    assert await left_at(pool, session_id) is None
    assert await pool.fetchval("SELECT count(*) FROM session_visits") == 2


async def test_one_person_on_two_workers_comes_with_the_first_and_goes_with_the_last(pool: Pool) -> None:
    session_id = await book(pool)
    assert (await comes(pool, A, session_id)).turned
    second = await comes(pool, B, session_id)
    assert (second.online, second.turned, second.version) == (True, False, 1)
    first_gone = await goes(pool, A, session_id)
    assert (first_gone.online, first_gone.turned, first_gone.version) == (True, False, 1)
    assert await left_at(pool, session_id) is None
    last_gone = await goes(pool, B, session_id)
    assert (last_gone.online, last_gone.turned, last_gone.version) == (False, True, 2)
    assert await left_at(pool, session_id) is not None


async def test_the_last_change_of_a_person_in_a_batch_counts(pool: Pool) -> None:
    session_id, other = await book(pool), await book(pool)
    batch = [
        Change(session_id=session_id, user_id="kid", present=True),
        Change(session_id=other, user_id="kid", present=True),
        Change(session_id=session_id, user_id="teach", present=True),
        Change(session_id=session_id, user_id="kid", present=False),
    ]
    outcomes = await recorded(pool, A, batch)
    assert [(o.session_id, o.user_id, o.online, o.turned) for o in outcomes] == [
        (session_id, "kid", False, False),
        (other, "kid", True, True),
        (session_id, "teach", True, True),
        (session_id, "kid", False, False),
    ]
    assert await open_visits(pool) == 2


async def test_those_who_come_for_the_first_time_and_those_who_were_here_share_a_batch(pool: Pool) -> None:
    session_id = await book(pool)
    await comes(pool, A, session_id, "teach")
    await comes(pool, B, session_id, "mum")
    await goes(pool, A, session_id, "teach")
    people = [("kid", True), ("teach", True), ("mum", True), ("gran", False), ("boss", True)]
    batch = [Change(session_id=session_id, user_id=user_id, present=present) for user_id, present in people]
    outcomes = await recorded(pool, A, batch)
    assert [(o.user_id, o.online, o.turned, o.version) for o in outcomes] == [
        ("kid", True, True, 1),
        ("teach", True, True, 3),
        ("mum", True, False, 1),
        ("gran", False, False, 0),
        ("boss", True, True, 1),
    ]
    joined = {o.user_id: o.joined_at for o in outcomes}
    assert [user_id for user_id, at in joined.items() if at is None] == ["gran"]
    again = await recorded(pool, A, batch)
    assert [(o.online, o.turned, o.version) for o in again] == [(o.online, False, o.version) for o in outcomes]
    assert {o.user_id: o.joined_at for o in again} == joined
    assert await open_visits(pool) == 5


async def test_who_leaves_and_was_never_here_leaves_no_trace(pool: Pool) -> None:
    session_id = await book(pool)
    went = await goes(pool, A, session_id)
    assert (went.online, went.turned, went.version, went.joined_at) == (False, False, 0, None)
    assert await participants.of_person(pool, session_id, "kid") is None
    async with pool.acquire() as connection:
        await participants.change(connection, session_id, "kid", mic_allowed=False)
    went = await goes(pool, A, session_id)
    assert (went.turned, went.joined_at, went.mic_allowed) == (False, None, False)


async def test_a_batch_with_one_that_is_refused_writes_nothing(pool: Pool) -> None:
    session_id = await book(pool)
    people = ("kid", "nobody", "teach")
    with pytest.raises(Refused):
        await visits.record(
            pool, A, [Change(session_id=session_id, user_id=user_id, present=True) for user_id in people]
        )
    assert await open_visits(pool) == 0
    assert (await comes(pool, A, session_id)).turned


async def test_a_first_arrival_through_two_workers_at_once_is_one_turn(pool: Pool) -> None:
    for _ in range(20):
        session_id = await book(pool)
        outcomes = await asyncio.gather(comes(pool, A, session_id), comes(pool, B, session_id))
        assert sorted(o.turned for o in outcomes) == [False, True]
        assert [(o.online, o.version) for o in outcomes] == [(True, 1)] * 2


async def test_a_kicked_person_is_said_to_be_so(pool: Pool) -> None:
    session_id = await book(pool)
    async with pool.acquire() as connection:
        await participants.change(connection, session_id, "kid", was_kicked=True, mic_allowed=False)
    outcome = await comes(pool, A, session_id)
    assert (outcome.was_kicked, outcome.mic_allowed, outcome.camera_allowed) == (True, False, True)


@pytest.mark.parametrize(
    ("user_id", "constraint"),
    [("nobody", "session_participants_user_exists"), ("kid", "session_participants_session_exists")],
)
async def test_a_visit_of_nobody_or_nowhere_is_refused(pool: Pool, user_id: str, constraint: str) -> None:
    session_id = await book(pool) if user_id == "nobody" else uuid4()
    with pytest.raises(Refused) as refusal:
        await comes(pool, A, session_id, user_id)
    assert refusal.value.constraint == constraint


async def test_workers_that_record_the_same_people_at_once_agree_on_every_turn(pool: Pool) -> None:
    """Each worker's people come and go in random batches. Whatever the order, coming and going alternate."""
    session_ids = [await book(pool) for _ in range(3)]
    outcomes: list[Outcome] = []

    async def worker(worker_id: UUID) -> None:
        for _ in range(15):
            batch = [
                Change(
                    session_id=random.choice(session_ids), user_id=random.choice(MEMBERS), present=random.random() < 0.5
                )
                for _ in range(random.randint(1, 8))
            ]
            keys = {(change.session_id, change.user_id) for change in batch}
            answers = await recorded(pool, worker_id, batch)
            outcomes.extend({(o.session_id, o.user_id): o for o in answers}.values())
            assert len(answers) == len(batch) >= len(keys)

    workers = [A, B, C, *(uuid4() for _ in range(3))]
    for worker_id in workers:
        await visits.renew_lease(pool, worker_id)
    await asyncio.gather(*(worker(worker_id) for worker_id in workers))

    for session_id in session_ids:
        for user_id in MEMBERS:
            mine = [o for o in outcomes if (o.session_id, o.user_id) == (session_id, user_id)]
            turns = sorted((o for o in mine if o.turned), key=lambda o: o.version)
            assert [(o.version, o.online) for o in turns] == [(n, n % 2 == 1) for n in range(1, len(turns) + 1)]
            assert all(o.online == (o.version % 2 == 1) for o in mine)
            if mine:
                assert await is_online(pool, session_id, user_id) == (len(turns) % 2 == 1)


async def test_who_comes_for_the_first_time_while_others_rows_are_waited_for_is_not_written_out_of_turn(
    pool: Pool,
) -> None:
    """Whose row was not there to be locked in its turn is not waited for while others' rows are held: two workers that
    did so would wait for each other."""
    session_id = await book(pool)
    await comes(pool, A, session_id, "teach")
    leaving = [Change(session_id=session_id, user_id=user_id, present=False) for user_id in ("kid", "teach")]
    async with pool.acquire() as other, pool.acquire() as another, another.transaction():
        async with other.transaction():
            await other.execute("SELECT FROM session_participants FOR NO KEY UPDATE")
            left = asyncio.create_task(recorded(pool, A, leaving))
            await until_somebody_waits(pool)
            await comes(pool, B, session_id, "kid")
            await another.execute("SELECT FROM session_participants WHERE user_id = 'kid' FOR NO KEY UPDATE")
        async with asyncio.timeout(WAIT_SECONDS):
            kid, teach = await left
    assert (kid.turned, teach.turned, teach.online) == (False, True, False)
    assert await is_online(pool, session_id, "kid")


async def test_a_new_worker_has_no_lease_and_then_renews_it(pool: Pool) -> None:
    assert await visits.renew_lease(pool, C) is False
    assert await visits.renew_lease(pool, C) is True


async def test_a_dead_workers_people_are_closed_out_once(pool: Pool) -> None:
    session_id = await book(pool)
    for user_id in ("kid", "teach"):
        await comes(pool, A, session_id, user_id)
    await comes(pool, B, session_id, "teach")
    assert await visits.close_expired(pool) == [], "nobody is dead"
    await expire(pool, A)
    [gone] = await visits.close_expired(pool)
    assert (gone.user_id, gone.online, gone.turned, gone.version) == ("kid", False, True, 2)
    assert await is_online(pool, session_id, "teach"), "who is on another worker, too"
    assert not await is_online(pool, session_id, "kid")
    assert await visits.close_expired(pool) == []
    assert await open_visits(pool) == 1


async def test_a_dead_workers_people_left_when_its_lease_ended(pool: Pool) -> None:
    session_id = await book(pool)
    await comes(pool, A, session_id)
    await pool.execute("UPDATE session_visits SET joined_at = joined_at - interval '1 hour'")
    await expire(pool, A, seconds=600)
    lease_until = await pool.fetchval("SELECT lease_until FROM workers WHERE id = $1", A)
    await visits.close_expired(pool)
    assert await left_at(pool, session_id) == lease_until


async def test_closing_out_does_not_move_a_later_leaving_back(pool: Pool) -> None:
    session_id = await book(pool)
    await comes(pool, A, session_id)
    await comes(pool, B, session_id)
    await pool.execute("UPDATE session_visits SET joined_at = joined_at - interval '1 hour'")
    await expire(pool, A, seconds=600)
    await goes(pool, B, session_id)
    left = await pool.fetchval("SELECT left_at FROM session_visits WHERE worker_id = $1", B)
    await visits.close_expired(pool)
    assert await left_at(pool, session_id) == left


async def test_of_many_reapers_exactly_one_tells_of_each_person(pool: Pool) -> None:
    session_ids = [await book(pool) for _ in range(4)]
    dead = [uuid4() for _ in range(6)]
    expected = set()
    for worker_id in dead:
        await visits.renew_lease(pool, worker_id)
        for session_id in session_ids:
            user_id = random.choice(MEMBERS)
            await comes(pool, worker_id, session_id, user_id)
            expected.add((session_id, user_id))
    await expire(pool, *dead)
    told = [o for found in await asyncio.gather(*(visits.close_expired(pool) for _ in range(8))) for o in found]
    assert {(o.session_id, o.user_id) for o in told} == expected
    assert len(told) == len(expected)
    assert all((o.online, o.version) == (False, 2) for o in told)
    assert await open_visits(pool) == 0


async def test_two_reapers_of_two_workers_tell_of_one_person_once(pool: Pool) -> None:
    """Each reaper has its own dead worker, and does not see what the other has not committed."""
    session_id = await book(pool)
    await comes(pool, A, session_id)
    await comes(pool, B, session_id)
    await expire(pool, A)
    async with pool.acquire() as connection, connection.transaction():
        # Holds up the first reaper after it took worker A.
        await connection.execute("SELECT FROM session_participants FOR NO KEY UPDATE")
        first = asyncio.create_task(visits.close_expired(pool))
        await until_somebody_waits(pool)
        await expire(pool, B)
        second = asyncio.create_task(visits.close_expired(pool))
        await until_somebody_waits(pool, 2)
    told = [*(await first), *(await second)]
    assert [(o.user_id, o.online, o.version) for o in told] == [("kid", False, 2)]


async def test_a_worker_that_is_only_late_keeps_its_people(pool: Pool) -> None:
    """The database was away, and took everybody's lease: whoever is back first leaves the others time."""
    session_id = await book(pool)
    await comes(pool, A, session_id)
    await comes(pool, B, session_id)
    await expire(pool, A, seconds=visits.REAP_AFTER_SECONDS / 2)
    assert await is_online(pool, session_id)
    outcome = await goes(pool, B, session_id)
    assert (outcome.online, outcome.turned) == (True, False), "they are with the other worker still"
    assert await visits.close_expired(pool) == []
    assert await visits.renew_lease(pool, A) is True
    assert await is_online(pool, session_id)


async def test_a_worker_that_lost_its_lease_records_its_people_again(pool: Pool) -> None:
    session_id = await book(pool)
    await comes(pool, A, session_id)
    await expire(pool, A)
    await visits.close_expired(pool)
    assert await visits.renew_lease(pool, A) is False
    assert not await is_online(pool, session_id)
    again = await comes(pool, A, session_id)
    assert (again.online, again.turned, again.version) == (True, True, 3)
    assert await is_online(pool, session_id)


async def test_a_renewal_and_a_reaping_at_once_end_in_one_truth(pool: Pool) -> None:
    session_id = await book(pool)
    for _ in range(10):
        await comes(pool, A, session_id)
        await expire(pool, A)
        closed, kept = await asyncio.gather(visits.close_expired(pool), visits.renew_lease(pool, A))
        assert (len(closed) == 1) != kept, "closed out and told so, or neither"
        assert await is_online(pool, session_id) == kept


async def test_leaving_on_purpose_gives_people_a_grace_to_come_back_elsewhere(pool: Pool) -> None:
    session_id = await book(pool)
    await comes(pool, A, session_id)
    await comes(pool, A, session_id, "teach")
    await visits.end_lease(pool, A, grace_seconds=60)
    assert await visits.close_expired(pool) == []
    elsewhere = await comes(pool, B, session_id)
    assert not elsewhere.turned
    await visits.end_lease(pool, A, grace_seconds=-60)
    assert [o.user_id for o in await visits.close_expired(pool)] == ["teach"]


async def test_attendance_is_as_long_as_the_visits(pool: Pool) -> None:
    session_id = await book(pool)
    await comes(pool, A, session_id)
    await pool.execute("UPDATE session_visits SET joined_at = joined_at - interval '30 minutes'")
    await goes(pool, A, session_id)
    minutes = await pool.fetchval("SELECT left_at - joined_at FROM session_visits")
    assert timedelta(minutes=30) <= minutes < timedelta(minutes=31)
