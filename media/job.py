"""What is asked of a media process, and what it answers: one JSON document each way."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one process may take of the machine: bytes of memory that it addresses, seconds of the processor."""

    memory_bytes: int
    seconds: int


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """`source` is the path of a file, or a URL that serves ranges of it; `demuxer` FFmpeg's name of its format, which
    is all that it is read as. `thumbnail` and `remuxed` are paths to write to, None for what is not wanted; the latter
    is written, in the format `muxer`, only if the file cannot be sought in as it is. No file that is written becomes
    larger than `max_written_bytes`."""

    source: str
    demuxer: str
    thumbnail: str | None = None
    remuxed: str | None = None
    muxer: str | None = None
    max_written_bytes: int | None = None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a file holds. `seconds` is None where nothing tells; `has_thumbnail` and `was_remuxed`: it was written."""

    seconds: float | None
    video_codec: str | None = None
    audio_codec: str | None = None
    width: int | None = None
    height: int | None = None
    has_thumbnail: bool = False
    was_remuxed: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Facts, or why there are none: the file's `problem`, in words for whoever sent it, that it is `gone`, or what is
    `away` that has nothing to do with the file."""

    facts: Facts | None = None
    problem: str | None = None
    gone: bool = False
    away: str | None = None
