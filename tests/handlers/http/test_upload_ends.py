"""Uploads that end in ways that nobody wished for: what is left of them, and what is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from domain.errors import Unavailable
from domain.files import finished, taken_over
from domain.processing import Processing
from store import files
from store.files import File
from tests.support.apps import Answer, App, running_app
from tests.support.lessons import make_course
from tests.support.recorder import WAIT_SECONDS
from tests.support.sending import PNG, TUS, append, begin, metadata, on_their_way
from tests.support.waiting import until

OGG = b"OggS" + bytes(5_000)
BODY = {"Content-Type": "application/offset+octet-stream"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
FILE = b'--x\r\nContent-Disposition: form-data; name="file"; filename="x.ogg"\r\n\r\n' + OGG


@pytest.fixture
async def app(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    # The application's own does nothing in these tests.
    monkeypatch.setattr(Processing, "start", lambda self: None)
    async with running_app(database) as app:
        yield app


async def create_with(app: App, data: bytes | AsyncIterator[bytes], size: int, **headers: str) -> Answer:
    """POST /uploads with the first bytes."""
    said = metadata(kind="document", filename="a.png")
    sent = {**TUS, **BODY, "Upload-Length": str(size), "Upload-Metadata": said, **headers}
    return await app.call("kid", "POST", "/uploads", data=data, headers=sent)


async def on_their_way_by_rows(app: App) -> int:
    count: int = await app.pool.fetchval(
        "SELECT (SELECT count(*) FROM files WHERE state = 'uploading') + (SELECT count(*) FROM uploads)"
    )
    return count


@pytest.mark.parametrize(
    ("data", "size", "headers", "status"),
    [
        (PNG, len(PNG), {"Upload-Checksum": "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="}, 460),
        (PNG, len(PNG) - 1, {}, 413),
        (b"hello" * 1_000, 9_000, {}, 415),
    ],
)
async def test_an_upload_whose_first_bytes_are_refused_as_it_is_made_is_given_up(
    app: App, data: bytes, size: int, headers: dict[str, str], status: int
) -> None:
    answer = await create_with(app, data, size, **headers)
    assert (answer.status, "Location" in answer.headers) == (status, False)
    assert await on_their_way_by_rows(app) == 0


async def test_an_upload_that_breaks_off_as_it_is_made_is_given_up(app: App) -> None:
    async def hanging() -> AsyncIterator[bytes]:
        yield PNG
        await asyncio.Event().wait()

    making = asyncio.create_task(create_with(app, hanging(), 2 * len(PNG)))
    await until(lambda: any(arrival.offset for arrival in app.uploads.arrivals))
    making.cancel()
    await until(lambda: not app.uploads.arrivals)
    async with asyncio.timeout(WAIT_SECONDS):
        while await on_their_way_by_rows(app):  # noqa: ASYNC110  # the database sets no event
            await asyncio.sleep(0.01)
    again = await create_with(app, PNG, len(PNG))
    assert again.status == 201


async def test_an_upload_that_the_server_cannot_take_as_it_is_made_is_given_up(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leaving(_file: File) -> None:
        raise Unavailable("This server is about to stop.")

    monkeypatch.setattr(app.uploads, "arrive", leaving)
    path = f"/sessions/{await app.book()}/recordings"
    assert (await create_with(app, PNG, len(PNG))).status == 503
    assert (await app.call("teach", "POST", path, data=FILE + b"\r\n--x--\r\n", headers=FORM)).status == 503
    assert await on_their_way_by_rows(app) == 0


async def test_who_looks_how_far_a_form_has_come_does_not_break_it_off(app: App) -> None:
    path, gate = f"/sessions/{await app.book()}/recordings", asyncio.Event()

    async def form() -> AsyncIterator[bytes]:
        yield FILE + bytes(300_000)  # a boundary may stand in less
        await gate.wait()
        yield b"\r\n--x--\r\n"

    sending = asyncio.create_task(app.call("teach", "POST", path, data=form(), headers=FORM))
    await until(lambda: any(arrival.offset > 4096 for arrival in app.uploads.arrivals))
    [arrival] = app.uploads.arrivals
    said = await app.call("teach", "HEAD", f"/uploads/{arrival.file.id}", headers=TUS)
    assert (said.status, "Upload-Length" in said.headers) == (200, False)
    assert (await append(app, "teach", f"/uploads/{arrival.file.id}", 0, OGG)).status == 404
    gate.set()
    assert (await sending).status == 201


@pytest.mark.parametrize("in_chunks", [False, True])
async def test_nothing_is_added_to_an_upload_that_is_finished(app: App, in_chunks: bool) -> None:
    async def more() -> AsyncIterator[bytes]:
        yield b"more"

    path = await begin(app, "kid", len(PNG))
    assert (await append(app, "kid", path, 0, PNG)).status == 204
    answer = await append(app, "kid", path, len(PNG), more() if in_chunks else b"more")
    assert (answer.status, answer.error) == (413, "upload_too_long")
    assert (await append(app, "kid", path, len(PNG), b"")).status == 204


@pytest.mark.parametrize("method", ["PATCH", "HEAD"])
async def test_who_may_not_send_any_more_cannot_end_an_upload(app: App, method: str) -> None:
    course_id = await make_course(app.pool)
    fields = {"kind": "content", "course_id": str(course_id), "type": "audio", "filename": "x.ogg"}
    path = await begin(app, "teach", len(OGG), **fields)
    before = await append(app, "teach", path, 0, OGG[:4_500])
    assert before.status == 204
    if method == "HEAD":
        # As a worker leaves it that was killed after the last byte.
        await app.pool.execute('UPDATE uploads SET length = "offset"')
    await app.pool.execute("UPDATE courses SET instructor_id = 'teach2'")
    if method == "HEAD":
        answer = await app.call("teach", "HEAD", path, headers=TUS)
    else:
        answer = await append(app, "teach", path, 4_500, OGG[4_500:])
    assert answer.status == 403
    assert await app.pool.fetchval("SELECT state FROM files") == "failed"
    assert await app.pool.fetchval("SELECT count(*) FROM course_content WHERE upload_status <> 'failed'") == 0
    assert await on_their_way(app) == 0


async def test_who_waited_for_an_upload_goes_on_from_what_was_found_of_it_meanwhile(app: App) -> None:
    # So little that its first bytes alone do not tell: what it is stands with the file, once all of it has come.
    path = await begin(app, "kid", 100)
    before = await files.find(app.pool, UUID(path.rpartition("/")[2]))
    assert before is not None
    await files.save_type(app.pool, before.id, mime="image/png", name="a file.png")
    async with await app.uploads.arrive(before) as arrival:
        assert arrival.file.mime == "image/png"


def test_who_is_refused_is_told_what_to_do_next() -> None:
    assert "a new one" in finished().message
    assert "go on from there" in taken_over().message
