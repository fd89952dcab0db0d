"""Files read by their links: whole, in ranges, and not at all."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator
from email.parser import BytesParser
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from aiohttp import ClientSession
from multidict import CIMultiDictProxy
from yarl import URL

from domain.sweeper import Sweeper
from media.types import HEAD_BYTES, type_of
from store.objects.objects import CACHE_CONTROL, ObjectMissing, ObjectsAway, ObjectStore
from tests.conftest import StorageIn
from tests.support.apps import App, running_app
from tests.support.media import make
from tests.support.recorder import WAIT_SECONDS
from tests.support.sending import PDF, PNG, begin, link, send, settled

DATA = PNG + random.Random(2).randbytes(300_000)


#: Where files lie, for what every place must do alike.
everywhere = pytest.mark.parametrize("app", ["folder", "moto", "rclone"], indirect=True)


@pytest.fixture
async def app(request: pytest.FixtureRequest, database: str, storage_in: StorageIn) -> AsyncIterator[App]:
    """With its files in a folder, unless the test says `everywhere`."""
    async with running_app(database, **await storage_in(getattr(request, "param", "folder"))) as app:
        yield app


@pytest.fixture
async def path(app: App) -> str:
    """The link to a picture."""
    return await link(app, await send(app, "kid", DATA, filename="Übung 1.png"))


async def get(app: App, path: str, **headers: str) -> tuple[int, CIMultiDictProxy[str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with app.client.get(path, headers=named, allow_redirects=False) as response:
        if response.status != 307:
            return response.status, response.headers, await response.read()
        assert response.headers["Cache-Control"] == "no-store"
        elsewhere = URL(response.headers["Location"], encoded=True)
    async with ClientSession() as browser, browser.get(elsewhere, headers=named) as response:
        # rclone says 200 of a part, and which one it is.
        status = 206 if "Content-Range" in response.headers else response.status
        return status, response.headers, await response.read()


@everywhere
async def test_a_link_shows_its_file_to_whoever_has_it(app: App, path: str) -> None:
    status, headers, body = await get(app, path)
    assert (status, body) == (200, DATA)
    assert headers["Content-Type"] == "image/png"
    assert headers["Content-Length"] == str(len(DATA))
    assert headers["Cache-Control"] == CACHE_CONTROL
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Content-Disposition"] == "inline; filename=\"_bung 1.png\"; filename*=UTF-8''%C3%9Cbung%201.png"
    head = await app.call(None, "HEAD", path)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, "", str(len(DATA)))
    for name in ("ETag", "Last-Modified", "Content-Type", "Content-Disposition", "Cache-Control"):
        assert head.headers[name] == headers[name], "asked here or there, it is the same file"


async def test_what_is_shown_is_what_it_is_said_to_be_and_runs_nothing(app: App, path: str) -> None:
    _, headers, _ = await get(app, path)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in headers["Content-Security-Policy"]


@everywhere
async def test_what_is_no_film_sound_or_image_is_saved_and_never_shown(app: App) -> None:
    document = await send(app, "kid", PDF, filename="evil.html")
    _, headers, _ = await get(app, await link(app, document))
    assert headers["Content-Disposition"].startswith('attachment; filename="evil.html.pdf"')
    picture = await send(app, "kid", PNG)
    _, headers, _ = await get(app, await link(app, picture, attachment=True))
    assert headers["Content-Disposition"].startswith("attachment;")


@everywhere
@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=300000-", 300_000, len(DATA)),
        ("bytes=-10", len(DATA) - 10, len(DATA)),
        ("bytes=-999999999", 0, len(DATA)),
        ("bytes=5-999999999", 5, len(DATA)),
        ("Bytes = 5-6", 5, 7),
        ("bytes=999999999-,7-8", 7, 9),
    ],
)
async def test_a_range_is_sent_alone(app: App, path: str, asked: str, start: int, end: int) -> None:
    status, headers, body = await get(app, path, Range=asked)
    assert (status, body) == (206, DATA[start:end])
    assert headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
    assert headers["Content-Length"] == str(end - start)


@everywhere
async def test_several_ranges_come_as_parts(app: App, path: str) -> None:
    status, headers, body = await get(app, path, Range="bytes=0-9, 1000-1999, -5")
    assert status == 206
    assert headers["Content-Length"] == str(len(body))
    parsed = BytesParser().parsebytes(b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body)
    parts = list(parsed.walk())[1:]
    size = len(DATA)
    assert [part["Content-Range"] for part in parts] == [
        f"bytes 0-9/{size}",
        f"bytes 1000-1999/{size}",
        f"bytes {size - 5}-{size - 1}/{size}",
    ]
    for piece in (DATA[:10], DATA[1000:2000], DATA[-5:]):
        assert b"\r\n\r\n" + piece + b"\r\n--" in body


@pytest.mark.parametrize(
    "asked", ["bytes=5-1", "bytes=x", "bytes=-", "bytes=1", "lines=0-1", "bytes", "bytes=0-,0-", "bytes=" + "0-1," * 17]
)
async def test_a_range_that_makes_no_sense_is_passed_over(app: App, path: str, asked: str) -> None:
    status, _, body = await get(app, path, Range=asked)
    assert (status, len(body)) == (200, len(DATA))


@pytest.mark.parametrize("asked", ["bytes=400000-", "bytes=-0", "bytes=999999-9999999,-0"])
async def test_a_range_beyond_the_end_is_416(app: App, path: str, asked: str) -> None:
    answer = await app.call(None, "GET", path, headers={"Range": asked})
    assert (answer.status, answer.error) == (416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{len(DATA)}"


@pytest.mark.parametrize("app", ["moto", "rclone"], indirect=True)
async def test_a_bucket_sends_what_players_ask_for_and_nothing_else(app: App, path: str) -> None:
    """Nor do these bytes come through the server."""
    for headers in ({}, {"Range": "bytes=0-"}, {"Range": "bytes=5-9"}):
        assert (await app.call(None, "GET", path, headers=headers)).status == 307, headers
    answer = await app.call(None, "GET", path, headers={"Range": "bytes=-5"})
    assert (answer.status, answer.headers["X-Content-Type-Options"]) == (206, "nosniff")
    status, _, _ = await get(app, path, Range="bytes=400000-")
    assert status == 416


@everywhere
async def test_a_range_of_another_file_than_this_is_all_of_this(app: App, path: str) -> None:
    _, headers, _ = await get(app, path)
    etag, modified = headers["ETag"], headers["Last-Modified"]
    for condition, status in ((etag, 206), (modified, 206), ('"other"', 200), (f"W/{etag}", 200), ("x", 200)):
        assert (await get(app, path, Range="bytes=0-4", If_Range=condition))[0] == status, condition
    assert (await get(app, path, If_None_Match=etag))[0] == 304
    assert (await get(app, path, If_Modified_Since=modified))[0] == 304
    assert (await get(app, path, If_None_Match='"other"', If_Modified_Since=modified))[0] == 200
    assert (await get(app, path, If_Match='"other"'))[0] == 412
    assert (await get(app, path, If_Match=etag))[0] == 200


async def test_a_link_that_was_not_made_here_or_has_expired_opens_nothing(app: App, path: str) -> None:
    token = path.rpartition("/")[2]
    wrongs = (
        token[:-3],
        f"{token}x",
        f"{token[:-4]}AAAA",
        "x",
        "%00",
        "ü",
        "A" * len(token),
        f"{'A' * 20}{token[20:]}",
    )
    for wrong in wrongs:
        answer = await app.call(None, "GET", f"/files/{wrong}")
        assert (answer.status, answer.error) == (404, "link_not_found")
    file_id = await send(app, "kid", PNG)
    answer = await app.call("kid", "GET", await link(app, file_id, seconds=-1))
    assert (answer.status, answer.error) == (403, "link_expired")
    answer = await app.call("kid", "GET", await link(app, uuid4()))
    assert (answer.status, answer.error) == (404, "file_not_found")
    for use in ("send", "thumbnail"):
        assert (await app.call("kid", "GET", await link(app, file_id, use=use))).status == 404


async def test_a_file_is_not_read_before_it_is_whole_nor_after_it_was_deleted(app: App) -> None:
    half = UUID((await begin(app, "kid", len(PNG))).rpartition("/")[2])
    assert (await app.call(None, "GET", await link(app, half))).status == 404
    file_id = await send(app, "kid", PNG)
    path = await link(app, file_id)
    assert (await get(app, path))[0] == 200
    await app.pool.execute("DELETE FROM files WHERE id = $1", file_id)
    assert (await get(app, path))[0] == 404
    await Sweeper(app.uploads).sweep()
    assert await app.uploads.objects.stat(f"document/{file_id}") is None


async def test_the_log_shows_no_links(app: App, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    await get(app, path)
    said = capsys.readouterr()
    assert "/files/{token}" in said.out + said.err
    assert path not in said.out + said.err


async def test_a_browsers_recording_is_looked_through_before_anybody_sees_it(app: App, tmp_path: Path) -> None:
    lesson_id = await app.book()
    recorded = make(tmp_path / "lesson.webm", seconds=3, live=True).read_bytes()
    file_id = await send(app, "teach", recorded, kind="recording", session_id=str(lesson_id), filename="lesson")
    file = await settled(app, file_id)
    assert (file["state"], file["name"], file["mime"]) == ("ready", "lesson.webm", "video/webm")
    assert file["seconds"] == pytest.approx(3, abs=0.3)
    assert file["thumbnail_key"] is not None
    _, _, whole = await get(app, await link(app, file_id))
    assert len(whole) == file["size"]
    assert whole != recorded
    _, headers, picture = await get(app, await link(app, file_id, use="thumbnail"))
    found = type_of(picture[:HEAD_BYTES])
    assert found is not None
    assert (found.name, headers["Content-Type"]) == ("JPEG", "image/jpeg")
    await Sweeper(app.uploads).sweep()
    assert await app.uploads.objects.stat(f"recording/{file_id}") is None, "the one without an index is gone"
    assert (await get(app, await link(app, file_id)))[0] == 200


async def test_a_film_that_cannot_be_read_fails_and_leaves_nothing(app: App) -> None:
    lesson_id = await app.book()
    broken = b"\x1a\x45\xdf\xa3\x93\x42\x82\x88webm" + bytes(10_000)
    file_id = await send(app, "teach", broken, kind="recording", session_id=str(lesson_id))
    file = await settled(app, file_id)
    assert file["state"] == "failed"
    assert "cannot be read" in file["reason"]
    await Sweeper(app.uploads).sweep()
    assert await app.uploads.objects.stat(file["key"]) is None


async def test_a_film_whose_worker_died_is_taken_up_by_another(app: App, tmp_path: Path) -> None:
    lesson_id = await app.book()
    film = make(tmp_path / "lesson.mp4").read_bytes()
    app.uploads.whole = lambda: None
    file_id = await send(app, "teach", film, kind="recording", session_id=str(lesson_id))
    await app.pool.execute(
        "UPDATE files SET lease_holder = $2, lease_until = now() + interval '1 second', tries = 1 WHERE id = $1",
        file_id,
        uuid4(),
    )
    file = await settled(app, file_id)
    assert (file["state"], file["tries"]) == ("ready", 2)


async def test_many_read_at_once(app: App, path: str) -> None:
    answers = await asyncio.gather(*(get(app, path) for _ in range(20)))
    assert all(body == DATA for _, _, body in answers)


@pytest.mark.parametrize("app", ["rclone"], indirect=True)
@pytest.mark.parametrize(("left", "good_for"), [(365 * 86_400, 6 * 3_600), (1_000, 1_000), (5, 60)])
async def test_a_buckets_link_is_good_for_as_long_as_ours_but_no_longer_than_amazon_signs(
    app: App, path: str, left: int, good_for: int
) -> None:
    file_id = await app.pool.fetchval("SELECT id FROM files")
    answer = await app.call(None, "GET", await link(app, file_id, seconds=left))
    seconds = int(URL(answer.headers["Location"], encoded=True).query["X-Amz-Expires"])
    assert good_for - 5 <= seconds <= good_for
    assert seconds <= 604_800, "Signature Version 4"


class Breaks:
    """A store whose files break off: `missing` bytes before their end, with an `error` or without one."""

    def __init__(self, objects: ObjectStore, missing: int, error: Exception | None) -> None:
        self._objects = objects
        self._missing = missing
        self._error = error

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        assert end is not None
        async for chunk in self._objects.read(key, start, max(start, end - self._missing)):
            yield chunk
        if self._error is not None:
            raise self._error

    def __getattr__(self, name: str) -> object:
        return getattr(self._objects, name)


@pytest.mark.parametrize(
    "error",
    [ObjectsAway("a test"), ObjectMissing("a test"), RuntimeError("a test"), None],
    ids=lambda error: repr(error),
)
@pytest.mark.parametrize("missing", [100, 200_000])
async def test_a_download_that_breaks_off_ends_short_and_with_nothing_else(
    app: App, path: str, missing: int, error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.uploads, "objects", Breaks(app.uploads.objects, missing, error))
    server = app.client.server
    assert server.port is not None
    reader, writer = await asyncio.open_connection(server.host, server.port)
    received = bytearray()
    with contextlib.closing(writer):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        async with asyncio.timeout(WAIT_SECONDS):
            with contextlib.suppress(ConnectionResetError):
                while chunk := await reader.read(65_536):
                    received += chunk
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert f"Content-Length: {len(DATA)}".encode() in head
    assert len(body) < len(DATA)
    assert DATA.startswith(body)
