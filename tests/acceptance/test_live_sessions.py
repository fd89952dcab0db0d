"""Live classes from outside: the examples of the documents that clients were written against, and both doors."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest

from tests.acceptance.conftest import Pair, Sit
from tests.acceptance.lessons import Answer, Lesson, Person, rest, until

#: Promised: "losing an enrollment takes effect on open sockets within 1 s".
AT_ONCE = 1.0
#: S2's request example, but for the course.
S2_REQUEST = {"startsAt": "2025-12-26T15:00:00.000Z", "recordingEnabled": True, "maxParticipants": 50}


class Class(Lesson):
    """A course of the teacher's with the student in it, and a live class."""

    course_id = ""
    document: dict[str, Any]

    @classmethod
    async def arrange(cls, url: str) -> Class:
        lesson = cls(url)
        for person in (lesson.teacher, lesson.student, lesson.parent):
            await lesson.meet(person)
        await lesson.set_parent(lesson.parent.id)
        course = await rest(url, "POST", "/courses", {"title": "Algebra"}, token=lesson.teacher.token())
        assert course.status == 201, course
        lesson.course_id = course.body["id"]
        enrolled = await rest(url, "POST", f"/courses/{lesson.course_id}/enrollments", {}, token=lesson.student.token())
        assert enrolled.status == 201, enrolled
        made = await rest(
            url, "POST", "/sessions", S2_REQUEST | {"courseId": lesson.course_id}, token=lesson.teacher.token()
        )
        assert made.status == 201, made
        lesson.document = made.body
        lesson.id, lesson.room_name = made.body["_id"], made.body["roomName"]
        return lesson

    async def ask(self, method: str, path: str, body: Any = None, *, by: Person | None, url: str = "") -> Answer:
        return await rest(url or self.url, method, path, body, token=by.token() if by else None)


def moment(text: str) -> datetime:
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


async def test_s2s_examples_as_they_stand(pair: Pair) -> None:
    lesson = await Class.arrange(pair.one.url)
    made, teacher = lesson.document, lesson.teacher
    assert set(made) == {
        *("_id", "courseId", "roomName", "title", "status", "startsAt", "endsAt", "createdBy"),
        *("recordingEnabled", "maxParticipants", "createdAt", "updatedAt"),
    }
    assert (made["courseId"], made["status"], made["endsAt"], made["createdBy"]) == (
        lesson.course_id,
        "scheduled",
        None,
        teacher.id,
    )
    assert (made["recordingEnabled"], made["maxParticipants"]) == (True, 50)
    assert moment(made["startsAt"]) == moment(S2_REQUEST["startsAt"])  # type: ignore[arg-type]
    missing = await lesson.ask("POST", "/sessions", {"courseId": lesson.course_id}, by=teacher)
    assert (missing.status, missing.body["message"]) == (400, "courseId and startsAt are required")

    for url in pair.urls:
        shown = await lesson.ask("GET", f"/sessions/{lesson.room_name}", by=None, url=url)
        assert (shown.status, shown.body) == (200, made)
        listed = await lesson.ask("GET", f"/sessions/instructor/{teacher.id}", by=None, url=url)
        assert (listed.status, listed.body) == (200, [made])
    unknown = await lesson.ask("GET", "/sessions/unique-room-name", by=None)
    assert (unknown.status, unknown.body["message"]) == (404, "Session not found")

    for person in (lesson.student, lesson.parent):
        refused = await lesson.ask("DELETE", f"/sessions/{lesson.room_name}", by=person)
        assert (refused.status, refused.body["message"]) == (
            403,
            f"Not authorized to delete session:{lesson.room_name}",
        )
    for url in pair.urls:
        ended = await lesson.ask("DELETE", f"/sessions/{lesson.room_name}", by=teacher, url=url)
        assert (ended.status, ended.body["status"]) == (200, "ended")
        assert moment(ended.body["endsAt"]) >= moment(made["createdAt"])
    gone = await lesson.ask("DELETE", "/sessions/unique-room-name", by=teacher)
    assert (gone.status, gone.body["message"]) == (404, "Session not found")


