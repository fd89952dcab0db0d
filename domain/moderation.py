"""What a host may do to the people of a session and to those who wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from domain import access
from domain.access import Member
from domain.errors import BadRequest, Conflict, Forbidden, NotFound, invalid
from domain.live import Live
from realtime.events import Event
from store import audit, events, participants, sessions, tellings, users, waiters
from store.audit import Action
from store.database import Connection
from store.errors import translated
from store.events import LogEntry
from store.participants import Participant
from store.waiters import Waiter

#: People whom a host lets in, or turns away, at once: their rows are held together for some milliseconds.
MAX_ADMITTED: Final = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class ParticipantChange:
    """What a host changes of a participant; None leaves it as it is. `was_kicked` False lets back in."""

    mic_allowed: bool | None = None
    camera_allowed: bool | None = None
    was_kicked: bool | None = None


async def change_participant(live: Live, member: Member, user_id: str, change: ParticipantChange) -> Participant:
    """Give, take, remove or let back in; the host may, for any member but the host.

    Raises BadRequest (`nothing_to_change`), Forbidden, NotFound (no member), Conflict (the host cannot be removed).
    """
    access.require_host(member)
    if change == ParticipantChange():
        raise BadRequest("Say what to change: mic_allowed, camera_allowed or was_kicked.", code="nothing_to_change")
    entries: list[LogEntry] = []
    waited: Sequence[Waiter] = ()
    with translated():
        async with live.pool.acquire() as connection, connection.transaction():
            await _check_target(connection, member, user_id, change)
            before = await participants.of_person(connection, member.session_id, user_id)
            await participants.change(
                connection,
                member.session_id,
                user_id,
                mic_allowed=change.mic_allowed,
                camera_allowed=change.camera_allowed,
                was_kicked=change.was_kicked,
                hand_raised=False if change.was_kicked else None,
            )
            after = await participants.of_person(connection, member.session_id, user_id)
            assert after is not None, "it was written just now"
            permissions = (after.mic_allowed, after.camera_allowed)
            if permissions != ((before.mic_allowed, before.camera_allowed) if before else (True, True)):
                data = {
                    "userId": user_id,
                    "micAllowed": after.mic_allowed,
                    "cameraAllowed": after.camera_allowed,
                }
                entries.append(await _log(connection, member, "permissions_changed", data))
                await _note(
                    connection,
                    member,
                    "permissions_changed",
                    user_id,
                    {"mic_allowed": after.mic_allowed, "camera_allowed": after.camera_allowed},
                )
            was_kicked = before is not None and before.was_kicked
            if after.was_kicked and not was_kicked:
                waited = await waiters.settle(connection, member.session_id, [user_id])
                entries.append(await _log(connection, member, "participant_kicked", {"userId": user_id}))
                await _note(connection, member, "participant_kicked", user_id)
            if entries:
                await tellings.add(connection, member.session_id, user_id)
            if was_kicked and not after.was_kicked:
                await _note(connection, member, "participant_readmitted", user_id)
    live.publish(entries)
    _tell_hosts(live, member, waited)
    if entries:
        live.people_to_tell()
    return after


async def admit(live: Live, member: Member, user_ids: Sequence[str], *, admitted: bool) -> list[str]:
    """Let people in who wait, or (`admitted` false) turn them away; the host may. Answers those whom it concerns.

    Who is let in stays so, until they are kicked: also when they come again. Who is turned away may ask again. Whoever
    does not wait is left out. Their connections are told on every worker: `admitted` or `refused`.

    Raises Forbidden (`not_host`), BadRequest for more than MAX_ADMITTED, NotFound (`not_waiting`) where nobody waits.
    """
    access.require_host(member)
    if not 1 <= len(user_ids) <= MAX_ADMITTED:
        raise invalid({"user_ids": f"must have 1 to {MAX_ADMITTED} items"})
    with translated():
        async with live.pool.acquire() as connection, connection.transaction():
            if await sessions.locked(connection, member.session_id) is None:
                raise access.unknown_session()
            waited = await waiters.settle(connection, member.session_id, user_ids)
            concerned = [waiter.user_id for waiter in waited]
            if admitted:
                await participants.admit(connection, member.session_id, concerned)
                concerned = await participants.admitted(connection, member.session_id, user_ids)
    _tell_hosts(live, member, waited)
    news = {"session_id": str(member.session_id)}
    verdict = Event(name="admitted", data=news) if admitted else Event(name="refused", data=news)
    if waited:
        live.audience.tell([waiter.user_id for waiter in waited], verdict)
    if not concerned:
        raise NotFound("Nobody of these waits to be let in.", code="not_waiting")
    return concerned


def _tell_hosts(live: Live, member: Member, waited: Sequence[Waiter]) -> None:
    """Those who waited no longer do."""
    for waiter in waited:
        live.presence.waiting_lists.tell_of(
            str(member.session_id), waiter.user_id, waiter.name, waiter.role, waiting=False
        )


async def _check_target(connection: Connection, member: Member, user_id: str, change: ParticipantChange) -> None:
    if await sessions.locked(connection, member.session_id) is None:
        raise access.unknown_session()
    entrance = await sessions.find_for(connection, member.session_id, user_id)
    assert entrance is not None, "its row is held"
    session = entrance.session
    target = await users.find(connection, user_id)
    joined = await participants.of_person(connection, member.session_id, user_id)
    belongs = entrance.is_enrolled or user_id in access.people_of(session)
    if target is None or (not belongs and joined is None):
        raise NotFound("There is no such person in this session.", code="participant_not_found")
    if change.was_kicked:
        if user_id == session.host_id:
            raise Conflict("The host cannot be removed from their own session.", code="host_stays")
        if target.role == "admin":
            raise Forbidden("An admin cannot be removed.", code="admin_stays")


async def _log(connection: Connection, member: Member, kind: events.Kind, data: dict[str, Any]) -> LogEntry:
    return await events.append(connection, member.session_id, kind=kind, user_id=member.user_id, data=data)


async def _note(
    connection: Connection, member: Member, action: Action, user_id: str, details: Mapping[str, Any] | None = None
) -> None:
    """Write into the audit log what was done to `user_id` in this session."""
    await audit.append(
        connection,
        actor_id=member.user_id,
        action=action,
        subject=user_id,
        details={"session_id": member.session_id, **(details or {})},
    )
