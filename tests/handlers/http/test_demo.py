"""`/demo`: signing in as anyone, where that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain import demo
from domain.tokens import SecretVerifier
from store import sessions
from store.database import connect
from tests.support.apps import App, running_app
from tests.support.tokens import SECRET


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database, demo_secret=SECRET) as app:
        await demo.prepare(app.pool)
        yield app


async def test_the_demo_shows_its_people_and_its_lesson(app: App) -> None:
    answer = await app.call(None, "GET", "/demo")
    assert answer.status == 200
    assert [(person["user_id"], person["role"]) for person in answer.body["people"]] == [
        ("demo-teacher", "teacher"),
        ("demo-student", "student"),
        ("demo-parent", "parent"),
        ("demo-admin", "admin"),
    ]
    [lesson] = answer.body["lessons"]
    assert (lesson["title"], lesson["status"]) == (demo.LESSON_TITLE, "scheduled")
    assert lesson["starts_at"].endswith("Z")


async def sign_in(app: App, user_id: str) -> dict[str, Any]:
    answer = await app.call(None, "POST", "/demo/sign-in", {"user_id": user_id})
    assert answer.status == 200
    document: dict[str, Any] = answer.body
    return document


@pytest.mark.parametrize("person", demo.PEOPLE, ids=lambda person: person.user_id)
async def test_whoever_signs_in_is_in_the_lesson(app: App, person: Any) -> None:
    signed_in = await sign_in(app, person.user_id)
    identity = await SecretVerifier(SECRET).verify(signed_in["token"])
    assert (identity.user_id, identity.role, identity.first_name) == (person.user_id, person.role, person.first_name)
    assert datetime.fromisoformat(signed_in["expires_at"]) > datetime.now(UTC) + timedelta(hours=7)
    [lesson] = (await app.call(None, "GET", "/demo")).body["lessons"]
    headers = {"Authorization": f"Bearer {signed_in['token']}"}
    posted = await app.call(None, "POST", f"/sessions/{lesson['room_name']}/messages", {"text": "hi"}, headers=headers)
    assert (posted.status, posted.body["from"]) == (201, signed_in["user"]["name"])


@pytest.mark.parametrize("user_id", ["nobody", "kid", "", "demo-admin\x00"])
async def test_nobody_else_signs_in(app: App, user_id: str) -> None:
    answer = await app.call(None, "POST", "/demo/sign-in", {"user_id": user_id})
    assert answer.status in (400, 404)
    assert "token" not in answer.body


async def test_without_the_demo_there_is_no_sign_in(database: str) -> None:
    async with running_app(database) as app:
        for method, path, body in (("GET", "/demo", None), ("POST", "/demo/sign-in", {"user_id": "demo-admin"})):
            answer = await app.call(None, method, path, body)
            assert (answer.status, answer.error) == (404, "not_found")


async def test_preparing_again_makes_nothing_new_until_the_lesson_ended(app: App) -> None:
    first = await demo.prepare(app.pool)
    assert (await demo.prepare(app.pool)).session_id == first.session_id
    teacher = (await sign_in(app, demo.TEACHER))["token"]
    ended = await app.call(
        None,
        "PUT",
        f"/sessions/{first.session_id}",
        {"status": "completed"},
        headers={"Authorization": f"Bearer {teacher}"},
    )
    assert ended.status == 200
    second = await demo.prepare(app.pool)
    assert second.session_id != first.session_id
    assert second.status == "scheduled"


async def test_many_who_prepare_at_once_make_one_lesson(database: str) -> None:
    pool = await connect(database, size=8)
    try:
        lessons = await asyncio.gather(*(demo.prepare(pool) for _ in range(8)))
        assert len({lesson.session_id for lesson in lessons}) == 1
        assert len(await sessions.hosted_by(pool, demo.TEACHER, limit=9)) == 1
    finally:
        await pool.close()


async def test_an_open_lesson_is_found_behind_many_that_are_over(app: App) -> None:
    """Lessons booked for later, and cancelled, are newer than the one of this hour."""
    open_lesson = await demo.prepare(app.pool)
    for hour in range(1, demo.MAX_LESSONS + 2):
        later = await app.book(teacher=demo.TEACHER, student=demo.STUDENT, parent=None)
        await app.pool.execute(
            "UPDATE sessions SET status = 'ended', starts_at = now() + make_interval(hours => $2) WHERE id = $1",
            later,
            hour,
        )
        await app.pool.execute("UPDATE bookings SET status = 'cancelled' WHERE id = $1", later)
    assert (await demo.prepare(app.pool)).session_id == open_lesson.session_id


async def test_somebody_of_the_sample_school_signs_in_too(app: App) -> None:
    signed_in = await sign_in(app, "demo-student-001")
    identity = await SecretVerifier(SECRET).verify(signed_in["token"])
    assert (identity.user_id, identity.role) == ("demo-student-001", "student")
    assert signed_in["user"]["name"] == f"{identity.first_name} {identity.last_name}"
