"""People: made from their token's claims on first use, then described by their profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

import asyncpg

from store.database import Executor
from store.errors import translated
from store.loader import shared

Role = Literal["student", "parent", "teacher", "admin"]

#: Constraints that a profile can offend.
PARENT_EXISTS: Final = "users_parent_exists"
NOT_OWN_PARENT: Final = "users_not_own_parent"

if TYPE_CHECKING:
    from typing import Protocol

    class Claims(Protocol):
        """What a verified token says of its bearer; `domain.identity.Identity` is one."""

        @property
        def user_id(self) -> str: ...
        @property
        def role(self) -> Role: ...
        @property
        def first_name(self) -> str: ...
        @property
        def last_name(self) -> str: ...
        @property
        def email(self) -> str | None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """A person. `name_set`, `email_set`: set here, so that the token's no longer replaces it.

    `parent_accepted`: the parent, or an administrator, has said so, too; until then it is the student's word alone.
    """

    id: str
    role: Role
    first_name: str
    last_name: str
    email: str | None
    bio: str
    topics: Sequence[str]
    subjects: Sequence[str]
    timezone: str
    parent_id: str | None
    parent_accepted: bool
    name_set: bool
    email_set: bool
    created_at: datetime
    updated_at: datetime

    @property
    def name(self) -> str:
        return f"{self.first_name} {self.last_name}".strip()

    @property
    def accepted_parent_id(self) -> str | None:
        """The parent who is one by more than the student's word."""
        return self.parent_id if self.parent_accepted else None

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> User:
        return cls(**{name: row[name] for name in cls.__slots__})


_COLUMNS: Final = ", ".join(f"u.{name}" for name in User.__slots__)

# The first branch is all that runs for tokens that say nothing new: a read by primary key, no lock. The
# second writes whatever the token says on top of what stands, also on a row that another worker made between.
# A token without a name or an e-mail says nothing of them, and takes nothing away.
_UPSERT: Final = f"""
    WITH token AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
            AS t (id, role, first_name, last_name, email)
    ), current AS (
        SELECT {_COLUMNS} FROM users u JOIN token t USING (id)
        WHERE u.role = t.role
            AND (u.name_set OR (t.first_name = '' AND t.last_name = '')
                OR (u.first_name, u.last_name) IS NOT DISTINCT FROM (t.first_name, t.last_name))
            AND (u.email_set OR t.email IS NULL OR u.email IS NOT DISTINCT FROM t.email)
    ), written AS (
        INSERT INTO users AS u (id, role, first_name, last_name, email)
        SELECT * FROM token t WHERE NOT EXISTS (SELECT FROM current c WHERE c.id = t.id) ORDER BY id
        ON CONFLICT (id) DO UPDATE SET
            role = excluded.role,
            first_name = CASE WHEN u.name_set OR (excluded.first_name = '' AND excluded.last_name = '')
                              THEN u.first_name ELSE excluded.first_name END,
            last_name = CASE WHEN u.name_set OR (excluded.first_name = '' AND excluded.last_name = '')
                             THEN u.last_name ELSE excluded.last_name END,
            email = CASE WHEN u.email_set OR excluded.email IS NULL THEN u.email ELSE excluded.email END,
            updated_at = now()
        RETURNING {_COLUMNS}
    )
    SELECT * FROM current UNION ALL SELECT * FROM written
"""


async def upsert_from_token(executor: Executor, claims: Claims) -> User:
    """The bearer's row, made or refreshed from the token; nothing is written when it says nothing new.

    The role is always the token's. The name is the token's until a profile sets it, and so is the e-mail. Of two
    tokens of one person at the same time the later one counts, for both.
    """
    said = (claims.user_id, claims.role, claims.first_name, claims.last_name, claims.email)
    return await shared(executor, _upsert_from_tokens, said)


#: What a token says: id, role, first and last name, e-mail.
_Said = tuple[str, Role, str, str, str | None]


async def _upsert_from_tokens(executor: Executor, tokens: Sequence[_Said]) -> list[User]:
    # One of each person: a row can be written once in a statement.
    last = {said[0]: said for said in tokens}
    with translated():
        rows = await executor.fetch(_UPSERT, *(list(column) for column in zip(*last.values(), strict=True)))
    found = {row["id"]: User.from_row(row) for row in rows}
    return [found[said[0]] for said in tokens]


async def find(executor: Executor, user_id: str) -> User | None:
    with translated():
        row = await executor.fetchrow(f"SELECT {_COLUMNS} FROM users u WHERE id = $1", user_id)
    return User.from_row(row) if row else None


async def names_of(executor: Executor, user_ids: Sequence[str]) -> dict[str, str]:
    """What these people are called, by their ids; whoever has no name by their id. Only those who are known."""
    with translated():
        rows = await executor.fetch(
            """
            SELECT id, coalesce(nullif(trim(first_name || ' ' || last_name), ''), id) AS name
            FROM users WHERE id = ANY ($1::text[])
            """,
            user_ids,
        )
    return {row["id"]: row["name"] for row in rows}


async def children_of(executor: Executor, parent_id: str, *, limit: int) -> list[User]:
    """The first `limit` students who name this parent: first those whom the parent has accepted, then by name."""
    with translated():
        rows = await executor.fetch(
            f"""
            SELECT {_COLUMNS} FROM users u WHERE parent_id = $1
            ORDER BY parent_accepted DESC, first_name, last_name, id LIMIT $2
            """,
            parent_id,
            limit,
        )
    return [User.from_row(row) for row in rows]


