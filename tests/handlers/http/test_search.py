"""`GET /search/teachers`, over a real database."""

from __future__ import annotations

from typing import Any

import pytest
from yarl import URL

from tests.handlers.http.conftest import Api
from tests.support.lessons import ROLES, book


async def teacher(api: Api, user_id: str, name: str = "Ada Lovelace", **data: Any) -> None:
    body = {
        "user_id": user_id,
        "role": "teacher",
        "profile_data": {"name": name, "email": f"{user_id}@example.org", **data},
    }
    status, _ = await api.call("POST", "/profiles", body, token=api.token(user_id, "teacher"))
    assert status == 201


async def test_a_teacher_is_found_and_shown_without_their_address(api: Api) -> None:
    await teacher(api, "ada", topics=["Álgebra"], subjects=["Maths"], bio="Patiently.")
    status, answer = await api.call("GET", "/search/teachers?topic=algebra", token=api.token("kid"))
    assert (status, answer) == (
        200,
        [{"user_id": "ada", "name": "Ada Lovelace", "bio": "Patiently.", "topics": ["Álgebra"], "rating": None}],
    )
    for words in ("maths", "love", "patient", "ada algebra"):
        _, answer = await api.call("GET", "/search/teachers", token=api.token("kid"), params={"topic": words})
        assert [one["user_id"] for one in answer] == ["ada"]
    for words in ("ada@example.org", "physics", "!"):
        _, answer = await api.call("GET", "/search/teachers", token=api.token("kid"), params={"topic": words})
        assert answer == []


async def test_the_rating_is_the_mean_of_the_reviews(api: Api) -> None:
    await api.meet(*ROLES.items())
    await teacher(api, "teach", topics=["algebra"])
    for stars in (5, 4, 4):
        booking_id = await book(api.pool, status="completed")
        status, _ = await api.call("POST", f"/bookings/{booking_id}/review", {"rating": stars}, token=api.token("kid"))
        assert status == 201
    _, [shown] = await api.call("GET", "/search/teachers?topic=algebra", token=api.token("kid"))
    assert shown["rating"] == pytest.approx(13 / 3)


@pytest.mark.parametrize("role", ["student", "parent", "teacher", "admin"])
async def test_everybody_who_is_signed_in_searches(api: Api, role: str) -> None:
    assert await api.call("GET", "/search/teachers?topic=x", token=api.token("u", role)) == (200, [])


async def test_without_a_token_or_a_topic_nobody_is_found(api: Api) -> None:
    assert (await api.call("GET", "/search/teachers?topic=x"))[0] == 401
    for query in ("", "?topic=", "?topic=%20"):
        status, answer = await api.call("GET", f"/search/teachers{query}", token=api.token("kid"))
        assert (status, answer["error"]) == (400, "topic_required")
    for query in ("topic=%00", "topic=" + "x" * 513, "topic=x&limit=0", "topic=x&cursor=x", "topic=x&cursor=1001"):
        assert (await api.call("GET", f"/search/teachers?{query}", token=api.token("kid")))[0] == 400


async def test_a_result_is_read_in_pieces(api: Api) -> None:
    for number in range(5):
        await teacher(api, f"t{number}", topics=["algebra"])
    found: list[str] = []
    path: str | None = "/search/teachers?topic=alg&limit=2"
    while path is not None:
        response = await api.response("GET", path, token=api.token("kid"))
        found += [one["user_id"] for one in await response.json()]
        following = response.links.get("next")
        path = URL(following["url"]).path_qs if following else None
    assert found == [f"t{number}" for number in range(5)]
