"""Files looked through in processes of their own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import av
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from media import pool
from media.job import Facts, Job
from media.pool import Broken, MediaPool, SourceAway, SourceGone, Unreadable
from media.types import HEAD_BYTES, type_of
from media.work import NICENESS
from tests.support import bombs
from tests.support.media import HEIGHT, RECIPES, WIDTH, make
from tests.support.processes import HOST, free_port


def job_for(path: Path, *, remuxed: str | None = None, muxer: str | None = None, thumbnail: str | None = None) -> Job:
    found = type_of(path.read_bytes()[:HEAD_BYTES])
    assert found is not None
    assert found.demuxer is not None
    return Job(source=str(path), demuxer=found.demuxer, remuxed=remuxed, muxer=muxer, thumbnail=thumbnail)


async def look(
    path: Path, *, remuxed: str | None = None, muxer: str | None = None, thumbnail: str | None = None
) -> Facts:
    return await MediaPool().run(job_for(path, remuxed=remuxed, muxer=muxer, thumbnail=thumbnail))


@pytest.mark.parametrize("extension", RECIPES)
async def test_every_type_tells_how_long_it_is_and_what_it_holds(tmp_path: Path, extension: str) -> None:
    facts = await look(make(tmp_path / f"lesson.{extension}"))

    assert facts.seconds == pytest.approx(2.0, abs=0.2)
    has_pictures = RECIPES[extension][1] is not None
    assert (facts.width, facts.height) == ((WIDTH, HEIGHT) if has_pictures else (None, None))
    assert (facts.video_codec is not None) == has_pictures
    assert facts.audio_codec is not None


async def test_a_thumbnail_is_a_small_jpeg(tmp_path: Path) -> None:
    thumbnail = tmp_path / "thumbnail.jpg"

    facts = await look(make(tmp_path / "lesson.mp4"), thumbnail=str(thumbnail))

    assert facts.has_thumbnail
    found = type_of(thumbnail.read_bytes())
    assert found is not None
    assert found.name == "JPEG"
    with av.open(str(thumbnail)) as picture:
        assert picture.streams.video[0].width == WIDTH


async def test_a_sound_has_no_thumbnail(tmp_path: Path) -> None:
    facts = await look(make(tmp_path / "lesson.mp3"), thumbnail=str(tmp_path / "thumbnail.jpg"))

    assert not facts.has_thumbnail


async def test_a_browsers_recording_gets_the_duration_and_the_cues_that_it_lacks(tmp_path: Path) -> None:
    recorded, whole = make(tmp_path / "lesson.webm", seconds=5, live=True), tmp_path / "whole.webm"
    with av.open(str(recorded)) as container:
        assert container.duration is None, "as MediaRecorder writes it"

    facts = await look(recorded, remuxed=str(whole), muxer="webm")

    assert facts.was_remuxed
    assert facts.seconds == pytest.approx(5.0, abs=0.2)
    cues = bytes.fromhex("1c53bb6b")
    assert whole.read_bytes().find(cues) < whole.read_bytes().find(bytes.fromhex("1f43b675")), "before the clusters"


async def test_a_film_with_its_index_at_the_end_gets_it_in_front(tmp_path: Path) -> None:
    filmed, whole = make(tmp_path / "lesson.mp4"), tmp_path / "whole.mp4"
    assert filmed.read_bytes().find(b"mdat") < filmed.read_bytes().find(b"moov")

    facts = await look(filmed, remuxed=str(whole), muxer="mp4")

    assert facts.was_remuxed
    assert whole.read_bytes().find(b"moov") < whole.read_bytes().find(b"mdat")
    again = await look(whole, remuxed=str(tmp_path / "again.mp4"), muxer="mp4")
    assert not again.was_remuxed


@pytest.mark.parametrize("cut", [40, 400, 4_000])
async def test_a_file_that_was_cut_short_fails_or_is_read_as_far_as_it_goes(tmp_path: Path, cut: int) -> None:
    whole = make(tmp_path / "lesson.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[:cut])

    with pytest.raises(Unreadable, match="cannot be read"):
        await look(tmp_path / "cut.mp4")


@pytest.mark.parametrize("extension", ["webm", "mp4", "avi", "ogg"])
async def test_a_file_that_lies_about_its_type_fails_alone(tmp_path: Path, extension: str) -> None:
    head = make(tmp_path / f"lesson.{extension}", seconds=0.5).read_bytes()[:64]
    path = tmp_path / "lie"
    path.write_bytes(head + os.urandom(100_000))

    with pytest.raises(Unreadable):
        await look(path)


async def test_a_playlist_in_disguise_opens_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"ffconcat version 1.0\nfile /etc/passwd\n")

    with pytest.raises(Unreadable):
        await MediaPool().run(Job(source=str(tmp_path / "list"), demuxer="mov"))


#: Each made in a folder, and what is said of it.
BOMBS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a picture named a million times": (
        lambda folder: bombs.endless_table(folder / "table.mov", samples=20_000),
        "holds far more than it does",
    ),
    "pictures too large": (lambda folder: bombs.vast_pictures(folder / "vast.mov", side=16_000), "16000 × 16000"),
    "pictures too large for anybody": (
        lambda folder: bombs.vast_pictures(folder / "vast.mov", side=65_535),
        "cannot be read as mov",
    ),
    "pictures larger than the file says": (
        lambda folder: bombs.grown(folder / "grown.webm", make(folder / "lesson.webm", seconds=0.5)),
        "cannot be read as matroska",
    ),
    "an age": (
        lambda folder: bombs.ageless(folder / "age.webm", make(folder / "lesson.webm", seconds=0.5), seconds=1e12),
        "longer than a week",
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_file_made_to_break_its_reader_fails_alone_and_it_is_said_why(tmp_path: Path, bomb: str) -> None:
    made, reason = BOMBS[bomb]
    path = made(tmp_path)
    out = tmp_path / f"out{path.suffix}"
    job = msgspec.structs.replace(
        job_for(path, remuxed=str(out), muxer=path.suffix[1:], thumbnail=str(tmp_path / "thumbnail.jpg")),
        max_written_bytes=4 * bombs.MIB,
    )
    media = MediaPool(processes=1)
    other = make(tmp_path / "other.mp3")

    failed, facts = await asyncio.gather(media.run(job), media.run(job_for(other)), return_exceptions=True)

    assert isinstance(failed, Unreadable)
    assert reason in str(failed)
    assert isinstance(facts, Facts)


async def test_what_has_no_end_is_read_as_far_as_it_makes_sense(tmp_path: Path) -> None:
    live = make(tmp_path / "live.webm", live=True)

    facts = await look(
        bombs.endless_segment(tmp_path / "endless.webm", live), remuxed=str(tmp_path / "whole.webm"), muxer="webm"
    )

    assert facts.seconds == pytest.approx(2.0, abs=0.2)
    assert (tmp_path / "whole.webm").stat().st_size < 2 * live.stat().st_size


async def test_a_cover_is_not_decoded_however_large_it_is(tmp_path: Path) -> None:
    facts = await look(bombs.vast_cover(tmp_path / "cover.mp3", make(tmp_path / "lesson.mp3")))

    assert facts.seconds == pytest.approx(2.0, abs=0.2)
    assert facts.video_codec is None


def children() -> set[int]:
    """The processes of this one's main thread."""
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def limits_of(pid: int) -> dict[str, str]:
    """By their names in proc(5): name, soft limit, hard limit and unit stand in columns."""
    return {
        line[:26].strip(): line[26:].split()[0] for line in Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    }


