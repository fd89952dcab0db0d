"""What travels: one event of one channel, on its way to the connections that listen."""

from __future__ import annotations

from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event as clients see it: `["<name>", <data>]`.

    With a `seq` it is an entry of its channel's log: stored, ordered, and delivered exactly once to every
    joined connection. Without one it is best effort: presence, typing, read marks.
    """

    name: str
    data: dict[str, Any]
    seq: int | None = None
