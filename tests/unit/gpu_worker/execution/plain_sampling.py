"""The sampler as plain as can be: one row, one token at a time, in Python's floats.

Penalties as in vLLM (model_executor/layers/utils.py, apply_penalties); order as in vllm/v1/sample/sampler.py.
"""

import math
from collections.abc import Sequence

from gpu_worker.execution.sampling import SamplingRow, uniform
from shared.messages import Sampling

_CLOSE = 1e-4  # relative; nearer to a border, float32 may decide otherwise


class TooClose(Exception):
    """Rounding decides about this one."""


def plain_sample(logits: Sequence[float], row: SamplingRow) -> int:
    """Raises TooClose."""
    logits = penalized(logits, row)
    if row.sampling.temperature == 0:
        best = max(logits)
        if sum(best - x < _CLOSE for x in logits) > 1:
            raise TooClose
        return logits.index(best)
    probs = kept(softmax(logits, row.sampling.temperature), row.sampling)
    target = uniform(row.sampling.seed, row.sampling.choice_index, row.position) * sum(probs)
    total = 0.0
    for token_id, prob in enumerate(probs):
        total += prob
        if abs(total - target) < _CLOSE:
            raise TooClose
        if total > target:
            return token_id
    raise AssertionError("nothing is kept")


def penalized(logits: Sequence[float], row: SamplingRow) -> list[float]:
    bias = dict(row.sampling.logit_bias)
    result = []
    for token_id, logit in enumerate(logits):
        logit += bias.get(token_id, 0.0)
        num_seen = row.output_counts[token_id]
        if num_seen or token_id in row.prompt_ids:
            penalty = row.sampling.repetition_penalty
            logit = logit / penalty if logit > 0 else logit * penalty
        logit -= row.sampling.frequency_penalty * num_seen
        logit -= row.sampling.presence_penalty * (num_seen > 0)
        is_masked = row.position < row.sampling.min_tokens and token_id in row.sampling.stop_token_ids
        result.append(-math.inf if is_masked else logit)
    return result


def softmax(logits: Sequence[float], temperature: float) -> list[float]:
    weights = [math.exp((logit - max(logits)) / temperature) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def kept(probs: list[float], sampling: Sampling) -> list[float]:
    """0 where excluded; equals of the least that is kept are kept."""
    probs = _at_least(probs, sampling.min_p * max(probs))
    if 0 < sampling.top_k < len(probs):
        probs = _at_least(probs, sorted(probs, reverse=True)[sampling.top_k - 1])
    if sampling.top_p < 1:
        probs = _at_least(probs, _least_of_nucleus(probs, sampling.top_p))
    return probs


def _at_least(probs: list[float], threshold: float) -> list[float]:
    if any(0 < abs(prob - threshold) < _CLOSE * threshold for prob in probs):
        raise TooClose
    return [prob if prob >= threshold else 0.0 for prob in probs]


def _least_of_nucleus(probs: list[float], top_p: float) -> float:
    total = 0.0
    for prob in sorted(probs, reverse=True):
        total += prob
        if abs(total - top_p * sum(probs)) < _CLOSE:
            raise TooClose
        if total > top_p * sum(probs):
            return prob
    return min(probs)
