"""Recordings at the real-time door, on every worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from store import recordings
from store.database import Pool
from tests.handlers.test_encounters import Client, doors
from tests.support.lessons import book, database_pool
from tests.support.waiting import until


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


def both_states(client: Client) -> bool:
    return len(client.events.of("recordingState")) == 2


def refused(ack: dict[str, Any]) -> tuple[int, str]:
    assert not ack["ok"], ack
    return ack["error"]["status_code"], ack["error"]["error"]


async def test_a_recording_is_started_and_stopped_and_seen_on_every_worker(pool: Pool) -> None:
    session_id = await book(pool)
    async with doors(pool, 2) as (one, other):
        host, student = await one.join("teach", session_id), await other.join("kid", session_id)
        begun = await one.send(host, "startRecording", sessionId=str(session_id))
        assert set(begun) == {"ok", "recordingId", "startedAt"}
        assert refused(await one.send(host, "startRecording", sessionId=str(session_id))) == (409, "already_recording")
        for number, worker in enumerate((one, other)):
            late = await worker.connect(("mum", "gran")[number])
            ack = await worker.send(late, "joinSession", sessionId=str(session_id))
            assert ack["session"]["recordingId"] == begun["recordingId"], "who comes later knows of it"
        ended = await one.send(host, "stopRecording", sessionId=str(session_id), end=False)
        ack = await other.send(await other.connect("boss"), "joinSession", sessionId=str(session_id))
        assert ack["session"]["recordingId"] is None
        assert ended == {
            "ok": True,
            "recordingId": begun["recordingId"],
            "stoppedAt": ended["stoppedAt"],
            "duration": 0,
        }
        for client in (host, student):
            await until(partial(both_states, client))
            news = client.events.of("recordingState")
            assert [(one["state"], one["at"]) for one in news] == [
                ("recording", begun["startedAt"]),
                ("processing", ended["stoppedAt"]),
            ]
            assert {one["recording_id"] for one in news} == {begun["recordingId"]}
            assert client.seqs == [1, 2, 3], "live, recording, processing"


async def test_others_are_refused_in_the_words_of_the_contract(pool: Pool) -> None:
    session_id = await book(pool)
    async with doors(pool, 1) as (worker,):
        student = await worker.join("kid", session_id)
        for event, words in (("startRecording", "record"), ("stopRecording", "stop recording")):
            ack = await worker.send(student, event, sessionId=str(session_id))
            assert refused(ack) == (403, "not_host")
            assert ack["error"]["message"] == f"Not authorized to {words} session:{session_id}"
        stranger = await worker.connect("kid2")
        assert refused(await worker.send(stranger, "startRecording", sessionId=str(session_id))) == (403, "not_joined")


async def test_consent_is_told_to_the_host_and_taken_back_stops_the_recording(pool: Pool) -> None:
    session_id = await book(pool)
    async with doors(pool, 2) as (one, other):
        host, parent = await one.join("teach", session_id), await other.join("gran", session_id)
        settings = await one.send(host, "setSession", sessionId=str(session_id), recordingConsent=True)
        assert settings["settings"]["recordingConsent"] is True
        missing = await one.send(host, "startRecording", sessionId=str(session_id))
        assert refused(missing) == (409, "consent_missing")
        assert missing["error"]["fields"] == {"gran": "Gran has not agreed to be recorded"}

        agreed = await other.send(parent, "consent", sessionId=str(session_id), agreed=True)
        assert agreed == {"ok": True, "agreed": True}
        await until(lambda: bool(host.events.of("recordingConsent")))
        assert host.events.of("recordingConsent") == [
            {"session_id": str(session_id), "userId": "gran", "name": "Gran", "agreed": True}
        ]
        assert parent.events.of("recordingConsent") == []
        assert (await one.send(host, "startRecording", sessionId=str(session_id)))["ok"]

        child = await other.connect("kid")
        assert refused(await other.send(child, "joinSession", sessionId=str(session_id))) == (409, "consent_missing")

        assert (await other.send(parent, "consent", sessionId=str(session_id), agreed=False))["ok"]
        assert await recordings.running(pool, session_id) is None
        assert (await other.send(child, "joinSession", sessionId=str(session_id)))["ok"], "nothing is recorded any more"
