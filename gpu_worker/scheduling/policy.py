"""What a policy sees and what it answers.

The engine lets a policy look at its own objects through these protocols, nothing is copied; a policy never changes
them. The answer is data: one model, and how many tokens of each of its sequences the next step computes.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from shared.ids import ModelName, RequestId

OrderKey = tuple[float, float, str]


class SequenceView(Protocol):
    """A sequence that is not finished. Invariant: num_computed_tokens < num_tokens."""

    @property
    def request_id(self) -> RequestId: ...

    @property
    def priority(self) -> int:
        """Lower is served first."""

    @property
    def arrived_at_s(self) -> float: ...

    @property
    def num_tokens(self) -> int:
        """Known tokens: prompt and output so far."""

    @property
    def num_computed_tokens(self) -> int:
        """Those with KV: a running sequence's on the device, in ceil(num_computed_tokens / block_tokens) blocks; a
        waiting one's in host memory, so that it needs blocks for all its known tokens."""

    @property
    def is_ready(self) -> bool:
        """A step could compute it: it waits neither for a copy of its KV nor for blocks that a copy will free."""


class ModelView(Protocol):
    @property
    def name(self) -> ModelName: ...

    @property
    def is_resident(self) -> bool:
        """A step needs no copy of weights first."""

    @property
    def last_step(self) -> int:
        """Number of the worker's step that last ran this model, counted from 1; 0: none did."""

    @property
    def num_free_blocks(self) -> int:
        """KV blocks of its shape class that newcomers could have now."""

    @property
    def running(self) -> Collection[SequenceView]:
        """With KV blocks on the device, or KV on its way there, in any order."""

    @property
    def waiting(self) -> Collection[SequenceView]:
        """Without KV on the device, new or preempted, in the order of `order_key`. Policies look at the first few."""


@dataclass(frozen=True, slots=True)
class Limits:
    max_step_tokens: int  # tokens of a step that are not decode: chunks of prompts
    max_running: int  # sequences with KV on the device, of all models
    turn_steps: int  # steps from one copy of weights to the next, while resident models have work
    block_tokens: int


@dataclass(frozen=True, slots=True)
class WorkerView:
    models: Collection[ModelView]  # all that the worker can run
    limits: Limits
    num_steps_since_copy: int  # steps run since weights were last copied in, that model's first one included


@dataclass(frozen=True, slots=True)
class Turn:
    """One step: `num_tokens` of each sequence, all of one model. Decoding sequences first."""

    model: ModelName
    num_tokens: dict[RequestId, int]  # of sequences that are ready


class Policy(Protocol):
    def plan(self, view: WorkerView, now_s: float) -> Turn | None:
        """The next step; None when no sequence can run before one ends or arrives, or a copy of KV ends."""

    def turn_order(self, view: WorkerView) -> list[ModelName]:
        """All models, the one whose next turn comes soonest first: evict from the end (Belady)."""


def order_key(sequence: SequenceView) -> OrderKey:
    """Who is served first within a worker. Whoever has to preempt takes the sequence with the greatest key: then the
    first in line always advances, and nothing is preempted for ever."""
    return (sequence.priority, sequence.arrived_at_s, sequence.request_id)
