"""Recordings that the video provider makes: begun, ended, followed and deleted there, whatever fails on the way."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain import provider_recording_looks
from domain.provider_recording_looks import MAX_STOP_AGAIN_SECONDS, NO_FILM
from domain.provider_recordings import ProviderRecordings
from domain.recording_keeper import RecordingKeeper
from handlers.http.keys import MEETINGS, PROVIDER_RECORDINGS
from meetings.provider import Provider, Room, StartedRecording
from meetings.webhooks import RecordingNews
from store import provider_recordings as store
from tests.standins.chime import BUCKET, CREDENTIALS, REGION, ChimeStandin
from tests.standins.daily import API_KEY, DailyStandin, RoomOfDaily, delivery
from tests.standins.faults import Fault
from tests.support.apps import Answer, App, running_app
from tests.support.lessons import member
from tests.support.recorder import WAIT_SECONDS
from tests.support.rooms import join, told
from tests.support.waiting import POLL_SECONDS, until

SECRET = b"what Daily and the server share"
REFUSED = Fault(status=403, body='{"error": "forbidden-error"}', at="POST")
START = "POST /v1/rooms/{room}/recordings/start"


class School:
    """A lesson with Daily, and who is in its meeting."""

    def __init__(self, app: App, daily: DailyStandin, lesson: UUID) -> None:
        self.app, self.daily, self.lesson = app, daily, lesson

    @property
    def recorder(self) -> ProviderRecordings:
        return self.app.client.app[PROVIDER_RECORDINGS]

    @property
    def provider(self) -> Provider:
        return self.recorder._providers.chosen

    @property
    def room(self) -> RoomOfDaily:
        (room,) = self.daily.rooms.values()
        return room

    def runs(self) -> bool:
        """Whether Daily records."""
        return self.room.recording is not None

    def asked(self, act: str) -> int:
        return self.daily.faults.asked(f"POST /v1/rooms/{self.room.name}/recordings/{act}")

    async def call(self, method: str, path: str, who: str = "teach", **options: Any) -> Answer:
        return await self.app.call(who, method, f"/sessions/{self.lesson}/{path}", **options)

    async def come_in(self, who: str = "teach") -> None:
        given = await self.call("POST", "token", who)
        assert given.status == 200, given
        (name,) = self.daily.rooms
        assert self.daily.join(name, given.body["token"])

    async def start(self) -> str:
        answer = await self.call("POST", "start-recording")
        assert answer.status == 200, answer
        recording_id: str = answer.body["recordingId"]
        return recording_id

    async def stop(self) -> None:
        assert (await self.call("POST", "stop-recording?end=false")).status == 200

    async def recorded(self) -> tuple[str, str]:
        """A recording that was stopped, by our id and Daily's."""
        recording_id = await self.start()
        await self.stop()
        async with asyncio.timeout(WAIT_SECONDS):
            while await self.app.pool.fetchval(  # noqa: ASYNC110  # it is the recorder's own task
                "SELECT 1 FROM provider_recordings WHERE phase = 'running'"
            ):
                await asyncio.sleep(POLL_SECONDS)
        return recording_id, self.daily.recordings[0]["id"]

    async def nobody_looks(self) -> None:
        """Return when what the last act has set going is done."""
        await until(lambda: not self.recorder.looks._lookers)

    async def look(self) -> None:
        """As when time has passed, and nobody is at it."""
        await self.nobody_looks()
        await self.app.pool.execute(
            "UPDATE provider_recordings SET retry_at = now(), held_until = now() WHERE retry_at < 'infinity'"
        )
        await self.recorder.looks.look()

    async def later(self, hours: float) -> None:
        """Look when so much time has passed."""
        await self.nobody_looks()
        await self.app.pool.execute(
            "UPDATE provider_recordings SET asked_at = asked_at - $1::interval, stopped_at = stopped_at - $1::interval",
            timedelta(hours=hours),
        )
        await self.look()

    async def webhook(self, kind: str, payload: dict[str, Any], id: str | None = None) -> None:
        headers, body = delivery(SECRET, f"recording.{kind}", payload, id=id)
        answer = await self.app.call(None, "POST", "/webhooks/daily", data=body, headers=headers)
        assert answer.status == 200, answer

    async def listed(self) -> list[dict[str, Any]]:
        documents: list[dict[str, Any]] = (await self.call("GET", "recordings", "kid")).body
        return documents

    async def states(self) -> list[str]:
        lines = (await self.call("GET", "timeline", "kid")).body
        return [line["data"]["state"] for line in lines if line["kind"] == "recording_state"]

    async def rows(self) -> int:
        number: int = await self.app.pool.fetchval("SELECT count(*) FROM provider_recordings")
        return number


