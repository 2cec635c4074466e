"""Blocks for the sequences of a step. Who comes late in the line gives way, so the first always advances."""

from collections.abc import Iterable, Mapping

from gpu_worker.kv.store import KvStore
from gpu_worker.scheduling.policy import order_key
from gpu_worker.sequence import Sequence
from gpu_worker.served_model import ServedModel
from shared.ids import ModelName

Share = tuple[Sequence, int]  # a sequence and how many of its tokens a step computes


class Room:
    def __init__(self, models: Mapping[ModelName, ServedModel], kv: KvStore) -> None:
        self._models = models
        self._kv = kv

    def make(self, model: ServedModel, shares: Iterable[Share]) -> list[Share]:
        """The shares that can be computed now, their blocks allocated. The others wait for a copy, or gave way."""
        ready: list[Share] = []
        ordered = sorted(shares, key=lambda share: order_key(share[0]))
        running = {sequence for sequence, _ in ordered if model.is_running(sequence)}
        for sequence, num_tokens in ordered:
            if sequence not in running:
                ready += self._admit(model, sequence, num_tokens)
            elif self._extend(model, sequence, num_tokens):
                ready.append((sequence, num_tokens))
        return ready

    def _extend(self, model: ServedModel, sequence: Sequence, num_tokens: int) -> bool:
        while model.is_running(sequence) and not self._kv.extend(model.shape, sequence, num_tokens):
            if self._kv.is_room_coming(sequence):
                self._kv.defer(sequence)
                return False
            self._preempt_last()
        return model.is_running(sequence)

    def _admit(self, model: ServedModel, sequence: Sequence, num_tokens: int) -> list[Share]:
        """Never at the cost of a running one, which could be part of this very step. What is known needs no step."""
        if not self._kv.enter(model.shape, sequence, num_tokens):
            return []
        model.start(sequence)
        num_left = sequence.num_tokens - sequence.num_computed_tokens
        return [(sequence, min(num_tokens, num_left))] if sequence.is_ready else []

    def _preempt_last(self) -> None:
        """The running sequence that is last in line, of whatever model."""
        running = ((sequence, model) for model in self._models.values() for sequence in model.running)
        victim, model = max(running, key=lambda pair: order_key(pair[0]))
        model.preempt(victim)
