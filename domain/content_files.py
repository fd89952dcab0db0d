"""Films and sounds on their way to a course, and pictures of it: who may send them, and what becomes of them.

What somebody says of a film stands with its file (`details`) until there is a piece of content for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import UUID

from domain import courses, notifications
from domain.content import (
    ACCESS_LEVELS,
    CONTENT_TYPES,
    MAX_ORDER,
    MAX_TITLE_CHARACTERS,
    problems_of,
    to_give,
    unknown_content,
)
from domain.errors import invalid
from domain.files import clean_name
from domain.identity import Identity
from domain.live import Live
from domain.notifications import Told
from domain.purposes import Admission, id_in
from store import content, files
from store import courses as course_store
from store.content import AccessLevel, ContentType
from store.courses import Course
from store.database import Connection, Executor
from store.files import File
from store.ids import new_id

#: What a form says of a box that is ticked, or is not.
_TRUE: Final = ("true", "1", "on", "yes")
_FALSE: Final = ("false", "0", "off", "no")


@dataclass(frozen=True, kw_only=True, slots=True)
class NewContent:
    """What somebody says of a film or a sound that they send to a course. No order: behind all others."""

    content_type: ContentType
    title: str
    description: str = ""
    is_preview: bool = False
    access_level: AccessLevel = "enrolled_only"
    content_order: int | None = None


# Rules


def details_of(new: NewContent) -> dict[str, Any]:
    """As it lies with the file while that is on its way; :func:`from_details` reads it again."""
    return {
        "content_type": new.content_type,
        "title": new.title,
        "description": new.description,
        "is_preview": new.is_preview,
        "access_level": new.access_level,
        "content_order": new.content_order,
    }


def from_details(details: Mapping[str, Any]) -> NewContent:
    return NewContent(**{name: details[name] for name in NewContent.__slots__})


def from_fields(fields: Mapping[str, str], *, default_title: str | None = None) -> NewContent:
    """What the fields of a form, or of an upload's metadata, say. Raises BadRequest that names all that is wrong."""
    problems: dict[str, str] = {}
    content_type = _word(fields, "type", CONTENT_TYPES, None, problems)
    access_level = _word(fields, "access_level", ACCESS_LEVELS, "enrolled_only", problems)
    is_preview = _word(fields, "is_preview", (*_TRUE, *_FALSE), "false", problems) in _TRUE
    order: int | None = None
    if said := fields.get("content_order", "").strip():
        if said.isascii() and said.isdecimal() and len(said) <= len(str(MAX_ORDER)):
            order = int(said)
        else:
            problems["content_order"] = f"must be a whole number from 0 to {MAX_ORDER}"
    title = fields.get("title", "").strip() or default_title
    if title is None:
        problems["title"] = "is required"
    description = fields.get("description", "")
    problems |= problems_of(title=title, description=description, content_order=order)
    if problems or content_type is None or access_level is None or title is None:
        raise invalid(problems)
    return NewContent(
        content_type=content_type,
        title=title,
        description=description,
        is_preview=is_preview,
        access_level=access_level,
        content_order=order,
    )


def _word(
    fields: Mapping[str, str], name: str, words: Sequence[Any], default: str | None, problems: dict[str, str]
) -> Any:
    said = fields.get(name, "").strip().lower() or default
    if said is None:
        problems[name] = "is required"
    elif said not in words:
        problems[name] = f"must be one of {', '.join(words)}"
        return None
    return said


# Files


async def check_may_add(executor: Executor, identity: Identity, course_id: UUID) -> Course:
    """The course, if the identity may send content to it. Raises NotFound, Forbidden (`not_instructor`)."""
    course = await courses.read(executor, course_id)
    courses.require_instructor(course, identity)
    return course


