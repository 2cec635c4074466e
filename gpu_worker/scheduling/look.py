"""One look at a worker: what the parts of a policy share while it plans a step."""

from collections.abc import Container, Iterable
from dataclasses import dataclass

from gpu_worker.scheduling.policy import ModelView, SequenceView, Turn, WorkerView, order_key
from gpu_worker.scheduling.step import Admission, admission, fill_step
from shared.ids import ModelName, RequestId


@dataclass(frozen=True, slots=True)
class Look:
    now_s: float
    models: dict[ModelName, ModelView]
    rules: Admission
    max_step_tokens: int

    def step_of(self, model: ModelName, sequences: dict[RequestId, SequenceView]) -> Turn | None:
        """Of these sequences alone, waiting ones as far as there is room; None when none of them can run."""
        view = self.models[model]
        newcomers: list[SequenceView] = []
        running = {sequence.request_id for sequence in view.running}
        if not sequences.keys() <= running:
            newcomers = [sequence for key, sequence in sequences.items() if key not in running]
            newcomers.sort(key=order_key)
        step = fill_step(view, self.max_step_tokens, self.rules, among=sequences, newcomers=newcomers)
        return Turn(model, step) if step else None

    def first_waiting(self, among: Container[RequestId]) -> SequenceView | None:
        """The earliest of these that is first in its model's line."""
        firsts = (model.waiting.first for model in self.models.values() if model.waiting)
        return min((sequence for sequence in firsts if sequence.request_id in among), key=order_key, default=None)


def look_at(view: WorkerView, now_s: float) -> Look:
    models = {model.name: model for model in view.models}
    return Look(now_s, models, admission(view), view.limits.max_step_tokens)


def in_order(coming: Iterable[ModelName], view: WorkerView) -> list[ModelName]:
    """All models: first those that come, then the others, the most recently used first."""
    others = sorted(view.models, key=lambda model: -model.last_step)
    return list(dict.fromkeys([*coming, *(model.name for model in others)]))
