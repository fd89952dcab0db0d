"""A lesson's recording in the room page of a real browser: watched from its middle, saved, on a phone."""

from __future__ import annotations

import asyncio
import re
import time
import wave
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import av
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Route, expect

from tests.acceptance.films import GREEN, RED, Film, filmed, recorded_by, send, watched
from tests.acceptance.lessons import until
from tests.acceptance.windows import PHONE, TEACHER, Class, Gather
from tests.support.buckets import BUCKET, ENVIRONMENT, S3Servers
from tests.support.recorder import WAIT_SECONDS

#: One browser, one server and one loop for all; each test has a lesson and windows of its own.
pytestmark = pytest.mark.asyncio(loop_scope="module")

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
        async with asyncio.timeout(WAIT_SECONDS):
            while seen is None or not is_about(seen, colour):
                seen = await colour_of(video)
    except TimeoutError:
        raise AssertionError(f"{seen} is seen, not {colour}") from None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recorded(cameras: Browser, tmp_path_factory: pytest.TempPathFactory) -> Film:
    """A WebM of the browser's own making."""
    async with await cameras.new_context() as context:
        return await recorded_by(await context.new_page(), tmp_path_factory.mktemp("recorded") / "lesson.webm")


@pytest.fixture(scope="module")
def camera_film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    """An MP4 as a camera writes it."""
    return filmed(tmp_path_factory.mktemp("filmed") / "lesson.mp4")


async def is_watched_from_its_middle(lesson: Class, film: Film) -> None:
    """Send a film and seek in what has come of it."""
    teacher = await lesson.enter(TEACHER)
    dialog = await teacher.recordings()
    await send(dialog, film.path)
    video = await watched(dialog)

    known = await video.evaluate(KNOWN)
    assert known["duration"] == pytest.approx(film.ends[-1], abs=0.7)
    assert known["seekable"] == pytest.approx(known["duration"], abs=0.1)
    assert await video.evaluate(SEEK, film.in_the_green) == pytest.approx(film.in_the_green, abs=0.1)
    await shows(video, GREEN)
    await video.evaluate(SEEK, 0.1)
    await shows(video, RED)
    await video.evaluate("(video) => { video.loop = true; return video.play(); }")
    await teacher.page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    hidden = teacher.page.locator("#recordings video")
    assert await hidden.evaluate("(video) => video.paused && !video.ended"), "it is not heard on"


async def test_a_film_of_the_browsers_is_watched_from_its_middle(gather: Gather, recorded: Film) -> None:
    await is_watched_from_its_middle(await gather(), recorded)


async def test_a_film_of_a_camera_is_watched_from_its_middle(gather: Gather, camera_film: Film) -> None:
    await is_watched_from_its_middle(await gather(), camera_film)


async def test_a_film_in_a_bucket_is_watched_from_its_middle(
    database: str, gather: Gather, recorded: Film, s3_servers: S3Servers
) -> None:
    bucket = {"STORAGE_URL": f"s3://{BUCKET}/{uuid4().hex}", "S3_ENDPOINT_URL": await s3_servers.url("rclone")}
    lesson = await gather(workers=1, DATABASE_URL=database, **bucket, **ENVIRONMENT)
    await is_watched_from_its_middle(lesson, recorded)


async def test_a_player_plays_on_and_keeps_the_focus_while_another_is_recorded(
    gather: Gather, camera_film: Film
) -> None:
    lesson = await gather()
    teacher = await lesson.enter(TEACHER)
    dialog = await teacher.recordings()
    await send(dialog, camera_film.path)
    video = await watched(dialog)
    await video.evaluate("(video) => { video.loop = video.muted = true; window.first = video; return video.play(); }")
    closing = dialog.get_by_role("button", name=re.compile("^Close the recording of"))
    await closing.focus()
    # By a program of the host's, which is no page: no file comes.
    await lesson.call("POST", f"/sessions/{lesson.room_name}/start-recording")
    await expect(dialog.locator("li")).to_have_count(2)
    await expect(closing).to_be_focused()
    await lesson.call("POST", f"/sessions/{lesson.room_name}/stop-recording?end=false")
    await expect(dialog).to_contain_text("Waits for its file")
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


async def test_a_player_goes_on_where_it_was_when_its_link_has_ended(gather: Gather, tmp_path: Path) -> None:
    teacher = await (await gather()).enter(TEACHER)
    ended: set[str] = set()
    all_ended = False

    async def serve(route: Route) -> None:
        is_over = all_ended or route.request.url in ended
        await (route.fulfill(status=403, body="{}") if is_over else route.continue_())

    await teacher.page.route("**/files/**", serve)
    dialog = await teacher.recordings()
    await send(dialog, hushed(tmp_path / "lesson.wav"))
    video = await watched(dialog)
    await expect(video).to_have_js_property("duration", 300)
    link = await video.get_attribute("src")
    assert link is not None
    ended.add(link)
    seen_at = int(time.time())
    await until(lambda: int(time.time()) > seen_at, "a link that is made now is another one: it ends in a later second")
    await video.evaluate("(video) => { video.currentTime = 290; }")
    await expect(video).not_to_have_attribute("src", link)  # the browser tries the old one some more
    await expect(video).to_have_js_property("readyState", 4)
    await expect(video).to_have_js_property("currentTime", 290)
    assert await video.evaluate("(video) => video.paused"), "as it was"

    all_ended = True
    await video.evaluate("(video) => { video.currentTime = 100; }")
    refused = "The recording cannot be played on."
    await expect(dialog.get_by_role("alert")).to_contain_text(refused)
    teacher.forget_the_network()


async def test_a_recording_is_saved_as_a_file(gather: Gather, film: Path) -> None:
    teacher = await (await gather()).enter(TEACHER)
    dialog = await teacher.recordings()
    await send(dialog, film)
    button = dialog.get_by_role("button", name=re.compile("^Download"))
    await expect(button).to_be_visible()
    async with teacher.page.expect_download() as saving:
        await button.click()
    saved = await saving.value
    assert saved.suggested_filename == "lesson.webm"
    assert (await asyncio.to_thread((await saved.path()).read_bytes))[:4] == b"\x1a\x45\xdf\xa3"


async def test_the_recordings_fit_on_a_phone_and_close_by_the_keyboard(gather: Gather) -> None:
    teacher = await (await gather()).enter(TEACHER)
    await teacher.page.set_viewport_size(PHONE)
    dialog = await teacher.recordings()
    box = await dialog.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]
    await expect(dialog.get_by_role("button", name="Send a recording")).to_be_in_viewport()
    assert await teacher.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    await teacher.page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(teacher.page.get_by_role("button", name="Recordings", exact=True)).to_be_focused()
