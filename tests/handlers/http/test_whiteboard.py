"""The whiteboard over plain HTTP."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from store.whiteboards import PAGE_BYTES
from tests.support.apps import App, running_app
from tests.support.drawings import stroke
from tests.support.lessons import MEMBERS, STRANGERS, member


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


async def test_members_see_what_was_drawn_and_strangers_do_not(app: App) -> None:
    lesson_id = await app.book()
    await app.live.whiteboards.begin_draw(member(lesson_id, "kid"), [stroke("a"), stroke("b", 2)])
    room_name = await app.pool.fetchval("SELECT room_name FROM sessions WHERE id = $1", lesson_id)
    for who in MEMBERS:
        for ref in (lesson_id, room_name):
            answer = await app.call(who, "GET", f"/sessions/{ref}/whiteboard")
            assert answer.status == 200
            assert answer.body == {"elements": [stroke("a"), stroke("b", 2)], "revision": 1, "more": False}
            assert "Link" not in answer.headers
    for who in STRANGERS:
        assert (await app.call(who, "GET", f"/sessions/{lesson_id}/whiteboard")).status == 403


async def test_a_large_board_is_read_by_its_links(app: App) -> None:
    lesson_id = await app.book()
    for n in range(12):
        await app.live.whiteboards.begin_draw(member(lesson_id, "kid"), [stroke(f"{n}", text="x" * 50_000)])
    path, ids = f"/sessions/{lesson_id}/whiteboard", list[str]()
    pages = 0
    while path:
        answer = await app.call("teach", "GET", path)
        assert len(str(answer.body)) < 2 * PAGE_BYTES
        ids += [element["id"] for element in answer.body["elements"]]
        found = re.fullmatch('<(.+)>; rel="next"', answer.headers.get("Link", ""))
        assert (found is not None) == answer.body["more"]
        path = found[1] if found else ""
        pages += 1
    assert ids == [f"{n}" for n in range(12)]
    assert pages == 3


async def test_what_changed_after_a_revision_is_asked_for_by_it(app: App) -> None:
    lesson_id = await app.book()
    for drawn in (stroke("a"), stroke("b"), stroke("a", 2, isDeleted=True)):
        await app.live.whiteboards.begin_draw(member(lesson_id, "kid"), [drawn])
    answer = await app.call("kid", "GET", f"/sessions/{lesson_id}/whiteboard?after=2")
    assert answer.body == {"elements": [stroke("a", 2, isDeleted=True)], "revision": 3, "more": False}
    for wrong in ("-1", "x", "9223372036854775808"):
        refused = await app.call("kid", "GET", f"/sessions/{lesson_id}/whiteboard?after={wrong}")
        assert (refused.status, refused.error) == (400, "validation_failed")


async def test_the_host_clears_the_board_and_nobody_else(app: App) -> None:
    lesson_id = await app.book()
    path = f"/sessions/{lesson_id}/whiteboard"
    await app.live.whiteboards.begin_draw(member(lesson_id, "kid"), [stroke("a")])
    refused = await app.call("kid", "DELETE", path)
    assert (refused.status, refused.error) == (403, "not_host")
    assert (await app.call("kid", "GET", path)).body["elements"] == [stroke("a")]
    for _ in range(2):
        cleared = await app.call("teach", "DELETE", path)
        assert (cleared.status, cleared.body) == (200, {"message": "Whiteboard cleared successfully"})
    assert (await app.call("kid", "GET", path)).body == {"elements": [], "revision": 2, "more": False}
    [entry] = (await app.call("kid", "GET", f"/sessions/{lesson_id}/timeline")).body
    assert (entry["kind"], entry["data"]) == ("whiteboard_cleared", {"revision": 2})
