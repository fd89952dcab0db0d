"""Socket.IO spelled out packet by packet, for what no stock client would do.

Engine.IO 4 messages begin with a digit: 0 open, 1 close, 2 ping, 3 pong, 4 message, 6 noop. A Socket.IO 5 packet
stands inside a message: 0 connect, 1 disconnect, 2 event, 3 ack, 4 connect error, 5 binary event.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.support.recorder import WAIT_SECONDS

NAMESPACE = "/encounters"
#: Between two packets in one body of long-polling.
SEPARATOR = "\x1e"


def event(name: str, *arguments: Any, ack: int | None = None) -> str:
    """An event as an Engine.IO message."""
    return packet(json.dumps([name, *arguments]), ack=ack)


def packet(body: str, *, ack: int | None = None) -> str:
    """An event whose JSON array is `body`, sound or not."""
    return f"42{NAMESPACE},{'' if ack is None else ack}{body}"


class Closed(Exception):
    """The other side closed; `code` as WebSocket has it."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


class Wire:
    """One WebSocket. `messages` holds every Engine.IO message that was not asked for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.sid = ""
        self.messages: list[str] = []
        self._acks = itertools.count(1)

    async def shake_hands(self) -> None:
        """Take Engine.IO's open packet."""
        opening = await self.receive()
        assert opening[0] == "0", opening
        self.sid = json.loads(opening[1:])["sid"]

    async def enter(self, token: str | None) -> str:
        """Send the connect packet; the answer, `40` or `44` and what follows."""
        auth = "" if token is None else json.dumps({"token": token})
        await self.send(f"40{NAMESPACE},{auth}")
        while True:
            message = await self.receive()
            if message[:2] in ("40", "44"):
                return message

    async def send(self, message: str) -> None:
        await self.socket.send_str(message)

    async def receive(self, timeout: float = WAIT_SECONDS) -> str:
        """The next message; pings are answered. Raises Closed."""
        while True:
            async with asyncio.timeout(timeout):
                came = await self.socket.receive()
            if came.type is not aiohttp.WSMsgType.TEXT:
                code = came.data if came.type is aiohttp.WSMsgType.CLOSE else self.socket.close_code
                raise Closed(code)
            if came.data == "2":
                await self.send("3")
                continue
            return str(came.data)

    async def ack(self, number: int) -> Any:
        """Wait for the ack of the event that was sent with this number."""
        prefix = f"43{NAMESPACE},{number}["
        for message in self.messages:
            if message.startswith(prefix):
                return json.loads(message[len(prefix) - 1 :])[0]
        while not (message := await self.receive()).startswith(prefix):
            self.messages.append(message)
        return json.loads(message[len(prefix) - 1 :])[0]

    async def call(self, name: str, *arguments: Any) -> Any:
        """Send an event with these arguments, and wait for its ack."""
        number = next(self._acks)
        await self.send(event(name, *arguments, ack=number))
        return await self.ack(number)

    async def call_raw(self, body: str) -> Any:
        """Send an event with this text for its JSON array, and wait for its ack."""
        number = next(self._acks)
        await self.send(packet(body, ack=number))
        return await self.ack(number)

    async def until_closed(self, timeout: float = WAIT_SECONDS) -> int | None:
        """Read on until the other side closes. The close code."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    self.messages.append(await self.receive(timeout))
        except Closed as closed:
            return closed.code


@asynccontextmanager
async def wire(
    url: str, token: str | None = None, *, headers: Mapping[str, str] | None = None, **options: Any
) -> AsyncIterator[Wire]:
    """A WebSocket that shook hands and, with a token, is connected to the namespace."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(address(url, "websocket"), headers=headers, max_msg_size=0, **options) as socket,
    ):
        opened = Wire(socket)
        await opened.shake_hands()
        if token is not None:
            answer = await opened.enter(token)
            assert answer.startswith(f"40{NAMESPACE}"), answer
        yield opened


def address(url: str, transport: str, sid: str | None = None) -> str:
    """Where Engine.IO is spoken."""
    return f"{url}/socket.io/?EIO=4&transport={transport}" + (f"&sid={sid}" if sid else "")


class Poll:
    """One connection by long-polling, request by request."""

    def __init__(self, http: aiohttp.ClientSession, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.http = http
        self.url = url
        self.sid = ""
        self.headers = headers

    async def shake_hands(self) -> tuple[int, str]:
        """The handshake's status and body."""
        status, body = await self.get()
        if status == 200:
            self.sid = json.loads(body[1:])["sid"]
        return status, body

    async def get(self) -> tuple[int, str]:
        """One poll."""
        where = address(self.url, "polling", self.sid)
        async with self.http.get(where, headers=self.headers) as response:
            return response.status, await response.text()

    async def post(self, *messages: str) -> tuple[int, str]:
        """Messages, in one body."""
        where = address(self.url, "polling", self.sid)
        async with self.http.post(where, data=SEPARATOR.join(messages), headers=self.headers) as response:
            return response.status, await response.text()

    async def enter(self, token: str) -> str:
        """Connect to the namespace; the answer, `40` or `44` and what follows."""
        status, body = await self.post(f"40{NAMESPACE}," + json.dumps({"token": token}))
        assert (status, body.lower()) == (200, "ok")
        while True:
            status, body = await self.get()
            assert status == 200, body
            for message in body.split(SEPARATOR):
                if message[:2] in ("40", "44"):
                    return message
