"""What a provider's stand-in can be told to do instead of answering."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.typedefs import Handler


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Instead of an answer: this status, headers and body, after `seconds`; or, with `cut`, an end without any.

    `done`: what was asked for is done all the same. `at`: only where the method and path begin so.
    """

    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    seconds: float = 0.0
    cut: bool = False
    done: bool = False
    at: str = ""


class Faults:
    """The faults to come, first come first served, and every request that came: method and path."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self._waiting: list[Fault] = []
        self._closed = asyncio.Event()

    def next(self, fault: Fault, times: int = 1) -> None:
        self._waiting += [fault] * times

    def clear(self) -> None:
        """There are none to come."""
        self._waiting.clear()

    def close(self) -> None:
        """Nobody waits for a slow answer any more."""
        self._closed.set()

    def asked(self, beginning: str) -> int:
        """How many requests began so."""
        return sum(request.startswith(beginning) for request in self.requests)

    @property
    def middleware(self) -> object:
        @web.middleware
        async def faulty(request: web.Request, handler: Handler) -> web.StreamResponse:
            asked = f"{request.method} {request.path}"
            self.requests.append(asked)
            fault = next((one for one in self._waiting if asked.startswith(one.at)), None)
            if fault is None:
                return await handler(request)
            self._waiting.remove(fault)
            if fault.done:
                await handler(request)
            if fault.seconds:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closed.wait(), fault.seconds)
            if fault.cut:
                assert request.transport is not None
                request.transport.abort()
            return web.Response(
                status=fault.status, headers=fault.headers, text=fault.body, content_type="application/json"
            )

        return faulty
