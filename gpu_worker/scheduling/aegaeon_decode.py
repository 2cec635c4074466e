"""Batched weighted round robin of decoding: Aegaeon (SOSP 2025, section 4), as published."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gpu_worker.scheduling.costs import StepShape
from gpu_worker.scheduling.look import Look
from gpu_worker.scheduling.policy import ModelView, SequenceView, Turn
from gpu_worker.scheduling.weighted_round import Pace, alpha, quotas_s
from shared.ids import ModelName, RequestId


@dataclass(eq=False, slots=True)
class Batch:
    model: ModelName
    sequences: dict[RequestId, SequenceView] = field(default_factory=dict)

    def pace(self, model: ModelView) -> Pace:
        num_context_tokens = sum(sequence.num_tokens for sequence in self.sequences.values())
        step_s = model.costs.step_s(StepShape(len(self.sequences), num_context_tokens))
        return Pace(min(sequence.tbt_s for sequence in self.sequences.values()), step_s)


class DecodeRounds:
    """Batches take turns of their quotas' length, in rounds in which the batches of a model are neighbours.

    A sequence joins the first batch of its model that has KV room for it, else it makes a new one. In its turn, a batch
    takes its preempted sequences in again where there is room. A batch that can't run when its turn comes loses it,
    unless it only waits for weights from disk: then its turn comes as soon as they are there.
    """

    def __init__(self) -> None:
        self._entered: dict[RequestId, tuple[ModelName, SequenceView]] = {}  # not yet in a batch
        self._batches: list[Batch] = []  # none is empty
        self._batch_of: dict[RequestId, Batch] = {}
        self._missed: dict[Batch, float] = {}  # whose weights were not there when their turns came, with their quotas
        self._to_come: deque[tuple[Batch, float]] = deque()  # of this round, with their quotas
        self._turn: Batch | None = None
        self._turn_ends_at_s = 0.0
        self.alpha = 0.0  # of the last round

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._entered or request_id in self._batch_of

    @property
    def batches(self) -> list[Batch]:
        """As in a round: those of one model next to each other, otherwise in the order in which they were made."""
        by_model: dict[ModelName, list[Batch]] = {}
        for batch in self._batches:
            by_model.setdefault(batch.model, []).append(batch)
        return [batch for same in by_model.values() for batch in same]

    def enter(self, model: ModelName, sequence: SequenceView) -> None:
        self._entered[sequence.request_id] = (model, sequence)

    def leave(self, sequence: SequenceView) -> None:
        if self._entered.pop(sequence.request_id, None) is not None:
            return
        batch = self._batch_of.pop(sequence.request_id)
        del batch.sequences[sequence.request_id]
        if not batch.sequences:
            self._batches.remove(batch)
            self._missed.pop(batch, None)

    def go_on(self, look: Look) -> Turn | None:
        """The next step of the turn that has begun; None when that is over."""
        self._form_batches(look)
        turn = None
        if self._turn is not None and self._turn.sequences and look.now_s < self._turn_ends_at_s:
            turn = look.step_of(self._turn.model, self._turn.sequences)
        if turn is None:
            self._turn = None
        return turn

    def next_turn(self, look: Look) -> Turn | None:
        """The first step of the next batch that can run; None when none can."""
        self._form_batches(look)
        for batch, quota_s in self._turns(look):
            model = look.models[batch.model]
            if not model.is_at_hand:
                self._missed[batch] = quota_s
                continue
            self._missed.pop(batch, None)
            if (turn := look.step_of(batch.model, batch.sequences)) is not None:
                self._turn = batch
                # The quota is time of decoding: the switch comes on top.
                self._turn_ends_at_s = look.now_s + quota_s + (0.0 if model.is_resident else model.costs.switch_s)
                return turn
        return None

    def current(self) -> list[ModelName]:
        """The model that has its turn, if one has."""
        return [self._turn.model] if self._turn is not None and self._turn.sequences else []

    def coming(self) -> list[ModelName]:
        """Models in the order of their turns, those that missed one and the current one first; some more than once."""
        rest = [batch.model for batch, _ in self._to_come if batch.sequences]
        return [*self.missed(), *self.current(), *rest, *(batch.model for batch in self.batches)]

    def missed(self) -> list[ModelName]:
        """Those whose turn comes as soon as their weights are there."""
        return [batch.model for batch in self._missed]

    def _form_batches(self, look: Look) -> None:
        for name, sequence in self._entered.values():
            batch = self._batch_with_room(look.models[name], sequence, look.rules.num_blocks)
            batch.sequences[sequence.request_id] = sequence
            self._batch_of[sequence.request_id] = batch
        self._entered.clear()

    def _batch_with_room(self, model: ModelView, newcomer: SequenceView, num_blocks: Callable[[int], int]) -> Batch:
        """All of a batch's sequences could be on the device at once, as far as other models leave room."""
        num_held = sum(num_blocks(sequence.num_computed_tokens) for sequence in model.running)
        for batch in self._batches:
            if batch.model == model.name:
                known = (sequence.num_tokens for sequence in (*batch.sequences.values(), newcomer))
                if sum(num_blocks(num_tokens) for num_tokens in known) <= num_held + model.num_free_blocks:
                    return batch
        self._batches.append(batch := Batch(model.name))
        return batch

    def _turns(self, look: Look) -> Iterator[tuple[Batch, float]]:
        """Those that were missed, what is left of this round, then one whole round."""
        yield from list(self._missed.items())
        yield from self._take_turns()
        self._start_round(look)
        yield from self._take_turns()

    def _take_turns(self) -> Iterator[tuple[Batch, float]]:
        while self._to_come:
            batch, quota_s = self._to_come.popleft()
            if batch.sequences:
                yield batch, quota_s

    def _start_round(self, look: Look) -> None:
        if not self._batches:
            return
        batches = self.batches
        paces = [batch.pace(look.models[batch.model]) for batch in batches]
        names = dict.fromkeys(batch.model for batch in batches)
        switches_s = sum(look.models[name].costs.switch_s for name in names)
        self.alpha = alpha(paces, switches_s)
        self._to_come.extend(zip(batches, quotas_s(paces, switches_s, self.alpha), strict=True))
