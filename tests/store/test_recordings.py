"""Recordings, consents and course content are looked up by their indexes, however small the tables."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from store import consents, content, engagement, recordings
from store.content import Place
from store.database import Pool
from tests.support.lessons import database_pool
from tests.support.plans import indexes_in, plan_of


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with database_pool(database) as pool:
        yield pool


class Heard:
    """Stands where a connection does, and keeps what it is asked."""

    def __init__(self) -> None:
        self.statement, self.arguments = "", 0

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        self.statement, self.arguments = statement, len(arguments)
        return []

    async def fetchrow(self, statement: str, *arguments: Any) -> None:
        await self.fetch(statement, *arguments)


ONE = UUID(int=1)
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ask", "indexes"),
    [
        (
            lambda on: recordings.of_session(on, ONE, limit=5),
            {"recordings_by_session", "files_pkey", "files_on_their_way"},
        ),
        (lambda on: recordings.spans(on, ONE, limit=5), {"recordings_by_session"}),
        (lambda on: recordings.running(on, ONE), {"recordings_one_running", "files_pkey"}),
        (lambda on: recordings.of_file(on, ONE), {"recordings_one_of_each_file", "files_pkey"}),
        (lambda on: recordings.left_running(on, before=NOON, limit=5), {"recordings_unfinished"}),
        (lambda on: recordings.without_a_file(on, before=NOON, limit=5), {"recordings_unfinished", "files_pkey"}),
        (lambda on: recordings.older_than(on, ONE, limit=5), {"recordings_pkey", "files_pkey"}),
        (
            lambda on: content.of_course(on, ONE, only_completed=True, after=Place(content_order=1, id=ONE), limit=5),
            {"course_content_in_order", "files_pkey"},
        ),
        (lambda on: engagement.comments(on, ONE, after=None, limit=5), {"content_comments_in_order", "users_pkey"}),
        (
            lambda on: consents.missing(on, ONE, but=[], limit=5),
            {"session_visits_one_open", "users_pkey", "recording_consents_pkey", "workers_pkey"},
        ),
        (lambda on: consents.of_session(on, ONE, limit=5), {"recording_consents_pkey", "users_pkey"}),
    ],
    ids=[
        *("of_session", "spans", "running", "of_file", "left_running", "without_a_file", "older_than"),
        *("of_course", "comments", "missing", "consents"),
    ],
)
async def test_rows_are_looked_up_by_an_index_made_for_it(pool: Pool, ask: Any, indexes: set[str]) -> None:
    heard = Heard()
    await ask(heard)
    async with pool.acquire() as connection:
        plan = await plan_of(connection, heard.statement, heard.arguments)
    assert indexes_in(plan) == indexes, plan
    assert "Seq Scan" not in plan
