"""The film of a lesson: the host's page records what is seen and heard; what came of it is kept, whatever happens."""

from __future__ import annotations

import asyncio
import re
from array import array
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import av
import pytest
from playwright.async_api import Dialog, Route, expect

from tests.acceptance.lessons import rest, until
from tests.acceptance.windows import SMALL, STUDENT, TEACHER, Class, Gather, Window
from tests.support.recorder import WAIT_SECONDS

#: One browser, one server and one loop for all; each test has a lesson and windows of its own.
pytestmark = pytest.mark.asyncio(loop_scope="module")

UPLOADS = re.compile(r"/uploads/[0-9a-f-]+$")
STATIC = Path(__file__).parents[2] / "static"
#: How many bytes of a film the browser has kept at most: where the last of its pieces ends.
KEPT_TO = """
    (path) => new Promise((resolve, reject) => {
      const opening = indexedDB.open("encounters.films");
      opening.onerror = () => reject(opening.error);
      opening.onsuccess = () => {
        const keys = opening.result.transaction("pieces").objectStore("pieces").getAllKeys();
        keys.onsuccess = () => {
          opening.result.close();
          resolve(Math.max(0, ...keys.result.filter(([of]) => of === path).map(([, end]) => end)));
        };
      };
    })
"""


#: Keeps a piece of a film as the page does; `keys` are those of all that is kept then.
KEEP = """
    ([path, minutes]) => new Promise((resolve, reject) => {
      const opening = indexedDB.open("encounters.films", 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore("pieces");
      opening.onerror = () => reject(opening.error);
      opening.onsuccess = () => {
        const pieces = opening.result.transaction("pieces", "readwrite").objectStore("pieces");
        if (path) pieces.put(new Blob(["x"]), [path, 1, Date.now() - minutes * 60_000]);
        const keys = pieces.getAllKeys();
        keys.onsuccess = () => {
          opening.result.close();
          resolve(keys.result.map(([of]) => of));
        };
      };
    })
"""


async def recordings(lesson: Class) -> list[dict[str, Any]]:
    path = f"/sessions/{lesson.room_name}/recordings"
    answer = await lesson.call("GET", path)
    assert answer.status == 200, answer
    found: list[dict[str, Any]] = answer.body
    return found


async def states(lesson: Class) -> list[str]:
    return sorted(one["status"] for one in await recordings(lesson))


async def come_to(lesson: Class, *expected: str) -> None:
    """Wait until the lesson's recordings are these."""
    seen: list[object] = []

    async def are() -> bool:
        seen[:] = await states(lesson)
        return seen == sorted(expected)

    await until(are, f"the recordings are {sorted(expected)}", seen=lambda: repr(seen))


def watched(film: bytes) -> tuple[list[bytes], int]:
    """A film's pictures, each as one picture of it looks, and how loud its loudest sound is, of 32767."""
    with av.open(BytesIO(film), "r") as source:
        pictures = [bytes(frame.reformat(64, 36, "gray").planes[0]) for frame in source.decode(video=0)]
    resampler = av.AudioResampler(format="s16", layout="mono")
    with av.open(BytesIO(film), "r") as source:
        frames = [frame for heard in source.decode(audio=0) for frame in resampler.resample(heard)]
    return pictures, max(abs(value) for frame in frames for value in array("h", bytes(frame.planes[0])))


async def press(viewer: Window, button: str) -> None:
    """Start or stop it as the host does."""
    dialog = await viewer.recordings()
    await dialog.get_by_role("button", name=button).click()
    await viewer.page.keyboard.press("Escape")


async def begun(viewer: Window) -> list[str]:
    """The films that this browser is sending."""
    paths: list[str] = await viewer.page.evaluate(
        "Object.keys(JSON.parse(localStorage.getItem('encounters.recording') ?? '{}'))"
    )
    return paths


async def sends(lesson: Class, viewer: Window, *, more_than: int = 60_000, not_yet: tuple[str, ...] = ()) -> str:
    """Wait until that much of a film has come from the window; its path."""
    url, token = lesson.servers[0].url, await lesson.token(TEACHER)
    found: list[str] = []

    async def come() -> bool:
        for path in await begun(viewer):
            answer = await rest(url, "GET", path, token=token)
            if path not in not_yet and answer.status == 200 and answer.body["offset"] > more_than:
                found[:] = [path]
        return bool(found)

    await until(come, "some of the film has come")
    return found[0]


