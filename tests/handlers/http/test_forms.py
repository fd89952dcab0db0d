"""Forms with files: taken in part by part, and refused as soon as it is known."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path

import pytest
import requests
from yarl import URL

from domain import streams
from domain.files import MIB
from handlers.http import forms
from realtime.events import Event
from tests.support.apps import App, running_app
from tests.support.lessons import ROLES, STRANGERS, make_course
from tests.support.media import make
from tests.support.recorder import WAIT_SECONDS
from tests.support.sending import settled
from tests.support.tokens import mint
from tests.support.waiting import until

BOUNDARY = "a-boundary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


@pytest.fixture
async def path(app: App) -> str:
    return f"/sessions/{await app.book()}/recordings"


def part(name: str, data: bytes, filename: str | None = None) -> bytes:
    said = f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
    return f"--{BOUNDARY}\r\n{said}\r\n\r\n".encode() + data + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


@asynccontextmanager
async def begun(
    app: App, who: str, path: str, length: int, *headers: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection on which the header of a form was sent, of so many bytes."""
    url = URL(str(app.client.make_url(path)))
    reader, writer = await asyncio.open_connection(url.host, url.port)
    lines = (
        f"POST {path} HTTP/1.1",
        f"Host: {url.host}",
        f"Authorization: Bearer {mint(who, ROLES[who])}",
        f"Content-Type: {FORM['Content-Type']}",
        f"Content-Length: {length}",
        *headers,
    )
    writer.write("\r\n".join((*lines, "", "")).encode())
    try:
        yield reader, writer
    finally:
        writer.close()


async def first_answer(reader: asyncio.StreamReader) -> str:
    """What the server says first: an answer with its document, or that it goes on."""
    async with asyncio.timeout(WAIT_SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
        body = b"" if head.startswith(b"HTTP/1.1 100 ") else await reader.readuntil(b"}")
    return (head + body).decode()


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for one in data:
        yield one


async def test_a_form_brings_a_file_and_its_fields(app: App, path: str, tmp_path: Path) -> None:
    film = make(tmp_path / "lesson.mp4").read_bytes()
    sent = pieces(part("unknown", b"is passed over"), part("file", film, "../../etc/lesson 1.mp4"), END)
    answer = await app.call("teach", "POST", path, data=sent, headers=FORM)
    assert answer.status == 201, answer
    row = await app.pool.fetchrow("SELECT id, name, mime, size FROM files")
    assert row is not None
    assert (row["name"], row["mime"], row["size"]) == ("lesson 1.mp4", "video/mp4", len(film))
    file = await settled(app, row["id"])
    assert file["state"] == "ready", file


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ((b"",), 400, "malformed_form"),
        ((b"hello",), 400, "malformed_form"),
        ((END,), 400, "validation_failed"),
        ((part("recording_id", b"\xff"), END), 400, "validation_failed"),
        ((part("file", b"", "x.mp4"), END), 400, "empty_file"),
        ((part("file", b""), END), 400, "validation_failed"),
        ((part("file", b"hello", "x.mp4"), END), 415, "unsupported_file_type"),
        ((part("file", b"OggS" + bytes(5000), "x.ogg"),), 400, "malformed_form"),
        ((part("file", b"OggS", "x.ogg"), part("file", b"OggS", "x.ogg"), END), 400, "validation_failed"),
        ((part("x", b"y" * 70_000), END), 413, "too_large"),
        ((*(part("x", b"y") for _ in range(10_000)), END), 413, "too_large"),
        ((f"--{BOUNDARY}\r\n".encode(), b"x: y\r\n" * 1000), 400, "malformed_form"),
        ((f"--{BOUNDARY}\r\n".encode(), b"x" * 100_000), 400, "malformed_form"),
    ],
    ids=str,
)
async def test_a_form_that_is_none_is_refused_and_leaves_nothing(
    app: App, path: str, body: tuple[bytes, ...], status: int, code: str
) -> None:
    answer = await app.call("teach", "POST", path, data=pieces(*body), headers=FORM)
    assert (answer.status, answer.error) == (status, code), answer
    assert await app.pool.fetchval("SELECT count(*) FROM files WHERE state <> 'failed'") == 0
    assert await app.pool.fetchval("SELECT coalesce(sum(bytes), 0) FROM file_usage") == 0
    assert await app.pool.fetchval("SELECT count(*) FROM uploads") == 0


