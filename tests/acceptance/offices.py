"""What a site does for the people of one family and their teacher, all by REST."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.acceptance.lessons import Answer, Lesson, Person, rest

HOUR = timedelta(hours=1)
#: Each lesson of a run has an hour of its own, well ahead.
_hours = itertools.count(48)


def span(start: datetime, length: timedelta = HOUR) -> dict[str, str]:
    return {"start_time": start.isoformat(), "end_time": (start + length).isoformat()}


def later() -> datetime:
    """An hour that nobody else of this run is given."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + next(_hours) * HOUR


class Office:
    """A teacher, a student and their parent, an admin and a stranger, whom the server at `url` knows."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._people = Lesson(url)
        self.teacher, self.student, self.parent = self._people.teacher, self._people.student, self._people.parent
        self.admin = self._people.person("admin", "Ad Min")
        self.stranger = self._people.person("student", "Stran Ger")

    @classmethod
    async def open(cls, url: str) -> Office:
        office = cls(url)
        for person in (office.teacher, office.student, office.parent, office.admin, office.stranger):
            await office._people.meet(person)
        await office._people.set_parent(office.parent.id)
        return office

    async def newcomer(self, role: str, name: str, **profile: Any) -> Person:
        """Somebody else, with a profile where one is given."""
        person = self._people.person(role, name)
        await self._people.meet(person)
        if profile:
            saved = await self.save(person, **profile)
            assert saved.status == 201, saved
        return person

    async def call(
        self, who: Person | None, method: str, path: str, body: Mapping[str, Any] | None = None, **claims: Any
    ) -> Answer:
        return await rest(self.url, method, path, body, token=None if who is None else who.token(**claims))

    async def save(self, person: Person, *, by: Person | None = None, **profile: Any) -> Answer:
        data = {"name": person.name, "email": None, "bio": "", **profile}
        body = {"user_id": person.id, "role": person.role, "profile_data": data}
        return await self.call(by or person, "POST", "/profiles", body)

    async def book(self, start: datetime | None = None, **changes: Any) -> Answer:
        """The student asks for a lesson with the teacher."""
        people = {"student_id": self.student.id, "teacher_id": self.teacher.id}
        return await self.call(self.student, "POST", "/bookings", {**people, **span(start or later()), **changes})

    async def booked(
        self, status: str = "pending", start: datetime | None = None, length: timedelta = HOUR, **changes: Any
    ) -> str:
        """The id of a lesson that came to this status."""
        start = start or later()
        made = await self.book(start, **span(start, length), **changes)
        assert made.status == 201, made
        booking_id: str = made.body["booking_id"]
        ways: dict[str, list[str]] = {
            "pending": [],
            "confirmed": ["confirmed"],
            "completed": ["confirmed", "completed"],
        }
        for step in ways.get(status, [status]):
            changed = await self.change(self.teacher, booking_id, status=step)
            assert (changed.status, changed.body["status"]) == (200, step), changed
        return booking_id

    async def change(self, who: Person | None, booking_id: str, **change: Any) -> Answer:
        return await self.call(who, "PATCH", f"/bookings/{booking_id}", change)
