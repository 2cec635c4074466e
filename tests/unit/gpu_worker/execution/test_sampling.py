import contextlib
import math
import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_worker.execution import sampling as sampling_module
from gpu_worker.execution.sampling import SamplingRow, sample, uniform
from shared.messages import Sampling
from tests.unit.gpu_worker.execution.plain_sampling import TooClose, plain_sample

ALMOST_1 = 1 - 2.0**-53  # the greatest that `uniform` returns


def row(position: int = 0, prompt: Iterable[int] = (), output: Iterable[int] = (), **sampling: Any) -> SamplingRow:
    return SamplingRow(
        Sampling(**{"max_tokens": 100, "seed": 7, **sampling}), position, frozenset(prompt), Counter(output)
    )


def draw(logits: list[float], *rows: SamplingRow) -> list[int]:
    """The same logits for each row."""
    return sample(torch.tensor([logits] * len(rows)), rows)


def chi_square(counts: list[int], expected: list[float]) -> float:
    return sum((count - mean) ** 2 / mean for count, mean in zip(counts, expected, strict=True))


# --- uniform ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "numbers",
    [
        [uniform(12345, 0, position) for position in range(20_000)],
        [uniform(seed, 0, 0) for seed in range(20_000)],
        [uniform(2**63 + seed * 2**32, 0, 5) for seed in range(20_000)],
        [uniform(9, choice, 3) for choice in range(20_000)],
    ],
    ids=["positions", "seeds", "high seeds", "choices"],
)
def test_uniform_is_uniform_and_neighbours_are_independent(numbers: list[float]) -> None:
    assert all(0 <= number < 1 for number in numbers)
    assert len(set(numbers)) == len(numbers)
    single = Counter(int(number * 100) for number in numbers)
    assert chi_square([single[i] for i in range(100)], [200.0] * 100) < 149  # 99 degrees of freedom: p = 0.001
    pairs = Counter(int(a * 10) * 10 + int(b * 10) for a, b in zip(numbers[::2], numbers[1::2], strict=True))
    assert chi_square([pairs[i] for i in range(100)], [100.0] * 100) < 149


def test_uniform_depends_on_each_of_its_arguments() -> None:
    assert len({uniform(1, 0, 0), uniform(2, 0, 0), uniform(1, 1, 0), uniform(1, 0, 1), uniform(2**64 - 1, 0, 0)}) == 5


# --- greedy and drawn ---------------------------------------------------------------------------


def test_temperature_0_takes_the_greatest() -> None:
    assert draw([0.5, 3.0, -1.0, 2.9], row(temperature=0.0), row(temperature=0.0, top_p=0.1, seed=5)) == [1, 1]


def test_draws_follow_the_probabilities() -> None:
    probs = [0.4, 0.05, 0.25, 0.1, 0.0, 0.2]
    logits = [math.log(p) if p else -math.inf for p in probs]
    counts = Counter(draw(logits, *(row(position) for position in range(8000))))
    assert counts[4] == 0
    at = [0, 1, 2, 3, 5]
    assert chi_square([counts[i] for i in at], [8000 * probs[i] for i in at]) < 18.5  # 4 degrees: p = 0.001


def test_a_token_does_not_depend_on_its_batch_or_row() -> None:
    rng = random.Random(1)
    logits = torch.randn(40, 3000, generator=torch.Generator().manual_seed(1)) * 3
    rows = [
        row(
            position=rng.randrange(50),
            seed=rng.randrange(2**64),
            temperature=rng.choice((0.0, 0.7, 1.0, 2.0)),
            top_k=rng.choice((0, 5, 2999)),
            top_p=rng.choice((1.0, 0.9)),
            min_p=rng.choice((0.0, 0.05)),
            presence_penalty=rng.choice((0.0, 1.0)),
            repetition_penalty=rng.choice((1.0, 1.3)),
            output=rng.sample(range(3000), 20),
            prompt=rng.sample(range(3000), 20),
        )
        for _ in range(40)
    ]
    alone = [sample(logits[i : i + 1].clone(), [rows[i]])[0] for i in range(40)]
    order = rng.sample(range(40), 40)
    together = sample(logits[order], [rows[i] for i in order])
    assert together == [alone[i] for i in order]
    assert len(set(alone)) > 20


def test_the_seed_and_the_choice_make_the_difference() -> None:
    flat = [0.0] * 1000
    tokens = draw(flat, row(seed=1), row(seed=1), row(seed=2), row(seed=1, choice_index=1), row(seed=1, position=1))
    assert tokens[0] == tokens[1]
    assert len(set(tokens)) == 4


# --- against the plain reference ----------------------------------------------------------------

logit = st.integers(-40, 40).map(lambda tenths: tenths / 10)
settings_of_a_request = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0.0, 0.3, 1.0, 1.7]),
        "top_k": st.integers(0, 14),
        "top_p": st.sampled_from([0.0, 0.1, 0.5, 0.8, 0.95, 1.0]),
        "min_p": st.sampled_from([0.0, 0.05, 0.3, 1.0]),
        "presence_penalty": st.sampled_from([-2.0, -0.5, 0.7, 2.0]),
        "frequency_penalty": st.sampled_from([-2.0, -0.5, 0.7, 2.0]),
        "repetition_penalty": st.sampled_from([0.5, 1.2, 2.0]),
        "logit_bias": st.dictionaries(st.integers(0, 3), st.sampled_from([-100.0, -1.3, 0.9, 100.0])).map(
            lambda bias: tuple(bias.items())
        ),
        "min_tokens": st.integers(0, 30),
        "stop_token_ids": st.sets(st.integers(0, 2), max_size=3).map(tuple),
    },
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    logits=st.lists(logit, min_size=4, max_size=12),
    chosen=settings_of_a_request,
    prompt=st.sets(st.integers(0, 3)),
    output=st.lists(st.integers(0, 3), max_size=6),
)
def test_tokens_equal_those_of_a_plain_sampler(
    logits: list[float], chosen: dict[str, Any], prompt: set[int], output: list[int]
) -> None:
    rows = [row(position, prompt, output, **chosen) for position in range(0, 40, 2)]
    for one, token_id in zip(rows, draw(logits, *rows), strict=True):
        with contextlib.suppress(TooClose):
            assert token_id == plain_sample(logits, one)


