"""Real files in every type that may be uploaded, made with FFmpeg's own encoders."""

from __future__ import annotations

import math
from array import array
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av

WIDTH: Final = 320
HEIGHT: Final = 180
RATE: Final = 10
SAMPLE_RATE: Final = 44_100

#: By extension: FFmpeg's name of the format, of the pictures' codec and of the sound's.
RECIPES: Final[dict[str, tuple[str, str | None, str | None]]] = {
    "webm": ("webm", "libvpx", "libopus"),
    "mp4": ("mp4", "mpeg4", "aac"),
    "mov": ("mov", "mpeg4", "aac"),
    "avi": ("avi", "mpeg4", "mp3"),
    "wmv": ("asf", "wmv2", "wmav2"),
    "mp3": ("mp3", None, "mp3"),
    "wav": ("wav", None, "pcm_s16le"),
    "m4a": ("ipod", None, "aac"),
    "aac": ("adts", None, "aac"),
    "ogg": ("ogg", None, "libopus"),
}


def make(path: Path, *, seconds: float = 2.0, recipe: str | None = None, live: bool = False) -> Path:
    """A film or a sound of so many seconds. `live`: as a browser's MediaRecorder writes it, without a duration."""
    form, pictures, sound = RECIPES[recipe or path.suffix[1:]]
    with av.open(str(path), "w", format=form, options={"live": "1"} if live else {}) as target:
        video: Any = None
        audio: Any = None
        if pictures is not None:
            video = target.add_stream(pictures, rate=RATE)
            video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if sound is not None:
            audio = target.add_stream(sound, rate=48_000 if sound == "libopus" else SAMPLE_RATE, layout="mono")
            audio.bit_rate = 64_000
        if video is not None:
            _draw(target, video, round(seconds * RATE))
        if audio is not None:
            _sound(target, audio, seconds)
    return path


def _draw(target: Any, stream: Any, frames: int) -> None:
    for number in range(frames):
        frame = av.VideoFrame(WIDTH, HEIGHT, "rgb24")
        plane = frame.planes[0]
        plane.update(bytes((number * 5 % 256, 128, 64)) * (plane.buffer_size // 3) + bytes(plane.buffer_size % 3))
        frame.pts, frame.time_base = number, Fraction(1, RATE)
        target.mux(stream.encode(frame))
    target.mux(stream.encode())


def _sound(target: Any, stream: Any, seconds: float) -> None:
    rate = stream.codec_context.sample_rate
    wave = array("h", (round(math.sin(step * 440 * math.tau / rate) * 8_000) for step in range(int(seconds * rate))))
    resampler = av.AudioResampler(
        format=stream.codec_context.format, layout="mono", rate=rate, frame_size=stream.codec_context.frame_size or 1024
    )
    frame = av.AudioFrame(format="s16", layout="mono", samples=len(wave))
    frame.planes[0].update(wave.tobytes().ljust(frame.planes[0].buffer_size, b"\0"))
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    for one in (*resampler.resample(frame), *resampler.resample(None)):
        target.mux(stream.encode(one))
    target.mux(stream.encode())
