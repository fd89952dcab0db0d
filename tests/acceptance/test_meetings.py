"""Meetings on two servers: signals from one person to another, places, and people who are put out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from domain.signals import MAX_SIGNAL_BYTES
from meetings.peer import MAX_PEOPLE
from tests.acceptance.conftest import Arrange, Pair, Sit, Start, running
from tests.acceptance.lessons import Lesson, Person, Seat, until
from tests.standins import daily as daily_standin
from tests.standins.chime import CREDENTIALS, REGION, ChimeStandin
from tests.standins.daily import DailyStandin
from tests.standins.prosody import Prosody
from tests.support.redis import RedisServer

#: What a browser has found for each of the others, told one by one.
CANDIDATES = 12
JITSI_SECRET = "what Prosody and the server share, long enough"


@pytest.fixture(scope="module")
def limited(
    module_database: str, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Two workers with the limits of the contract, but as many handshakes as the tests need."""
    settings = {"DATABASE_URL": module_database, "REDIS_URL": redis_server.url, "LIMIT_HANDSHAKES_PER_SECOND": "0"}
    with running(tmp_path_factory.mktemp("limited"), 2, **settings) as (one, two):
        yield Pair(one, two)


async def pass_for(lesson: Lesson, person: Person, *, url: str | None = None, status: int = 200) -> dict[str, object]:
    answer = await lesson.call("POST", "/token", by=person, url=url)
    assert answer.status == status, answer
    body: dict[str, object] = answer.body
    return body


