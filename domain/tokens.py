"""Bearer tokens (JSON Web Tokens, RFC 7519): who presents one, and issuing them where the secret is ours."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn, Protocol

import jwt

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
        self._secret = secret
        self._check = _Check(issuer, audience, require_exp)
        self._remembered = _Remembered()

    async def verify(self, token: str) -> Identity:
        identity = self._remembered.get(token)
        if identity is None:
            _header(token)
            identity = self._check(token, self._secret, ["HS256"])
            self._remembered.put(token, identity)
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
        identity = self._remembered.get(token)
        if identity is None:
            header = _header(token)
            algorithm = header.get("alg")
            if algorithm not in ALGORITHMS:
                _refuse("it is signed in a way that is not accepted")
            remembered = self._remembered
            key = await self._keys.find(header.get("kid"), algorithm)
            if key is None:
                _refuse("it is signed with a key that its issuer does not publish")
            identity = self._check(token, key, ALGORITHMS)
            remembered.put(token, identity)
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


class _Check:
    """Signature first, then the claims."""

    def __init__(self, issuer: str | None, audience: str | None, require_exp: bool) -> None:
        self._issuer = issuer
        self._audience = audience
        self._require_exp = require_exp

    def __call__(self, token: str, key: str | jwt.PyJWK, algorithms: Sequence[str]) -> Identity:
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=list(algorithms),
                issuer=self._issuer,
                audience=self._audience,
                leeway=CLOCK_SECONDS,
                options={
                    "verify_aud": self._audience is not None,
                    # Ours, below: PyJWT would grant `exp` the leeway, too.
                    "verify_exp": False,
                    "verify_jti": False,
                },
            )
        except jwt.PyJWTError as error:
            _refuse(_reason(error), error)
        self._check_expiry(claims)
        return from_claims(claims)

    def _check_expiry(self, claims: Mapping[str, Any]) -> None:
        expires_at = claims.get("exp")
        if expires_at is None:
            if self._require_exp:
                _refuse("it does not say when it expires ('exp')")
            return
        # NaN fails every comparison.
        if not isinstance(expires_at, int | float) or isinstance(expires_at, bool) or not expires_at <= MAX_EXPIRY:
            _refuse("its 'exp' is not a time in Unix seconds")
        if expires_at <= time.time():
            raise _expired()


class _Remembered:
    """Identities of verified tokens, by the token's hash: they are looked up, and cannot be presented."""

    def __init__(self) -> None:
        self._identities: dict[bytes, Identity] = {}

    def get(self, token: str) -> Identity | None:
        """Raises Unauthenticated when the token has expired since."""
        if len(token) > MAX_TOKEN_CHARACTERS:
            _refuse(f"it is longer than {MAX_TOKEN_CHARACTERS} characters")
        digest = _digest(token)
        identity = self._identities.get(digest)
        if identity is not None and identity.expires_at is not None and identity.expires_at <= time.time():
            del self._identities[digest]
            raise _expired()
        return identity

    def put(self, token: str, identity: Identity) -> None:
        if len(self._identities) >= MAX_REMEMBERED:
            # The oldest: most likely expired, or gone home.
            del self._identities[next(iter(self._identities))]
        self._identities[_digest(token)] = identity


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _header(token: str) -> dict[str, Any]:
    """The header, not yet verified. `crit` is refused: no extension is understood (RFC 7515 §4.1.11)."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, UnicodeError) as error:
        _refuse("it is no valid JSON Web Token", error)
    if "crit" in header:
        _refuse("it relies on an extension that is not supported ('crit')")
    return header


def _reason(error: jwt.PyJWTError) -> str:
    match error:
        case jwt.InvalidSignatureError():
            return "its signature does not match"
        case jwt.InvalidAlgorithmError():
            return "it is signed in a way that is not accepted"
        case jwt.ImmatureSignatureError():
            return "it is not valid yet"
        case jwt.InvalidIssuerError():
            return "it was issued by somebody else ('iss')"
        case jwt.InvalidAudienceError():
            return "it was issued for somebody else ('aud')"
        case jwt.MissingRequiredClaimError():
            return f"it lacks its '{error.claim}'"
        case _:
            return "it is no valid JSON Web Token"


def _refuse(why: str, cause: Exception | None = None) -> NoReturn:
    raise Unauthenticated(f"This token cannot be used: {why}.", code="invalid_token") from cause


def _expired() -> Unauthenticated:
    return Unauthenticated("This token has expired; sign in again.", code="token_expired")
