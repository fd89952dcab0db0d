"""What a host may do to the people of a session, and what people show the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from domain import access
from domain.access import Member
from domain.errors import BadRequest, Conflict, Forbidden, NotFound
from domain.live import Live
from store import audit, events, participants, sessions, users
from store.audit import Action
from store.database import Connection
from store.errors import translated
from store.events import LogEntry
from store.participants import Participant


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
                entries.append(await _log(connection, member, "participant_kicked", {"userId": user_id}))
                await _note(connection, member, "participant_kicked", user_id)
            if was_kicked and not after.was_kicked:
                await _note(connection, member, "participant_readmitted", user_id)
    live.publish(entries)
    return after


async def raise_hand(live: Live, member: Member, *, raised: bool) -> None:
    """Show or take back a raised hand. As it is already: nothing happens."""
    entries: list[LogEntry] = []
    with translated():
        async with live.pool.acquire() as connection, connection.transaction():
            await sessions.locked(connection, member.session_id)
            before = await participants.of_person(connection, member.session_id, member.user_id)
            if raised != (before is not None and before.hand_raised):
                await participants.change(connection, member.session_id, member.user_id, hand_raised=raised)
                data = {"userId": member.user_id, "raised": raised}
                entries.append(await _log(connection, member, "hand_raised", data))
    live.publish(entries)


async def _check_target(connection: Connection, member: Member, user_id: str, change: ParticipantChange) -> None:
    session = await sessions.locked(connection, member.session_id)
    if session is None:
        raise access.unknown_session()
    target = await users.find(connection, user_id)
    joined = await participants.of_person(connection, member.session_id, user_id)
    if target is None or (user_id not in access.people_of(session) and joined is None):
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
