"""`/courses` and who is enrolled, as the contract has them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.apps import Answer, App, contents, running_app
from tests.support.lessons import live_session


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


async def make(app: App, who: str = "teach", **body: Any) -> dict[str, Any]:
    answer = await app.call(who, "POST", "/courses", {"title": "Algebra"} | body)
    assert answer.status == 201, answer
    assert answer.headers["Location"] == f"/courses/{answer.body['id']}"
    document: dict[str, Any] = answer.body
    return document


async def enroll(app: App, who: str, course: dict[str, Any], **body: Any) -> Answer:
    return await app.call(who, "POST", f"/courses/{course['id']}/enrollments", body)


async def test_a_teacher_makes_a_course_and_everybody_who_is_signed_in_reads_it(app: App) -> None:
    course = await make(app, description="x + 1")
    assert course == {
        "id": course["id"],
        "title": "Algebra",
        "description": "x + 1",
        "instructor_id": "teach",
        "thumbnail_url": None,
        "enrollment_count": 0,
        "created_at": course["created_at"],
        "updated_at": course["created_at"],
    }
    for who in ("kid", "mum", "teach2", "boss"):
        assert (await app.call(who, "GET", f"/courses/{course['id']}")).body == course
        assert (await app.call(who, "GET", "/courses")).body == [course]
    for path in ("/courses", f"/courses/{course['id']}"):
        assert (await app.call(None, "GET", path)).status == 401


@pytest.mark.parametrize(
    ("who", "body", "status", "said"),
    [
        ("kid", {"title": "X"}, 403, "forbidden"),
        ("mum", {"title": "X"}, 403, "forbidden"),
        ("teach", {"title": "X", "instructor_id": "teach2"}, 403, "forbidden"),
        ("teach", {}, 400, "title"),
        ("teach", {"title": "   "}, 400, "title"),
        ("teach", {"title": "x" * 201}, 400, "title"),
        ("teach", {"title": 7}, 400, "title"),
        ("teach", {"title": "X", "description": "x" * 10_001}, 400, "description"),
        ("boss", {"title": "X", "instructor_id": "kid"}, 400, "instructor_id"),
        ("boss", {"title": "X", "instructorId": "nobody"}, 400, "instructor_id"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_is_no_course_is_refused(app: App, who: str, body: dict[str, Any], status: int, said: str) -> None:
    answer = await app.call(who, "POST", "/courses", body)
    assert answer.status == status
    assert (list(answer.body["fields"]) if status == 400 else [answer.error]) == [said]
    assert await app.pool.fetchval("SELECT count(*) FROM courses") == 0


async def test_an_admin_makes_one_for_a_teacher(app: App) -> None:
    assert (await make(app, "boss", instructorId="teach"))["instructor_id"] == "teach"


async def test_its_instructor_edits_it(app: App) -> None:
    course = await make(app)
    path = f"/courses/{course['id']}"
    changed = await app.call("teach", "PATCH", path, {"title": "Geometry", "description": "Lines"})
    assert (changed.status, changed.body["title"], changed.body["description"]) == (200, "Geometry", "Lines")
    assert changed.body["updated_at"] > course["updated_at"]
    for who, body, status in (
        ("teach2", {"title": "Mine"}, 403),
        ("kid", {"title": "Mine"}, 403),
        ("teach", {}, 400),
        ("teach", {"title": " "}, 400),
        ("teach", {"instructor_id": "teach2"}, 403),
    ):
        assert (await app.call(who, "PATCH", path, body)).status == status
    assert (await app.call("kid", "GET", path)).body == changed.body


@pytest.mark.parametrize("course_id", ["5d0f7f0e-3f4b-4c53-9d38-6a0c1f2e7b94", "x", "instructor", "%00"])
async def test_a_course_that_is_not_there_is_404(app: App, course_id: str) -> None:
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"title": "X"}),
        ("GET", "/sessions", None),
        ("GET", "/enrollments", None),
        ("POST", "/enrollments", {}),
        ("DELETE", "/enrollments/kid", None),
    ):
        answer = await app.call("boss", method, f"/courses/{course_id}{path}", body)
        assert (answer.status, answer.error) == (404, "course_not_found"), (method, path)


async def pages(app: App, who: str | None, path: str) -> list[Any]:
    """Everything of a list, piece by piece as its Link headers lead."""
    found: list[Any] = []
    while True:
        answer = await app.call(who, "GET", path)
        assert answer.status == 200, answer
        found.append(answer.body)
        if "Link" not in answer.headers:
            return found
        target, _, rel = answer.headers["Link"].partition("; ")
        assert rel == 'rel="next"'
        path = target.strip("<>")


async def test_the_lists_lead_on_newest_first(app: App) -> None:
    made = [await make(app, title=f"Course {number}") for number in range(5)]
    await make(app, "teach2")
    listed = await pages(app, "kid", "/courses?limit=2")
    assert [len(page) for page in listed] == [2, 2, 2]
    assert [course["id"] for page in listed for course in page][1:] == [course["id"] for course in reversed(made)]
    mine = await pages(app, "teach", "/courses/instructor/my-courses?limit=3")
    assert [course["id"] for page in mine for course in page] == [course["id"] for course in reversed(made)]
    answer = await app.call("kid", "GET", "/courses?cursor=x")
    assert (answer.status, list(answer.body["fields"])) == (400, ["cursor"])


async def test_an_instructors_courses_come_with_their_numbers(app: App) -> None:
    course = await make(app)
    for who in ("kid", "kid2"):
        assert (await enroll(app, who, course)).status == 201
    await live_session(app.pool, course_id=course["id"])
    [mine] = (await app.call("teach", "GET", "/courses/instructor/my-courses")).body
    assert mine == course | {"enrollment_count": 2, "content_count": 0, "session_count": 1}
    assert (await app.call("teach2", "GET", "/courses/instructor/my-courses")).body == []
    assert (await app.call("kid", "GET", "/courses/instructor/my-courses")).status == 403


async def test_somebody_is_enrolled_with_201_and_again_with_200(app: App) -> None:
    course = await make(app)
    for status in (201, 200):
        answer = await enroll(app, "kid", course)
        assert (answer.status, answer.body) == (
            status,
            {
                "course_id": course["id"],
                "user_id": "kid",
                "name": "Kid",
                "tier": "standard",
                "created_at": answer.body["created_at"],
            },
        )
    assert (await enroll(app, "mum", course, userId="kid")).status == 200
    premium = await enroll(app, "teach", course, user_id="kid", tier="premium")
    assert (premium.status, premium.body["tier"]) == (200, "premium")
    assert (await app.call("kid", "GET", f"/courses/{course['id']}")).body["enrollment_count"] == 1


@pytest.mark.parametrize(
    ("who", "body", "status"),
    [
        ("kid2", {"user_id": "kid"}, 403),
        ("mum2", {"user_id": "kid"}, 403),
        ("mum", {}, 400),
        ("teach2", {}, 403),
        ("teach2", {"user_id": "kid"}, 403),
        ("kid", {"tier": "premium"}, 403),
        ("mum", {"user_id": "kid", "tier": "standard"}, 403),
        ("teach", {"user_id": "kid", "tier": "gold"}, 400),
        ("teach", {"user_id": "nobody"}, 400),
        ("teach", {"user_id": "mum"}, 400),
        ("teach", {}, 400),
        ("teach", {"user_id": ""}, 400),
        ("boss", {"user_id": 7}, 400),
    ],
    ids=str,
)
async def test_who_may_not_enrol_whom(app: App, who: str, body: dict[str, Any], status: int) -> None:
    course = await make(app)
    before = await contents(app.pool)
    assert (await enroll(app, who, course, **body)).status == status
    assert await contents(app.pool) == before


async def test_the_instructor_and_admins_see_who_is_enrolled(app: App) -> None:
    course = await make(app)
    for who in ("kid", "kid2"):
        await enroll(app, who, course)
    path = f"/courses/{course['id']}/enrollments"
    for who in ("teach", "boss"):
        listed = await pages(app, who, f"{path}?limit=1")
        assert [[one["user_id"] for one in page] for page in listed] == [["kid"], ["kid2"]]
    for who in ("kid", "mum", "teach2"):
        answer = await app.call(who, "GET", path)
        assert (answer.status, answer.error) == (403, "not_instructor")


async def test_an_enrolment_ends(app: App) -> None:
    course = await make(app)
    path = f"/courses/{course['id']}/enrollments"
    for who in ("kid", "mum", "teach", "boss"):
        await enroll(app, "kid", course)
        for stranger in ("kid2", "teach2", "mum2", "gran"):
            assert (await app.call(stranger, "DELETE", f"{path}/kid")).status == 403
        ended = await app.call(who, "DELETE", f"{path}/kid")
        assert (ended.status, ended.body) == (200, {"message": "Enrollment ended successfully"})
        again = await app.call(who, "DELETE", f"{path}/kid")
        assert (again.status, again.error) == (404, "enrollment_not_found")
    assert (await app.call("kid", "GET", f"/courses/{course['id']}")).body["enrollment_count"] == 0
