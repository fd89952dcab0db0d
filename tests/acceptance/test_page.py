"""The room page in a real browser, as the demo's people use it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from urllib.parse import quote
from uuid import UUID, uuid4

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from store import visits
from store.database import Pool
from store.visits import Change
from tests.acceptance.windows import PARENT, PHONE, STUDENT, TEACHER, Class, Gather, Window
from tests.support.lessons import database_pool
from tests.support.servers import Server

#: One browser, one server and one loop for all; each test has a lesson and windows of its own.
pytestmark = pytest.mark.asyncio(loop_scope="module")

STATIC = Path(__file__).parents[2] / "static"


@pytest_asyncio.fixture(loop_scope="module")
async def lesson(gather: Gather) -> Class:
    """A lesson that nobody is in yet."""
    return await gather()


@pytest_asyncio.fixture(loop_scope="module")
async def windows(lesson: Class) -> tuple[Window, Window]:
    """The teacher's and the student's, in the lesson."""
    return await both(lesson)


async def both(lesson: Class) -> tuple[Window, Window]:
    teacher, student = await asyncio.gather(lesson.enter(TEACHER), lesson.enter(STUDENT))
    return teacher, student


async def test_two_windows_talk_both_ways_and_see_each_other(windows: tuple[Window, Window]) -> None:
    teacher, student = windows
    for window in windows:
        await expect(window.people).to_contain_text("Maya Okafor")
        await expect(window.people).to_contain_text("Leo Brandt")
    await teacher.say("<Good morning> & welcome")
    await expect(student.messages).to_contain_text("<Good morning> & welcome")
    await student.page.get_by_label("Your message").press_sequentially("<Hel")
    await expect(teacher.page.locator("#typing")).to_contain_text("Leo Brandt is typing")
    await student.say("<Hello>")
    await expect(teacher.messages).to_contain_text("<Hello>")
    await expect(teacher.page.locator("#typing")).to_be_empty()
    assert await teacher.texts() == await student.texts() == ["<Good morning>", "<Hello>"]


async def test_a_reload_brings_everything_back_and_nobody_hears_of_it(windows: tuple[Window, Window]) -> None:
    teacher, student = windows
    await teacher.say("<before the reload>")
    await expect(student.messages).to_contain_text("<before the reload>")
    await student.page.reload()
    await student.is_connected()
    await expect(student.messages).to_contain_text("<before the reload>")
    await expect(teacher.people).to_contain_text("Leo Brandt")
    await student.say("<after it>")
    await expect(teacher.messages).to_contain_text("<after it>")
    assert await teacher.texts() == await student.texts() == ["<before the reload>", "<after it>"]


async def test_a_page_goes_on_with_a_token_of_nobody_else(lesson: Class) -> None:
    teacher = await lesson.enter(TEACHER)
    # As when the server says that the access ends, and no new token is to be had without asking.
    source = await asyncio.to_thread((STATIC / "session.js").read_text)
    ends = 'become("live", { tokenEnds: "2100-01-01T00:00:00Z" });'
    assert source.count('become("live");') == 1
    source = source.replace('become("live");', ends)
    await teacher.page.route(
        "**/static/session.js", lambda route: route.fulfill(body=source, content_type="text/javascript")
    )
    await teacher.page.reload()
    banner = teacher.page.locator("#banner")
    await expect(banner).to_contain_text("Paste a new access token to stay")
    for user_id in (STUDENT, TEACHER):
        await banner.get_by_label("New access token").fill(await lesson.token(user_id))
        await banner.get_by_role("button", name="Continue").click()
        if user_id == STUDENT:
            await expect(banner).to_contain_text("This access token is somebody else’s.")
    await expect(banner).to_be_hidden()
    await teacher.say("<still me>")
    await expect(teacher.messages).to_contain_text("<still me>")


async def test_a_person_who_leaves_is_gone_from_the_list(windows: tuple[Window, Window]) -> None:
    teacher, student = windows
    await expect(teacher.people).to_contain_text("Leo Brandt")
    await student.page.close()
    await expect(teacher.people).not_to_contain_text("Leo Brandt")


async def test_what_was_missed_while_the_server_was_away_arrives_in_order(gather: Gather) -> None:
    lesson = await gather(workers=1)
    [server], windows = lesson.servers, await both(lesson)
    teacher, student = windows
    await teacher.say("<one>")
    await expect(student.messages).to_contain_text("<one>")
    assert await server.stop() == 0
    await expect(student.page.locator("#connection")).not_to_have_text("Connected")
    await student.say("<two, typed offline>")
    await server.start()
    for window in windows:
        await window.is_connected()
    await expect(teacher.messages).to_contain_text("<two, typed offline>")
    await teacher.say("<three>")
    for window in windows:
        await expect(window.messages).to_contain_text("<three>")
    assert await teacher.texts() == await student.texts() == ["<one>", "<two, typed offline>", "<three>"]
    for window in windows:
        window.forget_the_network()


async def test_a_message_is_edited_and_deleted_by_its_author(windows: tuple[Window, Window]) -> None:
    teacher, student = windows
    await student.say("<a tpyo>")
    await expect(teacher.messages).to_contain_text("<a tpyo>")
    await student.messages.get_by_text("<a tpyo>").hover()
    await student.page.get_by_role("button", name=re.compile("^Edit")).last.click()
    await student.page.keyboard.press("ControlOrMeta+a")
    await student.page.keyboard.type("<a typo>")
    await student.page.keyboard.press("Enter")
    await expect(teacher.messages).to_contain_text("<a typo>")
    await expect(teacher.messages).to_contain_text("edited")
    await student.messages.get_by_text("<a typo>").hover()
    await student.page.get_by_role("button", name=re.compile("^Delete")).last.click()
    await student.page.locator("#confirm-yes").click()
    await expect(teacher.messages).not_to_contain_text("<a typo>")
    await expect(teacher.messages).to_contain_text("Message deleted")


async def test_the_host_removes_a_person_who_is_told_so(windows: tuple[Window, Window]) -> None:
    teacher, student = windows
    await teacher.page.get_by_role("button", name=re.compile("^Remove Leo")).click()
    await teacher.page.locator("#confirm-yes").click()
    await expect(student.page.locator("#notice")).to_contain_text("removed")
    await expect(teacher.people).not_to_contain_text("Leo Brandt")


async def test_reactions_are_shown_to_both_and_taken_back(windows: tuple[Window, Window]) -> None:
    teacher, student = windows
    await teacher.say("<who is ready?>")
    await student.messages.get_by_text("<who is ready?>").hover()
    await student.page.get_by_role("button", name="React", exact=True).click()
    await student.page.get_by_role("button", name="React with 👍").click()
    of_teacher, of_student = (window.messages.locator(".reaction") for window in windows)
    await expect(of_student).to_have_attribute("aria-pressed", "true")
    await of_teacher.click()
    await expect(of_student).to_have_text("👍2")
    await student.page.reload()
    await student.is_connected()
    await expect(of_student).to_have_attribute("aria-pressed", "true")
    await of_student.click()
    await expect(of_teacher).to_have_text("👍1")
    await of_teacher.click()
    await expect(of_student).to_have_count(0)


async def test_the_pinned_message_stands_on_top_until_it_is_deleted(windows: tuple[Window, Window]) -> None:
    teacher, student = windows
    await teacher.say("<page 42, exercises 1 to 3>")
    await teacher.messages.get_by_text("<page 42").hover()
    await teacher.page.get_by_role("button", name="Pin message").click()
    for window in windows:
        await expect(window.page.locator("#pinned")).to_contain_text("<page 42, exercises 1 to 3>")
    await expect(student.page.get_by_role("button", name="Unpin")).to_have_count(0)
    await student.page.reload()
    await student.is_connected()
    await expect(student.page.locator("#pinned")).to_contain_text("<page 42")
    await teacher.messages.get_by_text("<page 42").hover()
    await teacher.page.get_by_role("button", name=re.compile("^Delete")).last.click()
    await teacher.page.locator("#confirm-yes").click()
    for window in windows:
        await expect(window.page.locator("#pinned")).to_be_hidden()


async def test_the_host_mutes_the_chat_and_slows_it_down(windows: tuple[Window, Window]) -> None:
    teacher, student = windows
    field = student.page.get_by_label("Your message")
    await teacher.page.get_by_role("button", name="Settings of the lesson").click()
    mute = teacher.page.get_by_label("Mute the chat")
    await mute.check()
    await expect(field).to_be_disabled()
    await expect(field).to_have_attribute("placeholder", "Only the host can write now")
    await expect(student.messages).to_contain_text("Only the host can write now.")
    await mute.uncheck()
    await expect(field).to_be_enabled()
    await teacher.page.locator("#set-slow-mode").select_option("300")
    await expect(student.page.locator("#rule")).to_have_text("Slow mode: one message every 5 min")
    await student.say("<one>")
    await expect(teacher.messages).to_contain_text("<one>")
    await expect(student.page.locator("#rule")).to_contain_text("write again in 4 min")
    await student.say("<two>")
    await expect(field).to_have_value("<two>")
    await teacher.page.locator("#set-slow-mode").select_option("0")
    await expect(student.page.locator("#rule")).to_be_hidden()
    await student.page.keyboard.press("Enter")
    await expect(teacher.messages).to_contain_text("<two>")


async def test_who_waits_is_let_in_by_the_host(windows: tuple[Window, Window], lesson: Class) -> None:
    teacher, _ = windows
    await teacher.page.get_by_role("button", name="Settings of the lesson").click()
    await teacher.page.get_by_label("Waiting room").check()
    await teacher.page.keyboard.press("Escape")
    parent = await lesson.enter(PARENT, comes_in=False)
    await parent.page.set_viewport_size(PHONE)
    await expect(parent.page.locator("#notice")).to_contain_text("The host will let you in")
    await expect(teacher.people).not_to_contain_text("Nina")
    await teacher.page.get_by_role("button", name="Let Nina Brandt in").click()
    await parent.is_connected()
    await expect(parent.page.locator("#notice")).to_be_hidden()
    await expect(teacher.people).to_contain_text("Nina Brandt")
    await expect(teacher.page.locator("#waiting")).to_be_hidden()
    await parent.say("<thank you>")
    await expect(teacher.messages).to_contain_text("<thank you>")


async def test_who_is_turned_away_is_told_so_and_may_ask_again(windows: tuple[Window, Window], lesson: Class) -> None:
    teacher, _ = windows
    await teacher.page.get_by_role("button", name="Settings of the lesson").click()
    await teacher.page.get_by_label("Waiting room").check()
    await teacher.page.keyboard.press("Escape")
    parent = await lesson.enter(PARENT, comes_in=False)
    await parent.page.set_viewport_size(PHONE)
    notice = parent.page.locator("#notice")
    await expect(notice).to_contain_text("The host will let you in")
    await teacher.page.get_by_role("button", name="Turn Nina Brandt away").click()
    await expect(notice).to_contain_text("You were not let in")
    await expect(teacher.page.locator("#waiting")).to_be_hidden()
    await parent.page.get_by_role("button", name="Ask again").click()
    await expect(notice).to_contain_text("The host will let you in")
    await teacher.page.get_by_role("button", name="Let Nina Brandt in").click()
    await parent.is_connected()
    await expect(teacher.people).to_contain_text("Nina Brandt")


async def test_the_chat_is_there_after_more_was_missed_than_a_rejoin_brings(gather: Gather, demo: Server) -> None:
    lesson = await gather(workers=1)
    [server], windows = lesson.servers, await both(lesson)
    teacher, student = windows
    await teacher.say("<before the break>")
    await expect(student.messages).to_contain_text("<before the break>")
    assert await server.stop() == 0
    await react(demo, lesson.room_name, times=601)
    await server.start()
    for window in windows:
        await window.is_connected()
        await expect(window.messages).to_contain_text("<before the break>")
        await expect(window.messages.locator(".reaction")).to_have_text("👍1")
        window.forget_the_network()


async def react(server: Server, room_name: str, *, times: int) -> None:
    """The student reacts to the newest message, takes it back, and so on; in the end it stands there."""
    async with aiohttp.ClientSession(server.url, raise_for_status=True) as http:
        async with http.post("/demo/sign-in", json={"user_id": "demo-student"}) as answer:
            headers = {"Authorization": f"Bearer {(await answer.json())['token']}"}
        async with http.get(f"/sessions/{room_name}/messages?limit=1", headers=headers) as answer:
            [message] = await answer.json()
        path = f"/sessions/{room_name}/messages/{message['id']}/reactions/{quote('👍')}"
        for turn in range(times):
            await http.request("PUT" if turn % 2 == 0 else "DELETE", path, headers=headers)


async def test_a_large_class_is_counted_and_named_when_asked_for(lesson: Class, module_database: str) -> None:
    async with database_pool(module_database) as pool:
        await be_there(pool, lesson, people=1_200)
    parent, windows = await lesson.enter(PARENT), await both(lesson)
    teacher, student = windows
    for window in windows:
        await window.page.reload()
        await window.is_connected()
    headings = [window.page.locator("#people-heading") for window in windows]
    for window, heading in zip(windows, headings, strict=True):
        await expect(heading).to_have_text("In the room · 500 of 1,203")
        await expect(window.people.locator("li").first).to_contain_text("Maya Okafor")
        await expect(window.people).not_to_contain_text("Person 1200")
        await expect(window.people).not_to_contain_text("Nina Brandt")
    await student.page.get_by_role("button", name="Show all").click()
    await expect(headings[1]).to_have_text("In the room · 1,203")
    await expect(student.people.locator("li")).to_have_count(1_203)
    await expect(student.people).to_contain_text("Person 1200")
    await expect(student.page.get_by_role("button", name="Show all")).to_be_hidden()
    await parent.page.get_by_role("button", name="Raise your hand").click()
    await expect(teacher.people.locator("li").nth(1)).to_contain_text("Nina Brandt")
    await expect(headings[0]).to_have_text("In the room · 1,203")


async def be_there(pool: Pool, lesson: Class, *, people: int) -> None:
    """So many students are in the lesson through another worker."""
    worker_id = uuid4()
    await pool.execute("INSERT INTO workers (id, lease_until) VALUES ($1, now() + interval '1 hour')", worker_id)
    ids = [f"person-{n:04}" for n in range(1, people + 1)]
    await pool.execute(
        """
        INSERT INTO users (id, role, first_name, last_name)
        SELECT id, 'student', 'Person', n FROM unnest($1::text[]) WITH ORDINALITY AS i (id, n)
        """,
        ids,
    )
    await visits.record(
        pool, worker_id, [Change(session_id=UUID(lesson.room_name), user_id=user_id, present=True) for user_id in ids]
    )


async def test_the_way_in_works_with_the_keyboard_on_a_phone(cameras: Browser, lesson: Class) -> None:
    async with await cameras.new_context(viewport=PHONE, color_scheme="dark") as context:
        window = Window(await context.new_page(), STUDENT)
        await window.page.goto(lesson.servers[0].url)
        await window.page.get_by_text("Leo Brandt").first.click()
        # The newest lesson stands first.
        await window.page.get_by_role("button", name=re.compile("Join")).first.focus()
        await window.page.keyboard.press("Enter")
        await window.is_connected()
        await window.say("<from the bus>")
        await expect(window.messages).to_contain_text("<from the bus>")
        overflow = await window.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert overflow <= 0, "the page is wider than the phone"
        assert window.complaints == []


async def test_the_list_of_people_takes_the_focus_on_a_phone_and_gives_it_back(lesson: Class) -> None:
    student = await lesson.enter(STUDENT)
    await student.page.set_viewport_size(PHONE)
    toggle = student.page.locator("#people-toggle")
    await toggle.click()
    await expect(student.page.get_by_role("button", name="Close the list of people")).to_be_focused()
    await student.page.keyboard.press("Escape")
    await expect(student.people).to_be_hidden()
    await expect(toggle).to_be_focused()


async def test_a_script_in_a_message_is_text(windows: tuple[Window, Window]) -> None:
    teacher, student = windows
    await student.say("<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>")
    await expect(teacher.messages).to_contain_text("<script>document.title='owned'</script>")
    assert "owned" not in await teacher.page.title()
    assert await teacher.messages.locator("img, script").count() == 0
