"""WebSockets as RFC 6455 has them, byte for byte: what the Autobahn test suite asks of a server.

Each test ends with nothing left behind of its clients, and with somebody else on the server undisturbed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import ExitStack, suppress

import psutil
import pytest

from realtime import websocket
from tests.realtime.conftest import StartSite
from tests.support.recorder import WAIT_SECONDS
from tests.support.sockets import PATH, Site
from tests.support.waiting import until
from tests.support.websocket_frames import (
    ACCEPT,
    NO_CODE,
    Arrived,
    Op,
    Wire,
    closing,
    enter,
    fragments,
    frame,
    handshake,
    header,
)

#: Bytes in one message: the contract's limit.
LIMIT = 65_536
#: Bytes that a worker may grow by while somebody floods it with FLOOD_BYTES.
GROWTH_BYTES = 12 * 1024 * 1024
FLOOD_BYTES = 28 * 1024 * 1024

OpenWire = Callable[..., Awaitable[Wire]]
Leave = Callable[[Wire], None]

WAYS_TO_LEAVE = [Wire.close, Wire.finish, Wire.reset]


@pytest.fixture
async def site(start_site: StartSite) -> AsyncIterator[Site]:
    """A server, and bob on it, whom nothing may disturb."""
    site = await start_site(handshakes_per_second=0, events_per_second=0)
    bob = await site.websocket("bob")
    yield site
    await until(lambda: alone(site))
    assert (await bob.call("echo"))["ok"]
    await bob.websocket.close()
    await until(lambda: site.empty and open_sockets(site) == 0)


@pytest.fixture
def no_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An end that both sides have agreed on waits for no timer."""
    monkeypatch.setattr(websocket, "CLOSE_SECONDS", 3_600.0)


@pytest.fixture
def open_wire(site: Site) -> Iterable[OpenWire]:
    """Opens TCP connections to the server, which end with the test."""
    with ExitStack() as ends:

        async def open_wire(*, small: bool = False) -> Wire:
            wire = await Wire.open(site.port, small=small)
            ends.callback(wire.close)
            return wire

        yield open_wire


@pytest.fixture
async def wire(open_wire: OpenWire) -> Wire:
    """ann, who has shaken hands and entered the namespace."""
    wire = await open_wire()
    await enter(wire)
    return wire


def alone(site: Site) -> bool:
    """Whether bob is the only one on the server."""
    return (
        len(site.sockets.eio.sockets)
        == len(site.sockets.connections)
        == len(site.sockets.environ)
        == 1
        == (open_sockets(site))
    )


def open_sockets(site: Site) -> int:
    """The server's ends of TCP connections, in whatever state."""
    connections = psutil.Process().net_connections("tcp4")
    return sum(one.laddr.port == site.port and bool(one.raddr) for one in connections)


def echo(text: str = "x", ack_id: int = 1) -> bytes:
    """The packet of an event whose ack says the same."""
    return f"42/encounters,{ack_id}{json.dumps(['echo', text], ensure_ascii=False)}".encode()


def echo_of_size(size: int) -> bytes:
    return echo("x" * (size - len(echo(""))))


async def assert_heard(wire: Wire, packet: bytes) -> None:
    """Assert that the ack of `packet` is what comes next."""
    event, _, body = packet.decode().partition("[")
    ack, _, answer = (await wire.text()).partition("[")
    assert ack == event.replace("42", "43", 1)
    assert json.loads(f"[{answer}")[0]["payload"] == json.loads(f"[{body}")[1:]


async def assert_hears(wire: Wire, packet: bytes, *pieces: bytes | memoryview) -> None:
    """Send the pieces, each in a TCP segment, and assert that the server hears `packet`, and the next one."""
    await wire.send(*pieces)
    await assert_heard(wire, packet)
    await wire.send(frame(echo("next", 2)))
    await assert_heard(wire, echo("next", 2))


async def assert_fails(site: Site, wire: Wire, code: int, *pieces: bytes) -> None:
    """Send the pieces, an event in the segment of the last, and assert that the server hears none and closes."""
    await wire.send(*pieces[:-1], pieces[-1] + frame(echo("too late")))
    assert await wire.end() == code
    assert site.door.events == []


