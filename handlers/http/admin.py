"""`/admin`: what the school's office sees of its people and of what was done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from operator import attrgetter
from typing import Any, Final, TypeVar

from aiohttp import web

from domain import people
from handlers.http.bodies import json_response
from handlers.http.keys import DATABASE
from handlers.http.lists import Listing, answer
from handlers.http.requests import identity_of, place_cursor, query_place, query_seq, query_text
from store import audit, directory
from store import stats as numbers
from store.audit import AuditEntry
from store.directory import Place, Student, Tutor

PersonT = TypeVar("PersonT", Student, Tutor)

#: What is shown of an entry of the audit log.
_ENTRY: Final = ("id", "at", "actor_id", "action", "subject", "details")


async def stats(request: web.Request) -> web.Response:
    people.check_is_admin(identity_of(request))
    counted = await numbers.now(request.app[DATABASE])
    document = {
        "students": counted.students,
        "parents": counted.parents,
        "tutors": counted.tutors,
        "upcomingSessions": counted.upcoming_sessions,
        "liveSessions": counted.live_sessions,
        "participantsOnline": counted.participants_online,
        "messagesToday": counted.messages_today,
        "recordingsBytes": counted.recordings_bytes,
    }
    return json_response(document)


async def students(request: web.Request) -> web.StreamResponse:
    columns = ("id", "first_name", "last_name", "email", "parent_id", "parent_email", "timezone", "created_at")
    return await _people(request, "students", directory.students, _student, columns)


async def tutors(request: web.Request) -> web.StreamResponse:
    columns = (
        *("id", "first_name", "last_name", "email", "subjects", "topics"),
        *("rating", "reviews", "timezone", "created_at"),
    )
    return await _people(request, "tutors", directory.tutors, _tutor, columns)


async def _people(
    request: web.Request,
    name: str,
    stored: Callable[..., Awaitable[Sequence[PersonT]]],
    document: Callable[[PersonT], dict[str, Any]],
    columns: Sequence[str],
) -> web.StreamResponse:
    """A list of people by their names, as `stored`, one of :mod:`store.directory`, reads it."""
    people.check_is_admin(identity_of(request))
    pool, about = request.app[DATABASE], query_text(request, "q")

    async def read(after: Place | None, limit: int) -> Sequence[PersonT]:
        return await stored(pool, about=about, after=after, limit=limit)

    listing = Listing[PersonT, Place](
        name=name,
        read=read,
        cursor=lambda person: Place(sort_name=person.sort_name, id=person.id),
        written=place_cursor,
        document=document,
        columns=columns,
        cells=attrgetter(*columns),
    )
    return await answer(request, listing, query_place(request))


async def audit_log(request: web.Request) -> web.StreamResponse:
    people.check_is_admin(identity_of(request))
    pool, about = request.app[DATABASE], query_text(request, "q")

    async def read(before: int | None, limit: int) -> list[AuditEntry]:
        return await audit.newest(pool, about=about, before=before, limit=limit)

    listing = Listing[AuditEntry, int](
        name="audit",
        read=read,
        cursor=lambda entry: entry.id,
        document=_entry,
        columns=_ENTRY,
        cells=attrgetter(*_ENTRY),
    )
    return await answer(request, listing, query_seq(request, "cursor"))


def _student(student: Student) -> dict[str, Any]:
    parent = {"id": student.parent_id, "email": student.parent_email}
    return {
        "id": student.id,
        "first_name": student.first_name,
        "last_name": student.last_name,
        "email": student.email,
        "timezone": student.timezone,
        "created_at": student.created_at,
        "parent": parent if student.parent_id is not None else None,
    }


def _tutor(tutor: Tutor) -> dict[str, Any]:
    return {
        "id": tutor.id,
        "first_name": tutor.first_name,
        "last_name": tutor.last_name,
        "email": tutor.email,
        "subjects": tutor.subjects,
        "topics": tutor.topics,
        "timezone": tutor.timezone,
        "created_at": tutor.created_at,
        "rating": tutor.rating,
        "reviews": tutor.reviews,
    }


def _entry(entry: AuditEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _ENTRY}
