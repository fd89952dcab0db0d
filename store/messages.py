"""Chat messages. Many are written by one statement; see `realtime.log` for who gathers them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
from asyncpg.pgproto import pgproto

from store.database import Connection, Executor, Pool
from store.errors import Refused, translated
from store.events import NO_END, LogEntry
from store.events import append as append_event


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message as it stands. A deleted one keeps its place, with an empty text.

    A struct, not a frozen dataclass, which takes six times as long to make: history makes hundreds for one answer.
    `gc=False`: no cycle can lead through it, so the collector need not be run for it.
    """

    id: UUID
    session_id: UUID
    seq: int
    user_id: str
    sender_name: str
    text: str
    client_id: str | None
    created_at: datetime
    edited_at: datetime | None = None
    deleted: bool = False

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Message:
        return cls(
            id=row["id"],
            session_id=row["session_id"],
            seq=row["seq"],
            user_id=row["user_id"],
            sender_name=row["sender_name"],
            text=row["text"],
            client_id=row["client_id"],
            created_at=row["created_at"],
            edited_at=row["edited_at"],
            deleted=row["deleted_at"] is not None,
        )


class NewMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message to be written. `id` is made by the sender's worker, so that a repeated write is recognised."""

    id: UUID
    session_id: UUID
    user_id: str
    sender_name: str
    text: str
    client_id: str | None


class Appended(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of a :class:`NewMessage`. `repeated`: its `client_id` (or id) was written before."""

    message: Message
    repeated: bool


def new_id() -> UUID:
    """A UUID of version 7 (RFC 9562, 5.7): 74 random bits, which nobody guesses, behind the time in milliseconds, so
    that the index of messages grows at its end."""
    milliseconds, chance = time.time_ns() // 1_000_000, int.from_bytes(os.urandom(10))
    number = milliseconds << 80 | 7 << 76 | (chance >> 62 & 0xFFF) << 64 | 2 << 62 | chance & (1 << 62) - 1
    # asyncpg's own kind of UUID, as rows have it: to hash, to write and to encode it costs a fraction.
    return pgproto.UUID(number.to_bytes(16))


class ChatClosed(Exception):
    """The session takes no more messages: its booking was cancelled, or it is gone."""


#: How often a batch is run because one of its client ids, or of its messages by an attempt believed lost, was
#: committed meanwhile. Each run sees what the run before collided with, so a second collision needs a second
#: writer in that moment.
APPEND_ATTEMPTS: Final = 5
_ID_UNIQUE: Final = "session_messages_pkey"
_CLIENT_ID_UNIQUE: Final = "session_messages_client_id_unique"

# Sessions are locked in the order of their ids, so that two batches never wait for each other in a ring.
# A session's counter stands at place 0, before its messages: sorted, not joined, because a join without a hash table
# (see `store.database.PLANS`) would compare each message with each session. Without a counter, the chat is closed.
_APPEND_TEMPLATE: Final = """
    WITH open AS (
        SELECT s.id, s.last_seq FROM sessions s
        WHERE s.id = ANY($2::uuid[]) AND s.chat_open
        ORDER BY s.id FOR NO KEY UPDATE
    ), input AS (
        SELECT i.*, NULL::bigint AS last_seq
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[])
            WITH ORDINALITY AS i (id, session_id, user_id, sender_name, text, client_id, place)
        {unknown}
    ), numbered AS (
        SELECT *, first_value(last_seq) OVER session + row_number() OVER session - 1 AS seq
        FROM (SELECT NULL, id, NULL, NULL, NULL, NULL, 0, last_seq FROM open UNION ALL TABLE input) i
             (id, session_id, user_id, sender_name, text, client_id, place, last_seq)
        WINDOW session AS (PARTITION BY session_id ORDER BY place)
    ), fresh AS (
        SELECT * FROM numbered WHERE place > 0 AND seq IS NOT NULL
    ), counted AS (
        UPDATE sessions s SET last_seq = f.seq
        FROM (SELECT session_id, max(seq) AS seq FROM fresh GROUP BY session_id) f
        WHERE s.id = f.session_id
    )
    INSERT INTO session_messages (id, session_id, seq, user_id, sender_name, text, client_id, created_at)
    SELECT id, session_id, seq, user_id, sender_name, text, client_id, clock_timestamp() FROM fresh
    RETURNING id, seq, created_at
