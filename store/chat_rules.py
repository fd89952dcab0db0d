"""Who may write into a chat whose host restricts it: muted, or in slow mode.

The sessions' rows are locked before anything is decided, and kept until the messages are committed. Whoever changes
the rules, and whoever writes under them, holds the same rows; so a decision holds for as long as it is used.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from store.database import Connection


class NotTaken(Exception):
    """A message that was not written, for it may not be."""


class ChatClosed(NotTaken):
    """The session takes no more messages: its booking was cancelled, or it is gone."""


class ChatMuted(NotTaken):
    """Only the host writes."""


class TooSoon(NotTaken):
    """The chat is in slow mode: its author may write again in `retry_after` seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


@dataclass(frozen=True, kw_only=True, slots=True)
class Writer:
    """Who wants to write, and where. `is_host`: they are bound by none of the rules."""

    session_id: UUID
    user_id: str
    is_host: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What a session's chat asks of those who write."""

    chat_open: bool
    chat_muted: bool
    slow_mode_seconds: int


#: A session that is not there.
NO_CHAT: Final = Rules(chat_open=False, chat_muted=True, slow_mode_seconds=0)


def verdict(rules: Rules, writer: Writer, chatted_at: datetime | None, now: datetime) -> NotTaken | None:
    """Why somebody may not write now, who last wrote in slow mode at `chatted_at`. None: they may."""
    if not rules.chat_open:
        return ChatClosed()
    if writer.is_host:
        return None
    if rules.chat_muted:
        return ChatMuted()
    if rules.slow_mode_seconds and chatted_at is not None:
        left = chatted_at + timedelta(seconds=rules.slow_mode_seconds) - now
        if left > timedelta():
            # Of a clock that was put back no more is asked than the rule.
            return TooSoon(min(math.ceil(left.total_seconds()), rules.slow_mode_seconds))
    return None


async def admit(
    connection: Connection, rules: Mapping[UUID, Rules], writers: Sequence[Writer]
) -> list[NotTaken | None]:
    """Decide who of these may write one message each, in this order, and note it. None stands for who may.

    Inside the transaction that writes them, and holds the rows of their sessions (:func:`locked`).
    """
    chatted_at: dict[tuple[UUID, str], datetime] = {}
    slowed = [writer for writer in writers if _is_slowed(rules, writer)]
    now = await connection.fetchval("SELECT clock_timestamp()")
    if slowed:
        chatted_at = await _chatted_at(connection, slowed)
    verdicts: list[NotTaken | None] = []
    admitted: set[tuple[UUID, str]] = set()
    for writer in writers:
        key = (writer.session_id, writer.user_id)
        refusal = verdict(rules.get(writer.session_id, NO_CHAT), writer, chatted_at.get(key), now)
        if refusal is None and _is_slowed(rules, writer):
            chatted_at[key] = now
            admitted.add(key)
        verdicts.append(refusal)
    if admitted:
        await _note_chatted(connection, admitted, now)
    return verdicts


def _is_slowed(rules: Mapping[UUID, Rules], writer: Writer) -> bool:
    return not writer.is_host and rules.get(writer.session_id, NO_CHAT).slow_mode_seconds > 0


async def locked(connection: Connection, session_ids: Iterable[UUID]) -> dict[UUID, Rules]:
    """The rules of these sessions, whose rows are kept for this transaction: in the order of their ids, as always."""
    rows = await connection.fetch(
        """
        SELECT id, chat_open, chat_muted, slow_mode_seconds FROM sessions
        WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE
        """,
        list(set(session_ids)),
    )
    return {
        row["id"]: Rules(
            chat_open=row["chat_open"], chat_muted=row["chat_muted"], slow_mode_seconds=row["slow_mode_seconds"]
        )
        for row in rows
    }


async def _chatted_at(connection: Connection, writers: Sequence[Writer]) -> dict[tuple[UUID, str], datetime]:
    rows: list[asyncpg.Record] = await connection.fetch(
        """
        SELECT p.session_id, p.user_id, p.chatted_at
        FROM (SELECT DISTINCT session_id, user_id FROM unnest($1::uuid[], $2::text[]) AS i (session_id, user_id)) i
        JOIN session_participants p USING (session_id, user_id)
        WHERE p.chatted_at IS NOT NULL
        """,
        [writer.session_id for writer in writers],
        [writer.user_id for writer in writers],
    )
    return {(row["session_id"], row["user_id"]): row["chatted_at"] for row in rows}


async def _note_chatted(connection: Connection, keys: Collection[tuple[UUID, str]], now: datetime) -> None:
    """Also of those who have not joined, but write over REST."""
    # In the database's own order, as everywhere: by its collation Python's is another one.
    await connection.execute(
        """
        INSERT INTO session_participants (session_id, user_id, chatted_at)
        SELECT session_id, user_id, $3 FROM unnest($1::uuid[], $2::text[]) AS i (session_id, user_id)
        ORDER BY session_id, user_id
        ON CONFLICT (session_id, user_id) DO UPDATE SET chatted_at = excluded.chatted_at
        """,
        [session_id for session_id, _ in keys],
        [user_id for _, user_id in keys],
        now,
    )
