"""Request-level sharing, as ServerlessLLM (OSDI 2024) does: a model keeps the device until its requests finish."""

from bisect import bisect_left, insort
from collections.abc import Callable

from gpu_worker.scheduling.costs import StepShape
from gpu_worker.scheduling.policy import ModelView, OrderKey, SequenceView, Turn, WorkerView, order_key
from gpu_worker.scheduling.step import fill_step, unbarred_admission
from shared.ids import ModelName, RequestId

JobKey = tuple[float, OrderKey]  # served in this order; the order of the worker's line breaks ties
_Job = tuple[JobKey, SequenceView]


def first_come(model: ModelView, sequence: SequenceView) -> JobKey:
    """The worker's line: with equal priorities and times to first token, the order of arrival."""
    return (0.0, order_key(sequence))


def shortest_job(model: ModelView, sequence: SequenceView) -> JobKey:
    """By the seconds it would take alone, as if its output had all of `max_output_tokens`."""
    num_known, num_left = sequence.num_tokens, sequence.max_output_tokens - sequence.num_output_tokens
    prefill_s = model.costs.step_s(StepShape(0, 0, num_known, num_known * (num_known + 1) // 2))
    decode_s = model.costs.step_s(StepShape(1, num_known + num_left // 2))
    return (prefill_s + num_left * decode_s, order_key(sequence))


class RequestLevel:
    """When the device is free, the model of the first job gets it, until that has finished; copies of its own KV are
    waited for. Jobs of the running model that come before all jobs of other models run beside it, up to `max_running`:
    those next in line, and who arrives meanwhile, as it would be sent to the instance that serves its model.

    With `overtaking`, all who wait for the model when it gets the device go along, before earlier ones of other models:
    the strongest that sharing by requests can be. So a model waits for at most one batch of each other model with an
    earlier request, and who joined these.
    """

    def __init__(self, key: Callable[[ModelView, SequenceView], JobKey], *, overtaking: bool = False) -> None:
        self._key = key
        self._overtaking = overtaking
        self._entered: dict[RequestId, tuple[ModelName, SequenceView]] = {}  # not yet in a line
        self._lines: dict[ModelName, list[_Job]] = {}  # in order, none is empty
        self._keys: dict[RequestId, JobKey] = {}  # of those in lines: a job keeps its place while costs are refined
        self._model: ModelName | None = None
        self._batch: dict[RequestId, SequenceView] = {}

    def enter(self, model: ModelName, sequence: SequenceView, now_s: float) -> None:
        self._entered[sequence.request_id] = (model, sequence)

    def leave(self, model: ModelName, sequence: SequenceView) -> None:
        self._entered.pop(sequence.request_id, None)
        self._batch.pop(sequence.request_id, None)
        if (key := self._keys.pop(sequence.request_id, None)) is not None:
            self._take_out(model, bisect_left(self._lines[model], key, key=_key_of))

    def plan(self, view: WorkerView, now_s: float) -> Turn | None:
        models = {model.name: model for model in view.models}
        self._line_up(models)
        if not self._batch:
            self._model = min(self._lines, key=self._first_key, default=None)
            if self._model is None:
                return None
            if self._overtaking:
                self._fill_batch(self._model, view.limits.max_running)
        assert self._model is not None
        others = [self._first_key(name) for name in self._lines if name != self._model]
        self._fill_batch(self._model, view.limits.max_running, min(others, default=None))
        return self._next_step(models[self._model], view)

    def turn_order(self, view: WorkerView, now_s: float) -> list[ModelName]:
        """The batch's model, then the others by their first jobs, then idle ones, the most recently used first."""
        self._line_up({model.name: model for model in view.models})
        waiting = sorted(self._lines, key=self._first_key)
        idle = [model.name for model in sorted(view.models, key=lambda model: -model.last_step)]
        current = [self._model] if self._model is not None and self._batch else []
        return list(dict.fromkeys([*current, *waiting, *idle]))

    def _next_step(self, model: ModelView, view: WorkerView) -> Turn | None:
        newcomers: list[SequenceView] = []
        if len(model.running) < len(self._batch):
            running = {sequence.request_id for sequence in model.running}
            newcomers = [sequence for key, sequence in self._batch.items() if key not in running]
            newcomers.sort(key=order_key)
        rules = unbarred_admission(view)
        step = fill_step(model, view.limits.max_step_tokens, rules, newcomers=newcomers)
        return Turn(model.name, step) if step else None

    def _line_up(self, models: dict[ModelName, ModelView]) -> None:
        for name, sequence in self._entered.values():
            key = self._keys[sequence.request_id] = self._key(models[name], sequence)
            insort(self._lines.setdefault(name, []), (key, sequence), key=_key_of)
        self._entered.clear()

    def _first_key(self, model: ModelName) -> JobKey:
        return self._lines[model][0][0]

    def _fill_batch(self, model: ModelName, max_running: int, before: JobKey | None = None) -> None:
        while model in self._lines and len(self._batch) < max_running:
            if before is not None and self._first_key(model) >= before:
                return
            sequence = self._take_out(model, 0)
            del self._keys[sequence.request_id]
            self._batch[sequence.request_id] = sequence

    def _take_out(self, model: ModelName, index: int) -> SequenceView:
        _, sequence = self._lines[model].pop(index)
        if not self._lines[model]:
            del self._lines[model]
        return sequence


def _key_of(job: _Job) -> JobKey:
    return job[0]
