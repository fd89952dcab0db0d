"""Reactions to messages: what an emoji is, and the act of reacting with one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec

from domain import access
from domain.access import Member
from domain.errors import Conflict, EncountersError, Unavailable, invalid
from domain.message_ids import parse_id, unknown_message
from realtime.log import Closed, Log, Overloaded
from store import chat_rules, events, messages, reactions
from store.chat_rules import Rules
from store.database import Pool
from store.errors import Away, translated
from store.events import LogEntry, NewEntry
from store.messages import Message
from store.reactions import Key

if TYPE_CHECKING:
    from domain.live import Live  # which has the worker's Reactions

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A reaction that somebody adds or takes back."""

    session_id: UUID
    key: Key
    reacted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Reacted:
    """What became of it: the `message` afterwards, and the `entry` of the log. None: it was so already."""

    message: Message
    entry: LogEntry | None


class Page:
    """The messages that a batch of changes is about, as they become one change after the other."""

    def __init__(self, rules: Mapping[UUID, Rules], messages: Iterable[Message], kept: Collection[Key]) -> None:
        self._rules = rules
        self._before = frozenset(kept)
        self._kept = set(kept)
        self.messages = {message.id: message for message in messages}
        self.counts: dict[UUID, Mapping[str, int]] = {}

    @property
    def added(self) -> AbstractSet[Key]:
        return self._kept - self._before

    @property
    def removed(self) -> AbstractSet[Key]:
        return self._before - self._kept

    def apply(self, change: Change) -> bool:
        """Whether it changes anything. Raises NotFound (`message_not_found`), Conflict (`message_deleted`,
        `too_many_reactions`, `booking_cancelled`)."""
        key = change.key
        message = self.messages.get(key.message_id)
        if message is None or message.session_id != change.session_id or change.session_id not in self._rules:
            raise unknown_message()
        if message.deleted:
            raise Conflict("The message was deleted.", code="message_deleted")
        if not self._rules[change.session_id].chat_open:
            raise access.chat_closed()
        if change.reacted == (key in self._kept):
            return False
        counts = counted(message.reactions or {}, key.emoji, reacted=change.reacted)
        self.counts[message.id] = counts
        self.messages[message.id] = msgspec.structs.replace(message, reactions=counts or None)
        (self._kept.add if change.reacted else self._kept.remove)(key)
        return True


class Reactions:
    """Writes what people react with on this worker: many at once in one transaction, so that a class which reacts at
    once neither takes every connection to the database nor holds up its own chat for each of them.

    `publish` shows committed entries of sessions' logs.
    """

    def __init__(self, pool: Pool, publish: Callable[[Iterable[LogEntry]], None]) -> None:
        self._pool = pool
        self._publish = publish
        self._changes: Log[Change, Reacted] = Log(
            self._write,
            name="reactions",
            passing=Away,
            committed=self._committed,
            key=lambda change: change.session_id,
        )

    async def close(self) -> None:
        """Write what is under way."""
        await self._changes.close()

    def append(self, change: Change) -> asyncio.Future[Reacted]:
        """Hand a change over to be committed, and shown to everybody. Those of one session are committed in the order
        in which they were handed over. Raises Unavailable."""
        try:
            return self._changes.append(change)
        except (Overloaded, Closed):
            raise _not_stored() from None

    async def _write(self, batch: Sequence[Change], again: bool) -> Sequence[Reacted | EncountersError]:
        # Written by an attempt whose answer was lost, a change is found done, and the rooms find its entry in the log.
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                rules = await chat_rules.locked(connection, [change.session_id for change in batch])
                found = await messages.by_ids(connection, {change.key.message_id for change in batch})
                page = Page(rules, found, await reactions.kept(connection, {change.key for change in batch}))
                news: list[NewEntry] = []
                outcomes = [_outcome(page, change, news) for change in batch]
                entries: Iterator[LogEntry] = iter(())
                if news:
                    await reactions.save(connection, added=page.added, removed=page.removed, counts=page.counts)
                    entries = iter(await events.append_all(connection, news))
        return [
            Reacted(message=outcome.message, entry=next(entries) if outcome.changed else None)
            if isinstance(outcome, _Applied)
            else outcome
            for outcome in outcomes
        ]

    def _committed(self, change: Change, reacted: Reacted) -> None:
        if reacted.entry is not None:
            self._publish([reacted.entry])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Applied:
    message: Message
    changed: bool


def _outcome(page: Page, change: Change, news: list[NewEntry]) -> _Applied | EncountersError:
    """Apply one change of a batch, and note what is to be logged of it."""
    key = change.key
    try:
        changed = page.apply(change)
    except EncountersError as error:
        return error
    message = page.messages[key.message_id]
    if changed:
        news.append(
            NewEntry(
                session_id=change.session_id,
                kind="message_reaction",
                user_id=key.user_id,
                message_id=key.message_id,
                data={
                    "userId": key.user_id,
                    "emoji": key.emoji,
                    "reacted": change.reacted,
                    "reactions": page.counts[key.message_id],
                },
            )
        )
    return _Applied(message=message, changed=changed)


def begin_react(live: Live, member: Member, message_id: str, emoji: str, *, reacted: bool) -> asyncio.Future[Reacted]:
    """React to a message, or take one's reaction back; every member may. When the future is done, :func:`reacted_to`
    has the answer. Raises BadRequest, NotFound (`message_not_found`), Unavailable."""
    if not is_emoji(emoji):
        raise invalid({"emoji": "must be one emoji"})
    key = Key(message_id=parse_id(message_id), emoji=emoji, user_id=member.user_id)
    return live.reactions.append(Change(session_id=member.session_id, key=key, reacted=reacted))


def reacted_to(reacting: asyncio.Future[Reacted]) -> Message:
    """The message, once a reaction to it is done.

    Raises NotFound (`message_not_found`), Conflict (`message_deleted`, `too_many_reactions`, `booking_cancelled`),
    Unavailable.
    """
    try:
        return reacting.result().message
    except Away:
        raise _not_stored() from None


async def react(live: Live, member: Member, message_id: str, emoji: str, *, reacted: bool) -> Message:
    """As :func:`begin_react`, to the end. As it is already: nothing happens. Answers the message."""
    reacting = begin_react(live, member, message_id, emoji, reacted=reacted)
    await asyncio.wait([reacting])
    return reacted_to(reacting)


def _not_stored() -> Unavailable:
    return Unavailable("The reaction could not be stored just now; try again.", retry_after=1)
