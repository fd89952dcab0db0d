"""The real-time door without sockets: who is let in, on every worker, and what it costs the database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest

from domain import access, chat, moderation
from domain import live as live_module
from domain.access import Member
from domain.live import Live
from domain.moderation import ParticipantChange
from domain.people import People
from domain.tokens import SecretVerifier
from handlers.encounters.door import EXPIRY_NOTICE_SECONDS, LOOK_PAUSE_SECONDS, Encounters
from realtime import hub
from realtime.connection import Pending, Refusal, Reply
from realtime.limits import Limits
from store import participants, sessions, users
from store.database import Pool
from store.errors import Away
from store.users import ProfileToSave
from tests.support.lessons import MEMBERS, ROLES, STRANGERS, book, database_pool, member, until_somebody_waits
from tests.support.rooms import Exchange, Seat, online, workers
from tests.support.tokens import LIFETIME_SECONDS, SECRET, mint
from tests.support.waiting import until

#: Within which a changed membership takes effect on open connections, once a worker is told.
PROMISED_SECONDS = 1.0


class Client(Seat):
    """A connection, as the door sees it."""

    def __init__(self, user_id: str) -> None:
        super().__init__(user_id)
        self.state: Any = None
        self.gone = False

    async def disconnect(self) -> None:
        self.gone = True

    @property
    def joined(self) -> dict[str, Member]:
        return dict(self.state.joined)


@dataclass
class Worker:
    live: Live
    door: Encounters

    async def connect(self, user_id: str, **claims: Any) -> Client:
        client = Client(user_id)
        token = mint(user_id, ROLES[user_id], **({"first_name": user_id.capitalize()} | claims))
        await self.door.connected(client.connection, token, {})
        return client

    async def send(self, client: Client, event: str, **payload: Any) -> dict[str, Any]:
        """The ack, as the client reads it."""
        answer = self.door.received(client.connection, event, [payload])
        if isinstance(answer, Pending):
            await asyncio.wait([answer.future])
            answer = answer.reply(answer.future)
        reply = answer if isinstance(answer, Reply) else await cast(Any, answer)
        document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(reply.document))
        if reply.then is not None:
            reply.then()
        return document

    async def join(self, user_id: str, session_id: UUID) -> Client:
        client = await self.connect(user_id)
        assert (await self.send(client, "joinSession", sessionId=str(session_id)))["ok"]
        return client


@asynccontextmanager
async def doors(pool: Pool, number: int, *, connections_per_user: int = 10) -> AsyncIterator[list[Worker]]:
    async with workers(pool, number, Exchange()) as lives:
        limits = Limits(connections_per_user=connections_per_user)
        found = [Worker(live, Encounters(live, SecretVerifier(SECRET), People(pool), limits)) for live in lives]
        yield found
        for worker in found:
            await worker.door.close()


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


async def in_time(worker: Worker, client: Client, session_id: UUID) -> None:
    """Wait until the client was taken out of the session: with the next poll at the latest, as nobody tells."""
    told = await client.events.wait_for("kicked")
    assert told["session_id"] == str(session_id)
    assert client.joined == {}
    await until(lambda: client.user_id not in online(worker.live, session_id))


async def test_members_are_let_in_and_others_are_not(pool: Pool) -> None:
    session_id = await book(pool)
    async with doors(pool, 2) as found:
        for worker in found:
            for user_id in MEMBERS:
                client = await worker.join(user_id, session_id)
                assert client.joined[str(session_id)].name == user_id.capitalize()
            for user_id in STRANGERS:
                client = await worker.connect(user_id)
                refusal = await worker.send(client, "joinSession", sessionId=str(session_id))
                assert (refusal["ok"], refusal["error"]["status_code"]) == (False, 403)
                assert client.joined == {}
            assert online(worker.live, session_id) == sorted(MEMBERS)


async def test_the_ack_shows_who_is_there_and_oneself(pool: Pool) -> None:
    session_id = await book(pool)
    async with doors(pool, 1) as (worker,):
        await worker.join("teach", session_id)
        client = await worker.connect("kid")
        ack = await worker.send(client, "joinSession", sessionId=str(session_id))
        assert sorted(person["userId"] for person in ack["participants"]) == ["kid", "teach"]
        [own] = [person for person in ack["participants"] if person["userId"] == "kid"]
        assert ack["you"] == own | {"is_host": False}
        assert ack["participants"] == worker.live.presence.online(str(session_id))
        assert ack["participantCount"] == 2


async def test_a_former_parent_is_taken_out_on_every_worker(pool: Pool) -> None:
    session_id = await book(pool)
    async with doors(pool, 2) as found:
        clients = [await worker.join("mum", session_id) for worker in found for _ in range(2)]
        stays = await found[1].join("teach", session_id)
        await users.set_parent(pool, "kid", "mum2")
        found[0].live.audience.changed(["kid", "mum", "mum2"])
        for number, client in enumerate(clients):
            await in_time(found[number // 2], client, session_id)
        assert stays.joined
        await found[1].join("mum2", session_id)


async def test_a_new_name_is_known_on_every_worker(pool: Pool) -> None:
    session_id = await book(pool)
    async with doors(pool, 2) as found:
        clients = [await worker.join("kid", session_id) for worker in found]
        await users.save_profile(pool, ProfileToSave(user_id="kid", role="student", first_name="New", last_name="Name"))
        found[0].live.audience.changed(["kid"])
        await until(
            lambda: {client.joined[str(session_id)].name for client in clients} == {"New Name"}, PROMISED_SECONDS
        )


async def test_who_loses_their_membership_on_the_way_in_does_not_get_in(pool: Pool) -> None:
    """They were looked up, and told of before they were in: nobody would look at them again."""
    session_id = await book(pool)
    async with doors(pool, 2) as (worker, other):
        client = await worker.connect("mum")
        async with pool.acquire() as connection, connection.transaction():
            await participants.change(connection, session_id, "mum", mic_allowed=True)  # holds up the arrival
            joining = asyncio.create_task(worker.send(client, "joinSession", sessionId=str(session_id)))
            await until_somebody_waits(pool)
            await users.set_parent(pool, "kid", "mum2")
            other.live.audience.changed(["kid", "mum", "mum2"])
        refusal = await joining
        assert (refusal["ok"], refusal["error"]["status_code"]) == (False, 403)
        assert client.joined == {}
        assert worker.live.presence.connections(str(session_id), "mum") == []


async def test_who_is_kicked_while_they_are_looked_at_stays_out(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    session_id = await book(pool)
    async with doors(pool, 1) as (worker,):
        client = await worker.join("kid", session_id)
        asked, may_answer, enter = asyncio.Event(), asyncio.Event(), access.enter

        async def slow(*arguments: Any) -> Any:
            found = await enter(*arguments)
            asked.set()
            await may_answer.wait()
            return found

        monkeypatch.setattr(access, "enter", slow)
        worker.live.audience.changed(["kid"])
        await asked.wait()
        await moderation.change_participant(
            worker.live, member(session_id, "teach"), "kid", ParticipantChange(was_kicked=True)
        )
        await in_time(worker, client, session_id)
        may_answer.set()
        await asyncio.sleep(0.05)
        assert client.joined == {}
        monkeypatch.undo()
        refusal = await worker.send(client, "joinSession", sessionId=str(session_id))
        assert refusal["error"]["error"] == "kicked"


async def test_a_look_that_the_database_could_not_answer_is_made_again(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await book(pool)
    async with doors(pool, 1) as (worker,):
        client = await worker.join("mum", session_id)
        enter, asked = access.enter, asyncio.Event()

        async def away(*_: Any) -> Any:
            asked.set()
            raise Away("for a moment")

        monkeypatch.setattr(access, "enter", away)
        await users.set_parent(pool, "kid", "mum2")
        worker.live.audience.changed(["mum"])
        await asked.wait()
        assert client.joined
        monkeypatch.setattr(access, "enter", enter)
        await in_time(worker, client, session_id)


async def test_many_joins_at_once_share_their_questions(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    session_id = await book(pool)
    statements: list[int] = []
    entrances, upserts = sessions._entrances, users._upsert_from_tokens

    async def counted_entrances(executor: Any, asked: Sequence[Any]) -> Any:
        statements.append(len(asked))
        return await entrances(executor, asked)

    async def counted_upserts(executor: Any, tokens: Sequence[Any]) -> Any:
        statements.append(len(tokens))
        return await upserts(executor, tokens)

    monkeypatch.setattr(sessions, "_entrances", counted_entrances)
    monkeypatch.setattr(users, "_upsert_from_tokens", counted_upserts)
    people = [f"admin-{number}" for number in range(100)]
    async with doors(pool, 1) as (worker,):

        async def come(user_id: str) -> None:
            client = Client(user_id)
            await worker.door.connected(client.connection, mint(user_id, "admin"), {})
            assert (await worker.send(client, "joinSession", sessionId=str(session_id)))["ok"]

        await asyncio.gather(*map(come, people))
        assert online(worker.live, session_id) == sorted(people)
        assert sum(statements) == 200
        assert len(statements) <= 10, "with a hundred people, as with one"


async def test_a_person_has_so_many_connections_and_no_more(pool: Pool) -> None:
    async with doors(pool, 1, connections_per_user=2) as (worker,):
        first = await worker.connect("kid")
        await worker.connect("kid")
        with pytest.raises(Refusal) as refusal:
            await worker.connect("kid")
        assert refusal.value.document["error"] == "too_many_connections"
        await worker.door.disconnected(first.connection, "transport close")
        await worker.connect("kid")


def test_whoever_was_barred_is_out_within_what_the_contract_promises() -> None:
    assert hub.POLL_SECONDS + LOOK_PAUSE_SECONDS <= PROMISED_SECONDS


async def test_each_connection_is_told_and_cut_when_its_own_token_ends(pool: Pool) -> None:
    async with doors(pool, 1) as (worker,):
        kid, mum, gone = [await worker.connect(user_id) for user_id in ("kid", "mum", "gran")]
        await worker.door.disconnected(gone.connection, "transport close")
        deadlines = worker.door._deadlines
        deadlines._clock = lambda: time.time() + LIFETIME_SECONDS - EXPIRY_NOTICE_SECONDS
        deadlines._arm()
        for client in (kid, mum):
            await client.events.wait_for("authExpiring")
        assert gone.events.all == []
        worker.door._deadlines.set(kid.connection, 0, worker.door._cut)
        await until(lambda: kid.gone)
        assert not mum.gone


async def test_nothing_is_kept_of_those_who_are_gone(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domain.presence.GRACE_SECONDS", 0.01)
    session_id = await book(pool)
    async with doors(pool, 1) as (worker,):
        clients = [await worker.join(user_id, session_id) for user_id in MEMBERS for _ in range(2)]
        for client in clients:
            client.closed = True
            await worker.door.disconnected(client.connection, "transport close")
        await until(lambda: not worker.live.presence._here and not online(worker.live, session_id))
        assert not worker.live.audience._people
        assert not worker.door._deadlines._current


async def test_what_comes_while_one_is_looked_at_again_on_the_way_in_is_not_lost(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await book(pool)
    async with doors(pool, 1) as (worker,):
        teacher = await worker.join("teach", session_id)
        client = await worker.connect("kid")
        enter, looks = access.enter, 0

        async def busy(*arguments: Any) -> Any:
            nonlocal looks
            looks += 1
            found = await enter(*arguments)
            if looks <= 2:  # news of the person, and a message, each time that they are looked up
                client.state.news += 1
                await say(worker, session_id, f"message {looks}")
            return found

        monkeypatch.setattr(access, "enter", busy)
        answer = await worker.send(client, "joinSession", sessionId=str(session_id), lastSeq=0)
        monkeypatch.undo()
        await say(worker, session_id, "live")
        seen = [event["data"]["text"] for event in answer["events"]] + [
            data["text"] for data in client.events.of("newMessage")
        ]
        assert seen == ["message 1", "message 2", "live"]
        assert teacher.seqs == [1, 2, 3]


async def test_joining_again_brings_nothing_twice(pool: Pool) -> None:
    session_id = await book(pool)
    async with doors(pool, 1) as (worker,):
        client = await worker.join("kid", session_id)
        await say(worker, session_id, "once")
        answer = await worker.send(client, "joinSession", sessionId=str(session_id), lastSeq=0)
        assert (answer["events"], answer["lastSeq"]) == ([], 1)
        assert client.seqs == [1]


async def test_what_was_missed_weighs_no_more_than_may_be_unsent(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "RESUME_BYTES", 5_000)
    session_id = await book(pool)
    async with doors(pool, 1) as (worker,):
        for number in range(10):
            await say(worker, session_id, f"{number}" * 1_000)
        client = await worker.connect("kid")
        answer = await worker.send(client, "joinSession", sessionId=str(session_id), lastSeq=0)
        assert answer["reset"] is True
        assert [event["data"]["seq"] for event in answer["events"]] == [7, 8, 9, 10]
        client = await worker.connect("kid")
        answer = await worker.send(client, "joinSession", sessionId=str(session_id), lastSeq=7)
        assert "reset" not in answer
        assert [event["data"]["seq"] for event in answer["events"]] == [8, 9, 10]


async def test_a_former_parent_is_taken_out_while_the_bus_is_away(pool: Pool) -> None:
    session_id = await book(pool)
    async with doors(pool, 1) as (worker,):
        client = await worker.join("mum", session_id)
        worker.live.bus.connected = False  # type: ignore[misc]  # nobody will tell it
        await users.set_parent(pool, "kid", "mum2")
        await client.events.wait_for("kicked")
        await until(lambda: client.joined == {})


async def test_a_role_that_was_lost_is_lost_although_the_database_was_away(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await book(pool)
    async with doors(pool, 1) as (worker,):
        client = await worker.connect("boss")
        assert (await worker.send(client, "joinSession", sessionId=str(session_id)))["ok"]
        token = mint("boss", "student")

        async def away(*_: Any) -> Any:
            raise Away("for a moment")

        monkeypatch.setattr(access, "enter", away)
        refusal = await worker.send(client, "refreshAuth", token=token)
        assert refusal["error"]["status_code"] == 503
        assert client.joined
        monkeypatch.undo()
        assert (await worker.send(client, "refreshAuth", token=token))["ok"]
        assert client.joined == {}


async def say(worker: Worker, session_id: UUID, text: str) -> None:
    await chat.send(worker.live, member(session_id, "teach"), text=text, client_id=None)
