"""The video of the room page, in real browsers with cameras that are not: who sees and hears whom, moving."""

from __future__ import annotations

import asyncio
import re
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any

import aiohttp
import av
import pytest
from playwright.async_api import Browser, Locator, expect

from tests.acceptance.lessons import rest, until
from tests.acceptance.test_page import Window
from tests.conftest import StartServer
from tests.support.browsers import chromium
from tests.support.servers import Server

TEACHER, STUDENT, PARENT = "demo-teacher", "demo-student", "demo-parent"
#: Cameras whose picture moves, microphones that beep, given without a question. Connections on loopback have addresses.
FLAGS = (
    "--use-fake-device-for-media-stream=fps=10",
    "--use-fake-ui-for-media-stream",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--autoplay-policy=no-user-gesture-required",
)
#: Small pictures: three people's windows are encoded and decoded by one machine.
SMALL = """
    const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = (wanted) =>
      ask({ ...wanted, ...(wanted.video ? { video: { width: 320, height: 240, frameRate: 10 } } : {}) });
"""
#: Two pictures of somebody's tile, a moment apart, and whether sound comes from them; null while there is none.
LOOK = """
    async (userId) => {
      const video = document.querySelector(`.tile.pictured[data-user-id="${userId}"] video`);
      if (!video?.videoWidth) return null;
      const canvas = new OffscreenCanvas(64, 48).getContext("2d", { willReadFrequently: true });
      const picture = () => {
        canvas.drawImage(video, 0, 0, 64, 48);
        return canvas.getImageData(0, 0, 64, 48).data;
      };
      const first = picture();
      await new Promise((resolve) => setTimeout(resolve, 400));
      const second = picture();
      const changed = second.filter((value, at) => Math.abs(value - first[at]) > 24).length;
      const bright = second.filter((value, at) => at % 4 !== 3 && value > 40).length;
      const sound = document.querySelector(`.tile[data-user-id="${userId}"] audio`)?.srcObject?.getAudioTracks()[0];
      return { changed, bright, hears: Boolean(sound) && sound.readyState === "live" && !sound.muted };
    }
"""
SECONDS = 30.0


class Viewer(Window):
    """One person's window, with a camera and a microphone."""

    user_id: str

    async def join_video(self) -> None:
        await self.page.get_by_role("button", name="Join video").click()
        await expect(self.page.get_by_role("button", name="Turn the camera off")).to_be_visible(timeout=15_000)

    def tile(self, user_id: str) -> Locator:
        return self.page.locator(f'.tile[data-user-id="{user_id}"]')

    async def sees(self, *others: str) -> None:
        """Wait until each of them moves here, and is heard, and nobody else is here."""
        for user_id in others:
            looks: list[object] = []

            async def moves(user_id: str = user_id, looks: list[object] = looks) -> bool:
                look = await self.page.evaluate(LOOK, user_id)
                looks[:] = [look]
                return bool(look and look["changed"] > 10 and look["bright"] > 1000 and look["hears"])

            await until(moves, f"{self.user_id} sees {user_id}", SECONDS, seen=partial(repr, looks))
        await expect(self.page.locator(".tile:not(.mine)")).to_have_count(len(others))


@dataclass(frozen=True)
class Class:
    """A demo on one server or several, and a browser whose windows have cameras."""

    servers: list[Server]
    room_name: str
    browser: Browser
    viewers: list[Viewer]

    async def enter(self, user_id: str, server: int = 0, *, script: str = SMALL, of: Viewer | None = None) -> Viewer:
        """Somebody's window, in the room; in another tab `of` one of theirs, else in a browser of its own."""
        context = of.page.context if of else await self.browser.new_context()
        if not of:
            await context.add_init_script(script)
        viewer = Viewer(await context.new_page())
        viewer.user_id = user_id
        self.viewers.append(viewer)
        await viewer.page.goto(f"{self.servers[server].url}/?as={user_id}&session={self.room_name}")
        await viewer.is_connected()
        return viewer

    async def token(self, user_id: str) -> str:
        answer = await rest(self.servers[0].url, "POST", "/demo/sign-in", {"user_id": user_id})
        token: str = answer.body["token"]
        return token


Gather = Callable[..., Awaitable[Class]]


