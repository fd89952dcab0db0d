"""`/sessions/{ref}/pinned-message`: what the host has pinned, over plain HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.support.apps import App, running_app


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


async def say(app: App, session_id: UUID) -> dict[str, Any]:
    answer = await app.call("kid", "POST", f"/sessions/{session_id}/messages", {"text": "hello"})
    message: dict[str, Any] = answer.body
    return message


async def pinned(app: App, session_id: UUID) -> str | None:
    found = await app.pool.fetchval("SELECT pinned_message_id FROM sessions WHERE id = $1", session_id)
    return None if found is None else str(found)


async def test_the_host_pins_a_message_and_takes_the_pin_away(app: App) -> None:
    session_id = await app.book()
    message = await say(app, session_id)
    path = f"/sessions/{session_id}/pinned-message"
    for _ in range(2):
        answer = await app.call("teach", "PUT", path, {"id": message["id"]})
        assert (answer.status, answer.body) == (200, message)
        assert await pinned(app, session_id) == message["id"]
    for _ in range(2):
        answer = await app.call("teach", "DELETE", path)
        assert (answer.status, answer.body) == (200, {"message": "Message unpinned successfully"})
        assert await pinned(app, session_id) is None
    timeline = (await app.call("kid", "GET", f"/sessions/{session_id}/timeline?after=1")).body
    assert [(line["kind"], line["user_id"], line["data"]) for line in timeline] == [
        ("message_pinned", "teach", {"id": message["id"]}),
        ("message_pinned", "teach", {"id": None}),
    ]


async def test_others_are_refused_and_what_is_no_message_is_404(app: App) -> None:
    session_id, other = await app.book(), await app.book()
    message, elsewhere = await say(app, session_id), await say(app, other)
    path = f"/sessions/{session_id}/pinned-message"
    for who in ("kid", "mum", "gran"):
        for method, body in (("PUT", {"id": message["id"]}), ("DELETE", None)):
            answer = await app.call(who, method, path, body)
            assert (answer.status, answer.error) == (403, "not_host")
    for message_id in ("x", "", str(uuid4()), elsewhere["id"]):
        answer = await app.call("teach", "PUT", path, {"id": message_id})
        assert (answer.status, answer.error) == (404, "message_not_found")
    missing = await app.call("teach", "PUT", path, {})
    assert (missing.status, list(missing.body["fields"])) == (400, ["id"])
    assert await pinned(app, session_id) is None


async def test_deleting_the_pinned_message_unpins_it(app: App) -> None:
    session_id = await app.book()
    message = await say(app, session_id)
    path = f"/sessions/{session_id}"
    await app.call("boss", "PUT", f"{path}/pinned-message", {"id": message["id"]})
    await app.call("kid", "DELETE", f"{path}/messages/{message['id']}")
    assert await pinned(app, session_id) is None
    timeline = (await app.call("kid", "GET", f"{path}/timeline?after=2")).body
    assert [line["kind"] for line in timeline] == ["message_deleted", "message_pinned"]
    refused = await app.call("teach", "PUT", f"{path}/pinned-message", {"id": message["id"]})
    assert (refused.status, refused.error) == (409, "message_deleted")
