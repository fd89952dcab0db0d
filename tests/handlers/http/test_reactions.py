"""`/sessions/{ref}/messages/{id}/reactions`: reacting over plain HTTP, and who did."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

from tests.support.apps import Answer, App, contents, running_app
from tests.support.lessons import MEMBERS, STRANGERS, close_chat


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


async def say(app: App, session_id: UUID) -> dict[str, Any]:
    answer = await app.call("kid", "POST", f"/sessions/{session_id}/messages", {"text": "hello"})
    assert answer.status == 201, answer
    message: dict[str, Any] = answer.body
    return message


async def react(app: App, session_id: UUID, message_id: str, emoji: str, who: str = "kid", how: str = "PUT") -> Answer:
    return await app.call(who, how, f"/sessions/{session_id}/messages/{message_id}/reactions/{quote(emoji)}")


async def test_a_reaction_is_answered_listed_and_in_the_history(app: App) -> None:
    session_id = await app.book()
    message = await say(app, session_id)
    first = await react(app, session_id, message["id"], "👍")
    assert (first.status, first.body) == (200, message | {"reactions": {"👍": 1}})
    again = await react(app, session_id, message["id"], "👍")
    assert (again.status, again.body) == (200, first.body)
    await react(app, session_id, message["id"], "👍", "mum")
    last = await react(app, session_id, message["id"], "#️⃣", "mum")
    assert last.body["reactions"] == {"👍": 2, "#️⃣": 1}
    path = f"/sessions/{session_id}/messages"
    assert (await app.call("kid", "GET", path)).body == [last.body]
    assert (await app.call("kid", "GET", f"{path}/{message['id']}")).body == last.body
    listed = (await app.call("teach", "GET", f"{path}/{message['id']}/reactions")).body
    assert [(one["user_id"], one["name"], one["emoji"]) for one in listed] == [
        ("mum", "Mum", "#️⃣"), ("kid", "Kid", "👍"), ("mum", "Mum", "👍"),
    ]  # fmt: skip
    assert all(one["created_at"].endswith("Z") for one in listed)
    line = (await app.call("kid", "GET", f"/sessions/{session_id}/timeline")).body[-1]
    assert (line["seq"], line["kind"], line["user_id"]) == (4, "message_reaction", "mum"), "the repeat took no seq"
    assert line["data"] == {
        "id": message["id"], "userId": "mum", "emoji": "#️⃣", "reacted": True, "reactions": {"👍": 2, "#️⃣": 1},
    }  # fmt: skip


async def test_a_reaction_is_taken_back_and_what_is_left_out_is_no_field(app: App) -> None:
    session_id = await app.book()
    message = await say(app, session_id)
    await react(app, session_id, message["id"], "🎉")
    for _ in range(2):
        after = await react(app, session_id, message["id"], "🎉", how="DELETE")
        assert (after.status, after.body) == (200, message)
    assert (await app.call("kid", "GET", f"/sessions/{session_id}/messages")).body == [message]


async def test_every_reaction_changes_the_etag_and_no_page_from_memory_is_old(database: str) -> None:
    async with running_app(database) as here, running_app(database) as there:
        # Nothing tells these two of each other.
        session_id = await here.book()
        message = await say(here, session_id)
        path, etags = f"/sessions/{session_id}/messages", []
        for number, (app, who, how, counts) in enumerate(
            (
                (here, "kid", "PUT", {"👍": 1}),
                (there, "mum", "PUT", {"👍": 2}),
                (here, "kid", "DELETE", {"👍": 1}),
                (there, "mum", "DELETE", None),
            )
        ):
            await react(app, session_id, message["id"], "👍", who, how)
            pages = [await one.call("teach", "GET", path) for one in (here, there, here, there)]
            assert [page.body[0].get("reactions") for page in pages] == [counts] * 4
            etags.append(pages[0].headers["ETag"])
            assert {page.headers["ETag"] for page in pages} == {etags[number]}
        assert len(set(etags)) == 4


async def test_long_lists_are_read_in_pieces(app: App) -> None:
    session_id = await app.book()
    message = await say(app, session_id)
    for who in MEMBERS:
        for emoji in ("👍", "🏳️‍🌈"):
            await react(app, session_id, message["id"], emoji, who)
    path = f"/sessions/{session_id}/messages/{message['id']}/reactions"
    everybody = (await app.call("kid", "GET", path)).body
    found, following = [], f"{path}?limit=3"
    while following:
        answer = await app.call("kid", "GET", following)
        found += answer.body
        following = answer.headers.get("Link", "").partition(">")[0].removeprefix("<")
    assert found == everybody
    assert len(found) == 2 * len(MEMBERS)


@pytest.mark.parametrize("cursor", ["x", "~", "kid", "~kid", "%F0%9F%91%8D%00"])
async def test_a_cursor_that_is_none_is_400(app: App, cursor: str) -> None:
    session_id = await app.book()
    message = await say(app, session_id)
    answer = await app.call("kid", "GET", f"/sessions/{session_id}/messages/{message['id']}/reactions?cursor={cursor}")
    assert (answer.status, list(answer.body["fields"])) == (400, ["cursor"])


@pytest.mark.parametrize("emoji", ["nice", "1", " ", "👍👍", "é", "👍" * 40])
async def test_what_is_not_one_emoji_is_404(app: App, emoji: str) -> None:
    session_id = await app.book()
    message = await say(app, session_id)
    before = await contents(app.pool)
    for how in ("PUT", "DELETE"):
        answer = await react(app, session_id, message["id"], emoji, how=how)
        assert (answer.status, answer.error) == (404, "emoji_not_found")
    assert await contents(app.pool) == before


async def test_a_message_has_room_for_twenty_emoji(app: App) -> None:
    session_id = await app.book()
    message = await say(app, session_id)
    for number in range(20):
        assert (await react(app, session_id, message["id"], chr(0x1F600 + number))).status == 200
    full = await react(app, session_id, message["id"], "👍")
    assert (full.status, full.error) == (409, "too_many_reactions")


async def test_strangers_and_closed_chats_take_none(app: App) -> None:
    session_id = await app.book()
    message = await say(app, session_id)
    for who in STRANGERS:
        assert (await react(app, session_id, message["id"], "👍", who)).status == 403
        listed = await app.call(who, "GET", f"/sessions/{session_id}/messages/{message['id']}/reactions")
        assert listed.status == 403
    await close_chat(app.pool, session_id)
    refused = await react(app, session_id, message["id"], "👍")
    assert (refused.status, refused.error) == (409, "booking_cancelled")


async def test_ones_own_reactions_to_a_page_of_messages(app: App) -> None:
    session_id = await app.book()
    first, second = await say(app, session_id), await say(app, session_id)
    await react(app, session_id, first["id"], "👍")
    await react(app, session_id, first["id"], "🎉", "mum")
    await react(app, session_id, second["id"], "🎉")
    path = f"/sessions/{session_id}/reactions/mine"
    own = [{"message_id": first["id"], "emoji": "👍"}, {"message_id": second["id"], "emoji": "🎉"}]
    assert (await app.call("kid", "GET", path)).body == own
    assert (await app.call("kid", "GET", f"{path}?limit=1")).body == own[1:]
    assert (await app.call("kid", "GET", f"{path}?before={second['seq']}")).body == own[:1]
    assert (await app.call("teach", "GET", path)).body == []
    await app.call("kid", "DELETE", f"/sessions/{session_id}/messages/{first['id']}")
    assert (await app.call("kid", "GET", path)).body == own[1:]
    assert (await app.call("kid", "GET", f"{path}?before=soon")).status == 400
    for stranger in STRANGERS:
        assert (await app.call(stranger, "GET", path)).status == 403
