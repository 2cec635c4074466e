"""What the page's modules work out, inside Chromium, without the page."""

import re
from collections.abc import AsyncIterator
from itertools import combinations
from typing import Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import Page

from tests.integration.browser import needs_chromium, open_browser, open_page
from tests.integration.colour_vision import contrast, distance, seen_by
from tests.integration.staged_feed import staged_feed

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs_chromium]
NUM_COLOURS: Final = 8


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page() -> AsyncIterator[Page]:
    async with (
        staged_feed() as stage,
        open_browser() as browser,
        open_page(browser, f"{stage.url}/dashboard/icon.svg") as page,
    ):
        yield page


async def run(page: Page, module: str, script: str, *given: Any) -> Any:
    """script: the body of a function of m, the module's exports, and of what is given."""
    names = ", ".join(f"a{index}" for index in range(len(given)))
    return await page.evaluate(
        f"async (given) => {{ const m = await import('/dashboard/{module}'); const [{names}] = given; {script} }}",
        list(given),
    )


@pytest.mark.parametrize(
    ("function", "given", "shown"),
    [
        ("duration", 0.00085, "850 µs"),
        ("duration", 0.0123, "12.3 ms"),
        ("duration", 0.04, "40 ms"),
        ("duration", 0.25, "250 ms"),
        ("duration", 0.9999, "1 s"),
        ("duration", 1.25, "1.25 s"),
        ("duration", 59.97, "1 min 0 s"),
        ("duration", 3725, "1 h 2 min"),
        ("duration", None, "–"),
        ("bytes", 0, "0 B"),
        ("bytes", 608 << 20, "608 MiB"),
        ("bytes", 1_610_612_736, "1.5 GiB"),
        ("quantity", 0, "0"),
        ("quantity", 12.54, "12.5"),
        ("quantity", 12345.6, "12,346"),
        ("percent", 1, "100 %"),
        ("percent", 0.9999, "99.9 %"),
        ("percent", 0.975, "97.5 %"),
    ],
)
async def test_numbers_are_short(page: Page, function: str, given: float | None, shown: str) -> None:
    assert await run(page, "format.js", f"return m.{function}(a0)", given) == shown


@pytest.mark.parametrize(
    ("seconds", "step_s", "shown"),
    [(0, 1, "now"), (5, 1, "−5 s"), (0.25, 0.05, "−250 ms"), (1.5, 0.5, "−1.5 s"), (1.25, 0.05, "−1.25 s")],
)
async def test_an_axis_counts_back_from_now(page: Page, seconds: float, step_s: float, shown: str) -> None:
    assert await run(page, "format.js", "return m.before(a0, a1)", seconds, step_s) == shown


async def test_events_are_the_same_wherever_they_are_cut(page: Page) -> None:
    text = ': hello\r\n\r\ndata: {"a":1}\n\ndata:one\ndata: two\r\n\r\nid: 3\n\ndata: é\n\n'
    cuts = """
      const all = [];
      for (let cut = 0; cut <= a0.length; cut += 1) {
        const parser = new m.EventParser();
        all.push([...parser.push(a0.slice(0, cut)), ...parser.push(a0.slice(cut))]);
      }
      return all;
    """
    found = await run(page, "sse.js", cuts, text)
    assert len(found) == len(text) + 1
    assert all(events == ['{"a":1}', "one\ntwo", "é"] for events in found)


# --- what is kept -------------------------------------------------------------------------------


def told(model: str, began_at_s: float, num_steps: int, step_s: float = 0.01, kind: str | None = None) -> Any:
    steps = [[index * step_s, step_s, 0, 1] for index in range(num_steps)]
    switch = kind and {"kind": kind, "waited_s": 0.0, "copied_bytes": 0}
    return {"worker": "w", "turns": [{"model": model, "began_at_s": began_at_s, "switch": switch, "steps": steps}]}


async def test_a_turn_told_in_pieces_is_one_turn(page: Page) -> None:
    batches = [told("a", 10, 5, kind="resident"), told("a", 10.05, 5), told("b", 10.1, 2, kind="copied")]
    script = """
      const history = new m.History();
      a0.forEach((batch) => history.add(batch));
      return m.turnsOf(history.between("w", 0, 100)).map((t) => [t.model, t.startS, t.endS, t.pieces.length]);
    """
    turns = await run(page, "history.js", script, batches)
    assert [[model, pieces] for model, _, _, pieces in turns] == [["a", 2], ["b", 1]]
    assert turns[0][1:3] == pytest.approx([10, 10.1])


