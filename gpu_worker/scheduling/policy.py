"""What a policy sees and what it answers.

The engine lets a policy look at its own objects through these protocols, nothing is copied; a policy never changes
them. The answer is data: one model, and how many tokens of each of its sequences the next step computes.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gpu_worker.scheduling.costs import StepShape
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
    def tenant(self) -> str: ...

    @property
    def place_s(self) -> float:
        """Where it stands among those of its priority: `first_due_at_s`, or earlier if it was let in before others of
        other tenants. Changes only as it begins to run."""

    @property
    def first_due_at_s(self) -> float:
        """When its first token is due: never changes."""

    @property
    def tbt_s(self) -> float:
        """From one token's due time to the next one's."""

    @property
    def due_at_s(self) -> float:
        """When its next token is due: first_due_at_s + num_output_tokens * tbt_s."""

    @property
    def num_output_tokens(self) -> int: ...

    @property
    def max_output_tokens(self) -> int:
        """It ends there at the latest."""

    @property
    def num_tokens(self) -> int:
        """Known tokens: prompt and output so far."""

    @property
    def num_computed_tokens(self) -> int:
        """Those with KV: a running sequence's on the device, in ceil(num_computed_tokens / block_tokens) blocks; a
        waiting one's in host memory, so that it needs blocks for all its known tokens."""

    @property
    def num_preemptions(self) -> int: ...

    @property
    def is_ready(self) -> bool:
        """A step could compute it: it waits neither for a copy of its KV nor for blocks that a copy will free."""


class TenantLineView(Protocol):
    """One tenant's sequences, in the order of `order_key`."""

    def __iter__(self) -> Iterator[SequenceView]: ...

    def __len__(self) -> int: ...

    def since(self, key: OrderKey) -> Iterator[SequenceView]:
        """Those whose keys are not less."""

    def before(self, key: OrderKey) -> Iterator[SequenceView]:
        """Those whose keys are less."""


class LineView(Protocol):
    """Sequences of all tenants (shared/fair_line.py)."""

    def __iter__(self) -> Iterator[SequenceView]:
        """In fair order between tenants, each one's in the order of `order_key`."""

    def __len__(self) -> int: ...

    def fairly(self, of_tenant: Callable[[TenantLineView], Iterator[SequenceView]]) -> Iterator[SequenceView]:
        """In fair order between tenants, each one's as `of_tenant` orders them."""

    @property
    def first(self) -> SequenceView:
        """In fair order. There is one."""

    @property
    def earliest(self) -> SequenceView:
        """By `order_key`, whoever's it is. There is one."""

    @property
    def num_tenants(self) -> int:
        """That wait."""

    def num_before(self, key: OrderKey) -> int:
        """Sequences whose keys are less."""

    def counter(self, tenant: str) -> float:
        """Weighted tokens that it was served; the one with the least is let in next."""


class Costs(Protocol):
    """Of one model on one device, as far as is known; never 0 for what takes time."""

    def step_s(self, shape: StepShape) -> float: ...

    @property
    def switch_s(self) -> float:
        """To bring its weights from host memory to the device with nothing else to do; 0 where memory is unified."""


class ModelView(Protocol):
    @property
    def name(self) -> ModelName: ...

    @property
    def is_resident(self) -> bool:
        """A step needs no copy of weights first."""

    @property
    def is_at_hand(self) -> bool:
        """Its weights are in host memory, or on the device, or on their way there: it could run. Else on disk only."""

    @property
    def costs(self) -> Costs: ...

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
    def waiting(self) -> LineView:
        """Without KV on the device, new or preempted. Policies look at few of them."""


@dataclass(frozen=True, slots=True)
class Limits:
    max_step_tokens: int  # tokens of a step that are not decode: chunks of prompts
    max_running: int  # sequences with KV on the device, of all models
    turn_steps: int  # steps from one copy of weights to the next, while resident models have work
    block_tokens: int
    copies_beside_steps: bool = False  # weights may come ahead of their model's turn


@dataclass(frozen=True, slots=True)
class WorkerView:
    models: Collection[ModelView]  # all that the worker can run
    limits: Limits
    num_steps_since_copy: int  # steps run since weights were last copied in, that model's first one included
    no_place_ahead: ModelName | None = None  # its turn was next, and it did not fit beside the model in use
    awaited: Sequence[ModelName] = ()  # asked for from disk, and not run since; the first asked for is first


@dataclass(frozen=True, slots=True)
class Turn:
    """One step: `num_tokens` of each sequence, all of one model. Decoding sequences first."""

    model: ModelName
    num_tokens: dict[RequestId, int]  # of sequences that are ready


class Policy(Protocol):
    """May keep state of its own; one worker's, told of every sequence that enters and leaves."""

    def enter(self, model: ModelName, sequence: SequenceView, now_s: float) -> None:
        """It has been assigned, and waits."""

    def leave(self, model: ModelName, sequence: SequenceView) -> None:
        """It has ended, in whatever way."""

    def plan(self, view: WorkerView, now_s: float) -> Turn | None:
        """The next step; None when no sequence can run before one ends or arrives, or a copy of KV ends."""

    def turn_order(self, view: WorkerView, now_s: float) -> list[ModelName]:
        """All models, the one whose next turn comes soonest first: evict from the end (Belady)."""


def order_key(sequence: SequenceView) -> OrderKey:
    """Who is served first within a worker; tenants are let in by turns beside it (`LineView`). Whoever has to preempt
    takes the sequence with the greatest key: then the first in line always advances, and nothing is preempted for ever.
    """
    return (sequence.priority, sequence.place_s, sequence.request_id)
