"""What one step computes: tokens of sequences of one model."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gpu_worker.device.base import SequenceSpan
from gpu_worker.execution.executor import StepPart
from gpu_worker.scheduling.costs import StepShape, step_shape
from gpu_worker.sequence import Sequence


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """As of the moment before it: the sequences have blocks for their shares, and have not got their tokens."""

    shares: list[tuple[Sequence, int]]  # how many tokens of each

    def sequences(self) -> list[Sequence]:
        return [sequence for sequence, _ in self.shares]

    def parts(self) -> list[StepPart]:
        return [_part(sequence, num_tokens) for sequence, num_tokens in self.shares]

    def shape(self) -> StepShape:
        return step_shape((num_tokens, sequence.num_computed_tokens) for sequence, num_tokens in self.shares)

    def num_decode_tokens(self) -> int:
        """All others belong to prompts."""
        return sum(num_tokens == 1 and sequence.num_output_tokens > 0 for sequence, num_tokens in self.shares)

    def num_drawn_tokens(self) -> int:
        """Of output: one for each sequence whose end it reaches."""
        return sum(sequence.num_computed_tokens + num == sequence.num_tokens for sequence, num in self.shares)

    def num_tokens(self) -> int:
        return sum(num_tokens for _, num_tokens in self.shares)


def bounded(shares: Iterable[tuple[Sequence, int]], max_scored_tokens: int) -> Iterator[tuple[Sequence, int]]:
    """Cut where a step would need the logits of more of its prompts' tokens; the first ones come first."""
    for sequence, num_tokens in shares:
        if sequence.needs_prompt_logits:
            num_tokens = min(num_tokens, max_scored_tokens)
            max_scored_tokens -= num_tokens
        if num_tokens:
            yield sequence, num_tokens


def _part(sequence: Sequence, num_tokens: int) -> StepPart:
    start = sequence.num_computed_tokens
    end = start + num_tokens
    row = sequence.sampling_row() if end == sequence.num_tokens else None
    span = SequenceSpan(num_tokens, start, sequence.block_ids)
    return StepPart(span, sequence.token_ids[start:end], row, sequence.scored_tokens(start, end))
