"""Who agrees to be recorded in a session: each for themself, and for a child a guardian.

It counts where the session's host has set `recordingConsent`: no recording starts while somebody is in the session who
has not agreed, and nobody who has not comes in while one runs (:mod:`domain.admission`). Whoever agreed and takes it
back stops the recording that runs, in every session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from domain import access
from domain.errors import Conflict, Forbidden, NotFound
from domain.identity import Identity
from domain.live import Live
from realtime.events import Event
from store import consents, recordings, sessions, users
from store.consents import Consent, Named
from store.database import Connection, Executor
from store.errors import translated
from store.sessions import Session
from store.users import User

#: People whom a refusal names; behind them there may be a whole course.
MAX_NAMED: Final = 50


# Rules


def guardians_of(session: Session, person: User) -> frozenset[str]:
    """Those who agree for a person: the parent of a student, and the parent whom their booking names. None: they
    agree themself."""
    if person.role != "student":
        return frozenset()
    found = {person.parent_id}
    if person.id == session.student_id:
        found.add(session.booking_parent_id)
    return frozenset(guardian for guardian in found if guardian is not None and guardian != person.id)


def check_may_decide(actor_id: str, person: User, guardians: frozenset[str], *, agreed: bool) -> None:
    """Raise Forbidden unless `actor_id` may say this for a person. A child may refuse, but not agree, alone."""
    if actor_id in guardians:
        return
    if actor_id != person.id:
        raise Forbidden("Only the person or their guardian decides whether they are recorded.", code="not_guardian")
    if agreed and guardians:
        raise Forbidden("A guardian agrees for a child.", code="guardian_decides")


def refusal(missing: Sequence[Named]) -> Conflict:
    """Why nothing is recorded: these have not agreed. `fields` has each by their id, with their name."""
    names = ", ".join(one.name for one in missing[:MAX_NAMED])
    more = " and others" if len(missing) > MAX_NAMED else ""
    return Conflict(
        f"Not everybody has agreed to be recorded: {names}{more}.",
        code="consent_missing",
        fields={one.user_id: f"{one.name} has not agreed to be recorded" for one in missing[:MAX_NAMED]},
    )


def document(consent: Consent, name: str) -> dict[str, Any]:
    return {
        "user_id": consent.user_id,
        "name": name,
        "agreed": consent.agreed,
        "decided_by": consent.decided_by,
        "decided_at": consent.decided_at,
    }


# Acts


async def require(connection: Connection, session: Session, *, actor_id: str) -> None:
    """Raise Conflict (`consent_missing`) where the session asks for consent and somebody who is in it has not given it.

    Whoever starts a recording, and the host, agree by that. Inside a transaction that holds the session's row: nobody
    comes in before it is committed.
    """
    if not session.recording_consent:
        return
    missing = await consents.missing(connection, session.id, but=[actor_id, session.host_id], limit=MAX_NAMED + 1)
    if missing:
        raise refusal(missing)


async def decide(live: Live, identity: Identity, ref: UUID | str, *, agreed: bool, user_id: str | None) -> Consent:
    """Write down whether a person, oneself by default, agrees to be recorded. The host is told, and the person where
    a guardian has said it.

    Who takes back what they agreed to stops the recording that runs. Raises NotFound, Forbidden.
    """
    session, person, name = await _asked(live.pool, identity, ref, user_id)
    guardians = guardians_of(session, person)
    check_may_decide(identity.user_id, person, guardians, agreed=agreed)
    with translated():
        async with live.pool.acquire() as connection, connection.transaction():
            held = await sessions.locked(connection, session.id)
            if held is None:
                raise access.unknown_session()
            before = await consents.find(connection, session.id, person.id)
            after = await consents.save(connection, session.id, person.id, agreed=agreed, decided_by=identity.user_id)
            stopped = None
            if before is not None and before.agreed and not agreed:
                stopped = await recordings.stop_running(connection, session.id, stopped_by=identity.user_id)
    if stopped is not None:
        live.publish([stopped])
    if before is None or before.agreed != agreed:
        data = {"session_id": session.id, "userId": person.id, "name": name, "agreed": agreed}
        told = {session.host_id} if person.id == identity.user_id else {session.host_id, person.id}
        live.audience.tell(list(told), Event(name="recordingConsent", data=data))
    return after


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What was decided in a session, as far as somebody may know it, and the children in it for whom they decide."""

    required: bool
    people: Sequence[Mapping[str, Any]]
    children: Sequence[Named]


async def listing(executor: Executor, identity: Identity, ref: UUID | str, *, after: str | None, limit: int) -> Answers:
    """What was decided in a session: to its host of everybody, by their ids, to others of themselves and the children
    whom they decide for. A guardian sees it from outside, too. Raises NotFound, Forbidden."""
    session = await sessions.find(executor, ref)
    if session is None:
        raise access.unknown_session()
    child = session.student_id if session.booking_parent_id == identity.user_id else None
    children = await consents.children_of(executor, session, identity.user_id, also=child, limit=MAX_NAMED)
    try:
        _, member = await access.enter(executor, ref, identity)
    except Forbidden:
        if not children:
            raise
        member = None
    if member is not None and member.is_host:
        found = await consents.of_session(executor, session.id, after=after, limit=limit)
    else:
        found = await consents.decided_for(executor, session.id, identity.user_id, also=child, after=after, limit=limit)
    people = [document(consent, name) for consent, name in found]
    return Answers(required=session.recording_consent, people=people, children=children)


async def _asked(
    executor: Executor, identity: Identity, ref: UUID | str, user_id: str | None
) -> tuple[Session, User, str]:
    """The session, and the member of it who is spoken for, with their name."""
    if user_id is None or user_id == identity.user_id:
        session, member = await access.enter(executor, ref, identity)
        person = await users.find(executor, identity.user_id)
        if person is None:
            raise _unknown_person()
        return session, person, member.name
    entrance = await sessions.find_for(executor, ref, user_id)
    if entrance is None:
        raise access.unknown_session()
    session, person = entrance.session, await users.find(executor, user_id)
    if person is None or identity.user_id not in guardians_of(session, person):
        # Nothing about who belongs to a session that is not one's own.
        await access.enter(executor, ref, identity)
        if person is None:
            raise _unknown_person()
        raise Forbidden("Only the person or their guardian decides whether they are recorded.", code="not_guardian")
    if not entrance.is_enrolled and user_id not in access.people_of(session):
        raise Forbidden(access.DENIED)
    return session, person, entrance.name


def _unknown_person() -> NotFound:
    return NotFound("There is no such person in this session.", code="participant_not_found")
