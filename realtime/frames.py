"""Events, encoded once for everybody: Socket.IO protocol 5 packets inside Engine.IO 4 messages."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from engineio.packet import MESSAGE
from engineio.packet import Packet as EnginePacket

from realtime.events import Event

#: The one namespace that is served.
NAMESPACE: Final = "/encounters"

_encode = msgspec.json.Encoder(enc_hook=str).encode


class JSON:
    """The JSON module that python-socketio and python-engineio are given: `dumps` and `loads` on msgspec."""

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        return _encode(value).decode()

    @staticmethod
    def loads(text: str | bytes, **_: Any) -> Any:
        """Raises ValueError for what is not JSON, and for JSON that is nested too deep."""
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValueError(str(error)) from error


class Frame(EnginePacket):  # type: ignore[misc]  # python-engineio has no types
    """An Engine.IO message whose text was made once and is written to every connection as it is."""

    def __init__(self, text: str) -> None:
        super().__init__(MESSAGE)
        self.text = "4" + text
        self.size = len(self.text.encode())

    def encode(self, b64: bool = False) -> str:
        del b64  # it is text
        return self.text


def event_frame(event: Event) -> Frame:
    """`["<name>", <data>]` to every client of the namespace."""
    return Frame(f"2{NAMESPACE},{JSON.dumps([event.name, event.data])}")


def ack_frame(ack_id: int, answer: Any) -> Frame:
    """The answer to the event that a client numbered `ack_id`."""
    return Frame(f"3{NAMESPACE},{ack_id}{JSON.dumps([answer])}")
