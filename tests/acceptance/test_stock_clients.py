"""The clients that everybody has, unchanged: socket.io-client in Node.js, and python-socketio's."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.acceptance.conftest import Arrange, Pair, Sit
from tests.acceptance.lessons import Person
from tests.conftest import ConnectNode
from tests.support.clients import ConnectRefusedError

TRANSPORTS = [["websocket"], ["polling"], ["polling", "websocket"]]
MESSAGES = 50


@pytest.mark.parametrize("transports", TRANSPORTS, ids=" then ".join)
async def test_the_official_client_joins_speaks_and_listens(
    pair: Pair, arrange: Arrange, sit: Sit, connect_node: ConnectNode, transports: list[str]
) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.two.url, lesson, lesson.teacher)
    node = await connect_node(pair.one.url, lesson.student.token(), transports=transports)
    joined = await node.call("joinSession", {"sessionId": lesson.id})
    assert joined["ok"], joined
    sent = await node.call("sendMessage", {"sessionId": lesson.id, "text": "héllo \N{OWL}"})
    assert await teacher.hears("newMessage", id=sent["message"]["id"]) == sent["message"]
    answer = await teacher.say("hello yourself")
    assert await node.wait_for("newMessage", lambda data: data["seq"] == 2) == answer
    refused = await node.call("nonsense", {})
    assert refused["error"]["error"] == "unknown_event"


@pytest.mark.parametrize("transports", TRANSPORTS, ids=" then ".join)
async def test_what_the_official_client_says_in_one_tick_arrives_whole_and_in_order(
    pair: Pair, arrange: Arrange, sit: Sit, connect_node: ConnectNode, transports: list[str]
) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.two.url, lesson, lesson.teacher)
    node = await connect_node(pair.one.url, lesson.student.token(), transports=transports)
    # Together more than one body may hold: the client cuts them up by what the server says.
    payloads: list[Any] = [{"sessionId": lesson.id, "text": f"{n} " + "x" * 1_900} for n in range(MESSAGES)]
    acks = await node.burst("joinSession", [{"sessionId": lesson.id}])
    acks += await node.burst("sendMessage", payloads)
    assert [ack["ok"] for ack in acks] == [True] * (MESSAGES + 1)
    await teacher.hears_up_to(MESSAGES)
    assert teacher.texts == [payload["text"] for payload in payloads]
    await node.events.wait_for_many(MESSAGES, "newMessage")
    assert [data["seq"] for data in node.events.of("newMessage")] == list(range(1, MESSAGES + 1))


@pytest.mark.parametrize("transports", TRANSPORTS, ids=" then ".join)
async def test_the_official_client_reconnects_by_itself_and_resumes(
    pair: Pair, arrange: Arrange, sit: Sit, connect_node: ConnectNode, transports: list[str]
) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.two.url, lesson, lesson.teacher)
    node = await connect_node(pair.one.url, lesson.student.token(), transports=transports)
    await node.call("joinSession", {"sessionId": lesson.id})
    await teacher.say("before")
    await node.wait_for("newMessage")
    await node.use_token(lesson.student.token(iat=int(time.time())))
    await node.drop()
    await teacher.say("meanwhile")
    await node.events.wait_for_many(2, "$connect")
    back = await node.call("joinSession", {"sessionId": lesson.id, "lastSeq": 1})
    assert [event["data"]["text"] for event in back["events"]] == ["meanwhile"]
    await teacher.say("after")
    await node.wait_for("newMessage", lambda data: data["seq"] == 3)
    assert [data["seq"] for data in node.events.of("newMessage")] == [1, 3]


@pytest.mark.parametrize("transports", TRANSPORTS, ids=" then ".join)
async def test_the_official_client_is_told_why_it_is_refused(
    pair: Pair, connect_node: ConnectNode, transports: list[str]
) -> None:
    with pytest.raises(ConnectRefusedError) as refused:
        await connect_node(pair.one.url, "no token", transports=transports)
    assert set(refused.value.data) == {"error", "message", "status_code"}
    assert refused.value.data["status_code"] == 401


async def test_the_official_client_does_not_come_back_when_its_token_has_expired(
    pair: Pair, arrange: Arrange, connect_node: ConnectNode
) -> None:
    lesson = await arrange(pair.one.url)
    node = await connect_node(pair.one.url, lesson.student.token())
    token, _ = lesson.student.brief_token()
    refreshed = await node.call("refreshAuth", {"token": token})
    assert refreshed["ok"], refreshed
    await node.use_token(token)
    await node.wait_for("authExpiring")
    assert await node.wait_for("$disconnect") == "io server disconnect"


@pytest.mark.parametrize("transports", TRANSPORTS, ids=" then ".join)
async def test_pythons_client_joins_speaks_and_listens(
    pair: Pair, arrange: Arrange, sit: Sit, transports: list[str]
) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.two.url, lesson, lesson.teacher)
    student = await sit(pair.one.url, lesson, lesson.student, transports=transports)
    assert student.client.transport == transports[-1]
    said = [await student.say(f"{n}") for n in range(3)]
    answered = [await teacher.say(f"re: {n}") for n in range(3)]
    for seat in (teacher, student):
        await seat.hears_up_to(6)
        assert seat.came("newMessage") == said + answered


async def test_pythons_client_on_polling_takes_many_messages_at_once(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    # It refuses a body of more than 16 packets, and waits for the next one meanwhile.
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    people: list[Person] = [lesson.student, lesson.parent]
    seats = [await sit(url, lesson, p, transports=["polling"]) for p, url in zip(people, pair.urls, strict=True)]
    await asyncio.gather(*(teacher.say(f"{n}") for n in range(200)))
    for seat in seats:
        await seat.hears_up_to(200)
        assert seat.seqs == list(range(1, 201))


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_a_client_that_upgrades_in_the_middle_of_a_lesson_misses_nothing(
    pair: Pair, arrange: Arrange, sit: Sit, connect_node: ConnectNode, transport: str
) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    enough = asyncio.Event()

    async def talk() -> None:
        while not enough.is_set():
            await teacher.say("and so on")

    talking = asyncio.create_task(talk())
    for _ in range(3):
        node = await connect_node(pair.one.url, lesson.student.token(), transports=["polling", transport])
        joined = await node.call("joinSession", {"sessionId": lesson.id})
        first = joined["lastSeq"] + 1
        await node.events.wait_for_many(100, "newMessage")
        seen = [data["seq"] for data in node.events.of("newMessage")]
        assert seen == list(range(first, first + len(seen)))
        await node.close()
    enough.set()
    await talking
