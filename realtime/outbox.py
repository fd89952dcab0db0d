"""What waits for a client that cannot be written to at once."""

from __future__ import annotations

import asyncio
from collections import deque

from realtime.frames import Frame


class Outbox:
    """What waits for a client that polls, or is on its way to a WebSocket. Bounded in bytes.

    What one poll has taken counts as unsent until the next: it may still be on its way.
    """

    __slots__ = ("_fetched", "_frames", "_news", "_taken_bytes", "_waiting_bytes")

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self._waiting_bytes = 0
        self._taken_bytes = 0
        self._news: asyncio.Future[None] | None = None
        self._fetched: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def unsent_bytes(self) -> int:
        return self._waiting_bytes + self._taken_bytes

    def put(self, frame: Frame) -> None:
        self._frames.append(frame)
        self._waiting_bytes += frame.size
        self.wake()

    def wake(self) -> None:
        """Let the poll that waits look again."""
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Until there is news, or :meth:`wake`. Raises TimeoutError."""
        if not self._frames:
            if self._news is None or self._news.done():
                self._news = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._news)

    def take(self, most: int) -> list[Frame]:
        """The next frames. What was taken before is believed to have arrived."""
        frames = [self._frames.popleft() for _ in range(min(most, len(self._frames)))]
        size = sum(frame.size for frame in frames)
        self._waiting_bytes -= size
        self._taken_bytes = size
        if not self._frames and self._fetched is not None and not self._fetched.done():
            self._fetched.set_result(None)
        return frames

    def clear(self) -> None:
        """Let everything go, and the poll that waits."""
        self._frames.clear()
        self._waiting_bytes = 0
        self.wake()

    async def fetched(self) -> None:
        """Until a poll has taken everything."""
        if self._frames:
            if self._fetched is None or self._fetched.done():
                self._fetched = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._fetched)
