"""The school's office: `encounters demo` fills a school, and an administrator looks after it."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.acceptance.lessons import Person
from tests.acceptance.offices import Office
from tests.support.servers import PASSED_ON, Server
from tests.tools import ROOT

TEACHERS, STUDENTS, PARENTS = 20, 200, 160
LISTS = ("students", "tutors", "allocations", "audit")
SECONDS = 60


def run_demo(dsn: str) -> str:
    """`encounters demo`: what it said."""
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    ran = subprocess.run(
        [sys.executable, "-m", "server", "demo"],
        cwd=ROOT,
        env=environment | {"DATABASE_URL": dsn, "LOG_LEVEL": "warning"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


@pytest.fixture(scope="module")
def school(module_database: str) -> str:
    """The module's school; what the command said."""
    return run_demo(module_database)


@pytest.fixture
async def office(school: str, server: Server) -> Office:
    del school
    return await Office.open(server.url)


async def whole(office: Office, name: str, *, limit: int = 1000, q: str = "") -> list[Any]:
    """A list, read piece by piece."""
    path, found = f"/admin/{name}?limit={limit}&q={q}", []
    while path:
        piece = await office.call(office.admin, "GET", path)
        assert piece.status == 200, piece
        assert len(piece.body) <= limit
        found += piece.body
        following = re.fullmatch(r'<(.*)>; rel="next"', piece.headers.get("Link", ""))
        path = following[1] if following else ""
    return found


async def table(office: Office, name: str, q: str = "") -> list[dict[str, str]]:
    exported = await office.call(office.admin, "GET", f"/admin/{name}?format=csv&limit=1&q={q}")
    assert exported.status == 200
    assert exported.headers["Content-Type"].startswith("text/csv; charset=utf-8")
    assert exported.headers["Content-Disposition"] == f'attachment; filename="{name}.csv"'
    return list(csv.DictReader(io.StringIO(exported.body, newline="")))


async def test_the_demo_makes_a_school_that_its_people_can_use(school: str, office: Office) -> None:
    people = TEACHERS + STUDENTS + PARENTS
    assert re.search(rf"Added {people} people, \d+ lessons from .* and \d+ messages\.", school, re.DOTALL)
    # A lesson as its teacher and as its student, and a live class.
    assert len(re.findall(r"\?as=demo-(teacher|student)-\d+&session=[\w-]+", school)) == 3
    for user_id, role, key in (
        ("demo-teacher-01", "teacher", "teacher_id"),
        ("demo-student-001", "student", "student_id"),
    ):
        person = Person(user_id, role, "De Mo")
        lessons = await office.call(person, "GET", f"/bookings?{key}={user_id}")
        assert lessons.status == 200
        assert len(lessons.body) > 3
        session = await office.call(person, "GET", f"/sessions/{lessons.body[0]['booking_id']}")
        assert session.status == 200
    found = await office.call(office.student, "GET", "/search/teachers?topic=geometry")
    assert found.status == 200
    assert found.body


async def test_the_demo_run_again_adds_nothing_on_the_same_day(
    module_database: str, school: str, office: Office
) -> None:
    before = (await office.call(office.admin, "GET", "/admin/stats")).body
    said = await asyncio.to_thread(run_demo, module_database)
    assert said.startswith(("Nothing to do", "Added 0 people"))  # a new day has new lessons, but no new people
    after = (await office.call(office.admin, "GET", "/admin/stats")).body
    assert {name: after[name] for name in ("students", "parents", "tutors")} == {
        name: before[name] for name in ("students", "parents", "tutors")
    }


async def test_the_numbers_follow_what_happens(office: Office) -> None:
    async def stats() -> dict[str, int]:
        answer = await office.call(office.admin, "GET", "/admin/stats")
        assert answer.status == 200
        numbers: dict[str, int] = answer.body
        return numbers

    before = await stats()
    assert before["students"] >= STUDENTS
    assert before["tutors"] >= TEACHERS
    assert before["parents"] >= PARENTS
    booking_id = await office.booked("confirmed")
    await office.call(office.student, "POST", f"/sessions/{booking_id}/messages", {"text": "Hello"})
    booked = await stats()
    assert booked["upcomingSessions"] == before["upcomingSessions"] + 1
    assert booked["messagesToday"] == before["messagesToday"] + 1
    await office.call(office.teacher, "PUT", f"/sessions/{booking_id}", {"status": "active"})
    live = await stats()
    assert live["upcomingSessions"] == before["upcomingSessions"]
    assert live["liveSessions"] == before["liveSessions"] + 1
    await office.newcomer("student", "New Comer")
    assert (await stats())["students"] == before["students"] + 1