"""
#: As if every client id were new, which nearly all are: the unique index refuses the batch where one is not.
_APPEND: Final = _APPEND_TEMPLATE.format(unknown="")
#: Leaves out what is known. The LIMIT keeps it a look into the index per message, whatever the planner expects.
_APPEND_UNKNOWN: Final = _APPEND_TEMPLATE.format(
    unknown="""
        WHERE i.client_id IS NULL OR (
            SELECT m.id FROM session_messages m
            WHERE m.session_id = i.session_id AND m.user_id = i.user_id AND m.client_id = i.client_id LIMIT 1
        ) IS NULL
    """
)


async def append(pool: Pool, batch: Sequence[NewMessage], *, again: bool = False) -> list[Appended | ChatClosed]:
    """Write a batch in one transaction; the answer stands at each message's place.

    `again` says that the batch may have been committed by an attempt whose answer was lost: messages whose
    ids are found are not written twice. Raises Refused when a row breaks a constraint (nothing is written).
    """
    attempts, statement = 1, _APPEND
    while True:
        try:
            return await _append(pool, batch, again=again, statement=statement)
        except Refused as refused:
            # Sent before, perhaps only while this statement waited for the session's lock: the next one sees it.
            if refused.constraint not in (_ID_UNIQUE, _CLIENT_ID_UNIQUE) or attempts == APPEND_ATTEMPTS:
                raise
            again = again or refused.constraint == _ID_UNIQUE
            statement = _APPEND_UNKNOWN
            attempts += 1


async def _append(
    pool: Pool, batch: Sequence[NewMessage], *, again: bool, statement: str
) -> list[Appended | ChatClosed]:
    written: dict[UUID, Message] = {}
    if again:
        with translated():
            written = {message.id: message for message in await _by_ids(pool, [new.id for new in batch])}
    fresh, firsts = _without_repeats([new for new in batch if new.id not in written])
    answers: dict[UUID, Appended | ChatClosed] = {
        id: Appended(message=message, repeated=False) for id, message in written.items()
    }
    answers.update(await _append_distinct(pool, fresh, statement))
    for new in batch:
        if new.id not in answers:
            first = answers[firsts[new.id]]
            answers[new.id] = first if isinstance(first, ChatClosed) else Appended(message=first.message, repeated=True)
    return [answers[new.id] for new in batch]


def _without_repeats(batch: Sequence[NewMessage]) -> tuple[list[NewMessage], dict[UUID, UUID]]:
    """The batch with each client id once, and for each repeat the id of the message it repeats."""
    seen: dict[tuple[UUID, str, str], UUID] = {}
    fresh: list[NewMessage] = []
    firsts: dict[UUID, UUID] = {}
    for new in batch:
        if new.client_id is not None:
            first = seen.setdefault((new.session_id, new.user_id, new.client_id), new.id)
            if first != new.id:
                firsts[new.id] = first
                continue
        fresh.append(new)
    return fresh, firsts


async def _append_distinct(
    pool: Pool, batch: Sequence[NewMessage], statement: str
) -> dict[UUID, Appended | ChatClosed]:
    if not batch:
        return {}
    columns = (
        [new.id for new in batch],
        [new.session_id for new in batch],
        [new.user_id for new in batch],
        [new.sender_name for new in batch],
        [new.text for new in batch],
        [new.client_id for new in batch],
    )
    with translated():
        rows = await pool.fetch(statement, *columns)
    answers: dict[UUID, Appended | ChatClosed] = {}
    left = {new.id: new for new in batch}
    for id, seq, created_at in rows:
        new = left.pop(id)
        message = Message(
            id=id,
            session_id=new.session_id,
            seq=seq,
            user_id=new.user_id,
            sender_name=new.sender_name,
            text=new.text,
            client_id=new.client_id,
            created_at=created_at,
        )
        answers[id] = Appended(message=message, repeated=False)
    if left:
        answers.update(await _written_before(pool, list(left.values())))
    return answers


async def _written_before(pool: Pool, left: Sequence[NewMessage]) -> dict[UUID, Appended | ChatClosed]:
    """Messages that were not inserted: their client id is known, or else their chat is closed.

    Known by a message's own id, it was this very message, by an attempt whose answer was lost.
    """
    with translated():
        rows = await pool.fetch(
            """
            SELECT i.id AS asked, m.*
            FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) AS i (id, session_id, user_id, client_id)
            LEFT JOIN session_messages m
                ON m.session_id = i.session_id AND m.user_id = i.user_id AND m.client_id = i.client_id
            """,
            [new.id for new in left],
            [new.session_id for new in left],
            [new.user_id for new in left],
            [new.client_id for new in left],
        )
    return {
        row["asked"]: ChatClosed()
        if row["id"] is None
        else Appended(message=Message.from_row(row), repeated=row["id"] != row["asked"])
        for row in rows
    }


async def _by_ids(executor: Executor, ids: Sequence[UUID]) -> list[Message]:
    rows = await executor.fetch("SELECT * FROM session_messages WHERE id = ANY($1::uuid[])", list(ids))
    return [Message.from_row(row) for row in rows]


async def find(executor: Executor, session_id: UUID, message_id: UUID) -> Message | None:
    with translated():
        row = await executor.fetchrow(
            "SELECT * FROM session_messages WHERE session_id = $1 AND id = $2", session_id, message_id
        )
    return Message.from_row(row) if row else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Messages as they stand when the session's log has reached `last_seq`: it names this state of the history.

    Nothing in a message changes without an event of its session, which takes a `seq`.
    """

    last_seq: int
    messages: Sequence[Message]


