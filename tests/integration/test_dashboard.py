"""The page in Chromium, on a staged feed."""

import re
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from gateway.http.admin.feed_objects import FeedLost, FeedRequest, FeedSwitch
from gateway.http.dashboard import load_assets
from shared.ids import ModelName
from tests.integration.browser import DESKTOP, PHONE, needs_chromium, open_browser, open_page
from tests.integration.staged_feed import MIB, WORKER, StagedFeed, model, staged_feed, turn, turns, worker

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs_chromium]
HOSTILE = "<img src=x onerror=alert(1)>&amp;"
STEP_S = 0.04


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with open_browser() as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def stage() -> AsyncIterator[StagedFeed]:
    async with staged_feed() as opened:
        yield opened


# --- the files ----------------------------------------------------------------------------------


async def test_files_are_sent_once_and_may_talk_to_the_gateway_only(stage: StagedFeed) -> None:
    async with aiohttp.ClientSession(stage.url) as http:
        for path in ("/", *(f"/dashboard/{name}" for name in load_assets())):
            async with http.get(path) as response:
                assert response.status == 200
                assert "default-src 'none'" in response.headers["Content-Security-Policy"]
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                known = {"If-None-Match": response.headers["ETag"]}
            async with http.get(path, headers=known) as response:
                assert (response.status, await response.read()) == (304, b"")
        for path in ("/dashboard/none.js", "/dashboard/..%2fapp.py", "/dashboard/"):
            async with http.get(path) as response:
                assert response.status == 404


# --- on a staged feed ---------------------------------------------------------------------------


async def test_the_fleet_at_a_glance(browser: Browser, stage: StagedFeed) -> None:
    request = FeedRequest("call-1-0", ModelName("alpha"), "team", "decode", 12, 34, 1.5, WORKER, "")
    async with open_page(browser, stage.url) as page:
        await expect(page.get_by_text("No worker is alive.").first).to_be_visible()
        await stage.say(
            stage.state(
                models=[
                    model("alpha", running=1, attainment=0.995, tokens_per_s=41.0, predicted_ttft_s=0.25, pinned=True),
                    model("beta", "loading", progress=0.4, waiting=3, attainment=0.5),
                    model(HOSTILE, "failed"),
                ],
                requests=[request],
                num_requests=7,
            )
        )
        await expect(page.locator("#connection-text")).to_have_text("Live")
        await expect(page.locator("#num-models")).to_have_text("3")
        await expect(page.locator("#attainment")).to_have_text("50 %")  # of the model that is late most
        await expect(page.get_by_role("row", name="alpha").first).to_contain_text("250 ms99.5 %41")
        await expect(page.get_by_role("row", name="beta")).to_contain_text("loading 40 %")
        await expect(page.get_by_role("row", name=re.compile(re.escape(HOSTILE)))).to_be_visible()
        assert await page.locator("main img").count() == 0
        await expect(page.locator("#residency")).to_contain_text("268 MiB of 608 MiB")
        await expect(page.locator("#requests")).to_contain_text("decode12341.5 sworker-0")
        await expect(page.get_by_text("and 6 younger ones")).to_be_visible()
        await stage.say(stage.state(models=[], workers=[]), FeedLost(3))
        await expect(page.locator("#no-models")).to_be_visible()
        await expect(page.get_by_text("3 events left out")).to_be_visible()


async def test_the_timeline_from_turns_down_to_single_steps(browser: Browser, stage: StagedFeed) -> None:
    async with open_page(browser, stage.url) as page:
        await tell_turns(stage)
        view = page.get_by_role("group", name="Turns of models on workers")
        await expect(page.get_by_role("list", name="Workers")).to_contain_text("worker-0")
        await expect(page.locator("#timeline-words")).to_contain_text(re.compile("alpha [0-9.]+ %, beta [0-9.]+ %"))
        alpha, beta = await page.evaluate(COLOURS)
        assert {alpha, beta} <= await drawn(page)

        await view.focus()
        await page.keyboard.press(".")  # to the first step in sight, which stops there
        await expect(page.get_by_role("button", name="Go live")).to_be_visible()
        details = page.locator("#step-details")
        await expect(details).to_contain_text("alpha. step 40 ms, prompt tokens 128, decode tokens 1")
        await expect(details).to_contain_text("switched copied, waited 30 ms, 256 MiB")
        for _ in range(3):
            await page.keyboard.press(".")
        await expect(details).to_contain_text("beta. step 40 ms, prompt tokens 0, decode tokens 2")
        await page.keyboard.press(",")
        await expect(details).to_contain_text("alpha")

        before = await page.locator("#span").inner_text()
        for _ in range(6):
            await page.get_by_role("button", name="Zoom in").click()
        await expect(page.locator("#span")).to_have_text("1.32 s")
        await view.focus()
        await page.keyboard.press("-")
        await expect(page.locator("#span")).to_have_text("1.98 s")
        box = await view.bounding_box()
        assert box and before == "15 s"
        await page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
        await page.mouse.wheel(0, -2000)
        await expect(page.locator("#span")).to_have_text("98.3 ms")

        await page.get_by_role("button", name="Go live").click()
        await expect(page.get_by_role("button", name="Pause")).to_be_visible()