async def test_two_browsers_on_different_workers_find_each_other(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    student = await sit(pair.two.url, lesson, lesson.student)
    parent = await sit(pair.two.url, lesson, lesson.parent)
    await teacher.hears("participantJoined", userId=lesson.student.id)
    for person, url in ((lesson.teacher, pair.two.url), (lesson.student, pair.one.url)):
        await pass_for(lesson, person, url=url)

    offer = {"type": "offer", "sdp": "v=0\r\n" + "x" * 20_000}
    assert (await teacher.call("signal", to=lesson.student.id, data=offer))["ok"]
    heard = await student.hears("signal")
    assert (heard["from"], heard["data"]) == (lesson.teacher.id, offer)

    assert (await student.call("signal", to=lesson.teacher.id, data={"type": "answer"}))["ok"]
    assert (await teacher.hears("signal"))["data"] == {"type": "answer"}
    await parent.say("Good morning")
    assert parent.client.events.of("signal") == []


async def full_mesh(pair: Pair, lesson: Lesson, sit: Sit) -> list[Seat]:
    """As many as a meeting among browsers takes, in turn on both workers."""
    people = [lesson.teacher, lesson.student, lesson.parent, *await lesson.admins(MAX_PEOPLE - 3)]
    seats = [await sit(pair.urls[n % 2], lesson, person) for n, person in enumerate(people)]
    for n, person in enumerate(people):
        await pass_for(lesson, person, url=pair.urls[n % 2])
    return seats


async def test_six_who_connect_to_each_other_candidate_by_candidate_reach_no_limit_and_chat_goes_on(
    limited: Pair, arrange: Arrange, sit: Sit
) -> None:
    lesson = await arrange(limited.one.url)
    seats = await full_mesh(limited, lesson, sit)
    for n, seat in enumerate(seats):
        for later in seats[n + 1 :]:
            await seat.hears("participantJoined", userId=later.person.id)

    async def connect(seat: Seat) -> list[bool]:
        acks = []
        for other in seats:
            if other is not seat:
                for n in range(CANDIDATES + 2):
                    data = {"n": n, "candidate": "x" * 150}
                    acks.append((await seat.call("signal", to=other.person.id, data=data))["ok"])
        return acks

    acked = await asyncio.gather(*(connect(seat) for seat in seats))

    assert all(all(acks) for acks in acked)
    said = CANDIDATES + 2
    for seat in seats:
        everything = sorted(other.person.id for other in seats if other is not seat for _ in range(said))
        await until(lambda: len(seat.came("signal")) >= len(everything), "every signal")  # noqa: B023
        assert sorted(signal["from"] for signal in seat.came("signal")) == everything
    for seat in seats:
        for n in range(20):
            await seat.say(f"{seat.person.id} {n}")


async def test_the_largest_signal_and_one_that_is_too_large_leave_the_connection(
    limited: Pair, arrange: Arrange, sit: Sit
) -> None:
    lesson = await arrange(limited.one.url)
    teacher = await sit(limited.one.url, lesson, lesson.teacher)
    student = await sit(limited.two.url, lesson, lesson.student)
    await teacher.hears("participantJoined", userId=lesson.student.id)
    for person in (lesson.teacher, lesson.student):
        await pass_for(lesson, person)
    fits = "x" * (MAX_SIGNAL_BYTES - 2)

    assert (await teacher.call("signal", to=lesson.student.id, data=fits))["ok"]
    refused = await teacher.call("signal", to=lesson.student.id, data=fits + "x" * 20_000)

    assert refused["error"]["error"] == "signal_too_large"
    assert (await student.hears("signal"))["data"] == fits
    await teacher.say("still here")


async def test_a_seventh_finds_no_place_until_somebody_has_gone(limited: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(limited.one.url)
    seats = await full_mesh(limited, lesson, sit)
    (seventh,) = await lesson.admins(1)
    assert (await pass_for(lesson, seventh, status=409))["error"] == "meeting_full"
    # Another tab, and a reload that ends up on the other worker, are the same person.
    reloading = seats[1]
    await sit(limited.one.url, lesson, reloading.person)
    await reloading.client.drop()
    await pass_for(lesson, reloading.person, url=limited.two.url)
    assert (await pass_for(lesson, seventh, url=limited.two.url, status=409))["error"] == "meeting_full"

    assert (await seats[2].call("leaveSession"))["ok"]

    await pass_for(lesson, seventh, url=limited.two.url)
    assert (await pass_for(lesson, seats[2].person, status=409))["error"] == "meeting_full"
    assert (await lesson.call("DELETE", "/token", by=seventh)).status == 204  # they stay in the session
    await pass_for(lesson, seats[2].person)


async def test_who_was_put_out_is_refused_at_every_door(
    start: Start, arrange: Arrange, sit: Sit, redis_server: RedisServer
) -> None:
    """At the session's, for a pass, at each provider, and to signal; on the other worker than the one that put them
    out, too."""
    daily, chime = DailyStandin(), ChimeStandin()
    prosody = Prosody(domain="meet.example", app_id="school", secret=JITSI_SECRET)
    async with daily.running(), chime.running():
        one, two = await start(
            2,
            REDIS_URL=redis_server.url,
            DAILY_API_KEY=daily_standin.API_KEY,
            DAILY_API_URL=daily.url,
            CHIME_REGION=REGION,
            CHIME_ENDPOINT_URL=chime.url,
            JITSI_DOMAIN=prosody.domain,
            JITSI_APP_ID="school",
            JITSI_APP_SECRET=JITSI_SECRET,
            **CREDENTIALS,
        )
        for provider in ("daily", "chime", "jitsi", "peer"):
            lesson = await arrange(one.url)
            teacher = await sit(one.url, lesson, lesson.teacher)
            student = await sit(two.url, lesson, lesson.student)
            await teacher.hears("participantJoined", userId=lesson.student.id)
            await pass_for(lesson, lesson.teacher)
            moved = await lesson.call("POST", "/meeting/move", {"provider": provider}, by=lesson.teacher, url=two.url)
            assert (moved.status, moved.body["meeting_data"]["provider"]) == (201, provider)
            given = await pass_for(lesson, lesson.student, url=two.url)
            await pass_for(lesson, lesson.teacher)
            token, data = str(given["token"]), given["data"]
            assert isinstance(data, dict)
            if provider == "daily":
                assert daily.join(data["roomName"], token) is not None
            elif provider == "chime":
                assert chime.join(data["Meeting"]["MeetingId"], token) is not None
            elif provider == "jitsi":
                assert prosody.join(data["roomName"], token) is not None
            else:
                assert (await student.call("signal", to=lesson.teacher.id, data=1))["ok"]

            assert (await teacher.call("kick", userId=lesson.student.id))["ok"]

            await student.hears("kicked")
            again = await student.client.call("joinSession", {"sessionId": lesson.id})
            assert again["error"]["error"] == "kicked"
            for url in (one.url, two.url):
                assert (await pass_for(lesson, lesson.student, url=url, status=403))["error"] == "kicked"
            if provider == "daily":
                await until(lambda: daily.join(data["roomName"], token) is None, "Daily knows")  # noqa: B023
                assert all(one.user_id != given["person_id"] for one in daily.rooms[data["roomName"]].present)
            elif provider == "chime":
                await until(lambda: chime.join(data["Meeting"]["MeetingId"], token) is None, "Chime knows")  # noqa: B023
            elif provider == "jitsi":
                # Jitsi takes nobody out: everybody else is in another room, which their token does not open.
                await teacher.hears("meetingMoved", generation=3)
                theirs = await pass_for(lesson, lesson.teacher)
                room = theirs["data"]["roomName"]  # type: ignore[index]
                assert prosody.join(room, str(theirs["token"])) is not None
                assert prosody.join(room, token) is None
            else:
                refused = await student.call("signal", to=lesson.teacher.id, data=2)
                assert refused["error"]["error"] == "not_joined"
                await teacher.hears("participantLeft", userId=lesson.student.id)
                refused = await teacher.call("signal", to=lesson.student.id, data=2)
                assert refused["error"]["error"] == "not_here"
                assert [said["data"] for said in teacher.came("signal")] == [1]
