"""Films that tests send from the room page."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from playwright.async_api import Locator, Page

from tests.support import media

RED, GREEN, BLUE = (200, 30, 30), (30, 160, 30), (30, 30, 200)
SECONDS_OF_EACH = 1.0

#: What a page that records itself does: a canvas in three colours, one after the other. Answers the film in Base64, and
#: the seconds at which each colour ended.
RECORD = """
async ([colours, seconds]) => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 180 });
  const paint = canvas.getContext("2d");
  const [pieces, ends] = [[], []];
  let colour = colours[0];
  const draw = setInterval(() => {
    paint.fillStyle = `rgb(${colour})`;
    paint.fillRect(0, 0, canvas.width, canvas.height);
  }, 40);
  const recorder = new MediaRecorder(canvas.captureStream(25), { mimeType: "video/webm;codecs=vp8" });
  recorder.ondataavailable = ({ data }) => pieces.push(data);
  await new Promise((resolve) => { recorder.onstart = resolve; recorder.start(250); });
  const start = performance.now();
  for (colour of colours) {
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    ends.push((performance.now() - start) / 1000);
  }
  await new Promise((resolve) => { recorder.onstop = resolve; recorder.stop(); });
  clearInterval(draw);
  const bytes = new Uint8Array(await new Blob(pieces).arrayBuffer());
  return [btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")), ends];
}
"""


@dataclass(frozen=True)
class Film:
    """Three colours, one after the other: red, green, blue."""

    path: Path
    #: The seconds at which each of them ends.
    ends: list[float]

    @property
    def in_the_green(self) -> float:
        return (self.ends[0] + self.ends[1]) / 2


async def recorded_by(page: Page, path: Path) -> Film:
    """A film of the browser's own making."""
    colours = [",".join(map(str, colour)) for colour in (RED, GREEN, BLUE)]
    content, ends = await page.evaluate(RECORD, [colours, SECONDS_OF_EACH])
    await asyncio.to_thread(path.write_bytes, base64.b64decode(content))
    return Film(path, ends)


def filmed(path: Path) -> Film:
    """An MP4 as a camera writes it: H.264, with its index at the end."""
    rate, ends = 10, [SECONDS_OF_EACH * n for n in (1, 2, 3)]
    with av.open(str(path), "w", format="mp4") as target:
        stream: Any = target.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = media.WIDTH, media.HEIGHT, "yuv420p"
        for number in range(round(ends[-1] * rate)):
            frame = av.VideoFrame(media.WIDTH, media.HEIGHT, "rgb24")
            colour = (RED, GREEN, BLUE)[int(number / rate / SECONDS_OF_EACH)]
            plane = frame.planes[0]
            plane.update((bytes(colour) * (plane.buffer_size // 3 + 1))[: plane.buffer_size])
            frame.pts, frame.time_base = number, Fraction(1, rate)
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    content = path.read_bytes()
    assert content.index(b"mdat") < content.index(b"moov")
    return Film(path, ends)


async def send(dialog: Locator, film: Path, button: str = "Send a recording") -> None:
    """Choose a file in the dialog of the recordings."""
    async with dialog.page.expect_file_chooser() as choosing:
        await dialog.get_by_role("button", name=button).click()
    await (await choosing.value).set_files(film)


async def watched(dialog: Locator) -> Locator:
    """The player of the only recording, as soon as there is something to play."""
    await dialog.get_by_role("button", name="Watch").click()
    return dialog.locator("video")
