"""Questions that share a statement: as if each were asked alone, and none answered from before it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from store import loader
from store.database import Executor, Pool
from store.errors import Away
from store.loader import shared
from tests.support.lessons import database_pool
from tests.support.waiting import until


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database, size=3) as pool:
        yield pool


class Answers:
    """Answers each number with its square, when it may; keeps what it was asked together."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.may = asyncio.Event()
        self.may.set()
        self.fail: Callable[[Sequence[int]], Exception | None] = lambda keys: None

    async def load(self, executor: Executor, keys: Sequence[int]) -> list[int]:
        self.batches.append(list(keys))
        await self.may.wait()
        error = self.fail(keys)
        if error is not None:
            raise error
        return [key * key for key in keys]


async def test_what_is_asked_in_one_turn_is_one_statement(pool: Pool) -> None:
    answers = Answers()
    load = answers.load
    assert await asyncio.gather(*(shared(pool, load, n) for n in (3, 1, 2, 3))) == [9, 1, 4, 9]
    assert answers.batches == [[3, 1, 2]]
    assert await shared(pool, load, 5) == 25


async def test_nobody_joins_a_statement_under_way(pool: Pool) -> None:
    answers = Answers()
    load = answers.load
    answers.may.clear()
    first = asyncio.create_task(shared(pool, load, 1))
    await until(lambda: bool(answers.batches))
    later = [asyncio.create_task(shared(pool, load, n)) for n in (1, 2)]
    await asyncio.sleep(0.01)
    assert answers.batches == [[1]], "one at a time"
    answers.may.set()
    assert await asyncio.gather(first, *later) == [1, 1, 4]
    assert answers.batches == [[1], [1, 2]], "the same question is asked again: what it is about may have changed"


async def test_different_questions_do_not_wait_for_each_other(pool: Pool) -> None:
    slow, quick = Answers(), Answers()
    slow.may.clear()
    waiting = asyncio.create_task(shared(pool, slow.load, 1))
    await asyncio.sleep(0)
    assert await shared(pool, quick.load, 2) == 4
    slow.may.set()
    assert await waiting == 1


async def test_on_a_connection_it_is_asked_alone(pool: Pool) -> None:
    answers = Answers()
    async with pool.acquire() as connection:
        assert await shared(connection, answers.load, 2) == 4
    assert answers.load not in pool.loaders


async def test_a_question_that_fails_does_so_alone(pool: Pool) -> None:
    answers = Answers()
    answers.fail = lambda keys: ValueError("seven") if 7 in keys else None
    found = await asyncio.gather(*(shared(pool, answers.load, n) for n in range(10)), return_exceptions=True)
    assert isinstance(found[7], ValueError)
    assert [one for one in found if not isinstance(one, BaseException)] == [n * n for n in range(10) if n != 7]


async def test_a_database_that_is_away_is_so_for_everybody_and_asked_once(pool: Pool) -> None:
    answers = Answers()
    answers.fail = lambda keys: Away("down")
    found = await asyncio.gather(*(shared(pool, answers.load, n) for n in range(10)), return_exceptions=True)
    assert all(isinstance(one, Away) for one in found)
    assert len(answers.batches) == 1
    answers.fail = lambda keys: None
    assert await shared(pool, answers.load, 3) == 9


async def test_who_gives_up_leaves_the_answer_to_the_others(pool: Pool) -> None:
    answers = Answers()
    answers.may.clear()
    load = answers.load
    impatient, patient = (asyncio.create_task(shared(pool, load, 2)) for _ in range(2))
    await asyncio.sleep(0.01)
    impatient.cancel()
    answers.may.set()
    assert await patient == 4
    assert impatient.cancelled() or (await asyncio.gather(impatient, return_exceptions=True))


async def test_batches_and_what_waits_are_bounded(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "MAX_BATCH_KEYS", 2)
    monkeypatch.setattr(loader, "MAX_WAITING_KEYS", 5)
    answers = Answers()
    found: list[Any] = await asyncio.gather(*(shared(pool, answers.load, n) for n in range(7)), return_exceptions=True)
    assert found[:5] == [0, 1, 4, 9, 16]
    assert all(isinstance(one, Away) for one in found[5:])
    assert answers.batches == [[0, 1], [2, 3], [4]]
