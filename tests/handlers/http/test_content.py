"""The films and sounds of a course over HTTP, as S4 has them, with real files."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import FormData

from tests.support import sending
from tests.support.apps import Answer, App, running_app
from tests.support.lessons import enroll, make_course
from tests.support.media import make
from tests.support.waiting import POLL_SECONDS

#: A process of its own looks through each film.
SETTLING_SECONDS = 60
#: Every column of S4's course_content.
COLUMNS = frozenset(
    (
        *("id", "course_id", "title", "description", "content_type", "file_url", "file_name", "file_size"),
        *("mime_type", "duration_seconds", "thumbnail_url", "upload_status", "content_order", "is_preview"),
        *("access_level", "view_count", "created_by", "created_at", "updated_at"),
    )
)


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


@pytest.fixture
async def course_id(app: App) -> UUID:
    """A course of `teach`, with `kid` in it; `kid2` is not."""
    return await make_course(app.pool, students=("kid",))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("films") / "vectors.mp4", seconds=2.0)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sounds") / "talk.mp3", seconds=1.0)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PNG of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    path = tmp_path_factory.mktemp("pictures") / "cover.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0"))
        + chunk(b"IEND", b"")
    )
    return path


def bytes_of(path: Path) -> bytes:
    return path.read_bytes()


async def post(app: App, path: str, who: str, files: dict[str, Path], **fields: str) -> Answer:
    form = FormData()
    for name, value in fields.items():
        form.add_field(name, value)
    for name, file in files.items():
        form.add_field(name, file.read_bytes(), filename=file.name, content_type="application/octet-stream")
    return await app.call(who, "POST", path, data=form)


async def send(app: App, course: UUID, path: Path, who: str = "teach", **fields: str) -> Answer:
    said = {"course_id": str(course), "type": "video", "title": "Vectors"} | fields
    return await post(app, "/courses/upload-content", who, {"file": path}, **said)


async def added(app: App, course_id: UUID, path: Path, **fields: str) -> dict[str, Any]:
    """The content, once it was looked through."""
    sent = await send(app, course_id, path, **fields)
    assert sent.status == 201, sent
    document: dict[str, Any] = sent.body
    async with asyncio.timeout(SETTLING_SECONDS):
        while document["upload_status"] not in ("completed", "failed"):
            await asyncio.sleep(POLL_SECONDS)
            document = (await app.call("teach", "GET", f"/content/{sent.body['id']}")).body
    return document


def path_of(url: str) -> str:
    return "/" + url.split("/", 3)[3]


async def test_a_film_is_sent_looked_through_and_watched(app: App, course_id: UUID, film: Path) -> None:
    sent = await send(app, course_id, film, description="Arrows", content_order="7", is_preview="false")
    assert sent.status == 201, sent
    assert set(sent.body) >= COLUMNS
    assert sent.headers["Location"] == f"/content/{sent.body['id']}"
    assert (sent.body["upload_status"], sent.body["file_url"], sent.body["content_order"]) == ("processing", None, 7)
    unseen = await app.call("kid", "GET", f"/content/{sent.body['id']}")
    assert (unseen.status, unseen.error) == (404, "content_not_found")
    assert (await app.call("kid", "GET", f"/courses/{course_id}/content")).body == []

    done = await added(app, course_id, film)
    assert done == done | {
        "course_id": str(course_id),
        "title": "Vectors",
        "content_type": "video",
        "file_name": "vectors.mp4",
        "mime_type": "video/mp4",
        "duration_seconds": 2,
        "upload_status": "completed",
        "content_order": 8,
        "access_level": "enrolled_only",
        "view_count": 0,
        "created_by": "teach",
    }
    seen = await app.call("kid", "GET", f"/content/{done['id']}")
    film_again = await app.call(None, "GET", path_of(seen.body["file_url"]), headers={"Range": "bytes=4-7"})
    assert (film_again.status, film_again.body) == (206, "ftyp")
    thumbnail = await app.call(None, "GET", path_of(seen.body["thumbnail_url"]))
    assert (thumbnail.status, thumbnail.headers["Content-Type"]) == (200, "image/jpeg")
    told = await app.call("kid", "GET", "/notifications")
    assert ("content_added", done["id"]) in [(one["kind"], one["data"]["content_id"]) for one in told.body]
    mine = (await app.call("teach", "GET", "/courses/instructor/my-courses")).body
    assert [one["content_count"] for one in mine] == [2]


async def test_a_sound_comes_with_a_picture_of_its_own(app: App, course_id: UUID, sound: Path, picture: Path) -> None:
    said = {"type": "audio", "title": "Talk", "course_id": str(course_id)}
    sent = await post(app, "/courses/upload-content", "teach", {"file": sound, "thumbnail": picture}, **said)
    assert sent.status == 201, sent
    shown = await app.call(None, "GET", path_of(sent.body["thumbnail_url"]))
    assert (shown.status, shown.headers["Content-Type"]) == (200, "image/png")


async def test_the_fields_may_stand_behind_the_file(app: App, course_id: UUID, sound: Path) -> None:
    form = FormData()
    form.add_field("file", bytes_of(sound), filename="talk.mp3")
    for name, value in (("title", "Talk"), ("type", "audio"), ("course_id", str(course_id))):
        form.add_field(name, value)
    sent = await app.call("teach", "POST", "/courses/upload-content", data=form)
    assert (sent.status, sent.body["title"], sent.body["mime_type"]) == (201, "Talk", "audio/mpeg")


async def test_what_does_not_fit_is_refused_and_leaves_nothing(
    app: App, course_id: UUID, film: Path, sound: Path, picture: Path
) -> None:
    for path, fields, status in (
        (sound, {"type": "video"}, 415),
        (film, {"type": "audio"}, 415),
        (picture, {}, 415),
        (film, {"type": "song"}, 400),
        (film, {"title": "x" * 201}, 400),
        (film, {"title": " "}, 400),
        (film, {"content_order": "-1"}, 400),
        (film, {"access_level": "all"}, 400),
        (film, {"is_preview": "perhaps"}, 400),
        (film, {"course_id": "no-id"}, 400),
        (film, {"course_id": str(uuid4())}, 404),
    ):
        refused = await send(app, course_id, path, **fields)
        assert refused.status == status, (fields, refused)
    behind = FormData()
    behind.add_field("file", bytes_of(sound), filename="film.mp4")
    for name, value in (("course_id", str(course_id)), ("type", "video"), ("title", "Talk")):
        behind.add_field(name, value)
    assert (await app.call("teach", "POST", "/courses/upload-content", data=behind)).status == 415
    for who in ("kid", "teach2", "mum"):
        refused = await send(app, course_id, film, who)
        assert (refused.status, refused.error) == (403, "not_instructor")
    assert await app.pool.fetchval("SELECT count(*) FROM course_content") == 0
    assert await app.pool.fetchval("SELECT count(*) FROM files WHERE state <> 'failed'") == 0


async def test_what_is_locked_is_listed_without_its_file(app: App, course_id: UUID, sound: Path) -> None:
    ids = {}
    for name, fields in (
        ("enrolled", {}),
        ("premium", {"access_level": "premium"}),
        ("free", {"access_level": "free"}),
        ("preview", {"access_level": "premium", "is_preview": "true"}),
    ):
        ids[name] = (await added(app, course_id, sound, type="audio", title=name, **fields))["id"]
    await enroll(app.pool, course_id, "kid2", tier="premium")

    async def seen_by(who: str) -> tuple[list[str], list[str]]:
        """What is open to somebody, by the list, and by asking for each."""
        listed = (await app.call(who, "GET", f"/courses/{course_id}/content")).body
        assert [one["title"] for one in listed] == list(ids)
        assert all(one["locked"] != ("file_url" in one) for one in listed)
        read = {name: await app.call(who, "GET", f"/content/{content_id}") for name, content_id in ids.items()}
        assert {answer.status for answer in read.values()} <= {200, 403}
        assert {answer.error for answer in read.values() if answer.status == 403} <= {"content_locked"}
        return [one["title"] for one in listed if not one["locked"]], [n for n, a in read.items() if a.status == 200]

    for who, found in (
        ("kid", ["enrolled", "free", "preview"]),
        ("kid2", list(ids)),
        ("mum2", ["free", "preview"]),
        ("teach2", ["free", "preview"]),
        ("teach", list(ids)),
        ("boss", list(ids)),
    ):
        assert await seen_by(who) == (found, found), who


async def test_a_view_counts_once_per_person_and_day(app: App, course_id: UUID, sound: Path) -> None:
    content = await added(app, course_id, sound, type="audio", access_level="free")
    path = f"/content/{content['id']}"
    views = [(await app.call(who, "GET", path)).body["view_count"] for who in ("kid", "kid", "kid2", "teach", "kid2")]
    assert views == [1, 1, 2, 2, 2]
    assert (await app.call("mum", "HEAD", path)).status == 200
    await app.pool.execute("UPDATE content_views SET day = day - 1")
    assert (await app.call("kid", "GET", path)).body["view_count"] == 3


async def test_the_instructor_changes_and_deletes(app: App, course_id: UUID, sound: Path) -> None:
    content = await added(app, course_id, sound, type="audio")
    path = f"/content/{content['id']}"
    wanted = {"title": " Talk ", "description": "More", "content_order": 0, "isPreview": True, "accessLevel": "premium"}
    for who in ("kid", "teach2"):
        assert (await app.call(who, "PATCH", path, wanted)).status == 403
        assert (await app.call(who, "DELETE", path)).status == 403
    for wrong in ({}, {"title": " "}, {"content_order": -1}, {"access_level": "all"}, {"is_preview": 1}):
        assert (await app.call("teach", "PATCH", path, wrong)).status == 400, wrong
    changed = (await app.call("teach", "PATCH", path, wanted)).body
    assert changed == changed | {
        "title": "Talk",
        "description": "More",
        "content_order": 0,
        "is_preview": True,
        "access_level": "premium",
    }
    assert (await app.call("teach", "DELETE", path)).status == 200
    assert (await app.call("teach", "GET", path)).status == 404
    assert (await app.call(None, "GET", path_of(content["file_url"]))).status == 404
    assert await app.pool.fetchval("SELECT content_count FROM courses WHERE id = $1", course_id) == 0
    assert await app.pool.fetchval("SELECT count(*) FROM files") == 0


async def test_progress_is_the_enrolleds_and_the_instructor_sees_all(app: App, course_id: UUID, sound: Path) -> None:
    content = await added(app, course_id, sound, type="audio", access_level="free")
    path = f"/content/{content['id']}/progress"
    assert (await app.call("kid", "GET", path)).body["position_seconds"] == 0
    said = await app.call("kid", "PUT", path, {"position_seconds": 1})
    assert (said.status, said.body["position_seconds"], said.body["completed"]) == (200, 1, False)
    assert (await app.call("kid", "PUT", path, {"positionSeconds": 0, "completed": True})).body["completed"] is True
    assert (await app.call("kid", "PUT", path, {"position_seconds": 1})).body["completed"] is True
    for wrong in ({"position_seconds": -1}, {"position_seconds": 100}, {"position_seconds": "1"}, {}):
        assert (await app.call("kid", "PUT", path, wrong)).status == 400, wrong
    stranger = await app.call("kid2", "PUT", path, {"position_seconds": 1})
    assert (stranger.status, stranger.error) == (403, "not_enrolled")
    in_course = f"/courses/{course_id}/progress"
    assert [one["user_id"] for one in (await app.call("teach", "GET", in_course)).body] == ["kid"]
    assert (await app.call("kid2", "GET", in_course)).status == 403
    await enroll(app.pool, course_id, "kid2")
    assert (await app.call("kid2", "GET", in_course)).body == []


async def test_comments_are_said_read_and_taken_away(app: App, course_id: UUID, sound: Path) -> None:
    content = await added(app, course_id, sound, type="audio")
    path = f"/content/{content['id']}/comments"
    said = [(await app.call(who, "POST", path, {"text": f" {who} "})).body for who in ("kid", "teach")]
    assert [(one["name"], one["text"]) for one in said] == [("Kid", "kid"), ("Teach", "teach")]
    first = await app.call("kid", "GET", f"{path}?limit=1")
    assert first.body == said[:1]
    assert (await app.call("kid", "GET", first.headers["Link"].partition(">")[0][1:])).body == said[1:]
    for wrong in ({"text": " "}, {"text": "x" * 2001}, {}):
        assert (await app.call("kid", "POST", path, wrong)).status == 400, wrong
    assert (await app.call("kid2", "POST", path, {"text": "Hello"})).status == 403
    assert (await app.call("kid", "DELETE", f"{path}/{said[1]['id']}")).status == 403
    assert (await app.call("kid", "DELETE", f"{path}/{said[0]['id']}")).status == 200
    assert (await app.call("teach", "DELETE", f"{path}/{said[1]['id']}")).status == 200
    assert (await app.call("teach", "DELETE", f"{path}/{said[1]['id']}")).status == 404
    assert (await app.call("teach", "GET", f"/content/{content['id']}")).body["comment_count"] == 0


async def test_a_like_counts_once(app: App, course_id: UUID, sound: Path) -> None:
    content = await added(app, course_id, sound, type="audio")
    path = f"/content/{content['id']}/like"
    for method, who, count in (
        ("PUT", "kid", 1),
        ("PUT", "kid", 1),
        ("PUT", "teach", 2),
        ("DELETE", "kid", 1),
        ("DELETE", "kid", 1),
    ):
        assert (await app.call(who, method, path)).body == {"liked": method == "PUT", "like_count": count}
    assert (await app.call("kid2", "PUT", path)).status == 403
    assert (await app.call("teach", "GET", f"/content/{content['id']}")).body["liked"] is True


async def test_the_report_counts_people_and_their_days(app: App, course_id: UUID, sound: Path) -> None:
    content = await added(app, course_id, sound, type="audio", access_level="free")
    for who in ("kid", "kid2"):
        await app.call(who, "GET", f"/content/{content['id']}")
    await app.call("kid", "PUT", f"/content/{content['id']}/progress", {"position_seconds": 1, "completed": True})
    await app.call("kid", "PUT", f"/content/{content['id']}/like")
    await app.call("kid", "POST", f"/content/{content['id']}/comments", {"text": "Good"})
    path = f"/courses/{course_id}/analytics"
    report = (await app.call("teach", "GET", path)).body
    figures = {"views": 2, "people": 2, "completed": 1, "completion": 0.5, "likes": 1, "comments": 1}
    assert report["total"] == figures
    assert report["content"] == [{"content_id": content["id"], "title": "Vectors", **figures}]
    assert [(one["views"], one["people"]) for one in report["days"]] == [(2, 2)]
    assert (await app.call("kid", "GET", path)).status == 403
    assert (await app.call("teach", "GET", f"{path}?days=367")).status == 400
    empty = await make_course(app.pool)
    nothing = (await app.call("teach", "GET", f"/courses/{empty}/analytics")).body
    assert (nothing["total"]["views"], nothing["content"], nothing["days"]) == (0, [], [])


async def test_a_course_has_a_picture(app: App, course_id: UUID, picture: Path, sound: Path) -> None:
    path = f"/courses/{course_id}/thumbnail"
    assert (await post(app, path, "kid", {"file": picture})).status == 403
    assert (await post(app, path, "teach", {"file": sound})).status == 415
    assert (await post(app, path, "teach", {"picture": picture})).status == 400
    for _ in range(2):
        sent = await post(app, path, "teach", {"file": picture})
        assert sent.status == 201, sent
    shown = (await app.call("kid2", "GET", f"/courses/{course_id}")).body
    seen = await app.call(None, "GET", path_of(shown["thumbnail_url"]))
    assert (seen.status, seen.headers["Content-Type"]) == (200, "image/png")
    assert await app.pool.fetchval("SELECT count(*) FROM files WHERE state = 'ready'") == 1


async def test_a_resumable_upload_is_content_from_its_beginning(app: App, course_id: UUID, film: Path) -> None:
    data = bytes_of(film)
    said = {"kind": "content", "course_id": str(course_id), "type": "video", "filename": "My film.mp4"}
    for who in ("kid", "teach2"):
        assert (await sending.announce(app, who, len(data), **said)).status == 403
    path = await sending.begin(app, "teach", len(data), **said)
    [piece] = (await app.call("teach", "GET", f"/courses/{course_id}/content")).body
    assert (piece["upload_status"], piece["title"], piece["file_url"]) == ("uploading", "My film", None)
    assert (await sending.append(app, "teach", path, 0, data)).status == 204
    await sending.settled(app, UUID(path.rpartition("/")[2]))
    done = (await app.call("kid", "GET", f"/content/{piece['id']}")).body
    assert (done["upload_status"], done["duration_seconds"], done["mime_type"]) == ("completed", 2, "video/mp4")


async def test_an_upload_that_is_given_up_leaves_no_content(app: App, course_id: UUID) -> None:
    said = {"kind": "content", "course_id": str(course_id), "type": "video", "title": "Vectors"}
    path = await sending.begin(app, "teach", 1000, **said)
    assert (await app.call("teach", "DELETE", path, headers=sending.TUS)).status == 204
    assert (await app.call("teach", "GET", f"/courses/{course_id}/content")).body == []


async def test_a_film_that_cannot_be_read_has_failed_and_nobody_is_told(
    app: App, course_id: UUID, film: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(bytes_of(film)[:100] + bytes(5000))
    done = await added(app, course_id, broken)
    assert (done["upload_status"], done["file_url"]) == ("failed", None)
    assert done["failure"]
    assert (await app.call("kid", "GET", f"/content/{done['id']}")).status == 404
    assert (await app.call("kid", "GET", "/notifications")).body == []
    assert (await app.call("teach", "DELETE", f"/content/{done['id']}")).status == 200
