"""`/sessions/{ref}/participants`: who took part, and what the host lets them do."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from aiohttp import web

from domain.identity import Identity
from handlers.http import bodies
from store import users, visits
from store.visits import Change
from tests.support.apps import App, contents, running_app
from tests.support.lessons import MEMBERS, STRANGERS, live_session, make_course
from tests.support.recorder import WAIT_SECONDS


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with running_app(database) as app:
        yield app


async def visit(app: App, session_id: UUID, user_id: str, *, present: bool = True) -> None:
    """As if through another worker."""
    worker_id = UUID(int=1)
    await visits.renew_lease(app.pool, worker_id)
    await visits.record(app.pool, worker_id, [Change(session_id=session_id, user_id=user_id, present=present)])


async def listed(app: App, session_id: UUID, who: str = "kid") -> list[dict[str, Any]]:
    answer = await app.call(who, "GET", f"/sessions/{session_id}/participants")
    assert answer.status == 200, answer
    participants: list[dict[str, Any]] = answer.body
    return participants


async def change(app: App, session_id: UUID, user_id: str, who: str = "teach", /, **body: Any) -> tuple[int, Any]:
    answer = await app.call(who, "PATCH", f"/sessions/{session_id}/participants/{user_id}", body)
    return answer.status, answer.body


async def test_a_participant_is_s2s_document_with_online(app: App) -> None:
    session_id = await app.book()
    await visit(app, session_id, "teach")
    await visit(app, session_id, "kid")
    await visit(app, session_id, "kid", present=False)
    teacher, student = await listed(app, session_id)
    for document in (teacher, student):
        UUID(document.pop("_id"))
        for moment in ("joinedAt", "createdAt", "updatedAt"):
            assert document.pop(moment).endswith("Z")
        assert document.pop("minutes") == (0 if document is student else None)
    assert student.pop("leftAt").endswith("Z")
    shared = {"sessionId": str(session_id), "wasKicked": False, "micAllowed": True, "cameraAllowed": True,
              "handRaised": False}  # fmt: skip
    assert teacher == shared | {
        "userId": "teach",
        "name": "Teach",
        "role": "instructor",
        "leftAt": None,
        "online": True,
    }
    assert student == shared | {"userId": "kid", "name": "Kid", "role": "student", "online": False}


async def test_minutes_are_what_all_visits_add_up_to(app: App) -> None:
    session_id = await app.book()
    for _ in range(2):
        await visit(app, session_id, "kid")
        await visit(app, session_id, "kid", present=False)
    first, second = await app.pool.fetch("SELECT id FROM session_visits ORDER BY id")
    for row, start, end in ((first, 60, 40), (second, 30, 0)):
        await app.pool.execute(
            """
            UPDATE session_visits SET joined_at = now() - make_interval(mins => $2),
                left_at = now() - make_interval(mins => $3) WHERE id = $1
            """,
            row["id"],
            start,
            end,
        )
    await visit(app, session_id, "mum")
    for who, seen in (
        ("teach", [50, 0]),
        ("boss", [50, 0]),
        ("kid", [50, None]),
        ("mum", [None, 0]),
        ("gran", [None] * 2),
    ):
        assert [document["minutes"] for document in await listed(app, session_id, who)] == seen
    status, document = await change(app, session_id, "kid", micAllowed=False)
    assert (status, document["minutes"]) == (200, 50)


async def test_a_class_is_led_by_who_made_it_and_taught_by_its_instructor(app: App) -> None:
    course_id = await make_course(app.pool, instructor="teach2", students=["kid"])
    session_id = await live_session(app.pool, course_id=course_id, host="boss")
    for user_id in ("boss", "teach2", "kid"):
        await visit(app, session_id, user_id)
    assert [(one["userId"], one["role"]) for one in await listed(app, session_id)] == [
        ("boss", "instructor"),
        ("teach2", "instructor"),
        ("kid", "student"),
    ]


async def test_the_host_takes_the_attendance_home_as_csv(app: App) -> None:
    session_id = await app.book()
    await app.pool.execute("UPDATE users SET first_name = '=1+1', last_name = 'Kid' WHERE id = 'kid'")
    await visit(app, session_id, "kid")
    await visit(app, session_id, "kid", present=False)
    await visit(app, session_id, "mum")
    await app.pool.execute("UPDATE users SET first_name = '=1+1', last_name = 'Kid' WHERE id = 'kid'")
    path = f"/sessions/{session_id}/participants?format=csv"
    answer = await app.call("teach", "GET", path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/csv; charset=utf-8; header=present")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="attendance.csv"'
    header, *lines = csv.reader(io.StringIO(answer.body))
    assert header == ["name", "role", "first_joined", "last_left", "minutes"]
    rows = await app.pool.fetch("SELECT joined_at, left_at FROM session_participants ORDER BY joined_at")
    moments = [[value and value.isoformat().replace("+00:00", "Z") for value in row] for row in rows]
    assert lines == [
        ["'=1+1 Kid", "student", moments[0][0], moments[0][1], "0.0"],
        ["Mum", "student", moments[1][0], "", "0.0"],
    ]
    assert (await app.call("boss", "GET", path)).status == 200
    for who in ("kid", "mum"):
        refused = await app.call(who, "GET", path)
        assert (refused.status, refused.error) == (403, "not_host")
    unknown = await app.call("teach", "GET", path.replace("csv", "xml"))
    assert (unknown.status, unknown.error) == (400, "validation_failed")


async def test_an_id_with_braces_is_an_id(app: App) -> None:
    await users.upsert_from_token(app.pool, Identity(user_id="{kid}", role="student", first_name="Kid"))
    session_id = await app.book(student="{kid}")
    status, document = await change(app, session_id, "%7Bkid%7D", micAllowed=False)
    assert (status, document["userId"], document["micAllowed"]) == (200, "{kid}", False)


async def test_nobody_has_come_yet(app: App) -> None:
    assert await listed(app, await app.book()) == []


async def test_a_long_list_comes_in_pieces(app: App) -> None:
    session_id = await app.book()
    for user_id in ("teach", "kid", "mum"):
        await visit(app, session_id, user_id)
    await change(app, session_id, "gran", micAllowed=False)
    path, seen = f"/sessions/{session_id}/participants?limit=1", []
    while path:
        answer = await app.call("kid", "GET", path)
        seen += [document["userId"] for document in answer.body]
        path = answer.headers.get("Link", "").partition(">")[0].removeprefix("<")
    assert seen == ["teach", "kid", "mum", "gran"]


async def test_those_who_are_here_are_read_in_pieces_of_their_own(app: App) -> None:
    session_id = await app.book()
    for user_id in MEMBERS:
        await visit(app, session_id, user_id)
    await visit(app, session_id, "mum", present=False)
    await change(app, session_id, "kid", micAllowed=False)
    found, path = [], f"/sessions/{session_id}/participants?online=true&limit=2"
    while path:
        answer = await app.call("kid", "GET", path)
        assert all(one["online"] for one in answer.body)
        found.append([one["userId"] for one in answer.body])
        path = answer.headers["Link"].partition("<")[2].partition(">")[0] if "Link" in answer.headers else ""
    assert found == [["boss", "gran"], ["kid", "teach"]]
    wrong = await app.call("kid", "GET", f"/sessions/{session_id}/participants?online=maybe")
    assert (wrong.status, wrong.body["fields"].keys()) == (400, {"online"})


async def test_members_alone_see_who_takes_part(app: App) -> None:
    session_id = await app.book()
    for who in MEMBERS:
        await listed(app, session_id, who)
    for who in STRANGERS:
        answer = await app.call(who, "GET", f"/sessions/{session_id}/participants")
        assert (answer.status, answer.body["message"]) == (403, "Access denied to this session")


@pytest.mark.parametrize("who", ["teach", "boss"])
@pytest.mark.parametrize("spelling", ["micAllowed", "mic_allowed"])
async def test_a_host_gives_and_takes_before_somebody_joins_too(app: App, who: str, spelling: str) -> None:
    session_id = await app.book()
    status, document = await change(app, session_id, "kid", who, **{spelling: False})
    assert (status, document["userId"], document["micAllowed"], document["cameraAllowed"]) == (200, "kid", False, True)
    assert (document["joinedAt"], document["online"]) == (None, False)
    assert await listed(app, session_id) == [document]
    status, document = await change(app, session_id, "kid", who, micAllowed=True, cameraAllowed=False)
    assert (document["micAllowed"], document["cameraAllowed"]) == (True, False)
    rows = await app.pool.fetch("SELECT kind, data FROM session_events ORDER BY seq")
    assert [(row["kind"], row["data"]["micAllowed"], row["data"]["cameraAllowed"]) for row in rows] == [
        ("permissions_changed", False, True),
        ("permissions_changed", True, False),
    ]


async def test_what_is_so_already_is_no_event(app: App) -> None:
    session_id = await app.book()
    for body in ({"micAllowed": True}, {"wasKicked": False}):
        assert (await change(app, session_id, "kid", **body))[0] == 200
    status, error = await change(app, session_id, "kid")
    assert (status, error["error"]) == (400, "nothing_to_change")
    assert await app.pool.fetchval("SELECT count(*) FROM session_events") == 0


async def test_a_host_removes_and_lets_back_in(app: App) -> None:
    session_id = await app.book()
    for _ in range(2):
        status, document = await change(app, session_id, "kid", wasKicked=True)
        assert (status, document["wasKicked"]) == (200, True)
    answer = await app.call("kid", "GET", f"/sessions/{session_id}/participants")
    assert (answer.status, answer.error) == (403, "kicked")
    assert (await change(app, session_id, "kid", wasKicked=False))[1]["wasKicked"] is False
    assert (await listed(app, session_id))[0]["wasKicked"] is False
    kinds = await app.pool.fetch("SELECT kind FROM session_events")
    assert [row["kind"] for row in kinds] == ["participant_kicked"]


@pytest.mark.parametrize("who", ["kid", "mum", "gran", *STRANGERS])
async def test_only_the_host_changes_anything(app: App, who: str) -> None:
    session_id = await app.book()
    before = await contents(app.pool)
    for body in ({"wasKicked": True}, {"micAllowed": False}, {"wasKicked": False}):
        status, document = await change(app, session_id, "kid", who, **body)
        assert (status, document["error"]) == (403, "not_host" if who not in STRANGERS else "forbidden")
    assert await contents(app.pool) == before


@pytest.mark.parametrize(
    ("user_id", "status", "code"),
    [
        ("nobody", 404, "participant_not_found"),
        ("kid2", 404, "participant_not_found"),
        ("teach2", 404, "participant_not_found"),
        ("%00", 404, "participant_not_found"),
        ("x" * 600, 404, "participant_not_found"),
        ("%FF", 404, "participant_not_found"),
        ("teach", 409, "host_stays"),
    ],
)
async def test_who_cannot_be_removed_stays(app: App, user_id: str, status: int, code: str) -> None:
    session_id = await app.book()
    before = await contents(app.pool)
    answered, document = await change(app, session_id, user_id, wasKicked=True)
    assert (answered, document["error"]) == (status, code)
    assert await contents(app.pool) == before


async def test_an_admin_is_not_removed(app: App) -> None:
    session_id = await app.book()
    await visit(app, session_id, "boss")
    assert (await change(app, session_id, "boss", wasKicked=True))[1]["error"] == "admin_stays"
    assert (await change(app, session_id, "boss", micAllowed=False))[0] == 200


@pytest.mark.parametrize("body", [{"micAllowed": "no"}, {"wasKicked": 1}, {"camera_allowed": []}])
async def test_what_is_no_change_is_400(app: App, body: dict[str, Any]) -> None:
    status, document = await change(app, await app.book(), "kid", **body)
    assert (status, document["error"]) == (400, "validation_failed")


async def test_a_session_that_is_not_there_has_no_participants(app: App) -> None:
    status, document = await change(app, uuid4(), "kid", wasKicked=True)
    assert (status, document["error"]) == (404, "session_not_found")


@pytest.mark.parametrize(
    ("who", "method", "path", "body"),
    [
        ("kid", "PUT", "", {"notes": []}),
        ("teach", "PATCH", "", {"locked": True}),
        ("teach", "PATCH", "/participants/mum", {"micAllowed": False}),
        ("kid", "POST", "/messages", {"text": "hello"}),
        ("teach", "PUT", "/pinned-message", {"id": "x"}),
    ],
)
async def test_who_is_removed_while_their_body_comes_changes_nothing(
    app: App, monkeypatch: pytest.MonkeyPatch, who: str, method: str, path: str, body: dict[str, Any]
) -> None:
    session_id = await app.book()
    reading, removed = asyncio.Event(), asyncio.Event()
    read = bodies._read_json

    async def tell(request: web.Request) -> object:
        reading.set()
        return await read(request)

    async def trickle() -> AsyncIterator[bytes]:
        text = msgspec.json.encode(body)
        yield text[:5]
        await removed.wait()
        yield text[5:]

    monkeypatch.setattr(bodies, "_read_json", tell)

    calling = asyncio.create_task(
        app.call(
            who,
            method,
            f"/sessions/{session_id}{path}",
            data=trickle(),
            headers={"Content-Type": "application/json"},
        )
    )
    async with asyncio.timeout(WAIT_SECONDS):
        await reading.wait()
    await app.pool.execute(
        "INSERT INTO session_participants (session_id, user_id, was_kicked) VALUES ($1, $2, true)", session_id, who
    )
    before = await contents(app.pool)
    removed.set()
    answer = await calling
    assert (answer.status, answer.error) == (403, "kicked")
    assert await contents(app.pool) == before
