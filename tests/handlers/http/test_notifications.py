"""`/notifications`: one's own list, in pieces, with what is unread."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from yarl import URL

from store import notifications
from store.ids import first_id
from store.notifications import Notification
from tests.handlers.http.conftest import Api

NOW = datetime(2030, 1, 7, 9, 0, tzinfo=UTC)


@pytest.fixture
async def told(api: Api) -> Sequence[Notification]:
    """Five for kid, oldest first; teach has the first one, too."""
    await api.meet(("kid", "student"), ("teach", "teacher"))
    made = [
        Notification(
            id=first_id(NOW + n * timedelta(seconds=1)),
            kind="booking_created",
            title=f"{n}",
            body="Kid",
            data={"start_time": NOW},
            created_at=NOW,
        )
        for n in range(5)
    ]
    async with api.pool.acquire() as connection, connection.transaction():
        await notifications.add(connection, [(made[0], ["kid", "teach"]), *((one, ["kid"]) for one in made[1:])])
    return made


async def titles(api: Api, query: str = "") -> list[str]:
    status, body = await api.call("GET", f"/notifications{query}", token=api.token("kid"))
    assert status == 200, body
    return [one["title"] for one in body]


async def mark(api: Api, notification_id: object, body: Any, who: str = "kid") -> tuple[int, Any]:
    return await api.call("PATCH", f"/notifications/{notification_id}", body, token=api.token(who))


async def test_ones_own_are_listed_newest_first(api: Api, told: Sequence[Notification]) -> None:
    assert await titles(api) == ["4", "3", "2", "1", "0"]
    status, body = await api.call("GET", "/notifications", token=api.token("teach", "teacher"))
    assert (status, body) == (
        200,
        [
            {
                "id": str(told[0].id),
                "kind": "booking_created",
                "title": "0",
                "body": "Kid",
                "data": {"start_time": "2030-01-07T09:00:00Z"},
                "read": False,
                "created_at": "2030-01-07T09:00:00Z",
            }
        ],
    )
    assert await api.call("GET", "/notifications", token=api.token("mum", "parent")) == (200, [])


@pytest.mark.usefixtures("told")
async def test_a_long_list_comes_in_pieces_and_says_where_it_goes_on(api: Api) -> None:
    seen, path = [], "/notifications?limit=2"
    while path:
        response = await api.response("GET", path, token=api.token("kid"))
        assert response.headers["X-Unread-Count"] == "5"
        seen.append([one["title"] for one in await response.json()])
        path = str(URL(response.links["next"]["url"]).relative()) if "next" in response.links else ""
    assert seen == [["4", "3"], ["2", "1"], ["0"]]


async def test_what_was_read_is_no_longer_among_the_unread(api: Api, told: Sequence[Notification]) -> None:
    status, document = await mark(api, told[3].id, {"read": True})
    assert (status, document["id"], document["read"]) == (200, str(told[3].id), True)
    assert await titles(api, "?unread=true") == ["4", "2", "1", "0"]
    assert await titles(api, "?unread=false") == ["4", "3", "2", "1", "0"]
    response = await api.response("GET", "/notifications?limit=1", token=api.token("kid"))
    assert response.headers["X-Unread-Count"] == "4"
    assert api.told.notifications == [("kid", {"ids": [str(told[3].id)], "read": True})]
    status, document = await mark(api, told[3].id, {"read": False})
    assert (status, document["read"]) == (200, False)
    assert len(await titles(api, "?unread=true")) == 5


async def test_all_are_read_at_once(api: Api, told: Sequence[Notification]) -> None:
    for read in (5, 0):
        assert await api.call("POST", "/notifications/read-all", token=api.token("kid")) == (200, {"read": read})
    assert await titles(api, "?unread=true") == []
    assert api.told.notifications == [("kid", {"all": True, "read": True})]
    response = await api.response("HEAD", "/notifications", token=api.token("teach", "teacher"))
    assert response.headers["X-Unread-Count"] == "1", told


async def test_somebody_elses_or_none_is_404(api: Api, told: Sequence[Notification]) -> None:
    for who, notification_id in (("teach", told[1].id), ("kid", uuid4()), ("kid", "x"), ("mum", told[0].id)):
        status, body = await mark(api, notification_id, {"read": True}, who)
        assert (status, body["error"]) == (404, "notification_not_found")
    assert len(await titles(api, "?unread=true")) == 5


@pytest.mark.parametrize("body", [{}, {"read": None}, {"read": "yes"}, {"read": 1}])
async def test_whether_it_was_read_is_yes_or_no(api: Api, told: Sequence[Notification], body: Any) -> None:
    status, answer = await mark(api, told[0].id, body)
    assert (status, list(answer["fields"])) == (400, ["read"])
    assert len(await titles(api, "?unread=true")) == 5


@pytest.mark.parametrize(
    ("query", "field"),
    [("unread=maybe", "unread"), ("before=x", "before"), ("before=%00", "before"), ("limit=0", "limit")],
)
async def test_a_list_that_cannot_be_is_refused_by_name(api: Api, query: str, field: str) -> None:
    status, answer = await api.call("GET", f"/notifications?{query}", token=api.token("kid"))
    assert (status, list(answer["fields"])) == (400, [field])


async def test_a_page_of_another_origin_may_read_the_count(api: Api) -> None:
    response = await api.response(
        "GET", "/notifications", token=api.token("kid"), headers={"Origin": "https://app.example"}
    )
    assert "X-Unread-Count" in response.headers["Access-Control-Expose-Headers"]
