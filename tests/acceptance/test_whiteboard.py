"""A whiteboard on two servers: people draw at once, come late, miss things, and send what they should not."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from tests.acceptance.conftest import NO_LIMITS, Arrange, Pair, Sit, Start
from tests.acceptance.lessons import Lesson, Person, Seat, until, within
from tests.conftest import ConnectNode
from tests.support.drawings import Canvas, random_stroke, stroke
from tests.support.redis import RedisServer

#: "Across workers it arrives by catch-up within 2 s."
CATCH_UP_SECONDS = 2.0


class Drawing(Canvas):
    """One person's board, kept as the documents tell a client to."""

    def __init__(self, seat: Seat) -> None:
        super().__init__()
        self.seat = seat
        self._heard = 0

    async def draw(self, *elements: dict[str, Any]) -> None:
        """Draw here, then for everybody; an ack that cannot be ok is none."""
        self.take(elements)
        while not (ack := await self.seat.call("whiteboard", elements=list(elements)))["ok"]:
            assert ack["error"]["status_code"] == 503, ack
            await asyncio.sleep(0.05)
        self.take(ack["elements"])

    def listen(self) -> None:
        """Take in what has come."""
        received = self.seat.client.events.all
        for event in received[self._heard :]:
            self.hear(event.event, event.data)
        self._heard = len(received)

    async def fetch(self) -> None:
        """The whole board, page by page."""
        answer = await self.seat.call("getWhiteboard")
        self.take(answer["elements"])
        while answer["more"]:
            answer = await self.seat.call("getWhiteboard", after=answer["revision"])
            self.take(answer["elements"])


async def truth_of(lesson: Lesson) -> dict[str, Any]:
    """What REST says of the board, deleted elements among it."""
    canvas, after, more = Canvas(), 0, True
    while more:
        page = await lesson.call("GET", f"/whiteboard?after={after}", by=lesson.teacher)
        assert page.status == 200, page
        canvas.take(page.body["elements"])
        after, more = page.body["revision"], page.body["more"]
    return canvas.seen


async def all_agree(lesson: Lesson, *drawings: Drawing, promised: float = CATCH_UP_SECONDS) -> None:
    """Everybody sees what the database says, in time."""
    truth = await truth_of(lesson)

    def agree() -> bool:
        for drawing in drawings:
            drawing.listen()
        return all(drawing.seen == truth for drawing in drawings)

    async with within(promised, lesson.url):
        await until(agree, "every board is the database's")


async def scribble(drawing: Drawing, random: Random, updates: int) -> None:
    for _ in range(updates):
        await drawing.draw(*(random_stroke(random, ids=12) for _ in range(random.randint(1, 3))))


@pytest.mark.parametrize("seed", range(2))
async def test_ten_people_on_two_workers_draw_at_once_and_all_boards_are_the_databases(
    pair: Pair, arrange: Arrange, sit: Sit, seed: int
) -> None:
    lesson = await arrange(pair.one.url)
    people = [lesson.teacher, lesson.student, lesson.parent, *await lesson.admins(7)]
    drawings = [Drawing(await sit(pair.urls[n % 2], lesson, person)) for n, person in enumerate(people)]
    await asyncio.gather(*(scribble(drawing, Random(f"{seed} {n}"), 30) for n, drawing in enumerate(drawings)))
    await all_agree(lesson, *drawings)
    late = Drawing(await sit(pair.two.url, lesson, lesson.parent))
    await late.fetch()
    assert late.living == drawings[0].living


async def test_what_somebody_draws_reaches_the_others_and_their_own_other_tabs(
    pair: Pair, arrange: Arrange, sit: Sit
) -> None:
    lesson = await arrange(pair.one.url)
    tab, beside = [await sit(pair.one.url, lesson, lesson.student) for _ in range(2)]
    away, teacher = await sit(pair.two.url, lesson, lesson.student), await sit(pair.two.url, lesson, lesson.teacher)
    assert await tab.call("whiteboard", elements=[stroke("a"), stroke("b")]) == {"ok": True, "elements": []}
    for seat in (beside, away, teacher):
        heard = await seat.hears("whiteboard", userId=lesson.student.id, session_id=lesson.id)
        assert (heard["elements"], heard["revision"]) == ([stroke("a"), stroke("b")], 1)
    ack = await teacher.call("whiteboard", elements=[stroke("a", 0), stroke("b", 2)])
    assert ack["elements"] == [stroke("a")], "its sender learns what was newer"
    heard = await tab.hears("whiteboard", userId=lesson.teacher.id)
    assert heard["elements"] == [stroke("b", 2)], "and the others see what won"
    assert len(tab.came("whiteboard")) == 1


