"""What presence has written down, and what workers tell each other of it: who comes and goes, who waits no longer.

One log of this worker takes both, so that what becomes of one person is written in the order in which it happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

import msgspec

from domain import admission
from domain.access import Member
from realtime.events import Event
from store import visits, waiters
from store.database import Pool
from store.guards import TurnedAway
from store.visits import Change, Outcome

#: The event by which workers tell each other of people; clients see `participantJoined` and `participantLeft`.
PRESENCE: Final = "presence"


@dataclass(frozen=True, slots=True)
class GaveUp:
    """Somebody no longer waits to be let in, through this worker."""

    member: Member


#: What is written down.
Entry = Change | GaveUp
#: What becomes of a change; of one who gave up, whether they wait nowhere now.
Recorded = Outcome | TurnedAway | bool


def change_of(key: tuple[str, str], *, present: bool, limited: bool = False) -> Change:
    """That a person (`key`: room and user) comes or goes."""
    room_id, user_id = key
    return Change(session_id=UUID(room_id), user_id=user_id, present=present, limited=limited)


def person_in_session(entry: Entry) -> tuple[UUID, str]:
    """Whom it is about: what is written of one person is written one after the other."""
    whose = entry.member if isinstance(entry, GaveUp) else entry
    return whose.session_id, whose.user_id


async def record(pool: Pool, worker_id: UUID, batch: Sequence[Entry], *, again: bool) -> list[Recorded | Exception]:
    """Write a batch. `again`: an earlier try may have been committed, its answer lost."""
    gave_up = [person_in_session(one) for one in batch if isinstance(one, GaveUp)]
    changes = [one for one in batch if isinstance(one, Change)]
    # First: of one person, a wait that ended and their coming again are in one batch in this order only.
    ended = iter(await waiters.end(pool, worker_id, gave_up, again=again))
    outcomes = iter(await visits.record(pool, worker_id, changes, admission.verdicts))
    recorded = [next(ended) if isinstance(one, GaveUp) else next(outcomes) for one in batch]
    return [_told_anew(one) for one in recorded] if again else recorded


def _told_anew(recorded: Recorded | Exception) -> Recorded | Exception:
    """A try whose answer was lost may have done it: telling it twice does no harm."""
    if isinstance(recorded, Outcome):
        return replace(recorded, turned=True)
    if isinstance(recorded, TurnedAway):
        return replace(recorded, is_new=True)
    return recorded


def news_of(outcome: Outcome, member: Member | None, reason: str | None) -> Event:
    """That somebody came, as this `member`; or why they went."""
    news: dict[str, Any] = {
        "userId": outcome.user_id,
        "online": outcome.online,
        "version": outcome.version,
    }
    if outcome.online:
        assert member is not None
        news["person"] = msgspec.to_builtins(
            {
                "userId": outcome.user_id,
                "name": member.name,
                "role": member.role,
                "micAllowed": outcome.mic_allowed,
                "cameraAllowed": outcome.camera_allowed,
                "handRaised": outcome.hand_raised,
                "readSeq": outcome.read_seq,
                "joinedAt": outcome.joined_at,
            }
        )
    else:
        news["reason"] = reason
    return Event(name=PRESENCE, data=news)