class ContentFiles:
    """Who may send films and sounds to a course, and what becomes of the content: :class:`domain.purposes.Hooks`."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def admit(self, executor: Executor, identity: Identity, fields: Mapping[str, str]) -> Admission:
        """`fields` are those of :func:`from_fields`, with `course_id`. Without a `title`, the file's name is one.

        Raises NotFound, Forbidden (`not_instructor`), BadRequest.
        """
        course = await check_may_add(executor, identity, id_in(fields, "course_id"))
        stem = clean_name(fields["filename"]).rpartition(".") if fields.get("filename") else None
        new = from_fields(fields, default_title=None if stem is None else (stem[0] or stem[2])[:MAX_TITLE_CHARACTERS])
        return Admission(
            course_id=course.id,
            details={"content_id": str(new_id()), **details_of(new)},
            families=frozenset({new.content_type}),
            watchers=[course.instructor_id],
        )

    async def moved(self, connection: Connection, file: File) -> Callable[[], None] | None:
        if file.state == "failed":
            await content.forget(connection, file.id)
            await finished(connection, file)
            return None
        if file.state == "uploading" or not await content.save_whole(
            connection, file.id, name=file.name, size=file.size, mime_type=file.mime
        ):
            await begun(connection, file, UUID(file.details["content_id"]), from_details(file.details))
        if file.state != "ready":
            return None
        told = await finished(connection, file)
        return None if told is None else partial(notifications.push, self._live, told)


class ThumbnailFiles:
    """Who may send a picture of a course, or of a piece of its content: :class:`domain.purposes.Hooks`."""

    async def admit(self, executor: Executor, identity: Identity, fields: Mapping[str, str]) -> Admission:
        """`fields` name the `course_id`, or a `content_id`. Raises NotFound, Forbidden, BadRequest."""
        if fields.get("content_id", "").strip():
            found = await to_give(executor, identity, id_in(fields, "content_id"))
            return Admission(course_id=found.content.course_id, details={"content_id": str(found.content.id)})
        course = await check_may_add(executor, identity, id_in(fields, "course_id"))
        return Admission(course_id=course.id, details={"content_id": None})

    async def moved(self, connection: Connection, file: File) -> Callable[[], None] | None:
        """It takes the place of the picture that was there before, which goes."""
        if file.state != "ready":
            return None
        course = None if file.course_id is None else await course_store.locked(connection, file.course_id)
        if course is None:
            raise courses.unknown_course()
        said = file.details.get("content_id")
        if said is None:
            before = course.thumbnail_file_id
            await course_store.save_thumbnail(connection, course.id, file.id)
        else:
            piece = await content.find(connection, UUID(said))
            if piece is None:
                raise unknown_content()
            before = piece.thumbnail_file_id
            await content.save_thumbnail(connection, piece.id, file.id)
        if before is not None:
            await files.delete(connection, before)
        return None


async def begun(connection: Connection, file: File, content_id: UUID, new: NewContent) -> None:
    """A film or a sound comes in for a course: there is a piece of content for it, `uploading` or `processing`.

    Inside the transaction that says so of the file. Raises NotFound where the course has gone.
    """
    if file.course_id is None or await course_store.locked(connection, file.course_id) is None:
        raise courses.unknown_course()
    await content.insert(
        connection,
        content_id=content_id,
        course_id=file.course_id,
        title=new.title,
        description=new.description,
        content_type=new.content_type,
        file_id=file.id,
        file_name=file.name,
        file_size=file.size,
        mime_type=file.mime,
        upload_status="uploading" if file.state == "uploading" else "processing",
        content_order=new.content_order,
        is_preview=new.is_preview,
        access_level=new.access_level,
        created_by=file.owner_id,
    )


async def finished(connection: Connection, file: File) -> Told | None:
    """A film or a sound was looked through, `ready` or `failed`: so is the content. The enrolled are told of it.

    Inside the transaction that says so of the file; push the answer after its commit.
    """
    content_id = await content.finish(
        connection,
        file.id,
        status="completed" if file.state == "ready" else "failed",
        size=file.size,
        seconds=file.seconds,
        failure=file.reason,
    )
    piece = None if content_id is None else await content.find(connection, content_id)
    if piece is None or piece.upload_status != "completed":
        return None
    course = await course_store.find(connection, piece.course_id)
    if course is None:
        return None
    return await notifications.to_enrolled(
        connection,
        course.id,
        kind="content_added",
        title=f"New in {course.title}: {piece.title}",
        body=f"A new {piece.content_type} in the course {course.title}",
        data={"course_id": course.id, "content_id": piece.id, "content_type": piece.content_type},
        but=piece.created_by,
    )
