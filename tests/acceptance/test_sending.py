"""A lesson's recording is sent from the room page of a real browser, which goes on where it stopped."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import Request, Route, expect

from tests.acceptance.films import send, watched
from tests.acceptance.windows import TEACHER, Gather
from tests.support import bombs
from tests.support.recorder import WAIT_SECONDS

#: One browser, one server and one loop for all; each test has a lesson and windows of its own.
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_file_goes_on_where_it_stopped_after_a_reload(gather: Gather, film: Path, tmp_path: Path) -> None:
    teacher = await (await gather()).enter(TEACHER)
    long = bombs.endless_segment(tmp_path / "lesson.webm", film, more=17 * bombs.MIB)
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
    dialog = await teacher.recordings()
    await send(dialog, long)
    async with asyncio.timeout(WAIT_SECONDS):
        await stopped.wait()
    await teacher.page.reload()
    await teacher.is_connected()
    dialog = await teacher.recordings()
    await expect(dialog).to_contain_text("“lesson.webm” has not come all the way.")

    through, begun = 100, len(offsets)
    await send(dialog, long)
    await expect(await watched(dialog)).to_be_visible()
    assert min(offsets[begun:]) == 16 * bombs.MIB, "not from its beginning"
    await expect(dialog).not_to_contain_text("has not come all the way")
    teacher.forget_the_network()


async def test_an_update_of_the_server_throws_away_nothing_of_what_was_sent(gather: Gather, film: Path) -> None:
    teacher = await (await gather()).enter(TEACHER)
    seen, away = list[str](), True

    async def answer(route: Route) -> None:
        seen.append(route.request.method)
        if away and route.request.method != "POST":
            body = "<html>502 Bad Gateway</html>"
            await route.fulfill(status=502, body=body, content_type="text/html", headers={"Retry-After": "0.001"})
        else:
            await route.continue_()

    await teacher.page.route("**/uploads**", answer)
    await teacher.page.route("**/uploads/**", answer)
    dialog = await teacher.recordings()
    await send(dialog, film)
    await expect(dialog).to_contain_text("The server answered 502.")
    await expect(dialog).to_contain_text("“lesson.webm” has not come all the way.")
    away = False
    await send(dialog, film)
    await expect(await watched(dialog)).to_be_visible()
    assert seen.count("POST") == 1, "the upload that was begun is gone on with"
    teacher.forget_the_network()


async def test_a_file_that_is_no_film_is_refused_by_its_beginning(gather: Gather, tmp_path: Path) -> None:
    teacher = await (await gather()).enter(TEACHER)
    film = tmp_path / "lesson.webm"
    film.write_bytes(b"%PDF-1.7\n" + bytes(40 * bombs.MIB))
    begun: list[Request] = []
    teacher.page.on("request", lambda one: begun.append(one) if one.url.endswith("/uploads") else None)
    dialog = await teacher.recordings()
    await send(dialog, film)
    await expect(dialog.locator("#send-note")).to_contain_text("what came is PDF")
    await expect(dialog).not_to_contain_text("has not come all the way")
    await expect(dialog).not_to_contain_text("cannot be reached")
    assert len(begun) == 1
    teacher.forget_the_network()


async def test_two_tabs_do_not_send_at_once_and_neither_forgets_what_the_other_sends(
    gather: Gather, film: Path
) -> None:
    lesson = await gather()
    first = await lesson.enter(TEACHER)
    second = await lesson.enter(TEACHER, of=first)
    held = asyncio.Event()

    async def hold(route: Route) -> None:
        if route.request.method == "PATCH":
            await held.wait()
        await route.continue_()

    await first.page.route("**/uploads/**", hold)
    of_first, of_second = await first.recordings(), await second.recordings()
    await send(of_first, film)
    await expect(of_first.locator("#send-line")).to_be_visible()
    await send(of_second, film)
    await expect(of_second).to_contain_text("is being sent in another tab")
    await of_second.get_by_role("button", name="Forget it").click()
    await expect(of_second).to_contain_text("is being sent in another tab")
    held.set()
    await expect(await watched(of_first)).to_be_visible()


async def test_another_file_replaces_a_half_sent_one_only_when_that_is_said(
    gather: Gather, film: Path, tmp_path: Path
) -> None:
    teacher = await (await gather()).enter(TEACHER)
    half = bombs.endless_segment(tmp_path / "half.webm", film, more=bombs.MIB)
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
    dialog = await teacher.recordings()
    await send(dialog, half)
    await expect(dialog.locator("#send-share")).to_have_text(re.compile("^66 KB"))
    await teacher.page.reload()
    await teacher.is_connected()
    broken = False
    dialog = await teacher.recordings()
    await send(dialog, film)
    question = teacher.page.get_by_role("dialog", name="Give up “half.webm”?")
    await question.get_by_role("button", name="Cancel").click()
    await expect(dialog).to_contain_text("“half.webm” has not come all the way.")
    assert deleted == []
    await send(dialog, film)
    await question.get_by_role("button", name="Give it up").click()
    await expect(await watched(dialog)).to_be_visible()
    assert len(deleted) == 1
    teacher.forget_the_network()