async def test_nobody_but_an_admin_is_shown_anything(office: Office) -> None:
    for who in (office.teacher, office.parent, office.student):
        for name in ("stats", *LISTS):
            answer = await office.call(who, "GET", f"/admin/{name}")
            assert (answer.status, answer.body["error"]) == (403, "forbidden")
        body = {"studentId": office.student.id, "tutorId": office.teacher.id, "subjectId": "Mathematics"}
        assert (await office.call(who, "POST", "/admin/allocations", body)).status == 403


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_is_the_same_in_pieces_and_as_a_table(office: Office, name: str) -> None:
    for subject in ("Mathematics", "Poetry", "=HYPERLINK(1)"):
        body = {"studentId": office.student.id, "tutorId": office.teacher.id, "subjectId": subject}
        assert (await office.call(office.admin, "POST", "/admin/allocations", body)).status == 201
    listed = await whole(office, name)
    assert await whole(office, name, limit=17) == listed
    assert len({one["id"] for one in listed}) == len(listed) >= 3
    rows = await table(office, name)
    assert [row["id"] for row in rows] == [str(one["id"]) for one in listed]
    if name in ("students", "tutors"):
        names = [(one["last_name"].lower(), one["first_name"].lower()) for one in listed]
        assert names == sorted(names)
    if name == "allocations":
        assert [row["subject_id"] for row in rows[:3]] == ["'=HYPERLINK(1)", "Poetry", "Mathematics"]
    if name == "students":
        by_id = {one["id"]: one for one in listed}
        assert by_id[office.student.id]["parent"] == {"id": office.parent.id, "email": None}
        assert by_id["demo-student-001"]["parent"]["id"] == "demo-parent-001"


async def test_lists_are_searched_by_beginnings_of_words(office: Office) -> None:
    ada = await office.newcomer("student", "Zacharias Quixote", email="zq@example.org")
    for q in ("quix", "zach QUIXOTE", "zq@example.org", ada.id):
        assert [one["id"] for one in await whole(office, "students", q=q)] == [ada.id], q
    assert await whole(office, "students", q="quixote nobody") == []
    assert await whole(office, "tutors", q="quixote") == []
    assert [row["id"] for row in await table(office, "students", q="quix")] == [ada.id]


async def test_an_allocation_is_made_listed_and_ended_and_stands_in_the_audit_log(office: Office) -> None:
    body = {"studentId": office.student.id, "tutorId": office.teacher.id, "subjectId": "Mathematics"}
    made = await office.call(office.admin, "POST", "/admin/allocations", body)
    assert (made.status, made.body) == (201, {"success": True, "message": "Tutor assigned", "id": made.body["id"]})
    [listed] = await whole(office, "allocations", q=office.student.id)
    assert {name: listed[name] for name in ("id", "student_name", "tutor_name", "subject_id", "created_by")} == {
        "id": made.body["id"],
        "student_name": "Stu Dent",
        "tutor_name": "Tea Cher",
        "subject_id": "Mathematics",
        "created_by": office.admin.id,
    }
    for status in (200, 404):
        ended = await office.call(office.admin, "DELETE", f"/admin/allocations/{made.body['id']}")
        assert ended.status == status
    saved = await office.save(office.student, by=office.admin)
    assert saved.status == 200
    booking_id = await office.booked("confirmed")
    kicked = await office.call(
        office.teacher, "PATCH", f"/sessions/{booking_id}/participants/{office.student.id}", {"wasKicked": True}
    )
    assert kicked.status == 200
    entries = await whole(office, "audit", q=office.student.id)
    # Further acts may be noted; of these, in this order, none may be missing.
    noted = [(one["action"], one["actor_id"]) for one in entries if one["subject"] == office.student.id]
    wanted = [
        ("participant_kicked", office.teacher.id),
        ("profile_saved", office.admin.id),
        ("tutor_unassigned", office.admin.id),
        ("tutor_assigned", office.admin.id),
    ]
    assert [one for one in noted if one in wanted] == wanted
    assert entries == sorted(entries, key=lambda one: one["id"], reverse=True)
    # Nobody changes what was noted.
    for method in ("DELETE", "PATCH", "PUT", "POST"):
        assert (await office.call(office.admin, method, "/admin/audit", {})).status == 405