# The handshake


async def test_a_handshake_is_answered_with_the_proof_that_it_was_understood(open_wire: OpenWire) -> None:
    wire = await open_wire()
    await wire.send(handshake())
    answer = await wire.answer()
    assert answer.status == 101
    assert answer.headers["sec-websocket-accept"] == ACCEPT
    assert answer.headers["upgrade"].lower() == "websocket"
    assert answer.headers["connection"].lower() == "upgrade"
    assert not {"content-length", "transfer-encoding"} & set(answer.headers), "frames are what follows"
    assert (await wire.text()).startswith("0{")


@pytest.mark.parametrize(
    "headers",
    [
        {"Upgrade": "WebSocket", "Connection": "upgrade"},
        {"Connection": "keep-alive, Upgrade"},
        {"Upgrade": None, "UPGRADE": "websocket", "Connection": None, "connection": "Upgrade"},
        {"Sec-WebSocket-Key": f"  {'dGhlIHNhbXBsZSBub25jZQ=='}  "},
    ],
)
async def test_a_handshake_is_understood_in_every_spelling(open_wire: OpenWire, headers: dict[str, str | None]) -> None:
    wire = await open_wire()
    await wire.send(handshake(headers=headers))
    answer = await wire.answer()
    assert (answer.status, answer.headers.get("sec-websocket-accept")) == (101, ACCEPT)


@pytest.mark.parametrize(
    "request_",
    [
        *(
            pytest.param(handshake(headers={name: value}), id=f"{name}: {value}")
            for name, values in {
                "Sec-WebSocket-Key": [None, "", "short", "A" * 20, "A" * 24, "!" * 22 + "==", "AAAA AAAA"],
                "Sec-WebSocket-Version": [None, "", "0", "7", "8", "12", "14", "1 3", "x"],
                "Upgrade": [None, "", "h2c", "websockets"],
                "Connection": [None, "close", "keep-alive"],
            }.items()
            for value in values
        ),
        *(pytest.param(handshake(method=method), id=method) for method in ("POST", "PUT", "HEAD", "DELETE")),
        *(pytest.param(handshake(version=version), id=version) for version in ("HTTP/1.0", "HTTP/0.9")),
    ],
)
async def test_a_handshake_that_is_none_is_refused(site: Site, open_wire: OpenWire, request_: bytes) -> None:
    wire = await open_wire()
    await wire.send(request_)
    assert 400 <= (await wire.answer()).status < 500
    assert len(site.sockets.eio.sockets) == 1


async def test_whoever_speaks_another_version_is_told_which_one_is_spoken_here(open_wire: OpenWire) -> None:
    wire = await open_wire()
    await wire.send(handshake(headers={"Sec-WebSocket-Version": "12"}))
    answer = await wire.answer()
    assert answer.status in (400, 426)
    assert answer.headers.get("sec-websocket-version") == "13"


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover, permessage-deflate",
        "x-webkit-deflate-frame",
        ";;=,,",
    ],
)
async def test_no_offered_extension_is_accepted(site: Site, open_wire: OpenWire, offer: str) -> None:
    wire = await open_wire()
    await wire.send(handshake(headers={"Sec-WebSocket-Extensions": offer}))
    answer = await wire.answer()
    assert answer.status == 101
    assert "sec-websocket-extensions" not in answer.headers
    await assert_fails(site, wire, 1002, frame(echo(), rsv=4))


async def test_no_offered_subprotocol_is_accepted(open_wire: OpenWire) -> None:
    wire = await open_wire()
    await wire.send(handshake(headers={"Sec-WebSocket-Protocol": "chat, superchat"}))
    answer = await wire.answer()
    assert answer.status == 101
    assert "sec-websocket-protocol" not in answer.headers


async def test_a_handshake_may_come_byte_by_byte(open_wire: OpenWire) -> None:
    wire = await open_wire()
    await wire.send(*(bytes([byte]) for byte in handshake()))
    assert (await wire.answer()).headers["sec-websocket-accept"] == ACCEPT
    assert (await wire.text()).startswith("0{")


FIRST_FRAMES = frame('40/encounters,{"token":"ann"}') + frame(echo())