async def record(lesson: Class, *, more_than: int = 60_000) -> str:
    """Have the host's first window record; the path of the film."""
    await press(lesson.windows[0], "Start recording")
    return await sends(lesson, lesson.windows[0], more_than=more_than)


async def in_the_video(lesson: Class) -> Window:
    teacher = await lesson.enter(TEACHER)
    await teacher.join_video()
    return teacher


async def hold_back(viewer: Window) -> asyncio.Event:
    """Nothing of a film leaves the window before the event is set."""
    gate = asyncio.Event()

    async def wait(route: Route) -> None:
        await gate.wait()
        await route.continue_()

    await viewer.page.route(UPLOADS, wait)
    return gate


def agree_to_leave(viewer: Window) -> list[str]:
    """Say yes whenever the page asks whether to leave it; what it asked."""
    asked: list[str] = []

    async def accept(dialog: Dialog) -> None:
        asked.append(dialog.type)
        await dialog.accept()

    viewer.page.on("dialog", accept)
    return asked


async def test_the_hosts_browser_records_the_lesson_and_sends_it_while_it_goes(gather: Gather) -> None:
    lesson = await gather()
    teacher, student = await in_the_video(lesson), await lesson.enter(STUDENT)
    await student.join_video()
    await teacher.sees(STUDENT)
    await record(lesson)
    await expect(student.page.locator("#recording")).to_be_visible()
    await press(teacher, "Stop recording")
    await come_to(lesson, "completed")
    (film,) = await recordings(lesson)
    assert film["mime_type"] == "video/webm"
    assert film["duration_seconds"] >= 2
    async with aiohttp.ClientSession() as http, http.get(film["url"]) as response:
        pictures, loudest = await asyncio.to_thread(watched, await response.read())
    assert len(set(pictures)) > 5, "they move"
    assert loudest > 300, "the microphones that beep are heard"


async def test_nothing_is_recorded_where_no_page_would_record_it(gather: Gather) -> None:
    lesson = await gather()
    teacher = await lesson.enter(TEACHER)
    await press(teacher, "Start recording")
    dialog = await teacher.recordings()
    await expect(dialog.locator("#recordings-problem")).to_contain_text("Join the video to record")
    assert await recordings(lesson) == []
    # An app of theirs may start one: then it is said what is missing.
    await lesson.call("POST", f"/sessions/{lesson.room_name}/start-recording")
    await expect(dialog.locator("#film")).to_contain_text("This page does not record")
    await teacher.page.keyboard.press("Escape")
    await teacher.join_video()
    await sends(lesson, teacher)
    await expect(teacher.page.locator("#film")).to_have_text("")


async def test_a_browser_that_cannot_record_stops_the_recording_and_says_so(gather: Gather) -> None:
    lesson = await gather()
    teacher = await in_the_video(lesson)
    await teacher.page.evaluate("void (MediaRecorder.prototype.start = () => { throw new Error('No encoder.'); })")
    await press(teacher, "Start recording")
    await expect(teacher.page.locator("#toasts")).to_contain_text("The recording was stopped: No encoder.")
    await expect(teacher.page.locator("#recording")).to_be_hidden()
    await expect((await teacher.recordings()).locator("#film")).to_contain_text(
        "The recording was stopped: No encoder."
    )
    assert await states(lesson) == ["processing"]


async def test_a_film_that_the_server_refuses_stops_the_recording_and_says_so(gather: Gather) -> None:
    lesson = await gather(workers=1, UPLOAD_QUOTA_BYTES="1000000")
    teacher = await in_the_video(lesson)
    await press(teacher, "Start recording")
    await expect(teacher.page.locator("#toasts")).to_contain_text("All your files together may take")
    await expect(teacher.page.locator("#recording")).to_be_hidden()
    teacher.forget_the_network()


