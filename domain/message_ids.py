"""A message's id, as clients write it."""

from __future__ import annotations

from uuid import UUID

from domain.errors import NotFound


def parse_id(text: str) -> UUID:
    """Raises NotFound (`message_not_found`) for what is no id: there is no message by that name."""
    try:
        return UUID(text)
    except ValueError:
        raise unknown_message() from None


def unknown_message() -> NotFound:
    return NotFound("There is no such message in this session.", code="message_not_found")
