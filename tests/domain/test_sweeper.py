"""Whatever goes away while its files come in: nothing of them stays, in the database or among the objects."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

import pytest

from domain.processing import Processing
from domain.recording_keeper import WAITS_FOR_FILE, RecordingKeeper
from domain.sweeper import Sweeper
from store.objects.local import LocalStore, LocalUpload
from store.objects.objects import ObjectsAway, Stat
from tests.support.apps import App, running_app
from tests.support.lessons import make_course
from tests.support.sending import PNG, TUS, append, begin, on_their_way, send

#: A sound by its first bytes: what it holds is not looked at here. Half of it is enough to tell.
OGG: Final = b"OggS" + bytes(20_000)
HALF: Final = len(OGG) // 2
#: Enough of an image to be put away.
HALF_PNG: Final = 4_500


@pytest.fixture
async def app(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    # Files stay as they came in.
    monkeypatch.setattr(Processing, "start", lambda self: None)
    async with running_app(database) as app:
        yield app


async def sweep(app: App) -> None:
    """As if it were long after everything that happened so far."""
    await app.pool.execute("UPDATE objects_to_delete SET due_at = now() - interval '1 second'")
    await app.pool.execute("UPDATE uploads_to_give_up SET due_at = now() - interval '1 second'")
    await Sweeper(app.uploads).sweep()


async def assert_nothing_is_left(app: App) -> None:
    assert await on_their_way(app) == 0
    assert await objects_in(app) == []
    for table in ("uploads", "uploads_to_give_up", "objects_to_delete"):
        assert await app.pool.fetchval(f"SELECT count(*) FROM {table}") == 0
    assert await app.pool.fetchval("SELECT coalesce(sum(bytes), 0) FROM file_usage") == 0


async def objects_in(app: App) -> list[str]:
    objects = app.uploads.objects
    assert isinstance(objects, LocalStore)
    root = objects.incoming.parent / "objects"
    return await asyncio.to_thread(lambda: [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()])


async def half_sent(app: App, who: str, **fields: str) -> str:
    """The path of an upload of which half has come."""
    path = await begin(app, who, len(OGG), **fields)
    assert (await append(app, who, path, 0, OGG[:HALF])).status == 204
    assert await on_their_way(app) == 1
    return path


# What goes away


async def its_content(app: App) -> str:
    path = await half_sent(
        app, "teach", kind="content", course_id=str(await make_course(app.pool)), type="audio", filename="x.ogg"
    )
    content_id = await app.pool.fetchval("SELECT id FROM course_content")
    assert (await app.call("teach", "DELETE", f"/content/{content_id}")).status == 200
    return path


async def its_course(app: App) -> str:
    course_id = await make_course(app.pool)
    path = await half_sent(app, "teach", kind="content", course_id=str(course_id), type="audio", filename="x.ogg")
    await app.pool.execute("DELETE FROM courses")
    return path


async def its_session(app: App) -> str:
    path = await half_sent(app, "teach", kind="recording", session_id=str(await app.book()), filename="x.ogg")
    await app.pool.execute("DELETE FROM sessions")
    return path


async def its_recording(app: App) -> str:
    session_id = await app.book()
    begun = await app.call("teach", "POST", f"/sessions/{session_id}/start-recording")
    await app.call("teach", "POST", f"/sessions/{session_id}/stop-recording")
    recording_id = begun.body["recordingId"]
    path = await half_sent(
        app, "teach", kind="recording", session_id=str(session_id), recording_id=recording_id, filename="x.ogg"
    )
    keeper = RecordingKeeper(app.live, None, clock=lambda: datetime.now(UTC) + WAITS_FOR_FILE * 2)
    assert await keeper.fail_without_file() == 1
    return path


async def whoever_sends_it(app: App) -> str:
    course_id = await make_course(app.pool)
    path = await half_sent(app, "boss", kind="content", course_id=str(course_id), type="audio", filename="x.ogg")
    await app.pool.execute("DELETE FROM course_content")  # a course's content keeps its author
    await app.pool.execute("DELETE FROM users WHERE id = 'boss'")
    return path


@pytest.mark.parametrize("go_away", [its_content, its_course, its_session, its_recording, whoever_sends_it])
async def test_of_a_file_nothing_stays_when_what_it_is_for_goes_away_as_it_comes_in(
    app: App, go_away: Callable[[App], Awaitable[str]]
) -> None:
    path = await go_away(app)
    who = "boss" if go_away is whoever_sends_it else "teach"
    answer = await append(app, who, path, HALF, OGG[HALF:])
    assert 400 <= answer.status < 500, answer
    await sweep(app)
    await assert_nothing_is_left(app)


@pytest.mark.parametrize("table", ["sessions", "courses"])
async def test_a_file_that_lies_there_goes_with_what_it_is_of(app: App, table: str) -> None:
    session_id, course_id = await app.book(), await make_course(app.pool)
    if table == "sessions":
        await send(app, "teach", OGG, kind="recording", session_id=str(session_id), filename="x.ogg")
    else:
        await send(app, "teach", OGG, kind="content", course_id=str(course_id), type="audio", filename="x.ogg")
        await send(app, "teach", PNG, kind="thumbnail", course_id=str(course_id))
    await app.pool.execute(f"DELETE FROM {table}")
    await sweep(app)
    await assert_nothing_is_left(app)


async def test_what_is_deleted_as_its_last_bytes_are_put_away_leaves_no_object(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    course_id = await make_course(app.pool)
    path = await half_sent(app, "teach", kind="content", course_id=str(course_id), type="audio", filename="x.ogg")
    finish = LocalUpload.finish

    async def finish_late(self: LocalUpload) -> None:
        await app.pool.execute("DELETE FROM course_content")
        await Sweeper(app.uploads).sweep()
        await finish(self)

    monkeypatch.setattr(LocalUpload, "finish", finish_late)
    answer = await append(app, "teach", path, HALF, OGG[HALF:])
    assert (answer.status, answer.error) == (404, "upload_not_found")
    await sweep(app)
    await assert_nothing_is_left(app)


async def test_what_is_put_away_after_its_deletion_goes_though_the_worker_dies_of_it(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    course_id = await make_course(app.pool)
    path = await half_sent(app, "teach", kind="content", course_id=str(course_id), type="audio", filename="x.ogg")
    finish = LocalUpload.finish

    async def finish_and_die(self: LocalUpload) -> None:
        await app.pool.execute("DELETE FROM course_content")
        await Sweeper(app.uploads).sweep()
        await finish(self)
        raise RuntimeError("nothing of it comes to run")

    monkeypatch.setattr(LocalUpload, "finish", finish_and_die)
    assert (await append(app, "teach", path, HALF, OGG[HALF:])).status == 500
    assert len(await objects_in(app)) == 1
    await sweep(app)
    await assert_nothing_is_left(app)


# Limits, and what nobody knows of


async def test_an_upload_that_would_not_be_taken_any_more_fails_and_goes(app: App) -> None:
    session_id = await app.book()
    paths = [
        await begin(app, "teach", len(OGG), kind="recording", session_id=str(session_id), filename="x.ogg")
        for _ in range(2)
    ]
    for path in paths:
        assert (await append(app, "teach", path, 0, OGG[:HALF])).status == 204
    app.uploads.settings = replace(app.uploads.settings, max_recording_bytes=len(OGG) - 1)
    answer = await append(app, "teach", paths[0], HALF, OGG[HALF:])
    assert (answer.status, answer.error) == (413, "file_too_large")
    await app.pool.execute("UPDATE uploads SET expires_at = now() - interval '1 second'")
    await sweep(app)
    rows = await app.pool.fetch("SELECT state, reason FROM files")
    assert {row["state"] for row in rows} == {"failed"}
    assert all("may have at most" in row["reason"] for row in rows)
    await assert_nothing_is_left(app)


@pytest.mark.parametrize("error", [ObjectsAway("a test"), RuntimeError("a test")], ids=["away", "broken"])
async def test_what_cannot_be_swept_is_put_off_and_the_rest_goes(
    app: App, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [await begin(app, "kid", len(PNG)) for _ in range(2)]
    for path in paths:
        await append(app, "kid", path, 0, PNG[:HALF_PNG])
    whole = [f"/uploads/{await send(app, 'kid', PNG)}" for _ in range(2)]
    for path in (*paths, *whole):
        assert (await app.call("kid", "DELETE", path, headers=TUS)).status == 204
    objects, stubborn = app.uploads.objects, {f"document/{path.rpartition('/')[2]}" for path in (paths[0], whole[0])}
    await app.pool.executemany(
        "INSERT INTO uploads_to_give_up (key, state) VALUES ($1, $2)",
        [(f"document/{path.rpartition('/')[2]}", f"{uuid4()}:0") for path in paths],
    )
    for table in ("objects_to_delete", "uploads_to_give_up"):
        await app.pool.execute(f"UPDATE {table} SET due_at = now() - interval '1 hour' WHERE key = ANY($1)", stubborn)
    with monkeypatch.context() as patched:
        for act in ("delete", "give_up"):
            patched.setattr(objects, act, failing(getattr(objects, act), stubborn, error))
        await Sweeper(app.uploads).sweep()
    for table in ("objects_to_delete", "uploads_to_give_up"):
        left = await app.pool.fetch(f"SELECT key, due_at > now() AS is_put_off FROM {table}")
        assert {(row["key"], row["is_put_off"]) for row in left} <= {(key, True) for key in stubborn}
        assert left
    assert await objects_in(app) == [whole_key for whole_key in stubborn if whole_key.endswith(whole[0][-36:])]
    await sweep(app)
    await assert_nothing_is_left(app)


def failing(act: Callable[..., Awaitable[None]], keys: set[str], error: Exception) -> Callable[..., Awaitable[None]]:
    async def fail_of_those(key: str, *more: str) -> None:
        if key in keys:
            raise error
        await act(key, *more)

    return fail_of_those


async def test_an_upload_that_cannot_be_ended_is_put_off_and_the_next_is_ended(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [await begin(app, "kid", len(PNG)) for _ in range(2)]
    for path in paths:
        await append(app, "kid", path, 0, PNG[:HALF_PNG])
    first = UUID(paths[0].rpartition("/")[2])
    await app.pool.execute(
        "UPDATE uploads SET expires_at = now() - CASE file_id WHEN $1 THEN interval '2 s' ELSE interval '1 s' END",
        first,
    )
    stat = app.uploads.objects.stat

    async def away_of_the_first(key: str) -> Stat | None:
        if key.endswith(str(first)):
            raise ObjectsAway("a test")
        return await stat(key)

    with monkeypatch.context() as patched:
        patched.setattr(app.uploads.objects, "stat", away_of_the_first)
        await Sweeper(app.uploads).sweep()
    rows = await app.pool.fetch("SELECT file_id, expires_at > now() AS is_put_off, lease_holder FROM uploads")
    assert [tuple(row) for row in rows] == [(first, True, None)]
    await app.pool.execute("UPDATE uploads SET expires_at = now() - interval '1 second'")
    await sweep(app)
    await assert_nothing_is_left(app)


async def test_what_a_worker_began_and_could_not_note_any_more_goes_in_the_end(app: App) -> None:
    objects = app.uploads.objects
    assert isinstance(objects, LocalStore)
    left, young = [(await objects.begin("document/x", "image/png")).partition(":")[0] for _ in range(2)]
    os.utime(objects.incoming / left, (0, 0))
    await sweep(app)
    assert await asyncio.to_thread(os.listdir, objects.incoming) == [young]
