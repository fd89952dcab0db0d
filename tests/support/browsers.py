"""A real Chromium, the system's own, driven by Playwright."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright, expect

from tests import tools
from tests.support.recorder import WAIT_SECONDS

#: Without a display, without a GPU, and silent: it speaks to nobody but the server under test.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@asynccontextmanager
async def chromium(*flags: str) -> AsyncIterator[Browser]:
    """A browser of its own; more `flags` than FLAGS where a test needs them (fake cameras, say). From then on, what is
    expected of a page may take WAIT_SECONDS."""
    expect.set_options(timeout=WAIT_SECONDS * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=tools.chromium(), args=[*FLAGS, *flags], headless=True
        )
        try:
            yield browser
        finally:
            await browser.close()
