"""A lesson is recorded: everybody sees it in the room page, and has agreed to it where they are asked."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.acceptance.films import send, watched
from tests.acceptance.windows import PARENT, STUDENT, TEACHER, Class, Gather, Window

#: One browser, one server and one loop for all; each test has a lesson and windows of its own.
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_everybody_sees_that_the_lesson_is_recorded_and_what_has_come_of_it(gather: Gather, film: Path) -> None:
    lesson = await gather()
    teacher, student = await lesson.enter(TEACHER), await lesson.enter(STUDENT)
    marks = [window.page.locator("#recording") for window in (teacher, student)]
    dialog = await teacher.recordings()
    await expect(dialog).to_contain_text("Nothing has been recorded yet.")
    # The host's recording program, which is no page of ours, begins.
    await lesson.call("POST", f"/sessions/{lesson.room_name}/start-recording")
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

    await send(dialog, film, "Send the file of the recording")
    shown = await student.recordings()
    await expect(await watched(shown)).to_be_visible()
    await expect(shown.locator("li")).to_have_count(1)
    await expect(shown).to_contain_text("0:02")
    await expect(shown.get_by_role("button", name=re.compile("Start|Send|Delete"))).to_have_count(0)
    await dialog.get_by_role("button", name=re.compile("^Delete")).click()
    await teacher.page.locator("#confirm-yes").click()
    await expect(dialog).to_contain_text("Nothing has been recorded yet.")


async def ask_before_recording(teacher: Window) -> None:
    await teacher.page.get_by_role("button", name="Settings of the lesson").click()
    await teacher.page.get_by_label("Ask before recording").check()
    await teacher.page.keyboard.press("Escape")


async def test_nothing_is_recorded_before_everybody_has_agreed(gather: Gather) -> None:
    lesson = await gather()
    teacher, student, parent = [await lesson.enter(user_id) for user_id in (TEACHER, STUDENT, PARENT)]
    await teacher.join_video()
    await ask_before_recording(teacher)
    of_student, of_parent = (window.page.get_by_role("dialog", name="May this") for window in (student, parent))
    await of_student.get_by_role("button", name="I agree").click()
    await expect(of_student).to_contain_text("Your parent or guardian has to agree for you.")
    student.forget_the_network()
    await of_student.get_by_role("button", name="Later").click()

    dialog = await teacher.recordings()
    await expect(dialog).to_contain_text("Leo Brandt and Nina Brandt have not answered yet.")
    await dialog.get_by_role("button", name="Start recording").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Not everybody has agreed to be recorded")
    await expect(of_parent).to_contain_text("counts for Leo Brandt too")
    await of_parent.get_by_role("button", name="I agree").click()
    await expect(student.page.locator("#toasts")).to_contain_text("Your parent or guardian agrees")
    await expect(dialog).to_contain_text("Everybody who is here has agreed to be recorded.")
    await dialog.get_by_role("button", name="Start recording").click()
    await expect(student.page.locator("#recording")).to_be_visible()

    shown = await parent.recordings()
    await shown.get_by_role("button", name="Take it back").click()
    await expect(student.page.locator("#recording")).to_be_hidden()
    await expect(dialog).to_contain_text("Leo Brandt and Nina Brandt do not agree to be recorded.")


async def test_who_comes_while_it_is_recorded_agrees_first(gather: Gather) -> None:
    lesson = await gather()
    teacher = await lesson.enter(TEACHER)
    await teacher.join_video()
    await ask_before_recording(teacher)
    dialog = await teacher.recordings()
    await dialog.get_by_role("button", name="Start recording").click()
    await expect(teacher.page.locator("#recording")).to_be_visible()
    parent = await lesson.enter(PARENT, comes_in=False)
    notice = parent.page.locator("#notice")
    await expect(notice).to_contain_text("This lesson is being recorded")
    await notice.get_by_role("button", name="Agree and come in").click()
    await parent.is_connected()
    await expect(parent.page.locator("#recording")).to_be_visible()


async def live_class(lesson: Class) -> Class:
    """A live class of a course of the teacher's, in which the student is."""
    made = await lesson.call("POST", "/courses", {"title": "Algebra"})
    await lesson.call("POST", f"/courses/{made.body['id']}/enrollments", {}, by=STUDENT)
    now = datetime.now(UTC).isoformat()
    wanted = {"courseId": made.body["id"], "startsAt": now, "title": "Algebra", "recordingEnabled": True}
    return replace(lesson, room_name=(await lesson.call("POST", "/sessions", wanted)).body["roomName"])


async def test_a_parent_answers_for_a_child_in_a_class_that_they_may_not_enter(gather: Gather) -> None:
    lesson = await live_class(await gather())
    host, child = await lesson.enter(TEACHER), await lesson.enter(STUDENT)
    await ask_before_recording(host)
    question = child.page.get_by_role("dialog", name="May this")
    await question.get_by_role("button", name="I agree").click()
    await expect(question).to_contain_text("They are asked when they open the link of this lesson.")
    await question.get_by_role("button", name="Later").click()
    child.forget_the_network()

    parent = await lesson.enter(PARENT, comes_in=False)
    notice = parent.page.locator("#notice")
    await expect(notice).to_contain_text("May Leo Brandt be recorded in this lesson?")
    await notice.get_by_role("button", name="I agree").click()
    await expect(notice).to_contain_text("You have agreed that Leo Brandt is recorded")
    await expect(child.page.locator("#toasts")).to_contain_text("Your parent or guardian agrees")
    dialog = await host.recordings()
    await expect(dialog).to_contain_text("Everybody who is here has agreed to be recorded.")
    await notice.get_by_role("button", name="Take it back").click()
    await expect(dialog).to_contain_text("Leo Brandt does not agree to be recorded.")
