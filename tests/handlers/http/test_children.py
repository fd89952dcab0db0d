"""`/children`: a student names a parent, who has a say in it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.handlers.http.conftest import Api
from tests.support.lessons import ROLES, book


@pytest.fixture(autouse=True)
async def people(api: Api) -> None:
    await api.meet(*ROLES.items())


async def call(api: Api, who: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    return await api.call(method, path, body, token=api.token(who, ROLES[who], email=f"{who}@example.org"))


async def name_parent(api: Api, parent_id: str | None, by: str = "kid") -> None:
    body = {"user_id": "kid", "role": "student", "profile_data": {"name": "Kim Doe", "parent_id": parent_id}}
    status, _ = await call(api, by, "POST", "/profiles", body)
    assert status in (200, 201)


async def children(api: Api, who: str = "mum") -> list[tuple[str, str, bool]]:
    status, answer = await call(api, who, "GET", "/children")
    assert status == 200
    return [(child["user_id"], child["name"], child["accepted"]) for child in answer]


async def shown_email(api: Api, reader: str, person: str) -> Any:
    status, answer = await call(api, reader, "GET", f"/profiles?user_id={person}")
    assert status == 200
    return answer["profile"]["email"]


async def test_a_parent_sees_who_names_them_and_accepts(api: Api) -> None:
    await name_parent(api, "mum")
    assert await children(api) == [("kid", "Kim Doe", False)]
    for _ in range(2):
        status, child = await call(api, "mum", "PUT", "/children/kid")
        assert (status, child) == (200, {"user_id": "kid", "name": "Kim Doe", "accepted": True})
    assert await children(api) == [("kid", "Kim Doe", True)]
    assert await children(api, "mum2") == await children(api, "kid") == []


async def test_whom_an_admin_names_has_accepted(api: Api) -> None:
    await name_parent(api, "mum", by="boss")
    assert await children(api) == [("kid", "Kim Doe", True)]
    await name_parent(api, "mum2")
    assert await children(api, "mum2") == [("kid", "Kim Doe", False)]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_nobody_takes_or_leaves_a_child_who_names_another(api: Api, method: str) -> None:
    await name_parent(api, "mum", by="boss")
    for who, child in (("mum2", "kid"), ("mum", "kid2"), ("mum", "nobody"), ("mum", "%00"), ("boss", "kid")):
        status, answer = await call(api, who, method, f"/children/{child}")
        assert (status, answer["error"]) == (404, "child_not_found")
    assert await children(api) == [("kid", "Kim Doe", True)]


async def test_a_parent_leaves_at_once(api: Api) -> None:
    await name_parent(api, "mum")
    booking_id = await book(api.pool, parent=None)
    assert (await call(api, "mum", "GET", f"/bookings/{booking_id}"))[0] == 200
    assert (await call(api, "mum", "DELETE", "/children/kid"))[0] == 200
    assert api.told.people[-1] == {"kid", "mum"}
    assert await children(api) == []
    assert (await call(api, "mum", "GET", f"/bookings/{booking_id}"))[0] == 403
    assert (await call(api, "mum", "DELETE", "/children/kid"))[0] == 404


async def test_naming_a_stranger_shows_nothing_of_them_until_they_accept(api: Api) -> None:
    await name_parent(api, "mum")
    tomorrow = {"start_time": "2040-01-01T09:00:00Z", "end_time": "2040-01-01T10:00:00Z"}
    status, _ = await call(api, "kid", "POST", "/bookings", {"student_id": "kid", "teacher_id": "teach", **tomorrow})
    assert status == 201
    await call(api, "mum", "GET", "/children")  # with her address in her token
    for reader in ("kid", "teach"):
        assert await shown_email(api, reader, "mum") is None
    assert await shown_email(api, "mum", "kid") == "kid@example.org", "the student's own is theirs to show"
    await call(api, "mum", "PUT", "/children/kid")
    for reader in ("kid", "teach"):
        assert await shown_email(api, reader, "mum") == "mum@example.org"


async def test_lessons_come_into_a_parents_calendar_once_they_have_accepted(api: Api) -> None:
    await name_parent(api, "mum")
    booking_id = await book(api.pool, parent=None, status="confirmed")

    async def is_in_the_feed() -> bool:
        _, answer = await call(api, "mum", "GET", "/calendar")
        feed = await api.response("GET", "/calendar/mum.ics?" + answer["url"].partition("?")[2])
        return str(booking_id) in await feed.text()

    assert not await is_in_the_feed()
    await call(api, "mum", "PUT", "/children/kid")
    assert await is_in_the_feed()
