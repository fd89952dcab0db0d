"""People: whom a token makes known, and what of a profile is whose business.

The rules are plain functions on frozen values; :class:`People` spares the database the tokens it has seen.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final
from zoneinfo import ZoneInfo

from domain.errors import BadRequest, Forbidden, NotFound, invalid
from domain.identity import MAX_EMAIL_CHARACTERS, MAX_NAME_CHARACTERS, Identity, Role
from domain.refusals import Meanings, refusals_named
from store import audit, users
from store.database import Executor, Pool
from store.errors import translated
from store.users import ProfileToSave, Saved, User

#: Identities remembered per worker: about 200 bytes each beside the connections' own, so some 2 MiB.
MAX_REMEMBERED: Final = 10_000
#: Longer than the name of any time zone. ZoneInfo walks a path for each part of a name, however many there are.
MAX_TIMEZONE_CHARACTERS: Final = 64
#: What is wrong with an id that stands where a student's or a teacher's should.
NO_STUDENT: Final = "is not the id of a known student"
NO_TEACHER: Final = "is not the id of a known teacher"
#: Seconds that an unchanged token goes without a query. An administrator may have given its bearer another
#: role meanwhile, on another worker; the token's is restored after this time at the latest.
REMEMBERED_SECONDS: Final = 60.0


class People:
    """The bearers of tokens, written to the database just in time and remembered for a while."""

    def __init__(
        self,
        executor: Executor,
        *,
        most: int = MAX_REMEMBERED,
        seconds: float = REMEMBERED_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._executor = executor
        self._most = most
        self._seconds = seconds
        self._clock = clock
        #: Least recently written first: user id → whose token was written, and when.
        self._written: dict[str, tuple[Identity, float]] = {}

    async def remember(self, identity: Identity) -> None:
        """See to it that the bearer's row exists and says what the token says. Raises store.errors.Away."""
        known = self._written.get(identity.user_id)
        if known is not None and self._clock() - known[1] < self._seconds and _says_the_same(known[0], identity):
            return
        await users.upsert_from_token(self._executor, identity)
        self._written.pop(identity.user_id, None)
        self._written[identity.user_id] = (identity, self._clock())
        if len(self._written) > self._most:
            del self._written[next(iter(self._written))]

    def forget(self, user_id: str) -> None:
        """Write this person again with their next request."""
        self._written.pop(user_id, None)


def _says_the_same(one: Identity, other: Identity) -> bool:
    """Whether two tokens of one person say the same of them."""
    return one is other or (one.role, one.first_name, one.last_name, one.email) == (
        other.role,
        other.first_name,
        other.last_name,
        other.email,
    )


def check_is_admin(identity: Identity) -> None:
    """Raise Forbidden for everybody whose token does not say that they are an administrator."""
    if not identity.is_admin:
        raise Forbidden("Only an administrator may do this.")


def may_always_see_email(identity: Identity, user_id: str) -> bool:
    """Oneself and administrators; for others it depends on a shared booking."""
    return identity.is_admin or identity.user_id == user_id


def check_may_save_profile(identity: Identity, user_id: str, role: Role, *, present: User | None) -> None:
    """Raise Forbidden unless `identity` may save the profile of `user_id` with this `role`.

    One's own role is the token's. An administrator gives others a role until their own token says it;
    that of an administrator comes from tokens alone.
    """
    if identity.user_id == user_id:
        if role != identity.role:
            raise _role_mismatch(f"Your token says that your role is {identity.role}, not {role}.")
        return
    if not identity.is_admin:
        raise Forbidden("Only the person themself or an administrator may change a profile.")
    if role == "admin" and (present is None or present.role != "admin"):
        raise _role_mismatch("Nobody is made an administrator here; that comes from the token.")
    if present is not None and present.role == "admin" and role != "admin":
        raise _role_mismatch("An administrator's role comes from the token.")


def _role_mismatch(message: str) -> Forbidden:
    return Forbidden(message, code="role_mismatch")


def check_student_and_teacher(
    student: User | None, teacher: User | None, *, teacher_field: str = "teacher_id"
) -> tuple[User, User]:
    """The student and the teacher. Raises BadRequest naming who is not known as that."""
    if student is not None and student.role != "student":
        student = None
    if teacher is not None and teacher.role != "teacher":
        teacher = None
    if student is not None and teacher is not None:
        return student, teacher
    problems = {"student_id": NO_STUDENT} if student is None else {}
    if teacher is None:
        problems[teacher_field] = NO_TEACHER
    raise invalid(problems)