async def test_only_what_is_in_sight_is_looked_at(page: Page) -> None:
    batches = [told("a", at, 5) for at in (10, 20, 30)]
    script = """
      const history = new m.History();
      a0.forEach((batch) => history.add(batch));
      return [[0, 5], [10.03, 20.01], [20.05, 30], [25, 99]].map(([from, to]) =>
        history.between("w", from, to).map((piece) => piece.startS));
    """
    assert await run(page, "history.js", script, batches) == [[], [10, 20], [], [30]]


async def test_what_is_kept_is_bounded_in_time_and_number(page: Page) -> None:
    script = """
      const history = new m.History();
      const steps = Array.from({length: 1000}, (_, index) => [index * 0.001, 0.001, 0, 1]);
      for (let second = 0; second < 60; second += 1) {
        history.add({worker: "w", turns: [{model: "a", began_at_s: second, switch: null, steps}]});
      }
      const full = history.numSteps;
      history.prune(58.5 + m.KEEP_S);
      const recent = history.numSteps;
      history.prune(61 + m.KEEP_S);
      return [full, m.MAX_STEPS, recent, history.workers];
    """
    assert await run(page, "history.js", script) == [50_000, 50_000, 2000, []]


async def test_steps_keep_their_microseconds_late_in_a_long_run(page: Page) -> None:
    batch = {"worker": "w", "turns": [{"model": "a", "began_at_s": 9e5, "switch": None, "steps": []}]}
    batch["turns"][0]["steps"] = [[5000 + index * 0.01, 0.01, 0, 1] for index in range(3)]  # type: ignore[index]
    script = """
      const history = new m.History();
      history.add(a0);
      return [...m.stepsOf(history.between("w", 0, 1e7)[0])].map((step) => step.startS - 905000);
    """
    assert await run(page, "history.js", script, batch) == pytest.approx([0, 0.01, 0.02], abs=1e-6)


async def test_steps_are_found_by_time_and_one_after_the_other(page: Page) -> None:
    batches = [told("a", 10, 2), told("b", 10.05, 2)]
    script = """
      const history = new m.History();
      a0.forEach((batch) => history.add(batch));
      const turns = m.turnsOf(history.between("w", 0, 100));
      const named = (found) => found && [found.turn.model, Math.round((found.step.startS - 10) * 1000)];
      const walked = [];
      const after = (atS) => m.nextStep(turns, atS, 1);
      for (let found = after(0); found; found = after(found.step.startS)) walked.push(named(found));
      const others = [m.stepAt(turns, 10.015), m.stepAt(turns, 10.03), m.nextStep(turns, 10.05, -1)];
      return [...others.map(named), walked];
    """
    at, nearest, previous, walked = await run(page, "history.js", script, batches)
    assert (at, nearest, previous) == (["a", 10], ["a", 10], ["a", 10])
    assert walked == [["a", 0], ["a", 10], ["b", 50], ["b", 60]]


async def test_narrow_turns_become_shares_of_their_columns(page: Page) -> None:
    turns = [
        {"model": name, "startS": at, "endS": at + 0.25}
        for name, at in (("b", 0.0), ("a", 0.25), ("b", 0.5), ("a", 1.9))
    ]
    script = "return [...m.shares(a0, {fromS: 0, pxPerS: 1, widthPx: 2})].map(({x, parts}) => [x, parts])"
    [first, second] = await run(page, "shares.js", script, turns)
    assert first == [0, [["a", 0.25], ["b", 0.5]]]
    assert second[0] == 1 and second[1][0] == ["a", pytest.approx(0.1)]  # what is not in sight any more is cut off


# --- what is seen -------------------------------------------------------------------------------


async def test_zooming_keeps_what_is_under_the_pointer(page: Page) -> None:
    script = """
      const view = new m.Viewport(10);
      view.pause(1000);
      const at = ({fromS}) => fromS + 0.25 * view.spanS;
      const before = at(view.range(1000));
      view.zoom(0.1, 0.25, 1000);
      return [before, at(view.range(1000)), view.spanS];
    """
    before, after, span_s = await run(page, "viewport.js", script)
    assert (after, span_s) == (pytest.approx(before), pytest.approx(1))