async def assert_first_frames_heard(wire: Wire) -> None:
    assert (await wire.answer()).status == 101
    assert (await wire.text()).startswith("0{")
    assert (await wire.text()).startswith("40/encounters,")
    await assert_heard(wire, echo())


@pytest.mark.parametrize("behind", [0, 1, 2, 5, 6, 20, len(FIRST_FRAMES) - 1, len(FIRST_FRAMES)])
async def test_frames_may_begin_in_the_segment_of_the_handshake(open_wire: OpenWire, behind: int) -> None:
    wire = await open_wire()
    await wire.send(handshake() + FIRST_FRAMES[:behind], FIRST_FRAMES[behind:])
    await assert_first_frames_heard(wire)


async def test_a_ping_in_the_segment_of_the_handshake_is_answered(open_wire: OpenWire) -> None:
    wire = await open_wire()
    await wire.send(handshake() + frame("hello", Op.PING))
    assert (await wire.answer()).status == 101
    arrived = [await wire.frame(), await wire.frame()]
    assert Arrived(Op.PONG, b"hello") in arrived


@pytest.mark.parametrize(
    ("frames", "code"),
    [(closing(1000), 1000), (frame(rsv=4), 1002), (frame(b"4\xff"), 1007), (header(LIMIT + 1), 1009)],
)
async def test_an_end_in_the_segment_of_the_handshake_is_an_end(open_wire: OpenWire, frames: bytes, code: int) -> None:
    wire = await open_wire()
    await wire.send(handshake() + frames)
    assert (await wire.answer()).status == 101
    assert await wire.end() == code


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "one after the other"])
async def test_a_websocket_may_follow_other_requests_on_its_connection(open_wire: OpenWire, at_once: bool) -> None:
    wire = await open_wire()
    other = f"GET {PATH}?EIO=3 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    await wire.send(other + handshake() + FIRST_FRAMES if at_once else other)
    answer = await wire.answer()
    assert answer.status == 400
    await wire.body(int(answer.headers["content-length"]))
    if not at_once:
        await wire.send(handshake() + FIRST_FRAMES)
    await assert_first_frames_heard(wire)


async def test_a_refused_handshake_leaves_its_connection_to_the_next_request(open_wire: OpenWire) -> None:
    wire = await open_wire()
    await wire.send(handshake(sid="nobody"))
    answer = await wire.answer()
    assert answer.status == 400
    await wire.body(int(answer.headers["content-length"]))
    if answer.headers.get("connection", "").lower() == "close":
        return
    await wire.send(handshake() + FIRST_FRAMES)
    await assert_first_frames_heard(wire)


@pytest.mark.parametrize("leave", WAYS_TO_LEAVE)
@pytest.mark.parametrize("sent", [b"", b"G", handshake()[:60], handshake()[:-1]], ids=len)
async def test_half_a_handshake_leaves_nothing_behind(
    site: Site, open_wire: OpenWire, sent: bytes, leave: Leave
) -> None:
    wire = await open_wire()
    await wire.send(sent)
    await until(lambda: open_sockets(site) == 2)
    leave(wire)
    await until(lambda: alone(site))


@pytest.mark.parametrize("leave", WAYS_TO_LEAVE)
@pytest.mark.parametrize("turns", range(6))
async def test_a_client_that_goes_right_behind_its_handshake_leaves_nothing_behind(
    site: Site, open_wire: OpenWire, leave: Leave, turns: int
) -> None:
    wires = [await open_wire() for _ in range(3)]
    for number, wire in enumerate(wires):
        await wire.send(handshake() + FIRST_FRAMES[: number * 30])
    for _ in range(turns):
        await asyncio.sleep(0)
    for wire in wires:
        leave(wire)
    await until(lambda: alone(site))


# Frames


@pytest.mark.parametrize("size", [30, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536])
async def test_a_message_of_any_length_is_heard(wire: Wire, size: int) -> None:
    packet = echo_of_size(size)
    assert len(packet) == size
    await assert_hears(wire, packet, frame(packet))


