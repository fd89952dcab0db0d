"""What people make of a course's content: progress, comments, likes; and the report of it for whoever gives it."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import Meta

from domain import content, courses, engagement
from domain.engagement import DEFAULT_DAYS, MAX_COMMENT_CHARACTERS, MAX_DAYS, MAX_POSITION_SECONDS
from domain.errors import invalid
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import DATABASE
from handlers.http.requests import identity_of, path_uuid, piece_of, query_limit, query_text, query_whole_number
from store import engagement as store


class SaidProgress(msgspec.Struct, frozen=True):
    position_seconds: Annotated[int, Meta(ge=0, le=MAX_POSITION_SECONDS)]
    completed: bool | None = None


class NewComment(msgspec.Struct, frozen=True):
    text: Annotated[str, Meta(max_length=MAX_COMMENT_CHARACTERS * 2)]  # white space at its ends does not count


# Progress


async def progress(request: web.Request) -> web.Response:
    found = await engagement.progress(request.app[DATABASE], identity_of(request), _content_id(request))
    return json_response(engagement.progress_document(found))


async def say_progress(request: web.Request) -> web.Response:
    said = await read_body(request, SaidProgress)
    found = await engagement.say_progress(
        request.app[DATABASE],
        identity_of(request),
        _content_id(request),
        position_seconds=said.position_seconds,
        completed=said.completed,
    )
    return json_response(engagement.progress_document(found))


async def progress_in_course(request: web.Request) -> web.Response:
    """One's own progress in a course; everybody's for whoever gives it."""
    course_id = path_uuid(request, "id", courses.unknown_course)
    limit = query_limit(request)
    found = await engagement.progress_in_course(
        request.app[DATABASE], identity_of(request), course_id, after=_progress_cursor(request), limit=limit + 1
    )
    shown, more = piece_of(request, found, limit, lambda one: f"{one.content_id}~{one.user_id}")
    return json_response([engagement.progress_document(one) for one in shown], headers=more)


def _progress_cursor(request: web.Request) -> tuple[UUID, str] | None:
    cursor = query_text(request, "cursor")
    if cursor is None:
        return None
    content_id, _, user_id = cursor.partition("~")
    try:
        return UUID(content_id), user_id
    except ValueError:
        raise invalid({"cursor": "is not one from a Link header"}) from None


async def analytics(request: web.Request) -> web.Response:
    course_id = path_uuid(request, "id", courses.unknown_course)
    days = query_whole_number(request, "days", least=1, most=MAX_DAYS) or DEFAULT_DAYS
    found = await engagement.analytics(request.app[DATABASE], identity_of(request), course_id, days=days)
    return json_response(engagement.analytics_document(course_id, found))


# Comments


async def comments(request: web.Request) -> web.Response:
    """What is said of it, oldest first."""
    content_id, limit = _content_id(request), query_limit(request)
    await content.find(request.app[DATABASE], identity_of(request), content_id)
    found = await store.comments(request.app[DATABASE], content_id, after=_comment_cursor(request), limit=limit + 1)
    shown, more = piece_of(request, found, limit, lambda comment: str(comment.id))
    return json_response([engagement.comment_document(one) for one in shown], headers=more)


async def comment(request: web.Request) -> web.Response:
    content_id, identity = _content_id(request), identity_of(request)
    await content.find(request.app[DATABASE], identity, content_id)
    new = await read_body(request, NewComment)
    said = await engagement.comment(request.app[DATABASE], identity, content_id, new.text)
    return json_response(engagement.comment_document(said), status=201)


async def delete_comment(request: web.Request) -> web.Response:
    comment_id = path_uuid(request, "comment_id", engagement.unknown_comment)
    await engagement.delete_comment(request.app[DATABASE], identity_of(request), _content_id(request), comment_id)
    return json_response({"message": "Comment deleted successfully"})


def _comment_cursor(request: web.Request) -> UUID | None:
    text = query_text(request, "cursor")
    try:
        return None if text is None else UUID(text)
    except ValueError:
        raise invalid({"cursor": "is not one from a Link header"}) from None


# Likes


async def like(request: web.Request) -> web.Response:
    return await _like(request, liked=True)


async def unlike(request: web.Request) -> web.Response:
    return await _like(request, liked=False)


async def _like(request: web.Request, *, liked: bool) -> web.Response:
    count = await engagement.like(request.app[DATABASE], identity_of(request), _content_id(request), liked=liked)
    return json_response({"liked": liked, "like_count": count})


def _content_id(request: web.Request) -> UUID:
    return path_uuid(request, "id", content.unknown_content)
