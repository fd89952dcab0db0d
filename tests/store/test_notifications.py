"""Notifications: said once, kept for each of those whom they go to, handed on to a course batch by batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import notifications
from store.database import Pool
from store.errors import Refused, translated
from store.ids import first_id, new_id
from store.notifications import Batch, Kind, Notification
from tests.support.lessons import ROLES, database_pool, make_course, until_somebody_waits
from tests.support.plans import indexes_in, plan_of

NOW = datetime(2030, 1, 7, 9, 0, 0, 120_000, tzinfo=UTC)
DAY, MILLISECOND = timedelta(days=1), timedelta(milliseconds=1)
#: Notifications of one millisecond are in no order.
_milliseconds = count()


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


def said(
    title: str = "A lesson was booked",
    *,
    kind: Kind = "booking_created",
    created_at: datetime = NOW,
    notification_id: UUID | None = None,
    **data: Any,
) -> Notification:
    return Notification(
        id=notification_id or first_id(NOW + next(_milliseconds) * MILLISECOND),
        kind=kind,
        title=title,
        body="Kid",
        data=data,
        created_at=created_at,
    )


async def add(pool: Pool, *told: tuple[Notification, Sequence[str]]) -> None:
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            await notifications.add(connection, told)


async def add_for_enrolled(pool: Pool, course_id: UUID, *, limit: int, but: str | None = None) -> Batch:
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            return await notifications.add_for_enrolled(connection, said(), course_id, but=but, limit=limit)


async def listed(pool: Pool, who: str, **which: Any) -> list[str]:
    page = await notifications.page(pool, who, **{"limit": 100, **which})
    return [received.notification.title for received in page.received]


async def students(pool: Pool, number: int) -> list[str]:
    """So many, in the order of their ids."""
    ids = sorted(f"student-{uuid4()}" for _ in range(number))
    await pool.executemany("INSERT INTO users (id, role) VALUES ($1, 'student')", [(user_id,) for user_id in ids])
    return ids


async def test_what_is_said_is_kept_for_each_person_as_it_was_said(pool: Pool) -> None:
    lesson_id = uuid4()
    one = said("one", booking_id=lesson_id, start_time=NOW, many=[lesson_id], nothing=None)
    two = said("two", kind="allocation")
    await add(pool, (one, ["kid", "teach", "kid"]), (two, ["teach"]))
    page = await notifications.page(pool, "teach", limit=10)
    assert [(r.notification.id, r.notification.kind, r.read) for r in page.received] == [
        (two.id, "allocation", False),
        (one.id, "booking_created", False),
    ]
    assert page.unread == 2
    first = page.received[1].notification
    assert (first.title, first.body, first.created_at) == ("one", "Kid", NOW)
    assert first.data == {
        "booking_id": str(lesson_id),
        "start_time": "2030-01-07T09:00:00.120000Z",
        "many": [str(lesson_id)],
        "nothing": None,
    }
    assert await listed(pool, "kid") == ["one"]
    assert await pool.fetchval("SELECT count(*) FROM notifications") == 2


async def test_who_is_not_known_is_left_out(pool: Pool) -> None:
    await add(pool, (said(), ["nobody", "kid"]), (said(), ["nobody"]))
    rows = await pool.fetch("SELECT user_id FROM notification_recipients")
    assert [row["user_id"] for row in rows] == ["kid"]


async def test_a_kind_that_nobody_knows_is_refused(pool: Pool) -> None:
    kind: Any = "gossip"
    with pytest.raises(Refused) as refused:
        await add(pool, (said(kind=kind), ["kid"]))
    assert refused.value.constraint == "notifications_kind_known"


async def test_what_is_rolled_back_was_not_said(pool: Pool) -> None:
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await notifications.add(connection, [(said(), ["kid"])])
        await transaction.rollback()
    assert await listed(pool, "kid") == []


async def test_who_has_none_has_an_empty_list(pool: Pool) -> None:
    await add(pool, (said(), ["kid"]))
    page = await notifications.page(pool, "mum", limit=10)
    assert (page.received, page.unread) == ([], 0)


async def test_the_list_goes_back_in_time_behind_a_cursor(pool: Pool) -> None:
    told = [said(f"{number}", notification_id=first_id(NOW + number * DAY)) for number in range(5)]
    await add(pool, *((one, ["kid"]) for one in told))
    assert await listed(pool, "kid", limit=2) == ["4", "3"]
    assert await listed(pool, "kid", limit=2, before=told[3].id) == ["2", "1"]
    assert await listed(pool, "kid", before=told[0].id) == []
    assert await listed(pool, "kid", before=first_id(NOW + timedelta(hours=30))) == ["1", "0"]


async def test_what_was_read_leaves_the_unread_and_comes_back_when_it_is_taken_back(pool: Pool) -> None:
    one, two = said("one"), said("two")
    await add(pool, (one, ["kid", "teach"]), (two, ["kid"]))
    for changed in (True, False):
        marked = await notifications.mark(pool, "kid", one.id, read=True)
        assert marked is not None
        assert (marked.changed, marked.received.read, marked.received.notification.title) == (changed, True, "one")
    assert await listed(pool, "kid", only_unread=True) == ["two"]
    assert (await notifications.page(pool, "kid", limit=1)).unread == 1
    assert await listed(pool, "teach", only_unread=True) == ["one"]
    for changed in (True, False):
        marked = await notifications.mark(pool, "kid", one.id, read=False)
        assert marked is not None
        assert (marked.changed, marked.received.read) == (changed, False)
    assert await listed(pool, "kid", only_unread=True) == ["two", "one"]


async def test_nobody_marks_what_is_anothers(pool: Pool) -> None:
    one = said()
    await add(pool, (one, ["kid"]))
    assert await notifications.mark(pool, "teach", one.id, read=True) is None
    assert await notifications.mark(pool, "kid", new_id(), read=True) is None
    assert await listed(pool, "kid", only_unread=True) == [one.title]


async def test_all_are_read_at_once_and_only_ones_own(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "MARKED_AT_A_TIME", 2)
    await add(pool, *((said(), ["kid", "teach"]) for _ in range(5)))
    assert await notifications.mark_all_read(pool, "kid") == 5
    assert await notifications.mark_all_read(pool, "kid") == 0
    assert await listed(pool, "kid", only_unread=True) == []
    assert (await notifications.page(pool, "teach", limit=1)).unread == 5


async def test_devices_that_read_all_at_once_count_each_notification_once(pool: Pool) -> None:
    await add(pool, *((said(), ["kid"]) for _ in range(50)))
    assert sum(await asyncio.gather(*(notifications.mark_all_read(pool, "kid") for _ in range(8)))) == 50


async def test_many_unread_are_counted_up_to_a_bound(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    bounded = notifications._PAGE.replace(f"LIMIT {notifications.MAX_COUNTED}", "LIMIT 3")
    monkeypatch.setattr(notifications, "_PAGE", bounded)
    await add(pool, *((said(), ["kid"]) for _ in range(5)))
    page = await notifications.page(pool, "kid", limit=10)
    assert (page.unread, len(page.received)) == (3, 5)


# To a course


async def test_a_small_course_is_told_in_one_piece(pool: Pool) -> None:
    ids = await students(pool, 3)
    course_id = await make_course(pool, students=ids)
    batch = await add_for_enrolled(pool, course_id, limit=4)
    assert (batch.user_ids, batch.last) == (ids, True)
    assert await notifications.hand_on(pool, limit=4) is None
    assert [await listed(pool, who) for who in ids] == [[batch.notification.title]] * 3
    assert await listed(pool, "teach") == []


async def test_an_empty_course_is_told_nothing(pool: Pool) -> None:
    batch = await add_for_enrolled(pool, await make_course(pool), limit=4)
    assert (batch.user_ids, batch.last) == ([], True)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(enrolled=st.integers(0, 12), limit=st.integers(1, 5), but=st.integers(0, 12), hands=st.integers(1, 3))
async def test_everybody_enrolled_is_told_once_however_it_is_cut(
    pool: Pool, enrolled: int, limit: int, but: int, hands: int
) -> None:
    """`hands` take batches at once; `but` is the number of the one who is left out, if there are so many."""
    ids = await students(pool, enrolled)
    course_id = await make_course(pool, students=ids)
    left_out = ids[but] if but < enrolled else None

    async def take() -> list[str]:
        taken: list[str] = []
        while (batch := await notifications.hand_on(pool, limit=limit)) is not None:
            assert len(batch.user_ids) <= limit
            assert batch.notification.id == first.notification.id
            taken += batch.user_ids
        return taken

    first = await add_for_enrolled(pool, course_id, limit=limit, but=left_out)
    taken = [*first.user_ids]
    for others in await asyncio.gather(*(take() for _ in range(hands))):
        taken += others
    # Whoever found the row taken went away; whoever holds it goes on to the end.
    assert sorted(taken) == [user_id for user_id in ids if user_id != left_out]
    rows = await pool.fetch(
        'SELECT user_id FROM notification_recipients WHERE notification_id = $1 ORDER BY user_id COLLATE "C"',
        first.notification.id,
    )
    assert [row["user_id"] for row in rows] == sorted(taken)
    assert await pool.fetchval("SELECT count(*) FROM notification_handouts") == 0


async def test_a_batch_that_is_not_committed_is_taken_by_the_next(pool: Pool) -> None:
    ids = await students(pool, 5)
    await add_for_enrolled(pool, await make_course(pool, students=ids), limit=2)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM notification_handouts FOR UPDATE")
        assert await notifications.hand_on(pool, limit=2) is None
    for expected, last in ((ids[2:4], False), (ids[4:], True)):
        batch = await notifications.hand_on(pool, limit=2)
        assert batch is not None
        assert (batch.user_ids, batch.last) == (expected, last)


async def test_the_oldest_goes_first(pool: Pool) -> None:
    ids = await students(pool, 4)
    course_id = await make_course(pool, students=ids)
    first = await add_for_enrolled(pool, course_id, limit=2)
    second = await add_for_enrolled(pool, course_id, limit=2)
    order = []
    while (batch := await notifications.hand_on(pool, limit=2)) is not None:
        order.append(batch.notification.id)
    assert order == [first.notification.id] * 2 + [second.notification.id] * 2


async def test_who_left_the_course_meanwhile_is_told_no_more(pool: Pool) -> None:
    ids = await students(pool, 4)
    course_id = await make_course(pool, students=ids)
    await add_for_enrolled(pool, course_id, limit=2)
    await pool.execute("DELETE FROM enrollments WHERE user_id = $1", ids[2])
    batch = await notifications.hand_on(pool, limit=2)
    assert batch is not None
    assert (batch.user_ids, batch.last) == ([ids[3]], True)


# To forget


async def test_what_is_old_is_deleted_in_pieces_and_nothing_else(pool: Pool) -> None:
    old = [said("old", notification_id=first_id(NOW - DAY - timedelta(hours=hour))) for hour in range(5)]
    fresh = said("fresh", notification_id=first_id(NOW))
    await add(pool, *((one, ["kid", "teach", "mum"]) for one in old), (fresh, ["kid"]))
    pieces = []
    while rows := await notifications.forget(pool, before=NOW, limit=4):
        assert rows <= 8
        pieces.append(rows)
    assert sum(pieces) == 5 + 15
    assert [await listed(pool, who) for who in ("kid", "teach", "mum")] == [["fresh"], [], []]
    assert await pool.fetchval("SELECT count(*) FROM notifications") == 1


async def test_many_who_forget_at_once_delete_each_row_once(pool: Pool) -> None:
    for number in range(40):
        await add(pool, (said(notification_id=first_id(NOW - number * DAY)), ["kid", "mum"]))

    async def forget() -> int:
        total = 0
        while rows := await notifications.forget(pool, before=NOW + DAY, limit=7):
            total += rows
        return total

    total = sum(await asyncio.gather(*(forget() for _ in range(4))))
    while rows := await notifications.forget(pool, before=NOW + DAY, limit=7):
        total += rows
    assert total == 120


async def test_an_old_one_that_half_a_course_has_is_forgotten_with_its_rest(pool: Pool) -> None:
    ids = await students(pool, 3)
    batch = await add_for_enrolled(pool, await make_course(pool, students=ids), limit=2)
    assert await notifications.forget(pool, before=NOW + DAY, limit=10) == 3
    assert await notifications.hand_on(pool, limit=2) is None
    assert [await listed(pool, who) for who in batch.user_ids] == [[], []]


async def test_to_forget_takes_rows_in_the_order_in_which_a_person_reads_them(pool: Pool) -> None:
    """Each has one and waits for the other's, were it another order."""
    first, second = (said(notification_id=first_id(NOW - number * DAY)) for number in (2, 1))
    await add(pool, (second, ["kid"]))
    await add(pool, (first, ["kid"]))
    async with pool.acquire() as reading, reading.transaction():
        await notifications.mark(reading, "kid", first.id, read=True)
        forgetting = asyncio.create_task(notifications.forget(pool, before=NOW, limit=10))
        await until_somebody_waits(pool)
        await reading.execute("SET LOCAL lock_timeout = '1s'")
        assert await notifications.mark_all_read(reading, "kid") == 1
    assert await forgetting == 4