@pytest.mark.parametrize("size", [124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537])
async def test_an_answer_of_any_length_says_how_long_it_is(wire: Wire, size: int) -> None:
    await wire.send(frame(echo("")))
    packet = echo("x" * (size - len(await wire.text())))
    await wire.send(frame(packet) * 2)
    for _ in range(2):
        arrived = await wire.frame()
        assert arrived is not None
        assert len(arrived.payload) == size


@pytest.mark.parametrize("mask", [bytes(4), b"\xff\xff\xff\xff", b"\x00\x00\x00\x01", b"\x81\x82\x83\x84"])
async def test_any_mask_is_taken_off(wire: Wire, mask: bytes) -> None:
    packet = echo("any mask")
    await assert_hears(wire, packet, frame(packet, mask=mask))


@pytest.mark.parametrize("opcode", [Op.TEXT, Op.BINARY])
@pytest.mark.parametrize("declared", [LIMIT + 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1])
async def test_a_message_over_the_limit_is_refused_before_it_is_read(
    site: Site, wire: Wire, declared: int, opcode: int
) -> None:
    await wire.send(header(declared, opcode))
    assert await wire.end() == 1009
    assert site.door.events == []


@pytest.mark.parametrize("declared", [2**63, 2**63 + 1, 2**64 - 1])
async def test_a_length_that_cannot_be_is_refused(wire: Wire, declared: int) -> None:
    await wire.send(header(declared))
    assert await wire.end() in (1002, 1009)


@pytest.mark.parametrize("pieces", [[40_000, 25_537], [65_536, 1], [1, 65_536], [32_768, 0, 32_768, 0, 1], [0, 65_537]])
async def test_the_limit_is_that_of_all_fragments_together(wire: Wire, pieces: list[int]) -> None:
    *frames, _ = fragments([b"6" * size for size in pieces])
    await wire.send(*frames, header(pieces[-1], Op.CONTINUATION))
    assert await wire.end() == 1009


async def test_control_frames_do_not_count_towards_the_limit(wire: Wire) -> None:
    packet = echo_of_size(LIMIT)
    pong = frame(b"x" * 125, Op.PONG)
    frames = fragments(packet[start : start + 8_192] for start in range(0, LIMIT, 8_192))
    await assert_hears(wire, packet, pong.join(frames))


async def test_frames_may_come_byte_by_byte(wire: Wire) -> None:
    packet = echo("byte by byte")
    together = frame("ping", Op.PING) + b"".join(fragments([packet[:10], b"", packet[10:]]))
    await wire.send(*(bytes([byte]) for byte in together))
    assert await wire.frame() == Arrived(Op.PONG, b"ping")
    await assert_heard(wire, packet)


async def test_frames_may_be_cut_anywhere(wire: Wire) -> None:
    packet = echo("cut anywhere, and long enough for a length of two bytes" + "." * 80)
    together = frame("ping", Op.PING) + b"".join(fragments([packet[:9], packet[9:]])) + frame(packet)
    for cut in range(1, len(together)):
        await wire.send(together[:cut], together[cut:])
        assert await wire.frame() == Arrived(Op.PONG, b"ping")
        await assert_heard(wire, packet)
        await assert_heard(wire, packet)


async def test_many_frames_in_one_segment_are_heard_in_order(wire: Wire) -> None:
    packets = [echo(f"number {number}", number) for number in range(1_000)]
    await wire.send(b"".join(frame(packet) for packet in packets))
    for packet in packets:
        await assert_heard(wire, packet)


async def test_large_messages_one_behind_the_other_are_heard_in_order(wire: Wire) -> None:
    packets = [echo(f"{number}" * 60_000, number) for number in range(10)]
    sending = asyncio.create_task(wire.send(b"".join(frame(packet) for packet in packets)))
    for packet in packets:
        await assert_heard(wire, packet)
    await sending


RESERVED = [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]
CONTROL = [Op.CLOSE, Op.PING, Op.PONG]
START = frame("4", fin=False)
END = frame("", Op.CONTINUATION)

