from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from cli.top.feed import Turns
from cli.top.render import ALL_ROWS, KEYS, render
from cli.top.view import View
from tests.unit.cli.top.states import MIB, model, request, state, turn, worker


def lines(view: View, width: int = 126, height: int = 30, *, has_colours: bool = False, **how: Any) -> list[str]:
    said = StringIO()
    console = Console(file=said, width=width, height=height, color_system="truecolor" if has_colours else None)
    console.print(render(view, width, height, 0.0, has_colours=has_colours, **how))
    return said.getvalue().splitlines()


@pytest.fixture
def view() -> View:
    view = View()
    workers = [worker("worker-0", {"alpha": 50 * MIB, "beta": 25 * MIB})]
    requests = [request("req-1", age_s=3.0, model="alpha")]
    view.apply(state(100.0, models=[model("alpha"), model("beta")], workers=workers, requests=requests), 0.0)
    view.apply(Turns("worker-0", [turn("alpha", 70.0, (0.0, 15.0)), turn("beta", 85.0, (0.0, 15.0))]), 0.0)
    return view


def test_everything_is_there(view: View) -> None:
    shown = lines(view)
    assert shown[0] == "Kottos 1 worker  2 models  1 request  12.5 tokens/s  0.5 switches/s"
    assert shown[1].startswith("worker-0  12.5 tokens/s  0.5 switches/s  deadline")
    assert "device aaaaaabbb··· 75 MiB of 100 MiB" in shown[2] and "4 MiB of 16 MiB" in shown[2]
    strip = shown[3].strip()
    assert set(strip) == {"a", "b"} and abs(strip.count("a") - strip.count("b")) <= 1
    assert "last 30 s  a alpha  b beta" in shown[4]
    text = "\n".join(shown)
    for word in ("alpha", "beta", "resident", "0.25 s", "10 + 0.1 s", "req-1", "decode", "3.0 s", "10+2", KEYS):
        assert word in text, word


def test_with_colours_the_strip_has_heights(view: View) -> None:
    shown = lines(view, has_colours=True)
    assert "█" in shown[3] and "\x1b[38;2;" in shown[3] and "aaa" not in shown[3]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 12), (200, 60), (20, 8)])
def test_it_fits_the_terminal(width: int, height: int) -> None:
    view = View()
    workers = [worker(f"worker-{number}") for number in range(9)]
    models = [model(f"a-model-with-a-long-name-{number}") for number in range(40)]
    requests = [request(f"request-{number}", model="a-model-with-a-long-name-1") for number in range(200)]
    view.apply(state(models=models, workers=workers, requests=requests), 0.0)
    shown = lines(view, width, height)
    assert all(len(line) <= width for line in shown)
    if height >= 24:
        assert len(shown) <= height and shown[-1].startswith(KEYS[:10])
        assert ("and 6 workers more" in "\n".join(shown)) == (height == 24)


def test_for_print_nothing_is_left_out() -> None:
    view = View()
    view.apply(state(models=[model(f"m{number:02}") for number in range(90)], workers=[worker("w")]), 0.0)
    shown = "\n".join(lines(view, 100, ALL_ROWS))
    assert all(f"m{number:02}" in shown for number in range(90)) and KEYS not in shown


def test_trouble_and_pause_are_said(view: View) -> None:
    view.trouble = "no connection, tries again: refused\x1b[2J"
    shown = lines(view, 160, is_paused=True)[0]
    assert shown.endswith("paused  no connection, tries again: refused[2J")


def test_before_the_first_news() -> None:
    assert lines(View()) == ["waits for the first news"]


def test_names_steer_no_terminal_and_are_no_markup() -> None:
    view = View()
    view.apply(state(models=[model("[red]x\x1b[2J")], workers=[worker("[/]w\x1b")]), 0.0)
    shown = "\n".join(lines(view))
    assert "[red]x[2J" in shown and "[/]w" in shown and "\x1b" not in shown
