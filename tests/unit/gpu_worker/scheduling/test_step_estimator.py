"""Costs learnt from steps: near the truth from noisy ones, unmoved by wild ones, and never of no use."""

import random
import sys
from dataclasses import replace
from math import inf, isfinite, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_worker.scheduling.costs import StepCosts, StepShape, guess, step_shape
from gpu_worker.scheduling.step_estimator import LEAST_STEP_S, MOST_STEP_S, StepEstimator

TRUTH = StepCosts(base_s=25e-3, prefill_s=0.5e-3, pair_s=1.5e-6, decode_s=1.2e-3, context_s=3e-6)
GUESS = guess(270 << 20)
FACTORS = st.floats(1 / 8, 8.0)  # of guesses; beyond, 3,000 steps may not be enough

shapes = st.builds(
    StepShape, st.integers(0, 300), st.integers(0, 300_000), st.integers(0, 4096), st.integers(0, 10_000_000)
)


def draw_shape(rng: random.Random) -> StepShape:
    decoding = [(1, rng.randint(16, 400)) for _ in range(rng.choice([0, 1, 1, 2, 4, 8, 16]))]
    prompts = [(rng.choice([16, 64, 128, 256]), rng.choice([0, 0, 256]))] if not decoding or rng.random() < 0.3 else []
    return step_shape([*decoding, *prompts])


def teach(
    estimator: StepEstimator,
    costs: StepCosts,
    num_steps: int,
    *,
    seed: int = 0,
    noise: float = 0.03,
    outliers: float = 0.0,
    factor: float = 50.0,
) -> None:
    rng = random.Random(seed)
    for _ in range(num_steps):
        shape = draw_shape(rng)
        seconds = costs.step_s(shape) * rng.lognormvariate(0.0, noise)
        estimator.observe(shape, seconds * (factor if rng.random() < outliers else 1.0))


def worst_error(estimator: StepEstimator, costs: StepCosts = TRUTH) -> float:
    rng = random.Random(99)
    drawn = [draw_shape(rng) for _ in range(200)]
    return max(abs(estimator.step_s(shape) / costs.step_s(shape) - 1) for shape in drawn)


def scaled(costs: StepCosts, factor: float) -> StepCosts:
    return StepCosts(
        costs.base_s * factor,
        costs.prefill_s * factor,
        costs.pair_s * factor,
        costs.decode_s * factor,
        costs.context_s * factor,
    )


def test_before_any_step_it_says_what_was_guessed_or_known() -> None:
    shape = StepShape(4, 800, 64, 2080)
    assert StepEstimator(GUESS).step_s(shape) == pytest.approx(GUESS.step_s(shape))
    assert StepEstimator(GUESS, TRUTH).step_s(shape) == pytest.approx(TRUTH.step_s(shape))


def test_the_first_steps_scale_the_guess_whatever_their_shape() -> None:
    estimator = StepEstimator(GUESS)
    for seconds in (400.0, 10.0, 10.1):  # the first step of all is often slow
        estimator.observe(StepShape(1, 100), seconds * GUESS.step_s(StepShape(1, 100)))
    assert estimator.is_guess
    prompt = StepShape(0, 0, 256, 32_896)
    assert estimator.step_s(prompt) == pytest.approx(10.1 * GUESS.step_s(prompt))


@given(FACTORS, st.floats(1 / 64, 64.0), FACTORS, FACTORS, FACTORS)
@settings(max_examples=20, deadline=None)
def test_it_finds_the_coefficients_of_noisy_steps(
    base: float, prefill: float, pair: float, decode: float, context: float
) -> None:
    truth = StepCosts(
        GUESS.base_s * base,
        GUESS.prefill_s * base * prefill,
        GUESS.pair_s * base * pair,
        GUESS.decode_s * base * decode,
        GUESS.context_s * base * context,
    )
    estimator = StepEstimator(GUESS)
    teach(estimator, truth, 3000)
    assert worst_error(estimator, truth) < 0.1


@pytest.mark.parametrize("factor", [1 / 32, 8.0, 64.0])
@pytest.mark.parametrize("seed", range(4))
def test_prompts_that_cost_far_more_or_less_than_guessed_are_known_after_tens_of_steps(
    factor: float, seed: int
) -> None:
    slower = scaled(GUESS, 5.0)
    truth = replace(slower, prefill_s=slower.prefill_s * factor, pair_s=slower.pair_s * factor)
    estimator = StepEstimator(GUESS)
    teach(estimator, truth, 40, seed=seed)
    assert worst_error(estimator, truth) < 0.2


@pytest.mark.parametrize("prompts_first", [False, True])
def test_so_are_they_when_all_of_a_kind_came_first(prompts_first: bool) -> None:
    truth = replace(GUESS, prefill_s=GUESS.prefill_s * 32, pair_s=GUESS.pair_s * 32)
    estimator, rng = StepEstimator(GUESS), random.Random(0)
    drawn = [draw_shape(rng) for _ in range(60)]
    for shape in sorted(drawn, key=lambda shape: (shape.num_prefill_tokens > 0) != prompts_first):
        estimator.observe(shape, truth.step_s(shape) * rng.lognormvariate(0.0, 0.03))
    assert worst_error(estimator, truth) < 0.3


