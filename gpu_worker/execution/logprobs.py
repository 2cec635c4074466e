"""Log-probabilities of tokens by the raw logits: as the model gave them, before bias, penalties and temperature."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from shared.messages import TokenLogprobs

_PIECE_BYTES: Final = 32 << 20  # of float32 at a time
_LOGITS_BYTES: Final = 128 << 20  # of float32, in one step for tokens of prompts


@dataclass(frozen=True, slots=True)
class ScoredTokens:
    """Tokens of a prompt that are asked about, in a part of a step. Each is scored by the logits of the one before."""

    first: int  # index in the part of the token before the first one
    token_ids: Sequence[int]
    num_top: int


def max_scored_tokens(vocab_size: int) -> int:
    """Of the prompts in one step: the logits of all are in memory at once."""
    return max(1, _LOGITS_BYTES // (4 * vocab_size))


class RawScores:
    """What rows of logits say, kept from a sampler that changes them."""

    def __init__(self, logits: Tensor, nums_top: Sequence[int]) -> None:
        """logits: [num_rows, vocab_size], any float dtype. nums_top: how many of the most likely tokens a row names."""
        self._logprobs = torch.log_softmax(logits.float(), -1)  # [num_rows, vocab_size] float32
        self._nums_top = nums_top

    def of(self, token_ids: Sequence[int]) -> list[TokenLogprobs]:
        """One token per row."""
        chosen = torch.tensor(token_ids, device=self._logprobs.device)
        logprobs = self._logprobs.gather(-1, chosen[:, None]).squeeze(-1).tolist()
        tops = self._tops()
        return [
            TokenLogprobs(token_id, logprob, *tops[i])
            for i, (token_id, logprob) in enumerate(zip(token_ids, logprobs, strict=True))
        ]

    def _tops(self) -> dict[int, tuple[tuple[int, ...], tuple[float, ...]]]:
        """Of each row: ids, log-probabilities. Which of equals are named must not depend on what other rows ask for."""
        tops = {}
        for num_top in set(self._nums_top):
            rows = [i for i, asked in enumerate(self._nums_top) if asked == num_top]
            top = self._logprobs[rows].topk(min(num_top, self._logprobs.shape[-1]))  # [len(rows), num_top], descending
            for i, ids, logprobs in zip(rows, top.indices.tolist(), top.values.tolist(), strict=True):
                # Among equals the lowest id goes first, as greedy sampling takes it.
                best_first = sorted(zip(logprobs, ids, strict=True), key=lambda one: (-one[0], one[1]))
                tops[i] = (tuple(one[1] for one in best_first), tuple(one[0] for one in best_first))
        return tops


def score(logits: Tensor, token_ids: Sequence[int], num_top: int) -> list[TokenLogprobs]:
    """logits: [num_rows, vocab_size], any float dtype; one token per row. Takes little memory beside them."""
    num_rows = max(1, _PIECE_BYTES // (4 * logits.shape[-1]))
    scored: list[TokenLogprobs] = []
    for first in range(0, len(token_ids), num_rows):
        piece = token_ids[first : first + num_rows]
        scored += RawScores(logits[first : first + num_rows], [num_top] * len(piece)).of(piece)
    return scored
