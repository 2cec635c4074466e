import math

import pytest
import torch
from torch import Tensor

from gpu_worker.execution import logprobs as logprobs_module
from gpu_worker.execution.logprobs import RawScores, max_scored_tokens, score
from shared.messages import TokenLogprobs

TOLERANCE = 1e-6  # float32, of logits of about 10


def some_logits(num_rows: int, vocab_size: int = 1000) -> Tensor:
    return torch.randn(num_rows, vocab_size, generator=torch.Generator().manual_seed(3)) * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_they_are_those_of_the_raw_row(dtype: torch.dtype) -> None:
    logits = some_logits(6).to(dtype)
    expected = torch.log_softmax(logits.double(), -1)
    scores = RawScores(logits, [0, 1, 5, 20, 5, 0])
    logits.fill_(-math.inf)  # as a sampler may
    for row, entry in enumerate(scores.of([3, 1, 4, 1, 5, 9])):
        assert entry.token_id == [3, 1, 4, 1, 5, 9][row]
        assert entry.logprob == pytest.approx(float(expected[row, entry.token_id]), abs=TOLERANCE)
        assert len(entry.top_ids) == [0, 1, 5, 20, 5, 0][row]
        best = expected[row].sort(descending=True).values[: len(entry.top_ids)].tolist()
        assert list(entry.top_logprobs) == pytest.approx(best, abs=TOLERANCE)
        assert [float(expected[row, i]) for i in entry.top_ids] == pytest.approx(best, abs=TOLERANCE)


def test_of_equals_the_lowest_id_goes_first() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0, 2.0, 1.0]])
    (entry,) = RawScores(logits, [4]).of([0])
    assert entry.top_ids == (1, 3, 2, 4)
    assert entry.top_ids[0] == int(logits.argmax())


def test_they_do_not_depend_on_company() -> None:
    logits = some_logits(8).bfloat16()  # with many equals
    nums_top = [20, 0, 3, 20, 1, 7, 3, 2]
    together = RawScores(logits, nums_top).of(range(8))
    alone = [RawScores(logits[i : i + 1], [nums_top[i]]).of([i])[0] for i in range(8)]
    assert together == alone


def test_more_than_the_vocabulary_are_the_vocabulary() -> None:
    (entry,) = RawScores(torch.tensor([[1.0, 3.0, 2.0]]), [20]).of([2])
    assert entry.top_ids == (1, 2, 0)


def test_an_excluded_token_has_no_probability() -> None:
    (entry,) = RawScores(torch.tensor([[0.0, -math.inf]]), [1]).of([1])
    assert entry == TokenLogprobs(1, -math.inf, (0,), (0.0,))


def test_many_rows_in_pieces_are_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, token_ids = some_logits(11), list(range(11))
    at_once = score(logits, token_ids, 3)
    monkeypatch.setattr(logprobs_module, "_PIECE_BYTES", 4 * 4 * 1000)  # four rows
    assert score(logits, token_ids, 3) == at_once
    monkeypatch.setattr(logprobs_module, "_PIECE_BYTES", 1)
    assert score(logits, token_ids, 3) == at_once
    assert score(logits[:0], [], 3) == []


@pytest.mark.parametrize("vocab_size", [1, 320, 49_152, 262_144, 10**9])
def test_logits_of_prompts_are_bounded(vocab_size: int) -> None:
    num_tokens = max_scored_tokens(vocab_size)
    assert num_tokens >= 1
    assert num_tokens == 1 or num_tokens * vocab_size * 4 <= 128 << 20
