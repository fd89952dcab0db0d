"""Recordings over HTTP, as S0, S1 and S2 have them, with real films."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import FormData

from tests.support import sending
from tests.support.apps import Answer, App, running_app
from tests.support.lessons import live_session
from tests.support.media import make
from tests.support.waiting import POLL_SECONDS

#: A process of its own looks through each film.
SETTLING_SECONDS = 60
OVER = ("completed", "failed")


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a browser's MediaRecorder writes it: without a duration."""
    return make(tmp_path_factory.mktemp("films") / "lesson.webm", seconds=2.0, live=True)


async def send(app: App, ref: object, path: Path, who: str = "teach", **fields: str) -> Answer:
    form = FormData()
    for name, value in fields.items():
        form.add_field(name, value)
    with path.open("rb") as file:
        form.add_field("file", file, filename=path.name, content_type="application/octet-stream")
        return await app.call(who, "POST", f"/sessions/{ref}/recordings", data=form)


async def listed(app: App, ref: object, who: str = "kid") -> list[dict[str, Any]]:
    answer = await app.call(who, "GET", f"/sessions/{ref}/recordings")
    assert answer.status == 200, answer
    documents: list[dict[str, Any]] = answer.body
    return documents


async def settled(app: App, ref: object) -> dict[str, Any]:
    """The newest recording, once it was looked through."""
    async with asyncio.timeout(SETTLING_SECONDS):
        while (newest := (await listed(app, ref))[0])["status"] not in OVER:  # noqa: ASYNC110  # it is another process's
            await asyncio.sleep(POLL_SECONDS)
    return newest


def bytes_of(path: Path) -> bytes:
    return path.read_bytes()


def cut(film: Path, path: Path) -> Path:
    """The beginning of a film, and then nothing."""
    path.write_bytes(film.read_bytes()[:200] + bytes(5000))
    return path


def path_of(url: str) -> str:
    return "/" + url.split("/", 3)[3]


async def test_a_lesson_is_recorded_and_watched_again(app: App, film: Path) -> None:
    lesson = await app.book()
    begun = await app.call("teach", "POST", f"/sessions/{lesson}/start-recording")
    assert begun.status == 200, begun
    assert set(begun.body) == {"recordingId", "startedAt"}
    recording_id = begun.body["recordingId"]
    running = await app.call("kid", "GET", f"/sessions/{lesson}/recording")
    assert (running.body["status"], running.body["accessLink"], running.body["downloadLink"]) == (
        "in-progress",
        None,
        None,
    )
    ended = await app.call("teach", "POST", f"/sessions/{lesson}/stop-recording")
    assert ended.body == {"recordingId": recording_id, "stoppedAt": ended.body["stoppedAt"], "duration": 0}
    shown = await app.call("kid", "GET", f"/sessions/{lesson}")
    assert shown.body["status"] == "completed"

    sent = await send(app, lesson, film, recording_id=recording_id)
    assert sent.status == 201, sent
    assert (sent.body["id"], sent.body["status"], sent.body["mime_type"]) == (recording_id, "processing", "video/webm")

    done = await settled(app, lesson)
    assert done == done | {
        "id": recording_id,
        "session_id": str(lesson),
        "uploaded_by": "teach",
        "file_name": "lesson.webm",
        "duration_seconds": 2,
        "mime_type": "video/webm",
        "status": "completed",
        "failure": None,
        "started_at": begun.body["startedAt"],
        "stopped_at": ended.body["stoppedAt"],
    }
    assert done["file_size_bytes"] > 1000
    newest = await app.call("mum", "GET", f"/sessions/{lesson}/recording")
    assert (newest.body["status"], newest.body["duration"]) == ("finished", 2)
    seen = await app.call(None, "GET", path_of(newest.body["accessLink"]["url"]), headers={"Range": "bytes=0-3"})
    assert (seen.status, seen.headers["Content-Type"]) == (206, "video/webm")
    saved = await app.call(None, "HEAD", path_of(newest.body["downloadLink"]))
    assert saved.headers["Content-Disposition"].startswith("attachment;")
    for who in ("kid", "mum", "gran", "teach"):
        told = await app.call(who, "GET", "/notifications")
        assert ("recording_ready", recording_id) in [
            (one["kind"], one["data"].get("recording_id")) for one in told.body
        ], who


