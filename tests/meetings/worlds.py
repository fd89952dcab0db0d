"""Each video provider in a world of its own: the provider as the settings make it, and what it talks to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, Protocol

import pytest
from botocore.loaders import create_loader
from botocore.retries.standard import ExponentialBackoff
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from meetings import chime, daily, providers
from meetings.daily_api import Patience
from meetings.external_ids import external_id
from meetings.provider import Pass, Person, Provider, Room
from server.settings import from_environment
from tests.standins import chime as chime_standin
from tests.standins import coturn
from tests.standins import daily as daily_standin
from tests.standins.chime import ChimeStandin
from tests.standins.daily import DailyStandin
from tests.standins.prosody import Prosody

TEACHER: Final = Person(user_id="maya", name="Maya Okafor", is_owner=True)
STUDENT: Final = Person(user_id="ada", name="Ada King")
JITSI_SECRET: Final = "what Prosody and the server share, long enough"
JAAS_APP: Final = "vpaas-magic-cookie-1fc542a3e4414a44b2611668195e2bfe"
JAAS_KEY_ID: Final = f"{JAAS_APP}/4f4910"
TURN_SECRET: Final = "what coturn and the server share"
#: Enough for a stand-in on this machine, and short enough to wait for.
QUICK: Final = Patience(try_seconds=15.0, act_seconds=20.0, first_pause_seconds=0.01, rate_seconds=0.02)
PAUSE_SECONDS: Final = 0.01
#: Reading AWS' service models takes longer than all else: once is enough.
LOADER: Final = create_loader()


def soon(seconds: float = 600) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class Joined:
    """Who came in, as far as their provider's server can tell: None where it cannot."""

    person_id: str
    is_owner: bool | None = None
    mic: bool | None = None
    camera: bool | None = None


class World(Protocol):
    """A provider and the server behind it."""

    provider: Provider

    def join(self, room: Room, admitted: Pass) -> Joined | None:
        """What happens when somebody comes to that room with this pass; None when they are not let in."""
        ...

    def inside(self, room: Room, user_id: str) -> Joined | None:
        """The person as they are in the room now."""
        ...

    def finish(self, recording_id: str) -> None:
        """The provider has processed a recording that was stopped."""
        ...


class _World:
    def __init__(self, provider: Provider) -> None:
        self.provider = provider

    def inside(self, room: Room, user_id: str) -> Joined | None:
        raise AssertionError("this provider knows nobody")

    def finish(self, recording_id: str) -> None:
        raise AssertionError("this provider does not record")


class PeerWorld(_World):
    """What checks a pass is the relay; who is in the room, the session's own room says."""

    def join(self, room: Room, admitted: Pass) -> Joined | None:
        relays = [one for one in admitted.data["iceServers"] if one["urls"][0].startswith("turn")]
        if not all(coturn.accepts(TURN_SECRET, one["username"], one["credential"]) for one in relays):
            return None
        return Joined(person_id=relays[0]["username"].partition(":")[2])


class JitsiWorld(_World):
    def __init__(self, provider: Provider, server: Prosody) -> None:
        super().__init__(provider)
        self.server = server

    def join(self, room: Room, admitted: Pass) -> Joined | None:
        assert admitted.token is None or (admitted.url or "").endswith(f"?jwt={admitted.token}")
        occupant = self.server.join(room.name, admitted.token)
        if occupant is None:
            return None
        asks = self.server.app_id is not None
        return Joined(person_id=occupant.id or admitted.person_id, is_owner=occupant.is_owner if asks else None)


class DailyWorld(_World):
    def __init__(self, provider: Provider, server: DailyStandin) -> None:
        super().__init__(provider)
        self.server = server

    def join(self, room: Room, admitted: Pass) -> Joined | None:
        present = self.server.join(room.name, admitted.token)
        return None if present is None else _daily(present)

    def inside(self, room: Room, user_id: str) -> Joined | None:
        found = [one for one in self.server.rooms[room.name].present if one.user_id == external_id(user_id)]
        return _daily(found[0]) if found else None

    def finish(self, recording_id: str) -> None:
        self.server.finish(recording_id)


def _daily(present: daily_standin.Present) -> Joined:
    return Joined(
        person_id=present.user_id,
        is_owner=present.is_owner,
        mic=present.may_send("audio"),
        camera=present.may_send("video"),
    )


