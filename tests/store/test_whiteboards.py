"""Whiteboards in the database: the winning versions, counted, in the order of their revisions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from store import whiteboards
from store.database import Pool
from store.whiteboards import MAX_REVISION_ELEMENTS, PAGE_BYTES, PAGE_ELEMENTS, TOMBSTONE_AGE, Board, Element
from tests.support.drawings import GONE, assert_counted, elements, stored, stroke
from tests.support.lessons import book, close_chat, database_pool, until_somebody_waits
from tests.support.plans import indexes_in, plan_of


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database, size=10) as pool:
        yield pool


async def put(pool: Pool, session_id: UUID, *raw: dict[str, Any]) -> int:
    """Draw these in one revision, whatever rules there are; the revision."""
    drawn = elements(*raw)
    async with pool.acquire() as connection, connection.transaction():
        boards, held = await whiteboards.take(connection, [(session_id, element.id) for element in drawn])
        board, there = boards[session_id], held[session_id]
        after = Board(
            session_id=session_id,
            revision=board.revision + 1,
            elements=board.elements + sum(element.id not in there for element in drawn),
            bytes=board.bytes + sum(e.size - (there[e.id].size if e.id in there else 0) for e in drawn),
        )
        changed = {(session_id, element.id): (element, after.revision) for element in drawn}
        await whiteboards.save(connection, [after], changed)
    return after.revision


async def clear(pool: Pool, session_id: UUID) -> int | None:
    async with pool.acquire() as connection, connection.transaction():
        return await whiteboards.clear(connection, session_id)


async def ids_on(pool: Pool, session_id: UUID, after: int | None = None) -> list[str]:
    """Over all pages."""
    ids: list[str] = []
    more = True
    while more:
        page = await whiteboards.page(pool, session_id, after=after)
        ids += [element.id for element in page.elements]
        more, after = page.more, page.revision
    return ids


async def test_an_element_is_found_as_it_was_sent(pool: Pool) -> None:
    session_id = await book(pool)
    raw = stroke("ünï", 3, 4, isDeleted=False, x=1e300, y=-0.0, z=1.0, customData={"b": 1, "a": [None, "\x7f"]})
    assert await put(pool, session_id, raw) == 1
    page = await whiteboards.page(pool, session_id, after=None)
    assert page.elements == elements(raw)
    assert (page.revision, page.more) == (1, False)
    assert await stored(pool, session_id) == {"ünï": raw}
    async with pool.acquire() as connection:
        found = await whiteboards.find(connection, [(session_id, "ünï"), (session_id, "other"), (uuid4(), "ünï")])
    assert found == {(session_id, "ünï"): elements(raw)[0]}
    await assert_counted(pool, session_id)


async def test_a_board_that_nobody_drew_on_is_empty(pool: Pool) -> None:
    session_id = await book(pool)
    for after in (None, 0, 7):
        page = await whiteboards.page(pool, session_id, after=after)
        assert (page.elements, page.revision, page.more) == ((), 0, False)
    assert await whiteboards.revision(pool, session_id) == 0
    assert await whiteboards.revisions(pool, [session_id]) == {}


async def test_taking_a_board_tells_what_it_has_and_what_holds_there(pool: Pool) -> None:
    one, other = await book(pool), await book(pool)
    await put(pool, one, stroke("a", 2, 7))
    await pool.execute("UPDATE sessions SET whiteboard_locked = true WHERE id = $1", one)
    await close_chat(pool, other)
    nowhere = uuid4()
    async with pool.acquire() as connection, connection.transaction():
        boards, held = await whiteboards.take(connection, [(one, "a"), (one, "b"), (other, "a"), (nowhere, "a")])
    assert set(boards) == set(held) == {one, other}
    assert (boards[one].revision, boards[one].elements, boards[one].locked, boards[one].closed) == (1, 1, True, False)
    assert (boards[other].revision, boards[other].locked, boards[other].closed) == (0, False, True)
    assert [(v.id, v.version, v.nonce) for v in held[one].values()] == [("a", 2, 7)]
    assert held[other] == {}


async def test_the_database_itself_keeps_the_winning_version(pool: Pool) -> None:
    session_id = await book(pool)
    await put(pool, session_id, stroke("a", 2, 5, look="first"))
    for loser in (stroke("a", 1, 1), stroke("a", 2, 6), stroke("a", 2, 5, look="another")):
        await put(pool, session_id, loser)
        assert (await stored(pool, session_id))["a"]["look"] == "first"
    for winner in (stroke("a", 2, 4), stroke("a", 3, 9)):
        await put(pool, session_id, winner)
        assert await stored(pool, session_id) == {"a": winner}


async def test_many_boards_are_written_by_one_statement(pool: Pool) -> None:
    sessions = [await book(pool) for _ in range(5)]
    [element] = elements(stroke("a"))
    async with pool.acquire() as connection, connection.transaction():
        boards, _ = await whiteboards.take(connection, [(session_id, "a") for session_id in sessions])
        after = [
            Board(session_id=board.session_id, revision=1, elements=1, bytes=element.size) for board in boards.values()
        ]
        await whiteboards.save(connection, after, {(session_id, "a"): (element, 1) for session_id in sessions})
    for session_id in sessions:
        await assert_counted(pool, session_id)
    assert await whiteboards.revisions(pool, sessions) == dict.fromkeys(sessions, 1)


async def test_whoever_takes_a_board_keeps_it_until_commit(pool: Pool) -> None:
    session_id = await book(pool)
    async with pool.acquire() as connection, connection.transaction():
        await whiteboards.take(connection, [(session_id, "a")])
        waiting = asyncio.create_task(put(pool, session_id, stroke("b")))
        await until_somebody_waits(pool)
        # The chat goes on.
        await pool.execute("UPDATE sessions SET last_seq = last_seq + 1 WHERE id = $1", session_id)
        assert not waiting.done()
    assert await waiting == 1


async def test_two_that_take_the_same_boards_in_different_orders_do_not_wait_in_a_ring(pool: Pool) -> None:
    sessions = [await book(pool) for _ in range(20)]

    async def draw(number: int) -> None:
        order = sessions if number % 2 else sessions[::-1]
        async with pool.acquire() as connection, connection.transaction():
            await whiteboards.take(connection, [(session_id, f"{number}") for session_id in order])

    await asyncio.gather(*(draw(number) for number in range(30)))


async def test_without_a_revision_one_gets_what_lives_and_with_it_all_that_changed(pool: Pool) -> None:
    session_id = await book(pool)
    await put(pool, session_id, stroke("a"), stroke("b"))
    await put(pool, session_id, stroke("c"))
    await put(pool, session_id, stroke("a", 2, isDeleted=True))
    assert await ids_on(pool, session_id) == ["b", "c"]
    assert await ids_on(pool, session_id, after=0) == ["b", "c", "a"]
    assert await ids_on(pool, session_id, after=2) == ["a"]
    assert await ids_on(pool, session_id, after=3) == []
    assert await ids_on(pool, await book(pool)) == [], "another board is another board"


async def test_pages_end_between_revisions_and_bring_everything_once(pool: Pool) -> None:
    session_id = await book(pool)
    drawn = [f"{n:05}" for n in range(2 * PAGE_ELEMENTS + 321)]
    for start in range(0, len(drawn), 430):
        await put(pool, session_id, *(stroke(id) for id in drawn[start : start + 430]))
    for after in (None, 0):
        first = await whiteboards.page(pool, session_id, after=after)
        assert first.more
        assert len(first.elements) <= PAGE_ELEMENTS
        assert len(first.elements) % 430 == 0
        assert await ids_on(pool, session_id, after=after) == drawn


async def test_exactly_one_page_is_all_there_is(pool: Pool) -> None:
    session_id = await book(pool)
    for start in range(0, PAGE_ELEMENTS, MAX_REVISION_ELEMENTS):
        await put(pool, session_id, *(stroke(f"{start + n}") for n in range(MAX_REVISION_ELEMENTS)))
    page = await whiteboards.page(pool, session_id, after=None)
    assert (len(page.elements), page.more) == (PAGE_ELEMENTS, False)


async def test_a_page_is_bounded_by_its_bytes(pool: Pool) -> None:
    session_id = await book(pool)
    for n in range(12):
        await put(pool, session_id, stroke(f"{n:02}", text="x" * 50_000))
    page = await whiteboards.page(pool, session_id, after=None)
    assert 0 < sum(element.size for element in page.elements) <= PAGE_BYTES
    assert page.more
    assert await ids_on(pool, session_id) == [f"{n:02}" for n in range(12)]


async def test_what_is_drawn_between_two_pages_comes_with_the_later_one(pool: Pool) -> None:
    session_id = await book(pool)
    for n in range(8):
        await put(pool, session_id, stroke(f"{n}", text="x" * 50_000))
    first = await whiteboards.page(pool, session_id, after=None)
    await put(pool, session_id, stroke("0", 2, isDeleted=True))
    await put(pool, session_id, stroke("7", 2))
    rest = await ids_on(pool, session_id, after=first.revision)
    assert rest[-2:] == ["0", "7"]
    assert {element.id for element in first.elements} | set(rest) == {f"{n}" for n in range(8)}


async def test_a_clear_deletes_everything_by_newer_versions(pool: Pool) -> None:
    session_id = await book(pool)
    await put(pool, session_id, stroke("a", 5, 6), stroke("b", 1, 1))
    await put(pool, session_id, stroke("c", 3, 9, isDeleted=True))
    assert await clear(pool, session_id) == 3
    assert await stored(pool, session_id) == {"a": GONE, "b": GONE, "c": GONE}
    page = await whiteboards.page(pool, session_id, after=2)
    gone = [Element(id=id, version=v, nonce=0, deleted=True, size=0, json=None) for id, v in (("a", 6), ("b", 2))]
    assert page.elements == gone
    # What was deleted before keeps its version: everybody agrees on it already.
    async with pool.acquire() as connection:
        found = await whiteboards.find(connection, [(session_id, "c")])
    assert found[session_id, "c"] == Element(id="c", version=3, nonce=9, deleted=True, size=0, json=None)
    assert await ids_on(pool, session_id) == []
    await assert_counted(pool, session_id)
    row = await pool.fetchrow("SELECT elements, bytes FROM whiteboards WHERE session_id = $1", session_id)
    assert row is not None
    assert tuple(row) == (3, 0)


async def test_an_empty_board_is_not_cleared(pool: Pool) -> None:
    session_id = await book(pool)
    assert await clear(pool, session_id) is None
    await put(pool, session_id, stroke("a"))
    assert await clear(pool, session_id) == 2
    assert await clear(pool, session_id) is None
    assert await whiteboards.revision(pool, session_id) == 2
    assert await clear(pool, uuid4()) is None


async def test_a_clear_of_much_is_read_page_by_page(pool: Pool) -> None:
    session_id = await book(pool)
    for start in range(0, 3_000, MAX_REVISION_ELEMENTS):
        await put(pool, session_id, *(stroke(f"{start + n:05}") for n in range(MAX_REVISION_ELEMENTS)))
    assert await clear(pool, session_id) == 12
    assert await ids_on(pool, session_id, after=6) == [f"{n:05}" for n in range(3_000)]


async def test_what_was_deleted_long_ago_is_forgotten_by_the_next_clear(pool: Pool) -> None:
    session_id = await book(pool)
    await put(pool, session_id, stroke("old"), stroke("new"))
    await clear(pool, session_id)
    await pool.execute(
        "UPDATE whiteboard_elements SET changed_at = now() - $1::interval WHERE element_id = 'old'",
        2 * TOMBSTONE_AGE,
    )
    assert await clear(pool, session_id) is None
    assert await stored(pool, session_id) == {"new": GONE}
    await assert_counted(pool, session_id)
    # The newest revision may have gone with them: whoever reads on comes to an end all the same.
    await pool.execute("UPDATE whiteboard_elements SET changed_at = now() - $1::interval", 2 * TOMBSTONE_AGE)
    await clear(pool, session_id)
    assert await ids_on(pool, session_id, after=0) == []


STATEMENTS = {
    "held": (whiteboards._HELD, 2, {"sessions_pkey", "whiteboard_elements_pkey"}),
    "living": (whiteboards._LIVING, 4, {"whiteboards_pkey", "whiteboard_elements_in_order"}),
    "changed": (whiteboards._CHANGED, 4, {"whiteboards_pkey", "whiteboard_elements_in_order"}),
}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_board_among_many_is_found_by_its_indexes(pool: Pool, name: str) -> None:
    statement, arguments, indexes = STATEMENTS[name]
    async with pool.acquire() as connection:
        plan = await plan_of(connection, statement, arguments)
    assert "Seq Scan" not in plan
    assert indexes_in(plan) == indexes, plan


async def test_the_largest_board_is_cleared_in_a_moment(pool: Pool) -> None:
    """Each element is looked up by its key: a plan that compared each with each would take minutes."""
    session_id = await book(pool)
    await put(pool, session_id, stroke("first"))
    await pool.execute(
        """
        INSERT INTO whiteboard_elements
            (session_id, element_id, version, version_nonce, deleted, element, bytes, revision)
        SELECT $1, n::text, 1, 1, false, '{}', 2, 1 FROM generate_series(1, 20000) n
        """,
        session_id,
    )
    async with asyncio.timeout(30):
        assert await clear(pool, session_id) == 42
    assert len(await ids_on(pool, session_id, after=1)) == 20_001
    await assert_counted(pool, session_id)
