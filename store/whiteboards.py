"""Whiteboards: the winning version of each element, and one counter per board that says what came after what.

Whoever draws first takes the board's row and keeps it until commit. So `revision` has no gaps, and when one can be
read, every earlier one can be read, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from store.database import Connection, Executor
from store.errors import translated
from store.loader import shared

#: Elements of one revision at most, whether they were drawn or cleared: a page of a board ends between revisions.
MAX_REVISION_ELEMENTS: Final = 500
#: Bytes of the elements in one revision at most.
MAX_REVISION_BYTES: Final = 64 * 1024
#: Elements, and their bytes, in one page. Even with the JSON around them they are a fraction of what may be unsent.
PAGE_ELEMENTS: Final = 2_000
PAGE_BYTES: Final = 256 * 1024
#: How long a deleted element is remembered at least, so that whoever comes back with it learns that it is gone. As
#: long as Excalidraw itself remembers (its DELETED_ELEMENT_TIMEOUT).
TOMBSTONE_AGE: Final = timedelta(days=1)


class Version(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which version of an element it is. `size` is its bytes as JSON; 0 for one that a clear took away."""

    id: str
    version: int
    nonce: int
    deleted: bool
    size: int


class Element(Version, frozen=True, kw_only=True, gc=False):
    """An Excalidraw element. `json` is all of it, as it was sent; None for one that a clear took away."""

    json: bytes | None

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Element:
        element = row["element"]
        return cls(
            id=row["element_id"],
            version=row["version"],
            nonce=row["version_nonce"],
            deleted=row["deleted"],
            size=row["bytes"],
            json=None if element is None else element.encode(),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """A board as it stands. `elements` and `bytes` count deleted ones, too.

    `locked`: only the host draws. `closed`: nobody does, the booking was cancelled.
    """

    session_id: UUID
    revision: int
    elements: int
    bytes: int
    locked: bool = False
    closed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Elements in the order of their revisions, up to `revision`; whether there are `more` behind it."""

    elements: Sequence[Element]
    revision: int
    more: bool


# In the order of the ids, so that two batches never wait for each other in a ring: made or found, a row is locked.
_TAKE: Final = """
    INSERT INTO whiteboards AS b (session_id)
    SELECT id FROM sessions WHERE id = ANY($1::uuid[]) ORDER BY id
    ON CONFLICT (session_id) DO UPDATE SET revision = b.revision
    RETURNING session_id, revision, elements, bytes
"""
# A statement of its own behind the lock: it sees what was committed while that was waited for.
_HELD: Final = """
    SELECT i.session_id, s.whiteboard_locked, NOT s.chat_open AS closed,
           e.element_id, e.version, e.version_nonce, e.deleted, e.bytes
    FROM unnest($1::uuid[], $2::text[]) AS i (session_id, element_id)
    JOIN sessions s ON s.id = i.session_id
    LEFT JOIN whiteboard_elements e ON e.session_id = i.session_id AND e.element_id = i.element_id
"""
# The condition is the rule of `domain.whiteboard.wins`.
_SAVE: Final = """
    WITH saved AS (
        INSERT INTO whiteboard_elements AS e
            (session_id, element_id, version, version_nonce, deleted, element, bytes, revision, changed_at)
        SELECT i.session_id, i.element_id, i.version, i.version_nonce, i.deleted, i.element::json, i.bytes, i.revision,
               clock_timestamp()
        FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::boolean[], $6::text[], $7::integer[],
                    $8::bigint[])
            AS i (session_id, element_id, version, version_nonce, deleted, element, bytes, revision)
        ON CONFLICT (session_id, element_id) DO UPDATE SET
            version = excluded.version, version_nonce = excluded.version_nonce, deleted = excluded.deleted,
            element = excluded.element, bytes = excluded.bytes, revision = excluded.revision,
            changed_at = excluded.changed_at
        WHERE excluded.version > e.version
            OR (excluded.version = e.version AND excluded.version_nonce < e.version_nonce)
    )
    UPDATE whiteboards b SET revision = i.revision, elements = i.elements, bytes = i.bytes
    FROM unnest($9::uuid[], $10::bigint[], $11::integer[], $12::integer[]) AS i (session_id, revision, elements, bytes)
    WHERE b.session_id = i.session_id
