"""Lessons, made from outside as a site would make them: people by their tokens, a booking by REST."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aiohttp

from tests.support.clients import Client
from tests.support.recorder import WAIT_SECONDS
from tests.support.tokens import mint

POLL_SECONDS = 0.02
#: What the way from one client to another counts for, in simplest requests: several processes have their turn in it.
STEPS = 20
#: For a token whose end is awaited: longer than an event and its ack take on a machine that does much else.
SOON_SECONDS = 5.0
TIMEOUT = aiohttp.ClientTimeout(total=WAIT_SECONDS)
#: Bookings must not overlap; each lesson of this run has an hour of its own.
_hours = itertools.count(1)


@dataclass(frozen=True)
class Answer:
    """What REST answered."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


async def rest(url: str, method: str, path: str, body: Any = None, *, token: str | None = None) -> Answer:
    """One request on a connection of its own."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession(timeout=TIMEOUT) as http,
        http.request(method, url + path, json=body, headers=headers) as response,
    ):
        is_json = response.content_type == "application/json"
        said = await response.json() if is_json else await response.text()
        return Answer(response.status, said, dict(response.headers))


async def until(
    condition: Callable[[], bool | Awaitable[bool]],
    what: str,
    timeout: float = WAIT_SECONDS,
    *,
    seen: Callable[[], object] = lambda: "",
) -> float:
    """Wait until `condition()`. The seconds it took; AssertionError with `seen()` after `timeout`."""
    started = time.monotonic()
    while True:
        met = condition()
        if inspect.isawaitable(met):
            met = await met
        took = time.monotonic() - started
        if met:
            return took
        assert took < timeout, f"{what}: not within {timeout:g} s; seen: {seen()}"
        await asyncio.sleep(POLL_SECONDS)


async def delay(url: str) -> float:
    """The seconds by which what a server promises may be late on this machine as it is now: half a second, and what a
    few of the simplest requests take, as each step of the way waits for the processor, too."""
    slowest = 0.0
    for _ in range(5):
        began = time.monotonic()
        await rest(url, "GET", "/healthz")
        slowest = max(slowest, time.monotonic() - began)
    return 0.5 + STEPS * slowest


@asynccontextmanager
async def within(promised: float, url: str) -> AsyncIterator[None]:
    """What is waited for in the block must come within the promised seconds, and the `delay` of the server at `url`."""
    allowed = promised + await delay(url)
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took <= allowed, f"it took {took:.2f} s; promised are {promised:g} s, and {allowed:.2f} s on this machine"


@dataclass(frozen=True)
class Person:
    """Somebody with a token that holds for an hour."""

    id: str
    role: str
    name: str

    def token(self, **claims: Any) -> str:
        return mint(self.id, self.role, name=self.name, **claims)

    def brief_token(self) -> tuple[str, float]:
        """A token that expires soon, and when. For a connection that stands already: what takes the start of a program
        may take longer."""
        expires = time.time() + SOON_SECONDS
        return self.token(exp=expires), expires


class Lesson:
    """A booking's session and its people. `url` is where REST is spoken to make it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._key = uuid4().hex[:10]
        self.teacher = self.person("teacher", "Tea Cher")
        self.student = self.person("student", "Stu Dent")
        self.parent = self.person("parent", "Pa Rent")
        self.id = ""
        self.room_name = ""

    @classmethod
    async def arrange(cls, url: str) -> Lesson:
        """Make everybody known, the parent the student's, and a booking that starts in the future."""
        lesson = cls(url)
        for person in (lesson.teacher, lesson.student, lesson.parent):
            await lesson.meet(person)
        await lesson.set_parent(lesson.parent.id)
        start = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=next(_hours))
        booked = await rest(
            url,
            "POST",
            "/bookings",
            {
                "student_id": lesson.student.id,
                "teacher_id": lesson.teacher.id,
                "start_time": start.isoformat(),
                "end_time": (start + timedelta(minutes=50)).isoformat(),
            },
            token=lesson.student.token(),
        )
        assert booked.status == 201, booked
        lesson.id = booked.body["booking_id"]
        return lesson

    def person(self, role: str, name: str) -> Person:
        return Person(f"{name.split()[0].lower()}-{uuid4().hex[:6]}-{self._key}", role, name)

    async def meet(self, person: Person) -> None:
        """Have the server know them, as their first request does."""
        met = await rest(self.url, "GET", f"/profiles?user_id={person.id}", token=person.token())
        assert met.status == 200, met

    async def admins(self, count: int) -> list[Person]:
        """People who belong to every session."""
        people = [self.person("admin", f"Admin{number} Istrator") for number in range(count)]
        for person in people:
            await self.meet(person)
        return people

    async def set_parent(self, parent_id: str | None) -> None:
        """Name, or take away, the student's parent; `parent` accepts it."""
        saved = await rest(
            self.url,
            "POST",
            "/profiles",
            {
                "user_id": self.student.id,
                "role": "student",
                "profile_data": {"name": self.student.name, "email": None, "bio": "", "parent_id": parent_id},
            },
            token=self.student.token(),
        )
        assert saved.status in (200, 201), saved
        if parent_id == self.parent.id:
            accepted = await rest(self.url, "PUT", f"/children/{self.student.id}", token=self.parent.token())
            assert accepted.status == 200, accepted

    async def call(self, method: str, path: str, body: Any = None, *, by: Person, url: str | None = None) -> Answer:
        """REST below `/sessions/{id}`, as somebody."""
        return await rest(url or self.url, method, f"/sessions/{self.id}{path}", body, token=by.token())

    async def post(self, text: str, *, by: Person, client_id: str | None = None, url: str | None = None) -> Answer:
        """A message by REST."""
        body = {"text": text} if client_id is None else {"text": text, "client_id": client_id}
        return await self.call("POST", "/messages", body, by=by, url=url)

    async def history(self, *, url: str | None = None) -> list[dict[str, Any]]:
        """All its messages, as the teacher reads them."""
        found: list[dict[str, Any]] = []
        while True:
            after = found[-1]["seq"] if found else 0
            page = await self.call("GET", f"/messages?after={after}&limit=1000", by=self.teacher, url=url)
            assert page.status == 200, page
            if not page.body:
                return found
            found += page.body

    async def timeline(self, *, url: str | None = None) -> list[dict[str, Any]]:
        """Everything of it with a `seq`."""
        page = await self.call("GET", "/timeline?after=0&limit=1000", by=self.teacher, url=url)
        assert page.status == 200, page
        entries: list[dict[str, Any]] = page.body
        return entries

    async def online(self, *, url: str | None = None) -> set[str]:
        """Who is online, as REST says."""
        answer = await self.call("GET", "/participants", by=self.teacher, url=url)
        assert answer.status == 200, answer
        return {participant["userId"] for participant in answer.body if participant["online"]}


