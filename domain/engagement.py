"""What people make of a course's content: how far they came, what they say of it, who likes it; and the report of it
for whoever gives the course."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from domain import courses
from domain.content import find, gives, require_instructor, unknown_content
from domain.errors import Forbidden, NotFound, invalid
from domain.identity import Identity
from store import engagement
from store.content import Content
from store.database import Executor, Pool
from store.engagement import Analytics, Comment, Figures, Progress
from store.errors import Refused, translated
from store.ids import new_id

#: Characters of a comment, as of a message.
MAX_COMMENT_CHARACTERS: Final = 2_000
#: Seconds into a film or a sound: a week, longer than any; the database holds it.
MAX_POSITION_SECONDS: Final = 604_800
#: Players stop a little behind the end that a file says it has.
SECONDS_BEHIND_THE_END: Final = 5
#: Pieces of content that one report counts: more than anybody gives a course.
MAX_REPORTED: Final = 1_000
#: Days of views that a report shows, unless asked otherwise, and at most.
DEFAULT_DAYS: Final = 30
MAX_DAYS: Final = 366


# Rules


def check_position(piece: Content, position_seconds: int) -> None:
    """Raise BadRequest for a place that is not in the film or sound."""
    end = MAX_POSITION_SECONDS
    if piece.duration_seconds is not None:
        end = min(end, piece.duration_seconds + SECONDS_BEHIND_THE_END)
    if not 0 <= position_seconds <= end:
        raise invalid({"position_seconds": f"must be a whole number from 0 to {end}"})


def checked_comment(text: str) -> str:
    """A comment without white space at its ends. Raises BadRequest."""
    text = text.strip()
    if not 1 <= len(text) <= MAX_COMMENT_CHARACTERS:
        raise invalid({"text": f"must have 1 to {MAX_COMMENT_CHARACTERS} characters"})
    return text


def unknown_comment() -> NotFound:
    return NotFound("There is no such comment.", code="comment_not_found")


# Documents


def comment_document(comment: Comment) -> dict[str, Any]:
    return {
        "id": comment.id,
        "content_id": comment.content_id,
        "user_id": comment.user_id,
        "name": comment.name,
        "text": comment.text,
        "created_at": comment.created_at,
    }


def progress_document(progress: Progress) -> dict[str, Any]:
    return {
        "content_id": progress.content_id,
        "user_id": progress.user_id,
        "position_seconds": progress.position_seconds,
        "completed": progress.completed,
        "updated_at": progress.updated_at,
    }


def analytics_document(course_id: UUID, found: Analytics) -> dict[str, Any]:
    """`completion` is the share of what was looked at or played that was played to the end, from 0 to 1."""
    return {
        "course_id": course_id,
        "total": _figures(found.total, begun=sum(one.people for one in found.content)),
        "content": [
            {"content_id": one.content_id, "title": one.title, **_figures(one, begun=one.people)}
            for one in found.content
        ],
        "days": [{"day": one.day, "views": one.views, "people": one.people} for one in found.days],
    }


def _figures(one: Figures, *, begun: int) -> dict[str, Any]:
    """`begun`: how often somebody has looked at or played something, each piece once."""
    return {
        "views": one.views,
        "people": one.people,
        "completed": one.completed,
        "completion": round(one.completed / begun, 3) if begun else 0.0,
        "likes": one.likes,
        "comments": one.comments,
    }


# Acts


async def say_progress(
    executor: Executor, identity: Identity, content_id: UUID, *, position_seconds: int, completed: bool | None
) -> Progress:
    """Write how far one has come; the enrolled do. Raises NotFound, Forbidden (`content_locked`, `not_enrolled`),
    BadRequest."""
    found = await find(executor, identity, content_id)
    if found.tier is None:
        raise Forbidden("Only those who are enrolled keep their place.", code="not_enrolled")
    check_position(found.content, position_seconds)
    try:
        return await engagement.save_progress(
            executor, content_id, identity.user_id, position_seconds=position_seconds, completed=completed
        )
    except Refused as refused:
        raise unknown_content() from refused  # deleted meanwhile


async def progress(executor: Executor, identity: Identity, content_id: UUID) -> Progress:
    """How far one has come: at the beginning, if nothing was written. Raises NotFound, Forbidden."""
    found = await find(executor, identity, content_id)
    if found.tier is None and not gives(found, identity):
        raise Forbidden("Only those who are enrolled keep their place.", code="not_enrolled")
    kept = await engagement.progress_of(executor, content_id, identity.user_id)
    return kept or Progress(
        content_id=content_id,
        user_id=identity.user_id,
        position_seconds=0,
        completed=False,
        updated_at=found.content.created_at,
    )


async def progress_in_course(
    executor: Executor, identity: Identity, course_id: UUID, *, after: tuple[UUID, str] | None, limit: int
) -> Sequence[Progress]:
    """What one has done of a course; whoever gives it sees everybody's. Raises NotFound, Forbidden."""
    course = await courses.read_as_participant(executor, identity, course_id)
    user_id = None if courses.gives(course, identity) else identity.user_id
    return await engagement.progress_in_course(executor, course_id, user_id=user_id, after=after, limit=limit)


async def analytics(pool: Pool, identity: Identity, course_id: UUID, *, days: int) -> Analytics:
    """What became of a course's content, with the views of the last `days`. Raises NotFound, Forbidden."""
    courses.require_instructor(await courses.read(pool, course_id), identity)
    since = (datetime.now(UTC) - timedelta(days=days - 1)).date()
    return await engagement.analytics(pool, course_id, since=since, limit=MAX_REPORTED)


async def comment(pool: Pool, identity: Identity, content_id: UUID, text: str) -> Comment:
    """Say something of it; who can see it may. Raises NotFound, Forbidden, BadRequest."""
    await find(pool, identity, content_id)
    text = checked_comment(text)
    comment_id = new_id()
    try:
        with translated():
            async with pool.acquire() as connection, connection.transaction():
                await engagement.add_comment(
                    connection, content_id, comment_id=comment_id, user_id=identity.user_id, text=text
                )
                said = await engagement.find_comment(connection, content_id, comment_id)
    except Refused as refused:
        raise unknown_content() from refused  # deleted meanwhile
    assert said is not None, "it was written just now"
    return said


async def delete_comment(pool: Pool, identity: Identity, content_id: UUID, comment_id: UUID) -> None:
    """Take a comment away: its author may, and whoever gives the course. Raises NotFound, Forbidden."""
    found = await find(pool, identity, content_id)
    said = await engagement.find_comment(pool, content_id, comment_id)
    if said is None:
        raise unknown_comment()
    if said.user_id != identity.user_id:
        require_instructor(found, identity)
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            if not await engagement.delete_comment(connection, content_id, comment_id):
                raise unknown_comment()


async def like(pool: Pool, identity: Identity, content_id: UUID, *, liked: bool) -> int:
    """Like it, or take that back; how many like it now. Who can see it may. Raises NotFound, Forbidden."""
    await find(pool, identity, content_id)
    act = engagement.like if liked else engagement.unlike
    count = await act(pool, content_id, identity.user_id)
    if count is None:
        raise unknown_content()
    return count