async def test_the_timeline_says_where_in_the_recording_everything_is(app: App) -> None:
    lesson = await app.book()
    for path in ("messages", "start-recording", "messages", "stop-recording", "messages"):
        body = {"text": "Hello"} if path == "messages" else None
        assert (await app.call("teach", "POST", f"/sessions/{lesson}/{path}", body)).status < 300
    lines = (await app.call("kid", "GET", f"/sessions/{lesson}/timeline")).body
    inside = [(line["kind"], line.get("offset_seconds", -1) >= 0) for line in lines]
    assert inside[0] == ("message", False)
    assert ("message", True) in inside
    assert inside[-1] == ("message", False)
    assert [line["data"]["state"] for line in lines if line["kind"] == "recording_state"] == [
        "recording",
        "processing",
    ]


async def test_a_film_that_was_made_elsewhere_is_a_recording_of_its_own(app: App, film: Path) -> None:
    lesson = await app.book()
    sent = await send(app, lesson, film)
    assert sent.status == 201, sent
    assert (sent.body["started_at"], sent.body["stopped_at"]) == (None, None)
    assert (await settled(app, lesson))["status"] == "completed"


async def test_the_members_see_it_and_nobody_else(app: App, film: Path) -> None:
    lesson = await app.book()
    none = await app.call("kid", "GET", f"/sessions/{lesson}/recording")
    assert (none.status, none.body["message"]) == (404, "This session has not been recorded")
    stranger = await app.call("kid2", "GET", f"/sessions/{lesson}/recording")
    assert stranger.status == 403
    assert stranger.body["message"] == f"Not authorized to access recording for session:{lesson}"
    assert (await app.call("kid2", "GET", f"/sessions/{lesson}/recordings")).status == 403
    for verb, text in (("start", "record"), ("stop", "stop recording")):
        for who in ("kid", "kid2"):
            refused = await app.call(who, "POST", f"/sessions/{lesson}/{verb}-recording")
            assert (refused.status, refused.body["message"]) == (403, f"Not authorized to {text} session:{lesson}")
    for who in ("kid", "mum2", "teach2"):
        refused = await send(app, lesson, film, who)
        assert (refused.status, refused.body["message"]) == (403, "Only the tutor can upload recordings")
    assert (await app.call("teach", "POST", f"/sessions/{uuid4()}/start-recording")).status == 404
    assert await app.pool.fetchval("SELECT count(*) FROM files") == 0


async def test_a_class_is_recorded_where_that_was_enabled(app: App) -> None:
    class_id = await live_session(app.pool)
    refused = await app.call("teach", "POST", f"/sessions/{class_id}/start-recording")
    assert (refused.status, refused.body["message"]) == (400, "Recording is not enabled for this session")
    await app.call("teach", "PATCH", f"/sessions/{class_id}", {"recordingEnabled": True})
    assert (await app.call("teach", "POST", f"/sessions/{class_id}/start-recording")).status == 200
    again = await app.call("teach", "POST", f"/sessions/{class_id}/start-recording")
    assert (again.status, again.error) == (409, "already_recording")
    goes_on = await app.call("teach", "POST", f"/sessions/{class_id}/stop-recording?end=false")
    assert goes_on.status == 200
    assert (await app.call(None, "GET", f"/sessions/{class_id}")).body["status"] == "live"
    nothing = await app.call("teach", "POST", f"/sessions/{class_id}/stop-recording")
    assert (nothing.status, nothing.error) == (409, "not_recording")
    assert (await app.call("teach", "POST", f"/sessions/{class_id}/stop-recording?end=no")).status == 400


async def test_what_is_no_film_is_refused_and_leaves_nothing(app: App, tmp_path: Path) -> None:
    lesson = await app.book()
    page = tmp_path / "film.webm"
    page.write_text("<html>" * 2000)
    refused = await send(app, lesson, page)
    assert (refused.status, refused.error) == (415, "unsupported_file_type")
    assert await listed(app, lesson) == []


async def test_a_film_that_cannot_be_read_has_failed(app: App, film: Path, tmp_path: Path) -> None:
    lesson = await app.book()
    begun = await app.call("teach", "POST", f"/sessions/{lesson}/start-recording")
    broken = cut(film, tmp_path / "broken.webm")
    sent = await send(app, lesson, broken, recording_id=begun.body["recordingId"])
    assert sent.status == 201, sent
    done = await settled(app, lesson)
    assert (done["status"], done["url"]) == ("failed", None)
    assert done["failure"]
    again = await send(app, lesson, film, recording_id=begun.body["recordingId"])
    assert (again.status, again.error) == (409, "recording_failed")


