"""Token buckets: a rate, a burst, and no more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from realtime.limits import TokenBucket


def test_a_burst_passes_at_once_and_then_the_rate() -> None:
    bucket = TokenBucket(rate=2, burst=3)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(10.4)
    assert bucket.take(10.5)
    assert not bucket.take(10.5)


def test_what_is_saved_is_never_more_than_the_burst() -> None:
    bucket = TokenBucket(rate=10, burst=2)
    assert bucket.take(0.0)
    assert [bucket.take(1000.0) for _ in range(3)] == [True, True, False]


def test_a_rate_or_burst_of_zero_is_no_limit() -> None:
    for bucket in (TokenBucket(rate=0, burst=5), TokenBucket(rate=5, burst=0)):
        assert all(bucket.take(0.0) for _ in range(1000))
        assert bucket.seconds_until_next(0.0) == 0


def test_it_says_how_long_to_wait() -> None:
    bucket = TokenBucket(rate=4, burst=1)
    assert bucket.seconds_until_next(0.0) == 0
    bucket.take(0.0)
    assert bucket.seconds_until_next(0.0) == 0.25
    assert bucket.seconds_until_next(0.125) == 0.125


def test_a_clock_that_steps_back_gives_nothing_away() -> None:
    bucket = TokenBucket(rate=1, burst=1)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert not bucket.take(100.5)
    assert bucket.take(101.0)


@given(
    rate=st.integers(1, 100),
    burst=st.integers(1, 100),
    steps=st.lists(st.floats(0, 2, allow_nan=False), max_size=200),
)
def test_never_more_than_burst_and_rate_allow(rate: int, burst: int, steps: list[float]) -> None:
    bucket = TokenBucket(rate, burst)
    now, taken = 0.0, 0
    for step in steps:
        now += step
        taken += bucket.take(now)
        assert taken <= burst + rate * now + 1e-6
