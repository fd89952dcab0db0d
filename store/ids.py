"""Ids in the order of time: UUIDs of version 7 (RFC 9562, 5.7)."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from asyncpg.pgproto import pgproto

_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00Z")
#: Above every id: "no upper end".
NO_END: Final = UUID(int=(1 << 128) - 1)


def new_id() -> UUID:
    """A UUID of version 7: 74 random bits, which nobody guesses, behind the time in milliseconds, so that an index of
    such ids grows at its end."""
    milliseconds, chance = time.time_ns() // 1_000_000, int.from_bytes(os.urandom(10))
    number = milliseconds << 80 | 7 << 76 | (chance >> 62 & 0xFFF) << 64 | 2 << 62 | chance & (1 << 62) - 1
    # asyncpg's own kind of UUID, as rows have it: to hash, to write and to encode it costs a fraction.
    return pgproto.UUID(number.to_bytes(16))


def first_id(moment: datetime) -> UUID:
    """The lowest of the ids that :func:`new_id` makes in that moment's millisecond, or above all those before."""
    milliseconds = max(0, (moment - _EPOCH) // _MILLISECOND)
    return UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62)
