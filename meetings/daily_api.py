"""Calls to Daily's REST API: how fast, how long, how often, and what comes back as an error.

Every act has its time and gets no more, whatever it waits for: its turn, an answer, the next try. What came back is
read to :data:`MAX_ANSWER_BYTES` and decoded into what it should be. Sources: Daily's REST API reference, its pages on
rate limits and errors (`{"error": <kind>, "info": <text>}`).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import re
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from meetings.pace import Pace, TooSoon
from meetings.provider import ProviderAway, ProviderError, ProviderFailed, RoomGone

T = TypeVar("T")

#: Seconds for one try, and for an act with all its tries and waits.
TRY_SECONDS: Final = 5.0
ACT_SECONDS: Final = 10.0
MAX_TRIES: Final = 3
#: Seconds before the second try; doubled for each further one.
FIRST_PAUSE_SECONDS: Final = 0.25
#: A page of a hundred recordings has some 50 KiB.
MAX_ANSWER_BYTES: Final = 1024 * 1024
#: The longest piece of Daily's own words that an error repeats.
MAX_INFO_CHARACTERS: Final = 200
#: Seconds that it may take to take back what failed half-way.
UNDO_SECONDS: Final = 2.0

#: What Daily allows in RATE_SECONDS; the limits count all workers together, so 429 may come all the same.
#: Some of the twenty are for what a host does to people, and some for films: whoever asks for passes all the time holds
#: up no removal, and a class that watches a film holds up no passes.
RATE_SECONDS: Final = 1.0
RATES: Final = {"common": 12, "links": 4, "urgent": 4, "slow": 2, "recording": 1}
Rate = Literal["common", "links", "urgent", "slow", "recording"]

_SECONDS: Final = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long an act may take, and the seconds that RATES are for."""

    try_seconds: float = TRY_SECONDS
    act_seconds: float = ACT_SECONDS
    first_pause_seconds: float = FIRST_PAUSE_SECONDS
    rate_seconds: float = RATE_SECONDS


class Unsure(ProviderAway):
    """Nothing came back, or no sense: it may have been done or not."""


class Unreadable(ProviderFailed):
    """An answer of success that makes no sense: it was done, most likely."""


class Refusal(ProviderFailed):
    """Daily answered with an error: its `status`, `kind` (`error`) and `info`."""

    def __init__(self, status: int, kind: str, info: str) -> None:
        said = f"{status} {kind}: {info}" if info else f"{status} {kind}".rstrip()
        super().__init__(f"The video provider daily refused: {said}.")
        self.status = status
        self.kind = kind
        self.info = info


class _Error(msgspec.Struct, frozen=True):
    error: str = ""
    info: str = ""


class DailyApi:
    """Daily's REST API under `url`, for one key. `session` is the caller's to close."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        api_key: str,
        patience: Patience = Patience(),
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}", "Accept": "application/json"}
        self._patience = patience
        self._paces = {rate: Pace(calls, patience.rate_seconds) for rate, calls in RATES.items()}

    async def call(
        self,
        method: str,
        path: str,
        answer: type[T],
        *,
        body: Any = None,
        query: dict[str, str] | None = None,
        rate: Rate = "common",
        again: bool,
    ) -> T:
        """What Daily answers, as an `answer`. `again`: it may be done twice, so it is tried again when nothing came.

        429 and 503 are tried again in any case: nothing was done. Raises Refusal, Unsure, ProviderAway, ProviderFailed;
        Unsure, and not ProviderAway, where any of the tries may have done it.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._patience.act_seconds
        pause = self._patience.first_pause_seconds
        away: type[ProviderAway] = ProviderAway
        for tries_left in range(MAX_TRIES - 1, -1, -1):
            left = ends_at - loop.time()
            try:
                await self._paces[rate].turn(left)
            except TooSoon as late:
                raise _busy(away, late.seconds) from None
            left = ends_at - loop.time()
            try:
                return await self._try(method, path, answer, body, query, min(left, self._patience.try_seconds))
            except Unsure:
                if not again or not tries_left:
                    raise
                away = Unsure
                wait = _jittered(pause)
            except ProviderAway as refused:
                wait = max(_jittered(pause), float(refused.retry_after or 0))
                if not tries_left or loop.time() + wait >= ends_at:
                    raise away(refused.message, retry_after=refused.retry_after) from refused
            pause *= 2
            if loop.time() + wait >= ends_at:
                raise away("The video provider daily is too slow.")
            await asyncio.sleep(wait)
        raise AssertionError("the last try returns or raises")

    async def _try(
        self, method: str, path: str, answer: type[T], body: Any, query: dict[str, str] | None, seconds: float
    ) -> T:
        try:
            async with self._session.request(
                method,
                self._url + path,
                headers=self._headers,
                json=body,
                params=query,
                timeout=aiohttp.ClientTimeout(total=max(seconds, 0.001)),
                allow_redirects=False,  # the key goes to nobody else
            ) as response:
                content = await _content(response)
        except TimeoutError as error:
            raise Unsure("The video provider daily did not answer in time.") from error
        except aiohttp.ClientConnectorError as error:
            raise ProviderAway("The video provider daily cannot be reached.") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unsure("The video provider daily broke off.") from error
        if not 200 <= response.status < 300:
            raise _refusal(response.status, response.headers.get("Retry-After"), content)
        try:
            return msgspec.json.decode(content, type=answer)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise Unreadable("The video provider daily answered what cannot be read.") from error


async def _content(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise Unreadable("The video provider daily answered more than can be read.")
    return bytes(content)


def _refusal(status: int, retry_after: str | None, content: bytes) -> ProviderAway | ProviderFailed:
    seconds = int(retry_after) if retry_after is not None and _SECONDS.fullmatch(retry_after) else None
    if status == 429:
        return ProviderAway("The video provider daily has been asked too often.", retry_after=seconds)
    if status == 503:
        return ProviderAway("The video provider daily has no room at the moment.", retry_after=seconds)
    if status >= 500:
        return Unsure(f"The video provider daily has an error of its own ({status}).", retry_after=seconds)
    try:
        error = msgspec.json.decode(content, type=_Error)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        error = _Error()
    if status == 401 or error.error in ("authentication-error", "authorization-header-error"):
        return ProviderFailed("The video provider daily does not accept DAILY_API_KEY.")
    return Refusal(status, _plain(error.error), _plain(error.info))


def _plain(text: str) -> str:
    """What Daily says, as far as a log and a sentence can carry it."""
    return "".join(character for character in text[:MAX_INFO_CHARACTERS] if character.isprintable()).rstrip(". ")


def _busy(away: type[ProviderAway], seconds: float) -> ProviderAway:
    return away("The video provider daily is asked as often as it allows.", retry_after=math.ceil(seconds))


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.5)


class Deleted(msgspec.Struct, frozen=True):
    deleted: bool


def check_deleted(answer: Deleted) -> None:
    if not answer.deleted:
        raise ProviderFailed("The video provider daily did not delete what it was asked to.")


async def undo(act: Coroutine[Any, Any, None]) -> None:
    """Try to take back what may have been done; who asked for it is not kept waiting."""
    with contextlib.suppress(ProviderError, TimeoutError):
        async with asyncio.timeout(UNDO_SECONDS):
            await act


def room_path(name: str) -> str:
    return path_of("/rooms", name)


def path_of(collection: str, id: str) -> str:
    return f"{collection}/{quote(id, safe='')}"


def gone() -> RoomGone:
    return RoomGone("The video provider daily does not have this room any more.")
