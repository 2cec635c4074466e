from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks.switch import tables
from benchmarks.switch.reloaded import ROUTER
from benchmarks.switch.timings import Timings

MODELS = cast(Any, [SimpleNamespace(name="smollm2-135m", blob_bytes=269_000_000)])


def timings(**medians_ms: float) -> Timings:
    """Three values each, of which the one given is the median."""
    made = Timings()
    for what, ms in medians_ms.items():
        for each_ms in (ms * 3, ms, ms / 2):
            made.add("smollm2-135m", what.replace("_", " "), each_ms)
    return made


def cells(page: str, row: int = 0) -> list[str]:
    return [cell.strip() for cell in page.splitlines()[row + 2].strip("|").split("|")]


@pytest.mark.parametrize(("plain_ms", "verdict"), [(11.5, "1.15 (met)"), (11.7, "1.17 (missed)")])
def test_a_plain_switch_is_held_against_the_floor(plain_ms: float, verdict: str) -> None:
    waited = timings(floor=10, plain=plain_ms, prefetched=1, resident=4.9, unified=5.1, from_disk=99)
    row = cells(tables.waits_table(MODELS, waited))
    assert row == ["smollm2-135m, 269 MB", "10.0", f"{plain_ms}", verdict, "1.00 (met)", "4.90 (met)",
                   "5.10 (missed)", "99"]  # fmt: skip


def test_streaming_is_held_against_copy_then_step_and_its_bound_printed_beside_it() -> None:
    steps = Timings()
    for what, ms in (("copy", 150.0), ("step", 200.0), ("copy, then step", 350.0), ("streamed", 210.0)):
        steps.add("smollm2-135m", what, ms)
    assert cells(tables.steps_table(MODELS, steps)) == [
        "smollm2-135m",
        "150",
        "200",
        "350",
        "210",
        "0.60 (met)",
        "0.57",
    ]


def test_what_a_copy_costs_others_is_the_difference_of_medians() -> None:
    beside = timings(wait_alone=0.5, wait_beside=1.5, first_step_alone=200, first_step_beside=201.5,
                     decode_alone=20, decode_beside=23)  # fmt: skip
    page = tables.interference_table(MODELS, beside, 2 << 30)
    assert [cells(page, row)[2:] for row in range(3)] == [
        ["0.50", "1.50", "+1.00", "0.98, a slice"],
        ["200.00", "201.50", "+1.50", "alone"],
        ["20.00", "23.00", "+3.00", "alone"],
    ]


def test_reported_figures_are_marked_and_compared_with_nothing() -> None:
    reloads = Timings()
    reloads.add("smollm2-135m", "from_pretrained", 80.0)
    reloads.add("smollm2-135m", "new process", 4000.0)
    page = tables.reload_table(MODELS, timings(plain=20), reloads)
    assert [cells(page, row)[1:] for row in range(3)] == [
        ["from_pretrained", "80", "75.0%"],
        ["new process", "4000", "99.5%"],
        ["llama-server's router (reported)", "557", ""],
    ]


def test_the_routers_cost_is_what_was_reported() -> None:
    assert [ROUTER[name].cost_ms for name in ("smollm2-135m", "gemma3-270m")] == [557, 1240]


def test_the_number_of_repeats_is_the_least() -> None:
    made = timings(a=1, b=1)
    made.add("smollm2-135m", "b", 2.0)
    assert made.number() == 3