@pytest.fixture
async def gather(start_server: StartServer) -> AsyncIterator[Gather]:
    """Starts a class: `gather(workers=2, **settings)`. At the end nothing may have gone wrong in anybody's console."""
    started: list[Class] = []
    async with chromium(*FLAGS) as browser:

        async def start(workers: int = 1, **settings: str) -> Class:
            servers = [await start_server("--demo", **settings) for _ in range(workers)]
            async with aiohttp.ClientSession() as http, http.get(f"{servers[0].url}/demo") as response:
                room_name = (await response.json())["lessons"][0]["room_name"]
            started.append(Class(servers, room_name, browser, []))
            return started[-1]

        yield start
        for one in started:
            for viewer in one.viewers:
                assert viewer.complaints == [], viewer.user_id


async def test_two_people_see_and_hear_each_other(gather: Gather) -> None:
    lesson = await gather()
    teacher, student = await lesson.enter(TEACHER), await lesson.enter(STUDENT)
    for viewer in (teacher, student):
        await viewer.join_video()
    await teacher.sees(STUDENT)
    await student.sees(TEACHER)
    await student.page.get_by_role("button", name="Turn the microphone off").click()
    await expect(teacher.tile(STUDENT)).to_have_attribute("aria-label", re.compile("microphone off"))
    await student.page.get_by_role("button", name="Turn the camera off").click()
    await expect(teacher.tile(STUDENT)).not_to_have_class(re.compile("pictured"))
    await student.page.get_by_role("button", name="Turn the camera on").click()
    await teacher.sees(STUDENT)
    await student.page.get_by_role("button", name="Leave video").click()
    await expect(teacher.tile(STUDENT)).to_have_count(0)
    await student.join_video()
    await teacher.sees(STUDENT)
    await student.sees(TEACHER)


async def test_three_on_two_workers_see_each_other_and_one_reloads(gather: Gather, redis_url: str) -> None:
    lesson = await gather(workers=2, REDIS_URL=redis_url)
    teacher, student, parent = [
        await lesson.enter(user_id, server) for user_id, server in ((TEACHER, 0), (STUDENT, 1), (PARENT, 1))
    ]
    for viewer in (teacher, student, parent):
        await viewer.join_video()
    await teacher.sees(STUDENT, PARENT)
    await student.sees(TEACHER, PARENT)
    await parent.sees(TEACHER, STUDENT)
    await student.page.reload()
    await student.is_connected()
    await student.sees(TEACHER, PARENT)  # who was in the video is in it again
    await teacher.sees(STUDENT, PARENT)
    await parent.sees(TEACHER, STUDENT)


async def test_two_tabs_of_one_person_are_two_pictures_and_go_one_by_one(gather: Gather) -> None:
    lesson = await gather()
    teacher, student = await lesson.enter(TEACHER), await lesson.enter(STUDENT)
    another = await lesson.enter(STUDENT, of=student)
    for viewer in (teacher, student, another):
        await viewer.join_video()
    await expect(teacher.tile(STUDENT)).to_have_count(2)
    await student.sees(TEACHER)
    await another.sees(TEACHER)
    await another.page.close()
    await expect(teacher.tile(STUDENT)).to_have_count(1, timeout=15_000)
    await teacher.sees(STUDENT)
    await student.sees(TEACHER)


async def test_the_host_turns_a_students_camera_and_microphone_off(gather: Gather) -> None:
    lesson = await gather()
    teacher, student, parent = [await lesson.enter(user_id) for user_id in (TEACHER, STUDENT, PARENT)]
    for viewer in (teacher, student, parent):
        await viewer.join_video()
    await parent.sees(TEACHER, STUDENT)
    await teacher.page.get_by_role("button", name="Camera for Leo Brandt").click()
    for viewer in (teacher, parent):
        await expect(viewer.tile(STUDENT)).not_to_have_class(re.compile("pictured"))
        assert await viewer.page.evaluate(LOOK, STUDENT) is None
    camera = student.page.locator("#video-camera")
    await expect(camera).to_be_disabled()
    await expect(camera).to_have_attribute("aria-label", "The host has turned off your camera")
    await teacher.page.get_by_role("button", name="Microphone for Leo Brandt").click()
    for viewer in (teacher, parent):
        await expect(viewer.tile(STUDENT)).to_have_attribute("aria-label", re.compile("turned off by the host"))
        assert await viewer.page.evaluate(f"document.querySelector('[data-user-id={STUDENT}] audio').srcObject") is None
    await expect(student.page.locator("#video-mic")).to_be_disabled()
    # Allowed again, nothing goes on by itself: the student decides.
    await teacher.page.get_by_role("button", name="Camera for Leo Brandt").click()
    await teacher.page.get_by_role("button", name="Microphone for Leo Brandt").click()
    await expect(camera).to_have_attribute("aria-label", "Turn the camera on")
    await camera.click()
    await student.page.get_by_role("button", name="Turn the microphone on").click()
    await parent.sees(TEACHER, STUDENT)


