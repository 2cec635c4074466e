"""The policy of Aegaeon (SOSP 2025, section 4), as published: prompts are computed in groups, decoding goes in rounds.

Prefill and decode may share a worker, or be on workers of their own with the KV handed over between them.
"""

from collections.abc import Container, Iterator
from dataclasses import replace

from gpu_worker.scheduling.aegaeon_decode import DecodeRounds
from gpu_worker.scheduling.aegaeon_prefill import Group, PrefillQueue
from gpu_worker.scheduling.look import Look, in_order, look_at
from gpu_worker.scheduling.policy import SequenceView, Turn, WorkerView, order_key
from shared.ids import ModelName, RequestId


class AegaeonPrefill:
    """A worker that only prefills: who has got a token here is not run any more."""

    def __init__(self) -> None:
        self._queue = PrefillQueue()
        self._num_output_tokens: dict[RequestId, int] = {}  # when it came: an earlier attempt may have got so far
        self._prefilling: Group | None = None  # by the last step
        self._missed: ModelName | None = None  # whose prompts could have come, but for its weights

    def enter(self, model: ModelName, sequence: SequenceView, now_s: float) -> None:
        self._queue.add(model, sequence)
        self._num_output_tokens[sequence.request_id] = sequence.num_output_tokens

    def leave(self, model: ModelName, sequence: SequenceView) -> None:
        if sequence.request_id in self._queue:
            self._forget(sequence)

    def plan(self, view: WorkerView, now_s: float) -> Turn | None:
        self.take_prefilled()
        return self.next_step(look_at(view, now_s))

    def turn_order(self, view: WorkerView, now_s: float) -> list[ModelName]:
        return in_order(self.coming(len(view.models)), view)

    def take_prefilled(self) -> list[tuple[ModelName, SequenceView]]:
        """Whose prefill the last step ended: they have got a token."""
        group, self._prefilling = self._prefilling, None
        if group is None:
            return []
        known = self._num_output_tokens
        done = [s for s in group.sequences.values() if s.num_output_tokens > known[s.request_id]]
        for sequence in done:
            self._forget(sequence)
        return [(group.model, sequence) for sequence in done]

    def next_step(self, look: Look) -> Turn | None:
        """Of the first group; None when there is none, or it waits for room, a copy or weights from disk."""
        self._missed = None
        for group in self._queue.first():
            if not look.models[group.model].is_at_hand:
                self._missed = group.model
            elif (turn := look.step_of(group.model, group.sequences)) is not None:
                self._prefilling = group
                return turn
        return None

    def missed(self) -> list[ModelName]:
        """The model whose turn comes as soon as its weights are there."""
        return [] if self._missed is None else [self._missed]

    def coming(self, num_groups: int) -> Iterator[ModelName]:
        return (group.model for group in self._queue.first(num_groups))

    def _forget(self, sequence: SequenceView) -> None:
        self._queue.remove(sequence)
        del self._num_output_tokens[sequence.request_id]


class AegaeonDecode:
    """A worker that only decodes: sequences come with their KV, which waits in host memory."""

    def __init__(self) -> None:
        self._rounds = DecodeRounds()

    @property
    def alpha(self) -> float:
        """Of the last round; 0 before the first."""
        return self._rounds.alpha

    def enter(self, model: ModelName, sequence: SequenceView, now_s: float) -> None:
        self._rounds.enter(model, sequence)

    def leave(self, model: ModelName, sequence: SequenceView) -> None:
        self._rounds.leave(sequence)

    def plan(self, view: WorkerView, now_s: float) -> Turn | None:
        look = look_at(view, now_s)
        return self._rounds.go_on(look) or self._rounds.next_turn(look)

    def turn_order(self, view: WorkerView, now_s: float) -> list[ModelName]:
        return in_order(self._rounds.coming(), view)


class Aegaeon:
    """Both on one worker: when a turn has ended and prompts wait, the next group's are computed, whole; else the round
    of decoding goes on where it was.

    The published prefill workers move KV out at once. Here it stays on the device, so new prompts find room only beside
    the sequences that decode, and a preempted one comes back before later ones are let in.
    """

    def __init__(self) -> None:
        self._prefill = AegaeonPrefill()
        self._rounds = DecodeRounds()

    @property
    def alpha(self) -> float:
        """Of the last round; 0 before the first."""
        return self._rounds.alpha

    def enter(self, model: ModelName, sequence: SequenceView, now_s: float) -> None:
        self._prefill.enter(model, sequence, now_s)

    def leave(self, model: ModelName, sequence: SequenceView) -> None:
        self._prefill.leave(model, sequence)
        if sequence.request_id in self._rounds:
            self._rounds.leave(sequence)

    def plan(self, view: WorkerView, now_s: float) -> Turn | None:
        for name, sequence in self._prefill.take_prefilled():
            self._rounds.enter(name, sequence)
        look = look_at(view, now_s)
        return (
            self._rounds.go_on(look)
            or self._prefill.next_step(_after_preempted(look, self._rounds))
            or self._rounds.next_turn(look)
        )

    def turn_order(self, view: WorkerView, now_s: float) -> list[ModelName]:
        missed = [*self._prefill.missed(), *self._rounds.missed()]
        prompts = self._prefill.coming(len(view.models))
        return in_order([*missed, *self._rounds.current(), *prompts, *self._rounds.coming()], view)


def _after_preempted(look: Look, decoding: Container[RequestId]) -> Look:
    """Lets in nobody who comes after a preempted sequence."""
    preempted = look.first_waiting(among=decoding)
    if preempted is None:
        return look
    return replace(look, rules=replace(look.rules, barrier=min(look.rules.barrier, order_key(preempted))))
