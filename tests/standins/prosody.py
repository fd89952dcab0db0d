"""What a Jitsi Meet does with a token: Prosody's token plugins, and JaaS, as their documents have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey


@dataclass(frozen=True, kw_only=True, slots=True)
class Occupant:
    """Who came in."""

    id: str
    name: str | None
    is_owner: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Prosody:
    """A Jitsi Meet at `domain`; with `secret` or `keys` (by their `kid`) it lets in by token alone."""

    domain: str
    app_id: str | None = None
    secret: str | None = None
    keys: Mapping[str, RSAPublicKey] = field(default_factory=dict)
    accepted_issuers: tuple[str, ...] = ()
    accepted_audiences: tuple[str, ...] = ("jitsi",)
    tenant: str | None = None

    def join(self, room: str, token: str | None) -> Occupant | None:
        """Who joins the room of that name, which is in lower case; None for who is not let in."""
        assert room == room.lower(), "a JID's node is in lower case"
        if self.app_id is None:
            return Occupant(id="", name=None, is_owner=False)
        if token is None:
            return None
        try:
            claims = self._verified(token)
        except jwt.InvalidTokenError:
            return None
        subject = self.tenant or self.domain
        if claims["sub"] not in ("*", subject) or claims["room"] not in ("*", room):
            return None
        user = claims["context"]["user"]
        if not all(isinstance(value, str) for value in user.values()):
            raise TypeError("Lua stops at a value that is no string")
        # Self-hosted ones read the affiliation, JaaS reads the moderator.
        is_owner = user["moderator"] == "true" if self.tenant else user["affiliation"] == "owner"
        return Occupant(id=user["id"], name=user.get("name"), is_owner=is_owner)

    def _verified(self, token: str) -> dict[str, Any]:
        options: Any = {"require": ["iss", "aud", "exp", "sub", "room"]}
        issuers = list(self.accepted_issuers or (self.app_id or "",))
        audiences = list(self.accepted_audiences)
        if self.secret is not None:
            return jwt.decode(
                token, self.secret, algorithms=["HS256"], issuer=issuers, audience=audiences, options=options
            )
        key = self.keys.get(jwt.get_unverified_header(token).get("kid", ""))
        if key is None:
            raise jwt.InvalidTokenError("no such key")
        return jwt.decode(token, key, algorithms=["RS256"], issuer=issuers, audience=audiences, options=options)
