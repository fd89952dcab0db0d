"""`/courses/{id}/enrollments`: who takes part in a course."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from domain import courses
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import DATABASE, LIVE
from handlers.http.requests import identity_of, path_text, path_uuid, piece_of, query_limit, query_text
from handlers.payloads import UserId
from store import enrollments as store
from store.enrollments import Enrollment, Tier


class NewEnrollment(msgspec.Struct, frozen=True):
    """`user_id`: oneself by default."""

    user_id: UserId | None = None
    tier: Tier | None = None


async def index(request: web.Request) -> web.Response:
    course_id = path_uuid(request, "id", courses.unknown_course)
    limit = query_limit(request)
    courses.require_instructor(await courses.read(request.app[DATABASE], course_id), identity_of(request))
    found = await store.in_course(
        request.app[DATABASE], course_id, after=query_text(request, "cursor"), limit=limit + 1
    )
    shown, more = piece_of(request, found, limit, lambda enrollment: enrollment.user_id)
    return json_response([_document(enrollment) for enrollment in shown], headers=more)


async def create(request: web.Request) -> web.Response:
    course_id = path_uuid(request, "id", courses.unknown_course)
    new = await read_body(request, NewEnrollment)
    enrollment, is_new = await courses.enroll(
        request.app[DATABASE], identity_of(request), course_id, student_id=new.user_id, tier=new.tier
    )
    return json_response(_document(enrollment), status=201 if is_new else 200)


async def delete(request: web.Request) -> web.Response:
    course_id = path_uuid(request, "id", courses.unknown_course)
    student_id = path_text(request, "user_id", courses.unknown_enrollment)
    await courses.end_enrollment(request.app[LIVE], identity_of(request), course_id, student_id)
    return json_response({"message": "Enrollment ended successfully"})


def _document(enrollment: Enrollment) -> dict[str, Any]:
    return {
        "course_id": enrollment.course_id,
        "user_id": enrollment.user_id,
        "name": enrollment.name,
        "tier": enrollment.tier,
        "created_at": enrollment.created_at,
    }
