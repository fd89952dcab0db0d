"""Who is typing. Nothing is stored; the server itself ends it, so that nobody types for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from domain.access import Member
from realtime.events import Event

#: Seconds without a repeat until a person no longer counts as typing.
TYPING_SECONDS: Final = 5.0


class Typing:
    """The people typing through this worker. `publish(room_id, event)` tells the room, on every worker."""

    def __init__(self, publish: Callable[[str, Event], None]) -> None:
        self._publish = publish
        self._typists: dict[tuple[str, str], tuple[Member, asyncio.TimerHandle]] = {}

    def set(self, member: Member, *, typing: bool) -> None:
        """Begin, go on, or stop. Others hear of changes only."""
        key = (str(member.session_id), member.user_id)
        known = self._typists.pop(key, None)
        if known is not None:
            known[1].cancel()
        if typing:
            ending = asyncio.get_running_loop().call_later(TYPING_SECONDS, self._stop, key)
            self._typists[key] = (member, ending)
        if typing != (known is not None):
            self._tell(member, typing)

    def stop(self, room_id: str, user_id: str) -> None:
        """The person left or sent what they typed."""
        if (room_id, user_id) in self._typists:
            self._stop((room_id, user_id))

    def _stop(self, key: tuple[str, str]) -> None:
        member, ending = self._typists.pop(key)
        ending.cancel()
        self._tell(member, False)

    def _tell(self, member: Member, typing: bool) -> None:
        room_id = str(member.session_id)
        data: dict[str, Any] = {
            "userId": member.user_id,
            "name": member.name,
            "typing": typing,
            "session_id": room_id,
        }
        self._publish(room_id, Event(name="typing", data=data))
