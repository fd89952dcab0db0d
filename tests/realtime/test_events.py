"""An event: data and JSON, each made of the other."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from realtime.events import Event


def test_an_event_is_said_alike_whichever_way_it_was_made() -> None:
    of_data = Event(name="x", data={"id": "m", "text": "né"}, seq=3)
    of_json = Event(name="x", data=msgspec.Raw(b'{"id":"m","text":"n\xc3\xa9"}'), seq=3)
    assert of_data == of_json
    assert of_data.data == of_json.data == {"id": "m", "text": "né"}
    assert of_data.json == of_json.json
    assert of_data != Event(name="x", data={"id": "m"}, seq=3)
    assert of_data != Event(name="x", data=of_data.data)
    assert of_data != ["x", of_data.data]
    assert repr(of_json) == "Event(name='x', data={'id': 'm', 'text': 'né'}, seq=3)"


def test_the_json_is_made_once_and_anew_when_the_data_are_replaced() -> None:
    event = Event(name="x", data={"at": datetime(2030, 1, 2, tzinfo=UTC)})
    assert event.json is event.json
    assert bytes(event.json) == b'{"at":"2030-01-02T00:00:00Z"}'
    event.data = {"text": ""}
    assert bytes(event.json) == b'{"text":""}'
    kept = Event(name="x", data=event.json)
    kept.data = {}
    assert (kept.data, bytes(kept.json)) == ({}, b"{}")
