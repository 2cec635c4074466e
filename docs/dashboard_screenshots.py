"""Makes docs/dashboard.png and docs/dashboard-dark.png: python -m docs.dashboard_screenshots

The demo models on a device that holds one of them, both chatting. Needs `make demo`, and Chromium from `make tools`.
"""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Final, Literal

from playwright.async_api import Browser, async_playwright, expect

from benchmarks.served import serve

_FOLDER: Final = Path(__file__).parent
_MODELS: Final = ("smollm2-135m", "gemma3-270m")
_PROMPT: Final = "Write a long story. Once upon a time, in a village by the sea, there lived a fisherman who"
_SHOWN_S: Final = 12  # of two chats: most of what the timeline shows
_TIMEOUT_MS: Final = 180_000  # tokenizers are read when they are first needed


async def shoot(browser: Browser, url: str, theme: Literal["light", "dark"], path: Path) -> None:
    page = await browser.new_page(
        viewport={"width": 1280, "height": 780}, device_scale_factor=1.25, color_scheme=theme, base_url=url
    )
    page.set_default_timeout(_TIMEOUT_MS)
    await page.goto("/")
    panes = [page.get_by_label(label) for label in ("Left answer", "Right answer")]
    for pane, model in zip(panes, _MODELS, strict=True):
        await pane.get_by_role("combobox").select_option(model)
    await page.get_by_label("Max tokens").fill("400")
    await page.get_by_label("Message").fill(_PROMPT)
    await page.get_by_role("button", name="Send to both").click()
    for pane in panes:
        await expect(pane).to_contain_text("first token", timeout=_TIMEOUT_MS)
    await page.wait_for_timeout(_SHOWN_S * 1000)
    await page.screenshot(path=path)
    await page.close()


async def shoot_both(url: str) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"))
        await shoot(browser, url, "light", _FOLDER / "dashboard.png")
        await shoot(browser, url, "dark", _FOLDER / "dashboard-dark.png")
        await browser.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = {"KOTTOS_WORKER_NUM_THREADS": "1"}  # the browser needs a core, too
        log = Path(folder) / "log"
        with serve("--demo", "--device-memory", "760MiB", log_path=log, settings=settings) as served:
            asyncio.run(shoot_both(served.url))


if __name__ == "__main__":
    main()
