"""Whose fault it is when a film cannot be written anew: the file's, or the disk's."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import av
import pytest

from media import work
from media.job import Job
from media.ranges import Unreachable
from tests.support.media import make


class Target:
    """What is written to, on a disk that gives up `at` some step."""

    def __init__(self, at: str, number: int) -> None:
        self._at = at
        self._number = number

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def add_stream_from_template(self, stream: Any) -> Any:
        return stream

    def mux(self, packet: Any) -> None:
        self._do("mux")

    def close(self) -> None:
        self._do("close")

    def _do(self, step: str) -> None:
        if step == self._at:
            raise OSError(self._number, os.strerror(self._number))


@pytest.fixture
def remux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Target], None]:
    opened = av.open

    def run(target: Target) -> None:
        def opens(file: Any, mode: Any = None, **options: Any) -> Any:
            return target if mode == "w" else opened(file, mode, **options)

        monkeypatch.setattr(av, "open", opens)
        work._remux(Job(source=str(film), demuxer="mov", remuxed="never.mp4", muxer="mp4"))

    film = make(tmp_path / "lesson.mp4")
    return run


@pytest.mark.parametrize("at", ["mux", "close"])
def test_a_disk_that_gives_up_while_a_film_is_written_says_nothing_of_the_film(
    remux: Callable[[Target], None], at: str
) -> None:
    with pytest.raises(Unreachable):
        remux(Target(at, errno.EIO))


def test_what_cannot_be_written_for_its_own_sake_is_the_films_fault(remux: Callable[[Target], None]) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        remux(Target("mux", errno.EINVAL))