"""


async def take(
    connection: Connection, touched: Collection[tuple[UUID, str]]
) -> tuple[dict[UUID, Board], dict[UUID, dict[str, Version]]]:
    """The boards of these elements (session, id), kept for this transaction; and what they have of the elements.

    A session that is not there has no board.
    """
    rows = await connection.fetch(_TAKE, list({session_id for session_id, _ in touched}))
    counted = {row["session_id"]: row for row in rows}
    boards: dict[UUID, Board] = {}
    held: dict[UUID, dict[str, Version]] = {session_id: {} for session_id in counted}
    rows = await connection.fetch(
        _HELD, [session_id for session_id, _ in touched], [element_id for _, element_id in touched]
    )
    for row in rows:
        session_id = row["session_id"]
        if session_id not in counted:
            continue  # made between the two statements
        if session_id not in boards:
            boards[session_id] = Board(
                session_id=session_id,
                revision=counted[session_id]["revision"],
                elements=counted[session_id]["elements"],
                bytes=counted[session_id]["bytes"],
                locked=row["whiteboard_locked"],
                closed=row["closed"],
            )
        if row["element_id"] is not None:
            held[session_id][row["element_id"]] = Version(
                id=row["element_id"],
                version=row["version"],
                nonce=row["version_nonce"],
                deleted=row["deleted"],
                size=row["bytes"],
            )
    return boards, held


async def hold(connection: Connection, session_id: UUID) -> None:
    """Have whoever draws in this session wait until the transaction's end: they see then what it has changed.

    To be called before the session's row is taken: boards come first.
    """
    await connection.execute(_TAKE, [session_id])


async def save(
    connection: Connection, boards: Collection[Board], drawn: Mapping[tuple[UUID, str], tuple[Element, int]]
) -> None:
    """Write the boards and what was drawn on them, each element with its revision. In :func:`take`'s transaction."""
    elements = [(session_id, element, revision) for (session_id, _), (element, revision) in drawn.items()]
    await connection.execute(
        _SAVE,
        [session_id for session_id, _, _ in elements],
        [element.id for _, element, _ in elements],
        [element.version for _, element, _ in elements],
        [element.nonce for _, element, _ in elements],
        [element.deleted for _, element, _ in elements],
        [None if element.json is None else element.json.decode() for _, element, _ in elements],
        [element.size for _, element, _ in elements],
        [revision for _, _, revision in elements],
        [board.session_id for board in boards],
        [board.revision for board in boards],
        [board.elements for board in boards],
        [board.bytes for board in boards],
    )


async def find(connection: Connection, wanted: Collection[tuple[UUID, str]]) -> dict[tuple[UUID, str], Element]:
    """These elements (session, id), as far as they are there."""
    rows = await connection.fetch(
        """
        SELECT e.session_id, e.element_id, e.version, e.version_nonce, e.deleted, e.bytes, e.element
        FROM unnest($1::uuid[], $2::text[]) AS i (session_id, element_id)
        JOIN whiteboard_elements e ON e.session_id = i.session_id AND e.element_id = i.element_id
        """,
        [session_id for session_id, _ in wanted],
        [element_id for _, element_id in wanted],
    )
    return {(row["session_id"], row["element_id"]): Element.from_row(row) for row in rows}


_FORGET: Final = """
    DELETE FROM whiteboard_elements WHERE session_id = $1 AND deleted AND changed_at < now() - $2::interval
"""
# Those that were deleted before keep their version, and with it everybody's agreement on them.
_EMPTY: Final = """
    UPDATE whiteboard_elements SET element = NULL, bytes = 0 WHERE session_id = $1 AND deleted AND element IS NOT NULL
"""
# As if they were new: so each is found by its key, whatever plan is made for the rest.
_CLEAR: Final = """
    INSERT INTO whiteboard_elements AS e
        (session_id, element_id, version, version_nonce, deleted, element, bytes, revision, changed_at)
    SELECT session_id, element_id, version + 1, 0, true, NULL, 0,
           $2::bigint + 1 + (row_number() OVER (ORDER BY revision, element_id) - 1) / $3, clock_timestamp()
    FROM whiteboard_elements WHERE session_id = $1 AND NOT deleted
    ON CONFLICT (session_id, element_id) DO UPDATE SET
        version = excluded.version, version_nonce = excluded.version_nonce, deleted = excluded.deleted,
        element = excluded.element, bytes = excluded.bytes, revision = excluded.revision,
        changed_at = excluded.changed_at
    RETURNING e.revision
"""
_RECOUNT: Final = """
    UPDATE whiteboards SET revision = $2, bytes = 0,
        elements = (SELECT count(*) FROM whiteboard_elements WHERE session_id = $1)
    WHERE session_id = $1
"""


