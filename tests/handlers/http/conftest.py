"""The REST API in this process, over a real database; what it would publish is written down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import msgspec
import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from domain.live import Live
from domain.people import People
from domain.tokens import SecretVerifier
from handlers.http import edge, routes
from handlers.http.keys import CANCEL_NOTICE, DATABASE, LIVE, PEOPLE, READINESS, VERIFIER
from realtime.events import Event
from store.database import Pool, connect
from store.events import LogEntry
from tests.support.tokens import SECRET, mint


@dataclass
class Told:
    """Stands where `Live` and its audience do, and keeps what they are told."""

    pool: Pool
    entries: list[LogEntry] = field(default_factory=list)
    people: list[set[str]] = field(default_factory=list)
    notifications: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def publish(self, entries: Iterable[LogEntry]) -> None:
        self.entries += entries

    @property
    def audience(self) -> Told:
        return self

    def changed(self, user_ids: Iterable[str]) -> None:
        self.people.append(set(user_ids))

    def session_ended(self) -> None:
        """Its meeting is nobody's here."""

    def tell(self, user_ids: Sequence[str], news: Event) -> None:
        self.notifications += [(user_id, msgspec.json.decode(news.json)) for user_id in user_ids]


@dataclass
class Api:
    """Calls the API as somebody: ``await api.call("GET", "/profiles", token=api.token("u1", "teacher"))``."""

    client: TestClient[web.Request, web.Application]
    pool: Pool
    told: Told
    readiness: dict[str, str]

    def token(self, sub: str, role: str = "student", **claims: Any) -> str:
        return mint(sub, role, **claims)

    async def call(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **options: Any
    ) -> tuple[int, Any]:
        """Status and JSON of the answer."""
        response = await self.response(method, path, body, token=token, **options)
        return response.status, await response.json()

    async def response(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **options: Any
    ) -> ClientResponse:
        headers = options.pop("headers", {})
        if token is not None:
            headers = {**headers, "Authorization": f"Bearer {token}"}
        if body is not None:
            options["json"] = body
        return await self.client.request(method, path, headers=headers, **options)

    async def meet(self, *people: tuple[str, str]) -> None:
        """Have (id, role) known, as their first request does."""
        for user_id, role in people:
            status, _ = await self.call("GET", f"/profiles?user_id={user_id}", token=self.token(user_id, role))
            assert status == 200


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    pool = await connect(database, size=10)
    yield pool
    await pool.close()


@pytest.fixture
async def api(pool: Pool) -> AsyncIterator[Api]:
    told = Told(pool)
    readiness = {"status": "ready", "database": "ok", "bus": "ok"}

    async def is_ready() -> dict[str, str]:
        return readiness

    app = web.Application()
    edge.guard(app)
    app[DATABASE] = pool
    app[VERIFIER] = SecretVerifier(SECRET)
    app[PEOPLE] = People(pool)
    app[LIVE] = cast(Live, told)
    app[CANCEL_NOTICE] = timedelta(0)
    app[READINESS] = is_ready
    routes.apply(app, ["https://app.example"])
    async with TestClient(TestServer(app)) as client:
        yield Api(client, pool, told, readiness)
