"""Who gets in: places, the lock, the waiting room. Plain rules."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import admission
from domain.errors import Conflict, Forbidden
from store.guards import Asking, Guard, TurnedAway, Verdict

SESSION = UUID(int=1)
OPEN = Guard(session_id=SESSION, max_participants=None, locked=False, waiting_room=False, people=0)
NEW = Asking(
    session_id=SESSION,
    user_id="kid",
    is_here=False,
    has_been_in=False,
    was_kicked=False,
    is_admitted=False,
    is_waiting=False,
)
BEEN_IN = replace(NEW, has_been_in=True)
HERE = replace(BEEN_IN, is_here=True)
ADMITTED = replace(NEW, is_admitted=True)
KICKED = replace(HERE, was_kicked=True, is_admitted=True)


@pytest.mark.parametrize(
    ("guard", "asking", "verdict"),
    [
        (OPEN, NEW, "in"),
        (replace(OPEN, locked=True), NEW, "locked"),
        (replace(OPEN, locked=True), ADMITTED, "locked"),
        (replace(OPEN, locked=True), BEEN_IN, "in"),
        (replace(OPEN, locked=True), HERE, "in"),
        (replace(OPEN, waiting_room=True), NEW, "waiting"),
        (replace(OPEN, waiting_room=True), BEEN_IN, "waiting"),
        (replace(OPEN, waiting_room=True), HERE, "in"),
        (replace(OPEN, waiting_room=True), ADMITTED, "in"),
        (replace(OPEN, locked=True, waiting_room=True), NEW, "locked"),
        (replace(OPEN, max_participants=2, people=1), NEW, "in"),
        (replace(OPEN, max_participants=2, people=2), NEW, "full"),
        (replace(OPEN, max_participants=2, people=3), BEEN_IN, "full"),
        (replace(OPEN, max_participants=2, people=3), HERE, "in"),
        (replace(OPEN, max_participants=2, people=2, waiting_room=True), NEW, "waiting"),
        (replace(OPEN, max_participants=2, people=2, waiting_room=True), ADMITTED, "full"),
        (replace(OPEN, needs_consent=True), NEW, "unagreed"),
        (replace(OPEN, needs_consent=True), BEEN_IN, "unagreed"),
        (replace(OPEN, needs_consent=True), replace(NEW, has_agreed=True), "in"),
        (replace(OPEN, needs_consent=True), HERE, "in"),
        (replace(OPEN, needs_consent=True, waiting_room=True), NEW, "waiting"),
        *((guard, KICKED, "kicked") for guard in (OPEN, replace(OPEN, locked=True), replace(OPEN, waiting_room=True))),
    ],
)
def test_each_limit_says_who_comes_in(guard: Guard, asking: Asking, verdict: Verdict) -> None:
    assert admission.verdicts(guard, [asking]) == [verdict]


@given(st.integers(1, 6), st.integers(0, 8), st.lists(st.booleans(), max_size=12))
def test_the_first_to_ask_have_the_places_and_who_is_here_takes_none(most: int, people: int, here: list[bool]) -> None:
    guard = replace(OPEN, max_participants=most, people=people)
    asking = [replace(NEW, user_id=str(n), is_here=is_here) for n, is_here in enumerate(here)]
    found = admission.verdicts(guard, asking)
    new = [verdict for verdict, is_here in zip(found, here, strict=True) if not is_here]
    places = max(0, most - people)
    assert new == (["in"] * min(places, len(new)) + ["full"] * max(0, len(new) - places))
    assert all(verdict == "in" for verdict, is_here in zip(found, here, strict=True) if is_here)


@pytest.mark.parametrize(
    ("verdict", "kind", "code", "said"),
    [
        ("full", Conflict, "session_full", "The session is full: it takes 2 people."),
        ("locked", Forbidden, "session_locked", "The host has locked this session: nobody new comes in."),
        ("waiting", Forbidden, "waiting", "The host will let you in."),
        ("kicked", Forbidden, "kicked", "You were removed from this session by its host."),
    ],
)
def test_who_does_not_come_in_is_told_why(verdict: Verdict, kind: type[Exception], code: str, said: str) -> None:
    turned_away = TurnedAway(session_id=SESSION, user_id="kid", verdict=verdict, max_participants=2, is_new=True)
    error = admission.refusal(turned_away)
    assert isinstance(error, kind)
    assert (error.code, error.message) == (code, said)
