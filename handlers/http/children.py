"""`/children`: the students who name somebody as their parent, and what the parent says to that."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from domain import people
from handlers.http.bodies import json_response
from handlers.http.keys import DATABASE, LIVE
from handlers.http.requests import identity_of, path_text
from store import users
from store.users import User

#: Strangers may name anybody as their parent; the children whom one has accepted come first.
MAX_CHILDREN: Final = 200


async def index(request: web.Request) -> web.Response:
    children = await users.children_of(request.app[DATABASE], identity_of(request).user_id, limit=MAX_CHILDREN)
    return json_response([_document(child) for child in children])


async def accept(request: web.Request) -> web.Response:
    child_id = path_text(request, "user_id", people.unknown_child)
    child = await people.accept_child(request.app[DATABASE], identity_of(request), child_id)
    return json_response(_document(child))


async def leave(request: web.Request) -> web.Response:
    child_id = path_text(request, "user_id", people.unknown_child)
    identity = identity_of(request)
    await people.leave_child(request.app[DATABASE], identity, child_id)
    request.app[LIVE].audience.changed({identity.user_id, child_id})
    return json_response({"message": "You are no longer this student's parent"})


def _document(child: User) -> dict[str, Any]:
    return {"user_id": child.id, "name": child.name, "accepted": child.parent_accepted}
