"""The whole application in the test's own process, over a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDictProxy

from domain.live import Live
from domain.uploads import Uploads
from handlers.http.keys import LIVE, UPLOADS
from server.app import build
from server.settings import Settings
from store.database import Pool
from tests.support.lessons import ROLES, book, database_pool
from tests.support.tokens import SECRET, mint


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `body` is what was JSON, else the text."""

    status: int
    headers: CIMultiDictProxy[str]
    body: Any

    @property
    def error(self) -> str:
        """The code of an error document."""
        code: str = self.body["error"]
        return code


@dataclass(frozen=True, slots=True)
class App:
    """Calls the application as one of `tests.support.lessons.ROLES`, or as nobody."""

    client: TestClient[web.Request, web.Application]
    pool: Pool
    live: Live
    uploads: Uploads

    async def call(self, who: str | None, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        """`body` is sent as JSON; `data`, `headers` and the like as aiohttp's client takes them."""
        headers = dict(options.pop("headers", {}))
        if who is not None:
            headers["Authorization"] = f"Bearer {mint(who, ROLES[who], first_name=who.capitalize())}"
        if body is not None:
            options["json"] = body
        async with self.client.request(method, path, headers=headers, allow_redirects=False, **options) as response:
            is_json = response.content_type == "application/json" and method != "HEAD" and response.status != 304
            answer = await response.json() if is_json else await response.text(errors="replace")
            return Answer(response.status, response.headers, answer)

    async def book(self, **people: Any) -> UUID:
        """A lesson of the teacher and the student, unless others are named."""
        return await book(self.pool, **people)


@asynccontextmanager
async def running_app(dsn: str, *, demo_secret: str | None = None, **changes: Any) -> AsyncIterator[App]:
    """The application of one worker, and a pool of the test's own on its database. `changes` are settings."""
    with TemporaryDirectory() as folder:
        changes.setdefault("data_dir", Path(folder))
        settings = Settings(database_url=dsn, jwt_secret=SECRET, **changes)
        app = build(settings, dsn, demo_secret=demo_secret)
        async with database_pool(dsn, size=5) as pool, TestClient(TestServer(app)) as client:
            yield App(client, pool, app[LIVE], app[UPLOADS])


async def contents(pool: Pool) -> dict[str, list[str]]:
    """Everything that stands in the database, but for what comes and goes by itself: to see that nothing changed."""
    found: dict[str, list[str]] = {}
    for row in await pool.fetch(_CONTENTS):
        found.setdefault(row["table"], []).append(row["row"])
    return found


_TABLES = (
    *("users", "bookings", "sessions", "session_messages", "session_events", "session_participants", "session_visits"),
    *("message_reactions", "session_waiters"),
    *("availability_slots", "availability_series", "reviews", "allocations", "audit_log", "calendar_links"),
    *("courses", "enrollments"),
    *("files", "file_usage"),
    *("recordings", "recording_consents", "course_content", "content_views", "content_progress"),
    *("content_comments", "content_likes"),
    *("notifications", "notification_recipients", "notification_handouts"),
    *("whiteboards", "whiteboard_elements"),
    *("meetings", "provider_recordings"),
    # Whom the provider has put out, and how often, is noted when it has.
    "(SELECT meeting_id, user_id, came_at, tabs FROM meeting_people WHERE came_at IS NOT NULL)",
)
_CONTENTS = f"""
    SELECT * FROM ({" UNION ALL ".join(f"SELECT '{table}', t::text FROM {table} t" for table in _TABLES)})
        AS everything ("table", row)
    ORDER BY 1, 2
"""
