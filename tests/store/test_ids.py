"""Ids in the order of time."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from uuid import RFC_4122

from hypothesis import given
from hypothesis import strategies as st

from store.ids import NO_END, first_id, new_id

MILLISECOND = timedelta(milliseconds=1)


def test_ids_are_uuids_of_version_7_which_grow_with_time_and_differ() -> None:
    ids = [new_id() for _ in range(1_000)]
    assert len(set(ids)) == len(ids)
    assert {(id.version, id.variant) for id in ids} == {(7, RFC_4122)}
    milliseconds = [id.int >> 80 for id in ids]
    assert milliseconds == sorted(milliseconds)
    assert abs(milliseconds[0] / 1000 - time.time()) < 60


def test_a_moments_first_id_lies_between_those_made_before_and_after() -> None:
    before = datetime.now(UTC)
    made = new_id()
    after = datetime.now(UTC)
    assert first_id(before) <= made < first_id(after + MILLISECOND) < NO_END
    assert (first_id(before).version, first_id(before).variant) == (7, RFC_4122)


@given(st.datetimes(timezones=st.just(UTC)))
def test_first_ids_are_in_the_order_of_their_moments(moment: datetime) -> None:
    if moment.year < 9999:
        assert first_id(moment) <= first_id(moment + MILLISECOND)
