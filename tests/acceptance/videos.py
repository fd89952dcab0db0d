"""Lessons with video: people of the demo in windows of a browser, whose cameras move and whose microphones beep."""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from playwright.async_api import Browser, BrowserContext, Locator, Page, expect

from tests.acceptance.lessons import rest, until
from tests.acceptance.test_page import Window
from tests.support.servers import Server

#: Bookings must not overlap; each lesson has an hour of its own, later than those that the demo has.
_hours = itertools.count(24 * 60)
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

    def __init__(self, page: Page) -> None:
        super().__init__(page)
        #: To whom this window has signalled.
        self.called: set[str] = set()
        page.on("websocket", lambda socket: socket.on("framesent", self._note_call))

    def _note_call(self, frame: str | bytes) -> None:
        if isinstance(frame, str) and '["signal"' in frame:
            self.called.add(json.loads(frame[frame.index("[") :])[1]["to"])

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
    """A lesson of the demo, on one server or several, and a browser whose windows have cameras."""

    servers: list[Server]
    room_name: str
    browser: Browser
    viewers: list[Viewer] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    @classmethod
    async def arrange(cls, servers: list[Server], browser: Browser) -> Class:
        """A lesson that nobody has been in."""
        made = cls(servers, "", browser)
        start = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=next(_hours))
        times = {"start_time": start.isoformat(), "end_time": (start + timedelta(minutes=50)).isoformat()}
        body = {"student_id": STUDENT, "teacher_id": TEACHER, **times}
        booked = await rest(servers[0].url, "POST", "/bookings", body, token=await made.token(STUDENT))
        assert booked.status == 201, booked
        return cls(servers, booked.body["booking_id"], browser)

    async def enter(self, user_id: str, server: int = 0, *, script: str = SMALL, of: Viewer | None = None) -> Viewer:
        """Somebody's window, in the room; in another tab `of` one of theirs, else in a browser of its own."""
        if of:
            context = of.page.context
        else:
            context = await self.browser.new_context()
            self.contexts.append(context)
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

    async def close(self) -> None:
        """Close all windows. AssertionError where something has gone wrong in somebody's console."""
        for context in self.contexts:
            await context.close()
        for viewer in self.viewers:
            assert not viewer.complaints, f"{viewer.user_id}: {viewer.complaints}"


Gather = Callable[..., Awaitable[Class]]
