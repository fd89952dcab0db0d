"""Redis is a hint, Postgres the truth: what happens to a lesson while one of them is away, and afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.acceptance.conftest import NO_LIMITS, Arrange, Sit, Start
from tests.acceptance.lessons import Lesson, Seat, delay, rest, until, within
from tests.support.postgres import Cluster
from tests.support.redis import RedisServer

#: "Across workers it arrives by catch-up within 2 s."
CATCH_UP_SECONDS = 2.0
#: No poll and no timeout in between.
AT_ONCE = 0.0


async def check_everything_came(lesson: Lesson, *seats: Seat) -> None:
    """Each seat, here from the beginning, saw every `seq` once and in order, and history has the same."""
    history = await lesson.history()
    texts = [m["text"] for m in history]
    assert len(set(texts)) == len(texts), "a message landed twice"
    last = (await lesson.timeline())[-1]["seq"]
    for seat in seats:
        await seat.hears_up_to(last)
        assert seat.seqs == list(range(1, last + 1)), f"{seat.person.id} saw {seat.seqs}"
        assert seat.texts == texts


@asynccontextmanager
async def chatter(*seats: Seat) -> AsyncIterator[list[str]]:
    """Everybody talks, one message after the other, and retries what is refused with 503 under the same clientId.

    Yields the texts acked so far. At the end the last ones are waited for.
    """
    enough = asyncio.Event()
    acked: list[str] = []

    async def talk(seat: Seat, number: int) -> None:
        n = 0
        while not enough.is_set():
            text = f"{number}/{n}"
            while True:
                ack = await seat.call("sendMessage", text=text, clientId=text)
                if ack["ok"]:
                    break
                assert ack["error"]["status_code"] == 503, ack
                await asyncio.sleep(0.05)
            acked.append(text)
            n += 1
            await asyncio.sleep(0.005)

    talkers = [asyncio.create_task(talk(seat, number)) for number, seat in enumerate(seats)]
    try:
        yield acked
    finally:
        enough.set()
        await asyncio.gather(*talkers)


async def more(acked: list[str], count: int) -> None:
    """Wait for `count` more acks."""
    wanted = len(acked) + count
    await until(lambda: len(acked) >= wanted, f"{count} more acks", seen=lambda: len(acked))


async def readiness(url: str) -> tuple[int, dict[str, Any]]:
    answer = await rest(url, "GET", "/readyz")
    return answer.status, answer.body


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_without_redis_chat_goes_on_at_once_here_and_within_two_seconds_elsewhere(
    private_redis: RedisServer, start: Start, arrange: Arrange, sit: Sit, how: str
) -> None:
    one, two = await start(2, REDIS_URL=private_redis.url, **NO_LIMITS)
    lesson = await arrange(one.url)
    teacher = await sit(one.url, lesson, lesson.teacher)
    beside = await sit(one.url, lesson, lesson.student)
    away = await sit(two.url, lesson, lesson.parent)
    await teacher.say("before")
    async with within(AT_ONCE, two.url):
        await away.hears_up_to(1)

    if how == "stopped":
        await asyncio.to_thread(private_redis.stop)
    else:
        private_redis.freeze()
    for turn in range(3):
        seq = 2 * turn + 2
        async with within(AT_ONCE, one.url):
            await teacher.say(f"socket {turn}")
            await beside.hears_up_to(seq)
        posted = await lesson.post(f"rest {turn}", by=lesson.student, url=two.url)
        assert posted.status == 201
        async with within(CATCH_UP_SECONDS, one.url):
            await asyncio.gather(away.hears_up_to(seq + 1), beside.hears_up_to(seq + 1))
    for url in (one.url, two.url):
        await until(lambda u=url: _is_away(u), "readyz says that the bus is away")  # type: ignore[misc]
    # People come, too, and are seen.
    (late,) = await lesson.admins(1)
    came = await sit(two.url, lesson, late, last_seq=0)
    assert len(came.ack["events"]) == 7
    await teacher.hears("participantJoined", userId=late.id)

    if how == "stopped":
        await asyncio.to_thread(private_redis.start)
    else:
        private_redis.thaw()
    for server in (one, two):
        await server.until_ready()

    async def is_quick() -> bool:
        said = time.monotonic()
        message = await teacher.say(f"after {said}")
        await away.hears_up_to(message["seq"])
        took = time.monotonic() - said
        return took < AT_ONCE + await delay(two.url)

    # Whoever publishes may pause for a moment yet before the next attempt.
    await until(is_quick, "across workers at once, as before")
    await check_everything_came(lesson, teacher, beside, away)
    assert [data["userId"] for data in teacher.came("participantJoined")].count(late.id) == 1


async def _is_away(url: str) -> bool:
    status, body = await readiness(url)
    return (status, body["bus"], body["database"]) == (503, "away", "ok")


async def test_nothing_is_lost_while_redis_comes_and_goes(
    private_redis: RedisServer, start: Start, arrange: Arrange, sit: Sit
) -> None:
    one, two = await start(2, REDIS_URL=private_redis.url, **NO_LIMITS)
    lesson = await arrange(one.url)
    people = [lesson.teacher, lesson.student, lesson.parent, *await lesson.admins(3)]
    seats = [await sit(url, lesson, person) for person, url in zip(people, [one.url, two.url] * 3, strict=True)]
    async with chatter(*seats) as acked:
        for _ in range(3):
            await more(acked, 100)
            await asyncio.to_thread(private_redis.kill)
            await more(acked, 100)
            await asyncio.to_thread(private_redis.start)
    await check_everything_came(lesson, *seats)
    assert {m["text"] for m in await lesson.history()} == set(acked)


async def test_people_who_came_and_went_unheard_are_right_again_when_redis_is_back(
    private_redis: RedisServer, start: Start, arrange: Arrange, sit: Sit
) -> None:
    one, two = await start(2, REDIS_URL=private_redis.url, **NO_LIMITS)
    lesson = await arrange(one.url)
    teacher = await sit(one.url, lesson, lesson.teacher)
    goes = await sit(two.url, lesson, lesson.student)
    await teacher.hears("participantJoined", userId=lesson.student.id)
    # So short that nobody polls in between; the news of these moments is lost.
    await asyncio.to_thread(private_redis.kill)
    await goes.call("leaveSession")
    await sit(two.url, lesson, lesson.parent)
    await asyncio.to_thread(private_redis.start)
    await teacher.hears("participantLeft", userId=lesson.student.id)
    await teacher.hears("participantJoined", userId=lesson.parent.id)


async def test_a_kick_takes_effect_on_the_other_worker_without_redis(
    private_redis: RedisServer, start: Start, arrange: Arrange, sit: Sit
) -> None:
    one, two = await start(2, REDIS_URL=private_redis.url, **NO_LIMITS)
    lesson = await arrange(one.url)
    teacher = await sit(one.url, lesson, lesson.teacher)
    student = await sit(two.url, lesson, lesson.student)
    await asyncio.to_thread(private_redis.stop)
    async with within(1.0, two.url):
        assert (await teacher.call("kick", userId=lesson.student.id))["ok"]
        await student.hears("kicked")
    refused = await student.call("sendMessage", text="hello")
    assert refused["error"]["error"] == "not_joined"


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_every_acked_message_outlives_a_restart_of_postgres(
    private_cluster: Cluster, private_redis: RedisServer, start: Start, arrange: Arrange, sit: Sit, how: str
) -> None:
    one, two = await start(
        2, DATABASE_URL=private_cluster.dsn(), DATABASE_POOL_SIZE="4", REDIS_URL=private_redis.url, **NO_LIMITS
    )
    lesson = await arrange(one.url)
    people = [lesson.teacher, lesson.student, lesson.parent, *await lesson.admins(3)]
    seats = [await sit(url, lesson, person) for person, url in zip(people, [one.url, two.url] * 3, strict=True)]
    async with chatter(*seats) as acked:
        for _ in range(2):
            await more(acked, 100)
            await asyncio.to_thread(private_cluster.stop if how == "stopped" else private_cluster.kill)
            status, body = await readiness(one.url)
            assert (status, body["database"]) == (503, "away")
            await asyncio.to_thread(private_cluster.start)
            await more(acked, 100)
    await check_everything_came(lesson, *seats)
    assert {m["text"] for m in await lesson.history()} == set(acked)
    assert all(seat.came("participantLeft") == [] for seat in seats), "everybody was here all the time"
    assert await lesson.online() == {person.id for person in people}


async def test_what_cannot_be_stored_is_refused_and_lands_once_when_retried(
    private_cluster: Cluster, private_redis: RedisServer, start: Start, arrange: Arrange, sit: Sit
) -> None:
    one, two = await start(2, DATABASE_URL=private_cluster.dsn(), REDIS_URL=private_redis.url, **NO_LIMITS)
    lesson = await arrange(one.url)
    teacher = await sit(one.url, lesson, lesson.teacher)
    student = await sit(two.url, lesson, lesson.student)
    leaves = await sit(two.url, lesson, lesson.parent)
    await teacher.say("before")
    await asyncio.to_thread(private_cluster.stop)
    assert (await leaves.call("leaveSession"))["ok"]

    async def refused_by_rest() -> None:
        posted = await lesson.post("by REST", by=lesson.student, client_id="r", url=two.url)
        assert (posted.status, posted.body["status_code"]) == (503, 503), posted
        assert int(posted.headers["Retry-After"]) >= 1

    async def refused_by_socket() -> None:
        ack = await teacher.call("sendMessage", text="by socket", clientId="s")
        assert ack["error"]["status_code"] == 503, ack

    async def refused_at_the_door() -> None:
        ack = await student.call("joinSession", lastSeq=1)
        assert ack["error"]["status_code"] == 503, ack

    await asyncio.gather(refused_by_rest(), refused_by_socket(), refused_at_the_door())
    assert teacher.seqs == [1], "nothing is shown that is not stored"
    await asyncio.to_thread(private_cluster.start)
    for server in (one, two):
        await server.until_ready()

    once = await teacher.say("by socket", clientId="s")
    assert await teacher.say("by socket", clientId="s") == once
    posted = [await lesson.post("by REST", by=lesson.student, client_id="r", url=url) for url in (two.url, one.url)]
    assert posted[0].body == posted[1].body
    await check_everything_came(lesson, teacher, student)
    # All workers' leases ran out meanwhile; but nobody left, except for who did.
    await teacher.hears("participantLeft", userId=lesson.parent.id)
    assert len(teacher.came("participantLeft")) == 1
    assert await lesson.online() == {lesson.teacher.id, lesson.student.id}
