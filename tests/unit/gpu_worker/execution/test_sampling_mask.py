"""Masks: what the sampler may choose from at all."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpu_worker.execution.sampling import SamplingRow, sample
from shared.messages import Sampling

VOCAB_SIZE = 70  # three words, the last of which is not full


def mask_of(allowed: Iterable[int], num_words: int = 3) -> Tensor:
    words = np.zeros(num_words, np.uint32)
    for token_id in allowed:
        words[token_id // 32] |= np.uint32(1 << token_id % 32)
    return torch.from_numpy(words.view(np.int32))


def row(allowed: Iterable[int] | None, position: int = 0, num_words: int = 3, **sampling: Any) -> SamplingRow:
    settings = Sampling(**{"max_tokens": 100, "seed": 7, **sampling})
    mask = None if allowed is None else mask_of(allowed, num_words)
    return SamplingRow(settings, position, frozenset(), Counter(), None if mask is None else lambda: mask)


def logits(num_rows: int) -> Tensor:
    return torch.randn(num_rows, VOCAB_SIZE, generator=torch.Generator().manual_seed(3)) * 4


def test_only_what_is_allowed_comes_however_unlikely_it_is() -> None:
    scores = torch.zeros(200, VOCAB_SIZE)
    scores[:, 5] = 90.0
    allowed = {0, 31, 32, 63, 64, 69}
    drawn = sample(scores, [row(allowed, position) for position in range(200)])
    assert set(drawn) == allowed


def test_greedy_takes_the_best_of_what_is_allowed() -> None:
    scores = logits(2)
    allowed = [3, 40, 66]
    best = max(allowed, key=lambda token_id: scores[0, token_id].item())
    greatest = int(scores[1].argmax())
    assert sample(scores, [row(allowed, temperature=0.0), row(None, temperature=0.0)]) == [best, greatest]


def test_a_mask_changes_no_other_row() -> None:
    rows = [row([1, 2], 1), row(None, 2), row([69], 3), row(None, 4, temperature=0.0)]
    alone = [sample(logits(4)[i : i + 1], [one])[0] for i, one in enumerate(rows)]
    assert sample(logits(4), rows) == alone


def test_it_equals_logits_that_were_never_there() -> None:
    allowed = [2, 17, 33, 50, 68]
    scores = logits(1)
    without = torch.full((1, VOCAB_SIZE), -math.inf)
    without[0, allowed] = scores[0, allowed]
    for sampling in ({}, {"top_p": 0.8}, {"top_k": 2}, {"min_p": 0.2}, {"temperature": 0.0}):
        for position in range(20):
            masked = sample(scores.clone(), [row(allowed, position, **sampling)])
            assert masked == sample(without.clone(), [row(None, position, **sampling)])


def test_logits_beyond_the_tokens_that_a_mask_tells_of_are_not_allowed() -> None:
    scores = torch.zeros(1, VOCAB_SIZE)
    scores[0, 69] = 50.0
    assert sample(scores, [row([4], num_words=2, temperature=0.0)]) == [4]


def test_a_mask_may_tell_of_more_tokens_than_there_are_logits() -> None:
    assert sample(torch.zeros(1, 40), [row([39, 64], temperature=0.0)]) == [39]
