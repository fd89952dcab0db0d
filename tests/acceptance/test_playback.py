"""A lesson's recording in the room page of a real browser: made, agreed to, sent, watched from its middle."""

from __future__ import annotations

import asyncio
import base64
import re
import wave
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import av
import pytest
from playwright.async_api import Browser, Locator, Page, Request, Route, expect

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


#: A course of the demo's teacher with its student in it, and a live class. Answers the class' room.
ARRANGE_CLASS = """
async () => {
  const call = async (path, body, token) => (await fetch(path, {
    method: "POST", body: JSON.stringify(body),
    headers: { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) },
  })).json();
  const token = async (user_id) => (await call("/demo/sign-in", { user_id })).token;
  const teacher = await token("demo-teacher");
  const { id } = await call("/courses", { title: "Algebra" }, teacher);
  await call(`/courses/${id}/enrollments`, {}, await token("demo-student"));
  const lesson = { courseId: id, startsAt: new Date().toISOString(), title: "Algebra", recordingEnabled: true };
  return (await call("/sessions", lesson, teacher)).roomName;
}
"""


class Enter(Protocol):
    """Opens the demo's lesson, or another, as one of its people, who comes in unless it is said that they do not."""

    def __call__(
        self, user_id: str, *, comes_in: bool = True, beside: Window | None = None, room: str = ""
    ) -> Awaitable[Window]:
        """`beside`: in another tab of the browser in which that window is."""


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

    async def open_as(user_id: str, *, comes_in: bool = True, beside: Window | None = None, room: str = "") -> Window:
        context = beside.page.context if beside else await browser.new_context()
        window = Window(await context.new_page())
        await window.page.goto(replace(demo, room_name=room or demo.room_name).link(user_id))
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


@pytest.mark.parametrize("storage", ["folder", "rclone"], indirect=True)
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
    await expect(student.page.locator("#toasts")).to_contain_text("Your parent or guardian agrees")
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
    stopped = asyncio.Event()
    through = 2  # a first small piece, and one to the end of the parts that are whole

    async def count(route: Route) -> None:
        if route.request.method == "PATCH":
            offsets.append(int(route.request.headers["upload-offset"]))
            if len(offsets) > through:
                stopped.set()
                await route.abort()
                return
        await route.continue_()

    await teacher.page.route("**/uploads/**", count)
    dialog = await open_recordings(teacher)
    await send(dialog, film)
    async with asyncio.timeout(PICTURE_SECONDS):
        await stopped.wait()
    await teacher.page.reload()
    await teacher.is_connected()
    dialog = await open_recordings(teacher)
    await expect(dialog).to_contain_text("“lesson.webm” has not come all the way.")

    through, begun = 100, len(offsets)
    await send(dialog, film)
    await expect(await watched(dialog)).to_be_visible()
    assert min(offsets[begun:]) == 16 * bombs.MIB, "not from its beginning"
    await expect(dialog).not_to_contain_text("has not come all the way")
    teacher.forget_the_network()


async def test_an_update_of_the_server_throws_away_nothing_of_what_was_sent(enter: Enter, tmp_path: Path) -> None:
    teacher = await enter("demo-teacher")
    film, seen, away = media.make(tmp_path / "lesson.webm", live=True), list[str](), True

    async def answer(route: Route) -> None:
        seen.append(route.request.method)
        if away and route.request.method != "POST":
            body = "<html>502 Bad Gateway</html>"
            await route.fulfill(status=502, body=body, content_type="text/html", headers={"Retry-After": "0.001"})
        else:
            await route.continue_()

    await teacher.page.route("**/uploads**", answer)
    await teacher.page.route("**/uploads/**", answer)
    dialog = await open_recordings(teacher)
    await send(dialog, film)
    await expect(dialog).to_contain_text("The server answered 502.")
    await expect(dialog).to_contain_text("“lesson.webm” has not come all the way.")
    away = False
    await send(dialog, film)
    await expect(await watched(dialog)).to_be_visible()
    assert seen.count("POST") == 1, "the upload that was begun is gone on with"
    teacher.forget_the_network()


