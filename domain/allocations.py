"""Allocations: an administrator gives a student a tutor for a subject, and takes them away again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from domain import notifications, people
from domain.errors import NotFound, invalid
from domain.identity import Identity
from domain.live import Live
from domain.notifications import Told
from store import allocations, audit, users
from store.database import Connection, Pool
from store.errors import Refused, translated
from store.users import User

_NO_STUDENT: Final = {"student_id": "is not the id of a known student"}
_NO_TUTOR: Final = {"tutor_id": "is not the id of a known teacher"}
#: Somebody may have been removed since they were looked up.
_REFUSALS: Final[Mapping[str, Mapping[str, str]]] = {
    allocations.STUDENT_EXISTS: _NO_STUDENT,
    allocations.TUTOR_EXISTS: _NO_TUTOR,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class NewAllocation:
    """Whom an administrator brings together, for what."""

    student_id: str
    tutor_id: str
    subject_id: str


def check_people(student: User | None, tutor: User | None) -> tuple[User, User]:
    """The student and the tutor. Raises BadRequest naming who is not known as a student, or as a teacher."""
    if student is not None and student.role != "student":
        student = None
    if tutor is not None and tutor.role != "teacher":
        tutor = None
    if student is not None and tutor is not None:
        return student, tutor
    raise invalid((_NO_STUDENT if student is None else {}) | (_NO_TUTOR if tutor is None else {}))


async def assign(live: Live, identity: Identity, new: NewAllocation) -> tuple[UUID, bool]:
    """Give a student a tutor, who is told of it: the allocation's id, and whether it is new. Again: nothing happens.

    Raises Forbidden, or BadRequest naming the people who are not known as that.
    """
    people.check_is_admin(identity)
    student, tutor = check_people(
        await users.find(live.pool, new.student_id), await users.find(live.pool, new.tutor_id)
    )
    told: list[Told] = []
    try:
        with translated():
            async with live.pool.acquire() as connection, connection.transaction():
                allocation_id, is_new = await allocations.insert(
                    connection,
                    student_id=new.student_id,
                    tutor_id=new.tutor_id,
                    subject_id=new.subject_id,
                    created_by=identity.user_id,
                )
                if is_new:
                    told = [await _tell_tutor(connection, allocation_id, student, tutor, new.subject_id)]
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
    except Refused as refused:
        if refused.constraint in _REFUSALS:
            raise invalid(_REFUSALS[refused.constraint]) from refused
        raise
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
