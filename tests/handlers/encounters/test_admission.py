"""Who gets in at the real-time door: places, the lock, the waiting room; on every worker, whatever races."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from domain import moderation, session_settings
from domain.identity import Role
from domain.moderation import ParticipantChange
from domain.session_settings import DetailsChange, SettingsChange
from store import participants, visits, waiters
from store.database import Pool
from tests.handlers.test_encounters import Client, Worker, doors
from tests.support.lessons import book, database_pool, live_session, make_class, member
from tests.support.rooms import online
from tests.support.tokens import mint
from tests.support.waiting import until

WAITING = (403, "waiting")


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def connect(worker: Worker, user_id: str, role: Role = "student") -> Client:
    client = Client(user_id)
    token = mint(user_id, role, first_name=user_id.capitalize())
    await worker.door.connected(client.connection, token, {})
    return client


async def ask(worker: Worker, client: Client, session_id: UUID) -> tuple[int, str]:
    """The answer to `joinSession`: its status and code."""
    ack = await worker.send(client, "joinSession", sessionId=str(session_id))
    if ack["ok"]:
        return 200, "in"
    return ack["error"]["status_code"], ack["error"]["error"]


async def come(
    worker: Worker, user_id: str, session_id: UUID, role: Role = "student"
) -> tuple[Client, tuple[int, str]]:
    client = await connect(worker, user_id, role)
    return client, await ask(worker, client, session_id)


async def let_in(worker: Worker, user_id: str, session_id: UUID, role: Role = "student") -> Client:
    client, answer = await come(worker, user_id, session_id, role)
    assert answer == (200, "in")
    return client


async def change(worker: Worker, session_id: UUID, **settings: Any) -> None:
    await session_settings.change(worker.live, member(session_id, "teach"), SettingsChange(**settings))


async def admit(worker: Worker, host: Client, session_id: UUID, *user_ids: str, admitted: bool = True) -> Any:
    return await worker.send(host, "admit", sessionId=str(session_id), userIds=list(user_ids), admitted=admitted)


async def gone(worker: Worker, client: Client) -> None:
    client.closed = True
    await worker.door.disconnected(client.connection, "transport close")


async def those_online(pool: Pool, session_id: UUID) -> list[str]:
    return sorted(p.user_id for p in await participants.of_session(pool, session_id, limit=1_000) if p.online)


async def those_waiting(pool: Pool, session_id: UUID) -> list[str]:
    return [waiter.user_id for waiter in await waiters.of_session(pool, session_id, limit=1_000)]


def waiting_news(host: Client) -> list[tuple[str, bool]]:
    """What a host heard of those who wait, in its order."""
    return [(data["userId"], data["waiting"]) for data in host.events.of("waiting")]


def believes(host: Client, waiting: set[str]) -> bool:
    """Whether these are the people who wait, by what a host heard."""
    return {user_id for user_id, waits in dict(waiting_news(host)).items() if waits} == waiting


# Places


async def test_five_hundred_who_want_fifty_places_on_four_workers_get_fifty(pool: Pool) -> None:
    session_id, students = await make_class(pool, 500, max_participants=50)
    async with doors(pool, 4) as found:
        host = await let_in(found[0], "teach", session_id, "teacher")
        clients = [await connect(found[n % 4], user_id) for n, user_id in enumerate(students)]
        answers = await asyncio.gather(*(ask(found[n % 4], client, session_id) for n, client in enumerate(clients)))
        assert Counter(answers) == {(200, "in"): 50, (409, "session_full"): 450}
        inside = sorted(c.user_id for c, answer in zip(clients, answers, strict=True) if answer == (200, "in"))
        assert await those_online(pool, session_id) == [*inside, "teach"]
        for client, answer in zip(clients, answers, strict=True):
            assert bool(client.joined) == (answer == (200, "in"))
        for worker in found:
            assert online(worker.live, session_id) == [*inside, "teach"]
        joined = {data["userId"] for data in host.events.of("participantJoined")}
        assert joined <= {*inside, "teach"}, "nobody hears of those who did not come in"


async def test_a_second_race_after_some_have_left_fills_the_places_again(pool: Pool) -> None:
    session_id, students = await make_class(pool, 40, max_participants=5)
    async with doors(pool, 4) as found:
        for _ in range(4):
            clients = [await connect(found[n % 4], user_id) for n, user_id in enumerate(students)]
            answers = await asyncio.gather(*(ask(found[n % 4], client, session_id) for n, client in enumerate(clients)))
            assert Counter(answers)[200, "in"] == 5
            inside = [n for n, answer in enumerate(answers) if answer == (200, "in")]
            await asyncio.gather(
                *(found[n % 4].send(clients[n], "leaveSession", sessionId=str(session_id)) for n in inside)
            )


async def test_the_host_and_admins_get_into_a_full_session_and_take_no_place(pool: Pool) -> None:
    session_id, students = await make_class(pool, 3, max_participants=1)
    async with doors(pool, 2) as (one, other):
        await let_in(one, "teach", session_id, "teacher")
        await let_in(other, "boss", session_id, "admin")
        await let_in(one, students[0], session_id)
        _, answer = await come(other, students[1], session_id)
        assert answer == (409, "session_full")
        for worker in (one, other):
            await let_in(worker, "teach", session_id, "teacher")
            await let_in(worker, "boss", session_id, "admin")


async def test_who_is_in_already_is_not_refused(pool: Pool) -> None:
    session_id, (first, second) = await make_class(pool, 2, max_participants=1)
    async with doors(pool, 2) as (one, other):
        tab = await let_in(one, first, session_id)
        for worker in (one, other):
            await let_in(worker, first, session_id)
            assert (await come(worker, second, session_id))[1] == (409, "session_full")
        await gone(one, tab)
        assert await ask(one, await connect(one, first), session_id) == (200, "in")


async def test_the_grace_of_a_reload_keeps_ones_place(pool: Pool) -> None:
    session_id, (first, second) = await make_class(pool, 2, max_participants=1)
    async with doors(pool, 2) as (one, other):
        await gone(one, await let_in(one, first, session_id))
        assert (await come(other, second, session_id))[1] == (409, "session_full")
        await let_in(other, first, session_id)


async def test_a_place_is_free_for_everybody_once_leaving_is_acked(pool: Pool) -> None:
    session_id, (first, second) = await make_class(pool, 2, max_participants=1)
    async with doors(pool, 2) as workers:
        people = [first, second]
        for turn in range(10):
            client = await let_in(workers[turn % 2], people[turn % 2], session_id)
            assert await workers[turn % 2].send(client, "leaveSession", sessionId=str(session_id)) == {"ok": True}


async def test_the_place_of_who_was_kicked_is_free_at_once(pool: Pool) -> None:
    session_id, (first, second) = await make_class(pool, 2, max_participants=1)
    async with doors(pool, 2) as (one, other):
        await let_in(one, first, session_id)
        await moderation.change_participant(
            other.live, member(session_id, "teach"), first, ParticipantChange(was_kicked=True)
        )
        await let_in(other, second, session_id)
        assert (await come(other, first, session_id))[1] == (403, "kicked")


async def test_fewer_places_than_people_send_nobody_away(pool: Pool) -> None:
    session_id, students = await make_class(pool, 3)
    async with doors(pool, 1) as (worker,):
        clients = [await let_in(worker, user_id, session_id) for user_id in students[:2]]
        await session_settings.change(
            worker.live,
            member(session_id, "teach"),
            SettingsChange(),
            DetailsChange(max_participants=1, sets_max_participants=True),
        )
        assert all(client.joined for client in clients)
        assert (await come(worker, students[2], session_id))[1] == (409, "session_full")
        await worker.send(clients[0], "leaveSession", sessionId=str(session_id))
        assert await ask(worker, clients[0], session_id) == (409, "session_full")


# The lock


async def test_a_locked_session_lets_back_in_who_has_been_in_and_nobody_else(pool: Pool) -> None:
    session_id, (been, kicked, new) = await make_class(pool, 3)
    async with doors(pool, 2) as (one, other):
        client = await let_in(one, been, session_id)
        await let_in(one, kicked, session_id)
        await one.send(client, "leaveSession", sessionId=str(session_id))
        host = member(session_id, "teach")
        await moderation.change_participant(one.live, host, kicked, ParticipantChange(was_kicked=True))
        await change(one, session_id, locked=True)
        for worker in (one, other):
            assert (await come(worker, new, session_id))[1] == (403, "session_locked")
            assert (await come(worker, kicked, session_id))[1] == (403, "kicked")
            await let_in(worker, "teach", session_id, "teacher")
            await let_in(worker, "boss", session_id, "admin")
            await let_in(worker, been, session_id)
        assert await participants.of_person(pool, session_id, new) is None
        await change(other, session_id, locked=False)
        await let_in(other, new, session_id)


async def test_a_lesson_of_a_booking_can_be_locked_too(pool: Pool) -> None:
    session_id = await book(pool)
    async with doors(pool, 1) as (worker,):
        await change(worker, session_id, locked=True)
        assert (await come(worker, "kid", session_id))[1] == (403, "session_locked")


# The waiting room


async def class_with_waiting_room(pool: Pool, worker: Worker, number: int) -> tuple[UUID, list[str]]:
    session_id, students = await make_class(pool, number)
    await change(worker, session_id, waiting_room=True)
    return session_id, students


async def test_hosts_on_every_worker_hear_of_who_waits_and_let_them_in(pool: Pool) -> None:
    async with doors(pool, 2) as (one, other):
        session_id, (student,) = await class_with_waiting_room(pool, one, 1)
        hosts = [await let_in(one, "teach", session_id, "teacher"), await let_in(other, "boss", session_id, "admin")]
        client, answer = await come(other, student, session_id)
        assert answer == WAITING
        for host in hosts:
            told = await host.events.wait_for("waiting")
            assert told == {
                "session_id": str(session_id),
                "userId": student,
                "name": student.capitalize(),
                "role": "student",
                "waiting": True,
            }
        assert client.joined == {}
        assert await admit(one, hosts[0], session_id, student) == {"ok": True, "userIds": [student]}
        assert await client.events.wait_for("admitted") == {"session_id": str(session_id)}
        assert await ask(other, client, session_id) == (200, "in")
        for host in hosts:
            await host.events.wait_for("waiting", lambda data: not data["waiting"])
            assert waiting_news(host) == [(student, True), (student, False)]
        assert await those_waiting(pool, session_id) == []


async def test_who_waits_is_told_nothing_of_the_session_and_may_do_nothing_in_it(pool: Pool) -> None:
    async with doors(pool, 1) as (worker,):
        session_id, students = await class_with_waiting_room(pool, worker, 2)
        host = await let_in(worker, "teach", session_id, "teacher")
        client, other = [(await come(worker, user_id, session_id))[0] for user_id in students]
        await worker.send(host, "raiseHand", sessionId=str(session_id), raised=True)
        for event in ("raiseHand", "typing", "sendMessage"):
            ack = await worker.send(client, event, sessionId=str(session_id), raised=True, typing=True, text="x")
            assert ack["error"]["error"] == "not_joined"
        assert client.events.all == other.events.all == []
        assert online(worker.live, session_id) == ["teach"]


async def test_a_host_who_comes_later_is_shown_who_waits_and_nobody_else_is(pool: Pool) -> None:
    async with doors(pool, 2) as (one, other):
        session_id, students = await class_with_waiting_room(pool, one, 3)
        for user_id in students:
            assert (await come(other, user_id, session_id))[1] == WAITING
        host = await connect(one, "teach", "teacher")
        ack = await one.send(host, "joinSession", sessionId=str(session_id))
        shown = [(one["userId"], one["name"], one["role"]) for one in ack["waiting"]]
        assert shown == [(user_id, user_id.capitalize(), "student") for user_id in students]
        assert all(one["since"].endswith("Z") for one in ack["waiting"])
        await admit(one, host, session_id, students[0])
        client = await connect(other, students[0])
        ack = await other.send(client, "joinSession", sessionId=str(session_id))
        assert ack["ok"]
        assert "waiting" not in ack
        await come(other, students[2], session_id)  # who waits already is no news
        assert waiting_news(client) == []
        await until(lambda: waiting_news(host) == [(students[0], False)])


async def test_nothing_of_those_who_come_while_a_host_joins_is_lost(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with doors(pool, 2) as (one, other):
        session_id, (student,) = await class_with_waiting_room(pool, one, 1)
        await let_in(one, "boss", session_id, "admin")
        listed = waiters.of_session

        async def slow(*arguments: Any, **options: Any) -> Any:
            found = await listed(*arguments, **options)
            assert (await come(other, student, session_id))[1] == WAITING
            return found

        monkeypatch.setattr(waiters, "of_session", slow)
        host = await connect(one, "teach", "teacher")
        ack = await one.send(host, "joinSession", sessionId=str(session_id))
        assert ack["waiting"] == []
        assert waiting_news(host) == [(student, True)]


async def test_who_is_turned_away_is_told_so_and_may_ask_again(pool: Pool) -> None:
    async with doors(pool, 2) as (one, other):
        session_id, (student,) = await class_with_waiting_room(pool, one, 1)
        host = await let_in(one, "teach", session_id, "teacher")
        client, _ = await come(other, student, session_id)
        ack = await admit(one, host, session_id, student, admitted=False)
        assert ack == {"ok": True, "userIds": [student]}
        assert await client.events.wait_for("refused") == {"session_id": str(session_id)}
        assert await those_waiting(pool, session_id) == []
        assert await ask(other, client, session_id) == WAITING
        await until(lambda: waiting_news(host) == [(student, True), (student, False), (student, True)])


async def test_a_person_waits_as_long_as_one_of_their_tabs_does(pool: Pool) -> None:
    async with doors(pool, 2) as (one, other):
        session_id, (student,) = await class_with_waiting_room(pool, one, 1)
        host = await let_in(one, "teach", session_id, "teacher")
        tabs = [(worker, (await come(worker, student, session_id))[0]) for worker in (one, one, other)]
        for worker, tab in tabs[:2]:
            await gone(worker, tab)
        await worker_settles(one)
        assert await those_waiting(pool, session_id) == [student]
        worker, tab = tabs[2]
        assert await worker.send(tab, "leaveSession", sessionId=str(session_id)) == {"ok": True}
        await until(lambda: waiting_news(host) == [(student, True), (student, False)])
        assert await those_waiting(pool, session_id) == []
        ack = await admit(one, host, session_id, student)
        assert (ack["error"]["status_code"], ack["error"]["error"]) == (404, "not_waiting")


async def test_who_reloads_while_they_wait_waits(pool: Pool) -> None:
    async with doors(pool, 1) as (worker,):
        session_id, (student,) = await class_with_waiting_room(pool, worker, 1)
        client, _ = await come(worker, student, session_id)
        for _ in range(10):
            again = await connect(worker, student)
            asking = asyncio.create_task(ask(worker, again, session_id))
            await gone(worker, client)
            assert await asking == WAITING
            client = again
        await worker_settles(worker)
        assert await those_waiting(pool, session_id) == [student]
        assert worker.live.presence.waiting.people(str(session_id)) == [student]


async def test_all_of_a_persons_tabs_are_told_and_come_in(pool: Pool) -> None:
    async with doors(pool, 2) as (one, other):
        session_id, (student,) = await class_with_waiting_room(pool, one, 1)
        host = await let_in(one, "teach", session_id, "teacher")
        tabs = [(worker, (await come(worker, student, session_id))[0]) for worker in (one, one, other)]
        await admit(one, host, session_id, student)
        for worker, tab in tabs:
            await tab.events.wait_for("admitted")
            assert await ask(worker, tab, session_id) == (200, "in")


async def test_who_was_admitted_comes_again_without_waiting_until_they_are_kicked(pool: Pool) -> None:
    async with doors(pool, 2) as (one, other):
        session_id, (student,) = await class_with_waiting_room(pool, one, 1)
        host = await let_in(one, "teach", session_id, "teacher")
        client, _ = await come(one, student, session_id)
        await admit(one, host, session_id, student)
        for worker in (one, other):
            client = await let_in(worker, student, session_id)
            await worker.send(client, "leaveSession", sessionId=str(session_id))
        assert await admit(one, host, session_id, student) == {"ok": True, "userIds": [student]}, "they are already"
        await one.send(host, "kick", sessionId=str(session_id), userId=student)
        assert (await come(other, student, session_id))[1] == (403, "kicked")
        leader = member(session_id, "teach")
        await moderation.change_participant(one.live, leader, student, ParticipantChange(was_kicked=False))
        assert (await come(other, student, session_id))[1] == WAITING


async def test_who_is_kicked_while_they_wait_is_told_so(pool: Pool) -> None:
    async with doors(pool, 2) as (one, other):
        session_id, (student,) = await class_with_waiting_room(pool, one, 1)
        host = await let_in(one, "teach", session_id, "teacher")
        client, _ = await come(other, student, session_id)
        assert (await one.send(host, "kick", sessionId=str(session_id), userId=student))["ok"]
        assert (await client.events.wait_for("kicked"))["session_id"] == str(session_id)
        await until(lambda: waiting_news(host) == [(student, True), (student, False)])
        assert await those_waiting(pool, session_id) == []
        assert await ask(other, client, session_id) == (403, "kicked")


async def test_whose_enrolment_ends_waits_no_longer(pool: Pool) -> None:
    async with doors(pool, 2) as (one, other):
        session_id, (student,) = await class_with_waiting_room(pool, one, 1)
        host = await let_in(one, "teach", session_id, "teacher")
        client, _ = await come(other, student, session_id)
        await pool.execute("DELETE FROM enrollments WHERE user_id = $1", student)
        one.live.audience.changed([student])
        await client.events.wait_for("kicked")
        await until(lambda: waiting_news(host) == [(student, True), (student, False)])
        assert await those_waiting(pool, session_id) == []


async def test_when_the_waiting_room_closes_everybody_is_called_in(pool: Pool) -> None:
    async with doors(pool, 2) as workers:
        session_id, students = await class_with_waiting_room(pool, workers[0], 6)
        clients = [(await come(workers[n % 2], user_id, session_id))[0] for n, user_id in enumerate(students)]
        await change(workers[0], session_id, waiting_room=False)
        for n, client in enumerate(clients):
            await client.events.wait_for("admitted")
            assert await ask(workers[n % 2], client, session_id) == (200, "in")
        for worker in workers:
            await worker_settles(worker)
            assert worker.live.presence.waiting.everybody() == []
        assert await those_waiting(pool, session_id) == []


async def test_who_is_in_when_the_waiting_room_opens_may_come_back(pool: Pool) -> None:
    session_id, (here, was_here) = await make_class(pool, 2)
    async with doors(pool, 2) as (one, other):
        client, earlier = [await let_in(one, user_id, session_id) for user_id in (here, was_here)]
        await one.send(earlier, "leaveSession", sessionId=str(session_id))
        await change(other, session_id, waiting_room=True)
        await one.send(client, "leaveSession", sessionId=str(session_id))
        await let_in(other, here, session_id)
        assert (await come(other, was_here, session_id))[1] == WAITING


async def test_an_admission_that_overtakes_the_verdict_lets_in(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is committed that they wait, and the host lets them in before their worker has heard of either."""
    async with doors(pool, 2) as (one, other):
        session_id, (student,) = await class_with_waiting_room(pool, one, 1)
        host = await let_in(one, "teach", session_id, "teacher")
        client = await connect(other, student)
        record, verdicts = visits.record, []

        async def slow(*arguments: Any) -> Any:
            outcomes = await record(*arguments)
            verdicts.append(type(outcomes[0]).__name__)
            if len(verdicts) == 1:
                assert (await admit(one, host, session_id, student))["ok"]
            return outcomes

        monkeypatch.setattr(visits, "record", slow)
        assert await ask(other, client, session_id) == (200, "in")
        assert verdicts == ["TurnedAway", "Outcome"]
        assert other.live.presence.waiting.everybody() == []


