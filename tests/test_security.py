"""Another family's ids, on every route there is: refused, nothing leaked, nothing changed (security.md 2, 5).

The tests walk the route table, so a route is in them from the day it is listed.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import jwt
import pytest
import pytest_asyncio

from handlers.http import sessions
from handlers.http.routes import Route, demo_routes, routes
from tests.support.apps import Answer, App, contents, running_app
from tests.support.families import SECRET_WORDS, Family, body_for, fill, form_for, make_family, parameters
from tests.support.lessons import STRANGERS
from tests.support.tokens import SECRET, mint

PRIVATE: Final = [route for route in routes() if not route.public]
#: What everybody who is signed in may read.
FOR_EVERYBODY: Final = frozenset({"GET /courses/{id}", "GET /courses/{id}/content"})
WITH_PARAMETERS: Final = [
    route for route in PRIVATE if parameters(route.path) and f"{route.method} {route.path}" not in FOR_EVERYBODY
]
WITHOUT_PARAMETERS: Final = [route for route in PRIVATE if not parameters(route.path)]
#: Its answer depends on who asks, and for what: a live class is for everybody, a booking's session is not.
SESSION: Final = Route("GET", "/sessions/{ref}", sessions.show)
WITH_PARAMETERS.append(SESSION)
PRIVATE.append(SESSION)


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


@pytest.fixture
async def theirs(app: App) -> Family:
    return await make_family(app, student="kid", teacher="teach", parent="gran")


@pytest.fixture
async def ours(app: App) -> Family:
    return await make_family(app, student="kid2", teacher="teach2", parent="mum2")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_theirs(shared_app: App) -> Family:
    return await make_family(shared_app, student="kid", teacher="teach", parent="gran")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_ours(shared_app: App) -> Family:
    return await make_family(shared_app, student="kid2", teacher="teach2", parent="mum2")


def methods(route: Route) -> tuple[str, ...]:
    return ("GET", "HEAD") if route.method == "GET" else (route.method,)


def assert_refused(answer: Answer, theirs: Family, *statuses: int) -> None:
    """It says no, and nothing but no."""
    assert answer.status in statuses, answer
    if answer.body:
        assert set(answer.body) == {"error", "message", "status_code"}, answer
        assert answer.body["status_code"] == answer.status
    said = f"{answer.body} {dict(answer.headers)}"
    for secret in (SECRET_WORDS, theirs.room_name, str(theirs.message_id), "Gran", "Mum"):
        assert secret not in said, answer


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("route", WITH_PARAMETERS, ids=named)
async def test_another_familys_ids_open_nothing(
    shared_app: App, shared_ours: Family, shared_theirs: Family, route: Route
) -> None:
    before = await contents(shared_app.pool)
    for who in STRANGERS:
        for method in methods(route):
            answer = await shared_app.call(who, method, fill(route, shared_theirs), body_for(route))
            assert_refused(answer, shared_theirs, 403, 404)
            by_name = fill(route, shared_theirs).replace(
                f"/sessions/{shared_theirs.lesson_id}", f"/sessions/{shared_theirs.room_name}"
            )
            refused = await shared_app.call(who, method, by_name, body_for(route))
            assert refused.status in (403, 404), refused
    # One's own lesson does not lead to what is another's.
    if len(parameters(route.path)) > 1:
        for who in STRANGERS:
            answer = await shared_app.call(who, route.method, fill(route, shared_ours, shared_theirs), body_for(route))
            assert_refused(answer, shared_theirs, 403, 404)
    assert await contents(shared_app.pool) == before


@pytest.mark.parametrize("route", WITH_PARAMETERS, ids=named)
async def test_the_same_request_is_granted_to_those_who_may(app: App, theirs: Family, route: Route) -> None:
    """Else a test above might pass for another reason than who asks."""
    if route.path.endswith("/review"):
        await app.pool.execute("UPDATE bookings SET status = 'completed' WHERE id = $1", theirs.lesson_id)
    if route.path.endswith("/stop-recording"):
        await app.call("boss", "POST", f"/sessions/{theirs.lesson_id}/start-recording")
    form = form_for(route)
    answer = await app.call("boss", route.method, fill(route, theirs), body_for(route), data=form)
    if route.path == "/content/{id}/progress":
        answer = await app.call(theirs.student, route.method, fill(route, theirs), body_for(route))
    if route.path.endswith("/messages/{id}") and route.method == "PATCH":
        answer = await app.call(theirs.student, route.method, fill(route, theirs), body_for(route))
    if route.path.endswith("/pinned-message") and route.method == "PUT":
        answer = await app.call("boss", route.method, fill(route, theirs), {"id": str(theirs.message_id)})
    if route.path.startswith("/children/"):
        answer = await app.call("mum", route.method, fill(route, theirs), body_for(route))
    if route.path.endswith("/review"):
        answer = await app.call(theirs.student, route.method, fill(route, theirs), body_for(route))
    if route.path == "/uploads/{id}":
        said = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        said |= {"X-HTTP-Method-Override": "HEAD"}
        answer = await app.call(theirs.student, route.method, fill(route, theirs), headers=said)
    if route.path.startswith("/notifications/"):
        answer = await app.call(theirs.teacher, route.method, fill(route, theirs), body_for(route))
    assert answer.status in (200, 201, 204), answer


@pytest.mark.asyncio(loop_scope="module")
async def test_ids_in_queries_and_bodies_open_nothing_either(
    shared_app: App, shared_theirs: Family, shared_ours: Family
) -> None:
    attempts: Mapping[str, list[tuple[str, Any, tuple[int, ...]]]] = {
        "GET /profiles": [("/profiles?user_id=nobody", None, (404,))],
        "POST /profiles": [("/profiles", body_for(route_named("POST /profiles")), (403,))],
        "GET /children": [],  # one's own: who asks is all that it goes by
        "GET /bookings": [
            ("/bookings?student_id=kid", None, (403,)),
            ("/bookings?teacher_id=teach", None, (403,)),
            ("/bookings?student_id=kid&teacher_id=teach", None, (403,)),
            ("/bookings?student_id=nobody", None, (403,)),
            ("/bookings", None, (400,)),
        ],
        "POST /bookings": [("/bookings", body_for(route_named("POST /bookings")), (403,))],
        "GET /availability": [],  # everybody sees when a teacher can be booked
        "POST /availability": [("/availability", body_for(route_named("POST /availability")), (403,))],
        "GET /calendar": [],  # one's own link: who asks is all that it goes by
        "POST /calendar/rotate": [("/calendar/rotate", {"user_id": "kid"}, (403,))],
        "GET /courses": [],  # everybody sees what is taught
        "POST /courses": [("/courses", body_for(route_named("POST /courses")), (403,))],
        "GET /courses/instructor/my-courses": [],  # one's own
        "POST /courses/upload-content": [("/courses/upload-content", None, (403, 415))],  # see test_content.py
        "POST /live-sessions": [
            (
                "/live-sessions",
                {"course_id": str(shared_theirs.course_id), "starts_at": "2040-01-01T09:00:00Z"},
                (403,),
            ),
        ],
        "POST /sessions": [
            ("/sessions", {"courseId": str(shared_theirs.course_id), "startsAt": "2040-01-01T09:00:00Z"}, (403,)),
            ("/sessions", {"booking_id": str(shared_theirs.class_id)}, (403,)),
            ("/sessions", {"booking_id": str(shared_theirs.lesson_id)}, (403,)),
            ("/sessions", {"bookingId": str(shared_theirs.lesson_id)}, (403,)),
            ("/sessions", {"booking_id": shared_theirs.room_name}, (404,)),
        ],
        "POST /uploads": [("/uploads", None, (412,))],  # see handlers/http/test_uploads.py
        "POST /presigned-url": [],  # one's own
        "GET /search/teachers": [("/search/teachers", None, (400,))],  # teachers are for everybody to find
        "POST /meetings": [
            ("/meetings", {"session_id": str(shared_theirs.lesson_id)}, (403,)),
            ("/meetings", {"sessionId": shared_theirs.room_name}, (403,)),
        ],
        "DELETE /meetings": [("/meetings", {"meeting_id": str(shared_theirs.meeting_id)}, (403,))],
        "POST /attendees": [
            ("/attendees", {"meeting_id": str(shared_theirs.meeting_id), "user_id": user_id, "name": "Kid"}, (403,))
            for user_id in ("kid", *STRANGERS)
        ],
        "GET /notifications": [],  # one's own: who asks is all that they go by
        "POST /notifications/read-all": [],
        "GET /admin/stats": [("/admin/stats", None, (403,))],
        "GET /admin/students": [(f"/admin/students{query}", None, (403,)) for query in ("", "?q=kid", "?format=csv")],
        "GET /admin/tutors": [(f"/admin/tutors{query}", None, (403,)) for query in ("", "?q=teach", "?format=csv")],
        "GET /admin/allocations": [(f"/admin/allocations{query}", None, (403,)) for query in ("", "?format=csv")],
        "POST /admin/allocations": [("/admin/allocations", body_for(route_named("POST /admin/allocations")), (403,))],
        "GET /admin/audit": [(f"/admin/audit{query}", None, (403,)) for query in ("", "?q=kid", "?format=csv")],
    }
    assert set(attempts) == {named(route) for route in WITHOUT_PARAMETERS}, (
        "a new route: how would a stranger misuse it?"
    )
    before = await contents(shared_app.pool)
    for name, tries in attempts.items():
        for path, body, statuses in tries:
            for who in STRANGERS:
                answer = await shared_app.call(who, name.split()[0], path, body)
                assert_refused(answer, shared_theirs, *statuses)
    assert await contents(shared_app.pool) == before


async def test_a_strangers_profile_shows_no_address(app: App, theirs: Family) -> None:
    await app.pool.execute("UPDATE users SET email = 'kid@example.org', email_set = true WHERE id = 'kid'")
    for who in STRANGERS:
        answer = await app.call(who, "GET", f"/profiles?user_id={theirs.student}")
        assert (answer.status, answer.body["profile"]["email"]) == (200, None)


async def test_two_lessons_of_one_teacher_are_two(app: App) -> None:
    """A student of the same teacher is as much a stranger as any."""
    first = await make_family(app, student="kid", teacher="teach", parent="gran")
    await make_family(app, student="kid2", teacher="teach", parent="mum2")
    before = await contents(app.pool)
    for route in WITH_PARAMETERS:
        for who in ("kid2", "mum2"):
            assert_refused(await app.call(who, route.method, fill(route, first), body_for(route)), first, 403, 404)
    assert await contents(app.pool) == before


def route_named(name: str) -> Route:
    return next(route for route in routes() if named(route) == name)


def other_tokens() -> dict[str, str | None]:
    """What is no token of ours, though it says that it is the administrator's."""
    claims = {"sub": "boss", "role": "admin", "exp": int(time.time()) + 3600}
    good = mint("boss", "admin")
    return {
        "none": None,
        "empty": "Bearer ",
        "no scheme": good,
        "basic": f"Basic {good}",
        "garbage": "Bearer x.y.z",
        "expired": f"Bearer {mint('boss', 'admin', exp=int(time.time()) - 1)}",
        "not yet": f"Bearer {mint('boss', 'admin', nbf=int(time.time()) + 3600)}",
        "without end": f"Bearer {mint('boss', 'admin', exp=None)}",
        "another secret": f"Bearer {mint('boss', 'admin', secret='x' * 40)}",
        "unsigned": f"Bearer {jwt.encode(claims, '', 'none')}",
        "another algorithm": f"Bearer {jwt.encode(claims, SECRET, 'HS384')}",
        "cut": f"Bearer {good[:-2]}",
        "critical": f"Bearer {jwt.encode(claims, SECRET, 'HS256', headers={'crit': ['x'], 'x': 1})}",
        "no role": f"Bearer {mint('boss', 'king')}",
    }


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("kind", other_tokens())
async def test_without_a_token_of_ours_every_private_route_is_401(
    shared_app: App, shared_theirs: Family, kind: str
) -> None:
    header = other_tokens()[kind]
    headers = {} if header is None else {"Authorization": header}
    before = await contents(shared_app.pool)
    for route in PRIVATE:
        for method in methods(route):
            answer = await shared_app.call(None, method, fill(route, shared_theirs), body_for(route), headers=headers)
            assert_refused(answer, shared_theirs, 401)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert await contents(shared_app.pool) == before