async def test_a_recording_takes_one_file(app: App, film: Path) -> None:
    lesson, other = await app.book(), await app.book(student="kid2", parent="mum2")
    begun = await app.call("teach", "POST", f"/sessions/{lesson}/start-recording")
    recording_id = begun.body["recordingId"]
    for wrong in (str(uuid4()), "no-id"):
        refused = await send(app, lesson, film, recording_id=wrong)
        assert refused.status in (400, 404), refused
    elsewhere = await send(app, other, film, recording_id=recording_id)
    assert (elsewhere.status, elsewhere.error) == (404, "recording_not_found")
    assert (await send(app, lesson, film, recording_id=recording_id)).status == 201
    twice = await send(app, lesson, film, recording_id=recording_id)
    assert (twice.status, twice.error) == (409, "recording_has_file")


async def test_a_deleted_recording_is_gone_with_its_file(app: App, film: Path) -> None:
    lesson = await app.book()
    await send(app, lesson, film)
    done = await settled(app, lesson)
    path = f"/sessions/{lesson}/recordings/{done['id']}"
    assert (await app.call("kid", "DELETE", path)).status == 403
    assert (await app.call("teach", "DELETE", path)).status == 200
    assert (await app.call("teach", "DELETE", path)).status == 404
    assert await listed(app, lesson) == []
    assert (await app.call(None, "GET", path_of(done["url"]))).status == 404
    assert await app.pool.fetchval("SELECT count(*) FROM files") == 0


async def test_a_long_list_goes_on(app: App, film: Path) -> None:
    lesson = await app.book()
    ids = []
    for _ in range(3):
        begun = await app.call("teach", "POST", f"/sessions/{lesson}/start-recording")
        ids.append(begun.body["recordingId"])
        await app.call("teach", "POST", f"/sessions/{lesson}/stop-recording?end=false")
    first = await app.call("kid", "GET", f"/sessions/{lesson}/recordings?limit=2")
    assert [one["id"] for one in first.body] == [ids[2], ids[1]]
    rest = await app.call("kid", "GET", first.headers["Link"].partition(">")[0][1:])
    assert [one["id"] for one in rest.body] == [ids[0]]
    assert (await app.call("kid", "GET", f"/sessions/{lesson}/recordings?cursor=x")).status == 400


async def test_consent_is_given_taken_back_and_seen(app: App) -> None:
    lesson = await app.book()
    path = f"/sessions/{lesson}/recording-consent"
    await app.call("teach", "PATCH", f"/sessions/{lesson}", {"recordingConsent": True})
    refused = await app.call("kid", "PUT", path, {"agreed": True})
    assert (refused.status, refused.error) == (403, "guardian_decides")
    given = await app.call("mum", "PUT", path, {"agreed": True, "user_id": "kid"})
    assert (given.status, given.body["user_id"], given.body["agreed"]) == (200, "kid", True)
    assert (await app.call("kid", "PUT", path, {"agreed": False})).status == 200
    seen = (await app.call("teach", "GET", path)).body
    assert (seen["required"], [(one["user_id"], one["agreed"]) for one in seen["people"]]) == (True, [("kid", False)])
    assert (await app.call("mum", "GET", path)).body["children"] == [{"user_id": "kid", "name": "Kid"}]
    assert (await app.call("kid2", "GET", path)).status == 403
    assert (await app.call("kid", "PUT", path, {})).status == 400


async def test_a_resumable_upload_becomes_the_recordings_file(app: App, film: Path) -> None:
    lesson = await app.book()
    begun = await app.call("teach", "POST", f"/sessions/{lesson}/start-recording")
    said = {"kind": "recording", "session_id": str(lesson), "recording_id": begun.body["recordingId"]}
    refused = await sending.announce(app, "kid", 100, **said)
    assert (refused.status, refused.body["message"]) == (403, "Only the tutor can upload recordings")
    nowhere = await sending.announce(app, "teach", 100, **(said | {"recording_id": str(uuid4())}))
    assert (nowhere.status, nowhere.error) == (404, "recording_not_found")
    data = bytes_of(film)
    path = await sending.begin(app, "teach", len(data), filename="lesson.webm", **said)
    assert (await sending.append(app, "teach", path, 0, data[:5000])).status == 204
    assert (await listed(app, lesson))[0]["status"] == "recording", "until all of it is there"
    assert (await sending.append(app, "teach", path, 5000, data[5000:])).status == 204
    done = await settled(app, lesson)
    assert (done["id"], done["status"], done["file_name"]) == (begun.body["recordingId"], "completed", "lesson.webm")
    assert done["stopped_at"] is not None, "its file is the end of it"
    again = await sending.announce(app, "teach", 100, **said)
    assert (again.status, again.error) == (409, "recording_has_file")
