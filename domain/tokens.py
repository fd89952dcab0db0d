"""Bearer tokens (JSON Web Tokens, RFC 7519): who presents one, and issuing them where the secret is ours."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Any, Final, NoReturn, Protocol

import jwt
import msgspec

from domain.errors import Unauthenticated
from domain.identity import Identity, Role, from_claims
from domain.keys import ALGORITHMS, Fetch, Keys

MAX_TOKEN_CHARACTERS: Final = 8 * 1024
#: How far an issuer's clock may be ahead of ours (`nbf`, `iat`). An expiry gets no such grace.
CLOCK_SECONDS: Final = 5
#: Verified tokens remembered: some hundred bytes each, more than one worker serves people at a time.
MAX_REMEMBERED: Final = 10_000
#: The end of the year 9999, after which `datetime` has no time; a later `exp` is a mistake.
MAX_EXPIRY: Final = 253_402_300_799


class Verifier(Protocol):
    """Tells who presents a token."""

    async def verify(self, token: str) -> Identity:
        """The identity that `token` proves.

        Raises Unauthenticated (`token_expired`, `invalid_token`), and Unavailable while it cannot be told.
        """
        ...


class SecretVerifier:
    """Verifies tokens signed with a shared secret: HS256, and nothing else.

    `issuer` and `audience` are required of a token where they are set. Without `require_exp` (the demo) a
    token need not expire.
    """

    def __init__(
        self, secret: str, issuer: str | None = None, audience: str | None = None, *, require_exp: bool = True
    ) -> None:
        # PyJWT refuses what may be somebody's public key.
        self._secret: bytes = jwt.get_algorithm_by_name("HS256").prepare_key(secret)
        self._check = _Check(issuer, audience, require_exp)
        self._remembered = _Remembered()

    async def verify(self, token: str) -> Identity:
        digest = _digest(token)
        identity = self._remembered.get(digest)
        if identity is None:
            parts = _parts(token)
            if parts.algorithm != "HS256":
                _refuse("it is signed in a way that is not accepted")
            if not hmac.compare_digest(parts.signature, hmac.digest(self._secret, parts.signed, "sha256")):
                _refuse(WRONG_SIGNATURE)
            identity = self._check(parts.payload)
            self._remembered.put(digest, identity)
        return identity


class JwksVerifier:
    """Verifies tokens signed with one of the keys that an issuer publishes: RS256, ES256 or EdDSA.

    `fetch` gets the document (:func:`domain.keys.fetcher` makes one). Call :meth:`close` at the end.
    """

    def __init__(self, url: str, issuer: str | None, audience: str | None, fetch: Fetch) -> None:
        self._keys = Keys(url, fetch)
        self._check = _Check(issuer, audience, require_exp=True)
        self._remembered = _Remembered()
        self._generation = self._keys.generation

    async def verify(self, token: str) -> Identity:
        await self._keys.ensure()
        if self._generation != self._keys.generation:
            # A key was withdrawn: what it vouched for is worth nothing now.
            self._remembered = _Remembered()
            self._generation = self._keys.generation
        digest = _digest(token)
        identity = self._remembered.get(digest)
        if identity is None:
            parts = _parts(token)
            if parts.algorithm not in ALGORITHMS:
                _refuse("it is signed in a way that is not accepted")
            remembered = self._remembered
            key = await self._keys.find(parts.key_id, parts.algorithm)
            if key is None:
                _refuse("it is signed with a key that its issuer does not publish")
            if not key.Algorithm.verify(parts.signed, key.key, parts.signature):
                _refuse(WRONG_SIGNATURE)
            identity = self._check(parts.payload)
            remembered.put(digest, identity)
        return identity

    async def close(self) -> None:
        await self._keys.close()


def issue(
    secret: str,
    *,
    user_id: str,
    role: Role,
    name: str = "",
    email: str | None = None,
    ttl_seconds: int,
    issuer: str | None = None,
    audience: str | None = None,
) -> str:
    """An HS256 token that a :class:`SecretVerifier` with the same secret, issuer and audience accepts."""
    now = int(time.time())
    claims = {
        "sub": user_id,
        "role": role,
        "name": name or None,
        "email": email,
        "iat": now,
        "exp": now + ttl_seconds,
        "iss": issuer,
        "aud": audience,
    }
    return jwt.encode({key: value for key, value in claims.items() if value is not None}, secret, "HS256")


class _Parts(msgspec.Struct, frozen=True):
    """A token taken apart; nothing of it is verified yet."""

    algorithm: object
    key_id: str | None
    signed: bytes
    payload: bytes
    signature: bytes


def _parts(token: str) -> _Parts:
    """A token in the compact form of RFC 7515. PyJWT's own reading looks at each character in Python."""
    try:
        signed, _, signature = token.encode("ascii").rpartition(b".")
        header_part, _, payload = signed.partition(b".")
        header = msgspec.json.decode(_bytes_of(header_part))
        parts = (signed, _bytes_of(payload), _bytes_of(signature))
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        _refuse(MALFORMED, error)
    if not isinstance(header, dict) or not isinstance(header.get("kid", ""), str):
        _refuse(MALFORMED)
    if "crit" in header or header.get("b64", True) is not True:
        # No extension is understood (RFC 7515 §4.1.11).
        _refuse("it relies on an extension that is not supported ('crit')")
    return _Parts(header.get("alg"), header.get("kid"), *parts)