class ChimeWorld(_World):
    def __init__(self, provider: Provider, server: ChimeStandin) -> None:
        super().__init__(provider)
        self.server = server

    def join(self, room: Room, admitted: Pass) -> Joined | None:
        attendee = self.server.join(room.id, admitted.token)
        return None if attendee is None else _chime(attendee)

    def inside(self, room: Room, user_id: str) -> Joined | None:
        person_id = external_id(user_id)
        everybody = self.server.meetings[room.id].attendees.values()
        found = [one for one in everybody if one["ExternalUserId"] == person_id]
        return _chime(found[0]) if found else None

    def finish(self, recording_id: str) -> None:
        self.server.finish(recording_id)


def _chime(attendee: dict[str, Any]) -> Joined:
    may = attendee["Capabilities"]
    return Joined(
        person_id=attendee["ExternalUserId"],
        mic=may["Audio"] == "SendReceive",
        camera=may["Video"] == "SendReceive",
    )


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


async def _made(name: str, **settings: str) -> AbstractAsyncContextManager[providers.Providers]:
    return providers.opened(from_environment({"MEETING_PROVIDER": name, **settings}))


@asynccontextmanager
async def peer_world() -> AsyncIterator[World]:
    servers = f'[{{"urls": "stun:stun.example"}}, {{"urls": ["turns:turn.example:5349"], "secret": "{TURN_SECRET}"}}]'
    async with await _made("peer", ICE_SERVERS=servers) as made:
        yield PeerWorld(made.chosen)


@asynccontextmanager
async def jitsi_world() -> AsyncIterator[World]:
    """A self-hosted Jitsi Meet with a shared secret."""
    settings = {"JITSI_DOMAIN": "Meet.example", "JITSI_APP_ID": "school", "JITSI_APP_SECRET": JITSI_SECRET}
    async with await _made("jitsi", **settings) as made:
        yield JitsiWorld(made.chosen, Prosody(domain="meet.example", app_id="school", secret=JITSI_SECRET))


@asynccontextmanager
async def jaas_world() -> AsyncIterator[World]:
    """8x8's: signed with a key."""
    key = _key()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode().replace("\n", "\\n")
    settings = {"JITSI_APP_ID": JAAS_APP, "JITSI_KEY_ID": JAAS_KEY_ID, "JITSI_PRIVATE_KEY": pem}
    server = Prosody(
        domain="8x8.vc",
        app_id=JAAS_APP,
        keys={JAAS_KEY_ID: key.public_key()},
        accepted_issuers=("chat",),
        tenant=JAAS_APP,
    )
    async with await _made("jitsi", JITSI_DOMAIN="8x8.vc", **settings) as made:
        yield JitsiWorld(made.chosen, server)


@asynccontextmanager
async def open_jitsi_world() -> AsyncIterator[World]:
    """A Jitsi Meet that asks for nothing."""
    async with await _made("jitsi", JITSI_DOMAIN="meet.example:8443") as made:
        yield JitsiWorld(made.chosen, Prosody(domain="meet.example"))


@asynccontextmanager
async def daily_world(patience: Patience = QUICK) -> AsyncIterator[DailyWorld]:
    server = DailyStandin()
    async with server.running():
        settings = {"DAILY_API_KEY": daily_standin.API_KEY, "DAILY_API_URL": server.url}
        async with daily.opened(from_environment({"MEETING_PROVIDER": "daily", **settings}), patience) as provider:
            yield DailyWorld(provider, server)


@asynccontextmanager
async def chime_world(
    *, bucket: str = chime_standin.BUCKET, try_seconds: float = 15.0, act_seconds: float = 20.0
) -> AsyncIterator[ChimeWorld]:
    server = ChimeStandin()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in chime_standin.CREDENTIALS.items():
            environment.setenv(name, value)
        environment.setattr("botocore.session.create_loader", lambda _: LOADER)
        environment.setattr(ExponentialBackoff, "delay_amount", lambda _, __: PAUSE_SECONDS)
        async with server.running():
            settings = {"CHIME_REGION": chime_standin.REGION, "CHIME_ENDPOINT_URL": server.url}
            options = from_environment({"MEETING_PROVIDER": "chime", "CHIME_RECORDINGS_BUCKET": bucket, **settings})
            async with chime.opened(options, try_seconds=try_seconds, act_seconds=act_seconds) as provider:
                yield ChimeWorld(provider, server)


WORLDS: Final = {
    "peer": peer_world,
    "jitsi": jitsi_world,
    "jaas": jaas_world,
    "open jitsi": open_jitsi_world,
    "daily": daily_world,
    "chime": chime_world,
}
