"""`/sessions/{ref}/participants`: who took part, who is online, and what the host lets them do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from domain import access, moderation
from domain.errors import NotFound
from domain.identity import full_name
from domain.moderation import ParticipantChange
from handlers.http.bodies import json_response
from handlers.http.keys import DATABASE, LIVE
from handlers.http.lists import Listing, answer
from handlers.http.messages import entered, entered_with
from handlers.http.requests import path_text, query_text, query_word
from store import attendance, participants
from store.participants import Participant
from store.sessions import Session


class Change(msgspec.Struct, frozen=True):
    mic_allowed: bool | None = None
    camera_allowed: bool | None = None
    was_kicked: bool | None = None


async def index(request: web.Request) -> web.StreamResponse:
    """Who took part, first comers first; as CSV the host's alone. With `?online=true` those alone who are here, in the
    order of their ids. For how long somebody was here is shown to the host and to themself."""
    session, member = await entered(request)
    if query_text(request, "format") == "csv":
        access.require_host(member, "Only the host exports the attendance.")
    pool = request.app[DATABASE]
    stored = participants.online_in_session if query_word(request, "online", ("true",)) else participants.of_session

    async def read(after: str | None, limit: int) -> list[Attendance]:
        found = await stored(pool, session.id, after=after, limit=limit)
        shown = [one.user_id for one in found if member.is_host or one.user_id == member.user_id]
        seconds = await attendance.seconds(pool, session.id, shown) if shown else {}
        return [Attendance(participant, seconds.get(participant.user_id)) for participant in found]

    listing = Listing[Attendance, str](
        name="attendance",
        read=read,
        cursor=lambda one: one.participant.user_id,
        document=lambda one: _document(session, one),
        columns=("name", "role", "first_joined", "last_left", "minutes"),
        cells=lambda one: (
            *(one.name, _role(session, one.participant)),
            *(one.participant.joined_at, one.participant.left_at, one.minutes),
        ),
    )
    return await answer(request, listing, query_text(request, "cursor"))


async def change(request: web.Request) -> web.Response:
    session, member, wanted = await entered_with(request, Change)
    user_id = path_text(request, "user_id", _unknown_participant)
    participant = await moderation.change_participant(
        request.app[LIVE],
        member,
        user_id,
        ParticipantChange(
            mic_allowed=wanted.mic_allowed, camera_allowed=wanted.camera_allowed, was_kicked=wanted.was_kicked
        ),
    )
    seconds = await attendance.seconds(request.app[DATABASE], session.id, [user_id])
    return json_response(_document(session, Attendance(participant, seconds[user_id])))


@dataclass(frozen=True, slots=True)
class Attendance:
    """A participant, and for how many seconds they were there. None: that is not shown to whoever asks."""

    participant: Participant
    seconds: float | None

    @property
    def name(self) -> str:
        return full_name(self.participant.first_name, self.participant.last_name) or self.participant.user_id

    @property
    def minutes(self) -> float | None:
        return None if self.seconds is None else round(self.seconds / 60, 1)


def _role(session: Session, participant: Participant) -> str:
    """S2's word: whoever leads the session or teaches its course, and everybody else."""
    leads = participant.user_id in (session.host_id, session.instructor_id)
    return "instructor" if leads else "student"


def _document(session: Session, one: Attendance) -> dict[str, Any]:
    """S2's SessionParticipant, `online`, and the `minutes` that they were there."""
    participant = one.participant
    return {
        "_id": participant.id,
        "userId": participant.user_id,
        "name": one.name,
        "sessionId": participant.session_id,
        "role": _role(session, participant),
        "joinedAt": participant.joined_at,
        "leftAt": participant.left_at,
        "wasKicked": participant.was_kicked,
        "micAllowed": participant.mic_allowed,
        "cameraAllowed": participant.camera_allowed,
        "handRaised": participant.hand_raised,
        "online": participant.online,
        "minutes": one.minutes,
        "createdAt": participant.created_at,
        "updatedAt": participant.updated_at,
    }


def _unknown_participant() -> NotFound:
    return NotFound("There is no such person in this session.", code="participant_not_found")
