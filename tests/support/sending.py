"""Files sent as clients send them: in forms, in pieces by tus, and to one-time addresses."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Mapping
from io import BytesIO
from typing import Any, Final
from uuid import UUID

from domain.links import Link, signed
from store.objects.local import LocalStore
from tests.support.apps import Answer, App

#: Seconds for a media process to look through a file of a test.
MEDIA_SECONDS: Final = 60.0

TUS: Final = {"Tus-Resumable": "1.0.0"}
#: The smallest file that a type is told by: a PNG's signature, and enough behind it.
PNG: Final = b"\x89PNG\r\n\x1a\n" + bytes(5_000)
PDF: Final = b"%PDF-1.7\n" + bytes(5_000)


def metadata(**fields: str) -> str:
    """The `Upload-Metadata` that says so."""
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in fields.items())


async def announce(app: App, who: str, size: int | str, **fields: str) -> Answer:
    """POST /uploads of a document, unless `kind` is another."""
    return await announce_with(app, who, size, {}, **fields)


async def announce_with(app: App, who: str, size: int | str, headers: Mapping[str, str], /, **fields: str) -> Answer:
    fields = {"kind": "document", "filename": "a file.png", **fields}
    sent = {**TUS, "Upload-Length": str(size), "Upload-Metadata": metadata(**fields), **headers}
    return await app.call(who, "POST", "/uploads", headers=sent)


async def begin(app: App, who: str, size: int, **fields: str) -> str:
    """The path of a new upload."""
    answer = await announce(app, who, size, **fields)
    assert answer.status == 201, answer
    return answer.headers["Location"]


async def append(
    app: App, who: str, path: str, offset: int | str, data: bytes | AsyncIterator[bytes], **headers: str
) -> Answer:
    """PATCH: `headers` with underscores for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {**TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset), **named}
    # aiohttp's client would rather not be given so many bytes at once.
    return await app.call(who, "PATCH", path, data=BytesIO(data) if isinstance(data, bytes) else data, headers=sent)


async def offset(app: App, who: str, path: str) -> int:
    answer = await app.call(who, "HEAD", path, headers=TUS)
    assert answer.status == 200, answer
    return int(answer.headers["Upload-Offset"])


async def send(app: App, who: str, data: bytes, **fields: str) -> UUID:
    """A whole file by tus, in one request; its id."""
    path = await begin(app, who, len(data), **fields)
    answer = await append(app, who, path, 0, data)
    assert answer.status == 204, answer
    return UUID(path.rpartition("/")[2])


async def settled(app: App, file_id: UUID) -> Mapping[str, Any]:
    """The file's row, once it is ready or failed."""

    async with asyncio.timeout(MEDIA_SECONDS):
        while True:
            row = await app.pool.fetchrow("SELECT * FROM files WHERE id = $1", file_id)
            assert row is not None
            if row["state"] in ("ready", "failed"):
                return dict(row)
            await asyncio.sleep(0.05)


async def link(app: App, file_id: UUID, *, seconds: int = 60, **said: Any) -> str:
    """The path of a link to a file."""
    made = Link(**{"use": "read", "file_id": file_id, "expires_at": int(time.time()) + seconds, **said})
    return f"/files/{signed(made, await app.uploads.link_key())}"


async def on_their_way(app: App) -> int:
    """Files of uploads in the application's folder."""
    objects = app.uploads.objects
    assert isinstance(objects, LocalStore)
    return await asyncio.to_thread(lambda: len(list(objects.incoming.iterdir())))
