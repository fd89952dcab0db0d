"""The 1:1 API as the document shows it that its clients were written against: request for request, field for field.

What the answers have beyond that document's fields stands here, too: nothing else may appear in them unnoticed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.lessons import Person
from tests.acceptance.offices import Office, later, span
from tests.support.servers import Server

TEXT = str
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
NOTE = {"text": "Read chapter 2.", "timestamp": "2026-11-23T15:05:00Z"}
FILE = {"name": "sheet.pdf", "url": "https://files.example/sheet.pdf", "timestamp": "2026-11-23T15:06:00Z"}

PROFILE = {
    "user_id": TEXT,
    "role": {"student", "teacher"},
    "name": TEXT,
    "email": TEXT,
    "bio": TEXT,
    "created_at": MOMENT,
    "updated_at": MOMENT,
}
PROFILE_ALSO = {"topics": [TEXT], "subjects": [TEXT], "timezone": TEXT}
BOOKING = {
    "booking_id": TEXT,
    "student_id": TEXT,
    "teacher_id": TEXT,
    "start_time": MOMENT,
    "end_time": MOMENT,
    "status": {"pending", "confirmed", "completed", "cancelled"},
    "created_at": MOMENT,
}
BOOKING_ALSO = {"parent_id": TEXT}
SESSION_OF_BOOKING = {
    "session_id": TEXT,
    "booking_id": TEXT,
    "status": {"pending", "active", "completed"},
    "meeting_data": {},
    "notes": [NOTE],
    "files": [FILE],
}
SESSION = {**SESSION_OF_BOOKING, "student_id": TEXT, "teacher_id": TEXT, "start_time": MOMENT, "end_time": MOMENT}
SLOT = {"id": TEXT, "teacher_id": TEXT, "start_time": MOMENT, "end_time": MOMENT, "is_booked": bool}
SLOT_ALSO = {"series_id": None}
FOUND = {"user_id": TEXT, "name": TEXT, "bio": TEXT, "topics": [TEXT], "rating": float}
ERROR = {"error": TEXT, "message": TEXT, "status_code": int}


def fits(value: Any, shape: Any, where: str = "it") -> bool:
    """Whether `value` is of the shape: exactly these fields. AssertionError that names what is not."""
    if isinstance(shape, Mapping):
        assert isinstance(value, Mapping), f"{where} is {value!r}"
        assert value.keys() == shape.keys(), f"{where} has {sorted(value)}"
        return all(fits(value[name], inner, f"{where}.{name}") for name, inner in shape.items())
    if isinstance(shape, list):
        assert isinstance(value, list), f"{where} is {value!r}"
        return all(fits(item, shape[0], f"{where}[]") for item in value)
    if isinstance(shape, re.Pattern):
        assert isinstance(value, str), f"{where} is {value!r}"
        assert shape.fullmatch(value), f"{where} is {value!r}"
    elif isinstance(shape, set):
        assert value in shape, f"{where} is {value!r}"
    elif isinstance(shape, type):
        assert isinstance(value, shape), f"{where} is {value!r}"
    else:
        assert value == shape, f"{where} is {value!r}"
    return True


@pytest.fixture
async def office(server: Server) -> Office:
    return await Office.open(server.url)


async def test_post_and_get_profiles(office: Office) -> None:
    for role, status in (("student", 201), ("student", 200)):
        body = {
            "user_id": office.stranger.id,
            "role": role,
            "profile_data": {"name": "Ada Lovelace", "email": "ada@example.org", "bio": "I count."},
        }
        saved = await office.call(office.stranger, "POST", "/profiles", body)
        assert (saved.status, saved.body) == (
            status,
            {"profile_id": office.stranger.id, "message": "Profile created/updated successfully"},
        )
    shown = await office.call(office.stranger, "GET", f"/profiles?user_id={office.stranger.id}")
    assert shown.status == 200
    assert fits(shown.body, {"profile": PROFILE | PROFILE_ALSO})
    profile = shown.body["profile"]
    assert (profile["name"], profile["email"], profile["bio"]) == ("Ada Lovelace", "ada@example.org", "I count.")


async def test_post_and_get_bookings(office: Office) -> None:
    start = later()
    body = {"student_id": office.student.id, "teacher_id": office.teacher.id, **span(start)}
    made = await office.call(office.student, "POST", "/bookings", body)
    assert made.status == 201
    assert fits(made.body, {"booking_id": TEXT, "message": "Booking created successfully"})
    for who, query in (
        (office.student, f"student_id={office.student.id}"),
        (office.teacher, f"teacher_id={office.teacher.id}"),
    ):
        listed = await office.call(who, "GET", f"/bookings?{query}")
        assert listed.status == 200
        assert fits(listed.body, [BOOKING | BOOKING_ALSO])
        [booking] = listed.body
        assert (booking["booking_id"], booking["status"]) == (made.body["booking_id"], "pending")
        assert booking["start_time"] == f"{start:%Y-%m-%dT%H:%M:%SZ}"


async def test_get_the_session_of_a_booking(office: Office) -> None:
    booking_id = await office.booked()
    session = await office.call(office.student, "GET", f"/bookings/{booking_id}/session")
    assert session.status == 200
    assert fits(session.body, SESSION_OF_BOOKING)
    assert session.body == {
        "session_id": booking_id,
        "booking_id": booking_id,
        "status": "pending",
        "meeting_data": {},
        "notes": [],
        "files": [],
    }


async def test_post_get_and_delete_availability(office: Office) -> None:
    body = {"teacher_id": office.teacher.id, **span(later())}
    made = await office.call(office.teacher, "POST", "/availability", body)
    assert made.status == 201
    assert fits(made.body, {"id": TEXT, "message": "Availability slot created successfully"})
    for query in (f"?teacher_id={office.teacher.id}", ""):
        listed = await office.call(office.student, "GET", f"/availability{query}")
        assert listed.status == 200
        assert fits([slot for slot in listed.body if slot["id"] == made.body["id"]], [SLOT | SLOT_ALSO])
        assert made.body["id"] in [slot["id"] for slot in listed.body]
    deleted = await office.call(office.teacher, "DELETE", f"/availability/{made.body['id']}")
    assert (deleted.status, deleted.body) == (200, {"message": "Availability slot deleted successfully"})
    listed = await office.call(office.student, "GET", f"/availability?teacher_id={office.teacher.id}")
    assert (listed.status, listed.body) == (200, [])


async def test_post_get_and_put_sessions(office: Office) -> None:
    booking_id = await office.booked("confirmed")
    for status in (201, 200):
        asked = await office.call(office.student, "POST", "/sessions", {"booking_id": booking_id})
        assert (asked.status, asked.body) == (
            status,
            {"session_id": booking_id, "message": "Session created successfully"},
        )
    update = {"status": "active", "notes": [NOTE], "files": [FILE]}
    updated = await office.call(office.teacher, "PUT", f"/sessions/{booking_id}", update)
    assert (updated.status, updated.body) == (200, {"message": "Session updated successfully"})
    shown = await office.call(office.student, "GET", f"/sessions/{booking_id}")
    assert shown.status == 200
    assert fits(shown.body, SESSION)
    assert {name: shown.body[name] for name in update} == update
    ended = await office.call(office.teacher, "PUT", f"/sessions/{booking_id}", {"status": "completed"})
    assert (ended.status, ended.body) == (200, {"message": "Session updated successfully"})
    assert (await office.call(office.student, "GET", f"/sessions/{booking_id}")).body["status"] == "completed"


async def test_search_teachers(office: Office) -> None:
    topic = f"counting{uuid4().hex[:8]}"
    teacher = await office.newcomer("teacher", "Ada Lovelace", bio="I count.", topics=[topic])
    found = await office.call(office.student, "GET", f"/search/teachers?topic={topic}")
    assert (found.status, found.body) == (
        200,
        [{"user_id": teacher.id, "name": "Ada Lovelace", "bio": "I count.", "topics": [topic], "rating": None}],
    )
    booking_id = await office.booked("completed")
    reviewed = await office.call(office.student, "POST", f"/bookings/{booking_id}/review", {"rating": 4})
    assert reviewed.status == 201
    await office.save(office.teacher, topics=[topic])
    found = await office.call(office.student, "GET", f"/search/teachers?topic={topic}")
    assert [one["user_id"] for one in found.body] == [office.teacher.id, teacher.id]  # the rated one comes first
    assert fits(found.body[0], FOUND)


REQUESTS: Sequence[tuple[str, str]] = [
    ("GET", "/profiles?user_id=x"),
    ("POST", "/profiles"),
    ("GET", "/bookings?student_id=x"),
    ("POST", "/bookings"),
    ("GET", "/bookings/{}/session"),
    ("GET", "/availability"),
    ("POST", "/availability"),
    ("DELETE", "/availability/{}"),
    ("GET", "/sessions/{}"),
    ("POST", "/sessions"),
    ("PUT", "/sessions/{}"),
    ("GET", "/search/teachers?topic=x"),
]


async def test_errors_have_the_fields_that_the_document_shows(office: Office) -> None:
    """400 for what is missing, 401 without a token, 403 for somebody else's, 404 for what is not there."""
    booking_id = await office.booked()
    slot = await office.call(
        office.teacher, "POST", "/availability", {"teacher_id": office.teacher.id, **span(later())}
    )
    theirs = f"/availability/{slot.body['id']}"
    student, stranger, body = office.student, office.stranger, {"teacher_id": office.teacher.id, **span(later())}
    missing = uuid4()
    expected: dict[int, list[tuple[Person | None, str, str, dict[str, Any] | None]]] = {
        400: [
            (student, "GET", "/profiles", None),
            (student, "POST", "/profiles", {}),
            (student, "GET", "/bookings", None),
            (student, "POST", "/bookings", {}),
            (office.teacher, "POST", "/availability", {}),
            (student, "POST", "/sessions", {}),
            (student, "GET", "/search/teachers", None),
        ],
        401: [(None, method, path.format(booking_id), None) for method, path in REQUESTS],
        403: [
            (stranger, "POST", "/profiles", {"user_id": student.id, "role": "student", "profile_data": {"name": "X"}}),
            (stranger, "GET", f"/bookings?student_id={student.id}", None),
            (stranger, "POST", "/bookings", {"student_id": student.id, **body}),
            (stranger, "GET", f"/bookings/{booking_id}/session", None),
            (student, "POST", "/availability", body),
            (student, "DELETE", theirs, None),
            (stranger, "GET", f"/sessions/{booking_id}", None),
            (stranger, "POST", "/sessions", {"booking_id": booking_id}),
            (student, "PUT", f"/sessions/{booking_id}", {"status": "active"}),
        ],
        404: [
            (student, "GET", "/profiles?user_id=nobody", None),
            (student, "GET", f"/bookings/{missing}/session", None),
            (office.teacher, "DELETE", f"/availability/{missing}", None),
            (student, "GET", f"/sessions/{missing}", None),
            (student, "POST", "/sessions", {"booking_id": str(missing)}),
            (student, "PUT", f"/sessions/{missing}", {"notes": []}),
            (student, "GET", "/nowhere", None),
        ],
    }
    for status, requests in expected.items():
        for who, method, path, sent in requests:
            answer = await office.call(who, method, path, sent)
            assert answer.status == status, (method, path, answer)
            document = {name: value for name, value in answer.body.items() if name != "fields"}
            assert fits(document, ERROR)
            assert document["status_code"] == status
