"""`/sessions/{ref}/recordings` and around: a lesson is recorded, and watched again."""

from __future__ import annotations

from uuid import UUID

from aiohttp import web

from domain import access, recording_files, recordings
from domain.access import Member
from domain.errors import Forbidden, NotFound, invalid
from handlers.http.bodies import json_response
from handlers.http.forms import receive_form
from handlers.http.keys import DATABASE, LIVE, UPLOADS
from handlers.http.links import links_of
from handlers.http.messages import entered
from handlers.http.requests import identity_of, path_uuid, piece_of, query_limit, query_text, query_word
from store import recordings as store
from store.sessions import Session


async def start(request: web.Request) -> web.Response:
    ref = request.match_info["ref"]
    _, member = await _entered(request, recordings.may_not_record(ref))
    return json_response(recordings.started(await recordings.start(request.app[LIVE], member, ref)))


async def stop(request: web.Request) -> web.Response:
    """End the recording, and with it the session unless `?end=false`."""
    ref = request.match_info["ref"]
    _, member = await _entered(request, recordings.may_not_stop(ref))
    ends = query_word(request, "end", ("true", "false")) != "false"
    return json_response(recordings.stopped(await recordings.stop(request.app[LIVE], member, ref, end=ends)))


async def newest(request: web.Request) -> web.Response:
    """The session's newest recording, with a link to watch it and one to save it."""
    ref = request.match_info["ref"]
    session, _ = await _entered(request, recordings.may_not_see(ref))
    found = await store.of_session(request.app[DATABASE], session.id, limit=1)
    if not found:
        raise NotFound("This session has not been recorded", code="recording_not_found")
    recording = found[0]
    links = await links_of(request)
    return json_response(
        recordings.newest_document(
            recording,
            url=links.of_recording(recording),
            download_url=links.of_recording(recording, save=True),
            expires_at=links.expires_at,
        )
    )


async def index(request: web.Request) -> web.Response:
    """All recordings of the session, newest first."""
    limit = query_limit(request)
    session, _ = await entered(request)
    found = await store.of_session(request.app[DATABASE], session.id, before=_cursor(request), limit=limit + 1)
    shown, more = piece_of(request, found, limit, lambda recording: str(recording.id))
    links = await links_of(request)
    documents = [
        recordings.document(recording, links.of_recording(recording), links.of_recording(recording, save=True))
        for recording in shown
    ]
    return json_response(documents, headers=more)


async def create(request: web.Request) -> web.Response:
    """Take in the file of a recording. Who may not send one is told before any of it is read."""
    doors, identity = request.app[UPLOADS], identity_of(request)
    ref = access.session_ref(request.match_info["ref"])
    session = await recording_files.may_upload(request.app[DATABASE], ref, identity)
    known = {"session_id": str(session.id)}
    admissions = {"file": await doors.admit(identity, "recording", known)}
    async with receive_form(request, {"file": "recording"}, ("recording_id",), admissions=admissions) as form:
        # Again, and for which recording: a file takes its time to come.
        file = await form.finish("file", await doors.admit(identity, "recording", form.fields | known))
    recording = await store.of_file(request.app[DATABASE], file.id)
    if recording is None:
        # Deleted, or looked through and refused, before this could be said.
        raise recordings.unknown_recording()
    links = await links_of(request)
    return json_response(
        recordings.document(recording, links.read(file.id), links.save(file.id)),
        status=201,
        headers={"Location": f"/sessions/{session.id}/recordings"},
    )


async def delete(request: web.Request) -> web.Response:
    _, member = await entered(request)
    recording_id = path_uuid(request, "id", recordings.unknown_recording)
    await recordings.delete(request.app[LIVE], member, recording_id)
    return json_response({"message": "Recording deleted successfully"})


async def _entered(request: web.Request, refusal: Forbidden) -> tuple[Session, Member]:
    """The session, and who asks as its member. Strangers are refused in the words of what they asked for."""
    try:
        return await entered(request)
    except Forbidden as refused:
        raise Forbidden(refusal.message, code=refused.code) from None


def _cursor(request: web.Request) -> UUID | None:
    text = query_text(request, "cursor")
    try:
        return None if text is None else UUID(text)
    except ValueError:
        raise invalid({"cursor": "is not one from a Link header"}) from None