async def test_the_official_client_draws_and_fetches(
    pair: Pair, arrange: Arrange, sit: Sit, connect_node: ConnectNode
) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.two.url, lesson, lesson.teacher)
    node = await connect_node(pair.one.url, lesson.student.token(), transports=["websocket"])
    await node.call("joinSession", {"sessionId": lesson.id})
    element = stroke("héllo", 3, 2_147_483_647, isDeleted=False, points=[[0.1, -1e-7], [1e21, 3]], angle=0)
    assert await node.call("whiteboard", {"sessionId": lesson.id, "elements": [element]}) == {
        "ok": True,
        "elements": [],
    }
    assert (await teacher.hears("whiteboard"))["elements"] == [element]
    await teacher.call("whiteboard", elements=[element | {"version": 4, "isDeleted": True}, stroke("b")])
    await node.wait_for("whiteboard", lambda data: len(data["elements"]) == 2)
    assert await node.call("getWhiteboard", {"sessionId": lesson.id}) == {
        "ok": True,
        "elements": [stroke("b")],
        "revision": 2,
        "more": False,
    }


async def test_somebody_who_comes_late_gets_a_large_board_in_pages(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    for n in range(30):
        ack = await teacher.call("whiteboard", elements=[stroke(f"{n}", text="x" * 50_000)])
        assert ack["ok"], ack
    late = Drawing(await sit(pair.two.url, lesson, lesson.student))
    first = await late.seat.call("getWhiteboard")
    assert first["more"]
    await late.fetch()
    assert set(late.living) == {f"{n}" for n in range(30)}
    assert late.living == await truth_of(lesson)


async def test_a_cleared_board_is_empty_for_everybody_and_stays_so(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    teacher = Drawing(await sit(pair.one.url, lesson, lesson.teacher))
    student = Drawing(await sit(pair.two.url, lesson, lesson.student))
    await teacher.draw(stroke("a", 7), stroke("b"))
    await student.seat.hears("whiteboard")
    refused = await student.seat.call("clearWhiteboard")
    assert refused["error"]["error"] == "not_host"
    assert await teacher.seat.call("clearWhiteboard") == {"ok": True}
    for drawing in (teacher, student):
        cleared = await drawing.seat.hears("whiteboardCleared", session_id=lesson.id, seq=1)
        assert (await drawing.seat.call("getWhiteboard"))["elements"] == []
        assert (await drawing.seat.call("getWhiteboard", after=cleared["revision"]))["elements"] == []
    # Whoever was away when it was cleared: by the log, or by what they bring.
    back = await sit(pair.two.url, lesson, lesson.student, last_seq=0)
    assert [event["event"] for event in back.ack["events"]] == ["whiteboardCleared"]
    await student.draw(stroke("a", 7))
    assert student.seen["a"] == "gone"
    assert await teacher.seat.call("clearWhiteboard") == {"ok": True}, "nothing is left to clear, and nobody is told"
    assert (await lesson.timeline())[-1]["seq"] == 1


async def test_a_locked_board_takes_what_the_host_draws(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(pair.one.url)
    teacher = await sit(pair.one.url, lesson, lesson.teacher)
    student = await sit(pair.two.url, lesson, lesson.student)
    assert (await teacher.call("setSession", whiteboardLocked=True))["ok"]
    refused = await student.call("whiteboard", elements=[stroke("a")])
    assert (refused["error"]["status_code"], refused["error"]["error"]) == (403, "whiteboard_locked")
    assert (await teacher.call("whiteboard", elements=[stroke("b")]))["ok"]
    assert (await teacher.call("setSession", whiteboardLocked=False))["ok"]
    assert (await student.call("whiteboard", elements=[stroke("a")]))["ok"]
    assert set(await truth_of(lesson)) == {"a", "b"}


def deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


HOSTILE: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "validation_failed"),
    "no elements": ({"elements": []}, "validation_failed"),
    "an object for elements": ({"elements": {}}, "validation_failed"),
    "numbers for elements": ({"elements": [1, 2]}, "validation_failed"),
    "nameless elements": ({"elements": [{}]}, "validation_failed"),
    "ten thousand elements": ({"elements": [{}] * 10_000}, "validation_failed"),
    "a NUL in a key": ({"elements": [stroke("a") | {"\x00": 1}]}, "validation_failed"),
    "a NUL in an id": ({"elements": [stroke("a\x00")]}, "validation_failed"),
    "a version without end": ({"elements": [stroke("a", 10**40)]}, "validation_failed"),
    "too deep an element": ({"elements": [stroke("a", points=deep(40))]}, "too_deep"),
    "far too deep an element": ({"elements": [stroke("a", points=deep(300))]}, "too_deep"),
    "too large an element": ({"elements": [stroke("a", text="x" * 62_000)]}, "validation_failed"),
    "one sound and one not": ({"elements": [stroke("a"), stroke("b") | {"version": "2"}]}, "validation_failed"),
}


async def test_whatever_should_not_be_drawn_is_refused_and_changes_nothing(
    pair: Pair, arrange: Arrange, sit: Sit
) -> None:
    lesson = await arrange(pair.one.url)
    student, teacher = [await sit(pair.one.url, lesson, person) for person in (lesson.student, lesson.teacher)]
    for kind, (payload, code) in HOSTILE.items():
        ack = await student.call("whiteboard", **payload)
        assert (ack["ok"], ack["error"]["status_code"], ack["error"]["error"]) == (False, 400, code), (kind, ack)
        assert len(str(ack)) < 2_000, "what was sent is not sent back"
    for after in (-1, "x", 1.5, 2**63, [1]):
        ack = await student.call("getWhiteboard", after=after)
        assert ack["error"]["error"] == "validation_failed", ack
    assert await truth_of(lesson) == {}
    assert student.client.connected
    # And the largest that is allowed is taken.
    largest = [stroke("a", text="x" * 61_000), *(stroke(f"{n}") for n in range(20))]
    assert (await student.call("whiteboard", elements=largest))["ok"]
    assert (await teacher.hears("whiteboard"))["elements"] == largest


async def test_nobody_draws_in_a_session_that_they_have_not_joined(pair: Pair, arrange: Arrange, sit: Sit) -> None:
    lesson, other = await arrange(pair.one.url), await arrange(pair.one.url)
    student = await sit(pair.one.url, lesson, lesson.student)
    for event, payload in (("whiteboard", {"elements": [stroke("a")]}), ("getWhiteboard", {}), ("clearWhiteboard", {})):
        ack = await student.client.call(event, {"sessionId": other.id, **payload})
        assert ack["error"]["error"] == "not_joined"
    assert await truth_of(other) == {}


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_boards_agree_within_two_seconds_while_redis_is_away_and_when_it_is_back(
    private_redis: RedisServer, start: Start, arrange: Arrange, sit: Sit, how: str
) -> None:
    one, two = await start(2, REDIS_URL=private_redis.url, **NO_LIMITS)
    lesson = await arrange(one.url)
    people: list[Person] = [lesson.teacher, lesson.student, lesson.parent, *await lesson.admins(1)]
    drawings = [Drawing(await sit((one.url, two.url)[n % 2], lesson, person)) for n, person in enumerate(people)]
    await drawings[0].draw(stroke("before"))
    await all_agree(lesson, *drawings)
    if how == "stopped":
        await asyncio.to_thread(private_redis.stop)
    else:
        private_redis.freeze()
    await asyncio.gather(*(scribble(drawing, Random(n), 20) for n, drawing in enumerate(drawings)))
    # A frozen Redis is found out by its silence first.
    await all_agree(lesson, *drawings, promised=CATCH_UP_SECONDS if how == "stopped" else 3 * CATCH_UP_SECONDS)
    drawing = asyncio.gather(*(scribble(drawing, Random(-n), 20) for n, drawing in enumerate(drawings)))
    if how == "stopped":
        await asyncio.to_thread(private_redis.start)
    else:
        private_redis.thaw()
    await drawing
    for server in (one, two):
        await server.until_ready()
    await all_agree(lesson, *drawings)


async def test_what_was_drawn_in_a_moment_without_redis_is_not_missed(
    private_redis: RedisServer, start: Start, arrange: Arrange, sit: Sit
) -> None:
    one, two = await start(2, REDIS_URL=private_redis.url, **NO_LIMITS)
    lesson = await arrange(one.url)
    drawings = [
        Drawing(await sit(url, lesson, person))
        for url, person in ((one.url, lesson.teacher), (two.url, lesson.student), (two.url, lesson.parent))
    ]
    for n in range(5):
        # So short that nobody polls in between; the news of these moments is lost.
        await asyncio.to_thread(private_redis.kill)
        await drawings[0].draw(stroke(f"{n}"))
        await asyncio.to_thread(private_redis.start)
        await all_agree(lesson, *drawings, promised=2 * CATCH_UP_SECONDS)
