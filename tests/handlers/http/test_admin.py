"""`/admin`, over a real database."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from yarl import URL

from tests.handlers.http.conftest import Api
from tests.support.lessons import ROLES, book

LISTS = ("/admin/students", "/admin/tutors", "/admin/allocations", "/admin/audit")
MATHS = {"studentId": "kid", "tutorId": "teach", "subjectId": "Maths"}


@pytest.fixture(autouse=True)
async def people(api: Api) -> None:
    await api.meet(*ROLES.items())
    await api.pool.execute("UPDATE users SET parent_id = 'mum' WHERE id = 'kid'")
    await api.pool.execute("UPDATE users SET email = id || '@example.org', first_name = initcap(id)")


async def call(api: Api, method: str, path: str, body: Any = None, who: str = "boss") -> tuple[int, Any]:
    return await api.call(method, path, body, token=api.token(who, ROLES[who]))


async def table(api: Api, path: str) -> list[dict[str, str]]:
    """The rows of a list as CSV, by the names of its columns."""
    response = await api.response("GET", path, token=api.token("boss", "admin"))
    assert (response.status, response.content_type) == (200, "text/csv")
    return list(csv.DictReader(io.StringIO(await response.text(), newline="")))


@pytest.mark.parametrize("who", ["teach", "kid", "mum"])
async def test_nobody_but_an_admin_sees_or_does_anything(api: Api, who: str) -> None:
    await call(api, "POST", "/admin/allocations", MATHS)
    attempts: list[tuple[str, str, Any]] = [
        ("GET", "/admin/stats", None),
        *(("GET", path, None) for path in LISTS),
        *(("GET", f"{path}?format=csv&q=kid", None) for path in LISTS),
        ("POST", "/admin/allocations", MATHS),
        ("POST", "/admin/allocations", {}),
        ("DELETE", f"/admin/allocations/{uuid4()}", None),
    ]
    for method, path, body in attempts:
        status, answer = await call(api, method, path, body, who)
        assert (status, answer["error"]) == (403, "forbidden"), path
        assert (await api.call(method, path, body))[0] == 401


async def test_the_numbers_of_the_school(api: Api) -> None:
    lesson = await book(api.pool)
    await book(api.pool)
    await call(api, "PUT", f"/sessions/{lesson}", {"status": "active"}, "teach")
    # As if it came a minute from now: midnight may be between it and the look.
    await api.pool.execute(
        "INSERT INTO session_messages (id, session_id, seq, user_id, sender_name, text, created_at)"
        " VALUES (gen_random_uuid(), $1, 100, 'kid', 'Kid', 'hello', now() + interval '1 minute')",
        lesson,
    )
    assert await call(api, "GET", "/admin/stats") == (
        200,
        {
            "students": 2,
            "parents": 3,
            "tutors": 2,
            "upcomingSessions": 1,
            "liveSessions": 1,
            "participantsOnline": 0,
            "messagesToday": 1,
            "recordingsBytes": 0,
        },
    )


async def test_students_come_with_their_parents(api: Api) -> None:
    status, answer = await call(api, "GET", "/admin/students")
    for student in answer:
        assert datetime.fromisoformat(student.pop("created_at")) > datetime.now(UTC) - timedelta(minutes=1)
    same = {"last_name": "", "timezone": "UTC"}
    assert (status, answer) == (
        200,
        [
            {"id": "kid", "first_name": "Kid", "email": "kid@example.org",
             "parent": {"id": "mum", "email": "mum@example.org"}, **same},
            {"id": "kid2", "first_name": "Kid2", "email": "kid2@example.org", "parent": None, **same},
        ],
    )  # fmt: skip


async def test_tutors_come_with_their_subjects(api: Api) -> None:
    await api.pool.execute("UPDATE users SET subjects = '{Maths,Poetry}', topics = '{algebra}' WHERE id = 'teach'")
    status, answer = await call(api, "GET", "/admin/tutors")
    assert status == 200
    assert [(tutor["id"], tutor["first_name"], tutor["last_name"], tutor["subjects"]) for tutor in answer] == [
        ("teach", "Teach", "", ["Maths", "Poetry"]),
        ("teach2", "Teach2", "", []),
    ]
    assert (answer[0]["topics"], answer[0]["rating"], answer[0]["reviews"]) == (["algebra"], None, 0)


@pytest.mark.parametrize("path", LISTS)
async def test_every_list_is_read_in_pieces_searched_and_exported(api: Api, path: str) -> None:
    for subject in ("Maths", "Poetry", "Physics"):
        for student in ("kid", "kid2"):
            await call(api, "POST", "/admin/allocations", MATHS | {"subjectId": subject, "studentId": student})
    _, whole = await call(api, "GET", path)
    found: list[Any] = []
    following: str | None = f"{path}?limit=1"
    while following is not None:
        response = await api.response("GET", following, token=api.token("boss", "admin"))
        found += await response.json()
        link = response.links.get("next")
        following = URL(link["url"]).path_qs if link else None
    assert found == whole
    assert len(whole) >= 2

    _, some = await call(api, "GET", f"{path}?q={'teach2' if path == '/admin/tutors' else 'kid2'}")
    assert 0 < len(some) < len(whole)
    assert all(one in whole for one in some)
    assert await call(api, "GET", f"{path}?q=nobody-at-all") == (200, [])

    exported = await table(api, f"{path}?format=csv")
    assert [row["id"] for row in exported] == [str(one["id"]) for one in whole]
    exported = await table(api, f"{path}?format=csv&q={'teach2' if path == '/admin/tutors' else 'kid2'}")
    assert [row["id"] for row in exported] == [str(one["id"]) for one in some]
    for query in ("format=xml", "limit=0", "cursor=%00", "q=%00"):
        assert (await call(api, "GET", f"{path}?{query}"))[0] == 400


@pytest.mark.parametrize("path", ["/admin/students", "/admin/tutors"])
async def test_somebody_renamed_between_two_pieces_moves_nobody_else(api: Api, path: str) -> None:
    role = "student" if path == "/admin/students" else "teacher"
    await api.pool.execute("DELETE FROM users WHERE role = $1", role)
    for letter in "abcdef":
        await api.pool.execute("INSERT INTO users (id, role, last_name) VALUES ($1, $2, $1)", letter, role)
    response = await api.response("GET", f"{path}?limit=3", token=api.token("boss", "admin"))
    assert [person["id"] for person in await response.json()] == ["a", "b", "c"]
    following = URL(response.links["next"]["url"]).path_qs
    for name in ("aa", "zz"):
        await api.pool.execute("UPDATE users SET last_name = $1 WHERE id = 'c'", name)
        status, rest = await call(api, "GET", following)
        assert (status, [person["id"] for person in rest][:3]) == (200, ["d", "e", "f"])
    exported = await table(api, f"{following}&format=csv")
    assert [row["id"] for row in exported] == ["d", "e", "f", "c"]
    await api.pool.execute("DELETE FROM users WHERE id = 'c'")
    assert [person["id"] for person in (await call(api, "GET", following))[1]] == ["d", "e", "f"]


@pytest.mark.parametrize(
    "cursor",
    ["kid", "%2F", "e30", "WyJhIl0", "WyJhIiwxXQ", "WyJhIiwiXHUwMDAwIl0", "gICA", "ü", "%ED%A0%80", "=", "x" * 3000],
)
async def test_a_cursor_that_no_link_has_is_400(api: Api, cursor: str) -> None:
    for path in ("/admin/students", "/admin/tutors"):
        status, answer = await call(api, "GET", f"{path}?cursor={cursor}")
        assert (status, list(answer["fields"])) == (400, ["cursor"])


async def test_the_list_goes_on_behind_the_longest_name_there_can_be(api: Api) -> None:
    await api.pool.execute(
        "UPDATE users SET last_name = repeat('🦊', 200), first_name = repeat('ﷺ', 200) WHERE role = 'student'"
    )
    token = api.token("boss", "admin")
    response = await api.response("GET", "/admin/students?limit=1", token=token)
    first = await response.json()
    second = await api.response("GET", URL(response.links["next"]["url"]).path_qs, token=token)
    assert [person["id"] for person in [*first, *await second.json()]] == ["kid", "kid2"]


async def test_a_name_in_an_export_is_no_formula(api: Api) -> None:
    await api.pool.execute("UPDATE users SET first_name = '=1+1', last_name = '\"x\", y' WHERE id = 'kid'")
    row = next(row for row in await table(api, "/admin/students?format=csv&q=kid&limit=1") if row["id"] == "kid")
    assert (row["first_name"], row["last_name"], row["parent_email"]) == ("'=1+1", '"x", y', "mum@example.org")


async def test_a_tutor_is_assigned_told_and_listed(api: Api) -> None:
    status, made = await call(api, "POST", "/admin/allocations", MATHS)
    assert (status, made["success"], made["message"]) == (201, True, "Tutor assigned")
    assert await call(api, "POST", "/admin/allocations", MATHS) == (200, made)
    snake = {"student_id": "kid", "tutor_id": "teach", "subject_id": " Maths "}
    assert await call(api, "POST", "/admin/allocations", snake) == (200, made)
    [(tutor, notification)] = api.told.notifications
    assert (tutor, notification["kind"], notification["data"]["allocation_id"]) == ("teach", "allocation", made["id"])
    _, [listed] = await call(api, "GET", "/admin/allocations")
    assert datetime.fromisoformat(listed.pop("created_at")) > datetime.now(UTC) - timedelta(minutes=1)
    assert listed == {
        "id": made["id"],
        "student_id": "kid",
        "student_name": "Kid",
        "tutor_id": "teach",
        "tutor_name": "Teach",
        "subject_id": "Maths",
        "created_by": "boss",
    }


async def test_an_allocation_ends_once(api: Api) -> None:
    _, made = await call(api, "POST", "/admin/allocations", MATHS)
    path = f"/admin/allocations/{made['id']}"
    assert await call(api, "DELETE", path) == (200, {"success": True, "message": "Tutor unassigned"})
    for gone in (path, "/admin/allocations/x"):
        status, answer = await call(api, "DELETE", gone)
        assert (status, answer["error"]) == (404, "allocation_not_found")
    assert await call(api, "GET", "/admin/allocations") == (200, [])


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"studentId": "nobody"}, ["student_id"]),
        ({"tutorId": "kid2"}, ["tutor_id"]),
        ({"studentId": "mum", "tutorId": "boss"}, ["student_id", "tutor_id"]),
        ({"studentId": 7}, ["student_id"]),
        ({"subjectId": ""}, ["subject_id"]),
        ({"subjectId": "  "}, ["subject_id"]),
        ({"subjectId": "x" * 101}, ["subject_id"]),
        ({"subjectId": None}, ["subject_id"]),
    ],
)
async def test_an_allocation_that_is_none_is_400(api: Api, changes: dict[str, Any], fields: list[str]) -> None:
    status, answer = await call(api, "POST", "/admin/allocations", MATHS | changes)
    assert (status, list(answer["fields"])) == (400, fields)
    assert await call(api, "GET", "/admin/allocations") == (200, [])


async def test_the_audit_log_says_who_did_what_to_whom(api: Api) -> None:
    lesson = await book(api.pool)
    said = await call(api, "GET", f"/sessions/{lesson}", who="kid")
    assert said[0] == 200
    await call(api, "PATCH", f"/sessions/{lesson}/participants/kid", {"wasKicked": True}, "teach")
    _, made = await call(api, "POST", "/admin/allocations", MATHS)
    status, entries = await call(api, "GET", "/admin/audit")
    assert status == 200
    assert [(one["actor_id"], one["action"], one["subject"]) for one in entries] == [
        ("boss", "tutor_assigned", "kid"),
        ("teach", "participant_kicked", "kid"),
    ]
    assert entries[0]["details"] == {"allocation_id": made["id"], "tutor_id": "teach", "subject_id": "Maths"}
    assert entries[1]["details"] == {"session_id": str(lesson)}
    for about, count in (("boss", 1), ("kid", 2), ("participant_kicked", 1), ("mum", 0)):
        assert len((await call(api, "GET", f"/admin/audit?q={about}"))[1]) == count
