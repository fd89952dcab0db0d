"""The Socket.IO server in this process, whose log is watched: nothing that a client sends makes a traceback."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from realtime.limits import Limits
from tests.support.sockets import Site


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    """The event loop of production: transports differ."""
    del config, item
    return {"uvloop": uvloop.new_event_loop}


StartSite = Callable[..., Awaitable[Site]]


@pytest.fixture
def said() -> Iterator[list[Any]]:
    """What the modules of `realtime` log."""
    with capture_logs() as said:
        yield said


@pytest.fixture
async def start_site(said: list[Any], caplog: pytest.LogCaptureFixture) -> AsyncIterator[StartSite]:
    """Starts servers with the given limits. At the end each must have let go of everything without a complaint."""
    async with AsyncExitStack() as ends:

        async def start(
            *,
            worker: int | None = None,
            deflate: bool = False,
            ping_interval: float = 25,
            ping_timeout: float = 20,
            **limits: int,
        ) -> Site:
            site = Site(
                Limits(**limits),
                worker=worker,
                deflate=deflate,
                ping_interval=ping_interval,
                ping_timeout=ping_timeout,
            )
            await site.start()
            ends.push_async_callback(site.close)
            return site

        yield start
    assert [one for one in said if one["log_level"] in ("error", "critical")] == []
    assert [one for one in caplog.get_records("call") if one.levelno >= logging.ERROR] == []


@pytest.fixture
async def site(start_site: StartSite) -> Site:
    """A server with the contract's limits, but for handshakes, which tests make many of."""
    return await start_site(handshakes_per_second=0)