async def test_a_file_that_is_no_film_is_refused_by_its_beginning(enter: Enter, tmp_path: Path) -> None:
    teacher = await enter("demo-teacher")
    film = tmp_path / "lesson.webm"
    film.write_bytes(b"%PDF-1.7\n" + bytes(40 * bombs.MIB))
    begun: list[Request] = []
    teacher.page.on("request", lambda one: begun.append(one) if one.url.endswith("/uploads") else None)
    dialog = await open_recordings(teacher)
    await send(dialog, film)
    await expect(dialog.locator("#send-note")).to_contain_text("what came is PDF")
    await expect(dialog).not_to_contain_text("has not come all the way")
    await expect(dialog).not_to_contain_text("cannot be reached")
    assert len(begun) == 1
    teacher.forget_the_network()


async def test_two_tabs_do_not_send_at_once_and_neither_forgets_what_the_other_sends(
    enter: Enter, tmp_path: Path
) -> None:
    first = await enter("demo-teacher")
    second = await enter("demo-teacher", beside=first)
    film = media.make(tmp_path / "lesson.webm", live=True)
    held = asyncio.Event()

    async def hold(route: Route) -> None:
        if route.request.method == "PATCH":
            await held.wait()
        await route.continue_()

    await first.page.route("**/uploads/**", hold)
    of_first, of_second = await open_recordings(first), await open_recordings(second)
    await send(of_first, film)
    await expect(of_first.locator("#send-line")).to_be_visible()
    await send(of_second, film)
    await expect(of_second).to_contain_text("is being sent in another tab")
    await of_second.get_by_role("button", name="Forget it").click()
    await expect(of_second).to_contain_text("is being sent in another tab")
    held.set()
    await expect(await watched(of_first)).to_be_visible()


async def test_another_file_replaces_a_half_sent_one_only_when_that_is_said(enter: Enter, tmp_path: Path) -> None:
    teacher = await enter("demo-teacher")
    half = bombs.endless_segment(tmp_path / "half.webm", media.make(tmp_path / "short.webm", live=True), more=bombs.MIB)
    deleted: list[str] = []
    broken = True

    async def breaks(route: Route) -> None:
        if route.request.method == "DELETE":
            deleted.append(route.request.url)
        if broken and int(route.request.headers.get("upload-offset", 0)) > 0:
            await route.abort()
        else:
            await route.continue_()

    await teacher.page.route("**/uploads/**", breaks)
    dialog = await open_recordings(teacher)
    await send(dialog, half)
    await expect(dialog.locator("#send-share")).to_have_text(re.compile("^66 KB"))
    await teacher.page.reload()
    await teacher.is_connected()
    broken = False
    dialog = await open_recordings(teacher)
    await send(dialog, tmp_path / "short.webm")
    question = teacher.page.get_by_role("dialog", name="Give up “half.webm”?")
    await question.get_by_role("button", name="Cancel").click()
    await expect(dialog).to_contain_text("“half.webm” has not come all the way.")
    assert deleted == []
    await send(dialog, tmp_path / "short.webm")
    await question.get_by_role("button", name="Give it up").click()
    await expect(await watched(dialog)).to_be_visible()
    assert len(deleted) == 1
    teacher.forget_the_network()


async def test_a_player_plays_on_and_keeps_the_focus_while_another_is_recorded(enter: Enter, tmp_path: Path) -> None:
    teacher, other = await enter("demo-teacher"), await enter("demo-teacher")
    await join_video(other)
    elsewhere, dialog = await open_recordings(other), await open_recordings(teacher)
    await send(dialog, filmed(tmp_path / "lesson.mp4"))
    video = await watched(dialog)
    await video.evaluate("(video) => { video.loop = video.muted = true; window.first = video; return video.play(); }")
    closing = dialog.get_by_role("button", name=re.compile("^Close the recording of"))
    await closing.focus()
    await elsewhere.get_by_role("button", name="Start recording").click()
    await expect(dialog.locator("li")).to_have_count(2)
    await expect(closing).to_be_focused()
    await elsewhere.get_by_role("button", name="Stop recording").click()
    await expect(dialog.locator(".recorded-facts.recording")).to_have_count(0)
    await expect(closing).to_be_focused()
    assert await video.evaluate("(video) => video === window.first && !video.paused"), "it plays on"


