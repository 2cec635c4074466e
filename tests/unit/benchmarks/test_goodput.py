import random

import pytest

from benchmarks.goodput.calibrate import fit
from benchmarks.goodput.confirm import Confirmed, Point, points
from benchmarks.goodput.curves import POLICIES, cases, served_setup
from benchmarks.goodput.page import BARS, case_paragraphs, confirmed_paragraphs
from gpu_worker.scheduling.costs import StepCosts, StepShape
from simulator.goodput import Goodput
from simulator.setup import Setup

COSTS = StepCosts(base_s=4e-3, prefill_s=30e-6, pair_s=0.0, decode_s=60e-6, context_s=0.2e-6)
CASES = cases(Setup(COSTS))


def shapes(num: int, rng: random.Random) -> list[StepShape]:
    drawn = []
    for _ in range(num):
        num_decoding, num_prefill = rng.randrange(40), rng.choice((0, 0, rng.randrange(1, 256)))
        drawn.append(
            StepShape(
                num_decoding, num_decoding * rng.randrange(10, 400), num_prefill, num_prefill * rng.randrange(256)
            )
        )
    return drawn


def test_a_fit_finds_the_costs_behind_noise_and_outliers() -> None:
    rng = random.Random(0)
    drawn = shapes(2000, rng)
    seconds = [COSTS.step_s(s) * rng.uniform(0.95, 1.05) * (10 if rng.random() < 0.01 else 1) for s in drawn]
    found = fit(drawn, seconds)
    more = sum(seconds) / sum(COSTS.step_s(shape) for shape in drawn)
    for shape in shapes(100, rng):
        assert found.step_s(shape) == pytest.approx(more * COSTS.step_s(shape), rel=0.03)
    assert sum(map(found.step_s, drawn)) == pytest.approx(sum(seconds))


def test_no_cost_comes_out_negative() -> None:
    rng = random.Random(1)
    drawn = shapes(200, rng)
    found = fit(drawn, [max(1e-4, 5e-3 - 1e-5 * shape.num_decoding) for shape in drawn])
    assert all(value >= 0 for value in (found.base_s, found.prefill_s, found.pair_s, found.decode_s, found.context_s))


def test_each_goodput_is_confirmed_on_either_side() -> None:
    found = {(case.name, policy): Goodput(10.0, [(10.0, 0.9)]) for case in CASES for policy in POLICIES}
    found[CASES[0].name, "aegaeon"] = Goodput(0.0, [])
    chosen = points(CASES, found)
    assert [p.requests_per_s for p in chosen if p.policy == "deadline" and p.case is CASES[0]] == [8.5, 10.0, 11.5]
    assert not [p for p in chosen if p.policy == "aegaeon" and p.case is CASES[0]]
    assert {p.case.name for p in chosen if p.policy == "aegaeon"} == {case.name for case in CASES[1:] if case.on_worker}


def test_the_page_says_what_is_met_and_what_is_missed() -> None:
    rates = {
        "deadline": 30.0,
        "request": 10.0,
        "request-sjf": 25.0,
        "request-batch": 28.0,
        "aegaeon": 20.0,
        "aegaeon-split": 5.0,
        "static": 40.0,
    }
    found = {(CASES[0].name, policy): Goodput(rate, [(rate, 0.9)]) for policy, rate in rates.items()}
    page = "\n".join(case_paragraphs(CASES[0], found, BARS))
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| ")}
    assert "3.00" in rows["request"] and "met" in rows["request"]
    assert "1.20" in rows["request-sjf"] and "missed" in rows["request-sjf"]
    assert "refuses 5 models" in rows["static"] and "at most 38% on time" in page
    point = Point(CASES[0], "deadline", 30.0)
    near, far = (confirmed_paragraphs([Confirmed(point, 0.5, real, 0.9, (0.8, 0.95))])[-1] for real in (0.94, 0.84))
    assert "met" in near and "missed" in far


def test_what_static_serves_is_what_fits() -> None:
    assert served_setup("static", CASES[1].setup).num_models == 3
    assert served_setup("deadline", CASES[1].setup).num_models == 12
