"""The official Socket.IO client, in Node.js: what browsers run, with its own reconnection."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests import tools
from tests.support.clients import ConnectRefusedError
from tests.support.recorder import WAIT_SECONDS, Recorder, anything

SCRIPT = Path(__file__).with_name("node_client.mjs")
#: One line is one event; a resumed session's ack may hold hundreds of messages.
MAX_LINE_BYTES = 16 * 1024 * 1024


class NodeClient:
    """One client in a process of its own, made by `connect` and ended by `close`.

    `events` holds what the server sent, and the client's own life as `$connect`, `$disconnect` (data: the
    reason) and `$connect_error`.
    """

    def __init__(self, process: Process) -> None:
        self.events = Recorder()
        self._process = process
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, url: str, token: str, **options: Any) -> Self:
        """Connect; `options` are the client's own (`transports`, `reconnection` …). ConnectRefusedError."""
        process = await asyncio.create_subprocess_exec(
            tools.node(), SCRIPT, stdin=PIPE, stdout=PIPE, limit=MAX_LINE_BYTES
        )
        client = cls(process)
        try:
            await client._do("connect", url=url, token=token, options=options)
        except BaseException:
            await client.close()
            raise
        return client

    async def call(self, event: str, payload: Any = None, timeout: float = WAIT_SECONDS) -> Any:
        """Send an event and wait for its ack."""
        return await self._do("call", event=event, payload=payload, timeout=int(timeout * 1000))

    async def emit(self, event: str, payload: Any = None) -> None:
        """Send an event that asks for no ack; while offline, the client keeps it for later."""
        await self._do("emit", event=event, payload=payload)

    async def burst(self, event: str, payloads: list[Any]) -> list[Any]:
        """Send an event with each of these payloads, all in one tick of its loop; their acks."""
        acks: list[Any] = await self._do("burst", event=event, payloads=payloads)
        return acks

    async def use_token(self, token: str) -> None:
        """The token for the next reconnection."""
        await self._do("token", token=token)

    async def drop(self) -> None:
        """Cut the transport; the client reconnects by itself."""
        await self._do("drop")

    async def wait_for(
        self,
        event: str,
        predicate: Callable[[Any], bool] = anything,
        timeout: float = WAIT_SECONDS,
    ) -> Any:
        """See `Recorder.wait_for`."""
        return await self.events.wait_for(event, predicate, timeout)

    async def close(self) -> None:
        """End the process and its connection. May be called again."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), WAIT_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader

    async def _do(self, command: str, **arguments: Any) -> Any:
        number = len(self._answers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        line = json.dumps({"id": number, "do": command, **arguments})
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()
        async with asyncio.timeout(WAIT_SECONDS * 2):
            said = await answer
        if "refused" in said:
            raise ConnectRefusedError(said["refused"])
        return said.get("result")

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            if "id" in said:
                self._answers[said["id"]].set_result(said)
            else:
                self.events.add(said["event"], said["data"])
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ConnectionError("node_client.mjs ended; its stderr says why"))
