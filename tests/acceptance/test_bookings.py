"""Profiles, bookings, availability, reviews and search, row by row of what a client may rely on."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from tests.acceptance.lessons import Answer, Person, rest
from tests.acceptance.offices import HOUR, Office, later, span
from tests.support.servers import Server

BERLIN = ZoneInfo("Europe/Berlin")
WEEK = timedelta(days=7)


@pytest.fixture
async def office(server: Server) -> Office:
    return await Office.open(server.url)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def told(answer: Answer) -> tuple[int, str | None]:
    """Its status, and the code of an error."""
    return answer.status, answer.body.get("error") if isinstance(answer.body, dict) else None


# Profiles


async def test_an_address_is_shown_to_oneself_admins_and_people_who_share_a_booking(office: Office) -> None:
    await office.save(office.teacher, email="teach@example.org")
    await office.save(office.student, email="kid@example.org")

    async def email(who: Person, whose: Person) -> Any:
        return (await office.call(who, "GET", f"/profiles?user_id={whose.id}")).body["profile"]["email"]

    strangers = (office.student, office.parent, office.stranger)
    assert [await email(who, office.teacher) for who in strangers] == [None, None, None]
    assert await email(office.teacher, office.teacher) == "teach@example.org"
    assert await email(office.admin, office.teacher) == "teach@example.org"
    await office.booked("cancelled")
    assert [await email(who, office.teacher) for who in strangers] == ["teach@example.org", "teach@example.org", None]
    assert await email(office.teacher, office.student) == "kid@example.org"
    assert await email(office.stranger, office.student) is None


async def test_a_profile_is_its_persons_and_the_admins_and_outlasts_the_token(office: Office) -> None:
    assert told(await office.save(office.student, by=office.stranger)) == (403, "forbidden")
    assert told(await office.save(office.student, by=office.parent)) == (403, "forbidden")
    assert (await office.save(office.student, by=office.admin, name="Leo Brandt")).status == 200
    before = await office.call(office.student, "GET", f"/profiles?user_id={office.student.id}")
    after = await office.call(office.student, "GET", f"/profiles?user_id={office.student.id}", email="new@example.org")
    assert after.body == before.body
    assert (after.body["profile"]["name"], after.body["profile"]["email"]) == ("Leo Brandt", None)


async def test_a_parent_whom_a_student_names_is_shown_to_others_once_they_accept(office: Office) -> None:
    parent = await office.newcomer("parent", "New Parent", email="new@example.org")
    assert (await office.save(office.student, parent_id=parent.id)).status == 200
    booking_id = await office.booked()
    assert (await office.call(parent, "GET", f"/bookings/{booking_id}")).status == 200
    assert told(await office.call(office.parent, "GET", f"/bookings/{booking_id}")) == (403, "forbidden")

    async def seen_by_the_teacher() -> Any:
        return (await office.call(office.teacher, "GET", f"/profiles?user_id={parent.id}")).body["profile"]["email"]

    child = {"user_id": office.student.id, "name": office.student.name, "accepted": False}
    assert (await office.call(parent, "GET", "/children")).body == [child]
    assert await seen_by_the_teacher() is None
    for _ in range(2):
        accepted = await office.call(parent, "PUT", f"/children/{office.student.id}")
        assert (accepted.status, accepted.body) == (200, {**child, "accepted": True})
    assert await seen_by_the_teacher() == "new@example.org"
    assert (await office.call(parent, "DELETE", f"/children/{office.student.id}")).status == 200
    for method in ("PUT", "DELETE"):
        answer = await office.call(parent, method, f"/children/{office.student.id}")
        assert told(answer) == (404, "child_not_found")
    assert told(await office.call(parent, "GET", f"/bookings/{booking_id}")) == (403, "forbidden")


async def test_nobody_is_made_an_admin_and_ones_role_is_the_tokens(office: Office) -> None:
    for who, role, status, code in (
        (office.student, "admin", 403, "role_mismatch"),
        (office.student, "teacher", 403, "role_mismatch"),
        (office.admin, "admin", 403, "role_mismatch"),
        (office.student, "wizard", 400, "validation_failed"),
        (office.admin, "teacher", 200, None),
    ):
        body = {"user_id": office.student.id, "role": role, "profile_data": {"name": "Stu Dent"}}
        assert told(await office.call(who, "POST", "/profiles", body)) == (status, code), (who.role, role)
    # The token says it is a student's, whatever an admin has set.
    assert (await office.book()).status == 201


# Bookings

FAMILY, TEACHER, ADMIN = ("student", "parent"), ("teacher",), ("admin",)
OK, FORBIDDEN, REFUSED = (200, None), (403, "forbidden"), (409, "invalid_transition")


def expected(status: str, wanted: str, who: str) -> tuple[int, str | None]:
    """What the contract says of somebody who wants a booking in this state to have that one."""
    if wanted in ("confirmed", "completed") and who in FAMILY:
        return FORBIDDEN
    if wanted == status:
        return OK
    moves = {"pending": ("confirmed", "completed", "cancelled"), "confirmed": ("completed", "cancelled")}
    return OK if wanted in moves.get(status, ()) else REFUSED


@pytest.mark.parametrize("status", ["pending", "confirmed", "completed", "cancelled"])
async def test_who_may_bring_a_booking_where(office: Office, status: str) -> None:
    booking_id = await office.booked(status)
    people = {"student": office.student, "parent": office.parent, "teacher": office.teacher, "admin": office.admin}
    for wanted in ("pending", "confirmed", "completed", "cancelled"):
        assert told(await office.change(office.stranger, booking_id, status=wanted)) == FORBIDDEN
        for role, who in people.items():
            answer = await office.change(who, booking_id, status=wanted)
            assert told(answer) == expected(status, wanted, role), (status, wanted, role)
            if answer.status == 200:
                assert answer.body["status"] == wanted
                if wanted != status:
                    booking_id = await office.booked(status)


async def test_a_booking_that_does_not_exist_or_is_no_id_is_not_found(office: Office) -> None:
    for ref in (uuid4(), "1", "x" * 200):
        for method, body in (("GET", None), ("PATCH", {"status": "cancelled"})):
            assert told(await office.call(office.student, method, f"/bookings/{ref}", body)) == (
                404,
                "booking_not_found",
            )


async def test_a_booking_is_read_by_its_people(office: Office) -> None:
    booking_id = await office.booked()
    for who in (office.student, office.parent, office.teacher, office.admin):
        for path in ("", "/session", ".ics"):
            assert (await office.call(who, "GET", f"/bookings/{booking_id}{path}")).status == 200
    for path in ("", "/session", ".ics"):
        assert told(await office.call(office.stranger, "GET", f"/bookings/{booking_id}{path}")) == FORBIDDEN


async def test_the_student_their_parent_and_admins_book_and_nobody_else(office: Office) -> None:
    for who, status in (
        (office.student, 201),
        (office.parent, 201),
        (office.admin, 201),
        (office.teacher, 403),
        (office.stranger, 403),
    ):
        people = {"student_id": office.student.id, "teacher_id": office.teacher.id}
        made = await office.call(who, "POST", "/bookings", {**people, **span(later())})
        assert made.status == status, who.role
        if status == 201:
            shown = await office.call(office.student, "GET", made.headers["Location"])
            assert (shown.body["booking_id"], shown.body["parent_id"]) == (made.body["booking_id"], office.parent.id)


async def test_times_that_make_no_lesson_are_refused(office: Office) -> None:
    start = later()
    for times, field in (
        (span(start, -HOUR), "end_time"),
        (span(start, 0 * HOUR), "end_time"),
        (span(start, 8 * HOUR + timedelta(seconds=1)), "end_time"),
        (span(datetime.now(UTC) - 2 * HOUR), "start_time"),
        ({"start_time": "2030-01-01T10:00:00", "end_time": "2030-01-01T11:00:00Z"}, "start_time"),
        ({"start_time": 5, "end_time": "2030-01-01T11:00:00Z"}, "start_time"),
        ({"start_time": start.isoformat()}, "end_time"),
    ):
        people = {"student_id": office.student.id, "teacher_id": office.teacher.id}
        answer = await office.call(office.student, "POST", "/bookings", {**people, **times})
        assert told(answer) == (400, "validation_failed"), times
        assert field in answer.body["fields"], answer
    assert (await office.book(start, **span(start, 8 * HOUR))).status == 201


async def test_nobody_is_booked_twice_at_a_time_and_a_cancelled_lesson_leaves_room(office: Office) -> None:
    start = later()
    first = await office.booked(start=start)
    other = await office.newcomer("teacher", "Other Teacher")
    half = HOUR / 2
    for changes in (
        {},
        span(start + half),
        span(start - half),
        span(start + half / 2, half),
        {"teacher_id": other.id},  # the student's own time
    ):
        assert told(await office.book(start, **changes)) == (409, "slot_taken"), changes
    assert (await office.book(start + HOUR)).status == 201  # one after the other
    assert (await office.change(office.student, first, status="cancelled")).status == 200
    assert (await office.book(start)).status == 201


async def test_another_time_has_to_be_free_and_to_be_confirmed_anew(office: Office) -> None:
    taken, start = later(), later()
    await office.booked(start=taken)
    booking_id = await office.booked("confirmed", start=start)
    assert told(await office.change(office.student, booking_id, **span(taken))) == (409, "slot_taken")
    same = await office.change(office.student, booking_id, **span(start))
    assert (same.status, same.body["status"]) == (200, "confirmed")
    moved = await office.change(office.parent, booking_id, **span(start + HOUR / 2))
    assert (moved.status, moved.body["status"]) == (200, "pending")
    assert moment(moved.body["start_time"]) == start + HOUR / 2
    both = {"status": "cancelled", **span(start)}
    for change in (both, {}):
        assert told(await office.change(office.student, booking_id, **change)) == (400, "one_change_at_a_time")
    session = await office.call(office.student, "GET", f"/sessions/{booking_id}")
    assert moment(session.body["start_time"]) == start + HOUR / 2


async def test_shortly_before_it_the_students_side_can_no_longer_leave_a_lesson(office: Office) -> None:
    """BOOKING_CANCEL_NOTICE_MINUTES=60."""
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=30)
    booking_id = await office.booked("confirmed", soon, HOUR / 4)
    for who in (office.student, office.parent):
        assert told(await office.change(who, booking_id, status="cancelled")) == (409, "too_late")
        assert told(await office.change(who, booking_id, **span(later()))) == (409, "too_late")
    moved = await office.change(office.teacher, booking_id, **span(soon + HOUR / 4, HOUR / 4))
    assert (moved.status, moved.body["status"]) == (200, "pending")
    assert (await office.change(office.admin, booking_id, status="cancelled")).status == 200
    in_time = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=62)
    booking_id = await office.booked(start=in_time)
    assert (await office.change(office.student, booking_id, status="cancelled")).status == 200


async def test_booking_and_session_end_in_one_act(office: Office) -> None:
    async def statuses(booking_id: str) -> tuple[str, str]:
        booking = await office.call(office.student, "GET", f"/bookings/{booking_id}")
        session = await office.call(office.student, "GET", f"/bookings/{booking_id}/session")
        return booking.body["status"], session.body["status"]

    by_booking = await office.booked("confirmed")
    assert await statuses(by_booking) == ("confirmed", "pending")
    await office.change(office.teacher, by_booking, status="completed")
    assert await statuses(by_booking) == ("completed", "completed")
    by_session = await office.booked("confirmed")
    for status in ("active", "completed"):
        ended = await office.call(office.teacher, "PUT", f"/sessions/{by_session}", {"status": status})
        assert ended.status == 200
    assert await statuses(by_session) == ("completed", "completed")
    assert told(await office.call(office.teacher, "PUT", f"/sessions/{by_session}", {"status": "active"})) == REFUSED


async def test_a_cancelled_lesson_is_read_and_no_longer_written_to(office: Office) -> None:
    booking_id = await office.booked("confirmed")
    path = f"/sessions/{booking_id}/messages"
    assert (await office.call(office.student, "POST", path, {"text": "Until tomorrow"})).status == 201
    await office.change(office.parent, booking_id, status="cancelled")
    assert (await office.call(office.student, "GET", f"/sessions/{booking_id}")).body["status"] == "completed"
    assert [one["text"] for one in (await office.call(office.teacher, "GET", path)).body] == ["Until tomorrow"]
    for who in (office.student, office.teacher, office.admin):
        assert told(await office.call(who, "POST", path, {"text": "Hello?"})) == (409, "booking_cancelled")


async def test_lists_are_ones_own_ones_childs_or_the_admins_in_pieces(office: Office) -> None:
    starts = [later() for _ in range(5)]
    ids = [await office.booked("confirmed" if n % 2 else "pending", start=start) for n, start in enumerate(starts)]
    mine, theirs = f"/bookings?student_id={office.student.id}", f"/bookings?teacher_id={office.teacher.id}"
    for who, path, status in (
        (office.student, mine, 200),
        (office.parent, mine, 200),
        (office.admin, mine, 200),
        (office.teacher, mine, 403),
        (office.stranger, mine, 403),
        (office.teacher, theirs, 200),
        (office.student, theirs, 403),
        (office.student, f"{mine}&teacher_id={office.teacher.id}", 200),
        (office.teacher, f"{mine}&teacher_id={office.teacher.id}", 200),
    ):
        listed = await office.call(who, "GET", path)
        assert listed.status == status, (who.role, path)
        if status == 200:
            assert [booking["booking_id"] for booking in listed.body] == ids
    assert told(await office.call(office.admin, "GET", "/bookings")) == (400, "student_or_teacher_required")
    day = f"&from={starts[1]:%Y-%m-%dT%H:%M:%SZ}&to={starts[3]:%Y-%m-%dT%H:%M:%SZ}"
    between = await office.call(office.student, "GET", f"{mine}{day}")
    assert [booking["booking_id"] for booking in between.body] == ids[1:3]
    pending = await office.call(office.student, "GET", f"{mine}&status=pending")
    assert [booking["booking_id"] for booking in pending.body] == ids[::2]
    path, pieces = f"{mine}&limit=2", []
    while path:
        piece = await office.call(office.student, "GET", path)
        pieces.append([booking["booking_id"] for booking in piece.body])
        following = re.fullmatch(r'<(.*)>; rel="next"', piece.headers.get("Link", ""))
        path = following[1] if following else ""
    assert pieces == [ids[:2], ids[2:4], ids[4:]]


async def test_weekly_lessons_keep_their_time_on_the_wall_across_a_clock_change(office: Office) -> None:
    start = later()
    made = await office.book(start, repeat={"weeks": 40, "timezone": "Europe/Berlin"})
    assert made.status == 201, made
    assert made.body["booking_id"] == made.body["booking_ids"][0]
    listed = await office.call(office.student, "GET", f"/bookings?student_id={office.student.id}")
    assert [booking["booking_id"] for booking in listed.body] == made.body["booking_ids"]
    shown = [moment(booking["start_time"]).astimezone(BERLIN) for booking in listed.body]
    assert len(shown) == 40
    assert len({one.utcoffset() for one in shown}) == 2, "40 weeks see both halves of the year"
    day = start.astimezone(BERLIN)
    assert [one.replace(tzinfo=None) for one in shown] == [day.replace(tzinfo=None) + n * WEEK for n in range(40)]
    for booking in listed.body:
        assert moment(booking["end_time"]) - moment(booking["start_time"]) == HOUR


async def test_of_weekly_lessons_all_are_booked_or_none_and_each_obstacle_is_named(office: Office) -> None:
    start = later()
    repeat = {"weeks": 5, "timezone": "UTC"}
    elsewhere = await office.newcomer("teacher", "Else Where")
    await office.booked(start=start + 2 * WEEK, teacher_id=elsewhere.id)
    await office.booked(start=start + 4 * WEEK - HOUR / 2)
    refused = await office.book(start, repeat=repeat)
    assert told(refused) == (409, "slot_taken")
    assert refused.body["conflicts"] == [
        {"start_time": f"{start + weeks * WEEK:%Y-%m-%dT%H:%M:%SZ}", "error": "slot_taken"} for weeks in (2, 4)
    ]
    listed = await office.call(office.student, "GET", f"/bookings?student_id={office.student.id}")
    assert len(listed.body) == 2
    for weeks in (0, 53, 1.5):
        answer = await office.book(start, repeat={**repeat, "weeks": weeks})
        assert (answer.status, list(answer.body["fields"])) == (400, ["repeat.weeks"])
    answer = await office.book(start, repeat={**repeat, "timezone": "Mars/Phobos"})
    assert (answer.status, list(answer.body["fields"])) == (400, ["repeat.timezone"])


# Availability


async def test_the_life_of_a_slot(office: Office) -> None:
    start = later() + 365 * 24 * HOUR
    slot = {"teacher_id": office.teacher.id, **span(start, 2 * HOUR)}
    made = await office.call(office.teacher, "POST", "/availability", slot)
    path = f"/availability/{made.body['id']}"

    async def is_booked() -> bool:
        [found] = (await office.call(office.stranger, "GET", f"/availability?teacher_id={office.teacher.id}")).body
        assert found["id"] == made.body["id"]
        return bool(found["is_booked"])

    assert not await is_booked()
    assert told(await office.call(office.teacher, "POST", "/availability", slot)) == (409, "availability_overlaps")
    # Who publishes is booked inside of a slot alone.
    for outside in (start - HOUR, start + 2 * HOUR, start + 3 * HOUR / 2, later()):
        assert told(await office.book(outside)) == (409, "not_available")
    booking_id = await office.booked(start=start)
    assert await is_booked()
    # It is booked as a whole.
    assert told(await office.book(start + HOUR)) == (409, "not_available")
    assert told(await office.book(start + HOUR / 2)) == (409, "slot_taken")
    assert told(await office.call(office.teacher, "DELETE", path)) == (409, "slot_booked")
    # Moved within it, it stays booked; cancelled, it is free.
    assert (await office.change(office.student, booking_id, **span(start + HOUR))).status == 200
    assert await is_booked()
    assert (await office.change(office.student, booking_id, status="cancelled")).status == 200
    assert not await is_booked()
    for who in (office.student, office.stranger):
        assert told(await office.call(who, "DELETE", path)) == FORBIDDEN
    assert (await office.call(office.admin, "DELETE", path)).status == 200
    assert told(await office.call(office.teacher, "DELETE", path)) == (404, "slot_not_found")
    # Who publishes nothing can be asked for any time.
    assert (await office.book()).status == 201


async def test_a_lesson_that_took_place_keeps_its_slot(office: Office) -> None:
    start = later()
    made = await office.call(office.teacher, "POST", "/availability", {"teacher_id": office.teacher.id, **span(start)})
    await office.booked("completed", start=start)
    [slot] = (await office.call(office.student, "GET", f"/availability?teacher_id={office.teacher.id}")).body
    assert slot["is_booked"]
    deleted = await office.call(office.teacher, "DELETE", f"/availability/{made.body['id']}")
    assert told(deleted) == (409, "slot_booked")


async def test_a_teacher_offers_their_own_time_alone(office: Office) -> None:
    slot = {"teacher_id": office.teacher.id, **span(later())}
    other = await office.newcomer("teacher", "Other Teacher")
    for who in (office.student, office.parent, other):
        assert told(await office.call(who, "POST", "/availability", slot)) == FORBIDDEN
    assert (await office.call(office.admin, "POST", "/availability", slot)).status == 201


async def test_a_weekly_series_keeps_its_wall_time_across_a_clock_change(office: Office) -> None:
    today = datetime.now(BERLIN).date()
    until = today + timedelta(days=300)
    weekly = {"weekday": 3, "start": "16:00", "end": "17:30", "timezone": "Europe/Berlin", "until": f"{until}"}
    made = await office.call(
        office.teacher, "POST", "/availability", {"teacher_id": office.teacher.id, "weekly": weekly}
    )
    assert (made.status, made.body["id"]) == (201, made.body["slots"][0]["id"])
    slots = made.body["slots"]
    starts = [moment(slot["start_time"]).astimezone(BERLIN) for slot in slots]
    assert {(one.isoweekday(), one.hour, one.minute) for one in starts} == {(3, 16, 0)}
    assert len({one.utcoffset() for one in starts}) == 2, "300 days see both halves of the year"
    assert {moment(slot["end_time"]) - moment(slot["start_time"]) for slot in slots} == {1.5 * HOUR}
    assert all(after.date() - before.date() == WEEK for before, after in itertools.pairwise(starts))
    assert until - WEEK < starts[-1].date() <= until
    assert {slot["series_id"] for slot in slots} == {made.body["series_id"]}
    listed = await office.call(office.student, "GET", f"/availability?teacher_id={office.teacher.id}")
    assert listed.body == slots
    # A lesson each week fits in, and takes its slot.
    weekly_lessons = await office.book(starts[1], repeat={"weeks": len(slots) - 1, "timezone": "Europe/Berlin"})
    assert weekly_lessons.status == 201, weekly_lessons
    listed = await office.call(office.student, "GET", f"/availability?teacher_id={office.teacher.id}")
    assert [slot["is_booked"] for slot in listed.body] == [False] + [True] * (len(slots) - 1)
    await office.change(office.student, weekly_lessons.body["booking_ids"][0], status="cancelled")
    overlapping = await office.call(
        office.teacher, "POST", "/availability", {"teacher_id": office.teacher.id, "weekly": weekly}
    )
    assert told(overlapping) == (409, "availability_overlaps")
    assert len(overlapping.body["conflicts"]) == len(slots)
    deleted = await office.call(office.teacher, "DELETE", f"/availability/{slots[0]['id']}?series=true")
    assert (deleted.status, deleted.body["deleted"]) == (200, 2)


# Reviews and search


async def test_a_lesson_is_reviewed_once_by_its_family_after_it_was_completed(office: Office) -> None:
    booking_id = await office.booked("confirmed")
    path, review = f"/bookings/{booking_id}/review", {"rating": 5, "comment": "Patient."}
    assert told(await office.call(office.student, "POST", path, review)) == (409, "not_completed")
    await office.change(office.teacher, booking_id, status="completed")
    for who in (office.teacher, office.stranger):
        assert told(await office.call(who, "POST", path, review)) == FORBIDDEN
    for rating in (0, 6, 2.5, "5", None):
        assert told(await office.call(office.student, "POST", path, {"rating": rating})) == (400, "validation_failed")
    made = await office.call(office.parent, "POST", path, review)
    assert made.status == 201
    assert {name: made.body[name] for name in ("booking_id", "user_id", "rating", "comment")} == {
        "booking_id": booking_id,
        "user_id": office.parent.id,
        **review,
    }
    for who in (office.parent, office.student):
        assert told(await office.call(who, "POST", path, review)) == (409, "already_reviewed")


async def test_the_best_match_comes_first_and_of_equal_ones_the_better_rated(office: Office) -> None:
    word = f"zymurgy{uuid4().hex[:8]}"
    bio = await office.newcomer("teacher", "Bi O", bio=f"I love {word}.")
    name = await office.newcomer("teacher", f"{word.title()} Name")
    subject = await office.newcomer("teacher", "Sub Ject", subjects=[word])
    topic = await office.newcomer("teacher", "To Pic", topics=[word])
    rated = await office.newcomer("teacher", "Ra Ted", topics=[word.upper()])
    for rating in (5, 4):
        booking_id = (await office.book(teacher_id=rated.id)).body["booking_id"]
        for status in ("confirmed", "completed"):
            assert (await office.change(rated, booking_id, status=status)).status == 200
        await office.call(office.student, "POST", f"/bookings/{booking_id}/review", {"rating": rating})
    found = await office.call(office.stranger, "GET", f"/search/teachers?topic={word[:10]}")
    assert [teacher["user_id"] for teacher in found.body] == [one.id for one in (rated, topic, subject, name, bio)]
    assert [teacher["rating"] for teacher in found.body] == [4.5, None, None, None, None]
    first = await office.call(office.stranger, "GET", f"/search/teachers?topic={word}&limit=2")
    assert [teacher["user_id"] for teacher in first.body] == [rated.id, topic.id]
    assert 'rel="next"' in first.headers["Link"]
    for nothing in ("", "?topic=", "?topic=%20"):
        answer = await rest(office.url, "GET", f"/search/teachers{nothing}", token=office.student.token())
        assert told(answer) == (400, "topic_required")