async def test_what_is_no_form_is_415(app: App, path: str) -> None:
    for content_type in ("application/json", "multipart/mixed; boundary=x", "text/plain"):
        answer = await app.call("teach", "POST", path, data=b"{}", headers={"Content-Type": content_type})
        assert (answer.status, answer.error) == (415, "unsupported_media_type")
    answer = await app.call("teach", "POST", path, data=b"{}", headers={"Content-Type": "multipart/form-data"})
    assert (answer.status, answer.error) == (400, "malformed_form")


async def test_a_form_that_is_too_slow_is_cut(app: App, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "PART_SECONDS", 0.1)
    gate = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield f"--{BOUNDARY}\r\n".encode()
        await gate.wait()

    answer = await app.call("teach", "POST", path, data=slow(), headers=FORM)
    gate.set()
    assert (answer.status, answer.error) == (408, "body_too_slow")


async def test_who_may_not_is_told_while_the_file_is_still_on_its_way(app: App, path: str) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield part("file", b"OggS", "x.ogg")[:-2]
        while sent < 60_000:
            sent += 1
            yield bytes(1000)
            await asyncio.sleep(0.001)

    for who in ("kid", *STRANGERS):
        answer = await app.call(who, "POST", path, data=endless(), headers=FORM)
        assert answer.status == 403, answer
        assert answer.body["message"] == "Only the tutor can upload recordings"
        assert sent < 60_000


async def test_who_asks_first_sends_nothing_where_it_would_be_refused(app: App, path: str) -> None:
    for who, first in (("kid", "403"), ("teach", "100")):
        async with begun(app, who, path, 1_000_000, "Expect: 100-continue") as (reader, _):
            assert (await first_answer(reader)).startswith(f"HTTP/1.1 {first} ")


async def test_a_large_file_is_never_held_whole(app: App, path: str) -> None:
    """Its pieces go on as they come: what waits in between is bounded."""
    piece, count = random.Random(3).randbytes(MIB), 60
    held = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal held
        yield part("file", b"OggS" + bytes(5000), "x.ogg")[:-2]
        for number in range(count):
            yield piece
            for arrival in app.uploads.arrivals:
                held = max(held, (number + 1) * MIB - arrival.offset)
        yield b"\r\n" + END

    answer = await app.call("teach", "POST", path, data=body(), headers=FORM)
    assert answer.status == 201, answer
    assert held < 12 * MIB
    assert await app.pool.fetchval("SELECT size FROM files") == count * MIB + 5004


async def test_the_rooms_host_sees_it_come(app: App, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[set[str], Event]] = []
    monkeypatch.setattr(app.live.audience, "tell", lambda people, news: told.append((set(people), news)))

    async def body() -> AsyncIterator[bytes]:
        yield part("file", b"OggS" + bytes(500_000), "x.ogg")[:-2]
        await until(lambda: len(told) > 0)
        yield bytes(500_000) + b"\r\n" + END

    answer = await app.call("boss", "POST", path, data=body(), headers=FORM)
    assert answer.status == 201
    progress = [(people, news.data) for people, news in told if news.name == "uploadProgress"]
    assert len(progress) >= 2
    assert all(people == {"boss", "teach"} for people, _ in progress)
    assert progress[-1][1]["received"] == 1_000_004
    assert str(progress[-1][1]["session_id"]) == path.split("/")[2]
    assert progress[-1][1]["name"] == "x.ogg"


LIMIT = 1 * MIB
#: Beyond the limit, and more than any buffer on the way takes.
TOO_MUCH = 200 * MIB


@pytest.fixture
async def small(database: str) -> AsyncIterator[App]:
    """An application that takes recordings of a megabyte at most."""
    async with running_app(database, max_recording_bytes=LIMIT) as app:
        yield app


@pytest.fixture
def form_of_200_mb(tmp_path: Path) -> Path:
    """The body of a form with a sound in it. It takes no room on the disk."""
    path = tmp_path / "form"
    with path.open("wb") as file:
        file.write(part("file", b"OggS", "x.ogg")[:-2])
        file.truncate(LIMIT + TOO_MUCH)
        file.seek(0, 2)
        file.write(b"\r\n" + END)
    return path