async def test_a_screen_is_shown_in_place_of_the_camera_until_it_is_not_shared_any_more(gather: Gather) -> None:
    lesson = await gather()
    teacher, student = await lesson.enter(TEACHER), await lesson.enter(STUDENT)
    for viewer in (teacher, student):
        await viewer.join_video()
    await teacher.page.get_by_role("button", name="Share the screen").click()
    await expect(student.tile(TEACHER)).to_have_class(re.compile("screen"))
    await expect(student.tile(TEACHER)).to_have_attribute("aria-label", re.compile("shows a screen"))
    size = f"document.querySelector('[data-user-id={TEACHER}] video').videoWidth"
    await until(lambda: student.page.evaluate(f"{size} > 320"), "it is larger than the camera's picture", SECONDS)
    await teacher.page.get_by_role("button", name="Stop sharing the screen").click()
    await expect(student.tile(TEACHER)).not_to_have_class(re.compile("screen"))
    await student.sees(TEACHER)


async def test_who_leaves_the_lesson_is_asked_again_before_their_camera_is_shown(gather: Gather) -> None:
    lesson = await gather()
    teacher, student = await lesson.enter(TEACHER), await lesson.enter(STUDENT)
    for viewer in (teacher, student):
        await viewer.join_video()
    await teacher.sees(STUDENT)
    await student.page.get_by_role("button", name="Leave the lesson").click()
    await expect(teacher.tile(STUDENT)).to_have_count(0)
    for way in ("leaves", "goes elsewhere"):
        await student.page.goto(f"{lesson.servers[0].url}/?as={STUDENT}&session={lesson.room_name}")
        await student.is_connected()
        await expect(student.page.get_by_role("button", name="Join video")).to_be_visible()
        await expect(student.page.locator(".tile")).to_have_count(0)
        if way == "leaves":
            await student.join_video()


async def test_a_page_that_ignores_the_host_is_not_shown_by_the_others(gather: Gather) -> None:
    deaf = """
        const parse = JSON.parse;
        JSON.parse = (...text) => {
          const heard = parse(...text);
          return Array.isArray(heard) && heard[0] === "permissionsChanged" ? ["nothing"] : heard;
        };
    """
    lesson = await gather()
    teacher, student = await lesson.enter(TEACHER), await lesson.enter(STUDENT, script=SMALL + deaf)
    await student.join_video()
    await teacher.join_video()
    await teacher.sees(STUDENT)
    await teacher.page.get_by_role("button", name="Camera for Leo Brandt").click()
    await expect(teacher.tile(STUDENT)).not_to_have_class(re.compile("pictured"))
    assert await teacher.page.evaluate(f"document.querySelector('[data-user-id={STUDENT}] video').srcObject") is None
    await expect(student.page.get_by_role("button", name="Turn the camera off")).to_be_visible()  # it does ignore it


async def test_who_is_removed_is_out_of_the_video_on_both_sides(gather: Gather) -> None:
    lesson = await gather()
    teacher, student = await lesson.enter(TEACHER), await lesson.enter(STUDENT)
    for viewer in (teacher, student):
        await viewer.join_video()
    await teacher.sees(STUDENT)
    await student.page.evaluate("window.camera = document.querySelector('.tile.mine video').srcObject.getTracks()[0]")
    await teacher.page.get_by_role("button", name=re.compile("^Remove Leo")).click()
    await teacher.page.locator("#confirm-yes").click()
    await expect(teacher.tile(STUDENT)).to_have_count(0)
    await expect(student.page.get_by_role("heading")).to_contain_text("removed")
    await until(lambda: student.page.evaluate("window.camera.readyState === 'ended'"), "the camera is off")


async def test_a_window_that_dies_is_gone_soon(gather: Gather) -> None:
    lesson = await gather()
    teacher, student = await lesson.enter(TEACHER), await lesson.enter(STUDENT)
    for viewer in (teacher, student):
        await viewer.join_video()
    await teacher.sees(STUDENT)
    # Without a word: its page cannot say goodbye.
    await student.page.evaluate("RTCPeerConnection.prototype.close = () => {}; WebSocket.prototype.send = () => {};")
    await student.page.close()
    await expect(teacher.tile(STUDENT)).to_have_count(0, timeout=25_000)


