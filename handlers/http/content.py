"""`/courses/…/content` and `/content`: the films and sounds of a course."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import Meta

from domain import content, content_files, courses
from domain.content import MAX_DESCRIPTION_CHARACTERS, MAX_ORDER, MAX_TITLE_CHARACTERS
from domain.errors import Forbidden, invalid
from domain.purposes import Admission, id_in
from handlers.http.bodies import json_response, read_body
from handlers.http.courses import document as course_document
from handlers.http.forms import receive_form
from handlers.http.keys import DATABASE, UPLOADS
from handlers.http.links import Links, links_of
from handlers.http.requests import identity_of, path_uuid, piece_of, query_limit, query_text
from store import content as store
from store.content import AccessLevel, Content, Found, Place

#: The fields of a form that brings content.
FIELDS: Final = ("course_id", "type", "title", "description", "is_preview", "access_level", "content_order")


class ContentChange(msgspec.Struct, frozen=True):
    title: Annotated[str, Meta(min_length=1, max_length=MAX_TITLE_CHARACTERS)] | None = None
    description: Annotated[str, Meta(max_length=MAX_DESCRIPTION_CHARACTERS)] | None = None
    content_order: Annotated[int, Meta(ge=0, le=MAX_ORDER)] | None = None
    is_preview: bool | None = None
    access_level: AccessLevel | None = None


async def index(request: web.Request) -> web.Response:
    """A course's content in its order; what is locked to whoever asks is listed without its file."""
    course_id = path_uuid(request, "id", courses.unknown_course)
    limit = query_limit(request)
    found = await content.listing(
        request.app[DATABASE], identity_of(request), course_id, after=_place(request), limit=limit + 1
    )
    shown, more = piece_of(request, found, limit, lambda row: f"{row[0].content_order}~{row[0].id}")
    links = await links_of(request)
    return json_response([_document(piece, links, locked=locked) for piece, locked in shown], headers=more)


async def show(request: web.Request) -> web.Response:
    content_id, identity = _content_id(request), identity_of(request)
    # HEAD only asks: nobody has looked at it.
    look = content.look_at if request.method == "GET" else content.find
    return await _answer(request, await look(request.app[DATABASE], identity, content_id))


async def upload(request: web.Request) -> web.Response:
    """Take in a film or a sound for a course, and a picture of it."""
    doors, identity, pool = request.app[UPLOADS], identity_of(request), request.app[DATABASE]
    if identity.role not in ("teacher", "admin"):
        raise Forbidden("Only the course's instructor may do this.", code="not_instructor")

    async def admit(part: str, fields: Mapping[str, str]) -> Admission | None:
        """As much as the fields before the file tell: who may not send it does not have to send it first."""
        if not fields.get("course_id", "").strip():
            return None
        await content_files.check_may_add(pool, identity, id_in(fields, "course_id"))
        is_whole = part == "file" and {"type", "title"} <= fields.keys()
        return await doors.admit(identity, "content", fields) if is_whole else None

    async with receive_form(request, {"file": "content", "thumbnail": "thumbnail"}, FIELDS, admit=admit) as form:
        # Again, by all that the form says: a file takes its time to come, and fields may stand behind it.
        admission = await doors.admit(identity, "content", form.fields)
        file = await form.finish("file", admission)
        piece = await store.of_file(pool, file.id)
        if piece is None:
            raise content.unknown_content()  # deleted as soon as it was there
        if "thumbnail" in form.files:
            named = {"course_id": str(piece.course_id), "content_id": str(piece.id)}
            await form.finish("thumbnail", await doors.admit(identity, "thumbnail", named))
    found = await content.to_give(pool, identity, piece.id)
    return await _answer(request, found, status=201, headers={"Location": f"/content/{piece.id}"})


async def upload_thumbnail(request: web.Request) -> web.Response:
    """A picture of a course."""
    doors, identity, pool = request.app[UPLOADS], identity_of(request), request.app[DATABASE]
    course_id = path_uuid(request, "id", courses.unknown_course)
    named = {"course_id": str(course_id)}
    admissions = {"file": await doors.admit(identity, "thumbnail", named)}
    async with receive_form(request, {"file": "thumbnail"}, admissions=admissions) as form:
        await form.finish("file", await doors.admit(identity, "thumbnail", named))
    return json_response(course_document(await courses.read(pool, course_id), await links_of(request)), status=201)


async def change(request: web.Request) -> web.Response:
    content_id, identity = _content_id(request), identity_of(request)
    await content.to_give(request.app[DATABASE], identity, content_id)
    wanted = await read_body(request, ContentChange)
    found = await content.change(
        request.app[DATABASE],
        identity,
        content_id,
        content.ContentChange(
            title=wanted.title,
            description=wanted.description,
            content_order=wanted.content_order,
            is_preview=wanted.is_preview,
            access_level=wanted.access_level,
        ),
    )
    return await _answer(request, found)


async def delete(request: web.Request) -> web.Response:
    await content.delete(request.app[DATABASE], identity_of(request), _content_id(request))
    return json_response({"message": "Content deleted successfully"})


async def _answer(
    request: web.Request, found: Found, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    piece, links = found.content, await links_of(request)
    shown = _document(piece, links, locked=False) | {"liked": found.liked}
    return json_response(shown, status=status, headers=headers)


def _document(piece: Content, links: Links, *, locked: bool) -> dict[str, Any]:
    return content.document(piece, links.of_content, locked=locked)


def _content_id(request: web.Request) -> UUID:
    return path_uuid(request, "id", content.unknown_content)


def _place(request: web.Request) -> Place | None:
    """The place after which the list goes on, as :func:`index` wrote it, or None."""
    cursor = query_text(request, "cursor")
    if cursor is None:
        return None
    order, _, content_id = cursor.partition("~")
    try:
        return Place(content_order=max(0, min(int(order), MAX_ORDER)), id=UUID(content_id))
    except ValueError:
        raise invalid({"cursor": "is not one from a Link header"}) from None