def check_may_set_parent(identity: Identity, user_id: str, role: Role) -> None:
    """Raise unless `identity` may say who the parent of `user_id` is: a student for themself, or an admin."""
    if role != "student":
        raise invalid({"profile_data.parent_id": "only a student has a parent"})
    if not identity.is_admin and identity.user_id != user_id:
        raise Forbidden("Only the student themself or an administrator names the parent.")


async def save_profile(pool: Pool, identity: Identity, profile: ProfileToSave) -> Saved:
    """Make or change a profile; that of somebody else stands in the audit log.

    A parent whom an administrator names needs not accept it. Raises Forbidden, or BadRequest for a parent who is none.
    """
    present = await users.find(pool, profile.user_id)
    check_may_save_profile(identity, profile.user_id, profile.role, present=present)
    if profile.parent_id is not None:
        check_may_set_parent(identity, profile.user_id, profile.role)
        check_parent(await users.find(pool, profile.parent_id), profile.user_id)
    with refusals_named(_REFUSALS), translated():
        async with pool.acquire() as connection, connection.transaction():
            saved = await users.save_profile(connection, replace(profile, accepts_parent=identity.is_admin))
            if identity.user_id != profile.user_id:
                await audit.append(
                    connection,
                    actor_id=identity.user_id,
                    action="profile_saved",
                    subject=profile.user_id,
                    details=_as_noted(saved),
                )
            return saved


def _as_noted(saved: Saved) -> dict[str, Any]:
    """What the audit log tells of a saved profile: `parent_id` where it is another one now."""
    before, after = saved.before, saved.user
    details: dict[str, Any] = {"role": after.role, "is_new": before is None}
    if after.parent_id != (None if before is None else before.parent_id):
        details["parent_id"] = after.parent_id
    return details


async def accept_child(executor: Executor, identity: Identity, student_id: str) -> User:
    """Say that one is the parent of a student who says so. Raises NotFound for anybody else."""
    child = await users.accept_child(executor, identity.user_id, student_id)
    if child is None:
        raise unknown_child()
    return child


async def leave_child(executor: Executor, identity: Identity, student_id: str) -> None:
    """Be the parent of a student no longer. Raises NotFound where one was not."""
    if not await users.leave_child(executor, identity.user_id, student_id):
        raise unknown_child()


def unknown_child() -> NotFound:
    return NotFound("No student of this id names you as their parent.", code="child_not_found")


def concerned(saved: Saved) -> set[str]:
    """Whose name, role or memberships are not what they were, once a profile is saved."""
    before, after = saved.before, saved.user
    if before is None:
        return set()
    people: set[str | None] = set()
    if (before.name, before.role) != (after.name, after.role):
        people.add(after.id)
    if before.parent_id != after.parent_id:
        people |= {after.id, before.parent_id, after.parent_id}
    return {user_id for user_id in people if user_id is not None}


def check_parent(parent: User | None, user_id: str) -> None:
    """Raise BadRequest unless `parent` exists, is a parent, and somebody else."""
    if parent is None or parent.role != "parent" or parent.id == user_id:
        raise _no_parent()


def _no_parent() -> BadRequest:
    return invalid({"profile_data.parent_id": "is not the id of a known user with the role parent"})


_REFUSALS: Final[Meanings] = {users.PARENT_EXISTS: _no_parent, users.NOT_OWN_PARENT: _no_parent}


def name_problem(name: str) -> str | None:
    """What is wrong with a trimmed name, or None."""
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS:
        return f"must have 1 to {MAX_NAME_CHARACTERS} characters"
    return None


# No grammar of addresses: one @ between two parts without white space, which catches slips of the pen.
_PLAUSIBLE_EMAIL: Final = re.compile(r"[^\s@]+@[^\s@]+")


def email_problem(email: str) -> str | None:
    """What is wrong with an e-mail address, or None."""
    if len(email) > MAX_EMAIL_CHARACTERS:
        return f"must have at most {MAX_EMAIL_CHARACTERS} characters"
    if not _PLAUSIBLE_EMAIL.fullmatch(email) or not email.isprintable():
        return "must be an e-mail address, such as ada@example.org"
    return None


def timezone_problem(timezone: str) -> str | None:
    """What is wrong with the name of a time zone, or None."""
    if len(timezone) > MAX_TIMEZONE_CHARACTERS:
        return f"must have at most {MAX_TIMEZONE_CHARACTERS} characters"
    try:
        # Not zoneinfo.available_timezones(): that walks the whole file tree each time.
        ZoneInfo(timezone)
    except (LookupError, ValueError, OSError):
        return "must be an IANA time zone, such as Europe/Berlin"
    return None
