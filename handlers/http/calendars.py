"""`/bookings/{id}.ics` and `/calendar`: lessons for people's own calendars."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

import msgspec
from aiohttp import hdrs, web

from domain import bookings, calendars, icalendar
from handlers.addresses import public_origin
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import DATABASE, TRUSTED_PROXIES
from handlers.http.requests import identity_of, path_uuid
from handlers.payloads import UserId

#: Of the SHA-256 of a calendar: enough to tell two of its states apart.
_ETAG_CHARACTERS: Final = 32


async def booking(request: web.Request) -> web.Response:
    """One lesson, to be put into a calendar."""
    booking_id = path_uuid(request, "id", bookings.unknown_booking)
    found = await calendars.lesson(request.app[DATABASE], identity_of(request), booking_id, origin=_origin(request))
    return _calendar(request, found, name="lesson.ics")


async def feed(request: web.Request) -> web.Response:
    """Somebody's lessons, for whoever has their link. Public: a calendar program sends no other token."""
    found = await calendars.feed(
        request.app[DATABASE],
        request.match_info["user"],
        request.query.get("token", ""),
        origin=_origin(request),
        now=datetime.now(UTC),
    )
    return _calendar(request, found, name="lessons.ics")


async def show(request: web.Request) -> web.Response:
    """The link to one's own feed."""
    user_id = identity_of(request).user_id
    token = await calendars.link_token(request.app[DATABASE], user_id)
    return json_response({"url": _link(request, user_id, token)})


class Whose(msgspec.Struct, frozen=True):
    user_id: UserId | None = None


async def rotate(request: web.Request) -> web.Response:
    """Another link, oneself's or for an administrator anybody's; the ones so far open nothing any more."""
    identity = identity_of(request)
    whose = await read_body(request, Whose) if request.body_exists else Whose()
    user_id = whose.user_id or identity.user_id
    token = await calendars.new_link_token(request.app[DATABASE], identity, user_id)
    return json_response({"url": _link(request, user_id, token)})


def _link(request: web.Request, user_id: str, token: str) -> str:
    return f"{_origin(request)}/calendar/{quote(user_id, safe='')}.ics?token={token}"


def _origin(request: web.Request) -> str:
    return public_origin(request, request.app.get(TRUSTED_PROXIES, ()))


def _calendar(request: web.Request, body: bytes, *, name: str) -> web.Response:
    etag = hashlib.sha256(body).hexdigest()[:_ETAG_CHARACTERS]
    headers = {hdrs.ETAG: f'"{etag}"', hdrs.CACHE_CONTROL: "private, no-cache"}
    if any(seen.value in (etag, "*") for seen in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    headers[hdrs.CONTENT_DISPOSITION] = f'attachment; filename="{name}"'
    return web.Response(body=body, headers=headers, content_type=icalendar.CONTENT_TYPE, charset="utf-8")
