"""`/admin/allocations`: which tutor teaches which student."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from operator import attrgetter
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from domain import allocations, people
from domain.allocations import NewAllocation
from domain.errors import invalid
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import DATABASE, LIVE
from handlers.http.lists import Listing, answer
from handlers.http.requests import MAX_LIMIT, identity_of, path_uuid, query_seq, query_text
from handlers.payloads import UserId
from store import allocations as store
from store.allocations import Allocation

#: What is shown of an allocation.
_SHOWN: Final = (
    *("id", "student_id", "student_name", "tutor_id", "tutor_name"),
    *("subject_id", "created_by", "created_at"),
)


class New(msgspec.Struct, frozen=True):
    student_id: UserId
    tutor_id: UserId
    subject_id: Annotated[str, Meta(min_length=1, max_length=100)]


async def index(request: web.Request) -> web.StreamResponse:
    people.check_is_admin(identity_of(request))
    pool, about = request.app[DATABASE], query_text(request, "q")

    async def read(before: int | None, limit: int) -> list[Allocation]:
        return await store.newest(pool, about=about, before=before, limit=limit)

    def pieces(before: int | None) -> AsyncIterator[Sequence[Allocation]]:
        assert about is not None, "the whole list needs no search"
        return store.in_pieces(pool, about=about, before=before, size=MAX_LIMIT)

    listing = Listing[Allocation, int](
        name="allocations",
        read=read,
        pieces=None if about is None else pieces,
        cursor=lambda allocation: allocation.number,
        document=_document,
        columns=_SHOWN,
        cells=attrgetter(*_SHOWN),
    )
    return await answer(request, listing, query_seq(request, "cursor"))


async def create(request: web.Request) -> web.Response:
    identity = identity_of(request)
    people.check_is_admin(identity)
    new = await read_body(request, New)
    subject_id = new.subject_id.strip()
    if not subject_id:
        raise invalid({"subject_id": "must not be empty"})
    wanted = NewAllocation(student_id=new.student_id, tutor_id=new.tutor_id, subject_id=subject_id)
    allocation_id, is_new = await allocations.assign(request.app[LIVE], identity, wanted)
    document = {"success": True, "message": "Tutor assigned", "id": allocation_id}
    return json_response(document, status=201 if is_new else 200)


async def delete(request: web.Request) -> web.Response:
    people.check_is_admin(identity_of(request))
    allocation_id = path_uuid(request, "id", allocations.unknown_allocation)
    await allocations.unassign(request.app[DATABASE], identity_of(request), allocation_id)
    return json_response({"success": True, "message": "Tutor unassigned"})


def _document(allocation: Allocation) -> dict[str, Any]:
    return {name: getattr(allocation, name) for name in _SHOWN}