async def accept_child(executor: Executor, parent_id: str, student_id: str) -> User | None:
    """Note that a parent says, too, that they are the student's. The student; None where it is another, or nobody."""
    with translated():
        row = await executor.fetchrow(
            f"UPDATE users u SET parent_accepted = true WHERE id = $1 AND parent_id = $2 RETURNING {_COLUMNS}",
            student_id,
            parent_id,
        )
    return User.from_row(row) if row else None


async def leave_child(executor: Executor, parent_id: str, student_id: str) -> bool:
    """Have the student name no parent any more, if it is this one. Whether it was."""
    with translated():
        row = await executor.fetchrow(
            """
            UPDATE users SET parent_id = NULL, parent_accepted = false WHERE id = $1 AND parent_id = $2 RETURNING id
            """,
            student_id,
            parent_id,
        )
    return row is not None


async def share_a_booking(executor: Executor, reader: str, person: str) -> bool:
    """Whether both are people of one booking: its student, teacher, parent, or the student's parent.

    As the `person`, whose address may be shown then, the student's parent counts only once accepted: a student could
    name anybody. As the `reader` they count from the start: what they see is the student's to show.
    """
    with translated():
        found: bool = await executor.fetchval(
            """
            SELECT EXISTS (
                SELECT FROM bookings b JOIN users s ON s.id = b.student_id
                WHERE b.id IN (
                    SELECT id FROM bookings WHERE student_id = $1 OR teacher_id = $1 OR parent_id = $1
                    UNION ALL
                    SELECT b.id FROM bookings b JOIN users c ON c.id = b.student_id WHERE c.parent_id = $1
                ) AND $2 IN (
                    b.student_id, b.teacher_id, b.parent_id, CASE WHEN s.parent_accepted THEN s.parent_id END
                )
            )
            """,
            reader,
            person,
        )
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileToSave:
    """A profile as it is to stand. None leaves a field as it is, except where a flag says otherwise."""

    user_id: str
    role: Role
    first_name: str
    last_name: str
    bio: str | None = None
    topics: Sequence[str] | None = None
    subjects: Sequence[str] | None = None
    timezone: str | None = None
    email: str | None = None
    #: `email` is written as it is, also None.
    sets_email: bool = False
    parent_id: str | None = None
    #: `parent_id` is written as it is, also None.
    sets_parent: bool = False
    #: That parent needs not accept it any more. Else a parent who is not the one so far has yet to.
    accepts_parent: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """A saved profile and what stood before; None for somebody who was not known."""

    user: User
    before: User | None


async def save_profile(executor: Executor, profile: ProfileToSave) -> Saved:
    """Make or change a profile, whose name stands from now on, and its e-mail once it is written.

    Raises Refused: PARENT_EXISTS, NOT_OWN_PARENT.
    """
    with translated():
        rows = await executor.fetch(
            f"""
            WITH before AS (
                SELECT {_COLUMNS} FROM users u WHERE id = $1
            ), written AS (
                INSERT INTO users AS u (id, role, first_name, last_name, bio, topics, subjects, timezone,
                                        email, email_set, parent_id, parent_accepted, name_set)
                VALUES ($1, $2, $3, $4, coalesce($5, ''), coalesce($6::text[], '{{}}'),
                        coalesce($7::text[], '{{}}'), coalesce($8, 'UTC'), $9, $10, $11, $13 AND $11::text IS NOT NULL,
                        true)
                ON CONFLICT (id) DO UPDATE SET
                    role = excluded.role, first_name = excluded.first_name, last_name = excluded.last_name,
                    bio = coalesce($5, u.bio), topics = coalesce($6::text[], u.topics),
                    subjects = coalesce($7::text[], u.subjects), timezone = coalesce($8, u.timezone),
                    email = CASE WHEN $10 THEN $9 ELSE u.email END, email_set = u.email_set OR $10,
                    parent_id = CASE WHEN $12 THEN $11 ELSE u.parent_id END,
                    parent_accepted = CASE
                        WHEN $12 THEN $11 IS NOT NULL
                            AND ($13 OR (u.parent_accepted AND u.parent_id IS NOT DISTINCT FROM $11))
                        ELSE u.parent_accepted
                    END,
                    name_set = true, updated_at = now()
                RETURNING {_COLUMNS}
            )
            SELECT 'after' AS moment, * FROM written UNION ALL SELECT 'before', * FROM before
            """,
            profile.user_id,
            profile.role,
            profile.first_name,
            profile.last_name,
            profile.bio,
            profile.topics,
            profile.subjects,
            profile.timezone,
            profile.email,
            profile.sets_email,
            profile.parent_id,
            profile.sets_parent,
            profile.accepts_parent,
        )
    moments = {row["moment"]: User.from_row(row) for row in rows}
    return Saved(user=moments["after"], before=moments.get("before"))


async def set_parent(executor: Executor, student_id: str, parent_id: str) -> None:
    """Say who a student's parent is, as an administrator does: nobody has to accept it. Both are known."""
    with translated():
        await executor.execute(
            """
            UPDATE users SET parent_id = $2, parent_accepted = true
            WHERE id = $1 AND (parent_id IS DISTINCT FROM $2 OR NOT parent_accepted)
            """,
            student_id,
            parent_id,
        )
