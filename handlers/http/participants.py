"""`/sessions/{ref}/participants`: who took part, who is online, and what the host lets them do."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from domain import moderation
from domain.errors import NotFound
from domain.identity import full_name
from domain.moderation import ParticipantChange
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import DATABASE, LIVE
from handlers.http.messages import entered
from handlers.http.requests import link, path_text, query_limit, query_text
from store import participants
from store.participants import Participant
from store.sessions import Session


class Change(msgspec.Struct, frozen=True):
    mic_allowed: bool | None = None
    camera_allowed: bool | None = None
    was_kicked: bool | None = None


async def index(request: web.Request) -> web.Response:
    session, _ = await entered(request)
    limit, after = query_limit(request), query_text(request, "cursor")
    found = await participants.of_session(request.app[DATABASE], session.id, after=after, limit=limit + 1)
    shown = found[:limit]
    more = link(request, "next", cursor=shown[-1].user_id) if len(found) > limit else None
    return json_response([_document(session, participant) for participant in shown], headers=more)


async def change(request: web.Request) -> web.Response:
    session, member = await entered(request)
    user_id = path_text(request, "user_id", _unknown_participant)
    wanted = await read_body(request, Change)
    participant = await moderation.change_participant(
        request.app[LIVE],
        member,
        user_id,
        ParticipantChange(
            mic_allowed=wanted.mic_allowed, camera_allowed=wanted.camera_allowed, was_kicked=wanted.was_kicked
        ),
    )
    return json_response(_document(session, participant))


def _document(session: Session, participant: Participant) -> dict[str, Any]:
    """S2's SessionParticipant, and `online`."""
    return {
        "_id": participant.id,
        "userId": participant.user_id,
        "name": full_name(participant.first_name, participant.last_name) or participant.user_id,
        "sessionId": participant.session_id,
        "role": "instructor" if participant.user_id == session.host_id else "student",
        "joinedAt": participant.joined_at,
        "leftAt": participant.left_at,
        "wasKicked": participant.was_kicked,
        "micAllowed": participant.mic_allowed,
        "cameraAllowed": participant.camera_allowed,
        "online": participant.online,
        "createdAt": participant.created_at,
        "updatedAt": participant.updated_at,
    }


def _unknown_participant() -> NotFound:
    return NotFound("There is no such person in this session.", code="participant_not_found")
