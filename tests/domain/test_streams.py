"""Bytes as they come: too slowly, not at all, or no longer wanted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from domain import streams
from domain.errors import Locked, TooSlow
from domain.streams import Stream


async def pieces(*waits: float, size: int = 100) -> AsyncIterator[bytes]:
    for seconds in waits:
        await asyncio.sleep(seconds)
        yield bytes(size)


async def test_what_is_done_with_the_bytes_is_not_the_senders_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RATE_SECONDS", 0.05)
    monkeypatch.setattr(streams, "LOWEST_RATE", 10_000)
    stream, chunks = Stream(), pieces(0, 0, 0)
    for _ in range(3):
        assert await stream.next(chunks)
        await asyncio.sleep(0.06)


async def test_each_while_has_a_rate_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RATE_SECONDS", 0.05)
    monkeypatch.setattr(streams, "LOWEST_RATE", 10_000)
    stream = Stream()
    assert await stream.next(pieces(0.06, size=1_000_000))
    with pytest.raises(TooSlow):
        await stream.next(pieces(0.06))


async def test_the_end_is_the_end_however_late_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RATE_SECONDS", 0.01)
    ends_late = pieces(0.02, size=0)
    assert await Stream().next(ends_late) == b""


async def test_nothing_is_waited_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "IDLE_SECONDS", 0.01)
    with pytest.raises(TooSlow):
        await Stream().next(pieces(60))


async def test_whoever_waits_is_broken_off_and_whoever_comes_to_wait() -> None:
    stream = Stream()
    waiting = asyncio.create_task(stream.next(pieces(60)))
    await asyncio.sleep(0)
    stream.break_off(Locked("taken over"))
    with pytest.raises(Locked):
        await waiting
    with pytest.raises(Locked):
        await stream.next(pieces(0))
