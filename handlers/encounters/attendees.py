"""What the real-time door knows of a connection."""

from __future__ import annotations

from dataclasses import dataclass, field

from domain import access
from domain.access import Member
from domain.errors import Forbidden
from domain.identity import Identity
from realtime.connection import Connection


@dataclass(slots=True)
class Attendee:
    """Whose connection it is, and what it has joined (by session id).

    `news` counts what was heard of its person: who is on the way in meanwhile is looked up again.
    """

    identity: Identity
    joined: dict[str, Member] = field(default_factory=dict)
    news: int = 0

    def member(self, ref: str) -> Member:
        """Oneself in a session that was joined, by id or room name. Raises Forbidden."""
        member = self.joined.get(ref) or self.joined.get(str(access.session_ref(ref)))
        if member is None:
            member = next((one for one in self.joined.values() if one.room_name == ref), None)
        if member is None:
            raise Forbidden("Join this session first.", code="not_joined")
        return member


def attendee_of(connection: Connection) -> Attendee:
    attendee: Attendee = connection.state
    return attendee


def member_of(connection: Connection, ref: str) -> Member:
    """As :meth:`Attendee.member`."""
    return attendee_of(connection).member(ref)
