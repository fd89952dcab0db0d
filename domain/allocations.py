"""Allocations: an administrator gives a student a tutor for a subject, and takes them away again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from domain import notifications, people
from domain.errors import NotFound, invalid
from domain.identity import Identity
from domain.live import Live
from domain.notifications import Told
from domain.refusals import Meanings, refusals_named
from store import allocations, audit, users
from store.database import Connection, Pool
from store.errors import translated
from store.users import User

#: Somebody may have been removed since they were looked up.
_REFUSALS: Final[Meanings] = {
    allocations.STUDENT_EXISTS: lambda: invalid({"student_id": people.NO_STUDENT}),
    allocations.TUTOR_EXISTS: lambda: invalid({"tutor_id": people.NO_TEACHER}),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class NewAllocation:
    """Whom an administrator brings together, for what."""

    student_id: str
    tutor_id: str
    subject_id: str


async def assign(live: Live, identity: Identity, new: NewAllocation) -> tuple[UUID, bool]:
    """Give a student a tutor, who is told of it: the allocation's id, and whether it is new. Again: nothing happens.

    Raises Forbidden, or BadRequest naming the people who are not known as that.
    """
    people.check_is_admin(identity)
    student, tutor = people.check_student_and_teacher(
        await users.find(live.pool, new.student_id),
        await users.find(live.pool, new.tutor_id),
        teacher_field="tutor_id",
    )
    told: list[Told] = []
    with refusals_named(_REFUSALS), translated():
        async with live.pool.acquire() as connection, connection.transaction():
            allocation_id, is_new = await allocations.insert(
                connection,
                student_id=new.student_id,
                tutor_id=new.tutor_id,
                subject_id=new.subject_id,
                created_by=identity.user_id,
            )
            if is_new:
                told.append(await _tell_tutor(connection, allocation_id, student, tutor, new.subject_id))
                await audit.append(
                    connection,
                    actor_id=identity.user_id,
                    action="tutor_assigned",
                    subject=new.student_id,
                    details={
                        "allocation_id": allocation_id,
                        "tutor_id": new.tutor_id,
                        "subject_id": new.subject_id,
                    },
                )
    notifications.push(live, *told)
    return allocation_id, is_new


async def _tell_tutor(connection: Connection, allocation_id: UUID, student: User, tutor: User, subject_id: str) -> Told:
    return await notifications.to_people(
        connection,
        [tutor.id],
        kind="allocation",
        title="You have a new student",
        body=f"{student.name or student.id}: {subject_id}",
        data={"allocation_id": allocation_id, "student_id": student.id, "subject_id": subject_id},
    )


async def unassign(pool: Pool, identity: Identity, allocation_id: UUID) -> None:
    """End an allocation. Raises Forbidden, NotFound."""
    people.check_is_admin(identity)
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            ended = await allocations.delete(connection, allocation_id)
            if ended is None:
                raise unknown_allocation()
            await audit.append(
                connection,
                actor_id=identity.user_id,
                action="tutor_unassigned",
                subject=ended.student_id,
                details={
                    "allocation_id": allocation_id,
                    "tutor_id": ended.tutor_id,
                    "subject_id": ended.subject_id,
                },
            )


def unknown_allocation() -> NotFound:
    return NotFound("There is no such allocation.", code="allocation_not_found")
