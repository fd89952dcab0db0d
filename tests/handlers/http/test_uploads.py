"""Resumable uploads: tus 1.0.0, word by word."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import ClientError

from domain import streams
from domain.errors import Conflict
from domain.files import MIB
from domain.purposes import Admission
from domain.sweeper import Sweeper
from store.files import File
from store.objects.local import LocalUpload
from store.objects.objects import ObjectMissing, ObjectsAway
from store.uploads import Upload
from tests.conftest import StorageIn
from tests.support.apps import Answer, App, contents, running_app
from tests.support.lessons import STRANGERS, make_course
from tests.support.media import make
from tests.support.recorder import WAIT_SECONDS
from tests.support.sending import (
    PNG,
    TUS,
    announce,
    announce_with,
    append,
    begin,
    link,
    metadata,
    offset,
    on_their_way,
    send,
    settled,
)
from tests.support.waiting import until

#: Where files lie, for what every place must do alike.
everywhere = pytest.mark.parametrize("app", ["folder", "moto", "rclone"], indirect=True)


@pytest.fixture
async def app(request: pytest.FixtureRequest, database: str, storage_in: StorageIn) -> AsyncIterator[App]:
    """With its files in a folder, unless the test says `everywhere`."""
    async with running_app(database, **await storage_in(getattr(request, "param", "folder"))) as app:
        yield app


async def bytes_of(app: App, file_id: UUID) -> bytes:
    async with app.client.get(await link(app, file_id)) as response:
        assert response.status == 200
        return await response.read()


async def come_as_far_as(app: App, place: int) -> None:
    """Wait until the server has taken in so much of the one file that is on its way."""
    await until(lambda: [arrival.offset for arrival in app.uploads.arrivals] == [place])


async def state_of(app: App, path: str) -> str:
    state: str = await app.pool.fetchval("SELECT state FROM files WHERE id = $1", UUID(path.rpartition("/")[2]))
    return state


def sha1(data: bytes) -> str:
    return f"sha1 {base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()}"


async def test_the_server_says_what_it_speaks(app: App) -> None:
    answer = await app.call(None, "OPTIONS", "/uploads")
    assert answer.status == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert (
        answer.headers["Tus-Extension"]
        == "creation,creation-with-upload,creation-defer-length,expiration,checksum,termination"
    )
    assert answer.headers["Tus-Max-Size"] == str(2 * 1024 * MIB)
    assert "sha1" in answer.headers["Tus-Checksum-Algorithm"].split(",")


@everywhere
async def test_a_file_comes_in_pieces_and_is_read_whole(app: App) -> None:
    data = PNG + random.Random(1).randbytes(200_000)
    path = await begin(app, "kid", len(data), filename="Grün & <b>.png")
    place = 0
    for size in (1, 100, 3_995, 50_000, len(data)):
        piece = data[place : place + size]
        answer = await append(app, "kid", path, place, piece)
        assert (answer.status, answer.body) == (204, ""), answer
        place += len(piece)
        assert answer.headers["Upload-Offset"] == str(place)
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert await offset(app, "kid", path) == place
    file = await settled(app, UUID(path.rpartition("/")[2]))
    assert (file["state"], file["mime"], file["size"]) == ("ready", "image/png", len(data))
    assert file["name"] == "Grün & _b_.png"
    assert await bytes_of(app, file["id"]) == data


async def test_a_file_may_come_with_its_announcement(app: App) -> None:
    answer = await app.call(
        "kid",
        "POST",
        "/uploads",
        data=PNG,
        headers={
            **TUS,
            "Upload-Length": str(len(PNG)),
            "Upload-Metadata": metadata(kind="document", filename="x.png"),
            "Content-Type": "application/offset+octet-stream",
        },
    )
    assert (answer.status, answer.headers["Upload-Offset"]) == (201, str(len(PNG)))
    assert await state_of(app, answer.headers["Location"]) == "ready"


async def test_an_upload_says_how_far_it_is_and_until_when(app: App) -> None:
    said = metadata(kind="document", filename="x.png")
    path = await begin(app, "kid", len(PNG), filename="x.png")
    await append(app, "kid", path, 0, PNG[:100])
    answer = await app.call("kid", "HEAD", path, headers=TUS)
    assert answer.status == 200
    assert answer.headers["Upload-Length"] == str(len(PNG))
    assert answer.headers["Upload-Metadata"] == said
    assert answer.headers["Cache-Control"] == "no-store"
    assert parsedate_to_datetime(answer.headers["Upload-Expires"]).year >= 2026
    shown = await app.call("kid", "GET", path)
    assert (shown.body["state"], shown.body["offset"], shown.body["length"]) == ("uploading", 100, len(PNG))


async def test_what_the_protocol_asks_of_a_request_is_asked(app: App) -> None:
    path = await begin(app, "kid", len(PNG))
    for method, where in (("POST", "/uploads"), ("HEAD", path), ("PATCH", path), ("DELETE", path)):
        answer = await app.call("kid", method, where, headers={"Tus-Resumable": "0.2.2"})
        assert (answer.status, answer.headers["Tus-Version"]) == (412, "1.0.0")
    answer = await append(app, "kid", path, 0, PNG, Content_Type="image/png")
    assert (answer.status, answer.error) == (415, "unsupported_media_type")
    answer = await append(app, "kid", path, 5, PNG)
    assert (answer.status, answer.error) == (409, "offset_mismatch")
    for wrong in ("-1", "x", "", "9" * 30):
        answer = await append(app, "kid", path, wrong, PNG)
        assert (answer.status, answer.error) == (400, "validation_failed")
        answer = await announce(app, "kid", wrong)
        assert (answer.status, answer.error) == (400, "validation_failed")
    answer = await announce_with(app, "kid", 0, {"Upload-Defer-Length": "1"})
    assert (answer.status, answer.error) == (400, "validation_failed"), "one of both"
    answer = await announce_with(app, "kid", 10, {"Upload-Concat": "partial"})
    assert (answer.status, answer.error) == (400, "validation_failed")
    answer = await announce(app, "kid", 0)
    assert (answer.status, answer.error) == (400, "empty_file")
    assert await offset(app, "kid", path) == 0


@pytest.mark.parametrize(
    "header", ["kind", "kind !", "kind aGVsbG8=", "a YQ==,a YQ==", "kind /w==", "é YQ==", "k AA=="]
)
async def test_metadata_that_say_nothing_of_use_are_refused(app: App, header: str) -> None:
    sent = {**TUS, "Upload-Length": "10", "Upload-Metadata": header}
    answer = await app.call("kid", "POST", "/uploads", headers=sent)
    assert (answer.status, answer.error) == (400, "validation_failed")


async def test_more_than_was_announced_is_not_taken(app: App) -> None:
    path = await begin(app, "kid", len(PNG))

    async def too_much() -> AsyncIterator[bytes]:
        yield PNG
        yield b"more"

    answer = await append(app, "kid", path, 0, PNG + b"more")
    assert (answer.status, answer.error) == (413, "upload_too_long")
    assert await offset(app, "kid", path) == 0
    answer = await append(app, "kid", path, 0, too_much())
    assert (answer.status, answer.error) == (413, "upload_too_long")
    assert await offset(app, "kid", path) <= len(PNG)


@everywhere
async def test_bytes_are_held_to_their_checksum(app: App) -> None:
    path = await begin(app, "kid", len(PNG))
    answer = await append(app, "kid", path, 0, b"x" * len(PNG), Upload_Checksum=sha1(PNG))
    assert (answer.status, answer.error) == (460, "checksum_mismatch")
    assert await offset(app, "kid", path) == 0
    answer = await append(app, "kid", path, 0, PNG[:4500], Upload_Checksum=sha1(PNG[:4500]))
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, "4500")
    answer = await append(app, "kid", path, 4500, b"y" * 100, Upload_Checksum=sha1(PNG))
    assert answer.status == 460
    assert await offset(app, "kid", path) == 4500
    for wrong in ("crc32 AAAA", "sha1", "sha1 !"):
        answer = await append(app, "kid", path, 4500, PNG[4500:], Upload_Checksum=wrong)
        assert (answer.status, answer.error) == (400, "validation_failed")
    answer = await append(app, "kid", path, 4500, PNG[4500:], Upload_Checksum=sha1(PNG[4500:]))
    assert answer.status == 204
    assert await bytes_of(app, UUID(path.rpartition("/")[2])) == PNG


@everywhere
async def test_what_came_before_a_connection_broke_stays(app: App) -> None:
    path = await begin(app, "kid", 3 * MIB)

    async def breaking() -> AsyncIterator[bytes]:
        yield PNG
        yield bytes(MIB)
        await come_as_far_as(app, len(PNG) + MIB)
        raise ConnectionResetError

    with pytest.raises((OSError, ClientError)):
        await append(app, "kid", path, 0, breaking())
    come = await offset(app, "kid", path)
    assert come == len(PNG) + MIB
    answer = await append(app, "kid", path, come, bytes(3 * MIB - come))
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(3 * MIB))
    assert await bytes_of(app, UUID(path.rpartition("/")[2])) == PNG + bytes(3 * MIB - len(PNG))


@everywhere
async def test_whoever_comes_later_takes_over_from_a_request_that_hangs(app: App) -> None:
    path, gate = await begin(app, "kid", 2 * MIB), asyncio.Event()

    async def hanging() -> AsyncIterator[bytes]:
        yield PNG
        await gate.wait()

    first = asyncio.create_task(append(app, "kid", path, 0, hanging()))
    await come_as_far_as(app, len(PNG))
    come = await offset(app, "kid", path)
    assert come == len(PNG)
    answer = await append(app, "kid", path, come, bytes(2 * MIB - come))
    assert answer.status == 204
    gate.set()
    stopped = await first
    assert (stopped.status, stopped.error) == (423, "upload_locked")
    assert await state_of(app, path) == "ready"


async def test_a_connection_from_which_nothing_comes_is_cut(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    path, gate = await begin(app, "kid", 2 * MIB), asyncio.Event()

    async def hanging() -> AsyncIterator[bytes]:
        yield PNG[:-1]
        await come_as_far_as(app, len(PNG) - 1)
        monkeypatch.setattr(streams, "IDLE_SECONDS", 0.1)
        yield PNG[-1:]
        await gate.wait()

    with pytest.raises(ClientError):
        await append(app, "kid", path, 0, hanging())
    gate.set()
    assert await offset(app, "kid", path) == len(PNG)


async def test_a_connection_that_sends_a_byte_now_and_then_is_cut(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LOWEST_RATE", 0)
    monkeypatch.setattr(streams, "RATE_SECONDS", 0.3)
    path, sent = await begin(app, "kid", 2 * MIB), 0

    async def trickling(place: int, rate: int) -> AsyncIterator[bytes]:
        nonlocal sent
        yield PNG[:4_200]
        await come_as_far_as(app, place + 4_200)
        monkeypatch.setattr(streams, "LOWEST_RATE", rate)
        while sent < 1_000:
            sent += 1
            await asyncio.sleep(0.01)
            yield b"x"

    with pytest.raises(ClientError):
        await append(app, "kid", path, 0, trickling(0, rate=100_000))
    assert 4_200 <= await offset(app, "kid", path) < 5_000
    monkeypatch.setattr(streams, "LOWEST_RATE", 0)
    come, sent = await offset(app, "kid", path), 900
    answer = await append(app, "kid", path, come, trickling(come, rate=0))
    assert answer.status == 204


async def test_a_server_that_stops_takes_nothing_more_on_connections_that_are_there(app: App) -> None:
    path = await begin(app, "kid", len(PNG))
    app.uploads.stop()
    for answer in (
        await append(app, "kid", path, 0, PNG),
        await announce(app, "kid", 10),
        await app.call("kid", "POST", "/presigned-url", {"file_name": "x.png", "content_type": "image/png"}),
    ):
        assert (answer.status, answer.error, answer.headers["Retry-After"]) == (503, "unavailable", "1")
    assert await offset(app, "kid", path) == 0


async def test_a_request_that_waited_for_its_turn_while_the_server_stopped_is_answered(app: App) -> None:
    path, gate = await begin(app, "kid", 2 * MIB), asyncio.Event()

    async def hanging() -> AsyncIterator[bytes]:
        yield PNG
        await gate.wait()

    first = asyncio.create_task(append(app, "kid", path, 0, hanging()))
    await come_as_far_as(app, len(PNG))
    second = asyncio.create_task(append(app, "kid", path, len(PNG), hanging()))

    async with asyncio.timeout(WAIT_SECONDS):
        while not await app.pool.fetchval("SELECT lease_wanted FROM uploads"):  # noqa: ASYNC110  # the database sets none
            await asyncio.sleep(0)
    app.uploads.stop()
    async with asyncio.timeout(WAIT_SECONDS):
        assert (await first).status == 503
        assert (await second).status == 503
    gate.set()
    assert await offset(app, "kid", path) == len(PNG)


async def test_what_a_client_knows_of_its_upload_stays_when_the_file_is_made_anew(app: App, tmp_path: Path) -> None:
    # Live from a browser: it gets an index, and is of another size then.
    film = make(tmp_path / "lesson.webm", seconds=2, live=True).read_bytes()
    lesson_id = await app.book()
    path = await begin(app, "teach", len(film), kind="recording", session_id=str(lesson_id), filename="lesson.webm")
    assert (await append(app, "teach", path, 0, film)).status == 204
    file = await settled(app, UUID(path.rpartition("/")[2]))
    assert (file["state"], file["size"] == len(film)) == ("ready", False)
    said = await app.call("teach", "HEAD", path, headers=TUS)
    assert (said.headers["Upload-Length"], said.headers["Upload-Offset"]) == (str(len(film)), str(len(film)))
    again = await append(app, "teach", path, len(film), b"")
    assert (again.status, again.headers["Upload-Offset"]) == (204, str(len(film)))


async def test_an_upload_is_its_owners_alone(app: App) -> None:
    path = await begin(app, "kid", len(PNG))
    before = await contents(app.pool)
    for who in (*STRANGERS, "teach", "boss"):
        for method in ("HEAD", "GET", "PATCH", "DELETE"):
            answer = await app.call(who, method, path, headers=TUS)
            assert answer.status == 404
    assert await contents(app.pool) == before
    for nobodys in (str(uuid4()), "x", "%00"):
        assert (await app.call("kid", "HEAD", f"/uploads/{nobodys}", headers=TUS)).status == 404


@everywhere
async def test_an_upload_can_be_given_up(app: App) -> None:
    path = await begin(app, "kid", MIB)
    await append(app, "kid", path, 0, PNG)
    answer = await app.call("kid", "DELETE", path, headers=TUS)
    assert answer.status == 204
    assert (await app.call("kid", "HEAD", path, headers=TUS)).status == 404
    answer = await append(app, "kid", path, len(PNG), PNG)
    assert (answer.status, answer.error) == (404, "upload_not_found")
    assert await app.pool.fetchval("SELECT bytes FROM file_usage WHERE user_id = 'kid'") == 0
    await Sweeper(app.uploads).sweep()


async def test_a_document_gets_a_new_link_and_is_deleted_by_whoever_sent_it(app: App) -> None:
    file_id = await send(app, "kid", PNG)
    path = f"/uploads/{file_id}"
    shown = await app.call("kid", "GET", path)
    url = shown.body["url"]
    async with app.client.get(url[url.index("/files/") :]) as response:
        assert await response.read() == PNG
    for method in ("GET", "DELETE"):
        assert (await app.call("teach", method, path)).status == 404
    assert (await app.call("kid", "DELETE", path)).status == 204
    assert (await app.call("kid", "GET", path)).status == 404
    async with app.client.get(url[url.index("/files/") :]) as response:
        assert response.status == 404
    assert await app.pool.fetchval("SELECT bytes FROM file_usage WHERE user_id = 'kid'") == 0
    await Sweeper(app.uploads).sweep()
    assert await app.uploads.objects.stat(f"document/{file_id}") is None


async def test_a_file_that_a_recording_or_a_course_has_is_not_deleted_behind_its_back(app: App, tmp_path: Path) -> None:
    lesson_id, course_id = await app.book(), await make_course(app.pool)
    sound = make(tmp_path / "x.ogg", seconds=1).read_bytes()
    for file_id in (
        await send(app, "teach", sound, kind="recording", session_id=str(lesson_id), filename="x.ogg"),
        await send(app, "teach", sound, kind="content", course_id=str(course_id), type="audio", filename="x.ogg"),
        await send(app, "teach", PNG, kind="thumbnail", course_id=str(course_id)),
    ):
        assert (await settled(app, file_id))["state"] == "ready"
        answer = await app.call("teach", "DELETE", f"/uploads/{file_id}")
        assert (answer.status, answer.error) == (409, "file_in_use")
        assert (await app.call("teach", "GET", f"/uploads/{file_id}")).body["url"] is None


@pytest.mark.parametrize("content", [b"<html><script>", b"PK\x03\x04", b"%PDF-1.7", b"GIF89a"])
async def test_only_files_of_their_purposes_types_come_in(app: App, content: bytes) -> None:
    lesson_id = await app.book()
    path = await begin(app, "teach", 5000, kind="recording", session_id=str(lesson_id), filename="lesson.mp4")
    answer = await append(app, "teach", path, 0, content + bytes(5000 - len(content)))
    assert (answer.status, answer.error) == (415, "unsupported_file_type")
    assert "WebM, MP4" in answer.body["message"]
    assert await state_of(app, path) == "failed"
    assert (await app.call("teach", "HEAD", path, headers=TUS)).status == 404


async def test_a_size_over_the_types_limit_is_said_with_the_type_the_limit_and_what_came(app: App) -> None:
    course_id = await make_course(app.pool)
    fields = {"kind": "content", "course_id": str(course_id), "type": "audio", "title": "A sound"}
    answer = await announce(app, "teach", 500 * MIB + 1, **fields)
    assert (answer.status, answer.error) == (413, "file_too_large")
    assert answer.body["message"] == "An audio file may have at most 100 MB here; this one has 500.1 MB."


async def test_who_may_not_send_a_file_is_told_before_any_of_it(app: App) -> None:
    lesson_id, course_id = await app.book(), await make_course(app.pool)
    for who in ("kid", "mum", *STRANGERS):
        answer = await announce(app, who, 100, kind="recording", session_id=str(lesson_id))
        assert answer.status == 403, answer
        answer = await announce(app, who, 100, kind="content", course_id=str(course_id), type="video", title="x")
        assert answer.status == 403, answer
    assert await app.pool.fetchval("SELECT count(*) FROM files") == 0
    for fields in ({"kind": "recording"}, {"kind": "content"}, {"kind": "content", "course_id": "x"}, {"kind": "x"}):
        answer = await announce(app, "teach", 100, **fields)
        assert (answer.status, answer.error) == (400, "validation_failed")


async def test_files_of_one_person_take_no_more_than_their_quota(database: str) -> None:
    async with running_app(database, upload_quota_bytes=3 * len(PNG)) as app:
        for _ in range(2):
            await send(app, "kid", PNG)
        answers = await asyncio.gather(*(announce(app, "kid", len(PNG)) for _ in range(5)))
        assert sorted(answer.status for answer in answers) == [201, 413, 413, 413, 413]
        refused = next(answer for answer in answers if answer.status == 413)
        assert refused.error == "quota_exceeded"
        assert (await announce(app, "kid2", len(PNG))).status == 201
        [made] = [answer for answer in answers if answer.status == 201]
        await app.call("kid", "DELETE", made.headers["Location"], headers=TUS)
        assert (await announce(app, "kid", len(PNG))).status == 201


async def test_not_everything_is_on_its_way_at_once(app: App) -> None:
    statuses = [(await announce(app, "kid", 10)).status for _ in range(21)]
    assert statuses == [201] * 20 + [429]


@everywhere
async def test_what_nobody_finishes_is_swept(app: App) -> None:
    path = await begin(app, "kid", MIB)
    await append(app, "kid", path, 0, PNG)
    await Sweeper(app.uploads).sweep()
    assert await state_of(app, path) == "uploading"
    await app.pool.execute("UPDATE uploads SET expires_at = now() - $1::interval", timedelta(seconds=1))
    await Sweeper(app.uploads).sweep()
    assert await state_of(app, path) == "failed"
    answer = await app.call("kid", "GET", path)
    assert (answer.status, answer.error) == (404, "upload_not_found")
    assert "not finished in time" in answer.body["message"]
    assert await app.pool.fetchval("SELECT count(*) FROM objects_to_delete") == 0


@everywhere
async def test_a_file_that_lies_whole_is_taken_though_its_worker_died_before_it_said_so(app: App) -> None:
    path = await begin(app, "kid", len(PNG))
    await append(app, "kid", path, 0, PNG[:4500])
    row = await app.pool.fetchrow("SELECT * FROM uploads")
    assert row is not None
    key = await app.pool.fetchval("SELECT key FROM files")
    stored = await app.uploads.objects.resume(key, row["state"])
    await stored.write(PNG[4500:])
    await stored.finish()
    answer = await append(app, "kid", path, 4500, PNG[4500:])
    assert (answer.status, answer.error) == (409, "upload_finished")
    assert await offset(app, "kid", path) == len(PNG)
    assert await state_of(app, path) == "ready"


async def test_every_answer_names_the_version(app: App) -> None:
    path = await begin(app, "kid", len(PNG))
    answers = {
        200: await app.call("kid", "GET", path),
        204: await append(app, "kid", path, 0, PNG),
        401: await app.call(None, "PATCH", path),
        404: await app.call("kid", "HEAD", f"/uploads/{uuid4()}", headers=TUS),
        405: await app.call("kid", "PUT", "/uploads"),
        412: await app.call("kid", "POST", "/uploads"),
    }
    for status, answer in answers.items():
        assert (answer.status, answer.headers["Tus-Resumable"]) == (status, "1.0.0")
    assert "Tus-Resumable" not in (await app.call("kid", "GET", "/profiles")).headers


async def test_a_client_that_can_only_post_says_what_it_means(app: App) -> None:
    path = await begin(app, "kid", len(PNG))
    patch = {**TUS, "Content-Type": "application/offset+octet-stream", "X-HTTP-Method-Override": "PATCH"}
    answer = await app.call("kid", "POST", path, data=PNG[:100], headers={**patch, "Upload-Offset": "0"})
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, "100")
    answer = await app.call("kid", "POST", path, headers={**TUS, "X-HTTP-Method-Override": "HEAD"})
    assert (answer.status, answer.headers["Upload-Offset"]) == (200, "100")
    for wrong in ({}, {"X-HTTP-Method-Override": "PUT"}):
        answer = await app.call("kid", "POST", path, headers={**TUS, **wrong})
        assert (answer.status, answer.error) == (405, "method_not_allowed")
        assert answer.headers["Allow"] == "DELETE,GET,HEAD,PATCH"
    answer = await app.call("kid", "POST", path, headers={**TUS, "X-HTTP-Method-Override": "DELETE"})
    assert answer.status == 204
    assert (await app.call("kid", "HEAD", path, headers=TUS)).status == 404


async def test_pages_of_other_sites_may_send(database: str) -> None:
    asks = "authorization,content-type,tus-resumable,upload-length,upload-metadata,upload-offset,upload-checksum"
    asks += ",x-http-method-override,upload-defer-length,upload-concat,x-request-id"
    async with running_app(database, cors_origins=("https://app.example",)) as app:

        async def preflight(method: str, path: str, origin: str = "https://app.example") -> Answer:
            asked = {
                "Origin": origin,
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": asks,
            }
            return await app.call(None, "OPTIONS", path, headers=asked)

        one = f"/uploads/{uuid4()}"
        for method, path in (("POST", "/uploads"), *((method, one) for method in ("HEAD", "PATCH", "DELETE", "POST"))):
            answer = await preflight(method, path)
            assert answer.status == 200, answer
            assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
            assert answer.headers["Access-Control-Allow-Methods"] == method
            assert set(asks.split(",")) <= set(answer.headers["Access-Control-Allow-Headers"].lower().split(","))
        assert (await preflight("PATCH", one, "https://evil.example")).status == 403
        answer = await app.call(None, "OPTIONS", "/uploads")
        assert (answer.status, answer.headers["Tus-Version"]) == (204, "1.0.0")
        made = await announce_with(app, "kid", 10, {"Origin": "https://app.example"})
        refused = await announce_with(app, "kid", 0, {"Origin": "https://app.example"})
        for answer in (made, refused):
            assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
            exposed = set(answer.headers["Access-Control-Expose-Headers"].lower().split(","))
            may_read = "location,retry-after,tus-resumable,tus-version,tus-extension,tus-max-size"
            may_read += ",upload-offset,upload-length,upload-metadata,upload-expires"
            assert set(may_read.split(",")) <= exposed


class Unwilling:
    """Those whose purpose a file serves, who do not want it in the end."""

    async def admit(self, executor: object, identity: object, fields: object) -> Admission:
        return Admission()

    async def moved(self, connection: object, file: File) -> None:
        if file.state != "uploading":
            raise Conflict("There is one already.", code="recording_has_file")


@everywhere
async def test_a_file_that_is_not_wanted_in_the_end_fails(app: App) -> None:
    app.uploads.hooks["document"] = Unwilling()
    path = await begin(app, "kid", len(PNG))
    answer = await append(app, "kid", path, 0, PNG)
    assert (answer.status, answer.error) == (409, "recording_has_file")
    assert await state_of(app, path) == "failed"
    answer = await app.call("kid", "GET", path)
    assert (answer.status, answer.error) == (404, "upload_not_found")
    await Sweeper(app.uploads).sweep()
    assert await app.uploads.objects.stat(f"document/{path.rpartition('/')[2]}") is None
    assert await app.pool.fetchval("SELECT count(*) FROM uploads") == 0


async def test_what_came_of_a_file_that_is_deleted_goes_too(app: App) -> None:
    path = await begin(app, "kid", MIB)
    await append(app, "kid", path, 0, PNG)
    assert await on_their_way(app) == 1
    await app.pool.execute("DELETE FROM files")
    await Sweeper(app.uploads).sweep()
    assert await on_their_way(app) == 1, "whoever writes may not have heard of it"
    await app.pool.execute("UPDATE uploads_to_give_up SET due_at = now()")
    await Sweeper(app.uploads).sweep()
    assert await on_their_way(app) == 0


async def test_what_cannot_be_swept_keeps_nothing_else_from_it(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        path = await begin(app, "kid", MIB)
        await append(app, "kid", path, 0, PNG)
    await app.pool.execute("INSERT INTO objects_to_delete (key, due_at) VALUES ('a/b', '-infinity'), ('c/d', now())")
    await app.pool.execute("UPDATE uploads SET expires_at = now() - interval '1 second'")
    deleted: list[str] = []
    refused: list[UUID] = []
    delete, settle = app.uploads.objects.delete, app.uploads.settle

    async def picky_delete(key: str) -> None:
        if key == "a/b":
            raise ObjectsAway("AccessDenied")
        deleted.append(key)
        await delete(key)

    async def picky_settle(file: File, upload: Upload, holder: UUID) -> None:
        if not refused:
            refused.append(file.id)
            raise ValueError("a bug")
        await settle(file, upload, holder)

    monkeypatch.setattr(app.uploads.objects, "delete", picky_delete)
    monkeypatch.setattr(app.uploads, "settle", picky_settle)
    await Sweeper(app.uploads).sweep()
    assert "c/d" in deleted
    assert await app.pool.fetchval("SELECT count(*) FROM objects_to_delete WHERE key = 'a/b' AND due_at > now()") == 1
    states = await app.pool.fetch("SELECT state FROM files ORDER BY state DESC")
    assert [row["state"] for row in states] == ["uploading", "failed"]


async def test_a_file_that_was_deleted_as_it_came_in_leaves_no_object(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, complete = await begin(app, "kid", len(PNG)), app.uploads.complete

    async def late(*args: Any, **named: Any) -> File:
        await app.pool.execute("DELETE FROM files")
        await app.pool.execute("DELETE FROM objects_to_delete")  # swept before the object was there
        return await complete(*args, **named)

    monkeypatch.setattr(app.uploads, "complete", late)
    assert (await append(app, "kid", path, 0, PNG)).status == 404
    assert await app.pool.fetchval("SELECT count(*) FROM objects_to_delete") == 1


async def test_a_file_that_was_finished_behind_a_request_is_taken(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    # A bucket says only at the end that the upload is over; as it was when a worker died before it noted that down.
    path = await begin(app, "kid", len(PNG))

    async def finish(upload: LocalUpload) -> None:
        await real(upload)
        raise ObjectMissing

    real = LocalUpload.finish
    monkeypatch.setattr(LocalUpload, "finish", finish)
    assert (await append(app, "kid", path, 0, PNG)).status == 204
    assert await state_of(app, path) == "ready"


async def test_an_upload_that_the_store_lost_is_over(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    path = await begin(app, "kid", len(PNG))

    async def write(upload: LocalUpload, chunk: bytes) -> None:
        raise ObjectMissing

    monkeypatch.setattr(LocalUpload, "write", write)
    answer = await append(app, "kid", path, 0, PNG)
    assert (answer.status, answer.error) == (404, "upload_not_found")
    assert await state_of(app, path) == "failed"
