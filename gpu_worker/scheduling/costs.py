"""What steps and switches of a model cost on a device, in seconds."""

from dataclasses import dataclass
from typing import Final, NamedTuple

_GUESSED_BYTES_PER_S: Final = 10e9  # of reading weights
_GUESSED_PREFILL_SHARE: Final = 1 / 64  # of a step's reading, for one more token of a prompt
_GUESSED_DECODE_SHARE: Final = 1 / 32  # for one more sequence
_GUESSED_CONTEXT_SHARE: Final = 1 / 16384  # for one more token of context


class StepShape(NamedTuple):
    """What a step's time depends on."""

    num_decoding: int  # sequences with one new token
    num_context_tokens: int  # of those sequences together
    num_prefill_tokens: int = 0  # new tokens of all other sequences
    num_prefill_pairs: int = 0  # sum over them: new tokens * tokens that each sees


@dataclass(frozen=True, slots=True)
class StepCosts:
    """step = base + prefill * tokens + pair * pairs + decode * sequences + context * tokens of context

    (published for prefill as a + b * tokens + c * sum(len^2), for decode as a + b * context + c * batch).
    """

    base_s: float
    prefill_s: float
    pair_s: float
    decode_s: float
    context_s: float

    def step_s(self, shape: StepShape) -> float:
        return (
            self.base_s
            + self.prefill_s * shape.num_prefill_tokens
            + self.pair_s * shape.num_prefill_pairs
            + self.decode_s * shape.num_decoding
            + self.context_s * shape.num_context_tokens
        )


def guess(blob_bytes: int) -> StepCosts:
    """Before anything was measured: a step reads all weights once."""
    base_s = max(blob_bytes, 1 << 20) / _GUESSED_BYTES_PER_S
    return StepCosts(
        base_s,
        base_s * _GUESSED_PREFILL_SHARE,
        0.0,
        base_s * _GUESSED_DECODE_SHARE,
        base_s * _GUESSED_CONTEXT_SHARE,
    )


@dataclass(frozen=True, slots=True)
class KnownCosts:
    """Costs that don't change (policy.py::Costs)."""

    step: StepCosts
    switch_s: float = 0.0

    def step_s(self, shape: StepShape) -> float:
        return self.step.step_s(shape)


def guessed_costs(blob_bytes: int, link_bytes_per_s: float | None, *, unified: bool) -> KnownCosts:
    switch_s = 0.0 if unified else blob_bytes / (link_bytes_per_s or _GUESSED_BYTES_PER_S)
    return KnownCosts(guess(blob_bytes), switch_s)
