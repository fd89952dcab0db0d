"""Deadlines: each key has one, and one timer serves them all."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime import deadlines as deadlines_module
from realtime.deadlines import SPARE_ENTRIES, Deadlines
from tests.support.waiting import until


class Clock:
    """A wall clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(deadlines_module, "LOOK_SECONDS", 0.01)
    return Clock()


@pytest.fixture
async def deadlines(clock: Clock) -> AsyncIterator[Deadlines]:
    deadlines = Deadlines(clock)
    yield deadlines
    deadlines.close()


@pytest.fixture
def passed() -> list[str]:
    return []


async def test_deadlines_pass_in_their_order(deadlines: Deadlines, clock: Clock, passed: list[str]) -> None:
    deadlines.set("late", 1_020, lambda _: passed.append("late"))
    deadlines.set("soon", 1_010, lambda _: passed.append("soon"))
    deadlines.set("never", 9_999, lambda _: passed.append("never"))
    await asyncio.sleep(0.03)
    assert passed == []
    clock.now = 1_030
    await until(lambda: passed == ["soon", "late"])


async def test_what_is_due_already_is_called_in_a_later_turn(deadlines: Deadlines, passed: list[str]) -> None:
    deadlines.set("past", 1, lambda _: passed.append("past"))
    assert passed == []
    await until(lambda: passed == ["past"])


async def test_a_new_deadline_replaces_the_old_one(deadlines: Deadlines, clock: Clock, passed: list[str]) -> None:
    deadlines.set("key", 1_010, lambda _: passed.append("old"))
    deadlines.set("key", 1_020, lambda _: passed.append("new"))
    clock.now = 1_015
    await asyncio.sleep(0.03)
    assert passed == []
    clock.now = 1_020
    await until(lambda: passed == ["new"])


async def test_a_dropped_deadline_does_not_pass(deadlines: Deadlines, clock: Clock, passed: list[str]) -> None:
    deadlines.set("dropped", 1_010, lambda _: passed.append("dropped"))
    deadlines.set("kept", 1_010, lambda _: passed.append("kept"))
    deadlines.drop("dropped")
    deadlines.drop("unknown")
    clock.now = 1_010
    await until(lambda: len(passed) > 0)
    assert passed == ["kept"]


async def test_a_clock_that_is_set_forward_is_noticed(clock: Clock, deadlines: Deadlines, passed: list[str]) -> None:
    deadlines.set("next year", 1_000 + 365 * 86_400, lambda _: passed.append("next year"))
    clock.now += 366 * 86_400
    await until(lambda: passed == ["next year"])


async def test_a_callback_is_told_whose_deadline_passed(deadlines: Deadlines, passed: list[str]) -> None:
    for key in ("one", "other"):
        deadlines.set(key, 990, passed.append)
    await until(lambda: passed == ["one", "other"])


async def test_a_callback_may_set_the_next_deadline(deadlines: Deadlines, passed: list[str]) -> None:
    def warn(_: str) -> None:
        passed.append("warned")
        deadlines.set("token", 1_000, lambda _: passed.append("cut"))

    deadlines.set("token", 990, warn)
    await until(lambda: passed == ["warned", "cut"])


async def test_a_callback_that_fails_does_not_stop_the_others(deadlines: Deadlines, passed: list[str]) -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context["exception"]))

    def fail(_: str) -> None:
        raise RuntimeError("a callback's own fault")

    deadlines.set("bad", 990, fail)
    deadlines.set("good", 991, lambda _: passed.append("good"))
    await until(lambda: passed == ["good"])
    assert [str(fault) for fault in faults] == ["a callback's own fault"]


async def test_nothing_passes_after_the_end(deadlines: Deadlines, clock: Clock, passed: list[str]) -> None:
    deadlines.set("key", 1_001, lambda _: passed.append("key"))
    deadlines.close()
    clock.now = 2_000
    await asyncio.sleep(0.03)
    assert passed == []


class Key:
    """Something large that goes away before its deadline, as a connection does."""


async def test_what_was_dropped_or_replaced_is_not_held_until_its_deadline(deadlines: Deadlines) -> None:
    held = []
    for _ in range(1_000):
        key = Key()
        held.append(weakref.ref(key))
        deadlines.set(key, 99_999, lambda _, key=key: None)  # type: ignore[misc]
        deadlines.set(key, 88_888, lambda _, key=key: None)  # type: ignore[misc]
        deadlines.drop(key)
    del key
    gc.collect()
    assert sum(one() is not None for one in held) <= SPARE_ENTRIES


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.integers(0, 50))), max_size=200))
def test_the_last_word_about_each_key_holds(changes: list[tuple[str, int | None]]) -> None:
    async def run() -> None:
        clock = Clock()
        deadlines = Deadlines(clock)
        passed: list[tuple[str, int]] = []
        expected: dict[str, int] = {}
        for key, at in changes:
            if at is None:
                deadlines.drop(key)
                expected.pop(key, None)
            else:
                deadlines.set(key, 1_010 + at, lambda _, key=key, at=at: passed.append((key, at)))  # type: ignore[misc]
                expected[key] = at
        clock.now = 2_000
        ended = asyncio.Event()
        deadlines.set("end", 3_000, lambda _: ended.set())
        clock.now = 3_000
        deadlines.set("now", 0, lambda _: None)
        await ended.wait()
        assert dict(passed) == expected
        assert len(passed) == len(expected)
        deadlines.close()

    asyncio.run(run())