@pytest.fixture(autouse=True)
def nobody_goes_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests say when it is looked."""
    monkeypatch.setattr(provider_recording_looks, "ROUND_SECONDS", 3_600.0)


@pytest.fixture
async def school(database: str) -> AsyncIterator[School]:
    async with at_daily(database) as school:
        await school.come_in()
        yield school


@asynccontextmanager
async def at_daily(dsn: str, **settings: Any) -> AsyncIterator[School]:
    daily = DailyStandin()
    async with daily.running(), AsyncExitStack() as stack:
        settings |= {"meeting_provider": "daily", "daily_api_key": API_KEY, "daily_api_url": daily.url}
        app = await stack.enter_async_context(running_app(dsn, daily_webhook_secret=SECRET, **settings))
        yield School(app, daily, await app.book())


def path_of(url: str) -> str:
    return "/" + url.split("/", 3)[3]


def while_it_starts(school: School, act: Callable[[str], Awaitable[object]]) -> None:
    """Have `act` happen, with the instance's id, when the provider has begun to record and has not answered yet."""
    start = school.provider.start_recording

    async def slowly(room: Room, instance_id: str) -> StartedRecording:
        started = await start(room, instance_id)
        await act(instance_id)
        return started

    school.provider.start_recording = slowly  # type: ignore[method-assign]


async def test_a_lesson_is_recorded_by_its_provider_and_watched_there(school: School) -> None:
    recording_id, at_daily = await school.recorded()
    assert [(one["status"], one["url"]) for one in await school.listed()] == [("processing", None)]
    school.daily.finish(at_daily, seconds=90)

    for _ in range(2):
        await school.webhook("ready-to-download", {"recording_id": at_daily, "duration": 90}, id="e1")

    assert await school.states() == ["recording", "processing", "ready"]
    (shown,) = await school.listed()
    assert (shown["id"], shown["status"], shown["duration_seconds"]) == (recording_id, "completed", 90)
    newest = (await school.call("GET", "recording", "kid")).body
    assert newest["status"] == "finished"
    assert 3500 < (datetime.fromisoformat(newest["accessLink"]["expiresAt"]) - datetime.now(UTC)).total_seconds() < 3700
    for url in (shown["url"], newest["accessLink"]["url"], newest["downloadLink"]):
        followed = await school.app.call(None, "GET", path_of(url))
        there = f"https://recordings.example/{at_daily}?signature=x"
        assert (followed.status, followed.headers["Location"]) == (307, there)
        assert followed.headers["Cache-Control"] == "no-store"
    for who in ("kid", "mum", "gran", "teach"):
        news = (await school.app.call(who, "GET", "/notifications")).body
        assert [one["data"]["recording_id"] for one in news if one["kind"] == "recording_ready"] == [recording_id]


async def test_where_nobody_is_in_the_meeting_nothing_is_recorded(database: str) -> None:
    async with at_daily(database) as school:
        for number in range(2):
            refused = await school.call("POST", "start-recording")
            assert (refused.status, refused.error) == (409, "meeting_empty")
            if number == 0:
                assert (await school.call("POST", "token")).status == 200

        assert await school.listed() == []
        assert await school.states() == []
        assert await school.rows() == 0
        await school.come_in()
        await school.start()


