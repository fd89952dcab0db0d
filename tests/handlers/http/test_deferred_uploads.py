"""Uploads whose length nobody knows yet: tus's creation-defer-length, for what is sent as it is made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest

from domain.sweeper import Sweeper
from tests.support.apps import App, running_app
from tests.support.sending import PNG, TUS, append, metadata, settled


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


async def begin(app: App, who: str, **fields: str) -> str:
    sent = {**TUS, "Upload-Defer-Length": "1", "Upload-Metadata": metadata(filename="a file", **fields)}
    answer = await app.call(who, "POST", "/uploads", headers=sent)
    assert answer.status == 201, answer
    return answer.headers["Location"]


def id_of(path: str) -> UUID:
    return UUID(path.rpartition("/")[2])


async def test_a_file_comes_as_it_is_made_and_its_length_at_the_end(app: App) -> None:
    path = await begin(app, "kid", kind="document")
    for place, piece in ((0, PNG[:100]), (100, PNG[100:])):
        assert (await append(app, "kid", path, place, piece)).headers["Upload-Offset"] == str(place + len(piece))
        shown = await app.call("kid", "HEAD", path, headers=TUS)
        assert (shown.headers["Upload-Defer-Length"], "Upload-Length" in shown.headers) == ("1", False)
    answer = await append(app, "kid", path, len(PNG), b"", Upload_Length=str(len(PNG)))
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(len(PNG)))
    file = await settled(app, id_of(path))
    assert (file["state"], file["size"]) == ("ready", len(PNG))


async def test_the_length_may_come_with_bytes_and_before_the_last(app: App) -> None:
    path = await begin(app, "kid", kind="document")
    assert (await append(app, "kid", path, 0, PNG[:100], Upload_Length=str(len(PNG)))).status == 204
    answer = await append(app, "kid", path, 100, PNG[100:200], Upload_Length=str(len(PNG) + 1))
    assert (answer.status, answer.error) == (400, "validation_failed"), "it is said once"
    assert (await append(app, "kid", path, 100, PNG[100:] + b"more")).error == "upload_too_long"
    assert (await append(app, "kid", path, 100, PNG[100:], Upload_Length=str(len(PNG)))).status == 204
    assert (await settled(app, id_of(path)))["state"] == "ready"


async def test_a_length_that_cannot_be_is_refused(app: App) -> None:
    path = await begin(app, "kid", kind="document")
    await append(app, "kid", path, 0, PNG)
    for length, error in (
        (str(len(PNG) - 1), "upload_too_short"),
        ("0", "empty_file"),
        (str(10**12), "file_too_large"),
        ("x", "validation_failed"),
    ):
        assert (await append(app, "kid", path, len(PNG), b"", Upload_Length=length)).error == error
    for wrong in ({"Upload-Defer-Length": "0"}, {"Upload-Defer-Length": "1", "Upload-Length": "5"}):
        sent = {**TUS, "Upload-Metadata": metadata(kind="document"), **wrong}
        assert (await app.call("kid", "POST", "/uploads", headers=sent)).error == "validation_failed"


async def test_any_other_file_that_broke_off_fails(app: App) -> None:
    path = await begin(app, "kid", kind="document")
    await append(app, "kid", path, 0, PNG)
    await app.pool.execute("UPDATE uploads SET expires_at = now() - $1::interval", timedelta(seconds=1))
    await Sweeper(app.uploads).sweep()
    assert (await settled(app, id_of(path)))["state"] == "failed"