async def test_s4s_flow_as_it_stands(pair: Pair) -> None:
    lesson = await Class.arrange(pair.one.url)
    teacher, student = lesson.teacher, lesson.student
    [mine] = (await lesson.ask("GET", "/courses/instructor/my-courses", by=teacher)).body
    assert (mine["id"], mine["enrollment_count"], mine["content_count"], mine["session_count"]) == (
        lesson.course_id,
        1,
        0,
        1,
    )
    body = {"course_id": lesson.course_id, "starts_at": "2031-01-01T09:00:00Z", "title": "Vectors"}
    made = await lesson.ask("POST", "/live-sessions", body, by=teacher)
    assert (made.status, made.body["title"], made.body["recordingEnabled"]) == (201, "Vectors", False)
    for person in (teacher, student):
        listed = await lesson.ask("GET", f"/courses/{lesson.course_id}/sessions", by=person)
        assert listed.body == [made.body | {"participantCount": 0}, lesson.document | {"participantCount": 0}]
    assert (await lesson.ask("GET", f"/courses/{lesson.course_id}/sessions", by=lesson.parent)).status == 403
    started = await lesson.ask("PATCH", f"/live-sessions/{made.body['_id']}/start", by=teacher)
    assert (started.status, started.body["status"]) == (200, "live")
    notified = (await lesson.ask("GET", "/notifications", by=student)).body
    assert [(one["kind"], one["data"]["session_id"]) for one in notified] == [
        ("session_started", made.body["_id"]),
        ("session_scheduled", made.body["_id"]),
        ("session_scheduled", lesson.id),
    ]


@pytest.mark.parametrize("by", ["the socket", "REST"])
async def test_an_end_is_shown_to_everybody_and_chat_stays_open(pair: Pair, sit: Sit, by: str) -> None:
    lesson = await Class.arrange(pair.one.url)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    student = await sit(pair.two.url, lesson, lesson.student)
    assert (student.ack["session"]["_id"], student.ack["session"]["kind"]) == (lesson.id, "course")
    assert (student.ack["session"]["status"], student.ack["session"]["session_id"]) == ("scheduled", lesson.id)
    assert (teacher.ack["you"]["is_host"], student.ack["you"]["is_host"]) == (True, False)
    await lesson.ask("PATCH", f"/live-sessions/{lesson.id}/start", by=lesson.teacher)
    if by == "the socket":
        assert (await student.call("endSession"))["error"]["error"] == "not_host"
        assert await teacher.call("endSession") == {"ok": True}
    else:
        await lesson.ask("PATCH", f"/live-sessions/{lesson.id}/end", by=lesson.teacher, url=pair.two.url)
    for seat in (teacher, student):
        await seat.hears("sessionStatus", status="ended")
        assert [data["status"] for data in seat.came("sessionStatus")] == ["live", "ended"]
        assert seat.came("kicked") == []
    await student.say("one more question")
    await teacher.hears_up_to(3)
    assert teacher.texts == ["one more question"]


