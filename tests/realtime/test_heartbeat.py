"""The wheel: who answers is pinged again, who does not is told of, whoever is forgotten is left alone."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.heartbeat import LEAST_STEPS, Heartbeat
from tests.support.waiting import until


class Pinged:
    """A connection that counts. It answers as long as `answers` says so."""

    def __init__(self, wheel: Heartbeat, *, answers: bool = True) -> None:
        self.beat_at = 0
        self.pong_due = False
        self.answers = answers
        self.pings = 0
        self.silences = 0
        self._wheel = wheel

    def ping(self) -> None:
        self.pings += 1
        if self.answers:
            self._wheel.answered(self)

    def silent(self) -> None:
        self.silences += 1


async def test_who_answers_is_pinged_again_and_again() -> None:
    wheel = Heartbeat(0.02, 0.02)
    one = Pinged(wheel)
    wheel.answered(one)
    await until(lambda: one.pings >= 3)
    wheel.forget(one)
    assert one.silences == 0


async def test_who_does_not_answer_is_told_of_once() -> None:
    wheel = Heartbeat(0.02, 0.02)
    one = Pinged(wheel, answers=False)
    wheel.answered(one)
    await until(lambda: one.silences == 1)
    await asyncio.sleep(0.1)
    assert (one.pings, one.silences) == (1, 1)


async def test_a_late_answer_counts_until_it_is_too_late() -> None:
    wheel = Heartbeat(0.02, 0.2)
    one = Pinged(wheel, answers=False)
    wheel.answered(one)
    await until(lambda: one.pings == 1)
    wheel.answered(one)
    await until(lambda: one.pings == 2)
    assert one.silences == 0
    wheel.forget(one)


async def test_an_empty_wheel_stands_still() -> None:
    wheel = Heartbeat(0.02, 0.02)
    one, other = Pinged(wheel), Pinged(wheel)
    for each in (one, other):
        wheel.answered(each)
    for each in (one, one, other):
        wheel.forget(each)
    assert wheel._timer is None
    await asyncio.sleep(0.05)
    assert (one.pings, other.pings) == (0, 0)


async def test_a_connection_that_fails_stops_nobody_elses_pings() -> None:
    wheel = Heartbeat(0.02, 0.5)

    class Broken(Pinged):
        def ping(self) -> None:
            raise RuntimeError("broken")

    broken, one = Broken(wheel), Pinged(wheel)
    wheel.answered(broken)
    wheel.answered(one)
    await until(lambda: one.pings >= 2)
    for each in (broken, one):
        wheel.forget(each)


@settings(max_examples=200)
@given(
    st.integers(1, 3 * LEAST_STEPS),
    st.integers(1, 3 * LEAST_STEPS),
    st.lists(st.tuples(st.sampled_from(["turn", "answer", "forget"]), st.integers(0, 2)), max_size=120),
)
def test_pings_and_silences_come_exactly_when_they_are_due(interval: int, timeout: int, acts: list[Any]) -> None:
    async def run() -> None:
        wheel = Heartbeat(interval, timeout)
        wheel._timer = asyncio.get_running_loop().call_later(3600, lambda: None)  # it is turned by hand
        people = [Pinged(wheel, answers=False) for _ in range(3)]
        due: dict[int, tuple[int, bool]] = {}
        pings, silences, now = [0] * 3, [0] * 3, 0
        for act, who in acts:
            if act == "answer":
                wheel.answered(people[who])
                due[who] = (now + wheel._interval, False)
            elif act == "forget":
                wheel.forget(people[who])
                due.pop(who, None)
            else:
                wheel._turn()
                now += 1
                for number, (at, waits) in list(due.items()):
                    if at == now and waits:
                        silences[number] += 1
                        del due[number]
                    elif at == now:
                        pings[number] += 1
                        due[number] = (now + wheel._timeout, True)
            assert [one.pings for one in people] == pings
            assert [one.silences for one in people] == silences
            assert wheel._watched == len(due)
        for one in people:
            wheel.forget(one)

    asyncio.run(run())
