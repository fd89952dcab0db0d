"""What one connection, one person and one address may use, and that what is refused hurts nobody else."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.acceptance.conftest import NO_LIMITS, Arrange, Sit, Start, running
from tests.acceptance.lessons import Lesson, Person, Seat, delay, until
from tests.acceptance.wire import NAMESPACE, Poll, Wire, address, event, packet, wire
from tests.support.clients import Client, ConnectRefusedError
from tests.support.recorder import WAIT_SECONDS
from tests.support.servers import Server

FRAME_BYTES = 65_536
UNSENT_BYTES = 1_048_576
BURST = 60
PER_SECOND = 20
#: What the kernel takes for a socket that is not read, on both ends of loopback.
KERNEL_BYTES = 12 * 1024 * 1024
#: At once from one address: so many that the bucket cannot refill as fast, however busy the machine is.
HANDSHAKES = 200


@pytest.fixture(scope="module")
def server(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker with the limits of the contract, but as many handshakes as the tests need."""
    folder = tmp_path_factory.mktemp("limits")
    with running(folder, 1, DATABASE_URL=module_database, LIMIT_HANDSHAKES_PER_SECOND="0") as (server,):
        yield server


@asynccontextmanager
async def joined(server: Server, lesson: Lesson, person: Person) -> AsyncIterator[Wire]:
    """A bare connection that has joined."""
    async with wire(server.url, person.token()) as line:
        ack = await line.call("joinSession", {"sessionId": lesson.id})
        assert ack["ok"], ack
        yield line


def refusal(ack: Any) -> tuple[int, str]:
    """Status and code of a refusal, which has the shape of REST's."""
    assert ack["ok"] is False, ack
    error = ack["error"]
    assert set(error) - {"fields"} == {"error", "message", "status_code"}, ack
    return error["status_code"], error["error"]


# Events


async def test_beyond_the_burst_events_are_refused_until_it_has_refilled(
    server: Server, arrange: Arrange, sit: Sit
) -> None:
    lesson = await arrange(server.url)
    teacher = await sit(server.url, lesson, lesson.teacher)
    async with joined(server, lesson, lesson.student) as line:
        started = time.monotonic()
        for n in range(1000, 1000 + 2 * BURST):
            await line.send(event("sendMessage", {"sessionId": lesson.id, "text": f"{n}"}, ack=n))
        acks = [await line.ack(n) for n in range(1000, 1000 + 2 * BURST)]
        took = time.monotonic() - started
        taken = [ack for ack in acks if ack["ok"]]
        # One token went for joining.
        assert BURST - 1 <= len(taken) <= BURST + PER_SECOND * took + 1, (len(taken), took)
        assert {refusal(ack) for ack in acks if not ack["ok"]} == {(429, "too_many_requests")}

        async def may_again() -> bool:
            await asyncio.sleep(0.1)
            return bool((await line.call("markRead", {"sessionId": lesson.id, "seq": 1}))["ok"])

        await until(may_again, "the bucket refills")
    # Only what was acked was sent, and others hear it and may speak all the while.
    await teacher.hears_up_to(len(taken))
    assert [m["text"] for m in await lesson.history()] == [ack["message"]["text"] for ack in taken]
    await teacher.say("I am well within mine")


