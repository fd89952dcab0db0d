"""Two servers, one Redis, one database: a lesson does not care which of them one is connected to."""

from __future__ import annotations

import asyncio

import pytest
import redis

from tests.acceptance.conftest import Arrange, Pair, Sit
from tests.acceptance.lessons import Seat, within
from tests.support.redis import RedisServer

MESSAGES = 1000
SENDERS = 20
#: Messages of one sender that are under way at a time.
WINDOW = 10


async def test_two_people_on_different_workers_talk_both_ways(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    student = await sit(pair.two.url, lesson, lesson.student)

    asked = await student.say("What is a derivative?", clientId="q1")
    heard = await teacher.hears("newMessage", id=asked["id"])
    assert heard == asked
    assert (heard["from"], heard["user_id"], heard["client_id"]) == ("Stu Dent", lesson.student.id, "q1")

    answered = await teacher.say("A rate of change.")
    assert await student.hears("newMessage", id=answered["id"]) == answered
    assert [asked["seq"], answered["seq"]] == [1, 2]
    for seat in (teacher, student):
        await seat.hears_up_to(2)
        assert seat.seqs == [1, 2]


async def test_a_message_by_rest_reaches_everybody_on_both_workers(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    seats = [await sit(url, lesson, lesson.teacher) for url in pair.urls]
    posted = await lesson.post("by REST", by=lesson.parent, url=pair.two.url)
    assert posted.status == 201
    for seat in seats:
        assert await seat.hears("newMessage", id=posted.body["id"]) == posted.body


async def test_a_thousand_messages_of_twenty_senders_arrive_once_and_in_one_order(
    pair: Pair, arrange: Arrange, sit: Sit
) -> None:
    lesson = await arrange(pair.one.url)
    people = [lesson.teacher, lesson.student, lesson.parent, *await lesson.admins(SENDERS - 3)]
    seats = await asyncio.gather(*(sit(pair.urls[n % 2], lesson, person) for n, person in enumerate(people)))
    acked: dict[str, int] = {}

    async def send(seat: Seat, number: int) -> None:
        pace = asyncio.Semaphore(WINDOW)

        async def one(n: int) -> None:
            text = f"{number}/{n}"
            async with pace:
                if n % 25 == 0:
                    posted = await lesson.post(text, by=seat.person, url=pair.urls[n // 25 % 2])
                    assert posted.status == 201, posted
                    acked[text] = posted.body["seq"]
                else:
                    acked[text] = (await seat.say(text))["seq"]

        await asyncio.gather(*(one(n) for n in range(MESSAGES // SENDERS)))

    await asyncio.gather(*(send(seat, number) for number, seat in enumerate(seats)))
    assert sorted(acked.values()) == list(range(1, MESSAGES + 1))
    in_order = sorted(acked, key=lambda text: acked[text])
    for seat in seats:
        await seat.hears_up_to(MESSAGES)
        assert seat.seqs == list(range(1, MESSAGES + 1)), f"{seat.person.id} saw {_oddities(seat.seqs)}"
        assert seat.texts == in_order
    assert [(m["seq"], m["text"]) for m in await lesson.history()] == list(enumerate(in_order, 1))


async def test_messages_of_one_sender_keep_their_order(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    student = await sit(pair.one.url, lesson, lesson.student)
    teacher = await sit(pair.two.url, lesson, lesson.teacher)
    texts = [f"word {n}" for n in range(100)]
    for text in texts:
        await student.client.emit("sendMessage", {"sessionId": lesson.id, "text": text})
    await teacher.hears_up_to(100)
    assert teacher.texts == texts


@pytest.mark.parametrize("repeat", range(5))
async def test_a_retried_message_lands_once_whichever_workers_get_it(
    pair: Pair, arrange: Arrange, sit: Sit, repeat: int
) -> None:
    lesson = await arrange(pair.one.url)
    tabs = [await sit(url, lesson, lesson.student) for url in pair.urls]
    listener = await sit(pair.one.url, lesson, lesson.teacher)
    copies = await asyncio.gather(*(tab.say("once", clientId=f"c{repeat}") for tab in tabs * 3))
    assert all(copy == copies[0] for copy in copies), copies
    again = await lesson.post("once", by=lesson.student, client_id=f"c{repeat}", url=pair.two.url)
    assert (again.status, again.body) == (200, copies[0])
    # Somebody else's may be called the same.
    other = await lesson.post("another", by=lesson.teacher, client_id=f"c{repeat}")
    assert other.status == 201
    await listener.hears_up_to(other.body["seq"])
    assert (listener.seqs, listener.texts) == ([1, 2], ["once", "another"])
    assert [m["text"] for m in await lesson.history()] == ["once", "another"]


async def test_edits_and_deletions_reach_the_other_worker_in_turn(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    student = await sit(pair.one.url, lesson, lesson.student)
    teacher = await sit(pair.two.url, lesson, lesson.teacher)
    message = await student.say("frist")
    edited = await student.call("editMessage", id=message["id"], text="first")
    assert edited["ok"], edited
    assert edited["message"]["text"] == "first"
    heard = await teacher.hears("messageEdited", id=message["id"])
    assert (heard["seq"], heard["text"], heard["session_id"]) == (2, "first", lesson.id)
    deleted = await teacher.call("deleteMessage", id=message["id"])
    assert deleted["message"] | {"text": "", "deleted": True} == deleted["message"]
    gone = await student.hears("messageDeleted", id=message["id"])
    assert (gone["seq"], gone["session_id"]) == (3, lesson.id)
    assert [(m["text"], m.get("deleted")) for m in await lesson.history()] == [("", True)]
    assert not any("first" in str(entry) or "frist" in str(entry) for entry in await lesson.timeline())
    other = await student.call("editMessage", id=message["id"], text="again")
    assert other["error"]["error"] == "message_deleted"


async def test_typing_and_read_marks_cross_over_and_spare_the_typist(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    student = await sit(pair.one.url, lesson, lesson.student)
    teacher = await sit(pair.two.url, lesson, lesson.teacher)
    assert (await student.call("typing", typing=True)) == {"ok": True}
    await teacher.hears("typing", userId=lesson.student.id, typing=True, name="Stu Dent", session_id=lesson.id)
    message = await student.say("typed")
    await teacher.hears("typing", userId=lesson.student.id, typing=False)
    assert student.came("typing") == []
    assert (await teacher.call("markRead", seq=message["seq"])) == {"ok": True}
    await student.hears("read", userId=lesson.teacher.id, seq=message["seq"], session_id=lesson.id)


async def test_typing_ends_by_itself(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    student = await sit(pair.one.url, lesson, lesson.student)
    teacher = await sit(pair.two.url, lesson, lesson.teacher)
    await student.call("typing", typing=True)
    await teacher.hears("typing", typing=True)
    async with within(6.0, pair.two.url):
        await teacher.hears("typing", typing=False)


async def test_a_worker_listens_only_to_lessons_that_it_has_members_of(
    pair: Pair, arrange: Arrange, sit: Sit, redis_server: RedisServer
) -> None:
    lesson = await arrange(pair.one.url)

    def listeners() -> int:
        with redis.Redis.from_url(redis_server.url) as client:
            channels = client.pubsub_channels(f"*session-{lesson.id}")
            return sum(count for _, count in client.pubsub_numsub(*channels)) if channels else 0

    await sit(pair.one.url, lesson, lesson.teacher)
    assert listeners() == 1
    await sit(pair.two.url, lesson, lesson.student)
    assert listeners() == 2


def _oddities(seqs: list[int]) -> str:
    """What is wrong with a list that should be 1, 2, 3 …"""
    missing = sorted(set(range(1, MESSAGES + 1)) - set(seqs))
    twice = sorted({seq for seq in seqs if seqs.count(seq) > 1})
    return f"{len(seqs)} events; missing {missing[:10]}, twice {twice[:10]}, in order: {seqs == sorted(seqs)}"
