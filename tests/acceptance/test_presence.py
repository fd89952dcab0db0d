"""Who is here: per person, over all workers, and right again after one of them died."""

from __future__ import annotations

import asyncio

from tests.acceptance.conftest import NO_LIMITS, Arrange, Pair, Sit, Start
from tests.acceptance.lessons import Lesson, until, within
from tests.support.redis import RedisServer

#: A worker's lease, and the time until another looks.
DEAD_WORKER_SECONDS = 10.5


async def test_people_come_and_go_not_tabs(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    watchers = [await sit(url, lesson, lesson.teacher) for url in pair.urls]
    first = await sit(pair.one.url, lesson, lesson.student)
    for watcher in watchers:
        joined = await watcher.hears("participantJoined", userId=lesson.student.id)
        assert joined == first.ack["participants"][1] | {"session_id": lesson.id}
        assert (joined["name"], joined["role"]) == ("Stu Dent", "student")
    second = await sit(pair.one.url, lesson, lesson.student)
    third = await sit(pair.two.url, lesson, lesson.student)
    assert await lesson.online() == {lesson.teacher.id, lesson.student.id}

    await first.client.close()
    await third.client.drop()
    # Long enough for a departure that must not come: the parent's does, who came last and leaves first.
    parent = await sit(pair.one.url, lesson, lesson.parent)
    await parent.client.close()
    for watcher in watchers:
        left = await watcher.hears("participantLeft", userId=lesson.parent.id)
        assert left == {"userId": lesson.parent.id, "reason": "disconnected", "session_id": lesson.id}
    assert await lesson.online(url=pair.two.url) == {lesson.teacher.id, lesson.student.id}

    await second.call("leaveSession")
    for watcher in watchers:
        left = await watcher.hears("participantLeft", userId=lesson.student.id)
        assert left["reason"] == "left"
        assert [data["userId"] for data in watcher.came("participantJoined")].count(lesson.student.id) == 1
        assert [data["userId"] for data in watcher.came("participantLeft")].count(lesson.student.id) == 1
    assert await lesson.online() == {lesson.teacher.id}


async def test_a_reload_is_silent_whichever_worker_one_comes_back_on(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    watchers = [await sit(url, lesson, lesson.teacher) for url in pair.urls]
    reloading = [lesson.student, *await lesson.admins(1)]
    for person, url in zip(reloading, pair.urls, strict=True):
        await (await sit(pair.one.url, lesson, person)).client.drop()
        after = await sit(url, lesson, person)
        assert [p["userId"] for p in after.ack["participants"]].count(person.id) == 1
    # Somebody who goes later is told of after the grace of the others would have ended.
    await (await sit(pair.one.url, lesson, lesson.parent)).client.close()
    for watcher in watchers:
        await watcher.hears("participantLeft", userId=lesson.parent.id)
        about = [data["userId"] for data in watcher.came("participantJoined") + watcher.came("participantLeft")]
        assert [about.count(person.id) for person in reloading] == [1, 1], watcher.client.events.all
    assert await lesson.online() == {lesson.teacher.id, *(person.id for person in reloading)}


async def test_after_leaving_one_hears_nothing_and_may_not_speak(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    student = await sit(pair.one.url, lesson, lesson.student)
    assert await student.call("leaveSession") == {"ok": True}
    await teacher.say("are you there?")
    refused = await student.call("sendMessage", text="no")
    assert refused["error"]["error"] == "not_joined"
    assert student.seqs == []
    await student.call("joinSession")
    await teacher.say("welcome back")
    await student.hears_up_to(2)
    assert student.texts == ["welcome back"]


async def test_the_people_of_a_killed_worker_leave_and_those_who_came_back_stay(
    redis_server: RedisServer, start: Start, arrange: Arrange, sit: Sit
) -> None:
    doomed, other = await start(2, REDIS_URL=redis_server.url, **NO_LIMITS)
    lesson = await arrange(other.url)
    watcher = await sit(other.url, lesson, lesson.teacher)
    # One goes for good, one comes back elsewhere, one is on both, and one was gone a moment before.
    await sit(doomed.url, lesson, lesson.student)
    comes_back = await sit(doomed.url, lesson, lesson.parent)
    on_both, gone_before = await lesson.admins(2)
    for url in (doomed.url, other.url):
        await sit(url, lesson, on_both)
    await (await sit(doomed.url, lesson, gone_before)).client.close()
    await until(lambda: len(watcher.came("participantJoined")) == 4, "all are here")

    doomed.kill()
    await comes_back.client.wait_disconnected()
    await sit(other.url, lesson, lesson.parent)
    async with within(DEAD_WORKER_SECONDS, other.url):
        left = await watcher.hears("participantLeft", userId=lesson.student.id)
        await watcher.hears("participantLeft", userId=gone_before.id)
    assert left == {"userId": lesson.student.id, "reason": "timeout", "session_id": lesson.id}
    assert await lesson.online() == {lesson.teacher.id, lesson.parent.id, on_both.id}
    assert {data["userId"] for data in watcher.came("participantLeft")} == {lesson.student.id, gone_before.id}
    assert len(watcher.came("participantJoined")) == 4


async def test_people_who_come_and_go_quickly_leave_the_roster_as_it_is(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    watchers = [await sit(url, lesson, lesson.teacher) for url in pair.urls]
    crowd = await lesson.admins(4)

    async def come_and_go(n: int) -> None:
        for turn in range(10):
            seat = await sit(pair.urls[(n + turn) % 2], lesson, crowd[n])
            if turn < 9 or n % 2:
                await seat.client.close()

    await asyncio.gather(*(come_and_go(n) for n in range(4)))
    stay = {lesson.teacher.id, crowd[0].id, crowd[2].id}
    await until(lambda: _is(lesson, stay), "two of the crowd stay")

    def rosters() -> list[set[str]]:
        found = []
        for watcher in watchers:
            here = {p["userId"] for p in watcher.ack["participants"]}
            for received in watcher.client.events.all:
                if received.event == "participantJoined":
                    here.add(received.data["userId"])
                elif received.event == "participantLeft":
                    here.remove(received.data["userId"])
            found.append(here)
        return found

    await until(lambda: rosters() == [stay, stay], "both workers tell the same", seen=rosters)
    newcomer = await sit(pair.two.url, lesson, lesson.parent)
    assert {p["userId"] for p in newcomer.ack["participants"]} == stay | {lesson.parent.id}


async def _is(lesson: Lesson, wanted: set[str]) -> bool:
    return await lesson.online() == wanted