async def test_a_meeting_that_its_provider_has_ended_is_empty_and_the_next_pass_makes_another(school: School) -> None:
    school.daily.rooms.clear()

    refused = await school.call("POST", "start-recording")

    assert (refused.status, refused.error) == (409, "meeting_empty")
    await school.come_in()
    await school.start()


async def test_of_many_who_start_at_once_one_does_and_the_provider_is_asked_once(school: School) -> None:
    answers = await asyncio.gather(*(school.call("POST", "start-recording") for _ in range(5)))

    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409, 409]
    assert {answer.error for answer in answers if answer.status == 409} == {"already_recording"}
    assert school.asked("start") == 1
    again = await school.call("POST", "start-recording")
    assert (again.status, again.error) == (409, "already_recording")
    assert school.asked("start") == 1


async def test_a_recording_that_somebody_else_began_in_the_meeting_is_not_ours(school: School) -> None:
    school.room.recording = {"id": "theirs", "room_name": school.room.name, "status": "in-progress", "start_ts": 1}
    school.daily.recordings.append(school.room.recording)

    refused = await school.call("POST", "start-recording")

    assert (refused.status, refused.error) == (409, "already_recording")
    assert await school.rows() == 0
    assert school.runs()


@pytest.mark.parametrize("fault", [REFUSED, Fault(status=500), Fault(cut=True)], ids=["refused", "500", "cut"])
async def test_a_provider_that_does_not_begin_is_502_and_nothing_is_recorded(school: School, fault: Fault) -> None:
    school.daily.faults.next(
        Fault(status=fault.status, body=fault.body, cut=fault.cut, at=f"POST /v1/rooms/{school.room.name}/rec")
    )

    failed = await school.call("POST", "start-recording")

    assert (failed.status, failed.error) == (502, "provider_failed")
    assert await school.listed() == []
    assert await school.states() == []
    assert (await school.app.call("kid", "GET", f"/sessions/{school.lesson}")).body["status"] == "pending"
    await school.start()


async def test_what_began_though_nobody_was_told_is_stopped_and_deleted(school: School) -> None:
    path = f"POST /v1/rooms/{school.room.name}/recordings"
    school.daily.faults.next(Fault(cut=True, done=True, at=f"{path}/start"))
    school.daily.faults.next(Fault(status=403, at=f"{path}/stop"), 2)

    failed = await school.call("POST", "start-recording")

    assert (failed.status, failed.error) == (502, "provider_failed")
    await school.look()
    await school.look()
    assert not school.runs()
    school.daily.finish(school.daily.recordings[0]["id"])
    await school.look()
    assert school.daily.recordings == []
    assert await school.rows() == 0


async def test_consent_comes_before_the_provider_is_asked(school: School) -> None:
    await join(school.app.live, school.lesson, "kid")
    await school.app.call("teach", "PATCH", f"/sessions/{school.lesson}", {"recordingConsent": True})

    refused = await school.call("POST", "start-recording")

    assert (refused.status, refused.error) == (409, "consent_missing")
    assert school.asked("start") == 0
    assert await school.rows() == 0


async def test_what_may_not_be_recorded_any_more_when_the_provider_has_begun_is_taken_back(school: School) -> None:
    async def forbid(_: str) -> None:
        await school.app.pool.execute("UPDATE sessions SET recording_enabled = false WHERE id = $1", school.lesson)

    while_it_starts(school, forbid)

    refused = await school.call("POST", "start-recording")

    assert (refused.status, refused.error) == (400, "recording_not_enabled")
    await until(lambda: not school.runs())
    assert await school.listed() == []


