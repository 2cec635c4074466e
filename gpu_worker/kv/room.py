"""Blocks for the sequences of a step. Who comes late in the line gives way, so the first always advances."""

from collections.abc import Collection, Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from gpu_worker.memory.slab_pool import ShapeClass
from gpu_worker.scheduling.policy import SequenceView, order_key
from shared.ids import ModelName

S = TypeVar("S", bound=SequenceView)
S_contra = TypeVar("S_contra", bound=SequenceView, contravariant=True)


class Blocks(Protocol[S_contra]):
    """KV memory (kv/store.py::KvStore)."""

    def extend(self, shape: ShapeClass, sequence: S_contra, num_tokens: int) -> bool: ...
    def is_room_coming(self, sequence: S_contra) -> bool: ...
    def defer(self, sequence: S_contra) -> None: ...
    def enter(self, shape: ShapeClass, sequence: S_contra, num_tokens: int) -> bool: ...


class Model(Protocol[S]):
    """Whose sequences wait and run (served_model.py::ServedModel)."""

    @property
    def shape(self) -> ShapeClass: ...
    @property
    def running(self) -> Collection[S]: ...
    def is_running(self, sequence: S) -> bool: ...
    def start(self, sequence: S) -> None: ...
    def preempt(self, sequence: S) -> None: ...


class Room(Generic[S]):
    def __init__(self, models: Mapping[ModelName, Model[S]], kv: Blocks[S]) -> None:
        self._models = models
        self._kv = kv

    def make(self, model: Model[S], shares: Iterable[tuple[S, int]]) -> list[tuple[S, int]]:
        """shares: sequences and how many of their tokens a step computes.

        Those that can be computed now, their blocks allocated. The others wait for a copy, or gave way.
        """
        ready: list[tuple[S, int]] = []
        ordered = sorted(shares, key=lambda share: order_key(share[0]))
        running = {sequence for sequence, _ in ordered if model.is_running(sequence)}
        for sequence, num_tokens in ordered:
            if sequence not in running:
                ready += self._admit(model, sequence, num_tokens)
            elif self._extend(model, sequence, num_tokens):
                ready.append((sequence, num_tokens))
        return ready

    def _extend(self, model: Model[S], sequence: S, num_tokens: int) -> bool:
        while model.is_running(sequence) and not self._kv.extend(model.shape, sequence, num_tokens):
            if self._kv.is_room_coming(sequence):
                self._kv.defer(sequence)
                return False
            self._preempt_last()
        return model.is_running(sequence)

    def _admit(self, model: Model[S], sequence: S, num_tokens: int) -> list[tuple[S, int]]:
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
