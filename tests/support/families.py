"""A lesson with everything in it, and its ids put into the paths of the route table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any, Final
from uuid import UUID

from aiohttp import FormData

from handlers.http.routes import Route
from tests.support.apps import App
from tests.support.drawings import stroke
from tests.support.lessons import make_content, member
from tests.support.sending import PNG, begin

#: What every family writes wherever it can: nobody else may ever be shown it.
SECRET_WORDS: Final = "what is nobody else's business"

#: What stands for a parameter, by the piece of the path before it: an attribute of Family.
FILLERS: Final[Mapping[tuple[str, str], str]] = {
    ("sessions", "{ref}"): "lesson_id",
    ("meetings", "{ref}"): "lesson_id",
    ("bookings", "{id}"): "lesson_id",
    ("messages", "{id}"): "message_id",
    ("reactions", "{emoji}"): "emoji",
    ("participants", "{user_id}"): "student",
    ("children", "{user_id}"): "student",
    ("availability", "{id}"): "slot_id",
    ("allocations", "{id}"): "allocation_id",
    ("notifications", "{id}"): "notification_id",
    ("courses", "{id}"): "course_id",
    ("enrollments", "{user_id}"): "student",
    ("instructor", "{instructor_id}"): "teacher",
    ("live-sessions", "{ref}"): "class_id",
    ("recordings", "{id}"): "recording_id",
    ("content", "{id}"): "content_id",
    ("comments", "{comment_id}"): "comment_id",
    ("uploads", "{id}"): "upload_id",
    ("once", "{token}"): "once_token",
    ("files", "{token}"): "file_token",
    ("bookings", "{id}.ics"): "lesson_file",
    ("calendar", "{user}.ics"): "student_file",
}


#: Slots lie one after the other, beyond all lessons, so that none is booked.
_hours: Final = count(400 * 24)


def slot_times(hours: int) -> dict[str, str]:
    """An hour so many hours from now, as a body says it."""
    start = datetime.now(UTC) + timedelta(hours=hours)
    return {"start_time": start.isoformat(), "end_time": (start + timedelta(hours=1)).isoformat()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A student, a teacher, their lesson, and a live class of the teacher's course that the student is enrolled in."""

    student: str
    teacher: str
    parent: str
    lesson_id: UUID
    room_name: str
    message_id: UUID
    slot_id: UUID
    allocation_id: UUID
    notification_id: UUID  # the teacher's
    course_id: UUID
    class_id: UUID
    meeting_id: UUID
    recording_id: UUID
    content_id: UUID
    comment_id: UUID
    upload_id: UUID  # the student's
    once_token: str
    file_token: str

    @property
    def lesson_file(self) -> str:
        return f"{self.lesson_id}.ics"

    @property
    def emoji(self) -> str:
        return "👍"

    @property
    def student_file(self) -> str:
        return f"{self.student}.ics"


