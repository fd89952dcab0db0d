"""A client that comes back says what it saw last, and gets exactly the rest, on whichever worker it lands."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.acceptance.conftest import Arrange, Pair, Sit
from tests.acceptance.lessons import Lesson, Seat, until


async def fill(lesson: Lesson, url: str, count: int) -> None:
    """Have the teacher say `count` things, in order."""
    seat = await Seat.take(url, lesson, lesson.teacher)
    first = seat.ack["lastSeq"] + 1
    for n in range(first, first + count - 1):
        await seat.client.emit("sendMessage", {"sessionId": lesson.id, "text": f"text {n}"})
    await seat.say(f"text {first + count - 1}")
    await seat.client.close()


def seqs(events: list[dict[str, Any]]) -> list[int]:
    return [event["data"]["seq"] for event in events]


@pytest.mark.parametrize("back_on", ["the same worker", "the other worker"])
async def test_a_cut_connection_gets_exactly_the_rest(pair: Pair, arrange: Arrange, sit: Sit, back_on: str) -> None:
    lesson = await arrange(pair.one.url)
    stays = await sit(pair.one.url, lesson, lesson.teacher)
    cut = await sit(pair.one.url, lesson, lesson.student)
    for n in range(5):
        await stays.say(f"before {n}")
    await cut.hears_up_to(5)
    await cut.client.drop()
    message = await stays.say("while away")
    await stays.call("raiseHand", raised=True)
    await stays.call("editMessage", id=message["id"], text="while you were away")

    url = pair.one.url if back_on == "the same worker" else pair.two.url
    back = await sit(url, lesson, lesson.student, last_seq=cut.seqs[-1])
    assert "reset" not in back.ack
    assert back.ack["lastSeq"] == 8
    assert [event["event"] for event in back.ack["events"]] == ["newMessage", "handRaised", "messageEdited"]
    assert seqs(back.ack["events"]) == [6, 7, 8]
    assert back.ack["events"][0]["data"] == message | {
        "text": "while you were away",
        "edited_at": back.ack["events"][2]["data"]["edited_at"],
    }
    await stays.say("after")
    await back.hears_up_to(9)
    assert (back.seqs, stays.seqs) == ([9], list(range(1, 10)))


async def test_what_was_missed_comes_as_it_would_have_come_live(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    stays = await sit(pair.one.url, lesson, lesson.teacher)
    message = await stays.say("one", clientId="c1")
    await stays.call("setPermissions", userId=lesson.student.id, micAllowed=False)
    await stays.call("raiseHand", raised=True)
    started = await lesson.call("PUT", "", {"status": "active"}, by=lesson.teacher)
    assert started.status == 200
    await stays.call("pinMessage", id=message["id"])
    await stays.call("setSession", chatMuted=True, slowModeSeconds=5)
    await stays.call("react", id=message["id"], emoji="👍")
    await stays.hears_up_to(7)
    live = [{"event": r.event, "data": r.data} for r in stays.client.events.all if "seq" in r.data]
    live[0]["data"] |= {"reactions": {"👍": 1}}  # a message comes as it is now
    for url in pair.urls:
        back = await sit(url, lesson, lesson.student, last_seq=0)
        assert back.ack["events"] == live


async def test_nobody_misses_or_sees_twice_what_is_said_while_they_come_back(
    pair: Pair, arrange: Arrange, sit: Sit
) -> None:
    lesson = await arrange(pair.one.url)
    speakers = [await sit(url, lesson, lesson.teacher) for url in pair.urls]
    done = asyncio.Event()

    async def talk(seat: Seat) -> None:
        for n in range(300):
            await seat.say(f"{n}")
        done.set()

    async def come_and_go(start: int) -> list[int]:
        seen: list[int] = []
        turn = start
        while True:
            last_lap = done.is_set()
            seat = await Seat.take(pair.urls[turn % 2], lesson, lesson.student, last_seq=seen[-1] if seen else 0)
            seen += seqs(seat.ack["events"])
            assert "reset" not in seat.ack
            # A few, and away again in the middle of it.
            await until(lambda s=seat: done.is_set() or len(s.seqs) >= 7, "seven more", seen=lambda s=seat: s.seqs)  # type: ignore[misc]
            await seat.client.drop()
            seen += seat.seqs
            turn += 1
            if last_lap:
                return seen

    goers = [asyncio.create_task(come_and_go(start)) for start in range(2)]
    await asyncio.gather(*(talk(seat) for seat in speakers))
    first, second = await asyncio.gather(*goers)
    for seen in (first, second):
        assert seen == list(range(1, len(seen) + 1))
    back = await sit(pair.one.url, lesson, lesson.student, last_seq=first[-1])
    assert first[-1] + len(back.ack["events"]) == 600


async def test_who_missed_nothing_is_told_nothing(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    await fill(lesson, pair.one.url, 3)
    for url in pair.urls:
        back = await sit(url, lesson, lesson.student, last_seq=3)
        assert (back.ack["events"], back.ack["lastSeq"], back.ack.get("reset")) == ([], 3, None)
    # Without lastSeq there is no talk of it.
    assert "events" not in (await sit(pair.one.url, lesson, lesson.student)).ack


async def test_five_hundred_missed_are_told_and_one_more_means_a_new_start(
    pair: Pair, arrange: Arrange, sit: Sit
) -> None:
    lesson = await arrange(pair.one.url)
    await fill(lesson, pair.one.url, 501)
    for url in pair.urls:
        back = await sit(url, lesson, lesson.student, last_seq=1)
        assert back.ack.get("reset") is None
        assert seqs(back.ack["events"]) == list(range(2, 502))
        anew = await sit(url, lesson, lesson.student, last_seq=0)
        assert anew.ack["reset"] is True
        assert seqs(anew.ack["events"]) == list(range(302, 502))
        assert anew.ack["lastSeq"] == 501


@pytest.mark.parametrize("last_seq", [3, 10_000, 2**63 - 1])
async def test_who_is_ahead_of_the_session_starts_anew(pair: Pair, arrange: Arrange, sit: Sit, last_seq: int) -> None:
    lesson = await arrange(pair.one.url)
    await fill(lesson, pair.one.url, 2)
    for url in pair.urls:
        back = await sit(url, lesson, lesson.student, last_seq=last_seq)
        assert (back.ack["reset"], seqs(back.ack["events"]), back.ack["lastSeq"]) == (True, [1, 2], 2)


@pytest.mark.parametrize("last_seq", [-1, 2**63, "1", 1.5, True, [], {}])
async def test_a_last_seq_that_is_none_is_refused(pair: Pair, arrange: Arrange, sit: Sit, last_seq: object) -> None:
    lesson = await arrange(pair.one.url)
    seat = await sit(pair.one.url, lesson, lesson.student)
    refused = await seat.call("joinSession", lastSeq=last_seq)
    assert refused["ok"] is False, refused
    assert (refused["error"]["error"], refused["error"]["status_code"]) == ("validation_failed", 400)


async def test_a_text_deleted_meanwhile_is_gone_from_what_was_missed(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    # One worker has the lesson in memory, the other reads it.
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    message = await teacher.say("a slip")
    await teacher.call("editMessage", id=message["id"], text="a bigger slip")
    await teacher.say("fine")
    await teacher.call("deleteMessage", id=message["id"])
    await teacher.hears_up_to(4)
    acks = []
    for url in pair.urls:
        back = await sit(url, lesson, lesson.student, last_seq=0)
        acks.append(back.ack["events"])
        assert "slip" not in str(back.ack)
        assert [(e["event"], e["data"].get("text")) for e in back.ack["events"]] == [
            ("newMessage", ""),
            ("messageEdited", ""),
            ("newMessage", "fine"),
            ("messageDeleted", None),
        ]
        assert back.ack["events"][0]["data"]["deleted"] is True
    assert acks[0] == acks[1]


async def test_the_ack_of_joining_says_who_and_what(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    shown = await lesson.call("GET", "", by=lesson.student)
    student = await sit(pair.two.url, lesson, lesson.student)
    ack = student.ack
    session = ack["session"]
    assert {**shown.body, "status": "scheduled"}.items() <= session.items()
    assert (session["session_id"], session["kind"]) == (lesson.id, "booking")
    assert [p["userId"] for p in ack["participants"]] == [lesson.teacher.id, lesson.student.id]
    fields = {"userId", "name", "role", "micAllowed", "cameraAllowed", "handRaised", "readSeq", "joinedAt"}
    assert all(set(p) == fields for p in ack["participants"]), ack["participants"]
    assert ack["you"] == ack["participants"][1] | {"is_host": False}
    assert teacher.ack["you"]["is_host"] is True
    # By room name, and without regard for the case of an id.
    for ref in (session["room_name"], lesson.id.upper()):
        again = await student.client.call("joinSession", {"sessionId": ref})
        assert again["ok"], again
        sent = await student.client.call("sendMessage", {"sessionId": ref, "text": "hello"})
        assert sent["ok"], sent


async def test_no_event_of_a_session_comes_before_the_ack_of_joining_it(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    speaker = await sit(pair.one.url, lesson, lesson.teacher)
    enough = asyncio.Event()

    async def talk() -> None:
        while not enough.is_set():
            await speaker.say("and so on")

    talking = asyncio.create_task(talk())
    for turn in range(20):
        seat = await sit(pair.urls[turn % 2], lesson, lesson.student)
        await seat.hears_up_to(seat.ack["lastSeq"] + 2)
        assert seat.seqs[0] == seat.ack["lastSeq"] + 1, (seat.ack["lastSeq"], seat.seqs)
    enough.set()
    await talking