async def test_a_start_that_takes_too_long_is_undone_and_not_written_down(school: School) -> None:
    async def wait(_: str) -> None:
        await school.look()  # another worker takes it for given up

    while_it_starts(school, wait)

    failed = await school.call("POST", "start-recording")

    assert (failed.status, failed.error) == (502, "provider_failed")
    assert not school.runs()
    assert await school.listed() == []


async def test_a_webhook_may_come_before_the_answer_to_the_start(school: School) -> None:
    school.daily.names_recordings = False

    async def tell(instance_id: str) -> None:
        await school.webhook("started", {"recording_id": "told", "instance_id": instance_id})

    while_it_starts(school, tell)
    recording_id = await school.start()

    found = await store.find(school.app.pool, UUID(recording_id))
    assert found is not None
    assert (found.provider_id, found.phase) == ("told", "running")
    assert await school.states() == ["recording"]


async def test_without_any_webhook_the_recording_is_found(school: School) -> None:
    _, at_daily = await school.recorded()
    await school.look()
    assert await school.states() == ["recording", "processing"]

    school.daily.finish(at_daily, seconds=75)
    await school.look()

    assert await school.states() == ["recording", "processing", "ready"]
    assert (await school.listed())[0]["duration_seconds"] == 75
    asked = len(school.daily.faults.requests)
    await school.look()
    assert len(school.daily.faults.requests) == asked, "there is nothing more to come"


async def test_one_that_daily_has_not_named_is_found_by_its_room(school: School) -> None:
    school.daily.names_recordings = False
    school.daily.faults.next(Fault(status=403, at="GET /v1/recordings"))
    recording_id, at_daily = await school.recorded()
    school.daily.finish(at_daily)

    told = {"recording_id": at_daily, "room_name": school.room.name}
    before = int(datetime.now(UTC).timestamp()) - 60
    await school.webhook("ready-to-download", told | {"recording_id": "theirs", "start_ts": before})
    assert (await school.listed())[0]["status"] == "processing", "somebody else's, from before"
    await school.webhook("ready-to-download", told | {"start_ts": school.daily.recordings[0]["start_ts"]})

    assert [(one["id"], one["status"]) for one in await school.listed()] == [(recording_id, "completed")]


async def test_the_film_of_the_second_start_is_not_taken_for_that_of_the_first(school: School) -> None:
    """The first never happened, though nobody knows; the second is not named, nor listed yet."""
    school.daily.names_recordings = False
    school.daily.faults.next(Fault(status=500, at=f"POST /v1/rooms/{school.room.name}/recordings/start"))
    assert (await school.call("POST", "start-recording")).status == 502
    await school.nobody_looks()
    await school.app.pool.execute("UPDATE provider_recordings SET asked_at = asked_at - interval '20 seconds'")
    school.daily.lags = True
    recording_id = await school.start()
    assert await school.rows() == 2
    school.daily.lags = False

    for _ in range(2):
        await school.look()
    await school.stop()
    await until(lambda: not school.runs())
    school.daily.finish(school.daily.recordings[0]["id"])
    for _ in range(2):
        await school.look()
    await school.later(hours=25)
    await school.later(hours=1)

    assert len(school.daily.recordings) == 1
    assert [(one["id"], one["status"]) for one in await school.listed()] == [(recording_id, "completed")]
    assert await school.rows() == 1


async def test_what_the_first_start_began_after_all_is_deleted_and_the_second_is_not(school: School) -> None:
    school.daily.names_recordings = False
    path = f"POST /v1/rooms/{school.room.name}/recordings"
    school.daily.faults.next(Fault(status=500, done=True, at=f"{path}/start"))
    assert (await school.call("POST", "start-recording")).status == 502
    await until(lambda: not school.runs())
    (first,) = school.daily.recordings
    first["start_ts"] -= 20
    await school.app.pool.execute("UPDATE provider_recordings SET asked_at = asked_at - interval '20 seconds'")
    recording_id = await school.start()
    await school.stop()
    await until(lambda: not school.runs())
    for one in school.daily.recordings:
        school.daily.finish(one["id"])

    for _ in range(3):
        await school.look()

    assert [(one["id"], one["status"]) for one in await school.listed()] == [(recording_id, "completed")]
    assert first not in school.daily.recordings
    assert len(school.daily.recordings) == 1


