"""The log: batches, in order, each entry told its own fate."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime import log as log_module
from realtime.log import Closed, Log, Overloaded
from tests.support.recorder import WAIT_SECONDS
from tests.support.waiting import until


class AwayError(Exception):
    """The database is away for a moment."""


class PoisonError(Exception):
    """The database chokes on one entry."""


class Database:
    """Writes batches when it is let, and remembers what it was asked to do."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.tries: list[tuple[list[str], bool]] = []
        self.written: list[str] = []
        self.busy = False
        self.fails: Callable[[Sequence[str]], Exception | None] = lambda batch: None
        self.refuses: set[str] = set()

    async def write(self, batch: Sequence[str], again: bool) -> Sequence[str | Exception]:
        assert not self.busy, "one batch is in flight at a time"
        self.busy = True
        self.tries.append((list(batch), again))
        try:
            await self.open.wait()
            await asyncio.sleep(0)
            error = self.fails(batch)
            if error is not None:
                raise error
            self.written += [entry for entry in batch if entry not in self.refuses]
            return [ValueError(entry) if entry in self.refuses else entry.upper() for entry in batch]
        finally:
            self.busy = False


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def log(database: Database) -> Log[str, str]:
    return Log(database.write, name="test", passing=AwayError)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is so soon."""
    monkeypatch.setattr(log_module, "RETRY_PAUSE_SECONDS", 0.01)


@pytest.fixture
def impatient(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is given up soon."""
    monkeypatch.setattr(log_module, "RETRY_SECONDS", 0.1)


async def all_of(futures: Sequence[asyncio.Future[str]]) -> list[str | BaseException]:
    async with asyncio.timeout(WAIT_SECONDS):
        return await asyncio.gather(*futures, return_exceptions=True)


async def test_a_lone_entry_is_written_at_once(database: Database, log: Log[str, str]) -> None:
    assert await log.append("a") == "A"
    assert database.tries == [(["a"], False)]


async def test_entries_of_the_same_turn_share_a_batch(database: Database, log: Log[str, str]) -> None:
    assert await all_of([log.append("a"), log.append("b")]) == ["A", "B"]
    assert database.tries == [(["a", "b"], False)]


async def test_what_arrives_meanwhile_is_the_next_batch(database: Database, log: Log[str, str]) -> None:
    database.open.clear()
    first = log.append("a")
    await until(lambda: len(database.tries) == 1)
    rest = [log.append(entry) for entry in "bcd"]
    await asyncio.sleep(0.01)
    assert database.tries == [(["a"], False)]
    database.open.set()
    assert await all_of([first, *rest]) == ["A", "B", "C", "D"]
    assert [batch for batch, _ in database.tries] == [["a"], ["b", "c", "d"]]


