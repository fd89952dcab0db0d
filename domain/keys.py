"""An issuer's published keys (JWKS, RFC 7517), cached and rotated."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import aiohttp
import jwt
import msgspec
import structlog

from domain.errors import Unavailable

#: Signatures that a public key verifies. An HS* here would take the public key for a shared secret.
ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")

#: Keys older than this are fetched again, in the background: requests do not wait for it.
REFRESH_SECONDS: Final = 300.0
#: While the issuer does not answer, its last keys go on working for so long.
STALE_SECONDS: Final = 3600.0
#: At least this long between two fetches, however many tokens name keys that do not exist.
FETCH_INTERVAL_SECONDS: Final = 10.0
FETCH_SECONDS: Final = 5.0
#: Far more than any issuer publishes: a key takes half a kilobyte, with certificates a few.
MAX_DOCUMENT_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 100
MAX_REDIRECTS: Final = 3

#: Fetches the document at a URL. Raises aiohttp.ClientError, TimeoutError, OSError or ValueError.
Fetch = Callable[[str], Awaitable[bytes]]

_log = structlog.get_logger(__name__)


def fetcher(session: aiohttp.ClientSession) -> Fetch:
    """A :data:`Fetch` over HTTP, bounded in time and size."""

    async def fetch(url: str) -> bytes:
        async with session.get(
            url,
            headers={"Accept": "application/jwk-set+json, application/json"},
            max_redirects=MAX_REDIRECTS,
            timeout=aiohttp.ClientTimeout(total=FETCH_SECONDS),
        ) as response:
            response.raise_for_status()
            document = bytearray()
            async for chunk in response.content.iter_any():
                document += chunk
                if len(document) > MAX_DOCUMENT_BYTES:
                    raise ValueError(f"it is larger than {MAX_DOCUMENT_BYTES} bytes")
            return bytes(document)

    return fetch


class Keys:
    """The usable keys that `url` publishes. One fetch at a time, whoever asks."""

    def __init__(self, url: str, fetch: Fetch, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._fetch = fetch
        self._clock = clock
        self._keys: tuple[jwt.PyJWK, ...] = ()
        self._documents: frozenset[bytes] = frozenset()
        self._fetched_at = -math.inf
        self._tried_at = -math.inf
        self._failed = False
        self._flight: asyncio.Task[None] | None = None
        #: Rises whenever a key went away: what was verified with the keys before has to be verified anew.
        self.generation = 0

    async def ensure(self) -> None:
        """Have keys that may be used; begins a refresh where they are due for one.

        Raises Unavailable while none could ever be fetched, or none for STALE_SECONDS.
        """
        age = self._clock() - self._fetched_at
        if age <= REFRESH_SECONDS:
            return
        if age <= STALE_SECONDS:
            self._begin()
            return
        await self._refresh()
        if self._clock() - self._fetched_at > STALE_SECONDS:
            raise self._away()

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key for a token's header; without a `kid` the only key of that algorithm. None: there is none.

        An unknown `kid` has the keys fetched again, at most once in FETCH_INTERVAL_SECONDS. Raises
        Unavailable where the key may be a new one that could not be fetched.
        """
        await self.ensure()
        key = self._find(kid, algorithm)
        if key is None and kid is not None:
            await self._refresh()
            key = self._find(kid, algorithm)
            if key is None and self._failed:
                raise self._away()
        return key

    async def close(self) -> None:
        """End a fetch under way."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)

    def _find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        fitting = [key for key in self._keys if key.algorithm_name == algorithm]
        if kid is not None:
            return next((key for key in fitting if key.key_id == kid), None)
        return fitting[0] if len(fitting) == 1 else None

    def _begin(self) -> asyncio.Task[None] | None:
        """The fetch under way, or a new one where the last began long enough ago."""
        if self._flight is None and self._clock() - self._tried_at >= FETCH_INTERVAL_SECONDS:
            self._tried_at = self._clock()
            self._flight = asyncio.create_task(self._fly(), name="jwks")
        return self._flight

    async def _refresh(self) -> None:
        flight = self._begin()
        if flight is not None:
            # Shielded: others wait for the same fetch when this request is given up.
            await asyncio.shield(flight)

    async def _fly(self) -> None:
        try:
            document = await asyncio.wait_for(self._fetch(self._url), FETCH_SECONDS)
            keys = _usable_keys(document)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # TimeoutError is an OSError.
            self._failed = True
            _log.warning("jwks_fetch_failed", url=self._url, error=str(error) or type(error).__name__)
        else:
            self._failed = False
            self._fetched_at = self._clock()
            if self._documents - keys.keys():
                self.generation += 1
            self._keys = tuple(keys.values())
            self._documents = frozenset(keys)
        finally:
            self._flight = None

    def _away(self) -> Unavailable:
        wait = self._tried_at + FETCH_INTERVAL_SECONDS - self._clock()
        return Unavailable(
            "Tokens cannot be checked at the moment: the issuer's keys cannot be fetched.",
            code="keys_unavailable",
            retry_after=max(1, math.ceil(wait)),
        )


def _usable_keys(document: bytes) -> dict[bytes, jwt.PyJWK]:
    """The document's public signature keys of our algorithms, by what each says. ValueError for none."""
    keys: dict[bytes, jwt.PyJWK] = {}
    try:
        entries = msgspec.json.decode(document, type=dict[str, Any]).get("keys")
    except msgspec.MsgspecError as error:
        raise ValueError(f"it is no JSON object: {error}") from None
    for entry in entries[:MAX_KEYS] if isinstance(entries, list) else ():
        key = _usable(entry)
        if key is not None:
            keys[msgspec.json.encode(entry, order="deterministic")] = key
    if not keys:
        raise ValueError(f"it holds no signature key for {', '.join(ALGORITHMS)}")
    return keys


def _usable(entry: object) -> jwt.PyJWK | None:
    if not isinstance(entry, Mapping) or entry.get("use", "sig") != "sig" or "d" in entry:
        return None
    try:
        key = jwt.PyJWK(dict(entry))
        if key.algorithm_name not in ALGORITHMS or key.Algorithm.check_key_length(key.key):
            return None
        key.Algorithm.prepare_key(key.key)  # refuses a curve that is not the algorithm's
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        # PyJWK trusts the shape of what it is given.
        return None
    return key
