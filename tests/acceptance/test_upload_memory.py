"""Large files pass through the server's memory piece by piece, wherever they are kept and whichever way they come."""

from __future__ import annotations

import asyncio
import http.client
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, closing
from email.message import Message
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from tests.conftest import Mint, StartServer
from tests.support.buckets import BUCKET, ENVIRONMENT, S3Server
from tests.support.lessons import book, database_pool
from tests.support.sending import TUS, metadata
from tests.support.servers import Server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what a process has held is read in /proc")

MIB = 1024 * 1024
#: By how much the server may grow, whatever comes.
MAX_GROWTH = 32 * MIB
LARGE = 200 * MIB
#: A little less than a document may have.
DOCUMENT = 24 * MIB
#: Begins as an MP4, and has no film in it: whoever looks through it is done at once.
FILM = b"\x00\x00\x00\x18ftypisom"
PDF = b"%PDF-1.7\n"
#: Uploads that are on their way at once, each with so much of a bucket's part.
MANY = 12
LESS_THAN_A_PART = 7 * MIB


@pytest.fixture(params=["folder", "bucket"])
def storage(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The settings of where files are kept; what is kept goes with the test."""
    with TemporaryDirectory() as folder:
        if request.param == "folder":
            yield {"STORAGE_URL": Path(folder).as_uri()}
            return
        server = S3Server("rclone", Path(folder))
        server.start()
        yield {**ENVIRONMENT, "STORAGE_URL": f"s3://{BUCKET}", "S3_ENDPOINT_URL": server.url}
        server.kill()


@pytest.fixture
async def server(start_server: StartServer, storage: dict[str, str]) -> AsyncIterator[Server]:
    """One worker: all that the server is, but for what looks through films, which has limits of its own."""
    server = await start_server(**storage)
    yield server
    server.kill()  # nobody waits for a film that is none to be looked through


@pytest.fixture
async def lesson_id(database: str) -> UUID:
    async with database_pool(database, size=1) as pool:
        return await book(pool)


def send(
    server: Server,
    method: str,
    path: str,
    headers: dict[str, str],
    first: bytes = b"",
    zeros: int = 0,
    last: bytes = b"",
) -> tuple[int, Message, bytes]:
    """One request, and its answer's status, headers and body; so many zeros of what is sent are made on the way."""

    def pieces() -> Iterator[bytes]:
        yield first
        for left in range(zeros, 0, -MIB):
            yield bytes(min(left, MIB))
        yield last

    length = str(len(first) + zeros + len(last))
    with closing(http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=120)) as connection:
        connection.request(method, path, pieces(), {**headers, "Content-Length": length})
        response = connection.getresponse()
        return response.status, response.headers, response.read()


class Memory:
    """What the server's process holds: the most of it since this was made, beyond what it held then."""

    def __init__(self, server: Server) -> None:
        self._folder = Path(f"/proc/{server.pid}")
        (self._folder / "clear_refs").write_text("5")  # proc(5): the peak begins anew
        self._before = self._bytes("VmRSS")

    def growth(self) -> int:
        return self._bytes("VmHWM") - self._before

    def _bytes(self, name: str) -> int:
        status = (self._folder / "status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f"{name}:"))


async def test_a_film_sent_by_tus_is_never_held(server: Server, mint: Mint, lesson_id: UUID) -> None:
    headers = {**TUS, "Authorization": f"Bearer {mint('teach', 'teacher')}"}
    said = metadata(kind="recording", session_id=str(lesson_id), filename="lesson.mp4")
    announced = {**headers, "Upload-Length": str(LARGE), "Upload-Metadata": said}
    patch = {**headers, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    memory = Memory(server)

    _, begun, _ = await asyncio.to_thread(send, server, "POST", "/uploads", announced)
    path, zeros = begun["Location"], LARGE - len(FILM)
    status, sent, _ = await asyncio.to_thread(send, server, "PATCH", path, patch, FILM, zeros)

    assert (status, sent["Upload-Offset"]) == (204, str(LARGE))
    assert memory.growth() < MAX_GROWTH


async def test_many_uploads_at_once_hold_little_each(server: Server, mint: Mint) -> None:
    headers = {**TUS, "Authorization": f"Bearer {mint('kid', 'student')}"}
    said = metadata(kind="document", filename="a.pdf")
    announced = {**headers, "Upload-Length": str(DOCUMENT), "Upload-Metadata": said}
    paths = [(await asyncio.to_thread(send, server, "POST", "/uploads", announced))[1]["Location"] for _ in range(MANY)]
    where = urlsplit(server.url)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    memory = Memory(server)

    async with AsyncExitStack() as stack:
        for path in paths:
            _, writer = await asyncio.open_connection(where.hostname, where.port)
            stack.callback(writer.close)
            writer.write(
                f"PATCH {path} HTTP/1.1\r\nHost: {where.netloc}\r\n{lines}Upload-Offset: 0\r\n"
                f"Content-Type: application/offset+octet-stream\r\nContent-Length: {DOCUMENT}\r\n\r\n".encode()
            )
            writer.write(PDF + bytes(LESS_THAN_A_PART - len(PDF)))
            await writer.drain()

    for path in paths:
        asked = await asyncio.to_thread(send, server, "HEAD", path, headers)
        assert int(asked[1]["Upload-Offset"]) > LESS_THAN_A_PART - MIB, "it was there, and held"
    assert memory.growth() < MANY * LESS_THAN_A_PART / 2


async def test_a_film_sent_in_a_form_is_never_held(server: Server, mint: Mint, lesson_id: UUID) -> None:
    first = b'--x\r\nContent-Disposition: form-data; name="file"; filename="lesson.mp4"\r\n\r\n' + FILM
    last = b"\r\n--x--\r\n"
    headers = {
        "Authorization": f"Bearer {mint('teach', 'teacher')}",
        "Content-Type": "multipart/form-data; boundary=x",
    }
    memory = Memory(server)

    path = f"/sessions/{lesson_id}/recordings"
    status, _, answer = await asyncio.to_thread(send, server, "POST", path, headers, first, LARGE, last)

    assert status == 201, answer
    assert memory.growth() < MAX_GROWTH


async def test_a_document_sent_to_a_one_time_address_is_never_held(server: Server, mint: Mint) -> None:
    headers = {"Authorization": f"Bearer {mint('kid', 'student')}", "Content-Type": "application/json"}
    wanted = json.dumps({"file_name": "a.pdf", "content_type": "application/pdf"}).encode()
    memory = Memory(server)

    _, _, made = await asyncio.to_thread(send, server, "POST", "/presigned-url", headers, wanted)
    path, announced = urlsplit(json.loads(made)["upload_url"]).path, {"Content-Type": "application/pdf"}
    status, _, answer = await asyncio.to_thread(send, server, "PUT", path, announced, PDF, DOCUMENT - len(PDF))

    assert status == 200, answer
    assert memory.growth() < MAX_GROWTH
