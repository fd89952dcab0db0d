"""``python -m media.work LIMITS``: reads one :class:`media.job.Job` from its input, does it, and answers on its output.

A process of its own for each file: what a file made to break a decoder does to it happens to nobody else. It takes the
limits that it is given (:class:`media.job.Limits`, as JSON) before it opens the file.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import av
import msgspec
from av.stream import Disposition

from media.job import Answer, Facts, Job, Limits
from media.ranges import Gone, Unreachable, open_source

#: How much nicer than the server: lessons come first.
NICENESS: Final = 10
#: Where the thumbnail is taken: not the first picture, which is often black.
THUMBNAIL_SHARE: Final = 0.1
THUMBNAIL_MAX_SECONDS: Final = 10.0
THUMBNAIL_MAX_WIDTH: Final = 640
THUMBNAIL_MAX_HEIGHT: Final = 1280
#: Pictures that are decoded in search of one.
THUMBNAIL_TRIES: Final = 120
#: Threads of a decoder: more of them would only use up the processor's seconds faster than the clock's.
DECODER_THREADS: Final = 1
#: Seconds of the processor between the signal that says that they are used up, and the one that says nothing.
LAST_SECONDS: Final = 5
#: Most pixels a picture may have: what its decoder would take memory for.
MAX_PIXELS: Final = 8192 * 8192
#: Nothing lasts longer: a file that says so was made to.
MAX_SECONDS: Final = 7 * 86_400

#: What is said where a file cannot be written for reasons of this machine's.
_MACHINE_ERRORS: Final = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.ENFILE),
        *(errno.ESTALE, errno.ETIMEDOUT, errno.ENODEV, errno.ENXIO, errno.ENOTCONN),
    }
)
#: Atoms that are looked at in search of the index.
MAX_ATOMS: Final = 1_000


class _Unfit(Exception):
    """The file cannot be used, for a reason that its sender can be told."""


def main() -> int:
    _take(msgspec.json.decode(sys.argv[1], type=Limits))
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    if job.max_written_bytes is not None:
        # Beyond it writing fails with EFBIG: Python has the signal ignored.
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.max_written_bytes, job.max_written_bytes))
    try:
        answer = Answer(facts=_done(job))
    except _Unfit as unfit:
        answer = Answer(problem=str(unfit))
    except Gone:
        answer = Answer(gone=True)
    except Unreachable as error:
        answer = Answer(away=str(error))
    except MemoryError:  # FFmpeg's own is one
        answer = Answer(problem="The file takes more memory to read than a file may.")
    except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
        number = getattr(error, "errno", None)
        if number in _MACHINE_ERRORS:
            answer = Answer(away=_said(error))
        elif number == errno.EFBIG:
            answer = Answer(problem="The file says that it holds far more than it does.")
        else:
            answer = Answer(problem=f"The file cannot be read as {job.demuxer}: {_said(error)}.")
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


def _take(limits: Limits) -> None:
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    # SIGXCPU at the first: it tells from whatever else may kill. At the second, SIGKILL (setrlimit(2)).
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds + LAST_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _said(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")


def _done(job: Job) -> Facts:
    with _opened(job) as container:
        video, audio = _streams(container)
        seconds = _seconds(container)
        facts = Facts(
            seconds=seconds,
            video_codec=video.codec_context.name if video else None,
            audio_codec=audio.codec_context.name if audio else None,
            width=video.width if video else None,
            height=video.height if video else None,
        )
    if job.remuxed is not None and (seconds is None or not _begins_with_its_index(job)):
        _remux(job)
        with av.open(job.remuxed) as whole:
            seconds = _seconds(whole)
        facts = msgspec.structs.replace(facts, seconds=seconds, was_remuxed=True)
    if facts.seconds is None:
        facts = msgspec.structs.replace(facts, seconds=_last_moment(job))
    if job.thumbnail is not None and facts.video_codec is not None and _thumbnail(job, facts.seconds):
        facts = msgspec.structs.replace(facts, has_thumbnail=True)
    return facts


@contextmanager
def _opened(job: Job) -> Iterator[Any]:
    with open_source(job.source) as source, av.open(source, format=job.demuxer) as container:
        yield container


def _streams(container: Any) -> tuple[Any, Any]:
    """The pictures and the sound. Raises _Unfit where there is neither, or the pictures are too large."""
    # A cover is a stream of one picture.
    video = next((one for one in container.streams.video if not one.disposition & Disposition.attached_pic), None)
    audio = next(iter(container.streams.audio), None)
    if video is None and audio is None:
        raise _Unfit("The file holds neither pictures nor sound.")
    if video is not None and video.width * video.height > MAX_PIXELS:
        raise _Unfit(f"Pictures of {video.width} × {video.height} are too large.")
    return video, audio


def _seconds(container: Any) -> float | None:
    """As the file says it. A live recording says nothing."""
    if container.duration is None or container.duration <= 0:
        return None
    return _believable(float(container.duration) / av.time_base)


def _believable(seconds: float) -> float:
    if seconds > MAX_SECONDS:
        raise _Unfit("The file says that it lasts longer than a week.")
    return round(seconds, 3)


def _last_moment(job: Job) -> float | None:
    """As its packets say it: where the last one ends."""
    last = 0.0
    with _opened(job) as container:
        for packet in container.demux():
            if packet.pts is not None:
                last = max(last, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return _believable(last) or None


def _begins_with_its_index(job: Job) -> bool:
    """Whether a player finds its way in the file before it has all of it: `moov` before `mdat` (ISO/IEC 14496-12, 6.2).
    True of what is no such file."""
    if job.demuxer != "mov":
        return True
    with open_source(job.source) as source:
        place = 0
        for _ in range(MAX_ATOMS):
            source.seek(place)
            head = source.read(16)
            if len(head) < 8:
                break
            size, kind = int.from_bytes(head[:4]), head[4:8]
            if kind in (b"moov", b"mdat"):
                return kind == b"moov"
            size = int.from_bytes(head[8:16]) if size == 1 else size
            if size < 8:
                break
            place += size
    return True


@contextmanager
def _writing() -> Iterator[None]:
    """What goes on in here writes: EIO, which demuxers say of broken files as well, is then the disk's."""
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        if getattr(error, "errno", None) == errno.EIO:
            raise Unreachable(_said(error)) from error
        raise


