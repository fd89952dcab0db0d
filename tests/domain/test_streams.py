"""Bytes as they come: too slowly, not at all, or no longer wanted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from domain import streams
from domain.errors import Locked, TooSlow
from domain.streams import Stream


class Clock:
    """Stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def pieces(clock: Clock, *waits: float, size: int = 100) -> AsyncIterator[bytes]:
    for seconds in waits:
        clock.now += seconds
        yield bytes(size)


async def never() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b"too late"


async def test_what_is_done_with_the_bytes_is_not_the_senders_time() -> None:
    clock = Clock()
    stream, chunks = Stream(clock), pieces(clock, 1, 1, 1)
    for _ in range(3):
        assert await stream.next(chunks)
        clock.now += streams.RATE_SECONDS


async def test_whoever_sends_too_slowly_is_told_so() -> None:
    clock = Clock()
    stream, chunks = Stream(clock), pieces(clock, streams.RATE_SECONDS - 1, 1)
    assert await stream.next(chunks)
    with pytest.raises(TooSlow):
        await stream.next(chunks)


async def test_each_while_has_a_rate_of_its_own() -> None:
    clock = Clock()
    stream = Stream(clock)
    assert await stream.next(pieces(clock, streams.RATE_SECONDS, size=1_000_000))
    with pytest.raises(TooSlow):
        await stream.next(pieces(clock, streams.RATE_SECONDS))


async def test_the_end_is_the_end_however_late_it_comes() -> None:
    clock = Clock()
    ends_late = pieces(clock, 2 * streams.RATE_SECONDS, size=0)
    assert await Stream(clock).next(ends_late) == b""


async def test_nothing_is_waited_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "IDLE_SECONDS", 0.01)
    with pytest.raises(TooSlow):
        await Stream().next(never())


async def test_whoever_waits_is_broken_off_and_whoever_comes_to_wait() -> None:
    stream = Stream()
    waiting = asyncio.create_task(stream.next(never()))
    await asyncio.sleep(0)
    stream.break_off(Locked("taken over"))
    with pytest.raises(Locked):
        await waiting
    with pytest.raises(Locked):
        await stream.next(never())
