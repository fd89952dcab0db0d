"""The whole REST API on one page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import aiohttp_cors
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from handlers.http import (
    admin,
    allocations,
    availability,
    bookings,
    calendars,
    children,
    consents,
    content,
    courses,
    demo,
    engagement,
    enrollments,
    files,
    health,
    live_sessions,
    meetings,
    messages,
    notifications,
    participants,
    pins,
    presigned,
    profiles,
    reactions,
    recordings,
    reviews,
    search,
    sessions,
    timeline,
    uploads,
    webhooks,
    whiteboard,
)
from handlers.http.edge import REQUEST_ID_HEADER, open_to_everyone
from handlers.http.streams import expect_later

#: Headers that scripts from other origins may read.
EXPOSED_HEADERS: Final = (
    *(hdrs.LINK, hdrs.ETAG, REQUEST_ID_HEADER, hdrs.RETRY_AFTER, hdrs.LOCATION),
    notifications.UNREAD_COUNT_HEADER,
    *(hdrs.ACCEPT_RANGES, hdrs.CONTENT_RANGE, hdrs.CONTENT_DISPOSITION, hdrs.CONTENT_LENGTH),
    *uploads.RESPONSE_HEADERS,
)
ALLOWED_HEADERS: Final = (
    *(hdrs.AUTHORIZATION, hdrs.CONTENT_TYPE, hdrs.IF_NONE_MATCH, REQUEST_ID_HEADER),
    *(hdrs.RANGE, hdrs.IF_RANGE),
    *uploads.REQUEST_HEADERS,
)
#: Seconds that a browser remembers a preflight's answer; Chromium cuts longer ones to two hours anyway.
PREFLIGHT_SECONDS: Final = 600


_PARAMETER: Final = re.compile(r"{(\w+)}")


class Route(NamedTuple):
    """One line of the API. `public`: needs no token; its handler may still ask who it is. `streams`: it takes its body
    in as it comes, and asks for it when it wants it (:mod:`handlers.http.streams`).

    A parameter of the path is any text without a slash.
    """

    method: str
    path: str
    handler: Handler
    public: bool = False
    streams: bool = False


def routes() -> list[Route]:
    return [
        Route("GET", "/healthz", health.healthz, public=True),
        Route("GET", "/readyz", health.readyz, public=True),
        Route("GET", "/profiles", profiles.show),
        Route("POST", "/profiles", profiles.save),
        Route("GET", "/children", children.index),
        Route("PUT", "/children/{user_id}", children.accept),
        Route("DELETE", "/children/{user_id}", children.leave),
        Route("GET", "/bookings", bookings.index),
        Route("POST", "/bookings", bookings.create),
        Route("GET", "/bookings/{id}.ics", calendars.booking),  # before the next, which it looks like
        Route("GET", "/bookings/{id}", bookings.show),
        Route("PATCH", "/bookings/{id}", bookings.change),
        Route("GET", "/bookings/{id}/session", bookings.session),
        Route("POST", "/bookings/{id}/review", reviews.create),
        Route("GET", "/search/teachers", search.teachers),
        Route("GET", "/availability", availability.index),
        Route("POST", "/availability", availability.create),
        Route("DELETE", "/availability/{id}", availability.delete),
        Route("GET", "/calendar", calendars.show),
        Route("POST", "/calendar/rotate", calendars.rotate),
        Route("GET", "/calendar/{user}.ics", calendars.feed, public=True),  # its link has a token of its own
        Route("GET", "/courses", courses.index),
        Route("POST", "/courses", courses.create),
        Route("GET", "/courses/instructor/my-courses", courses.my_courses),
        Route("GET", "/courses/{id}", courses.show),
        Route("PATCH", "/courses/{id}", courses.change),
        Route("GET", "/courses/{id}/sessions", live_sessions.in_course),
        Route("POST", "/courses/upload-content", content.upload, streams=True),
        Route("POST", "/courses/{id}/thumbnail", content.upload_thumbnail, streams=True),
        Route("GET", "/courses/{id}/content", content.index),
        Route("GET", "/courses/{id}/progress", engagement.progress_in_course),
        Route("GET", "/courses/{id}/analytics", engagement.analytics),
        Route("GET", "/courses/{id}/enrollments", enrollments.index),
        Route("POST", "/courses/{id}/enrollments", enrollments.create),
        Route("DELETE", "/courses/{id}/enrollments/{user_id}", enrollments.delete),
        Route("GET", "/content/{id}", content.show),
        Route("PATCH", "/content/{id}", content.change),
        Route("DELETE", "/content/{id}", content.delete),
        Route("GET", "/content/{id}/progress", engagement.progress),
        Route("PUT", "/content/{id}/progress", engagement.say_progress),
        Route("GET", "/content/{id}/comments", engagement.comments),
        Route("POST", "/content/{id}/comments", engagement.comment),
        Route("DELETE", "/content/{id}/comments/{comment_id}", engagement.delete_comment),
        Route("PUT", "/content/{id}/like", engagement.like),
        Route("DELETE", "/content/{id}/like", engagement.unlike),
        Route("POST", "/sessions", sessions.create),
        Route("GET", "/sessions/instructor/{instructor_id}", live_sessions.of_instructor, public=True),
        Route("GET", "/sessions/{ref}", sessions.show, public=True),  # a class; a booking's asks who it is
        Route("PUT", "/sessions/{ref}", sessions.change),
        Route("PATCH", "/sessions/{ref}", sessions.configure),
        Route("DELETE", "/sessions/{ref}", sessions.delete),
        Route("POST", "/live-sessions", live_sessions.create),
        Route("PATCH", "/live-sessions/{ref}/start", live_sessions.start),
        Route("PATCH", "/live-sessions/{ref}/end", live_sessions.end),
        Route("GET", "/sessions/{ref}/messages", messages.index),
        Route("POST", "/sessions/{ref}/messages", messages.create),
        Route("GET", "/sessions/{ref}/messages/{id}", messages.show),
        Route("PATCH", "/sessions/{ref}/messages/{id}", messages.change),
        Route("DELETE", "/sessions/{ref}/messages/{id}", messages.delete),
        Route("GET", "/sessions/{ref}/messages/{id}/reactions", reactions.index),
        Route("PUT", "/sessions/{ref}/messages/{id}/reactions/{emoji}", reactions.add),
        Route("DELETE", "/sessions/{ref}/messages/{id}/reactions/{emoji}", reactions.remove),
        Route("GET", "/sessions/{ref}/reactions/mine", reactions.own),
        Route("PUT", "/sessions/{ref}/pinned-message", pins.put),
        Route("DELETE", "/sessions/{ref}/pinned-message", pins.delete),
        Route("POST", "/sessions/{ref}/start-recording", recordings.start),
        Route("POST", "/sessions/{ref}/stop-recording", recordings.stop),
        Route("GET", "/sessions/{ref}/recording", recordings.newest),
        Route("GET", "/sessions/{ref}/recordings", recordings.index),
        Route("POST", "/sessions/{ref}/recordings", recordings.create, streams=True),
        Route("DELETE", "/sessions/{ref}/recordings/{id}", recordings.delete),
        Route("GET", "/sessions/{ref}/recording-consent", consents.index),
        Route("PUT", "/sessions/{ref}/recording-consent", consents.put),
        Route("GET", "/sessions/{ref}/timeline", timeline.index),
        Route("GET", "/sessions/{ref}/whiteboard", whiteboard.show),
        Route("DELETE", "/sessions/{ref}/whiteboard", whiteboard.clear),
        Route("GET", "/sessions/{ref}/participants", participants.index),
        Route("PATCH", "/sessions/{ref}/participants/{user_id}", participants.change),
        Route("POST", "/sessions/{ref}/token", meetings.token),
        Route("DELETE", "/sessions/{ref}/token", meetings.leave),
        Route("POST", "/sessions/{ref}/meeting/move", meetings.move),
        Route("POST", "/meetings", meetings.create),
        Route("DELETE", "/meetings", meetings.delete),
        Route("GET", "/meetings/{ref}", meetings.show),
        Route("POST", "/attendees", meetings.attend),
        Route("POST", "/webhooks/daily", webhooks.daily, public=True),  # it is signed
        Route("OPTIONS", "/uploads", uploads.describe, public=True),
        Route("POST", "/uploads", uploads.create, streams=True),
        Route("GET", "/uploads/{id}", uploads.show),
        Route("PATCH", "/uploads/{id}", uploads.append, streams=True),
        Route("POST", "/uploads/{id}", uploads.overridden, streams=True),  # for who can send no PATCH
        Route("DELETE", "/uploads/{id}", uploads.delete),
        Route("POST", "/presigned-url", presigned.create),
        Route("PUT", "/uploads/once/{token}", presigned.put, public=True, streams=True),  # its address has a token
        Route("GET", "/files/{token}", files.show, public=True),  # its link has a token of its own
        Route("GET", "/notifications", notifications.index),
        Route("POST", "/notifications/read-all", notifications.read_all),
        Route("PATCH", "/notifications/{id}", notifications.change),
        Route("GET", "/admin/stats", admin.stats),
        Route("GET", "/admin/students", admin.students),
        Route("GET", "/admin/tutors", admin.tutors),
        Route("GET", "/admin/allocations", allocations.index),
        Route("POST", "/admin/allocations", allocations.create),
        Route("DELETE", "/admin/allocations/{id}", allocations.delete),
        Route("GET", "/admin/audit", admin.audit_log),
    ]


def demo_routes() -> list[Route]:
    """Besides, with `--demo`."""
    return [
        Route("GET", "/demo", demo.show, public=True),
        Route("POST", "/demo/sign-in", demo.sign_in, public=True),
    ]


def apply(app: web.Application, cors_origins: Sequence[str], listed: Sequence[Route] | None = None) -> None:
    """Add the routes to an app that `edge.guard` is around. Pages from `cors_origins` ("*": all) may call."""
    cors = _cors(app, cors_origins)
    app.on_response_prepare.append(uploads.say_version)
    described: dict[str, Handler] = {}
    by_path: dict[str, list[Route]] = {}
    for route in routes() if listed is None else listed:
        by_path.setdefault(route.path, []).append(route)
    for path, of_path in by_path.items():
        # One resource per path: a preflight is answered by the first that fits.
        # Left to itself, aiohttp takes no braces for a parameter, and ids of people may have some.
        resource = app.router.add_resource(_PARAMETER.sub(r"{\1:[^/]+}", path))
        for route in of_path:
            if route.method == hdrs.METH_OPTIONS and cors is not None:
                described[path] = route.handler  # beside the preflights, which aiohttp-cors answers
                continue
            for method in _methods(route):
                expected = expect_later if route.streams else None
                added = resource.add_route(method, route.handler, expect_handler=expected)
                if route.public:
                    open_to_everyone(app, added)
                if cors is not None:
                    cors.add(added)
        for added in resource:
            if added.method == hdrs.METH_OPTIONS:
                # A browser asks before it sends a token.
                open_to_everyone(app, added)
    if described:
        app.middlewares.append(_beside_preflights(described))


def _beside_preflights(described: Mapping[str, Handler]) -> Middleware:
    """Has an OPTIONS that is no browser's question about CORS answered by the route that is listed for it."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers:
            resource = request.match_info.route.resource
            handler = described.get(resource.canonical if resource is not None else "", handler)
        return await handler(request)

    return answer


def _methods(route: Route) -> tuple[str, ...]:
    # HEAD is GET without the body (RFC 9110 §9.3.2); aiohttp leaves the body out.
    return (hdrs.METH_HEAD, route.method) if route.method == hdrs.METH_GET else (route.method,)


def _cors(app: web.Application, origins: Sequence[str]) -> aiohttp_cors.CorsConfig | None:
    if not origins:
        return None
    options = aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call]
        expose_headers=EXPOSED_HEADERS, allow_headers=ALLOWED_HEADERS, max_age=PREFLIGHT_SECONDS
    )
    app.on_response_prepare.append(_vary_by_origin)
    return aiohttp_cors.setup(app, defaults=dict.fromkeys(origins, options))


async def _vary_by_origin(_request: web.Request, response: web.StreamResponse) -> None:
    # aiohttp-cors leaves it out, and a cache would show one origin the answer to another.
    response.headers.add(hdrs.VARY, hdrs.ORIGIN)
