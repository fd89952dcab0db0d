"""`/availability`, and what it means for `/bookings`, over a real database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from yarl import URL

from tests.handlers.http.conftest import Api
from tests.support.apps import running_app
from tests.support.lessons import ROLES

TOMORROW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(days=1)
HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)


@pytest.fixture(autouse=True)
async def people(api: Api) -> None:
    await api.meet(*ROLES.items())
    await api.pool.execute("UPDATE users SET parent_id = 'mum' WHERE id = 'kid'")


async def call(api: Api, who: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    return await api.call(method, path, body, token=api.token(who, ROLES[who]))


def times(start: datetime = TOMORROW, length: timedelta = HOUR) -> dict[str, str]:
    return {"start_time": start.isoformat(), "end_time": (start + length).isoformat()}


async def offered(api: Api, start: datetime = TOMORROW, length: timedelta = HOUR, teacher: str = "teach") -> str:
    status, answer = await call(api, teacher, "POST", "/availability", {"teacher_id": teacher, **times(start, length)})
    assert status == 201, answer
    slot_id: str = answer["id"]
    return slot_id


async def book(api: Api, who: str = "kid", start: datetime = TOMORROW, **changes: Any) -> tuple[int, Any]:
    body = {"student_id": who, "teacher_id": "teach", **times(start), **changes}
    return await call(api, who, "POST", "/bookings", body)


async def slots(api: Api, query: str = "teacher_id=teach", who: str = "kid2") -> list[dict[str, Any]]:
    status, answer = await call(api, who, "GET", f"/availability?{query}")
    assert status == 200, answer
    listed: list[dict[str, Any]] = answer
    return listed


def weekly(**changes: Any) -> dict[str, Any]:
    series = {
        "weekday": TOMORROW.isoweekday(),
        "start": "09:00",
        "end": "10:30",
        "timezone": "Europe/Berlin",
        "until": (TOMORROW + 5 * WEEK).date().isoformat(),
    }
    return {"teacher_id": "teach", "weekly": series | changes}


@pytest.mark.parametrize("who", ["teach", "boss"])
async def test_a_teacher_or_an_admin_offers_a_slot_and_everybody_sees_it(api: Api, who: str) -> None:
    status, answer = await call(api, who, "POST", "/availability", {"teacher_id": "teach", **times()})
    assert (status, answer["message"]) == (201, "Availability slot created successfully")
    for reader in ROLES:
        assert await slots(api, who=reader) == [
            {
                "id": answer["id"],
                "teacher_id": "teach",
                "series_id": None,
                "start_time": TOMORROW.isoformat().replace("+00:00", "Z"),
                "end_time": (TOMORROW + HOUR).isoformat().replace("+00:00", "Z"),
                "is_booked": False,
            }
        ]


@pytest.mark.parametrize("who", ["teach2", "kid", "mum"])
async def test_nobody_else_offers_or_deletes_a_teachers_slots(api: Api, who: str) -> None:
    slot_id = await offered(api)
    for method, path, body in (
        ("POST", "/availability", {"teacher_id": "teach", **times(TOMORROW + HOUR)}),
        ("POST", "/availability", weekly()),
        ("DELETE", f"/availability/{slot_id}", None),
        ("DELETE", f"/availability/{slot_id}?series=true", None),
    ):
        status, answer = await call(api, who, method, path, body)
        assert (status, answer["error"]) == (403, "forbidden")
    assert len(await slots(api)) == 1


async def test_a_student_offers_nothing_in_their_own_name(api: Api) -> None:
    status, answer = await call(api, "kid", "POST", "/availability", {"teacher_id": "kid", **times()})
    assert (status, answer["error"]) == (403, "forbidden")


async def test_slots_that_overlap_are_409_and_those_that_touch_are_not(api: Api) -> None:
    await offered(api)
    status, answer = await call(
        api, "teach", "POST", "/availability", {"teacher_id": "teach", **times(TOMORROW + HOUR / 2)}
    )
    assert (status, answer["error"]) == (409, "availability_overlaps")
    assert "conflicts" not in answer
    await offered(api, TOMORROW + HOUR)
    await offered(api, teacher="teach2")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["start_time", "end_time"]),
        ({"start_time": times()["start_time"]}, ["end_time"]),
        ({**times(), "start_time": None}, ["start_time"]),
        (times(TOMORROW - timedelta(days=2)), ["start_time"]),
        (times(TOMORROW + timedelta(days=800)), ["start_time"]),
        (times(length=timedelta(minutes=1)), ["end_time"]),
        (times(length=13 * HOUR), ["end_time"]),
        (times(length=-HOUR), ["end_time"]),
        ({**times(), "teacher_id": "nobody"}, ["teacher_id"]),
        ({**times(), "teacher_id": "kid"}, ["teacher_id"]),
        ({**times(), "teacher_id": ""}, ["teacher_id"]),
        ({**times(), **weekly()}, ["weekly"]),
        (weekly(weekday=0), ["weekly.weekday"]),
        (weekly(weekday=8), ["weekly.weekday"]),
        (weekly(weekday="Monday"), ["weekly.weekday"]),
        (weekly(start="9:00", end="25:00", until="2026-02-30"), ["weekly.start", "weekly.end", "weekly.until"]),
        (weekly(start="10:00", end="09:00"), ["weekly.end"]),
        (weekly(timezone="Europe/Nowhere"), ["weekly.timezone"]),
        (weekly(timezone="../etc/passwd"), ["weekly.timezone"]),
        (weekly(timezone="/".join("a" * 300)), ["weekly.timezone"]),
        (weekly(start="0" * 17, end="x" * 900, until="2" * 900), ["weekly.start", "weekly.end", "weekly.until"]),
        (weekly(until="2020-01-01"), ["weekly.until"]),
        (weekly(until="9999-12-31"), ["weekly.until"]),
        ({"weekly": {}}, [f"weekly.{name}" for name in ("weekday", "start", "end", "timezone", "until")]),
        ({"weekly": 7}, ["weekly"]),
    ],
)
async def test_what_cannot_be_offered_is_named(api: Api, body: dict[str, Any], fields: list[str]) -> None:
    status, answer = await call(api, "boss", "POST", "/availability", {"teacher_id": "teach", **body})
    assert (status, answer["error"], list(answer["fields"])) == (400, "validation_failed", fields)
    assert await slots(api) == []


async def test_a_series_is_offered_at_once(api: Api) -> None:
    status, answer = await call(api, "teach", "POST", "/availability", weekly())
    assert (status, answer["message"]) == (201, "Availability slot created successfully")
    assert answer["slots"] == await slots(api)
    assert answer["id"] == answer["slots"][0]["id"]
    assert {slot["series_id"] for slot in answer["slots"]} == {answer["series_id"]}
    assert len(answer["slots"]) == 6
    status, answer = await call(api, "teach", "POST", "/availability", weekly(start="10:00", end="11:00"))
    assert (status, answer["error"]) == (409, "availability_overlaps")
    assert [conflict["error"] for conflict in answer["conflicts"]] == ["availability_overlaps"] * len(await slots(api))


async def test_a_series_may_end_at_midnight(api: Api) -> None:
    status, answer = await call(api, "teach", "POST", "/availability", weekly(start="21:00", end="00:00"))
    assert status == 201
    zone = ZoneInfo("Europe/Berlin")
    for slot in answer["slots"]:
        start, end = (datetime.fromisoformat(slot[name]).astimezone(zone) for name in ("start_time", "end_time"))
        assert (start.hour, end.hour, end.date() - start.date()) == (21, 0, timedelta(days=1))


async def test_a_slot_of_a_completed_lesson_is_not_deleted(api: Api) -> None:
    slot_id = await offered(api)
    _, booking = await book(api)
    await call(api, "teach", "PATCH", f"/bookings/{booking['booking_id']}", {"status": "completed"})
    assert [slot["is_booked"] for slot in await slots(api)] == [True]
    status, answer = await call(api, "teach", "DELETE", f"/availability/{slot_id}")
    assert (status, answer["error"]) == (409, "slot_booked")
    status, answer = await book(api, "kid2")
    assert (status, answer["error"]) == (409, "not_available")


async def test_a_slot_is_deleted_unless_it_is_booked(api: Api) -> None:
    slot_id = await offered(api)
    _, booking = await book(api)
    status, answer = await call(api, "teach", "DELETE", f"/availability/{slot_id}")
    assert (status, answer["error"]) == (409, "slot_booked")
    await call(api, "kid", "PATCH", f"/bookings/{booking['booking_id']}", {"status": "cancelled"})
    status, answer = await call(api, "teach", "DELETE", f"/availability/{slot_id}")
    assert (status, answer) == (200, {"message": "Availability slot deleted successfully"})
    status, answer = await call(api, "teach", "DELETE", f"/availability/{slot_id}")
    assert (status, answer["error"]) == (404, "slot_not_found")


@pytest.mark.parametrize("unknown", ["5d0f7f0e-3f4b-4c53-9d38-6a0c1f2e7b94", "1", "%00", "x" * 600])
async def test_an_unknown_slot_is_404(api: Api, unknown: str) -> None:
    status, answer = await call(api, "boss", "DELETE", f"/availability/{unknown}")
    assert (status, answer["error"]) == (404, "slot_not_found")


async def test_the_free_rest_of_a_series_is_deleted_together(api: Api) -> None:
    _, series = await call(api, "teach", "POST", "/availability", weekly())
    kept, first, booked, *rest = series["slots"]
    start = datetime.fromisoformat(booked["start_time"])
    assert (await book(api, start=start))[0] == 201
    status, answer = await call(api, "teach", "DELETE", f"/availability/{first['id']}?series=true")
    assert (status, answer["deleted"]) == (200, 1 + len(rest))
    assert [slot["id"] for slot in await slots(api)] == [kept["id"], booked["id"]]
    status, answer = await call(api, "teach", "DELETE", f"/availability/{booked['id']}?series=true")
    assert (status, answer["error"]) == (409, "slot_booked")
    status, answer = await call(api, "teach", "DELETE", f"/availability/{kept['id']}?series=perhaps")
    assert (status, list(answer["fields"])) == (400, ["series"])


async def test_the_list_shows_what_is_not_over_unless_asked_otherwise(api: Api) -> None:
    made = [await offered(api, TOMORROW + index * HOUR) for index in range(3)]
    begun, over = uuid4(), uuid4()
    for slot_id, hours in ((begun, 0.5), (over, 2)):
        await api.pool.execute(
            "INSERT INTO availability_slots (id, teacher_id, start_time, end_time) VALUES ($1, 'teach', $2, $3)",
            slot_id,
            datetime.now(UTC) - hours * HOUR,
            datetime.now(UTC) + (0.8 - hours) * HOUR,
        )
    other = await offered(api, teacher="teach2")

    async def ids(query: str) -> list[str]:
        return [slot["id"] for slot in await slots(api, query)]

    assert await ids("teacher_id=teach") == [str(begun), *made]
    assert await ids("teacher_id=teach&from=2020-01-01T00:00:00Z") == [str(over), str(begun), *made]
    moment = (TOMORROW + HOUR).isoformat().replace("+", "%2B")
    assert await ids(f"teacher_id=teach&from={moment}") == made[1:]
    assert await ids(f"teacher_id=teach&to={moment}") == [str(begun), made[0]]
    assert await ids("teacher_id=nobody") == []
    assert set(await ids("")) == {str(begun), *made, other}
    for query in ("from=now", "limit=0", "cursor=x", "to=2030-01-01"):
        status, answer = await call(api, "kid", "GET", f"/availability?{query}")
        assert (status, list(answer["fields"])) == (400, [query.partition("=")[0]])


async def test_the_list_is_read_in_pieces(api: Api) -> None:
    made = [await offered(api, TOMORROW + index * HOUR) for index in range(5)]
    found: list[str] = []
    path: str | None = "/availability?teacher_id=teach&limit=2"
    while path is not None:
        response = await api.response("GET", path, token=api.token("kid"))
        found += [slot["id"] for slot in await response.json()]
        following = response.links.get("next")
        path = URL(following["url"]).path_qs if following else None
    assert found == made


async def test_a_booking_takes_the_whole_slot_and_a_cancellation_frees_it(api: Api) -> None:
    await offered(api, length=3 * HOUR)
    status, booking = await book(api, start=TOMORROW + HOUR)
    assert status == 201
    assert [slot["is_booked"] for slot in await slots(api)] == [True]
    status, answer = await book(api, "kid2")
    assert (status, answer["error"]) == (409, "not_available")
    status, answer = await book(api, "kid2", TOMORROW + HOUR)
    assert (status, answer["error"]) == (409, "slot_taken")
    await call(api, "teach", "PATCH", f"/bookings/{booking['booking_id']}", {"status": "cancelled"})
    assert [slot["is_booked"] for slot in await slots(api)] == [False]
    assert (await book(api, "kid2"))[0] == 201


async def test_a_rescheduled_booking_needs_a_free_slot_and_leaves_its_own(api: Api) -> None:
    await offered(api)
    await offered(api, TOMORROW + 2 * HOUR)
    _, booking = await book(api)
    path = f"/bookings/{booking['booking_id']}"
    status, answer = await call(api, "kid", "PATCH", path, times(TOMORROW + HOUR))
    assert (status, answer["error"]) == (409, "not_available")
    status, answer = await call(api, "kid", "PATCH", path, times(TOMORROW + 2 * HOUR))
    assert (status, answer["status"]) == (200, "pending")
    assert [slot["is_booked"] for slot in await slots(api)] == [False, True]


async def test_weekly_lessons_are_booked_together(api: Api) -> None:
    status, answer = await book(api, repeat={"weeks": 3, "timezone": "Europe/Berlin"})
    assert status == 201
    assert answer["booking_ids"][0] == answer["booking_id"]
    for booking_id in answer["booking_ids"]:
        assert (await call(api, "kid", "GET", f"/bookings/{booking_id}/session"))[0] == 200
    status, answer = await book(api, "kid2", TOMORROW, repeat={"weeks": 4, "timezone": "Europe/Berlin"})
    assert (status, answer["error"]) == (409, "slot_taken")
    assert [conflict["error"] for conflict in answer["conflicts"]] == ["slot_taken"] * 3
    assert answer["conflicts"][0]["start_time"] == TOMORROW.isoformat().replace("+00:00", "Z")
    assert await api.pool.fetchval("SELECT count(*) FROM bookings") == 3


@pytest.mark.parametrize(
    ("repeat", "field"),
    [
        ({"weeks": 0, "timezone": "UTC"}, "repeat.weeks"),
        ({"weeks": 53, "timezone": "UTC"}, "repeat.weeks"),
        ({"weeks": 2.5, "timezone": "UTC"}, "repeat.weeks"),
        ({"weeks": 2}, "repeat.timezone"),
        ({"weeks": 2, "timezone": "Mars"}, "repeat.timezone"),
        ({"weeks": 2, "timezone": "/".join("a" * 300)}, "repeat.timezone"),
        ([], "repeat"),
    ],
)
async def test_a_repetition_that_is_none_is_400(api: Api, repeat: Any, field: str) -> None:
    status, answer = await book(api, repeat=repeat)
    assert (status, list(answer["fields"])) == (400, [field])


async def test_of_many_bookings_and_a_deletion_at_once_one_wins(api: Api) -> None:
    await offered(api, TOMORROW + 10 * HOUR)
    slot_id = await offered(api)
    (deleted, _), *answers = await asyncio.gather(
        call(api, "teach", "DELETE", f"/availability/{slot_id}"),
        *(book(api, who) for _ in range(10) for who in ("kid", "kid2")),
    )
    booked = [status for status, _ in answers].count(201)
    assert (deleted, booked) in ((200, 0), (409, 1))
    assert {status for status, _ in answers} <= {201, 409}


async def test_close_to_the_lesson_only_the_teacher_and_admins_cancel_or_move(database: str) -> None:
    async with running_app(database, booking_cancel_notice_minutes=24 * 60) as app:
        early, late = TOMORROW + 2 * HOUR, TOMORROW - 2 * HOUR
        ids = []
        for start in (late, late + HOUR, early, early + HOUR):
            made = await app.call(
                "boss", "POST", "/bookings", {"student_id": "kid", "teacher_id": "teach", **times(start)}
            )
            ids.append(made.body["booking_id"])
        for who in ("kid", "mum"):
            for change in ({"status": "cancelled"}, times(TOMORROW + 9 * HOUR)):
                answer = await app.call(who, "PATCH", f"/bookings/{ids[0]}", change)
                assert (answer.status, answer.error) == (409, "too_late")
        for who, booking_id in (("teach", ids[0]), ("boss", ids[1]), ("kid", ids[2]), ("mum", ids[3])):
            for _ in range(2):
                answer = await app.call(who, "PATCH", f"/bookings/{booking_id}", {"status": "cancelled"})
                assert answer.status == 200, answer
        # What is done is done: to ask for it again is never too late.
        answer = await app.call("kid", "PATCH", f"/bookings/{ids[0]}", {"status": "cancelled"})
        assert (answer.status, answer.body["status"]) == (200, "cancelled")