async def test_a_recording_that_its_provider_does_not_stop_has_failed_in_the_end_and_is_asked_seldom(
    school: School,
) -> None:
    await school.start()
    school.daily.stops = False
    await school.stop()
    await until(lambda: school.asked("stop") >= 1)
    pauses = []
    for _ in range(4):
        await school.later(hours=1)
        pause = "SELECT extract(epoch FROM retry_at - now())::float8 FROM provider_recordings WHERE phase = 'running'"
        pauses.append(await school.app.pool.fetchval(pause))

    assert min(one for one in pauses if one is not None) > MAX_STOP_AGAIN_SECONDS / 2
    for _ in range(8):
        await school.later(hours=20)
    (shown,) = await school.listed()
    assert (shown["status"], shown["failure"]) == ("failed", NO_FILM)


async def test_one_that_nobody_wants_and_its_provider_does_not_stop_is_given_up(school: School) -> None:
    recording_id = await school.start()
    school.daily.stops = False
    await school.stop()
    assert (await school.call("DELETE", f"recordings/{recording_id}")).status == 200

    for _ in range(3):
        await school.later(hours=13)

    assert await school.rows() == 0


async def test_what_daily_refuses_to_record_has_not_begun(school: School) -> None:
    school.room.properties.enable_recording = None

    refused = await school.call("POST", "start-recording")

    assert (refused.status, refused.error) == (502, "provider_failed")
    assert await school.rows() == 0, "there is nothing to look after"


@pytest.mark.parametrize("act", ["stop-recording", "meeting/move"])
async def test_a_room_is_deleted_when_its_recording_has_been_stopped(school: School, act: str) -> None:
    await school.start()
    room = school.room
    path = f"POST /v1/rooms/{room.name}/recordings/stop"
    school.daily.faults.next(Fault(status=403, at=path))  # it takes a while

    assert (await school.call("POST", act)).status in (200, 201)
    for _ in range(3):
        await school.app.client.app[MEETINGS].sweep()
        await school.look()
    await school.app.client.app[MEETINGS].sweep()

    assert room.name not in school.daily.rooms
    assert [one["status"] for one in school.daily.recordings] == ["processing"]


async def test_a_room_whose_recording_cannot_be_stopped_is_deleted_in_the_end(school: School) -> None:
    await school.start()
    name = school.room.name
    school.daily.faults.next(Fault(status=403, at=f"POST /v1/rooms/{name}/recordings/stop"), 50)
    assert (await school.call("POST", "stop-recording")).status == 200
    sweep = school.app.client.app[MEETINGS].sweep
    await sweep()
    assert name in school.daily.rooms

    earlier = "UPDATE recordings SET started_at = started_at - $1::interval, stopped_at = stopped_at - $1::interval"
    await school.app.pool.execute(earlier, timedelta(minutes=3))
    await school.app.pool.execute("UPDATE provider_recordings SET asked_at = asked_at - interval '3 minutes'")
    await sweep()

    assert name not in school.daily.rooms


async def test_a_class_that_watches_a_film_asks_its_provider_once(school: School) -> None:
    _, at_daily = await school.recorded()
    school.daily.finish(at_daily)
    await school.look()
    link = path_of((await school.listed())[0]["url"])

    followed = await asyncio.gather(*(school.app.call(None, "GET", link) for _ in range(20)))

    assert {answer.status for answer in followed} == {307}
    assert school.daily.faults.asked(f"GET /v1/recordings/{at_daily}/access-link") == 1


