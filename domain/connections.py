"""The connections of one person: usually a single one, which needs no set around it.

A set takes 216 bytes, and there is one person for nearly every connection of a worker.
"""

from __future__ import annotations

from realtime.connection import Connection

#: None of them, the only one, or several.
Held = Connection | set[Connection] | None


def added(held: Held, connection: Connection) -> Held:
    if held is None or held is connection:
        return connection
    if isinstance(held, set):
        held.add(connection)
        return held
    return {held, connection}


def removed(held: Held, connection: Connection) -> Held:
    if held is connection:
        return None
    if isinstance(held, set):
        held.discard(connection)
        return held or None
    return held


def contains(held: Held, connection: Connection) -> bool:
    return connection in held if isinstance(held, set) else held is connection


def listed(held: Held) -> list[Connection]:
    if isinstance(held, set):
        return list(held)
    return [] if held is None else [held]
