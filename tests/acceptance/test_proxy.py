"""Behind nginx, configured as docs/nginx.conf says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.acceptance.conftest import NO_LIMITS, Arrange, Pair, Sit, Start
from tests.acceptance.lessons import Seat, rest
from tests.acceptance.wire import address
from tests.conftest import ConnectNode, StartNginx
from tests.support.nginx import Nginx
from tests.support.redis import RedisServer
from tests.support.servers import Server
from tests.tools import ROOT

#: Clients of different addresses; Linux has all of 127.0.0.0/8.
SOURCES = [f"127.0.0.{n}" for n in range(2, 14)]
TRANSPORTS = [["polling"], ["websocket"], ["polling", "websocket"]]


def configuration(*servers: Server) -> str:
    """The example, with these servers and a port for the test; and who served is said."""
    text = (ROOT / "docs" / "nginx.conf").read_text("utf-8")
    for server, example in zip(servers, ("127.0.0.1:8081", "127.0.0.1:8082"), strict=True):
        assert text.count(example) == 1
        text = text.replace(example, f"127.0.0.1:{server.port}")
    text = text.replace("/var/log/nginx/", "@folder@/")
    assert text.count("listen 80;") == 1
    return text.replace("listen 80;", "listen 127.0.0.1:@port@;\n    add_header X-Served-By $upstream_addr always;")


@pytest.fixture(scope="module")
def front(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """One nginx for the pair."""
    proxy = Nginx(tmp_path_factory.mktemp("nginx"), configuration(pair.one, pair.two))
    try:
        proxy.start()
        yield proxy
    finally:
        proxy.kill()


async def served_by(url: str, source: str) -> str:
    """Who answers a handshake from this address."""
    connector = aiohttp.TCPConnector(local_addr=(source, 0))
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        http.get(address(url, "polling")) as response,
    ):
        assert response.status == 200, await response.text()
        return response.headers["X-Served-By"]


async def test_clients_of_every_kind_share_a_lesson_through_nginx(
    pair: Pair, front: Nginx, arrange: Arrange, sit: Sit
) -> None:
    workers = {await served_by(front.url, source) for source in SOURCES}
    assert workers == {f"127.0.0.1:{server.port}" for server in (pair.one, pair.two)}
    lesson = await arrange(front.url)
    people = [lesson.teacher, lesson.student, lesson.parent, *await lesson.admins(len(SOURCES) - 3)]
    seats: list[Seat] = await asyncio.gather(
        *(
            sit(front.url, lesson, person, transports=TRANSPORTS[n % 3], source=source)
            for n, (person, source) in enumerate(zip(people, SOURCES, strict=True))
        )
    )
    assert [seat.client.transport for seat in seats] == ["polling", "websocket", "websocket"] * 4
    for _ in range(5):
        await asyncio.gather(*(seat.say(f"{seat.person.id} says it") for seat in seats))
    await lesson.post("by REST", by=lesson.student, url=front.url)
    last = 5 * len(seats) + 1
    for seat in seats:
        await seat.hears_up_to(last)
        assert seat.seqs == list(range(1, last + 1))


@pytest.mark.parametrize("transports", TRANSPORTS, ids=" then ".join)
async def test_the_official_client_works_through_nginx(
    front: Nginx, arrange: Arrange, sit: Sit, connect_node: ConnectNode, transports: list[str]
) -> None:
    lesson = await arrange(front.url)
    teacher = await sit(front.url, lesson, lesson.teacher, source=SOURCES[0])
    node = await connect_node(front.url, lesson.student.token(), transports=transports)
    acks = await node.burst("joinSession", [{"sessionId": lesson.id}])
    acks += await node.burst("sendMessage", [{"sessionId": lesson.id, "text": f"{n}"} for n in range(20)])
    assert all(ack["ok"] for ack in acks)
    await teacher.hears_up_to(20)
    assert teacher.texts == [f"{n}" for n in range(20)]


async def test_a_page_behind_nginx_is_of_the_same_site(front: Nginx) -> None:
    async with aiohttp.ClientSession() as http:
        for origin, status in ((front.url, 200), ("https://evil.example", 403)):
            async with http.get(address(front.url, "polling"), headers={"Origin": origin}) as response:
                assert response.status == status
        async with http.ws_connect(address(front.url, "websocket"), headers={"Origin": front.url}) as socket:
            assert (await socket.receive_str()).startswith("0")


async def test_each_client_has_its_own_limit_of_handshakes_behind_nginx(start: Start, start_nginx: StartNginx) -> None:
    one, two = await start(2, LIMIT_HANDSHAKES_PER_SECOND="5")
    front = start_nginx(configuration(one, two))

    async def statuses(source: str, count: int) -> list[int]:
        """Of so many handshakes at once."""
        connector = aiohttp.TCPConnector(local_addr=(source, 0))
        async with aiohttp.ClientSession(connector=connector) as http:

            async def shake() -> int:
                async with http.get(address(front.url, "polling")) as response:
                    return response.status

            return await asyncio.gather(*(shake() for _ in range(count)))

    assert 429 in await statuses(SOURCES[0], 100)
    for source in SOURCES[1:]:
        assert await statuses(source, 2) == [200, 200]


def logs_in(folder: Path) -> str:
    """Whatever the only nginx of this test has written down."""
    return "".join(file.read_text() for file in folder.glob("nginx-*/*log*"))


async def test_the_link_to_a_calendar_stands_in_no_log_of_nginx(
    start: Start, start_nginx: StartNginx, arrange: Arrange, tmp_path: Path
) -> None:
    one, two = await start(2, **NO_LIMITS)
    front = start_nginx(configuration(one, two))
    lesson = await arrange(front.url)
    answer = await rest(front.url, "GET", "/calendar", token=lesson.student.token())
    assert answer.status == 200, answer
    async with aiohttp.ClientSession() as http:
        for status in (200, 502):
            async with http.get(answer.body["url"]) as response:
                assert response.status == status
            await one.stop()
            await two.stop()
    front.stop()
    written = logs_in(tmp_path)
    assert written.count(f"GET /calendar/{lesson.student.id}.ics HTTP/1.1") == 2
    assert "token=" not in written


async def test_links_to_files_stand_in_no_log_of_nginx(
    start: Start, start_nginx: StartNginx, arrange: Arrange, tmp_path: Path
) -> None:
    one, two = await start(2, **NO_LIMITS)
    front = start_nginx(configuration(one, two))
    lesson = await arrange(front.url)
    wanted = {"file_name": "a.png", "content_type": "image/png"}
    answer = await rest(front.url, "POST", "/presigned-url", token=lesson.student.token(), body=wanted)
    assert answer.status == 200, answer
    png = b"\x89PNG\r\n\x1a\n" + bytes(5_000)
    async with aiohttp.ClientSession() as http:
        for status in (200, 502):
            for method, url in (("PUT", answer.body["upload_url"]), ("GET", answer.body["file_url"])):
                data = png if method == "PUT" else None
                async with http.request(method, url, data=data, headers={"Content-Type": "image/png"}) as response:
                    assert response.status == status, await response.text()
            await one.stop()
            await two.stop()
    front.stop()
    written = logs_in(tmp_path)
    assert written.count("GET (a link) HTTP/1.1") == written.count("PUT (a link) HTTP/1.1") == 2
    for url in (answer.body["upload_url"], answer.body["file_url"]):
        assert url.rpartition("/")[2] not in written


@pytest.mark.parametrize("transports", [["polling"], ["websocket"]], ids="".join)
async def test_a_deploy_of_one_server_behind_nginx_drops_no_lesson(
    redis_server: RedisServer, start: Start, arrange: Arrange, sit: Sit, start_nginx: StartNginx, transports: list[str]
) -> None:
    one, two = await start(2, REDIS_URL=redis_server.url, **NO_LIMITS)
    front = start_nginx(configuration(one, two))
    lesson = await arrange(front.url)
    people = [lesson.teacher, lesson.student, lesson.parent, *await lesson.admins(len(SOURCES) - 3)]
    seats = [
        await sit(front.url, lesson, person, transports=transports, source=source)
        for person, source in zip(people, SOURCES, strict=True)
    ]
    await seats[0].say("before")
    one.terminate()
    assert await one.wait() == 0
    moved = 0
    for n, (seat, source) in enumerate(zip(seats, SOURCES, strict=True)):
        if seat.came("serverDraining"):
            await seat.client.wait_disconnected()
            seats[n] = await sit(
                front.url, lesson, seat.person, last_seq=seat.seqs[-1], transports=transports, source=source
            )
            assert seats[n].ack["events"] == []
            moved += 1
    assert 0 < moved < len(seats)
    for number, seat in enumerate(seats):
        assert (await seat.say("after"))["seq"] == number + 2
    for seat in seats:
        await seat.hears_up_to(len(seats) + 1)
        assert seat.came("participantLeft") == []
    assert (await rest(front.url, "GET", "/readyz")).status == 200
