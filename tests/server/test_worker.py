"""How one worker serves the connections that it is given."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from aiohttp import web

from server import worker
from server.settings import Settings
from tests.support.processes import HOST, free_port
from tests.support.recorder import WAIT_SECONDS
from tests.support.tokens import SECRET


async def refuse(_request: web.Request) -> web.Response:
    return web.Response(status=415)


async def seconds_open(port: int) -> float:
    """For how long a connection stays open whose body was refused, as long as more of it comes."""
    reader, writer = await asyncio.open_connection(HOST, port)
    began = time.monotonic()
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 415 ")
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not reader.at_eof():
                writer.write(bytes(1_000))
                await writer.drain()
                await asyncio.sleep(0.01)
    except ConnectionError:
        pass
    finally:
        writer.close()
    return time.monotonic() - began


async def test_who_is_refused_in_the_middle_of_a_body_has_time_to_read_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worker.LINGER_SECONDS >= 60, "a piece of a film on a slow line takes as long"
    monkeypatch.setattr(worker, "LINGER_SECONDS", 0.5)
    app = web.Application()
    app.router.add_post("/", refuse)
    settings = Settings(database_url="postgresql:///x", jwt_secret=SECRET, data_dir=tmp_path)
    port = free_port()
    async with worker.running(app, settings) as runner:
        await web.TCPSite(runner, HOST, port).start()
        assert 0.4 < await seconds_open(port) < 30
