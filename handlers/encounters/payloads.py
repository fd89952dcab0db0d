"""What the events of one session have in common."""

from __future__ import annotations

import msgspec


class InSession(msgspec.Struct, kw_only=True):
    """`session_id` is an id or a room name."""

    session_id: str