VIOLATIONS: dict[str, list[bytes]] = {
    "a text that is not masked": [frame(echo(), mask=None)],
    "an empty binary that is not masked": [frame(b"", Op.BINARY, mask=None)],
    "a ping that is not masked": [frame("x", Op.PING, mask=None)],
    "a close frame that is not masked": [frame(b"\x03\xe8", Op.CLOSE, mask=None)],
    "a fragment that is not masked": [START, frame("6", Op.CONTINUATION, mask=None)],
    **{f"reserved bits {rsv} on a text": [frame(echo(), rsv=rsv)] for rsv in range(1, 8)},
    **{f"reserved bits {rsv} on a ping": [frame("x", Op.PING, rsv=rsv)] for rsv in (1, 2, 4)},
    **{f"reserved bits {rsv} on a close frame": [frame(b"\x03\xe8", Op.CLOSE, rsv=rsv)] for rsv in (1, 2, 4)},
    **{f"reserved bits {rsv} on a fragment": [START, frame("", Op.CONTINUATION, rsv=rsv)] for rsv in (1, 2, 4)},
    **{f"opcode {opcode}": [frame("x", opcode)] for opcode in RESERVED},
    **{f"opcode {opcode}, empty": [frame("", opcode)] for opcode in (3, 11)},
    **{f"opcode {opcode} inside a message": [START, frame("x", opcode)] for opcode in (3, 15)},
    "a continuation of nothing": [frame(echo(), Op.CONTINUATION)],
    "an empty continuation of nothing": [END],
    "a continuation of nothing that goes on": [frame(echo(), Op.CONTINUATION, fin=False), END],
    "a continuation behind the end": [frame("6", fin=False), END, frame(echo(), Op.CONTINUATION)],
    "a continuation behind a whole message": [frame("6"), frame(echo(), Op.CONTINUATION)],
    "a text inside a message": [START, frame(echo())],
    "a binary inside a message": [START, frame("x", Op.BINARY)],
    "a text that goes on inside a message": [START, START, END],
    "a text inside a binary": [frame("x", Op.BINARY, fin=False), frame(echo())],
    "a text inside a message of which nothing came yet": [frame("", fin=False), frame(echo())],
    "a binary inside a message of which nothing came yet": [frame("", fin=False), frame(b"", Op.BINARY)],
    "a text that goes on inside a message of which nothing came yet": [frame("", fin=False), START, END],
    **{f"a {opcode.name} in fragments": [frame(b"\x03\xe8", opcode, fin=False), END] for opcode in CONTROL},
    **{f"a {opcode.name} in fragments inside a message": [START, frame("", opcode, fin=False)] for opcode in CONTROL},
    **{f"a {opcode.name} of 126 bytes": [frame(b"\x03\xe8" + b"x" * 124, opcode)] for opcode in CONTROL},
    **{f"a {opcode.name} of 65 536 bytes": [header(65_536, opcode)] for opcode in CONTROL},
}


@pytest.mark.parametrize("frames", VIOLATIONS.values(), ids=VIOLATIONS)
async def test_what_breaks_the_protocol_closes_with_1002(site: Site, wire: Wire, frames: list[bytes]) -> None:
    await assert_fails(site, wire, 1002, b"".join(frames))


# Messages in fragments


@pytest.mark.parametrize(
    "cuts",
    [[10], [0], [0, 0, 0], [5, 5, 5], [1, 2, 3, 4], list(range(1, 28)), [28], [0, 14, 14, 28, 28]],
    ids=str,
)
async def test_a_message_in_fragments_is_heard_as_one(wire: Wire, cuts: list[int]) -> None:
    packet = echo("text")
    pieces = [packet[start:end] for start, end in zip([0, *cuts], [*cuts, len(packet)], strict=True)]
    frames = fragments(pieces)
    await assert_hears(wire, packet, b"".join(frames))
    await assert_hears(wire, packet, *frames)


async def test_a_message_may_come_in_very_many_fragments(wire: Wire) -> None:
    packet = echo_of_size(10_000)
    frames = fragments(packet[at : at + 1] for at in range(len(packet)))
    await assert_hears(wire, packet, b"".join(frames))
    nothing = frame(b"", Op.CONTINUATION, fin=False)
    await assert_hears(wire, packet, frames[0] + nothing * 10_000 + b"".join(frames[1:]))


