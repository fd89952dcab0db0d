"""Webhooks: who is believed, how often, and what it means."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meetings import webhooks
from meetings.provider import RecordingStatus
from meetings.webhooks import (
    MAX_AGE_SECONDS,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    OtherNews,
    Ping,
    RecordingNews,
    WebhookRefused,
    parse,
    verify,
)
from tests.standins.daily import delivery

SECRET = b"what Daily and the server share"
NOW = 1_795_000_000.0
FINISHED = {
    "type": "cloud",
    "recording_id": "08fa0b24-9220-44c5-846c-3f116cf8e738",
    "room_name": "a-lesson",
    "start_ts": 1_794_999_000,
    "status": "finished",
    "max_participants": 2,
    "duration": 89.6,
    "s3_key": "school/a-lesson/1",
}
STATES: tuple[RecordingStatus, ...] = get_args(RecordingStatus)


def check(headers: dict[str, str], body: bytes, *, now: float = NOW, secret: bytes = SECRET) -> None:
    verify(secret, timestamp=headers.get(TIMESTAMP_HEADER), signature=headers.get(SIGNATURE_HEADER), body=body, now=now)


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(WebhookRefused) as refused:
        act()
    assert refused.value.message.endswith(".")
    return refused.value.code


def test_what_daily_signed_is_believed() -> None:
    headers, body = delivery(SECRET, "recording.ready-to-download", FINISHED, at=NOW)

    check(headers, body)


def test_the_signature_is_the_documented_one() -> None:
    # echo -n '1795000000.{}' | openssl dgst -sha256 -hmac 'what Daily and the server share' -binary | base64
    assert webhooks.sign(SECRET, "1795000000", b"{}") == "T/GyQX/luSd+54cTtnNEiXzh4T8WAU3OkkksT71irA8="


@pytest.mark.parametrize(
    "change",
    [
        lambda headers, body: ({**headers, SIGNATURE_HEADER: base64.b64encode(bytes(32)).decode()}, body),
        lambda headers, body: ({**headers, SIGNATURE_HEADER: ""}, body),
        lambda headers, body: ({**headers, SIGNATURE_HEADER: "ä\udce4"}, body),
        lambda headers, body: ({**headers, TIMESTAMP_HEADER: str(int(NOW) + 1)}, body),
        lambda headers, body: (headers, body + b" "),
        lambda headers, body: (headers, body.replace(b"finished", b"canceled")),
    ],
)
def test_what_was_changed_on_the_way_is_not(
    change: Callable[[dict[str, str], bytes], tuple[dict[str, str], bytes]],
) -> None:
    headers, body = change(*delivery(SECRET, "recording.ready-to-download", FINISHED, at=NOW))

    assert refusal(lambda: check(headers, body)) == "webhook_forged"


def test_another_secret_signs_nothing() -> None:
    headers, body = delivery(b"somebody else's secret", "recording.started", FINISHED, at=NOW)

    assert refusal(lambda: check(headers, body)) == "webhook_forged"


@pytest.mark.parametrize("missing", [TIMESTAMP_HEADER, SIGNATURE_HEADER])
def test_what_is_not_signed_is_not_believed(missing: str) -> None:
    headers, body = delivery(SECRET, "recording.started", FINISHED, at=NOW)
    del headers[missing]

    assert refusal(lambda: check(headers, body)) == "webhook_unsigned"


@pytest.mark.parametrize("timestamp", ["", "now", "-1", "1e9", "９" * 10, "1" * 40])
def test_a_time_that_is_none_is_as_good_as_no_signature(timestamp: str) -> None:
    signature = webhooks.sign(SECRET, timestamp, b"{}")

    assert refusal(lambda: check({TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: signature}, b"{}")) == (
        "webhook_unsigned"
    )


@pytest.mark.parametrize("age", [-MAX_AGE_SECONDS - 1, MAX_AGE_SECONDS + 1, 10**6])
def test_what_is_old_or_of_tomorrow_is_not_believed(age: int) -> None:
    headers, body = delivery(SECRET, "recording.started", FINISHED, at=NOW - age)

    assert refusal(lambda: check(headers, body)) == "webhook_stale"


def test_a_time_may_be_in_milliseconds() -> None:
    timestamp = str(int(NOW * 1000))
    headers = {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: webhooks.sign(SECRET, timestamp, b"{}")}

    check(headers, b"{}")
    assert refusal(lambda: check(headers, b"{}", now=NOW + MAX_AGE_SECONDS + 1)) == "webhook_stale"


def test_a_body_larger_than_any_is_refused() -> None:
    headers, body = delivery(SECRET, "recording.started", {"x": "x" * webhooks.MAX_BODY_BYTES}, at=NOW)

    assert refusal(lambda: check(headers, body)) == "webhook_forged"


def test_a_recording_that_is_ready_is_understood() -> None:
    _, body = delivery(SECRET, "recording.ready-to-download", FINISHED, id="e1", at=NOW)

    assert parse(body) == RecordingNews(
        event_id="e1",
        status="finished",
        at=datetime.fromtimestamp(NOW, UTC),
        recording_id="08fa0b24-9220-44c5-846c-3f116cf8e738",
        room_name="a-lesson",
        started_at=datetime.fromtimestamp(1_794_999_000, UTC),
        duration_seconds=90,
    )


def test_a_recording_that_began_is_known_by_the_name_that_it_was_started_with() -> None:
    payload = {"recording_id": "r", "instance_id": "i", "action": "start-cloud-recording", "start_ts": 1}
    news = parse(delivery(SECRET, "recording.started", payload)[1])

    assert isinstance(news, RecordingNews)
    assert (news.status, news.instance_id, news.recording_id) == ("in-progress", "i", "r")


def test_a_recording_that_failed_says_why() -> None:
    payload = {"instance_id": "i", "error_msg": "no\nspace " + "x" * 1000, "room_name": "a-lesson", "timestamp": NOW}
    news = parse(delivery(SECRET, "recording.error", payload)[1])

    assert isinstance(news, RecordingNews)
    assert news.status == "failed"
    assert news.error is not None
    assert news.error.isprintable()
    assert len(news.error) <= webhooks.MAX_ERROR_CHARACTERS


def test_an_event_that_nobody_asked_for_is_passed_over() -> None:
    assert parse(delivery(SECRET, "meeting.started", {}, id="e")[1]) == OtherNews(event_id="e", type="meeting.started")


@pytest.mark.parametrize("body", [b'{"test":"test"}', b' {"test": null} '])
def test_the_ping_before_there_is_a_secret_is_known(body: bytes) -> None:
    assert webhooks.is_ping(body)
    assert parse(body) == Ping()


@pytest.mark.parametrize("body", [b"", b"test", b'{"test":1,"type":"recording.started"}', b"[" * 100_000, b"\xff"])
def test_nothing_else_is_a_ping(body: bytes) -> None:
    assert not webhooks.is_ping(body)


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"type": "recording.started", "id": 5, "payload": {"recording_id": "r"}},
        {"type": "recording.started", "id": "", "payload": {"recording_id": "r"}},
        {"type": "recording.started", "id": "e", "payload": None},
        {"type": "recording.started", "id": "e", "payload": {}},
        {"type": "recording.started", "id": "e", "payload": {"recording_id": ["r"]}},
        {"type": "recording.started", "id": "e", "payload": {"recording_id": "r\n"}},
    ],
)
def test_what_makes_no_sense_is_refused(content: Any) -> None:
    assert refusal(lambda: parse(msgspec.json.encode(content))) == "webhook_malformed"


#: Anything of JSON's in the place of what should be there.
json_values: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([None, True, [], {}, ["r"], "", "r", "\x00", "é", -1, 0, 1e308, -1e308, 10**18]),
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
)


@given(
    payload=st.dictionaries(
        st.sampled_from(["recording_id", "instance_id", "room_name", "start_ts", "duration", "timestamp", "error_msg"]),
        json_values,
    )
)
def test_whatever_daily_sends_is_understood_or_refused(payload: dict[str, Any]) -> None:
    body = msgspec.json.encode({"type": "recording.error", "id": "e", "payload": payload, "event_ts": 1})
    with contextlib.suppress(WebhookRefused):
        assert isinstance(parse(body), RecordingNews)


@pytest.mark.parametrize("secret", ["short", "", "c2hvcnQ=", "not base64 at all !!!!!!!!!!!!!", "ä" * 40])
def test_a_secret_that_cannot_be_one_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        webhooks.parse_secret(secret)


def test_a_secret_is_read_from_base64() -> None:
    assert webhooks.parse_secret(base64.b64encode(SECRET).decode()) == SECRET