async def test_what_the_host_sets_is_everybodys_on_every_worker(pair: Pair, sit: Sit) -> None:
    lesson = await Class.arrange(pair.one.url)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    student = await sit(pair.two.url, lesson, lesson.student)
    refused = await student.call("setSession", locked=False)
    assert (refused["ok"], refused["error"]["error"]) == (False, "not_host")
    for payload in ({}, {"slowModeSeconds": 3601}, {"locked": "yes"}):
        refused = await teacher.call("setSession", **payload)
        assert (refused["ok"], refused["error"]["status_code"]) == (False, 400)
    done = await teacher.call("setSession", whiteboardLocked=True, slowModeSeconds=1)
    settings = {
        "locked": False,
        "waitingRoom": False,
        "chatMuted": False,
        "slowModeSeconds": 1,
        "whiteboardLocked": True,
        "recordingConsent": False,
    }
    assert done == {"ok": True, "settings": settings}
    changed = await lesson.call("PATCH", "", {"title": "Vectors", "slowModeSeconds": 0}, by=lesson.teacher)
    assert (changed.status, changed.body["title"], changed.body["slowModeSeconds"]) == (200, "Vectors", 0)
    for seat in (teacher, student):
        await seat.hears_up_to(2)
        assert seat.came("sessionSettings") == [
            {"seq": 1, "session_id": lesson.id, **settings},
            {"seq": 2, "session_id": lesson.id, **settings, "slowModeSeconds": 0},
        ]
    late = await sit(pair.two.url, lesson, lesson.teacher, last_seq=0)
    session = late.ack["session"]
    assert {name: session[name] for name in settings} == settings | {"slowModeSeconds": 0}
    assert (session["title"], session["maxParticipants"], session["pinnedMessageId"]) == ("Vectors", 50, None)
    assert [one["event"] for one in late.ack["events"]] == ["sessionSettings"] * 2


async def test_whoever_loses_the_enrollment_is_out_on_every_worker_at_once(pair: Pair, sit: Sit) -> None:
    lesson = await Class.arrange(pair.one.url)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    tabs = [await sit(url, lesson, lesson.student) for url in pair.urls]
    path = f"/courses/{lesson.course_id}/enrollments/{lesson.student.id}"
    ended_at = time.monotonic()
    assert (await lesson.ask("DELETE", path, by=lesson.teacher)).status == 200
    for tab in tabs:
        await tab.hears("kicked", session_id=lesson.id)
    assert time.monotonic() - ended_at < AT_ONCE
    left = await teacher.hears("participantLeft", userId=lesson.student.id)
    assert left["reason"] == "removed"
    for tab in tabs:
        assert (await tab.call("sendMessage", text="still here"))["error"]["error"] == "not_joined"
        assert (await tab.call("joinSession"))["error"]["error"] == "forbidden"
    for url in pair.urls:
        assert (await lesson.call("GET", "/messages", by=lesson.student, url=url)).status == 403
    again = await lesson.ask(
        "POST", f"/courses/{lesson.course_id}/enrollments", {"user_id": lesson.student.id}, by=lesson.parent
    )
    assert again.status == 201
    assert (await tabs[1].call("joinSession"))["ok"]


async def test_strangers_see_the_card_and_nothing_else(pair: Pair, sit: Sit) -> None:
    lesson, others = await Class.arrange(pair.one.url), await Class.arrange(pair.one.url)
    await lesson.post("for us alone", by=lesson.teacher)
    for stranger in (others.teacher, others.student, lesson.parent):
        assert (await lesson.call("GET", "", by=stranger)).body["_id"] == lesson.id
        for method, path, body in (
            ("GET", "/messages", None),
            ("POST", "/messages", {"text": "hello"}),
            ("GET", "/timeline", None),
            ("GET", "/participants", None),
            ("PATCH", "", {"locked": True}),
            ("PUT", "", {"notes": []}),
            ("DELETE", "", None),
        ):
            refused = await lesson.call(method, path, body, by=stranger)
            assert refused.status == 403, (method, path)
            assert "for us alone" not in str(refused.body)
    seat = await sit(pair.two.url, others, others.student)
    ack = await seat.client.call("joinSession", {"sessionId": lesson.room_name})
    assert (ack["ok"], ack["error"]["message"]) == (False, "Access denied to this session")


async def test_the_notification_of_a_class_comes_over_the_socket(pair: Pair, sit: Sit) -> None:
    lesson = await Class.arrange(pair.one.url)
    student = await sit(pair.two.url, lesson, lesson.student)
    await lesson.ask("PATCH", f"/live-sessions/{lesson.id}/start", by=lesson.teacher)
    told = await student.hears("notification", kind="session_started")
    assert (told["title"], told["data"]["room_name"]) == ("Algebra has begun", lesson.room_name)
    await until(lambda: len(student.came("sessionStatus")) == 1, "the status")
