"""A lesson's recording in the room page of a real browser: made, agreed to, sent, watched from its middle."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Awaitable
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import av
import pytest
from playwright.async_api import Browser, Locator, Page, Route, expect

from tests.acceptance.test_page import PHONE, Demo, Window
from tests.conftest import StartServer, StorageIn
from tests.support import bombs, media
from tests.support.buckets import ENVIRONMENT

#: A process of its own looks through a film.
MEDIA_MS = 60_000
#: A picture is drawn.
PICTURE_SECONDS = 15
RED, GREEN, BLUE = (200, 30, 30), (30, 160, 30), (30, 30, 200)
SECONDS_OF_EACH = 1.5

#: What a page that records itself does: a canvas in three colours, one after the other. Answers Base64.
RECORD = """
async ([colours, seconds]) => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 180 });
  const paint = canvas.getContext("2d");
  const pieces = [];
  let colour = colours[0];
  const draw = setInterval(() => {
    paint.fillStyle = `rgb(${colour})`;
    paint.fillRect(0, 0, canvas.width, canvas.height);
  }, 40);
  const recorder = new MediaRecorder(canvas.captureStream(25), { mimeType: "video/webm;codecs=vp8" });
  recorder.ondataavailable = ({ data }) => pieces.push(data);
  recorder.start(250);
  for (colour of colours) await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  await new Promise((resolve) => { recorder.onstop = resolve; recorder.stop(); });
  clearInterval(draw);
  const bytes = new Uint8Array(await new Blob(pieces).arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}
"""

#: Until a player knows what it plays; then what it knows.
KNOWN = """
async (video) => {
  const loaded = new Promise((resolve, reject) => { video.onloadedmetadata = resolve; video.onerror = reject; });
  if (video.error) throw new Error(video.error.message);
  if (video.readyState < 1) await loaded;
  return { duration: video.duration, seekable: video.seekable.length ? video.seekable.end(0) : 0 };
}
"""
SEEK = """
async (video, to) => {
  await video.play();
  video.pause();
  const there = new Promise((resolve) => { video.onseeked = resolve; });
  video.currentTime = to;
  await there;
  video.controls = false; // they lie over the picture
  return video.currentTime;
}
"""


class Enter(Protocol):
    """Opens the demo's lesson as one of its people, who comes in unless it is said that they do not."""

    def __call__(self, user_id: str, *, comes_in: bool = True) -> Awaitable[Window]: ...


@pytest.fixture
async def storage(request: pytest.FixtureRequest, storage_in: StorageIn) -> dict[str, str]:
    """The settings of where files are kept: a folder, unless the test says otherwise."""
    settings = await storage_in(getattr(request, "param", "folder"))
    return {name.upper(): value for name, value in settings.items()} | (ENVIRONMENT if settings else {})


@pytest.fixture
async def enter(browser: Browser, start_server: StartServer, storage: dict[str, str]) -> AsyncIterator[Enter]:
    """At the end nothing may have gone wrong in the consoles of those who came."""
    server = await start_server("--demo", **storage)
    async with aiohttp.ClientSession() as http, http.get(f"{server.url}/demo") as response:
        demo = Demo(server, (await response.json())["lessons"][0]["room_name"])
    windows: list[Window] = []

    async def open_as(user_id: str, *, comes_in: bool = True) -> Window:
        window = Window(await (await browser.new_context()).new_page())
        await window.page.goto(demo.link(user_id))
        if comes_in:
            await window.is_connected()
        windows.append(window)
        return window

    yield open_as
    assert [said for window in windows for said in window.complaints] == []


async def open_recordings(window: Window) -> Locator:
    await window.page.get_by_role("button", name="Recordings", exact=True).click()
    dialog = window.page.get_by_role("dialog", name="Recordings")
    await expect(dialog).to_be_visible()
    return dialog


async def send(dialog: Locator, film: Path, button: str = "Send a recording") -> None:
    async with dialog.page.expect_file_chooser() as choosing:
        await dialog.get_by_role("button", name=button).click()
    await (await choosing.value).set_files(film)


async def watched(dialog: Locator) -> Locator:
    """The player of the only recording, as soon as there is something to play."""
    await dialog.get_by_role("button", name="Watch").click(timeout=MEDIA_MS)
    return dialog.locator("video")


async def colour_of(video: Locator) -> tuple[int, int, int]:
    """What is seen in its middle. A screenshot, because a canvas does not show what comes from elsewhere."""
    with av.open(BytesIO(await video.screenshot()), "r") as container:
        picture = next(container.decode(video=0)).reformat(format="rgb24")
    plane = picture.planes[0]
    place = picture.height // 2 * plane.line_size + picture.width // 2 * 3
    red, green, blue = bytes(plane)[place : place + 3]
    return red, green, blue


