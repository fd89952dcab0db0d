"""One-time addresses for photos and documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from yarl import URL

from domain.files import MIB
from domain.sweeper import Sweeper
from tests.support.apps import Answer, App, running_app
from tests.support.sending import PDF, PNG


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


async def ask(app: App, name: str = "me.png", content_type: str = "image/png") -> tuple[str, str]:
    """The paths to send to, and to read at."""
    answer = await app.call("kid", "POST", "/presigned-url", {"file_name": name, "content_type": content_type})
    assert answer.status == 200, answer
    assert set(answer.body) == {"upload_url", "file_url"}
    return URL(answer.body["upload_url"]).path, URL(answer.body["file_url"]).path


async def put(app: App, path: str, data: Any, content_type: str = "image/png") -> Answer:
    return await app.call(None, "PUT", path, data=data, headers={"Content-Type": content_type})


async def test_a_photo_is_sent_without_a_token_and_read_at_its_address(app: App) -> None:
    upload, file = await ask(app, "Me & you.jpeg.png")
    assert (await app.call(None, "GET", file)).status == 404
    answer = await put(app, upload, PNG)
    assert (answer.status, answer.body["size"], answer.body["mime_type"]) == (200, len(PNG), "image/png")
    async with app.client.get(file) as response:
        assert (response.status, await response.read()) == (200, PNG)
        assert response.headers["Content-Type"] == "image/png"


async def test_an_address_takes_one_file_only(app: App) -> None:
    upload, _ = await ask(app)
    assert (await put(app, upload, PNG)).status == 200
    answer = await put(app, upload, PNG)
    assert (answer.status, answer.error) == (409, "upload_finished")


async def test_a_file_that_broke_off_may_be_sent_again(app: App) -> None:
    upload, file = await ask(app)

    async def breaking() -> AsyncIterator[bytes]:
        yield PNG + bytes(MIB)
        raise ConnectionResetError

    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the client makes of it
        await put(app, upload, breaking())
    assert (await put(app, upload, PNG)).status == 200
    async with app.client.get(file) as response:
        assert await response.read() == PNG


async def test_only_what_was_announced_is_taken(app: App) -> None:
    upload, _ = await ask(app)
    answer = await put(app, upload, PNG, "image/jpeg")
    assert (answer.status, answer.error) == (415, "unsupported_media_type")
    answer = await put(app, upload, PDF)
    assert (answer.status, answer.error) == (415, "unsupported_file_type")
    answer = await put(app, upload, PNG)
    assert (answer.status, answer.error) == (404, "upload_not_found")
    upload, _ = await ask(app)

    async def large() -> AsyncIterator[bytes]:
        yield PNG
        for _ in range(26):
            yield bytes(MIB)

    answer = await put(app, upload, large())
    assert (answer.status, answer.error) == (413, "file_too_large")
    assert answer.body["message"] == "An image (PNG) may have at most 25 MB; this one has more."


@pytest.mark.parametrize("content_type", ["text/html", "image/svg+xml", "video/mp4", "x", "application/zip"])
async def test_other_types_get_no_address(app: App, content_type: str) -> None:
    answer = await app.call("kid", "POST", "/presigned-url", {"file_name": "x", "content_type": content_type})
    assert (answer.status, set(answer.body["fields"])) == (400, {"content_type"})


async def test_an_address_is_good_for_a_quarter_of_an_hour(app: App) -> None:
    upload, file = await ask(app)
    token = upload.rpartition("/")[2]
    for wrong in (token[:-1], "x", file.rpartition("/")[2]):
        answer = await put(app, f"/uploads/once/{wrong}", PNG)
        assert (answer.status, answer.error) == (404, "link_not_found")
    assert (await app.call(None, "GET", f"/files/{token}")).status == 404
    await app.pool.execute("UPDATE uploads SET expires_at = now() - interval '1 second'")
    await Sweeper(app.uploads).sweep()
    answer = await put(app, upload, PNG)
    assert (answer.status, answer.error) == (404, "upload_not_found")
