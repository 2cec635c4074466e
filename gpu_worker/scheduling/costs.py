"""What steps and switches of a model cost on a device, in seconds."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

GUESSED_BYTES_PER_S: Final = 10e9  # of reading weights
_GUESSED_PREFILL_SHARE: Final = 1 / 64  # of a step's reading, for one more token of a prompt
_GUESSED_DECODE_SHARE: Final = 1 / 32  # for one more sequence
_GUESSED_CONTEXT_SHARE: Final = 1 / 16384  # for one more token of context
_GUESSED_PAIR_SHARE: Final = 1 / 16384  # of a prompt token's time, for one more token that it sees


class StepShape(NamedTuple):
    """What a step's time depends on."""

    num_decoding: int  # sequences with one new token
    num_context_tokens: int  # of those sequences together
    num_prefill_tokens: int = 0  # new tokens of all other sequences
    num_prefill_pairs: int = 0  # sum over them: new tokens * tokens that each sees


def step_shape(parts: Iterable[tuple[int, int]]) -> StepShape:
    """parts: of each sequence, its new tokens and those before them. One new token after others is decoding."""
    num_decoding = num_context = num_prefill = num_pairs = 0
    for num_new, start in parts:
        if num_new == 1 and start:
            num_decoding += 1
            num_context += start + 1
        else:
            num_prefill += num_new
            num_pairs += num_new * start + num_new * (num_new + 1) // 2
    return StepShape(num_decoding, num_context, num_prefill, num_pairs)


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
    base_s = max(blob_bytes, 1 << 20) / GUESSED_BYTES_PER_S
    prefill_s = base_s * _GUESSED_PREFILL_SHARE
    return StepCosts(
        base_s,
        prefill_s,
        prefill_s * _GUESSED_PAIR_SHARE,
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

    def observe(self, shape: StepShape, seconds: float) -> None:
        return None
