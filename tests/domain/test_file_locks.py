"""Files, and what they belong to, are locked in one order: who waits for a session or a course holds nothing of theirs.

Whoever comes from either side would else wait for the other, and one of them be turned away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from domain.processing import Processing
from domain.recording_keeper import WAITS_FOR_FILE, RecordingKeeper
from domain.sweeper import Sweeper
from media.job import Facts, Job
from media.pool import MediaPool, Unreadable
from tests.support.apps import Answer, App, running_app
from tests.support.lessons import make_course
from tests.support.sending import PNG, TUS, announce, append, begin, send

#: Seconds for an act that nobody is in the way of.
SECONDS = 60.0
#: The smallest sounds that go by their first bytes: what they hold is not looked at here.
OGG = b"OggS" + bytes(5_000)
#: What a file's way takes it through, behind what it belongs to.
BEHIND = ("recordings", "course_content", "files", "uploads", "file_usage")

Act = Callable[[], Awaitable[object]]


class Seen(MediaPool):
    """Media work that finds every file in order, or none."""

    def __init__(self, *, readable: bool = True) -> None:
        super().__init__()
        self._readable = readable

    async def run(self, job: Job) -> Facts:
        if not self._readable:
            raise Unreadable("a test")
        return Facts(seconds=2.0)


@pytest.fixture
async def app(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    # The application's own does nothing in these tests.
    monkeypatch.setattr(Processing, "start", lambda self: None)
    async with running_app(database) as app:
        yield app


def worker(app: App, folder: Path, *, readable: bool = True) -> Processing:
    return Processing(app.uploads, Seen(readable=readable), folder / "work")


def later(app: App, retention: timedelta | None = None) -> RecordingKeeper:
    return RecordingKeeper(app.live, retention, clock=lambda: datetime.now(UTC) + WAITS_FOR_FILE * 2)


async def fields_of(app: App, kind: str) -> dict[str, str]:
    """What is said of a file that is to be sent, with a session or a course for it."""
    if kind == "recording":
        return {"kind": kind, "session_id": str(await app.book()), "filename": "x.ogg"}
    return {"kind": kind, "course_id": str(await make_course(app.pool)), "type": "audio", "filename": "x.ogg"}


async def done(answer: Awaitable[Answer]) -> None:
    assert (await answer).status < 300


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():  # noqa: ASYNC110  # the database sets no event
        await asyncio.sleep(0.005)


# Each makes what it needs, and answers the act of which it is seen what it waits for.


async def announcing(app: App, kind: str, _folder: Path) -> Act:
    fields = await fields_of(app, kind)
    return lambda: done(announce(app, "teach", len(OGG), **fields))


async def sending(app: App, kind: str, _folder: Path) -> Act:
    data = PNG if kind == "thumbnail" else OGG
    path = await begin(app, "teach", len(data), **await fields_of(app, kind))
    return lambda: done(append(app, "teach", path, 0, data))


async def giving_up(app: App, kind: str, _folder: Path) -> Act:
    path = await begin(app, "teach", len(OGG), **await fields_of(app, kind))
    return lambda: done(app.call("teach", "DELETE", path, headers=TUS))


async def expiring(app: App, kind: str, _folder: Path) -> Act:
    await begin(app, "teach", len(OGG), **await fields_of(app, kind))
    await app.pool.execute("UPDATE uploads SET expires_at = now() - interval '1 second'")
    return Sweeper(app.uploads).sweep


async def looking_through(app: App, kind: str, folder: Path) -> Act:
    await send(app, "teach", OGG, **await fields_of(app, kind))
    return worker(app, folder).work


async def failing(app: App, kind: str, folder: Path) -> Act:
    await send(app, "teach", OGG, **await fields_of(app, kind))
    return worker(app, folder, readable=False).work


async def deleting(app: App, kind: str, folder: Path) -> Act:
    fields = await fields_of(app, kind)
    await send(app, "teach", OGG, **fields)
    await worker(app, folder).work()
    if kind == "recording":
        recording_id = await app.pool.fetchval("SELECT id FROM recordings")
        path = f"/sessions/{fields['session_id']}/recordings/{recording_id}"
    else:
        path = f"/content/{await app.pool.fetchval('SELECT id FROM course_content')}"
    return lambda: done(app.call("teach", "DELETE", path))


async def forgetting(app: App, kind: str, folder: Path) -> Act:
    await send(app, "teach", OGG, **await fields_of(app, kind))
    await worker(app, folder).work()
    return later(app, timedelta(hours=1)).forget


async def waiting_for_nothing(app: App, kind: str, _folder: Path) -> Act:
    session_id = (await fields_of(app, kind))["session_id"]
    await app.call("teach", "POST", f"/sessions/{session_id}/start-recording")
    await app.call("teach", "POST", f"/sessions/{session_id}/stop-recording")
    return later(app).fail_without_file


@pytest.mark.parametrize(
    ("prepare", "kind"),
    [
        *(
            (prepare, kind)
            for kind in ("recording", "content")
            for prepare in (announcing, sending, giving_up, expiring, looking_through, failing, deleting)
        ),
        (forgetting, "recording"),
        (waiting_for_nothing, "recording"),
        (sending, "thumbnail"),
    ],
)
async def test_who_waits_for_a_session_or_a_course_holds_nothing_that_belongs_to_it(
    app: App, prepare: Callable[[App, str, Path], Awaitable[Act]], kind: str, tmp_path: Path
) -> None:
    act = await prepare(app, kind, tmp_path)
    place = "sessions" if kind == "recording" else "courses"
    async with asyncio.timeout(SECONDS):
        async with app.pool.acquire() as holder, holder.transaction():
            await holder.execute(f"SELECT FROM {place} FOR NO KEY UPDATE")
            acting = asyncio.ensure_future(act())
            await until(partial(somebody_waits, app, holder.get_server_pid(), place))
            for table in BEHIND:
                # A lease that is renewed meanwhile is held for a moment.
                await until(partial(is_free, app, table))
            assert not acting.done()
        await acting


async def somebody_waits(app: App, holder: int, table: str) -> bool:
    """Whether somebody waits for a row of the table that the backend `holder` has: they have its place in line."""
    waiting: bool = await app.pool.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM pg_locks WHERE locktype = 'tuple' AND relation = $2::text::regclass AND granted
                AND $1 = ANY (pg_blocking_pids(pid))
        )
        """,
        holder,
        table,
    )
    return waiting


async def is_free(app: App, table: str) -> bool:
    try:
        await app.pool.fetch(f"SELECT FROM {table} FOR UPDATE NOWAIT")
    except asyncpg.LockNotAvailableError:
        return False
    return True


async def test_comments_and_likes_are_taken_away_behind_their_content(app: App, tmp_path: Path) -> None:
    await send(app, "teach", OGG, **await fields_of(app, "content"))
    await worker(app, tmp_path).work()
    content_id: UUID = await app.pool.fetchval("SELECT id FROM course_content")
    path = f"/content/{content_id}"
    said = await app.call("teach", "POST", f"{path}/comments", {"text": "hm"})
    await app.call("teach", "PUT", f"{path}/like")
    for unsay in (f"{path}/comments/{said.body['id']}", f"{path}/like"):
        async with asyncio.timeout(SECONDS):
            async with app.pool.acquire() as holder, holder.transaction():
                await holder.execute("SELECT FROM course_content FOR NO KEY UPDATE")
                acting = asyncio.ensure_future(app.call("teach", "DELETE", unsay))
                await until(partial(somebody_waits, app, holder.get_server_pid(), "course_content"))
                for table in ("content_comments", "content_likes"):
                    assert await is_free(app, table)
            assert (await acting).status in (200, 204)
