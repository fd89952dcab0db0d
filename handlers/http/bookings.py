"""`/bookings`: asking for a lesson, seeing and changing it."""

from __future__ import annotations

from typing import Annotated, Any, Final, get_args

import msgspec
from aiohttp import web
from msgspec import Meta

from domain import access, booking_rules, bookings, meetings, sessions
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import CANCEL_NOTICE, DATABASE, LIVE
from handlers.http.requests import (
    cursor_of,
    identity_of,
    path_uuid,
    piece_of,
    query_instant,
    query_limit,
    query_position,
    query_text,
    query_word,
)
from handlers.payloads import Instant, TimezoneName, UserId
from store import bookings as store
from store import users
from store.bookings import Booking, Status

STATUSES: Final[tuple[Status, ...]] = get_args(Status)
#: What `GET /bookings/{id}/session` shows of the session's document.
_SESSION_FIELDS: Final = ("session_id", "booking_id", "status", "meeting_data", "notes", "files")


class Repeat(msgspec.Struct, frozen=True):
    weeks: Annotated[int, Meta(ge=1, le=booking_rules.MAX_WEEKS)]
    timezone: TimezoneName


class NewBooking(msgspec.Struct, frozen=True):
    student_id: UserId
    teacher_id: UserId
    start_time: Instant
    end_time: Instant
    repeat: Repeat | None = None


class BookingChange(msgspec.Struct, frozen=True):
    status: Status | None = None
    start_time: Instant | None = None
    end_time: Instant | None = None


async def index(request: web.Request) -> web.Response:
    student_id = query_text(request, "student_id")
    teacher_id = query_text(request, "teacher_id")
    limit = query_limit(request)
    student = await users.find(request.app[DATABASE], student_id) if student_id is not None else None
    booking_rules.check_may_list(identity_of(request), student=student, student_id=student_id, teacher_id=teacher_id)
    found = await store.listed(
        request.app[DATABASE],
        student_id=student_id,
        teacher_id=teacher_id,
        status=query_word(request, "status", STATUSES),
        starts_from=query_instant(request, "from"),
        starts_before=query_instant(request, "to"),
        after=query_position(request),
        limit=limit + 1,
    )
    shown, more = piece_of(request, found, limit, lambda booking: cursor_of(booking.start_time, booking.id))
    return json_response([_document(booking) for booking in shown], headers=more)


async def create(request: web.Request) -> web.Response:
    new = await read_body(request, NewBooking)
    live, identity = request.app[LIVE], identity_of(request)
    lesson = booking_rules.NewBooking(
        student_id=new.student_id,
        teacher_id=new.teacher_id,
        start_time=new.start_time,
        end_time=new.end_time,
    )
    answer: dict[str, Any] = {"message": "Booking created successfully"}
    if new.repeat is None:
        booking_id = await bookings.book(live, identity, lesson)
    else:
        repeat = booking_rules.Repeat(weeks=new.repeat.weeks, timezone=new.repeat.timezone)
        booking_ids = await bookings.book_weekly(live, identity, lesson, repeat)
        booking_id = booking_ids[0]
        answer["booking_ids"] = booking_ids
    answer["booking_id"] = booking_id
    return json_response(answer, status=201, headers={"Location": f"/bookings/{booking_id}"})


async def show(request: web.Request) -> web.Response:
    booking_id = path_uuid(request, "id", bookings.unknown_booking)
    booking = await bookings.read(request.app[DATABASE], identity_of(request), booking_id)
    return json_response(_document(booking))


async def change(request: web.Request) -> web.Response:
    booking_id = path_uuid(request, "id", bookings.unknown_booking)
    wanted = await read_body(request, BookingChange)
    booking = await bookings.change(
        request.app[LIVE],
        identity_of(request),
        booking_id,
        booking_rules.BookingChange(status=wanted.status, start_time=wanted.start_time, end_time=wanted.end_time),
        cancel_notice=request.app[CANCEL_NOTICE],
    )
    return json_response(_document(booking))


async def session(request: web.Request) -> web.Response:
    booking_id = path_uuid(request, "id", bookings.unknown_booking)
    await bookings.read(request.app[DATABASE], identity_of(request), booking_id)
    found, _ = await access.enter(request.app[DATABASE], booking_id, identity_of(request))
    document = sessions.document(found) | {"meeting_data": await meetings.data_of(request.app[DATABASE], found.id)}
    return json_response({name: document[name] for name in _SESSION_FIELDS})


def _document(booking: Booking) -> dict[str, Any]:
    return {
        "booking_id": booking.id,
        "student_id": booking.student_id,
        "teacher_id": booking.teacher_id,
        "parent_id": booking.parent_id,
        "start_time": booking.start_time,
        "end_time": booking.end_time,
        "status": booking.status,
        "created_at": booking.created_at,
    }