async def test_where_the_provider_is_away_at_the_stop_it_is_stopped_as_soon_as_it_is_back(school: School) -> None:
    recording_id = await school.start()
    school.daily.faults.next(Fault(status=403, at=f"POST /v1/rooms/{school.room.name}/recordings/stop"), 2)

    await school.stop()
    await until(lambda: school.asked("stop") >= 1)
    assert school.runs()
    await school.look()
    assert school.runs()
    await school.look()

    assert not school.runs()
    assert [(one["id"], one["status"]) for one in await school.listed()] == [(recording_id, "processing")]


async def test_one_that_begins_to_run_only_after_it_was_stopped_is_stopped_again(school: School) -> None:
    await school.start()
    running, school.room.recording = school.room.recording, None
    await school.stop()
    await until(lambda: school.asked("stop") >= 1)
    school.room.recording = running

    await school.look()
    await school.look()

    assert not school.runs()


@pytest.mark.parametrize("end", ["stop-recording", "end", "withdrawal"])
async def test_whoever_ends_it_the_provider_ends_it_too(school: School, end: str) -> None:
    consent = f"/sessions/{school.lesson}/recording-consent"
    await school.app.call("mum", "PUT", consent, {"agreed": True, "user_id": "kid"})
    await school.start()
    room = school.room

    if end == "withdrawal":
        await school.app.call("kid", "PUT", consent, {"agreed": False})
    elif end == "end":
        await school.app.call("teach", "DELETE", f"/sessions/{school.lesson}")
    else:
        await school.call("POST", end)

    await until(lambda: room.recording is None)
    assert (await school.states())[-1] == "processing"


async def test_a_recording_that_ended_by_itself_is_over_here_too(school: School) -> None:
    await school.start()
    await school.look()
    assert await school.states() == ["recording"]
    school.daily.end_call(school.room.name)
    await school.look()
    assert await school.states() == ["recording", "processing"]

    school.daily.finish(school.daily.recordings[0]["id"])
    await school.look()

    assert await school.states() == ["recording", "processing", "ready"]


async def test_a_recording_ends_with_the_meeting_that_it_is_of(school: School) -> None:
    await school.start()
    school.daily.faults.next(Fault(status=403, at="DELETE /v1/rooms"), 50)  # the old room goes on for a while
    assert (await school.call("POST", "meeting/move")).status == 201

    await school.look()
    await school.look()

    assert await school.states() == ["recording", "processing"]
    assert all(one["status"] != "in-progress" for one in school.daily.recordings)


async def test_what_daily_says_of_an_error_is_why_it_failed(school: School) -> None:
    recording_id = await school.start()
    watching = await join(school.app.live, school.lesson, "kid")
    found = await store.find(school.app.pool, UUID(recording_id))
    assert found is not None

    await school.webhook("error", {"instance_id": str(found.instance_id), "error_msg": "no space left"})

    assert [one["state"] for one in told(watching, "recordingState")] == ["failed"]
    (shown,) = await school.listed()
    assert (shown["status"], shown["failure"]) == ("failed", "The video provider could not record this: no space left")
    await until(lambda: not school.runs())


def orders() -> list[tuple[str, ...]]:
    return [*itertools.permutations(("started", "error", "ready")), ("ready", "ready", "error", "started", "ready")]


@pytest.mark.parametrize("order", orders(), ids=lambda order: "-".join(order))
async def test_in_whatever_order_it_is_told_a_film_that_is_there_can_be_seen(school: School, order: Any) -> None:
    recording_id, at_daily = await school.recorded()
    found = await store.find(school.app.pool, UUID(recording_id))
    assert found is not None
    instance_id = str(found.instance_id)

    for told_of in order:
        status: Any = {"started": "in-progress", "error": "failed", "ready": "finished"}[told_of]
        await school.recorder.heard(
            RecordingNews(event_id="e", status=status, recording_id=at_daily, instance_id=instance_id)
        )

    assert (await school.listed())[0]["status"] == "completed"
    assert (await school.states())[-1] == "ready"
    news = (await school.app.call("kid", "GET", "/notifications")).body
    assert sum(one["kind"] == "recording_ready" for one in news) == 1


