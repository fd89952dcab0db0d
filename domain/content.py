"""What a course holds beside its live classes: films and sounds, in an order, and what people make of them.

Whoever gives the course sees and does everything. Others see what can be played, as far as its access lets them:
`free` and previews everybody who is signed in, `enrolled_only` the enrolled, `premium` those enrolled as premium.
What is locked to somebody is still listed: people should see what they might enrol for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, get_args
from uuid import UUID

from domain import courses
from domain.errors import BadRequest, Forbidden, NotFound, invalid
from domain.identity import Identity
from store import audit, content, engagement, enrollments
from store import courses as course_store
from store.content import AccessLevel, Content, ContentType, Found, Place
from store.database import Executor, Pool
from store.enrollments import Tier
from store.errors import Refused, translated

#: Characters of a title and of a description; the database holds both bounds.
MAX_TITLE_CHARACTERS: Final = 200
MAX_DESCRIPTION_CHARACTERS: Final = 10_000
#: The highest place in a course's order.
MAX_ORDER: Final = 1_000_000

CONTENT_TYPES: Final[tuple[ContentType, ...]] = get_args(ContentType)
ACCESS_LEVELS: Final[tuple[AccessLevel, ...]] = get_args(AccessLevel)

#: The signed link to a file, by its id; `thumbnail`: to the picture that was taken from it.
Linked = Callable[[UUID, bool], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class ContentChange:
    """What is changed of it; None leaves it as it is."""

    title: str | None = None
    description: str | None = None
    content_order: int | None = None
    is_preview: bool | None = None
    access_level: AccessLevel | None = None


# Rules


def is_open(piece: Content, tier: Tier | None) -> bool:
    """Whether somebody enrolled as `tier` (None: not at all) may see a piece of a course that they do not give."""
    if piece.is_preview or piece.access_level == "free":
        return True
    return tier == "premium" if piece.access_level == "premium" else tier is not None


def gives(found: Found, identity: Identity) -> bool:
    """Whether the identity may do with it what the course's instructor may."""
    return identity.is_admin or (identity.user_id == found.instructor_id and identity.role == "teacher")


def check_may_read(found: Found, identity: Identity) -> None:
    """Raise unless the identity may see it: NotFound of what cannot be played yet, Forbidden (`content_locked`)."""
    if gives(found, identity):
        return
    if found.content.upload_status != "completed":
        raise unknown_content()
    if not is_open(found.content, found.tier):
        if found.tier is None:
            raise Forbidden("Enrol in the course to see this.", code="content_locked")
        raise Forbidden("This is for those who are enrolled as premium.", code="content_locked")


def require_instructor(found: Found, identity: Identity) -> None:
    if not gives(found, identity):
        raise Forbidden("Only the course's instructor may do this.", code="not_instructor")


def problems_of(*, title: str | None, description: str | None, content_order: int | None) -> dict[str, str]:
    """What is wrong with these, by their names; None is as it should be."""
    problems = {}
    if title is not None and not 1 <= len(title.strip()) <= MAX_TITLE_CHARACTERS:
        problems["title"] = f"must have 1 to {MAX_TITLE_CHARACTERS} characters"
    if description is not None and len(description) > MAX_DESCRIPTION_CHARACTERS:
        problems["description"] = f"must have at most {MAX_DESCRIPTION_CHARACTERS} characters"
    if content_order is not None and not 0 <= content_order <= MAX_ORDER:
        problems["content_order"] = f"must be a whole number from 0 to {MAX_ORDER}"
    return problems


def unknown_content() -> NotFound:
    return NotFound("There is no such content.", code="content_not_found")


# Documents