async def test_a_view_stays_within_what_is_kept_and_follows_again_at_the_present(page: Page) -> None:
    script = """
      const view = new m.Viewport(10);
      const seen = [view.isLive];
      view.pan(-Infinity, 1000);
      seen.push(view.isLive, view.range(1000).fromS);
      view.zoom(1e9, 0.5, 1000);
      seen.push(view.spanS);
      view.zoom(1e-9, 0.5, 1000);
      seen.push(view.spanS);
      view.pan(Infinity, 1000);
      return [...seen, view.isLive, view.range(1000).toS];
    """
    seen = await run(page, "viewport.js", script)
    assert seen == [True, False, 880, 120, 0.02, True, 999.7]


async def test_marks_of_an_axis_are_round(page: Page) -> None:
    found = await run(page, "viewport.js", "return [0.0007, 0.012, 0.2, 3, 6, 70].map(m.tickStep)")
    assert found == pytest.approx([0.001, 0.02, 0.2, 5, 10, 100])


async def test_the_clock_goes_by_the_event_with_the_least_delay(page: Page) -> None:
    script = """
      const clock = new m.GatewayClock();
      const empty = clock.now(0);
      [[100, 10.5], [101, 11.02], [102, 12.4]].forEach(([atS, localS]) => clock.observe(atS, localS));
      return [empty, clock.now(13)];
    """
    empty, now_s = await run(page, "gateway_clock.js", script)
    assert empty is None and now_s == pytest.approx(102.98, abs=0.005)


async def test_tries_to_connect_come_ever_later_and_not_all_at_once(page: Page) -> None:
    script = "return [1, 2, 3, 9].map((n) => [m.retryAfter(n, 0), m.retryAfter(n, 1)])"
    bounds = await run(page, "feed.js", script)
    assert bounds == [[0.375, 0.5], [0.75, 1.0], [1.5, 2.0], [7.5, 10.0]]


async def test_the_pace_of_an_answer_counts_from_its_first_token(page: Page) -> None:
    script = """
      const pace = new m.Pace(10);
      const seen = [[pace.ttftS, pace.tokensPerS]];
      for (const [numTokens, atS] of [[0, 10.2], [2, 10.5], [2, 10.9], [12, 12.5], [0, 13]]) {
        pace.observe(numTokens, atS);
        seen.push([pace.ttftS, pace.tokensPerS]);
      }
      return seen;
    """
    seen = await run(page, "chat_client.js", script)
    assert seen == [[None, None], [None, None], [0.5, None], [0.5, None], [0.5, 5], [0.5, 5]]


# --- colours ------------------------------------------------------------------------------------


async def test_a_model_has_the_same_colour_each_time_and_its_own_while_there_are_any(page: Page) -> None:
    script = """
      const all = [0, 1].map(() => { const colours = new m.Colours(); return a0.map((name) => colours.slot(name)); });
      return [...all, a0.filter((name) => new m.Colours().slot(name) === m.hash(name) % m.NUM_COLOURS).length];
    """
    names = [f"model-{index}" for index in range(NUM_COLOURS)]
    first, second, num_own = await run(page, "colours.js", script, names)
    assert first == second
    assert sorted(first) == list(range(NUM_COLOURS))
    assert num_own == NUM_COLOURS


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_colours_stand_out_and_are_told_apart_by_everybody(page: Page, theme: str) -> None:
    names = [f"model-{index}" for index in range(NUM_COLOURS)]
    css = await page.evaluate("async () => (await fetch('/dashboard/theme.css')).text()")
    colours = {
        name: pair[theme == "dark"] for name, *pair in re.findall(r"--([\w-]+): light-dark\((#\w+), (#\w+)\)", css)
    }
    models = [colours[name] for name in names]
    assert all(contrast(colour, colours["track"]) >= 3 for colour in models)
    assert all(contrast(colour, colours["surface"]) >= 3 for colour in models)
    assert all(contrast(colour, colours["on-model"]) >= 4.5 for colour in models)
    assert all(
        contrast(colours[name], colours["surface"]) >= 4.5 for name in ("ink", "soft", "faint", "good", "warm", "bad")
    )
    for vision in ("normal", "protanopia", "deuteranopia", "tritanopia"):
        seen = [seen_by(colour, vision) for colour in models]
        assert min(distance(a, b) for a, b in combinations(seen, 2)) > 0.065, vision
