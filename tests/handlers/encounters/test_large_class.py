"""A class of a thousand on four workers: whatever a host does, everybody sees it as the database has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec
import pytest

from domain.rosters import PARTICIPANTS_IN_ACK
from realtime.connection import Reply
from realtime.frames import NAMESPACE, Bundle, Frame
from store import participants, sessions
from store.database import Pool
from tests.handlers.test_encounters import Client, Worker, doors
from tests.support.lessons import database_pool, make_class
from tests.support.rooms import online, room_of
from tests.support.tokens import mint
from tests.support.waiting import until

PEOPLE = 1_000
WORKERS = 4
#: For a thousand people's views to be complete.
PATIENCE_SECONDS = 60.0


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


class Viewer(Client):
    """A client that keeps what it was sent as it came: a thousand of them read it at the end, each text once."""

    def __init__(self, user_id: str) -> None:
        super().__init__(user_id)
        self.texts: list[str] = []
        self.ack: dict[str, Any] = {}

    def send(self, frame: Frame | Bundle) -> None:
        self.texts += [one.text for one in frame.frames]

    send_now = send


@dataclass(slots=True)
class View:
    """What a client makes of the ack and of all that followed, as docs/realtime.md tells it to.

    `people`: those whom the ack or an event has named; `count`: how many there are.
    """

    people: dict[str, Mapping[str, Any]]
    count: int
    settings: dict[str, Any]
    status: str
    seqs: list[int] = field(default_factory=list)
    is_out: bool = False

    def apply(self, event: str, data: Mapping[str, Any]) -> None:
        if self.is_out:
            assert "seq" not in data, "who is out is sent nothing more of the session"
            return
        if "seq" in data and event != "read":
            self.seqs.append(data["seq"])
        if event == "participantJoined":
            self.count += data["userId"] not in self.people
            self.people[data["userId"]] = {name: value for name, value in data.items() if name != "session_id"}
        elif event == "participantLeft":
            self.people.pop(data["userId"], None)
            self.count -= 1
        elif event == "permissionsChanged":
            self._change(data, "micAllowed", "cameraAllowed")
        elif event == "handRaised":
            self._change({"userId": data["userId"], "handRaised": data["raised"]}, "handRaised")
        elif event == "sessionSettings":
            self.settings |= {name: data[name] for name in self.settings}
        elif event == "sessionStatus":
            self.status = data["status"]
        elif event == "kicked":
            self.is_out = True

    def _change(self, data: Mapping[str, Any], *names: str) -> None:
        person = self.people.get(data["userId"])
        if person is not None:
            self.people[data["userId"]] = {**person, **{name: data[name] for name in names}}


SETTINGS = ("locked", "waitingRoom", "chatMuted", "slowModeSeconds", "whiteboardLocked", "recordingConsent")
_decode = msgspec.json.Decoder().decode


def views(viewers: list[Viewer]) -> dict[str, View]:
    """Everybody's view. What many were sent is read once."""
    read: dict[str, Any] = {}
    found = {}
    for viewer in viewers:
        session = viewer.ack["session"]
        view = View(
            people={person["userId"]: person for person in viewer.ack["participants"]},
            count=viewer.ack["participantCount"],
            settings={name: session[name] for name in SETTINGS},
            status=session["status"],
        )
        for text in viewer.texts:
            if text not in read:
                read[text] = _decode(text.removeprefix(f"42{NAMESPACE},"))
            view.apply(*read[text])
        found[viewer.user_id] = view
    return found


async def come(worker: Worker, user_id: str, session_id: UUID, role: str = "student") -> Viewer:
    viewer = Viewer(user_id)
    await worker.door.connected(viewer.connection, mint(user_id, role, first_name=user_id.capitalize()), {})
    answer: Any = worker.door.received(viewer.connection, "joinSession", [{"sessionId": str(session_id)}])
    reply: Reply = await answer
    viewer.ack = _decode(msgspec.json.encode(reply.document))
    assert viewer.ack["ok"], viewer.ack
    assert reply.then is not None
    reply.then()
    return viewer


