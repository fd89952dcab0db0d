"""The log under arrivals, faults and floods of any kind: each entry answered once, in order, within the bounds."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime import log as log_module
from realtime.log import Log, Overloaded

MAX_ENTRIES = 5
MAX_BYTES = 100
MAX_WAITING = 40


class AwayError(Exception):
    """It passes; whether the batch was written is not known."""


class PoisonError(Exception):
    """A row on which every batch fails."""


class RefusedError(Exception):
    """The answer for one entry."""


class Entry(msgspec.Struct, frozen=True):
    number: int
    key: int
    size: int
    pause: int
    poisoned: bool
    refused: bool


@dataclass(frozen=True)
class Plan:
    entries: list[Entry]
    #: For each try of a batch in turn: is the database away, and if so, had it committed before its answer was lost.
    moods: list[tuple[bool, bool]]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    entries = [
        Entry(number, *rest)
        for number, rest in enumerate(
            draw(
                st.lists(
                    st.tuples(
                        st.integers(0, 4),
                        st.sampled_from([0, 10, 30, 60, 150]),
                        st.sampled_from([0, 0, 0, 0, 1, 4]),
                        st.sampled_from([False] * 9 + [True]),
                        st.sampled_from([False] * 9 + [True]),
                    ),
                    min_size=1,
                    max_size=MAX_WAITING,
                )
            )
        )
    ]
    return Plan(entries, draw(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=20)))


class Table:
    """Keeps what is committed, by number, and finds it again when a batch comes `again`."""

    def __init__(self, moods: Sequence[tuple[bool, bool]]) -> None:
        self._moods = iter(moods)
        self._busy = False
        self.rows: dict[int, Entry] = {}
        self.batches: list[list[Entry]] = []

    async def write(self, batch: Sequence[Entry], again: bool) -> Sequence[int | Exception]:
        assert not self._busy, "one batch is in flight at a time"
        assert 1 <= len(batch) <= MAX_ENTRIES
        assert sum(entry.size for entry in batch) <= MAX_BYTES or len(batch) == 1
        self.batches.append(list(batch))
        self._busy = True
        try:
            await asyncio.sleep(0)
            away, committed = next(self._moods, (False, False))
            if any(entry.poisoned for entry in batch):
                raise AwayError if away else PoisonError
            if committed or not away:
                for entry in batch:
                    assert again or entry.number not in self.rows, "twice, without a word that it may be"
                    if not entry.refused:
                        self.rows.setdefault(entry.number, entry)
            if away:
                raise AwayError
            return [RefusedError() if entry.refused else entry.number for entry in batch]
        finally:
            self._busy = False


@pytest.fixture(autouse=True, scope="module")
def _small_bounds() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_module, "RETRY_PAUSE_SECONDS", 0)
        patch.setattr(log_module, "MAX_BATCH_ENTRIES", MAX_ENTRIES)
        patch.setattr(log_module, "MAX_BATCH_BYTES", MAX_BYTES)
        patch.setattr(log_module, "MAX_WAITING_ENTRIES", MAX_WAITING)
        patch.setattr(log_module, "MIN_AHEAD_ENTRIES", 3)
        yield


def new_log(table: Table, told: list[Entry]) -> Log[Entry, int]:
    return Log(
        table.write,
        name="test",
        passing=AwayError,
        committed=lambda entry, _: told.append(entry),
        key=lambda entry: entry.key,
        size=lambda entry: entry.size,
    )


def _note(answered: list[Entry], entry: Entry, _: asyncio.Future[int]) -> None:
    answered.append(entry)


def by_key(entries: Sequence[Entry]) -> dict[int, list[int]]:
    numbers = defaultdict(list)
    for entry in entries:
        numbers[entry.key].append(entry.number)
    return numbers


@settings(max_examples=300)
@given(plan=plans())
def test_each_entry_is_answered_once_and_in_the_order_of_its_key(plan: Plan) -> None:
    async def run() -> None:
        table, told, answered = Table(plan.moods), list[Entry](), list[Entry]()
        log = new_log(table, told)
        waiting: list[tuple[Entry, asyncio.Future[int]]] = []
        turned_away = 0
        for entry in plan.entries:
            try:
                future = log.append(entry)
            except Overloaded:
                turned_away += 1
                continue
            future.add_done_callback(partial(_note, answered, entry))
            waiting.append((entry, future))
            for _ in range(entry.pause):
                await asyncio.sleep(0)
        await log.close()
        await asyncio.sleep(0)
        assert len(answered) == len(waiting) == len(plan.entries) - turned_away
        good = [entry for entry, _ in waiting if not entry.poisoned and not entry.refused]
        for entry, future in waiting:
            expected = PoisonError if entry.poisoned else RefusedError if entry.refused else None
            if expected is None:
                assert future.result() == entry.number
            else:
                assert isinstance(future.exception(), expected)
        assert set(table.rows) == {entry.number for entry in good}, "written are those who were told so, and no others"
        assert by_key(told) == by_key(good), "everybody is shown the entries of a key in its order, each once"
        assert by_key(answered) == by_key([entry for entry, _ in waiting])
        assert by_key(list(table.rows.values())) == by_key(good)

    asyncio.run(run())


@settings(max_examples=100)
@given(flood=st.integers(MAX_ENTRIES * 2, MAX_WAITING // 2), cool=st.integers(1, MAX_ENTRIES * 2))
def test_a_flood_of_one_key_holds_the_others_up_by_one_batch(flood: int, cool: int) -> None:
    async def run() -> None:
        table, told = Table([]), list[Entry]()
        log = new_log(table, told)
        numbers = itertools.count()
        for _ in range(flood):
            log.append(Entry(next(numbers), 0, 0, 0, False, False))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(table.batches) == 1, "the first batch of the flood is in flight"
        for key in range(1, cool + 1):
            log.append(Entry(next(numbers), key, 0, 0, False, False))
        await log.close()
        # Each key has a turn in each round; a round of all keys takes so many batches.
        rounds = -(-(cool + 1) // MAX_ENTRIES)
        soon = {entry.key for batch in table.batches[1 : 1 + rounds] for entry in batch}
        assert soon >= set(range(1, cool + 1))
        assert len(told) == flood + cool

    asyncio.run(run())


@settings(max_examples=50)
@given(floods=st.integers(1, 3))
def test_floods_leave_room_for_whoever_has_nothing_waiting(floods: int) -> None:
    async def run() -> None:
        log = new_log(Table([]), [])
        numbers = itertools.count()
        refused = 0
        for _ in range(MAX_WAITING):
            for key in range(floods):
                try:
                    log.append(Entry(next(numbers), key, 0, 0, False, False))
                except Overloaded:
                    refused += 1
        assert refused > 0
        await log.append(Entry(next(numbers), 99, 0, 0, False, False))
        await log.close()

    asyncio.run(run())


@settings(max_examples=50)
@given(poisoned=st.sets(st.integers(0, 14), min_size=1, max_size=4))
def test_a_poisoned_entry_fails_alone(poisoned: set[int]) -> None:
    async def run() -> None:
        table, told = Table([]), list[Entry]()
        log = new_log(table, told)
        entries = [Entry(number, number % 3, 0, 0, number in poisoned, False) for number in range(15)]
        futures = [log.append(entry) for entry in entries]
        await log.close()
        for entry, future in zip(entries, futures, strict=True):
            assert isinstance(future.exception(), PoisonError) == entry.poisoned

    asyncio.run(run())
