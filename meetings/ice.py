"""ICE servers: how browsers find a way to each other, and what lets a person use a relay for a while.

The credentials are those of "A REST API For Access To TURN Services" (draft-uberti-behave-turn-rest-00, §2.2), which
coturn calls `use-auth-secret`: the user name is the second of its end and the person, with a colon between them, the
password the base64 of its HMAC-SHA1 under a secret that we share with the relay.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

#: Browsers warn of more than a few: each costs a connection attempt.
MAX_ICE_SERVERS: Final = 16
MAX_URLS: Final = 8

#: RFC 7064 §3.1 and RFC 7065 §3.1.
_URL: Final = re.compile(
    r"(?P<scheme>stuns?|turns?):(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(?P<transport>\?transport=(udp|tcp))?"
)
_Text = Annotated[str, Meta(min_length=1, max_length=512)]


class IceServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of ICE_SERVERS, as `RTCIceServer` of WebRTC has it; `secret` instead of `username` and `credential`
    stands for credentials of each person's own, which end."""

    urls: _Text | Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=MAX_URLS)]
    username: _Text | None = None
    credential: _Text | None = None
    secret: _Text | None = None

    def __repr__(self) -> str:
        return f"IceServer({self.all_urls!r})"

    @property
    def all_urls(self) -> tuple[str, ...]:
        return (self.urls,) if isinstance(self.urls, str) else self.urls


_decoder: Final = msgspec.json.Decoder(Annotated[tuple[IceServer, ...], Meta(max_length=MAX_ICE_SERVERS)])


def parse(text: str) -> tuple[IceServer, ...]:
    """The servers of a JSON array. Raises ValueError with a sentence that holds none of its secrets."""
    try:
        servers: tuple[IceServer, ...] = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        if isinstance(error, msgspec.ValidationError):
            raise ValueError(f"each with urls, and username and credential or secret ({error})") from None
        raise ValueError("which it is not") from None
    for server in servers:
        _check(server)
    return servers


def _check(server: IceServer) -> None:
    relays = False
    for url in server.all_urls:
        parts = _URL.fullmatch(url)
        if parts is None or (parts["transport"] and parts["scheme"].startswith("stun")):
            raise ValueError("with urls such as stun:stun.example:3478 and turns:turn.example:5349?transport=tcp")
        relays = relays or parts["scheme"].startswith("turn")
    has_both = server.username is not None and server.credential is not None
    has_one = server.username is not None or server.credential is not None
    if server.secret is not None and has_one:
        raise ValueError("each with either secret or username and credential")
    if relays and server.secret is None and not has_both:
        raise ValueError("whose turn: servers have a secret, or username and credential")


def for_person(servers: Sequence[IceServer], person_id: str, expires_at: datetime) -> list[dict[str, Any]]:
    """`servers` as `RTCPeerConnection` takes them, with credentials of this person that end at `expires_at`."""
    return [_for_person(server, person_id, expires_at) for server in servers]


def _for_person(server: IceServer, person_id: str, expires_at: datetime) -> dict[str, Any]:
    entry: dict[str, Any] = {"urls": list(server.all_urls)}
    if server.secret is not None:
        entry["username"], entry["credential"] = turn_credentials(server.secret, person_id, expires_at)
    elif server.username is not None and server.credential is not None:
        entry["username"], entry["credential"] = server.username, server.credential
    return entry


def turn_credentials(secret: str, person_id: str, expires_at: datetime) -> tuple[str, str]:
    """User name and password for a relay that shares `secret`."""
    username = f"{int(expires_at.timestamp())}:{person_id}"
    password = base64.b64encode(hmac.digest(secret.encode(), username.encode(), "sha1")).decode()
    return username, password
