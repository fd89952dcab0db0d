"""What travels: one event of one channel, on its way to the connections that listen."""

from __future__ import annotations

from typing import Any

import msgspec

_encode = msgspec.json.Encoder(enc_hook=str).encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Event:
    """An event as clients see it: `["<name>", <data>]`.

    With a `seq` it is an entry of its channel's log: stored, ordered, and delivered exactly once to every
    joined connection. Without one it is best effort: presence, typing, read marks.

    It is made of its data, or of their JSON, and makes the other of the two when asked: `json` once, for every
    frame, ack and worker; `data` anew each time where it was made of JSON.
    """

    __slots__ = ("_data", "_json", "name", "seq")

    def __init__(self, *, name: str, data: dict[str, Any] | msgspec.Raw, seq: int | None = None) -> None:
        self.name = name
        self.seq = seq
        self._data: dict[str, Any] | None = None
        self._json: msgspec.Raw | None = None
        if isinstance(data, msgspec.Raw):
            self._json = data
        else:
            self._data = data

    @property
    def json(self) -> msgspec.Raw:
        """The data as one JSON object."""
        if self._json is None:
            self._json = msgspec.Raw(_encode(self._data))
        return self._json

    @property
    def data(self) -> dict[str, Any]:
        """The data. Not to be changed: what an event says is replaced as a whole."""
        if self._data is not None:
            return self._data
        assert self._json is not None
        return _decode(self._json)

    @data.setter
    def data(self, data: dict[str, Any]) -> None:
        self._data, self._json = data, None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        return (self.name, self.seq, self.data) == (other.name, other.seq, other.data)

    __hash__ = None  # type: ignore[assignment]  # what it says may be replaced

    def __repr__(self) -> str:
        return f"Event(name={self.name!r}, data={self.data!r}, seq={self.seq!r})"