def test_coefficients_are_the_true_ones() -> None:
    estimator = StepEstimator(GUESS)
    teach(estimator, TRUTH, 5000)
    found = estimator.costs
    assert found.base_s == pytest.approx(TRUTH.base_s, rel=0.05)
    assert found.prefill_s == pytest.approx(TRUTH.prefill_s, rel=0.05)
    assert found.decode_s == pytest.approx(TRUTH.decode_s, rel=0.05)
    assert found.context_s == pytest.approx(TRUTH.context_s, rel=0.2)  # a few per cent of a step


def test_steps_that_took_fifty_times_as_long_count_as_much_as_slightly_slow_ones() -> None:
    estimator = StepEstimator(GUESS)
    teach(estimator, TRUTH, 3000, outliers=0.05)
    assert worst_error(estimator) < 0.05


def test_one_wild_step_moves_nothing_that_is_known() -> None:
    estimator = StepEstimator(GUESS)
    teach(estimator, TRUTH, 500)
    before_s = estimator.step_s(StepShape(1, 200))
    estimator.observe(StepShape(1, 200), 1e6)
    assert estimator.step_s(StepShape(1, 200)) == pytest.approx(before_s, rel=0.01)


def test_a_device_that_becomes_slower_for_good_is_followed() -> None:
    estimator = StepEstimator(GUESS, TRUTH)
    teach(estimator, scaled(TRUTH, 3.0), 500)
    assert worst_error(estimator, scaled(TRUTH, 3.0)) < 0.1


@pytest.mark.parametrize("factor", [1 / 16, 16.0])
def test_prompts_that_cost_something_else_than_was_known_are_followed(factor: float) -> None:
    truth = replace(TRUTH, prefill_s=TRUTH.prefill_s * factor, pair_s=TRUTH.pair_s * factor)
    estimator = StepEstimator(GUESS, TRUTH)
    teach(estimator, truth, 300, outliers=0.02)
    assert worst_error(estimator, truth) < 0.1


def test_what_no_step_tells_of_stays_as_it_was() -> None:
    estimator = StepEstimator(GUESS, TRUTH)
    rng = random.Random(0)
    for _ in range(20_000):
        shape = StepShape(1, rng.randint(100, 400))
        estimator.observe(shape, TRUTH.step_s(shape) * rng.lognormvariate(0.0, 0.03))
    assert worst_error(estimator) < 0.1


@given(st.lists(st.tuples(shapes, st.floats(allow_nan=True, allow_infinity=True)), max_size=60), st.booleans(), shapes)
@settings(max_examples=100, deadline=None)
def test_whatever_it_is_told_it_answers_a_positive_bounded_time(
    steps: list[tuple[StepShape, float]], is_known: bool, asked: StepShape
) -> None:
    estimator = StepEstimator(GUESS, TRUTH if is_known else None)
    for shape, seconds in steps:
        estimator.observe(shape, seconds)
        assert LEAST_STEP_S <= estimator.step_s(asked) <= MOST_STEP_S
    costs = estimator.costs
    assert all(
        isfinite(value) and value > 0
        for value in (costs.base_s, costs.prefill_s, costs.pair_s, costs.decode_s, costs.context_s)
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("lie", [1e-9, 1e9])
def test_it_recovers_from_steps_that_were_made_up(seed: int, lie: float) -> None:
    estimator = StepEstimator(GUESS)
    teach(estimator, TRUTH, 200, seed=seed)
    teach(estimator, TRUTH, 200, seed=seed, outliers=1.0, factor=lie)
    assert LEAST_STEP_S <= estimator.step_s(StepShape(1, 100)) <= MOST_STEP_S
    teach(estimator, TRUTH, 3000, seed=seed)
    assert worst_error(estimator) < 0.1


@pytest.mark.parametrize("seconds", [0.0, -1.0, nan, inf])
def test_what_is_no_time_is_ignored(seconds: float) -> None:
    estimator = StepEstimator(GUESS)
    for _ in range(10):
        estimator.observe(StepShape(1, 100), seconds)
    assert estimator.is_guess and estimator.costs == GUESS


def test_shapes_far_outside_of_what_was_seen_have_a_bounded_time() -> None:
    estimator = StepEstimator(GUESS)
    teach(estimator, TRUTH, 100)
    assert estimator.step_s(StepShape(10**9, 10**15, 10**9, 10**18)) == MOST_STEP_S


def test_memory_does_not_grow() -> None:
    estimator = StepEstimator(GUESS)

    def size() -> int:
        parts = [getattr(estimator, name) for name in StepEstimator.__slots__]
        return sum(len(part) if isinstance(part, list) else 1 for part in parts) + sum(map(sys.getsizeof, parts))

    teach(estimator, TRUTH, 100)
    small = size()
    teach(estimator, TRUTH, 30_000)
    assert size() <= small + 64  # numbers of more digits