def _remux(job: Job) -> None:
    """The same packets once more, with an index in front, a duration, and cues."""
    assert job.remuxed is not None
    options = {"movflags": "+faststart"} if job.demuxer == "mov" else {"cues_to_front": "1"}
    with _opened(job) as container, av.open(job.remuxed, "w", format=job.muxer, options=options) as target:
        kept = {one.index: target.add_stream_from_template(one) for one in _streams(container) if one is not None}
        for packet in container.demux([container.streams[index] for index in kept]):
            if packet.dts is not None:
                packet.stream = kept[packet.stream.index]
                with _writing():
                    target.mux(packet)
        with _writing():
            target.close()


def _thumbnail(job: Job, seconds: float | None) -> bool:
    """Write a JPEG of a moment near the beginning. Whether there was a picture to take."""
    assert job.thumbnail is not None
    wanted = min((seconds or 0.0) * THUMBNAIL_SHARE, THUMBNAIL_MAX_SECONDS)
    with _opened(job) as container:
        video, _ = _streams(container)
        # Each picture has a size of its own, whatever the file said of them all.
        video.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        video.codec_context.thread_count = DECODER_THREADS
        picture = None
        for tried, frame in enumerate(container.decode(video)):
            picture = frame
            if (frame.time or 0.0) >= wanted or tried >= THUMBNAIL_TRIES:
                break
        if picture is None:
            return False
    scale = min(1.0, THUMBNAIL_MAX_WIDTH / picture.width, THUMBNAIL_MAX_HEIGHT / picture.height)
    width, height = (max(2, round(side * scale) // 2 * 2) for side in (picture.width, picture.height))
    with av.open(job.thumbnail, "w", format="mjpeg") as target:
        stream = target.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        stream.codec_context.thread_count = DECODER_THREADS
        small = picture.reformat(width=width, height=height, format="yuvj420p")
        small.pts = None
        for packet in (*stream.encode(small), *stream.encode()):
            target.mux(packet)
    return True


if __name__ == "__main__":
    sys.exit(main())
