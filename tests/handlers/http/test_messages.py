"""`/sessions/{ref}/messages`, as the contract has it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from store import messages as store_messages
from store import participants
from tests.support.apps import Answer, App, contents, running_app
from tests.support.lessons import MEMBERS, STRANGERS, close_chat


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


async def say(app: App, session_id: UUID, text: str = "hello", who: str = "kid", **fields: Any) -> dict[str, Any]:
    answer = await app.call(who, "POST", f"/sessions/{session_id}/messages", {"text": text, **fields})
    assert answer.status == 201, answer
    message: dict[str, Any] = answer.body
    return message


async def listed(app: App, session_id: UUID, query: str = "", who: str = "kid") -> Answer:
    answer = await app.call(who, "GET", f"/sessions/{session_id}/messages{query}")
    assert answer.status == 200, answer
    return answer


def next_path(answer: Answer, rel: str) -> str | None:
    found = re.fullmatch(rf'<(/[^>]*)>; rel="{rel}"', answer.headers.get("Link", ""))
    return found[1] if found else None


async def test_a_message_is_answered_and_listed_as_the_contract_says(app: App) -> None:
    session_id = await app.book()
    message = await say(app, session_id, "  \n hello 👋\t", client_id="c1")
    created_at = message["created_at"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", created_at)
    assert datetime.fromisoformat(created_at) > datetime.now(UTC) - timedelta(minutes=1)
    assert message == {
        "id": message["id"],
        "seq": 1,
        "session_id": str(session_id),
        "from": "Kid",
        "user_id": "kid",
        "text": "hello 👋",
        "created_at": created_at,
        "client_id": "c1",
    }
    UUID(message["id"])
    assert (await listed(app, session_id)).body == [message]


@pytest.mark.parametrize("who", MEMBERS)
async def test_every_member_reads_and_posts(app: App, who: str) -> None:
    session_id = await app.book()
    message = await say(app, session_id, who=who)
    assert (message["user_id"], message["from"]) == (who, who.capitalize())
    assert (await listed(app, session_id, who=who)).body == [message]


async def test_a_room_name_is_as_good_as_an_id(app: App) -> None:
    session_id = await app.book()
    room_name = await app.pool.fetchval("SELECT room_name FROM sessions WHERE id = $1", session_id)
    posted = await app.call("kid", "POST", f"/sessions/{room_name}/messages", {"text": "by name"})
    assert posted.status == 201
    assert (await app.call("kid", "GET", f"/sessions/{room_name}/messages")).body == [posted.body]
    assert (await app.call("kid", "GET", f"/sessions/{str(session_id).upper()}/messages")).body == [posted.body]


@pytest.mark.parametrize("who", STRANGERS)
async def test_strangers_neither_read_nor_post(app: App, who: str) -> None:
    session_id = await app.book()
    message = await say(app, session_id)
    before = await contents(app.pool)
    for method, path, body in (
        ("GET", "", None),
        ("POST", "", {"text": "x"}),
        ("PATCH", f"/{message['id']}", {"text": "x"}),
        ("DELETE", f"/{message['id']}", None),
    ):
        answer = await app.call(who, method, f"/sessions/{session_id}/messages{path}", body)
        assert (answer.status, answer.error, answer.body["message"]) == (
            403,
            "forbidden",
            "Access denied to this session",
        )
    assert await contents(app.pool) == before


async def test_who_was_kicked_is_out_until_let_back_in(app: App) -> None:
    session_id = await app.book()
    path = f"/sessions/{session_id}/messages"
    for was_kicked, status in ((True, 403), (False, 200)):
        async with app.pool.acquire() as connection:
            await participants.change(connection, session_id, "kid", was_kicked=was_kicked)
        assert (await app.call("kid", "GET", path)).status == status
    assert (await app.call("kid", "POST", path, {"text": "back"})).status == 201


@pytest.mark.parametrize("spelling", ["client_id", "clientId"])
async def test_a_client_id_makes_a_retry_land_once(app: App, spelling: str) -> None:
    session_id = await app.book()
    path = f"/sessions/{session_id}/messages"
    first = await app.call("kid", "POST", path, {"text": "once", spelling: "c"})
    again = await app.call("kid", "POST", path, {"text": "twice", spelling: "c"})
    assert (first.status, again.status) == (201, 200)
    assert again.body == first.body
    theirs = await app.call("teach", "POST", path, {"text": "mine", spelling: "c"})
    assert theirs.status == 201, "each author's own"
    assert [message["seq"] for message in (await listed(app, session_id)).body] == [1, 2]


async def test_a_hundred_at_once_are_all_kept_in_one_order(app: App) -> None:
    session_id = await app.book()
    sent = await asyncio.gather(*(say(app, session_id, str(n), client_id=str(n % 100)) for n in range(100)))
    listed_ = (await listed(app, session_id)).body
    assert sorted(sent, key=lambda message: message["seq"]) == listed_
    assert [message["seq"] for message in listed_] == list(range(1, 101))


@pytest.mark.parametrize(
    "text", ["x", "x" * 2000, "  " + "👋" * 2000 + "\n", "\u0001", "<script>alert(1)</script>", "'; --"]
)
async def test_texts_from_one_to_two_thousand_characters_are_kept_as_they_are(app: App, text: str) -> None:
    session_id = await app.book()
    assert (await say(app, session_id, text))["text"] == text.strip()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"text": ""}, "text"),
        ({"text": " \n\t\u2003 "}, "text"),
        ({"text": "x" * 2001}, "text"),
        ({"text": "a\x00b"}, "text"),
        ({"text": 1}, "text"),
        ({"text": None}, "text"),
        ({}, "text"),
        ({"text": "x", "client_id": ""}, "client_id"),
        ({"text": "x", "clientId": "c" * 65}, "client_id"),
        ({"text": "x", "client_id": 5}, "client_id"),
    ],
    ids=str,
)
async def test_what_is_no_message_is_400_and_named(app: App, body: dict[str, Any], field: str) -> None:
    session_id = await app.book()
    answer = await app.call("kid", "POST", f"/sessions/{session_id}/messages", body)
    assert (answer.status, answer.error, list(answer.body["fields"])) == (400, "validation_failed", [field])
    assert (await listed(app, session_id)).body == []


async def test_a_null_client_id_is_none(app: App) -> None:
    session_id = await app.book()
    for _ in range(2):
        assert "client_id" not in await say(app, session_id, client_id=None)


async def test_the_newest_two_hundred_come_first_and_links_lead_back(app: App) -> None:
    session_id = await app.book()
    await app.pool.execute(
        """
        INSERT INTO session_messages (id, session_id, seq, user_id, sender_name, text, created_at)
        SELECT gen_random_uuid(), $1, n, 'kid', 'Kid', n::text, now() FROM generate_series(1, 450) AS n
        """,
        session_id,
    )
    await app.pool.execute("UPDATE sessions SET last_seq = 450")
    pages, path = [], f"/sessions/{session_id}/messages"
    following: str | None = path
    while following is not None:
        answer = await app.call("kid", "GET", following)
        pages.append([message["seq"] for message in answer.body])
        following = next_path(answer, "prev")
    assert pages == [list(range(251, 451)), list(range(51, 251)), list(range(1, 51))]

    forth, following = [], f"{path}?after=0&limit=150"
    while following is not None:
        answer = await app.call("kid", "GET", following)
        forth.append([message["seq"] for message in answer.body])
        following = next_path(answer, "next")
    assert forth == [list(range(1, 151)), list(range(151, 301)), list(range(301, 451))]

    for query, seqs in (
        ("?limit=1", [450]),
        ("?before=1", []),
        ("?before=3&limit=1000", [1, 2]),
        ("?after=449", [450]),
        ("?after=450", []),
        ("?after=9223372036854775807", []),
        ("?before=9223372036854775807&limit=2", [449, 450]),
        ("?after=10&before=13", [11, 12]),
    ):
        assert [message["seq"] for message in (await listed(app, session_id, query)).body] == seqs, query


BAD_CURSORS = (
    *("limit=0", "limit=1001", "limit=x", "limit=-1", "limit=1.5", "limit=%D9%A1", "limit=1%002"),
    *("before=-1", "before=" + "9" * 400, "after=x", "after=9223372036854775808", "after=%00"),
)


@pytest.mark.parametrize("query", BAD_CURSORS)
async def test_a_cursor_that_is_none_is_400(app: App, query: str) -> None:
    session_id = await app.book()
    answer = await app.call("kid", "GET", f"/sessions/{session_id}/messages?{query}")
    assert (answer.status, answer.error) == (400, "validation_failed")
    assert list(answer.body["fields"]) == [query.partition("=")[0]]


async def test_what_was_seen_already_is_304(app: App) -> None:
    session_id = await app.book()
    path = f"/sessions/{session_id}/messages"
    await say(app, session_id)
    first = await listed(app, session_id)
    etag = first.headers["ETag"]
    for seen in (etag, f'"x", {etag}', f'"x",{etag}', f"W/{etag}", "*"):
        again = await app.call("kid", "GET", path, headers={"If-None-Match": seen})
        assert (again.status, again.body) == (304, "")
        assert again.headers["ETag"] == etag
        assert again.headers["Cache-Control"] == first.headers["Cache-Control"]
    for unseen in ('"x"', etag[:-2] + '"', ""):
        assert (await app.call("kid", "GET", path, headers={"If-None-Match": unseen})).status == 200
    stranger = await app.call("kid2", "GET", path, headers={"If-None-Match": etag})
    assert stranger.status == 403


async def test_every_change_changes_the_etag(app: App) -> None:
    session_id = await app.book()
    etags = [(await listed(app, session_id)).headers["ETag"]]
    message = await say(app, session_id)
    etags.append((await listed(app, session_id)).headers["ETag"])
    path = f"/sessions/{session_id}/messages/{message['id']}"
    await app.call("kid", "PATCH", path, {"text": "other"})
    etags.append((await listed(app, session_id)).headers["ETag"])
    await app.call("kid", "DELETE", path)
    etags.append((await listed(app, session_id)).headers["ETag"])
    assert len(set(etags)) == 4


async def test_a_page_sent_again_is_the_same_answer_and_is_not_read_again(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await app.book()
    for n in range(3):
        await say(app, session_id, str(n))
    path = f"/sessions/{session_id}/messages?limit=2"
    first = await app.call("kid", "GET", path)
    monkeypatch.delattr(store_messages, "page")
    for who in MEMBERS:
        again = await app.call(who, "GET", path)
        assert (again.status, again.body) == (200, first.body)
        for name in ("ETag", "Cache-Control", "Content-Type", "Content-Length", "Link", "X-Content-Type-Options"):
            assert again.headers[name] == first.headers[name]
        assert again.headers["X-Request-Id"] != first.headers["X-Request-Id"]
    head = await app.call("kid", "HEAD", path)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, "", first.headers["Content-Length"])
    not_modified = await app.call("kid", "GET", path, headers={"If-None-Match": first.headers["ETag"]})
    assert (not_modified.status, not_modified.body) == (304, "")
    assert "Link" not in not_modified.headers


async def test_nobody_gets_a_page_from_memory_who_may_not_read_it(app: App) -> None:
    session_id, other = await app.book(), await app.book()
    await say(app, session_id, "a secret")
    path = f"/sessions/{session_id}/messages"
    for _ in range(2):
        await listed(app, session_id)
        for who in STRANGERS:
            assert (await app.call(who, "GET", path)).status == 403
            assert (await app.call(who, "GET", path, headers={"If-None-Match": "*"})).status == 403
        assert (await app.call(None, "GET", path)).status == 401
    async with app.pool.acquire() as connection:
        await participants.change(connection, session_id, "kid", was_kicked=True)
    assert (await app.call("kid", "GET", path)).error == "kicked"
    assert (await listed(app, other)).body == []


@pytest.mark.parametrize("query", ["", "?limit=2", "?before=3", "?after=0&limit=3"])
async def test_a_page_shows_what_another_worker_just_wrote(database: str, query: str) -> None:
    async with running_app(database) as here, running_app(database) as there:
        # Nothing tells these two of each other.
        session_id = await here.book()
        path = f"/sessions/{session_id}/messages"

        async def agreed() -> list[dict[str, Any]]:
            pages = [await listed(app, session_id, query) for app in (here, there, here, there)]
            etags, bodies = {page.headers["ETag"] for page in pages}, [page.body for page in pages]
            assert len(etags) == 1
            assert all(body == bodies[0] for body in bodies)
            return list(bodies[0])

        assert await agreed() == []
        message = await say(there, session_id, "first")
        assert await agreed() == [message]
        edited = (await there.call("kid", "PATCH", f"{path}/{message['id']}", {"text": "better"})).body
        assert await agreed() == [edited]
        second = await say(here, session_id, "second")
        assert second in await agreed() or query == "?before=3"
        deleted = (await here.call("kid", "DELETE", f"{path}/{message['id']}")).body
        assert (await agreed())[0] == deleted


async def test_while_people_write_nobody_is_shown_less_than_was_shown_before(database: str) -> None:
    async with running_app(database) as here, running_app(database) as there:
        session_id = await here.book()
        shown = 0
        writing = True

        async def write() -> None:
            nonlocal shown, writing
            for n in range(60):
                message = await say((here, there)[n % 2], session_id)
                shown = max(shown, message["seq"])
            writing = False

        async def read(app: App) -> None:
            nonlocal shown
            while writing:
                before = shown
                answer = await listed(app, session_id, "?limit=5")
                last_seq = int(answer.headers["ETag"].strip('"').rpartition("-")[2])
                assert last_seq >= before
                assert [message["seq"] for message in answer.body] == list(range(1, last_seq + 1))[-5:]
                shown = max(shown, last_seq)

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(write())
            for app in (here, here, here, there, there, there):
                group.create_task(read(app))


async def test_a_page_that_was_read_late_does_not_come_after_a_newer_one(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await app.book()
    await say(app, session_id, "first")
    was_read, may_go_on = asyncio.Event(), asyncio.Event()
    page = store_messages.page

    async def slow_page(*arguments: Any, **named: Any) -> store_messages.Page | None:
        found = await page(*arguments, **named)
        was_read.set()
        await may_go_on.wait()
        return found

    monkeypatch.setattr(store_messages, "page", slow_page)
    late = asyncio.create_task(listed(app, session_id))
    await was_read.wait()
    monkeypatch.setattr(store_messages, "page", page)
    await say(app, session_id, "second")
    newer = await listed(app, session_id)
    may_go_on.set()
    assert (await late).body == newer.body
    assert len(newer.body) == 2


async def test_an_author_edits_and_nobody_else_does(app: App) -> None:
    session_id = await app.book()
    message = await say(app, session_id)
    path = f"/sessions/{session_id}/messages/{message['id']}"
    edited = await app.call("kid", "PATCH", path, {"text": "  better "})
    assert edited.status == 200
    edited_at = edited.body.pop("edited_at")
    assert edited_at > message["created_at"]
    assert edited.body == message | {"text": "better"}
    for who in ("teach", "boss", "mum"):
        answer = await app.call(who, "PATCH", path, {"text": "mine"})
        assert (answer.status, answer.error) == (403, "not_author")
    assert (await listed(app, session_id)).body == [message | {"text": "better", "edited_at": edited_at}]


@pytest.mark.parametrize(("who", "status"), [("kid", 200), ("teach", 200), ("boss", 200), ("mum", 403), ("gran", 403)])
async def test_author_host_and_admin_delete(app: App, who: str, status: int) -> None:
    session_id = await app.book()
    message = await say(app, session_id, "a secret")
    path = f"/sessions/{session_id}/messages/{message['id']}"
    answer = await app.call(who, "DELETE", path)
    assert answer.status == status
    if status == 200:
        assert answer.body == message | {"text": "", "deleted": True}
        assert (await listed(app, session_id)).body == [answer.body]
        again = await app.call(who, "DELETE", path)
        assert (again.status, again.body) == (200, answer.body)
        edit = await app.call("kid", "PATCH", path, {"text": "x"})
        assert (edit.status, edit.error) == (409, "message_deleted")
        assert await app.pool.fetchval("SELECT last_seq FROM sessions WHERE id = $1", session_id) == 2
    else:
        assert (await listed(app, session_id)).body == [message]


async def test_a_message_is_found_in_its_own_session_alone(app: App) -> None:
    session_id, other = await app.book(), await app.book()
    message = await say(app, session_id)
    for path in (f"{other}/messages/{message['id']}", f"{session_id}/messages/{uuid4()}", f"{session_id}/messages/x"):
        for method, body in (("PATCH", {"text": "x"}), ("DELETE", None)):
            answer = await app.call("kid", method, f"/sessions/{path}", body)
            assert (answer.status, answer.error) == (404, "message_not_found")
    assert (await listed(app, session_id)).body == [message]


async def test_a_cancelled_bookings_chat_is_read_and_not_written(app: App) -> None:
    session_id = await app.book()
    message = await say(app, session_id, client_id="c")
    await close_chat(app.pool, session_id)
    path = f"/sessions/{session_id}/messages"
    for method, where, body in (("POST", path, {"text": "x"}), ("PATCH", f"{path}/{message['id']}", {"text": "x"})):
        answer = await app.call("kid", method, where, body)
        assert (answer.status, answer.error) == (409, "booking_cancelled")
    assert (await listed(app, session_id)).body == [message]
    repeat = await app.call("kid", "POST", path, {"text": "x", "client_id": "c"})
    assert (repeat.status, repeat.body) == (200, message)
    assert (await app.call("kid", "DELETE", f"{path}/{message['id']}")).status == 200, "what was said can be unsaid"


async def test_the_name_is_the_one_of_when_it_was_sent(app: App) -> None:
    session_id = await app.book()
    before = await say(app, session_id)
    await app.pool.execute("UPDATE users SET first_name = 'Kit', last_name = 'Doe', name_set = true WHERE id = 'kid'")
    after = await say(app, session_id)
    assert [message["from"] for message in (await listed(app, session_id)).body] == ["Kid", "Kit Doe"]
    assert (before["from"], after["from"]) == ("Kid", "Kit Doe")


async def restrict(app: App, session_id: UUID, column: str, value: object) -> None:
    await app.pool.execute(f"UPDATE sessions SET {column} = $2 WHERE id = $1", session_id, value)


async def test_in_a_muted_chat_the_host_alone_writes(app: App) -> None:
    session_id = await app.book()
    message = await say(app, session_id, client_id="c")
    await restrict(app, session_id, "chat_muted", True)
    path = f"/sessions/{session_id}/messages"
    for method, where, body in (("POST", path, {"text": "x"}), ("PATCH", f"{path}/{message['id']}", {"text": "x"})):
        answer = await app.call("kid", method, where, body)
        assert (answer.status, answer.error) == (403, "chat_muted")
    again = await app.call("kid", "POST", path, {"text": "x", "client_id": "c"})
    assert (again.status, again.body) == (200, message)
    for who in ("teach", "boss"):
        await say(app, session_id, who=who)


async def test_in_slow_mode_the_answer_says_when_to_come_back(app: App) -> None:
    session_id = await app.book()
    await restrict(app, session_id, "slow_mode_seconds", 60)
    message = await say(app, session_id, client_id="c")
    path = f"/sessions/{session_id}/messages"
    refused = await app.call("kid", "POST", path, {"text": "x"})
    assert (refused.status, refused.error) == (429, "slow_mode")
    assert refused.headers["Retry-After"] == str(refused.body["retry_after"])
    assert 50 <= refused.body["retry_after"] <= 60
    again = await app.call("kid", "POST", path, {"text": "x", "client_id": "c"})
    assert (again.status, again.body) == (200, message)
    assert [one["seq"] for one in (await listed(app, session_id)).body] == [1]


async def test_one_message_is_shown_as_in_the_list(app: App) -> None:
    session_id, other = await app.book(), await app.book()
    message = await say(app, session_id)
    answer = await app.call("mum", "GET", f"/sessions/{session_id}/messages/{message['id']}")
    assert (answer.status, answer.body) == (200, message)
    for where, message_id in ((other, message["id"]), (session_id, "x"), (session_id, str(uuid4()))):
        missing = await app.call("boss", "GET", f"/sessions/{where}/messages/{message_id}")
        assert (missing.status, missing.error) == (404, "message_not_found")