async def test_notifications_go_on_inside_transactions_when_a_column_is_added(database: str) -> None:
    async with database_pool(database, size=1) as pool, database_pool(database, size=1) as migrating:
        course_id = await make_course(pool, students=await students(pool, 4))
        one = said()
        await add(pool, (one, ["kid"]))
        await add_for_enrolled(pool, course_id, limit=1)
        for column in (None, "of_a_later_release"):
            if column is not None:
                await migrating.execute(f"ALTER TABLE notifications ADD COLUMN {column} int")
            assert await notifications.hand_on(pool, limit=1) is not None
            async with pool.acquire() as connection, connection.transaction():
                assert await notifications.mark(connection, "kid", one.id, read=True) is not None
                assert len((await notifications.page(connection, "kid", limit=10)).received) == 1


# By which indexes


@pytest.mark.parametrize("number", [0, 300])
@pytest.mark.parametrize(
    ("statement", "arguments", "indexes"),
    [
        (
            notifications._PAGE,
            3,
            {"notification_recipients_unread", "notification_recipients_pkey", "notifications_pkey"},
        ),
        (notifications._UNREAD_PAGE, 3, {"notification_recipients_unread", "notifications_pkey"}),
        (notifications._MARK_ALL_READ, 2, {"notification_recipients_unread", "notification_recipients_pkey"}),
        (notifications._NEXT_ENROLLED, 5, {"enrollments_pkey"}),
        (
            notifications._FORGET_RECIPIENTS,
            2,
            {"notification_recipients_by_notification", "notification_recipients_pkey"},
        ),
    ],
    ids=["all", "unread", "mark-all", "course", "forget"],
)
async def test_a_persons_or_a_courses_rows_are_found_by_their_own_index(
    pool: Pool, statement: str, arguments: int, indexes: set[str], number: int
) -> None:
    """A plan that is made while there are few rows is kept while they become many."""
    if number:
        await add(pool, *((said(), list(ROLES)) for _ in range(number)))
        for _ in range(5):
            await make_course(pool, students=await students(pool, number // 5))
        await pool.execute("ANALYZE notifications, notification_recipients, enrollments")
    async with pool.acquire() as connection:
        plan = await plan_of(connection, statement, arguments)
    assert "Seq Scan" not in plan
    assert indexes_in(plan) == indexes, plan
