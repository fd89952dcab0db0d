"""Who gets into a session whose host limits that. Plain rules on frozen values; see `store.guards` for the facts.

First come, first served. Whoever is in already stays in: through another tab, or in the grace of a reload.
"""

from __future__ import annotations

from collections.abc import Sequence

from domain.errors import Conflict, EncountersError, Forbidden
from store.guards import Asking, Guard, TurnedAway, Verdict


def verdicts(guard: Guard, asking: Sequence[Asking]) -> list[Verdict]:
    """What becomes of people who ask to come into one session, in this order, each of them a person of their own."""
    places = None if guard.max_participants is None else guard.max_participants - guard.people
    found: list[Verdict] = []
    for someone in asking:
        verdict = _verdict(guard, someone, is_full=places is not None and places <= 0)
        if places is not None and verdict == "in" and not someone.is_here:
            places -= 1
        found.append(verdict)
    return found


def _verdict(guard: Guard, someone: Asking, *, is_full: bool) -> Verdict:
    if someone.was_kicked:
        return "kicked"
    if someone.is_here:
        return "in"
    if guard.locked and not someone.has_been_in:
        return "locked"
    if guard.waiting_room and not someone.is_admitted:
        return "waiting"
    if guard.needs_consent and not someone.has_agreed:
        return "unagreed"
    return "full" if is_full else "in"


def refusal(turned_away: TurnedAway) -> EncountersError:
    """What somebody is told who did not come in."""
    if turned_away.verdict == "full":
        most = turned_away.max_participants
        people = "1 person" if most == 1 else f"{most} people"
        return Conflict(f"The session is full: it takes {people}.", code="session_full")
    if turned_away.verdict == "locked":
        return Forbidden("The host has locked this session: nobody new comes in.", code="session_locked")
    if turned_away.verdict == "waiting":
        return Forbidden("The host will let you in.", code="waiting")
    if turned_away.verdict == "unagreed":
        return Conflict("This session is being recorded, and you have not agreed to that.", code="consent_missing")
    return kicked()


def kicked() -> Forbidden:
    return Forbidden("You were removed from this session by its host.", code="kicked")
