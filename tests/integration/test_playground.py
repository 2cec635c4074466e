"""The page in Chromium, on a real gateway that wants keys, with a scripted worker behind it."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from shared.messages import Cancel
from tests.integration.browser import needs_chromium, open_browser, open_page
from tests.integration.gateway_harness import BASE, CHAT, Stack, make_key, open_stack

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs_chromium]
ADMIN_KEY, USER_KEY = "sk-kottos-admin-0123456789", "sk-kottos-user-0123456789"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("gateway")
    make_key(folder, "admin", ADMIN_KEY, is_admin=True)
    make_key(folder, "user", USER_KEY)
    async with open_stack(folder) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with open_browser() as opened:
        yield opened


async def test_a_key_is_asked_for_and_kept_in_the_tab(stack: Stack, browser: Browser) -> None:
    async with open_page(browser, stack.url) as page:
        dialog = page.get_by_role("dialog", name="API key")
        await expect(dialog).to_be_visible()
        await use_key(page, "sk-kottos-wrong")
        await expect(dialog.get_by_role("alert")).to_contain_text("not known here")
        await use_key(page, USER_KEY)
        await expect(page.get_by_role("alert").first).to_contain_text("This key can chat, but not watch.")
        await page.get_by_role("button", name="Key", exact=True).click()
        await use_key(page, ADMIN_KEY)
        await expect(page.locator("#connection-text")).to_have_text("Live")
        await page.reload()
        await expect(page.locator("#connection-text")).to_have_text("Live")
        assert await page.evaluate("[Object.keys(localStorage), document.cookie]") == [[], ""]
        await page.get_by_role("button", name="Key", exact=True).click()
        await dialog.get_by_role("button", name="Forget it").click()
        await expect(page.locator("#connection-text")).to_have_text("Key needed")


async def test_two_models_are_asked_at_once(stack: Stack, browser: Browser) -> None:
    async with open_page(browser, stack.url) as page:
        await use_key(page, USER_KEY)
        stack.says("four and <b>five</b>")
        left, right = page.get_by_label("Left answer"), page.get_by_label("Right answer")
        await left.get_by_role("combobox").select_option(CHAT)
        await right.get_by_role("combobox").select_option(BASE)
        await page.get_by_label("Max tokens").fill("40")
        await page.get_by_label("Message").fill("one two three")
        await page.get_by_role("button", name="Send to both").click()
        for pane in (left, right):
            await expect(pane.get_by_role("log")).to_have_text("one two threefour and <b>five</b>")
            await expect(pane).to_contain_text(re.compile(r"first token .*tokens"))
        await expect(right).to_contain_text("no chat template")

        await page.get_by_label("Message").fill("more " * 200)
        await page.get_by_role("button", name="Left").click()
        await expect(left.get_by_role("alert")).to_contain_text("context")

        stack.worker.reset()  # accepts, and says nothing
        await page.get_by_label("Message").fill("and now?")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Send to both")).to_be_disabled()
        await right.get_by_role("button", name="Stop").click()
        await expect(page.get_by_role("button", name="Right")).to_be_enabled()
        await page.get_by_role("button", name="Stop all").click()
        await expect(page.get_by_role("button", name="Send to both")).to_be_enabled()
        await stack.worker.wait_for(Cancel, 2)


async def use_key(page: Page, key: str) -> None:
    await page.get_by_label("Key", exact=True).fill(key)
    await page.get_by_role("button", name="Use it").click()
