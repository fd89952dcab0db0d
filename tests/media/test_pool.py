"""Files looked through in processes of their own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import av
import pytest

from media.job import Facts, Job
from media.pool import MediaPool, Unreadable
from media.types import HEAD_BYTES, type_of
from tests.support.media import HEIGHT, RECIPES, WIDTH, make


def job_for(path: Path, **wanted: str) -> Job:
    found = type_of(path.read_bytes()[:HEAD_BYTES])
    assert found is not None
    assert found.demuxer is not None
    return Job(source=str(path), demuxer=found.demuxer, **wanted)


async def look(path: Path, **wanted: str) -> Facts:
    return await MediaPool().run(job_for(path, **wanted))


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


async def test_a_file_that_asks_for_too_much_memory_fails_alone(tmp_path: Path) -> None:
    path = make(tmp_path / "lesson.webm")

    with pytest.raises(Unreadable):
        await MediaPool(memory_bytes=64 * 1024 * 1024).run(job_for(path))
    assert (await look(path)).seconds


async def test_a_file_that_takes_too_long_is_given_up_and_its_process_ended(tmp_path: Path) -> None:
    fifo = tmp_path / "never"
    os.mkfifo(fifo)

    with pytest.raises(Unreadable, match="longer than"):
        await MediaPool(seconds=1).run(Job(source=str(fifo), demuxer="mov"))


async def test_no_more_processes_run_at_a_time_than_there_are_places(tmp_path: Path) -> None:
    fifo = tmp_path / "never"
    os.mkfifo(fifo)
    pool = MediaPool(processes=1)
    first = asyncio.create_task(pool.run(Job(source=str(fifo), demuxer="mov")))
    second = asyncio.create_task(pool.run(job_for(make(tmp_path / "lesson.mp3"))))
    await asyncio.sleep(0)

    assert not second.done()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await second).seconds
