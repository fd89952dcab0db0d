"""`POST /bookings/{id}/review`, over a real database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.handlers.http.conftest import Api
from tests.support.lessons import ROLES, book


@pytest.fixture(autouse=True)
async def people(api: Api) -> None:
    await api.meet(*ROLES.items())
    await api.pool.execute("UPDATE users SET parent_id = 'mum' WHERE id = 'kid'")


async def review(api: Api, who: str, booking_id: object, body: Any) -> tuple[int, Any]:
    return await api.call("POST", f"/bookings/{booking_id}/review", body, token=api.token(who, ROLES[who]))


@pytest.mark.parametrize("who", ["kid", "mum", "gran"])
async def test_the_student_and_the_parents_review_a_completed_lesson_once(api: Api, who: str) -> None:
    booking_id = await book(api.pool, status="completed")
    status, answer = await review(api, who, booking_id, {"rating": 4, "comment": " Patient. "})
    assert datetime.fromisoformat(answer.pop("created_at")) > datetime.now(UTC) - timedelta(minutes=1)
    assert (status, answer) == (
        201,
        {"booking_id": str(booking_id), "user_id": who, "rating": 4, "comment": "Patient."},
    )
    for again in ("kid", "mum"):
        status, answer = await review(api, again, booking_id, {"rating": 1})
        assert (status, answer["error"]) == (409, "already_reviewed")
    assert await api.pool.fetchval("SELECT rating FROM reviews") == 4


@pytest.mark.parametrize("who", ["teach", "boss", "teach2", "kid2", "mum2"])
async def test_nobody_else_reviews_it(api: Api, who: str) -> None:
    booking_id = await book(api.pool, status="completed")
    status, answer = await review(api, who, booking_id, {"rating": 5})
    assert (status, answer["error"]) == (403, "forbidden")


@pytest.mark.parametrize("booking_status", ["pending", "confirmed", "cancelled"])
async def test_it_is_reviewed_after_completion(api: Api, booking_status: Any) -> None:
    booking_id = await book(api.pool, status=booking_status)
    status, answer = await review(api, "kid", booking_id, {"rating": 5})
    assert (status, answer["error"]) == (409, "not_completed")


async def test_a_lesson_that_is_not_there_is_404(api: Api) -> None:
    for booking_id in (uuid4(), "x"):
        status, answer = await review(api, "kid", booking_id, {"rating": 5})
        assert (status, answer["error"]) == (404, "booking_not_found")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "rating"),
        ({"rating": 0}, "rating"),
        ({"rating": 6}, "rating"),
        ({"rating": 4.5}, "rating"),
        ({"rating": "5"}, "rating"),
        ({"rating": None}, "rating"),
        ({"rating": 5, "comment": 7}, "comment"),
        ({"rating": 5, "comment": "x" * 2001}, "comment"),
        ({"rating": 5, "comment": "a\0b"}, "comment"),
    ],
)
async def test_a_review_that_is_none_is_400(api: Api, body: dict[str, Any], field: str) -> None:
    booking_id = await book(api.pool, status="completed")
    status, answer = await review(api, "kid", booking_id, body)
    assert (status, list(answer["fields"])) == (400, [field])


async def test_the_longest_comment_and_none_are_taken(api: Api) -> None:
    for comment in ("ü" * 2000, None, "   "):
        booking_id = await book(api.pool, status="completed")
        assert (await review(api, "kid", booking_id, {"rating": 5, "comment": comment}))[0] == 201
