"""Daily's webhooks: whether it was Daily that sent them, and what they say.

Plain functions on values. Deliveries come more than once, late and out of order: whoever acts on them lets a recording
only move forward, so that none of it matters.
Source: Daily's REST API reference, Webhooks, and its pages on the events `recording.*`.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from meetings.provider import RecordingStatus

SIGNATURE_HEADER: Final = "X-Webhook-Signature"
TIMESTAMP_HEADER: Final = "X-Webhook-Timestamp"
#: How far a delivery's time may be from ours, in seconds, either way.
MAX_AGE_SECONDS: Final = 300
#: A delivery tells of one event.
MAX_BODY_BYTES: Final = 64 * 1024
MIN_SECRET_BYTES: Final = 16
#: A hundred days: whatever is longer is no recording.
MAX_DURATION_SECONDS: Final = 100 * 24 * 60 * 60
#: The longest piece of Daily's own words that is kept of an error.
MAX_ERROR_CHARACTERS: Final = 500
#: Above it a time is in milliseconds: seconds get there in the year 5138.
_MILLISECONDS: Final = 100_000_000_000

_WHOLE: Final = re.compile(r"[0-9]{1,16}")
_ID: Final = re.compile(r"[\x21-\x7e]{1,200}")


class WebhookRefused(Exception):
    """A delivery that is not believed. `code` is stable; it says too little to help who forges one."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


@dataclass(frozen=True, kw_only=True, slots=True)
class Ping:
    """What Daily sends to see whether anybody is there, before it makes a webhook: unsigned, and about nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordingNews:
    """What became of a recording. `instance_id` is ours, of its start; `at` is of the event, not of its delivery."""

    event_id: str
    status: RecordingStatus
    at: datetime | None = None
    recording_id: str | None = None
    instance_id: str | None = None
    room_name: str | None = None
    started_at: datetime | None = None
    duration_seconds: int | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherNews:
    """An event that nobody here asked for."""

    event_id: str
    type: str


def parse_secret(value: str) -> bytes:
    """The key of a webhook's `hmac`, which is base64. Raises ValueError."""
    try:
        secret = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("in base64, as Daily shows it") from None
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(f"the base64 of at least {MIN_SECRET_BYTES} bytes")
    return secret


def sign(secret: bytes, timestamp: str, body: bytes) -> str:
    """The signature of a delivery: the base64 of the HMAC-SHA256 of its time, a dot and its body."""
    return base64.b64encode(hmac.digest(secret, timestamp.encode() + b"." + body, "sha256")).decode()


def is_ping(body: bytes) -> bool:
    """Whether it is the test that comes before there is a secret. Nothing may follow from it but 200."""
    if len(body) > MAX_BODY_BYTES:
        return False
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return isinstance(content, dict) and set(content) == {"test"}


def verify(secret: bytes, *, timestamp: str | None, signature: str | None, body: bytes, now: float) -> None:
    """Return if Daily signed `body` within MAX_AGE_SECONDS of `now` (Unix seconds).

    Raises WebhookRefused (`webhook_unsigned`, `webhook_forged`, `webhook_stale`).
    """
    if timestamp is None or signature is None or not _WHOLE.fullmatch(timestamp):
        raise WebhookRefused("This delivery is not signed.", "webhook_unsigned")
    if len(body) > MAX_BODY_BYTES:
        raise WebhookRefused("This delivery is larger than any of Daily's.", "webhook_forged")
    if not hmac.compare_digest(sign(secret, timestamp, body).encode(), signature.encode("utf-8", "surrogatepass")):
        raise WebhookRefused("The signature of this delivery does not match.", "webhook_forged")
    sent_at = int(timestamp)
    if sent_at > _MILLISECONDS:
        sent_at //= 1000
    if abs(now - sent_at) > MAX_AGE_SECONDS:
        raise WebhookRefused("This delivery is too old.", "webhook_stale")


class _Envelope(msgspec.Struct, frozen=True):
    type: str
    id: str
    payload: dict[str, Any]
    event_ts: float | None = None


#: What the events mean. `recording.error` may come before and after `recording.ready-to-download`.
_RECORDING: Final[dict[str, RecordingStatus]] = {
    "recording.started": "in-progress",
    "recording.ready-to-download": "finished",
    "recording.error": "failed",
}


def parse(body: bytes) -> RecordingNews | OtherNews | Ping:
    """What a verified delivery says. Raises WebhookRefused (`webhook_malformed`)."""
    if is_ping(body):
        return Ping()
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise WebhookRefused("This delivery cannot be read.", "webhook_malformed") from error
    if not _ID.fullmatch(envelope.id):
        raise WebhookRefused("This delivery has no id.", "webhook_malformed")
    status = _RECORDING.get(envelope.type)
    if status is None:
        return OtherNews(event_id=envelope.id, type=envelope.type[:100])
    payload = envelope.payload
    news = RecordingNews(
        event_id=envelope.id,
        status=status,
        at=_instant(payload.get("timestamp")) or _instant(envelope.event_ts),
        recording_id=_id(payload.get("recording_id")),
        instance_id=_id(payload.get("instance_id")),
        room_name=_id(payload.get("room_name")),
        started_at=_instant(payload.get("start_ts")),
        duration_seconds=_seconds(payload.get("duration")),
        error=_words(payload.get("error_msg")),
    )
    if news.recording_id is None and news.instance_id is None:
        raise WebhookRefused("This delivery does not say of which recording.", "webhook_malformed")
    return news


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def _words(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return "".join(character for character in value[:MAX_ERROR_CHARACTERS] if character.isprintable())


def _seconds(value: object) -> int | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= MAX_DURATION_SECONDS:
        return None
    return round(value)


def _instant(value: object) -> datetime | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return datetime.fromtimestamp(value / 1000 if value > _MILLISECONDS else value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
