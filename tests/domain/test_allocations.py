"""Giving a student a tutor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from domain import allocations, people
from domain.allocations import NewAllocation
from domain.errors import BadRequest, Forbidden, NotFound
from domain.live import Live
from store import allocations as store
from store import audit, notifications
from store.database import Pool
from store.users import User
from tests.domain.test_booking_rules import user
from tests.support.lessons import database_pool, identity
from tests.support.rooms import Seat, workers

MATHS = NewAllocation(student_id="kid", tutor_id="teach", subject_id="Maths")


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


@pytest.fixture
async def live(pool: Pool) -> AsyncIterator[Live]:
    async with workers(pool, 1) as (live,):
        yield live


@pytest.mark.parametrize(
    ("student", "tutor", "wrong"),
    [
        (None, user("t", "teacher"), ["student_id"]),
        (user("s", "parent"), user("t", "teacher"), ["student_id"]),
        (user("s", "student"), None, ["tutor_id"]),
        (user("s", "student"), user("t", "admin"), ["tutor_id"]),
        (user("t", "teacher"), user("s", "student"), ["student_id", "tutor_id"]),
    ],
)
def test_a_student_and_a_teacher_are_brought_together(
    student: User | None, tutor: User | None, wrong: list[str]
) -> None:
    with pytest.raises(BadRequest) as refusal:
        people.check_student_and_teacher(student, tutor, teacher_field="tutor_id")
    assert list(refusal.value.fields or {}) == wrong


async def test_an_admin_assigns_a_tutor_who_is_told_once(live: Live) -> None:
    seat = Seat("teach")
    live.audience.attend(seat.connection)
    made, is_new = await allocations.assign(live, identity("boss"), MATHS)
    assert is_new
    assert await allocations.assign(live, identity("boss"), MATHS) == (made, False)
    told = await seat.events.wait_for("notification")
    assert told["kind"] == "allocation"
    assert told["data"] == {"allocation_id": str(made), "student_id": "kid", "subject_id": "Maths"}
    [received] = (await notifications.page(live.pool, "teach", limit=10)).received
    assert str(received.notification.id) == told["id"]
    assert [received.event for received in seat.events.all] == ["notification"]


async def test_what_an_admin_assigns_and_ends_is_in_the_audit_log(live: Live) -> None:
    made, _ = await allocations.assign(live, identity("boss"), MATHS)
    await allocations.assign(live, identity("boss"), MATHS)
    await allocations.unassign(live.pool, identity("boss"), made)
    details = {"allocation_id": str(made), "tutor_id": "teach", "subject_id": "Maths"}
    entries = await audit.newest(live.pool, limit=10)
    assert [(entry.actor_id, entry.action, entry.subject, entry.details) for entry in entries] == [
        ("boss", "tutor_unassigned", "kid", details),
        ("boss", "tutor_assigned", "kid", details),
    ]


async def test_nobody_else_assigns_or_ends(live: Live) -> None:
    made, _ = await allocations.assign(live, identity("boss"), MATHS)
    for who in ("teach", "kid", "mum"):
        with pytest.raises(Forbidden):
            await allocations.assign(live, identity(who), MATHS)
        with pytest.raises(Forbidden):
            await allocations.unassign(live.pool, identity(who), made)
    assert len(await store.newest(live.pool, limit=10)) == 1


async def test_what_is_not_there_does_not_end(live: Live) -> None:
    with pytest.raises(NotFound):
        await allocations.unassign(live.pool, identity("boss"), uuid4())
    assert await audit.newest(live.pool, limit=10) == []


async def test_somebody_removed_meanwhile_is_named(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    async def known(_executor: object, user_id: str) -> User:
        return user(user_id, "teacher" if user_id == "ghost" else "student")

    monkeypatch.setattr("store.users.find", known)
    ghost = NewAllocation(student_id="kid", tutor_id="ghost", subject_id="Maths")
    with pytest.raises(BadRequest) as refusal:
        await allocations.assign(live, identity("boss"), ghost)
    assert list(refusal.value.fields or {}) == ["tutor_id"]
