"""The memory of one worker: one reservation on the device for weights and KV, and host memory for KV.

[ weights -> | gap ) [ slab )[ slab ) ...      the gap is less than a slab and 2 MiB
0            ^ what weights have  ^ origin + n * slab_bytes
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import msgspec
import torch
from torch import Tensor

from gpu_worker.device.base import Device
from gpu_worker.kv.memory import KvRegion
from gpu_worker.kv.store import KvStore
from gpu_worker.memory.prefix_index import SharedBlocks
from gpu_worker.memory.slab_pool import SlabPool
from gpu_worker.memory.slab_size import choose_slab_bytes
from gpu_worker.memory.split import SplitLimits
from gpu_worker.split import Split
from gpu_worker.weights import ArenaWeights, MappedBlobs, UnifiedWeights, Weights
from shared.budget import Budget
from shared.catalogue import KvShape
from shared.config import WorkerConfig
from shared.errors import ConfigError
from shared.ids import ModelName
from shared.units import format_size

QUANTUM_BYTES: Final = 4096  # of KV block ids


@dataclass(frozen=True, slots=True)
class WorkerMemory:
    kv_region: Tensor  # [num_bytes] uint8, device: all that KV may ever have
    kv: KvStore
    weights: Weights
    split: Split | None  # None: memory is unified
    least_kv_slabs: int
    most_weight_bytes: int


def with_slab_size(config: WorkerConfig, budget: Budget, shapes: Iterable[KvShape], block_tokens: int) -> WorkerConfig:
    """Chooses one where none is set; shapes: of the models that are known."""
    if config.slab_bytes:
        return config
    itemsize = getattr(torch, config.dtype).itemsize
    block_bytes = [shape.token_bytes(itemsize) * block_tokens for shape in shapes]
    return msgspec.structs.replace(config, slab_bytes=choose_slab_bytes(budget.kv_bytes, block_bytes, QUANTUM_BYTES))


def open_memory(
    device: Device,
    config: WorkerConfig,
    budget: Budget,
    blobs: MappedBlobs,
    has_work: Callable[[ModelName], bool],
) -> WorkerMemory:
    slab_bytes, keep = config.slab_bytes, config.prefix_cache
    weight_bytes = budget.weight_bytes // QUANTUM_BYTES * QUANTUM_BYTES
    num_lent, origin_bytes = divmod(weight_bytes, slab_bytes)
    pool = SlabPool(budget.kv_bytes, slab_bytes, QUANTUM_BYTES, num_lent)
    region = device.allocate(weight_bytes + pool.total_bytes)
    on_device = KvRegion(SharedBlocks(pool, keep=keep), region[origin_bytes:])
    host_pool = SlabPool(budget.host_kv_bytes // slab_bytes * slab_bytes, slab_bytes, QUANTUM_BYTES)
    host_region = torch.empty(host_pool.total_bytes, dtype=torch.uint8)
    kv = KvStore(on_device, KvRegion(SharedBlocks(host_pool, keep=keep), host_region), device)
    if budget.unified:
        return WorkerMemory(on_device.region, kv, UnifiedWeights(blobs), None, pool.num_slabs, 0)
    weights = ArenaWeights(region, weight_bytes)
    limits = plan_split(config, pool.num_slabs, num_lent)
    split = Split(kv, weights, limits, origin_bytes, has_work)
    most_weight_bytes = weight_bytes + (pool.num_slabs - limits.least_kv_slabs) * slab_bytes
    return WorkerMemory(on_device.region, kv, weights, split, limits.least_kv_slabs, most_weight_bytes)


def plan_split(config: WorkerConfig, num_kv_slabs: int, num_weight_slabs: int) -> SplitLimits:
    """How far the boundary may move from where it is at first. Raises ConfigError with the numbers."""
    if config.policy in ("static", "dedicated"):  # what is resident there stays
        return SplitLimits(num_kv_slabs, num_kv_slabs)
    num_slabs = num_kv_slabs + num_weight_slabs
    least = -(-config.least_kv_memory_bytes // config.slab_bytes) or num_kv_slabs
    least = min(
        least, max(num_kv_slabs, config.least_kv_memory_bytes // config.slab_bytes)
    )  # kv_memory is rounded down
    most = config.most_kv_memory_bytes // config.slab_bytes or max(num_slabs // 2, num_kv_slabs)
    if not least <= num_kv_slabs <= most <= num_slabs:
        sizes = [format_size(num * config.slab_bytes) for num in (least, num_kv_slabs, most, num_slabs)]
        raise ConfigError(
            f"worker.least_kv_memory {sizes[0]}, worker.kv_memory {sizes[1]}, worker.most_kv_memory {sizes[2]} and "
            f"worker.device_memory {sizes[3]}, in whole slabs, must not fall in this order"
        )
    return SplitLimits(least, most)
