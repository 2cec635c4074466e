"""Headless Chromium for tests of the page, which must not complain of anything."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium: Final = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: make tools")
TIMEOUT_MS: Final = 20_000
DESKTOP: Final = {"width": 1280, "height": 800}
PHONE: Final = {"width": 390, "height": 844}
_FLAGS: Final = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
_REFUSED: Final = "Failed to load resource"  # Chromium says so of any status above 399, which tests ask for


expect.set_options(timeout=TIMEOUT_MS)


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield browser
        await browser.close()


@asynccontextmanager
async def open_page(browser: Browser, url: str, **settings: Any) -> AsyncIterator[Page]:
    """In a profile of its own. What the page could not do, by an exception or its policy, fails the test."""
    context = await browser.new_context(**{"viewport": DESKTOP, "color_scheme": "light"} | settings)
    context.set_default_timeout(TIMEOUT_MS)
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(_REFUSED):
            complaints.append(message.text)

    page = await context.new_page()
    page.on("console", hear)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(url)
    yield page
    await context.close()
    assert not complaints, "\n".join(complaints)
