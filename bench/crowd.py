"""Who takes part in a measurement: people with tokens, and the rooms that they sit in."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jwt

SECRET: Final = "a secret that only the bench and what it measures know"  # noqa: S105
TOKEN_SECONDS: Final = 6 * 3600


@dataclass(frozen=True, slots=True)
class Crowd:
    """`rooms` sessions with `members` connections each, of `people` persons (None: each its own).

    With `by_member`, the first member of every room connects before the second of any: a server that deals
    connections out in turn to N workers, N a divisor of `rooms`, has each room on one of them.
    """

    rooms: int
    members: int
    people: int | None = None
    by_member: bool = False

    @property
    def clients(self) -> int:
        return self.rooms * self.members

    @property
    def user_ids(self) -> list[str]:
        return [f"person-{number:05}" for number in range(self.people or self.clients)]

    @property
    def session_ids(self) -> list[uuid.UUID]:
        return [uuid.UUID(int=number + 1, version=4) for number in range(self.rooms)]

    def write(self, path: Path) -> None:
        """The plan for the load: one client a line."""
        tokens = [token(user_id) for user_id in self.user_ids]
        sessions = self.session_ids
        places = [(room, member) for room in range(self.rooms) for member in range(self.members)]
        if self.by_member:
            places.sort(key=lambda place: (place[1], place[0]))
        lines = [
            f"{room} {sessions[room]} {tokens[(room * self.members + member) % len(tokens)]}\n"
            for room, member in places
        ]
        path.write_text("".join(lines))


def token(user_id: str) -> str:
    """Admins belong to every session, so that a room may have a thousand members."""
    claims = {"sub": user_id, "role": "admin", "first_name": "Some", "last_name": "Body"}
    return jwt.encode({**claims, "exp": int(time.time()) + TOKEN_SECONDS}, SECRET, algorithm="HS256")