async def test_a_film_that_has_all_the_bytes_it_may_have_goes_on_in_another_part(gather: Gather) -> None:
    lesson = await gather(workers=1, MAX_RECORDING_BYTES="400000")
    teacher = await in_the_video(lesson)
    first = await record(lesson, more_than=1)
    await sends(lesson, teacher, more_than=1, not_yet=(first,))
    await expect(teacher.page.locator("#recording")).to_be_visible()

    async def parts() -> bool:
        found = await states(lesson)
        return "completed" in found and "recording" in found

    await until(parts, "one part can be watched, and it goes on")
    assert "failed" not in await states(lesson)
    teacher.forget_the_network()  # its pieces are large beside the limit: one of them was cut off


async def test_a_page_that_is_reloaded_goes_on_recording_and_nothing_is_lost(gather: Gather) -> None:
    lesson = await gather()
    teacher = await in_the_video(lesson)
    asked = agree_to_leave(teacher)
    first = await record(lesson)
    await teacher.page.reload()
    await sends(lesson, teacher, not_yet=(first,))
    assert asked == ["beforeunload"]
    await come_to(lesson, "completed", "recording")
    await press(teacher, "Stop recording")
    await come_to(lesson, "completed", "completed")


async def test_another_tab_goes_on_when_the_one_that_records_is_closed(gather: Gather) -> None:
    lesson = await gather()
    teacher = await in_the_video(lesson)
    first = await record(lesson)
    another = await lesson.enter(TEACHER, of=teacher)
    await another.join_video()
    await expect(another.page.locator("#film")).to_contain_text("Another page of yours records")
    assert await begun(another) == [first]
    await teacher.page.close()  # nothing is asked, and nothing said
    await sends(lesson, another, not_yet=(first,))
    await press(another, "Stop recording")
    await come_to(lesson, "completed", "completed")
    another.forget_the_network()


async def test_after_the_stop_the_page_is_not_left_unasked_until_all_is_sent(gather: Gather) -> None:
    lesson = await gather()
    teacher = await in_the_video(lesson)
    await record(lesson)
    gate = await hold_back(teacher)
    await press(teacher, "Stop recording")
    await expect(teacher.page.locator("#film")).to_contain_text(re.compile("is being sent: .* to go"))
    asked = asyncio.get_running_loop().create_future()

    async def stay(dialog: Dialog) -> None:
        await dialog.dismiss()
        if not asked.done():
            asked.set_result(dialog.type)

    teacher.page.on("dialog", stay)
    await teacher.page.evaluate("setTimeout(() => location.assign('/'))")
    assert await asyncio.wait_for(asked, WAIT_SECONDS) == "beforeunload"
    gate.set()
    await come_to(lesson, "completed")
    await expect(teacher.page.locator("#film")).to_be_hidden()


async def test_a_tab_closed_right_after_the_stop_costs_nothing_of_what_came(gather: Gather) -> None:
    lesson = await gather()
    teacher = await in_the_video(lesson)
    await record(lesson)
    await teacher.page.route(UPLOADS, lambda route: route.abort())
    await press(teacher, "Stop recording")
    await expect(teacher.page.locator("#film")).to_contain_text("is being sent")
    await teacher.page.close()
    teacher.forget_the_network()
    again = await lesson.enter(TEACHER, of=teacher)
    await come_to(lesson, "completed")
    await again.join_video()
    assert await states(lesson) == ["completed"], "what was stopped does not start again"


async def with_bounds(viewer: Window, **bounds: int) -> None:
    """Have the page take other bounds of what waits to be sent: the real ones take minutes to reach."""
    source = await asyncio.to_thread((STATIC / "recorder.js").read_text)
    for name, most in bounds.items():
        source, found = re.subn(rf"(const {name} =) [^;]*;", rf"\1 {most};", source)
        assert found == 1, name
    await viewer.page.route(
        "**/static/recorder.js", lambda route: route.fulfill(body=source, content_type="text/javascript")
    )
    await viewer.page.reload()
    await viewer.is_connected()


