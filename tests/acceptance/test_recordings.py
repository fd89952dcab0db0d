"""A lesson that is recorded, sent and watched again, from outside, on two servers; S2's and S4's examples."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from tests.acceptance.conftest import Arrange, Pair, Sit
from tests.acceptance.lessons import Answer, Person, rest
from tests.support.media import make

#: A process of its own looks through a film.
MEDIA_SECONDS = 60.0


async def send(url: str, path: str, film: Path, by: Person, **fields: str) -> Answer:
    """A form with a file in it."""
    form = aiohttp.FormData()
    for name, value in fields.items():
        form.add_field(name, value)
    form.add_field("file", _content(film), filename=film.name)
    headers = {"Authorization": f"Bearer {by.token()}"}
    async with aiohttp.ClientSession() as http, http.post(url + path, data=form, headers=headers) as response:
        return Answer(response.status, await response.json(), dict(response.headers))


def _content(path: Path) -> bytes:
    return path.read_bytes()


async def content_behind(link: str) -> tuple[bytes, str]:
    """What a link serves, and how it is to be shown."""
    async with aiohttp.ClientSession() as http, http.get(link) as response:
        assert response.status == 200
        return await response.read(), response.headers["Content-Disposition"].partition(";")[0]


async def test_a_lesson_is_recorded_sent_and_watched_on_either_server(
    pair: Pair, arrange: Arrange, sit: Sit, tmp_path: Path
) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    student = await sit(pair.two.url, lesson, lesson.student)
    begun = await teacher.call("startRecording")
    assert (begun["ok"], set(begun)) == (True, {"ok", "recordingId", "startedAt"})
    recording_id = begun["recordingId"]
    await student.hears("recordingState", state="recording", recording_id=recording_id)
    await student.say("A chapter begins here")
    ended = await teacher.call("stopRecording")
    assert ended["duration"] >= 0
    assert datetime.fromisoformat(ended["stoppedAt"]) >= datetime.fromisoformat(begun["startedAt"])
    await student.hears("recordingState", state="processing")
    await student.hears("sessionStatus", status="ended")

    film = make(tmp_path / "lesson.webm", seconds=2.0, live=True)
    path = f"/sessions/{lesson.id}/recordings"
    sent = await send(pair.one.url, path, film, lesson.teacher, recording_id=recording_id)
    assert (sent.status, sent.body["id"]) == (201, recording_id)
    await student.hears("recordingState", MEDIA_SECONDS, state="ready", recording_id=recording_id)
    told: Any = await student.hears("notification", kind="recording_ready")
    assert told["data"]["recording_id"] == recording_id
    assert student.seqs == sorted(set(student.seqs)), "each once, in order"

    for url in pair.urls:
        shown = await lesson.call("GET", "/recording", by=lesson.parent, url=url)
        assert (shown.body["status"], shown.body["duration"]) == ("finished", 2)
        watched, how = await content_behind(shown.body["accessLink"]["url"])
        assert (watched[:4], how) == (b"\x1a\x45\xdf\xa3", "inline")
        saved, how = await content_behind(shown.body["downloadLink"])
        assert (saved, how) == (watched, "attachment")
        line = next(one for one in await lesson.timeline(url=url) if one["kind"] == "message")
        assert (line["recording_id"], line["offset_seconds"] >= 0) == (recording_id, True)


async def test_s4s_example_of_content_as_it_stands(pair: Pair, arrange: Arrange, sit: Sit, tmp_path: Path) -> None:
    lesson = await arrange(pair.one.url)
    made = await rest(pair.one.url, "POST", "/courses", {"title": "Algebra"}, token=lesson.teacher.token())
    course_id = made.body["id"]
    enrolled = await rest(pair.one.url, "POST", f"/courses/{course_id}/enrollments", {}, token=lesson.student.token())
    assert enrolled.status == 201
    student = await sit(pair.two.url, lesson, lesson.student)
    film = make(tmp_path / "vectors.mp4", seconds=2.0)
    fields = {"course_id": course_id, "type": "video", "title": "Vectors"}
    refused = await send(pair.two.url, "/courses/upload-content", film, lesson.student, **fields)
    assert (refused.status, refused.body["error"]) == (403, "not_instructor")
    sent = await send(pair.one.url, "/courses/upload-content", film, lesson.teacher, **fields)
    assert (sent.status, sent.body["upload_status"]) == (201, "processing")
    told: Any = await student.hears("notification", MEDIA_SECONDS, kind="content_added")
    content_id = told["data"]["content_id"]
    assert content_id == sent.body["id"]
    shown = await rest(pair.two.url, "GET", f"/content/{content_id}", token=lesson.student.token())
    assert (shown.body["upload_status"], shown.body["duration_seconds"], shown.body["view_count"]) == (
        "completed",
        2,
        1,
    )
    watched, _ = await content_behind(shown.body["file_url"])
    assert watched[4:8] == b"ftyp"
    locked = await rest(pair.two.url, "GET", f"/content/{content_id}", token=lesson.parent.token())
    assert (locked.status, locked.body["error"]) == (403, "content_locked")