async def test_a_form_that_is_too_large_is_refused_before_any_of_it_is_read(small: App) -> None:
    path = f"/sessions/{await small.book()}/recordings"
    for expects in ((), ("Expect: 100-continue",)):
        async with begun(small, "teach", path, TOO_MUCH, *expects) as (reader, _):
            answer = await first_answer(reader)
        assert answer.startswith("HTTP/1.1 413 "), answer
        assert "A file may have at most 1 MB here; this one came in a form of 200 MB." in answer
    assert await small.pool.fetchval("SELECT count(*) FROM files") == 0


async def test_a_sound_in_a_course_is_refused_as_soon_as_it_is_known_for_one(app: App) -> None:
    course_id = await make_course(app.pool)
    path, length = "/courses/upload-content", 300 * MIB
    of_course, title = part("course_id", str(course_id).encode()), part("title", b"A sound")
    sound = part("file", b"OggS" + bytes(200_000), "x.ogg")[:-2]
    for before, said in ((part("type", b"audio"), "An audio file may have at most 100 MB here;"), (b"", "(OGG)")):
        async with begun(app, "teach", path, length) as (reader, writer):
            writer.write(of_course + title + before + sound)
            answer = await first_answer(reader)
        assert answer.startswith("HTTP/1.1 413 "), answer
        assert said in answer
        assert "this one came in a form of 300 MB." in answer
    async with begun(app, "teach", path, 600 * MIB) as (reader, _):
        answer = await first_answer(reader)
    assert "A file may have at most 500 MB here; this one came in a form of 600 MB." in answer


async def test_a_client_that_reads_no_answer_before_it_has_sent_everything_gets_it(
    small: App, form_of_200_mb: Path
) -> None:
    path = f"/sessions/{await small.book()}/recordings"
    url, token = str(small.client.make_url(path)), mint("teach", "teacher")

    def post(*, in_chunks: bool) -> requests.Response:
        with form_of_200_mb.open("rb") as file:
            body = iter(lambda: file.read(MIB), b"") if in_chunks else file
            headers = {**FORM, "Authorization": f"Bearer {token}"}
            return requests.post(url, data=body, headers=headers, timeout=30)

    for in_chunks, came in ((False, "came in a form of 201.1 MB"), (True, "has more")):
        answer = await asyncio.to_thread(post, in_chunks=in_chunks)
        assert (answer.status_code, answer.json()["error"]) == (413, "file_too_large")
        assert answer.json()["message"].endswith(f"; this one {came}."), answer.json()
    assert await small.pool.fetchval("SELECT count(*) FROM files WHERE state <> 'failed'") == 0


async def test_a_files_type_its_limit_and_what_came_are_said_and_nothing_of_it_is_kept(small: App) -> None:
    path = f"/sessions/{await small.book()}/recordings"
    body = part("file", b"OggS" + bytes(LIMIT), "x.ogg") + END
    for data, came in ((BytesIO(body), "came in a form of 1.1 MB"), (pieces(body), "has more")):
        answer = await small.call("teach", "POST", path, data=data, headers=FORM)
        said = f"An audio file (OGG) may have at most 1 MB; this one {came}."
        assert (answer.status, answer.error, answer.body["message"]) == (413, "file_too_large", said)
        row = await small.pool.fetchrow("DELETE FROM files RETURNING state, reason")
        assert row is not None
        assert tuple(row) == ("failed", said)


async def test_a_form_that_trickles_in_is_refused(app: App, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RATE_SECONDS", 0.3)
    monkeypatch.setattr(streams, "LOWEST_RATE", 100_000)
    sent = 0

    async def trickling() -> AsyncIterator[bytes]:
        nonlocal sent
        yield part("file", b"OggS" + bytes(5_000), "x.ogg")[:-2]
        while sent < 1_000:
            sent += 1
            await asyncio.sleep(0.01)
            yield b"x"

    answer = await app.call("teach", "POST", path, data=trickling(), headers=FORM)
    assert (answer.status, answer.error) == (408, "body_too_slow")
    assert sent < 1_000
    assert await app.pool.fetchval("SELECT count(*) FROM files WHERE state <> 'failed'") == 0