def _bytes_of(part: bytes) -> bytes:
    """What base64url without padding stands for, in the only spelling that there is. Raises ValueError."""
    raw = binascii.a2b_base64(part.translate(_STANDARD) + b"=" * (-len(part) % 4), strict_mode=True)
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != part:
        raise ValueError("another spelling")
    return raw


#: From base64url's letters to base64's.
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")

MALFORMED: Final = "it is no valid JSON Web Token"
WRONG_SIGNATURE: Final = "its signature does not match"


class _Check:
    """The claims of a token whose signature was verified."""

    def __init__(self, issuer: str | None, audience: str | None, require_exp: bool) -> None:
        self._issuer = issuer
        self._audience = audience
        self._require_exp = require_exp

    def __call__(self, payload: bytes) -> Identity:
        try:
            claims = msgspec.json.decode(payload)
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            _refuse(MALFORMED, error)
        if not isinstance(claims, dict):
            _refuse(MALFORMED)
        for name in ("iat", "nbf"):
            _check_begun(claims, name)
        if self._issuer is not None and claims.get("iss") != self._issuer:
            _refuse("it was issued by somebody else ('iss')")
        if self._audience is not None and not _names_audience(claims.get("aud"), self._audience):
            _refuse("it was issued for somebody else ('aud')")
        self._check_expiry(claims)
        return from_claims(claims)

    def _check_expiry(self, claims: Mapping[str, Any]) -> None:
        expires_at = claims.get("exp")
        if expires_at is None:
            if self._require_exp:
                _refuse("it does not say when it expires ('exp')")
            return
        if not _is_time(expires_at):
            _refuse("its 'exp' is not a time in Unix seconds")
        if expires_at <= time.time():
            raise _expired()


class _Remembered:
    """Identities of verified tokens, by the token's hash: they are looked up, and cannot be presented."""

    def __init__(self) -> None:
        self._identities: dict[bytes, Identity] = {}

    def get(self, digest: bytes) -> Identity | None:
        """Raises Unauthenticated when the token has expired since."""
        identity = self._identities.get(digest)
        if identity is not None and identity.expires_at is not None and identity.expires_at <= time.time():
            del self._identities[digest]
            raise _expired()
        return identity

    def put(self, digest: bytes, identity: Identity) -> None:
        if len(self._identities) >= MAX_REMEMBERED:
            # The oldest: most likely expired, or gone home.
            del self._identities[next(iter(self._identities))]
        self._identities[digest] = identity


def _digest(token: str) -> bytes:
    if len(token) > MAX_TOKEN_CHARACTERS:
        _refuse(f"it is longer than {MAX_TOKEN_CHARACTERS} characters")
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _check_begun(claims: Mapping[str, Any], name: str) -> None:
    since = claims.get(name, 0)
    if not _is_time(since):
        _refuse(f"its '{name}' is not a time in Unix seconds")
    if since > time.time() + CLOCK_SECONDS:
        _refuse("it is not valid yet")


def _is_time(value: object) -> bool:
    """NaN, for one, is none: it fails every comparison."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_EXPIRY


def _names_audience(named: object, audience: str) -> bool:
    if isinstance(named, list):
        return audience in named and all(isinstance(one, str) for one in named)
    return named == audience


def _refuse(why: str, cause: Exception | None = None) -> NoReturn:
    raise Unauthenticated(f"This token cannot be used: {why}.", code="invalid_token") from cause


def _expired() -> Unauthenticated:
    return Unauthenticated("This token has expired; sign in again.", code="token_expired")