async def test_what_nobody_knows_is_taken_and_changes_nothing(school: School) -> None:
    await school.start()
    await school.webhook("ready-to-download", {"recording_id": "another's", "room_name": "another-room"})
    await school.webhook("error", {"instance_id": str(uuid4()), "error_msg": "x"})
    await school.webhook("error", {"instance_id": "no-id-of-ours", "error_msg": "x"})

    assert await school.states() == ["recording"]


async def test_a_film_that_never_comes_has_failed(school: School) -> None:
    await school.recorded()
    school.daily.recordings.clear()

    await school.later(hours=71)
    assert (await school.listed())[0]["status"] == "processing"
    await school.later(hours=2)

    (shown,) = await school.listed()
    assert (shown["status"], shown["failure"]) == ("failed", NO_FILM)


async def test_a_recording_that_its_provider_knows_nothing_of_has_failed(school: School) -> None:
    await school.start()
    school.daily.recordings.clear()
    await school.look()
    assert await school.states() == ["recording"]

    await school.later(hours=1)

    assert await school.states() == ["recording", "failed"]


async def test_a_provider_that_is_away_is_502_for_its_film_and_hinders_no_list(school: School) -> None:
    _, at_daily = await school.recorded()
    school.daily.finish(at_daily)
    await school.look()
    asked = len(school.daily.faults.requests)
    (shown,) = await school.listed()
    assert len(school.daily.faults.requests) == asked, "a list asks no provider"
    newest = await school.call("GET", "recording", "kid")
    assert newest.status == 200
    assert len(school.daily.faults.requests) == asked, "and neither does the newest"
    link = path_of(shown["url"])
    school.daily.faults.next(Fault(status=403, at="GET /v1/recordings"))

    failed = await school.app.call(None, "GET", link)
    assert (failed.status, failed.error) == (502, "provider_failed")
    school.daily.recordings.clear()
    gone = await school.app.call(None, "GET", link)
    assert (gone.status, gone.error) == (404, "file_not_found")


async def test_a_deleted_recording_is_deleted_at_its_provider_however_long_that_takes(school: School) -> None:
    recording_id, at_daily = await school.recorded()
    school.daily.finish(at_daily)
    await school.look()
    (shown,) = await school.listed()
    school.daily.faults.next(Fault(status=403, at="DELETE /v1/recordings"), 2)

    assert (await school.call("DELETE", f"recordings/{recording_id}")).status == 200
    await until(lambda: school.daily.faults.asked("DELETE /v1/recordings") >= 1)
    await school.look()
    assert len(school.daily.recordings) == 1
    assert (await school.app.call(None, "GET", path_of(shown["url"]))).status == 404
    await school.look()

    assert school.daily.recordings == []
    assert await school.rows() == 0


async def test_one_that_is_deleted_before_its_film_is_there_is_deleted_when_it_is(school: School) -> None:
    recording_id, at_daily = await school.recorded()
    assert (await school.call("DELETE", f"recordings/{recording_id}")).status == 200
    await school.look()
    assert len(school.daily.recordings) == 1

    school.daily.finish(at_daily)
    await school.webhook("ready-to-download", {"recording_id": at_daily})
    await school.look()

    assert school.daily.recordings == []
    assert await school.rows() == 0


async def test_what_is_kept_for_long_enough_is_deleted_at_its_provider(school: School) -> None:
    _, at_daily = await school.recorded()
    school.daily.finish(at_daily)
    await school.look()
    keeper = RecordingKeeper(school.app.live, timedelta(days=1), clock=lambda: datetime.now(UTC) + timedelta(days=2))

    assert await keeper.forget() == 1
    await school.look()

    assert school.daily.recordings == []


