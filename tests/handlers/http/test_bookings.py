"""`/bookings`, over a real database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from yarl import URL

from tests.handlers.http.conftest import Api

TOMORROW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
async def people(api: Api) -> None:
    """A teacher, a student with their mother, and others of each kind."""
    await api.meet(
        ("teach", "teacher"), ("teach2", "teacher"), ("kid", "student"), ("kid2", "student"), ("mum", "parent"),
        ("dad2", "parent"), ("boss", "admin"),
    )  # fmt: skip
    await api.pool.execute("UPDATE users SET parent_id = 'mum', parent_accepted = true WHERE id = 'kid'")


ROLES = {
    "teach": "teacher", "teach2": "teacher", "kid": "student", "kid2": "student", "mum": "parent",
    "dad2": "parent", "boss": "admin",
}  # fmt: skip
MEMBERS = ("teach", "kid", "mum", "boss")
STRANGERS = ("teach2", "kid2", "dad2")


def wanted(*, start: datetime = TOMORROW, length: timedelta = HOUR, **changes: Any) -> dict[str, Any]:
    return {
        "student_id": "kid",
        "teacher_id": "teach",
        "start_time": start.isoformat(),
        "end_time": (start + length).isoformat(),
    } | changes


async def call(api: Api, who: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    return await api.call(method, path, body, token=api.token(who, ROLES[who]))


async def booked(api: Api, who: str = "boss", **changes: Any) -> str:
    status, answer = await call(api, who, "POST", "/bookings", wanted(**changes))
    assert status == 201, answer
    booking_id: str = answer["booking_id"]
    return booking_id


async def set_status(api: Api, who: str, booking_id: str, status: str) -> tuple[int, Any]:
    return await call(api, who, "PATCH", f"/bookings/{booking_id}", {"status": status})


@pytest.mark.parametrize("who", ["kid", "mum", "boss"])
async def test_the_student_their_parent_and_an_admin_book(api: Api, who: str) -> None:
    response = await api.response("POST", "/bookings", wanted(), token=api.token(who, ROLES[who]))
    answer = await response.json()
    assert (response.status, answer["message"]) == (201, "Booking created successfully")
    assert response.headers["Location"] == f"/bookings/{answer['booking_id']}"
    status, booking = await call(api, who, "GET", f"/bookings/{answer['booking_id']}")
    assert datetime.fromisoformat(booking.pop("created_at")) > datetime.now(UTC) - timedelta(minutes=1)
    assert (status, booking) == (
        200,
        {
            "booking_id": answer["booking_id"],
            "student_id": "kid",
            "teacher_id": "teach",
            "parent_id": "mum",
            "start_time": TOMORROW.isoformat().replace("+00:00", "Z"),
            "end_time": (TOMORROW + HOUR).isoformat().replace("+00:00", "Z"),
            "status": "pending",
        },
    )


async def test_a_booking_has_its_session_with_the_same_id(api: Api) -> None:
    booking_id = await booked(api)
    for who in MEMBERS:
        status, session = await call(api, who, "GET", f"/bookings/{booking_id}/session")
        assert (status, session) == (
            200,
            {
                "session_id": booking_id,
                "booking_id": booking_id,
                "status": "pending",
                "meeting_data": {},
                "notes": [],
                "files": [],
            },
        )


@pytest.mark.parametrize("who", ["teach", "kid2", "dad2"])
async def test_nobody_else_books_for_a_student(api: Api, who: str) -> None:
    for student_id in ("kid", "nobody"):
        status, answer = await call(api, who, "POST", "/bookings", wanted(student_id=student_id))
        assert (status, answer["error"]) == (403, "forbidden")
    assert await api.pool.fetchval("SELECT count(*) FROM bookings") == 0


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"student_id": "nobody"}, ["student_id"]),
        ({"student_id": "mum"}, ["student_id"]),
        ({"student_id": "teach2"}, ["student_id"]),
        ({"teacher_id": "nobody"}, ["teacher_id"]),
        ({"teacher_id": "kid2"}, ["teacher_id"]),
        ({"teacher_id": "boss", "student_id": "x"}, ["student_id", "teacher_id"]),
        ({"student_id": ""}, ["student_id"]),
        ({"teacher_id": "x" * 129}, ["teacher_id"]),
        ({"teacher_id": None}, ["teacher_id"]),
        ({"length": timedelta(0)}, ["end_time"]),
        ({"length": -HOUR}, ["end_time"]),
        ({"length": 8 * HOUR + timedelta(seconds=1)}, ["end_time"]),
        ({"start": TOMORROW - timedelta(days=2)}, ["start_time"]),
        ({"start_time": TOMORROW.replace(tzinfo=None).isoformat()}, ["start_time"]),
        ({"start_time": "9999-12-31T23:59:59-12:00"}, ["start_time"]),
        ({"start_time": "0001-01-01T00:00:00Z"}, ["start_time"]),
        ({"end_time": "9999-12-31T23:59:59.999999Z"}, ["end_time"]),
        ({"start_time": "0002-01-01T00:00:00Z"}, ["end_time", "start_time"]),
        ({"end_time": "tomorrow"}, ["end_time"]),
        ({"start_time": 1, "end_time": None}, ["start_time", "end_time"]),
    ],
)
async def test_what_cannot_be_booked_is_named(api: Api, changes: dict[str, Any], fields: list[str]) -> None:
    status, answer = await call(api, "boss", "POST", "/bookings", wanted(**changes))
    assert (status, answer["error"], list(answer["fields"])) == (400, "validation_failed", fields)


async def test_the_far_future_can_be_booked(api: Api) -> None:
    body = wanted(start_time="9998-12-31T20:00:00Z", end_time="9998-12-31T23:59:59.999999Z")
    status, _ = await call(api, "boss", "POST", "/bookings", body)
    assert status == 201


@pytest.mark.parametrize("taken", [{"student_id": "kid2"}, {"teacher_id": "teach2"}, {}])
async def test_a_time_that_is_taken_is_409(api: Api, taken: dict[str, Any]) -> None:
    booking_id = await booked(api)
    later = TOMORROW + HOUR / 2
    status, answer = await call(api, "boss", "POST", "/bookings", wanted(start=later, **taken))
    assert (status, answer["error"]) == (409, "slot_taken")
    await set_status(api, "boss", booking_id, "cancelled")
    await booked(api, start=later, **taken)


async def test_of_many_at_once_exactly_one_gets_the_time(api: Api) -> None:
    answers = await asyncio.gather(
        *(
            call(
                api,
                "boss",
                "POST",
                "/bookings",
                wanted(start=TOMORROW + timedelta(minutes=index), student_id=student_id),
            )
            for index in range(25)
            for student_id in ("kid", "kid2")
        )
    )
    assert sorted(status for status, _ in answers) == [201] + [409] * 49
    assert {answer["error"] for status, answer in answers if status == 409} == {"slot_taken"}
    assert await api.pool.fetchval("SELECT count(*) FROM sessions") == 1


async def test_members_read_a_booking_and_strangers_do_not(api: Api) -> None:
    booking_id = await booked(api)
    for who in MEMBERS:
        assert (await call(api, who, "GET", f"/bookings/{booking_id}"))[0] == 200
    for who in STRANGERS:
        for method, path, body in (
            ("GET", f"/bookings/{booking_id}", None),
            ("GET", f"/bookings/{booking_id}/session", None),
            ("PATCH", f"/bookings/{booking_id}", {"status": "cancelled"}),
        ):
            status, answer = await call(api, who, method, path, body)
            assert (status, answer["error"]) == (403, "forbidden")
    assert (await call(api, "kid", "GET", f"/bookings/{booking_id}"))[1]["status"] == "pending"


async def test_a_parent_who_has_not_accepted_reads_the_booking_without_being_its_parent(api: Api) -> None:
    await api.pool.execute("UPDATE users SET parent_accepted = false")
    by_kid = await booked(api, "kid")
    by_mum = await booked(api, "mum", start=TOMORROW + HOUR)
    parents = {}
    for booking_id in (by_kid, by_mum):
        status, booking = await call(api, "mum", "GET", f"/bookings/{booking_id}")
        assert status == 200
        parents[booking_id] = booking["parent_id"]
    assert parents == {by_kid: None, by_mum: "mum"}
    assert await api.pool.fetchval("SELECT parent_accepted FROM users WHERE id = 'kid'"), "to book is to accept"


async def test_a_former_parent_stays_with_the_booking_and_a_new_one_joins_it(api: Api) -> None:
    booking_id = await booked(api)
    await api.pool.execute("UPDATE users SET parent_id = 'dad2' WHERE id = 'kid'")
    for who in ("mum", "dad2"):
        assert (await call(api, who, "GET", f"/bookings/{booking_id}"))[0] == 200


@pytest.mark.parametrize("unknown", ["5d0f7f0e-3f4b-4c53-9d38-6a0c1f2e7b94", "1", "x" * 600, "%00"])
async def test_an_unknown_booking_is_404(api: Api, unknown: str) -> None:
    for method, path, body in (
        ("GET", f"/bookings/{unknown}", None),
        ("GET", f"/bookings/{unknown}/session", None),
        ("PATCH", f"/bookings/{unknown}", {"status": "cancelled"}),
    ):
        status, answer = await call(api, "boss", method, path, body)
        assert (status, answer["error"]) == (404, "booking_not_found")


async def test_the_teacher_confirms_and_completes(api: Api) -> None:
    booking_id = await booked(api)
    for who in ("kid", "mum"):
        status, answer = await set_status(api, who, booking_id, "confirmed")
        assert (status, answer["error"]) == (403, "forbidden")
    for wanted_status in ("confirmed", "confirmed", "completed", "completed"):
        status, answer = await set_status(api, "teach", booking_id, wanted_status)
        assert (status, answer["status"]) == (200, wanted_status)
    for who in ("kid", "teach", "boss"):
        status, answer = await set_status(api, who, booking_id, "cancelled")
        assert (status, answer["error"]) == (409, "invalid_transition")


@pytest.mark.parametrize("who", ["teach", "boss"])
async def test_a_pending_booking_is_completed_by_either_door(api: Api, who: str) -> None:
    by_booking, by_session = await booked(api), await booked(api, start=TOMORROW + HOUR)
    for method, path, body in (
        ("PATCH", f"/bookings/{by_booking}", {"status": "completed"}),
        ("PUT", f"/sessions/{by_session}", {"status": "completed"}),
    ):
        for refused in ("kid", "mum"):
            assert (await call(api, refused, method, path, body))[0] == 403
        assert (await call(api, who, method, path, body))[0] == 200
    for booking_id in (by_booking, by_session):
        _, booking = await call(api, "kid", "GET", f"/bookings/{booking_id}")
        _, session = await call(api, "kid", "GET", f"/sessions/{booking_id}")
        assert (booking["status"], session["status"]) == ("completed", "completed")


async def test_a_lesson_that_has_started_is_not_moved_any_more(api: Api) -> None:
    booking_id = await booked(api)
    assert (await call(api, "teach", "PUT", f"/sessions/{booking_id}", {"status": "active"}))[0] == 200
    moved = {key: value for key, value in wanted(start=TOMORROW + 5 * HOUR).items() if key.endswith("_time")}
    for who in MEMBERS:
        status, answer = await call(api, who, "PATCH", f"/bookings/{booking_id}", moved)
        assert (status, answer["error"]) == (409, "session_started")
    assert (await set_status(api, "kid", booking_id, "cancelled"))[0] == 200


async def test_completing_a_booking_ends_its_session_once(api: Api) -> None:
    booking_id = await booked(api)
    for wanted_status in ("confirmed", "completed", "completed"):
        await set_status(api, "teach", booking_id, wanted_status)
    status, session = await call(api, "kid", "GET", f"/bookings/{booking_id}/session")
    assert (status, session["status"]) == (200, "completed")
    assert [(entry.kind, entry.user_id, entry.data) for entry in api.told.entries] == [
        ("session_status", "teach", {"status": "ended"})
    ]


@pytest.mark.parametrize("who", MEMBERS)
async def test_either_side_cancels_and_the_chat_is_closed(api: Api, who: str) -> None:
    booking_id = await booked(api)
    for _ in range(2):
        status, answer = await set_status(api, who, booking_id, "cancelled")
        assert (status, answer["status"]) == (200, "cancelled")
    row = await api.pool.fetchrow("SELECT status, chat_open FROM sessions WHERE id = $1", UUID(booking_id))
    assert dict(row or {}) == {"status": "ended", "chat_open": False}
    assert len(api.told.entries) == 1


@pytest.mark.parametrize("who", MEMBERS)
async def test_either_side_reschedules_and_the_teacher_confirms_anew(api: Api, who: str) -> None:
    booking_id = await booked(api)
    await set_status(api, "teach", booking_id, "confirmed")
    moved = {key: value for key, value in wanted(start=TOMORROW + HOUR / 2).items() if key.endswith("_time")}
    status, answer = await call(api, who, "PATCH", f"/bookings/{booking_id}", moved)
    assert (status, answer["status"]) == (200, "pending")
    assert datetime.fromisoformat(answer["start_time"]) == TOMORROW + HOUR / 2
    starts_at = await api.pool.fetchval("SELECT starts_at FROM sessions WHERE id = $1", UUID(booking_id))
    assert starts_at == TOMORROW + HOUR / 2


async def test_a_booking_is_not_moved_onto_another(api: Api) -> None:
    await booked(api)
    second = await booked(api, start=TOMORROW + 2 * HOUR, student_id="kid2")
    moved = {key: value for key, value in wanted().items() if key.endswith("_time")}
    status, answer = await call(api, "kid2", "PATCH", f"/bookings/{second}", moved)
    assert (status, answer["error"]) == (409, "slot_taken")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "one_change_at_a_time"),
        ({"status": "confirmed", **wanted()}, "one_change_at_a_time"),
        ({"status": "done"}, "validation_failed"),
        ({"status": 1}, "validation_failed"),
        ({"start_time": wanted()["start_time"]}, "validation_failed"),
        ({"start_time": "soon", "end_time": "later"}, "validation_failed"),
        ({"start_time": "2001-01-01T10:00:00Z", "end_time": "2001-01-01T11:00:00Z"}, "validation_failed"),
    ],
)
async def test_a_change_that_is_none_is_400(api: Api, body: dict[str, Any], code: str) -> None:
    booking_id = await booked(api)
    status, answer = await call(api, "boss", "PATCH", f"/bookings/{booking_id}", body)
    assert (status, answer["error"]) == (400, code)


async def test_each_lists_their_own_and_parents_their_childrens(api: Api) -> None:
    booking_id = await booked(api)
    for who, query in (
        ("kid", "student_id=kid"),
        ("mum", "student_id=kid"),
        ("teach", "teacher_id=teach"),
        ("teach", "teacher_id=teach&student_id=kid"),
        ("boss", "student_id=kid"),
        ("boss", "teacher_id=teach"),
    ):
        status, answer = await call(api, who, "GET", f"/bookings?{query}")
        assert (status, [booking["booking_id"] for booking in answer]) == (200, [booking_id])
    for who, query in (
        ("teach", "student_id=kid"),
        ("kid2", "student_id=kid"),
        ("dad2", "student_id=kid"),
        ("kid", "teacher_id=teach"),
        ("kid", "student_id=nobody"),
    ):
        status, answer = await call(api, who, "GET", f"/bookings?{query}")
        assert (status, answer["error"]) == (403, "forbidden")
    assert await call(api, "boss", "GET", "/bookings?student_id=nobody") == (200, [])
    assert (await call(api, "boss", "GET", "/bookings"))[0] == 400


async def test_a_list_is_read_in_pieces(api: Api) -> None:
    made = [await booked(api, start=TOMORROW + index * HOUR) for index in range(5)]
    found: list[str] = []
    path: str | None = "/bookings?student_id=kid&limit=2"
    sizes = []
    while path is not None:
        response = await api.response("GET", path, token=api.token("kid"))
        page = await response.json()
        sizes.append(len(page))
        found += [booking["booking_id"] for booking in page]
        following = response.links.get("next")
        path = URL(following["url"]).path_qs if following else None
    assert (sizes, found) == ([2, 2, 1], made)


async def test_a_list_is_narrowed_by_time_and_status(api: Api) -> None:
    made = [await booked(api, start=TOMORROW + index * HOUR) for index in range(3)]
    await set_status(api, "teach", made[1], "confirmed")

    async def ids(query: str) -> list[str]:
        status, answer = await call(api, "kid", "GET", f"/bookings?student_id=kid&{query}")
        assert status == 200
        return [booking["booking_id"] for booking in answer]

    moment = (TOMORROW + HOUR).isoformat()
    assert await ids(f"from={moment}") == made[1:]
    assert await ids(f"to={moment}") == made[:1]
    assert await ids("status=confirmed") == made[1:2]
    for query in ("status=done", "from=now", "limit=0", "cursor=x", "cursor=0001-01-01T00:00:00%2B23:00~" + made[0]):
        status, answer = await call(api, "kid", "GET", f"/bookings?student_id=kid&{query}")
        assert (status, list(answer["fields"])) == (400, [query.partition("=")[0]])


async def test_who_was_removed_from_the_session_still_sees_the_booking_but_not_the_session(api: Api) -> None:
    booking_id = await booked(api)
    await api.pool.execute(
        "INSERT INTO session_participants (session_id, user_id, was_kicked) VALUES ($1, 'kid', true)",
        UUID(booking_id),
    )
    assert (await call(api, "kid", "GET", f"/bookings/{booking_id}"))[0] == 200
    assert (await call(api, "kid", "GET", f"/bookings/{booking_id}/session"))[0] == 403
