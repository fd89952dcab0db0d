"""``python -m bench.inprocess NAME COUNT``: what a disconnect costs among more connections than one process may open.

The real application in this process, and connections that are none: transports without a socket, on which the bytes
of real clients arrive. Everything above the transport is what runs in production. Its last line is JSON.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import uvloop
from aiohttp import web

from bench import contenders, machine
from bench.crowd import SECRET, Crowd, token

ROOM: Final = 4
PEOPLE: Final = 1_000
PARALLEL: Final = 64
#: Few, so that they are over before the first departures are recorded, after their grace.
BATCHES: Final = 3
#: How many of the connections go in one batch: enough to stand out from what those who stay cost meanwhile. Fewer, if
#: they take longer than BATCH_SECONDS.
BATCH_SHARE: Final = 0.1
BATCH_SECONDS: Final = 1.0
SLICE: Final = 100
IDLE_SECONDS: Final = 1.0
AFTER_SECONDS: Final = 0.2
WAIT_SECONDS: Final = 30.0

UPGRADE: Final = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: ZW5jb3VudGVycyBiZW5jaA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT: Final = 1
CLOSE: Final = 8


class Wire(asyncio.Transport):
    """A transport to a client that is played by :meth:`come`."""

    def __init__(self, protocol: Any) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self._protocol = protocol
        self._heard = bytearray()
        self._wanted = b""
        self._answered: asyncio.Future[None] | None = None
        self._closed = False
        protocol.connection_made(self)

    async def come(self, session_id: uuid.UUID, bearer: str) -> None:
        """Shake hands, connect and join."""
        await self._say(UPGRADE, until=b'0{"sid"')
        await self._say(_frame(TEXT, b'40/encounters,{"token":"%b"}' % bearer.encode()), until=b"40/encounters,{")
        join = b'42/encounters,0["joinSession",{"sessionId":"%b"}]' % str(session_id).encode()
        await self._say(_frame(TEXT, join), until=b'43/encounters,0[{"ok":true')

    def go(self) -> None:
        """Say goodbye, and be gone."""
        self._protocol.data_received(_frame(CLOSE, b"\x03\xe9"))
        asyncio.get_running_loop().call_soon(self.close)

    async def _say(self, data: bytes, until: bytes) -> None:
        self._heard.clear()
        self._wanted = until
        self._answered = asyncio.get_running_loop().create_future()
        self._protocol.data_received(data)
        async with asyncio.timeout(WAIT_SECONDS):
            await self._answered

    def write(self, data: Any) -> None:
        if self._answered is not None and not self._answered.done():
            self._heard += data
            if self._wanted in self._heard:
                self._answered.set_result(None)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self._closed

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_protocol(self) -> Any:
        return self._protocol

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_reading(self) -> bool:
        return True


def _frame(opcode: int, data: bytes) -> bytes:
    """A client's frame, masked with zeros."""
    length = bytes((0x80 | len(data),)) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2)
    return bytes((0x80 | opcode,)) + length + b"\0\0\0\0" + data


@asynccontextmanager
async def application(name: str, dsn: str) -> AsyncIterator[Any]:
    """What makes the protocol of a new connection, as the running server would."""
    if name == "encounters":
        from server import settings
        from server.app import build

        limits = {f"LIMIT_{limit}": "0" for limit in contenders.LIMITS}
        app = build(settings.from_environment({"JWT_SECRET": SECRET, "DATABASE_URL": dsn, **limits}), dsn)
    else:
        from bench.peers.stock import make_app

        app = await make_app()
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    yield runner.server


def crowd_of(count: int) -> Crowd:
    return Crowd(rooms=count // ROOM, members=ROOM, people=min(PEOPLE, count))


async def measure(name: str, count: int, dsn: str) -> dict[str, float]:
    """CPU per disconnect among `count` connections, in µs: the median batch, less as long an idle time."""
    crowd = crowd_of(count)
    sessions, tokens = crowd.session_ids, [token(user_id) for user_id in crowd.user_ids]
    async with application(name, dsn) as protocol:
        wires: list[Wire] = []
        places = asyncio.Semaphore(PARALLEL)

        async def come(place: int) -> None:
            async with places:
                wire = Wire(protocol())
                await wire.come(sessions[place // ROOM], tokens[place % len(tokens)])
                wires.append(wire)

        await asyncio.gather(*(come(place) for place in range(count)))
        costs = []
        size = int(count * BATCH_SHARE)
        for batch in range(BATCHES):
            idle = await _spent(IDLE_SECONDS) / IDLE_SECONDS
            started, since = time.process_time(), time.monotonic()
            gone = 0
            while gone < size and time.monotonic() - since < BATCH_SECONDS:
                for wire in wires[batch * size + gone : batch * size + gone + SLICE]:
                    wire.go()
                gone += SLICE
                await asyncio.sleep(0.01)
            await asyncio.sleep(AFTER_SECONDS)
            spent, passed = time.process_time() - started, time.monotonic() - since
            costs.append((spent - idle * passed) / gone * 1e6)
        return {"us": statistics.median(costs)}


async def _spent(seconds: float) -> float:
    started = time.process_time()
    await asyncio.sleep(seconds)
    return time.process_time() - started


def main() -> None:
    machine.pin(machine.SERVER_CORE)
    name, count = sys.argv[1], int(sys.argv[2])

    async def run() -> None:
        figures = await measure(name, count, os.environ.get("DATABASE_URL", ""))
        print(msgspec.json.encode(figures).decode(), flush=True)
        os._exit(0)  # tens of thousands of goodbyes are nobody's business

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


if __name__ == "__main__":
    main()