_PAGE_TEMPLATE: Final = """
    SELECT s.last_seq, m.*
    FROM sessions s LEFT JOIN LATERAL (
        SELECT * FROM session_messages
        WHERE session_id = s.id AND seq > $2 AND seq < $3 ORDER BY seq {order} LIMIT $4
    ) m ON true
    WHERE s.id = $1 ORDER BY m.seq
"""
_FIRST_MESSAGES: Final = _PAGE_TEMPLATE.format(order="ASC")
_LAST_MESSAGES: Final = _PAGE_TEMPLATE.format(order="DESC")


async def page(
    executor: Executor, session_id: UUID, *, before: int | None, after: int | None, limit: int
) -> Page | None:
    """At most `limit` messages, ascending: the first ones after the cursor `after`, else the newest before `before`.

    None: there is no such session.
    """
    with translated():
        rows = await executor.fetch(
            _LAST_MESSAGES if after is None else _FIRST_MESSAGES,
            session_id,
            after or 0,
            NO_END if before is None else before,
            limit,
        )
    if not rows:
        return None
    # A session without messages here is one row without a message.
    messages = [Message.from_row(row) for row in rows] if rows[0]["id"] is not None else []
    return Page(last_seq=rows[0]["last_seq"], messages=messages)


async def edit(connection: Connection, message: Message, *, text: str, actor_id: str) -> tuple[Message, LogEntry]:
    """Replace the text, and log that it was. Inside the caller's transaction, which holds the session's row."""
    entry = await append_event(
        connection, message.session_id, kind="message_edited", user_id=actor_id, message_id=message.id
    )
    await connection.execute(
        "UPDATE session_messages SET text = $2, edited_at = $3 WHERE id = $1", message.id, text, entry.at
    )
    edited = msgspec.structs.replace(message, text=text, edited_at=entry.at)
    return edited, replace(entry, text=text, edited_at=entry.at)


async def delete(connection: Connection, message: Message, *, actor_id: str) -> tuple[Message, LogEntry]:
    """Take the text away for good, and log that it was. Inside the caller's transaction, as :func:`edit`."""
    entry = await append_event(
        connection, message.session_id, kind="message_deleted", user_id=actor_id, message_id=message.id
    )
    await connection.execute(
        "UPDATE session_messages SET text = '', deleted_at = $2 WHERE id = $1", message.id, entry.at
    )
    return msgspec.structs.replace(message, text="", deleted=True), replace(entry, deleted=True)
