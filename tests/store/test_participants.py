"""Who takes part: permissions, raised hands, and how far each has read."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from store import participants, visits
from store.database import Pool
from store.participants import Participant, ReadMark
from store.visits import Change
from tests.support.lessons import MEMBERS, book, database_pool, make_class, until_somebody_waits
from tests.support.plans import walked

WORKER = UUID(int=1)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        await visits.renew_lease(pool, WORKER)
        yield pool


async def joins(pool: Pool, session_id: UUID, *user_ids: str, present: bool = True) -> None:
    for user_id in user_ids:
        await visits.record(pool, WORKER, [Change(session_id=session_id, user_id=user_id, present=present)])


async def change(pool: Pool, session_id: UUID, user_id: str, **changes: bool | None) -> Participant:
    async with pool.acquire() as connection, connection.transaction():
        await participants.change(connection, session_id, user_id, **changes)
    found = await participants.of_person(pool, session_id, user_id)
    assert found is not None
    return found


def permissions(participant: Participant) -> tuple[bool, bool, bool, bool]:
    return participant.mic_allowed, participant.camera_allowed, participant.hand_raised, participant.was_kicked


async def test_first_comers_stand_first_and_those_who_never_came_last(pool: Pool) -> None:
    session_id, other = await book(pool), await book(pool)
    await joins(pool, session_id, "mum", "kid")
    await joins(pool, other, "boss")
    await joins(pool, session_id, "mum", present=False)
    await change(pool, session_id, "gran", mic_allowed=False)
    found = await participants.of_session(pool, session_id, limit=100)
    assert [(p.user_id, p.online, p.role, p.first_name) for p in found] == [
        ("mum", False, "parent", "Mum"),
        ("kid", True, "student", "Kid"),
        ("gran", False, "parent", "Gran"),
    ]
    assert [p.joined_at is None for p in found] == [False, False, True]
    assert [p.left_at is None for p in found] == [False, True, True]
    by_session = await participants.of_sessions(pool, [session_id, other, uuid4()])
    assert [p.user_id for p in by_session[session_id]] == ["mum", "kid"], "those who ever joined"
    assert [p.user_id for p in by_session[other]] == ["boss"]
    assert sorted(len(joined) for joined in by_session.values()) == [0, 1, 2]


async def test_nobody_takes_part_in_a_session_that_is_not_there(pool: Pool) -> None:
    assert await participants.of_session(pool, uuid4(), limit=100) == []
    assert await participants.of_person(pool, uuid4(), "kid") is None


async def test_what_is_not_given_stays(pool: Pool) -> None:
    session_id = await book(pool)
    assert permissions(await change(pool, session_id, "kid")) == (True, True, False, False)
    assert permissions(await change(pool, session_id, "kid", mic_allowed=False)) == (False, True, False, False)
    assert permissions(await change(pool, session_id, "kid", hand_raised=True)) == (False, True, True, False)
    assert permissions(await change(pool, session_id, "kid", was_kicked=True)) == (False, True, True, True)
    after = await change(pool, session_id, "kid", camera_allowed=False, mic_allowed=True, was_kicked=False)
    assert permissions(after) == (True, False, True, False)


async def test_what_a_host_takes_before_somebody_comes_is_taken_when_they_come(pool: Pool) -> None:
    session_id = await book(pool)
    before = await change(pool, session_id, "kid", mic_allowed=False)
    await joins(pool, session_id, "kid")
    after = await participants.of_person(pool, session_id, "kid")
    assert after is not None
    assert (after.id, after.mic_allowed, after.online) == (before.id, False, True)


async def read_seq(pool: Pool, session_id: UUID, user_id: str) -> int:
    found = await participants.of_person(pool, session_id, user_id)
    assert found is not None
    return found.read_seq


async def test_a_read_mark_moves_forward_only(pool: Pool) -> None:
    session_id = await book(pool)
    await joins(pool, session_id, "kid", "mum")

    def mark(seq: int, user_id: str = "kid") -> ReadMark:
        return ReadMark(session_id=session_id, user_id=user_id, seq=seq)

    assert await participants.mark_read(pool, [mark(5)]) == [True]
    assert await participants.mark_read(pool, [mark(5), mark(4)]) == [False, False]
    assert await participants.mark_read(pool, [mark(6), mark(2, "mum"), mark(9), mark(7)]) == [False, True, True, False]
    assert (await read_seq(pool, session_id, "kid"), await read_seq(pool, session_id, "mum")) == (9, 2)
    assert await participants.mark_read(pool, []) == []


async def test_who_never_joined_has_no_mark(pool: Pool) -> None:
    session_id = await book(pool)
    assert await participants.mark_read(pool, [ReadMark(session_id=session_id, user_id="kid", seq=3)]) == [False]
    assert await participants.of_session(pool, session_id, limit=100) == []


async def test_a_mark_that_waits_for_somebody_whom_others_wait_for_too_is_set(pool: Pool) -> None:
    session_id = await book(pool)
    await joins(pool, session_id, "kid")
    hold = "SELECT FROM session_participants WHERE session_id = $1 AND user_id = 'kid' FOR "
    async with pool.acquire() as comer, pool.acquire() as holder, pool.acquire() as moderator, comer.transaction():
        await comer.execute(hold + "KEY SHARE", session_id)  # as foreign keys ask
        async with holder.transaction():
            await holder.execute("UPDATE session_participants SET hand_raised = true")
            mark = ReadMark(session_id=session_id, user_id="kid", seq=3)
            marking = asyncio.create_task(participants.mark_read(pool, [mark]))
            await until_somebody_waits(pool)
            moderating = asyncio.create_task(moderator.execute(hold + "NO KEY UPDATE", session_id))
            await until_somebody_waits(pool, 2)
        assert await marking == [True]
        await moderating


async def test_marks_and_visits_of_many_at_once_never_deadlock_and_the_furthest_stays(pool: Pool) -> None:
    session_ids = [await book(pool) for _ in range(4)]
    for session_id in session_ids:
        await joins(pool, session_id, *MEMBERS)
    furthest: dict[tuple[UUID, str], int] = {}
    moved: list[tuple[UUID, str, int]] = []

    async def marks() -> None:
        for _ in range(20):
            batch = [
                ReadMark(
                    session_id=random.choice(session_ids), user_id=random.choice(MEMBERS), seq=random.randint(1, 10_000)
                )
                for _ in range(10)
            ]
            for mark in batch:
                key = (mark.session_id, mark.user_id)
                furthest[key] = max(mark.seq, furthest.get(key, 0))
            answers = await participants.mark_read(pool, batch)
            moved.extend((m.session_id, m.user_id, m.seq) for m, has in zip(batch, answers, strict=True) if has)

    async def comings_and_goings() -> None:
        for _ in range(15):
            changes = [
                Change(
                    session_id=random.choice(session_ids), user_id=random.choice(MEMBERS), present=random.random() < 0.5
                )
                for _ in range(8)
            ]
            await visits.record(pool, WORKER, changes)

    async def moderation() -> None:
        for _ in range(30):
            await change(pool, random.choice(session_ids), random.choice(MEMBERS), mic_allowed=random.random() < 0.5)

    await asyncio.gather(marks(), marks(), marks(), comings_and_goings(), moderation(), moderation())
    for (session_id, user_id), seq in furthest.items():
        assert await read_seq(pool, session_id, user_id) == seq
        assert (session_id, user_id, seq) in moved


async def test_those_who_are_here_are_read_by_their_key_in_pieces(pool: Pool) -> None:
    session_id, other = await book(pool), await book(pool)
    await joins(pool, session_id, *MEMBERS)
    await joins(pool, session_id, "mum", present=False)
    await joins(pool, other, "mum")
    await change(pool, other, "kid", mic_allowed=False)
    pieces: list[list[str]] = []
    after = None
    while piece := await participants.online_in_session(pool, session_id, after=after, limit=3):
        assert all(one.online for one in piece)
        pieces.append([one.user_id for one in piece])
        after = piece[-1].user_id
    assert pieces == [["boss", "gran", "kid"], ["teach"]]
    assert [one.user_id for one in await participants.online_in_session(pool, other, limit=3)] == ["mum"]


async def test_a_page_of_those_who_are_here_reads_no_more_than_the_page(pool: Pool) -> None:
    session_id, students = await make_class(pool, 300)
    await visits.record(
        pool, WORKER, [Change(session_id=session_id, user_id=user_id, present=True) for user_id in students]
    )
    await pool.execute("ANALYZE")
    async with pool.acquire() as connection:
        walk = await walked(
            connection,
            lambda on: participants.online_in_session(on, session_id, after=students[100], limit=20),
        )
    assert "session_participants_pkey" in walk.indexes, walk.plan
    assert "Sort" not in walk.plan, walk.plan
    # Each with their name, their visit and its worker.
    assert walk.rows <= 4 * 20, (walk.rows, walk.plan)
