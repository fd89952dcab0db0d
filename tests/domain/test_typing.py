"""Who is typing: told by changes, ended by the server."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from domain import typing
from domain.typing import Typing
from realtime.events import Event
from tests.support.lessons import member
from tests.support.recorder import WAIT_SECONDS

ROOM = UUID(int=7)
KID, TEACH = member(ROOM, "kid"), member(ROOM, "teach")


class Told:
    def __init__(self) -> None:
        self.news: list[tuple[str, bool]] = []
        self.ended = asyncio.Event()

    def __call__(self, room_id: str, event: Event) -> None:
        assert (room_id, event.name, event.seq, event.data["session_id"]) == (str(ROOM), "typing", None, str(ROOM))
        self.news.append((event.data["userId"], event.data["typing"]))
        if not event.data["typing"]:
            self.ended.set()


async def test_others_hear_of_changes_only() -> None:
    told = Told()
    typists = Typing(told)
    typists.set(KID, typing=False)
    for _ in range(3):
        typists.set(KID, typing=True)
    typists.set(TEACH, typing=True)
    for _ in range(2):
        typists.set(KID, typing=False)
    assert told.news == [("kid", True), ("teach", True), ("kid", False)]
    typists.stop(str(ROOM), "teach")


async def test_it_ends_by_itself_without_a_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typing, "TYPING_SECONDS", 0.01)
    told = Told()
    typists = Typing(told)
    typists.set(KID, typing=True)
    await asyncio.wait_for(told.ended.wait(), WAIT_SECONDS)
    assert told.news == [("kid", True), ("kid", False)]
    typists.set(KID, typing=True)
    assert told.news[-1] == ("kid", True), "and may begin again"
    typists.stop(str(ROOM), "kid")


async def test_a_repeat_puts_the_end_off() -> None:
    told = Told()
    typists = Typing(told)
    typists.set(KID, typing=True)
    first = typists._typists[str(ROOM), "kid"][1]
    typists.set(KID, typing=True)
    second = typists._typists[str(ROOM), "kid"][1]
    assert first.cancelled()
    assert second.when() >= first.when()
    typists.stop(str(ROOM), "kid")
    assert second.cancelled()


async def test_who_leaves_or_sends_has_stopped() -> None:
    told = Told()
    typists = Typing(told)
    typists.set(KID, typing=True)
    typists.stop(str(ROOM), "kid")
    typists.stop(str(ROOM), "kid")
    typists.stop(str(UUID(int=8)), "kid")
    assert told.news == [("kid", True), ("kid", False)]