async def make_family(app: App, *, student: str, teacher: str, parent: str) -> Family:
    """Book their lesson, and leave a trace of each kind in it."""
    lesson_id = await app.book(student=student, teacher=teacher, parent=parent, status="confirmed")
    path = f"/sessions/{lesson_id}"
    said = await app.call(student, "POST", f"{path}/messages", {"text": SECRET_WORDS})
    note = {"text": SECRET_WORDS, "timestamp": "2030-01-01T00:00:00Z"}
    offered = await app.call(teacher, "POST", "/availability", {"teacher_id": teacher, **slot_times(next(_hours))})
    allocation = {"studentId": student, "tutorId": teacher, "subjectId": "Mathematics"}
    assigned = await app.call("boss", "POST", "/admin/allocations", allocation)
    course = await app.call(teacher, "POST", "/courses", {"title": "Algebra"})
    course_id = UUID(course.body["id"])
    enrolled = await app.call(teacher, "POST", f"/courses/{course_id}/enrollments", {"user_id": student})
    scheduled = {"course_id": str(course_id), "starts_at": "2040-01-01T09:00:00Z"}
    class_made = await app.call(teacher, "POST", "/live-sessions", scheduled)
    met = await app.call(teacher, "POST", "/meetings", {"session_id": str(lesson_id)})
    for answer in (
        met,
        course,
        enrolled,
        class_made,
        said,
        offered,
        assigned,
        await app.call(teacher, "PUT", path, {"status": "active", "notes": [note]}),
        await app.call(teacher, "PATCH", f"{path}/participants/{student}", {"micAllowed": False}),
    ):
        assert answer.status < 300, answer
    drawing = app.live.whiteboards.begin_draw(member(lesson_id, student), [stroke("a", text=SECRET_WORDS)])
    await drawing
    content_id = await make_content(app.pool, course_id, author=teacher)
    comment = await app.call(student, "POST", f"/content/{content_id}/comments", {"text": SECRET_WORDS})
    recorded = await app.call(teacher, "POST", f"{path}/start-recording")
    stopped = await app.call(teacher, "POST", f"{path}/stop-recording?end=false")
    for answer in (comment, recorded, stopped):
        assert answer.status < 300, answer
    photo = {"file_name": "photo.png", "content_type": "image/png"}
    given = await app.call(student, "POST", "/presigned-url", photo)
    room_name = await app.pool.fetchval("SELECT room_name FROM sessions WHERE id = $1", lesson_id)
    notified = await app.call(teacher, "GET", "/notifications")
    return Family(
        student=student,
        teacher=teacher,
        parent=parent,
        lesson_id=lesson_id,
        room_name=room_name,
        message_id=UUID(said.body["id"]),
        slot_id=UUID(offered.body["id"]),
        allocation_id=UUID(assigned.body["id"]),
        course_id=course_id,
        class_id=UUID(class_made.body["_id"]),
        meeting_id=UUID(met.body["meeting_id"]),
        notification_id=UUID(notified.body[0]["id"]),
        recording_id=UUID(recorded.body["recordingId"]),
        content_id=content_id,
        comment_id=UUID(comment.body["id"]),
        upload_id=UUID((await begin(app, student, len(PNG))).rpartition("/")[2]),
        once_token=given.body["upload_url"].rpartition("/")[2],
        file_token=given.body["file_url"].rpartition("/")[2],
    )


def parameters(path: str) -> list[tuple[str, str]]:
    """The parameters of a path, each with the piece before it."""
    pieces = path.split("/")
    return [(before, piece) for before, piece in pairwise(pieces) if "{" in piece]


def fill(route: Route, *families: Family) -> str:
    """The route's path with ids: the first parameter is the first family's, and so on; the last one's for the rest."""
    path = route.path
    for index, (before, parameter) in enumerate(parameters(path)):
        attribute = FILLERS.get((before, parameter))
        assert attribute is not None, (
            f"{route.method} {route.path} is new: say in {__name__}.FILLERS what stands for {parameter} after {before}"
        )
        family = families[min(index, len(families) - 1)]
        path = path.replace(f"{before}/{parameter}", f"{before}/{getattr(family, attribute)}", 1)
    return path


