"""`encounters serve`: several workers on one port, a demo that needs nothing, and an end that leaves nothing."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.acceptance.conftest import NO_LIMITS, Arrange, Sit, Start, check_log, running, several
from tests.acceptance.lessons import Seat, rest, until, within
from tests.acceptance.wire import Poll
from tests.conftest import ConnectNode
from tests.support.clients import Client
from tests.support.redis import RedisServer
from tests.support.servers import Server

WORKERS = 2


@pytest.fixture(scope="module")
def server(
    module_database: str, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Two workers behind one port."""
    folder = tmp_path_factory.mktemp("workers")
    settings = {"DATABASE_URL": module_database, "REDIS_URL": redis_server.url, **NO_LIMITS}
    with running(folder, 1, "--workers", str(WORKERS), **settings) as (server,):
        yield server


def family(server: Server) -> list[psutil.Process]:
    """The process and everything that it started."""
    parent = psutil.Process(server.pid)
    return [parent, *parent.children(recursive=True)]


def workers(server: Server) -> list[psutil.Process]:
    """Its workers."""
    found = []
    for process in psutil.Process(server.pid).children():
        try:
            if "spawn_main" in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


# Several workers on one port


async def test_twenty_polling_and_ten_websocket_clients_share_a_lesson(
    server: Server, arrange: Arrange, sit: Sit
) -> None:
    lesson = await arrange(server.url)
    people = [lesson.teacher, lesson.student, lesson.parent, *await lesson.admins(27)]
    transports = [["polling"], ["polling"], ["websocket"]]
    seats: list[Seat] = await asyncio.gather(
        *(sit(server.url, lesson, person, transports=transports[n % 3]) for n, person in enumerate(people))
    )
    for _ in range(2):
        await asyncio.gather(*(seat.say(f"{seat.person.id} says it") for seat in seats))
    for seat in seats:
        await seat.hears_up_to(60)
        assert seat.seqs == list(range(1, 61))
    assert {seat.client.transport for seat in seats} == {"polling", "websocket"}


@pytest.mark.parametrize("transports", [["polling"], ["websocket"], ["polling", "websocket"]], ids=" then ".join)
async def test_the_official_client_works_with_several_workers_on_a_port(
    server: Server, arrange: Arrange, sit: Sit, connect_node: ConnectNode, transports: list[str]
) -> None:
    lesson = await arrange(server.url)
    teacher = await sit(server.url, lesson, lesson.teacher)
    # In turn, so on both.
    for n, person in enumerate([lesson.student, lesson.parent]):
        node = await connect_node(server.url, person.token(), transports=transports)
        acks = await node.burst("joinSession", [{"sessionId": lesson.id}])
        acks += await node.burst("sendMessage", [{"sessionId": lesson.id, "text": f"{n}/{i}"} for i in range(50)])
        assert all(ack["ok"] for ack in acks), acks
        await node.events.wait_for_many(50, "newMessage")
    await teacher.hears_up_to(100)
    assert teacher.texts == [f"{n}/{i}" for n in range(2) for i in range(50)]


async def test_both_workers_serve(server: Server) -> None:
    numbers = set()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        for _ in range(20):
            poll = Poll(http, server.url)
            assert (await poll.shake_hands())[0] == 200
            numbers.add(poll.sid.partition(".")[0])
    assert numbers == {"w1", "w2"}


async def test_clients_that_share_one_keep_alive_pool_find_their_workers(server: Server, arrange: Arrange) -> None:
    lesson = await arrange(server.url)
    people = await lesson.admins(20)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=3)) as http:
        polls = [Poll(http, server.url) for _ in people]
        for poll in polls:
            assert (await poll.shake_hands())[0] == 200
        for poll, person in zip(polls, people, strict=True):
            assert (await poll.enter(person.token())).startswith("40")


