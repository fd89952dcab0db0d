"""`/courses`: what is taught, and by whom."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta

from domain import courses
from domain.errors import Forbidden
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import DATABASE, LIVE
from handlers.http.links import Links, links_of
from handlers.http.requests import cursor_of, identity_of, path_uuid, piece_of, query_limit, query_position
from handlers.payloads import UserId
from store import courses as store
from store.courses import Course

Title = Annotated[str, Meta(max_length=courses.MAX_TITLE_CHARACTERS)]
Description = Annotated[str, Meta(max_length=courses.MAX_DESCRIPTION_CHARACTERS)]


class NewCourse(msgspec.Struct, frozen=True):
    title: Title
    description: Description = ""
    instructor_id: UserId | None = None


class CourseChange(msgspec.Struct, frozen=True):
    title: Title | None = None
    description: Description | None = None
    instructor_id: UserId | None = None


async def index(request: web.Request) -> web.Response:
    limit = query_limit(request)
    found = await store.newest(request.app[DATABASE], after=query_position(request), limit=limit + 1)
    shown, more = piece_of(request, found, limit, lambda course: cursor_of(course.created_at, course.id))
    links = await links_of(request)
    return json_response([document(course, links) for course in shown], headers=more)


async def create(request: web.Request) -> web.Response:
    new = await read_body(request, NewCourse)
    course = await courses.make(
        request.app[DATABASE],
        identity_of(request),
        title=new.title,
        description=new.description,
        instructor_id=new.instructor_id,
    )
    return json_response(
        document(course, await links_of(request)), status=201, headers={"Location": f"/courses/{course.id}"}
    )


async def show(request: web.Request) -> web.Response:
    course = await courses.read(request.app[DATABASE], path_uuid(request, "id", courses.unknown_course))
    return json_response(document(course, await links_of(request)))


async def change(request: web.Request) -> web.Response:
    course_id = path_uuid(request, "id", courses.unknown_course)
    wanted = await read_body(request, CourseChange)
    course = await courses.change(
        request.app[LIVE],
        identity_of(request),
        course_id,
        courses.CourseChange(title=wanted.title, description=wanted.description, instructor_id=wanted.instructor_id),
    )
    return json_response(document(course, await links_of(request)))


async def my_courses(request: web.Request) -> web.Response:
    """One's own courses, with what there is in each."""
    identity = identity_of(request)
    if identity.role not in ("teacher", "admin"):
        raise Forbidden("Only a teacher has courses of their own.")
    limit = query_limit(request)
    found = await store.taught_by(
        request.app[DATABASE], identity.user_id, after=query_position(request), limit=limit + 1
    )
    shown, more = piece_of(request, found, limit, lambda one: cursor_of(one.course.created_at, one.course.id))
    links = await links_of(request)
    documents = [
        document(taught.course, links)
        | {"content_count": taught.course.content_count, "session_count": taught.session_count}
        for taught in shown
    ]
    return json_response(documents, headers=more)


def document(course: Course, links: Links) -> dict[str, Any]:
    """A course as everybody sees it; the link to its picture expires."""
    return {
        "id": course.id,
        "title": course.title,
        "description": course.description,
        "instructor_id": course.instructor_id,
        "thumbnail_url": None if course.thumbnail_file_id is None else links.read(course.thumbnail_file_id),
        "enrollment_count": course.enrollment_count,
        "created_at": course.created_at,
        "updated_at": course.updated_at,
    }
