"""A recording of the video provider's on real servers that are killed in the middle of it."""

from __future__ import annotations

import asyncio
import base64

import aiohttp
import asyncpg

from tests.acceptance.conftest import Arrange, Sit
from tests.acceptance.lessons import Lesson, rest
from tests.conftest import StartServer
from tests.standins.daily import API_KEY, DailyStandin, delivery
from tests.standins.faults import Fault
from tests.support.servers import Server
from tests.support.waiting import until

SECRET = b"what Daily and the server share"
#: A round of a worker, on a machine that does much else.
ROUND_SECONDS = 30.0


async def start(start_server: StartServer, daily: DailyStandin) -> Server:
    return await start_server(
        MEETING_PROVIDER="daily",
        DAILY_API_KEY=API_KEY,
        DAILY_API_URL=daily.url,
        DAILY_WEBHOOK_SECRET=base64.b64encode(SECRET).decode(),
    )


async def come_in(url: str, daily: DailyStandin, lesson: Lesson) -> None:
    given = await rest(url, "POST", f"/sessions/{lesson.id}/token", token=lesson.teacher.token())
    (name,) = daily.rooms
    assert daily.join(name, given.body["token"])


async def time_passes(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(
            "UPDATE provider_recordings SET retry_at = now(), held_until = now() WHERE retry_at < 'infinity'"
        )
    finally:
        await connection.close()


async def test_what_a_killed_worker_began_is_stopped_and_deleted_by_the_next(
    start_server: StartServer, arrange: Arrange, database: str
) -> None:
    daily = DailyStandin()
    async with daily.running():
        server = await start(start_server, daily)
        lesson = await arrange(server.url)
        await come_in(server.url, daily, lesson)
        (room,) = daily.rooms.values()
        daily.faults.next(Fault(seconds=60, done=True, at=f"POST /v1/rooms/{room.name}/recordings/start"))
        path = f"/sessions/{lesson.id}"
        asking = asyncio.create_task(rest(server.url, "POST", f"{path}/start-recording", token=lesson.teacher.token()))
        await until(lambda: room.recording is not None, ROUND_SECONDS)
        server.kill()
        assert isinstance((await asyncio.gather(asking, return_exceptions=True))[0], aiohttp.ClientError)

        again = await start(start_server, daily)
        await time_passes(database)

        await until(lambda: room.recording is None, ROUND_SECONDS)
        assert (await rest(again.url, "GET", f"{path}/recordings", token=lesson.teacher.token())).body == []
        daily.finish(daily.recordings[0]["id"])
        await time_passes(database)
        await until(lambda: daily.recordings == [], ROUND_SECONDS)
        begun = await rest(again.url, "POST", f"{path}/start-recording", token=lesson.teacher.token())
        assert begun.status == 200, begun


async def test_a_recording_that_a_killed_worker_did_not_stop_is_stopped_and_watched(
    start_server: StartServer, arrange: Arrange, sit: Sit, database: str
) -> None:
    daily = DailyStandin()
    async with daily.running():
        server = await start(start_server, daily)
        lesson = await arrange(server.url)
        teacher = await sit(server.url, lesson, lesson.teacher)
        refused = await teacher.call("startRecording")
        assert (refused["ok"], refused["error"]["error"]) == (False, "meeting_empty")
        await come_in(server.url, daily, lesson)
        (room,) = daily.rooms.values()
        path = f"/sessions/{lesson.id}"
        begun = await teacher.call("startRecording")
        assert begun["ok"], begun
        assert room.recording is not None
        daily.faults.next(Fault(seconds=60, status=503, at=f"POST /v1/rooms/{room.name}/recordings/stop"))
        stopped = await rest(server.url, "POST", f"{path}/stop-recording?end=false", token=lesson.teacher.token())
        assert stopped.status == 200, stopped
        await until(lambda: daily.faults.asked(f"POST /v1/rooms/{room.name}/recordings/stop") == 1, ROUND_SECONDS)
        server.kill()

        again = await start(start_server, daily)
        await time_passes(database)

        await until(lambda: room.recording is None, ROUND_SECONDS)
        (at_daily,) = daily.recordings
        daily.finish(at_daily["id"], seconds=42)
        headers, body = delivery(
            SECRET, "recording.ready-to-download", {"recording_id": at_daily["id"], "duration": 42}
        )
        async with aiohttp.ClientSession() as http:
            for _ in range(2):
                async with http.post(f"{again.url}/webhooks/daily", data=body, headers=headers) as answer:
                    assert answer.status == 200
        newest = await rest(again.url, "GET", f"{path}/recording", token=lesson.student.token())
        assert (newest.body["status"], newest.body["duration"]) == ("finished", 42)
        url = newest.body["accessLink"]["url"]
        async with aiohttp.ClientSession() as http, http.get(url, allow_redirects=False) as there:
            assert there.headers["Location"].startswith("https://recordings.example/")
