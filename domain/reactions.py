"""Reactions to messages: what an emoji is, and the act of reacting with one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from domain import access
from domain.access import Member
from domain.errors import Conflict, invalid
from domain.live import Live
from domain.message_ids import parse_id, unknown_message
from store import messages, reactions, sessions
from store.errors import translated
from store.events import LogEntry
from store.messages import Message

#: Different emoji on one message: as many as a screen shows, and a bound on the message's document.
MAX_EMOJI_PER_MESSAGE: Final = 20
#: Code points of one emoji. The longest in Unicode, a flag of a country's part, has 14.
MAX_EMOJI_CHARACTERS: Final = 32

#: Pictographs: the blocks that Unicode keeps for them, those of its next versions included, and the older symbols
#: beside them. Which of the symbols are emoji at all changes with each version; that a letter, a digit or a blank is
#: none does not.
_PICTOGRAPH: Final = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001f1e5\U0001f200-\U0001faff]"
)
#: A skin tone, or "as a picture" (VS16); or the tags that make a black flag that of England.
_MODIFIED: Final = "(?:[\U0001f3fb-\U0001f3ff]|\ufe0f)?(?:[\U000e0020-\U000e007e]+\U000e007f)?"
_FLAG: Final = "[\U0001f1e6-\U0001f1ff]{2}"
_KEYCAP: Final = "[0-9#*]\ufe0f?\u20e3"
#: The shape of one emoji (UTS #51, 1.4.9): a flag, a keycap, or pictographs joined by U+200D.
_EMOJI: Final = re.compile(f"{_FLAG}|{_KEYCAP}|{_PICTOGRAPH}{_MODIFIED}(?:\u200d(?:{_FLAG}|{_PICTOGRAPH}{_MODIFIED}))*")


def is_emoji(text: str) -> bool:
    """Whether this is one emoji, and nothing else."""
    return len(text) <= MAX_EMOJI_CHARACTERS and _EMOJI.fullmatch(text) is not None


def counted(counts: Mapping[str, int], emoji: str, *, reacted: bool) -> dict[str, int]:
    """How many reacted with what, once one more has or has no longer. Raises Conflict (`too_many_reactions`)."""
    if reacted and emoji not in counts and len(counts) >= MAX_EMOJI_PER_MESSAGE:
        raise Conflict(f"A message takes at most {MAX_EMOJI_PER_MESSAGE} different emoji.", code="too_many_reactions")
    changed = dict(counts) | {emoji: counts.get(emoji, 0) + (1 if reacted else -1)}
    return {one: number for one, number in changed.items() if number > 0}


async def react(live: Live, member: Member, message_id: str, emoji: str, *, reacted: bool) -> Message:
    """React to a message, or take one's reaction back; every member may. As it is already: nothing happens.

    Answers the message. Raises BadRequest, NotFound (`message_not_found`), Conflict (`message_deleted`,
    `too_many_reactions`, `booking_cancelled`).
    """
    if not is_emoji(emoji):
        raise invalid({"emoji": "must be one emoji"})
    entries: list[LogEntry] = []
    with translated():
        async with live.reacting, live.pool.acquire() as connection, connection.transaction():
            session = await sessions.locked(connection, member.session_id)
            message = await messages.find(connection, member.session_id, parse_id(message_id))
            if session is None or message is None:
                raise unknown_message()
            if message.deleted:
                raise Conflict("The message was deleted.", code="message_deleted")
            access.require_open_chat(session)
            change = reactions.add if reacted else reactions.remove
            if await change(connection, message.id, member.user_id, emoji):
                counts = counted(message.reactions or {}, emoji, reacted=reacted)
                entries.append(
                    await reactions.count(
                        connection, message, counts, user_id=member.user_id, emoji=emoji, reacted=reacted
                    )
                )
                message = msgspec.structs.replace(message, reactions=counts or None)
    live.publish(entries)
    return message
