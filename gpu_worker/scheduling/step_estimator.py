"""What a model's steps cost on this device, learnt from its steps while it serves.

A guess is wrong by a factor first, and by another one for prompts: the first few steps without and with prompts only
scale it. From then on, least squares of relative errors over a window of steps that fades, without negative
coefficients. Each step moves the coefficients that it tells of by one multiplicative update (Lee and Seung, Algorithms
for Non-negative Matrix Factorization, NIPS 2000): with A = sum(x x') and b = sum(x y) over the window,
c_i *= b_i / (A c)_i. That never makes the squared error larger, keeps signs, corrects a common factor at once, and
leaves alone what no step tells of.
"""

from collections.abc import Iterable, Sequence
from math import isfinite
from statistics import median_low
from typing import Final

from gpu_worker.scheduling.costs import StepCosts, StepShape

LEAST_STEP_S: Final = 1e-6
MOST_STEP_S: Final = 600.0  # for shapes far outside of what was seen
_MOST_FACTOR: Final = 1024.0  # of a coefficient, from its guess and back
_NUM_FIRST: Final = 5  # steps without prompts, and as many with, that only scale the guess
_WINDOW_STEPS: Final = 1000
_LEAST_WINDOW_STEPS: Final = 10
_PRIMING_STEPS: Final = 6  # that costs known from before count as, for each typical shape
_TYPICAL: Final = (
    StepShape(1, 200),
    StepShape(4, 800),
    StepShape(16, 3200),
    StepShape(0, 0, 64, 64 * 65 // 2),
    StepShape(0, 0, 256, 256 * 257 // 2),
)
_NUM_SPREADS: Final = 3.0  # an error counts as so many times the usual error at most
_SPREAD_FACTOR: Final = 1.1
_FIRST_SPREAD: Final = 0.1
_LEAST_SPREAD: Final = 0.005
_MOST_SPREAD: Final = 10.0
_LOST_SPREAD: Final = 0.5  # then what was known is of no use: the window begins anew
_LEAST_RATIO: Final = 1 / 8  # of measured to expected seconds
_MOST_WEIGHT: Final = 1e9
_ALL: Final = range(5)  # coefficients
_OF_PROMPTS: Final = (1, 2)
_OF_THE_REST: Final = (0, 3, 4)

Features = tuple[float, float, float, float, float]
Steps = list[tuple[StepShape, float]]  # with their seconds


class StepEstimator:
    """Positive and finite whatever it is told. 10 us a step or so."""

    __slots__ = ("_coefficients", "_first", "_guess", "_matrix", "_num_steps", "_spreads", "_vector", "_weight")

    def __init__(self, guess: StepCosts, known: StepCosts | None = None) -> None:
        """known: measured before, on a device like this one."""
        self._guess = _coefficients(guess)  # all > 0
        self._coefficients = list(self._guess)
        self._first: list[Steps | None] = [[], []]  # without and with prompts; None: no longer only a guess
        self._matrix = [[0.0] * len(self._guess) for _ in self._guess]  # A
        self._vector = [0.0] * len(self._guess)  # b
        self._weight = 1.0  # of the next step: it grows, as the window fades
        self._num_steps = 0  # in A and b
        self._spreads = [_FIRST_SPREAD, _FIRST_SPREAD]  # running medians of relative errors, without and with prompts
        if known is not None:
            self._first = [None, None]
            self._coefficients = [self._bounded(i, value) for i, value in enumerate(_coefficients(known))]
            for shape in _TYPICAL * _PRIMING_STEPS:
                self._note(_features(shape), self.costs.step_s(shape), self.costs.step_s(shape))

    @property
    def costs(self) -> StepCosts:
        return StepCosts(*self._coefficients)

    @property
    def is_guess(self) -> bool:
        """Too few steps were seen."""
        return None not in self._first

    def step_s(self, shape: StepShape) -> float:
        base_s, prefill_s, pair_s, decode_s, context_s = self._coefficients
        num_decoding, num_context_tokens, num_prefill_tokens, num_prefill_pairs = shape
        seconds = base_s + decode_s * num_decoding + context_s * num_context_tokens
        if num_prefill_tokens:
            seconds += prefill_s * num_prefill_tokens + pair_s * num_prefill_pairs
        return min(max(seconds, LEAST_STEP_S), MOST_STEP_S)

    def observe(self, shape: StepShape, seconds: float) -> None:
        if not (isfinite(seconds) and seconds > 0):
            return
        has_prompt = shape.num_prefill_tokens > 0
        first = self._first[has_prompt]
        if first is None:
            self._refine(shape, seconds)
            return
        first.append((shape, seconds))
        self._scale_guess()
        if len(first) == _NUM_FIRST:
            self._first[has_prompt] = None
            for known_shape, known_s in first:
                self._refine(known_shape, known_s)

    def _scale_guess(self) -> None:
        """By lower medians: what disturbs a step makes it slow."""
        without, with_prompts = self._first
        guess = StepCosts(*self._guess)
        if with_prompts and without == []:  # they alone can't tell two factors apart
            self._scale(_ALL, [seconds / guess.step_s(shape) for shape, seconds in with_prompts])
            return
        if without:
            told = _OF_THE_REST if with_prompts is None else _ALL
            self._scale(told, [seconds / guess.step_s(shape) for shape, seconds in without])
        if with_prompts:
            self._scale(_OF_PROMPTS, [self._prompt_factor(shape, seconds) for shape, seconds in with_prompts])

    def _scale(self, coefficients: Iterable[int], factors: Sequence[float]) -> None:
        factor = median_low(factors)
        for i in coefficients:
            self._coefficients[i] = self._bounded(i, self._guess[i] * factor)

    def _prompt_factor(self, shape: StepShape, seconds: float) -> float:
        """What is left for the prompts of a step, by their guess."""
        features = _features(shape)
        rest_s = sum(self._coefficients[i] * features[i] for i in _OF_THE_REST)
        return (seconds - rest_s) / sum(self._guess[i] * features[i] for i in _OF_PROMPTS)

    def _refine(self, shape: StepShape, seconds: float) -> None:
        features = _features(shape)
        expected_s = self._expected_s(features)
        error = seconds / expected_s - 1.0
        has_prompt = shape.num_prefill_tokens > 0
        spread = self._spreads[has_prompt]
        most = _NUM_SPREADS * spread
        spread = spread * _SPREAD_FACTOR if abs(error) > spread else spread / _SPREAD_FACTOR
        self._spreads[has_prompt] = spread = min(max(spread, _LEAST_SPREAD), _MOST_SPREAD)
        if spread > _LOST_SPREAD:
            self._num_steps = 0
        ratio = max(1.0 + min(max(error, -most), most), _LEAST_RATIO)
        self._note(features, ratio * expected_s, expected_s)
        coefficients, matrix, vector = self._coefficients, self._matrix, self._vector
        told = [i for i, feature in enumerate(features) if feature]
        explained = [sum(map(float.__mul__, matrix[i], coefficients)) for i in told]  # of A c, > 0
        for i, value in zip(told, explained, strict=True):
            coefficients[i] = self._bounded(i, coefficients[i] * vector[i] / value)

    def _note(self, features: Features, seconds: float, expected_s: float) -> None:
        """Into A and b, weighed so that relative errors count."""
        self._num_steps += 1
        window_steps = min(self._num_steps / 2 + _LEAST_WINDOW_STEPS, _WINDOW_STEPS)
        self._weight /= 1 - 1 / window_steps
        if self._weight > _MOST_WEIGHT:
            self._matrix = [[value / self._weight for value in row] for row in self._matrix]
            self._vector = [value / self._weight for value in self._vector]
            self._weight = 1.0
        weight = self._weight / (expected_s * expected_s)
        for i, feature in enumerate(features):
            if feature:
                scaled = weight * feature
                row = self._matrix[i]
                self._matrix[i] = [value + scaled * other for value, other in zip(row, features, strict=True)]
                self._vector[i] += scaled * seconds

    def _expected_s(self, features: Features) -> float:
        return sum(map(float.__mul__, self._coefficients, features))

    def _bounded(self, i: int, value: float) -> float:
        guess = self._guess[i]
        return min(max(value, guess / _MOST_FACTOR), guess * _MOST_FACTOR)


def _features(shape: StepShape) -> Features:
    """In the order of StepCosts' fields."""
    return (
        1.0,
        float(shape.num_prefill_tokens),
        float(shape.num_prefill_pairs),
        float(shape.num_decoding),
        float(shape.num_context_tokens),
    )


def _coefficients(costs: StepCosts) -> Features:
    return (costs.base_s, costs.prefill_s, costs.pair_s, costs.decode_s, costs.context_s)
