"""Chat messages. Many are written by one statement; see `realtime.log` for who gathers them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from store import chat_rules
from store.chat_rules import NotTaken, Writer
from store.database import Connection, Executor, Pool
from store.errors import Deadlocked, Refused, translated
from store.events import NO_END, LogEntry
from store.events import append as append_event


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message as it stands. A deleted one keeps its place, with an empty text. `reactions`: how many people reacted
    with which emoji; None: nobody.

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
    reactions: Mapping[str, int] | None = None

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
            reactions=row["reactions"],
        )


# Named one by one: a migration that adds a column would end what workers have prepared, in the middle of transactions.
_MESSAGE: Final = """
    m.id, m.session_id, m.seq, m.user_id, m.sender_name, m.text, m.client_id, m.created_at, m.edited_at, m.deleted_at,
    m.reactions
"""
_SELECT_MESSAGE: Final = f"SELECT {_MESSAGE} FROM session_messages m"


class NewMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message to be written. `id` is made by the sender's worker, so that a repeated write is recognised.

    `is_host`: its author writes also where the host has muted the chat, and as often as they like.
    """

    id: UUID
    session_id: UUID
    user_id: str
    sender_name: str
    text: str
    client_id: str | None
    is_host: bool = False


class Appended(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of a :class:`NewMessage`. `repeated`: its `client_id` (or id) was written before."""

    message: Message
    repeated: bool


#: How often a batch is run because one of its client ids, or of its messages by an attempt believed lost, was
#: committed meanwhile. Each run sees what the run before collided with, so a second collision needs a second
#: writer in that moment.
APPEND_ATTEMPTS: Final = 5
#: Deadlocks after which a batch is given up, and seconds for which it stays away after each of those before.
DEADLOCKS: Final = 3
GIVE_WAY_SECONDS: Final = 0.05
_ID_UNIQUE: Final = "session_messages_pkey"
_CLIENT_ID_UNIQUE: Final = "session_messages_client_id_unique"

# A session's row is gone to once, by the UPDATE that locks it, too: who locks it first and then goes to it again in the
# same statement begins anew at the version of the statement's snapshot, where others wait by now, for the lock that
# they hold. Sessions come in the order of their ids, so that two batches never wait for each other in a ring: sorted,
# and looked up one by one, as there is no other join than a nested loop (see `store.database.PLANS`).
# A session's counter stands at place 0, before its messages: sorted, not joined, because such a join would compare each
# message with each session. Without a counter, the chat is closed, or restricted by its host.
_APPEND_TEMPLATE: Final = """
    WITH input AS (
        SELECT i.*, NULL::bigint AS last_seq
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[])
            WITH ORDINALITY AS i (id, session_id, user_id, sender_name, text, client_id, place)
        {unknown}
    ), counted AS (
        UPDATE sessions s SET last_seq = s.last_seq + c.messages
        FROM (SELECT session_id, count(*) AS messages FROM input GROUP BY session_id ORDER BY session_id) c
        WHERE s.id = c.session_id AND s.chat_open {freely}
        RETURNING s.id, s.last_seq - c.messages AS last_seq
    ), numbered AS (
        SELECT *, first_value(last_seq) OVER session + row_number() OVER session - 1 AS seq
        FROM (SELECT NULL, id, NULL, NULL, NULL, NULL, 0, last_seq FROM counted UNION ALL TABLE input) i
             (id, session_id, user_id, sender_name, text, client_id, place, last_seq)
        WINDOW session AS (PARTITION BY session_id ORDER BY place)
    )
    INSERT INTO session_messages (id, session_id, seq, user_id, sender_name, text, client_id, created_at)
    SELECT id, session_id, seq, user_id, sender_name, text, client_id, clock_timestamp()
    FROM numbered WHERE place > 0 AND seq IS NOT NULL
    RETURNING id, seq, created_at