async def as_the_database_has_it(pool: Pool, session_id: UUID) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Who is online with what they may, what is set, and the status."""
    found = await participants.of_session(pool, session_id, limit=2 * PEOPLE)
    people = {p.user_id: (p.mic_allowed, p.camera_allowed, p.hand_raised) for p in found if p.online}
    session = await sessions.find(pool, session_id)
    assert session is not None
    settings = {
        "locked": session.locked,
        "waitingRoom": session.waiting_room,
        "chatMuted": session.chat_muted,
        "slowModeSeconds": session.slow_mode_seconds,
        "whiteboardLocked": session.whiteboard_locked,
        "recordingConsent": session.recording_consent,
    }
    return people, settings, session.status


async def test_a_thousand_people_see_what_their_host_does_as_the_database_has_it(pool: Pool) -> None:
    session_id, students = await make_class(pool, PEOPLE)
    async with doors(pool, WORKERS) as workers:
        host = await come(workers[0], "teach", session_id, "teacher")
        in_class = await asyncio.gather(
            *(come(workers[n % WORKERS], user_id, session_id) for n, user_id in enumerate(students))
        )

        async def act(event: str, **payload: Any) -> None:
            ack = await workers[0].send(host, event, sessionId=str(session_id), **payload)
            assert ack["ok"], (event, ack)

        kicked, silenced, left = students[:20], students[20:60], students[60:100]

        async def leave(n: int) -> None:
            worker, viewer = workers[n % WORKERS], in_class[n]
            assert (await worker.send(viewer, "leaveSession", sessionId=str(session_id)))["ok"]

        async def raise_hand(n: int) -> None:
            ack = await workers[n % WORKERS].send(in_class[n], "raiseHand", sessionId=str(session_id), raised=True)
            assert ack["ok"], ack

        await asyncio.gather(
            *(act("setPermissions", userId=user_id, micAllowed=False) for user_id in silenced),
            *(act("kick", userId=user_id) for user_id in kicked),
            act("setSession", locked=True, chatMuted=True, slowModeSeconds=30),
            *(leave(n) for n in range(60, 100)),
            *(raise_hand(n) for n in range(100, 120)),
        )
        await act("setSession", waitingRoom=True, chatMuted=False)
        await act("setPermissions", userId=silenced[0], micAllowed=True)
        entries = 40 + 20 + 20 + 3

        stay = [viewer for viewer in (host, *in_class) if viewer.user_id not in {*kicked, *left}]
        last_seq = await pool.fetchval("SELECT last_seq FROM sessions WHERE id = $1", session_id)
        assert last_seq == entries
        expected = {"teach", *students} - {*kicked, *left}
        rooms = [room_of(worker.live, session_id) for worker in workers]
        await until(lambda: all(room.last_seq == last_seq for room in rooms), PATIENCE_SECONDS)
        await until(
            lambda: all(set(online(worker.live, session_id)) == expected for worker in workers), PATIENCE_SECONDS
        )
        people, settings, status = await as_the_database_has_it(pool, session_id)
        assert set(people) == expected
        for room in rooms:
            room.flush()
        seen = views([host, *in_class])
        for viewer in stay:
            view = seen[viewer.user_id]
            shown = {
                user_id: (person["micAllowed"], person["cameraAllowed"], person["handRaised"])
                for user_id, person in view.people.items()
            }
            assert shown.items() <= people.items(), viewer.user_id
            assert view.count == len(people)
            assert (view.settings, view.status) == (settings, status)
            assert view.seqs == list(range(viewer.ack["lastSeq"] + 1, last_seq + 1)), "each once, in order"
        late = await come(workers[1], "boss", session_id, "admin")
        assert len(late.ack["participants"]) == PARTICIPANTS_IN_ACK
        assert late.ack["participantCount"] == len(people) + 1
        first = [person["userId"] for person in late.ack["participants"]][:22]
        assert first[:2] == ["teach", "boss"]
        assert set(first[2:]) == set(students[100:120]), "whose hands are up"
        assert len(msgspec.json.encode(late.ack["participants"])) < 128 * 1024
        for user_id in kicked:
            assert seen[user_id].is_out
        assert settings == {
            "locked": True, "waitingRoom": True, "chatMuted": False, "slowModeSeconds": 30, "whiteboardLocked": False,
            "recordingConsent": False,
        }  # fmt: skip
