"""`/sessions/{ref}/timeline`: everything that has a `seq`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from tests.support.apps import Answer, App, running_app
from tests.support.lessons import MEMBERS, STRANGERS


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


async def timeline(app: App, session_id: UUID, query: str = "", who: str = "kid") -> Answer:
    answer = await app.call(who, "GET", f"/sessions/{session_id}/timeline{query}")
    assert answer.status == 200, answer
    return answer


def linked(answer: Answer, rel: str) -> str | None:
    found = re.fullmatch(rf'<(/[^>]*)>; rel="{rel}"', answer.headers.get("Link", ""))
    return found[1] if found else None


async def said(app: App, session_id: UUID, text: str) -> dict[str, Any]:
    answer = await app.call("kid", "POST", f"/sessions/{session_id}/messages", {"text": text, "client_id": text})
    message: dict[str, Any] = answer.body
    return message


async def test_a_lesson_reads_as_it_happened(app: App) -> None:
    session_id = await app.book()
    path = f"/sessions/{session_id}"
    kept, gone = await said(app, session_id, "hullo"), await said(app, session_id, "secret")
    await app.call("kid", "PATCH", f"{path}/messages/{kept['id']}", {"text": "hello"})
    await app.call("kid", "PATCH", f"{path}/messages/{gone['id']}", {"text": "secrets"})
    await app.call("teach", "DELETE", f"{path}/messages/{gone['id']}")
    await app.call("teach", "PATCH", f"{path}/participants/kid", {"micAllowed": False})
    await app.call("teach", "PATCH", f"{path}/participants/gran", {"wasKicked": True})
    await app.call("teach", "PUT", path, {"status": "completed"})
    entries = (await timeline(app, session_id)).body
    assert [(e["seq"], e["kind"], e["user_id"]) for e in entries] == [
        (1, "message", "kid"),
        (2, "message", "kid"),
        (3, "message_edited", "kid"),
        (4, "message_edited", "kid"),
        (5, "message_deleted", "teach"),
        (6, "permissions_changed", "teach"),
        (7, "participant_kicked", "teach"),
        (8, "session_status", "teach"),
    ]
    edited_at, edited_then = entries[2]["at"], entries[3]["at"]
    assert [e["data"] for e in entries] == [
        {"id": kept["id"], "from": "Kid", "text": "hello", "client_id": "hullo", "edited_at": edited_at},
        {"id": gone["id"], "from": "Kid", "text": "", "client_id": "secret", "edited_at": edited_then, "deleted": True},
        {"id": kept["id"], "text": "hello", "edited_at": edited_at},
        {"id": gone["id"], "text": "", "edited_at": edited_then},
        {"id": gone["id"]},
        {"userId": "kid", "micAllowed": False, "cameraAllowed": True},
        {"userId": "gran"},
        {"status": "ended"},
    ]  # fmt: skip
    assert all(set(e) == {"seq", "kind", "at", "user_id", "data"} and e["at"].endswith("Z") for e in entries)
    assert [e["at"] for e in entries] == sorted(e["at"] for e in entries)


async def test_it_is_read_in_pieces_forth_and_back(app: App) -> None:
    session_id = await app.book()
    await app.pool.execute(
        """
        INSERT INTO session_events (session_id, seq, kind, user_id, data, at)
        SELECT $1, n, 'hand_raised', 'kid', '{"userId": "kid", "raised": true}', now() FROM generate_series(1, 450) AS n
        """,
        session_id,
    )
    await app.pool.execute("UPDATE sessions SET last_seq = 450")

    async def follow(path: str | None, rel: str) -> list[list[int]]:
        pieces = []
        while path is not None:
            answer = await app.call("kid", "GET", path)
            pieces.append([entry["seq"] for entry in answer.body])
            path = linked(answer, rel)
        return pieces

    path = f"/sessions/{session_id}/timeline"
    assert await follow(f"{path}?after=0&limit=200", "next") == [
        list(range(1, 201)),
        list(range(201, 401)),
        list(range(401, 451)),
    ]
    assert await follow(path, "prev") == [list(range(251, 451)), list(range(51, 251)), list(range(1, 51))]
    assert [e["seq"] for e in (await timeline(app, session_id, "?after=449")).body] == [450]
    assert (await timeline(app, session_id, "?after=450")).body == []


async def test_an_empty_timeline_is_an_empty_array(app: App) -> None:
    answer = await timeline(app, await app.book())
    assert (answer.body, "Link" in answer.headers) == ([], False)


async def test_members_alone_read_it(app: App) -> None:
    session_id = await app.book()
    await said(app, session_id, "hello")
    for who in MEMBERS:
        assert len((await timeline(app, session_id, who=who)).body) == 1
    for who in STRANGERS:
        answer = await app.call(who, "GET", f"/sessions/{session_id}/timeline")
        assert (answer.status, answer.body["message"]) == (403, "Access denied to this session")


@pytest.mark.parametrize("query", ["after=x", "after=-1", "after=9223372036854775808", "limit=0", "limit=1001"])
async def test_a_cursor_that_is_none_is_400(app: App, query: str) -> None:
    answer = await app.call("kid", "GET", f"/sessions/{await app.book()}/timeline?{query}")
    assert (answer.status, answer.error, list(answer.body["fields"])) == (
        400,
        "validation_failed",
        [query.partition("=")[0]],
    )
