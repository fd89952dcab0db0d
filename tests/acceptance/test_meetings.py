"""Meetings on two servers: signals from one person to another, and a meeting that is moved."""

from __future__ import annotations

from tests.acceptance.conftest import Arrange, Pair, Sit


async def test_two_browsers_on_different_workers_find_each_other(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    student = await sit(pair.two.url, lesson, lesson.student)
    parent = await sit(pair.two.url, lesson, lesson.parent)
    await teacher.hears("participantJoined", userId=lesson.student.id)

    offer = {"type": "offer", "sdp": "v=0\r\n" + "x" * 20_000}
    assert (await teacher.call("signal", to=lesson.student.id, data=offer))["ok"]
    heard = await student.hears("signal")
    assert (heard["from"], heard["data"]) == (lesson.teacher.id, offer)

    assert (await student.call("signal", to=lesson.teacher.id, data={"type": "answer"}))["ok"]
    assert (await teacher.hears("signal"))["data"] == {"type": "answer"}
    await parent.say("Good morning")
    assert parent.client.events.of("signal") == []