async def test_a_worker_that_is_killed_is_replaced_and_the_others_go_on(
    server: Server, arrange: Arrange, sit: Sit
) -> None:
    lesson = await arrange(server.url)
    people = [lesson.teacher, lesson.student, lesson.parent, *await lesson.admins(9)]
    seats = [
        await sit(server.url, lesson, person, transports=[["polling"], ["websocket"]][n % 2])
        for n, person in enumerate(people)
    ]
    before = workers(server)
    assert len(before) == WORKERS
    before[0].kill()

    def stay() -> list[Seat]:
        return [seat for seat in seats if not seat.client.disconnected.is_set()]

    await until(lambda: len(stay()) < len(seats), "those of the killed worker are cut")
    # Those of the other go on at once, and whoever comes is let in.
    await asyncio.gather(*(_again(server, sit, seat) for seat in seats))
    assert len(stay()) >= 1, "the other worker's clients stay"
    for seat in stay():
        assert (await seat.say("going on"))["seq"]
    await until(lambda: len(workers(server)) == WORKERS, "the worker is replaced")
    replaced = {p.pid for p in workers(server)}
    assert before[1].pid in replaced
    assert before[0].pid not in replaced

    numbers: set[str] = set()

    async def both_serve() -> bool:
        async with aiohttp.ClientSession() as http:
            poll = Poll(http, server.url)
            status, _ = await poll.shake_hands()
            numbers.add(poll.sid.partition(".")[0])
        return status == 200 and numbers == {"w1", "w2"}

    await until(both_serve, "both serve again")