async def test_what_waited_in_a_tab_that_was_closed_is_sent_by_the_next(gather: Gather) -> None:
    lesson = await gather()
    teacher = await lesson.enter(TEACHER)
    await with_bounds(teacher, SAID_FROM_BYTES=50_000)
    await teacher.join_video()
    url, token = lesson.servers[0].url, await lesson.token(TEACHER)
    path = await record(lesson)
    await teacher.page.route(UPLOADS, lambda route: route.abort())
    had = int((await rest(url, "GET", path, token=token)).body["offset"])
    kept = [0]

    async def waits() -> bool:
        kept[0] = await teacher.page.evaluate(KEPT_TO, path)
        return kept[0] > had + 100_000

    await until(waits, "some of the film waits", seen=lambda: kept)
    await expect(teacher.page.locator("#film")).to_contain_text(
        re.compile("The recording goes on, and waits to be sent: .* to go")
    )
    await teacher.page.close()
    teacher.forget_the_network()
    again = await lesson.enter(TEACHER, of=teacher)
    await again.join_video()
    await sends(lesson, again, not_yet=(path,))
    await come_to(lesson, "completed", "recording")
    sent = await rest(url, "GET", path, token=token)
    assert sent.body["length"] >= kept[0]
    assert await again.page.evaluate(KEPT_TO, path) == 0, "what has come is kept no longer"
    await press(again, "Stop recording")
    await come_to(lesson, "completed", "completed")
    again.forget_the_network()


async def test_what_nobody_came_back_for_goes_after_a_day_whoever_has_the_page_open(gather: Gather) -> None:
    lesson = await gather()
    page = (await lesson.enter(STUDENT)).page
    await page.clock.install()
    await page.goto(lesson.servers[0].url)
    await expect(page.locator("#entry")).to_be_visible()

    async def comes_to(*paths: str) -> None:
        async def are() -> bool:
            return bool(await page.evaluate(KEEP, ["", 0]) == list(paths))

        await until(are, f"what is kept is {paths}")

    day = 24 * 60
    await page.evaluate(KEEP, ["/uploads/1", day + 1])
    await page.evaluate(KEEP, ["/uploads/2", day - 30])
    await page.evaluate(KEEP, ["/uploads/3", day - 90])
    await page.reload()
    await comes_to("/uploads/2", "/uploads/3")
    await page.clock.fast_forward("01:00:00")
    await comes_to("/uploads/3")


async def test_a_page_in_which_too_much_waits_stops_recording_says_so_and_goes_on_when_it_has_come(
    gather: Gather,
) -> None:
    lesson = await gather()
    teacher = await lesson.enter(TEACHER)
    await with_bounds(teacher, MOST_WAITING_BYTES=500_000)  # more than is recorded between two looks
    await teacher.join_video()
    first = await record(lesson)
    await teacher.page.route(UPLOADS, lambda route: route.abort())
    film, toasts = teacher.page.locator("#film"), teacher.page.locator("#toasts")
    halted = "Nothing more is recorded until what waits has been sent."
    await expect(toasts).to_contain_text(halted, timeout=3 * WAIT_SECONDS * 1_000)
    await expect(film).to_contain_text(halted)
    assert await begun(teacher) == [first]
    await teacher.page.unroute(UPLOADS)
    await expect(toasts).to_contain_text("The lesson is recorded again.")
    await sends(lesson, teacher, not_yet=(first,))
    await expect(film).to_have_text("")
    await come_to(lesson, "completed", "recording")
    await press(teacher, "Stop recording")
    await come_to(lesson, "completed", "completed")
    teacher.forget_the_network()


async def test_no_file_is_asked_for_while_a_film_is_on_its_way(gather: Gather) -> None:
    lesson = await gather()
    teacher, elsewhere = await in_the_video(lesson), await lesson.enter(TEACHER)
    await record(lesson)
    gate = await hold_back(teacher)
    await press(teacher, "Stop recording")
    for viewer in (teacher, elsewhere):
        dialog = await viewer.recordings()
        await expect(dialog).to_contain_text("Is being sent")
        await expect(dialog.get_by_role("button", name="Send the file of")).to_have_count(0)
    gate.set()
    await come_to(lesson, "completed")
    for viewer in (teacher, elsewhere):
        await expect((await viewer.recordings()).get_by_role("button", name="Watch")).to_be_visible()


