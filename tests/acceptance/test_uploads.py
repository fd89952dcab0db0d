"""Stock clients send files, while servers come and go: into a folder, and into a bucket."""

from __future__ import annotations

import asyncio
import json
import random
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg
import pytest
from tusclient.client import TusClient

from domain.links import Link, signed
from tests import tools
from tests.acceptance.lessons import until
from tests.conftest import Mint, StartServer
from tests.support import media
from tests.support.buckets import BUCKET, ENVIRONMENT, S3Server
from tests.support.lessons import book, database_pool
from tests.support.redis import RedisServer
from tests.support.sending import TUS, metadata

MIB = 1024 * 1024
SIZE = 20 * MIB
CHUNK = 3 * MIB
CLIENT = Path(__file__).parents[1] / "support" / "tus_client.mjs"


@pytest.fixture(params=["folder", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The settings of where files are kept."""
    if request.param == "folder":
        yield {}
        return
    (tmp_path / "s3").mkdir()
    server = S3Server("rclone", tmp_path / "s3")
    server.start()
    yield {**ENVIRONMENT, "STORAGE_URL": f"s3://{BUCKET}/files", "S3_ENDPOINT_URL": server.url}
    server.kill()


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "a document.pdf"
    path.write_bytes(content())
    return path


def content() -> bytes:
    return (b"%PDF-1.7\n" + random.Random(4).randbytes(SIZE))[:SIZE]


async def content_of(server_url: str, database: str, file_id: UUID) -> bytes:
    """What a link to the file serves, wherever it leads."""
    connection = await asyncpg.connect(database)
    try:
        key = await connection.fetchval("SELECT key FROM server_keys WHERE name = 'links'")
    finally:
        await connection.close()
    token = signed(Link(use="read", file_id=file_id, expires_at=int(time.time()) + 60), key)
    async with aiohttp.ClientSession() as http, http.get(f"{server_url}/files/{token}") as response:
        assert response.status == 200
        return await response.read()


async def test_tuspy_goes_on_at_another_server_when_its_own_is_killed(
    start_server: StartServer, mint: Mint, database: str, storage: dict[str, str], document: Path
) -> None:
    one, two = await start_server(**storage), await start_server(**storage)
    headers = {"Authorization": f"Bearer {mint('kid', 'student')}"}
    said = {"kind": "document", "filename": document.name}
    # tuspy closes no file that it opened.
    with document.open("rb") as file:
        first = TusClient(f"{one.url}/uploads", headers=headers).uploader(
            file_stream=file, chunk_size=CHUNK, metadata=said, upload_checksum=True
        )
        for _ in range(2):
            await asyncio.to_thread(first.upload_chunk)
        assert first.offset == 2 * CHUNK
        one.kill()
        url = str(first.url)
        second = TusClient(f"{two.url}/uploads", headers=headers).uploader(
            file_stream=file, chunk_size=CHUNK, url=url.replace(one.url, two.url)
        )
        assert second.offset == 2 * CHUNK
        await asyncio.to_thread(second.upload)
    file_id = UUID(url.rpartition("/")[2])
    assert await content_of(two.url, database, file_id) == content()


async def test_tus_js_client_comes_through_a_restart(
    start_server: StartServer, mint: Mint, database: str, storage: dict[str, str], document: Path
) -> None:
    server = await start_server(**storage)
    said_of_it = json.dumps({"kind": "document", "filename": document.name})
    arguments = (f"{server.url}/uploads", mint("kid", "student"), str(document), str(CHUNK), said_of_it)
    client = await asyncio.create_subprocess_exec(tools.node(), CLIENT, *arguments, stdout=PIPE)
    assert client.stdout is not None
    said, restarted = [], False
    try:
        async with asyncio.timeout(60):
            while line := await client.stdout.readline():
                said.append(json.loads(line))
                if not restarted and said[-1].get("accepted", 0) >= 2 * CHUNK:
                    restarted = True
                    server.kill()
                    await server.start()
            assert await client.wait() == 0, said
    finally:
        if client.returncode is None:
            client.kill()
            await client.wait()
    assert restarted
    assert said[-1]["event"] == "success", said
    file_id = UUID(said[-1]["url"].rpartition("/")[2])
    assert await content_of(server.url, database, file_id) == content()


async def test_an_upload_that_is_cut_at_random_places_goes_on_on_whichever_worker(
    start_server: StartServer, redis_server: RedisServer, mint: Mint, database: str, storage: dict[str, str]
) -> None:
    server = await start_server("--workers", "2", REDIS_URL=redis_server.url, **storage)
    token, chance, data, come = mint("kid", "student"), random.Random(9), content(), 0
    headers = {**TUS, "Authorization": f"Bearer {token}"}
    said = {"Upload-Length": str(SIZE), "Upload-Metadata": metadata(kind="document", filename="x.pdf")}

    async def head() -> int:
        async with aiohttp.ClientSession(headers=headers) as http, http.head(f"{server.url}{path}") as response:
            assert response.status == 200
            return int(response.headers["Upload-Offset"])

    async def send(cut: int) -> None:
        """The rest from `come` on, over a connection of its own that breaks after so many bytes."""
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        lines = {
            **headers,
            "Host": "127.0.0.1",
            "Upload-Offset": str(come),
            "Content-Length": str(SIZE - come),
            "Content-Type": "application/offset+octet-stream",
        }
        writer.write(f"PATCH {path} HTTP/1.1\r\n".encode())
        writer.write("".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode() + b"\r\n")
        writer.write(data[come : come + cut])
        await writer.drain()
        if chance.random() < 0.5:
            writer.transport.abort()  # as from a network that is gone; else as from a program that was ended
        writer.close()

    async with aiohttp.ClientSession(headers=headers) as http:
        async with http.post(f"{server.url}/uploads", headers=said) as response:
            path = response.headers["Location"]
        for _ in range(12):
            cut = chance.choice([1, 3_000, 5_000, MIB, 7 * MIB])
            await send(min(cut, SIZE - come - 1))
            come, before = await head(), come
            assert before <= come < SIZE
        patch = {"Upload-Offset": str(come), "Content-Type": "application/offset+octet-stream"}
        async with http.patch(f"{server.url}{path}", data=BytesIO(data[come:]), headers=patch) as response:
            assert response.status == 204
    assert await content_of(server.url, database, UUID(path.rpartition("/")[2])) == data
    lines = [json.loads(line) for line in server.log().splitlines() if '"PATCH"' in line]
    assert {line["worker"] for line in lines} == {1, 2}


async def test_a_film_is_looked_through_wherever_it_lies_and_watched_from_its_middle(
    start_server: StartServer, mint: Mint, database: str, storage: dict[str, str], tmp_path: Path
) -> None:
    server = await start_server(**storage)
    async with database_pool(database, size=1) as pool:
        lesson_id = await book(pool)
    film = await asyncio.to_thread(media.make, tmp_path / "lesson.webm", seconds=4, live=True)
    headers = {"Authorization": f"Bearer {mint('teach', 'teacher')}"}
    said = {"kind": "recording", "session_id": str(lesson_id), "filename": "lesson.webm"}
    with film.open("rb") as file:
        client = TusClient(f"{server.url}/uploads", headers=headers)
        await asyncio.to_thread(client.uploader(file_stream=file, metadata=said).upload)
    async with aiohttp.ClientSession(headers=headers) as http, asyncio.timeout(60):
        recording: dict[str, Any] = {"status": ""}
        while recording["status"] != "completed":
            async with http.get(f"{server.url}/sessions/{lesson_id}/recordings") as response:
                [recording] = await response.json()
            assert recording["status"] != "failed", recording
            await asyncio.sleep(0.1)
        assert recording["duration_seconds"] == 4
        async with aiohttp.ClientSession() as anybody:
            async with anybody.get(recording["url"], headers={"Range": "bytes=100-"}) as response:
                # rclone says 200 of a part, and which one it is.
                assert response.status in (200, 206)
                assert response.headers["Content-Range"].startswith("bytes 100-")
                assert response.headers["Content-Type"] == "video/webm"
                rest = await response.read()
            assert len(rest) == recording["file_size_bytes"] - 100


async def test_a_server_that_stops_keeps_what_came(start_server: StartServer, mint: Mint, tmp_path: Path) -> None:
    one, two = await start_server(DRAIN_SECONDS="5"), await start_server()
    headers = {**TUS, "Authorization": f"Bearer {mint('kid', 'student')}"}
    gate = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield content()[:MIB]
        await gate.wait()

    async with aiohttp.ClientSession(headers=headers) as http:
        said = {"Upload-Length": str(SIZE), "Upload-Metadata": metadata(kind="document", filename="x.pdf")}
        async with http.post(f"{one.url}/uploads", headers=said) as response:
            path = response.headers["Location"]
        patch = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        sending = asyncio.create_task(http.patch(f"{one.url}{path}", data=half(), headers=patch))
        written = (tmp_path / "data" / "files").rglob
        await until(lambda: sum(part.stat().st_size for part in written("*") if part.is_file()) >= MIB, "it has come")
        one.terminate()
        async with await sending as response:
            assert response.status == 503
        gate.set()
        assert await one.wait() == 0
        async with http.head(f"{two.url}{path}") as response:
            assert response.headers["Upload-Offset"] == str(MIB)


async def test_a_server_without_its_bucket_says_so_and_goes_on_when_it_is_back(
    start_server: StartServer, mint: Mint, database: str, tmp_path: Path
) -> None:
    (tmp_path / "s3").mkdir()
    bucket = S3Server("rclone", tmp_path / "s3")
    bucket.start()
    server = await start_server(**ENVIRONMENT, STORAGE_URL=f"s3://{BUCKET}", S3_ENDPOINT_URL=bucket.url)
    headers = {"Authorization": f"Bearer {mint('kid', 'student')}"}
    try:
        bucket.kill()
        async with aiohttp.ClientSession(headers=headers) as http:
            async with http.get(f"{server.url}/readyz") as response:
                assert (response.status, (await response.json())["storage"]) == (503, "away")
            said = {"Upload-Length": str(SIZE), "Upload-Metadata": metadata(kind="document", filename="x.pdf"), **TUS}
            async with http.post(f"{server.url}/uploads", headers=said) as response:
                path = response.headers["Location"]
            patch = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream", **TUS}
            async with http.patch(f"{server.url}{path}", data=BytesIO(content()), headers=patch) as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "1")
            bucket.start()
            await server.until_ready()
            async with http.head(f"{server.url}{path}", headers=TUS) as response:
                come = int(response.headers["Upload-Offset"])
            patch["Upload-Offset"] = str(come)
            async with http.patch(f"{server.url}{path}", data=BytesIO(content()[come:]), headers=patch) as response:
                assert response.status == 204
        file_id = UUID(path.rpartition("/")[2])
        assert await content_of(server.url, database, file_id) == content()
    finally:
        bucket.kill()
