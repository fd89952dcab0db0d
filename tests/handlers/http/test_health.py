"""`/healthz` and `/readyz`."""

from __future__ import annotations

from tests.handlers.http.conftest import Api


async def test_the_process_says_that_it_is_up(api: Api) -> None:
    assert await api.call("GET", "/healthz") == (200, {"status": "ok"})


async def test_readiness_names_every_part(api: Api) -> None:
    assert await api.call("GET", "/readyz") == (200, {"status": "ready", "database": "ok", "bus": "ok"})


async def test_a_server_that_cannot_serve_says_503_and_when_to_ask_again(api: Api) -> None:
    for status in ("unavailable", "draining"):
        api.readiness["status"] = status
        response = await api.response("GET", "/readyz")
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert (await response.json())["status"] == status
