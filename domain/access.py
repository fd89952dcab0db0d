"""Who belongs to a session, and who leads it. Plain rules on frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from domain.errors import Conflict, Forbidden, NotFound
from domain.identity import Identity, Role
from store import sessions
from store.database import Executor
from store.sessions import Session

DENIED: Final = "Access denied to this session"


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A person who may take part in a session. `is_host`: they lead it, or are an admin, who may the same."""

    session_id: UUID
    room_name: str
    user_id: str
    name: str
    role: Role
    is_host: bool


def people_of(session: Session) -> frozenset[str]:
    """Everybody who belongs to the session by name; besides, those who are enrolled in its course, and every admin."""
    people = (
        session.host_id,
        session.instructor_id,
        session.student_id,
        session.teacher_id,
        session.booking_parent_id,
        session.student_parent_id,
    )
    return frozenset(person for person in people if person is not None)


def member(session: Session, identity: Identity, *, name: str, kicked: bool, enrolled: bool = False) -> Member:
    """The identity as a member of the session. Raises Forbidden for strangers and for those who were kicked."""
    if not identity.is_admin and not enrolled and identity.user_id not in people_of(session):
        raise Forbidden(DENIED)
    if kicked:
        raise Forbidden("You were removed from this session by its host.", code="kicked")
    return Member(
        session_id=session.id,
        room_name=session.room_name,
        user_id=identity.user_id,
        name=name,
        role=identity.role,
        is_host=identity.is_admin or (identity.user_id == session.host_id and identity.role == "teacher"),
    )


def require_host(someone: Member, message: str = "Only the host may do this.") -> None:
    if not someone.is_host:
        raise Forbidden(message, code="not_host")


def require_open_chat(session: Session) -> None:
    if not session.chat_open:
        raise chat_closed()


def chat_closed() -> Conflict:
    return Conflict("The booking was cancelled: its chat can be read, but not written.", code="booking_cancelled")


async def enter(executor: Executor, ref: UUID | str, identity: Identity) -> tuple[Session, Member]:
    """The session behind an id or room name, and the identity as its member. Raises NotFound, Forbidden."""
    entrance = await sessions.find_for(executor, ref, identity.user_id)
    if entrance is None:
        raise unknown_session()
    someone = member(
        entrance.session,
        identity,
        name=entrance.name,
        kicked=entrance.was_kicked,
        enrolled=entrance.is_enrolled,
    )
    return entrance.session, someone


def unknown_session() -> NotFound:
    return NotFound("Session not found", code="session_not_found")


def session_ref(text: str) -> UUID | str:
    """A session's id or room name, as clients write it. Raises NotFound for what can be neither."""
    if "\x00" in text or not 1 <= len(text) <= MAX_REF_CHARACTERS:
        raise unknown_session()
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes in a path that are no UTF-8 come as lone surrogates
        raise unknown_session() from None
    try:
        return UUID(text)
    except ValueError:
        return text


#: Longer than an id and any room name.
MAX_REF_CHARACTERS: Final = 200