async def test_pings_inside_a_message_are_answered_before_it_ends(wire: Wire) -> None:
    packet = echo("in between")
    *frames, last = fragments([packet[:3], b"", packet[3:9], packet[9:]])
    for number, fragment in enumerate(frames):
        await wire.send(fragment + frame(f"ping {number}", Op.PING) + frame("no ping", Op.PONG))
        assert await wire.frame() == Arrived(Op.PONG, f"ping {number}".encode())
    await assert_hears(wire, packet, last)


async def test_a_close_frame_inside_a_message_ends_the_connection(site: Site, wire: Wire) -> None:
    await wire.say_goodbye(START + closing(1001))
    assert await wire.end() == 1001
    assert site.door.events == []


# Pings


@pytest.mark.parametrize(
    "payload", [b"", b"x", b"hello", b"\x00\xff\xfe\xfd", b"x" * 125], ids=lambda one: repr(one[:9])
)
async def test_a_ping_is_answered_with_what_it_says(wire: Wire, payload: bytes) -> None:
    await wire.send(frame(payload, Op.PING))
    assert await wire.frame() == Arrived(Op.PONG, payload)
    await assert_hears(wire, echo(), frame(echo()))


async def test_pongs_that_nobody_asked_for_are_passed_over(wire: Wire) -> None:
    await assert_hears(wire, echo(), frame("", Op.PONG) + frame(b"\xff" * 125, Op.PONG) + frame(echo()))


async def test_many_pings_in_one_segment_are_answered_in_order_at_least_the_last(wire: Wire) -> None:
    count = 5_000
    await wire.send(b"".join(frame(f"{number}", Op.PING) for number in range(count)))
    numbers = [-1]
    while numbers[-1] != count - 1:
        arrived = await wire.frame()
        assert arrived is not None
        assert arrived.opcode == Op.PONG
        numbers.append(int(arrived.payload))
    assert numbers == sorted(set(numbers))
    await assert_hears(wire, echo(), frame(echo()))


# Who sends too much


def resident_bytes() -> int:
    return psutil.Process().memory_info().rss