async def test_the_video_goes_on_while_the_server_is_away_and_newcomers_come_in_afterwards(
    gather: Gather, start_server: StartServer
) -> None:
    lesson = await gather()
    teacher, student = await lesson.enter(TEACHER), await lesson.enter(STUDENT)
    for viewer in (teacher, student):
        await viewer.join_video()
    await teacher.sees(STUDENT)
    track = "document.querySelector('.tile:not(.mine) video').srcObject.getTracks()[0]"
    await teacher.page.evaluate(f"window.before = {track}")
    assert await lesson.servers[0].stop() == 0
    await expect(student.page.locator("#connection")).not_to_have_text("Connected")
    await teacher.sees(STUDENT)
    await student.sees(TEACHER)
    await start_server("--demo", PORT=str(lesson.servers[0].port))
    for viewer in (teacher, student):
        await viewer.is_connected()
    parent = await lesson.enter(PARENT)
    await parent.join_video()
    await parent.sees(TEACHER, STUDENT)
    await teacher.sees(STUDENT, PARENT)
    await student.sees(TEACHER, PARENT)
    shown = "[...document.querySelectorAll('.tile video')].map((one) => one.srcObject?.getTracks()[0])"
    assert await teacher.page.evaluate(f"before.readyState === 'live' && {shown}.includes(before)"), "nothing was cut"
    for viewer in (teacher, student):
        viewer.forget_the_network()


async def test_everybody_follows_a_meeting_that_moves_and_leaves_one_that_ends(gather: Gather) -> None:
    lesson = await gather()
    teacher, student = await lesson.enter(TEACHER), await lesson.enter(STUDENT)
    for viewer in (teacher, student):
        await viewer.join_video()
    await teacher.sees(STUDENT)
    track = "document.querySelector('.tile:not(.mine) video').srcObject.getTracks()[0]"
    await teacher.page.evaluate(f"window.before = {track}")
    url, token = lesson.servers[0].url, await lesson.token(TEACHER)
    moved = await rest(url, "POST", f"/sessions/{lesson.room_name}/meeting/move", token=token)
    assert moved.status == 201, moved
    for viewer in (teacher, student):
        await expect(viewer.page.locator("#toasts")).to_contain_text("moved the video")
    await until(lambda: teacher.page.evaluate("before.readyState === 'ended'"), "the old connection is closed")
    await teacher.sees(STUDENT)
    await student.sees(TEACHER)
    ended = await rest(url, "DELETE", "/meetings", {"meeting_id": moved.body["meeting_id"]}, token=token)
    assert ended.status == 200, ended
    for viewer in (teacher, student):
        await expect(viewer.page.locator("#video-problem")).to_have_text("The host has ended the video.")
        await expect(viewer.page.locator(".tile")).to_have_count(0)


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        ("NotAllowedError", "The browser does not let this page use your microphone and camera."),
        ("NotFoundError", "No microphone was found. No camera was found."),
        (None, "only to pages with a secure address"),
    ],
    ids=["denied", "none", "insecure"],
)
async def test_without_a_camera_one_sees_the_others(gather: Gather, refusal: str | None, sentence: str) -> None:
    no_devices = "Object.defineProperty(navigator, 'mediaDevices', { value: undefined });"
    refuses = f"navigator.mediaDevices.getUserMedia = async () => {{ throw new DOMException('', '{refusal}'); }};"
    lesson = await gather()
    teacher = await lesson.enter(TEACHER)
    student = await lesson.enter(STUDENT, script=refuses if refusal else no_devices)
    await teacher.join_video()
    await student.page.get_by_role("button", name="Join video").click()
    await expect(student.page.locator("#video-problem")).to_contain_text(sentence)
    await student.sees(TEACHER)
    await expect(teacher.tile(STUDENT)).to_have_attribute("aria-label", re.compile("microphone off, camera off"))


async def test_who_finds_no_place_is_told_so_and_may_try_again(gather: Gather) -> None:
    lesson = await gather()
    student = await lesson.enter(STUDENT)
    sentence = "There are 6 people in this video already."
    full = {"error": "meeting_full", "message": sentence, "status_code": 409}
    await student.page.route("**/token", lambda route: route.fulfill(status=409, json=full))
    await student.page.get_by_role("button", name="Join video").click()
    await expect(student.page.locator("#video-problem")).to_have_text(sentence)
    await expect(student.page.locator(".tile")).to_have_count(0)
    await student.page.unroute("**/token")
    await student.page.get_by_role("button", name="Try again").click()
    await expect(student.page.locator("#video-alone")).to_have_text("Nobody else is in the video yet.")
    student.forget_the_network()