async def _again(server: Server, sit: Sit, seat: Seat) -> None:
    """Come back with what was seen, if one was cut; the rest comes then."""
    if not seat.client.disconnected.is_set():
        return
    back = await sit(server.url, seat.lesson, seat.person, last_seq=0, transports=["websocket"])
    assert back.ack["lastSeq"] == len(back.ack["events"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_end_by_signal_leaves_no_process(
    redis_server: RedisServer, start: Start, arrange: Arrange, sit: Sit, number: signal.Signals
) -> None:
    (server,) = await start(1, "--workers", str(WORKERS), REDIS_URL=redis_server.url, **NO_LIMITS)
    lesson = await arrange(server.url)
    seats = [await sit(server.url, lesson, lesson.teacher, transports=[t]) for t in ("polling", "websocket") * 3]
    processes = family(server)
    assert len(processes) > WORKERS
    os.kill(server.pid, number)
    assert await server.wait() == 0
    await until(lambda: not alive(processes), "nobody is left", seen=lambda: alive(processes))
    for seat in seats:
        await seat.client.wait_disconnected()
    check_log(server)


async def test_workers_do_not_outlive_a_parent_that_was_killed(
    redis_server: RedisServer, start: Start, arrange: Arrange, sit: Sit
) -> None:
    (server,) = await start(1, "--workers", str(WORKERS), REDIS_URL=redis_server.url, **NO_LIMITS)
    lesson = await arrange(server.url)
    seat = await sit(server.url, lesson, lesson.teacher)
    processes = family(server)
    os.kill(server.pid, signal.SIGKILL)
    await server.wait()
    await until(lambda: not alive(processes), "nobody is left", seen=lambda: alive(processes))
    await seat.client.wait_disconnected()


# What cannot be


async def refusal(server: Server) -> str:
    """The one sentence of a server that refuses to start."""
    server.spawn()
    try:
        status = await server.wait()
    finally:
        server.kill()
    said = server.log().strip()
    assert status in (1, 2), said
    assert "Traceback" not in said, said
    assert len(said.splitlines()) == 1, said
    assert said.startswith("encounters: "), said
    return said


WRONG = {
    "no way to verify tokens": ({"JWT_SECRET": ""}, "JWT_SECRET"),
    "a short secret": ({"JWT_SECRET": "short"}, "JWT_SECRET"),
    "two ways to verify tokens": ({"JWT_JWKS_URL": "https://issuer.example/jwks"}, "JWT_JWKS_URL"),
    "a port that is none": ({"PORT": "70000"}, "PORT"),
    "workers without Redis": ({"WORKERS": "2"}, "REDIS_URL"),
    "no workers": ({"WORKERS": "0"}, "WORKERS"),
    "an odd Redis": ({"REDIS_URL": "http://127.0.0.1"}, "REDIS_URL"),
    "an odd database": ({"DATABASE_URL": "mysql://127.0.0.1/x"}, "DATABASE_URL"),
    "an odd origin": ({"CORS_ORIGINS": "app.example"}, "CORS_ORIGINS"),
    "an odd limit": ({"LIMIT_FRAME_BYTES": "64k"}, "LIMIT_FRAME_BYTES"),
    "an odd level": ({"LOG_LEVEL": "loud"}, "LOG_LEVEL"),
    "an address of somebody else": ({"HOST": "192.0.2.1"}, "192.0.2.1"),
    "no such host": ({"HOST": "no-such-host.invalid"}, "HOST"),
    "a database that does not answer": ({"DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}, "database"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_setting_is_said_in_one_sentence(module_database: str, tmp_path: Path, case: str) -> None:
    settings, named = WRONG[case]
    (server,) = several(tmp_path / "wrong", 1, **{"DATABASE_URL": module_database, **settings})
    if "PORT" in settings:
        server.port = 0
    assert named in await refusal(server)


async def test_a_port_in_use_is_said_in_one_sentence(server: Server, module_database: str, tmp_path: Path) -> None:
    (second,) = several(tmp_path / "second", 1, DATABASE_URL=module_database, PORT=str(server.port))
    assert str(server.port) in await refusal(second)


#: Everything is permitted to root.
KINDS = ["a file", "nowhere", *(["without permission"] if os.geteuid() else [])]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_data_dir_that_cannot_be_used_is_said_in_one_sentence(tmp_path: Path, kind: str) -> None:
    place = Path("/proc/encounters") if kind == "nowhere" else tmp_path / "place"
    if kind == "a file":
        place.write_text("something")
    if kind == "without permission":
        place.mkdir(mode=0o000)
    (server,) = several(tmp_path / "server", 1, DATA_DIR=str(place))
    assert "DATA_DIR" in await refusal(server)


async def test_a_server_starts_without_its_redis_and_uses_it_once_it_is_there(
    private_redis: RedisServer, start: Start, arrange: Arrange, sit: Sit, module_database: str, tmp_path: Path
) -> None:
    private_redis.kill()
    (early,) = several(tmp_path / "early", 1, DATABASE_URL=module_database, REDIS_URL=private_redis.url, **NO_LIMITS)
    early.spawn()
    try:

        async def serves() -> bool:
            try:
                return bool((await rest(early.url, "GET", "/readyz")).body["bus"] == "away")
            except aiohttp.ClientConnectionError:
                return False

        await until(serves, "it serves")
        lesson = await arrange(early.url)
        teacher = await sit(early.url, lesson, lesson.teacher)
        student = await sit(early.url, lesson, lesson.student)
        async with within(0.0, early.url):
            await teacher.say("just the two of us")
            await student.hears_up_to(1)
        await asyncio.to_thread(private_redis.start)
        await early.until_ready()
        (late,) = await start(1, REDIS_URL=private_redis.url, **NO_LIMITS)
        parent = await sit(late.url, lesson, lesson.parent)
        await teacher.say("and you")
        await parent.hears_up_to(2)
        check_log(early)
    finally:
        early.kill()


# The demo


async def test_the_demo_needs_nothing_and_finds_its_data_again(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    settings = {"DATA_DIR": str(folder / "data"), "JWT_SECRET": "", "DRAIN_SECONDS": "5"}
    (server,) = several(folder, 1, "--demo", **settings)
    said: list[str] = []
    for turn in range(2):
        server.spawn()
        try:
            await server.until_ready()
            links = re.findall(rf"{server.url}/\?as=(\S+)&session=(\S+)", server.log())
            assert len(links) >= 2, server.log()
            assert len({room for _, room in links}) == 1, "both starts have the same lesson"
            user_id, room = links[0]
            async with aiohttp.ClientSession() as http, http.get(f"{server.url}/?as={user_id}&session={room}") as page:
                assert (page.status, page.content_type) == (200, "text/html")
            signed_in = await rest(server.url, "POST", "/demo/sign-in", {"user_id": user_id})
            assert signed_in.status == 200, signed_in
            client = await Client.connect(server.url, signed_in.body["token"], transports=("websocket",))
            joined = await client.call("joinSession", {"sessionId": room, "lastSeq": 0})
            texts = [event["data"]["text"] for event in joined["events"] if event["event"] == "newMessage"]
            assert texts[len(texts) - len(said) :] == said
            said.append(f"turn {turn}")
            assert (await client.call("sendMessage", {"sessionId": room, "text": said[-1]}))["ok"]
            processes = family(server)
            assert any(process.name() == "postgres" for process in processes)
            os.kill(server.pid, signal.SIGINT)
            assert await server.wait() == 0
            await client.wait_disconnected()
            await client.close()
            await until(lambda p=processes: not alive(p), "nobody is left", seen=lambda p=processes: alive(p))  # type: ignore[misc]
            check_log(server)
        finally:
            server.kill()


async def test_nobody_signs_in_as_anyone_without_the_demo(server: Server) -> None:
    for method, path in (("GET", "/demo"), ("POST", "/demo/sign-in")):
        assert (await rest(server.url, method, path, {"user_id": "x"} if method == "POST" else None)).status == 404


async def test_the_demo_refuses_to_be_reached_from_elsewhere(tmp_path: Path) -> None:
    (server,) = several(tmp_path / "demo", 1, "--demo", HOST="192.0.2.1", JWT_SECRET="")
    assert "--demo-anywhere" in await refusal(server)