def document(piece: Content, linked: Linked, *, locked: bool) -> dict[str, Any]:
    """A piece of content: every column of S4's `course_content`. What is locked has no `file_url`."""
    thumbnail_url = None
    if piece.thumbnail_file_id is not None:
        thumbnail_url = linked(piece.thumbnail_file_id, False)
    elif piece.file_thumbnail_key is not None and piece.file_id is not None:
        thumbnail_url = linked(piece.file_id, True)
    shown: dict[str, Any] = {
        "id": piece.id,
        "course_id": piece.course_id,
        "title": piece.title,
        "description": piece.description,
        "content_type": piece.content_type,
        "file_name": piece.file_name,
        "file_size": piece.file_size,
        "mime_type": piece.mime_type,
        "duration_seconds": piece.duration_seconds,
        "thumbnail_url": thumbnail_url,
        "upload_status": piece.upload_status,
        "content_order": piece.content_order,
        "is_preview": piece.is_preview,
        "access_level": piece.access_level,
        "view_count": piece.view_count,
        "like_count": piece.like_count,
        "comment_count": piece.comment_count,
        "created_by": piece.created_by,
        "created_at": piece.created_at,
        "updated_at": piece.updated_at,
        "locked": locked,
    }
    if not locked:
        playable = piece.upload_status == "completed" and piece.file_id is not None
        shown["file_url"] = linked(piece.file_id, False) if playable and piece.file_id is not None else None
    if piece.failure is not None:
        shown["failure"] = piece.failure
    return shown


# Acts


async def find(executor: Executor, identity: Identity, content_id: UUID) -> Found:
    """A piece of content that the identity may see. Raises NotFound, Forbidden (`content_locked`)."""
    found = await content.find_for(executor, content_id, identity.user_id)
    if found is None:
        raise unknown_content()
    check_may_read(found, identity)
    return found


async def look_at(executor: Executor, identity: Identity, content_id: UUID) -> Found:
    """As :func:`find`, and count it as a view: once per person and day in UTC, not of whoever gives the course."""
    found = await find(executor, identity, content_id)
    try:
        if gives(found, identity) or not await engagement.view(executor, content_id, identity.user_id):
            return found
    except Refused as refused:
        raise unknown_content() from refused  # deleted meanwhile
    return await find(executor, identity, content_id)


async def to_give(executor: Executor, identity: Identity, content_id: UUID) -> Found:
    """A piece of content of a course that the identity gives. Raises NotFound, Forbidden (`not_instructor`)."""
    found = await content.find_for(executor, content_id, identity.user_id)
    if found is None:
        raise unknown_content()
    require_instructor(found, identity)
    return found


async def listing(
    executor: Executor, identity: Identity, course_id: UUID, *, after: Place | None, limit: int
) -> list[tuple[Content, bool]]:
    """The first `limit` pieces of a course behind a place in its order, each with whether it is locked to the identity.

    Raises NotFound.
    """
    course = await courses.read(executor, course_id)
    all_of_it = courses.gives(course, identity)
    found = await content.of_course(executor, course_id, only_completed=not all_of_it, after=after, limit=limit)
    enrollment = None if all_of_it else await enrollments.find(executor, course_id, identity.user_id)
    tier = None if enrollment is None else enrollment.tier
    return [(piece, not all_of_it and not is_open(piece, tier)) for piece in found]


async def change(pool: Pool, identity: Identity, content_id: UUID, wanted: ContentChange) -> Found:
    """Change what is given; its course's instructor may. Raises NotFound, Forbidden, BadRequest."""
    await to_give(pool, identity, content_id)
    if wanted == ContentChange():
        raise BadRequest("Say what to change of the content.", code="nothing_to_change")
    problems = problems_of(title=wanted.title, description=wanted.description, content_order=wanted.content_order)
    if problems:
        raise invalid(problems)
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            before = await content.find(connection, content_id)
            if before is None or await course_store.locked(connection, before.course_id) is None:
                raise unknown_content()
            await to_give(connection, identity, content_id)  # the course may have changed hands
            await content.save(
                connection,
                content_id,
                title=None if wanted.title is None else wanted.title.strip(),
                description=wanted.description,
                content_order=wanted.content_order,
                is_preview=wanted.is_preview,
                access_level=wanted.access_level,
            )
            return await to_give(connection, identity, content_id)


async def delete(pool: Pool, identity: Identity, content_id: UUID) -> None:
    """Take a piece of content away, with its files and all that was said of it; noted in the audit log.

    Raises NotFound, Forbidden.
    """
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            found = await to_give(connection, identity, content_id)
            piece = found.content
            await course_store.locked(connection, piece.course_id)
            if not await content.delete(connection, content_id):
                raise unknown_content()
            await audit.append(
                connection,
                actor_id=identity.user_id,
                action="content_deleted",
                subject=piece.created_by,
                details={"course_id": piece.course_id, "content_id": piece.id},
            )