async def test_who_goes_on_and_on_is_cut(server: Server, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(server.url)
    teacher = await sit(server.url, lesson, lesson.teacher)
    async with joined(server, lesson, lesson.student) as line:

        async def flood() -> None:
            while not line.socket.closed:
                await line.send(event("typing", {"sessionId": lesson.id, "typing": True}))
                await asyncio.sleep(0)

        flooding = asyncio.create_task(flood())
        await line.until_closed()
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
    await teacher.say("where did they go?")


async def test_binary_packets_count_as_events(server: Server, arrange: Arrange) -> None:
    lesson = await arrange(server.url)
    async with joined(server, lesson, lesson.student) as line:
        for n in range(1000, 1000 + 2 * BURST):
            await line.send(f'451-{NAMESPACE},{n}["sendMessage",{{"_placeholder":true,"num":0}}]')
            await line.socket.send_bytes(b"attached")
        acks = [refusal(await line.ack(n)) for n in range(1000, 1000 + 2 * BURST)]
        assert set(acks) == {(400, "binary_refused"), (429, "too_many_requests")}


# Frames


async def test_a_frame_of_64_kib_passes_and_a_larger_one_closes_with_1009(server: Server, arrange: Arrange) -> None:
    lesson = await arrange(server.url)
    start = packet('["sendMessage",' + json.dumps({"sessionId": lesson.id, "text": "fits"})[:-1] + ',"x":"', ack=7)
    fits = start + "x" * (FRAME_BYTES - len(start) - 3) + '"}]'
    assert len(fits) == FRAME_BYTES
    async with joined(server, lesson, lesson.student) as line:
        await line.send(fits)
        assert (await line.ack(7))["ok"]
        await line.send(fits[:-3] + "x" + fits[-3:])
        assert await line.until_closed() == 1009
    # In fragments it is no smaller.
    async with joined(server, lesson, lesson.student) as line:
        for number in range(3):
            opcode = aiohttp.WSMsgType.TEXT if number == 0 else aiohttp.WSMsgType.CONTINUATION
            await _send_fragment(line, b"4" * (FRAME_BYTES // 2), opcode)
        assert await line.until_closed() == 1009
    assert [m["text"] for m in await lesson.history()] == ["fits"]


async def _send_fragment(line: Wire, data: bytes, opcode: aiohttp.WSMsgType) -> None:
    """One frame of a message that goes on: FIN is not set, the mask is 0."""
    head = bytes([opcode.value, 0x80 | 127]) + len(data).to_bytes(8, "big") + bytes(4)
    line.socket._writer.transport.write(head + data)


async def test_a_body_over_64_kib_ends_a_polling_connection(server: Server, arrange: Arrange) -> None:
    lesson = await arrange(server.url)
    async with aiohttp.ClientSession() as http:
        poll = Poll(http, server.url)
        await poll.shake_hands()
        assert (await poll.enter(lesson.student.token())).startswith("40")
        status, _ = await poll.post(event("sendMessage", {"text": "x" * FRAME_BYTES}))
        assert status == 400
        assert (await poll.get())[0] == 400


# Connections


async def test_the_eleventh_connection_of_a_person_is_refused(server: Server, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(server.url)
    seats: list[Seat] = [await sit(server.url, lesson, lesson.student) for _ in range(10)]
    for transports in (("websocket",), ("polling",)):
        with pytest.raises(ConnectRefusedError) as refused:
            await Client.connect(server.url, lesson.student.token(), transports=transports)
        assert (refused.value.data["status_code"], refused.value.data["error"]) == (429, "too_many_connections")
    # Others may, and so may they once one of theirs is gone, however it went.
    await sit(server.url, lesson, lesson.teacher)
    await seats[0].client.drop()

    async def may_again() -> bool:
        try:
            await sit(server.url, lesson, lesson.student)
        except ConnectRefusedError:
            return False
        return True

    await until(may_again, "one was free")


async def test_a_polling_connection_that_ends_while_it_connects_is_not_counted(
    server: Server, arrange: Arrange
) -> None:
    lesson = await arrange(server.url)
    fresh = lesson.person("student", "Fre Sh")
    async with aiohttp.ClientSession() as http:
        for _ in range(15):
            poll = Poll(http, server.url)
            await poll.shake_hands()
            connect = f"40{NAMESPACE}," + json.dumps({"token": fresh.token(first_name=f"N{_}")})
            await asyncio.gather(poll.post(connect), poll.post("1"))
    client = await Client.connect(server.url, fresh.token())
    await client.close()


async def test_an_address_that_shakes_hands_too_often_gets_429_and_others_do_not(
    start: Start, arrange: Arrange
) -> None:
    (server,) = await start(1)

    async def shake(http: aiohttp.ClientSession, address_: str, transport: str = "polling") -> aiohttp.ClientResponse:
        headers = {"X-Forwarded-For": address_}
        async with http.get(address(server.url, transport), headers=headers) as response:
            await response.read()
            return response

    async with aiohttp.ClientSession() as http:
        started = time.monotonic()
        answers = await asyncio.gather(*(shake(http, "203.0.113.7") for _ in range(HANDSHAKES)))
        took = time.monotonic() - started
        statuses = [answer.status for answer in answers]
        assert PER_SECOND <= statuses.count(200) <= PER_SECOND + PER_SECOND * took + 1, (statuses, took)
        assert statuses.count(429) == HANDSHAKES - statuses.count(200), statuses
        refused = next(answer for answer in answers if answer.status == 429)
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.content_type == "application/json"
        assert (await shake(http, "203.0.113.8")).status == 200
        # A WebSocket handshake is one, too: asked for in the midst of others, as the bucket refills meanwhile.
        others = [asyncio.create_task(shake(http, "203.0.113.7")) for _ in range(HANDSHAKES // 2)]
        upgrades = await asyncio.gather(
            *(
                http.ws_connect(address(server.url, "websocket"), headers={"X-Forwarded-For": "203.0.113.7"})
                for _ in range(HANDSHAKES)
            ),
            return_exceptions=True,
        )
        await asyncio.gather(*others)
        refusals = [answer for answer in upgrades if isinstance(answer, aiohttp.WSServerHandshakeError)]
        assert {refusal.status for refusal in refusals} == {429}

        async def may_again() -> bool:
            await asyncio.sleep(0.1)
            return (await shake(http, "203.0.113.7")).status == 200

        await until(may_again, "the bucket refills")


# Those who do not read


@pytest.fixture(scope="module")
def open_server(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker that lets people talk as fast as they can, each over one connection."""
    settings = {**NO_LIMITS, "LIMIT_CONNECTIONS_PER_USER": "1"}
    with running(tmp_path_factory.mktemp("open"), 1, DATABASE_URL=module_database, **settings) as (server,):
        yield server


async def test_a_websocket_that_is_not_read_is_cut_and_nobody_else_notices(
    open_server: Server, arrange: Arrange, sit: Sit
) -> None:
    lesson = await arrange(open_server.url)
    teacher = await sit(open_server.url, lesson, lesson.teacher)
    listener = await sit(open_server.url, lesson, lesson.parent)
    sleeper = await asyncio.to_thread(_join_and_never_read, open_server, lesson, lesson.student)
    with sleeper:
        text = "\N{OWL}" * 1_990
        sent = 0
        slowest = 0.0
        while await _is_connected(open_server, lesson.student):
            began = time.monotonic()
            messages = await asyncio.gather(*(teacher.say(f"{text}{n}") for n in range(20)))
            slowest = max(slowest, time.monotonic() - began)
            sent += sum(len(message["text"].encode()) for message in messages)
            assert sent < UNSENT_BYTES + KERNEL_BYTES, "it was never cut"
        assert sent > UNSENT_BYTES / 2, sent
    last = (await teacher.say("the end"))["seq"]
    await listener.hears_up_to(last)
    assert listener.seqs == list(range(1, last + 1))
    assert slowest < 2.0 + await delay(open_server.url), f"others waited {slowest:.1f} s"
    await teacher.hears("participantLeft", userId=lesson.student.id)


async def _is_connected(server: Server, person: Person) -> bool:
    """Whether the person's one connection is counted yet: another one is refused as long."""
    try:
        client = await Client.connect(server.url, person.token(), transports=("websocket",))
    except ConnectRefusedError as refused:
        return bool(refused.data["error"] == "too_many_connections")
    await client.close()
    return False


def _join_and_never_read(server: Server, lesson: Lesson, person: Person) -> socket.socket:
    """A WebSocket by hand, on a socket with a small buffer, that has joined and reads no more."""
    where = urlsplit(server.url)
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
    line.settimeout(WAIT_SECONDS)
    line.connect((where.hostname, where.port))
    request = (
        f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {where.netloc}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    line.sendall(request.encode())
    seen = b""

    def read_until(wanted: bytes) -> None:
        nonlocal seen
        while wanted not in seen:
            more = line.recv(65_536)
            assert more, seen
            seen += more

    def send(message: str) -> None:
        data = message.encode()
        length = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0x80 | 126]) + len(data).to_bytes(2, "big")
        line.sendall(b"\x81" + length + bytes(4) + data)

    read_until(b'"sid"')
    send(f"40{NAMESPACE}," + json.dumps({"token": person.token()}))
    read_until(f"40{NAMESPACE},".encode())
    send(event("joinSession", {"sessionId": lesson.id}, ack=1))
    read_until(f"43{NAMESPACE},1".encode())
    return line


async def test_a_polling_client_that_does_not_poll_is_cut(open_server: Server, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(open_server.url)
    teacher = await sit(open_server.url, lesson, lesson.teacher)
    async with aiohttp.ClientSession() as http:
        poll = Poll(http, open_server.url)
        await poll.shake_hands()
        await poll.enter(lesson.student.token())
        await poll.post(event("joinSession", {"sessionId": lesson.id}))
        await teacher.hears("participantJoined", userId=lesson.student.id)
        text = "x" * 1_990
        for _ in range(UNSENT_BYTES // 2_000 // 50 - 3):
            await asyncio.gather(*(teacher.say(text) for _ in range(50)))
        assert (await poll.post("3"))[0] == 200, "it was cut too early"
        for _ in range(5):
            await asyncio.gather(*(teacher.say(text) for _ in range(50)))

        async def is_gone() -> bool:
            return (await poll.post("3"))[0] == 400

        await until(is_gone, "it is cut")


# What makes no sense

IN_SESSION = (
    "joinSession", "leaveSession", "sendMessage", "editMessage", "deleteMessage", "typing", "markRead", "raiseHand",
    "setPermissions", "kick", "endSession",
)  # fmt: skip
BAD_ARGUMENTS = (
    "", ",null", ",1", ',"text"', ",true", ",[]", ",[{}]", ",{}", ",{},{}", ",-0.0", ",1e400",
    ',{"sessionId":null}', ',{"sessionId":1}', ',{"sessionId":{}}', ',{"sessionId":["x"]}', ',{"sessionId":""}',
    ',{"sessionId":"\\u0000"}', ',{"sessionId":"\\ud800"}', ',{"sessionId":"' + "x" * 5_000 + '"}',
    "," + "[" * 500 + "]" * 500, "," + '{"a":' * 100 + "1" + "}" * 100,
)  # fmt: skip


@pytest.mark.parametrize("name", [*IN_SESSION, "refreshAuth"])
async def test_a_payload_that_makes_no_sense_is_refused_and_the_connection_stays(
    open_server: Server, arrange: Arrange, name: str
) -> None:
    lesson = await arrange(open_server.url)
    async with joined(open_server, lesson, lesson.teacher) as line:
        for bad in BAD_ARGUMENTS:
            ack = await line.call_raw(f'["{name}"{bad}]')
            status, code = refusal(ack)
            assert status in (400, 401, 403, 404), (bad[:80], ack)
            assert code not in ("internal", "unknown_event"), (bad[:80], ack)
        assert (await line.call("joinSession", {"sessionId": lesson.id}))["ok"]


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("sendMessage", {"text": 1}),
        ("sendMessage", {"text": None}),
        ("sendMessage", {"text": ""}),
        ("sendMessage", {"text": " \n\t "}),
        ("sendMessage", {"text": "x" * 2_001}),
        ("sendMessage", {"text": "a\x00b"}),
        ("sendMessage", {"text": "x", "clientId": ""}),
        ("sendMessage", {"text": "x", "clientId": "x" * 65}),
        ("sendMessage", {"text": "x", "clientId": 7}),
        ("editMessage", {"id": "x", "text": "y"}),
        ("editMessage", {"id": "00000000-0000-0000-0000-000000000000", "text": "y"}),
        ("deleteMessage", {"id": 5}),
        ("typing", {"typing": "yes"}),
        ("typing", {}),
        ("markRead", {"seq": -1}),
        ("markRead", {"seq": 2**63}),
        ("markRead", {"seq": 2**70}),
        ("markRead", {"seq": 1.5}),
        ("raiseHand", {"raised": 1}),
        ("setPermissions", {"userId": None}),
        ("setPermissions", {"userId": "x", "micAllowed": "no"}),
        ("kick", {"userId": "x" * 10_000}),
        ("kick", {"userId": "\x00"}),
        ("refreshAuth", {"token": "x"}),
        ("refreshAuth", {"token": 1}),
        ("refreshAuth", {"token": "x.y.z" * 4_000}),
    ],
)
async def test_a_wrong_field_is_refused(
    open_server: Server, arrange: Arrange, name: str, payload: dict[str, Any]
) -> None:
    lesson = await arrange(open_server.url)
    async with joined(open_server, lesson, lesson.teacher) as line:
        status, code = refusal(await line.call(name, {"sessionId": lesson.id, **payload}))
        expected = {"editMessage": (404, 404), "refreshAuth": (401, 400), "kick": (404, 400)}.get(name, (400, 400))
        assert status in expected, code
        assert (await line.call("typing", {"sessionId": lesson.id, "typing": False}))["ok"]
        assert await lesson.timeline() == []


async def test_an_event_that_does_not_exist_is_404(open_server: Server, arrange: Arrange) -> None:
    lesson = await arrange(open_server.url)
    async with joined(open_server, lesson, lesson.student) as line:
        for name in ("nonsense", "connect", "disconnect", "__init__", "newMessage", "", "x" * 5_000, "\ud7ff"):
            ack = await line.call(name, {"sessionId": lesson.id})
            assert refusal(ack) == (404, "unknown_event")
            assert len(ack["error"]["message"]) < 200


async def test_attachments_are_refused_and_the_connection_stays(open_server: Server, arrange: Arrange) -> None:
    lesson = await arrange(open_server.url)
    async with joined(open_server, lesson, lesson.student) as line:
        placeholder = f'{{"sessionId":"{lesson.id}","text":{{"_placeholder":true,"num":0}}}}'
        await line.send(f'451-{NAMESPACE},51["sendMessage",{placeholder}]')
        await line.socket.send_bytes(b"attached")
        assert refusal(await line.ack(51)) == (400, "binary_refused")
        # However many it promises, and whether they come or not.
        await line.send(f'459999999999-{NAMESPACE},52["sendMessage",{placeholder}]')
        assert refusal(await line.ack(52)) == (400, "binary_refused")
        for _ in range(3):
            await line.socket.send_bytes(b"attached")
        assert (await line.call("sendMessage", {"sessionId": lesson.id, "text": "still here"}))["ok"]


@pytest.mark.parametrize(
    "message",
    ["4", "42", "4{", "42[", "42/encounters,", "42/encounters,{}", '42/encounters,"x"', "42/encounters,[]",
     "42/encounters,[1]", "42/encounters,[" * 9, "48", "4\ud7ff", "9", "x", "", "41/elsewhere,", "42/elsewhere,[\"x\"]",
     "43/encounters,1[]", "46-/encounters,1[]", "42/encounters," + "9" * 200 + '["typing"]'],
)  # fmt: skip
async def test_a_packet_that_is_none_hurts_nobody_else(
    open_server: Server, arrange: Arrange, sit: Sit, message: str
) -> None:
    lesson = await arrange(open_server.url)
    teacher = await sit(open_server.url, lesson, lesson.teacher)
    async with joined(open_server, lesson, lesson.student) as line:
        await line.send(message)
        await line.send(event("sendMessage", {"sessionId": lesson.id, "text": "perhaps"}))
        await teacher.say("surely")
        await teacher.hears("newMessage", text="surely")


async def test_nothing_is_handled_before_the_token(open_server: Server, arrange: Arrange, sit: Sit) -> None:
    lesson = await arrange(open_server.url)
    teacher = await sit(open_server.url, lesson, lesson.teacher)
    async with wire(open_server.url) as line:
        for name in IN_SESSION:
            await line.send(event(name, {"sessionId": lesson.id, "text": "x", "userId": lesson.student.id}, ack=1))
        answer = await line.enter(None)
        assert answer.startswith(f"44{NAMESPACE},"), answer
        assert line.messages == []
    assert await lesson.timeline() == []
    await teacher.say("alone")
