"""The Socket.IO server alone in this process, behind a door that knows no lessons; and clients that speak it raw."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from contextlib import AsyncExitStack
from typing import Any, Self

import aiohttp
import yarl
from aiohttp import WSMsgType, web

from realtime.connection import Answer, Connection, Pending, Refusal, Reply
from realtime.events import Event
from realtime.frames import NAMESPACE, event_frame
from realtime.limits import Limits
from realtime.transport import EncountersNamespace, SocketServer
from tests.support.processes import HOST, free_port
from tests.support.recorder import WAIT_SECONDS
from tests.support.waiting import until

PATH = "/socket.io/"


class Door:
    """A handler that remembers. The token is the person; "refused", "broken" and "slow" are what they say."""

    pipelined = frozenset({"later"})
    apart = frozenset({"aside"})

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.gone: list[tuple[str, str]] = []
        self.events: list[tuple[str, list[Any]]] = []
        self.gate = asyncio.Event()
        self.busy = 0
        self.futures: list[asyncio.Future[Any]] = []

    async def connected(self, connection: Connection, token: str | None, environ: dict[str, Any]) -> None:
        if token is None or token == "refused":
            raise Refusal({"error": "token_missing", "message": "Who are you?", "status_code": 401})
        if token == "broken":
            raise TypeError("a fault of the door")
        if token == "slow":
            await self.gate.wait()
        connection.user_id = token
        self.connections.append(connection)

    def received(self, connection: Connection, name: str, payload: list[Any]) -> Answer:
        if name == "later":
            self.events.append((name, payload))
            self.futures.append(asyncio.get_running_loop().create_future())
            return Pending(self.futures[-1], lambda future: Reply({"ok": True, "result": future.result()}))
        if name == "fail":
            raise RuntimeError("a fault of the door")
        return self._received(connection, name, payload)

    async def _received(self, connection: Connection, name: str, payload: list[Any]) -> Reply:
        assert self.busy == 0 or len(self.connections) > 1, "one event of a connection at a time"
        self.busy += 1
        try:
            self.events.append((name, payload))
            if name == "wait":
                await self.gate.wait()
            elif name == "pause":
                await asyncio.sleep(0.02)
            elif name == "break":
                raise RuntimeError("a fault of the door")
            then = None
            if name == "enter":
                self.tell(connection, 1)
                self.tell(connection, 2)

                def then() -> None:
                    self.tell(connection, 3)

            return Reply({"ok": True, "name": name, "payload": payload}, then)
        finally:
            self.busy -= 1

    def refused(self, status_code: int, code: str, message: str) -> dict[str, Any]:
        return {"ok": False, "error": {"error": code, "message": message, "status_code": status_code}}

    async def disconnected(self, connection: Connection, reason: str) -> None:
        self.gone.append((connection.user_id, reason))
        if connection.user_id == "clings":
            raise TypeError("a fault of the door")

    def tell(self, connection: Connection, number: int, padding: int = 0) -> None:
        connection.send(event_frame(Event(name="news", data={"n": number, "padding": "x" * padding})))


class Site:
    """The server on a port, its door, and clients that end with it."""

    def __init__(self, limits: Limits, **options: Any) -> None:
        self.door = Door()
        self.address = "1.2.3.4"
        self.sockets = SocketServer(
            limits=limits, cors_origins=["https://app.example"], address_of=lambda request: self.address, **options
        )
        self.sockets.register_namespace(EncountersNamespace(self.sockets, self.door))
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._ends = AsyncExitStack()
        self.http: aiohttp.ClientSession

    async def start(self) -> Self:
        app = web.Application()
        self.sockets.attach(app, PATH)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        self._runners = [runner]
        await runner.setup()
        self._ends.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, HOST, self.port).start()
        self._ends.push_async_callback(self.sockets.shutdown)
        self._ends.push_async_callback(self._disconnect_everybody)
        # No keep-alive between tests' requests: an aborted one must not fail the next.
        self.http = await self._ends.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        )
        return self

    async def close(self) -> None:
        await self._ends.aclose()

    async def _disconnect_everybody(self) -> None:
        for sid in list(self.sockets.eio.sockets):
            await self.sockets.eio.disconnect(sid)

    @property
    def empty(self) -> bool:
        """Whether nothing is left of any connection."""
        manager = self.sockets.manager
        return not (
            self.sockets.eio.sockets
            or self.sockets.connections
            or self.sockets.environ
            or manager.rooms
            or manager.pending_connect
            or manager.pending_disconnect
        )

    async def get(self, query: str, **options: Any) -> tuple[int, str]:
        async with self.http.get(yarl.URL(f"{self.url}{PATH}?{query}", encoded=True), **options) as response:
            return response.status, await response.text()

    async def websocket(self, who: str | None = "ann", *, sid: str | None = None) -> RawWebSocket:
        """A WebSocket; connected to the namespace unless `who` is None, or `sid` asks for an upgrade."""
        query = "EIO=4&transport=websocket" + (f"&sid={sid}" if sid else "")
        opened = await self.http.ws_connect(f"{self.url}{PATH}?{query}", max_msg_size=0)
        self._ends.push_async_callback(opened.close)
        client = RawWebSocket(opened)
        if sid is None:
            assert (await client.receive()).startswith("0{")
            if who is not None:
                await client.connect(who)
        return client

    async def poller(self, who: str | None = "ann") -> Poller:
        """A long-polling connection; connected to the namespace unless `who` is None."""
        status, text = await self.get("EIO=4&transport=polling")
        assert status == 200, text
        client = Poller(self, json.loads(text[1:])["sid"])
        if who is not None:
            await client.post(f'40{NAMESPACE},{{"token":"{who}"}}')
            assert (await client.get()).startswith(f"40{NAMESPACE},")
        return client

    async def stubborn(self, who: str = "ann") -> socket.socket:
        """A WebSocket, connected to the namespace, that reads nothing any more and answers nothing."""
        loop = asyncio.get_running_loop()
        client = socket.socket()
        self._ends.callback(client.close)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, (HOST, self.port))
        request = (
            f"GET {PATH}?EIO=4&transport=websocket HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        await loop.sock_sendall(client, request.encode())
        await loop.sock_sendall(client, masked(f'40{NAMESPACE},{{"token":"{who}"}}'))
        await until(lambda: any(one.user_id == who for one in self.sockets.connections.values()))
        return client


def masked(text: str, opcode: int = 1) -> bytes:
    """A WebSocket frame as a client sends it, with a mask of zeros."""
    data = text.encode()
    length = struct.pack("!B", 0x80 | len(data)) if len(data) < 126 else struct.pack("!BH", 0x80 | 126, len(data))
    return bytes([0x80 | opcode]) + length + bytes(4) + data


class RawWebSocket:
    """Engine.IO over a WebSocket, packet by packet."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self.websocket = websocket

    async def connect(self, token: str) -> None:
        await self.send(f'40{NAMESPACE},{{"token":"{token}"}}')
        assert (await self.receive()).startswith(f'40{NAMESPACE},{{"sid"')

    async def send(self, packet: str | bytes) -> None:
        if isinstance(packet, str):
            await self.websocket.send_str(packet)
        else:
            await self.websocket.send_bytes(packet)

    async def receive(self) -> str:
        """The next packet; "" at the end."""
        message = await self.websocket.receive(WAIT_SECONDS)
        return message.data if message.type is WSMsgType.TEXT else ""

    async def all(self) -> list[str]:
        """What still comes until the end."""
        packets = []
        while packet := await self.receive():
            packets.append(packet)
        return packets

    async def call(self, name: str, *payload: Any, ack_id: int = 1) -> Any:
        """Send an event and receive its ack, which must be what comes next."""
        await self.send(f"42{NAMESPACE},{ack_id}{json.dumps([name, *payload])}")
        packet = await self.receive()
        start = f"43{NAMESPACE},{ack_id}["
        assert packet.startswith(start), packet
        return json.loads(packet[len(start) - 1 :])[0]


class Poller:
    """Engine.IO over long-polling, request by request."""

    def __init__(self, site: Site, sid: str) -> None:
        self.site = site
        self.sid = sid
        self.query = f"EIO=4&transport=polling&sid={sid}"

    async def get(self) -> str:
        status, text = await self.site.get(self.query)
        assert status == 200, text
        return text

    async def post(self, body: Any, **headers: str) -> int:
        async with self.site.http.post(f"{self.site.url}{PATH}?{self.query}", data=body, headers=headers) as response:
            await response.read()
            return response.status
