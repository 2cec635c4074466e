"""What a worker measures as it happens, told by the engine."""

from collections import Counter as Tally
from collections.abc import Mapping

from gpu_worker.served_model import ServedModel
from shared.ids import ModelName
from shared.messages import ModelSwitched
from shared.telemetry import LONG_S, SHORT_S, Label, Registry, labelled


class EngineMetrics:
    """Five observations a step, three more at a switch, one of each sequence."""

    def __init__(self, registry: Registry) -> None:
        self._model = Label()
        self._with_work_since_s: dict[ModelName, float] = {}
        self._num_steps: Tally[str] = Tally()
        self._switches = registry.counter("kottos_switches_total", "Switches to another model.", ["kind"])
        self._switch_s = registry.histogram(
            "kottos_switch_seconds", "From the decision to the first operation that may run.", ["kind"], SHORT_S
        )
        self._overlapped_s = registry.counter(
            "kottos_switch_overlapped_seconds_total", "Copies of weights: how long they went on beside steps."
        )
        self._switch_bytes = registry.counter("kottos_switch_bytes_total", "Weights copied for a switch.", ["kind"])
        self._step_s = registry.histogram(
            "kottos_step_seconds", "A forward pass, from the token loop and back to it.", ["model"], SHORT_S
        )
        self._tokens = registry.counter("kottos_step_tokens_total", "Tokens computed.", ["model", "phase"])
        self._wait_s = registry.histogram(
            "kottos_model_wait_seconds", "A model with work: from its arrival or its last step to its step.", ["model"],
            LONG_S,
        )  # fmt: skip
        self._queue_s = registry.histogram(
            "kottos_queue_seconds", "From a request's arrival at its gateway to its first step.", ["model"], LONG_S
        )
        registry.count("kottos_steps_total", "Forward passes.", ["model"], lambda: labelled(self._num_steps))

    def note_work(self, models: Mapping[ModelName, ServedModel], now_s: float) -> None:
        """Between two steps: which models wait for one."""
        for name, model in models.items():
            if model.running or model.waiting:
                self._with_work_since_s.setdefault(name, now_s)
            else:
                self._with_work_since_s.pop(name, None)

    def forget(self, model: ModelName) -> None:
        """It is served no more: its rows go."""
        self._with_work_since_s.pop(model, None)
        if not self._model.forget(model):
            return
        self._num_steps.pop(model, None)
        for rows in (self._step_s, self._wait_s, self._queue_s):
            rows.remove(model)
        for phase in ("prefill", "decode"):
            self._tokens.remove(model, phase)

    def took_turn(self, model: ModelName, now_s: float) -> None:
        """Its step is the next."""
        self._wait_s.labels(self._model(model)).observe(now_s - self._with_work_since_s.pop(model, now_s))

    def began(self, model: ModelName, waited_s: float) -> None:
        """The first step of a sequence."""
        self._queue_s.labels(self._model(model)).observe(waited_s)

    def stepped(self, model: ModelName, num_prefill_tokens: int, num_decode_tokens: int, took_s: float) -> None:
        label = self._model(model)
        self._num_steps[label] += 1
        self._step_s.labels(label).observe(took_s)
        if num_prefill_tokens:
            self._tokens.labels(label, "prefill").inc(num_prefill_tokens)
        if num_decode_tokens:
            self._tokens.labels(label, "decode").inc(num_decode_tokens)

    def switched(self, event: ModelSwitched) -> None:
        self._switches.labels(event.kind).inc()
        self._switch_s.labels(event.kind).observe(event.waited_s)
        if event.copied_bytes:
            self._switch_bytes.labels(event.kind).inc(event.copied_bytes)
            self._overlapped_s.inc(event.overlapped_s)
