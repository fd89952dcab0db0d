"""`jitsi`: rooms of a Jitsi Meet, self-hosted or JaaS, which appear when somebody joins.

Nothing is asked of a server: with an app id a person is let in by a JWT, as `doc/tokens.md` of lib-jitsi-meet has it
for Prosody, and as 8x8's documentation has it for JaaS; without, by the link alone. Only the token's end keeps out who
once was in, and there is no way to take somebody out of a running meeting but to move it to another room.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from meetings.external_ids import external_id
from meetings.provider import (
    Ability,
    Attendee,
    Pass,
    Person,
    Provider,
    Room,
    RoomSpec,
    WithoutRecording,
    unsupported,
)

NAME: Final = "jitsi"
#: A removed person holds a good token until it ends.
PASS_SECONDS: Final = 5 * 60
#: How the app ids of JaaS begin, which is told of apart: its issuer is always `chat`, its tenant the app id.
JAAS_PREFIX: Final = "vpaas-magic-cookie-"
JAAS_ISSUER: Final = "chat"
#: What Prosody's plugin accepts unless it is told of others, and the only one of JaaS.
AUDIENCE: Final = "jitsi"
#: How far a Jitsi's clock may be behind ours.
CLOCK_SECONDS: Final = 10
#: RFC 7518 §3.3.
MIN_RSA_BITS: Final = 2048


class Options(Protocol):
    """The settings that this provider reads."""

    @property
    def jitsi_domain(self) -> str | None: ...
    @property
    def jitsi_app_id(self) -> str | None: ...
    @property
    def jitsi_app_secret(self) -> str | None: ...
    @property
    def jitsi_key_id(self) -> str | None: ...
    @property
    def jitsi_private_key(self) -> str | None: ...


def problem(options: Options) -> str | None:
    """What is missing or contradicts itself, as a sentence."""
    if options.jitsi_domain is None:
        return "JITSI_DOMAIN is not set; it is the host of the Jitsi Meet, such as meet.example."
    signs = options.jitsi_app_secret is not None or options.jitsi_private_key is not None
    if options.jitsi_app_id is None:
        if signs or options.jitsi_key_id is not None:
            return "JITSI_APP_ID is not set, but what signs its tokens is; set all of it, or none for plain links."
        return None
    if not signs:
        return "JITSI_APP_ID is set; set JITSI_APP_SECRET (HS256), or JITSI_PRIVATE_KEY with JITSI_KEY_ID (RS256)."
    if options.jitsi_app_secret is not None and options.jitsi_private_key is not None:
        return "JITSI_APP_SECRET and JITSI_PRIVATE_KEY are both set; set the one that the Jitsi Meet verifies with."
    if (options.jitsi_private_key is None) != (options.jitsi_key_id is None):
        return "JITSI_PRIVATE_KEY and JITSI_KEY_ID belong together; set both."
    if options.jitsi_app_id.startswith(JAAS_PREFIX) and options.jitsi_private_key is None:
        return "JaaS verifies RS256 only; set JITSI_PRIVATE_KEY and JITSI_KEY_ID instead of JITSI_APP_SECRET."
    if options.jitsi_private_key is not None and rsa_key(options.jitsi_private_key) is None:
        return f"JITSI_PRIVATE_KEY must be an RSA key of at least {MIN_RSA_BITS} bits in PEM, without a password."
    return None


@asynccontextmanager
async def opened(options: Options) -> AsyncIterator[Provider]:
    """The provider; `problem(options)` is None."""
    assert options.jitsi_domain is not None, "it was checked"
    app = None
    if options.jitsi_app_id is not None:
        app = JitsiApp(
            id=options.jitsi_app_id,
            secret=options.jitsi_app_secret,
            key_id=options.jitsi_key_id,
            private_key=None if options.jitsi_private_key is None else rsa_key(options.jitsi_private_key),
        )
    yield Jitsi(options.jitsi_domain, app)


def rsa_key(pem: str) -> RSAPrivateKey | None:
    """The key of a PEM, whose line ends may be written `\\n`, as in an environment; None where it cannot be used."""
    try:
        key = load_pem_private_key(pem.replace("\\n", "\n").encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, RSAPrivateKey) and key.key_size >= MIN_RSA_BITS else None


@dataclass(frozen=True, kw_only=True, slots=True)
class JitsiApp:
    """Who we are to a Jitsi Meet that asks for tokens: HS256 by `secret`, or RS256 by `private_key`, named `key_id`."""

    id: str
    secret: str | None = field(default=None, repr=False)
    key_id: str | None = None
    private_key: RSAPrivateKey | None = field(default=None, repr=False)

    @property
    def is_jaas(self) -> bool:
        return self.id.startswith(JAAS_PREFIX)

    def sign(self, claims: dict[str, Any]) -> str:
        if self.private_key is not None:
            return jwt.encode(claims, self.private_key, "RS256", headers={"kid": self.key_id})
        assert self.secret is not None, "one of both signs"
        return jwt.encode(claims, self.secret, "HS256")


class Jitsi(WithoutRecording):
    """The provider, for the Jitsi Meet at `domain` (a host, maybe with a port); without `app`, by plain links."""

    name = NAME
    abilities: frozenset[Ability] = frozenset()
    places = None
    makes_ahead = False
    pass_seconds = PASS_SECONDS
    permit_again_seconds = ()

    def __init__(self, domain: str, app: JitsiApp | None) -> None:
        self._domain = domain.lower()
        self._app = app

    async def make_room(self, spec: RoomSpec) -> Room:
        name = spec.name.lower()  # as Prosody has it: a token for `Maths` would not open `maths`
        tenant = f"{self._app.id}/" if self._app is not None and self._app.is_jaas else ""
        url = f"https://{self._domain}/{tenant}{name}"
        data = {"domain": self._domain}
        if self._app is not None:  # without, the name alone lets in: it is for who has a pass
            data |= {"roomName": f"{tenant}{name}", "url": url}
        return Room(provider=NAME, id=name, name=name, url=url, data=data)

    async def delete_room(self, room: Room) -> None:
        """A room goes when its last person leaves; who is in it stays until their browser is told to leave."""

    async def unmake_room(self, name: str) -> None:
        return None

    async def admit(self, room: Room, person: Person, *, expires_at: datetime) -> Pass:
        person_id = external_id(person.user_id)
        token = None if self._app is None else self._app.sign(self._claims(self._app, room, person, expires_at))
        url = room.url if token is None else f"{room.url}?jwt={token}"
        return Pass(
            provider=NAME,
            token=token,
            url=url,
            expires_at=expires_at,
            person_id=person_id,
            data={"domain": self._domain, "roomName": room.data.get("roomName", room.name)},
        )

    def _claims(self, app: JitsiApp, room: Room, person: Person, expires_at: datetime) -> dict[str, Any]:
        # What stands in `user` reaches Prosody's Lua as it is: a null would stop it, so nothing there may be one.
        user = {
            "id": external_id(person.user_id),
            "moderator": "true" if person.is_owner else "false",
            "affiliation": "owner" if person.is_owner else "member",
        }
        if person.name:
            user["name"] = person.name
        context: dict[str, Any] = {"user": user}
        if app.is_jaas:
            # Whoever begins one there passes by everybody's consent, and nobody here would know of it.
            context["features"] = {"recording": "false"}
        return {
            "iss": JAAS_ISSUER if app.is_jaas else app.id,
            "aud": AUDIENCE,
            "sub": app.id if app.is_jaas else self._domain.partition(":")[0],
            "room": room.name,
            "nbf": int(time.time()) - CLOCK_SECONDS,
            "exp": int(expires_at.timestamp()),
            "context": context,
        }

    async def attendee(self, room: Room, person: Person, *, expires_at: datetime) -> Attendee:
        admitted = await self.admit(room, person, expires_at=expires_at)
        return Attendee(id=admitted.person_id, data={**admitted.data, "token": admitted.token, "url": admitted.url})

    async def eject(self, room: Room, user_id: str, *, ejected: int = 0) -> None:
        raise unsupported(NAME, "take somebody out of a running meeting; move it to another room")

    async def permit(self, room: Room, person: Person) -> None:
        raise unsupported(NAME, "mute somebody in a running meeting")