def test_a_nucleus_wider_than_the_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling_module, "_NUCLEUS_CANDIDATES", 2)
    logits = [math.log(p) for p in (0.1, 0.4, 0.2, 0.3)]
    assert set(draw(logits, *(row(p, top_p=0.85) for p in range(200)))) == {1, 2, 3}
    assert set(draw(logits, *(row(p, top_p=0.6) for p in range(200)))) == {1, 3}


def test_min_p_is_a_share_of_the_greatest() -> None:
    logits = [math.log(p) for p in (0.149, 0.5, 0.151, 0.2)]
    assert set(draw(logits, *(row(p, min_p=0.3) for p in range(200)))) == {1, 2, 3}


def test_min_p_comes_before_top_p() -> None:
    """Of 0.5, 0.3, 0.1, 0.1 min-p keeps 0.8, of which top-p 0.6 needs 0.48: the first alone."""
    logits = [math.log(p) for p in (0.5, 0.3, 0.1, 0.1)]
    assert set(draw(logits, *(row(p, min_p=0.5, top_p=0.6) for p in range(200)))) == {0}
    assert set(draw(logits, *(row(p, top_p=0.6) for p in range(200)))) == {0, 1}


def test_no_stop_token_before_min_tokens() -> None:
    logits = [9.0, 8.0, 0.0, 0.0]
    for temperature in (0.0, 1.0):
        early, last, free = draw(
            logits,
            *(row(p, temperature=temperature, min_tokens=3, stop_token_ids=(0, 1), seed=2) for p in (0, 2, 3)),
        )
        assert (early in (2, 3), last in (2, 3), free in (0, 1)) == (True, True, True)


def test_a_bias_moves_the_greatest_and_comes_before_penalties() -> None:
    logits = [1.0, 3.0, 2.0]
    assert draw(logits, row(temperature=0.0, logit_bias=((0, 2.5),)), row(temperature=0.0)) == [0, 1]
    penalized = row(temperature=0.0, logit_bias=((1, 2.0),), repetition_penalty=2.0, output=[1])
    assert draw([0.4, -1.0, -3.0], penalized) == [1]  # (-1 + 2) / 2, not -1 x 2 + 2


def test_a_banned_token_never_comes_and_a_wanted_one_always() -> None:
    flat = [0.0] * 50
    banned = tuple((token_id, -100.0) for token_id in range(10))
    assert set(draw(flat, *(row(p, logit_bias=banned) for p in range(300)))) <= set(range(10, 50))
    assert set(draw(flat, *(row(p, logit_bias=((7, 100.0),)) for p in range(300)))) == {7}


# --- extremes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-40, 1e-300, 5e-324])
def test_a_tiny_temperature_takes_the_greatest(temperature: float) -> None:
    logits = [-300.0, 50.0, 49.9, 300.0, 299.0, -math.inf]
    rows = [row(position, temperature=temperature, top_p=0.9) for position in range(20)]
    assert set(draw(logits, *rows)) == {3}


def test_a_huge_temperature_takes_any() -> None:
    assert set(draw([0.0, 50.0, -50.0], *(row(p, temperature=1e6) for p in range(100)))) == {0, 1, 2}


@pytest.mark.parametrize("number", [0.0, 0.25, ALMOST_1])
def test_of_equal_logits_every_id_of_a_large_vocabulary_can_come(
    number: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling_module, "uniform", lambda *_: number)
    vocab_size = 262_143  # 1 / vocab_size is not exact
    token, other = sample(torch.zeros(2, vocab_size), [row(), row(top_k=5, top_p=0.5, min_p=0.5)])
    assert token == other
    assert abs(token - number * (vocab_size - 1)) <= 1


@pytest.mark.parametrize(("number", "expected"), [(0.0, 1), (ALMOST_1, 3)])
def test_excluded_ids_at_the_ends_never_come(number: float, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling_module, "uniform", lambda *_: number)
    assert draw([-math.inf, 1.0, 0.1, 0.9, -math.inf], row()) == [expected]
    assert draw([-5.0, 1.0, 0.1, 0.9, -5.0], row(top_k=3)) == [expected]


def test_a_row_without_a_finite_logit_does_not_disturb_others() -> None:
    logits = torch.tensor([[-math.inf] * 4, [0.0, 5.0, 1.0, 2.0]])
    for temperature in (0.0, 1.0):
        rows = [row(temperature=temperature), row(temperature=temperature, top_k=1)]
        token, other = sample(logits.clone(), rows)
        assert (0 <= token < 4, other) == (True, 1)


def test_logits_in_bfloat16() -> None:
    logits = torch.tensor([[0.0, 4.0, 1.0]], dtype=torch.bfloat16)
    assert sample(logits, [row(temperature=0.0, presence_penalty=5.0, output=[1])]) == [2]