async def test_a_process_has_its_limits_before_it_opens_the_file(tmp_path: Path) -> None:
    fifo = tmp_path / "never"
    os.mkfifo(fifo)
    others = children()
    running = asyncio.create_task(MediaPool(memory_bytes=2**30).run(Job(source=str(fifo), demuxer="mov")))
    # That it opens the fifo for reading is what lets it be opened for writing.
    sink = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)
    [child] = children() - others
    limits = limits_of(child)
    niceness = os.getpriority(os.PRIO_PROCESS, child)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    os.close(sink)

    assert (limits["Max address space"], limits["Max cpu time"], limits["Max core file size"]) == (
        str(2**30),
        "900",
        "0",
    )
    assert niceness == min(19, NICENESS + os.getpriority(os.PRIO_PROCESS, 0))


async def test_a_file_that_asks_for_too_much_memory_fails_alone(tmp_path: Path) -> None:
    path = make(tmp_path / "lesson.webm")

    with pytest.raises((Unreadable, Broken)):
        await MediaPool(memory_bytes=64 * 1024 * 1024).run(job_for(path))
    assert (await look(path)).seconds


async def test_a_file_that_takes_too_long_is_given_up_and_its_process_ended(tmp_path: Path) -> None:
    fifo = tmp_path / "never"
    os.mkfifo(fifo)

    with pytest.raises(Unreadable, match="longer than"):
        await MediaPool(seconds=1).run(Job(source=str(fifo), demuxer="mov"))