async def test_whoever_came_and_went_while_arriving_does_not_wait(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with doors(pool, 1) as (worker,):
        session_id, (student,) = await class_with_waiting_room(pool, worker, 1)
        client = await connect(worker, student)
        record = visits.record

        async def slow(*arguments: Any) -> Any:
            outcomes = await record(*arguments)
            await gone(worker, client)
            return outcomes

        monkeypatch.setattr(visits, "record", slow)
        assert await ask(worker, client, session_id) == WAITING
        monkeypatch.undo()
        await worker_settles(worker)
        assert await those_waiting(pool, session_id) == []
        assert worker.live.presence._here == {}


async def test_whatever_people_and_hosts_do_at_once_everybody_agrees_on_who_waits(pool: Pool) -> None:
    async with doors(pool, 3) as workers:
        session_id, students = await class_with_waiting_room(pool, workers[0], 8)
        room_id = str(session_id)
        hosts = [await let_in(worker, "teach", session_id, "teacher") for worker in workers]

        async def come_and_go(user_id: str) -> None:
            tabs: list[tuple[Worker, Client]] = []
            for _ in range(12):
                if tabs and random.random() < 0.5:
                    worker, tab = tabs.pop(random.randrange(len(tabs)))
                    if random.random() < 0.5:
                        await gone(worker, tab)
                    else:
                        await worker.send(tab, "leaveSession", sessionId=room_id)
                        await gone(worker, tab)
                else:
                    worker = random.choice(workers)
                    tab = await connect(worker, user_id)
                    tabs.append((worker, tab))
                    asked = [ask(worker, tab, session_id)]
                    if random.random() < 0.3:
                        asked.append(ask(worker, tab, session_id))
                    await asyncio.gather(*asked)

        async def decide(number: int) -> None:
            for _ in range(12):
                some = random.sample(students, 3)
                await admit(workers[number], hosts[number], session_id, *some, admitted=random.random() < 0.3)
                if random.random() < 0.2:
                    user_id = random.choice(students)
                    for kicked in (True, False):
                        await moderation.change_participant(
                            workers[number].live,
                            member(session_id, "teach"),
                            user_id,
                            ParticipantChange(was_kicked=kicked),
                        )

        await asyncio.gather(*map(come_and_go, students), decide(0), decide(1))
        for worker in workers:
            await worker_settles(worker)
        rows = await pool.fetch("SELECT worker_id, user_id FROM session_waiters ORDER BY 1, 2")
        here = {
            (worker.live.presence._worker_id, user_id)
            for worker in workers
            for user_id in worker.live.presence.waiting.people(room_id)
        }
        assert {(row["worker_id"], row["user_id"]) for row in rows} == here
        waiting = {user_id for _, user_id in here}
        assert waiting.isdisjoint(await participants.admitted(pool, session_id, students))
        for worker, host in zip(workers, hosts, strict=True):
            # News of one person from several workers may come crosswise; the next comparison sets it right.
            await until(partial(believes, host, waiting))
            assert not [key for key, one in worker.live.presence._here.items() if one.arriving]


async def test_only_a_host_admits_and_says_whom(pool: Pool) -> None:
    async with doors(pool, 1) as (worker,):
        session_id, (student, other) = await class_with_waiting_room(pool, worker, 2)
        host = await let_in(worker, "teach", session_id, "teacher")
        await admit_one(worker, host, session_id, student)
        inside = await let_in(worker, student, session_id)
        await come(worker, other, session_id)
        refusals: Sequence[tuple[Client, dict[str, Any], tuple[int, str]]] = [
            (inside, {"userId": other}, (403, "not_host")),
            (host, {}, (400, "validation_failed")),
            (host, {"userId": other, "userIds": [other]}, (400, "validation_failed")),
            (host, {"userIds": []}, (400, "validation_failed")),
            (host, {"userIds": [other] * 501}, (400, "validation_failed")),
            (host, {"userId": "nobody"}, (404, "not_waiting")),
            (host, {"userId": "kid2"}, (404, "not_waiting")),
            (host, {"userId": student, "admitted": False}, (404, "not_waiting")),
        ]
        for client, payload, expected in refusals:
            ack = await worker.send(client, "admit", sessionId=str(session_id), **payload)
            assert (ack["error"]["status_code"], ack["error"]["error"]) == expected, payload
        assert await those_waiting(pool, session_id) == [other]
        assert await admit_one(worker, host, session_id, other) == {"ok": True, "userIds": [other]}


async def admit_one(worker: Worker, host: Client, session_id: UUID, user_id: str) -> Any:
    if user_id not in await those_waiting(worker.live.pool, session_id):
        await come(worker, user_id, session_id)
    return await worker.send(host, "admit", sessionId=str(session_id), userId=user_id)


async def test_a_connection_waits_for_no_more_sessions_than_it_may_join(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handlers.encounters.membership.MAX_JOINED_SESSIONS", 2)
    async with doors(pool, 1) as (worker,):
        sessions = [await live_session(pool) for _ in range(3)]
        client = await connect(worker, "kid")
        for session_id in sessions:
            await change(worker, session_id, waiting_room=True)
        assert [await ask(worker, client, session_id) for session_id in sessions] == [
            WAITING,
            WAITING,
            (429, "too_many_requests"),
        ]
        assert await ask(worker, client, sessions[0]) == WAITING, "where it waits already"


async def test_a_host_who_is_none_any_more_hears_of_nobody(pool: Pool) -> None:
    async with doors(pool, 1) as (worker,):
        session_id, (student,) = await class_with_waiting_room(pool, worker, 1)
        host = await let_in(worker, "boss", session_id, "admin")
        await pool.execute(
            "INSERT INTO enrollments (course_id, user_id) SELECT course_id, 'boss' FROM sessions WHERE id = $1",
            session_id,
        )
        assert (await worker.send(host, "refreshAuth", token=mint("boss", "student")))["ok"]
        assert host.joined
        await come(worker, student, session_id)
        assert host.events.of("waiting") == []


async def test_nothing_is_kept_of_those_who_waited(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.hub.LINGER_SECONDS", 0.01)
    async with doors(pool, 1) as (worker,):
        session_id, students = await class_with_waiting_room(pool, worker, 3)
        clients = [(await come(worker, user_id, session_id))[0] for user_id in students]
        assert worker.live.hub.find(str(session_id)) is not None, "its news is heard"
        for client in clients:
            await gone(worker, client)
        await until(lambda: worker.live.hub.find(str(session_id)) is None)
        rooms, lists = worker.live.presence.waiting, worker.live.presence.waiting_lists
        assert (rooms._rooms, rooms._of_connection) == ({}, {})
        assert (lists._hosts, lists._shown, lists._held_back) == ({}, {}, {})


async def test_a_barred_person_can_do_nothing_in_the_session(pool: Pool) -> None:
    session_id, (student,) = await make_class(pool, 1)
    async with doors(pool, 2) as (one, other):
        host = await let_in(one, "teach", session_id, "teacher")
        client = await let_in(other, student, session_id)
        await one.send(host, "kick", sessionId=str(session_id), userId=student)
        await client.events.wait_for("kicked")
        for event, payload in (
            ("sendMessage", {"text": "x"}),
            ("raiseHand", {"raised": True}),
            ("typing", {"typing": True}),
            ("markRead", {"seq": 1}),
            ("admit", {"userId": student}),
        ):
            ack = await other.send(client, event, sessionId=str(session_id), **payload)
            assert (ack["error"]["status_code"], ack["error"]["error"]) == (403, "not_joined")
        assert await ask(other, client, session_id) == (403, "kicked")
        assert (await come(one, student, session_id))[1] == (403, "kicked")


async def worker_settles(worker: Worker) -> None:
    """Wait until what is to be recorded here is recorded."""
    await until(lambda: worker.live.presence._visits._writer is None)
