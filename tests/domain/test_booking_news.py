"""What the people of a booking are told: each change once, to everybody but who made it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from domain import bookings, sessions
from domain.booking_rules import BookingChange, NewBooking, Repeat
from domain.errors import EncountersError
from domain.live import Live
from store import notifications
from store.database import Pool
from store.notifications import Notification
from tests.support.lessons import ROLES, database_pool, identity, member
from tests.support.rooms import Seat, workers

START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(days=2)
HOUR = timedelta(hours=1)


@pytest.fixture
async def live(database: str) -> AsyncIterator[Live]:
    async with database_pool(database) as pool, workers(pool, 1) as (live,):
        yield live


async def told(pool: Pool) -> dict[str, list[Notification]]:
    """What everybody who was told anything was told, in its order."""
    found = {}
    for who in ROLES:
        page = await notifications.page(pool, who, limit=100)
        if page.received:
            found[who] = [received.notification for received in reversed(page.received)]
    return found


def lesson(start: datetime = START) -> NewBooking:
    return NewBooking(student_id="kid", teacher_id="teach", start_time=start, end_time=start + HOUR)


async def book(live: Live, who: str = "kid") -> UUID:
    return await bookings.book(live, identity(who), lesson())


@pytest.mark.parametrize(
    ("who", "others"), [("kid", ["mum", "teach"]), ("mum", ["kid", "teach"]), ("boss", ["kid", "mum", "teach"])]
)
async def test_a_new_lesson_is_told_to_its_people_but_for_who_booked_it(
    live: Live, who: str, others: list[str]
) -> None:
    seats = {person: Seat(person) for person in ROLES}
    for seat in seats.values():
        live.audience.attend(seat.connection)
    booking_id = await book(live, who)
    kept = await told(live.pool)
    assert sorted(kept) == others
    assert [person for person, seat in sorted(seats.items()) if seat.events.all] == others
    [one] = kept["teach"]
    assert (one.kind, one.title, one.body) == (
        "booking_created",
        "A lesson was booked",
        f"Kid with Teach, by {who.capitalize()}",
    )
    assert one.data == {
        "booking_id": str(booking_id),
        "session_id": str(booking_id),
        "student_id": "kid",
        "teacher_id": "teach",
        "status": "pending",
        "start_time": START.isoformat().replace("+00:00", "Z"),
        "end_time": (START + HOUR).isoformat().replace("+00:00", "Z"),
    }


async def test_lessons_of_many_weeks_are_one_piece_of_news(live: Live) -> None:
    made = await bookings.book_weekly(live, identity("kid"), lesson(), Repeat(weeks=3, timezone="UTC"))
    [one] = (await told(live.pool))["teach"]
    assert one.title == "3 weekly lessons were booked"
    assert (one.data["booking_id"], one.data["booking_ids"]) == (str(made[0]), [str(made_id) for made_id in made])


async def test_what_is_not_booked_is_not_told(live: Live) -> None:
    await book(live)
    before = await told(live.pool)
    with pytest.raises(EncountersError):
        await book(live)
    assert await told(live.pool) == before


@pytest.mark.parametrize(
    ("who", "change", "title", "others"),
    [
        ("teach", BookingChange(status="confirmed"), "A lesson was confirmed", ["kid", "mum"]),
        ("mum", BookingChange(status="cancelled"), "A lesson was cancelled", ["kid", "teach"]),
        (
            "kid",
            BookingChange(start_time=START + HOUR, end_time=START + 2 * HOUR),
            "A lesson was moved",
            ["mum", "teach"],
        ),
        ("boss", BookingChange(status="confirmed"), "A lesson was confirmed", ["kid", "mum", "teach"]),
    ],
)
async def test_a_change_is_told_once_to_the_others(
    live: Live, who: str, change: BookingChange, title: str, others: list[str]
) -> None:
    booking_id = await book(live, "boss")
    await live.pool.execute("DELETE FROM notifications")
    for _ in range(2):  # the same request again changes nothing, and tells nobody
        after = await bookings.change(live, identity(who), booking_id, change)
    kept = await told(live.pool)
    assert sorted(kept) == others
    for [one] in kept.values():
        assert (one.kind, one.title, one.body) == ("booking_changed", title, f"Kid with Teach, by {who.capitalize()}")
        assert one.data["status"] == after.status
        moved = one.data.get("previous_start_time")
        assert moved == (START.isoformat().replace("+00:00", "Z") if title.endswith("moved") else None)


async def test_the_bookings_own_parent_is_told_too_and_a_parent_in_both_parts_once(live: Live) -> None:
    booking_id = await book(live)
    await live.pool.execute("UPDATE bookings SET parent_id = 'gran'")
    await live.pool.execute("DELETE FROM notifications")
    await bookings.change(live, identity("teach"), booking_id, BookingChange(status="confirmed"))
    assert {who: len(kept) for who, kept in (await told(live.pool)).items()} == {"kid": 1, "mum": 1, "gran": 1}


async def test_the_end_of_its_session_completes_a_lesson_for_the_others_once(live: Live) -> None:
    booking_id = await book(live)
    await live.pool.execute("DELETE FROM notifications")
    for _ in range(2):
        await sessions.move(live, member(booking_id, "teach"), "ended")
    kept = await told(live.pool)
    assert {who: [one.title for one in news] for who, news in kept.items()} == {
        "kid": ["A lesson was completed"],
        "mum": ["A lesson was completed"],
    }


async def test_somebody_without_a_name_is_called_by_their_id(live: Live) -> None:
    await live.pool.execute("UPDATE users SET first_name = ' ', last_name = '' WHERE id = 'kid'")
    await book(live, "mum")
    [one] = (await told(live.pool))["teach"]
    assert one.body == "kid with Teach, by Mum"


async def test_a_parent_whom_the_student_names_alone_is_told_nothing(live: Live) -> None:
    await live.pool.execute("UPDATE users SET parent_accepted = false WHERE id = 'kid'")
    booking_id = await book(live)
    await bookings.change(live, identity("teach"), booking_id, BookingChange(status="confirmed"))
    kept = await told(live.pool)
    assert (sorted(kept), len(kept["kid"]), len(kept["teach"])) == (["kid", "teach"], 1, 1)
