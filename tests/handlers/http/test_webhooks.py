"""Daily's webhooks at the door: believed when signed, handed on each time that they come."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from handlers.http.keys import DAILY_WEBHOOKS
from meetings.webhooks import MAX_AGE_SECONDS, MAX_BODY_BYTES, SIGNATURE_HEADER, RecordingNews
from tests.standins.daily import delivery
from tests.support.apps import Answer, App, running_app

SECRET = b"what Daily and the server share"
PAYLOAD = {"recording_id": "r1", "room_name": "a-lesson", "duration": 60}


@pytest.fixture
async def heard() -> list[RecordingNews]:
    return []


@pytest.fixture
async def app(database: str, heard: list[RecordingNews]) -> AsyncIterator[App]:
    async def hear(news: RecordingNews) -> None:
        heard.append(news)

    async with running_app(database, daily_webhook_secret=SECRET) as app:
        have_heard(app, hear)
        yield app


def have_heard(app: App, hear: Callable[[RecordingNews], Awaitable[None]]) -> None:
    door = replace(app.client.app[DAILY_WEBHOOKS], recording_news=hear)
    app.client.app._state[DAILY_WEBHOOKS] = door  # a frozen app takes no new values


async def send(app: App, headers: dict[str, str], body: bytes) -> Answer:
    return await app.call(None, "POST", "/webhooks/daily", data=body, headers=headers)


async def test_what_daily_signed_is_heard(app: App, heard: list[RecordingNews]) -> None:
    headers, body = delivery(SECRET, "recording.ready-to-download", PAYLOAD, id="e1")

    assert (await send(app, headers, body)).status == 200

    assert [(news.event_id, news.recording_id, news.status) for news in heard] == [("e1", "r1", "finished")]


async def test_what_nobody_asked_for_is_taken_and_not_heard(app: App, heard: list[RecordingNews]) -> None:
    headers, body = delivery(SECRET, "meeting.started", {"room": "a-lesson"})

    assert (await send(app, headers, body)).status == 200

    assert heard == []


async def test_the_ping_is_answered_before_there_is_a_secret(database: str) -> None:
    async with running_app(database) as app:
        assert (await send(app, {}, b'{"test":"test"}')).status == 200
        headers, body = delivery(SECRET, "recording.started", PAYLOAD)
        refused = await send(app, headers, body)
        assert (refused.status, refused.error) == (401, "webhook_unsigned")


async def test_what_is_forged_old_or_nonsense_is_refused_and_not_heard(app: App, heard: list[RecordingNews]) -> None:
    good, body = delivery(SECRET, "recording.started", PAYLOAD)
    old, old_body = delivery(SECRET, "recording.started", PAYLOAD, at=time.time() - MAX_AGE_SECONDS - 5)
    senseless, senseless_body = delivery(SECRET, "recording.started", {})
    unsigned = {name: value for name, value in good.items() if name != SIGNATURE_HEADER}
    large, large_body = delivery(SECRET, "recording.started", PAYLOAD | {"x": "x" * MAX_BODY_BYTES})

    for headers, content, status, error in (
        (good, body + b" ", 401, "webhook_forged"),
        (unsigned, body, 401, "webhook_unsigned"),
        ({}, b"", 401, "webhook_unsigned"),
        (old, old_body, 401, "webhook_stale"),
        (senseless, senseless_body, 400, "webhook_malformed"),
        (large, large_body, 401, "webhook_forged"),
        (good, b"x" * 300_000, 413, "too_large"),
    ):
        answer = await send(app, headers, content)
        assert (answer.status, answer.error) == (status, error)
        assert SECRET.decode() not in str(answer)
    assert heard == []


async def test_what_could_not_be_acted_on_may_come_again(app: App) -> None:
    tries = []

    async def fail_once(news: RecordingNews) -> None:
        tries.append(news)
        if len(tries) == 1:
            raise TimeoutError

    have_heard(app, fail_once)
    headers, body = delivery(SECRET, "recording.started", PAYLOAD)

    assert [(await send(app, headers, body)).status for _ in range(2)] == [503, 200]
    assert len(tries) == 2
