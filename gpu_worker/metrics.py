"""What a worker measures. The engine writes what happens; what is state anyway is read at a scrape, in the loop."""

import time
from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpu_worker.kv.store import KvStore
from gpu_worker.loader import Prefetches
from gpu_worker.model_store import ModelStore
from gpu_worker.outbox import Outbox
from gpu_worker.served_model import ServedModel
from shared.bus import Bus
from shared.ids import ModelName
from shared.messages import ModelSwitched
from shared.telemetry import LONG_S, SHORT_S, Label, Registry, Values


class EngineMetrics:
    """Five observations a step, three more at a switch."""

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
        registry.count("kottos_steps_total", "Forward passes.", ["model"], lambda: _labelled(self._num_steps))

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
        for rows in (self._step_s, self._wait_s):
            rows.remove(model)
        for phase in ("prefill", "decode"):
            self._tokens.remove(model, phase)

    def took_turn(self, model: ModelName, now_s: float) -> None:
        """Its step is the next."""
        self._wait_s.labels(self._model(model)).observe(now_s - self._with_work_since_s.pop(model, now_s))

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


@dataclass(frozen=True, slots=True)
class Watched:
    """Whose state a scrape reads; it changes nothing of it."""

    models: Mapping[ModelName, ServedModel]
    kv: KvStore
    store: ModelStore
    outbox: Outbox
    prefetches: Prefetches
    bus: Bus


def watch(registry: Registry, worker: Watched) -> None:
    _watch_models(registry, worker)
    _watch_kv(registry, worker)
    registry.count(
        "kottos_prefetches_total", "Models brought in ahead of their turn.", ["state"],
        lambda: _labelled({"started": worker.prefetches.num_started, "used": worker.prefetches.num_used,
                           "wasted": worker.prefetches.num_wasted}),
    )  # fmt: skip
    registry.count(
        "kottos_host_cache_misses_total", "Blobs that had to be asked of the host model cache for a turn.", [],
        lambda: [((), worker.store.num_misses)],
    )  # fmt: skip
    registry.count("kottos_frames_total", "Frames for owners.", [], lambda: [((), worker.outbox.num_frames)])
    registry.count(
        "kottos_loop_cpu_seconds_total", "CPU time of the token loop's thread.", [], lambda: [((), time.thread_time())]
    )
    registry.gauge(
        "kottos_bus_connected", "Whether the message bus is.", [], lambda: [((), float(worker.bus.connected))]
    )


def _watch_models(registry: Registry, worker: Watched) -> None:
    def sequences() -> Values:
        label = Label()  # of those that are served now
        for name, model in worker.models.items():
            yield (label(name), "running"), len(model.running)
            yield (label(name), "waiting"), len(model.waiting)

    def sizes(names: Iterable[ModelName]) -> Values:
        label = Label()
        return [((label(name),), worker.store.blob_bytes(name)) for name in names]

    def preemptions() -> Values:
        label = Label()
        return [((label(name),), model.num_preemptions) for name, model in worker.models.items()]

    registry.gauge("kottos_sequences", "Sequences with KV on the device, and waiting.", ["model", "state"], sequences)
    registry.gauge(
        "kottos_model_resident_bytes", "Weights in device memory.", ["model"],
        lambda: sizes(name for name, model in worker.models.items() if model.is_resident),
    )  # fmt: skip
    registry.gauge(
        "kottos_model_cached_bytes", "Weights of the host model cache that this worker maps.", ["model"],
        lambda: sizes(name for name in worker.models if name in worker.store),
    )  # fmt: skip
    registry.count(
        "kottos_preemptions_total", "Sequences that gave way.", ["model"],
        preemptions,
    )  # fmt: skip


def _watch_kv(registry: Registry, worker: Watched) -> None:
    def memory() -> Values:
        for side, blocks in worker.kv.sides():
            free_bytes = blocks.total_bytes - blocks.used_bytes - blocks.kept_bytes
            yield (side, "used"), blocks.used_bytes
            yield (side, "kept"), blocks.kept_bytes
            yield (side, "free"), free_bytes

    def slabs() -> Values:
        for side, blocks in worker.kv.sides():
            for shape, num_slabs in blocks.slabs_by_class():
                yield (side, str(shape.block_bytes)), num_slabs

    def free_slabs() -> Values:
        return [((side,), blocks.stats().num_free_slabs) for side, blocks in worker.kv.sides()]

    def fragmentation() -> Values:
        return [((side,), blocks.stats().fragmentation) for side, blocks in worker.kv.sides()]

    counts = ["kottos_kv_copies_total", "kottos_kv_copied_bytes_total"]
    registry.gauge("kottos_kv_bytes", "KV memory, used by sequences, kept, free.", ["side", "state"], memory)
    registry.gauge("kottos_kv_slabs", "Slabs that a shape class has taken.", ["side", "block_bytes"], slabs)
    registry.gauge("kottos_kv_free_slabs", "Slabs of no class.", ["side"], free_slabs)
    registry.gauge(
        "kottos_kv_fragmentation_ratio", "Bytes of taken slabs in no block, of all KV memory.", ["side"], fragmentation
    )
    registry.count(counts[0], "Copies of KV blocks.", ["to"], lambda: _labelled(worker.kv.counts.copies))
    registry.count(counts[1], "Bytes of those copies.", ["to"], lambda: _labelled(worker.kv.counts.copied_bytes))
    registry.count(
        "kottos_kv_swaps_total", "Preempted sequences whose KV went to host memory, and came back.", ["to"],
        lambda: _labelled(worker.kv.counts.swaps),
    )  # fmt: skip
    registry.count(
        "kottos_prefix_queried_tokens_total", "Prompt tokens that were looked up in the prefix cache.", [],
        lambda: [((), worker.kv.counts.num_queried_tokens)],
    )  # fmt: skip
    registry.count(
        "kottos_prefix_cached_tokens_total", "Those of them that it had.", [],
        lambda: [((), worker.kv.counts.num_cached_tokens)],
    )  # fmt: skip


def _labelled(counts: Mapping[str, int]) -> Values:
    return [((label,), count) for label, count in counts.items()]
