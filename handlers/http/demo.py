"""`/demo`: sign in as anyone. Served only with `--demo`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import web

from domain import demo, school
from domain.errors import NotFound
from domain.tokens import issue
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import DATABASE, DEMO_SECRET

#: Seconds that a demo token holds: a working day.
TOKEN_SECONDS = 8 * 3600


class SignIn(msgspec.Struct, frozen=True):
    user_id: str


async def show(request: web.Request) -> web.Response:
    """The people to be, and the lessons to join."""
    people = [demo.person_document(person) for person in demo.PEOPLE]
    names = " and ".join(person["name"] for person in people if person["role"] in ("teacher", "student"))
    lessons: list[dict[str, Any]] = [
        msgspec.to_builtins(lesson) | {"with": names} for lesson in await demo.lessons(request.app[DATABASE])
    ]
    return json_response({"people": people, "lessons": lessons})


async def sign_in(request: web.Request) -> web.Response:
    wanted = await read_body(request, SignIn)
    person = demo.person(wanted.user_id) or school.person(wanted.user_id)
    if person is None:
        raise NotFound("The demo has no such person.", code="person_not_found")
    document = demo.person_document(person)
    settings = request.app[DEMO_SECRET]
    token = issue(
        settings.secret,
        user_id=person.user_id,
        role=person.role,
        name=document["name"],
        email=person.email,
        ttl_seconds=TOKEN_SECONDS,
        issuer=settings.issuer,
        audience=settings.audience,
    )
    expires_at = datetime.fromtimestamp(time.time() + TOKEN_SECONDS, UTC)
    return json_response({"token": token, "expires_at": expires_at, "user": document})