#: A body that the route accepts from those who may; None where it takes none.
BODIES: Final[Mapping[tuple[str, str], Mapping[str, Any] | None]] = {
    ("POST", "/profiles"): {"user_id": "kid", "role": "student", "profile_data": {"name": "Changed"}},
    ("PUT", "/children/{user_id}"): None,
    ("POST", "/bookings"): {
        "student_id": "kid",
        "teacher_id": "teach2",
        "start_time": "2040-01-01T09:00:00Z",
        "end_time": "2040-01-01T10:00:00Z",
    },
    ("PATCH", "/bookings/{id}"): {"status": "cancelled"},
    ("POST", "/bookings/{id}/review"): {"rating": 5, "comment": "Patient."},
    ("POST", "/availability"): {"teacher_id": "teach", **slot_times(30 * 24)},
    ("POST", "/calendar/rotate"): None,
    ("POST", "/sessions"): {},
    ("PUT", "/sessions/{ref}"): {"notes": []},
    ("PATCH", "/sessions/{ref}"): {"title": "Changed", "locked": True},
    ("POST", "/courses"): {"title": "Changed", "instructor_id": "teach"},
    ("PATCH", "/courses/{id}"): {"title": "Changed"},
    ("POST", "/courses/{id}/enrollments"): {"user_id": "kid"},
    ("POST", "/live-sessions"): {
        "course_id": "00000000-0000-0000-0000-000000000000",
        "starts_at": "2040-01-01T09:00:00Z",
    },
    ("PATCH", "/live-sessions/{ref}/start"): None,
    ("PATCH", "/live-sessions/{ref}/end"): None,
    ("POST", "/sessions/{ref}/messages"): {"text": "changed"},
    ("PATCH", "/sessions/{ref}/messages/{id}"): {"text": "changed"},
    ("PUT", "/sessions/{ref}/messages/{id}/reactions/{emoji}"): None,
    ("PUT", "/sessions/{ref}/pinned-message"): {"id": "00000000-0000-0000-0000-000000000001"},
    ("PATCH", "/sessions/{ref}/participants/{user_id}"): {"wasKicked": True},
    ("POST", "/sessions/{ref}/token"): None,
    ("POST", "/sessions/{ref}/meeting/move"): None,
    ("POST", "/webhooks/daily"): None,  # it is signed as it is: handlers/http/test_webhooks.py
    ("POST", "/meetings"): {"session_id": "00000000-0000-0000-0000-000000000000"},
    ("POST", "/attendees"): {"meeting_id": "00000000-0000-0000-0000-000000000000", "user_id": "kid", "name": "Kid"},
    ("POST", "/admin/allocations"): {"studentId": "kid", "tutorId": "teach2", "subjectId": "Poetry"},
    ("POST", "/sessions/{ref}/start-recording"): None,
    ("POST", "/sessions/{ref}/stop-recording"): None,
    ("POST", "/sessions/{ref}/recordings"): None,  # a form, as the next two
    ("POST", "/courses/upload-content"): None,
    ("POST", "/courses/{id}/thumbnail"): None,
    ("PUT", "/sessions/{ref}/recording-consent"): {"agreed": True},
    ("PATCH", "/content/{id}"): {"title": "Changed"},
    ("PUT", "/content/{id}/progress"): {"position_seconds": 1},
    ("POST", "/content/{id}/comments"): {"text": "changed"},
    ("PUT", "/content/{id}/like"): None,
    ("OPTIONS", "/uploads"): None,
    ("POST", "/uploads"): None,
    ("PATCH", "/uploads/{id}"): None,
    ("POST", "/uploads/{id}"): None,
    ("PUT", "/uploads/once/{token}"): None,
    ("POST", "/presigned-url"): {"file_name": "photo.png", "content_type": "image/png"},
    ("POST", "/notifications/read-all"): None,
    ("PATCH", "/notifications/{id}"): {"read": True},
}


#: The first bytes of a file that the route takes in a form, which are all that it is known by at first.
FILES: Final[Mapping[tuple[str, str], bytes]] = {
    ("POST", "/sessions/{ref}/recordings"): b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm" + bytes(500),
    ("POST", "/courses/{id}/thumbnail"): b"\x89PNG\r\n\x1a\n" + bytes(50),
}


def form_for(route: Route) -> FormData | None:
    """A form that is sound. None: the route takes none."""
    content = FILES.get((route.method, route.path))
    if content is None:
        return None
    form = FormData()
    form.add_field("file", content, filename="a-file")
    return form


def body_for(route: Route) -> Mapping[str, Any] | None:
    """A body that is sound. None: the route takes none."""
    if route.method in ("GET", "HEAD", "DELETE"):
        return None
    key = (route.method, route.path)
    assert key in BODIES, f"{route.method} {route.path} is new: say in {__name__}.BODIES what it takes"
    return BODIES[key]
