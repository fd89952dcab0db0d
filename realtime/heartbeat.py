"""One wheel pings every connection, and notices those that do not answer (Engine.IO 4, *Heartbeat*)."""

from __future__ import annotations

import asyncio
from math import ceil
from typing import Final, Protocol

import structlog

#: The longest step of the wheel, in seconds: a ping is late by at most that much.
STEP_SECONDS: Final = 1.0
#: Steps of the wheel in the shorter of the two times, at least.
LEAST_STEPS: Final = 10

logger = structlog.get_logger(__name__)


class Pinged(Protocol):
    """A connection, as the wheel sees it. The two marks are the wheel's own; at first 0 and False."""

    beat_at: int
    pong_due: bool

    def ping(self) -> None:
        """Ask for an answer."""

    def silent(self) -> None:
        """There was none in time."""


class Heartbeat:
    """Pings each connection `interval` seconds after its last answer, and gives it `timeout` seconds to answer.

    Watching, answering and forgetting a connection each take constant time, and there is one timer for all.
    """

    def __init__(self, interval: float, timeout: float) -> None:
        self._step = min(STEP_SECONDS, min(interval, timeout) / LEAST_STEPS)
        self._interval = ceil(interval / self._step)
        self._timeout = ceil(timeout / self._step)
        self._slots: list[set[Pinged]] = [set() for _ in range(max(self._interval, self._timeout) + 1)]
        self._now = 0
        self._watched = 0
        self._timer: asyncio.TimerHandle | None = None

    def answered(self, connection: Pinged) -> None:
        """Begin to watch a connection, or note that it has answered."""
        self._take_out(connection)
        connection.pong_due = False
        self._put(connection, self._interval)

    def forget(self, connection: Pinged) -> None:
        """Watch it no longer."""
        self._take_out(connection)
        if not self._watched and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _put(self, connection: Pinged, steps: int) -> None:
        connection.beat_at = (self._now + steps) % len(self._slots)
        self._slots[connection.beat_at].add(connection)
        self._watched += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._step, self._turn)

    def _take_out(self, connection: Pinged) -> None:
        slot = self._slots[connection.beat_at]
        if connection in slot:
            slot.remove(connection)
            self._watched -= 1

    def _turn(self) -> None:
        self._timer = None
        self._now = (self._now + 1) % len(self._slots)
        due, self._slots[self._now] = self._slots[self._now], set()
        self._watched -= len(due)
        for connection in due:
            try:
                if connection.pong_due:
                    connection.silent()
                else:
                    connection.pong_due = True
                    self._put(connection, self._timeout)
                    connection.ping()
            except Exception:
                logger.exception("heartbeat.failed")
        if self._watched and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._step, self._turn)
