"""The page on the whole stack: two chats at once, and the turns that they make alternate before one's eyes."""

import re

from playwright.async_api import expect

from benchmarks.served import Served
from tests.e2e.driving import BASE_MODEL, CHAT_MODEL
from tests.integration.browser import needs_chromium, open_browser, open_page

pytestmark = needs_chromium
FIRST_TOKEN_MS = 60_000
BOTH_RAN = re.compile(rf"[1-9]\d* turns, [1-9]\d* switches\. .*{BASE_MODEL} [0-9.]+ %")


async def test_two_chats_at_once_make_turns_alternate(small_stack: Served) -> None:
    async with open_browser() as browser, open_page(browser, small_stack.url) as page:
        await expect(page.locator("#connection-text")).to_have_text("Live")
        left, right = page.get_by_label("Left answer"), page.get_by_label("Right answer")
        await left.get_by_role("combobox").select_option(CHAT_MODEL)
        await right.get_by_role("combobox").select_option(BASE_MODEL)
        await page.get_by_label("Max tokens").fill("48")
        await page.get_by_label("Temperature").fill("0")
        await page.get_by_label("Message").fill("Count: one, two, three,")
        await page.get_by_role("button", name="Send to both").click()
        requests = page.get_by_role("group", name="In flight")
        for name in (CHAT_MODEL, BASE_MODEL):
            await expect(requests).to_contain_text(name)
        for pane in (left, right):
            await expect(pane).to_contain_text(re.compile(r"first token .* tokens"), timeout=FIRST_TOKEN_MS)
        await expect(page.locator("#timeline-words")).to_contain_text(BOTH_RAN, timeout=FIRST_TOKEN_MS)
        await expect(page.get_by_role("list", name="Models in sight")).to_have_text(f"{BASE_MODEL}{CHAT_MODEL}")
        await expect(page.get_by_role("button", name="Send to both")).to_be_enabled(timeout=FIRST_TOKEN_MS)
        await expect(page.locator("#num-workers")).to_have_text("1")
        await expect(page.locator("#residency")).to_contain_text(re.compile(r"\d+ MiB of 608 MiB"))