class Seat:
    """Somebody's connection that has joined a lesson: sends in it, and knows what came."""

    def __init__(self, client: Client, lesson: Lesson, person: Person, ack: dict[str, Any]) -> None:
        self.client = client
        self.lesson = lesson
        self.person = person
        #: The ack of `joinSession`.
        self.ack = ack

    @classmethod
    async def take(
        cls,
        url: str,
        lesson: Lesson,
        person: Person,
        *,
        last_seq: int | None = None,
        transports: Sequence[str] = ("websocket",),
        token: str | None = None,
        source: str | None = None,
    ) -> Seat:
        """Connect, from the loopback address `source`, and join. The ack must be ok."""
        client = await Client.connect(url, token or person.token(), transports=tuple(transports), source=source)
        try:
            ack = await client.call("joinSession", _joining(lesson, last_seq))
            assert ack["ok"], ack
        except BaseException:
            await client.close()
            raise
        return cls(client, lesson, person, ack)

    async def call(self, event: str, **payload: Any) -> dict[str, Any]:
        """An event of this session, and its ack."""
        ack: dict[str, Any] = await self.client.call(
            event, {"sessionId": self.lesson.id, **payload}, timeout=WAIT_SECONDS
        )
        return ack

    async def say(self, text: str, **payload: Any) -> dict[str, Any]:
        """Send a message that must be acked ok; the message."""
        ack = await self.call("sendMessage", text=text, **payload)
        assert ack["ok"], ack
        message: dict[str, Any] = ack["message"]
        return message

    async def hears(self, event: str, timeout: float = WAIT_SECONDS, **wanted: Any) -> dict[str, Any]:
        """Wait for an event with these fields."""
        heard: dict[str, Any] = await self.client.wait_for(
            event, lambda data: all(data.get(name) == value for name, value in wanted.items()), timeout
        )
        return heard

    async def hears_up_to(self, seq: int, timeout: float = WAIT_SECONDS) -> None:
        """Wait until the event with this `seq` came live."""
        await until(lambda: bool(self.seqs) and self.seqs[-1] >= seq, f"seq {seq}", timeout, seen=lambda: self.seqs)

    @property
    def seqs(self) -> list[int]:
        """The `seq` of every event that came live, in the order it came."""
        return [
            received.data["seq"]
            for received in self.client.events.all
            if isinstance(received.data, dict) and "seq" in received.data and received.event != "read"
        ]

    @property
    def texts(self) -> list[str]:
        """The texts of the messages that came live."""
        return [data["text"] for data in self.client.events.of("newMessage")]

    def came(self, event: str) -> list[Any]:
        """The data of all events of this name."""
        return self.client.events.of(event)


def _joining(lesson: Lesson, last_seq: int | None) -> dict[str, Any]:
    return {"sessionId": lesson.id} if last_seq is None else {"sessionId": lesson.id, "lastSeq": last_seq}