async def test_pings_of_a_client_that_reads_no_answers_do_not_pile_up(open_wire: OpenWire) -> None:
    wire = await open_wire(small=True)
    await enter(wire)
    ping = frame(b"x" * 125, Op.PING)
    flood = ping * (FLOOD_BYTES // len(ping))
    before = resident_bytes()
    with suppress(ConnectionError):
        await wire.push(flood)
    assert resident_bytes() - before < GROWTH_BYTES


async def test_whoever_sends_faster_than_they_are_served_is_held_back_and_heard(
    site: Site, open_wire: OpenWire
) -> None:
    wire = await open_wire()
    await enter(wire)
    await wire.send(frame('42/encounters,["wait"]'))
    await until(lambda: site.door.busy == 1)
    event = f'42/encounters,["echo",{{"text":"{"x" * 60_000}"}}]'
    flood = frame(event) * (FLOOD_BYTES // len(event))
    before = resident_bytes()
    taken = await wire.push(flood)
    assert resident_bytes() - before < GROWTH_BYTES
    site.door.gate.set()
    await assert_hears(wire, echo(), memoryview(flood)[taken:], frame(echo()))
    assert len(site.door.events) == FLOOD_BYTES // len(event) + 3


# UTF-8

NOT_UTF8 = [
    b"\x80",
    b"\xbf",
    b"\x80\xbf\x80",
    b"\xff",
    b"\xfe",
    b"\xc0\xaf",
    b"\xc1\xbf",
    b"\xc0\x80",
    b"\xe0\x80\xaf",
    b"\xe0\x9f\xbf",
    b"\xf0\x80\x80\xaf",
    b"\xf0\x8f\xbf\xbf",
    b"\xf8\x80\x80\x80\xaf",
    b"\xfc\x80\x80\x80\x80\xaf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xc3",
    b"\xe2\x82",
    b"\xf0\x9f\x98",
    b"\xc3x",
    b"\xe2\x82x",
    b"\xf4\x90\x80\x80",
    b"\xf7\xbf\xbf\xbf",
    b"\xfb\xbf\xbf\xbf\xbf",
    b"\xfd\xbf\xbf\xbf\xbf\xbf",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
]
UTF8 = [
    "κόσμε",
    "\x7f",
    "\x80\u07ff",
    "\u0800\ud7ff\ue000\ufffd",
    "\ufeff\ufffe\uffff",
    "\U00010000\U0001fffe\U0010ffff",
    "😀" * 40,
]


@pytest.mark.parametrize("bad", NOT_UTF8, ids=bytes.hex)
async def test_a_text_that_is_not_utf8_closes_with_1007(site: Site, wire: Wire, bad: bytes) -> None:
    await assert_fails(site, wire, 1007, frame(echo("?").replace(b"?", bad)))


@pytest.mark.parametrize("bad", [b"\xff", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3"], ids=bytes.hex)
async def test_a_text_that_is_not_utf8_closes_with_1007_in_fragments_too(site: Site, wire: Wire, bad: bytes) -> None:
    packet = echo("?").replace(b"?", bad)
    await assert_fails(site, wire, 1007, b"".join(fragments(packet[at : at + 1] for at in range(len(packet)))))


async def test_a_text_that_ends_within_a_character_closes_with_1007(site: Site, wire: Wire) -> None:
    await assert_fails(site, wire, 1007, *fragments([b"4x", "é".encode()[:1]]))


@pytest.mark.parametrize("text", UTF8, ids=ascii)
async def test_every_character_is_heard_and_said_also_cut_by_fragments(wire: Wire, text: str) -> None:
    packet = echo(text)
    await assert_hears(wire, packet, frame(packet))
    for at in range(len(packet)):
        await wire.send(b"".join(fragments([packet[:at], packet[at:]])))
        await assert_heard(wire, packet)
    await assert_hears(wire, packet, b"".join(fragments(packet[at : at + 1] for at in range(len(packet)))))


# Binary messages


async def test_binary_messages_are_passed_over(wire: Wire) -> None:
    for message in (b"", b"\xff", b"4", echo("not text"), b"\x80" * LIMIT):
        await assert_hears(wire, echo(), frame(message, Op.BINARY) + frame(echo()))
    await assert_hears(wire, echo(), *fragments([b"\xff", b"", b"4\xc3"], Op.BINARY), frame(echo()))


# The end


@pytest.mark.usefixtures("no_timers")
@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
async def test_a_close_frame_is_answered_with_its_code(site: Site, wire: Wire, code: int) -> None:
    await wire.say_goodbye(closing(code))
    async with asyncio.timeout(WAIT_SECONDS):
        assert await wire.end() == code
        await until(lambda: alone(site))
    assert site.door.gone == [("ann", "transport close")]


@pytest.mark.parametrize("reason", ["x", "κόσμε", "x" * 123, "😀" * 30])
async def test_a_close_frame_may_give_a_reason(wire: Wire, reason: str) -> None:
    await wire.say_goodbye(closing(1000, reason.encode()))
    assert await wire.end() == 1000


async def test_a_close_frame_without_a_code_is_answered(wire: Wire) -> None:
    await wire.say_goodbye(closing(None))
    assert await wire.end() in (1000, NO_CODE)


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999])
async def test_a_code_that_nobody_may_send_closes_with_1002(wire: Wire, code: int) -> None:
    await wire.say_goodbye(closing(code))
    assert await wire.end() == 1002


async def test_half_a_code_closes_with_1002(wire: Wire) -> None:
    await wire.say_goodbye(frame(b"\x03", Op.CLOSE))
    assert await wire.end() == 1002


@pytest.mark.parametrize("bad", [b"\xff", b"\xed\xa0\x80", b"\xc3", b"x" * 100 + b"\xf4\x90\x80\x80"], ids=bytes.hex)
async def test_a_reason_that_is_not_utf8_closes_with_1007(wire: Wire, bad: bytes) -> None:
    await wire.say_goodbye(closing(1000, bad))
    assert await wire.end() == 1007


async def test_what_comes_before_a_close_frame_is_heard_and_nothing_behind_it(site: Site, wire: Wire) -> None:
    before = b"".join(frame(echo(f"{number}", number)) for number in range(20))
    behind = frame(echo("too late")) + frame("x", Op.PING) + frame(rsv=7) + closing(1001)
    await wire.say_goodbye(before + closing(4000) + behind)
    assert await wire.end(acks=True) == 4000
    assert len(site.door.events) == 20


async def test_what_comes_in_a_segment_behind_the_close_frame_is_not_heard(site: Site, wire: Wire) -> None:
    await wire.say_goodbye(closing(1000))
    with suppress(ConnectionError):
        for _ in range(5):
            await wire.send(frame(echo("too late")))
            await asyncio.sleep(0)
    await until(lambda: alone(site))
    assert site.door.events == []


@pytest.mark.usefixtures("no_timers")
async def test_a_server_that_takes_leave_says_so_and_hears_nothing_more(site: Site, wire: Wire) -> None:
    await site.door.connections[-1].drop()
    assert await wire.text() == "1"
    assert await wire.frame() == Arrived(Op.CLOSE, b"\x03\xe8")
    await wire.say_goodbye(frame(echo("too late")) + closing(1000))
    async with asyncio.timeout(WAIT_SECONDS):
        assert await wire.end() is None
        await until(lambda: alone(site))
    assert site.door.events == []


@pytest.mark.usefixtures("no_timers")
async def test_a_server_that_takes_leave_of_a_busy_client_hears_its_answer(site: Site, wire: Wire) -> None:
    await wire.send(frame('42/encounters,["wait"]') + frame('42/encounters,["echo"]') * 200)
    await until(lambda: site.door.busy == 1)
    await site.door.connections[-1].drop()
    async with asyncio.timeout(WAIT_SECONDS):
        assert await wire.end() == 1000
    assert len(site.door.events) == 1
    site.door.gate.set()


async def test_close_frames_that_cross_end_the_connection_once(site: Site, wire: Wire) -> None:
    await wire.say_goodbye(closing(1001))
    await site.door.connections[-1].drop()
    assert await wire.end() in (1000, 1001)
    assert [who for who, _ in site.door.gone] == ["ann"]


BUSY = [frame('42/encounters,1["wait"]'), frame('42/encounters,1["wait"]') + frame(echo()) * 10]


@pytest.mark.parametrize("leave", WAYS_TO_LEAVE)
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        frame(echo())[:1],
        frame(echo())[:9],
        header(LIMIT) + b"mask" + b"x" * 10_000,
        frame("4x", fin=False),
        frame("4x", fin=False) + frame("", Op.PING),
        *BUSY,
        frame(echo()) * 100,
        frame("x", Op.PING) * 100,
    ],
    ids=lambda sent: repr(sent[:12]),
)
async def test_a_client_that_vanishes_leaves_nothing_behind(site: Site, wire: Wire, sent: bytes, leave: Leave) -> None:
    await wire.send(sent)
    if sent in BUSY:
        await until(lambda: site.door.busy == 1)
    leave(wire)
    site.door.gate.set()
    await until(lambda: alone(site))
    assert [who for who, _ in site.door.gone] == ["ann"]


@pytest.mark.parametrize("leave", WAYS_TO_LEAVE)
async def test_a_client_that_vanishes_while_it_is_told_much_leaves_nothing_behind(
    site: Site, open_wire: OpenWire, leave: Leave
) -> None:
    wire = await open_wire(small=True)
    await enter(wire)
    for number in range(60):
        site.door.tell(site.door.connections[-1], number, padding=10_000)
    await asyncio.sleep(0.01)
    leave(wire)
    await until(lambda: alone(site))


async def test_hundreds_that_come_and_go_in_every_way_leave_nothing_behind(site: Site, open_wire: OpenWire) -> None:
    async def come_and_go(number: int) -> None:
        wire = await open_wire()
        await enter(wire, f"person {number}")
        match number % 5:
            case 0:
                wire.reset()
            case 1:
                wire.close()
            case 2:
                await wire.say_goodbye(closing(1001))
                assert await wire.end() == 1001
            case 3:
                await wire.send(frame("x", 3))
                assert await wire.end() == 1002
            case 4:
                await wire.send(frame("1"))
                await wire.end()
        wire.close()

    await asyncio.gather(*(come_and_go(number) for number in range(100)))
    await until(lambda: alone(site))
    assert len(site.door.gone) == 100
