"""Drawing together: what is shown to whom, on which worker; and every board is the database's in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from domain import chat, session_settings, whiteboard, whiteboard_rooms
from domain import whiteboards as acts
from domain.errors import Conflict, EncountersError, Forbidden, NotFound, TooLarge, Unavailable
from domain.live import Live
from domain.session_settings import SettingsChange
from domain.whiteboard import document
from domain.whiteboards import Shown, drawn
from realtime.events import Event
from store import events, whiteboards
from store.database import Pool
from store.errors import Away
from tests.support.drawings import GONE, Canvas, assert_counted, random_stroke, stored, stroke
from tests.support.lessons import book, close_chat, database_pool, member, until_somebody_waits
from tests.support.rooms import Exchange, Seat, join, leave, room_of, workers
from tests.support.waiting import until


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def draw(live: Live, session_id: UUID, who: str | Seat, *raw: dict[str, Any]) -> Shown:
    """Draw as somebody, on one of their connections or by none; raises the refusal."""
    seat = who if isinstance(who, Seat) else None
    someone = member(session_id, seat.user_id if seat else str(who))
    drawing = live.whiteboards.begin_draw(someone, list(raw), seat.connection if seat else None)
    await asyncio.wait([drawing])
    return drawn(drawing)


def came(seat: Seat) -> list[dict[str, Any]]:
    """The elements that a seat was shown, in order."""
    return [element for data in seat.events.of("whiteboard") for element in data["elements"]]


def canvas_of(seat: Seat) -> Canvas:
    canvas = Canvas()
    canvas.take(came(seat))
    return canvas


@pytest.fixture
def no_look_at_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """But the first: what is found is found for a reason."""
    monkeypatch.setattr(whiteboard_rooms, "LOOK_SECONDS", 3_600.0)


async def first_look(live: Live) -> None:
    """The first look of all is at everything; until the second one of that kind it takes a while."""
    await until(lambda: live.whiteboard_rooms._look is not None and live.whiteboard_rooms._look.done())


async def test_what_is_drawn_is_stored_and_shown_to_everybody_but_the_connection_it_came_from(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 2) as (one, two):
        tab, other_tab = await join(one, session_id, "kid"), await join(one, session_id, "kid")
        away_tab, teacher = await join(two, session_id, "kid"), await join(two, session_id, "teach")
        shown = await draw(one, session_id, tab, stroke("a"), stroke("b"))
        assert (shown.revision, list(shown.winners), shown.more) == (1, [], False)
        for seat in (other_tab, away_tab, teacher):
            [data] = seat.events.of("whiteboard")
            assert data == {
                "session_id": str(session_id),
                "userId": "kid",
                "revision": 1,
                "elements": [stroke("a"), stroke("b")],
            }
        assert came(tab) == []
        assert await stored(pool, session_id) == {"a": stroke("a"), "b": stroke("b")}
        await assert_counted(pool, session_id)


async def test_only_what_won_is_shown_and_its_sender_learns_what_was_newer(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        teacher, kid = await join(live, session_id, "teach"), await join(live, session_id, "kid")
        await draw(live, session_id, teacher, stroke("a", 3), stroke("b", 3, 5), stroke("c", 3, 5))
        shown = await draw(live, session_id, kid, stroke("a", 2), stroke("b", 3, 6), stroke("c", 3, 4), stroke("d"))
        assert [msgspec.json.decode(document(one)) for one in shown.winners] == [stroke("a", 3), stroke("b", 3, 5)]
        assert came(teacher) == [stroke("c", 3, 4), stroke("d")]
        again = await draw(live, session_id, kid, stroke("c", 3, 4), stroke("d"))
        assert (list(again.elements), list(again.winners), again.revision) == ([], [], 2), "the same changes nothing"
        assert came(teacher) == [stroke("c", 3, 4), stroke("d")]


async def test_a_sender_far_behind_is_told_to_fetch_the_board(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whiteboard, "PAGE_BYTES", 1_000)
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        await draw(live, session_id, "teach", *(stroke(f"{n}", 2, text="x" * 400) for n in range(5)))
        shown = await draw(live, session_id, "kid", *(stroke(f"{n}", 1) for n in range(5)))
        assert 0 < len(shown.winners) < 5
        assert shown.more


async def test_updates_of_one_batch_are_drawn_one_after_the_other(pool: Pool) -> None:
    session_id, other = await book(pool), await book(pool)
    async with workers(pool, 1) as (live,):
        teacher = await join(live, session_id, "teach")
        someone = member(session_id, "kid")
        drawings = [live.whiteboards.begin_draw(someone, [stroke("a", version)]) for version in (1, 3, 2, 4)]
        drawings.append(live.whiteboards.begin_draw(member(other, "kid"), [stroke("a", 9)]))
        await asyncio.wait(drawings)
        assert [drawn(drawing).revision for drawing in drawings] == [1, 2, 2, 3, 1]
        assert [one.version for one in drawn(drawings[2]).winners] == [4], "as it stands behind the batch"
        assert [element["version"] for element in came(teacher)] == [1, 3, 4]
        for each in (session_id, other):
            await assert_counted(pool, each)


async def test_an_update_that_is_too_much_is_refused_whole_and_others_of_its_batch_are_not(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whiteboard, "MAX_BOARD_ELEMENTS", 3)
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        teacher = await join(live, session_id, "teach")
        updates = [[stroke("a"), stroke("b")], [stroke("c"), stroke("d")], [stroke("e")], [stroke("a", 2)]]
        drawings = [live.whiteboards.begin_draw(member(session_id, "kid"), update) for update in updates]
        await asyncio.wait(drawings)
        with pytest.raises(TooLarge) as refused:
            drawn(drawings[1])
        assert refused.value.code == "whiteboard_full"
        assert set(await stored(pool, session_id)) == {"a", "b", "e"}
        assert [element["id"] for element in came(teacher)] == ["a", "b", "e", "a"]
        await assert_counted(pool, session_id)


async def test_a_board_is_full_exactly_however_many_draw_at_once(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whiteboard, "MAX_BOARD_ELEMENTS", 50)
    session_id = await book(pool)
    async with workers(pool, 3) as lives:
        drawings = [
            lives[n % 3].whiteboards.begin_draw(member(session_id, "kid"), [stroke(f"{n}-{i}") for i in range(4)])
            for n in range(40)
        ]
        await asyncio.wait(drawings)
        taken = [drawing for drawing in drawings if drawing.exception() is None]
        assert len(taken) == 12, "the thirteenth would have been the first with more than 50"
        assert len(await stored(pool, session_id)) == 48
        await assert_counted(pool, session_id)


async def test_a_locked_board_takes_the_hosts_elements_only(pool: Pool) -> None:
    session_id = await book(pool)
    await pool.execute("UPDATE sessions SET whiteboard_locked = true WHERE id = $1", session_id)
    async with workers(pool, 1) as (live,):
        with pytest.raises(Forbidden) as refused:
            await draw(live, session_id, "kid", stroke("a"))
        assert refused.value.code == "whiteboard_locked"
        await draw(live, session_id, "teach", stroke("b"))
        assert set(await stored(pool, session_id)) == {"b"}


async def test_the_board_of_a_cancelled_booking_stays_as_it_is(pool: Pool) -> None:
    session_id = await book(pool)
    await close_chat(pool, session_id)
    async with workers(pool, 1) as (live,):
        with pytest.raises(Conflict) as refused:
            await draw(live, session_id, "teach", stroke("a"))
        assert refused.value.code == "booking_cancelled"
        assert await stored(pool, session_id) == {}


async def test_there_is_no_board_without_a_session(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        nowhere = live.whiteboards.begin_draw(member(uuid4(), "kid"), [stroke("a")])
        await draw(live, session_id, "kid", stroke("a"))
        with pytest.raises(NotFound):
            drawn(nowhere)


async def test_what_waits_to_be_stored_is_bounded(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acts, "MAX_WAITING_BYTES", 1_000)
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        large = stroke("a", text="x" * 700)
        drawing = live.whiteboards.begin_draw(member(session_id, "kid"), [large])
        with pytest.raises(Unavailable):
            live.whiteboards.begin_draw(member(session_id, "kid"), [stroke("b", text="x" * 700)])
        await drawing
        await draw(live, session_id, "kid", stroke("b", text="x" * 700))


async def test_a_try_whose_answer_was_lost_is_told_once_it_is_known(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        teacher = await join(live, session_id, "teach")
        write, tries = live.whiteboards._updates._write, 0

        async def lose_the_first_answer(batch: Any, again: bool) -> Any:
            nonlocal tries
            tries += 1
            outcomes = await write(batch, again)
            if tries == 1:
                raise Away("the connection is gone")
            return outcomes

        monkeypatch.setattr(live.whiteboards._updates, "_write", lose_the_first_answer)
        shown = await draw(live, session_id, "kid", stroke("a"))
        assert (tries, shown.revision) == (2, 1)
        assert came(teacher) == [stroke("a")]
        await assert_counted(pool, session_id)


async def test_a_clear_is_told_by_the_log_and_wins_over_what_was_drawn_before(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 2) as (one, two):
        teacher, kid = await join(one, session_id, "teach"), await join(two, session_id, "kid")
        await draw(one, session_id, teacher, stroke("a", 5), stroke("b"))
        await one.whiteboards.clear(member(session_id, "teach"))
        for seat in (teacher, kid):
            [data] = seat.events.of("whiteboardCleared")
            assert data == {"seq": 1, "session_id": str(session_id), "revision": 2}
        assert await stored(pool, session_id) == {"a": GONE, "b": GONE}
        # Somebody who was offline brings what they had.
        shown = await draw(two, session_id, kid, stroke("a", 5), stroke("new"))
        assert [msgspec.json.decode(document(one)) for one in shown.winners] == [
            {"id": "a", "version": 6, "versionNonce": 0, "isDeleted": True}
        ]
        assert came(teacher) == [stroke("new")]
        # Who goes on with one that was cleared takes it back for everybody.
        await draw(two, session_id, kid, stroke("a", 7))
        assert await stored(pool, session_id) == {"a": stroke("a", 7), "b": GONE, "new": stroke("new")}


async def test_only_the_host_clears_and_an_empty_board_is_not_cleared(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        await draw(live, session_id, "kid", stroke("a"))
        with pytest.raises(Forbidden) as refused:
            await live.whiteboards.clear(member(session_id, "kid"))
        assert refused.value.code == "not_host"
        assert await stored(pool, session_id) == {"a": stroke("a")}
        for _ in range(2):
            await live.whiteboards.clear(member(session_id, "teach"))
        [entry] = await events.newest(pool, session_id, limit=10)
        assert (entry.kind, entry.user_id, entry.data) == ("whiteboard_cleared", "teach", {"revision": 2})


async def test_news_that_a_clear_has_overtaken_is_not_shown(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        kid = await join(live, session_id, "kid")
        await draw(live, session_id, "teach", stroke("a"))
        await live.whiteboards.clear(member(session_id, "teach"))
        data = {"session_id": str(session_id), "userId": "teach", "revision": 1, "elements": [stroke("late")]}
        room_of(live, session_id).receive(Event(name="whiteboard", data=data))
        assert [element["id"] for element in came(kid)] == ["a"]


async def test_what_the_bus_lost_is_shown_with_the_next_look_while_it_is_away(pool: Pool) -> None:
    session_id, exchange = await book(pool), Exchange()
    async with workers(pool, 2, exchange) as (one, two):
        teacher, kid = await join(one, session_id, "teach"), await join(two, session_id, "kid")
        exchange.cut = True
        await draw(one, session_id, teacher, stroke("a"), stroke("b"))
        await draw(one, session_id, teacher, stroke("b", 2, isDeleted=True))
        assert came(kid) == []
        two.whiteboard_rooms.look(bus_connected=False)
        await kid.events.wait_for("whiteboard")
        [data] = kid.events.of("whiteboard")
        assert (data["userId"], data["revision"]) == (None, 2)
        assert canvas_of(kid).seen == await stored(pool, session_id) == {"a": stroke("a"), "b": GONE}
        # And nothing twice.
        two.whiteboard_rooms.look(bus_connected=False)
        assert two.whiteboard_rooms._look is not None
        await two.whiteboard_rooms._look
        assert len(came(kid)) == 2


@pytest.mark.usefixtures("no_look_at_everything")
async def test_a_hole_that_does_not_close_is_read_from_the_database(pool: Pool) -> None:
    session_id, exchange = await book(pool), Exchange()
    async with workers(pool, 2, exchange) as (one, two):
        await join(one, session_id, "teach")
        kid = await join(two, session_id, "kid")
        await first_look(two)
        exchange.cut = True
        await draw(one, session_id, "teach", stroke("lost"))
        exchange.cut = False
        await draw(one, session_id, "teach", stroke("heard"))
        assert [element["id"] for element in came(kid)] == ["heard"]
        await kid.events.wait_for("whiteboard", lambda data: "lost" in [one["id"] for one in data["elements"]])
        assert canvas_of(kid).seen == await stored(pool, session_id)


@pytest.mark.usefixtures("no_look_at_everything")
async def test_a_gap_of_the_bus_is_looked_into(pool: Pool) -> None:
    session_id, exchange = await book(pool), Exchange()
    async with workers(pool, 2, exchange) as (one, two):
        await join(one, session_id, "teach")
        kid = await join(two, session_id, "kid")
        await first_look(two)
        exchange.cut = True
        await draw(one, session_id, "teach", stroke("lost"))
        exchange.cut = False
        two.whiteboard_rooms._note_gap()
        await kid.events.wait_for("whiteboard")
        assert canvas_of(kid).seen == await stored(pool, session_id)


async def test_what_a_worker_committed_that_died_before_it_could_tell_is_found(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id, exchange = await book(pool), Exchange()
    async with workers(pool, 2, exchange) as (one, two):
        kid = await join(two, session_id, "kid")
        await first_look(two)
        exchange.cut = True
        await draw(one, session_id, "teach", stroke("a"))
        exchange.cut = False
        assert came(kid) == []
        monkeypatch.setattr(whiteboard_rooms, "LOOK_SECONDS", 0.0)
        await kid.events.wait_for("whiteboard")
        assert canvas_of(kid).seen == await stored(pool, session_id)


@pytest.mark.usefixtures("no_look_at_everything")
async def test_a_look_that_fails_is_taken_again(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    session_id, exchange = await book(pool), Exchange()
    async with workers(pool, 2, exchange) as (one, two):
        kid = await join(two, session_id, "kid")
        exchange.cut = True
        await draw(one, session_id, "teach", stroke("a"))
        revisions = whiteboards.revisions

        async def away(*_: Any) -> Any:
            monkeypatch.setattr(whiteboards, "revisions", revisions)
            raise Away("away")

        monkeypatch.setattr(whiteboards, "revisions", away)
        two.whiteboard_rooms._note_gap()
        await kid.events.wait_for("whiteboard")


async def test_events_that_overtake_each_other_are_no_gap(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        await join(live, session_id, "kid")
        mark = live.whiteboard_rooms._marks[str(session_id)]
        for revision in (2, 4, 3, 1):
            mark.saw(revision)
        assert (mark.known, mark.early) == (4, set())
        assert not mark.misses()
        mark.saw(6)
        assert [mark.misses(), mark.misses()] == [False, True], "it has its time to arrive"
        mark.saw(5)
        assert not mark.misses()
        mark.saw(9)
        mark.reach(8)
        assert (mark.known, mark.early) == (9, set())


async def test_a_room_that_closes_forgets_its_board(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        kid = await join(live, session_id, "kid")
        await draw(live, session_id, kid, stroke("a"))
        with monkeypatch.context() as hurry:
            hurry.setattr("realtime.hub.LINGER_SECONDS", 0.0)
            leave(live, session_id, kid)
        await until(lambda: live.whiteboard_rooms._marks == {})
        await draw(live, session_id, "kid", stroke("b"))
        late = await join(live, session_id, "kid")
        assert live.whiteboard_rooms._marks[str(session_id)].known == 2
        await draw(live, session_id, "teach", stroke("c"))
        assert [element["id"] for element in came(late)] == ["c"]


@pytest.mark.usefixtures("no_look_at_everything")
@pytest.mark.parametrize("seed", range(3))
async def test_ten_people_draw_at_random_on_two_workers_and_every_board_is_the_databases(pool: Pool, seed: int) -> None:
    session_id, exchange, random = await book(pool), Exchange(), Random(seed)
    async with workers(pool, 2, exchange) as lives:
        seats = [(lives[n % 2], await join(lives[n % 2], session_id, "kid")) for n in range(10)]
        canvases = [Canvas() for _ in seats]

        async def scribble(number: int) -> None:
            live, seat = seats[number]
            for _ in range(25):
                update = [random_stroke(random, ids=8) for _ in range(random.randint(1, 4))]
                canvases[number].take(update)
                shown = await draw(live, session_id, seat, *update)
                canvases[number].take(msgspec.json.decode(document(one)) for one in shown.winners)
                if random.random() < 0.1:
                    exchange.cut = not exchange.cut

        await asyncio.gather(*(scribble(number) for number in range(len(seats))))
        exchange.cut = False
        for live in lives:
            live.whiteboard_rooms._note_gap()
        truth = await stored(pool, session_id)

        def agrees() -> bool:
            for canvas, (_, seat) in zip(canvases, seats, strict=True):
                canvas.take(came(seat))
            return all(canvas.seen == truth for canvas in canvases)

        await until(agrees)
        await assert_counted(pool, session_id)
        assert len({element["id"] for _, seat in seats for element in came(seat)}) == 8


async def test_whoever_comes_late_fetches_what_is_there(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 2) as (one, two):
        await draw(one, session_id, "teach", stroke("a"), stroke("b"))
        await draw(one, session_id, "teach", stroke("a", 2, isDeleted=True))
        page = await two.whiteboards.page(session_id, after=None)
        assert msgspec.json.decode(msgspec.json.encode(page)) == {
            "elements": [stroke("b")],
            "revision": 2,
            "more": False,
        }
        assert (await two.whiteboards.page(session_id, after=2))["elements"] == []


async def test_what_was_refused_has_changed_nothing(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        teacher = await join(live, session_id, "teach")
        wrong: list[list[Any]] = [[], [{}], [stroke("a"), {"id": "b"}], [stroke("a", text="x" * 70_000)]]
        for raw in wrong:
            with pytest.raises(EncountersError):
                live.whiteboards.begin_draw(member(session_id, "kid"), raw)
        assert await stored(pool, session_id) == {}
        assert await whiteboards.revision(pool, session_id) == 0
        assert came(teacher) == []


async def test_whoever_began_to_draw_is_done_when_the_host_hears_that_the_board_is_locked(pool: Pool) -> None:
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        async with pool.acquire() as connection, connection.transaction():
            boards, _ = await whiteboards.take(connection, {(session_id, "a")})
            assert not boards[session_id].locked
            locking = asyncio.create_task(
                session_settings.change(live, member(session_id, "teach"), SettingsChange(whiteboard_locked=True))
            )
            await until_somebody_waits(pool)
            await chat.send(live, member(session_id, "kid"), text="hello", client_id=None)
            assert not locking.done(), "and the chat goes on meanwhile"
        assert (await locking).whiteboard_locked
        with pytest.raises(Forbidden):
            await draw(live, session_id, "kid", stroke("a"))


async def test_on_a_full_board_what_was_deleted_long_ago_makes_room(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whiteboard, "MAX_BOARD_ELEMENTS", 3)
    session_id = await book(pool)
    async with workers(pool, 1) as (live,):
        await draw(live, session_id, "kid", stroke("a"), stroke("b"), stroke("c"))
        await draw(live, session_id, "kid", stroke("a", 2, isDeleted=True), stroke("b", 2, isDeleted=True))
        with pytest.raises(TooLarge):
            await draw(live, session_id, "kid", stroke("d"))
        await pool.execute(
            "UPDATE whiteboard_elements SET changed_at = now() - interval '25 hours' WHERE element_id IN ('a', 'c')"
        )
        await draw(live, session_id, "kid", stroke("d"))
        assert set(await stored(pool, session_id)) == {"b", "c", "d"}
        await assert_counted(pool, session_id)
