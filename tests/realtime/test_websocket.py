"""The WebSocket transport: how it is taken from aiohttp, what is written when, compression, and its end."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader
from aiohttp.web_protocol import RequestHandler

from realtime import frames as frames_module
from realtime.events import Event
from realtime.frames import Bundle, Frame, bundle, event_frame
from realtime.websocket import WebSocket, Writer
from tests.realtime.conftest import StartSite
from tests.support.recorder import WAIT_SECONDS
from tests.support.sockets import PATH, Site, masked
from tests.support.waiting import until


class Transport(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def resume_reading(self) -> None: ...

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_reading(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def abort(self) -> None:
        self.aborted = True


class Owner:
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.losses = 0
        self.cuts = 0

    def heard(self, websocket: WebSocket, text: str) -> None:
        self.texts.append(text)

    def lost(self, websocket: WebSocket) -> None:
        self.losses += 1

    def stuffed(self, websocket: WebSocket) -> None:
        self.cuts += 1


def opened(owner: Owner, writer: Writer, *, most_unsent_bytes: int = 100) -> tuple[WebSocket, Transport]:
    websocket, transport = WebSocket(owner, writer, most_bytes=100, most_unsent_bytes=most_unsent_bytes), Transport()
    websocket.connection_made(transport)
    websocket.begin()
    return websocket, transport


# What is relied on of aiohttp


class Queue(WebSocketDataQueue):
    def __init__(self) -> None:
        self.came: list[Any] = []

    def feed_data(self, message: Any, size: int) -> None:
        self.came.append((message.type, message.data, size))

    def set_exception(self, error: BaseException, cause: BaseException | None = None) -> None:
        self.came.append(error)


def test_the_reader_hands_out_messages_errors_and_frames_at_once() -> None:
    payloads: list[Any] = []

    class Reader(WebSocketReader):
        def _handle_frame(self, fin: bool, opcode: int, payload: Any, compressed: int) -> None:
            payloads.append(payload)
            super()._handle_frame(fin, opcode, payload, compressed)

    queue = Queue()
    reader = Reader(queue, 100, False, True)
    reader.feed_data(masked("é") + masked("", opcode=9))
    reader.feed_data(b"\x81\x02hi")
    assert queue.came == [(WSMsgType.TEXT, "é", 2), (WSMsgType.PING, b"", 0), (WSMsgType.TEXT, "hi", 2)]
    assert [type(one) for one in payloads] == [bytearray, bytearray, bytes], "what was masked can be told by its type"
    reader.feed_data(b"\xff\x80")
    assert queue.came[-1].code == 1002
    assert WebSocketReader.__module__ == "aiohttp._websocket.reader_c", "frames are read in C"


async def test_aiohttp_lets_go_of_a_connection_without_closing_it() -> None:
    app = web.Application()
    runner = web.AppRunner(app)
    await runner.setup()
    assert runner.server is not None
    handler = runner.server()
    assert isinstance(handler, RequestHandler)
    transport = Transport()
    handler.connection_made(transport)
    await asyncio.sleep(0)
    assert runner.server.connections == [handler]
    assert handler._message_tail == b""
    handler.transport = None
    handler.connection_lost(None)
    await until(lambda: not runner.server.connections)  # type: ignore[union-attr]
    assert not transport.closed
    await runner.cleanup()


async def test_a_websocket_is_no_connection_of_aiohttps_any_more(site: Site) -> None:
    client = await site.websocket()
    assert (await client.call("echo"))["ok"]
    [runner] = [one for one in site._runners if one.server is not None]
    assert runner.server is not None
    await until(lambda: not runner.server.connections)  # type: ignore[union-attr]
    assert (await client.call("echo"))["ok"]


# What is written


async def test_what_comes_in_one_turn_of_the_loop_is_written_at_once() -> None:
    writer = Writer()
    websocket, transport = opened(Owner(), writer)
    for text in (b"4a", b"4b", b"4c"):
        websocket.write(Frame(text))
    assert transport.written == []
    await asyncio.sleep(0)
    assert transport.written == [b"\x81\x024a\x81\x024b\x81\x024c"]


def may_go_now(websocket: WebSocket) -> bool:
    return websocket.now is not None


async def test_what_may_go_now_overtakes_nothing() -> None:
    websocket, transport = opened(Owner(), Writer())
    assert websocket.now is not None
    websocket.now(b"1")
    assert transport.written == [b"1"]
    websocket.write(Frame(b"4b"))
    assert not may_go_now(websocket), "something waits before it"
    await asyncio.sleep(0)
    assert transport.written[1:] == [b"\x81\x024b"]
    assert may_go_now(websocket)
    websocket.close()
    assert not may_go_now(websocket)


async def test_what_is_compressed_for_some_does_not_go_now() -> None:
    websocket = WebSocket(Owner(), Writer(), most_bytes=100, most_unsent_bytes=100, deflate=True)
    websocket.connection_made(Transport())
    assert websocket.now is None


async def test_who_does_not_read_is_written_to_once_more_and_then_told_of() -> None:
    owner = Owner()
    websocket, transport = opened(owner, Writer())
    websocket.write(Frame(b"4" + b"x" * 500))
    await asyncio.sleep(0)
    assert len(transport.written) == 1, "one frame may be larger than the bound"
    websocket.pause_writing()  # as a transport says that the bound is passed
    assert websocket.now is None
    websocket.write(Frame(b"4z"))
    await asyncio.sleep(0)
    assert (owner.cuts, len(transport.written)) == (1, 1)
    websocket.resume_writing()
    websocket.write(Frame(b"4y"))
    await asyncio.sleep(0)
    assert (owner.cuts, len(transport.written)) == (1, 2)


async def test_without_a_bound_nobody_is_told_of() -> None:
    owner = Owner()
    websocket, transport = opened(owner, Writer(), most_unsent_bytes=0)
    websocket.pause_writing()
    websocket.write(Frame(b"4y"))
    await asyncio.sleep(0)
    assert (owner.cuts, len(transport.written)) == (0, 1)


async def test_one_that_cannot_be_written_to_is_aborted_and_the_others_are_written_to() -> None:
    writer = Writer()
    broken, broken_transport = opened(Owner(), writer)
    sound, transport = opened(Owner(), writer)
    broken_transport.write = None  # type: ignore[assignment,method-assign]  # so that it fails
    broken.write(Frame(b"4a"))
    sound.write(Frame(b"4a"))
    await asyncio.sleep(0)
    assert broken_transport.aborted
    assert transport.written == [b"\x81\x024a"]


async def test_nothing_is_heard_or_written_after_the_connection_was_lost() -> None:
    owner = Owner()
    websocket, transport = opened(owner, Writer())
    websocket.write(Frame(b"4a"))
    websocket.connection_lost(None)
    websocket.write(Frame(b"4b"))
    assert websocket.now is None
    websocket.data_received(masked("4d"))
    websocket.close()
    await asyncio.sleep(0)
    assert (transport.written, owner.texts, owner.losses, websocket.open) == ([], [], 1, False)


# Compression


async def deflating(site: Site, offer: str) -> tuple[aiohttp.ClientWebSocketResponse, str]:
    headers = {"Sec-WebSocket-Extensions": offer} if offer else {}
    client = await site.http.ws_connect(f"{site.url}{PATH}?EIO=4&transport=websocket", headers=headers)
    assert (await client.receive()).data.startswith("0{")
    return client, client._response.headers.get("Sec-WebSocket-Extensions", "")


ACCEPTED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", ACCEPTED),
        ("permessage-deflate; client_max_window_bits", ACCEPTED),
        ("x-webkit-deflate-frame, permessage-deflate; client_max_window_bits=10", ACCEPTED),
        ("permessage-deflate; server_max_window_bits=9, permessage-deflate", ACCEPTED),
        ("permessage-deflate; server_max_window_bits=9", ""),
        ("permessage-deflated", ""),
        ("", ""),
    ],
)
async def test_compression_is_taken_as_it_is_offered(start_site: StartSite, offer: str, answer: str) -> None:
    site = await start_site(deflate=True)
    client, said = await deflating(site, offer)
    assert said == answer
    await client.close()


async def test_an_event_is_compressed_once_for_everybody_who_reads_compressed(
    start_site: StartSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await start_site(deflate=True, handshakes_per_second=0)
    packed = 0

    def deflated_frame(payload: bytes) -> bytes:
        nonlocal packed
        packed += 1
        return deflate(payload)

    deflate = frames_module._deflated_frame
    monkeypatch.setattr(frames_module, "_deflated_frame", deflated_frame)
    clients = []
    for who in range(3):
        client = await site.http.ws_connect(f"{site.url}{PATH}?EIO=4&transport=websocket", compress=15)
        assert client.compress == 15
        await client.receive()
        await client.send_str(f'40/encounters,{{"token":"{who}"}}')
        await client.receive()
        clients.append(client)
    plain = await site.websocket("plain")
    packed = 0
    long, short = (event_frame(Event(name="news", data={"text": text})) for text in ("lesson " * 100, "hi"))
    for connection in site.door.connections:
        connection.send(bundle([long, short]))
    for client in clients:
        assert [(await client.receive()).data for _ in range(2)] == [long.text, short.text]
    assert [await plain.receive() for _ in range(2)] == [long.text, short.text]
    assert packed == 1, "and what is short is not"
    await clients[0].send_str('42/encounters,1["echo",{"text":"' + "lesson " * 100 + '"}]')
    assert json.loads((await clients[0].receive()).data.partition("1")[2])[0]["ok"]
    for client in clients:
        await client.close()


def test_what_is_compressed_is_shorter_and_a_bundle_of_it_is_joined() -> None:
    long, short = Frame(b"4" + b"lesson " * 100), Frame(b"4hi")
    assert len(long.deflated) < len(long.wire) / 5
    assert long.deflated is long.deflated
    assert short.deflated == short.wire
    both = bundle([long, short])
    assert isinstance(both, Bundle)
    assert both.deflated == long.deflated + short.wire
    assert bundle([long]) is long


@pytest.mark.parametrize(
    ("packed", "code"),
    [
        (b"\xff" * 20, 1007),
        pytest.param(None, 1009, id="a bomb"),
    ],
)
async def test_what_does_not_unpack_closes_the_connection_and_fills_no_log(
    start_site: StartSite, packed: bytes | None, code: int
) -> None:
    site = await start_site(deflate=True)
    if packed is None:
        compressor = zlib.compressobj(wbits=-15)
        packed = compressor.compress(b"4" + b"x" * 65_536) + compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]
    client, _ = await deflating(site, "permessage-deflate")
    transport = client._conn.transport if client._conn is not None else None
    assert transport is not None
    head = bytes([0xC1]) + (bytes([0x80 | len(packed)]) if len(packed) < 126 else b"\xfe" + len(packed).to_bytes(2))
    transport.write(head + bytes(4) + packed)
    ending = await client.receive(5)
    assert (ending.type, ending.data) == (WSMsgType.CLOSE, code)
    await until(lambda: site.empty)


# The end


async def test_a_server_that_ends_waits_for_those_who_take_leave(site: Site) -> None:
    clients = [await site.websocket(f"person {number}") for number in range(5)]
    for connection in site.door.connections:
        site.door.tell(connection, 1, padding=100_000)
    await site.sockets.move_all(0)
    assert site.empty
    ending = asyncio.create_task(site.sockets.shutdown())
    for client in clients:
        assert [packet[:2] for packet in await client.all()] == ["42", "42", "1"]
    async with asyncio.timeout(WAIT_SECONDS):
        await ending
