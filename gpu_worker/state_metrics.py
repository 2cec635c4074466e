"""What of a worker's state a scrape reads, in the loop: models, memory, the host model cache."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpu_worker.host_cache.client import HostCacheClient
from gpu_worker.kv.store import KvStore
from gpu_worker.loader import Prefetches
from gpu_worker.model_store import ModelStore
from gpu_worker.outbox import Outbox
from gpu_worker.served_model import ServedModel
from gpu_worker.weights import ArenaWeights, Weights
from shared.bus import Bus
from shared.bus_metrics import watch_bus
from shared.ids import ModelName
from shared.telemetry import Label, Registry, Values, labelled


@dataclass(frozen=True, slots=True)
class Watched:
    """Nothing of it is changed."""

    models: Mapping[ModelName, ServedModel]
    kv: KvStore
    store: ModelStore
    weights: Weights
    cache: HostCacheClient
    outbox: Outbox
    prefetches: Prefetches
    bus: Bus


def watch(registry: Registry, worker: Watched) -> None:
    _watch_models(registry, worker)
    _watch_kv(registry, worker)
    _watch_weights(registry, worker.weights)
    _watch_host_cache(registry, worker.cache)
    registry.count(
        "kottos_prefetches_total", "Models brought in ahead of their turn.", ["state"],
        lambda: labelled({"started": worker.prefetches.num_started, "used": worker.prefetches.num_used,
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
    watch_bus(registry, worker.bus)


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

    def use_of_models() -> Values:
        label = Label()
        blocks = next(blocks for side, blocks in worker.kv.sides() if side == "device")
        ratio = blocks.used_bytes / blocks.total_bytes if blocks.total_bytes else 0.0
        return [((label(name),), ratio) for name in worker.models]

    counts = ["kottos_kv_copies_total", "kottos_kv_copied_bytes_total"]
    registry.gauge("kottos_kv_bytes", "KV memory, used by sequences, kept, free.", ["side", "state"], memory)
    registry.gauge("kottos_kv_slabs", "Slabs that a shape class has taken.", ["side", "block_bytes"], slabs)
    registry.gauge("kottos_kv_free_slabs", "Slabs of no class.", ["side"], free_slabs)
    registry.gauge(
        "kottos_model_kv_ratio", "KV memory of the device that sequences use, of all: every model draws on the same.",
        ["model"], use_of_models,
    )  # fmt: skip
    registry.gauge(
        "kottos_kv_fragmentation_ratio", "Bytes of taken slabs in no block, of all KV memory.", ["side"], fragmentation
    )
    registry.count(counts[0], "Copies of KV blocks.", ["to"], lambda: labelled(worker.kv.counts.copies))
    registry.count(counts[1], "Bytes of those copies.", ["to"], lambda: labelled(worker.kv.counts.copied_bytes))
    registry.count(
        "kottos_kv_swaps_total", "Preempted sequences whose KV went to host memory, and came back.", ["to"],
        lambda: labelled(worker.kv.counts.swaps),
    )  # fmt: skip
    registry.count(
        "kottos_prefix_queried_tokens_total", "Prompt tokens that were looked up in the prefix cache.", [],
        lambda: [((), worker.kv.counts.num_queried_tokens)],
    )  # fmt: skip
    registry.count(
        "kottos_prefix_cached_tokens_total", "Those of them that it had.", [],
        lambda: [((), worker.kv.counts.num_cached_tokens)],
    )  # fmt: skip


def _watch_weights(registry: Registry, weights: Weights) -> None:
    """Where host memory is the device's, there is no region."""
    region = weights if isinstance(weights, ArenaWeights) else None

    def sizes() -> Values:
        if region is not None:
            yield ("used",), region.total_bytes - region.free_bytes
            yield ("free",), region.free_bytes

    def fragmentation() -> Values:
        if region is not None:
            yield (), 1.0 - region.largest_free_bytes / region.free_bytes if region.free_bytes else 0.0

    registry.gauge("kottos_weight_region_bytes", "Device memory for weights.", ["state"], sizes)
    registry.gauge(
        "kottos_weight_region_fragmentation_ratio", "Of its free bytes, those that are not in the largest free range.",
        [], fragmentation,
    )  # fmt: skip


def _watch_host_cache(registry: Registry, cache: HostCacheClient) -> None:
    """All workers of a host say the same of its cache, and nothing while it is away."""

    def sizes() -> Values:
        if (census := cache.census) is not None:
            yield ("used",), census.used_bytes
            yield ("free",), census.total_bytes - census.used_bytes

    def reads() -> Values:
        return [] if cache.census is None else [((), cache.census.num_reads)]

    def evictions() -> Values:
        return [] if cache.census is None else [((), cache.census.num_evictions)]

    registry.gauge("kottos_host_cache_bytes", "The host model cache, of all workers of this host.", ["state"], sizes)
    registry.count("kottos_host_cache_reads_total", "Models that it read from disk.", [], reads)
    registry.count("kottos_host_cache_evictions_total", "Models that left it for others.", [], evictions)