_FORGET_AND_COUNT: Final = """
    WITH gone AS (
        DELETE FROM whiteboard_elements WHERE session_id = $1 AND deleted AND changed_at < now() - $2::interval
        RETURNING bytes
    )
    UPDATE whiteboards SET elements = elements - g.number, bytes = bytes - g.size
    FROM (SELECT count(*)::integer AS number, coalesce(sum(bytes), 0)::integer AS size FROM gone) g
    WHERE session_id = $1 AND g.number > 0
    RETURNING session_id
"""


async def forget(connection: Connection, session_id: UUID) -> bool:
    """Forget what was deleted more than TOMBSTONE_AGE ago; whether there was any. In :func:`take`'s transaction."""
    return await connection.fetchval(_FORGET_AND_COUNT, session_id, TOMBSTONE_AGE) is not None


async def clear(connection: Connection, session_id: UUID) -> int | None:
    """Delete all elements: each is remembered as deleted, by a version of its own that is newer. Inside a transaction.

    Those deleted more than TOMBSTONE_AGE ago are forgotten. The board's revision afterwards; None: it was empty.
    """
    rows = await connection.fetch(_TAKE, [session_id])
    if not rows:
        return None
    revision: int = rows[0]["revision"]
    await connection.execute(_FORGET, session_id, TOMBSTONE_AGE)
    await connection.execute(_EMPTY, session_id)
    cleared = await connection.fetch(_CLEAR, session_id, revision, MAX_REVISION_ELEMENTS)
    last: int = max((row["revision"] for row in cleared), default=revision)
    await connection.execute(_RECOUNT, session_id, last)
    return last if cleared else None


# Running totals by revision: those of one revision stand or fall together. `found` counts what was looked at, whether
# it is shown or not.
_PAGE_TEMPLATE: Final = """
    SELECT coalesce(b.revision, 0) AS newest, p.*
    FROM (SELECT (SELECT revision FROM whiteboards WHERE session_id = $1) AS revision) b
    LEFT JOIN LATERAL (
        SELECT element_id, version, version_nonce, deleted, bytes, revision, found,
               CASE WHEN total <= $3 THEN element END AS element, total <= $3 AS fits
        FROM (
            SELECT *, sum(bytes) OVER (ORDER BY revision) AS total, count(*) OVER () AS found
            FROM (
                SELECT * FROM whiteboard_elements WHERE session_id = $1 AND revision > $2 {which}
                ORDER BY revision LIMIT $4
            ) e
        ) e
    ) p ON p.fits
    ORDER BY p.revision, p.element_id
"""
_LIVING: Final = _PAGE_TEMPLATE.format(which="AND NOT deleted")
_CHANGED: Final = _PAGE_TEMPLATE.format(which="")


async def page(executor: Executor, session_id: UUID, *, after: int | None) -> Page:
    """What is on the board: without `after` the elements that are not deleted, from the first on; with it all that
    changed after that revision, deleted ones among them. PAGE_ELEMENTS and PAGE_BYTES at most.
    """
    with translated():
        rows = await executor.fetch(
            _LIVING if after is None else _CHANGED, session_id, after or 0, PAGE_BYTES, PAGE_ELEMENTS + 1
        )
    newest: int = rows[0]["newest"]
    if rows[0]["element_id"] is None:
        return Page(elements=(), revision=newest, more=False)
    found = rows[0]["found"]
    if found > PAGE_ELEMENTS:
        # The last revision may have been cut in the middle.
        cut = rows[-1]["revision"] if len(rows) == found else None
        rows = [row for row in rows if row["revision"] != cut]
    more = len(rows) < found
    return Page(
        elements=[Element.from_row(row) for row in rows],
        revision=rows[-1]["revision"] if more else newest,
        more=more,
    )


async def revision(executor: Executor, session_id: UUID) -> int:
    """How far the board has come; 0: nothing was ever drawn."""
    return await shared(executor, _revisions, session_id)


async def _revisions(executor: Executor, session_ids: Sequence[UUID]) -> list[int]:
    found = await revisions(executor, session_ids)
    return [found.get(session_id, 0) for session_id in session_ids]


async def revisions(executor: Executor, session_ids: Iterable[UUID]) -> dict[UUID, int]:
    """How far each of the sessions' boards has come, as far as they have one."""
    with translated():
        rows = await executor.fetch(
            "SELECT session_id, revision FROM whiteboards WHERE session_id = ANY($1::uuid[])", list(session_ids)
        )
    return {row["session_id"]: row["revision"] for row in rows}