async def test_no_file_is_sent_to_a_recording_of_the_providers(school: School) -> None:
    recording_id, _ = await school.recorded()
    said = f"kind cmVjb3JkaW5n,session_id {b64(str(school.lesson))},recording_id {b64(recording_id)}"
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "100", "Upload-Metadata": said}

    refused = await school.app.call("teach", "POST", "/uploads", headers=headers)

    assert (refused.status, refused.error) == (409, "recording_at_provider")


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def test_a_start_whose_worker_died_blocks_the_session_for_a_moment_and_then_is_undone(school: School) -> None:
    async def die(_: str) -> None:
        raise asyncio.CancelledError

    while_it_starts(school, die)
    with pytest.raises(asyncio.CancelledError):
        async with school.recorder.begins(member(school.lesson, "teach"), uuid4()):
            raise AssertionError("it never gets here")
    assert school.runs()
    refused = await school.call("POST", "start-recording")
    assert (refused.status, refused.error) == (409, "already_recording")

    await school.look()

    assert not school.runs()
    assert await school.states() == []


async def test_of_two_workers_one_looks(school: School) -> None:
    await school.recorded()
    await school.nobody_looks()
    await school.app.pool.execute("UPDATE provider_recordings SET retry_at = now(), held_until = now()")

    held = [await store.claim(school.app.pool) for _ in range(2)]

    assert [one is None for one in held] == [False, True]
    assert held[0] is not None
    await store.release(school.app.pool, held[0])
    assert await store.claim(school.app.pool) is None, "until it is time to try again"


async def test_what_happens_to_one_while_it_is_looked_at_is_looked_at_next(school: School) -> None:
    await school.start()
    await school.nobody_looks()
    await school.app.pool.execute("UPDATE provider_recordings SET retry_at = now()")
    held = await store.claim(school.app.pool)
    assert held is not None
    await school.stop()
    assert await store.claim(school.app.pool) is None
    await school.nobody_looks()

    await store.looked_at(school.app.pool, held, "running", look_after=60)

    assert await store.claim(school.app.pool) is not None


@asynccontextmanager
async def at_chime(dsn: str) -> AsyncIterator[tuple[App, ChimeStandin]]:
    chime = ChimeStandin()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in CREDENTIALS.items():
            environment.setenv(name, value)
        async with chime.running(), AsyncExitStack() as stack:
            settings = {"chime_region": REGION, "chime_endpoint_url": chime.url, "chime_recordings_bucket": BUCKET}
            yield await stack.enter_async_context(running_app(dsn, meeting_provider="chime", **settings)), chime


async def test_a_meeting_of_chimes_that_ends_before_its_recording_can_be_watched_and_deleted(database: str) -> None:
    async with at_chime(database) as (app, chime):
        lesson = await app.book()
        recorder = app.client.app[PROVIDER_RECORDINGS]
        path = f"/sessions/{lesson}"

        async def look() -> None:
            await until(lambda: not recorder.looks._lookers)
            await app.pool.execute("UPDATE provider_recordings SET retry_at = now(), held_until = now()")
            await recorder.looks.look()

        assert (await app.call("teach", "POST", f"{path}/token")).status == 200
        begun = await app.call("teach", "POST", f"{path}/start-recording")
        assert begun.status == 200, begun
        (meeting_id,), (capture_id,) = chime.meetings, chime.pipelines
        chime.end_meeting(meeting_id)
        await look()
        assert (await app.call("kid", "GET", f"{path}/recording")).body["status"] == "processing"
        chime.finish(capture_id)
        await look()
        await look()
        newest = (await app.call("kid", "GET", f"{path}/recording")).body
        assert newest["status"] == "finished"
        followed = await app.call(None, "GET", path_of(newest["accessLink"]["url"]))
        assert followed.headers["Location"].startswith(f"{chime.url}/{BUCKET}/encounters/")
        assert len(chime.objects) == 1, "the pieces are gone as the film is there"

        deleted = await app.call("teach", "DELETE", f"{path}/recordings/{begun.body['recordingId']}")
        assert deleted.status == 200
        await until(lambda: chime.objects == {})
