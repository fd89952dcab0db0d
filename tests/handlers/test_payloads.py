"""Payloads of the kind that only Socket.IO brings; REST's are in http/test_edge.py."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Meta, UnsetType

from domain.errors import BadRequest
from handlers import payloads
from handlers.encounters.membership import JoinSession
from handlers.encounters.messages import SendMessage
from handlers.encounters.participants import SetPermissions
from handlers.payloads import MAX_DEPTH, Instant, decode


class Item(msgspec.Struct, frozen=True):
    item_id: str
    at_most: Annotated[int, Meta(lt=3)] | None = None


class Payload(msgspec.Struct, frozen=True):
    session_id: str
    kind: Literal["a", "b"] | None = None
    link: Annotated[str, Meta(pattern="^https://")] | None = None
    items: Annotated[list[Item], Meta(max_length=2)] = []
    elements: list[dict[str, Any]] = []
    note: Annotated[str, Meta(max_length=3)] | UnsetType | None = UNSET


def problems(raw: object) -> dict[str, str]:
    with pytest.raises(BadRequest) as refusal:
        decode(Payload, raw)
    return refusal.value.fields or {}


def test_a_payload_is_decoded_with_its_nested_structs() -> None:
    raw = {"sessionId": "s", "items": [{"itemId": "i", "atMost": 2}], "elements": [{"versionNonce": 1}]}
    payload = decode(Payload, raw)
    assert payload == Payload(session_id="s", items=[Item(item_id="i", at_most=2)], elements=[{"versionNonce": 1}])
    assert payload.note is UNSET
    assert decode(Payload, {"session_id": "s", "note": None}).note is None


def test_of_two_spellings_ours_wins() -> None:
    assert decode(Payload, {"sessionId": "theirs", "session_id": "ours"}).session_id == "ours"
    assert decode(Payload, {"session_id": "ours", "sessionId": "theirs"}).session_id == "ours"


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        ({}, {"session_id": "is required"}),
        ({"sessionId": None}, {"session_id": "must be a string, not null"}),
        ({"sessionId": b"bytes"}, {"sessionId": "must be JSON, without binary data"}),
        ({"sessionId": "s", "x": {1: 2}}, {"x.1": "must be JSON, whose keys are strings"}),
        ({"sessionId": "s", "x": float("inf")}, {"x": "must be a finite number"}),
        ({"sessionId": "\udc00"}, {"sessionId": "must be valid Unicode, without lone surrogates"}),
        ({"sessionId": "s", "kind": "c"}, {"kind": "must be one of a, b"}),
        ({"sessionId": "s", "link": "ftp://x"}, {"link": "does not have the form that is expected here"}),
        ({"sessionId": "s", "note": "long"}, {"note": "must have at most 3 characters"}),
        ({"sessionId": "s", "items": [{}, {}, {}]}, {"items": "must have at most 2 items"}),
        (
            {"sessionId": 1, "items": [{"itemId": "i"}, {"itemId": "i", "atMost": 3}]},
            {"session_id": "must be a string, not a number", "items[1].at_most": "must be at most 2"},
        ),
        ({"sessionId": "s", "items": [{}]}, {"items[0]": "lacks item_id, which is required"}),
        ({"sessionId": "s", "elements": {}}, {"elements": "must be an array, not an object"}),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(raw: object, fields: dict[str, str]) -> None:
    assert problems(raw) == fields


@pytest.mark.parametrize("raw", [None, 1, "x", [], [{}], b"", 1.5, True])
def test_a_payload_is_one_object(raw: object) -> None:
    with pytest.raises(BadRequest) as refusal:
        decode(Payload, raw)
    assert refusal.value.code == "not_an_object"


def test_depth_is_bounded() -> None:
    def nested(depth: int) -> object:
        value: object = 1
        for _ in range(depth):
            value = [value]
        return value

    decode(Payload, {"sessionId": "s", "x": nested(MAX_DEPTH - 1)})
    with pytest.raises(BadRequest) as refusal:
        decode(Payload, {"sessionId": "s", "x": nested(MAX_DEPTH)})
    assert refusal.value.code == "too_deep"


def test_a_long_key_is_not_repeated_in_full() -> None:
    (path,) = problems({"x" * 100_000: "\0"})
    assert len(path) <= 101


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
NAMES = st.sampled_from(["sessionId", "session_id", "kind", "link", "items", "elements", "note", "other"])


@given(raw=st.dictionaries(NAMES, JSON) | JSON)
def test_whatever_comes_it_is_a_payload_or_a_bad_request(raw: object) -> None:
    answer: object
    try:
        answer = decode(Payload, raw)
    except BadRequest as refusal:
        answer = refusal.document()
    assert msgspec.json.encode(answer)


class Lesson(msgspec.Struct, kw_only=True):
    course_id: str
    starts_at: Instant
    seats: int = 1


SHORT = st.none() | st.booleans() | st.integers() | st.text(st.sampled_from("aé\0\ud800👋")) | JSON
STARTS = st.sampled_from(["2026-01-31T09:00:00Z", "2026-01-31T09:00:00+02:00", "0001-01-01T00:00:00Z", "soon"])


def fields(*names: str) -> st.SearchStrategy[dict[Any, Any]]:
    return st.dictionaries(st.sampled_from(names) | st.text(max_size=3), SHORT | STARTS, max_size=6)


@pytest.mark.parametrize(
    ("type_", "raws"),
    [
        (Payload, fields("sessionId", "session_id", "kind", "note", "link", "items")),
        (SendMessage, fields("sessionId", "session_id", "text", "clientId", "client_id")),
        (JoinSession, fields("sessionId", "session_id", "lastSeq", "last_seq")),
        (SetPermissions, fields("sessionId", "userId", "user_id", "micAllowed", "cameraAllowed")),
        (Lesson, fields("courseId", "startsAt", "starts_at", "seats")),
    ],
)
def test_a_usual_payload_is_read_as_thoroughly_as_any(
    type_: type[msgspec.Struct], raws: st.SearchStrategy[dict[Any, Any]]
) -> None:
    def outcome(raw: object) -> object:
        try:
            return decode(type_, raw)
        except BadRequest as refusal:
            return refusal.document()

    @given(raw=raws)
    def agree(raw: dict[Any, Any]) -> None:
        quickly = outcome(raw)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(payloads, "_named_plainly", lambda shape, raw: None)
            assert quickly == outcome(raw)

    agree()