"""
#: Where nobody has to be asked who writes: nearly everywhere, and so it costs nothing there that somewhere they must.
_FREELY: Final = "AND NOT s.chat_muted AND s.slow_mode_seconds = 0"
#: As if every client id were new, which nearly all are: the unique index refuses the batch where one is not.
_APPEND: Final = _APPEND_TEMPLATE.format(freely=_FREELY, unknown="")
#: Leaves out what is known. The LIMIT keeps it a look into the index per message, whatever the planner expects.
_APPEND_UNKNOWN: Final = _APPEND_TEMPLATE.format(
    freely=_FREELY,
    unknown="""
        WHERE i.client_id IS NULL OR (
            SELECT m.id FROM session_messages m
            WHERE m.session_id = i.session_id AND m.user_id = i.user_id AND m.client_id = i.client_id LIMIT 1
        ) IS NULL
    """,
)
#: Of those whom `store.chat_rules` has let write.
_APPEND_ADMITTED: Final = _APPEND_TEMPLATE.format(freely="", unknown="")


async def append(pool: Pool, batch: Sequence[NewMessage], *, again: bool = False) -> list[Appended | NotTaken]:
    """Write a batch; the answer stands at each message's place. One statement writes it, and where hosts restrict
    their chats, a second transaction what those take; messages of one session are written together.

    `again` says that the batch may have been committed by an attempt whose answer was lost: messages whose
    ids are found are not written twice. Raises Refused when a row breaks a constraint (nothing of its session is
    written; what others have, the next try finds by its ids).
    """
    attempts, statement, gave_way = 1, _APPEND, 0
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
        except Deadlocked:
            gave_way += 1
            if gave_way == DEADLOCKS:
                raise
            # A lock goes to whoever asks first when it is free, not to whoever waits: they have to wake up before.
            await asyncio.sleep(GIVE_WAY_SECONDS)
            again = True  # what was written before, of other sessions, is found by its ids


async def _append(pool: Pool, batch: Sequence[NewMessage], *, again: bool, statement: str) -> list[Appended | NotTaken]:
    written: dict[UUID, Message] = {}
    if again:
        with translated():
            written = {message.id: message for message in await by_ids(pool, [new.id for new in batch])}
    fresh, firsts = _without_repeats([new for new in batch if new.id not in written])
    answers: dict[UUID, Appended | NotTaken] = {
        id: Appended(message=message, repeated=False) for id, message in written.items()
    }
    answers.update(await _append_distinct(pool, fresh, statement))
    for new in batch:
        if new.id not in answers:
            first = answers[firsts[new.id]]
            answers[new.id] = first if isinstance(first, NotTaken) else Appended(message=first.message, repeated=True)
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


async def _append_distinct(pool: Pool, batch: Sequence[NewMessage], statement: str) -> dict[UUID, Appended | NotTaken]:
    if not batch:
        return {}
    with translated():
        rows = await pool.fetch(statement, *_columns(batch))
    answers, left = _answered(batch, rows)
    if left:
        answers.update(await _written_before(pool, left))
        left = [new for new in left if new.id not in answers]
    if left:
        answers.update(await _append_restricted(pool, left))
    return answers


async def _append_restricted(pool: Pool, batch: Sequence[NewMessage]) -> dict[UUID, Appended | NotTaken]:
    """Messages that were not inserted freely: each is refused, or written as the rules of its chat let it."""
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            rules = await chat_rules.locked(connection, [new.session_id for new in batch])
            # An attempt believed lost may have been committed while this one waited for its locks.
            known = await by_ids(connection, [new.id for new in batch])
            answers: dict[UUID, Appended | NotTaken] = {
                message.id: Appended(message=message, repeated=False) for message in known
            }
            answers.update(await _written_before(connection, [new for new in batch if new.id not in answers]))
            asking = [new for new in batch if new.id not in answers]
            writers = [Writer(session_id=new.session_id, user_id=new.user_id, is_host=new.is_host) for new in asking]
            verdicts = await chat_rules.admit(connection, rules, writers)
            admitted = []
            for new, refusal in zip(asking, verdicts, strict=True):
                if refusal is None:
                    admitted.append(new)
                else:
                    answers[new.id] = refusal
            rows = await connection.fetch(_APPEND_ADMITTED, *_columns(admitted)) if admitted else []
    written, left = _answered(admitted, rows)
    assert not left, "their sessions' rows were held"
    return answers | written


def _columns(batch: Sequence[NewMessage]) -> tuple[list[Any], ...]:
    return (
        [new.id for new in batch],
        [new.session_id for new in batch],
        [new.user_id for new in batch],
        [new.sender_name for new in batch],
        [new.text for new in batch],
        [new.client_id for new in batch],
    )


def _answered(
    batch: Sequence[NewMessage], rows: Sequence[asyncpg.Record]
) -> tuple[dict[UUID, Appended | NotTaken], list[NewMessage]]:
    """The messages that a statement has inserted (`rows`), and those that it has not."""
    answers: dict[UUID, Appended | NotTaken] = {}
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
    return answers, list(left.values())


async def _written_before(executor: Executor, left: Sequence[NewMessage]) -> dict[UUID, Appended | NotTaken]:
    """Those of the messages whose client id is known: they were written before.

    Known by a message's own id, it was this very message, by an attempt whose answer was lost.
    """
    with translated():
        rows = await executor.fetch(
            f"""
            SELECT i.id AS asked, {_MESSAGE}
            FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) AS i (id, session_id, user_id, client_id)
            JOIN session_messages m
                ON m.session_id = i.session_id AND m.user_id = i.user_id AND m.client_id = i.client_id
            """,
            [new.id for new in left],
            [new.session_id for new in left],
            [new.user_id for new in left],
            [new.client_id for new in left],
        )
    return {row["asked"]: Appended(message=Message.from_row(row), repeated=row["id"] != row["asked"]) for row in rows}


async def by_ids(executor: Executor, ids: Collection[UUID]) -> list[Message]:
    """Those of these messages that are there, of whichever sessions."""
    rows = await executor.fetch(f"{_SELECT_MESSAGE} WHERE m.id = ANY($1::uuid[])", list(ids))
    return [Message.from_row(row) for row in rows]


async def find(executor: Executor, session_id: UUID, message_id: UUID) -> Message | None:
    with translated():
        row = await executor.fetchrow(
            f"{_SELECT_MESSAGE} WHERE m.session_id = $1 AND m.id = $2", session_id, message_id
        )
    return Message.from_row(row) if row else None


async def find_sent(executor: Executor, session_id: UUID, user_id: str, client_id: str) -> Message | None:
    """The message that this person has sent under this client id."""
    with translated():
        row = await executor.fetchrow(
            f"{_SELECT_MESSAGE} WHERE m.session_id = $1 AND m.user_id = $2 AND m.client_id = $3",
            session_id,
            user_id,
            client_id,
        )
    return Message.from_row(row) if row else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Messages as they stand when the session's log has reached `last_seq`: it names this state of the history.

    Nothing in a message changes without an event of its session, which takes a `seq`.
    """

    last_seq: int
    messages: Sequence[Message]


_PAGE_TEMPLATE: Final = f"""
    SELECT s.last_seq, {_MESSAGE}
    FROM sessions s LEFT JOIN LATERAL (
        {_SELECT_MESSAGE} WHERE m.session_id = s.id AND m.seq > $2 AND m.seq < $3 ORDER BY m.seq {{order}} LIMIT $4
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
    """Take the text and the reactions away for good, and log that it was. Inside the caller's transaction, as
    :func:`edit`."""
    entry = await append_event(
        connection, message.session_id, kind="message_deleted", user_id=actor_id, message_id=message.id
    )
    await connection.execute(
        "UPDATE session_messages SET text = '', deleted_at = $2, reactions = NULL WHERE id = $1", message.id, entry.at
    )
    if message.reactions:
        await connection.execute("DELETE FROM message_reactions WHERE message_id = $1", message.id)
    deleted = msgspec.structs.replace(message, text="", deleted=True, reactions=None)
    return deleted, replace(entry, deleted=True)
