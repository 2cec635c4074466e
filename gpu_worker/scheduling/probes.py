"""Steps that show what steps of a model cost: small and large batches, prompts, short and longer contexts."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

_PROMPT_TOKENS: Final = (16, 128, 256)  # of the first sequence, chunk by chunk
_OTHER_TOKENS: Final = 64  # of each of the others
_SPARE_TOKENS: Final = 32  # for what a sequence decodes
LONGEST_TOKENS: Final = sum(_PROMPT_TOKENS) + _SPARE_TOKENS
OTHER_TOKENS: Final = 2 * _OTHER_TOKENS + _SPARE_TOKENS
NUM_SEQUENCES: Final = 8


class ProbePart(NamedTuple):
    sequence: int
    num_new: int  # tokens, after those that it has


Probe = tuple[ProbePart, ...]  # one step


def plan_probes(room_tokens: Sequence[int], max_step_tokens: int) -> list[Probe]:
    """room_tokens: of each scratch sequence, the longest first. What finds no room is left out; about 12 steps."""
    plan = _Plan(list(room_tokens), max_step_tokens)
    sequences = range(len(room_tokens))
    for num_tokens in _PROMPT_TOKENS:
        plan.step(prompts=[(0, num_tokens)])
        plan.decode(sequences[:1])
    for others in _groups(sequences[1:], max(1, max_step_tokens // _OTHER_TOKENS)):
        plan.step(prompts=[(sequence, _OTHER_TOKENS) for sequence in others])
    for num_decoding in sorted({2, len(sequences) // 2, len(sequences)}):
        plan.decode(sequences[:num_decoding])
    plan.step(prompts=[(sequences[-1], _OTHER_TOKENS)], decoding=sequences[:-1])
    return plan.probes


class _Plan:
    def __init__(self, room_tokens: list[int], max_step_tokens: int) -> None:
        self.probes: list[Probe] = []
        self._room_tokens = room_tokens
        self._max_step_tokens = max_step_tokens

    def decode(self, sequences: Iterable[int]) -> None:
        self.step(decoding=sequences)

    def step(self, prompts: Iterable[tuple[int, int]] = (), decoding: Iterable[int] = ()) -> None:
        parts: list[ProbePart] = []
        budget_tokens = self._max_step_tokens
        for sequence in decoding:
            if self._room_tokens[sequence]:
                parts.append(ProbePart(sequence, 1))
        for sequence, wanted in prompts:
            num_new = min(wanted, self._room_tokens[sequence], budget_tokens)
            if num_new > 0:
                budget_tokens -= num_new
                parts.append(ProbePart(sequence, num_new))
        for part in parts:
            self._room_tokens[part.sequence] -= part.num_new
        if parts:
            self.probes.append(tuple(parts))


def _groups(sequences: Sequence[int], size: int) -> Iterable[Sequence[int]]:
    return (sequences[start : start + size] for start in range(0, len(sequences), size))