async def test_a_file_that_takes_too_much_of_the_processor_is_given_up_and_it_is_said_why() -> None:
    atoms = b"\0\0\0\x08free" * 2**19

    async def answer(request: web.Request) -> web.Response:
        start, end = request.http_range.start or 0, request.http_range.stop or 0
        return web.Response(
            status=206, headers={"Content-Range": f"bytes {start}-{end - 1}/{2**50}"}, body=atoms[: end - start]
        )

    app = web.Application()
    app.router.add_get("/film", answer)
    async with TestServer(app) as server:
        with pytest.raises(Unreadable, match="longer than 1 s"):
            await MediaPool(processor_seconds=1).run(Job(source=str(server.make_url("/film")), demuxer="mov"))


async def test_who_says_more_than_an_answer_has_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "lesson.mp3")
    others = children()
    monkeypatch.setattr(pool, "MAX_ANSWER_BYTES", 10)

    with pytest.raises(Broken, match="more than 10 bytes"):
        await MediaPool().run(job_for(path))
    assert children() <= others


async def test_no_more_processes_run_at_a_time_than_there_are_places(tmp_path: Path) -> None:
    fifo = tmp_path / "never"
    os.mkfifo(fifo)
    media = MediaPool(processes=1)
    first = asyncio.create_task(media.run(Job(source=str(fifo), demuxer="mov")))
    second = asyncio.create_task(media.run(job_for(make(tmp_path / "lesson.mp3"))))
    await asyncio.sleep(0)

    assert not second.done()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await second).seconds


async def test_where_the_file_cannot_be_read_just_now_nothing_is_said_of_the_file() -> None:
    with pytest.raises(SourceAway):
        await MediaPool().run(Job(source=f"http://{HOST}:{free_port()}/film", demuxer="mov"))


@pytest.mark.parametrize("then", ["away", "whole", "cut"])
async def test_a_bucket_that_goes_away_in_between_is_not_the_files_fault(tmp_path: Path, then: str) -> None:
    film = await asyncio.to_thread(lambda: make(tmp_path / "lesson.mp4").read_bytes())

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.http_range.start == 0 and request.http_range.stop == 1:
            return web.Response(status=206, headers={"Content-Range": f"bytes 0-0/{len(film)}"}, body=film[:1])
        if then == "away":
            return web.Response(status=503)
        if request.http_range.start == 0:
            return web.Response(status=206, body=film[: len(film) // 2])
        if then == "whole":
            return web.Response(body=film)
        said = f"bytes {request.http_range.start}-{len(film) - 1}/{len(film)}"
        cut = web.StreamResponse(status=206, headers={"Content-Length": str(len(film)), "Content-Range": said})
        await cut.prepare(request)
        assert request.transport is not None
        request.transport.close()
        return cut

    app = web.Application()
    app.router.add_get("/film", answer)
    async with TestServer(app) as server:
        with pytest.raises(SourceAway, match={"away": "503", "whole": "beginning", "cut": "broke off|reset"}[then]):
            await MediaPool().run(Job(source=str(server.make_url("/film")), demuxer="mov"))


async def test_a_file_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(SourceGone):
        await MediaPool().run(Job(source=str(tmp_path / "nothing"), demuxer="mov"))


async def test_a_full_disk_is_not_the_files_fault(tmp_path: Path) -> None:
    path = make(tmp_path / "lesson.mp4")

    with pytest.raises(SourceAway):
        await MediaPool().run(job_for(path, remuxed="/dev/full", muxer="mp4"))


async def test_a_file_is_not_written_anew_much_larger_than_it_came(tmp_path: Path) -> None:
    path, whole = make(tmp_path / "lesson.mp4"), tmp_path / "whole.mp4"
    job = msgspec.structs.replace(job_for(path, remuxed=str(whole), muxer="mp4"), max_written_bytes=1_000)

    with pytest.raises(Unreadable, match="far more"):
        await MediaPool().run(job)
    assert not whole.exists() or whole.stat().st_size <= 1_000