async def test_the_video_of_another_provider_opens_in_a_tab_of_its_own(gather: Gather) -> None:
    secret = "a-secret-of-at-least-thirty-two-bytes"
    settings = {"JITSI_DOMAIN": "meet.example", "JITSI_APP_ID": "school", "JITSI_APP_SECRET": secret}
    lesson = await gather(MEETING_PROVIDER="jitsi", **settings)
    student = await lesson.enter(STUDENT)
    await student.page.get_by_role("button", name="Join video").click()
    link = student.page.get_by_role("link", name="Open the video")
    await expect(link).to_have_attribute("href", re.compile(r"^https://meet\.example/[0-9a-f]+\?jwt=\S+$"))
    await expect(link).to_have_attribute("target", "_blank")
    await expect(link).to_have_attribute("rel", "noopener noreferrer")
    await expect(student.page.locator("#video-elsewhere")).to_contain_text("runs in Jitsi Meet")


async def recordings(lesson: Class) -> list[dict[str, Any]]:
    path = f"/sessions/{lesson.room_name}/recordings"
    answer = await rest(lesson.servers[0].url, "GET", path, token=await lesson.token(TEACHER))
    assert answer.status == 200, answer
    found: list[dict[str, Any]] = answer.body
    return found


def watched(film: bytes) -> tuple[list[bytes], int]:
    """A film's pictures, each as one picture of it looks, and how loud its loudest sound is, of 32767."""
    with av.open(BytesIO(film), "r") as source:
        pictures = [bytes(frame.reformat(64, 36, "gray").planes[0]) for frame in source.decode(video=0)]
    resampler = av.AudioResampler(format="s16", layout="mono")
    with av.open(BytesIO(film), "r") as source:
        frames = [frame for heard in source.decode(audio=0) for frame in resampler.resample(heard)]
    return pictures, max(abs(value) for frame in frames for value in array("h", bytes(frame.planes[0])))


async def record(lesson: Class) -> str:
    """Have the lesson recorded; the recording's id, once some seconds of it are on the server."""
    url, token = lesson.servers[0].url, await lesson.token(TEACHER)
    begun = await rest(url, "POST", f"/sessions/{lesson.room_name}/start-recording", token=token)
    assert begun.status == 200, begun
    teacher = lesson.viewers[0].page
    begun_upload = "Object.keys(JSON.parse(localStorage.getItem('encounters.recording') ?? '{}'))[0]"
    await until(lambda: teacher.evaluate(begun_upload), "an upload is begun", SECONDS)
    upload = await teacher.evaluate(begun_upload)

    async def has_come() -> bool:
        offset: int = (await rest(url, "GET", upload, token=token)).body["offset"]
        return offset > 60_000

    await until(has_come, "some of the recording is on the server", SECONDS)
    recording_id: str = begun.body["recordingId"]
    return recording_id


async def test_the_hosts_browser_records_the_lesson_and_sends_it_while_it_goes(gather: Gather) -> None:
    lesson = await gather()
    teacher, student = await lesson.enter(TEACHER), await lesson.enter(STUDENT)
    for viewer in (teacher, student):
        await viewer.join_video()
    await teacher.sees(STUDENT)
    recording_id = await record(lesson)
    url, token = lesson.servers[0].url, await lesson.token(TEACHER)
    stopped = await rest(url, "POST", f"/sessions/{lesson.room_name}/stop-recording?end=false", token=token)
    assert stopped.status == 200, stopped

    async def can_be_watched() -> bool:
        return bool((await recordings(lesson))[0]["status"] == "completed")

    await until(can_be_watched, "it can be watched", SECONDS, seen=lambda: lesson.servers[0].log()[-2000:])
    (film,) = await recordings(lesson)
    assert (film["id"], film["mime_type"]) == (recording_id, "video/webm")
    assert film["duration_seconds"] >= 2
    async with aiohttp.ClientSession() as http, http.get(film["url"]) as response:
        pictures, loudest = await asyncio.to_thread(watched, await response.read())
    assert len(set(pictures)) > 5, "they move"
    assert loudest > 300, "the microphones that beep are heard"


async def test_a_host_whose_browser_dies_loses_seconds_of_the_recording_and_goes_on(gather: Gather) -> None:
    lesson = await gather()
    teacher, student = await lesson.enter(TEACHER), await lesson.enter(STUDENT)
    for viewer in (teacher, student):
        await viewer.join_video()
    first = await record(lesson)
    await teacher.page.close()  # nothing is asked, and nothing said
    again = await lesson.enter(TEACHER, of=teacher)
    await again.join_video()

    async def go_on() -> bool:
        states = {film["id"]: film["status"] for film in await recordings(lesson)}
        return states.pop(first) == "completed" and list(states.values()) == ["recording"]

    await until(go_on, "the first part is kept, and another is recorded", SECONDS)
