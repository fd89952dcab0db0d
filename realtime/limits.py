"""What one connection, one person and one address may use (contract-realtime, promise 5)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The bounds of the real-time door; 0 means no limit. The defaults are the contract's."""

    #: Bytes queued for a connection that does not read, before it is cut.
    unsent_bytes: int = 1_048_576
    #: Events a connection may send per second, sustained.
    events_per_second: int = 20
    #: Events a connection may send at once, before `events_per_second` applies.
    events_burst: int = 60
    #: Bytes in one frame from a client.
    frame_bytes: int = 65_536
    #: Connections one person may hold open at a time.
    connections_per_user: int = 10
    #: Handshakes one address may begin per second.
    handshakes_per_second: int = 20


class TokenBucket:
    """A rate with a burst: `burst` takes at once, refilled at `rate` per second.

    It starts full. A `rate` or `burst` of 0 means no limit. The caller passes the clock's reading, which must
    come from one monotonic clock; a reading from before the last one refills nothing.
    """

    __slots__ = ("_burst", "_filled_at", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._filled_at: float | None = None

    def take(self, now: float) -> bool:
        """Whether one more is allowed at `now` (seconds); counts it if so."""
        if self._rate <= 0 or self._burst <= 0:
            return True
        self._refill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def seconds_until_next(self, now: float) -> float:
        """How long until :meth:`take` succeeds again; 0 when it would succeed at `now`."""
        if self._rate <= 0 or self._burst <= 0:
            return 0.0
        self._refill(now)
        return max(0.0, (1 - self._tokens) / self._rate)

    def _refill(self, now: float) -> None:
        if self._filled_at is not None and now > self._filled_at:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        if self._filled_at is None or now > self._filled_at:
            self._filled_at = now
