"""What people are told outside of any room, over two workers: reminders, and new students."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

from domain.reminders import JITTER, LOOK_SECONDS
from tests.acceptance.conftest import Pair
from tests.acceptance.lessons import Person
from tests.acceptance.offices import HOUR, Office
from tests.conftest import Connect, ConnectNode
from tests.support.recorder import Recorder

#: In a time as long as this every worker looks, and tells of what it has found.
ALL_HAVE_LOOKED = LOOK_SECONDS * (1 + JITTER) + 1.0


def reminders(events: Recorder) -> list[dict[str, object]]:
    return [data for data in events.of("notification") if data["kind"] == "session_reminder"]


async def test_each_device_of_a_lessons_people_is_reminded_once_whichever_worker_it_is_on(
    pair: Pair, connect: Connect, connect_node: ConnectNode
) -> None:
    """REMINDER_MINUTES=15, as it is unless somebody sets it."""
    office = await Office.open(pair.one.url)
    other = await office.newcomer("teacher", "Other Teacher")
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=10)
    away = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=40)
    quarter = HOUR / 4

    people = (office.student, office.parent, office.teacher, other, office.stranger, office.admin)
    devices: list[tuple[Person, Recorder]] = []
    for url in pair.urls:
        devices += [(who, (await connect(url, who.token())).events) for who in people]
    devices.append((office.student, (await connect_node(pair.two.url, office.student.token())).events))

    # Nobody is reminded of these: still pending, cancelled, too far ahead.
    await office.booked("pending", soon + quarter, quarter)
    await office.booked("cancelled", soon, quarter)
    await office.booked("confirmed", away)
    wanted = await office.booked("confirmed", soon, quarter)
    due_at = time.monotonic()

    asked = (office.student, office.parent, office.teacher)
    told = [events for who, events in devices if who in asked]
    await asyncio.gather(
        *(events.wait_for("notification", lambda one: one["kind"] == "session_reminder", 30) for events in told)
    )
    # The other worker looks, too, and finds that it is done.
    await asyncio.sleep(max(0.0, due_at + ALL_HAVE_LOOKED - time.monotonic()))
    for who, events in devices:
        heard = reminders(events)
        assert len(heard) == (1 if who in asked else 0), (who.role, heard)
        for one in heard:
            assert one["data"] == {
                "booking_id": wanted,
                "session_id": wanted,
                "start_time": f"{soon:%Y-%m-%dT%H:%M:%SZ}",
            }
            assert one["title"] == "Your lesson starts in 10 minutes"
    bodies = {who.role: reminders(events)[0]["body"] for who, events in devices if who in asked}
    assert bodies == {
        "student": "With Tea Cher",
        "teacher": "With Stu Dent",
        "parent": "Stu Dent with Tea Cher",
    }


async def test_a_tutor_hears_of_a_new_student_at_once_on_every_device_and_nobody_else_does(
    pair: Pair, connect: Connect
) -> None:
    office = await Office.open(pair.one.url)
    tutors = [(await connect(url, office.teacher.token())).events for url in pair.urls]
    others = [
        (await connect(url, who.token())).events for url in pair.urls for who in (office.student, office.stranger)
    ]
    body = {"studentId": office.student.id, "tutorId": office.teacher.id, "subjectId": "Mathematics"}
    made = await office.call(office.admin, "POST", "/admin/allocations", body)
    assert (made.status, made.body) == (201, {"success": True, "message": "Tutor assigned", "id": made.body["id"]})
    for events in tutors:
        heard = await events.wait_for("notification")
        assert (heard["kind"], heard["title"], heard["read"]) == ("allocation", "You have a new student", False)
        assert heard["body"] == "Stu Dent: Mathematics"
        assert heard["data"] == {
            "allocation_id": made.body["id"],
            "student_id": office.student.id,
            "subject_id": "Mathematics",
        }
    again = await office.call(office.admin, "POST", "/admin/allocations", body)
    assert (again.status, again.body["id"]) == (200, made.body["id"])
    # What comes after a second, new one shows that the repetition was not told.
    await office.call(office.admin, "POST", "/admin/allocations", {**body, "subjectId": "Poetry"})
    for events in tutors:
        await events.wait_for("notification", lambda one: one["data"].get("subject_id") == "Poetry")
        assert [one["data"]["subject_id"] for one in events.of("notification")] == ["Mathematics", "Poetry"]
    assert [events.of("notification") for events in others] == [[]] * len(others)