def hushed(path: Path) -> Path:
    """Sound of which a browser reads no more than it plays."""
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(48_000)
        sound.writeframes(bytes(2 * 48_000 * 300))
    return path


async def test_a_player_goes_on_where_it_was_when_its_link_has_ended(enter: Enter, tmp_path: Path) -> None:
    teacher = await enter("demo-teacher")
    ended: set[str] = set()

    async def serve(route: Route) -> None:
        await (route.fulfill(status=403, body="{}") if route.request.url in ended else route.continue_())

    await teacher.page.route("**/files/**", serve)
    dialog = await open_recordings(teacher)
    await send(dialog, hushed(tmp_path / "lesson.wav"))
    video = await watched(dialog)
    await expect(video).to_have_js_property("duration", 300)
    link = await video.get_attribute("src")
    assert link is not None
    ended.add(link)
    await video.evaluate("(video) => { video.currentTime = 290; }")
    await expect(video).not_to_have_attribute("src", link, timeout=MEDIA_MS)  # the browser tries the old one some more
    await expect(video).to_have_js_property("readyState", 4)
    await expect(video).to_have_js_property("currentTime", 290)
    assert await video.evaluate("(video) => video.paused"), "as it was"

    ended.add(str(await video.get_attribute("src")))
    await video.evaluate("(video) => { video.currentTime = 100; }")
    refused = "The recording cannot be played on."
    await expect(dialog.get_by_role("alert")).to_contain_text(refused, timeout=MEDIA_MS)
    teacher.forget_the_network()


async def test_a_recording_is_saved_as_a_file(enter: Enter, tmp_path: Path) -> None:
    teacher = await enter("demo-teacher")
    film = media.make(tmp_path / "lesson.webm", live=True)
    dialog = await open_recordings(teacher)
    await send(dialog, film)
    button = dialog.get_by_role("button", name=re.compile("^Download"))
    await expect(button).to_be_visible(timeout=MEDIA_MS)
    async with teacher.page.expect_download() as saving:
        await button.click()
    saved = await saving.value
    assert saved.suggested_filename == "lesson.webm"
    assert (await asyncio.to_thread((await saved.path()).read_bytes))[:4] == b"\x1a\x45\xdf\xa3"


async def test_a_parent_answers_for_a_child_in_a_class_that_they_may_not_enter(enter: Enter) -> None:
    teacher = await enter("demo-teacher")
    made = await teacher.page.evaluate(ARRANGE_CLASS)
    host, child = await enter("demo-teacher", room=made), await enter("demo-student", room=made)
    await ask_before_recording(host)
    question = child.page.get_by_role("dialog", name="May this")
    await question.get_by_role("button", name="I agree").click()
    await expect(question).to_contain_text("They are asked when they open the link of this lesson.")
    await question.get_by_role("button", name="Later").click()
    child.forget_the_network()

    parent = await enter("demo-parent", room=made, comes_in=False)
    notice = parent.page.locator("#notice")
    await expect(notice).to_contain_text("May Leo Brandt be recorded in this lesson?")
    await notice.get_by_role("button", name="I agree").click()
    await expect(notice).to_contain_text("You have agreed that Leo Brandt is recorded")
    await expect(child.page.locator("#toasts")).to_contain_text("Your parent or guardian agrees")
    dialog = await open_recordings(host)
    await expect(dialog).to_contain_text("Everybody who is here has agreed to be recorded.")
    await notice.get_by_role("button", name="Take it back").click()
    await expect(dialog).to_contain_text("Leo Brandt does not agree to be recorded.")


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
