"""Batched sampling on the device, parameters per row, randomness a function of (seed, choice, position) only.

A token is drawn by inverse CDF over the kept probabilities in id order, so equal logits give equal tokens whatever
else is in the batch. The order of operations is vLLM's: mask, bias, penalties, temperature, min-p, top-k, top-p.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.messages import Sampling

_MASK64 = (1 << 64) - 1
_LEAST_TEMPERATURE = torch.finfo(torch.float32).tiny
_NUCLEUS_CANDIDATES = 1024  # top-p rows whose nucleus is larger are sorted whole


@dataclass(slots=True)
class SamplingRow:
    """One sequence that gets a token in this step."""

    sampling: Sampling
    position: int  # index of the new token among the outputs
    prompt_ids: frozenset[int]  # of interest only with a repetition penalty, else empty
    output_counts: Counter[int]  # of interest only with a penalty, else empty
    mask: Callable[[], Tensor] | None = None  # [num_words] int32, host, maybe awaited: bit i of word j is 32 * j + i


def uniform(seed: int, choice_index: int, position: int) -> float:
    """In [0, 1): splitmix64's finalizer over a counter, 53 bits (Steele et al., OOPSLA 2014)."""
    state = (seed ^ (choice_index * 0xD1342543DE82EF95) ^ ((position + 1) * 0x9E3779B97F4A7C15)) & _MASK64
    for _ in range(2):
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK64
        state = ((state ^ (state >> 31)) + 0x9E3779B97F4A7C15) & _MASK64
    return (state >> 11) * 2.0**-53


def sample(logits: Tensor, rows: Sequence[SamplingRow]) -> list[int]:
    """logits: [num_rows, vocab_size] any float dtype, device; may be overwritten -> one token id per row."""
    logits = logits.float()
    _exclude(logits, rows)
    for i, row in enumerate(rows):
        _bias(logits[i], row.sampling.logit_bias)
        _penalize(logits[i], row)
    tokens = logits.argmax(-1)  # [num_rows]
    random_rows = [i for i, row in enumerate(rows) if row.sampling.temperature > 0]
    if random_rows:
        at = torch.tensor(random_rows, device=logits.device)
        tokens[at] = _draw(logits[at], [rows[i] for i in random_rows])
    return tokens.tolist()


def _exclude(logits: Tensor, rows: Sequence[SamplingRow]) -> None:
    """Leaves only what masks allow. logits: [num_rows, vocab_size] float32, in place."""
    masked = [(i, row.mask) for i, row in enumerate(rows) if row.mask is not None]
    if not masked:
        return
    at = torch.tensor([i for i, _ in masked], device=logits.device)
    words = torch.stack([mask() for _, mask in masked]).to(logits.device)  # [num_masked, num_words] int32
    shifts = torch.arange(8, dtype=torch.uint8, device=logits.device)
    allowed = (words.view(torch.uint8)[:, :, None] >> shifts & 1).flatten(1)  # [num_masked, 32 * num_words] uint8
    allowed = allowed[:, : logits.shape[1]].bool()
    num_known = allowed.shape[1]  # what pads the vocabulary is no token
    kept = torch.full((len(masked), logits.shape[1]), -torch.inf, device=logits.device)
    kept[:, :num_known] = torch.where(allowed, logits[at, :num_known], -torch.inf)
    logits[at] = kept


def _bias(logits: Tensor, bias: Sequence[tuple[int, float]]) -> None:
    """logits: [vocab_size] float32, in place."""
    if bias:
        ids = torch.tensor([token_id for token_id, _ in bias], device=logits.device)
        logits[ids] += torch.tensor([added for _, added in bias], dtype=torch.float32, device=logits.device)


def _penalize(logits: Tensor, row: SamplingRow) -> None:
    """logits: [vocab_size] float32, in place."""
    sampling = row.sampling
    if sampling.repetition_penalty != 1.0 and (seen := row.prompt_ids | row.output_counts.keys()):
        ids = torch.tensor(sorted(seen), device=logits.device)
        values = logits[ids]
        penalty = sampling.repetition_penalty
        logits[ids] = torch.where(values > 0, values / penalty, values * penalty)
    if (sampling.presence_penalty or sampling.frequency_penalty) and row.output_counts:
        ids = torch.tensor(list(row.output_counts), device=logits.device)
        counts = torch.tensor(list(row.output_counts.values()), dtype=torch.float32, device=logits.device)
        logits[ids] -= sampling.frequency_penalty * counts + sampling.presence_penalty
    if row.position < sampling.min_tokens and sampling.stop_token_ids:
        logits[torch.tensor(sampling.stop_token_ids, device=logits.device)] = -torch.inf


def _draw(logits: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
    """logits: [num_rows, vocab_size] float32 -> [num_rows] int64."""
    device = logits.device
    samplings = [row.sampling for row in rows]
    temperatures = torch.tensor([s.temperature for s in samplings], device=device).clamp_(min=_LEAST_TEMPERATURE)
    below_max = logits - logits.amax(-1, keepdim=True)  # or a tiny temperature would make infinities of logits
    probs = torch.softmax(below_max / temperatures[:, None], -1)
    for i, sampling in enumerate(samplings):
        _keep(probs[i], sampling)
    uniforms = torch.tensor(
        [uniform(row.sampling.seed, row.sampling.choice_index, row.position) for row in rows],
        dtype=torch.float64,
        device=device,
    )
    cdf = probs.double().cumsum(-1)  # [num_rows, vocab_size]; float64, or 2^18 small steps would lose the last ids
    targets = uniforms[:, None] * cdf[:, -1:]
    return torch.searchsorted(cdf, targets, right=True).squeeze(-1).clamp_(max=probs.shape[-1] - 1)


def _keep(probs: Tensor, sampling: Sampling) -> None:
    """Zeroes what min-p, top-k and top-p exclude. probs: [vocab_size] float32, in place.

    Ties at a border are kept, so that the result does not depend on an order among equals.
    """
    vocab_size = probs.shape[0]
    threshold = torch.zeros((), device=probs.device)
    if sampling.min_p > 0.0:
        threshold = probs.max() * sampling.min_p
    if 0 < sampling.top_k < vocab_size:
        threshold = torch.maximum(threshold, torch.topk(probs, sampling.top_k).values[-1])
    if sampling.top_p < 1.0:
        threshold = torch.maximum(threshold, _nucleus_threshold(probs, threshold, sampling.top_p))
    probs[probs < threshold] = 0.0


def _nucleus_threshold(probs: Tensor, at_least: Tensor, top_p: float) -> Tensor:
    """The smallest probability in the smallest set of largest ones whose share of the kept mass reaches top_p."""
    kept = torch.where(probs >= at_least, probs, 0.0)
    target = kept.double().sum() * top_p
    for num_candidates in (min(_NUCLEUS_CANDIDATES, probs.shape[0]), probs.shape[0]):
        values = torch.topk(kept, num_candidates).values  # descending
        reached = values.double().cumsum(0) >= target
        if bool(reached[-1]):
            return values[reached.to(torch.uint8).argmax()]
    return values[-1]
