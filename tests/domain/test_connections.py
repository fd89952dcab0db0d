"""One person's connections: none, one, several."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domain.connections import Held, added, contains, listed, removed
from realtime.connection import Connection
from tests.support.rooms import Seat

SEATS = [Seat("kid").connection for _ in range(4)]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3))))
def test_they_are_held_as_in_a_set(changes: list[tuple[bool, int]]) -> None:
    held: Held = None
    expected: set[Connection] = set()
    for comes, number in changes:
        seat = SEATS[number]
        held = added(held, seat) if comes else removed(held, seat)
        (expected.add if comes else expected.discard)(seat)
        assert set(listed(held)) == expected
        assert len(listed(held)) == len(expected)
        assert (held is None) == (not expected)
        assert [contains(held, one) for one in SEATS] == [one in expected for one in SEATS]
