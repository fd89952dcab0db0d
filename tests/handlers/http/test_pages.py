"""The web page and its files: for everyone, and nothing beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from handlers.http import edge, pages, routes
from handlers.http.keys import READINESS

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """The pages alone: they need neither a database nor a token."""
    app = web.Application()
    edge.guard(app)
    routes.apply(app, [])
    pages.add_pages(app)

    async def is_ready() -> dict[str, str]:
        return {"status": "ready"}

    app[READINESS] = is_ready
    async with TestClient(TestServer(app)) as client:
        yield client


def directives(policy: str) -> dict[str, list[str]]:
    parts = [part.split() for part in policy.split(";")]
    assert len({name for name, *_ in parts}) == len(parts), "a directive that stands twice is ignored"
    return {name: values for name, *values in parts}


async def test_a_player_may_follow_a_link_into_the_bucket_and_nothing_else_may() -> None:
    async def origin() -> str:
        return "https://bucket.test"

    app = web.Application()
    edge.guard(app)
    pages.add_pages(app, media_origin=origin)
    async with TestClient(TestServer(app)) as client:
        policy = directives((await client.get("/")).headers["Content-Security-Policy"])
    assert policy["media-src"] == ["'self'", "https://bucket.test"]
    assert [name for name, sources in policy.items() if "https://bucket.test" in sources] == ["media-src"]


async def test_the_page_is_for_everyone_and_always_fresh(client: Client) -> None:
    response = await client.get("/")
    assert (response.status, response.content_type) == (200, "text/html")
    assert response.headers["Cache-Control"] == "no-cache"
    assert await response.text() == (pages.STATIC / "index.html").read_text()
    again = await client.get("/", headers={"If-Modified-Since": response.headers["Last-Modified"]})
    assert again.status == 304
    assert (await client.head("/")).status == 200


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/static/styles.css", "/static/nothing.js", "/static/"])
async def test_whatever_a_page_is_made_of_comes_with_its_policy(client: Client, path: str) -> None:
    headers = (await client.get(path)).headers
    policy = directives(headers["Content-Security-Policy"])
    assert policy["default-src"] == ["'self'"]
    assert policy.get("script-src", policy["default-src"]) == ["'self'"], "no inline script, no other site's"
    assert policy["object-src"] == policy["base-uri"] == ["'none'"]
    assert "frame-ancestors" in policy
    assert "'unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/sessions/x", "/nothing", "/socket.io"])
async def test_nothing_is_guessed_to_be_of_another_type(client: Client, path: str) -> None:
    assert (await client.get(path)).headers["X-Content-Type-Options"] == "nosniff"


async def test_the_page_has_no_script_of_its_own_which_the_policy_would_refuse() -> None:
    for file in pages.STATIC.glob("*.html"):
        html = file.read_text().lower()
        assert "<script>" not in html, file
        for inline in (" onclick=", " onload=", " onerror=", "javascript:", "<style", " style="):
            assert inline not in html, (file, inline)


async def test_every_file_of_the_app_is_served_with_its_type(client: Client) -> None:
    types = {".js": "javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
    files = [file for file in pages.STATIC.rglob("*") if file.suffix in types]
    assert len(files) > 10
    for file in files:
        response = await client.get(f"/static/{file.relative_to(pages.STATIC)}")
        assert (response.status, types[file.suffix] in response.content_type) == (200, True), file
        assert await response.read() == file.read_bytes()
        assert (await client.head(f"/static/{file.relative_to(pages.STATIC)}")).status == 200


ESCAPES = (
    *("/static/../setup.py", "/static/%2e%2e/setup.py", "/static/..%2fsetup.py", "/static/%2e%2e%2fsetup.py"),
    *("/static/....//setup.py", "/static/vendor/../../setup.py", "/static//etc/passwd", "/static/%2fetc%2fpasswd"),
    *("/static/..%5csetup.py", "/static/%00", "/static/index.html%00.js", "/static/%252e%252e/setup.py"),
    *("/static/~root", "/static/.", "/static/vendor", "/static/vendor/", "/static", "/static/" + "a" * 5000),
    *("//static/../setup.py", "/../setup.py", "/setup.py", "/.git/config", "/static/%ff"),
    *("/static/%c0%ae%c0%ae/setup.py", "/static/app.js/", "/static/APP.js", "/static//app.js"),
)  # fmt: skip


@pytest.mark.parametrize("path", ESCAPES)
async def test_no_path_leads_out_of_the_folder(client: Client, path: str) -> None:
    """Sent as it is: a client would tidy the path up before."""
    host, port = client.host, client.port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    status = int(answer.split()[1])
    assert status in (400, 403, 404), answer[:300]
    assert b'"status_code":%d' % status in answer or status == 400
    assert b"setuptools" not in answer
    assert b"root:" not in answer


async def test_a_link_out_of_the_folder_is_not_followed(tmp_path_factory: pytest.TempPathFactory) -> None:
    app = web.Application()
    edge.guard(app)
    folder = tmp_path_factory.mktemp("static")
    outside = tmp_path_factory.mktemp("outside") / "secret.txt"
    outside.write_text("a secret")
    (folder / "link.txt").symlink_to(outside)
    (folder / "index.html").write_text("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "STATIC", folder)
        pages.add_pages(app)
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/static/index.html")).status == 200
        assert (await client.get("/static/link.txt")).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_pages_are_only_read(client: Client, method: str) -> None:
    for path in ("/", "/static/app.js"):
        response = await client.request(method, path)
        assert response.status == 405
        assert set(response.headers["Allow"].split(",")) == {"GET", "HEAD"}
        assert (await response.json())["error"] == "method_not_allowed"
