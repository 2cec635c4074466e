"""What one step of a model holds: every decoding sequence, and prompts in order as far as the limits go.

A waiting sequence is admitted only where its whole prompt has room beside what the running ones still need, so that
admission does not preempt. So that models with small needs don't starve one with a great need, nobody is admitted
before an earlier sequence, of whatever model, that is first in its line and has no room yet: room gathers for it. Where
tenants take turns in a line, who goes first does so in the place of the earliest: lines are compared as if each were in
its tenants' order of arrival. A model whose weights come from disk finds a slot when they are there, or those that run
meanwhile might take each one.
"""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from math import inf

from gpu_worker.scheduling.policy import ModelView, OrderKey, SequenceView, WorkerView, order_key
from shared.ids import ModelName, RequestId


@dataclass(frozen=True, slots=True)
class Admission:
    """What all models share when waiting sequences are admitted, as of one view."""

    num_slots: int  # until max_running
    barrier: OrderKey  # only sequences before it
    block_tokens: int
    reserved_for: ModelName | None = None  # a slot, for the first sequence of a model that is awaited

    def num_slots_for(self, model: ModelView) -> int:
        return self.num_slots - (self.reserved_for is not None and self.reserved_for != model.name)

    def num_new_blocks(self, sequence: SequenceView) -> int:
        """Blocks that a running one's known tokens need and that it has not got."""
        return self.num_blocks(sequence.num_tokens) - self.num_blocks(sequence.num_computed_tokens)

    def num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_tokens)


def unbarred_admission(view: WorkerView) -> Admission:
    """For policies that let only one model's sequences hold KV: nobody else waits for the same room."""
    num_slots = max(0, view.limits.max_running - sum(len(model.running) for model in view.models))
    return Admission(num_slots, (inf, inf, ""), view.limits.block_tokens)


def admission(view: WorkerView) -> Admission:
    unbarred = unbarred_admission(view)
    firsts = ((model, model.waiting.first) for model in view.models if model.waiting)
    roomless = (order_key(model.waiting.earliest) for model, first in firsts if not _has_room(first, model, unbarred))
    barrier = min(roomless, default=unbarred.barrier)
    reserved_for = None
    if view.awaited and unbarred.num_slots < view.limits.max_running:  # else nothing would run meanwhile
        without_slots = {model.name for model in view.models if model.waiting and not model.running}
        reserved_for = next((name for name in view.awaited if name in without_slots), None)
    return Admission(unbarred.num_slots, barrier, unbarred.block_tokens, reserved_for)


def is_runnable(model: ModelView, rules: Admission) -> bool:
    """A step of this model would compute something now."""
    return model.is_at_hand and has_something_to_run(model, rules)


def next_to_fetch(
    view: WorkerView, turn_order: Sequence[ModelName], overdue: Container[ModelName] = ()
) -> ModelName | None:
    """The model that waits for its weights from disk and for nothing else, once its turn is the next.

    Not before: what has its turn sooner might have to go for it. An overdue one need not come to the front: not every
    policy lets a model there that can't run.
    """
    rules, models = admission(view), {model.name: model for model in view.models}
    ready = [model for name in turn_order if has_something_to_run(model := models[name], rules)]
    missing = (model.name for model in ready if not model.is_at_hand)
    return next((name for name in missing if name == ready[0].name or name in overdue), None)


def has_something_to_run(model: ModelView, rules: Admission) -> bool:
    """Wherever its weights are."""
    if any(sequence.is_ready for sequence in model.running):
        return True
    if not model.waiting or order_key(model.waiting.earliest) >= rules.barrier:
        return False
    return _has_room(
        model.waiting.first, model, rules, num_reserved_blocks=sum(map(rules.num_new_blocks, model.running))
    )


def fill_step(
    model: ModelView,
    max_step_tokens: int,
    rules: Admission,
    *,
    among: Container[RequestId] | None = None,
    newcomers: Iterable[SequenceView] | None = None,
) -> dict[RequestId, int]:
    """Tokens per sequence; empty only if not `is_runnable`.

    A policy may leave out running sequences by `among` and waiting ones by `newcomers`, which are in `order_key`'s
    order; by default nobody is left out.
    """
    num_tokens: dict[RequestId, int] = {}
    if not model.is_at_hand:
        return num_tokens

    def fair_key(sequence: SequenceView) -> tuple[int, float, OrderKey]:
        return sequence.priority, model.waiting.counter(sequence.tenant), order_key(sequence)

    prefilling: list[SequenceView] = []
    budget_tokens = max_step_tokens
    num_free_blocks = model.num_free_blocks
    for sequence in model.running:
        num_free_blocks -= rules.num_new_blocks(sequence)
        if not sequence.is_ready or (among is not None and sequence.request_id not in among):
            continue
        if sequence.num_tokens - sequence.num_computed_tokens == 1:
            num_tokens[sequence.request_id] = 1
        else:
            prefilling.append(sequence)
    prefilling.sort(key=fair_key)
    waiting = islice(model.waiting if newcomers is None else newcomers, max(0, rules.num_slots_for(model)))
    admitted = _admitted(waiting, model, num_free_blocks, rules)
    for sequence in merge(prefilling, admitted, key=fair_key):
        if budget_tokens == 0:
            break
        chunk = min(sequence.num_tokens - sequence.num_computed_tokens, budget_tokens)
        num_tokens[sequence.request_id] = chunk
        budget_tokens -= chunk
    return num_tokens


def _has_room(sequence: SequenceView, model: ModelView, rules: Admission, num_reserved_blocks: int = 0) -> bool:
    has_blocks = rules.num_blocks(sequence.num_tokens) <= model.num_free_blocks - num_reserved_blocks
    return rules.num_slots_for(model) > 0 and sequence.is_ready and has_blocks


def _admitted(
    waiting: Iterable[SequenceView], model: ModelView, num_free_blocks: int, rules: Admission
) -> Iterator[SequenceView]:
    """In order, up to the first that has to wait on. Where tenants take turns, as many pass the barrier as stand before
    it, whoever they are."""
    line = model.waiting
    num_before = line.num_before(rules.barrier) if line.num_tenants > 1 else None
    for index, sequence in enumerate(waiting):
        num_free_blocks -= rules.num_blocks(sequence.num_tokens)
        is_barred = order_key(sequence) >= rules.barrier if num_before is None else index >= num_before
        if num_free_blocks < 0 or not sequence.is_ready or is_barred:
            return
        yield sequence