async def test_public_routes_and_no_others_answer_without_a_token(app: App) -> None:
    public = [route for route in routes() if route.public]
    assert {route.path for route in public} == {
        "/healthz",
        "/readyz",
        "/calendar/{user}.ics",
        "/webhooks/daily",  # it is signed: handlers/http/test_webhooks.py
        "/uploads",  # what is spoken there
        "/uploads/once/{token}",
        "/files/{token}",
        "/sessions/{ref}",  # a live class; a booking's session is tried above
        "/sessions/instructor/{instructor_id}",
    }
    for route in public:
        if parameters(route.path) or route.path == "/webhooks/daily":
            continue  # a link with a token of its own: handlers/http/test_calendars.py; cards: test_live_sessions.py
        assert (await app.call(None, route.method, route.path)).status in (200, 204)
    assert all(route.public and route.path.startswith("/demo") for route in demo_routes())


async def test_the_app_serves_what_the_table_lists_and_the_pages(app: App) -> None:
    """No route is added beside the table, where these tests would not see it."""
    resources = {re.sub(r"\{(\w+):.*\}", r"{\1}", r.canonical) for r in app.client.app.router.resources()}
    assert resources == {route.path for route in routes()} | {"/", "/static/{path}", "/socket.io/"}


async def test_whoever_was_removed_is_refused_like_a_stranger(app: App, theirs: Family) -> None:
    kick = await app.call("teach", "PATCH", f"/sessions/{theirs.lesson_id}/participants/gran", {"wasKicked": True})
    assert kick.status == 200
    before = await contents(app.pool)
    of_their_child = ("GET", "/sessions/{ref}/recording-consent")  # a guardian decides that from outside, too
    for route in WITH_PARAMETERS:
        if route.path.startswith("/sessions/") and (route.method, route.path) != of_their_child:
            answer = await app.call("gran", route.method, fill(route, theirs), body_for(route))
            assert (answer.status, answer.error) == (403, "kicked"), named(route)
    assert await contents(app.pool) == before