async def test_who_leaves_the_lesson_stops_the_recording_and_sends_the_rest(gather: Gather) -> None:
    lesson = await gather()
    teacher, student = await in_the_video(lesson), await lesson.enter(STUDENT)
    await record(lesson)
    await expect(student.page.locator("#recording")).to_be_visible()
    await teacher.page.get_by_role("button", name="Leave the lesson").click()
    await expect(student.page.locator("#recording")).to_be_hidden()
    await expect(teacher.page.locator("#entry")).to_be_visible()
    await come_to(lesson, "completed")


async def test_who_leaves_the_video_stops_the_recording_and_is_told(gather: Gather) -> None:
    lesson = await gather()
    teacher = await in_the_video(lesson)
    await record(lesson)
    await teacher.page.get_by_role("button", name="Leave video").click()
    await expect(teacher.page.locator("#toasts")).to_contain_text("stopped, as you have left the video")
    await expect(teacher.page.locator("#recording")).to_be_hidden()
    await come_to(lesson, "completed")


async def test_a_stop_needs_no_more_than_the_news_of_it(gather: Gather) -> None:
    lesson = await gather()
    teacher = await in_the_video(lesson)
    await record(lesson)
    await teacher.page.route(re.compile("/recordings"), lambda route: route.abort())
    await press(teacher, "Stop recording")
    await come_to(lesson, "completed")
    teacher.forget_the_network()


async def test_a_browser_that_wants_a_click_first_is_clicked_before_it_records(gather: Gather) -> None:
    unheard = """
        window.AudioContext = class extends AudioContext {
          constructor(...options) {
            super(...options);
            if (!window.clicked) super.suspend();
          }
          resume() { return window.clicked ? super.resume() : new Promise(() => {}); }
        };
        addEventListener("pointerdown", () => { window.clicked = true; }, true);
    """
    lesson = await gather()
    teacher = await lesson.enter(TEACHER, script=SMALL + unheard)
    await teacher.join_video()
    await teacher.page.evaluate("window.clicked = false")  # as after a reload
    await lesson.call("POST", f"/sessions/{lesson.room_name}/start-recording")
    await expect(teacher.page.locator("#toasts")).to_contain_text("Click anywhere in this page")
    await teacher.page.locator("#lesson-title").click()
    await sends(lesson, teacher)


async def test_a_browser_that_can_play_no_sound_says_that_the_film_has_none(gather: Gather) -> None:
    mute = """
        window.AudioContext = class extends AudioContext {
          get state() { return "suspended"; }
          resume() { return new Promise(() => {}); }
        };
    """
    lesson = await gather()
    teacher = await lesson.enter(TEACHER, script=SMALL + mute)
    await teacher.join_video()
    await press(teacher, "Start recording")
    toasts = teacher.page.locator("#toasts")
    await expect(toasts).to_contain_text("Click anywhere in this page")
    await teacher.page.locator("#lesson-title").click()
    await expect(toasts).to_contain_text("The film has no sound", timeout=15_000)
    await press(teacher, "Stop recording")
    await come_to(lesson, "completed")


async def test_a_recording_that_is_stopped_elsewhere_ends_the_film_too(gather: Gather) -> None:
    lesson = await gather()
    teacher = await in_the_video(lesson)
    await record(lesson)
    stopped = await lesson.call("POST", f"/sessions/{lesson.room_name}/stop-recording?end=false")
    assert stopped.status == 200, stopped
    await come_to(lesson, "completed")
    assert await begun(teacher) == []


async def test_the_film_goes_on_when_the_server_was_away(gather: Gather) -> None:
    lesson = await gather(workers=1)
    teacher = await in_the_video(lesson)
    path = await record(lesson)
    assert await lesson.servers[0].stop() == 0
    await expect(teacher.page.locator("#connection")).not_to_have_text("Connected")
    await lesson.servers[0].start()
    await teacher.is_connected()
    assert await sends(lesson, teacher, more_than=200_000) == path
    await press(teacher, "Stop recording")
    await come_to(lesson, "completed")
    teacher.forget_the_network()
