"""The room page: people of the demo in windows of a browser, whose cameras move and whose microphones beep."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Locator, Page, ViewportSize, expect

from tests.acceptance.lessons import Answer, rest, until
from tests.support.recorder import WAIT_SECONDS
from tests.support.servers import Server

PHONE = ViewportSize(width=360, height=740)

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


class Window:
    """One person's window, with a camera and a microphone. At the end nothing may have gone wrong in its console."""

    def __init__(self, page: Page, user_id: str) -> None:
        self.page = page
        self.user_id = user_id
        self.complaints: list[str] = []
        #: To whom this window has signalled.
        self.called: set[str] = set()
        page.on("pageerror", self._note_error)
        page.on("console", self._note_message)
        page.on("websocket", lambda socket: socket.on("framesent", self._note_call))

    def _note_error(self, error: Error) -> None:
        self.complaints.append(str(error))

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _note_call(self, frame: str | bytes) -> None:
        if isinstance(frame, str) and '["signal"' in frame:
            self.called.add(json.loads(frame[frame.index("[") :])[1]["to"])

    def forget_the_network(self) -> None:
        """That the server was away is news for the console."""
        network = ("Failed to load resource", "WebSocket connection to", "WebSocket is already in CLOSING")
        self.complaints[:] = [said for said in self.complaints if not said.startswith(network)]

    @property
    def messages(self) -> Locator:
        return self.page.locator("#messages")

    @property
    def people(self) -> Locator:
        return self.page.locator("#people-list")

    async def is_connected(self) -> None:
        await expect(self.page.locator("#connection")).to_have_text("Connected")

    async def say(self, text: str) -> None:
        await self.page.get_by_label("Your message").fill(text)
        await self.page.keyboard.press("Enter")

    async def texts(self) -> list[str]:
        """The messages' texts, as far as they are those of a test: from `<` to `>`."""
        return re.findall(r"<[^<>]*>", await self.messages.inner_text())

    async def recordings(self) -> Locator:
        """The dialog of the lesson's recordings, opened if it was not."""
        dialog = self.page.get_by_role("dialog", name="Recordings")
        if not await dialog.is_visible():
            await self.page.get_by_role("button", name="Recordings", exact=True).click()
        await expect(dialog).to_be_visible()
        return dialog

    async def join_video(self) -> None:
        await self.page.get_by_role("button", name="Join video").click()
        await expect(self.page.get_by_role("button", name="Turn the camera off")).to_be_visible()

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

            await until(moves, f"{self.user_id} sees {user_id}", seen=partial(repr, looks))
        await expect(self.page.locator(".tile:not(.mine)")).to_have_count(len(others))


@dataclass(frozen=True)
class Class:
    """A lesson of the demo, on one server or several, and a browser whose windows have cameras."""

    servers: list[Server]
    room_name: str
    browser: Browser
    windows: list[Window] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    @classmethod
    async def arrange(cls, servers: list[Server], browser: Browser) -> Class:
        """A lesson that nobody has been in."""
        made = cls(servers, "", browser)
        start = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=next(_hours))
        times = {"start_time": start.isoformat(), "end_time": (start + timedelta(minutes=50)).isoformat()}
        body = {"student_id": STUDENT, "teacher_id": TEACHER, **times}
        booked = await made.call("POST", "/bookings", body, by=STUDENT)
        assert booked.status == 201, booked
        return cls(servers, booked.body["booking_id"], browser)

    async def enter(
        self,
        user_id: str,
        server: int = 0,
        *,
        comes_in: bool = True,
        script: str = SMALL,
        of: Window | None = None,
    ) -> Window:
        """Somebody's window, in the room, unless it is said that they do not come in; in another tab `of` one of
        theirs, else in a browser of its own."""
        if of:
            context = of.page.context
        else:
            context = await self.browser.new_context()
            self.contexts.append(context)
            context.set_default_timeout(WAIT_SECONDS * 1000)
            await context.add_init_script(script)
        window = Window(await context.new_page(), user_id)
        self.windows.append(window)
        await window.page.goto(f"{self.servers[server].url}/?as={user_id}&session={self.room_name}")
        if comes_in:
            await window.is_connected()
        return window

    async def call(self, method: str, path: str, body: Any = None, *, by: str = TEACHER) -> Answer:
        """REST, as one of the demo's people."""
        return await rest(self.servers[0].url, method, path, body, token=await self.token(by))

    async def token(self, user_id: str) -> str:
        answer = await rest(self.servers[0].url, "POST", "/demo/sign-in", {"user_id": user_id})
        token: str = answer.body["token"]
        return token

    async def close(self) -> None:
        """Close all windows. AssertionError where something has gone wrong in somebody's console."""
        for context in self.contexts:
            await context.close()
        for window in self.windows:
            assert not window.complaints, f"{window.user_id}: {window.complaints}"


Gather = Callable[..., Awaitable[Class]]
