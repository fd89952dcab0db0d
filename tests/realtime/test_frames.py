"""Frames: what every client is sent, byte for byte, and JSON that bites nobody."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from engineio.packet import Packet as EnginePacket
from engineio.payload import Payload
from hypothesis import given
from hypothesis import strategies as st
from socketio.packet import ACK, EVENT
from socketio.packet import Packet as SocketPacket

from realtime.events import Event
from realtime.frames import JSON, ack_frame, event_frame

documents = st.dictionaries(
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
)


def test_an_event_is_a_message_with_an_event_packet_of_the_namespace() -> None:
    frame = event_frame(Event(name="newMessage", data={"text": "né"}, seq=3))
    assert frame.text == '42/encounters,["newMessage",{"text":"né"}]'
    assert frame.size == len(frame.text.encode())


def test_an_ack_carries_the_number_that_the_client_gave() -> None:
    assert ack_frame(12, {"ok": True}).text == '43/encounters,12[{"ok":true}]'


def test_dates_and_ids_are_written_as_text() -> None:
    data = {"at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "id": UUID(int=1)}
    written = JSON.dumps(data, separators=(",", ":"))
    assert written == '{"at":"2026-01-02T03:04:05Z","id":"00000000-0000-0000-0000-000000000001"}'


@given(documents, st.integers(0, 10**100 - 1))
def test_what_is_written_reads_the_same_with_the_stock_packets(data: dict[str, Any], ack_id: int) -> None:
    for frame, type_, id_, body in (
        (event_frame(Event(name="x", data=data)), EVENT, None, ["x", data]),
        (ack_frame(ack_id, data), ACK, ack_id, [data]),
    ):
        assert frame.encode() == frame.encode(b64=True) == frame.text
        [received] = Payload(encoded_payload=Payload(packets=[frame]).encode()).packets
        packet = SocketPacket(encoded_packet=EnginePacket(encoded_packet=received.encode()).data)
        assert (packet.packet_type, packet.namespace, packet.id, packet.data) == (type_, "/encounters", id_, body)


@given(documents, documents)
def test_text_never_breaks_a_payload_of_several_frames(first: dict[str, Any], second: dict[str, Any]) -> None:
    frames = [event_frame(Event(name="x", data=data)) for data in (first, second)]
    assert Payload(packets=frames).encode().split("\x1e") == [frame.text for frame in frames]


@pytest.mark.parametrize(
    "text",
    ["", "{", "nul", "[1,]", "'x'", '"\\ud800"', "NaN", "[" * 100_000, '{"a":' * 100_000, "1" * 5_000 + "x"],
)
def test_what_is_not_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        JSON.loads(text)


@given(documents)
def test_json_agrees_with_the_standard_library(data: dict[str, Any]) -> None:
    assert json.loads(JSON.dumps(data)) == data
    assert JSON.loads(json.dumps(data)) == data
    assert JSON.loads(json.dumps(data).encode()) == data
