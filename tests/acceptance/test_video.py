"""The video of the room page, in real browsers with cameras that are not: who sees and hears whom, moving."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Request, expect

from tests.acceptance.lessons import until
from tests.acceptance.windows import LOOK, PARENT, SMALL, STUDENT, TEACHER, Class, Gather

#: One browser, one server and one loop for all; each test has a lesson and windows of its own.
pytestmark = pytest.mark.asyncio(loop_scope="module")


def gives_back(request: Request) -> bool:
    return request.method == "DELETE" and "/token?tab=" in request.url


async def places(lesson: Class) -> list[str]:
    """Who has a place in the lesson's video, as somebody who comes is told."""
    path = f"/sessions/{lesson.room_name}/token?tab=looks"
    answer = await lesson.call("POST", path)
    assert answer.status == 200, answer
    await lesson.call("DELETE", path)
    people: list[str] = answer.body["people"]
    return people


async def test_two_people_see_and_hear_each_other_and_call_nobody_else(gather: Gather) -> None:
    lesson = await gather()
    teacher, student = await lesson.enter(TEACHER), await lesson.enter(STUDENT)
    parent = await lesson.enter(PARENT)  # in the lesson, and not in its video
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
    assert [viewer.called for viewer in (teacher, student, parent)] == [{STUDENT}, {TEACHER}, set()]


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
    await another.page.get_by_role("button", name="Leave video").click()
    await expect(teacher.tile(STUDENT)).to_have_count(1)
    # Their place is not given back with one of two: who comes now meets them.
    parent = await lesson.enter(PARENT)
    await parent.join_video()
    await parent.sees(TEACHER, STUDENT)
    await student.sees(TEACHER, PARENT)


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
    await until(lambda: student.page.evaluate(f"{size} > 320"), "it is larger than the camera's picture")
    await teacher.page.get_by_role("button", name="Stop sharing the screen").click()
    await expect(student.tile(TEACHER)).not_to_have_class(re.compile("screen"))
    await student.sees(TEACHER)


async def test_who_leaves_the_lesson_is_asked_again_before_their_camera_is_shown(gather: Gather) -> None:
    lesson = await gather()
    teacher, student = await lesson.enter(TEACHER), await lesson.enter(STUDENT)
    for viewer in (teacher, student):
        await viewer.join_video()
    await teacher.sees(STUDENT)
    async with student.page.expect_request(gives_back):
        await student.page.get_by_role("button", name="Leave the lesson").click()
    await expect(teacher.tile(STUDENT)).to_have_count(0)
    for way in ("leaves", "goes elsewhere"):
        await student.page.goto(f"{lesson.servers[0].url}/?as={STUDENT}&session={lesson.room_name}")
        await student.is_connected()
        await expect(student.page.get_by_role("button", name="Join video")).to_be_visible()
        await expect(student.page.locator(".tile")).to_have_count(0)
        if way == "leaves":
            await student.join_video()


async def test_a_tab_that_is_closed_gives_its_place_back_and_out_of_the_cache_comes_a_new_page(gather: Gather) -> None:
    lesson = await gather()
    student = await lesson.enter(STUDENT)
    another = await lesson.enter(STUDENT, of=student)  # they stay in the lesson
    await student.join_video()
    assert await places(lesson) == [STUDENT]
    await student.page.goto(lesson.servers[0].url)

    async def is_free() -> bool:
        return await places(lesson) == []

    await until(is_free, "the place is free", seen=lambda: lesson.servers[0].log()[-500:])
    await another.join_video()
    async with another.page.expect_navigation():
        await another.page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
        await another.page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    await another.is_connected()
    await expect(another.page.get_by_role("button", name="Join video")).to_be_visible()
    await expect(another.page.locator(".tile")).to_have_count(0)


async def test_who_comes_while_the_browser_still_asks_for_the_camera_is_met_afterwards(gather: Gather) -> None:
    asks = """
        const give = navigator.mediaDevices.getUserMedia;
        navigator.mediaDevices.getUserMedia = (wanted) =>
          new Promise((resolve) => { window.allow = () => resolve(give(wanted)); });
    """
    lesson = await gather()
    teacher, student = await lesson.enter(TEACHER), await lesson.enter(STUDENT, script=SMALL + asks)
    await student.page.get_by_role("button", name="Join video").click()
    await until(lambda: student.page.evaluate("Boolean(window.allow)"), "the browser asks")
    await teacher.join_video()
    await until(lambda: STUDENT in teacher.called, "the teacher has called")
    await student.page.evaluate("window.allow()")
    await student.sees(TEACHER)
    await teacher.sees(STUDENT)


async def test_joining_can_be_cancelled_while_the_browser_asks_for_the_camera(gather: Gather) -> None:
    asks = "navigator.mediaDevices.getUserMedia = () => new Promise((resolve) => { window.allow = resolve; });"
    lesson = await gather()
    student = await lesson.enter(STUDENT, script=asks)
    await student.page.get_by_role("button", name="Join video").click()
    await until(lambda: student.page.evaluate("Boolean(window.allow)"), "the browser asks")
    assert await places(lesson) == [STUDENT]
    async with student.page.expect_request_finished(gives_back):
        await student.page.get_by_role("button", name="Cancel joining").click()
    assert await places(lesson) == []
    late = """
        const { stream } = new MediaStreamAudioDestinationNode(new AudioContext());
        window.late = stream.getTracks()[0];
        window.allow(stream);
    """
    await student.page.evaluate(f"(() => {{ {late} }})()")
    await until(lambda: student.page.evaluate("late.readyState === 'ended'"), "what comes late is let go of")
    await expect(student.page.get_by_role("button", name="Join video")).to_be_visible()
    await expect(student.page.locator(".tile")).to_have_count(0)


