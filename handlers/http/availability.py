"""`/availability`: when teachers can be booked."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from domain import availability
from domain.errors import invalid
from handlers.http.bodies import json_response, read_body
from handlers.http.keys import DATABASE
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
from store import availability as store
from store.availability import Slot

_WALL_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
#: More than either has; which of them they are is said by name.
WallTime = Annotated[str, Meta(max_length=16)]
Day = Annotated[str, Meta(max_length=16)]

_CREATED: Final = "Availability slot created successfully"


class Weekly(msgspec.Struct, frozen=True):
    weekday: Annotated[int, Meta(ge=1, le=7)]
    start: WallTime
    end: WallTime
    timezone: TimezoneName
    until: Day


class NewAvailability(msgspec.Struct, frozen=True):
    """Either one slot, or a weekly series."""

    teacher_id: UserId
    start_time: Instant | None = None
    end_time: Instant | None = None
    weekly: Weekly | None = None


async def index(request: web.Request) -> web.Response:
    limit = query_limit(request)
    starts_from = query_instant(request, "from")
    found = await store.listed(
        request.app[DATABASE],
        teacher_id=query_text(request, "teacher_id"),
        ends_after=datetime.now(UTC) if starts_from is None else None,
        starts_from=starts_from,
        starts_before=query_instant(request, "to"),
        after=query_position(request),
        limit=limit + 1,
    )
    shown, more = piece_of(request, found, limit, lambda slot: cursor_of(slot.start_time, slot.id))
    return json_response([_document(slot) for slot in shown], headers=more)


async def create(request: web.Request) -> web.Response:
    new = await read_body(request, NewAvailability)
    pool, identity = request.app[DATABASE], identity_of(request)
    if new.weekly is None:
        start, end = _span(new)
        slot_id = await availability.publish(pool, identity, new.teacher_id, start, end)
        return json_response({"id": slot_id, "message": _CREATED}, status=201)
    if new.start_time is not None or new.end_time is not None:
        raise invalid({"weekly": "stands alone, without start_time and end_time"})
    slots = await availability.publish_weekly(pool, identity, new.teacher_id, _weekly(new.weekly))
    answer = {
        "id": slots[0].id,
        "series_id": slots[0].series_id,
        "slots": [_document(slot) for slot in slots],
        "message": _CREATED,
    }
    return json_response(answer, status=201)


async def delete(request: web.Request) -> web.Response:
    slot_id = path_uuid(request, "id", availability.unknown_slot)
    with_rest = query_word(request, "series", ("true", "false")) == "true"
    deleted = await availability.delete(request.app[DATABASE], identity_of(request), slot_id, with_rest=with_rest)
    answer: dict[str, Any] = {"message": "Availability slot deleted successfully"}
    if with_rest:
        answer["deleted"] = deleted
    return json_response(answer)


def _span(new: NewAvailability) -> tuple[datetime, datetime]:
    if new.start_time is None or new.end_time is None:
        times = {"start_time": new.start_time, "end_time": new.end_time}
        raise invalid({name: "is required" for name, moment in times.items() if moment is None})
    return new.start_time, new.end_time


def _weekly(weekly: Weekly) -> availability.Weekly:
    """The series with its times read. Raises BadRequest naming those that are none."""
    start, end, until = _wall_time(weekly.start), _wall_time(weekly.end), _date(weekly.until)
    problems = {}
    if start is None:
        problems["weekly.start"] = "must be a time of day, such as 09:30"
    if end is None:
        problems["weekly.end"] = "must be a time of day, such as 17:00"
    if until is None:
        problems["weekly.until"] = "must be a date, such as 2026-12-31"
    if start is None or end is None or until is None:
        raise invalid(problems)
    return availability.Weekly(weekday=weekly.weekday, start=start, end=end, timezone=weekly.timezone, until=until)


def _wall_time(text: str) -> time | None:
    return time.fromisoformat(text) if _WALL_TIME.fullmatch(text) else None


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        return None


def _document(slot: Slot) -> dict[str, Any]:
    return {
        "id": slot.id,
        "teacher_id": slot.teacher_id,
        "series_id": slot.series_id,
        "start_time": slot.start_time,
        "end_time": slot.end_time,
        "is_booked": slot.is_booked,
    }