def is_about(seen: tuple[int, int, int], colour: tuple[int, int, int]) -> bool:
    return all(abs(one - other) < 45 for one, other in zip(seen, colour, strict=True))


async def shows(video: Locator, colour: tuple[int, int, int]) -> None:
    """Wait for a picture of that colour: it is drawn some time after it was sought."""
    seen = None
    try:
        async with asyncio.timeout(PICTURE_SECONDS):
            while seen is None or not is_about(seen, colour):
                seen = await colour_of(video)
    except TimeoutError:
        raise AssertionError(f"{seen} is seen, not {colour}") from None


async def recorded_by(page: Page, path: Path) -> Path:
    """A film of the browser's own making."""
    colours = [",".join(map(str, colour)) for colour in (RED, GREEN, BLUE)]
    film = base64.b64decode(await page.evaluate(RECORD, [colours, SECONDS_OF_EACH]))
    await asyncio.to_thread(path.write_bytes, film)
    return path


def filmed(path: Path) -> Path:
    """An MP4 as a camera writes it: H.264, with its index at the end."""
    with av.open(str(path), "w", format="mp4") as target:
        stream: Any = target.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = media.WIDTH, media.HEIGHT, "yuv420p"
        for number in range(round(3 * SECONDS_OF_EACH * 10)):
            frame = av.VideoFrame(media.WIDTH, media.HEIGHT, "rgb24")
            colour = (RED, GREEN, BLUE)[int(number / 10 / SECONDS_OF_EACH)]
            plane = frame.planes[0]
            plane.update((bytes(colour) * (plane.buffer_size // 3 + 1))[: plane.buffer_size])
            frame.pts, frame.time_base = number, Fraction(1, 10)
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    content = path.read_bytes()
    assert content.index(b"mdat") < content.index(b"moov")
    return path


@pytest.mark.parametrize("storage", ["folder", "moto", "rclone"], indirect=True)
@pytest.mark.parametrize("kind", ["webm", "mp4"])
async def test_a_film_is_sent_and_watched_from_its_middle(enter: Enter, tmp_path: Path, kind: str) -> None:
    teacher = await enter("demo-teacher")
    path = tmp_path / f"lesson.{kind}"
    film = filmed(path) if kind == "mp4" else await recorded_by(teacher.page, path)
    dialog = await open_recordings(teacher)
    await send(dialog, film)
    video = await watched(dialog)

    known = await video.evaluate(KNOWN)
    assert known["duration"] == pytest.approx(3 * SECONDS_OF_EACH, abs=0.7)
    assert known["seekable"] == pytest.approx(known["duration"], abs=0.1)
    middle = known["duration"] / 2
    assert await video.evaluate(SEEK, middle) == pytest.approx(middle, abs=0.1)
    await shows(video, GREEN)
    await video.evaluate(SEEK, 0.1)
    await shows(video, RED)
    await video.evaluate("(video) => video.play()")
    await teacher.page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    hidden = teacher.page.locator("#recordings video")
    assert await hidden.evaluate("(video) => video.paused && !video.ended"), "it is not heard on"


#: The host's recording program, which is no page of ours, begins.
START_ELSEWHERE = """
    async () => {
      const post = (path, body, token) => fetch(path, {
        method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...token },
      });
      const { token } = await (await post("/demo/sign-in", { user_id: "demo-teacher" })).json();
      const room = new URLSearchParams(location.search).get("session");
      await post(`/sessions/${room}/start-recording`, {}, { Authorization: `Bearer ${token}` });
    }
"""


async def join_video(teacher: Window) -> None:
    """Who records is in the video, if only to look."""
    await teacher.page.get_by_role("button", name="Join video").click()
    await expect(teacher.page.get_by_role("button", name="Leave video")).to_be_visible(timeout=15_000)


async def test_everybody_sees_that_the_lesson_is_recorded_and_what_has_come_of_it(enter: Enter, tmp_path: Path) -> None:
    teacher, student = await enter("demo-teacher"), await enter("demo-student")
    marks = [window.page.locator("#recording") for window in (teacher, student)]
    dialog = await open_recordings(teacher)
    await expect(dialog).to_contain_text("Nothing has been recorded yet.")
    await teacher.page.evaluate(START_ELSEWHERE)
    for mark in marks:
        await expect(mark).to_be_visible()
    await student.page.reload()
    await student.is_connected()
    await expect(marks[1]).to_be_visible()
    await dialog.get_by_role("button", name="Stop recording").click()
    for mark in marks:
        await expect(mark).to_be_hidden()
    await expect(teacher.page.locator("#lesson-status")).to_have_text("Live")
    await expect(dialog).to_contain_text("Waits for its file")

    film = media.make(tmp_path / "lesson.webm", live=True)
    await send(dialog, film, "Send the file of the recording")
    shown = await open_recordings(student)
    await expect(await watched(shown)).to_be_visible()
    await expect(shown.locator("li")).to_have_count(1)
    await expect(shown).to_contain_text("0:02")
    await expect(shown.get_by_role("button", name=re.compile("Start|Send|Delete"))).to_have_count(0)
    await dialog.get_by_role("button", name=re.compile("^Delete")).click(timeout=MEDIA_MS)
    await teacher.page.locator("#confirm-yes").click()
    await expect(dialog).to_contain_text("Nothing has been recorded yet.")


async def ask_before_recording(teacher: Window) -> None:
    await teacher.page.get_by_role("button", name="Settings of the lesson").click()
    await teacher.page.get_by_label("Ask before recording").check()
    await teacher.page.keyboard.press("Escape")


async def test_nothing_is_recorded_before_everybody_has_agreed(enter: Enter) -> None:
    teacher, student, parent = [await enter(f"demo-{who}") for who in ("teacher", "student", "parent")]
    await join_video(teacher)
    await ask_before_recording(teacher)
    of_student, of_parent = (window.page.get_by_role("dialog", name="May this") for window in (student, parent))
    await of_student.get_by_role("button", name="I agree").click()
    await expect(of_student).to_contain_text("Your parent or guardian has to agree for you.")
    student.forget_the_network()
    await of_student.get_by_role("button", name="Later").click()

    dialog = await open_recordings(teacher)
    await expect(dialog).to_contain_text("Leo Brandt and Nina Brandt have not answered yet.")
    await dialog.get_by_role("button", name="Start recording").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Not everybody has agreed to be recorded")
    await expect(of_parent).to_contain_text("counts for Leo Brandt too")
    await of_parent.get_by_role("button", name="I agree").click()
    await expect(dialog).to_contain_text("Everybody who is here has agreed to be recorded.")
    await dialog.get_by_role("button", name="Start recording").click()
    await expect(student.page.locator("#recording")).to_be_visible()

    shown = await open_recordings(parent)
    await shown.get_by_role("button", name="Take it back").click()
    await expect(student.page.locator("#recording")).to_be_hidden()
    await expect(dialog).to_contain_text("Leo Brandt and Nina Brandt do not agree to be recorded.")


async def test_who_comes_while_it_is_recorded_agrees_first(enter: Enter) -> None:
    teacher = await enter("demo-teacher")
    await join_video(teacher)
    await ask_before_recording(teacher)
    dialog = await open_recordings(teacher)
    await dialog.get_by_role("button", name="Start recording").click()
    await expect(teacher.page.locator("#recording")).to_be_visible()
    parent = await enter("demo-parent", comes_in=False)
    notice = parent.page.locator("#notice")
    await expect(notice).to_contain_text("This lesson is being recorded")
    await notice.get_by_role("button", name="Agree and come in").click()
    await parent.is_connected()
    await expect(parent.page.locator("#recording")).to_be_visible()


async def test_a_file_goes_on_where_it_stopped_after_a_reload(enter: Enter, tmp_path: Path) -> None:
    teacher = await enter("demo-teacher")
    film = bombs.endless_segment(
        tmp_path / "lesson.webm", media.make(tmp_path / "short.webm", live=True), more=20 * bombs.MIB
    )
    offsets: list[int] = []
    through = 2

    async def count(route: Route) -> None:
        if route.request.method == "PATCH":
            offsets.append(int(route.request.headers["upload-offset"]))
            if len(offsets) > through:
                await route.abort()
                return
        await route.continue_()

    await teacher.page.route("**/uploads/**", count)
    dialog = await open_recordings(teacher)
    await send(dialog, film)
    await expect(dialog.locator("#send-share")).to_have_text("8.4 MB of 21 MB")
    await teacher.page.reload()
    await teacher.is_connected()
    dialog = await open_recordings(teacher)
    await expect(dialog).to_contain_text("“lesson.webm” has not come all the way.")

    through, begun = 100, len(offsets)
    await send(dialog, film)
    await expect(await watched(dialog)).to_be_visible()
    assert min(offsets[begun:]) == offsets[1] + 4 * bombs.MIB, "not from its beginning"
    await expect(dialog).not_to_contain_text("has not come all the way")
    teacher.forget_the_network()


async def test_the_recordings_fit_on_a_phone_and_close_by_the_keyboard(browser: Browser, enter: Enter) -> None:
    teacher = await enter("demo-teacher")
    await teacher.page.set_viewport_size(PHONE)
    dialog = await open_recordings(teacher)
    box = await dialog.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]
    await expect(dialog.get_by_role("button", name="Send a recording")).to_be_in_viewport()
    assert await teacher.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    await teacher.page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(teacher.page.get_by_role("button", name="Recordings", exact=True)).to_be_focused()