async def test_why_somebody_is_not_seen_is_said_with_what_may_help(gather: Gather) -> None:
    no_way = """
        window.RTCPeerConnection = class extends RTCPeerConnection {
          constructor(wanted) { super({ ...wanted, iceTransportPolicy: "relay" }); }
        };
    """
    lesson = await gather()
    teacher, student = await lesson.enter(TEACHER), await lesson.enter(STUDENT, script=SMALL + no_way)
    for viewer in (teacher, student):
        await viewer.join_video()
    for viewer, other, name in ((teacher, STUDENT, "Leo Brandt"), (student, TEACHER, "Maya Okafor")):
        said = viewer.page.locator("#video-alone")
        await expect(said).to_contain_text(f"No connection to {name} yet: your network")
        await expect(said).to_contain_text("Whoever runs this server can set up a relay")
        await expect(viewer.tile(other)).to_have_attribute("aria-label", re.compile("no connection yet"))


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


async def test_a_window_that_dies_is_gone(gather: Gather) -> None:
    lesson = await gather()
    teacher, student = await lesson.enter(TEACHER), await lesson.enter(STUDENT)
    for viewer in (teacher, student):
        await viewer.join_video()
    await teacher.sees(STUDENT)
    # Without a word: its page cannot say goodbye.
    await student.page.evaluate("RTCPeerConnection.prototype.close = () => {}; WebSocket.prototype.send = () => {};")
    await student.page.close()
    await expect(teacher.tile(STUDENT)).to_have_count(0)


async def test_the_video_goes_on_while_the_server_is_away_and_newcomers_come_in_afterwards(gather: Gather) -> None:
    lesson = await gather(workers=1)
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
    await lesson.servers[0].start()
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
    moved = await lesson.call("POST", f"/sessions/{lesson.room_name}/meeting/move")
    assert moved.status == 201, moved
    for viewer in (teacher, student):
        await expect(viewer.page.locator("#toasts")).to_contain_text("moved the video")
    await until(lambda: teacher.page.evaluate("before.readyState === 'ended'"), "the old connection is closed")
    await teacher.sees(STUDENT)
    await student.sees(TEACHER)
    ended = await lesson.call("DELETE", "/meetings", {"meeting_id": moved.body["meeting_id"]})
    assert ended.status == 200, ended
    for viewer in (teacher, student):
        await expect(viewer.page.locator("#video-problem")).to_have_text("The host has ended the video.")
        await expect(viewer.page.locator(".tile")).to_have_count(0)


async def test_without_a_camera_one_sees_the_others(gather: Gather) -> None:
    refuses = "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError'); };"
    lesson = await gather()
    teacher, student = await lesson.enter(TEACHER), await lesson.enter(STUDENT, script=refuses)
    await teacher.join_video()
    await student.page.get_by_role("button", name="Join video").click()
    sentence = "The browser does not let this page use your"
    await expect(student.page.locator("#video-problem")).to_contain_text(sentence)
    await student.sees(TEACHER)
    await expect(teacher.tile(STUDENT)).to_have_attribute("aria-label", re.compile("microphone off, camera off"))


async def test_who_finds_no_place_is_told_so_and_may_try_again(gather: Gather) -> None:
    lesson = await gather()
    student = await lesson.enter(STUDENT)
    sentence = "There are 6 people in this video already."
    full = {"error": "meeting_full", "message": sentence, "status_code": 409}
    await student.page.route("**/token?tab=*", lambda route: route.fulfill(status=409, json=full))
    await student.page.get_by_role("button", name="Join video").click()
    await expect(student.page.locator("#video-problem")).to_have_text(sentence)
    await expect(student.page.locator(".tile")).to_have_count(0)
    await student.page.unroute("**/token?tab=*")
    await student.page.get_by_role("button", name="Try again").click()
    await expect(student.page.locator("#video-alone")).to_have_text("Nobody else is in the video yet.")
    student.forget_the_network()


async def test_the_video_of_another_provider_opens_in_a_tab_of_its_own(gather: Gather) -> None:
    secret = "a-secret-of-at-least-thirty-two-bytes"
    settings = {"JITSI_DOMAIN": "meet.example", "JITSI_APP_ID": "school", "JITSI_APP_SECRET": secret}
    lesson = await gather(workers=1, MEETING_PROVIDER="jitsi", **settings)
    student = await lesson.enter(STUDENT)
    await student.page.get_by_role("button", name="Join video").click()
    link = student.page.get_by_role("link", name="Open the video")
    await expect(link).to_have_attribute("href", re.compile(r"^https://meet\.example/[0-9a-f]+\?jwt=\S+$"))
    await expect(link).to_have_attribute("target", "_blank")
    await expect(link).to_have_attribute("rel", "noopener noreferrer")
    await expect(student.page.locator("#video-elsewhere")).to_contain_text("runs in Jitsi Meet")
