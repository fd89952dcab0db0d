"""Films: recordings that a page sends as it makes them. What came of one is kept, however it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from domain.recording_files import FILM_LEASE_SECONDS
from domain.sweeper import Sweeper
from domain.uploads import FILM_EXPIRY
from tests.acceptance.lessons import until
from tests.support.apps import Answer, App, running_app
from tests.support.media import make
from tests.support.sending import TUS, append, begin, metadata, settled

#: Pieces in which a film comes.
PIECE = 4_096


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make(tmp_path_factory.mktemp("films") / "lesson.webm", seconds=3.0, live=True).read_bytes()


class Lesson:
    """A lesson that is recorded."""

    def __init__(self, app: App, session_id: UUID, recording_id: str) -> None:
        self.app, self.session_id, self.recording_id = app, session_id, recording_id

    async def announce(self, page: str) -> Answer:
        fields = {"kind": "recording", "session_id": str(self.session_id), "recording_id": self.recording_id}
        sent = {**TUS, "Upload-Defer-Length": "1", "Upload-Metadata": metadata(**fields, page=page)}
        return await self.app.call("teach", "POST", "/uploads", headers=sent)

    async def begin(self, page: str = "one") -> str:
        answer = await self.announce(page)
        assert answer.status == 201, answer
        return answer.headers["Location"]

    async def stop(self) -> None:
        answer = await self.app.call("teach", "POST", f"/sessions/{self.session_id}/stop-recording?end=false")
        assert answer.status == 200, answer

    async def recordings(self) -> dict[str, dict[str, Any]]:
        """By their ids, as a student sees them."""
        answer = await self.app.call("kid", "GET", f"/sessions/{self.session_id}/recordings")
        return {one["id"]: one for one in answer.body}


async def record(app: App) -> Lesson:
    session_id = await app.book()
    begun = await app.call("teach", "POST", f"/sessions/{session_id}/start-recording")
    return Lesson(app, session_id, begun.body["recordingId"])


async def rest(app: App, path: str, seconds: float) -> None:
    """Have the upload rest for so long, and the sweeper look."""
    upload_id = UUID(path.rpartition("/")[2])
    age = "UPDATE uploads SET expires_at = expires_at - $2::interval WHERE file_id = $1"
    await app.pool.execute(age, upload_id, timedelta(seconds=seconds))
    await Sweeper(app.uploads).sweep()


async def kept(app: App, path: str) -> float:
    """How many seconds the file of the upload plays, once it has been looked through."""
    file = await settled(app, UUID(path.rpartition("/")[2]))
    assert file["state"] == "ready", file["reason"]
    seconds: float = file["seconds"]
    return seconds


async def end(app: App, path: str, offset: int) -> None:
    answer = await append(app, "teach", path, offset, b"", Upload_Length=str(offset))
    assert answer.status == 204, answer


async def test_a_film_whose_page_is_gone_is_its_recordings_file_minutes_later(app: App, film: bytes) -> None:
    lesson = await record(app)
    path = await lesson.begin()
    assert (await append(app, "teach", path, 0, film[: len(film) * 2 // 3])).status == 204
    await lesson.stop()
    await rest(app, path, FILM_EXPIRY.total_seconds() - 30)
    assert (await app.call("teach", "GET", path)).body["state"] == "uploading"
    assert (await lesson.recordings())[lesson.recording_id]["arriving"]
    await rest(app, path, 60)
    assert 1.0 < await kept(app, path) < 3.0
    assert {one: about["status"] for one, about in (await lesson.recordings()).items()} == {
        lesson.recording_id: "completed"
    }


async def test_a_recording_tells_whether_a_film_of_it_is_on_its_way(app: App, film: bytes) -> None:
    lesson = await record(app)
    path = await lesson.begin()
    await lesson.stop()

    async def arriving() -> bool:
        said: bool = (await lesson.recordings())[lesson.recording_id]["arriving"]
        return said

    assert await arriving()
    assert (await app.call("teach", "DELETE", path, headers=TUS)).status == 204
    assert not await arriving(), "it was given up"
    announced = await begin(
        app, "teach", len(film), kind="recording", session_id=str(lesson.session_id), recording_id=lesson.recording_id
    )
    assert not await arriving(), "who chose a file may choose another"
    assert (await append(app, "teach", announced, 0, film)).status == 204
    assert not await arriving(), "it is there"


async def test_a_film_that_ends_while_its_recording_runs_is_a_part_of_its_own(app: App, film: bytes) -> None:
    lesson = await record(app)
    first = await lesson.begin()
    await append(app, "teach", first, 0, film)
    await end(app, first, len(film))
    await kept(app, first)
    states = {one: about["status"] for one, about in (await lesson.recordings()).items()}
    assert states.pop(lesson.recording_id) == "recording", "it goes on"
    assert list(states.values()) == ["completed"]
    second = await lesson.begin("two")
    await append(app, "teach", second, 0, film)
    await lesson.stop()
    await end(app, second, len(film))
    await kept(app, second)
    found = await lesson.recordings()
    assert [one["status"] for one in found.values()] == ["completed", "completed"]
    part = next(about for one, about in found.items() if one != lesson.recording_id)
    assert part["started_at"] <= part["stopped_at"] <= found[lesson.recording_id]["started_at"]


async def test_a_request_cut_off_that_said_the_length_costs_nothing_of_what_came(app: App, film: bytes) -> None:
    lesson = await record(app)
    path = await lesson.begin()
    await lesson.stop()

    async def cut() -> AsyncIterator[bytes]:
        yield film[: len(film) * 2 // 3]
        await until(lambda: any(arrival.offset for arrival in app.uploads.arrivals), "some of it has come")
        raise ConnectionError

    with pytest.raises(aiohttp.ClientError):
        await append(app, "teach", path, 0, cut(), Upload_Length=str(len(film)))
    shown = await app.call("teach", "HEAD", path, headers=TUS)
    assert "Upload-Length" not in shown.headers
    offset = int(shown.headers["Upload-Offset"])
    assert offset > 0
    assert (await append(app, "teach", path, offset, film[offset:-1000])).status == 204
    await end(app, path, len(film) - 1000)
    assert await kept(app, path) > 1.0


async def test_a_film_of_which_less_came_than_was_announced_is_kept(app: App, film: bytes) -> None:
    lesson = await record(app)
    path = await lesson.begin()
    await lesson.stop()
    await append(app, "teach", path, 0, film[: len(film) * 2 // 3], Upload_Length=str(len(film)))
    await rest(app, path, FILM_EXPIRY.total_seconds() + 1)
    assert await kept(app, path) > 1.0


async def test_a_recording_whose_only_page_is_gone_without_a_word_is_over_minutes_later(app: App, film: bytes) -> None:
    lesson = await record(app)
    path = await lesson.begin()
    await append(app, "teach", path, 0, film)
    await rest(app, path, FILM_EXPIRY.total_seconds() + 1)
    await kept(app, path)
    assert {one: about["status"] for one, about in (await lesson.recordings()).items()} == {
        lesson.recording_id: "completed"
    }


async def test_a_recording_whose_only_page_is_gone_before_anything_came_is_over_minutes_later(app: App) -> None:
    lesson = await record(app)
    path = await lesson.begin()
    await rest(app, path, FILM_EXPIRY.total_seconds() + 1)
    assert (await lesson.recordings())[lesson.recording_id]["status"] == "processing"
    assert (await app.call("teach", "POST", f"/sessions/{lesson.session_id}/start-recording")).status == 200


async def test_a_film_of_which_nothing_came_ends_no_recording_that_goes_on(app: App, film: bytes) -> None:
    lesson = await record(app)
    given_up = await lesson.begin()
    assert (await app.call("teach", "DELETE", given_up, headers=TUS)).status == 204
    assert (await lesson.recordings())[lesson.recording_id]["status"] == "recording", "its page said so, and lives"
    laptop = await lesson.begin("laptop")
    await rest(app, laptop, FILM_LEASE_SECONDS + 1)
    tablet = await lesson.begin("tablet")
    await append(app, "teach", tablet, 0, film[:PIECE])
    await rest(app, laptop, FILM_EXPIRY.total_seconds())
    assert (await lesson.recordings())[lesson.recording_id]["status"] == "recording", "another page makes it"
    await lesson.stop()
    again = await app.call("teach", "POST", f"/sessions/{lesson.session_id}/start-recording")
    assert again.body["recordingId"] != lesson.recording_id
    await rest(app, tablet, FILM_EXPIRY.total_seconds() + 1)
    later = (await lesson.recordings())[again.body["recordingId"]]
    assert later["status"] == "recording", "it is another recording’s film"


async def test_a_recording_that_another_page_makes_goes_on_when_the_first_is_taken_for_gone(
    app: App, film: bytes
) -> None:
    lesson = await record(app)
    laptop = await lesson.begin("laptop")
    await append(app, "teach", laptop, 0, film)
    await rest(app, laptop, FILM_LEASE_SECONDS + 1)
    tablet = await lesson.begin("tablet")
    await append(app, "teach", tablet, 0, film[:PIECE])
    await rest(app, laptop, FILM_EXPIRY.total_seconds())
    await kept(app, laptop)
    assert (await lesson.recordings())[lesson.recording_id]["status"] == "recording"


async def test_of_two_films_of_one_recording_both_are_kept(app: App, film: bytes) -> None:
    lesson = await record(app)
    laptop = await lesson.begin("laptop")
    await append(app, "teach", laptop, 0, film)
    await rest(app, laptop, FILM_LEASE_SECONDS + 1)
    tablet = await lesson.begin("tablet")
    await append(app, "teach", tablet, 0, film)
    await lesson.stop()
    for path in (tablet, laptop):
        await end(app, path, len(film))
        await kept(app, path)
    assert [one["status"] for one in (await lesson.recordings()).values()] == ["completed", "completed"]


async def test_one_page_records_until_it_has_been_silent_for_a_while(app: App, film: bytes) -> None:
    lesson = await record(app)
    path = await lesson.begin("laptop")
    await append(app, "teach", path, 0, film[:PIECE])
    refused = await lesson.announce("tablet")
    assert (refused.status, refused.error) == (409, "recorded_elsewhere")
    await rest(app, path, FILM_LEASE_SECONDS - 10)
    assert (await lesson.announce("tablet")).status == 409
    await append(app, "teach", path, PIECE, film[PIECE : 2 * PIECE])  # it is still there
    await rest(app, path, 20)
    assert (await lesson.announce("tablet")).status == 409
    await rest(app, path, FILM_LEASE_SECONDS)
    assert (await lesson.announce("tablet")).status == 201


async def test_a_page_that_did_not_hear_the_answer_begins_again_at_once(app: App) -> None:
    lesson = await record(app)
    assert (await lesson.announce("laptop")).status == 201
    assert (await lesson.announce("laptop")).status == 201


@pytest.mark.parametrize("limit", ["max_recording_bytes", "upload_quota_bytes"])
async def test_a_film_that_may_not_be_larger_ends_there_and_is_kept(
    database: str, film: bytes, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domain.uploads.LEAST_FILM_BYTES", PIECE)
    limits: dict[str, Any] = {limit: len(film) * 2 // 3}
    async with running_app(database, **limits) as app:
        lesson = await record(app)
        path = await lesson.begin()
        half = len(film) // 2
        assert (await append(app, "teach", path, 0, film[:half])).status == 204
        await lesson.stop()

        async def pieces() -> AsyncIterator[bytes]:
            for place in range(half, len(film), PIECE):
                yield film[place : place + PIECE]

        answer = await append(app, "teach", path, half, pieces())
        assert (answer.status, answer.error) == (413, "file_too_large")
        assert await kept(app, path) > 1.0
        assert (await lesson.recordings())[lesson.recording_id]["status"] == "completed"


async def test_a_film_of_which_nothing_came_sets_nothing_aside_for_long(app: App) -> None:
    lesson = await record(app)
    path = await lesson.begin()
    taken = "SELECT bytes FROM file_usage WHERE user_id = 'teach'"
    assert await app.pool.fetchval(taken) > 0
    await rest(app, path, FILM_EXPIRY.total_seconds() + 1)
    assert await app.pool.fetchval(taken) == 0