async def test_a_batch_has_at_most_so_many_entries(
    database: Database, log: Log[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "MAX_BATCH_ENTRIES", 3)
    await all_of([log.append(entry) for entry in "abcdefgh"])
    assert [batch for batch, _ in database.tries] == [list("abc"), list("def"), list("gh")]


async def test_a_batch_has_at_most_so_many_bytes_but_always_an_entry(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "MAX_BATCH_BYTES", 10)
    log: Log[str, str] = Log(database.write, name="test", passing=AwayError, size=len)
    await all_of([log.append(entry) for entry in ("x" * 50, "aaaa", "bbbb", "cccc", "dd")])
    assert [batch for batch, _ in database.tries] == [["x" * 50], ["aaaa", "bbbb"], ["cccc", "dd"]]


async def test_committed_is_called_in_order_before_those_who_wait_go_on(database: Database) -> None:
    told: list[str] = []
    log: Log[str, str] = Log(
        database.write, name="test", passing=AwayError, committed=lambda entry, result: told.append(f"{entry}{result}")
    )

    async def send(entry: str) -> None:
        await log.append(entry)
        told.append(f"{entry} goes on")

    await asyncio.gather(send("a"), send("b"))
    assert told == ["aA", "bB", "a goes on", "b goes on"]


async def test_committed_is_not_called_for_an_entry_that_is_refused(database: Database) -> None:
    told: list[str] = []
    log: Log[str, str] = Log(
        database.write, name="test", passing=AwayError, committed=lambda entry, _: told.append(entry)
    )
    database.refuses = {"b"}
    answers = await all_of([log.append(entry) for entry in "abc"])
    assert answers[0] == "A"
    assert isinstance(answers[1], ValueError)
    assert answers[2] == "C"
    assert told == ["a", "c"]


async def test_an_announcement_that_fails_fails_nobody(database: Database) -> None:
    def committed(entry: str, result: str) -> None:
        raise RuntimeError(entry)

    log: Log[str, str] = Log(database.write, name="test", passing=AwayError, committed=committed)
    assert await all_of([log.append("a"), log.append("b")]) == ["A", "B"]


async def test_a_poisoned_entry_fails_alone(database: Database, log: Log[str, str]) -> None:
    database.fails = lambda batch: PoisonError() if "x" in batch else None
    answers = await all_of([log.append(entry) for entry in "abxcdefg"])
    assert [type(answer).__name__ for answer in answers] == ["str", "str", "PoisonError", *["str"] * 5]
    assert database.written == list("abcdefg")


async def test_a_passing_error_is_tried_again_as_such(database: Database, log: Log[str, str], quick: None) -> None:
    failures = iter([AwayError(), AwayError()])
    database.fails = lambda batch: next(failures, None)
    assert await all_of([log.append("a"), log.append("b")]) == ["A", "B"]
    assert database.tries == [(["a", "b"], False), (["a", "b"], True), (["a", "b"], True)]


async def test_a_batch_that_is_halved_after_a_lost_answer_is_still_written_as_again(
    database: Database, log: Log[str, str], quick: None
) -> None:
    failures = iter([AwayError(), PoisonError()])
    database.fails = lambda batch: next(failures, None)
    assert await all_of([log.append("a"), log.append("b")]) == ["A", "B"]
    assert database.tries == [(["a", "b"], False), (["a", "b"], True), (["a"], True), (["b"], True)]


async def test_a_batch_is_given_up_when_the_database_stays_away(
    database: Database, log: Log[str, str], impatient: None
) -> None:
    database.fails = lambda batch: AwayError()
    answers = await all_of([log.append("a"), log.append("b")])
    assert [type(answer) for answer in answers] == [AwayError, AwayError]
    assert {len(batch) for batch, _ in database.tries} == {2}, "it is not the entries' fault: nothing is halved"
    database.fails = lambda batch: None
    assert await log.append("c") == "C"


async def test_those_who_waited_behind_a_lost_batch_do_not_wait_as_long_again(
    database: Database, log: Log[str, str], impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "MAX_BATCH_ENTRIES", 1)
    monkeypatch.setattr(log_module, "RETRY_SECONDS", 0.5)
    database.fails = lambda batch: AwayError()
    started = asyncio.get_running_loop().time()
    waiting = [log.append(str(number)) for number in range(20)]
    await asyncio.gather(log.close(), all_of(waiting))
    assert asyncio.get_running_loop().time() - started < 20 * 0.5 / 2


async def test_too_many_waiting_entries_are_refused(
    database: Database, log: Log[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "MAX_WAITING_ENTRIES", 2)
    waiting = [log.append("a"), log.append("b")]
    with pytest.raises(Overloaded):
        log.append("c")
    assert await all_of(waiting) == ["A", "B"]
    assert await log.append("d") == "D"


async def test_close_writes_what_is_here_and_takes_no_more(database: Database, log: Log[str, str]) -> None:
    waiting = [log.append(entry) for entry in "abc"]
    closing = asyncio.create_task(log.close())
    await asyncio.sleep(0)
    with pytest.raises(Closed):
        log.append("d")
    await closing
    assert [future.result() for future in waiting] == ["A", "B", "C"]
    await log.close()


async def test_whoever_stops_waiting_disturbs_nobody(database: Database, log: Log[str, str]) -> None:
    database.open.clear()
    waiting = [log.append(entry) for entry in "abc"]
    await until(lambda: len(database.tries) == 1)
    waiting[1].cancel()
    behind = log.append("d")
    behind.cancel()
    last = log.append("e")
    database.open.set()
    assert [await waiting[0], await waiting[2], await last] == ["A", "C", "E"]
    assert database.written == list("abcde"), "what was handed over is written, whoever waits"


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    pauses=st.lists(st.sampled_from([0, 0, 0, 1, 2, 5]), min_size=1, max_size=80),
    poisoned=st.sets(st.integers(0, 79), max_size=4),
    away=st.lists(st.booleans(), max_size=30),
)
def test_whatever_happens_each_entry_is_written_once_in_order_or_told_why_not(
    seed: int, pauses: list[int], poisoned: set[int], away: list[bool]
) -> None:
    async def run() -> None:
        database = Database()
        moods = iter(away)
        chance = random.Random(seed)

        def fails(batch: Sequence[str]) -> Exception | None:
            if next(moods, False):
                return AwayError()
            return PoisonError() if any(int(entry) in poisoned for entry in batch) else None

        database.fails = fails
        told: list[str] = []
        log: Log[str, str] = Log(
            database.write, name="test", passing=AwayError, committed=lambda entry, _: told.append(entry)
        )
        waiting = {}
        for number, pause in enumerate(pauses):
            waiting[number] = log.append(str(number))
            for _ in range(pause):
                await asyncio.sleep(0)
        gone = {number for number in waiting if chance.random() < 0.1 and waiting[number].cancel()}
        await log.close()
        for number, future in waiting.items():
            if number in gone:
                continue
            if number in poisoned:
                assert isinstance(future.exception(), PoisonError)
            else:
                assert future.result() == str(number)
        expected = [str(number) for number in waiting if number not in poisoned]
        assert database.written == told == expected

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_module, "RETRY_PAUSE_SECONDS", 0)
        patch.setattr(log_module, "MAX_BATCH_ENTRIES", 7)
        asyncio.run(run())
