"""The stock python-socketio client, on the server's one namespace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Self

import aiohttp
import socketio

from tests.support.recorder import WAIT_SECONDS, Recorder, anything

NAMESPACE = "/encounters"
BOTH_TRANSPORTS = ("polling", "websocket")
GOODBYE_SECONDS = 1.0


class ConnectRefusedError(Exception):
    """The server refused the connection; `data` is what its `connect_error` carried: the REST error object."""

    def __init__(self, data: Any) -> None:
        super().__init__(data)
        self.data = data


class Client:
    """One connection, which does not reconnect by itself. Made by `connect`, ended by `close`."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.events = Recorder()
        self.disconnected = asyncio.Event()
        self._http = http
        self._refusal: Any = None
        self._refused = asyncio.Event()
        self.sio = socketio.AsyncClient(reconnection=False, http_session=http)
        self.sio.on("*", self._receive, namespace=NAMESPACE)
        self.sio.on("connect_error", self._refuse, namespace=NAMESPACE)
        self.sio.on("disconnect", self._disconnect, namespace=NAMESPACE)

    @classmethod
    async def connect(
        cls,
        url: str,
        token: str | None,
        *,
        transports: Sequence[str] = BOTH_TRANSPORTS,
        headers: dict[str, str] | None = None,
        source: str | None = None,
    ) -> Self:
        """Connect with `token` in the connect packet, from the loopback address `source`. ConnectRefusedError."""
        local = None if source is None else (source, 0)
        client = cls(aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=local)))
        connecting = client.sio.connect(
            url,
            headers=headers or {},
            auth={"token": token} if token is not None else None,
            transports=list(transports),
            namespaces=[NAMESPACE],
            wait_timeout=WAIT_SECONDS,
        )
        try:
            await client._finish(connecting)
        except BaseException:
            await client.close()
            raise
        return client

    @property
    def connected(self) -> bool:
        """Whether the connection stands, as far as this end knows."""
        return bool(self.sio.connected)

    @property
    def transport(self) -> str:
        """`polling` or `websocket`, as of now."""
        return str(self.sio.transport())

    async def call(self, event: str, payload: Any = None, timeout: float = WAIT_SECONDS) -> Any:
        """Send an event and wait for its ack, which is returned as it is, whether `ok` or not."""
        return await self.sio.call(event, payload, namespace=NAMESPACE, timeout=timeout)

    async def emit(self, event: str, payload: Any = None) -> None:
        """Send an event that asks for no ack."""
        await self.sio.emit(event, payload, namespace=NAMESPACE)

    async def wait_for(
        self,
        event: str,
        predicate: Callable[[Any], bool] = anything,
        timeout: float = WAIT_SECONDS,
    ) -> Any:
        """See `Recorder.wait_for`."""
        return await self.events.wait_for(event, predicate, timeout)

    async def wait_disconnected(self, timeout: float = WAIT_SECONDS) -> None:
        """Wait until the connection is gone, whoever ended it."""
        async with asyncio.timeout(timeout):
            await self.disconnected.wait()

    async def close(self) -> None:
        """Say goodbye and free everything. May be called again."""
        goodbye = asyncio.create_task(self.sio.disconnect())
        # The stock client waits for its long poll, which the server may leave unanswered.
        await asyncio.wait({goodbye}, timeout=GOODBYE_SECONDS)
        await self._http.close()
        await goodbye
        await self._end()

    async def drop(self) -> None:
        """Cut the line without a goodbye, as a lost network does."""
        await self._http.close()
        await self._end()

    async def _end(self) -> None:
        """Wait for the stock client's tasks. It opens a session of its own to write where ours is closed."""
        if self.sio.eio.queue is not None:
            # Its writer waits half a minute for a packet, where the server closed a polling connection.
            await self.sio.eio.queue.put(None)
        await self.sio.eio.wait()
        if self.sio.eio.ws is not None:
            await self.sio.eio.ws.close()
        if self.sio.eio.http is not None:
            await self.sio.eio.http.close()

    async def _receive(self, event: str, *data: Any) -> None:
        self.events.add(event, data[0] if data else None)

    async def _finish(self, connecting: Coroutine[Any, Any, None]) -> None:
        """Connect; once refused, cut the line, for the stock client would wait out a long poll first."""
        attempt = asyncio.create_task(connecting)
        refused = asyncio.create_task(self._refused.wait())
        try:
            await asyncio.wait({attempt, refused}, return_when=asyncio.FIRST_COMPLETED)
            if self._refused.is_set():
                await self._http.close()
            await attempt
        except socketio.exceptions.ConnectionError as error:
            raise ConnectRefusedError(self._refusal if self._refused.is_set() else str(error)) from None
        finally:
            refused.cancel()
            attempt.cancel()
        if self._refused.is_set():
            raise ConnectRefusedError(self._refusal)

    async def _refuse(self, data: Any) -> None:
        # As the official client has it: `error.data` where there is such, beside `error.message`.
        self._refusal = data["data"] if isinstance(data, dict) and "data" in data else data
        self._refused.set()

    async def _disconnect(self, reason: str) -> None:
        self.disconnected.set()