async def test_hovering_shows_numbers_and_dragging_looks_back(browser: Browser, stage: StagedFeed) -> None:
    async with open_page(browser, stage.url) as page:
        await tell_turns(stage)
        await expect(page.get_by_role("list", name="Workers")).to_contain_text("worker-0")
        await page.get_by_role("button", name="Pause").click()
        x, y = await place_of(page, "alpha")
        await page.mouse.move(x, y)
        await expect(page.locator("#inspector")).to_contain_text("worker-0")
        await page.mouse.down()
        await page.mouse.move(x + 200, y, steps=4)
        await page.mouse.up()
        moved, _ = await place_of(page, "alpha")
        assert moved == pytest.approx(x + 200, abs=25)


async def test_a_lost_connection_is_said_and_comes_back(browser: Browser, stage: StagedFeed) -> None:
    async with open_page(browser, stage.url) as page:
        await stage.say(stage.state())
        await expect(page.locator("#connection-text")).to_have_text("Live")
        stage.is_away = True
        stage.hang_up()
        await expect(page.locator("#connection-text")).to_have_text(re.compile("Retrying"))
        await expect(page.get_by_role("alert").first).to_contain_text("What you see is from before.")
        await expect(page.locator("#num-models")).to_have_text("2")
        stage.is_away = False
        await stage.say(stage.state(models=[model("gamma")]))
        await expect(page.locator("#connection-text")).to_have_text("Live")
        await expect(page.locator("#num-models")).to_have_text("1")
        await expect(page.locator("#problem")).to_be_empty()


async def test_a_theme_is_kept(browser: Browser, stage: StagedFeed) -> None:
    def shade() -> str:
        return "getComputedStyle(document.body).backgroundColor"

    async with open_page(browser, stage.url) as page:
        toggle = page.get_by_role("button", name="Theme")
        light = await page.evaluate(shade())
        await toggle.click()
        await expect(toggle).to_have_text("Theme: Light")
        assert await page.evaluate(shade()) == light
        await toggle.click()
        await expect(toggle).to_have_text("Theme: Dark")
        dark = await page.evaluate(shade())
        assert dark != light
        await page.reload()
        await expect(toggle).to_have_text("Theme: Dark")
        assert await page.evaluate(shade()) == dark
        await page.emulate_media(color_scheme="dark")
        await toggle.click()  # back to the system's
        assert await page.evaluate(shade()) == dark


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_nothing_is_wider_than_the_screen(browser: Browser, stage: StagedFeed, viewport: dict[str, int]) -> None:
    long = "organisation/a-model-with-a-name-that-does-not-end-soon-70b-instruct"
    stage.models = (long, "beta")
    async with open_page(browser, stage.url, viewport=viewport) as page:
        models = [model(long, "loading", progress=0.5, waiting=1234, tokens_per_s=12345), model("beta")]
        await stage.say(stage.state(models=models, workers=[worker({long: 268 * MIB})]))
        await expect(page.locator("#num-models")).to_have_text("2")
        widest, width = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert widest <= width


# --- what they share ----------------------------------------------------------------------------

COLOURS = """async () => {
  const { resolved, Colours } = await import("/dashboard/colours.js");
  const colours = new Colours();
  const names = ["alpha", "beta"].map((name) => `model-${colours.slot(name)}`);
  const found = resolved(names);
  return names.map((name) => found[name]);
}"""
# Colours of the canvas, each with the number of pixels and the first of them, as places on the page.
PIXELS = """() => {
  const canvas = document.getElementById("timeline-canvas");
  const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const box = canvas.getBoundingClientRect();
  const found = {};
  for (let at = 0; at < data.length; at += 4) {
    if (data[at + 3] < 255) continue;
    const pixel = at / 4;
    const colour = `rgb(${data[at]}, ${data[at + 1]}, ${data[at + 2]})`;
    found[colour] ??= [box.left + (pixel % width), box.top + Math.floor(pixel / width)];
  }
  return found;
}"""


async def tell_turns(stage: StagedFeed) -> None:
    """Two models by turns of three steps for five seconds, up to a second ago; with a copy before each."""
    first_s = stage.now_s - 6
    told = []
    for index in range(30):
        name, num_decode = ("alpha", 1) if index % 2 == 0 else ("beta", 2)
        steps = [(k * STEP_S, STEP_S, 128 if name == "alpha" and k == 0 else 0, num_decode) for k in range(3)]
        told.append(turn(name, first_s + index * 0.16, steps, FeedSwitch("copied", 0.03, 256 * MIB)))
    await stage.say(turns(WORKER, *told), stage.state())


async def drawn(page: Page) -> set[str]:
    found: dict[str, list[float]] = await page.evaluate(PIXELS)
    return set(found)


async def place_of(page: Page, name: str) -> tuple[float, float]:
    """Of the first pixel of that model, a little into it."""
    colour = dict(zip(("alpha", "beta"), await page.evaluate(COLOURS), strict=True))[name]
    x, y = (await page.evaluate(PIXELS))[colour]
    return x + 2, y + 5
